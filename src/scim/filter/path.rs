//! The paths of PATCH operations (RFC 7644 section 3.5.2): `name.givenName`,
//! `emails[type eq "work"]`, `emails[type eq "work"].value`, each perhaps behind a URN.

use std::fmt;

use super::{AttributePath, Filter, grammar};
use crate::scim::error::ScimError;

/// Where a PATCH operation acts.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// The attribute, and the sub-attribute that stands behind a dot or behind the brackets.
    pub attribute: AttributePath,
    /// Which elements of a multi-valued attribute are meant.
    pub filter: Option<Filter>,
}

impl Path {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, ScimError> {
        let parsed = grammar::read_path(text)
            .map_err(|fault| ScimError::invalid_path(format!("The path is malformed: {fault}.")))?;
        Ok(Self {
            attribute: parsed.attribute,
            filter: parsed.filter,
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(filter) = &self.filter else {
            return write!(f, "{}", self.attribute);
        };
        let whole = AttributePath {
            sub: None,
            ..self.attribute.clone()
        };
        write!(f, "{whole}[{filter}]")?;
        self.attribute
            .sub
            .as_ref()
            .map_or(Ok(()), |sub| write!(f, ".{sub}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Path;
    use crate::scim::error::ScimType;

    #[test]
    fn the_forms_of_the_rfc_and_of_the_providers_parse() {
        for (text, attribute, sub, filtered) in [
            ("members", "members", None, false),
            ("name.familyName", "name", Some("familyName"), false),
            ("addresses[type eq \"work\"]", "addresses", None, true),
            (
                "members[value eq \"2819c223\"].displayName",
                "members",
                Some("displayName"),
                true,
            ),
            (
                "emails[type eq \"work\" and value ew \"example.com\"]",
                "emails",
                None,
                true,
            ),
            (
                " roles [primary eq \"True\"] . value ",
                "roles",
                Some("value"),
                true,
            ),
            (
                "urn:ietf:params:scim:schemas:core:2.0:User:name.familyName",
                "name",
                Some("familyName"),
                false,
            ),
            (
                "urn:ietf:params:scim:schemas:core:2.0:User:emails[not (type pr)].value",
                "emails",
                Some("value"),
                true,
            ),
        ] {
            let path = Path::parse(text).unwrap();
            assert_eq!(path.attribute.name, attribute, "{text}");
            assert_eq!(path.attribute.sub.as_deref(), sub, "{text}");
            assert_eq!(path.filter.is_some(), filtered, "{text}");
            assert_eq!(Path::parse(&path.to_string()).unwrap(), path, "{text}");
        }
    }

    #[test]
    fn malformed_paths_are_invalid_path() {
        for text in [
            "",
            " ",
            ".",
            "name.",
            ".name",
            "a.b.c",
            "emails[",
            "emails[]",
            "emails[type eq \"work\"",
            "emails[type eq \"work\"].",
            "emails[type eq \"work\"].a.b",
            "emails[type eq work]",
            "emails]",
            "emails[type eq \"work\"] x",
            "a b",
            "emails[a[b pr]]",
            "\"emails\"",
            "é",
            "userName eq \"x\"",
            "emails.type[value pr].x",
        ] {
            let error = Path::parse(text).unwrap_err();
            assert_eq!(error.scim_type, Some(ScimType::InvalidPath), "{text}");
        }
        assert!(Path::parse(&format!("emails[{}", "(".repeat(5_000))).is_err());
    }
}
