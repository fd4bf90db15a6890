//! Runs the [`dispatcher`](super::dispatcher): brings it time, leases, the log and answers, and does what
//! it says.
//!
//! One task owns the state machine; everything that waits for the database or the network is a task of
//! its own that reports back through a channel. Nothing here decides what is sent when.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::DbErr;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use super::dispatcher::{
    Action, Departure, Dispatcher, Input, Now, Settings, Source, StreamId, Stretch,
};
use super::endpoint::{Headers, Keys, Options};
use super::holds::{Held, Known};
use super::keeper::{GiveBack, Keeper};
use super::links::View;
use super::standing::{Change, State};
use super::stream::{Attempted, Sending};
use super::tail::Tail;
use super::{ahead, deliveries, endpoint, page, place, request, retry};
use crate::actor::Actor;
use crate::clock::Clock;
use crate::ids::EndpointId;
use crate::metrics::{DELIVERED, Metrics};
use crate::outbound::{Outcome, WebhookClient};
use crate::secrets::MasterKey;
use crate::storage::Store;
use crate::storage::horizon::SHARDS;
use crate::storage::tables::endpoints;

const ENDPOINTS_EVERY: Duration = Duration::from_secs(1);
const TICK_BUSY_MS: i64 = 25;
const TICK_IDLE_MS: i64 = 500;
const RETRY_READ: Duration = Duration::from_millis(250);

/// What the driver works with.
#[derive(Clone)]
pub struct Tools {
    /// The database.
    pub store: Store,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// What sends.
    pub client: WebhookClient,
    /// What opens the endpoints' secrets.
    pub master_key: Arc<MasterKey>,
    /// Which history the sequences belong to.
    pub generation: i32,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tools").finish_non_exhaustive()
    }
}

/// Where the events of an endpoint go.
pub(super) struct Target {
    url: Url,
    keys: Keys,
    own_headers: Headers,
    pub(super) view: View,
    pub(super) options: Options,
    filter_number: i32,
}

/// How endpoints fare, as the nodes have written it down.
type States = BTreeMap<EndpointId, State>;

/// What the tasks report.
pub(super) enum Report {
    Input(Input),
    Endpoints(HashMap<EndpointId, Arc<Target>>, usize, States),
    Held(Held),
    OtherServer,
    Surplus(i16),
}

pub(super) type Reports = mpsc::UnboundedSender<Report>;

/// Delivers webhooks until `shutdown`, then writes down what is on its way and gives the shards back.
pub async fn run(tools: Tools, shutdown: CancellationToken, drain_within: Duration) {
    let (reports, inbox) = mpsc::unbounded_channel();
    let (orders, lease_inbox) = mpsc::unbounded_channel();
    let tasks = TaskTracker::new();
    let helpers = CancellationToken::new();
    let started = Instant::now();
    let nodes = Arc::new(AtomicUsize::new(1));
    let holds = Arc::new(Known::default());
    tasks.spawn(follow_tail(tools.clone(), reports.clone(), helpers.clone()));
    tasks.spawn(follow_endpoints(
        tools.clone(),
        reports.clone(),
        Arc::clone(&nodes),
        Arc::clone(&holds),
        helpers.clone(),
    ));
    let keeper = Keeper::new(
        tools.store.clone(),
        Arc::clone(&tools.metrics),
        reports.clone(),
        nodes,
        started,
        shutdown.clone(),
    );
    tasks.spawn(keeper.run(lease_inbox, helpers.clone()));
    let driver = Driver {
        tools: Arc::new(tools),
        reports,
        orders,
        tasks: tasks.clone(),
        dispatcher: Dispatcher::default(),
        targets: HashMap::new(),
        aborts: BTreeMap::new(),
        watches: BTreeMap::new(),
        holds,
        given_back: BTreeMap::new(),
        started,
    };
    driver.run(inbox, shutdown, drain_within).await;
    helpers.cancel();
    tasks.close();
    tasks.wait().await;
}

struct Driver {
    tools: Arc<Tools>,
    reports: Reports,
    orders: mpsc::UnboundedSender<GiveBack>,
    tasks: TaskTracker,
    dispatcher: Dispatcher,
    targets: HashMap<EndpointId, Arc<Target>>,
    aborts: BTreeMap<i16, CancellationToken>,
    watches: BTreeMap<i16, Arc<Mutex<page::Watch>>>,
    holds: Arc<Known>,
    /// The token of each shard's lease that was let go last; a late renewal of it is not a new lease.
    given_back: BTreeMap<i16, Uuid>,
    started: Instant,
}

