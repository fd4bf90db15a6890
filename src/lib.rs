//! Rollcall.
#![allow(missing_docs)]
pub mod activity;
pub mod api;
pub mod app;
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
pub mod outbound;
pub mod scim;
pub mod secrets;
pub mod simulate;
pub mod storage;
pub mod telemetry;
pub mod tenancy;
pub mod web;
pub mod webhooks;
