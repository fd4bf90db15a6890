//! Random filters over the whole grammar.

use serde_json::Value;

use super::people::{FOREIGN, NAMES};
use super::values::values;
use crate::support::choices::Choices;
use crate::support::people::ENTERPRISE;

/// Names as clients may write them.
const ATTRIBUTES: &[&str] = &[
    "userName",
    "USERNAME",
    "urn:ietf:params:scim:schemas:core:2.0:User:userName",
    "externalId",
    "id",
    "displayName",
    "urn:ietf:params:scim:schemas:core:2.0:Group:displayName",
    "nickName",
    "title",
    "name.familyName",
    "NAME.givenName",
    "emails",
    "emails.value",
    "urn:ietf:params:scim:schemas:core:2.0:User:emails.value",
    "emails.type",
    "emails.display",
    "roles",
    "addresses.locality",
    "groups",
    "groups.display",
    "groups.$ref",
    "members",
    "members.value",
    "members.display",
    "members.type",
    "members.$ref",
    "manager",
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value",
    "meta.resourceType",
    "meta.version",
    "meta.location",
    "schemas",
    "password",
    "nothing",
    "urn:acme:params:scim:schemas:2.0:User:desk",
];
const BOOLEANS: &[&str] = &["active", "emails.primary", "roles.primary", "ACTIVE"];
const DATES: &[&str] = &["meta.created", "meta.lastModified"];
const OPERATORS: &[&str] = &[
    "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "EQ", "Sw",
];
const WHOLES: &[&str] = &["name", "meta", "emails", "addresses", ENTERPRISE, FOREIGN];
/// Attributes that may have a filter in brackets, and their parts.
const PARTS: &[(&str, &[&str])] = &[
    ("emails", &["value", "type", "display"]),
    ("roles", &["value", "type"]),
    ("addresses", &["locality", "type"]),
    ("groups", &["value", "display"]),
    ("members", &["value", "display"]),
    ("name", &["familyName", "givenName"]),
];

/// Makes filters about these resources.
pub(super) struct Words<'a> {
    pub(super) choices: &'a mut Choices,
    pub(super) resources: &'a [Value],
}

impl Words<'_> {
    /// A filter with at most `depth` levels.
    pub(super) fn filter(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.test();
        }
        match self.choices.below(9) {
            0 => format!("not ({})", self.filter(depth - 1)),
            1 | 2 => format!("{} and {}", self.filter(depth - 1), self.filter(depth - 1)),
            3 | 4 => format!("({} or {})", self.filter(depth - 1), self.filter(depth - 1)),
            5 => self.value_path(),
            _ => self.test(),
        }
    }

    fn test(&mut self) -> String {
        match self.choices.below(12) {
            0 => format!("{} pr", self.choices.one_of(WHOLES)),
            1 => format!("{} pr", self.choices.one_of(ATTRIBUTES)),
            2 => {
                let name = self.choices.one_of(BOOLEANS);
                let operator = self.choices.one_of(&["eq", "ne"]);
                let value = self.choices.one_of(&["true", "false", "\"True\"", "null"]);
                format!("{name} {operator} {value}")
            }
            3 => self.date(),
            4 => {
                let operator = self.choices.one_of(&["eq", "ne"]);
                format!("{} {operator} null", self.choices.one_of(ATTRIBUTES))
            }
            _ => {
                let name = *self.choices.one_of(ATTRIBUTES);
                self.comparison(name, name)
            }
        }
    }

    fn date(&mut self) -> String {
        let name = self.choices.one_of(DATES);
        let operator = self.choices.one_of(&["eq", "ne", "gt", "ge", "lt", "le"]);
        let there = self.choices.one_of(self.resources);
        let text = values(there, name)[0].as_str().unwrap_or_default();
        let local = text.trim_end_matches('Z');
        let form = self.choices.below(3);
        let text = [text, local, &format!("{local}+00:00")][form].to_owned();
        format!("{name} {operator} \"{text}\"")
    }

    fn value_path(&mut self) -> String {
        let (whole, parts) = *self.choices.one_of(PARTS);
        let one = self.part(whole, parts);
        let two = self.part(whole, parts);
        match self.choices.below(5) {
            0 => format!("{whole}[{one}]"),
            1 => format!("{whole}[{one} and {two}]"),
            2 => format!("{whole}[{one} or not ({two})]"),
            3 => format!("{whole}[{one}].{two}"),
            _ => format!("{whole}[{one} or {two}]"),
        }
    }

    fn part(&mut self, whole: &str, parts: &[&str]) -> String {
        let part = self.choices.one_of(parts);
        self.comparison(part, &format!("{whole}.{part}"))
    }

    /// Compares `name` with something like what is found at `path`.
    fn comparison(&mut self, name: &str, path: &str) -> String {
        let operator = *self.choices.one_of(OPERATORS);
        let literal = self.literal(path);
        format!("{name} {operator} {literal}")
    }

    fn literal(&mut self, path: &str) -> String {
        let there = self.choices.one_of(self.resources);
        let found = values(there, path);
        let text = match found.first().and_then(|value| value.as_str()) {
            Some(text) if self.choices.below(4) > 0 => text.to_owned(),
            Some(_) | None => (*self.choices.one_of(NAMES)).to_owned(),
        };
        let letters: Vec<char> = text.chars().collect();
        let cut = self.choices.below(letters.len() + 1);
        let text = match self.choices.below(8) {
            0 => text.to_uppercase(),
            1 => text.to_lowercase(),
            2 => letters[..cut].iter().collect(),
            3 => letters[cut..].iter().collect(),
            4 => (*self
                .choices
                .one_of(&["", " ", "%", "_", "\u{10FFFF}", "a", "\\"]))
            .to_owned(),
            _ => text,
        };
        match self.choices.below(20) {
            0 => "42".to_owned(),
            _ => Value::String(text).to_string(),
        }
    }
}
