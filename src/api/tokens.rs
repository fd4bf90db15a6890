//! SCIM tokens at `/admin/v1/directories/{id}/tokens`.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::directories::find as find_directory;
use super::read::{check_name, field_error};
use super::{Caller, Problem};
use crate::clock;
use crate::directories::Denied;
use crate::directories::token::{self, Error};
use crate::ids::ScimTokenId;
use crate::storage::tables::scim_tokens;

/// What `POST …/tokens` takes.
#[derive(Debug, Default, Deserialize)]
pub struct CreateToken {
    /// What the token is for, for people.
    #[serde(default)]
    pub label: Option<String>,
    /// When it ends (RFC 3339); without it, never.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes a token; the answer is the only place where it is shown.
///
/// # Errors
/// A field is invalid, or there is no such directory.
pub async fn create(
    caller: &Caller,
    directory_id: &str,
    request: CreateToken,
) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    if let Some(label) = &request.label {
        check_name("label", label, &mut errors);
    }
    if request
        .expires_at
        .is_some_and(|at| at <= caller.context.clock.now())
    {
        errors.push(field_error("expires_at", "must be in the future"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let directory = find_directory(caller, directory_id).await?;
    let made = token::create(
        &caller.context.store,
        caller.actor,
        directory.id,
        request.label,
        request.expires_at,
    )
    .await
    .map_err(|error| problem(error, directory_id))?;
    let mut view = view(&made.row);
    if let Some(fields) = view.as_object_mut() {
        fields.insert("token".to_owned(), json!(made.token.expose()));
    }
    Ok(view)
}

/// Shows the tokens of a directory, oldest first.
///
/// # Errors
/// There is no such directory.
pub async fn list(caller: &Caller, directory_id: &str) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let rows = token::list(caller.context.store.reader(), directory.id).await?;
    let data: Vec<Value> = rows.iter().map(view).collect();
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
    let missing = || Problem::not_found("Token", id);
    let parsed = ScimTokenId::parse(id).ok_or_else(missing)?;
    let found = token::find(caller.context.store.reader(), directory.id, parsed).await?;
    Ok(view(&found.ok_or_else(missing)?))
}

/// Revokes a token: from the next request on it opens nothing.
///
/// # Errors
/// There is no such directory or token.
pub async fn revoke(caller: &Caller, directory_id: &str, id: &str) -> Result<(), Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let parsed = ScimTokenId::parse(id).ok_or_else(|| Problem::not_found("Token", id))?;
    token::revoke(&caller.context.store, caller.actor, directory.id, parsed)
        .await
        .map(drop)
        .map_err(|error| problem(error, id))
}

fn problem(error: Error, id: &str) -> Problem {
    match error {
        Error::Denied(denied @ Denied::Deleting(_)) => {
            Problem::new(409, "deletion_scheduled", denied.to_string())
        }
        Error::Denied(_) => Problem::not_found("Directory", id),
        Error::NotFound => Problem::not_found("Token", id),
        Error::Storage(error) => error.into(),
    }
}

fn view(row: &scim_tokens::Model) -> Value {
    json!({
        "object": "directory_token",
        "id": row.id,
        "directory_id": row.directory_id,
        "label": row.label,
        "token_suffix": row.suffix,
        "created_at": clock::text(row.created_at),
        "last_used_at": row.last_used_at.map(clock::text),
        "expires_at": row.expires_at.map(clock::text),
        "revoked_at": row.revoked_at.map(clock::text),
    })
}
