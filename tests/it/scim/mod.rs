//! The SCIM endpoints as identity providers use them.

mod attributes;
mod discovery;
mod errors;
mod groups;
mod lists;
mod streaming;
mod users;
