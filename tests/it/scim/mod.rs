//! The SCIM endpoints as identity providers use them.

mod attributes;
mod base_urls;
mod discovery;
mod errors;
mod groups;
mod lists;
mod streaming;
mod users;
