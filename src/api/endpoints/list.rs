//! Lists of endpoints. There are few, and all nodes have all of them at hand anyway.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{contract_view, open, view};
use crate::api::read::field_error;
use crate::api::{Caller, Problem};
use crate::ids::EndpointId;
use crate::storage::tables::endpoints;
use crate::webhooks::endpoint;

const PAGE_DEFAULT: usize = 10;
const PAGE_MAX: usize = 100;

/// What the lists of endpoints take.
#[derive(Debug, Default, Deserialize)]
pub struct ListEndpoints {
    /// Only those after this one.
    pub after: Option<String>,
    /// Only those before this one, and of them the nearest.
    pub before: Option<String>,
    /// How many at most.
    pub limit: Option<usize>,
    /// `asc` is oldest first, `desc` newest first; `normal` is `desc` with `after` and `before` swapped.
    pub order: Option<String>,
}

/// Shows endpoints, oldest first unless asked otherwise, a page at a time and without secrets.
///
/// # Errors
/// A field is invalid.
pub async fn list(caller: &Caller, request: ListEndpoints) -> Result<Value, Problem> {
    let page = Page::find(caller, request, "asc").await?;
    page.show(caller, |endpoint| view(caller, endpoint))
}

/// The same as the wire contract has it: newest first, with secrets.
///
/// # Errors
/// A field is invalid.
pub async fn list_contract(caller: &Caller, request: ListEndpoints) -> Result<Value, Problem> {
    let page = Page::find(caller, request, "desc").await?;
    page.show(caller, contract_view)
}

/// Some endpoints, and whether there are others on either side.
struct Page {
    rows: Vec<endpoints::Model>,
    has_former: bool,
    has_more: bool,
}

impl Page {
    async fn find(caller: &Caller, request: ListEndpoints, usual: &str) -> Result<Self, Problem> {
        let mut errors = Vec::new();
        let limit = request.limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            errors.push(field_error("limit", format!("must be 1 to {PAGE_MAX}")));
        }
        let order = request.order.as_deref().unwrap_or(usual);
        if !["asc", "desc", "normal"].contains(&order) {
            errors.push(field_error("order", "must be asc, desc or normal"));
        }
        let mut read = |field: &str, id: Option<String>| {
            let read = id.map(|id| EndpointId::parse(&id));
            if read == Some(None) {
                errors.push(field_error(field, "must be a webhook endpoint's id"));
            }
            read.flatten()
        };
        let (mut after, mut before) =
            (read("after", request.after), read("before", request.before));
        if !errors.is_empty() {
            return Err(Problem::invalid(errors));
        }
        if order == "normal" {
            std::mem::swap(&mut after, &mut before);
        }
        let mut rows = endpoint::list(caller.context.store.reader()).await?;
        let is_descending = order != "asc";
        if is_descending {
            rows.reverse();
        }
        // Whether one comes before another in this order; either may be gone.
        let precedes = |one: EndpointId, other: EndpointId| {
            if is_descending {
                one > other
            } else {
                one < other
            }
        };
        Ok(Self::cut(
            rows,
            limit,
            |id| {
                after.is_none_or(|after| precedes(after, id))
                    && before.is_none_or(|before| precedes(id, before))
            },
            after.is_none() && before.is_some(),
        ))
    }

    /// The first of those wanted, or the last.
    fn cut(
        rows: Vec<endpoints::Model>,
        limit: usize,
        is_wanted: impl Fn(EndpointId) -> bool,
        is_from_end: bool,
    ) -> Self {
        let total = rows.len();
        let skipped = rows.iter().take_while(|row| !is_wanted(row.id)).count();
        let wanted = rows.iter().filter(|row| is_wanted(row.id)).count();
        let shown = wanted.min(limit);
        let first = if is_from_end {
            skipped + wanted - shown
        } else {
            skipped
        };
        Self {
            rows: rows.into_iter().skip(first).take(shown).collect(),
            has_former: first > 0,
            has_more: first + shown < total,
        }
    }

    fn show(
        self,
        caller: &Caller,
        view: impl Fn(&endpoint::Endpoint) -> Value,
    ) -> Result<Value, Problem> {
        let first = self.rows.first().filter(|_| self.has_former);
        let last = self.rows.last().filter(|_| self.has_more);
        let metadata = json!({
            "before": first.map(|row| row.id),
            "after": last.map(|row| row.id),
        });
        let mut data = Vec::new();
        for row in self.rows {
            data.push(view(&open(caller, row)?));
        }
        Ok(json!({"object": "list", "data": data, "list_metadata": metadata}))
    }
}
