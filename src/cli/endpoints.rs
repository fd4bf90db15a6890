//! `rollcall endpoint`: what can be said of webhook endpoints on the command line, and what it does.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::administer::{Method, Request, read};
use super::arguments::Where;
use crate::api::{self, Caller, Problem, endpoints};

const ENDPOINTS: &str = "/admin/v1/webhook_endpoints";

#[derive(Debug, Subcommand)]
pub(super) enum EndpointVerb {
    /// Show webhook endpoints, oldest first
    List {
        /// Those that follow this one
        #[arg(long, value_name = "ENDPOINT_ID")]
        after: Option<String>,
        /// How many: 1 to 100
        #[arg(long, default_value_t = 10)]
        limit: u32,
        #[command(flatten)]
        place: Where,
    },
    /// Show a webhook endpoint, and how many events it has yet to receive
    Show(Named),
    /// Show how much has not arrived at an endpoint, and how far it is behind
    Backlog(Named),
    /// Make a webhook endpoint; its secret is shown once
    Create {
        /// Where the webhooks go (https, except towards networks in `webhooks.allow_networks`)
        #[arg(long = "endpoint-url", value_name = "URL")]
        endpoint_url: String,
        /// Where in the log it begins: now, beginning, or now with a snapshot of each directory first
        #[arg(long, value_name = "WHERE")]
        start_at: Option<String>,
        #[command(flatten)]
        settings: Box<EndpointSettings>,
        #[command(flatten)]
        place: Where,
    },
    /// Change the settings that are given
    Set {
        /// The endpoint
        #[arg(value_name = "ENDPOINT_ID")]
        id: String,
        /// Where the webhooks go
        #[arg(long = "endpoint-url", value_name = "URL")]
        endpoint_url: Option<String>,
        #[command(flatten)]
        settings: Box<EndpointSettings>,
        #[command(flatten)]
        place: Where,
    },
    /// Delete a webhook endpoint
    Delete(Named),
    /// Send to an endpoint again, from where it stopped
    Enable(Named),
    /// Send nothing more to an endpoint until it is enabled
    Disable(Named),
    /// Let an endpoint's webhooks wait
    Hold(Named),
    /// Send what waits, in order
    Release(Named),
    /// Send an event that never happened, and show what came of it
    Test {
        /// The endpoint
        #[arg(value_name = "ENDPOINT_ID")]
        id: String,
        /// The event type; without it, dsync.user.created
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// Secrets, to be rotated without losing an event
    #[command(subcommand)]
    Secret(SecretVerb),
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretVerb {
    /// Make the next secret, with which webhooks are signed too from now on; it is shown once
    New(Named),
    /// Make the next secret the current one
    Promote {
        /// The endpoint
        #[arg(value_name = "ENDPOINT_ID")]
        id: String,
        /// How long the former one goes on: a number with s, m, h or d, at most 30d, or 0
        #[arg(long, value_name = "TIME", default_value = "24h")]
        overlap: String,
        #[command(flatten)]
        place: Where,
    },
    /// End the next or the previous secret
    End {
        /// The endpoint
        #[arg(value_name = "ENDPOINT_ID")]
        id: String,
        /// Which: next or previous
        role: String,
        #[command(flatten)]
        place: Where,
    },
}

/// One endpoint.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The endpoint
    #[arg(value_name = "ENDPOINT_ID")]
    id: String,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct EndpointSettings {
    /// What it is for; empty for nothing
    #[arg(long)]
    description: Option<String>,
    /// An event type to send; may be given several times; "all" for all but dsync.token.*
    #[arg(long, value_name = "TYPE")]
    event: Vec<String>,
    /// An organization whose events are sent; may be given several times; "all" for all
    #[arg(long, value_name = "ORG_ID")]
    organization: Vec<String>,
    /// A directory whose events are sent; may be given several times; "all" for all
    #[arg(long, value_name = "DIRECTORY_ID")]
    directory: Vec<String>,
    /// What is kept in order: causal, strict or none
    #[arg(long)]
    ordering: Option<String>,
    /// How many requests may be on their way at once: 1 to 256
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u32>,
    /// How many requests may be sent a second: 1 to 10000; 0 for as many as it takes
    #[arg(long, value_name = "N")]
    rate_per_second: Option<u32>,
    /// How long one request may take: 1s to 20s
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// A header to send, as "Name: value"; may be given several times, and replaces all; "none" for none
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// Whether to sign with a key of its own as well, which receivers check without a secret
    #[arg(long, value_name = "BOOL")]
    ed25519: Option<bool>,
}

impl EndpointSettings {
    fn into_body(self, endpoint_url: Option<String>) -> Map<String, Value> {
        let emptied = |list: Vec<String>| {
            let names = list.into_iter().filter(|name| name != "all");
            json!(names.collect::<Vec<String>>())
        };
        let given = |list: Vec<String>| (!list.is_empty()).then(|| emptied(list));
        let text = |text: String| {
            if text.is_empty() {
                Value::Null
            } else {
                json!(text)
            }
        };
        let rate = |number: u32| {
            if number == 0 {
                Value::Null
            } else {
                json!(number)
            }
        };
        [
            ("endpoint_url", endpoint_url.map(Value::from)),
            ("description", self.description.map(text)),
            ("events", given(self.event)),
            ("organizations", given(self.organization)),
            ("directories", given(self.directory)),
            ("ordering", self.ordering.map(Value::from)),
            ("max_in_flight", self.max_in_flight.map(Value::from)),
            ("rate_per_second", self.rate_per_second.map(rate)),
            ("timeout", self.timeout.map(Value::from)),
            ("headers", headers(&self.header)),
            ("ed25519", self.ed25519.map(Value::from)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

fn headers(given: &[String]) -> Option<Value> {
    let named = given.iter().filter(|text| *text != "none").map(|text| {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        (name.trim().to_owned(), Value::from(value.trim()))
    });
    (!given.is_empty()).then(|| Value::Object(named.collect()))
}

impl EndpointVerb {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::List {
                after,
                limit,
                place,
            } => {
                let mut query = Map::from_iter([("limit".to_owned(), Value::from(limit))]);
                query.extend(after.map(|id| ("after".to_owned(), Value::from(id))));
                Request::search(ENDPOINTS, &Value::Object(query), place)
            }
            Self::Show(Named { id, place }) => Request::get(&at(&id), place),
            Self::Backlog(Named { id, place }) => {
                Request::get(&format!("{}/backlog", at(&id)), place)
            }
            Self::Create {
                endpoint_url,
                start_at,
                settings,
                place,
            } => {
                let mut body = settings.into_body(Some(endpoint_url));
                body.extend(start_at.map(|start| ("start_at".to_owned(), Value::from(start))));
                Request::new(ENDPOINTS, Value::Object(body), place)
            }
            Self::Set {
                id,
                endpoint_url,
                settings,
                place,
            } => {
                let body = settings.into_body(endpoint_url);
                Request::patch(&at(&id), Value::Object(body), place)
            }
            Self::Delete(Named { id, place }) => Request::delete(&at(&id), place),
            Self::Enable(named) => named.set(json!({"status": "enabled"})),
            Self::Disable(named) => named.set(json!({"status": "disabled"})),
            Self::Hold(named) => named.set(json!({"held": true})),
            Self::Release(named) => named.set(json!({"held": false})),
            Self::Test { id, kind, place } => {
                let body = kind.map_or_else(|| json!({}), |kind| json!({"type": kind}));
                Request::new(&format!("{}/test", at(&id)), body, place)
            }
            Self::Secret(verb) => verb.into_request(),
        }
    }
}

impl Named {
    fn set(self, settings: Value) -> Request {
        Request::patch(&at(&self.id), settings, self.place)
    }
}

impl SecretVerb {
    fn into_request(self) -> Request {
        let secrets = |id: &str| format!("{}/secrets", at(id));
        match self {
            Self::New(Named { id, place }) => Request::new(&secrets(&id), json!({}), place),
            Self::Promote { id, overlap, place } => {
                let path = format!("{}/promote", secrets(&id));
                Request::new(&path, json!({"overlap": overlap}), place)
            }
            Self::End { id, role, place } => {
                Request::delete(&format!("{}/{role}", secrets(&id)), place)
            }
        }
    }
}

fn at(id: &str) -> String {
    format!("{ENDPOINTS}/{id}")
}

/// The operation behind a method and what follows `/admin/v1/webhook_endpoints` in a path.
pub(super) async fn operate(
    caller: &Caller,
    method: Method,
    rest: &[&str],
    query: &str,
    body: Value,
) -> Result<Value, Problem> {
    match (method, rest) {
        (Method::Get, []) => endpoints::list(caller, api::query(query)?).await,
        (Method::Post, []) => endpoints::create(caller, read(body)?).await,
        (Method::Get, [id]) => endpoints::show(caller, id).await,
        (Method::Patch, [id]) => endpoints::configure(caller, id, read(body)?).await,
        (Method::Delete, [id]) => endpoints::delete(caller, id).await.map(|()| json!({})),
        (Method::Post, [id, "test"]) => endpoints::test(caller, id, &read(body)?).await,
        (Method::Post, [id, "secrets"]) => endpoints::add_secret(caller, id).await,
        (Method::Post, [id, "secrets", "promote"]) => {
            endpoints::promote_secret(caller, id, &read(body)?).await
        }
        (Method::Delete, [id, "secrets", role]) => endpoints::end_secret(caller, id, role)
            .await
            .map(|()| json!({})),
        _ => Err(Problem::not_found("Operation", &rest.join("/"))),
    }
}
