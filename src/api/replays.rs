//! Sending events to an endpoint once more, at `/admin/v1/webhook_endpoints/{id}/replays`.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::deliveries::{check_kind, find};
use super::read::field_error;
use super::{Caller, Problem};
use crate::clock;
use crate::events::log;
use crate::ids::{DirectoryId, EventId, ReplayId};
use crate::storage::tables::{endpoints, events, replays};
use crate::webhooks::endpoint;
use crate::webhooks::replay::{self, Criteria, Kind, NewReplay, plan};

const LIMIT: u64 = 10;
const LIMIT_MAX: u64 = 100;

/// What `POST` takes: exactly one of the three.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateReplay {
    /// One event, by its id.
    pub delivery: Option<String>,
    /// With `current_state`, not the event is sent but what it was about, as it is now.
    #[serde(rename = "as")]
    pub form: Option<String>,
    /// What was parked.
    pub recover: Option<Recover>,
    /// A part of the log.
    pub range: Option<Range>,
}

/// What was parked, of what first failed since a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// The time.
    pub since: DateTime<Utc>,
}

/// A part of the log, delivered or not.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// From this time on.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    /// Of this directory.
    pub directory: Option<String>,
    /// From this sequence of the directory on.
    pub from_sequence: Option<i64>,
    /// Up to this one.
    pub to_sequence: Option<i64>,
    /// Of these types.
    #[serde(default)]
    pub types: Vec<String>,
}

/// Starts a replay.
///
/// # Errors
/// There is no such endpoint or event, or the request does not say what to send.
pub async fn create(
    caller: &Caller,
    endpoint_id: &str,
    request: CreateReplay,
) -> Result<Value, Problem> {
    let row = find(caller, endpoint_id).await?;
    let store = &caller.context.store;
    match (request.delivery, request.recover, request.range) {
        (Some(id), None, None) => resend(caller, &row, &id, request.form.as_deref()).await,
        (None, Some(recover), None) if request.form.is_none() => {
            let criteria = Criteria {
                since: Some(recover.since),
                ..Criteria::default()
            };
            let new = plan::of_many(store, row.id, Kind::Recover, criteria).await?;
            start(caller, new).await
        }
        (None, None, Some(range)) if request.form.is_none() => {
            let criteria = criteria(range)?;
            let new = plan::of_many(store, row.id, Kind::Range, criteria).await?;
            start(caller, new).await
        }
        _ => Err(Problem::invalid(vec![field_error(
            "delivery",
            "give exactly one of delivery, recover and range; as goes with delivery",
        )])),
    }
}

async fn start(caller: &Caller, new: NewReplay) -> Result<Value, Problem> {
    let row = replay::create(&caller.context.store, caller.actor, new).await?;
    Ok(view(&row))
}

fn criteria(range: Range) -> Result<Criteria, Problem> {
    let mut errors = Vec::new();
    for kind in &range.types {
        check_kind("types", Some(kind), &mut errors);
    }
    let directory = range.directory.as_deref();
    if directory.is_some_and(|id| DirectoryId::parse(id).is_none()) {
        errors.push(field_error("directory", "must be the id of a directory"));
    }
    let names_sequences = range.from_sequence.is_some() || range.to_sequence.is_some();
    if directory.is_none() && names_sequences {
        errors.push(field_error(
            "directory",
            "is needed with from_sequence and to_sequence",
        ));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    Ok(Criteria {
        since: range.since,
        until: range.until,
        directory: range.directory,
        from_sequence: range.from_sequence,
        to_sequence: range.to_sequence,
        types: range.types,
        ..Criteria::default()
    })
}

/// Sends one event, and says what has happened since to what it was about.
async fn resend(
    caller: &Caller,
    row: &endpoints::Model,
    id: &str,
    form: Option<&str>,
) -> Result<Value, Problem> {
    let connection = caller.context.store.reader();
    let missing = || Problem::not_found("Event", id);
    let parsed = EventId::parse(id).ok_or_else(missing)?;
    let event = log::find(connection, parsed).await?.ok_or_else(missing)?;
    let kind = match form {
        None => Kind::Delivery,
        Some("current_state") => Kind::CurrentState,
        Some(_) => {
            return Err(Problem::invalid(vec![field_error(
                "as",
                "must be current_state",
            )]));
        }
    };
    let is_about_one = event.user_id.is_some() != event.group_id.is_some();
    if kind == Kind::CurrentState && !is_about_one {
        let error = field_error("as", "current_state is for events about a user or a group");
        return Err(Problem::invalid(vec![error]));
    }
    if kind == Kind::Delivery && !endpoint::view(connection, row).await?.passes(&event) {
        let error = field_error("delivery", "the endpoint does not take events of this type");
        return Err(Problem::invalid(vec![error]));
    }
    let newer = plan::newer(connection, &event).await?;
    let mut view = start(caller, plan::of_event(row.id, kind, &event)).await?;
    if let (Some(fields), Some(newer)) = (view.as_object_mut(), newer) {
        fields.insert(
            "newer".to_owned(),
            newer_view(&event, &newer, kind, is_about_one),
        );
    }
    Ok(view)
}

fn newer_view(event: &events::Model, newer: &plan::Newer, kind: Kind, is_about_one: bool) -> Value {
    let mut view = json!({
        "count": newer.count,
        "last_event_id": newer.last.id,
        "last_event": newer.last.kind,
        "sequence": newer.last.sequence,
    });
    if kind == Kind::Delivery
        && is_about_one
        && let Some(fields) = view.as_object_mut()
    {
        let offer = json!({"delivery": event.id, "as": "current_state"});
        fields.insert("instead".to_owned(), offer);
    }
    view
}

/// What `GET` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListReplays {
    /// Those that come after this one of the page before.
    pub after: Option<String>,
    /// How many: 1 to 100.
    pub limit: Option<u64>,
}

