//! Takes and keeps this node's share of the shards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sea_orm::DbErr;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dispatcher::{Input, Lease};
use super::driver::{Report, Reports, report};
use super::shards::{self, Held};
use crate::ids::NodeId;
use crate::metrics::Metrics;
use crate::storage::horizon::SHARDS;
use crate::storage::{Dialect, Store};

/// A lease that ends only with the process; the lock on the SQLite file is the real one.
const FOREVER_MS: i64 = i64::MAX / 2;
const RENEW_EVERY: Duration = Duration::from_millis(shards::RENEW_EVERY_MS.unsigned_abs());
const POLL_EVERY: Duration = Duration::from_millis(shards::POLL_EVERY_MS.unsigned_abs());

/// An order to give a shard back, if it is still held under the lease with this token.
pub(super) struct GiveBack(pub(super) i16, pub(super) Uuid);

/// What holds a node's leases.
pub(super) struct Keeper {
    node_id: NodeId,
    store: Store,
    metrics: Arc<Metrics>,
    reports: Reports,
    held: Vec<Held>,
    /// The shard that is on its way to another node.
    yielding: Option<i16>,
    renewed_at: Option<Instant>,
    nodes: Arc<AtomicUsize>,
    started: Instant,
    /// The node is about to stop: it keeps what it has until that is given back, and takes nothing.
    shutdown: CancellationToken,
    has_signed_off: bool,
}

impl Keeper {
    /// `started` is where the node's monotonic clock begins.
    pub(super) fn new(
        store: Store,
        metrics: Arc<Metrics>,
        reports: Reports,
        nodes: Arc<AtomicUsize>,
        started: Instant,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            node_id: NodeId::generate(),
            store,
            metrics,
            reports,
            held: Vec::new(),
            yielding: None,
            renewed_at: None,
            nodes,
            started,
            shutdown,
            has_signed_off: false,
        }
    }

    /// Works until `stop`, then gives everything back.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<GiveBack>,
        stop: CancellationToken,
    ) {
        loop {
            if let Err(error) = self.turn().await {
                tracing::warn!(%error, "shard leases cannot be renewed");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.shutdown.cancelled(), if !self.has_signed_off => {}
                order = orders.recv() => match order {
                    Some(order) => self.give_back(&order).await,
                    None => break,
                },
                () = tokio::time::sleep(POLL_EVERY) => {}
            }
            while let Ok(order) = orders.try_recv() {
                self.give_back(&order).await;
            }
        }
        self.leave().await;
    }

    async fn turn(&mut self) -> Result<(), DbErr> {
        if self.shutdown.is_cancelled() {
            self.sign_off().await;
        }
        if self.store.dialect() == Dialect::Sqlite {
            return self.take_all().await;
        }
        if self.renewed_at.is_none_or(|at| at.elapsed() >= RENEW_EVERY) {
            self.renew().await?;
        }
        if self.has_signed_off {
            return Ok(());
        }
        let share = shards::share(self.nodes.load(Ordering::Relaxed));
        if self.held.len() < share {
            let asked_at = Instant::now();
            let taken = self.take(share - self.held.len(), false).await?;
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

    async fn take_all(&mut self) -> Result<(), DbErr> {
        if self.held.len() < SHARDS && !self.has_signed_off {
            let taken = self.take(SHARDS, true).await?;
            for lease in &taken {
                self.leased(lease, FOREVER_MS);
            }
            self.held.extend(taken);
        }
        Ok(())
    }

    async fn take(&self, count: usize, takes_all: bool) -> Result<Vec<Held>, DbErr> {
        let held: BTreeSet<i16> = self.held.iter().map(|lease| lease.shard).collect();
        let taken = shards::take(&self.store, self.node_id, &held, count, takes_all).await?;
        self.metrics.shards_taken(taken.len());
        Ok(taken)
    }

    async fn renew(&mut self) -> Result<(), DbErr> {
        let asked_at = Instant::now();
        if !self.has_signed_off {
            let nodes = shards::heartbeat(&self.store, self.node_id).await?;
            self.nodes.store(nodes, Ordering::Relaxed);
        }
        let renewed = shards::renew(&self.store, &self.held).await?;
        for lease in &self.held {
            if renewed.contains(lease) {
                self.leased(lease, self.until(asked_at));
            } else {
                tracing::warn!(shard = lease.shard, "shard lost to another node");
                self.metrics.shard_lost();
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

    async fn give_back(&mut self, order: &GiveBack) {
        let GiveBack(shard, token) = order;
        let is_named = |lease: &Held| lease.shard == *shard && lease.token == *token;
        let Some(index) = self.held.iter().position(is_named) else {
            return;
        };
        self.yielding = self.yielding.filter(|yielding| yielding != shard);
        let lease = self.held.swap_remove(index);
        if let Err(error) = shards::give_back(&self.store, &lease).await {
            tracing::warn!(shard, %error, "a shard was not given back; its lease runs out instead");
        }
    }

    /// Counts no more among the nodes, so that the others take what this one gives back.
    async fn sign_off(&mut self) {
        if !std::mem::replace(&mut self.has_signed_off, true)
            && self.store.dialect() == Dialect::Postgres
            && let Err(error) = shards::leave(&self.store, self.node_id).await
        {
            tracing::warn!(%error, "the node was not signed off");
        }
    }

    async fn leave(&mut self) {
        self.sign_off().await;
        for lease in std::mem::take(&mut self.held) {
            if let Err(error) = shards::give_back(&self.store, &lease).await {
                tracing::warn!(shard = lease.shard, %error, "a shard was not given back");
            }
        }
    }
}
