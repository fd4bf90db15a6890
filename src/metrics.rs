//! What this process counts, in the form that Prometheus reads.
//!
//! Each server has counters of its own, in a [`Metrics`]. Labels are of few values: ids of endpoints,
//! methods, classes of statuses and kinds of failures; never a name, an address or a secret. Values of
//! endpoints are [sampled](Metrics::sample) when somebody reads them, at most every fifteen seconds; those
//! of an endpoint that is gone end after a minute.

use std::time::Duration;

use ::metrics::{Key, Label, Level, Metadata, Recorder as _, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use metrics_util::MetricKindMask;
use tokio::sync::Mutex;

use crate::ids::EndpointId;

/// The outcome of an attempt that delivered.
pub const DELIVERED: &str = "delivered";

const SAMPLE_EVERY_MS: i64 = 15_000;
const IDLE: Duration = Duration::from_mins(1);
const METADATA: Metadata<'static> = Metadata::new("rollcall", Level::INFO, None);

const ATTEMPTS: &str = "rollcall_webhook_attempts_total";
const DELIVERY: &str = "rollcall_webhook_delivery_seconds";
const IN_FLIGHT: &str = "rollcall_webhook_requests_in_flight";
const BACKLOG: &str = "rollcall_webhook_backlog_events";
const PARKED: &str = "rollcall_webhook_parked_events";
const OLDEST: &str = "rollcall_webhook_oldest_undelivered_seconds";
const BREAKER: &str = "rollcall_webhook_breaker_open";
const TAKEN: &str = "rollcall_shards_taken_total";
const LOST: &str = "rollcall_shards_lost_total";
const SCIM: &str = "rollcall_scim_requests_total";
const MEMORY: &str = "process_resident_memory_bytes";

/// From a directory's commit to the receiver's 2xx, in seconds: from what is at once to a day's outage.
const DELIVERY_BUCKETS: [f64; 14] = [
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1_800.0, 21_600.0, 86_400.0,
];

/// What is known of an endpoint at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Events of the log past its places, and those that are tried again; counted up to a limit.
    pub backlog: i64,
    /// Events that were given up for a while; counted up to a limit.
    pub parked: i64,
    /// How old the oldest event of its backlog is, 0 if there is none.
    pub oldest_ms: i64,
    /// Whether only single probes go out because it fails.
    pub is_breaker_open: bool,
}

