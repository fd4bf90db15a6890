//! What the chains and heads are made with: keys that come from the master key, so that whoever has only
//! the database cannot make them anew.

use chrono::SecondsFormat;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ids::OrganizationId;
use crate::json;
use crate::secrets::{MasterKey, Signer};
use crate::storage::tables::audit_entries;

const CHAIN_PURPOSE: &str = "audit-chain";
const HEAD_PURPOSE: &str = "audit-heads";
/// What a code is about, so that none can be taken for one of another sort.
const LINK: [u8; 1] = [1];
const ANCHOR: [u8; 1] = [2];

/// A digest of a chain.
pub(super) type Digest = [u8; 32];

/// The keys of the audit trail.
#[derive(Debug)]
pub struct Key {
    chain: Secret,
    heads: Signer,
}

struct Secret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl Key {
    /// The keys that belong to a master key.
    pub fn of(master: &MasterKey) -> Self {
        Self {
            chain: Secret(master.derive(CHAIN_PURPOSE)),
            heads: Signer::derived(master, HEAD_PURPOSE),
        }
    }

    /// The digest of the entry that follows `previous` under `number`.
    pub(super) fn link(
        &self,
        previous: &[u8],
        entry: &audit_entries::Model,
        number: i64,
    ) -> Digest {
        let text = Sha256::digest(text(entry, number));
        self.code(&[&LINK, previous, &text])
    }

    /// What shows that retention has removed a chain's entries up to `number`, and nobody else.
    pub(super) fn anchor(
        &self,
        organization_id: OrganizationId,
        number: i64,
        digest: &[u8],
    ) -> Digest {
        let organization = organization_id.uuid();
        self.code(&[
            &ANCHOR,
            organization.as_bytes(),
            &number.to_be_bytes(),
            digest,
        ])
    }

    /// What heads are signed with.
    pub(super) fn heads(&self) -> &Signer {
        &self.heads
    }

    fn code(&self, parts: &[&[u8]]) -> Digest {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.chain.0.as_slice()) else {
            unreachable!("HMAC takes keys of any length");
        };
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// All of an entry, in one form.
fn text(entry: &audit_entries::Model, number: i64) -> String {
    let created_at = entry.created_at.to_rfc3339_opts(SecondsFormat::Nanos, true);
    json::canonical(&json!({
        "organization_id": entry.organization_id,
        "number": number,
        "id": entry.id,
        "directory_id": entry.directory_id,
        "actor": entry.actor,
        "request_id": entry.request_id,
        "action": entry.action,
        "subject": entry.subject,
        "details": entry.details,
        "created_at": created_at,
    }))
}
