//! Snapshots of directories for endpoints: started at `/admin/v1/directories/{id}/snapshot`, and seen at
//! `/admin/v1/snapshots/{id}` and `/admin/v1/webhook_endpoints/{id}/snapshots`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::directories::find as find_directory;
use super::read::field_error;
use super::{Caller, Problem};
use crate::clock;
use crate::ids::{EndpointId, SnapshotId};
use crate::storage::tables::snapshots;
use crate::webhooks::endpoint;
use crate::webhooks::snapshot::{self, Error};

/// How many a list shows unless it is asked for another number, and at most.
const PAGE_DEFAULT: u64 = 10;
const PAGE_MAX: u64 = 100;

/// What `POST …/snapshot` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSnapshot {
    /// The endpoint that gets it.
    pub endpoint_id: String,
}

/// Starts a snapshot of a directory.
///
/// # Errors
/// There is no such directory or endpoint, the directory has no state yet or is going to be deleted, the
/// endpoint does not take its events, or a snapshot of it is on its way already.
pub async fn start(
    caller: &Caller,
    directory_id: &str,
    request: StartSnapshot,
) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let endpoint_id = parse_endpoint(&request.endpoint_id)?;
    let (store, actor) = (&caller.context.store, caller.actor);
    let started = snapshot::start(store, actor, directory.id, endpoint_id).await;
    Ok(view(&started.map_err(problem)?))
}

/// Shows a snapshot, and how far it has come.
///
/// # Errors
/// There is none with this id.
pub async fn show(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let found = snapshot::find(caller.context.store.reader(), parse(id)?).await?;
    let found = found.ok_or_else(|| Problem::not_found("Snapshot", id))?;
    Ok(view(&found))
}

/// Cancels a snapshot: nothing more of it is sent.
///
/// # Errors
/// There is none with this id, or it has ended.
pub async fn cancel(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let (store, actor) = (&caller.context.store, caller.actor);
    let cancelled = snapshot::cancel(store, actor, parse(id)?).await;
    Ok(view(&cancelled.map_err(problem)?))
}

/// What `GET /admin/v1/webhook_endpoints/{id}/snapshots` takes.
#[derive(Debug, Default, Deserialize)]
pub struct ListSnapshots {
    /// Only those that come after this one in the list.
    pub after: Option<String>,
    /// How many at most.
    pub limit: Option<u64>,
}

/// Shows the snapshots for an endpoint, newest first, a page at a time.
///
/// # Errors
/// A field is invalid, or there is no such endpoint.
pub async fn list(
    caller: &Caller,
    endpoint_id: &str,
    request: ListSnapshots,
) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    let limit = request.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        errors.push(field_error("limit", format!("must be 1 to {PAGE_MAX}")));
    }
    let after = request.after.map(|id| SnapshotId::parse(&id));
    if after == Some(None) {
        errors.push(field_error("after", "must be a snapshot's id"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let (connection, id) = (caller.context.store.reader(), parse_endpoint(endpoint_id)?);
    endpoint::find(connection, id)
        .await?
        .ok_or_else(|| Problem::not_found("Webhook endpoint", endpoint_id))?;
    // One more than is shown tells whether there is more.
    let mut rows = snapshot::list(connection, id, after.flatten(), limit + 1).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > shown;
    rows.truncate(shown);
    let next = rows.last().filter(|_| has_more).map(|row| row.id);
    Ok(json!({
        "object": "list",
        "data": rows.iter().map(view).collect::<Vec<_>>(),
        "list_metadata": {"before": null, "after": next},
    }))
}

fn parse(id: &str) -> Result<SnapshotId, Problem> {
    SnapshotId::parse(id).ok_or_else(|| Problem::not_found("Snapshot", id))
}

fn parse_endpoint(id: &str) -> Result<EndpointId, Problem> {
    EndpointId::parse(id).ok_or_else(|| Problem::not_found("Webhook endpoint", id))
}

pub(super) fn problem(error: Error) -> Problem {
    let code = match error {
        Error::NoEndpoint(id) => return Problem::not_found("Webhook endpoint", &id.to_string()),
        Error::NoDirectory(id) => return Problem::not_found("Directory", &id.to_string()),
        Error::NoSnapshot(id) => return Problem::not_found("Snapshot", &id.to_string()),
        Error::Storage(error) => return error.into(),
        Error::NotLinked => "directory_not_linked",
        Error::Deleting => "deletion_scheduled",
        Error::NotTaken => "directory_filtered_out",
        Error::Disabled => "endpoint_disabled",
        Error::Running(_) => "snapshot_running",
        Error::Ended(_) => "snapshot_ended",
    };
    Problem::new(409, code, error.to_string())
}

fn view(row: &snapshots::Model) -> Value {
    json!({
        "object": "snapshot",
        "id": row.id,
        "endpoint_id": row.endpoint_id,
        "directory_id": row.directory_id,
        "state": row.state,
        "sequence": row.sequence,
        "total": row.total,
        "sent": row.next_number - 1,
        "error": row.error,
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
        "ended_at": row.ended_at.map(clock::text),
    })
}
