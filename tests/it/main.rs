//! Rollcall from the outside: real servers on real databases, asked over HTTP.
//!
//! All of it is one binary. Each binary in `tests/` is linked on its own with everything that the
//! server is made of, which takes longer than most of these tests run.
//!
//! Tests run on SQLite and on PostgreSQL; [`support::database`] says where they find them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking"
)]

#[macro_use]
mod support;

mod api;
mod architecture;
mod audit;
mod backup;
mod breakers;
mod cli;
mod compression;
mod conformance;
mod crash;
mod deliveries;
mod dialogues;
mod doctor;
mod events;
mod faults_of_databases;
mod faults_of_receivers;
mod filters;
mod filters_of_endpoints;
mod grouping;
mod guard;
mod holds;
mod hostile;
mod isolation;
mod keys;
mod limits;
mod listen;
mod metrics;
mod model;
mod nodes;
mod outbound;
mod overtaking;
mod pooler;
mod positions;
mod readme;
mod replays;
mod requests;
mod retention;
mod retries;
mod row_security;
mod scim;
mod secrets;
mod signatures;
mod situations;
mod snapshots;
