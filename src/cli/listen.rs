//! `rollcall listen`: events from now on, brought to a developer's machine as webhooks.
//!
//! It reads the log by the API, here or at a server, and sends on what it finds, one after the other. A
//! local app that is down misses what is sent meanwhile, and nothing else comes of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::administer::{self, Request};
use super::arguments::Where;
use super::print_line;
use crate::clock::{self, Clock as _, SystemClock};
use crate::ids::{DirectoryId, EventId};
use crate::outbound::{ApiClient, ApiError};
use crate::secrets::WebhookSecret;
use crate::webhooks::endpoint::Keys;
use crate::webhooks::request;
use crate::webhooks::stream::{Offer, Sending};

/// How long to wait when there is nothing new, and when the server does not answer.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const AGAIN_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct ListenArguments {
    /// Where your app takes webhooks on this machine
    #[arg(long, value_name = "URL")]
    forward_to: String,
    /// Of this directory only
    #[arg(long, value_name = "DIRECTORY_ID")]
    directory: Option<String>,
    /// Of this event type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// What to sign with (`whsec_…`); without it, a new one is made and shown
    #[arg(
        long,
        env = "ROLLCALL_LISTEN_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    secret: Option<String>,
    #[command(flatten)]
    place: Where,
}

/// Listens until it is interrupted.
pub(super) async fn run(file: Option<&Path>, arguments: ListenArguments) -> anyhow::Result<bool> {
    let secret = match &arguments.secret {
        Some(text) => WebhookSecret::from_text(text)?,
        None => WebhookSecret::generate(),
    };
    let listener = Listener {
        client: ApiClient::new()?,
        keys: Keys::of(secret),
        arguments,
    };
    tokio::select! {
        ended = listener.listen(file) => ended.map(|()| true),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted.map(|()| true)?),
    }
}

struct Listener {
    client: ApiClient,
    keys: Keys,
    arguments: ListenArguments,
}

impl Listener {
    async fn listen(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let start = administer::ask(file, &self.question("")).await?;
        let mut after = end_of(&start);
        if self.arguments.secret.is_none() {
            print_line(&format!("secret  {}", self.keys.current.expose()))?;
        }
        print_line(&format!(
            "Listening; events go to {}",
            self.arguments.forward_to
        ))?;
        loop {
            let query = format!("?after={after}&limit=100");
            let page = match administer::ask(file, &self.question(&query)).await {
                Ok(page) => page,
                Err(error) => {
                    print_line(&format!("The log cannot be read yet: {error:#}"))?;
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                }
            };
            let entries = page.get("data").and_then(Value::as_array);
            for entry in entries.into_iter().flatten() {
                self.forward(entry).await?;
            }
            if entries.is_none_or(Vec::is_empty) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            after = end_of(&page);
        }
    }

    fn question(&self, query: &str) -> Request {
        let place = Where {
            url: self.arguments.place.url.clone(),
            api_key: self.arguments.place.api_key.clone(),
            json: false,
        };
        Request::get(&format!("/admin/v1/log{query}"), place)
    }

    fn is_wanted(&self, entry: &Value) -> bool {
        let wanted = &self.arguments;
        let is = |name: &str, text: &String| entry.get(name).and_then(Value::as_str) == Some(text);
        wanted
            .directory
            .as_ref()
            .is_none_or(|id| is("directory_id", id))
            && (wanted.types.is_empty() || wanted.types.iter().any(|kind| is("event", kind)))
    }

    /// Sends one event and says what came of it.
    async fn forward(&self, entry: &Value) -> anyhow::Result<()> {
        let Some(sending) = read(entry).filter(|_| self.is_wanted(entry)) else {
            return Ok(());
        };
        let now = SystemClock.now();
        let generation = entry.get("generation").and_then(Value::as_u64);
        let generation = generation.and_then(|number| i32::try_from(number).ok());
        let headers = request::headers(
            &sending,
            &self.keys,
            generation.unwrap_or(1),
            now.timestamp_millis(),
        );
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let started = Instant::now();
        let answer = self
            .client
            .send(
                "POST",
                &self.arguments.forward_to,
                None,
                "application/json",
                Some(sending.offer.payload.to_string()),
                &headers,
            )
            .await;
        let came = match answer {
            Ok(answer) => answer.status.to_string(),
            Err(error @ ApiError::Request(_)) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        let kind = entry.get("event").and_then(Value::as_str).unwrap_or("");
        let (at, id) = (clock::text(now), sending.offer.event_id);
        let took = started.elapsed().as_millis();
        print_line(&format!("{at}  {kind}  {id}  {came}  {took} ms"))
    }
}

/// The position up to which a page goes.
fn end_of(page: &Value) -> i64 {
    let after = page.pointer("/list_metadata/after").and_then(Value::as_i64);
    after.unwrap_or(0)
}

/// An entry of the log as it is sent.
fn read(entry: &Value) -> Option<Sending> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let number = |name: &str| entry.get(name).and_then(Value::as_i64);
    let event_id = EventId::parse(text("id")?)?;
    let directory_id = DirectoryId::parse(text("directory_id")?)?;
    let offer = Offer {
        position: number("position")?,
        sequence: number("sequence"),
        previous: number("previous").unwrap_or(0),
        after: text("after").unwrap_or("").to_owned(),
        ..Offer::outside_the_log(event_id, directory_id, text("payload")?)
    };
    Some(Sending {
        offer: Arc::new(offer),
        attempt: 1,
        is_late: false,
    })
}
