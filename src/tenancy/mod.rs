//! Who uses this installation: organizations (the vendor's customers) and API keys (the vendor itself).

pub mod api_key;
pub mod organization;
