//! Lists: which resources, how many, and which part of them (RFC 7644 section 3.4.2).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::error::ScimError;
use super::filter::pushdown::{mentions, pushdown};
use super::filter::{self, Filter, eval};
use super::http::Refusal;
use super::render::Projection;
use super::schema::ResourceType;
use crate::directories::query::{Term, Window};
use crate::ids::ResourceId;

/// How many resources a page has if the client does not say.
const COUNT_DEFAULT: u64 = 100;
/// How many resources a page has at most.
const COUNT_MAX: u64 = 1_000;
/// How many rows are evaluated for one query at most.
const ROWS_MAX: u64 = 50_000;
/// How many rows are read at a time.
pub(super) const PAGE_ROWS: u64 = 1_000;

/// What a client asks for in a query string. Unknown parameters are ignored: Entra's flags are some.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) filter: Option<Filter>,
    pub(super) start_index: u64,
    pub(super) count: u64,
    pub(super) projection: Projection,
}

impl Query {
    /// Reads the query string.
    pub(super) fn read(text: &str, resource: ResourceType) -> Result<Self, ScimError> {
        let parameters: HashMap<String, String> = url::form_urlencoded::parse(text.as_bytes())
            .map(|(name, value)| (name.to_lowercase(), value.into_owned()))
            .collect();
        let get = |name: &str| parameters.get(name).map(String::as_str);
        let filter = get("filter")
            .filter(|filter| !filter.trim().is_empty())
            .map(filter::parse)
            .transpose()?;
        if let Some(filter) = &filter {
            eval::check(filter, resource)?;
        }
        let start_index = number("startIndex", get("startindex"))?.unwrap_or(1);
        let count =
            number("count", get("count"))?.map_or(COUNT_DEFAULT, |count| count.min(COUNT_MAX));
        Ok(Self {
            filter,
            start_index: start_index.max(1),
            count,
            projection: Projection::parse(get("attributes"), get("excludedattributes"), resource),
        })
    }

    pub(super) fn window(&self) -> Window {
        Window {
            skip: self
                .start_index
                .saturating_sub(1)
                .min(i64::MAX.unsigned_abs()),
            take: self.count,
        }
    }

    /// Whether the filter needs `name` to be evaluated.
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.filter
            .as_ref()
            .is_some_and(|filter| mentions(filter, name))
    }
}

/// Reads an integer; a negative one means 0 (RFC 7644 section 3.4.2.4).
fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, ScimError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ScimError::invalid_value(format!(
            "'{name}' must be an integer."
        )));
    }
    if text.starts_with('-') {
        return Ok(Some(0));
    }
    // More digits than fit mean: past any end.
    Ok(Some(digits.parse().unwrap_or(u64::MAX)))
}

/// One page of a list, and how many there are in all.
pub(super) struct Found<Row> {
    pub(super) rows: Vec<Row>,
    pub(super) total: u64,
}

/// What a search needs to know of a kind of resource.
pub(super) trait Source {
    type Row;

    /// The rows that match all `terms` in `window`, and how many there are.
    async fn exactly(
        &self,
        terms: &[Term],
        window: Window,
    ) -> Result<(Vec<Self::Row>, u64), Refusal>;

    /// The next rows that match all `terms`, by id, each with its resource as far as the filter needs
    /// it.
    async fn after(
        &self,
        terms: &[Term],
        after: Option<ResourceId>,
    ) -> Result<Vec<(ResourceId, Self::Row, Map<String, Value>)>, Refusal>;
}

/// Finds what `query` asks for.
pub(super) async fn search<S: Source>(
    source: &S,
    query: &Query,
    resource: ResourceType,
) -> Result<Found<S::Row>, Refusal> {
    let split = query
        .filter
        .as_ref()
        .map(|filter| (filter, pushdown(filter, resource)));
    match split {
        None => exactly(source, &[], query).await,
        Some((_, split)) if split.is_exact => exactly(source, &split.terms, query).await,
        Some((filter, split)) => evaluate(source, filter, &split.terms, query, resource).await,
    }
}

async fn exactly<S: Source>(
    source: &S,
    terms: &[Term],
    query: &Query,
) -> Result<Found<S::Row>, Refusal> {
    let (rows, total) = source.exactly(terms, query.window()).await?;
    Ok(Found { rows, total })
}

/// Evaluates the filter on every row that the terms leave, a page at a time.
async fn evaluate<S: Source>(
    source: &S,
    filter: &Filter,
    terms: &[Term],
    query: &Query,
    resource: ResourceType,
) -> Result<Found<S::Row>, Refusal> {
    let window = query.window();
    let mut found = Found {
        rows: Vec::new(),
        total: 0,
    };
    let mut seen = 0;
    let mut last = None;
    loop {
        let page = source.after(terms, last).await?;
        let length = u64::try_from(page.len()).unwrap_or(u64::MAX);
        seen += length;
        if seen > ROWS_MAX {
            return Err(ScimError::too_many(
                "The filter is too broad. Add a comparison with 'eq' on userName, externalId, \
                 displayName, id or emails.",
            )
            .into());
        }
        for (id, row, document) in page {
            last = Some(id);
            if eval::matches(filter, resource, &document)? {
                if found.total >= window.skip && found.total - window.skip < window.take {
                    found.rows.push(row);
                }
                found.total += 1;
            }
        }
        if length < PAGE_ROWS {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Query {
        Query::read(text, ResourceType::User).unwrap()
    }

    #[test]
    fn paging_is_clamped_and_nonsense_refused() {
        assert_eq!((read("").start_index, read("").count), (1, 100));
        assert_eq!(
            read("startIndex=-5&count=-1").window(),
            Window { skip: 0, take: 0 }
        );
        assert_eq!(
            read("startIndex=0&count=5000").window(),
            Window {
                skip: 0,
                take: 1_000
            }
        );
        assert_eq!(
            read("count=2&startIndex=3").window(),
            Window { skip: 2, take: 2 }
        );
        assert!(Query::read("count=many", ResourceType::User).is_err());
    }

    #[test]
    fn odd_query_strings_of_providers_are_read() {
        let one_login = read("filter=userName+eq+%22name%22&");
        assert!(one_login.filter.is_some());
        let entra = read("aadOptscim062020&filter=userName%20eq%20%22x%22");
        assert!(entra.filter.is_some());
        assert!(read("filter=").filter.is_none());
    }
}
