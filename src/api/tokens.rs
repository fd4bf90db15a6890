//! SCIM tokens at `/admin/v1/directories/{id}/tokens`.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::directories::find as find_directory;
use super::read::{check_name, field_error};
use super::{Caller, FieldError, Problem};
use crate::clock;
use crate::config::Span;
use crate::directories::token::{self, Draft, Error, NewToken};
use crate::directories::{Denied, directory};
use crate::ids::ScimTokenId;
use crate::storage::tables::{directory_activity, scim_tokens};

/// How long a token goes on after it was rotated, unless the request says otherwise.
const OVERLAP: &str = "24h";
/// How long at most; a token that ends sooner than that is shown as `expiring`.
const OVERLAP_MAX: TimeDelta = TimeDelta::days(30);

/// What `POST …/tokens` takes.
#[derive(Debug, Default, Deserialize)]
pub struct CreateToken {
    /// What the token is for, for people.
    #[serde(default)]
    pub label: Option<String>,
    /// When it ends (RFC 3339); without it, never.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// The token that ends when this one is made.
    #[serde(default)]
    pub replace: Option<String>,
}

/// What `POST …/tokens/{token}/rotate` takes.
#[derive(Debug, Default, Deserialize)]
pub struct RotateToken {
    /// What the new token is made from.
    #[serde(flatten)]
    pub token: CreateToken,
    /// How long the old one goes on: a number with s, m, h or d, or `0`.
    #[serde(default)]
    pub overlap: Option<String>,
}

/// Makes a token; the answer is the only place where it is shown.
///
/// # Errors
/// A field is invalid, there is no such directory or no such token to replace, or the directory has as
/// many tokens as it may have.
pub async fn create(
    caller: &Caller,
    directory_id: &str,
    request: CreateToken,
) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    let draft = check(caller, request, &mut errors)?;
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let directory = find_directory(caller, directory_id).await?;
    let made = token::create(&caller.context.store, caller.actor, directory.id, draft)
        .await
        .map_err(|error| problem(error, directory_id))?;
    Ok(new_view(caller, &made))
}

/// Makes a token that takes over from another one, which goes on for a while.
///
/// # Errors
/// As for [`create`]; or there is no such token, or it has ended.
pub async fn rotate(
    caller: &Caller,
    directory_id: &str,
    id: &str,
    request: RotateToken,
) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    let overlap = request.overlap.as_deref().unwrap_or(OVERLAP);
    let overlap = Span::parse(overlap)
        .map(Span::delta)
        .filter(|overlap| *overlap <= OVERLAP_MAX);
    let draft = check(caller, request.token, &mut errors)?;
    if overlap.is_none() {
        let code = "must be a number with s, m, h or d, at most 30d, or 0 to end the token at once";
        errors.push(field_error("overlap", code));
    }
    let (Some(overlap), true) = (overlap, errors.is_empty()) else {
        return Err(Problem::invalid(errors));
    };
    let directory = find_directory(caller, directory_id).await?;
    let store = &caller.context.store;
    let made = token::rotate(
        store,
        caller.actor,
        directory.id,
        parse(id)?,
        overlap,
        draft,
    )
    .await
    .map_err(|error| problem(error, directory_id))?;
    let mut view = new_view(caller, &made);
    if let (Some(fields), Some(replaced)) = (view.as_object_mut(), &made.replaces) {
        let replaces = json!({
            "id": replaced.id,
            "token_suffix": replaced.suffix,
            "expires_at": replaced.expires_at.map(clock::text),
        });
        fields.insert("replaces".to_owned(), replaces);
    }
    Ok(view)
}

fn check(
    caller: &Caller,
    request: CreateToken,
    errors: &mut Vec<FieldError>,
) -> Result<Draft, Problem> {
    if let Some(label) = &request.label {
        check_name("label", label, errors);
    }
    let now = caller.context.clock.now();
    if request.expires_at.is_some_and(|at| at <= now) {
        errors.push(field_error("expires_at", "must be in the future"));
    }
    Ok(Draft {
        label: request.label,
        expires_at: request.expires_at,
        replace: request.replace.as_deref().map(parse).transpose()?,
        active_max: caller.context.directories.tokens_max,
    })
}

