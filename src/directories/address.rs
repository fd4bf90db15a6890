//! Addresses: what a directory is called in the URLs that reach it.
//!
//! Each directory has an *external key*, made with it and never changed. It may have a *label*, chosen
//! for people to read; when it changes, the former ones keep answering until they are removed. And it
//! may have a *host name* of its own, which replaces the part of the path that names the directory.
//!
//! Invariant: an address belongs to one directory. All three kinds are rows of one table with one key;
//! host names have a dot and the others have none, so that neither is taken for the other.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
};

use crate::ids::DirectoryId;
use crate::storage::tables::{directories, directory_addresses};
use crate::storage::{WriteTx, insert_new};

/// How many labels a directory has at most, the former ones included.
pub const LABELS_MAX: usize = 20;
/// How many characters a label has at least: fewer say nothing.
const LABEL_LENGTH_MIN: usize = 3;
/// How long a part of a DNS name may be, and so a label.
const PART_LENGTH_MAX: usize = 63;
/// How long a DNS name may be.
const HOST_NAME_LENGTH_MAX: usize = 253;

/// What follows the base URL of a SCIM endpoint (RFC 7644 section 3.2), folded.
const ENDPOINTS: [&str; 10] = [
    ".search",
    "bulk",
    "groups",
    "me",
    "resourcetypes",
    "schemas",
    "search",
    "serviceproviderconfig",
    "serviceproviderconfigs",
    "users",
];

/// Tells whether a segment of a path is the name of a SCIM endpoint, and so never a directory's.
pub fn is_endpoint(segment: &str) -> bool {
    ENDPOINTS
        .iter()
        .any(|name| segment.eq_ignore_ascii_case(name))
}

/// What a directory is called in a URL, folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not look like a label.
    #[error("must be 3 to 63 letters, digits and hyphens, with no hyphen at either end")]
    Label,
    /// It would hide an endpoint.
    #[error("must not be the name of a SCIM endpoint")]
    Endpoint,
    /// It does not look like a host name.
    #[error("must be a DNS name such as scim.example.com, without a scheme or a port")]
    HostName,
}

impl Address {
    /// Reads a label that somebody has chosen.
    ///
    /// # Errors
    /// It has not the form of one, or is the name of a SCIM endpoint.
    pub fn label(text: &str) -> Result<Self, Malformed> {
        if is_endpoint(text) {
            return Err(Malformed::Endpoint);
        }
        Self::of_segment(text)
            .filter(|label| label.0.len() >= LABEL_LENGTH_MIN)
            .ok_or(Malformed::Label)
    }

    /// Reads a host name that somebody has chosen.
    ///
    /// # Errors
    /// It has not the form of one.
    pub fn host_name(text: &str) -> Result<Self, Malformed> {
        let folded = text.to_ascii_lowercase();
        let host_name = folded.strip_suffix('.').unwrap_or(&folded);
        if is_host_name(host_name) {
            Ok(Self(host_name.to_owned()))
        } else {
            Err(Malformed::HostName)
        }
    }

    /// The external key or label that a segment of a path may be.
    pub fn of_segment(segment: &str) -> Option<Self> {
        is_part(segment).then(|| Self(segment.to_ascii_lowercase()))
    }

