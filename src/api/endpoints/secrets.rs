//! The rotation of an endpoint's secret, at `/admin/v1/webhook_endpoints/{id}/secrets`.

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{find, missing, open, parse, problem, view};
use crate::api::read::field_error;
use crate::api::{Caller, Problem};
use crate::config::Span;
use crate::webhooks::endpoint::{Error, Role, secrets};

/// How long the former secret goes on, unless the request says otherwise, and at most.
const OVERLAP: &str = "24h";
const OVERLAP_MAX: TimeDelta = TimeDelta::days(30);

/// What `POST …/secrets/promote` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// How long the former secret goes on: a number with s, m, h or d, or `0`.
    pub overlap: Option<String>,
}

/// Makes the next secret; the answer is the only place where it is shown.
///
/// # Errors
/// There is no such endpoint, or it has a second secret already.
pub async fn add_secret(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let (store, master_key) = (&caller.context.store, &caller.context.master_key);
    let secret = secrets::add(store, caller.actor, master_key, parse(id)?)
        .await
        .map_err(|error| problem(error, id))?;
    Ok(json!({
        "object": "webhook_secret",
        "endpoint_id": id,
        "role": Role::Next.as_str(),
        "secret": secret.expose(),
    }))
}

/// Makes the next secret the current one, and lets the former one go on for a while.
///
/// # Errors
/// There is no such endpoint, it has no next secret, or the overlap is invalid.
pub async fn promote_secret(
    caller: &Caller,
    id: &str,
    request: &Promote,
) -> Result<Value, Problem> {
    let overlap = request.overlap.as_deref().unwrap_or(OVERLAP);
    let overlap = Span::parse(overlap)
        .map(Span::delta)
        .filter(|overlap| *overlap <= OVERLAP_MAX)
        .ok_or_else(|| {
            let code = "must be a number with s, m, h or d, at most 30d, or 0 to end it at once";
            Problem::invalid(vec![field_error("overlap", code)])
        })?;
    let row = secrets::promote(&caller.context.store, caller.actor, parse(id)?, overlap)
        .await
        .map_err(|error| problem(error, id))?;
    Ok(view(caller, &open(caller, row)?))
}

/// Ends the next or the previous secret.
///
/// # Errors
/// There is no such endpoint, or it has no such secret.
pub async fn end_secret(caller: &Caller, id: &str, role: &str) -> Result<(), Problem> {
    let parsed = find(caller, id).await?.row.id;
    let missing_secret = || Problem::not_found("Secret", role);
    let known = Role::parse(role).ok_or_else(missing_secret)?;
    match secrets::end(&caller.context.store, caller.actor, parsed, known).await {
        Ok(()) => Ok(()),
        Err(Error::NoSecret(_)) => Err(missing_secret()),
        Err(Error::NotFound) => Err(missing(id)),
        Err(error) => Err(problem(error, id)),
    }
}
