//! The audit trail at `/admin/v1/audit_entries`.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::read::field_error;
use super::{Caller, FieldError, Problem};
use crate::audit::search::{self, Listed, Search};
use crate::clock;
use crate::ids::{AuditEntryId, DirectoryId, OrganizationId};

const LIMIT: u32 = 10;
const LIMIT_MAX: u32 = 100;

/// What `GET /admin/v1/audit_entries` takes. A name that it does not know is refused, since a slip would
/// otherwise show everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListEntries {
    /// Those of this organization.
    pub organization_id: Option<String>,
    /// Those of this directory.
    pub directory_id: Option<String>,
    /// What this one did: the id of a token or an API key, `command` or `system`.
    pub actor: Option<String>,
    /// What was done, such as `token.created`.
    pub action: Option<String>,
    /// Not before (RFC 3339).
    pub since: Option<DateTime<Utc>>,
    /// Before (RFC 3339).
    pub until: Option<DateTime<Utc>>,
    /// Those that come after this entry of the page before.
    pub after: Option<String>,
    /// How many: 1 to 100.
    pub limit: Option<u32>,
}

/// Shows entries, newest first.
///
/// # Errors
/// A parameter is invalid.
pub async fn list(caller: &Caller, request: ListEntries) -> Result<Value, Problem> {
    let store = &caller.context.store;
    let limit = request.limit.unwrap_or(LIMIT);
    let search = read(request, limit)?;
    if let Some(after) = search.after
        && !search::exists(store, after).await?
    {
        let missing = field_error("after", "must be an entry that is still there");
        return Err(Problem::invalid(vec![missing]));
    }
    // One more tells whether there are more.
    let mut found = search::search(store, &search, limit + 1).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > shown;
    found.truncate(shown);
    let after = found.last().filter(|_| has_more).map(|last| last.entry.id);
    let data: Vec<Value> = found.iter().map(view).collect();
    Ok(json!({
        "object": "list",
        "data": data,
        "list_metadata": {"before": null, "after": after},
    }))
}

fn read(request: ListEntries, limit: u32) -> Result<Search, Problem> {
    let mut errors = Vec::new();
    if !(1..=LIMIT_MAX).contains(&limit) {
        errors.push(field_error("limit", "must be 1 to 100"));
    }
    let search = Search {
        organization_id: read_id(
            "organization_id",
            request.organization_id.as_deref(),
            OrganizationId::parse,
            &mut errors,
        ),
        directory_id: read_id(
            "directory_id",
            request.directory_id.as_deref(),
            DirectoryId::parse,
            &mut errors,
        ),
        actor: read_text("actor", request.actor, &mut errors),
        action: read_text("action", request.action, &mut errors),
        since: request.since,
        until: request.until,
        after: read_id(
            "after",
            request.after.as_deref(),
            AuditEntryId::parse,
            &mut errors,
        ),
    };
    if errors.is_empty() {
        Ok(search)
    } else {
        Err(Problem::invalid(errors))
    }
}

/// Text that a database can compare with.
fn read_text(field: &str, text: Option<String>, errors: &mut Vec<FieldError>) -> Option<String> {
    let text = text?;
    if text.contains('\0') {
        errors.push(field_error(field, "must not contain control characters"));
    }
    Some(text)
}

fn read_id<T>(
    field: &str,
    text: Option<&str>,
    parse: fn(&str) -> Option<T>,
    errors: &mut Vec<FieldError>,
) -> Option<T> {
    let id = parse(text?);
    if id.is_none() {
        errors.push(field_error(field, "must be an id"));
    }
    id
}

fn view(listed: &Listed) -> Value {
    let entry = &listed.entry;
    let details: Value = serde_json::from_str(&entry.details).unwrap_or_default();
    json!({
        "object": "audit_entry",
        "id": entry.id,
        "number": listed.number,
        "organization_id": entry.organization_id,
        "directory_id": entry.directory_id,
        "actor": entry.actor,
        "request_id": entry.request_id,
        "action": entry.action,
        "subject": entry.subject,
        "details": details,
        "created_at": clock::text(entry.created_at),
    })
}
