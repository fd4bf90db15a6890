//! What the tests are written in: apps and actors in this process, real servers in processes of their
//! own, real databases, a real webhook receiver, and pictures of the world.

#[macro_use]
pub(crate) mod database;
#[macro_use]
pub(crate) mod still;

pub(crate) mod actors;
pub(crate) mod app;
pub(crate) mod choices;
pub(crate) mod client;
pub(crate) mod dns;
pub(crate) mod hostile_receiver;
pub(crate) mod ledger;
pub(crate) mod mirror;
pub(crate) mod people;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod receiver;
pub(crate) mod replica;
pub(crate) mod store;
pub(crate) mod tls;
pub(crate) mod waiting;
pub(crate) mod world;

pub(crate) use actors::{Answer, Idp};
pub(crate) use app::TestApp;
pub(crate) use database::Database;
