//! The request log at `/admin/v1/directories/{id}/requests`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::directories::find as find_directory;
use super::read::field_error;
use super::{Caller, FieldError, Problem};
use crate::clock;
use crate::directories::token;
use crate::ids::RequestId;
use crate::requests::read::{self, Filter, Page, Start, Summary};
use crate::requests::situations::{Explanation, Facts, Situation};
use crate::storage::tables::{directories, scim_requests};

/// How many requests a page has, unless the query says otherwise, and at most.
const LIMIT: usize = 10;
const LIMIT_MAX: usize = 100;
/// How long a name or a part of a path to look for may be, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// What `GET …/requests` takes.
#[derive(Clone, Debug)]
pub struct ListRequests {
    filter: Filter,
    start: Start,
    limit: usize,
    person: Option<String>,
    group: Option<String>,
}

impl ListRequests {
    /// Reads a query string. A parameter that it does not know is refused, since a slip would otherwise
    /// show everything and look like an answer.
    ///
    /// # Errors
    /// A parameter is unknown, or has a value that it cannot have.
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut list = Self {
            filter: Filter::default(),
            start: Start::Newest,
            limit: LIMIT,
            person: None,
            group: None,
        };
        let mut errors: Vec<FieldError> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if let Err(expected) = list.set(&name, &value) {
                errors.push(field_error(&name, expected));
            }
        }
        if errors.is_empty() {
            Ok(list)
        } else {
            Err(Problem::invalid(errors))
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "after" => self.start = Start::OlderThan(request_id(value)?),
            "before" => self.start = Start::NewerThan(request_id(value)?),
            "limit" => self.limit = limit(value)?,
            "status" => self.filter.statuses = Some(statuses(value)?),
            "method" => self.filter.method = Some(text(value)?.to_uppercase()),
            "path" => self.filter.path = Some(text(value)?),
            "since" => self.filter.since = Some(time(value)?),
            "until" => self.filter.until = Some(time(value)?),
            "person" => self.person = Some(text(value)?),
            "group" => self.group = Some(text(value)?),
            _ => {
                return Err(
                    "is unknown; there are after, before, limit, status, method, path, \
                     since, until, person and group",
                );
            }
        }
        if self.person.is_some() && self.group.is_some() {
            return Err("person and group cannot be combined");
        }
        Ok(())
    }
}

fn request_id(value: &str) -> Result<RequestId, &'static str> {
    RequestId::parse(value).ok_or("must be the id of a request (req_…)")
}

fn limit(value: &str) -> Result<usize, &'static str> {
    let limit = value.parse().ok();
    limit
        .filter(|limit| (1..=LIMIT_MAX).contains(limit))
        .ok_or("must be a whole number from 1 to 100")
}

fn statuses(value: &str) -> Result<(i16, i16), &'static str> {
    const EXPECTED: &str = "must be a status such as 404, a class such as 4xx, or error";
    if value.eq_ignore_ascii_case("error") {
        return Ok((400, 599));
    }
    if let Some(class) = value.strip_suffix("xx") {
        let class: i16 = class.parse().ok().ok_or(EXPECTED)?;
        if (1..=5).contains(&class) {
            return Ok((class * 100, class * 100 + 99));
        }
    }
    let status = value.parse().ok().ok_or(EXPECTED)?;
    if (100..=599).contains(&status) {
        Ok((status, status))
    } else {
        Err(EXPECTED)
    }
}

fn time(value: &str) -> Result<DateTime<Utc>, &'static str> {
    let time = DateTime::parse_from_rfc3339(value).ok();
    time.map(|time| time.to_utc())
        .ok_or("must be a time such as 2026-01-15T12:00:00Z")
}

fn text(value: &str) -> Result<String, &'static str> {
    if value.is_empty() || value.len() > TEXT_BYTES_MAX || value.contains('\0') {
        return Err("must be a text of 1 to 1024 bytes");
    }
    Ok(value.to_owned())
}