/// What one server counts.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// When the endpoints were looked at last.
    sampled_at_ms: Mutex<Option<i64>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new();
        let matcher = Matcher::Full(DELIVERY.to_owned());
        // It refuses only an empty list.
        let builder = builder
            .set_buckets_for_metric(matcher, &DELIVERY_BUCKETS)
            .unwrap_or_default();
        let recorder = builder
            .idle_timeout(MetricKindMask::GAUGE, Some(IDLE))
            .build_recorder();
        describe(&recorder);
        let metrics = Self {
            handle: recorder.handle(),
            recorder,
            sampled_at_ms: Mutex::new(None),
        };
        for name in [TAKEN, LOST] {
            metrics.count(name, Vec::new(), 0);
        }
        metrics
    }

    /// An attempt to deliver an event to an endpoint has ended, `lag_ms` after the event was written.
    pub fn attempt_ended(&self, endpoint_id: EndpointId, outcome: &str, lag_ms: i64) {
        let endpoint = Label::new("endpoint", endpoint_id.to_string());
        if outcome == DELIVERED {
            let key = Key::from_parts(DELIVERY, vec![endpoint.clone()]);
            let histogram = self.recorder.register_histogram(&key, &METADATA);
            histogram.record(seconds(lag_ms));
        }
        let labels = vec![endpoint, Label::new("outcome", outcome.to_owned())];
        self.count(ATTEMPTS, labels, 1);
    }

    /// So many requests are on their way to endpoints.
    pub fn in_flight(&self, requests: usize) {
        let requests = i64::try_from(requests).unwrap_or(i64::MAX);
        self.show(IN_FLIGHT, Vec::new(), number(requests));
    }

    /// The node has taken so many shards.
    pub fn shards_taken(&self, shards: usize) {
        self.count(TAKEN, Vec::new(), u64::try_from(shards).unwrap_or(0));
    }

    /// Another node has taken a shard.
    pub fn shard_lost(&self) {
        self.count(LOST, Vec::new(), 1);
    }

    /// A request of a provider was answered.
    pub fn scim_answered(&self, method: &str, status: u16) {
        const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let method = METHODS.into_iter().find(|known| *known == method);
        let labels = vec![
            Label::new("method", method.unwrap_or("other")),
            Label::new("status", format!("{}xx", status / 100)),
        ];
        self.count(SCIM, labels, 1);
    }

    /// Takes in how the endpoints fare, as `look` finds it, unless that is known from a moment ago.
    ///
    /// # Errors
    /// Those of `look`.
    pub async fn sample<E>(
        &self,
        now_ms: i64,
        look: impl AsyncFnOnce() -> Result<Vec<Figures>, E>,
    ) -> Result<(), E> {
        let mut sampled_at_ms = self.sampled_at_ms.lock().await;
        if sampled_at_ms.is_some_and(|at_ms| now_ms - at_ms < SAMPLE_EVERY_MS) {
            return Ok(());
        }
        for figures in look().await? {
            self.take(&figures);
        }
        *sampled_at_ms = Some(now_ms);
        Ok(())
    }

    fn take(&self, figures: &Figures) {
        let breaker = i64::from(figures.is_breaker_open);
        for (name, value) in [
            (BACKLOG, number(figures.backlog)),
            (PARKED, number(figures.parked)),
            (OLDEST, seconds(figures.oldest_ms)),
            (BREAKER, number(breaker)),
        ] {
            let endpoint = Label::new("endpoint", figures.endpoint_id.to_string());
            self.show(name, vec![endpoint], value);
        }
    }

    /// Everything, in Prometheus's text format.
    pub fn render(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.show(MEMORY, Vec::new(), number(bytes));
        }
        self.handle.render()
    }

    /// Sums up what was measured, which would otherwise be kept one by one until somebody reads it.
    pub fn settle(&self) {
        self.handle.run_upkeep();
    }

    fn count(&self, name: &'static str, labels: Vec<Label>, by: u64) {
        let key = Key::from_parts(name, labels);
        self.recorder
            .register_counter(&key, &METADATA)
            .increment(by);
    }

    fn show(&self, name: &'static str, labels: Vec<Label>, value: f64) {
        let key = Key::from_parts(name, labels);
        self.recorder.register_gauge(&key, &METADATA).set(value);
    }
}

fn describe(recorder: &PrometheusRecorder) {
    for (name, text) in [
        (ATTEMPTS, "Attempts to deliver an event, by how they ended."),
        (
            TAKEN,
            "Shards that this node has taken, from a start, another node, or a node that died.",
        ),
        (LOST, "Shards that another node has taken from this one."),
        (
            SCIM,
            "SCIM requests, by method and class of the answer's status.",
        ),
    ] {
        recorder.describe_counter(name.into(), Some(Unit::Count), text.into());
    }
    for (name, text) in [
        (
            BACKLOG,
            "Events of the log past the endpoint's places and those tried again; counted up to 10000 each.",
        ),
        (PARKED, "Events given up for a while; counted up to 10000."),
        (
            OLDEST,
            "Age of the oldest event of the backlog, 0 if there is none.",
        ),
        (
            BREAKER,
            "1 while the endpoint fails and only single probes go out.",
        ),
        (
            IN_FLIGHT,
            "Webhook requests of this node that are on their way.",
        ),
        (MEMORY, "Resident memory."),
    ] {
        recorder.describe_gauge(name.into(), None, text.into());
    }
    let text = "From the moment a change is written to the receiver's 2xx.";
    recorder.describe_histogram(DELIVERY.into(), Some(Unit::Seconds), text.into());
}

/// Clocks of several machines differ a little; nothing arrives before it was written.
fn seconds(milliseconds: i64) -> f64 {
    number(milliseconds.max(0)) / 1_000.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 nobody counts to the last digit"
)]
fn number(whole: i64) -> f64 {
    whole as f64
}

/// How much memory the process has, where the operating system tells.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}
