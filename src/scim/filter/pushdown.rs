//! What indexes can answer of a filter.
//!
//! A filter becomes *terms*, each answered by an index, and perhaps a residual, which is then the whole
//! filter evaluated on the rows that the terms leave. Terms never leave out a row that the filter would
//! match; whether they leave in too many is what [`Pushdown::is_exact`] says. Pure.

use super::{CompareOp, Filter, Literal};
use crate::directories::query::{Key, Term, Test};
use crate::ids::ResourceId;
use crate::keys::fold;
use crate::scim::schema::{AttributePath, Resolved, ResourceType, resolve};

/// What indexes answer of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushdown {
    /// What indexes answer; all of them hold.
    pub terms: Vec<Term>,
    /// Whether the terms say all that the filter says.
    pub is_exact: bool,
}

/// Splits a filter on users or groups.
pub fn pushdown(filter: &Filter, resource: ResourceType) -> Pushdown {
    match filter {
        Filter::And(parts) => parts.iter().fold(ALL, |mut all, part| {
            let part = pushdown(part, resource);
            all.terms.extend(part.terms);
            all.is_exact &= part.is_exact;
            all
        }),
        Filter::Or(parts) => any(parts.iter().map(|part| pushdown(part, resource))),
        Filter::Compare {
            path,
            op,
            value: Literal::Text(text),
        } => compared(resource, names(resource, path), *op, text),
        Filter::ValuePath { path, filter } => {
            let mut inside = value_of(filter, resource, names(resource, path));
            inside.is_exact = false;
            inside
        }
        Filter::Not(_) | Filter::Compare { .. } | Filter::Present { .. } => UNANSWERED,
    }
}

/// What every row matches.
const ALL: Pushdown = Pushdown {
    terms: Vec::new(),
    is_exact: true,
};

/// What no index knows anything about.
const UNANSWERED: Pushdown = Pushdown {
    terms: Vec::new(),
    is_exact: false,
};

/// One of several filters. If indexes know nothing about one of them, they cannot narrow the whole.
fn any(parts: impl Iterator<Item = Pushdown>) -> Pushdown {
    let mut lists = Vec::new();
    let mut is_exact = true;
    for part in parts {
        if part.terms.is_empty() {
            return UNANSWERED;
        }
        is_exact &= part.is_exact;
        lists.push(part.terms);
    }
    Pushdown {
        terms: vec![Term::Any(lists)],
        is_exact,
    }
}

/// The core attribute that a path names, in the schema's spelling, with `value` as its only possible
/// part; empty for anything else.
fn names(resource: ResourceType, path: &AttributePath) -> &'static str {
    match resolve(resource, path) {
        Resolved::Attribute(target) if target.extension.is_none() => match target.sub {
            None => target.attribute.name,
            Some(sub) if sub.name == "value" => target.attribute.name,
            Some(_) => "",
        },
        Resolved::Attribute(_)
        | Resolved::Schema(_)
        | Resolved::Foreign(_)
        | Resolved::ForeignAttribute(_)
        | Resolved::Unknown => "",
    }
}

/// What indexes answer of `name op "text"`. A blank text is left to evaluation, because columns do not
/// tell it from no value.
fn compared(resource: ResourceType, name: &str, op: CompareOp, text: &str) -> Pushdown {
    if text.trim().is_empty() {
        return UNANSWERED;
    }
    let id = |make: fn(ResourceId) -> Term| ResourceId::parse(text).map_or(Term::Nothing, make);
    let is_equal = op == CompareOp::Eq;
    let term = match (resource, name) {
        (_, "id") if is_equal => Some(id(Term::Id)),
        (ResourceType::Group, "members") if is_equal => Some(id(Term::Member)),
        _ if is_order(op) && !is_always_filled(resource, name) => None,
        _ => key(resource, name).and_then(|key| Some(Term::Key(key, test(op, key, text)?))),
    };
    term.map_or(UNANSWERED, |term| Pushdown {
        // A userName may stand in for a missing address in the column, but not in the filter.
        is_exact: !matches!(term, Term::Key(Key::Email, _)),
        terms: vec![term],
    })
}

fn is_order(op: CompareOp) -> bool {
    use CompareOp::{Co, Eq, Ew, Ge, Gt, Le, Lt, Ne, Sw};
    match op {
        Gt | Ge | Lt | Le => true,
        Eq | Ne | Co | Sw | Ew => false,
    }
}

/// Whether every resource has a value that is not blank. A blank one stands before or behind others, but
/// in no column.
fn is_always_filled(resource: ResourceType, name: &str) -> bool {
    matches!(
        (resource, name),
        (ResourceType::User, "userName") | (ResourceType::Group, "displayName")
    )
}

