//! Stopping a directory for a while, deleting it, and taking that back.

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::Value;

use super::directories::{find, problem, view};
use super::{Caller, Problem};
use crate::directories::deletion;
use crate::directories::directory::{self, Flow};

/// What can be done to a directory, each without a body.
pub const VERBS: [&str; 5] = ["hold", "release", "pause", "resume", "restore"];

/// Holds or releases the webhooks about a directory, pauses or resumes the writes of its provider, or
/// takes its deletion back, as one of [`VERBS`] says.
///
/// # Errors
/// There is no such directory or verb, or there is no deletion that can be taken back.
pub async fn turn(caller: &Caller, id: &str, verb: &str) -> Result<Value, Problem> {
    let id = find(caller, id).await?.id;
    let (store, actor, by) = (&caller.context.store, caller.actor, &caller.described);
    let row = match verb {
        "hold" => directory::stop(store, actor, id, Flow::Deliveries, by).await,
        "release" => directory::resume(store, actor, id, Flow::Deliveries).await,
        "pause" => directory::stop(store, actor, id, Flow::Writes, by).await,
        "resume" => directory::resume(store, actor, id, Flow::Writes).await,
        "restore" => deletion::restore(store, actor, id).await,
        _ => return Err(Problem::not_found("Operation", verb)),
    };
    view(caller, &row.map_err(problem)?).await
}

/// What `DELETE /admin/v1/directories/{id}` takes.
#[derive(Debug, Default, Deserialize)]
pub struct DeleteDirectory {
    /// Whether there is no time to take it back.
    #[serde(default)]
    pub immediately: bool,
}

/// Deletes a directory, after the time in which that can be taken back.
///
/// # Errors
/// There is no such directory.
pub async fn delete(
    caller: &Caller,
    id: &str,
    request: &DeleteDirectory,
) -> Result<Value, Problem> {
    let found = find(caller, id).await?;
    let grace = if request.immediately {
        TimeDelta::zero()
    } else {
        caller.context.directories.deletion_grace.delta()
    };
    let row = deletion::schedule(&caller.context.store, caller.actor, found.id, grace).await;
    view(caller, &row.map_err(problem)?).await
}
