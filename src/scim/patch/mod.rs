//! PATCH: partial changes of users and groups (RFC 7644 section 3.5.2), without any database.
//!
//! [`operation`] reads a body into [`Operation`]s. For a user, [`apply()`] turns a document and the
//! operations into the next document. For a group, [`members`] first sets the changes of membership
//! apart, because members are rows that no request has to load; the rest goes through [`apply()`].
//! `elements` holds the rules for multi-valued attributes, `complex` those for `name` and its like.
//!
//! Operations happen in order and all or none: a document comes out, or an error, and the document
//! that went in is untouched.

pub mod apply;
mod complex;
mod effort;
mod elements;
mod foreign;
pub mod members;
pub mod operation;

pub use apply::{Context, apply};
pub use members::{GroupPatch, MemberChange};
pub use operation::{Op, Operation};

#[cfg(test)]
mod tests;
