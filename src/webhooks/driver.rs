//! Runs the [`dispatcher`](super::dispatcher): brings it time, leases, the log and answers, and does what
//! it says.
//!
//! One task owns the state machine; everything that waits for the database or the network is a task of
//! its own that reports back through a channel. Nothing here decides what is sent when.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use super::dispatcher::{Action, Dispatcher, Input, Lease, Now, Page, Settings};
use super::links::{self, View};
use super::shards::{self, Held};
use super::stream::{Attempted, Sending};
use super::tail::Tail;
use super::{endpoint, place, request, retry};
use crate::clock::Clock;
use crate::events::gaps::{GapWatch, Seen};
use crate::events::log;
use crate::ids::{EndpointId, NodeId};
use crate::outbound::{Outcome, WebhookClient};
use crate::secrets::{MasterKey, WebhookSecret};
use crate::storage::horizon::SHARDS;
use crate::storage::tables::endpoints;
use crate::storage::{Dialect, Store};

const PAGE_ROWS: u64 = 500;
const ENDPOINTS_EVERY: Duration = Duration::from_secs(1);
const TICK_BUSY: Duration = Duration::from_millis(25);
const TICK_IDLE_MS: i64 = 500;
const RETRY_READ: Duration = Duration::from_millis(250);
/// How long a gap in a directory's sequence is waited for before it is taken as it is.
const GAP_WAITS_MAX: u32 = 200;
const GAP_WAIT: Duration = Duration::from_millis(50);
/// A lease that ends only with the process; the lock on the SQLite file is the real one.
const FOREVER_MS: i64 = i64::MAX / 2;

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
    pub generation: u32,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tools").finish_non_exhaustive()
    }
}

/// Where the events of an endpoint go.
struct Target {
    url: Url,
    secret: WebhookSecret,
    view: View,
    max_in_flight: usize,
}

/// What the tasks report.
enum Report {
    Input(Input),
    Endpoints(HashMap<EndpointId, Arc<Target>>, usize),
    OtherServer,
    Surplus(i16),
}

/// Messages to the task that holds the leases.
enum LeaseOrder {
    GiveBack(i16),
}

type Reports = mpsc::UnboundedSender<Report>;

/// Delivers webhooks until `shutdown`, then writes down what is on its way and gives the shards back.
pub async fn run(tools: Tools, shutdown: CancellationToken, drain_within: Duration) {
    let (reports, inbox) = mpsc::unbounded_channel();
    let (orders, lease_inbox) = mpsc::unbounded_channel();
    let tasks = TaskTracker::new();
    let helpers = CancellationToken::new();
    let started = Instant::now();
    let nodes = Arc::new(AtomicUsize::new(1));
    tasks.spawn(follow_tail(tools.clone(), reports.clone(), helpers.clone()));
    tasks.spawn(follow_endpoints(
        tools.clone(),
        reports.clone(),
        Arc::clone(&nodes),
        helpers.clone(),
    ));
    let keeper = Keeper {
        node_id: NodeId::generate(),
        store: tools.store.clone(),
        reports: reports.clone(),
        held: Vec::new(),
        yielding: None,
        renewed_at: None,
        nodes,
        started,
    };
    tasks.spawn(hold_leases(
        keeper,
        lease_inbox,
        shutdown.clone(),
        helpers.clone(),
    ));
    let driver = Driver {
        tools,
        reports,
        orders,
        tasks: tasks.clone(),
        dispatcher: Dispatcher::default(),
        targets: HashMap::new(),
        leases: BTreeMap::new(),
        aborts: BTreeMap::new(),
        watches: BTreeMap::new(),
        given_back: BTreeMap::new(),
        started,
    };
    driver.run(inbox, shutdown, drain_within).await;
    helpers.cancel();
    tasks.close();
    tasks.wait().await;
}

