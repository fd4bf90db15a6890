//! Deliveries and backlogs to look at, and the log as it grows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoints::parse;
use super::read::field_error;
use super::{Caller, FieldError, Problem};
use crate::clock;
use crate::events::{Kind, log};
use crate::ids::{DirectoryId, EventId};
use crate::storage::tables::{attempts, endpoints, events};
use crate::storage::{Store, generation, horizon};
use crate::webhooks::deliveries::{self, Delivery, Filter, Status};
use crate::webhooks::links::{self, View};
use crate::webhooks::{backlog, endpoint};

const LIMIT: usize = 10;
const LIMIT_MAX: usize = 100;
/// How many directories a backlog names.
const DIRECTORIES_MAX: usize = 10;

/// What `GET /admin/v1/deliveries` takes. A name that it does not know is refused, since a slip would
/// otherwise show everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDeliveries {
    /// The endpoint.
    pub endpoint: Option<String>,
    /// Those that stand so: delivered, retrying, parked or held.
    pub status: Option<String>,
    /// Those of this event type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Those of this directory.
    pub directory: Option<String>,
    /// Of events from this time on (RFC 3339).
    pub since: Option<DateTime<Utc>>,
    /// Of events before this time (RFC 3339).
    pub until: Option<DateTime<Utc>>,
    /// Those that come after this position of the page before.
    pub after: Option<i64>,
    /// How many: 1 to 100.
    pub limit: Option<usize>,
}

/// Shows deliveries of an endpoint, newest first.
///
/// # Errors
/// A parameter is invalid, or there is no such endpoint.
pub async fn list(caller: &Caller, request: ListDeliveries) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    if request.endpoint.is_none() {
        errors.push(field_error(
            "endpoint",
            "must be the id of an endpoint (we_…)",
        ));
    }
    let limit = check_limit(request.limit, &mut errors);
    let status = request.status.as_deref().map(Status::parse);
    if status == Some(None) {
        errors.push(field_error(
            "status",
            "must be delivered, retrying, parked or held",
        ));
    }
    check_kind("type", request.kind.as_deref(), &mut errors);
    let directory_id = request.directory.as_deref().map(DirectoryId::parse);
    if directory_id == Some(None) {
        errors.push(field_error("directory", "must be the id of a directory"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let row = find(caller, request.endpoint.as_deref().unwrap_or("")).await?;
    let filter = Filter {
        status: status.flatten(),
        kind: request.kind,
        directory_id: directory_id.flatten(),
        since: request.since,
        until: request.until,
    };
    let store = &caller.context.store;
    let page = deliveries::list(store, row.id, &filter, request.after, limit).await?;
    let is_cut = page.before.is_some() && page.rows.len() < limit;
    let data: Vec<Value> = page.rows.iter().map(|one| view(&row, one)).collect();
    let after = page.before.map(|position| position.to_string());
    Ok(json!({
        "object": "list",
        "data": data,
        "list_metadata": {"before": null, "after": after, "is_cut": is_cut},
    }))
}

fn check_limit(limit: Option<usize>, errors: &mut Vec<FieldError>) -> usize {
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        errors.push(field_error("limit", "must be 1 to 100"));
    }
    limit
}

pub(super) fn check_kind(field: &str, kind: Option<&str>, errors: &mut Vec<FieldError>) {
    if kind.is_some_and(|kind| Kind::parse(kind).is_none()) {
        errors.push(field_error(field, "unknown_event_type"));
    }
}

/// The endpoint that a URL names.
pub(super) async fn find(caller: &Caller, id: &str) -> Result<endpoints::Model, Problem> {
    let parsed = parse(id)?;
    endpoint::find(caller.context.store.reader(), parsed)
        .await?
        .ok_or_else(|| Problem::not_found("Webhook endpoint", id))
}

/// The position of an event, given by it or by its id.
async fn position(caller: &Caller, text: &str) -> Result<i64, Problem> {
    let missing = || Problem::not_found("Delivery", text);
    if let Some(id) = EventId::parse(text) {
        let event = log::find(caller.context.store.reader(), id).await?;
        return event.map(|event| event.position).ok_or_else(missing);
    }
    text.parse().map_err(|_not_a_number| missing())
}

/// Shows one delivery with its attempts.
///
/// # Errors
/// There is no such endpoint or event.
pub async fn show(caller: &Caller, endpoint_id: &str, id: &str) -> Result<Value, Problem> {
    let row = find(caller, endpoint_id).await?;
    let store = &caller.context.store;
    let position = position(caller, id).await?;
    let found = deliveries::find(store, row.id, position).await?;
    let delivery = found.ok_or_else(|| Problem::not_found("Delivery", id))?;
    let failures = deliveries::failures(store, row.id, position).await?;
    let mut attempts: Vec<Value> = failures.iter().map(failure).collect();
    // A success is described by the delivery alone.
    if delivery.status == Some(Status::Delivered) {
        attempts.push(json!({
            "number": delivery.attempts,
            "at": delivery.at.map(clock::text),
            "status_code": delivery.status_code,
            "failure": null,
            "duration_ms": delivery.duration_ms,
            "response_excerpt": null,
        }));
    }
    let mut view = view(&row, &delivery);
    if let Some(fields) = view.as_object_mut() {
        fields.insert("attempts_made".to_owned(), Value::Array(attempts));
    }
    Ok(view)
}

fn failure(row: &attempts::Model) -> Value {
    json!({
        "number": row.number,
        "at": clock::text(row.at),
        "status_code": row.status_code,
        "failure": row.failure,
        "duration_ms": row.duration_ms,
        "response_excerpt": row.excerpt,
    })
}

fn view(endpoint: &endpoints::Model, delivery: &Delivery) -> Value {
    json!({
        "object": "delivery",
        "event_id": delivery.event_id,
        "position": delivery.position,
        "webhook_endpoint_id": endpoint.id,
        "directory_id": delivery.directory_id,
        "event": delivery.kind,
        "sequence": delivery.sequence,
        "created_at": clock::text(delivery.happened_at),
        "status": delivery.status.map_or("pending", Status::as_str),
        "attempts": delivery.attempts,
        "status_code": delivery.status_code,
        "failure": delivery.failure,
        "duration_ms": delivery.duration_ms,
        "attempted_at": delivery.at.map(clock::text),
        "next_attempt_at": delivery.next_at.map(clock::text),
    })
}

/// Shows how much has not arrived at an endpoint, and how far it is behind.
///
/// # Errors
/// There is no such endpoint.
pub async fn backlog(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let row = find(caller, id).await?;
    let summary = backlog::summary(&caller.context.store, &row).await?;
    let now = caller.context.clock.now();
    let behind = summary.oldest_at.map(|at| (now - at).num_seconds().max(0));
    let directories: Vec<Value> = summary
        .directories
        .iter()
        .take(DIRECTORIES_MAX)
        .map(|(id, events)| json!({"directory_id": id, "events": events}))
        .collect();
    Ok(json!({
        "object": "backlog",
        "webhook_endpoint_id": row.id,
        "events": summary.undelivered,
        "is_exact": summary.is_exact,
        "seconds_behind": behind.unwrap_or(0),
        "oldest_at": summary.oldest_at.map(clock::text),
        "parked": summary.parked,
        "held": summary.held,
        "directories": directories,
    }))
}

/// What `GET /admin/v1/log` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadLog {
    /// Events after this position; without it none are shown, but the position at which the log ends.
    pub after: Option<i64>,
    /// How many: 1 to 100.
    pub limit: Option<usize>,
}

