//! Rollcall, a self-hosted directory-sync broker.
//!
//! A SaaS vendor runs Rollcall beside its app. Each of the vendor's customers (an *organization*) gets
//! *directories*; each directory has its own SCIM 2.0 endpoint and bearer tokens, which the customer's
//! IT department gives to Okta, Entra ID or whatever it uses. Every change that the identity provider
//! pushes is checked, stored, turned into an *event*, and delivered to the vendor's app as a signed
//! webhook: at least once, in causal order, retried until it arrives.
//!
//! # Words
//! - **directory user**, **directory group**, **membership**: who is in a directory, and in which group.
//! - **event log**: all events in one order (*position*), and per directory gapless from 1 (*sequence*).
//! - **webhook endpoint** (short: endpoint): where a vendor's events go. A **delivery** is one event to
//!   one endpoint, an **attempt** one HTTP request of a delivery.
//! - **shard**: one of sixteen parts of the log; a directory stays in one. A **cursor** is an endpoint's
//!   place in a shard. A **lane** keeps events about the same thing in order.
//! - **dispatcher**: what a node runs for the shards that it owns. A **breaker** tells a dead endpoint
//!   from a poisonous event; an event that keeps failing alone is **parked**.
//!
//! # Where things live
//! A rule lives with its noun; a URL lives with whoever calls it. Imports go one way, downwards:
//!
//! | layer | modules |
//! | --- | --- |
//! | entry | [`cli`], [`demo`], [`simulate`], [`app`] |
//! | audiences | [`scim`] (identity providers), [`api`] (vendors); [`web`] is what both share |
//! | at hand for all of them | [`context`], [`limits`], [`activity`], [`jobs`], [`first_start`] |
//! | domain | [`directories`], [`webhooks`], [`tenancy`], [`requests`] |
//! | what a resource may be | [`schema`] |
//! | what is written down | [`audit`] |
//! | the log | [`events`] |
//! | foundations | [`storage`], [`outbound`], [`secrets`], [`json`], [`keys`], [`ids`], [`actor`], [`clock`], [`config`], [`metrics`], [`telemetry`] |
//!
//! # The way of one change
//! 1. [`scim::caller`] turns the bearer token into a directory; only then is the body read.
//! 2. [`schema::body`] reads strict JSON, [`scim::patch`] and [`schema`] what the provider means by
//!    it, all pure.
//! 3. [`directories::user`] or [`directories::group`] runs the use case in [`storage::Store::write`]: the
//!    directory's row lock first, the token checked again under it, then load, compute, compare. What
//!    changes nothing writes nothing.
//! 4. [`events::append`] buffers the event; just before COMMIT the transaction gives it its sequence and
//!    position. The provider is answered after COMMIT.
//! 5. The commit wakes [`webhooks::driver`]. It reads the log after each endpoint's cursor, and the pure
//!    [`webhooks::dispatcher`] decides which events may go now.
//! 6. [`webhooks::request`] signs at the moment of sending, [`outbound`] sends, and results are recorded
//!    in batches, fenced by the shard's lease.

pub mod activity;
pub mod actor;
pub mod api;
pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod context;
pub mod demo;
pub mod directories;
pub mod events;
pub mod first_start;
pub mod ids;
pub mod jobs;
pub mod json;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod outbound;
pub mod requests;
pub mod schema;
pub mod scim;
pub mod secrets;
pub mod simulate;
pub mod storage;
pub mod telemetry;
pub mod tenancy;
pub mod web;
pub mod webhooks;
