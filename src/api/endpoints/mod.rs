//! Webhook endpoints: the wire contract's at `/webhook_endpoints`, and the same with more to see and to set
//! at `/admin/v1/webhook_endpoints`.

mod fields;
mod list;
mod secrets;
mod trial;

use serde::Deserialize;
use serde_json::{Value, json};

use super::read::field_error;
use super::{Caller, FieldError, Problem, snapshots};
use crate::clock;
use crate::events::Kind;
use crate::ids::EndpointId;
use crate::storage::tables::{endpoint_gaps, endpoints};
use crate::webhooks::endpoint::{self, Endpoint, Error, Filter, NewEndpoint, Role, Start};
use crate::webhooks::{retention, signature, snapshot};

pub use fields::Settings;
pub use list::{ListEndpoints, list, list_contract};
pub use secrets::{Promote, add_secret, end_secret, promote_secret};
pub use trial::{Test, test};

/// Begins where the log ends, with the whole state of each directory first.
const SNAPSHOT: &str = "snapshot";

/// What the wire contract says of an endpoint; what it does not know is ignored.
#[derive(Debug, Default, Deserialize)]
pub struct ContractEndpoint {
    /// Where the events go.
    pub endpoint_url: Option<String>,
    /// The event types that it takes.
    pub events: Option<Vec<String>>,
    /// Whether events are sent to it.
    pub status: Option<String>,
}

/// Makes an endpoint as the wire contract has it, which wants event types.
///
/// # Errors
/// As for [`create`].
pub async fn create_contract(caller: &Caller, request: ContractEndpoint) -> Result<Value, Problem> {
    if request.events.as_ref().is_none_or(Vec::is_empty) {
        return Err(no_events());
    }
    let settings = Settings {
        status: None,
        ..contract_settings(request)
    };
    Ok(contract_view(&make(caller, settings).await?))
}

/// Changes an endpoint as the wire contract has it.
///
/// # Errors
/// As for [`configure`].
pub async fn configure_contract(
    caller: &Caller,
    id: &str,
    request: ContractEndpoint,
) -> Result<Value, Problem> {
    if request.events.as_ref().is_some_and(Vec::is_empty) {
        return Err(no_events());
    }
    let changed = change(caller, id, contract_settings(request)).await?;
    Ok(contract_view(&changed))
}

fn contract_settings(request: ContractEndpoint) -> Settings {
    Settings {
        endpoint_url: request.endpoint_url,
        events: request.events,
        status: request.status,
        ..Settings::default()
    }
}

fn no_events() -> Problem {
    let error = field_error("events", "must name at least one event type");
    Problem::invalid(vec![error])
}

/// Makes an endpoint; the answer is the only place where its secret is shown.
///
/// # Errors
/// A field is invalid, or the URL is taken.
pub async fn create(caller: &Caller, request: Settings) -> Result<Value, Problem> {
    let made = make(caller, request).await?;
    let mut view = view(caller, &made);
    if let Some(fields) = view.as_object_mut() {
        fields.insert("secret".to_owned(), json!(made.keys.current.expose()));
    }
    Ok(view)
}

async fn make(caller: &Caller, request: Settings) -> Result<Endpoint, Problem> {
    if request.status.is_some() {
        let code = "cannot be given when an endpoint is made; it starts out enabled";
        return Err(Problem::invalid(vec![field_error("status", code)]));
    }
    let start = match request.start_at.as_deref() {
        None | Some("now" | SNAPSHOT) => Start::Now,
        Some("beginning") => Start::Beginning,
        Some(_) => {
            let error = field_error("start_at", "must be now, beginning or snapshot");
            return Err(Problem::invalid(vec![error]));
        }
    };
    let wants_snapshots = request.start_at.as_deref() == Some(SNAPSHOT);
    let mut settings = fields::check(caller, request).await?;
    let Some(url) = settings.url.take() else {
        let error = field_error("endpoint_url", "must be given");
        return Err(Problem::invalid(vec![error]));
    };
    let endpoint = NewEndpoint {
        url,
        settings,
        start,
    };
    let context = &caller.context;
    let made = endpoint::create(&context.store, caller.actor, &context.master_key, endpoint)
        .await
        .map_err(|error| problem(error, ""))?;
    if wants_snapshots {
        snapshot::of_everything(&context.store, caller.actor, made.row.id)
            .await
            .map_err(snapshots::problem)?;
    }
    Ok(made)
}

/// Shows an endpoint, and how many events it has not received yet.
///
/// # Errors
/// There is none with this id.
pub async fn show(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let found = find(caller, id).await?;
    let undelivered = endpoint::undelivered(&caller.context.store, &found.row).await?;
    let gaps = retention::gaps(caller.context.store.reader(), found.row.id).await?;
    let mut view = view(caller, &found);
    if let Some(fields) = view.as_object_mut() {
        fields.insert("gaps".to_owned(), gaps.iter().map(gap).collect());
        fields.insert("undelivered".to_owned(), json!(undelivered));
    }
    Ok(view)
}

/// Changes those settings of an endpoint that the request names.
///
/// # Errors
/// There is none with this id, a field is invalid, or the URL is taken.
pub async fn configure(caller: &Caller, id: &str, request: Settings) -> Result<Value, Problem> {
    let changed = change(caller, id, request).await?;
    Ok(view(caller, &changed))
}

