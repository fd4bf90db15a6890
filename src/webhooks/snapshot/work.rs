//! Sending one snapshot: a page of rows after the other, each in the order of causes and effects.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sea_orm::DbErr;
use tokio::time::Instant;
use url::Url;

use super::message::{Message, messages};
use super::rows::{self, Claim};
use super::{CANCELLED, DONE, FAILED};
use crate::directories::directory::{self, State};
use crate::storage::tables::{directories, snapshot_rows};
use crate::webhooks::driver::Tools;
use crate::webhooks::endpoint::{self, Headers, Keys, Options};
use crate::webhooks::request;
use crate::webhooks::stream::{Offer, Sending};

/// How often an event is tried in one go, and how long it waits in between.
const TRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// With so many failures and no success, an endpoint is dead.
const FAILURES_OF_THE_DEAD: usize = 10;
/// How long one waits whose endpoint or directory is not to be sent to now.
const HELD_FOR: Duration = Duration::from_secs(2);
/// One that has come no further for this long is given up, since the live events wait behind it.
const GIVEN_UP_AFTER: chrono::TimeDelta = chrono::TimeDelta::days(3);

/// How far it has come.
#[derive(Debug)]
pub(super) enum Step {
    /// A page has arrived.
    Sent,
    /// Something failed, as told here.
    Stuck(String),
    /// It is not to be sent now.
    Held(Duration),
    /// There is nothing more to do.
    Over,
}

/// Where the events go.
struct Target {
    url: Url,
    keys: Keys,
    own_headers: Headers,
    options: Options,
}

/// Sends the next page.
///
/// # Errors
/// The database fails.
pub(super) async fn step(tools: &Tools, claim: &Claim, from: &mut i64) -> Result<Step, DbErr> {
    let store = &tools.store;
    let snapshot = &claim.snapshot;
    let found = directory::find(store.dispatch_reader(), snapshot.directory_id).await?;
    let Some(directory) = found.filter(State::is_open) else {
        let why = "the directory was deleted";
        claim.end(store, CANCELLED, Some(why)).await?;
        return Ok(Step::Over);
    };
    if is_held(&directory) {
        return Ok(Step::Held(HELD_FOR));
    }
    let Some(target) = target(tools, claim).await? else {
        return Ok(Step::Held(HELD_FOR));
    };
    let page = rows::page(store, snapshot.id, *from).await?;
    let Some(last) = page.last() else {
        claim.end(store, DONE, None).await?;
        return Ok(Step::Over);
    };
    let after = last.number + 1;
    let failed = send_page(tools, claim, &directory, &target, &page).await?;
    let next = failed.as_ref().map_or(after, |(number, _)| *number);
    if next > *from {
        *from = next;
        if !claim.advance(store, next).await? {
            return Ok(Step::Over);
        }
    }
    Ok(failed.map_or(Step::Sent, |(number, why)| {
        Step::Stuck(format!("number {number} was not taken: {why}"))
    }))
}

/// Says how a step that got stuck goes on: later, or not at all.
pub(super) async fn stuck(
    tools: &Tools,
    claim: &Claim,
    from: i64,
    wait: Duration,
    why: &str,
) -> Result<(), DbErr> {
    let store = &tools.store;
    let moved_on = from > claim.snapshot.next_number;
    if !moved_on && store.clock().now() - claim.snapshot.updated_at >= GIVEN_UP_AFTER {
        tracing::error!(snapshot.id = %claim.snapshot.id, why, "a snapshot was given up");
        return claim.end(store, FAILED, Some(why)).await;
    }
    claim.give_back(store, wait, Some(why)).await
}

fn is_held(directory: &directories::Model) -> bool {
    directory.deliveries_held_at.is_some()
        || directory.guard_held_at.is_some()
        || directory.deletion_due_at.is_some()
}

/// Where to send; nowhere while the endpoint is disabled or held.
async fn target(tools: &Tools, claim: &Claim) -> Result<Option<Target>, DbErr> {
    let found = endpoint::find(tools.store.dispatch_reader(), claim.snapshot.endpoint_id).await?;
    let Some(row) = found.filter(endpoint::is_sending) else {
        return Ok(None);
    };
    let options = Options::of(&row);
    let url = Url::parse(&row.url);
    match (endpoint::open(&tools.master_key, row), url) {
        (Ok(opened), Ok(url)) => Ok(Some(Target {
            url,
            keys: opened.keys,
            own_headers: opened.headers,
            options,
        })),
        (Err(error), _) => {
            tracing::error!(endpoint.id = %claim.snapshot.endpoint_id, %error, "an endpoint's secret cannot be opened");
            Ok(None)
        }
        (_, Err(error)) => {
            tracing::error!(endpoint.id = %claim.snapshot.endpoint_id, %error, "an endpoint's URL cannot be read");
            Ok(None)
        }
    }
}

