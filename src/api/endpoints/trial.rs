//! Test events, at `/admin/v1/webhook_endpoints/{id}/test`.

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::find;
use crate::api::read::field_error;
use crate::api::{Caller, Problem};
use crate::events::Kind;
use crate::outbound::{AddressPolicy, TimeLimits, WebhookClient};
use crate::webhooks::endpoint::trial;

/// What `POST …/test` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The type of the event; without it, that a user was created.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// Sends an event that never happened to an endpoint, disabled or not, and shows what came of it.
///
/// # Errors
/// There is no such endpoint, or no such event type.
pub async fn test(caller: &Caller, id: &str, request: &Test) -> Result<Value, Problem> {
    let endpoint = find(caller, id).await?;
    let named = request.kind.as_deref();
    let kind = named.map_or(Some(Kind::UserCreated), Kind::parse);
    let kind = kind.ok_or_else(|| {
        let error = field_error("type", "unknown_event_type");
        Problem::invalid(vec![error])
    })?;
    let url = Url::parse(&endpoint.row.url).map_err(|error| Problem::internal(&error))?;
    let context = &caller.context;
    let policy = AddressPolicy::clone(&context.address_policy);
    let client = WebhookClient::new(policy, TimeLimits::default(), &caller.context.name_servers)
        .map_err(|error| Problem::internal(&error))?;
    let now_ms = context.clock.now_ms();
    let tested = trial::send(
        &context.store,
        caller.actor,
        &client,
        &endpoint,
        &url,
        kind,
        now_ms,
    );
    let outcome = tested.await?;
    let failure = outcome.failure.as_ref();
    Ok(json!({
        "object": "webhook_test",
        "endpoint_id": endpoint.row.id,
        "type": kind.as_str(),
        "is_success": outcome.is_success(),
        "status": outcome.status,
        "failure": failure.map(|failure| failure.kind.as_str()),
        "message": failure.map(|failure| &failure.message),
        "duration_ms": u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        "excerpt": outcome.body_excerpt,
    }))
}