/// Shows events of all directories in the order of the log, with the position after which to go on.
///
/// # Errors
/// A parameter is invalid.
pub async fn log(caller: &Caller, request: ReadLog) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    let limit = check_limit(request.limit, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let store = &caller.context.store;
    let horizon = horizon::read(store.reader(), store.dialect()).await?;
    let end = horizon.by_shard.into_iter().min().unwrap_or(0);
    let Some(after) = request.after else {
        let last = log::newest(store.reader(), end).await?;
        return Ok(json!({"object": "list", "data": [], "list_metadata": {"after": last}}));
    };
    let limit = u64::try_from(limit).unwrap_or(1);
    let rows = log::read_all(store.reader(), after, end, limit).await?;
    let last = rows.last().map_or(after, |row| row.position);
    let data = entries(store, rows).await?;
    Ok(json!({"object": "list", "data": data, "list_metadata": {"after": last}}))
}

/// Events as an endpoint gets them that takes all types from the start.
async fn entries(store: &Store, rows: Vec<events::Model>) -> Result<Vec<Value>, Problem> {
    let view = View::of_everything();
    let generation = generation::newest(store.reader()).await?;
    let generation = generation.map(|generation| generation.number);
    let mut entries = BTreeMap::new();
    for row in rows {
        let (shard, kind, at) = (row.shard, row.kind.clone(), row.created_at);
        for offer in links::offers(store, &view, shard, vec![row]).await? {
            let entry = json!({
                "object": "log_entry",
                "id": offer.event_id,
                "position": offer.position,
                "directory_id": offer.directory_id,
                "event": kind,
                "sequence": offer.sequence,
                "previous": offer.previous,
                "after": offer.after,
                "generation": generation,
                "payload": *offer.payload,
                "created_at": clock::text(at),
            });
            entries.insert(offer.position, entry);
        }
    }
    Ok(entries.into_values().collect())
}
