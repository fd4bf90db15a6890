//! The event log: what happened in a directory, in the order in which it happened.
//!
//! Cast: an [`Event`] is something that a vendor is told about; its [`Kind`] is the contract's name for
//! it. [`append`] buffers it in a write transaction, and the transaction gives it its *position* (the one
//! order of the whole log) and its *sequence* (gapless from 1 within its directory). [`log`] reads, and
//! [`cut`] says where it begins.
//!
//! Invariants: no event without a change and no change without an event; a payload never changes once it
//! is written, because receivers compare signatures over its bytes.

pub mod cut;
mod event;
pub mod gaps;
pub mod log;

pub use event::{Event, Kind, activated_data, append, deleted_data, payload, token_data};
