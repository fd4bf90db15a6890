//! Cursors (RFC 9865): a place in a list, as an opaque text.
//!
//! A cursor holds what the place is, and a check of what it belongs to: the directory, the filter, the
//! order and the page size. Holding one grants nothing; every page is authorized anew. Nothing is kept
//! on the server, so that cursors do not expire, and one whose resource was deleted goes on behind it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::sort::{SortKey, Spot};
use crate::directories::query::ResourceKind;
use crate::ids::ResourceId;
use crate::scim::error::ScimError;

/// How many bytes of the check are kept; it finds mistakes, and keeps no secret.
const CHECK_BYTES: usize = 8;

/// What a list is a list of; cursors and page anchors belong to one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Makes it from the texts that decide what the list is.
    pub(super) fn of(texts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for text in texts {
            hash.update(text.len().to_be_bytes());
            hash.update(text.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// The text of a cursor to behind `spot`, for pages of `count`.
pub(super) fn write(fingerprint: Fingerprint, count: u64, spot: &Spot) -> String {
    let content = content(count, spot);
    let check = check(fingerprint, content.as_bytes());
    let mut bytes = check.to_vec();
    bytes.extend_from_slice(content.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor that belongs to the same list and page size.
pub(super) fn read(fingerprint: Fingerprint, count: u64, text: &str) -> Result<Spot, ScimError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let (found, content) = bytes
        .split_first_chunk::<CHECK_BYTES>()
        .ok_or_else(unknown)?;
    if *found != check(fingerprint, content) {
        return Err(unknown());
    }
    let (made_for, kind, key, id): (u64, bool, Option<SortKey>, uuid::Uuid) =
        serde_json::from_slice(content).map_err(|error| {
            tracing::debug!(%error, "a cursor could not be read");
            unknown()
        })?;
    if made_for != count {
        return Err(ScimError::invalid_count(format!(
            "This cursor is for pages of {made_for}. Send the same 'count' with every page."
        )));
    }
    if matches!(&key, Some(SortKey::Text(text)) if text.contains('\0')) {
        // No name has this in it, and PostgreSQL could not compare with it.
        return Err(unknown());
    }
    Ok(Spot {
        kind: if kind {
            ResourceKind::Group
        } else {
            ResourceKind::User
        },
        key,
        id: ResourceId::from(id),
    })
}

fn content(count: u64, spot: &Spot) -> String {
    let is_group = spot.kind == ResourceKind::Group;
    serde_json::json!([count, is_group, spot.key, spot.id.uuid()]).to_string()
}

fn check(fingerprint: Fingerprint, content: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(fingerprint.0);
    hash.update(content);
    let whole: [u8; 32] = hash.finalize().into();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(
        whole
            .first_chunk::<CHECK_BYTES>()
            .unwrap_or(&[0; CHECK_BYTES]),
    );
    check
}

fn unknown() -> ScimError {
    ScimError::invalid_cursor(
        "The cursor is not one of this list. Send 'nextCursor' of the page before, with the same \
         filter and order, or begin again with an empty 'cursor'.",
    )
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, read, write};
    use crate::directories::query::ResourceKind;
    use crate::ids::ResourceId;
    use crate::scim::error::ScimType;
    use crate::scim::search::sort::{SortKey, Spot};

    fn spot() -> Spot {
        Spot {
            kind: ResourceKind::Group,
            key: Some(SortKey::Text("ä/+ \"".to_owned())),
            id: ResourceId::generate(),
        }
    }

    #[test]
    fn a_cursor_reads_back_and_needs_no_escaping_in_a_url() {
        let list = Fingerprint::of(&["a", "b"]);
        let spot = spot();
        let text = write(list, 10, &spot);
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert_eq!(read(list, 10, &text).unwrap(), spot);
    }

    #[test]
    fn a_cursor_of_another_list_or_size_and_a_broken_one_are_refused() {
        let list = Fingerprint::of(&["a", "b"]);
        let text = write(list, 10, &spot());
        let refused = |list, count, text: &str| read(list, count, text).unwrap_err().scim_type;
        let invalid = Some(ScimType::InvalidCursor);
        assert_eq!(refused(Fingerprint::of(&["ab", ""]), 10, &text), invalid);
        assert_eq!(refused(list, 11, &text), Some(ScimType::InvalidCount));
        assert_eq!(
            refused(list, 10, text.get(..text.len() - 2).unwrap()),
            invalid
        );
        assert_eq!(refused(list, 10, "no cursor"), invalid);
    }
}
