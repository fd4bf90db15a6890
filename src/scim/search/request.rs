//! What a client asks for: in a query string, or in the body of a search request
//! (RFC 7644 sections 3.4.2 and 3.4.3, RFC 9865).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::sort::Sort;
use crate::scim::error::ScimError;
use crate::scim::filter::pushdown::mentions;
use crate::scim::filter::{self, Filter, eval};
use crate::scim::render::Projection;
use crate::scim::schema::discovery::{PAGE_SIZE_DEFAULT, RESULTS_MAX};
use crate::scim::schema::{self, ResourceType};

/// The schema of a search request.
const SEARCH_URN: &str = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::scim) enum Page {
    /// From this row on, counted from 1.
    Index(u64),
    /// From behind a cursor; the first page has an empty one.
    Cursor(String),
}

/// What a client asks for.
#[derive(Debug)]
pub(in crate::scim) struct Query {
    /// Which kinds of resource.
    pub(in crate::scim) kinds: &'static [ResourceType],
    pub(super) filter: Option<Filter>,
    pub(super) sort: Option<Sort>,
    pub(super) page: Page,
    pub(super) count: u64,
    /// What filter and order were, for cursors and anchors.
    pub(super) texts: [String; 3],
    attributes: Option<String>,
    excluded: Option<String>,
}

/// What was sent, by name in lower case. Unknown parameters are ignored: Entra's flags are some.
type Parameters = HashMap<String, String>;

impl Query {
    /// Reads a query string.
    pub(in crate::scim) fn read(
        text: &str,
        kinds: &'static [ResourceType],
    ) -> Result<Self, ScimError> {
        Self::of(&parameters(text), kinds)
    }

    /// Reads the body of a search request.
    pub(in crate::scim) fn of_body(
        body: Map<String, Value>,
        kinds: &'static [ResourceType],
    ) -> Result<Self, ScimError> {
        let mut parameters = Parameters::new();
        let mut is_search = false;
        for (name, value) in body {
            let name = name.to_lowercase();
            if name == "schemas" {
                is_search = schema::names(&value, SEARCH_URN);
            } else if let Some(text) = text_of(&name, value)? {
                parameters.insert(name, text);
            }
        }
        if !is_search {
            return Err(ScimError::invalid_syntax(format!(
                "'schemas' of a search request must be [\"{SEARCH_URN}\"]."
            )));
        }
        Self::of(&parameters, kinds)
    }

    fn of(parameters: &Parameters, kinds: &'static [ResourceType]) -> Result<Self, ScimError> {
        let get = |name: &str| parameters.get(name).map(String::as_str);
        let filter = get("filter")
            .filter(|filter| !filter.trim().is_empty())
            .map(filter::parse)
            .transpose()?;
        for kind in kinds {
            filter
                .as_ref()
                .map_or(Ok(()), |filter| eval::check(filter, *kind))?;
        }
        let page = match get("cursor") {
            Some(cursor) => Page::Cursor(cursor.to_owned()),
            None => Page::Index(number("startIndex", get("startindex"))?.unwrap_or(1).max(1)),
        };
        let text = |name| get(name).unwrap_or("").to_owned();
        Ok(Self {
            kinds,
            sort: Sort::read(get("sortby"), get("sortorder"), kinds)?,
            count: count(get("count"), &page)?,
            page,
            texts: [text("filter"), text("sortby"), text("sortorder")],
            attributes: get("attributes").map(str::to_owned),
            excluded: get("excludedattributes").map(str::to_owned),
            filter,
        })
    }

    /// What of a resource the answer holds.
    pub(in crate::scim) fn projection(&self, kind: ResourceType) -> Projection {
        Projection::parse(self.attributes.as_deref(), self.excluded.as_deref(), kind)
    }

    /// Whether the filter or the order needs `name` to be evaluated.
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.filter
            .as_ref()
            .is_some_and(|filter| mentions(filter, name))
            || self.sort.is_some_and(|sort| sort.mentions(name))
    }
}

/// What of a resource an answer holds that is no list.
pub(in crate::scim) fn projection(query: &str, kind: ResourceType) -> Projection {
    let parameters = parameters(query);
    let get = |name: &str| parameters.get(name).map(String::as_str);
    Projection::parse(get("attributes"), get("excludedattributes"), kind)
}

fn parameters(query: &str) -> Parameters {
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.to_lowercase(), value.into_owned()))
        .collect()
}

