//! How a directory is doing, at `/admin/v1/directories/{id}/health`.

use serde_json::{Value, json};

use super::directories::find as find_directory;
use super::{Caller, Problem, guard};
use crate::clock;
use crate::directories::health::{self, Health, Requests};
use crate::storage::tables::{directories, scim_tokens};
use crate::webhooks::{backlog, endpoint};

/// Shows how a directory is doing.
///
/// # Errors
/// There is no such directory.
pub async fn show(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let directory = find_directory(caller, id).await?;
    let (store, now) = (&caller.context.store, caller.context.clock.now());
    let health = health::look(store, &directory, now).await?;
    let mut undelivered = Vec::new();
    let states = endpoint::states::list(store.reader()).await?;
    for row in endpoint::list(store.reader()).await? {
        let backlog = backlog::of(store, &row, &directory).await?;
        let state = states.get(&row.id);
        let failing_since = state.and_then(|state| state.failing_since_ms);
        undelivered.push(json!({
            "endpoint_id": row.id,
            "endpoint_url": row.url,
            "enabled": endpoint::is_enabled(&row),
            "disabled_because": row.disabled_because,
            "breaker": endpoint::states::breaker(state),
            "failing_since": failing_since.map(clock::from_ms).map(clock::text),
            "undelivered": backlog.undelivered,
            "parked": backlog.parked,
        }));
    }
    Ok(view(&directory, &health, &undelivered))
}

fn view(directory: &directories::Model, health: &Health, endpoints: &[Value]) -> Value {
    let last_change = health.last_change.as_ref();
    json!({
        "object": "directory_health",
        "directory_id": directory.id,
        "verdict": health.verdict.as_str(),
        "text": health.verdict.text(),
        "last_request_at": health.last_request_at.map(clock::text),
        "last_change_at": last_change.map(|event| clock::text(event.created_at)),
        "sequence": last_change.and_then(|event| event.sequence).unwrap_or(0),
        "last_hour": requests(health.last_hour),
        "last_day": requests(health.last_day),
        "users": {
            "active": health.people.active,
            "inactive": health.people.inactive,
            "ended": health.people.ended,
        },
        "groups": health.people.groups,
        "tokens": {
            "active": health.tokens.active,
            "expiring": health.tokens.expiring.iter().map(token).collect::<Vec<_>>(),
            "last_used": health.tokens.last_used.as_ref().map(token),
        },
        "refused_writes": health.unsettled.refused_writes,
        "drift": health.unsettled.drift,
        "endpoints": endpoints,
        "state": directory.state,
        "management": directory.management,
        "deliveries_held_at": directory.deliveries_held_at.map(clock::text),
        "guard": guard::fields(directory),
        "writes_refused_at": directory.writes_refused_at.map(clock::text),
        "deletion_due_at": directory.deletion_due_at.map(clock::text),
    })
}

fn requests(counted: Requests) -> Value {
    json!({"requests": counted.total, "errors": counted.errors})
}

fn token(row: &scim_tokens::Model) -> Value {
    json!({
        "id": row.id,
        "label": row.label,
        "token_suffix": row.suffix,
        "last_used_at": row.last_used_at.map(clock::text),
        "expires_at": row.expires_at.map(clock::text),
    })
}
