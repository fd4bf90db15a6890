//! What indexes can answer of a filter.
//!
//! A filter becomes *terms*, each answered by an index, and perhaps a residual, which is then the whole
//! filter evaluated on the rows that the terms leave. Terms never leave out a row that the filter would
//! match; whether they leave in too many is what [`Pushdown::is_exact`] says. Pure.

use super::{CompareOp, Filter, Literal};
use crate::directories::query::Term;
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
        Filter::And(parts) => {
            let parts = parts.iter().map(|part| pushdown(part, resource));
            parts.fold(
                Pushdown {
                    terms: Vec::new(),
                    is_exact: true,
                },
                |mut all, part| {
                    all.terms.extend(part.terms);
                    all.is_exact &= part.is_exact;
                    all
                },
            )
        }
        Filter::Compare {
            path,
            op: CompareOp::Eq,
            value: Literal::Text(text),
        } => term(resource, &names(resource, path), text).map_or_else(
            unanswered,
            |(term, is_exact)| Pushdown {
                terms: vec![term],
                is_exact,
            },
        ),
        Filter::ValuePath { path, filter } => Pushdown {
            terms: value_of(filter)
                .and_then(|text| term(resource, &names(resource, path), text))
                .map(|(term, _)| term)
                .into_iter()
                .collect(),
            is_exact: false,
        },
        Filter::Or(_) | Filter::Not(_) | Filter::Compare { .. } | Filter::Present { .. } => {
            unanswered()
        }
    }
}

fn unanswered() -> Pushdown {
    Pushdown {
        terms: Vec::new(),
        is_exact: false,
    }
}

/// The core attribute that a path names, in the schema's spelling, with `value` as its only possible
/// part; empty for anything else.
fn names(resource: ResourceType, path: &AttributePath) -> String {
    match resolve(resource, path) {
        Resolved::Attribute(target) if target.extension.is_none() => match target.sub {
            None => target.attribute.name.to_owned(),
            Some(sub) if sub.name == "value" => target.attribute.name.to_owned(),
            Some(_) => String::new(),
        },
        Resolved::Attribute(_)
        | Resolved::Schema(_)
        | Resolved::Foreign(_)
        | Resolved::ForeignAttribute(_)
        | Resolved::Unknown => String::new(),
    }
}

/// The term for `name eq "text"`, and whether it is exact. An empty text is left to evaluation, because
/// columns do not tell it from no value.
fn term(resource: ResourceType, name: &str, text: &str) -> Option<(Term, bool)> {
    if text.is_empty() {
        return None;
    }
    let id = |make: fn(ResourceId) -> Term| ResourceId::parse(text).map_or(Term::Nothing, make);
    match (resource, name) {
        (_, "id") => Some((id(Term::Id), true)),
        (_, "externalId") => Some((Term::ExternalId(text.to_owned()), true)),
        (_, "displayName") => Some((Term::DisplayName(fold(text)), true)),
        (ResourceType::User, "userName") => Some((Term::UserName(fold(text)), true)),
        // A userName may stand in for a missing address in the column, but not in the filter.
        (ResourceType::User, "emails") => Some((Term::Email(fold(text)), false)),
        (ResourceType::Group, "members") => Some((id(Term::Member), true)),
        _ => None,
    }
}

/// The text that `value` must equal inside brackets, as in `emails[type eq "work" and value eq "x"]`.
fn value_of(filter: &Filter) -> Option<&str> {
    match filter {
        Filter::And(parts) => parts.iter().find_map(value_of),
        Filter::Compare {
            path,
            op: CompareOp::Eq,
            value: Literal::Text(text),
        } if path.schema.is_none()
            && path.sub.is_none()
            && path.name.eq_ignore_ascii_case("value") =>
        {
            Some(text)
        }
        Filter::Or(_)
        | Filter::Not(_)
        | Filter::Compare { .. }
        | Filter::Present { .. }
        | Filter::ValuePath { .. } => None,
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

    fn users(text: &str) -> Pushdown {
        pushdown(&parse(text).unwrap(), ResourceType::User)
    }

    #[test]
    fn what_providers_match_by_is_answered_by_indexes_alone() {
        assert_eq!(
            users("userName eq \"ADA@x.org\""),
            Pushdown {
                terms: vec![Term::UserName("ada@x.org".to_owned())],
                is_exact: true
            }
        );
        assert_eq!(
            users("USERNAME Eq \"a\"").terms,
            [Term::UserName("a".to_owned())]
        );
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
            "userName sw \"a\"",
            "not (userName eq \"a\")",
            "userName eq \"\"",
        ] {
            assert_eq!(users(text), unanswered(), "{text}");
        }
    }

    #[test]
    fn a_qualified_name_is_the_same_attribute() {
        let split = users("urn:ietf:params:scim:schemas:core:2.0:User:userName eq \"a\"");
        assert_eq!(split.terms, [Term::UserName("a".to_owned())]);
    }
}
