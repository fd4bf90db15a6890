//! SCIM 2.0 for identity providers (RFC 7643, RFC 7644).
//!
//! Cast: a [`caller`] is an identity provider that has opened a directory with a token. [`routes`] says
//! which handler answers which URL. What a provider sends goes through [`body`] (strict JSON), then
//! [`schema`] (the resource as we keep it) or [`patch`] (changes to it), and then to the use cases of
//! `directories`. What it asks for goes through [`filter`], and everything goes back through [`render`].
//!
//! Invariants: every answer is `application/scim+json`, errors included; nothing is read from a body
//! before the caller is known; URLs in answers come from the configuration, never from the request.

mod bulk;
pub mod caller;
mod content;
mod discovery;
pub mod filter;
mod handlers;
mod http;
mod journal;
pub mod patch;
pub mod render;
mod resources;
pub mod routes;
mod search;
mod version;

pub use crate::schema::{self, body, error};