async fn change(caller: &Caller, id: &str, request: Settings) -> Result<Endpoint, Problem> {
    let parsed = find(caller, id).await?.row.id;
    if request.start_at.is_some() {
        let code = "can only be given when an endpoint is made";
        return Err(Problem::invalid(vec![field_error("start_at", code)]));
    }
    let is_enabled = match request.status.as_deref() {
        None => None,
        Some("enabled") => Some(true),
        Some("disabled") => Some(false),
        Some(_) => {
            let error = field_error("status", "must be enabled or disabled");
            return Err(Problem::invalid(vec![error]));
        }
    };
    let changes = fields::check(caller, request).await?;
    let (store, master_key) = (&caller.context.store, &caller.context.master_key);
    endpoint::configure(store, caller.actor, master_key, parsed, changes)
        .await
        .map_err(|error| problem(error, id))?;
    match is_enabled {
        None => {}
        Some(true) => drop(endpoint::enable(store, caller.actor, parsed).await?),
        Some(false) => {
            let because = format!("by {}", caller.described);
            endpoint::disable(store, caller.actor, parsed, &because).await?;
        }
    }
    find(caller, id).await
}

/// Deletes an endpoint: nothing is sent to it any more.
///
/// # Errors
/// There is none with this id.
pub async fn delete(caller: &Caller, id: &str) -> Result<(), Problem> {
    let parsed = parse(id)?;
    if endpoint::delete(&caller.context.store, caller.actor, parsed).await? {
        Ok(())
    } else {
        Err(missing(id))
    }
}

fn missing(id: &str) -> Problem {
    Problem::not_found("Webhook endpoint", id)
}

pub(super) fn parse(id: &str) -> Result<EndpointId, Problem> {
    EndpointId::parse(id).ok_or_else(|| missing(id))
}

/// Finds the endpoint that a URL names.
async fn find(caller: &Caller, id: &str) -> Result<Endpoint, Problem> {
    let row = endpoint::find(caller.context.store.reader(), parse(id)?).await?;
    open(caller, row.ok_or_else(|| missing(id))?)
}

fn open(caller: &Caller, row: endpoints::Model) -> Result<Endpoint, Problem> {
    endpoint::open(&caller.context.master_key, row).map_err(|error| problem(error, ""))
}

fn problem(error: Error, id: &str) -> Problem {
    match error {
        Error::NotFound => missing(id),
        Error::Duplicate => Problem::new(409, "duplicate_endpoint", error.to_string()),
        Error::TooManyFilters => Problem::new(409, "too_many_filter_changes", error.to_string()),
        Error::SecondSecret(_) => Problem::new(409, "second_secret_exists", error.to_string()),
        Error::NoSecret(_) => Problem::new(409, "no_such_secret", error.to_string()),
        Error::Secret(_) => Problem::internal(&error),
        Error::Storage(error) => error.into(),
    }
}

/// The event types that an endpoint takes.
fn events_of(filter: &Filter) -> Vec<String> {
    if filter.events.is_empty() {
        let all = Kind::SEQUENCED.map(|kind| kind.as_str().to_owned());
        return all.to_vec();
    }
    filter.events.clone()
}

/// As the wire contract has it, with the secret.
fn contract_view(endpoint: &Endpoint) -> Value {
    let row = &endpoint.row;
    json!({
        "object": "webhook_endpoint",
        "id": row.id,
        "endpoint_url": row.url,
        "secret": endpoint.keys.current.expose(),
        "status": row.status,
        "events": events_of(&Filter::of(row)),
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
    })
}

fn view(caller: &Caller, endpoint: &Endpoint) -> Value {
    let row = &endpoint.row;
    let filter = Filter::of(row);
    let second = Role::of(row, caller.context.clock.now_ms());
    let ends_at = second.and(row.second_secret_expires_at);
    let signer = endpoint.keys.signer.as_ref();
    json!({
        "object": "webhook_endpoint",
        "id": row.id,
        "endpoint_url": row.url,
        "description": row.description,
        "status": row.status,
        "disabled_at": row.disabled_at.map(clock::text),
        "disabled_because": row.disabled_because,
        "held_at": row.held_at.map(clock::text),
        "events": events_of(&filter),
        "organizations": filter.organizations,
        "directories": filter.directories,
        "ordering": row.ordering,
        "max_in_flight": row.max_in_flight,
        "rate_per_second": row.rate_per_second,
        "timeout": format!("{}s", row.timeout_ms / 1_000),
        "headers": endpoint.headers.names(),
        "second_secret": second.map(|role| {
            json!({"role": role.as_str(), "expires_at": ends_at.map(clock::text)})
        }),
        "public_key": signer.map(signature::public_key),
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
    })
}

/// The event types that are named, if all of them are known.
fn check_events(named: &[String], errors: &mut Vec<FieldError>) {
    let unknown = named.iter().filter(|name| Kind::parse(name).is_none());
    errors.extend(unknown.map(|_| field_error("events", "unknown_event_type")));
}

/// Events that the endpoint never got because they were too old.
fn gap(row: &endpoint_gaps::Model) -> Value {
    json!({
        "shard": row.shard,
        "after_position": row.after_position,
        "up_to_position": row.up_to_position,
        "events": row.events,
        "noticed_at": clock::text(row.noticed_at),
    })
}