struct Driver {
    tools: Tools,
    reports: Reports,
    orders: mpsc::UnboundedSender<LeaseOrder>,
    tasks: TaskTracker,
    dispatcher: Dispatcher,
    targets: HashMap<EndpointId, Arc<Target>>,
    leases: BTreeMap<i16, Lease>,
    aborts: BTreeMap<i16, CancellationToken>,
    watches: BTreeMap<i16, Arc<Mutex<Watch>>>,
    /// The tokens of leases that are on their way back; a late renewal of one is not a new lease.
    given_back: BTreeMap<i16, Uuid>,
    started: Instant,
}

#[derive(Default)]
struct Watch {
    gaps: GapWatch,
    waits: u32,
}

impl Driver {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Report>,
        shutdown: CancellationToken,
        drain_within: Duration,
    ) {
        let mut drain_until: Option<Instant> = None;
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
                () = tokio::time::sleep(self.pause()) => self.step(Input::Tick),
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
        if self.dispatcher.is_busy() {
            return TICK_BUSY;
        }
        let due = self.dispatcher.next_due_ms().unwrap_or(i64::MAX);
        let wait = due
            .saturating_sub(self.tools.clock.now_ms())
            .clamp(1, TICK_IDLE_MS);
        Duration::from_millis(u64::try_from(wait).unwrap_or(1))
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Input(Input::Leased(shard, lease))
                if self.given_back.get(&shard) == Some(&lease.token) => {}
            Report::Input(Input::Leased(shard, lease)) => {
                self.leases.insert(shard, lease);
                self.aborts.entry(shard).or_default();
                self.step(Input::Leased(shard, lease));
            }
            Report::Input(Input::Lost(shard)) => {
                self.leases.remove(&shard);
                self.step(Input::Lost(shard));
            }
            Report::Input(input) => self.step(input),
            Report::Endpoints(targets, nodes) => {
                let settings = targets
                    .iter()
                    .map(|(id, target)| {
                        let max_in_flight = target.max_in_flight;
                        (*id, Settings { max_in_flight })
                    })
                    .collect();
                self.targets = targets;
                self.step(Input::Endpoints(settings, nodes));
            }
            Report::OtherServer => self.start_again(),
            Report::Surplus(shard) => self.step(Input::Yield(shard)),
        }
    }

    /// Forgets everything and continues from what is stored, under the same leases.
    fn start_again(&mut self) {
        tracing::warn!(
            "the database server was restarted or replaced; continuing from what is stored"
        );
        self.watches.clear();
        for (shard, lease) in self.leases.clone() {
            self.step(Input::Lost(shard));
            self.aborts.insert(shard, CancellationToken::new());
            self.step(Input::Leased(shard, lease));
        }
    }

    fn step(&mut self, input: Input) {
        for action in self.dispatcher.step(self.now(), input) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Recover(endpoint, shard) => self.recover(endpoint, shard),
            Action::Read(endpoint, shard, after, end) => self.read(endpoint, shard, after, end),
            Action::Send(endpoint, shard, sending) => self.send(endpoint, shard, sending),
            Action::Record(shard, lease, batches) => {
                let (store, reports) = (self.tools.store.clone(), self.reports.clone());
                self.tasks.spawn(async move {
                    let recorded = place::record(&store, shard, lease, batches).await;
                    report(&reports, Input::Recorded(shard, recorded));
                });
            }
            Action::Abort(shard) => {
                if let Some(abort) = self.aborts.remove(&shard) {
                    abort.cancel();
                }
                self.watches.remove(&shard);
            }
            Action::GiveBack(shard) => {
                if let Some(lease) = self.leases.remove(&shard) {
                    self.given_back.insert(shard, lease.token);
                }
                self.aborts.remove(&shard);
                self.watches.remove(&shard);
                // The receiver lives as long as the tasks; after them there is nothing to give back.
                drop(self.orders.send(LeaseOrder::GiveBack(shard)));
            }
        }
    }

    fn recover(&mut self, endpoint: EndpointId, shard: i16) {
        let Some(target) = self.targets.get(&endpoint).cloned() else {
            return;
        };
        let abort = self.aborts.entry(shard).or_default().clone();
        let (store, reports) = (self.tools.store.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            let load = async {
                loop {
                    match place::load(&store, &target.view, shard).await {
                        Ok(place) => return place,
                        Err(error) => {
                            tracing::warn!(shard, endpoint.id = %endpoint, %error, "an endpoint's place cannot be read yet");
                            tokio::time::sleep(RETRY_READ).await;
                        }
                    }
                }
            };
            if let Some(place) = abort.run_until_cancelled(load).await {
                report(&reports, Input::Recovered(endpoint, shard, place));
            }
        });
    }

    fn read(&mut self, endpoint: EndpointId, shard: i16, after: i64, end: i64) {
        let Some(target) = self.targets.get(&endpoint).cloned() else {
            return;
        };
        let watch = Arc::clone(self.watches.entry(shard).or_default());
        let (store, reports) = (self.tools.store.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            let input = match read_page(&store, &target.view, &watch, shard, after, end).await {
                Ok(page) => Input::Page(endpoint, shard, page),
                Err(error) => {
                    tracing::warn!(shard, %error, "the log cannot be read and will be again");
                    tokio::time::sleep(RETRY_READ).await;
                    Input::ReadFailed(endpoint, shard)
                }
            };
            report(&reports, input);
        });
    }

    fn send(&mut self, endpoint: EndpointId, shard: i16, sending: Sending) {
        let Some(target) = self.targets.get(&endpoint).cloned() else {
            return;
        };
        let abort = self.aborts.entry(shard).or_default().clone();
        let (tools, reports) = (self.tools.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            let attempt = attempt(&tools, &target, endpoint, &sending);
            if let Some(attempted) = abort.run_until_cancelled(attempt).await {
                let position = sending.offer.position;
                report(&reports, Input::Ended(endpoint, shard, position, attempted));
            }
        });
    }
}

