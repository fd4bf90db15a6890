//! What all audiences share at the edge of HTTP: reading bodies, counting connections, addresses of
//! callers, request ids.

pub mod body;
pub mod connections;
pub mod front;
pub mod peer;
