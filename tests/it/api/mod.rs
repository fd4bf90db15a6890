//! The REST API as a vendor's program uses it.

mod checks;
mod deletion;
mod departures;
mod directories;
mod endpoint_settings;
mod endpoints;
mod erasure;
mod errors;
mod health;
mod idempotency;
mod inactive;
mod management;
mod organizations;
mod scene;
mod states;
mod token_events;
mod tokens;
mod users;
mod why;

/// The fields that an answer says are wrong.
fn fields(problem: &serde_json::Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    errors
        .iter()
        .filter_map(|error| error["field"].as_str())
        .collect()
}
