//! Lists that indexes answer alone.
//!
//! A page that is asked for by number begins where its anchor says, or behind so many rows. Totals come
//! from the counts, from the page itself if it is the last, or else from counting an index range.

use super::Part;
use super::anchors::Anchors;
use super::cursor::Fingerprint;
use super::plan::{KindPlan, Plan};
use super::request::{Page, Query};
use super::sort::{SortKey, Spot};
use crate::directories::query::{self, Order, OrderBy, Place, Row, Selection, Start};
use crate::scim::caller::Caller;
use crate::scim::http::Refusal;
use crate::storage;

/// What was read in the statement that let the caller in.
pub(in crate::scim) type First = query::FirstRows;

/// A list and how it is walked.
pub(super) struct Walk<'a> {
    pub(super) caller: &'a Caller,
    pub(super) anchors: &'a Anchors,
    pub(super) list: Fingerprint,
    pub(super) plan: &'a Plan,
    pub(super) order: Order,
}

/// The rows found so far, and how many there are of each kind, where that is known.
struct Rows {
    rows: Vec<Row>,
    totals: Vec<Option<u64>>,
}

impl Walk<'_> {
    pub(super) async fn page(
        &self,
        query: &Query,
        after: Option<Spot>,
        first: Option<First>,
    ) -> Result<Part, Refusal> {
        match query.page {
            Page::Cursor(_) => self.page_by_cursor(query.count, after, first).await,
            Page::Index(start) => self.page_by_number(query.count, start, first).await,
        }
    }

    async fn page_by_cursor(
        &self,
        count: u64,
        after: Option<Spot>,
        first: Option<First>,
    ) -> Result<Part, Refusal> {
        // One more than asked for tells whether there is a next page.
        let mut found = match (first, after) {
            (Some(first), _) => of_first(first, count + 1),
            (None, Some(spot)) => self.behind(&spot, count + 1).await?,
            (None, None) => self.behind_rows(0, count + 1).await?,
        };
        let is_last = found.rows.len() <= size(count);
        found.rows.truncate(size(count));
        let next = found.rows.last().map(|row| self.spot(row));
        Ok(Part {
            total: self.total(&found).await?,
            next: next.filter(|_| !is_last),
            rows: found.rows,
        })
    }

    async fn page_by_number(
        &self,
        count: u64,
        start: u64,
        first: Option<First>,
    ) -> Result<Part, Refusal> {
        let (found, sequence) = if let Some(first) = first {
            let sequence = first.sequence;
            (of_first(first, count), sequence)
        } else {
            let sequence = self.sequence().await?;
            let found = match self.anchors.find(self.list, start, sequence) {
                Some(spot) if start > 1 => self.behind(&spot, count).await?,
                Some(_) | None => self.behind_rows(start - 1, count).await?,
            };
            (found, Some(sequence))
        };
        let is_full = count > 0 && found.rows.len() == size(count);
        if let (true, Some(sequence), Some(last)) = (is_full, sequence, found.rows.last()) {
            let next = start.saturating_add(count);
            self.anchors
                .note(self.list, next, sequence, self.spot(last));
        }
        Ok(Part {
            total: self.total(&found).await?,
            next: None,
            rows: found.rows,
        })
    }

    /// Up to `take` rows behind a spot.
    async fn behind(&self, spot: &Spot, take: u64) -> Result<Rows, Refusal> {
        let mut found = self.nothing();
        for part in &self.plan.parts {
            let kind = query::ResourceKind::from(part.kind);
            if kind < spot.kind {
                continue;
            }
            let start = if kind == spot.kind {
                Start::After(place(spot))
            } else {
                Start::Skip(0)
            };
            self.add(&mut found, part, &start, take).await?;
        }
        Ok(found)
    }

    /// Up to `take` rows behind the first `skip`.
    async fn behind_rows(&self, mut skip: u64, take: u64) -> Result<Rows, Refusal> {
        let mut found = self.nothing();
        for (index, part) in self.plan.parts.iter().enumerate() {
            let is_begun = !found.rows.is_empty() || skip == 0;
            if !is_begun && self.plan.parts.len() > 1 {
                let total = self.count(part).await?;
                if let Some(known) = found.totals.get_mut(index) {
                    *known = Some(total);
                }
                if skip >= total {
                    skip -= total;
                    continue;
                }
            }
            let before = found.rows.len();
            self.add(&mut found, part, &Start::Skip(skip), take).await?;
            let got = u64::try_from(found.rows.len() - before).unwrap_or(u64::MAX);
            let is_all = skip == 0 && found.rows.len() < size(take);
            if let (true, Some(known)) = (is_all, found.totals.get_mut(index)) {
                *known = Some(got);
            }
            skip = 0;
        }
        Ok(found)
    }

    async fn add(
        &self,
        found: &mut Rows,
        part: &KindPlan,
        start: &Start,
        take: u64,
    ) -> Result<(), Refusal> {
        let got = u64::try_from(found.rows.len()).unwrap_or(u64::MAX);
        let left = take.saturating_sub(got);
        if left > 0 {
            let store = &self.caller.context.store;
            let rows = query::rows(store, self.selection(part), self.order, start, left).await?;
            found.rows.extend(rows);
        }
        Ok(())
    }

    async fn total(&self, found: &Rows) -> Result<u64, Refusal> {
        let mut total = 0;
        for (part, known) in self.plan.parts.iter().zip(&found.totals) {
            total += match known {
                Some(known) => *known,
                None => self.count(part).await?,
            };
        }
        Ok(total)
    }

    async fn count(&self, part: &KindPlan) -> Result<u64, Refusal> {
        let store = &self.caller.context.store;
        Ok(query::count(store, self.selection(part)).await?)
    }

    async fn sequence(&self) -> Result<i64, Refusal> {
        let connection = self.caller.context.store.reader();
        Ok(storage::newest_sequence(connection, self.caller.directory_id()).await?)
    }

    fn selection<'a>(&self, part: &'a KindPlan) -> Selection<'a> {
        Selection {
            directory_id: self.caller.directory_id(),
            kind: part.kind.into(),
            terms: &part.terms,
        }
    }

    fn nothing(&self) -> Rows {
        Rows {
            rows: Vec::new(),
            totals: vec![None; self.plan.parts.len()],
        }
    }

    fn spot(&self, row: &Row) -> Spot {
        let by_name = self.order.by == OrderBy::Name;
        Spot {
            kind: row.kind(),
            key: by_name.then(|| SortKey::Text(row.name_key().to_owned())),
            id: row.id(),
        }
    }
}

/// What was read already: rows of the one kind, from the first on.
fn of_first(first: First, take: u64) -> Rows {
    let is_all = first.rows.len() < size(take);
    let total = u64::try_from(first.rows.len()).ok().filter(|_| is_all);
    Rows {
        rows: first.rows,
        totals: vec![total],
    }
}

fn place(spot: &Spot) -> Place {
    Place {
        name: match &spot.key {
            Some(SortKey::Text(name)) => Some(name.clone()),
            Some(SortKey::Boolean(_) | SortKey::Number(_) | SortKey::Instant(_)) | None => None,
        },
        id: spot.id,
    }
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
