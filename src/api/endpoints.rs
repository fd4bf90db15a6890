//! Webhook endpoints: the wire contract's at `/webhook_endpoints`, and the same with more to see at
//! `/admin/v1/webhook_endpoints`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::read::field_error;
use super::{Caller, FieldError, Problem};
use crate::clock;
use crate::events::Kind;
use crate::ids::EndpointId;
use crate::storage::tables::endpoint_gaps;
use crate::webhooks::endpoint::{self, Endpoint, Error, NewEndpoint};
use crate::webhooks::retention;

/// What `POST` takes.
#[derive(Debug, Deserialize)]
pub struct CreateEndpoint {
    /// Where the events go.
    pub endpoint_url: String,
    /// The event types that it takes.
    #[serde(default)]
    pub events: Option<Vec<String>>,
}

/// Whether event types must be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// As the wire contract has it.
    Required,
    /// None named means those of a directory's sequence.
    Optional,
}

/// Makes an endpoint.
///
/// # Errors
/// The URL may not be called, an event type is unknown, or the URL is taken.
pub async fn create(
    caller: &Caller,
    request: CreateEndpoint,
    events: Events,
) -> Result<Value, Problem> {
    if let Err(error) = caller
        .context
        .address_policy
        .check_url(&request.endpoint_url)
    {
        return Err(Problem::new(
            422,
            "invalid_url",
            format!("endpoint_url: {error}"),
        ));
    }
    let kinds = check_events(request.events, events)?;
    let endpoint = NewEndpoint {
        url: request.endpoint_url,
        kinds,
    };
    let created = endpoint::create(
        &caller.context.store,
        caller.actor,
        &caller.context.master_key,
        endpoint,
    )
    .await
    .map_err(problem)?;
    Ok(view(&created))
}

/// Shows an endpoint, and how many events it has not received yet.
///
/// # Errors
/// There is none with this id.
pub async fn show(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let parsed = parse(id)?;
    let row = endpoint::find(caller.context.store.reader(), parsed)
        .await?
        .ok_or_else(|| Problem::not_found("Webhook endpoint", id))?;
    let undelivered = endpoint::undelivered(&caller.context.store, &row).await?;
    let gaps = retention::gaps(caller.context.store.reader(), row.id).await?;
    let opened = endpoint::open(&caller.context.master_key, row).map_err(problem)?;
    let mut view = view(&opened);
    if let Some(fields) = view.as_object_mut() {
        fields.remove("secret");
        fields.insert("undelivered".to_owned(), json!(undelivered));
        fields.insert("gaps".to_owned(), gaps.iter().map(gap).collect());
    }
    Ok(view)
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
        Err(Problem::not_found("Webhook endpoint", id))
    }
}

fn parse(id: &str) -> Result<EndpointId, Problem> {
    EndpointId::parse(id).ok_or_else(|| Problem::not_found("Webhook endpoint", id))
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Duplicate => Problem::new(409, "duplicate_endpoint", error.to_string()),
        Error::Secret(_) => Problem::internal(&error),
        Error::Storage(error) => error.into(),
    }
}

fn check_events(named: Option<Vec<String>>, events: Events) -> Result<Vec<Kind>, Problem> {
    let named = named.unwrap_or_default();
    if named.is_empty() && events == Events::Required {
        return Err(Problem::invalid(vec![field_error(
            "events",
            "must name at least one event type",
        )]));
    }
    let unknown: Vec<FieldError> = named
        .iter()
        .filter(|name| Kind::parse(name).is_none())
        .map(|_| field_error("events", "unknown_event_type"))
        .collect();
    if !unknown.is_empty() {
        return Err(Problem::invalid(unknown));
    }
    Ok(named.iter().filter_map(|name| Kind::parse(name)).collect())
}

fn view(endpoint: &Endpoint) -> Value {
    let row = &endpoint.row;
    let named = endpoint::kinds(row);
    let events = if named.is_empty() {
        Kind::SEQUENCED
            .map(|kind| kind.as_str().to_owned())
            .to_vec()
    } else {
        named
    };
    json!({
        "object": "webhook_endpoint",
        "id": row.id,
        "endpoint_url": row.url,
        "secret": endpoint.secret.expose(),
        "status": row.status,
        "events": events,
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
    })
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
