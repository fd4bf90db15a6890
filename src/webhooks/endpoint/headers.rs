//! Headers that an endpoint wants on its requests besides ours, such as a key for a gateway before it.

use std::collections::BTreeSet;
use std::fmt;

use crate::ids::EndpointId;
use crate::secrets::{MasterKey, SecretError};
use crate::storage::tables::endpoints;

/// How many headers an endpoint may have.
pub const HEADERS_MAX: usize = 20;
const NAME_BYTES_MAX: usize = 100;
const VALUE_BYTES_MAX: usize = 1_000;
pub(super) const PURPOSE: &str = "webhook-headers";
/// What frames the request, or is ours to say.
const RESERVED: [&str; 10] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const RESERVED_PREFIXES: [&str; 4] = ["content-", "webhook-", "workos-", "rollcall-"];

/// Names in lower case and in order, and values; they may be secrets, and are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Takes headers that can be sent, or says what is wrong with which one. Values are not quoted.
    pub fn new(given: Vec<(String, String)>) -> Result<Self, String> {
        if given.len() > HEADERS_MAX {
            return Err(format!("must be at most {HEADERS_MAX}"));
        }
        let mut names = BTreeSet::new();
        let mut headers = Vec::new();
        for (name, value) in given {
            let lower = name.to_ascii_lowercase();
            if let Some(complaint) = complaint(&lower, &value) {
                return Err(format!("{name:?} {complaint}"));
            }
            if !names.insert(lower.clone()) {
                return Err(format!("{name:?} is there twice"));
            }
            headers.push((lower, value));
        }
        headers.sort();
        Ok(Self(headers))
    }

    /// The names.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Names and values.
    pub fn all(&self) -> &[(String, String)] {
        &self.0
    }

    /// For the database; nothing if there is none.
    pub(super) fn seal(&self, master_key: &MasterKey, id: EndpointId) -> Option<Vec<u8>> {
        let text = serde_json::json!(self.0).to_string();
        let seal = || master_key.seal(PURPOSE, &id.to_string(), text.as_bytes());
        (!self.0.is_empty()).then(seal)
    }

    /// Those of an endpoint.
    pub(super) fn open(
        master_key: &MasterKey,
        row: &endpoints::Model,
    ) -> Result<Self, SecretError> {
        let Some(sealed) = &row.sealed_headers else {
            return Ok(Self::default());
        };
        let opened = master_key.open(PURPOSE, &row.id.to_string(), sealed)?;
        Ok(Self(serde_json::from_slice(&opened).unwrap_or_default()))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}

fn complaint(name: &str, value: &str) -> Option<&'static str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    let is_reserved = RESERVED.contains(&name)
        || RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        Some("is not a header's name of at most 100 characters")
    } else if is_reserved {
        Some("is a header that cannot be set")
    } else if value.len() > VALUE_BYTES_MAX {
        Some("must be at most 1,000 bytes")
    } else if !value.bytes().all(is_visible) || value.trim() != value {
        Some("must be printable ASCII without spaces around it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<Headers, String> {
        Headers::new(vec![(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn names_and_values_follow_the_grammar_and_ours_are_not_for_others() {
        for (name, value) in [("X-Api-Key", "s3cret"), ("authorization", "Bearer a b")] {
            assert!(one(name, value).is_ok(), "{name}");
        }
        for (name, value) in [
            ("", "x"),
            ("X Y", "x"),
            ("X-Ä", "x"),
            ("X:", "x"),
            ("Host", "x"),
            ("CONTENT-type", "x"),
            ("Webhook-Id", "x"),
            ("Rollcall-Anything", "x"),
            ("WorkOS-Signature", "x"),
            ("User-Agent", "x"),
            ("X-Fine", "line\r\nHost: other"),
            ("X-Fine", " x"),
            ("X-Fine", "Zoë"),
            ("X-Fine", "\u{7f}"),
        ] {
            assert!(one(name, value).is_err(), "{name:?}: {value:?}");
        }
        let twice = ["X-Key", "x-key"].map(|name| (name.to_owned(), "x".to_owned()));
        assert!(Headers::new(twice.into()).is_err());
    }

    #[test]
    fn values_are_neither_shown_nor_quoted_and_open_only_with_their_endpoint() {
        let refused = one("X-Fine", "s3cret\n").unwrap_err();
        assert!(!refused.contains("s3cret"));
        let headers = one("X-Fine", "s3cret").unwrap();
        assert_eq!(format!("{headers:?}"), r#"{"x-fine"}"#);
        let sealed = headers.seal(&MasterKey::generate(), EndpointId::generate());
        assert!(!String::from_utf8_lossy(&sealed.unwrap()).contains("s3cret"));
    }
}
