//! The REST API as a vendor's program uses it.

mod deletion;
mod departures;
mod directories;
mod endpoints;
mod errors;
mod idempotency;
mod inactive;
mod management;
mod organizations;
mod states;
mod token_events;
mod tokens;
mod users;

/// The fields that an answer says are wrong.
fn fields(problem: &serde_json::Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    errors
        .iter()
        .filter_map(|error| error["field"].as_str())
        .collect()
}