/// A value of a search request as a query string would hold it.
fn text_of(name: &str, value: Value) -> Result<Option<String>, ScimError> {
    match (name, value) {
        (_, Value::Null) => Ok(None),
        ("attributes" | "excludedattributes", Value::Array(names)) => {
            let names = names.iter().map(Value::as_str);
            let names: Option<Vec<&str>> = names.collect();
            let names = names.ok_or_else(|| wrong(name, "an array of strings"))?;
            Ok(Some(names.join(",")))
        }
        ("startindex" | "count", Value::Number(number)) => Ok(Some(number.to_string())),
        (
            "attributes" | "excludedattributes" | "filter" | "sortby" | "sortorder" | "cursor"
            | "startindex" | "count",
            Value::String(text),
        ) => Ok(Some(text)),
        ("startindex" | "count", _) => Err(wrong(name, "a number")),
        ("attributes" | "excludedattributes", _) => Err(wrong(name, "an array of strings")),
        ("filter" | "sortby" | "sortorder" | "cursor", _) => Err(wrong(name, "a string")),
        _ => Ok(None),
    }
}

fn wrong(name: &str, expectation: &str) -> ScimError {
    ScimError::invalid_value(format!("'{name}' must be {expectation}."))
}

/// How many resources a page has at most.
fn count(text: Option<&str>, page: &Page) -> Result<u64, ScimError> {
    let max = u64::from(RESULTS_MAX);
    let count = number("count", text)?.unwrap_or(u64::from(PAGE_SIZE_DEFAULT));
    if count > max && matches!(page, Page::Cursor(_)) {
        return Err(ScimError::invalid_count(format!(
            "A page has at most {max} resources. Send a smaller 'count'."
        )));
    }
    Ok(count.min(max))
}

/// Reads an integer; a negative one means 0 (RFC 7644 section 3.4.2.4).
fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, ScimError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(name, "an integer"));
    }
    if text.starts_with('-') {
        return Ok(Some(0));
    }
    // More digits than fit mean: past any end.
    Ok(Some(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Page, Query};
    use crate::scim::error::ScimType;
    use crate::scim::schema::ResourceType;

    const USERS: &[ResourceType] = &[ResourceType::User];

    fn read(text: &str) -> Query {
        Query::read(text, USERS).unwrap()
    }

    fn refused(text: &str) -> Option<ScimType> {
        Query::read(text, USERS).unwrap_err().scim_type
    }

    #[test]
    fn paging_is_clamped_and_nonsense_refused() {
        for (text, start, count) in [
            ("", 1, 100),
            ("startIndex=-5&count=-1", 1, 0),
            ("startIndex=0&count=5000", 1, 1_000),
            ("count=2&startIndex=3", 3, 2),
            ("startIndex=99999999999999999999", u64::MAX, 100),
        ] {
            let query = read(text);
            assert_eq!(
                (query.page, query.count),
                (Page::Index(start), count),
                "{text}"
            );
        }
        assert_eq!(refused("count=many"), Some(ScimType::InvalidValue));
        assert_eq!(refused("sortBy=nothing"), Some(ScimType::InvalidValue));
        assert_eq!(refused("sortBy=name"), Some(ScimType::InvalidValue));
        assert_eq!(refused("sortOrder=up"), Some(ScimType::InvalidValue));
    }

    #[test]
    fn a_bare_cursor_begins_paging_by_cursor() {
        assert_eq!(read("cursor&count=10").page, Page::Cursor(String::new()));
        assert_eq!(read("cursor=abc").page, Page::Cursor("abc".to_owned()));
        assert_eq!(refused("cursor&count=1001"), Some(ScimType::InvalidCount));
    }

    #[test]
    fn odd_query_strings_of_providers_are_read() {
        let one_login = read("filter=userName+eq+%22name%22&");
        assert!(one_login.filter.is_some());
        let entra = read("aadOptscim062020&filter=userName%20eq%20%22x%22");
        assert!(entra.filter.is_some());
        assert!(read("filter=").filter.is_none());
    }

    #[test]
    fn a_search_request_says_the_same_as_a_query_string() {
        let body =
            |value: serde_json::Value| Query::of_body(value.as_object().unwrap().clone(), USERS);
        let query = body(json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
            "attributes": ["displayName", "userName"],
            "filter": "userName sw \"a\"",
            "sortBy": "name.familyName",
            "startIndex": 5,
            "count": 10,
        }))
        .unwrap();
        assert_eq!((query.page.clone(), query.count), (Page::Index(5), 10));
        assert!(query.sort.is_some() && query.filter.is_some());
        let projection = query.projection(ResourceType::User);
        assert!(projection.wants("displayName") && !projection.wants("title"));
        assert!(body(json!({"filter": "userName pr"})).is_err());
        let urn = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";
        assert!(body(json!({"schemas": [urn], "filter": 7})).is_err());
        assert!(body(json!({"schemas": [urn], "count": "x"})).is_err());
    }
}
