//! What all audiences share at the edge of HTTP: reading bodies, addresses of callers, request ids.

pub mod body;
pub mod front;
pub mod peer;