    /// The host name that a `Host` header, which may have a port, may hold.
    pub fn of_host(header: &str) -> Option<Self> {
        let name = header.split_once(':').map_or(header, |(name, _)| name);
        Self::host_name(name).ok()
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Between two dots of a DNS name: letters, digits, and hyphens inside.
fn is_part(text: &str) -> bool {
    (1..=PART_LENGTH_MAX).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_host_name(text: &str) -> bool {
    // The last part of an IPv4 address is a number, that of a name never is.
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= HOST_NAME_LENGTH_MAX
        && text.split('.').all(is_part)
        && text
            .rsplit_once('.')
            .is_some_and(|(_, last)| !is_number(last))
}

/// The labels of these directories, oldest first, those in use included.
///
/// # Errors
/// The database fails.
pub async fn labels(
    connection: &impl ConnectionTrait,
    directories: &[directories::Model],
) -> Result<HashMap<DirectoryId, Vec<String>>, DbErr> {
    let keys: HashMap<DirectoryId, &str> = directories
        .iter()
        .map(|directory| (directory.id, directory.external_key.as_str()))
        .collect();
    let rows = directory_addresses::Entity::find()
        .filter(directory_addresses::Column::DirectoryId.is_in(keys.keys().copied()))
        .order_by_asc(directory_addresses::Column::CreatedAt)
        .order_by_asc(directory_addresses::Column::Address)
        .all(connection)
        .await?;
    let mut labels: HashMap<DirectoryId, Vec<String>> = HashMap::new();
    for row in rows {
        let is_key = keys.get(&row.directory_id) == Some(&row.address.as_str());
        if !is_key && !row.address.contains('.') {
            labels
                .entry(row.directory_id)
                .or_default()
                .push(row.address);
        }
    }
    Ok(labels)
}

/// Gives an address to the locked directory; `false` if it is another's.
pub(super) async fn claim(
    tx: &WriteTx,
    directory_id: DirectoryId,
    address: &str,
) -> Result<bool, DbErr> {
    let row = directory_addresses::ActiveModel {
        address: ActiveValue::Set(address.to_owned()),
        directory_id: ActiveValue::Set(directory_id),
        created_at: ActiveValue::Set(tx.now()),
    };
    Ok(insert_new(tx, row).await? || is_of(tx, directory_id, address).await?)
}

async fn is_of(tx: &WriteTx, directory_id: DirectoryId, address: &str) -> Result<bool, DbErr> {
    let found = directory_addresses::Entity::find_by_id(address)
        .filter(directory_addresses::Column::DirectoryId.eq(directory_id))
        .one(tx)
        .await?;
    Ok(found.is_some())
}

/// Takes an address from the locked directory; `false` if it had none such.
pub(super) async fn release(
    tx: &WriteTx,
    directory_id: DirectoryId,
    address: &str,
) -> Result<bool, DbErr> {
    let removed = directory_addresses::Entity::delete_many()
        .filter(directory_addresses::Column::Address.eq(address))
        .filter(directory_addresses::Column::DirectoryId.eq(directory_id))
        .exec(tx)
        .await?;
    Ok(removed.rows_affected > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_told_from_other_text() {
        let longest = "x".repeat(63);
        for label in ["abc", "a-1", "x--y", "123", longest.as_str()] {
            assert_eq!(Address::label(label).unwrap().as_str(), label);
        }
        let too_long = "x".repeat(64);
        for text in [
            "", "ab", "-abc", "abc-", "a_b", "a.b", "a b", "äöü", "abc/", &too_long,
        ] {
            assert_eq!(Address::label(text), Err(Malformed::Label), "{text}");
        }
        for text in ["users", "Users", "ME", "ServiceProviderConfig", "bulk"] {
            assert_eq!(Address::label(text), Err(Malformed::Endpoint), "{text}");
        }
    }

    #[test]
    fn host_names_are_told_from_other_text() {
        for (text, host_name) in [
            ("scim.example.com", "scim.example.com"),
            ("SCIM.Example.COM.", "scim.example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.example", "1.2.3.example"),
        ] {
            assert_eq!(Address::host_name(text).unwrap().as_str(), host_name);
        }
        for text in [
            "",
            ".",
            "localhost",
            "10.0.0.1",
            "[::1]",
            "a..example",
            "-a.example",
            "a_b.example",
            "a.example:443",
            "https://a.example",
        ] {
            assert_eq!(Address::host_name(text), Err(Malformed::HostName), "{text}");
        }
        let part = format!("{}.", "x".repeat(49));
        assert!(Address::host_name(&format!("{}abc", part.repeat(5))).is_ok());
        assert!(Address::host_name(&format!("{}abcd", part.repeat(5))).is_err());
    }

    #[test]
    fn a_segment_is_never_a_host_and_a_host_never_a_segment() {
        let of_host = |header| Address::of_host(header).map(|address| address.0);
        assert_eq!(of_host("A.example:8443").as_deref(), Some("a.example"));
        for header in ["acme", "acme:80", "[::1]:80", "127.0.0.1:80", ""] {
            assert_eq!(of_host(header), None, "{header}");
        }
        assert_eq!(Address::of_segment("ACME").unwrap().as_str(), "acme");
        for segment in ["a.example", "", "a%20b", "\u{0}"] {
            assert_eq!(Address::of_segment(segment), None, "{segment}");
        }
    }
}