impl Driver {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Report>,
        shutdown: CancellationToken,
        drain_within: Duration,
    ) {
        let mut drain_until: Option<Instant> = None;
        let mut ticked_at = Instant::now();
        loop {
            let is_draining = drain_until.is_some();
            if drain_until.is_some_and(|until| Instant::now() >= until)
                || (is_draining && self.dispatcher.shards().next().is_none())
            {
                break;
            }
            tokio::select! {
                report = inbox.recv() => match report {
                    Some(report) => self.take(report),
                    None => break,
                },
                // Counted from the last tick: reports that follow each other closely must not put it off.
                () = tokio::time::sleep_until(ticked_at + self.pause()) => {
                    ticked_at = Instant::now();
                    self.step(Input::Tick);
                    self.tools.metrics.in_flight(self.dispatcher.in_flight());
                }
                () = shutdown.cancelled(), if !is_draining => {
                    drain_until = Some(Instant::now() + drain_within);
                    let shards: Vec<i16> = self.dispatcher.shards().collect();
                    for shard in shards {
                        self.step(Input::Yield(shard));
                    }
                }
            }
        }
        for abort in self.aborts.values() {
            abort.cancel();
        }
    }

    fn now(&self) -> Now {
        Now {
            wall_ms: self.tools.clock.now_ms(),
            monotonic_ms: elapsed_ms(self.started),
        }
    }

    fn pause(&self) -> Duration {
        let wait = if self.dispatcher.is_busy() {
            TICK_BUSY_MS
        } else {
            let now_ms = self.tools.clock.now_ms();
            let due = self.dispatcher.next_due_ms(now_ms).unwrap_or(i64::MAX);
            due.saturating_sub(now_ms).clamp(TICK_BUSY_MS, TICK_IDLE_MS)
        };
        Duration::from_millis(wait.unsigned_abs())
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Input(Input::Leased(shard, lease))
                if self.given_back.get(&shard) == Some(&lease.token) => {}
            Report::Input(input) => self.step(input),
            Report::Endpoints(targets, nodes, states) => {
                let settings = targets
                    .iter()
                    .map(|(id, target)| {
                        let settings = Settings {
                            options: target.options,
                            filter_number: target.filter_number,
                        };
                        (*id, settings)
                    })
                    .collect();
                self.targets = targets;
                self.step(Input::Endpoints(settings, nodes));
                self.step(Input::States(states));
            }
            Report::Held(held) => self.step(Input::Held(held)),
            Report::OtherServer => self.start_again(),
            Report::Surplus(shard) => self.step(Input::Yield(shard)),
        }
    }

    /// Forgets everything and continues from what is stored, under new leases: what is being written
    /// under the old ones must not arrive after it was read.
    fn start_again(&mut self) {
        tracing::warn!(
            "the database server was restarted or replaced; continuing from what is stored"
        );
        self.step(Input::Tail([0; SHARDS]));
        let shards: Vec<i16> = self.dispatcher.shards().collect();
        for shard in shards {
            self.step(Input::Lost(shard));
        }
    }

    fn step(&mut self, input: Input) {
        for action in self.dispatcher.step(self.now(), input) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Recover(id, source) => self.recover(id, source),
            Action::Read(id, stretch) => self.read(id, stretch),
            Action::ReadDepartures(shard, visit, after, up_to) => {
                self.read_departures(shard, visit, after, up_to);
            }
            Action::ReadChain(id, departure, after) => self.read_chain(id, departure, after),
            Action::Send(id, sending) => self.send(id, sending),
            Action::Record(shard, visit, lease, batches) => {
                let (store, reports) = (self.tools.store.clone(), self.reports.clone());
                self.tasks.spawn(async move {
                    let recorded = place::record(&store, shard, lease, batches).await;
                    report(&reports, Input::Recorded(shard, visit, recorded));
                });
            }
            Action::State(id, change) => self.write_state(id, change),
            Action::Disable(id) => {
                let store = self.tools.store.clone();
                self.tasks.spawn(async move {
                    let disabled = endpoint::disable(&store, Actor::SYSTEM, id, endpoint::GONE);
                    if let Err(error) = disabled.await {
                        tracing::warn!(endpoint.id = %id, %error, "an endpoint that is gone could not be disabled yet");
                    }
                });
            }
            Action::Abort(shard, lease) | Action::GiveBack(shard, lease) => {
                if let Some(abort) = self.aborts.remove(&shard) {
                    abort.cancel();
                }
                self.watches.remove(&shard);
                self.given_back.insert(shard, lease.token);
                // The receiver lives as long as the tasks; after them there is nothing to give back.
                drop(self.orders.send(GiveBack(shard, lease.token)));
            }
        }
    }

    fn write_state(&self, id: EndpointId, change: Change) {
        let (store, reports) = (self.tools.store.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            let written = match endpoint::states::write(&store, id, change).await {
                Ok(written) => Some(written),
                Err(error) => {
                    tracing::warn!(endpoint.id = %id, %error, "how an endpoint fares could not be written down yet");
                    tokio::time::sleep(RETRY_READ).await;
                    None
                }
            };
            report(&reports, Input::Stated(id, written));
        });
    }

    fn recover(&mut self, id: StreamId, source: Source) {
        let Some(target) = self.targets.get(&id.endpoint).cloned() else {
            return;
        };
        let abort = self.aborts.entry(id.shard).or_default().clone();
        let (store, reports) = (self.tools.store.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            let load = async {
                loop {
                    match place::load(&store, &target.view, id.shard, source).await {
                        Ok(place) => return place,
                        Err(error) => {
                            tracing::warn!(shard = id.shard, endpoint.id = %id.endpoint, %error, "an endpoint's place cannot be read yet");
                            tokio::time::sleep(RETRY_READ).await;
                        }
                    }
                }
            };
            // Without a place the endpoint has just been deleted, which the next look at them shows.
            if let Some(Some(place)) = abort.run_until_cancelled(load).await {
                report(&reports, Input::Recovered(id, source, place));
            }
        });
    }

    fn read(&mut self, id: StreamId, stretch: Stretch) {
        let Some(target) = self.targets.get(&id.endpoint).cloned() else {
            return;
        };
        let watch = Arc::clone(self.watches.entry(id.shard).or_default());
        let holds = Arc::clone(&self.holds);
        let (store, reports) = (self.tools.store.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            let source = stretch.source;
            let reading = async {
                let page = page::read(&store, &target.view, &watch, id.shard, &stretch).await?;
                if page.as_ref().is_some_and(|page| !page.offers.is_empty()) {
                    look_after_reading(&store, &holds, &reports).await?;
                }
                Ok::<_, DbErr>(page)
            };
            let input = match reading.await {
                Ok(Some(page)) => Input::Page(id, source, page),
                // The endpoint's place is about to be loaded again.
                Ok(None) => {
                    tokio::time::sleep(RETRY_READ).await;
                    Input::ReadFailed(id, source)
                }
                Err(error) => {
                    tracing::warn!(shard = id.shard, %error, "the log cannot be read and will be again");
                    tokio::time::sleep(RETRY_READ).await;
                    Input::ReadFailed(id, source)
                }
            };
            report(&reports, input);
        });
    }

    fn read_departures(&self, shard: i16, visit: u64, after: i64, up_to: i64) {
        let (store, reports) = (self.tools.store.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            let found = ahead::departures(&store, shard, after, up_to).await;
            let (found, read_to) = found.unwrap_or_else(|error| {
                tracing::warn!(shard, %error, "departures cannot be read and will be again");
                (Vec::new(), after)
            });
            let input = Input::Departures(shard, visit, found, after, read_to);
            report(&reports, input);
        });
    }

    fn read_chain(&self, id: StreamId, departure: Departure, after: i64) {
        let Some(target) = self.targets.get(&id.endpoint).cloned() else {
            return;
        };
        let holds = Arc::clone(&self.holds);
        let (store, reports) = (self.tools.store.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            let reading = async {
                let chain = ahead::chain(&store, &target.view, id.shard, &departure, after).await?;
                look_after_reading(&store, &holds, &reports).await?;
                Ok::<_, DbErr>(chain)
            };
            let chain = reading.await.unwrap_or_else(|error| {
                tracing::warn!(shard = id.shard, %error, "what a departure depends on cannot be read");
                None
            });
            report(&reports, Input::Chain(id, chain));
        });
    }

    fn send(&mut self, id: StreamId, sending: Sending) {
        let Some(target) = self.targets.get(&id.endpoint).cloned() else {
            return;
        };
        let abort = self.aborts.entry(id.shard).or_default().clone();
        let (tools, reports) = (Arc::clone(&self.tools), self.reports.clone());
        self.tasks.spawn(async move {
            // A request takes some kilobytes while it is on its way, and a task is moved more than once.
            let attempt = attempt_unless_replayed(&tools, &target, id.endpoint, &sending);
            let attempt = Box::pin(attempt);
            if let Some(attempted) = abort.run_until_cancelled(attempt).await {
                let position = sending.offer.position;
                report(&reports, Input::Ended(id, position, attempted));
            }
        });
    }
}

