//! What the tests are written in: apps, actors and pictures of the world.

#[macro_use]
pub(crate) mod database;

pub(crate) mod actors;
pub(crate) mod app;
pub(crate) mod people;
pub(crate) mod postgres;
pub(crate) mod world;

pub(crate) use actors::{Answer, Idp};
pub(crate) use app::TestApp;
pub(crate) use database::Database;
