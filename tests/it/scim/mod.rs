//! The SCIM endpoints as identity providers use them.

mod attributes;
mod base_urls;
mod concurrency;
mod discovery;
mod errors;
mod groups;
mod large_groups;
mod lists;
mod nested;
mod streaming;
mod users;
