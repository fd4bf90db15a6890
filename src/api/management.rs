//! Who is master of a directory's users and groups, what becomes of inactive users, and what is not
//! settled: below `/admin/v1/directories/{id}`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::directories::find as find_directory;
use super::read::field_error;
use super::{Caller, Problem};
use crate::clock;
use crate::directories::gate::{Management, SettingError};
use crate::directories::inactive::{self, Policy};
use crate::directories::{Denied, drift, management, refused};
use crate::ids::{DirectoryId, DriftId, RefusedWriteId};
use crate::storage::tables::{directories, drift as drift_rows, refused_writes};

/// How many transactions a request spends on bringing inactive users into line; the server does the rest
/// afterwards.
const ALIGN_STEPS: usize = 20;
/// How many lines a page has at most, and if the request does not say.
const LINES_MAX: u64 = 100;

/// What `PUT …/management` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchManagement {
    /// `provider` or `manual`.
    pub mode: String,
}

/// Shows who is master of a directory's users and groups, since when, and how much is not settled.
///
/// # Errors
/// There is no such directory.
pub async fn show(caller: &Caller, directory_id: &str) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    view(caller, &directory).await
}

/// Makes the provider or the vendor the master.
///
/// # Errors
/// The mode is none, or there is no such directory.
pub async fn switch(
    caller: &Caller,
    directory_id: &str,
    request: SwitchManagement,
) -> Result<Value, Problem> {
    let Some(to) = Management::parse(&request.mode) else {
        let error = field_error("mode", "must be provider or manual");
        return Err(Problem::invalid(vec![error]));
    };
    let found = find_directory(caller, directory_id).await?;
    let store = &caller.context.store;
    let described = caller.described.clone();
    let switched = management::switch(store, caller.actor, described, found.id, to)
        .await
        .map_err(|error| problem(error, directory_id))?;
    view(caller, &switched).await
}

async fn view(caller: &Caller, row: &directories::Model) -> Result<Value, Problem> {
    let unsettled = management::unsettled(caller.context.store.reader(), row.id).await?;
    Ok(json!({
        "object": "management",
        "directory_id": row.id,
        "mode": row.management,
        "changed_by": row.management_changed_by,
        "changed_at": row.management_changed_at.map(clock::text),
        "refused_writes": unsettled.refused_writes,
        "drift": unsettled.drift,
    }))
}

/// What `PUT …/inactive_users` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetInactiveUsers {
    /// `retain` or `delete`.
    pub policy: String,
}

/// Shows what becomes of inactive users.
///
/// # Errors
/// There is no such directory.
pub async fn show_inactive_users(caller: &Caller, directory_id: &str) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let is_aligned = directory.aligning_since.is_none();
    Ok(inactive_users(
        directory.id,
        &directory.inactive_users,
        is_aligned,
    ))
}

/// Says what becomes of inactive users, and brings those into line who are inactive already.
///
/// # Errors
/// The policy is none, or there is no such directory.
pub async fn set_inactive_users(
    caller: &Caller,
    directory_id: &str,
    request: SetInactiveUsers,
) -> Result<Value, Problem> {
    let Some(policy) = Policy::parse(&request.policy) else {
        let error = field_error("policy", "must be retain or delete");
        return Err(Problem::invalid(vec![error]));
    };
    let found = find_directory(caller, directory_id).await?;
    let (store, actor) = (&caller.context.store, caller.actor);
    let changed = inactive::set_policy(store, actor, found.id, policy)
        .await
        .map_err(|error| problem(error, directory_id))?;
    let is_aligned = inactive::align(store, changed.id, actor, ALIGN_STEPS).await?;
    Ok(inactive_users(
        changed.id,
        &changed.inactive_users,
        is_aligned,
    ))
}

fn inactive_users(directory_id: DirectoryId, policy: &str, is_aligned: bool) -> Value {
    json!({
        "object": "inactive_users",
        "directory_id": directory_id,
        "policy": policy,
        "is_complete": is_aligned,
    })
}

/// Which lines to show.
#[derive(Debug, Default, Deserialize)]
pub struct Page {
    /// How many, up to 100.
    pub limit: Option<u64>,
    /// The id of the line after which to go on.
    pub after: Option<String>,
}

impl Page {
    fn limit(&self) -> Result<u64, Problem> {
        let limit = self.limit.unwrap_or(LINES_MAX);
        if (1..=LINES_MAX).contains(&limit) {
            return Ok(limit);
        }
        let error = field_error("limit", "must be between 1 and 100");
        Err(Problem::invalid(vec![error]))
    }