/// Sends the events of a page, those of one kind side by side. Returns the first that was not taken, and
/// why not.
async fn send_page(
    tools: &Tools,
    claim: &Claim,
    directory: &directories::Model,
    target: &Target,
    page: &[snapshot_rows::Model],
) -> Result<Option<(i64, String)>, DbErr> {
    let messages = messages(&tools.store, &claim.snapshot, directory, page).await?;
    for alike in messages.chunk_by(|one, next| one.kind == next.kind) {
        let mut left: Vec<&Message> = alike.iter().collect();
        for attempt in 1..=TRIES {
            let (failed, is_dead) = send_all(tools, claim, target, &left, attempt).await;
            let Some((first, why)) = failed.first() else {
                break;
            };
            if is_dead || attempt == TRIES {
                return Ok(Some((first.number, why.clone())));
            }
            left = failed.into_iter().map(|(message, _)| message).collect();
            tokio::time::sleep(RETRY_AFTER * attempt).await;
        }
    }
    Ok(None)
}

/// Sends events side by side. Returns those that were not taken, in order, and whether the endpoint takes
/// nothing at all.
async fn send_all<'a>(
    tools: &Tools,
    claim: &Claim,
    target: &Target,
    messages: &[&'a Message],
    attempt: u32,
) -> (Vec<(&'a Message, String)>, bool) {
    let started = Instant::now();
    let sends = messages.iter().copied().enumerate();
    let sends = sends.map(|(index, message)| async move {
        tokio::time::sleep_until(started + pace(target, index)).await;
        (message, send(tools, claim, target, message, attempt).await)
    });
    let sends: Vec<_> = sends.collect();
    let mut answers = stream::iter(sends).buffer_unordered(target.options.max_in_flight);
    let (mut failed, mut taken) = (Vec::new(), 0_usize);
    while let Some((message, answer)) = answers.next().await {
        match answer {
            Ok(()) => taken += 1,
            Err(why) => failed.push((message, why)),
        }
        if taken == 0 && failed.len() >= FAILURES_OF_THE_DEAD {
            break;
        }
    }
    let is_dead = taken == 0 && failed.len() >= FAILURES_OF_THE_DEAD;
    failed.sort_by_key(|(message, _)| message.number);
    (failed, is_dead)
}

/// When an event may go, from the start on.
fn pace(target: &Target, index: usize) -> Duration {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    target
        .options
        .rate_per_second
        .map_or(Duration::ZERO, |rate| Duration::from_secs(1) * index / rate)
}

async fn send(
    tools: &Tools,
    claim: &Claim,
    target: &Target,
    message: &Message,
    attempt: u32,
) -> Result<(), String> {
    let sending = Sending {
        offer: Arc::new(Offer::outside_the_log(
            message.event_id,
            claim.snapshot.directory_id,
            &message.payload,
        )),
        attempt,
        is_late: false,
    };
    let now_ms = tools.clock.now_ms();
    let mut headers = target.own_headers.all().to_vec();
    headers.extend(request::headers(
        &sending,
        &target.keys,
        tools.generation,
        now_ms,
    ));
    headers.extend(headers_of(claim, message));
    let outcome = tools
        .client
        .post(
            &target.url,
            &headers,
            &message.payload,
            target.options.timeout,
        )
        .await;
    if outcome.is_success() {
        return Ok(());
    }
    Err(match (&outcome.failure, outcome.status) {
        (Some(failure), _) => failure.kind.as_str().to_owned(),
        (None, Some(status)) => format!("HTTP {status}"),
        (None, None) => "no answer".to_owned(),
    })
}

fn headers_of(claim: &Claim, message: &Message) -> Vec<(String, String)> {
    let snapshot = &claim.snapshot;
    let mut headers = vec![
        ("Rollcall-Replay", "snapshot".to_owned()),
        ("Rollcall-Snapshot", snapshot.id.to_string()),
        ("Rollcall-Snapshot-Sequence", snapshot.sequence.to_string()),
        ("Rollcall-Snapshot-Number", message.number.to_string()),
        ("Rollcall-Snapshot-Total", snapshot.total.to_string()),
    ];
    if message.number == snapshot.total {
        headers.push(("Rollcall-Snapshot-End", "true".to_owned()));
    }
    headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