/// Looks what is held after events were read, and before they are offered: what holds an event was written no
/// later than the event.
async fn look_after_reading(store: &Store, holds: &Known, reports: &Reports) -> Result<(), DbErr> {
    let tell = |held| drop(reports.send(Report::Held(held)));
    holds.look(store, tell).await
}

pub(super) fn report(reports: &Reports, input: Input) {
    // Nobody listens any more once the driver has ended.
    drop(reports.send(Report::Input(input)));
}

fn elapsed_ms(started: Instant) -> i64 {
    i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// Sends an event, but not one that a replay has delivered since it was parked.
async fn attempt_unless_replayed(
    tools: &Tools,
    target: &Target,
    endpoint: EndpointId,
    sending: &Sending,
) -> Attempted {
    if sending.is_late {
        match deliveries::delivered_by_replay(&tools.store, endpoint, sending.offer.position).await
        {
            Ok(Some(delivered)) => return delivered,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(endpoint.id = %endpoint, %error, "it is not known whether a parked event was replayed; sending it");
            }
        }
    }
    attempt(tools, target, endpoint, sending, None).await
}

/// Sends an event; `mark` says what it is sent once more for.
pub(super) async fn attempt(
    tools: &Tools,
    target: &Target,
    endpoint: EndpointId,
    sending: &Sending,
    mark: Option<&str>,
) -> Attempted {
    let now_ms = tools.clock.now_ms();
    let mut headers = target.own_headers.all().to_vec();
    headers.extend(request::headers(
        sending,
        &target.keys,
        tools.generation,
        now_ms,
    ));
    headers.extend(mark.map(request::replay_mark));
    let outcome = tools
        .client
        .post(
            &target.url,
            &headers,
            &sending.offer.payload,
            target.options.timeout,
        )
        .await;
    let attempted = read_outcome(&outcome, now_ms);
    let ended_ms = now_ms + i64::from(attempted.duration_ms);
    let lag_ms = ended_ms - sending.offer.event_id.made_at_ms();
    tools
        .metrics
        .attempt_ended(endpoint, outcome_of(&attempted), lag_ms);
    tracing::info!(
        endpoint.id = %endpoint,
        directory.id = %sending.offer.directory_id,
        event.id = %sending.offer.event_id,
        delivery.attempt = sending.attempt,
        status = attempted.status_code,
        failure = attempted.failure,
        duration_ms = attempted.duration_ms,
        lag_ms,
        "webhook sent"
    );
    attempted
}

