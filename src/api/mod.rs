//! The REST API for SaaS vendors: the wire contract at the root, and what it lacks at `/admin/v1`.
//!
//! Each resource has a file with its *operations*: functions of a [`Caller`] and a
//! typed request that give a view or a [`Problem`]. HTTP handlers and the command line call the
//! same operations, so that both check, answer and fail alike.
//!
//! Invariants: every answer, errors included, is a JSON object; a view never holds a secret except where
//! it is made.

pub mod api_keys;
pub mod audit;
mod caller;
pub mod checks;
pub mod checksum;
pub mod deliveries;
pub mod directories;
pub mod directory_states;
pub mod endpoints;
pub mod erasure;
pub mod explanations;
pub mod generations;
pub mod groups;
pub mod guard;
pub mod health;
mod idempotency;
pub mod management;
pub mod metrics;
pub mod organizations;
pub mod person;
mod problem;
mod read;
pub mod replays;
pub mod requests;
mod resources;
pub mod routes;
pub mod snapshots;
pub mod tokens;
pub mod users;

pub use caller::Caller;
pub use problem::{FieldError, Problem};
pub use read::query;
