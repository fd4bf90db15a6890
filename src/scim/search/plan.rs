//! How a list is found.

use super::request::{Page, Query};
use crate::directories::query::{Ask, Key, Order, Term, Test};
use crate::scim::filter::pushdown::pushdown;
use crate::scim::schema::ResourceType;

/// How a list is found.
#[derive(Debug)]
pub(in crate::scim) struct Plan {
    /// What indexes answer, for each kind of resource in turn.
    pub(super) parts: Vec<KindPlan>,
    pub(super) way: Way,
    /// What can be read in the statement that lets the caller in, if anything.
    first_take: Option<u64>,
}

/// What indexes answer about one kind of resource.
#[derive(Debug)]
pub(super) struct KindPlan {
    pub(super) kind: ResourceType,
    pub(super) terms: Vec<Term>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Indexes answer everything, in this order.
    Walk(Order),
    /// Rows have to be looked at.
    Evaluate,
}

impl Plan {
    /// Decides how to find what `query` asks for.
    pub(in crate::scim) fn of(query: &Query) -> Self {
        let mut is_exact = true;
        let mut parts = Vec::with_capacity(query.kinds.len());
        for kind in query.kinds {
            let mut terms = Vec::new();
            if let Some(filter) = &query.filter {
                let split = pushdown(filter, *kind);
                is_exact &= split.is_exact;
                terms = split.terms;
            }
            parts.push(KindPlan { kind: *kind, terms });
        }
        let order = match (&query.sort, query.kinds) {
            (None, _) => Some(Order::BY_ID),
            (Some(sort), [kind]) => sort.by_index(*kind),
            (Some(_), _) => None,
        };
        let way = match order {
            Some(order) if is_exact => Way::Walk(order),
            Some(_) | None => Way::Evaluate,
        };
        let first_take = match &query.page {
            Page::Index(1) => Some(query.count),
            Page::Cursor(text) if text.is_empty() => Some(query.count + 1),
            Page::Index(_) | Page::Cursor(_) => None,
        };
        Self {
            first_take: first_take.filter(|_| query.count > 0 && parts.len() == 1),
            parts,
            way,
        }
    }

    /// What indexes answer, of all kinds of resource.
    pub(in crate::scim) fn terms(&self) -> impl Iterator<Item = &Term> {
        self.parts.iter().flat_map(|part| &part.terms)
    }

    /// What to read in the statement that lets the caller in.
    pub(in crate::scim) fn ask(&self) -> Option<Ask<'_>> {
        let (Way::Walk(order), [part]) = (self.way, self.parts.as_slice()) else {
            return None;
        };
        Some(Ask {
            kind: part.kind.into(),
            terms: &part.terms,
            order,
            take: self.first_take?,
            is_narrow: is_narrow(&part.terms),
        })
    }
}

/// Whether at most one resource matches, so that there are no pages to come.
fn is_narrow(terms: &[Term]) -> bool {
    terms.iter().any(|term| {
        matches!(
            term,
            Term::Id(_) | Term::Nothing | Term::Key(Key::UserName, Test::Equal(_))
        )
    })
}