/// How an attempt has ended, in one of a few words.
fn outcome_of(attempted: &Attempted) -> &str {
    match (attempted.failure.as_deref(), attempted.status_code) {
        (None, _) => DELIVERED,
        (Some("http"), Some(400..=499)) => "http_4xx",
        (Some("http"), Some(500..=599)) => "http_5xx",
        (Some("http"), _) => "http_other",
        (Some(failure), _) => failure,
    }
}

fn read_outcome(outcome: &Outcome, now_ms: i64) -> Attempted {
    let is_success = outcome.is_success();
    let failure = match (&outcome.failure, outcome.status) {
        _ if is_success => None,
        (Some(failure), _) => Some(failure.kind.as_str().to_owned()),
        (None, _) => Some("http".to_owned()),
    };
    Attempted {
        is_success,
        status_code: outcome.status,
        failure,
        excerpt: (!is_success && !outcome.body_excerpt.is_empty())
            .then(|| outcome.body_excerpt.clone()),
        retry_after: outcome
            .retry_after
            .as_deref()
            .and_then(|text| retry::parse_retry_after(text, now_ms)),
        duration_ms: i32::try_from(outcome.duration.as_millis()).unwrap_or(i32::MAX),
    }
}

async fn follow_tail(tools: Tools, reports: Reports, stop: CancellationToken) {
    let mut tail = Tail::default();
    let follow = async {
        loop {
            let started = Instant::now();
            match tail.look(&tools.store).await {
                Ok(Some(seen)) if seen.is_other_server => drop(reports.send(Report::OtherServer)),
                Ok(Some(seen)) => report(&reports, Input::Tail(seen.newest)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the end of the log cannot be read and will be again");
                    tokio::time::sleep(RETRY_READ).await;
                }
            }
            tail.pause(&tools.store, started.elapsed()).await;
        }
    };
    let _stopped: Option<()> = stop.run_until_cancelled(follow).await;
}

