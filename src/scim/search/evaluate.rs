//! Lists whose filter or order no index answers.
//!
//! Every row that the indexes leave is looked at, a page at a time. Of those that match only the spot is
//! kept, so that memory does not grow with documents; the rows of the page are read again at the end.

use std::collections::HashMap;

use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::Part;
use super::plan::{KindPlan, Plan};
use super::request::{Page, Query};
use super::sort::{self, Spot};
use crate::directories::query::{self, Order, Place, ResourceKind, Row, Selection, Start};
use crate::ids::ResourceId;
use crate::scim::caller::Caller;
use crate::scim::content;
use crate::scim::error::ScimError;
use crate::scim::filter::eval;
use crate::scim::http::Refusal;
use crate::scim::resources::{Resource, complete};
use crate::scim::schema::ResourceType;
use crate::scim::schema::group::MEMBERS;

/// How many rows are looked at for one query at most, the members of groups included.
const ROWS_MAX: usize = 50_000;
/// For how long rows are looked at for one query at most.
const TIME_MAX: Duration = Duration::from_secs(2);
/// How many rows are read at a time.
const PAGE_ROWS: u64 = 1_000;

/// Finds a page by looking at rows.
pub(super) async fn page(
    caller: &Caller,
    query: &Query,
    plan: &Plan,
    after: Option<Spot>,
) -> Result<Part, Refusal> {
    let mut look = Look {
        caller,
        query,
        rows_left: ROWS_MAX,
        deadline: Instant::now() + TIME_MAX,
        spots: Vec::new(),
    };
    for part in &plan.parts {
        look.through(part).await?;
    }
    let mut spots = look.spots;
    if let Some(sort) = &query.sort {
        spots.sort_by(|left, right| sort.compare(left, right));
    }
    let total = spots.len();
    let skip = match (&query.page, after) {
        (Page::Index(start), _) => usize::try_from(start - 1).unwrap_or(usize::MAX),
        (Page::Cursor(_), None) => 0,
        (Page::Cursor(_), Some(after)) => spots.partition_point(|spot| {
            let order = query.sort.as_ref().map_or_else(
                || sort::unsorted(spot, &after),
                |sort| sort.compare(spot, &after),
            );
            order.is_le()
        }),
    };
    let count = usize::try_from(query.count).unwrap_or(usize::MAX);
    let page: Vec<Spot> = spots.into_iter().skip(skip).take(count).collect();
    let is_last = skip.saturating_add(page.len()) >= total;
    Ok(Part {
        rows: read(caller, &page).await?,
        total: u64::try_from(total).unwrap_or(u64::MAX),
        next: page.into_iter().next_back().filter(|_| !is_last),
    })
}

/// The rows at these spots that are still there.
async fn read(caller: &Caller, page: &[Spot]) -> Result<Vec<Row>, Refusal> {
    let mut found: HashMap<ResourceId, Row> = HashMap::with_capacity(page.len());
    for kind in [ResourceKind::User, ResourceKind::Group] {
        let of_kind = page.iter().filter(|spot| spot.kind == kind);
        let ids: Vec<ResourceId> = of_kind.map(|spot| spot.id).collect();
        let store = &caller.context.store;
        let rows = query::by_ids(store, caller.directory_id(), kind, &ids).await?;
        found.extend(rows.into_iter().map(|row| (row.id(), row)));
    }
    Ok(page
        .iter()
        .filter_map(|spot| found.remove(&spot.id))
        .collect())
}

/// A look at many rows.
struct Look<'a> {
    caller: &'a Caller,
    query: &'a Query,
    rows_left: usize,
    deadline: Instant,
    spots: Vec<Spot>,
}

impl Look<'_> {
    async fn through(&mut self, part: &KindPlan) -> Result<(), Refusal> {
        let store = &self.caller.context.store;
        let selection = Selection {
            directory_id: self.caller.directory_id(),
            kind: part.kind.into(),
            terms: &part.terms,
        };
        let mut start = Start::Skip(0);
        loop {
            let rows = query::rows(store, selection, Order::BY_ID, &start, PAGE_ROWS).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            start = Start::After(Place {
                name: None,
                id: last.id(),
            });
            self.spend(rows.len())?;
            let is_last = u64::try_from(rows.len()).unwrap_or(u64::MAX) < PAGE_ROWS;
            // A user's version tells of its groups too.
            let with_groups = part.kind == ResourceType::User
                && (self.query.mentions("groups") || self.query.mentions("meta"));
            for resource in complete(self.caller, rows, with_groups).await? {
                self.at(&resource).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn at(&mut self, resource: &Resource) -> Result<(), Refusal> {
        let kind = resource.kind();
        let mut whole = resource.whole(self.caller);
        if kind == ResourceType::Group && self.query.mentions(MEMBERS) {
            let members = content::all_members(self.caller, resource.id(), self.rows_left).await?;
            let members = members.ok_or_else(too_broad)?;
            self.spend(members.len())?;
            if !members.is_empty() {
                whole.insert(MEMBERS.to_owned(), Value::Array(members));
            }
        }
        let matches = match &self.query.filter {
            Some(filter) => eval::matches(filter, kind, &whole)?,
            None => true,
        };
        if matches {
            let sort = self.query.sort.as_ref();
            self.spots.push(Spot {
                kind: kind.into(),
                key: sort.and_then(|sort| sort.key(kind, &whole)),
                id: resource.id(),
            });
        }
        Ok(())
    }

    fn spend(&mut self, rows: usize) -> Result<(), ScimError> {
        self.rows_left = self.rows_left.checked_sub(rows).ok_or_else(too_broad)?;
        if Instant::now() > self.deadline {
            return Err(too_broad());
        }
        Ok(())
    }
}

fn too_broad() -> ScimError {
    ScimError::too_many(
        "The filter or the order is too broad for this directory. Add a comparison with 'eq' or 'sw' \
         on userName, externalId, displayName, id or emails, or sort by userName (users) or \
         displayName (groups).",
    )
}
