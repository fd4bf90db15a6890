//! Lists: which resources, how many, and which part of them (RFC 7644 section 3.4.2, RFC 9865).
//!
//! A [`Query`] is what the client asks for. [`plan`] decides how to find it: what indexes answer of its
//! filter and order is asked of the database page by page ([`walk`]); for the rest, the rows that the
//! indexes leave are evaluated one by one, up to a limit ([`evaluate`]). Both ways give the same list.
//!
//! Over several kinds of resource a list goes through one kind after the other, unless it is sorted.

use super::caller::Caller;
use super::http::Refusal;
use super::resources::{Resource, complete};
use anchors::Anchors;
use cursor::Fingerprint;
use plan::Way;
use request::Page;
use walk::First;

use crate::directories::query::Row;

pub(super) mod anchors;
mod cursor;
mod evaluate;
pub(super) mod plan;
mod request;
mod sort;
mod walk;

pub(super) use plan::Plan;
pub(super) use request::{Query, projection};

/// One page of a list.
#[derive(Debug)]
pub(super) struct Found {
    /// What is on the page.
    pub(super) resources: Vec<Resource>,
    /// How many there are on all pages.
    pub(super) total: u64,
    /// The number of the first one, when pages are asked for by number.
    pub(super) start_index: Option<u64>,
    /// The cursor of the next page, when pages are asked for by cursor and there is one.
    pub(super) next_cursor: Option<String>,
}

/// What a page is made from, before its rows are completed.
struct Part {
    rows: Vec<Row>,
    total: u64,
    /// Behind the last row, if there are more.
    next: Option<sort::Spot>,
}

/// Finds what `query` asks for. `first` is what was read when the caller was let in.
pub(super) async fn search(
    caller: &Caller,
    anchors: &Anchors,
    query: &Query,
    plan: &Plan,
    first: Option<First>,
) -> Result<Found, Refusal> {
    let directory = caller.directory_id().to_string();
    let kinds: String = query.kinds.iter().map(|kind| kind.name()).collect();
    let [filter, by, order] = &query.texts;
    let list = Fingerprint::of(&[&directory, &kinds, filter, by, order]);
    let after = match &query.page {
        Page::Cursor(text) if !text.is_empty() => Some(cursor::read(list, query.count, text)?),
        Page::Cursor(_) | Page::Index(_) => None,
    };
    let part = match &plan.way {
        Way::Walk(order) => {
            let walk = walk::Walk {
                caller,
                anchors,
                list,
                plan,
                order: *order,
            };
            walk.page(query, after, first).await?
        }
        Way::Evaluate => evaluate::page(caller, query, plan, after).await?,
    };
    let with_groups = query.kinds.iter().any(|kind| {
        let projection = query.projection(*kind);
        projection.wants("groups") || projection.wants("meta.version")
    });
    let is_by_cursor = matches!(query.page, Page::Cursor(_));
    Ok(Found {
        resources: complete(caller, part.rows, with_groups).await?,
        total: part.total,
        start_index: match query.page {
            Page::Index(start) => Some(start),
            Page::Cursor(_) => None,
        },
        next_cursor: part
            .next
            .filter(|_| is_by_cursor)
            .map(|spot| cursor::write(list, query.count, &spot)),
    })
}