/// Shows the replays of an endpoint, newest first.
///
/// # Errors
/// There is no such endpoint, or a parameter is invalid.
pub async fn list(
    caller: &Caller,
    endpoint_id: &str,
    request: ListReplays,
) -> Result<Value, Problem> {
    let row = find(caller, endpoint_id).await?;
    let limit = request.limit.unwrap_or(LIMIT);
    let mut errors = Vec::new();
    if !(1..=LIMIT_MAX).contains(&limit) {
        errors.push(field_error("limit", "must be 1 to 100"));
    }
    let after = request.after.as_deref().map(ReplayId::parse);
    if after == Some(None) {
        errors.push(field_error("after", "must be the id of a replay"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let connection = caller.context.store.reader();
    // One more tells whether there are more.
    let mut found = replay::list(connection, row.id, after.flatten(), limit + 1).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > shown;
    found.truncate(shown);
    let after = found.last().filter(|_| has_more).map(|last| last.id);
    let data: Vec<Value> = found.iter().map(view).collect();
    Ok(json!({
        "object": "list", "data": data, "list_metadata": {"before": null, "after": after},
    }))
}

/// Shows a replay and how far it has come.
///
/// # Errors
/// There is no such endpoint or replay.
pub async fn show(caller: &Caller, endpoint_id: &str, id: &str) -> Result<Value, Problem> {
    let row = find(caller, endpoint_id).await?;
    let missing = || Problem::not_found("Replay", id);
    let parsed = ReplayId::parse(id).ok_or_else(missing)?;
    let found = replay::find(caller.context.store.reader(), row.id, parsed).await?;
    Ok(view(&found.ok_or_else(missing)?))
}

/// Cancels a replay; one that has ended stays as it is.
///
/// # Errors
/// There is no such endpoint or replay.
pub async fn cancel(caller: &Caller, endpoint_id: &str, id: &str) -> Result<Value, Problem> {
    let row = find(caller, endpoint_id).await?;
    if let Some(parsed) = ReplayId::parse(id) {
        replay::cancel(&caller.context.store, caller.actor, row.id, parsed).await?;
    }
    show(caller, endpoint_id, id).await
}

/// `total` is `null` if there are too many to count.
fn view(row: &replays::Model) -> Value {
    let criteria: Value = serde_json::from_str(&row.criteria).unwrap_or_default();
    let total = (row.total >= 0).then_some(row.total);
    json!({
        "object": "replay",
        "id": row.id,
        "webhook_endpoint_id": row.endpoint_id,
        "kind": row.kind,
        "criteria": criteria,
        "state": row.state,
        "total": total,
        "sent": row.sent,
        "failed": row.failed,
        "error": row.error,
        "actor": row.actor,
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
        "ended_at": row.ended_at.map(clock::text),
    })
}