async fn follow_endpoints(
    tools: Tools,
    reports: Reports,
    nodes: Arc<AtomicUsize>,
    holds: Arc<Known>,
    stop: CancellationToken,
) {
    let follow = async {
        let mut known: Option<(Vec<endpoints::Model>, usize)> = None;
        let mut told = States::new();
        let mut knows_holds = false;
        loop {
            let nodes = nodes.load(Ordering::Relaxed);
            knows_holds |= look_at_holds(&tools, &reports, &holds).await;
            match look_at_endpoints(&tools.store).await {
                // Before it is known what is held, nothing may be sent.
                Ok(_) if !knows_holds => {}
                Ok((states, rows))
                    if !known
                        .as_ref()
                        .is_some_and(|known| known.0 == rows && known.1 == nodes) =>
                {
                    if let Some(targets) = load_targets(&tools, &rows).await {
                        told.clone_from(&states);
                        drop(reports.send(Report::Endpoints(targets, nodes, states)));
                        known = Some((rows, nodes));
                    }
                }
                Ok((states, _)) if states != told => {
                    told.clone_from(&states);
                    report(&reports, Input::States(states));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the endpoints cannot be read"),
            }
            let changed = tools.store.wake().wait_for_endpoints();
            // Other processes change endpoints too, so time passing is as good a reason to look.
            drop(tokio::time::timeout(ENDPOINTS_EVERY, changed).await);
        }
    };
    let _stopped: Option<()> = stop.run_until_cancelled(follow).await;
}

async fn look_at_endpoints(store: &Store) -> Result<(States, Vec<endpoints::Model>), DbErr> {
    let connection = store.dispatch_reader();
    let states = endpoint::states::list(connection).await?;
    Ok((states, endpoint::list(connection).await?))
}

/// Looks which directories' deliveries are held, and reports it if that has changed; tells whether it
/// could be read.
async fn look_at_holds(tools: &Tools, reports: &Reports, holds: &Known) -> bool {
    let tell = |held| drop(reports.send(Report::Held(held)));
    let looked = holds.look(&tools.store, tell).await;
    if let Err(error) = &looked {
        tracing::warn!(%error, "it cannot be read which deliveries are held");
    }
    looked.is_ok()
}

pub(super) async fn load_targets(
    tools: &Tools,
    rows: &[endpoints::Model],
) -> Option<HashMap<EndpointId, Arc<Target>>> {
    let mut targets = HashMap::new();
    for row in rows.iter().filter(|row| endpoint::is_sending(row)) {
        let view = match endpoint::view(tools.store.dispatch_reader(), row).await {
            Ok(view) => view,
            Err(error) => {
                tracing::warn!(endpoint.id = %row.id, %error, "an endpoint cannot be read");
                return None;
            }
        };
        match (
            endpoint::open(&tools.master_key, row.clone()),
            Url::parse(&row.url),
        ) {
            (Ok(opened), Ok(url)) => {
                let target = Target {
                    url,
                    keys: opened.keys,
                    own_headers: opened.headers,
                    view,
                    options: Options::of(row),
                    filter_number: row.filter_number,
                };
                targets.insert(row.id, Arc::new(target));
            }
            (Err(error), _) => {
                tracing::error!(endpoint.id = %row.id, %error, "an endpoint's secret cannot be opened");
            }
            (_, Err(error)) => {
                tracing::error!(endpoint.id = %row.id, %error, "an endpoint's URL cannot be read");
            }
        }
    }
    Some(targets)
}