/// Shows requests of a directory, newest first.
///
/// # Errors
/// There is no such directory.
pub async fn list(
    caller: &Caller,
    directory_id: &str,
    request: ListRequests,
) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let store = &caller.context.store;
    let ListRequests {
        mut filter,
        start,
        limit,
        person,
        group,
    } = request;
    if let Some(name) = person {
        filter.subjects = Some(read::person(store, directory.id, &name).await?);
    } else if let Some(name) = group {
        filter.subjects = Some(read::group(store, directory.id, &name).await?);
    }
    let page = read::list(store, directory.id, &filter, start, limit).await?;
    Ok(envelope(&directory, &page))
}

/// A list; `is_cut` says that it ends although there may be more, since so many requests were looked at.
fn envelope(directory: &directories::Model, page: &Page) -> Value {
    let data: Vec<Value> = page
        .rows
        .iter()
        .map(|row| summary(directory, row))
        .collect();
    json!({
        "object": "list",
        "data": data,
        "list_metadata": {"before": page.before, "after": page.after, "is_cut": page.is_cut},
    })
}

/// Shows a request with its bodies, the events that it caused, and what became of it in plain words.
///
/// # Errors
/// There is no such directory or request.
pub async fn show(caller: &Caller, directory_id: &str, id: &str) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let missing = || Problem::not_found("Request", id);
    let parsed = RequestId::parse(id).ok_or_else(missing)?;
    let store = &caller.context.store;
    let found = read::find(store.reader(), directory.id, parsed).await?;
    let row = found.ok_or_else(missing)?;
    let token = match row.token_id {
        Some(token_id) => token::find(store.reader(), directory.id, token_id).await?,
        None => None,
    };
    let facts = Facts {
        request: &row,
        directory: &directory,
        token: token.as_ref(),
        base_url: &caller.context.scim_base_url(&directory),
    };
    let situation = row.situation.as_deref().and_then(Situation::parse);
    let explanation = situation.map(|situation| explained(&situation.explain(&facts)));
    let suffix = token.as_ref().map(|token| &token.suffix);
    let mut view = summary(&directory, &without_bodies(&row));
    if let Some(fields) = view.as_object_mut() {
        let event_ids = read::events(store, directory.id, parsed).await?;
        fields.insert(
            "token_suffix".to_owned(),
            json!(row.token_suffix.as_ref().or(suffix)),
        );
        fields.insert("request_body".to_owned(), json!(row.request_body));
        fields.insert("response_body".to_owned(), json!(row.response_body));
        fields.insert("event_ids".to_owned(), json!(event_ids));
        fields.insert("explanation".to_owned(), json!(explanation));
    }
    Ok(view)
}

fn explained(explanation: &Explanation) -> Value {
    json!({
        "situation": explanation.situation.code(),
        "text": explanation.text,
        "action": explanation.action,
    })
}

fn without_bodies(row: &scim_requests::Model) -> Summary {
    let row = row.clone();
    Summary {
        id: row.id,
        created_at: row.created_at,
        method: row.method,
        path: row.path,
        status: row.status,
        duration_ms: row.duration_ms,
        token_id: row.token_id,
        token_suffix: row.token_suffix,
        user_agent: row.user_agent,
        address: row.address,
        scim_type: row.scim_type,
        detail: row.detail,
        situation: row.situation,
    }
}

fn summary(directory: &directories::Model, row: &Summary) -> Value {
    json!({
        "object": "directory_request",
        "id": row.id,
        "directory_id": directory.id,
        "created_at": clock::text(row.created_at),
        "method": row.method,
        "path": row.path,
        "status": row.status,
        "duration_ms": row.duration_ms,
        "token_id": row.token_id,
        "token_suffix": row.token_suffix,
        "user_agent": row.user_agent,
        "address": row.address,
        "scim_type": row.scim_type,
        "detail": row.detail,
        "situation": row.situation,
    })
}
