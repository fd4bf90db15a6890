//! One sea-orm entity per table, without logic.

pub mod api_keys;
pub mod attempts;
pub mod audit_entries;
pub mod audit_seals;
pub mod audit_waiting;
pub mod deliveries;
pub mod directories;
pub mod directory_activity;
pub mod directory_addresses;
pub mod endpoint_cursors;
pub mod endpoints;
pub mod events;
pub mod exceptions;
pub mod facts;
pub mod group_members;
pub mod groups;
pub mod idempotency_keys;
pub mod lagging;
pub mod memberships;
pub mod organization_domains;
pub mod organizations;
pub mod scim_request_subjects;
pub mod scim_requests;
pub mod scim_tokens;
pub mod user_emails;
pub mod users;
