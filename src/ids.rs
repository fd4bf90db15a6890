//! Typed ids: a version 7 UUID inside, `directory_01h…` outside.
//!
//! The outer form is a prefix and the UUID's 128 bits as 26 characters of Crockford's base 32, upper
//! case, like the ids of WorkOS. Version 7 ids made by one process sort in the order they were made.
//! A [`ResourceId`] is the id of a SCIM resource and is written as a plain UUID, because Okta and Entra
//! put it into URLs and filters, and nothing of ours should be guessed from it.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Serialize, Serializer};
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ENCODED_LENGTH: usize = 26;

/// Declares an id type with its prefix.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, sea_orm::DeriveValueType)]
        pub struct $name(Uuid);

        impl $name {
            /// What the id's text starts with, the underscore included.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, larger than all that this process made before.
            pub fn generate() -> Self {
                Self(generate())
            }

            /// Reads the text form; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                decode(text.strip_prefix(Self::PREFIX)?).map(Self)
            }

            /// The 128 bits.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(Self::PREFIX)?;
                formatter.write_str(&encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
                Err(sea_orm::DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    };
}

id!(
    /// A customer of the vendor.
    OrganizationId,
    "org_"
);
id!(
    /// A domain of an organization.
    OrganizationDomainId,
    "org_domain_"
);
id!(
    /// A directory of an organization.
    DirectoryId,
    "directory_"
);
id!(
    /// A person in a directory, as the vendor sees it.
    DirectoryUserId,
    "directory_user_"
);
id!(
    /// A group in a directory, as the vendor sees it.
    DirectoryGroupId,
    "directory_group_"
);
id!(
    /// A SCIM bearer token.
    ScimTokenId,
    "directory_token_"
);
id!(
    /// An API key.
    ApiKeyId,
    "api_key_"
);
id!(
    /// An entry of the audit trail.
    AuditEntryId,
    "audit_entry_"
);
id!(
    /// An erasure of a person.
    ErasureId,
    "erasure_"
);
id!(
    /// An event of the log.
    EventId,
    "event_"
);

impl EventId {
    /// When it was made, in milliseconds since 1970: a moment before the event was written.
    pub fn made_at_ms(self) -> i64 {
        let (seconds, nanoseconds) = self
            .0
            .get_timestamp()
            .map_or((0, 0), |timestamp| timestamp.to_unix());
        let milliseconds = seconds * 1_000 + u64::from(nanoseconds / 1_000_000);
        i64::try_from(milliseconds).unwrap_or(i64::MAX)
    }
}
id!(
    /// A webhook endpoint.
    EndpointId,
    "we_"
);
id!(
    /// Events sent to an endpoint once more.
    ReplayId,
    "replay_"
);
id!(
    /// The state of a directory on its way to an endpoint.
    SnapshotId,
    "snapshot_"
);
id!(
    /// A running process.
    NodeId,
    "node_"
);
id!(
    /// Somebody about whom a provider's writes were refused.
    RefusedWriteId,
    "refused_write_"
);
id!(
    /// Something that was changed by hand.
    DriftId,
    "drift_"
);
id!(
    /// One HTTP request that we answer.
    RequestId,
    "req_"
);

impl RequestId {
    /// A new id of the instant `now_ms`, larger than all that this process made for it before.
    pub fn generate_at(now_ms: i64) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = u128::from(MADE.fetch_add(1, Ordering::Relaxed));
        let random = random_uuid().as_u128() & ((1 << 42) - 1);
        let (high, low) = (number >> 20, number & 0xF_FFFF);
        Self(Uuid::from_u128(
            instant(now_ms) | (7 << 76) | (high << 64) | (0b10 << 62) | (low << 42) | random,
        ))
    }

    /// What is not larger than any id of the instant `now_ms`, and larger than those before it.
    pub fn first_at(now_ms: i64) -> Self {
        Self(Uuid::from_u128(instant(now_ms)))
    }
}

/// An instant where version 7 has it (RFC 9562 section 5.7).
fn instant(ms: i64) -> u128 {
    u128::try_from(ms).unwrap_or_default() << 80
}

/// The id of a SCIM resource (RFC 7643 section 3.1), written as a lower-case UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, sea_orm::DeriveValueType)]
pub struct ResourceId(Uuid);

impl ResourceId {
    /// A new id, larger than all that this process made before.
    pub fn generate() -> Self {
        Self(generate())
    }

    /// Reads the text form, exactly as it was given out (`id` compares with case).
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        (uuid.hyphenated().to_string() == text).then_some(Self(uuid))
    }

    /// The 128 bits.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for ResourceId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), formatter)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl sea_orm::TryFromU64 for ResourceId {
    fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
        Err(sea_orm::DbErr::ConvertFromU64("ResourceId"))
    }
}

/// A random number that fences what the owner of a shard writes; not an id that anybody sees.
pub fn random_uuid() -> Uuid {
    #[expect(clippy::disallowed_methods, reason = "ids are made here")]
    Uuid::new_v4()
}

fn generate() -> Uuid {
    #[expect(clippy::disallowed_methods, reason = "ids are made here")]
    Uuid::now_v7()
}

fn encode(uuid: Uuid) -> String {
    let bits = uuid.as_u128();
    (0..ENCODED_LENGTH)
        .rev()
        .map(|place| {
            let digit = usize::try_from((bits >> (place * 5)) & 31).unwrap_or_default();
            char::from(ALPHABET.get(digit).copied().unwrap_or(b'0'))
        })
        .collect()
}

fn decode(text: &str) -> Option<Uuid> {
    if text.len() != ENCODED_LENGTH {
        return None;
    }
    let mut bits: u128 = 0;
    for (place, byte) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        if place == 0 && digit > 7 {
            return None;
        }
        bits = (bits << 5) | u128::try_from(digit).ok()?;
    }
    Some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = DirectoryId::generate();
        let text = id.to_string();
        assert!(text.starts_with("directory_"));
        assert_eq!(text.len(), "directory_".len() + 26);
        assert_eq!(DirectoryId::parse(&text), Some(id));
        assert_eq!(DirectoryUserId::parse(&text), None);
    }

    #[test]
    fn the_extremes_encode_to_26_characters() {
        assert_eq!(encode(Uuid::nil()), "00000000000000000000000000");
        assert_eq!(encode(Uuid::max()), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(decode("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), Some(Uuid::max()));
        assert_eq!(decode("8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None);
        assert_eq!(decode("directory"), None);
    }

    #[test]
    fn ids_sort_as_text_in_the_order_they_were_made() {
        let ids: Vec<String> = (0..1_000)
            .map(|_| EventId::generate().to_string())
            .collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn ids_of_requests_sort_by_their_instants_and_then_as_they_were_made() {
        let ids: Vec<RequestId> = [5, 5, 5, 6, 1_768_478_400_000, 1_768_478_400_000]
            .into_iter()
            .map(RequestId::generate_at)
            .collect();
        assert!(ids.is_sorted_by(|left, right| left < right), "{ids:?}");
        assert!(ids.iter().all(|id| id.uuid().get_version_num() == 7));
        assert!(RequestId::first_at(6) > ids[2] && RequestId::first_at(6) <= ids[3]);
        assert_eq!(RequestId::parse(&ids[0].to_string()), Some(ids[0]));
    }

    #[test]
    fn a_resource_id_is_read_only_as_it_was_written() {
        let id = ResourceId::generate();
        assert_eq!(ResourceId::parse(&id.to_string()), Some(id));
        assert_eq!(ResourceId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(ResourceId::parse("5"), None);
    }
}