    fn after<I>(&self, parse: fn(&str) -> Option<I>) -> Result<Option<I>, Problem> {
        let parsed = self.after.as_deref().map(|text| {
            let error = || field_error("after", "must be the id of a line of this list");
            parse(text).ok_or_else(|| Problem::invalid(vec![error()]))
        });
        parsed.transpose()
    }
}

/// Shows the people and groups about whom writes of the provider were refused and have not come again.
///
/// # Errors
/// The page cannot be read, or there is no such directory.
pub async fn refused_writes(
    caller: &Caller,
    directory_id: &str,
    page: Page,
) -> Result<Value, Problem> {
    let (limit, after) = (page.limit()?, page.after(RefusedWriteId::parse)?);
    let directory = find_directory(caller, directory_id).await?;
    let connection = caller.context.store.reader();
    let rows = refused::list(connection, directory.id, after, limit + 1).await?;
    let total = refused::count(connection, directory.id).await?;
    let resend = resend(&directory.kind);
    let lines = rows.iter().map(|row| refused_line(row, resend)).collect();
    Ok(envelope(lines, limit, total))
}

fn refused_line(row: &refused_writes::Model, resend: &str) -> Value {
    json!({
        "object": "refused_write",
        "id": row.id,
        "kind": row.kind,
        "label": row.label,
        "resource_id": row.resource_id.map(|id| id.to_string()),
        "operation": row.operation,
        "reason": row.reason,
        "times": row.times,
        "first_at": clock::text(row.first_at),
        "last_at": clock::text(row.last_at),
        "token_id": row.token_id,
        "request_id": row.request_id,
        "resend": resend,
    })
}

/// What has to be done so that a provider sends again what it was refused.
fn resend(kind: &str) -> &'static str {
    match kind {
        "okta scim v2.0" => {
            "Okta gives a refused task up and does not send it again by itself. In the Okta Admin \
             Console, open Dashboard, then Tasks, and retry the failed tasks of this app."
        }
        "azure scim v2.0" => {
            "Entra ID tries refused users and groups again in its cycles, about every 40 minutes and \
             with growing pauses. To send them at once, use Provision on demand for a person or a \
             small group, or Restart provisioning for all."
        }
        _ => {
            "Have the provider's administrator send this person or group once more, by a \
             synchronization or by any change: what was refused is missing here until then."
        }
    }
}

/// Shows the people and groups that were changed by hand and not written by the provider since.
///
/// # Errors
/// The page cannot be read, or there is no such directory.
pub async fn drift(caller: &Caller, directory_id: &str, page: Page) -> Result<Value, Problem> {
    let (limit, after) = (page.limit()?, page.after(DriftId::parse)?);
    let directory = find_directory(caller, directory_id).await?;
    let connection = caller.context.store.reader();
    let rows = drift::list(connection, directory.id, after, limit + 1).await?;
    let total = drift::count(connection, directory.id).await?;
    Ok(envelope(
        rows.iter().map(drift_line).collect(),
        limit,
        total,
    ))
}

fn drift_line(row: &drift_rows::Model) -> Value {
    json!({
        "object": "drift",
        "id": row.id,
        "kind": row.kind,
        "label": row.label,
        "resource_id": row.resource_id.to_string(),
        "what": row.what,
        "changed_by": row.changed_by,
        "changed_at": clock::text(row.changed_at),
    })
}

/// A page of lines, of which there is one more than `limit` if there is another page.
fn envelope(mut lines: Vec<Value>, limit: u64, total: u64) -> Value {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = lines.len() > limit;
    lines.truncate(limit);
    let last = lines.last().and_then(|line| line.get("id")).cloned();
    let after = last.filter(|_| has_more);
    json!({
        "object": "list",
        "data": lines,
        "list_metadata": {"before": null, "after": after},
        "total": total,
    })
}

fn problem(error: SettingError, directory_id: &str) -> Problem {
    match error {
        SettingError::Denied(denied) => denied_problem(&denied, directory_id),
        SettingError::Storage(error) => error.into(),
    }
}

/// Why something is not allowed in a directory at present.
pub(super) fn denied_problem(denied: &Denied, directory_id: &str) -> Problem {
    let conflict = |code| {
        let text = denied.to_string();
        let mut letters = text.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        let text: String = first.into_iter().chain(letters).chain(['.']).collect();
        Problem::new(409, code, text)
    };
    match denied {
        Denied::NoDirectory | Denied::TokenInvalid => Problem::not_found("Directory", directory_id),
        Denied::Deleting(_) => conflict("directory_deleting"),
        Denied::Paused(_) => conflict("writes_refused"),
        Denied::ManagedByHand(_) => conflict("managed_by_hand"),
        Denied::ManagedByProvider => conflict("managed_by_provider"),
    }
}