fn parse(id: &str) -> Result<ScimTokenId, Problem> {
    ScimTokenId::parse(id).ok_or_else(|| Problem::not_found("Token", id))
}

/// Shows the tokens of a directory, oldest first.
///
/// # Errors
/// There is no such directory.
pub async fn list(caller: &Caller, directory_id: &str) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let connection = caller.context.store.reader();
    let rows = token::list(connection, directory.id).await?;
    let heard = directory::activity(connection, directory.id).await?;
    let data: Vec<Value> = rows
        .iter()
        .map(|row| view(caller, row, heard.as_ref()))
        .collect();
    Ok(json!({
        "object": "list",
        "data": data,
        "list_metadata": {"before": null, "after": null},
    }))
}

/// Shows a token.
///
/// # Errors
/// There is no such directory or token.
pub async fn show(caller: &Caller, directory_id: &str, id: &str) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let connection = caller.context.store.reader();
    let found = token::find(connection, directory.id, parse(id)?).await?;
    let found = found.ok_or_else(|| Problem::not_found("Token", id))?;
    let heard = directory::activity(connection, directory.id).await?;
    Ok(view(caller, &found, heard.as_ref()))
}

/// Revokes a token: from the next request on it opens nothing.
///
/// # Errors
/// There is no such directory or token.
pub async fn revoke(caller: &Caller, directory_id: &str, id: &str) -> Result<(), Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let store = &caller.context.store;
    token::revoke(store, caller.actor, directory.id, parse(id)?)
        .await
        .map_err(|error| problem(error, directory_id))
}

fn problem(error: Error, directory_id: &str) -> Problem {
    match error {
        Error::Denied(denied @ Denied::Deleting(_)) => {
            Problem::new(409, "deletion_scheduled", denied.to_string())
        }
        Error::Denied(_) => Problem::not_found("Directory", directory_id),
        Error::NotFound(id) => Problem::not_found("Token", &id.to_string()),
        Error::Ended(_) => Problem::new(409, "token_ended", error.to_string()),
        Error::TooMany(ref active) => {
            let candidate =
                |token: &scim_tokens::Model| field_error("replace", token.id.to_string());
            let candidates = active.iter().map(candidate).collect();
            Problem::new(409, "too_many_tokens", error.to_string()).with_errors(candidates)
        }
        Error::Storage(error) => error.into(),
    }
}

/// A token that was made just now, with the token itself.
fn new_view(caller: &Caller, made: &NewToken) -> Value {
    let mut view = view(caller, &made.row, None);
    if let Some(fields) = view.as_object_mut() {
        fields.insert("token".to_owned(), json!(made.token.expose()));
    }
    view
}

/// A token; `heard` says with which one its directory's provider was heard last.
fn view(
    caller: &Caller,
    row: &scim_tokens::Model,
    heard: Option<&directory_activity::Model>,
) -> Value {
    let last = heard.filter(|heard| heard.last_token_id == Some(row.id));
    // A token's own time is written at most once a minute, the directory's always.
    let last_used_at = last.map(|heard| heard.last_request_at);
    json!({
        "object": "directory_token",
        "id": row.id,
        "directory_id": row.directory_id,
        "label": row.label,
        "token_suffix": row.suffix,
        "state": state(row, caller.context.clock.now()),
        "is_last_used": last.is_some(),
        "created_by": row.created_by,
        "created_at": clock::text(row.created_at),
        "last_used_at": last_used_at.max(row.last_used_at).map(clock::text),
        "expires_at": row.expires_at.map(clock::text),
        "revoked_at": row.revoked_at.map(clock::text),
    })
}

/// Where a token is in its life.
fn state(row: &scim_tokens::Model, now: DateTime<Utc>) -> &'static str {
    if row.revoked_at.is_some() {
        return "revoked";
    }
    match row.expires_at {
        Some(at) if at <= now => "expired",
        Some(at) if at - now <= OVERLAP_MAX => "expiring",
        Some(_) | None => "active",
    }
}