fn key(resource: ResourceType, name: &str) -> Option<Key> {
    match (resource, name) {
        (_, "externalId") => Some(Key::ExternalId),
        (_, "displayName") => Some(Key::DisplayName),
        (ResourceType::User, "userName") => Some(Key::UserName),
        (ResourceType::User, "emails") => Some(Key::Email),
        _ => None,
    }
}

/// What the key must be; `None` where an index does not help.
fn test(op: CompareOp, key: Key, text: &str) -> Option<Test> {
    let text = match key {
        Key::ExternalId => text.to_owned(),
        Key::UserName | Key::DisplayName | Key::Email => fold(text),
    };
    match op {
        CompareOp::Eq => Some(Test::Equal(text)),
        CompareOp::Sw => Some(Test::StartsWith(text)),
        CompareOp::Gt => Some(Test::Greater(text)),
        CompareOp::Ge => Some(Test::GreaterOrEqual(text)),
        CompareOp::Lt => Some(Test::Less(text)),
        CompareOp::Le => Some(Test::LessOrEqual(text)),
        CompareOp::Ne | CompareOp::Co | CompareOp::Ew => None,
    }
}

/// What indexes answer of the filter in brackets behind `name`, as in
/// `emails[type eq "work" and value eq "x"]`.
fn value_of(filter: &Filter, resource: ResourceType, name: &'static str) -> Pushdown {
    match filter {
        Filter::And(parts) => parts.iter().fold(ALL, |mut all, part| {
            all.terms.extend(value_of(part, resource, name).terms);
            all
        }),
        Filter::Or(parts) => any(parts.iter().map(|part| value_of(part, resource, name))),
        Filter::Compare {
            path,
            op,
            value: Literal::Text(text),
        } if path.schema.is_none()
            && path.sub.is_none()
            && path.name.eq_ignore_ascii_case("value") =>
        {
            compared(resource, name, *op, text)
        }
        Filter::Not(_)
        | Filter::Compare { .. }
        | Filter::Present { .. }
        | Filter::ValuePath { .. } => UNANSWERED,
    }
}

/// Whether a filter speaks of the attribute called `name`, which is then needed to evaluate it.
pub fn mentions(filter: &Filter, name: &str) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(|part| mentions(part, name)),
        Filter::Not(part) => mentions(part, name),
        Filter::Compare { path, .. }
        | Filter::Present { path }
        | Filter::ValuePath { path, .. } => path.name.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scim::filter::parse;

    fn user_name(key: &str) -> Term {
        Term::Key(Key::UserName, Test::Equal(key.to_owned()))
    }

    fn users(text: &str) -> Pushdown {
        pushdown(&parse(text).unwrap(), ResourceType::User)
    }

    #[test]
    fn what_providers_match_by_is_answered_by_indexes_alone() {
        assert_eq!(
            users("userName eq \"ADA@x.org\""),
            Pushdown {
                terms: vec![user_name("ada@x.org")],
                is_exact: true
            }
        );
        assert_eq!(users("USERNAME Eq \"a\"").terms, [user_name("a")]);
        assert_eq!(users("id eq \"nonsense\"").terms, [Term::Nothing]);
        let group = pushdown(
            &parse("id eq \"x\" and members eq \"y\"").unwrap(),
            ResourceType::Group,
        );
        assert!(group.is_exact);
        assert_eq!(group.terms.len(), 2);
    }

    #[test]
    fn what_is_beyond_indexes_is_evaluated() {
        for text in [
            "emails[type eq \"work\"].value eq \"a@x.org\"",
            "emails.value eq \"a@x.org\"",
            "userName eq \"a\" and active eq true",
        ] {
            let split = users(text);
            assert!(
                !split.is_exact && split.terms.len() == 1,
                "{text}: {split:?}"
            );
        }
        for text in [
            "userName co \"a\"",
            "userName eq \"a\" or title eq \"b\"",
            "not (userName eq \"a\")",
            "userName eq \"\"",
            "emails eq \" \"",
            "displayName lt \"a\"",
        ] {
            assert_eq!(users(text), UNANSWERED, "{text}");
        }
    }

    #[test]
    fn ranges_and_alternatives_are_answered_by_indexes() {
        let split = users("externalId sw \"A\" or (userName ge \"B\" and userName lt \"C\")");
        assert!(split.is_exact);
        let starts = Term::Key(Key::ExternalId, Test::StartsWith("A".to_owned()));
        let from = Term::Key(Key::UserName, Test::GreaterOrEqual("b".to_owned()));
        let below = Term::Key(Key::UserName, Test::Less("c".to_owned()));
        assert_eq!(
            split.terms,
            [Term::Any(vec![vec![starts], vec![from, below]])]
        );
    }

    #[test]
    fn a_qualified_name_is_the_same_attribute() {
        let split = users("urn:ietf:params:scim:schemas:core:2.0:User:userName eq \"a\"");
        assert_eq!(split.terms, [user_name("a")]);
    }
}