fn report(reports: &Reports, input: Input) {
    // Nobody listens any more once the driver has ended.
    drop(reports.send(Report::Input(input)));
}

fn elapsed_ms(started: Instant) -> i64 {
    i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX)
}

async fn attempt(
    tools: &Tools,
    target: &Target,
    endpoint: EndpointId,
    sending: &Sending,
) -> Attempted {
    let now_ms = tools.clock.now_ms();
    let headers = request::headers(sending, &target.secret, tools.generation, now_ms);
    let outcome = tools
        .client
        .post(&target.url, &headers, &sending.offer.payload)
        .await;
    let attempted = read_outcome(&outcome, now_ms);
    tracing::debug!(
        endpoint.id = %endpoint,
        directory.id = %sending.offer.directory_id,
        event.id = %sending.offer.event_id,
        delivery.attempt = sending.attempt,
        status = attempted.status_code,
        failure = attempted.failure,
        duration_ms = attempted.duration_ms,
        "webhook sent"
    );
    attempted
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

/// Reads a page of a shard for an endpoint, cut before a gap in a directory's sequence.
async fn read_page(
    store: &Store,
    view: &View,
    watch: &Mutex<Watch>,
    shard: i16,
    after: i64,
    end: i64,
) -> Result<Page, DbErr> {
    let mut rows = log::read_shard(store.dispatch_reader(), shard, after, end, PAGE_ROWS).await?;
    let seen: Vec<Seen> = rows
        .iter()
        .map(|row| Seen {
            position: row.position,
            directory_id: row.directory_id,
            sequence: row.sequence,
        })
        .collect();
    let is_last = u64::try_from(rows.len()).unwrap_or(u64::MAX) < PAGE_ROWS;
    let whole = check_gaps(watch, after, &seen);
    let has_gap = whole < rows.len();
    rows.truncate(whole);
    if has_gap {
        tokio::time::sleep(GAP_WAIT).await;
    }
    let last_row = rows.last().map(|row| row.position);
    let offers = links::offers(store, view, shard, rows).await?;
    Ok(Page {
        offers: offers.into_iter().map(Arc::new).collect(),
        last_row,
        read_to: (is_last && !has_gap).then_some(end),
    })
}

/// How many of the rows come before a gap. A gap that stays for long is reported and passed.
fn check_gaps(watch: &Mutex<Watch>, after: i64, seen: &[Seen]) -> usize {
    let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = watch.gaps.check(after, seen);
    let Some(missing) = seen.get(whole) else {
        watch.waits = 0;
        return whole;
    };
    watch.waits += 1;
    if watch.waits == 1 {
        tracing::error!(
            directory.id = %missing.directory_id,
            event.position = missing.position,
            "the log has a gap in a directory's sequence; waiting for it"
        );
    }
    if watch.waits >= GAP_WAITS_MAX {
        tracing::error!(directory.id = %missing.directory_id, "the gap stays; continuing after it");
        watch.gaps.forget(missing.directory_id);
        watch.waits = 0;
    }
    whole
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
    stop: CancellationToken,
) {
    let follow = async {
        let mut known: Option<(Vec<endpoints::Model>, usize)> = None;
        loop {
            let nodes = nodes.load(Ordering::Relaxed);
            match endpoint::list(tools.store.dispatch_reader()).await {
                Ok(rows)
                    if !known
                        .as_ref()
                        .is_some_and(|known| known.0 == rows && known.1 == nodes) =>
                {
                    if let Some(targets) = load_targets(&tools, &rows).await {
                        drop(reports.send(Report::Endpoints(targets, nodes)));
                        known = Some((rows, nodes));
                    }
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

async fn load_targets(
    tools: &Tools,
    rows: &[endpoints::Model],
) -> Option<HashMap<EndpointId, Arc<Target>>> {
    let mut targets = HashMap::new();
    for row in rows.iter().filter(|row| endpoint::is_enabled(row)) {
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
                    secret: opened.secret,
                    view,
                    max_in_flight: usize::try_from(row.max_in_flight).unwrap_or(1),
                };
                targets.insert(row.id, Arc::new(target));
            }
            (Err(error), _) => {
                tracing::error!(endpoint.id = %row.id, %error, "an endpoint's secret cannot be opened")
            }
            (_, Err(error)) => {
                tracing::error!(endpoint.id = %row.id, %error, "an endpoint's URL cannot be read")
            }
        }
    }
    Some(targets)
}

/// Takes and keeps this node's share of the shards.
async fn hold_leases(
    mut keeper: Keeper,
    mut orders: mpsc::UnboundedReceiver<LeaseOrder>,
    shutdown: CancellationToken,
    stop: CancellationToken,
) {
    loop {
        if let Err(error) = keeper.turn(!shutdown.is_cancelled()).await {
            tracing::warn!(%error, "shard leases cannot be renewed");
        }
        tokio::select! {
            () = stop.cancelled() => break,
            order = orders.recv() => match order {
                Some(LeaseOrder::GiveBack(shard)) => keeper.give_back(shard).await,
                None => break,
            },
            () = tokio::time::sleep(Duration::from_millis(shards::POLL_EVERY_MS.unsigned_abs())) => {}
        }
    }
    while let Ok(LeaseOrder::GiveBack(shard)) = orders.try_recv() {
        keeper.give_back(shard).await;
    }
    keeper.leave().await;
}

struct Keeper {
    node_id: NodeId,
    store: Store,
    reports: Reports,
    held: Vec<Held>,
    /// The shard that is on its way to another node.
    yielding: Option<i16>,
    renewed_at: Option<Instant>,
    nodes: Arc<AtomicUsize>,
    started: Instant,
}

impl Keeper {
    /// Renews what is held and, unless the node is stopping, takes or gives back to have its share.
    async fn turn(&mut self, is_staying: bool) -> Result<(), DbErr> {
        if self.store.dialect() == Dialect::Sqlite {
            return if is_staying {
                self.take_all_once().await
            } else {
                Ok(())
            };
        }
        let renew_every = Duration::from_millis(shards::RENEW_EVERY_MS.unsigned_abs());
        if self.renewed_at.is_none_or(|at| at.elapsed() >= renew_every) {
            self.renew().await?;
        }
        if !is_staying {
            return Ok(());
        }
        let share = shards::share(self.nodes.load(Ordering::Relaxed));
        if self.held.len() < share {
            let asked_at = Instant::now();
            let missing = share - self.held.len();
            let taken = shards::take(&self.store, self.node_id, missing, false).await?;
            for lease in &taken {
                self.leased(lease, self.until(asked_at));
            }
            if !taken.is_empty() {
                let numbers: Vec<i16> = taken.iter().map(|lease| lease.shard).collect();
                tracing::info!(shards = ?numbers, "shards taken");
            }
            self.held.extend(taken);
        } else if self.held.len() > share && self.yielding.is_none() {
            self.yielding = self.held.last().map(|lease| lease.shard);
            self.ask_for_surplus();
        }
        Ok(())
    }

    async fn take_all_once(&mut self) -> Result<(), DbErr> {
        if self.held.is_empty() {
            self.held = shards::take(&self.store, self.node_id, SHARDS, true).await?;
            for lease in &self.held {
                self.leased(lease, FOREVER_MS);
            }
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), DbErr> {
        let asked_at = Instant::now();
        let nodes = shards::heartbeat(&self.store, self.node_id).await?;
        self.nodes.store(nodes, Ordering::Relaxed);
        let renewed = shards::renew(&self.store, &self.held).await?;
        for lease in &self.held {
            if renewed.contains(lease) {
                self.leased(lease, self.until(asked_at));
            } else {
                tracing::warn!(shard = lease.shard, "shard lost to another node");
                report(&self.reports, Input::Lost(lease.shard));
            }
        }
        self.held = renewed;
        self.renewed_at = Some(asked_at);
        let still_held = |shard: &i16| self.held.iter().any(|lease| lease.shard == *shard);
        self.yielding = self.yielding.filter(still_held);
        self.ask_for_surplus();
        Ok(())
    }

    fn ask_for_surplus(&self) {
        if let Some(shard) = self.yielding {
            drop(self.reports.send(Report::Surplus(shard)));
        }
    }

    /// When a lease asked for at `asked_at` ends, on the node's monotonic clock.
    fn until(&self, asked_at: Instant) -> i64 {
        let asked_ms = asked_at.saturating_duration_since(self.started).as_millis();
        i64::try_from(asked_ms)
            .unwrap_or(i64::MAX)
            .saturating_add(shards::LEASE_MS)
    }

    fn leased(&self, lease: &Held, until_ms: i64) {
        let leased = Lease {
            epoch: lease.epoch,
            token: lease.token,
            until_ms,
        };
        report(&self.reports, Input::Leased(lease.shard, leased));
    }

    async fn give_back(&mut self, shard: i16) {
        self.yielding = self.yielding.filter(|yielding| *yielding != shard);
        let Some(index) = self.held.iter().position(|lease| lease.shard == shard) else {
            return;
        };
        let lease = self.held.swap_remove(index);
        if let Err(error) = shards::give_back(&self.store, &lease).await {
            tracing::warn!(shard, %error, "a shard was not given back; its lease runs out instead");
        }
    }

    async fn leave(&mut self) {
        for lease in std::mem::take(&mut self.held) {
            if let Err(error) = shards::give_back(&self.store, &lease).await {
                tracing::warn!(shard = lease.shard, %error, "a shard was not given back");
            }
        }
        if self.store.dialect() == Dialect::Postgres
            && let Err(error) = shards::leave(&self.store, self.node_id).await
        {
            tracing::warn!(%error, "the node was not signed off");
        }
    }
}
