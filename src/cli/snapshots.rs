//! Verbs about a directory as a whole: its snapshots on their way to endpoints, and its guard.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::administer::{Method, Request, read};
use super::arguments::Where;
use crate::api::{self, Caller, Problem, checksum, guard, snapshots};

#[derive(Debug, Subcommand)]
pub(super) enum SnapshotVerb {
    /// Send an endpoint the whole state of a directory; its live events wait meanwhile
    Start {
        /// The directory
        #[arg(long, value_name = "DIRECTORY_ID")]
        directory: String,
        /// The endpoint
        #[arg(long, value_name = "ENDPOINT_ID")]
        endpoint: String,
        #[command(flatten)]
        place: Where,
    },
    /// Show a snapshot, and how far it has come
    Show(OneSnapshot),
    /// Show the snapshots for an endpoint, newest first
    List {
        /// The endpoint
        #[arg(long, value_name = "ENDPOINT_ID")]
        endpoint: String,
        /// Only those that come after this one
        #[arg(long, value_name = "SNAPSHOT_ID")]
        after: Option<String>,
        /// How many at most, up to 100
        #[arg(long, default_value_t = 100)]
        limit: u64,
        #[command(flatten)]
        place: Where,
    },
    /// Send nothing more of a snapshot; the live events go on
    Cancel(OneSnapshot),
}

#[derive(Debug, Args)]
pub(super) struct OneSnapshot {
    /// The snapshot
    #[arg(value_name = "SNAPSHOT_ID")]
    id: String,
    #[command(flatten)]
    place: Where,
}

impl SnapshotVerb {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::Start {
                directory,
                endpoint,
                place,
            } => {
                let path = format!("/admin/v1/directories/{directory}/snapshot");
                Request::new(&path, json!({"endpoint_id": endpoint}), place)
            }
            Self::Show(OneSnapshot { id, place }) => {
                Request::get(&format!("/admin/v1/snapshots/{id}"), place)
            }
            Self::List {
                endpoint,
                after,
                limit,
                place,
            } => {
                let mut query = json!({"limit": limit});
                if let (Some(query), Some(after)) = (query.as_object_mut(), after) {
                    query.insert("after".to_owned(), Value::String(after));
                }
                let path = format!("/admin/v1/webhook_endpoints/{endpoint}/snapshots");
                Request::search(&path, &query, place)
            }
            Self::Cancel(OneSnapshot { id, place }) => {
                Request::delete(&format!("/admin/v1/snapshots/{id}"), place)
            }
        }
    }
}

/// What a directory's guard is set to; what is not given stays as it is.
#[derive(Debug, Args)]
pub(super) struct GuardSettings {
    /// It trips when more than so many percent of the active people are gone (0 to 99)
    #[arg(long)]
    percent: Option<i64>,
    /// And at least so many people
    #[arg(long)]
    people: Option<i64>,
    /// Within this time, such as 1h
    #[arg(long, value_name = "SPAN")]
    within: Option<String>,
    /// With tell, the audit trail, the log and the health say so; with hold, deliveries wait as well
    #[arg(long, value_parser = ["tell", "hold"])]
    action: Option<String>,
}

impl GuardSettings {
    /// Sets what is given of the guard of a directory; without anything, shows it.
    pub(super) fn into_request(self, directory: &str, place: Where) -> Request {
        let path = format!("/admin/v1/directories/{directory}/guard");
        let settings = [
            ("percent", self.percent.map(Value::from)),
            ("people", self.people.map(Value::from)),
            ("within", self.within.map(Value::String)),
            ("action", self.action.map(Value::String)),
        ];
        let given: serde_json::Map<String, Value> = settings
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        if given.is_empty() {
            Request::get(&path, place)
        } else {
            Request::patch(&path, Value::Object(given), place)
        }
    }
}

/// The operation behind a method and a path below `/admin/v1`, if it is one of these.
pub(super) async fn operate(
    caller: &Caller,
    method: Method,
    path: &[&str],
    query: &str,
    body: &Value,
) -> Option<Result<Value, Problem>> {
    Some(match (method, path) {
        (Method::Post, ["directories", id, "snapshot"]) => match read(body.clone()) {
            Ok(request) => snapshots::start(caller, id, request).await,
            Err(problem) => Err(problem),
        },
        (Method::Get, ["snapshots", id]) => snapshots::show(caller, id).await,
        (Method::Delete, ["snapshots", id]) => snapshots::cancel(caller, id).await,
        (Method::Get, ["webhook_endpoints", id, "snapshots"]) => match api::query(query) {
            Ok(request) => snapshots::list(caller, id, request).await,
            Err(problem) => Err(problem),
        },
        (Method::Get, ["directories", id, "checksum"]) => checksum::show(caller, id).await,
        (Method::Get, ["directories", id, "guard"]) => guard::show(caller, id).await,
        (Method::Patch, ["directories", id, "guard"]) => match read(body.clone()) {
            Ok(request) => guard::set(caller, id, request).await,
            Err(problem) => Err(problem),
        },
        (Method::Post, ["directories", id, "guard", "release"]) => guard::release(caller, id).await,
        _ => return None,
    })
}
