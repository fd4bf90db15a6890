//! Rates that must be reached. A binary of its own, because Cargo runs binaries one after the other, and
//! a rate is worth something only while nothing else runs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking"
)]
#![expect(dead_code, reason = "the other tests use more of what they share")]

#[path = "../it/support"]
mod support {
    pub(crate) mod client;
    pub(crate) mod ledger;
    pub(crate) mod postgres;
    pub(crate) mod process;
    pub(crate) mod receiver;
    pub(crate) mod replica;
    pub(crate) mod waiting;
}

mod throughput;
