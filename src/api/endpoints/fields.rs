//! The settings of endpoints, checked.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::Value;

use super::check_events;
use crate::api::read::field_error;
use crate::api::{Caller, FieldError, Problem, directories};
use crate::config::Span;
use crate::directories::directory::Change;
use crate::ids::OrganizationId;
use crate::tenancy::organization;
use crate::webhooks::endpoint::{Changes, Headers, Ordering};

const DESCRIPTION_CHARS_MAX: usize = 1_000;
const IN_FLIGHT_MAX: i64 = 256;
const RATE_MAX: i64 = 10_000;
const TIMEOUT_SECONDS_MAX: i64 = 20;
/// How many organizations, and how many directories, a filter may name.
const NAMED_MAX: usize = 100;

/// What `POST /admin/v1/webhook_endpoints` and `PATCH` of one take. A name that they do not know is refused,
/// since a slip would otherwise change nothing and look like a success.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the events go.
    pub endpoint_url: Option<String>,
    /// What it is for, for people.
    pub description: Change<String>,
    /// `enabled` or `disabled`.
    pub status: Option<String>,
    /// The event types that it takes; none means all but those about tokens.
    pub events: Option<Vec<String>>,
    /// The organizations whose events it takes; none means all.
    pub organizations: Option<Vec<String>>,
    /// The directories whose events it takes; none means all.
    pub directories: Option<Vec<String>>,
    /// `causal`, `strict` or `none`.
    pub ordering: Option<String>,
    /// How many requests may be on their way at once.
    pub max_in_flight: Option<i64>,
    /// How many requests may be sent a second.
    pub rate_per_second: Change<i64>,
    /// How long one request may take.
    pub timeout: Option<String>,
    /// Headers of its own, in place of those that it has.
    pub headers: Change<BTreeMap<String, Value>>,
    /// Whether its deliveries wait.
    pub held: Option<bool>,
    /// Whether its requests are signed with a key of its own besides the secret.
    pub ed25519: Option<bool>,
    /// Where in the log a new endpoint begins: `now` or `beginning`.
    pub start_at: Option<String>,
}

/// Checks the settings that are named.
///
/// # Errors
/// One is invalid, or names an organization or directory that does not exist.
pub(super) async fn check(caller: &Caller, request: Settings) -> Result<Changes, Problem> {
    if let Some(url) = &request.endpoint_url
        && let Err(error) = caller.context.address_policy.check_url(url)
    {
        let text = format!("endpoint_url: {error}");
        return Err(Problem::new(422, "invalid_url", text));
    }
    let mut errors = Vec::new();
    check_events(request.events.as_deref().unwrap_or_default(), &mut errors);
    check_organizations(caller, request.organizations.as_deref(), &mut errors).await?;
    check_directories(caller, request.directories.as_deref(), &mut errors).await?;
    if let Change::To(text) = &request.description
        && (text.chars().count() > DESCRIPTION_CHARS_MAX || text.contains('\0'))
    {
        let code = "must be at most 1,000 characters, none of them NUL";
        errors.push(field_error("description", code));
    }
    let changes = Changes {
        url: request.endpoint_url,
        description: request.description,
        ordering: ordering(request.ordering.as_deref(), &mut errors),
        max_in_flight: request.max_in_flight.and_then(|number| {
            let range = (1, IN_FLIGHT_MAX);
            whole_number("max_in_flight", number, range, &mut errors)
        }),
        rate_per_second: rate(&request.rate_per_second, &mut errors),
        timeout_ms: timeout(request.timeout.as_deref(), &mut errors),
        events: request.events.map(without_repetition),
        organizations: request.organizations.map(without_repetition),
        directories: request.directories.map(without_repetition),
        headers: headers(request.headers, &mut errors),
        held: request.held,
        ed25519: request.ed25519,
    };
    if errors.is_empty() {
        Ok(changes)
    } else {
        Err(Problem::invalid(errors))
    }
}

async fn check_organizations(
    caller: &Caller,
    ids: Option<&[String]>,
    errors: &mut Vec<FieldError>,
) -> Result<(), Problem> {
    let ids = ids.unwrap_or_default();
    if ids.len() > NAMED_MAX {
        errors.push(field_error("organizations", "must be at most 100"));
        return Ok(());
    }
    for id in ids {
        let found = match OrganizationId::parse(id) {
            Some(id) => organization::find(caller.context.store.reader(), id).await?,
            None => None,
        };
        if found.is_none() {
            let code = format!("there is no organization {id:?}");
            errors.push(field_error("organizations", code));
        }
    }
    Ok(())
}

async fn check_directories(
    caller: &Caller,
    ids: Option<&[String]>,
    errors: &mut Vec<FieldError>,
) -> Result<(), Problem> {
    let ids = ids.unwrap_or_default();
    if ids.len() > NAMED_MAX {
        errors.push(field_error("directories", "must be at most 100"));
        return Ok(());
    }
    for id in ids {
        match directories::find(caller, id).await {
            Ok(_) => {}
            Err(problem) if problem.status() == 404 => {
                let code = format!("there is no directory {id:?}");
                errors.push(field_error("directories", code));
            }
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

fn ordering(text: Option<&str>, errors: &mut Vec<FieldError>) -> Option<Ordering> {
    let ordering = Ordering::parse(text?);
    if ordering.is_none() {
        errors.push(field_error("ordering", "must be causal, strict or none"));
    }
    ordering
}

fn whole_number(
    field: &str,
    number: i64,
    (least, most): (i64, i64),
    errors: &mut Vec<FieldError>,
) -> Option<i32> {
    let number = i32::try_from(number)
        .ok()
        .filter(|_| (least..=most).contains(&number));
    if number.is_none() {
        errors.push(field_error(field, format!("must be {least} to {most}")));
    }
    number
}

fn rate(change: &Change<i64>, errors: &mut Vec<FieldError>) -> Change<i32> {
    match change {
        Change::Keep => Change::Keep,
        Change::Clear => Change::Clear,
        Change::To(number) => whole_number("rate_per_second", *number, (1, RATE_MAX), errors)
            .map_or(Change::Keep, Change::To),
    }
}

fn timeout(text: Option<&str>, errors: &mut Vec<FieldError>) -> Option<i32> {
    let span = Span::parse(text?).map(Span::delta);
    let range = TimeDelta::seconds(1)..=TimeDelta::seconds(TIMEOUT_SECONDS_MAX);
    let span = span.filter(|span| range.contains(span));
    if span.is_none() {
        errors.push(field_error("timeout", "must be 1s to 20s"));
    }
    span.and_then(|span| i32::try_from(span.num_milliseconds()).ok())
}

fn headers(
    change: Change<BTreeMap<String, Value>>,
    errors: &mut Vec<FieldError>,
) -> Option<Headers> {
    let given = match change {
        Change::Keep => return None,
        Change::Clear => return Some(Headers::default()),
        Change::To(given) => given,
    };
    let count = given.len();
    let texts: Vec<(String, String)> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
        .collect();
    let read = if texts.len() == count {
        Headers::new(texts)
    } else {
        Err("must be texts".to_owned())
    };
    match read {
        Ok(headers) => Some(headers),
        Err(code) => {
            errors.push(field_error("headers", code));
            None
        }
    }
}

fn without_repetition(names: Vec<String>) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    once
}
