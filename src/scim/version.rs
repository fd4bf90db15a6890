//! Versions of resources as entity tags, and the conditions that clients put on them (RFC 7644
//! section 3.14, RFC 9110 section 13).
//!
//! A tag is the number of the resource's version. A user's shows its groups too, which change without
//! it; so behind the number stands a digest of them. A condition on a write looks at the number alone:
//! nobody writes `groups`. Tags are compared weakly, also for `If-Match`, because weak ones are what
//! SCIM's own examples send.

use actix_web::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use sha2::{Digest as _, Sha256};

use super::error::ScimError;
use super::render::GroupRef;

/// The tag of a resource in version `number`, of a user with these groups.
pub(super) fn tag(number: i64, groups: &[GroupRef]) -> String {
    if groups.is_empty() {
        return format!("W/\"{number}\"");
    }
    let mut hash = Sha256::new();
    for group in groups {
        for text in [&group.value, &group.display] {
            hash.update(text.len().to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.update([u8::from(group.is_direct)]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let digest = digest
        .first_chunk()
        .map_or(0, |first| u64::from_be_bytes(*first));
    format!("W/\"{number}.{digest:016x}\"")
}

/// What a client wants to be so before anything happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// The resource is in one of these versions.
    matching: Option<Tags>,
    /// The resource is in none of these versions.
    not_matching: Option<Tags>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    /// Any version.
    Any,
    /// These, without `W/` and quotes.
    These(Vec<String>),
}

impl Conditions {
    /// Reads `If-Match` and `If-None-Match`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            matching: tags(headers, &IF_MATCH),
            not_matching: tags(headers, &IF_NONE_MATCH),
        }
    }

    /// The condition of a Bulk operation that names a version.
    pub(super) fn matching(tag: &str) -> Self {
        Self {
            matching: Some(Tags::read(&[tag])),
            not_matching: None,
        }
    }

    /// Whether a resource in version `number` may be written.
    pub(super) fn check_write(&self, number: i64) -> Result<(), ScimError> {
        let is_met = |tag: &str| tag.split('.').next() == Some(number.to_string().as_str());
        self.check(is_met)?;
        match &self.not_matching {
            Some(tags) if tags.contain(is_met) => Err(ScimError::precondition_failed()),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a resource with this tag has to be sent: not if the client has it.
    pub(super) fn wants(&self, tag: &str) -> Result<bool, ScimError> {
        let current = bare(tag);
        let is_met = |tag: &str| tag == current;
        self.check(is_met)?;
        Ok(!self
            .not_matching
            .as_ref()
            .is_some_and(|tags| tags.contain(is_met)))
    }

    fn check(&self, is_met: impl Fn(&str) -> bool) -> Result<(), ScimError> {
        match &self.matching {
            Some(tags) if !tags.contain(is_met) => Err(ScimError::precondition_failed()),
            Some(_) | None => Ok(()),
        }
    }
}

impl Tags {
    fn read(values: &[&str]) -> Self {
        let tags = values.iter().flat_map(|value| value.split(','));
        let tags: Vec<&str> = tags.map(str::trim).filter(|tag| !tag.is_empty()).collect();
        if tags.contains(&"*") {
            return Self::Any;
        }
        Self::These(tags.into_iter().map(|tag| bare(tag).to_owned()).collect())
    }

    fn contain(&self, is_met: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| is_met(tag)),
        }
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Tags> {
    let values: Vec<&str> = headers
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .collect();
    headers.contains_key(name).then(|| Tags::read(&values))
}

/// A tag without its weakness and quotes.
fn bare(tag: &str) -> &str {
    let tag = tag
        .strip_prefix("W/")
        .or_else(|| tag.strip_prefix("w/"))
        .unwrap_or(tag);
    tag.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::{Conditions, GroupRef, tag};
    use actix_web::http::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};

    fn conditions(matching: Option<&'static str>, not: Option<&'static str>) -> Conditions {
        let mut headers = HeaderMap::new();
        for (name, value) in [(IF_MATCH, matching), (IF_NONE_MATCH, not)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        Conditions::of(&headers)
    }

    #[test]
    fn a_write_wants_the_number_that_the_client_has() {
        let may = |matching, not, number| conditions(matching, not).check_write(number).is_ok();
        assert!(may(None, None, 3));
        assert!(may(Some("W/\"3\""), None, 3));
        assert!(
            may(Some("W/\"3.abcdef\""), None, 3),
            "groups are nobody's to write"
        );
        assert!(may(Some("\"2\", W/\"3\""), None, 3));
        assert!(may(Some("*"), None, 3));
        assert!(!may(Some("W/\"2\""), None, 3));
        assert!(!may(Some("W/\"33\""), None, 3));
        assert!(!may(Some(""), None, 3));
        assert!(!may(None, Some("*"), 3));
        assert!(!may(None, Some("W/\"3\""), 3));
        assert!(may(None, Some("W/\"2\""), 3));
    }

    #[test]
    fn a_user_is_read_again_when_its_groups_have_changed() {
        let group = |display: &str| GroupRef {
            value: "1".to_owned(),
            display: display.to_owned(),
            location: String::new(),
            is_direct: true,
        };
        let before = tag(3, &[group("a")]);
        let after = tag(3, &[group("b")]);
        assert_ne!(before, after);
        assert_ne!(tag(3, &[]), after);
        let wants = |not| conditions(None, Some(not)).wants("W/\"3\"").unwrap();
        assert!(!wants("W/\"3\""));
        assert!(!wants("\"3\""));
        assert!(!wants("*"));
        assert!(wants("W/\"2\""));
        assert!(conditions(Some("W/\"2\""), None).wants("W/\"3\"").is_err());
    }
}
