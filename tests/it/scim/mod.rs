//! The SCIM endpoints as identity providers use them.

mod discovery;
mod entra;
mod errors;
mod groups;
mod lists;
mod okta;
mod users;
