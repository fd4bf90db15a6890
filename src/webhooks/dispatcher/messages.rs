//! What a [`Dispatcher`](super::Dispatcher) is told, and what it says is to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::ids::{DirectoryId, EndpointId, ResourceId};
use crate::storage::horizon::SHARDS;
use crate::webhooks::endpoint::Options;
use crate::webhooks::holds::Held;
use crate::webhooks::standing::{Change, State, Written};
use crate::webhooks::stream::{Attempted, Batch, Chain, Offer, Place, Sending};

/// The two clocks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// Milliseconds since some moment, never going back.
    pub monotonic_ms: i64,
}

/// The right to dispatch a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Counts the owners of the shard.
    pub epoch: i64,
    /// A random number, because an epoch alone can repeat after a failover that lost something.
    pub token: Uuid,
    /// When it ends, on the node's monotonic clock, counted from before it was asked for.
    pub until_ms: i64,
}

/// One endpoint's place in one shard, from when it is recovered until it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The shard.
    pub shard: i16,
    /// Tells it from an earlier one of the same endpoint and shard, to which answers may still come.
    pub visit: u64,
}

/// Which of an endpoint's streams in a shard is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// That of the shard as a whole.
    Shard,
    /// That of a directory that is split off from it.
    Directory(DirectoryId),
}

/// What is to be read.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Of what.
    pub source: Source,
    /// The position after which it begins.
    pub after: i64,
    /// The position with which it ends.
    pub up_to: i64,
    /// The directories that are of no interest, because they are read by themselves.
    pub without: Arc<BTreeSet<DirectoryId>>,
    /// How many events are enough.
    pub rows: usize,
}

/// That a person was deleted or became inactive, somewhere in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Where.
    pub position: i64,
    /// In which directory.
    pub directory_id: DirectoryId,
    /// Who.
    pub user_id: Option<ResourceId>,
}

/// What the dispatcher needs to know of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How it wants its events.
    pub options: Options,
    /// Which of its filters is the newest.
    pub filter_number: i32,
}

/// What has happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// These are the enabled endpoints now, and so many nodes share the work.
    Endpoints(BTreeMap<EndpointId, Settings>, usize),
    /// How endpoints fare, as the nodes have written it down.
    States(BTreeMap<EndpointId, State>),
    /// What was to be written down about how an endpoint fares has been, if that is known.
    Stated(EndpointId, Option<Written>),
    /// The deliveries of these directories are held now, to all endpoints or to one, and of no others.
    Held(Held),
    /// A shard is ours, or still ours, under this lease.
    Leased(i16, Lease),
    /// A shard is no longer ours.
    Lost(i16),
    /// An endpoint's place in a shard or directory, as the database has it.
    Recovered(StreamId, Source, Place),
    /// The position of the last row of each shard, as far as it may be read.
    Tail([i64; SHARDS]),
    /// The stretch of a source that was asked for, or the start of it, for an endpoint.
    Page(StreamId, Source, Page),
    /// A read failed; it will be asked for again.
    ReadFailed(StreamId, Source),
    /// The departures of a shard that this visit asked for, after a position and up to another.
    Departures(i16, u64, Vec<Departure>, i64, i64),
    /// A departure with what it depends on; `None` if that could not be read.
    Chain(StreamId, Option<Chain>),
    /// A request has ended.
    Ended(StreamId, i64, Attempted),
    /// The record of a shard that this visit asked for has ended.
    Recorded(i16, u64, Recorded),
    /// Send and read nothing more for a shard, and give it back once all is written down.
    Yield(i16),
}

/// A page of the log, as one endpoint is offered it.
#[derive(Debug)]
pub struct Page {
    /// The rows that pass the endpoint's filter.
    pub offers: Vec<Arc<Offer>>,
    /// The position of the last row read.
    pub last_row: Option<i64>,
    /// Up to where there is nothing more, if that is known.
    pub read_to: Option<i64>,
    /// A directory in whose sequence something is missing after the last row.
    pub gap: Option<DirectoryId>,
}

/// How writing a record has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is durable.
    Written,
    /// The lease was not ours any more; nothing was written.
    Fenced,
    /// The database failed; it may have been written or not.
    Failed,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Load an endpoint's place in a shard or directory.
    Recover(StreamId, Source),
    /// Read a stretch of the log for an endpoint.
    Read(StreamId, Stretch),
    /// Look for departures in a shard after a position and up to another; the second number is the visit.
    ReadDepartures(i16, u64, i64, i64),
    /// Read for an endpoint what a departure depends on after a position.
    ReadChain(StreamId, Departure, i64),
    /// Send an event.
    Send(StreamId, Sending),
    /// Write down what has happened in a shard, if the lease still holds; the number is the visit.
    Record(i16, u64, Lease, Vec<(EndpointId, Batch)>),
    /// Write down how an endpoint fares, unless another node was first.
    State(EndpointId, Change),
    /// Disable an endpoint: it says that it is gone.
    Disable(EndpointId),
    /// Abort the requests of a shard and let the lease go: it may belong to another node soon. Under the
    /// same lease the shard must not come back, because a record may still be under way.
    Abort(i16, Lease),
    /// Give a shard back: everything about it is written down.
    GiveBack(i16, Lease),
}
