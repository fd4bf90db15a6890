//! Who uses this installation: organizations (the vendor's customers) and API keys (the vendor itself),
//! whose repeated requests are recognized ([`idempotency`]).

pub mod api_key;
pub mod idempotency;
pub mod organization;
