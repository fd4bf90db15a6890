//! The guard against mass deprovisioning, at `/admin/v1/directories/{id}/guard`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::directories::find;
use super::read::field_error;
use super::{Caller, FieldError, Problem};
use crate::clock;
use crate::config::Span;
use crate::directories::Denied;
use crate::directories::gate::SettingError;
use crate::directories::guard::{self, Action, Guard, Settings};
use crate::storage::tables::directories;

/// What `PATCH …/guard` takes; what is not named stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetGuard {
    /// More than so many percent of the active people: 0 to 99.
    pub percent: Option<i64>,
    /// At least so many people: 1 or more.
    pub people: Option<i64>,
    /// Within this time, such as `1h`: up to 30 days.
    pub within: Option<String>,
    /// `tell` or `hold`.
    pub action: Option<String>,
}

/// Shows the guard of a directory.
///
/// # Errors
/// There is no such directory.
pub async fn show(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let directory = find(caller, id).await?;
    Ok(view(&directory))
}

/// Sets the guard of a directory.
///
/// # Errors
/// A field is invalid, there is no such directory, or it is going to be deleted.
pub async fn set(caller: &Caller, id: &str, request: SetGuard) -> Result<Value, Problem> {
    let directory = find(caller, id).await?;
    let mut settings = Guard::of(&directory).settings;
    let errors = read(request, &mut settings);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let (store, actor) = (&caller.context.store, caller.actor);
    let row = guard::set(store, actor, directory.id, settings).await;
    Ok(view(&row.map_err(|error| problem(error, id))?))
}

/// Lets the deliveries go out that the guard holds.
///
/// # Errors
/// There is no such directory, or it is going to be deleted.
pub async fn release(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let directory = find(caller, id).await?;
    let row = guard::release(&caller.context.store, caller.actor, directory.id).await;
    Ok(view(&row.map_err(|error| problem(error, id))?))
}

fn read(request: SetGuard, settings: &mut Settings) -> Vec<FieldError> {
    const WITHIN_MAX: i64 = 30 * 86_400;
    const PEOPLE_MAX: i64 = 1_000_000_000;
    let mut errors = Vec::new();
    if let Some(percent) = request.percent {
        if (0..=99).contains(&percent) {
            settings.percent = percent;
        } else {
            errors.push(field_error("percent", "must be 0 to 99"));
        }
    }
    if let Some(people) = request.people {
        if (1..=PEOPLE_MAX).contains(&people) {
            settings.people = people;
        } else {
            errors.push(field_error("people", format!("must be 1 to {PEOPLE_MAX}")));
        }
    }
    if let Some(within) = request.within {
        let seconds = Span::parse(&within).map(|span| span.delta().num_seconds());
        match seconds.filter(|seconds| (1..=WITHIN_MAX).contains(seconds)) {
            Some(seconds) => settings.within_seconds = seconds,
            None => errors.push(field_error(
                "within",
                "must be a span such as 90s, 15m, 1h or 2d, up to 30d",
            )),
        }
    }
    match request.action.as_deref() {
        None => {}
        Some("tell") => settings.action = Action::Tell,
        Some("hold") => settings.action = Action::Hold,
        Some(_) => errors.push(field_error("action", "must be tell or hold")),
    }
    errors
}

fn problem(error: SettingError, id: &str) -> Problem {
    match error {
        SettingError::Denied(denied @ Denied::Deleting(_)) => {
            Problem::new(409, "deletion_scheduled", denied.to_string())
        }
        SettingError::Denied(_) => Problem::not_found("Directory", id),
        SettingError::Storage(error) => error.into(),
    }
}

fn view(directory: &directories::Model) -> Value {
    let mut view = json!({"object": "directory_guard", "directory_id": directory.id});
    if let (Some(view), Value::Object(fields)) = (view.as_object_mut(), fields(directory)) {
        view.extend(fields);
    }
    view
}

/// What is to be seen of the guard of a directory.
pub(super) fn fields(directory: &directories::Model) -> Value {
    let Guard { settings, trip } = Guard::of(directory);
    json!({
        "percent": settings.percent,
        "people": settings.people,
        "within": span(settings.within_seconds),
        "action": settings.action,
        "tripped_at": trip.map(|trip| clock::text(trip.at)),
        "departures": trip.map(|trip| trip.departures),
        "active": trip.map(|trip| trip.active),
        "held_at": directory.guard_held_at.map(clock::text),
        "released_at": trip.and_then(|trip| trip.released_at).map(clock::text),
    })
}

/// A span in the largest unit that fits.
fn span(seconds: i64) -> String {
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let unit = units.into_iter().find(|(unit, _)| seconds % unit == 0);
    let (unit, name) = unit.unwrap_or((1, 's'));
    format!("{}{name}", seconds / unit)
}
