//! Retention: entries go after their time, from the front of each chain, together with their seals.
//!
//! What is left still verifies: the last number and digest removed are kept as the chain's *anchor*, with a
//! code that only the server can make, so that nobody else shortens a chain unnoticed.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::chain::{self, START};
use super::key::Key;
use crate::ids::{AuditEntryId, OrganizationId};
use crate::storage::tables::{audit_anchors, audit_entries, audit_seals};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// How many entries one step looks at.
const STEP: u64 = 500;

/// Removes some of the entries older than `before`; returns how many.
///
/// # Errors
/// The database fails; what was removed before stays so.
pub async fn forget(
    store: &Store,
    key: &Arc<Key>,
    before: DateTime<Utc>,
) -> Result<usize, storage::Error> {
    let oldest = audit_entries::Entity::find()
        .filter(audit_entries::Column::CreatedAt.lt(before))
        .order_by_asc(audit_entries::Column::CreatedAt)
        .order_by_asc(audit_entries::Column::Id)
        .limit(STEP)
        .all(store.reader())
        .await?;
    let chains: BTreeSet<OrganizationId> = oldest.iter().map(chain::chain_of).collect();
    let mut removed = 0;
    for organization_id in chains {
        let shorten = Shorten {
            key: Arc::clone(key),
            organization_id,
            before,
        };
        removed += store.write(Lane::System, shorten).await?;
    }
    Ok(removed)
}

/// Where a chain begins: after this number and digest.
pub(super) async fn anchor_of(
    connection: &impl ConnectionTrait,
    organization_id: OrganizationId,
) -> Result<Option<audit_anchors::Model>, DbErr> {
    audit_anchors::Entity::find_by_id(organization_id)
        .one(connection)
        .await
}

/// Removes the old entries at the front of a chain.
struct Shorten {
    key: Arc<Key>,
    organization_id: OrganizationId,
    before: DateTime<Utc>,
}

impl UseCase for Shorten {
    type Answer = usize;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<usize, storage::Error> {
        chain::lock(tx).await?;
        let removed = self.front(tx).await?;
        let Some(last) = removed.last() else {
            return Ok(0);
        };
        let entries = removed.iter().map(|seal| seal.entry_id);
        audit_entries::Entity::delete_many()
            .filter(audit_entries::Column::Id.is_in(entries))
            .exec(tx)
            .await?;
        audit_seals::Entity::delete_many()
            .filter(audit_seals::Column::OrganizationId.eq(self.organization_id))
            .filter(audit_seals::Column::Number.lte(last.number))
            .exec(tx)
            .await?;
        self.keep_anchor(tx, last).await?;
        Ok(removed.len())
    }
}

impl Shorten {
    /// The first seals of the chain whose entries are old. A seal without its entry ends them: it is kept
    /// for whoever verifies.
    async fn front(&self, tx: &WriteTx) -> Result<Vec<audit_seals::Model>, DbErr> {
        let mut seals = audit_seals::Entity::find()
            .filter(audit_seals::Column::OrganizationId.eq(self.organization_id))
            .order_by_asc(audit_seals::Column::Number)
            .limit(STEP)
            .all(tx)
            .await?;
        let old: BTreeSet<AuditEntryId> = audit_entries::Entity::find()
            .select_only()
            .column(audit_entries::Column::Id)
            .filter(audit_entries::Column::Id.is_in(seals.iter().map(|seal| seal.entry_id)))
            .filter(audit_entries::Column::CreatedAt.lt(self.before))
            .into_tuple()
            .all(tx)
            .await?
            .into_iter()
            .collect();
        let anchor = anchor_of(tx, self.organization_id).await?;
        let mut next = anchor.map_or(1, |anchor| anchor.number + 1);
        let is_in_place = |seal: &audit_seals::Model| {
            let is_next = seal.number == next;
            next += 1;
            is_next && old.contains(&seal.entry_id)
        };
        let kept = seals
            .iter()
            .map(is_in_place)
            .take_while(|fits| *fits)
            .count();
        seals.truncate(kept);
        Ok(seals)
    }

    async fn keep_anchor(&self, tx: &WriteTx, last: &audit_seals::Model) -> Result<(), DbErr> {
        let code = self
            .key
            .anchor(self.organization_id, last.number, &last.digest);
        let row = audit_anchors::ActiveModel {
            organization_id: ActiveValue::Set(self.organization_id),
            number: ActiveValue::Set(last.number),
            digest: ActiveValue::Set(last.digest.clone()),
            code: ActiveValue::Set(code.to_vec()),
        };
        let mut replaced = OnConflict::column(audit_anchors::Column::OrganizationId);
        replaced.update_columns([
            audit_anchors::Column::Number,
            audit_anchors::Column::Digest,
            audit_anchors::Column::Code,
        ]);
        audit_anchors::Entity::insert(row)
            .on_conflict(replaced)
            .exec_without_returning(tx)
            .await
            .map(drop)
    }
}

/// What the first entry left of a chain follows; `None` if the anchor is not ours.
pub(super) fn start(
    key: &Key,
    organization_id: OrganizationId,
    anchor: Option<&audit_anchors::Model>,
) -> Option<(i64, Vec<u8>)> {
    let Some(anchor) = anchor else {
        return Some((0, START.to_vec()));
    };
    let code = key.anchor(organization_id, anchor.number, &anchor.digest);
    (anchor.code == code).then(|| (anchor.number, anchor.digest.clone()))
}
