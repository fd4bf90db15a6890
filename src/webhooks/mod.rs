//! Webhooks: events on their way to the vendor's app.
//!
//! Cast: an [`endpoint`] is where events go. A node's [`dispatcher`] decides what may be sent now, for the
//! [`shards`] that the node owns; each endpoint has a [`stream`] in each shard, and [`lanes`] keep causal
//! order within it. The [`driver`] does what the dispatcher says: it reads the log, sends [`request`]s
//! with [`signature`]s, and records results in the endpoint's [`place`]. A directory whose deliveries
//! [`holds`] stop, or which would keep the others from being read, is split off into a stream of its own.
//! That a person was deleted or became inactive overtakes what waits about others. A [`snapshot`] brings an
//! endpoint the whole state of a directory.
//!
//! How an endpoint fares is its [`standing`]: a [`breaker`] stops what goes to one that is down, its [`pace`]
//! is what it can take; what all nodes are to know of it is a row that they share.
//!
//! Guarantees: each event reaches each endpoint at least once; an endpoint sees an event after the earlier
//! ones that it depends on, as [`links`] lets the receiver check. Leases make double work rare; the
//! fence on every record makes it harmless.

mod ahead;
pub mod backlog;
pub mod breaker;
pub mod deliveries;
pub mod dispatcher;
pub mod driver;
pub mod endpoint;
pub mod explain;
pub mod figures;
pub mod holds;
mod keeper;
pub mod lanes;
pub mod links;
pub mod pace;
mod page;
pub mod place;
pub mod replay;
pub mod request;
pub mod retention;
pub mod retry;
pub mod shards;
pub mod signature;
pub mod snapshot;
pub mod standing;
pub mod stream;
mod tail;
pub mod view;
