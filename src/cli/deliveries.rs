//! `rollcall delivery` and `rollcall replay`: what went to an endpoint, and sending it once more.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::administer::Request;
use super::arguments::Where;

#[derive(Debug, Args)]
pub(super) struct OneEndpoint {
    /// The webhook endpoint
    #[arg(value_name = "ENDPOINT_ID")]
    id: String,
    #[command(flatten)]
    place: Where,
}

fn path(endpoint: &str) -> String {
    format!("/admin/v1/webhook_endpoints/{endpoint}")
}

#[derive(Debug, Subcommand)]
pub(super) enum DeliveryVerb {
    /// Show what went to an endpoint, newest first
    List {
        /// The webhook endpoint
        #[arg(value_name = "ENDPOINT_ID")]
        endpoint: String,
        #[command(flatten)]
        wanted: Box<WantedDeliveries>,
        #[command(flatten)]
        place: Where,
    },
    /// Show one delivery with each attempt
    Show {
        /// The webhook endpoint
        #[arg(value_name = "ENDPOINT_ID")]
        endpoint: String,
        /// The event, or its position
        #[arg(value_name = "EVENT_ID")]
        event: String,
        #[command(flatten)]
        place: Where,
    },
    /// Send one event once more; tells what has happened since to what it is about
    Resend {
        /// The webhook endpoint
        #[arg(value_name = "ENDPOINT_ID")]
        endpoint: String,
        /// The event
        #[arg(value_name = "EVENT_ID")]
        event: String,
        /// Send not the event, but the user or group as it is now
        #[arg(long)]
        current_state: bool,
        #[command(flatten)]
        place: Where,
    },
}

#[derive(Debug, Args)]
pub(super) struct WantedDeliveries {
    /// Those that stand so
    #[arg(long, value_parser = ["delivered", "retrying", "parked", "held"])]
    status: Option<String>,
    /// Of events of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Of this directory only
    #[arg(long, value_name = "DIRECTORY_ID")]
    directory: Option<String>,
    /// Of events from this time on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Of events before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Those that follow, as the end of a page says
    #[arg(long, value_name = "POSITION")]
    after: Option<String>,
    /// How many: 1 to 100
    #[arg(long, default_value_t = 10)]
    limit: u32,
}

impl WantedDeliveries {
    fn into_query(self, endpoint: String) -> Value {
        let given = [
            ("endpoint", Some(endpoint)),
            ("status", self.status),
            ("type", self.kind),
            ("directory", self.directory),
            ("since", self.since),
            ("until", self.until),
            ("after", self.after),
            ("limit", Some(self.limit.to_string())),
        ];
        fields(given)
    }
}

/// The fields that are given.
fn fields<const N: usize>(given: [(&str, Option<String>); N]) -> Value {
    let given = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))));
    Value::Object(given.collect::<Map<_, _>>())
}

impl DeliveryVerb {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::List {
                endpoint,
                wanted,
                place,
            } => Request::search("/admin/v1/deliveries", &wanted.into_query(endpoint), place),
            Self::Show {
                endpoint,
                event,
                place,
            } => Request::get(&format!("{}/deliveries/{event}", path(&endpoint)), place),
            Self::Resend {
                endpoint,
                event,
                current_state,
                place,
            } => {
                let form = current_state.then_some("current_state");
                let body = json!({"delivery": event, "as": form});
                Request::new(&format!("{}/replays", path(&endpoint)), body, place)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ReplayVerb {
    /// Send once more what was parked, or a part of the log, in order
    Start {
        /// The webhook endpoint
        #[arg(value_name = "ENDPOINT_ID")]
        endpoint: String,
        #[command(flatten)]
        wanted: Box<WantedEvents>,
        #[command(flatten)]
        place: Where,
    },
    /// Show the replays of an endpoint, newest first
    List(OneEndpoint),
    /// Show a replay and how far it has come
    Show(OneReplay),
    /// End a replay
    Cancel(OneReplay),
}

#[derive(Debug, Args)]
pub(super) struct OneReplay {
    /// The webhook endpoint
    #[arg(value_name = "ENDPOINT_ID")]
    endpoint: String,
    /// The replay
    #[arg(value_name = "REPLAY_ID")]
    id: String,
    #[command(flatten)]
    place: Where,
}

impl OneReplay {
    fn path(&self) -> String {
        format!("{}/replays/{}", path(&self.endpoint), self.id)
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct WantedEvents {
    /// What was parked, of what first failed since this time (RFC 3339)
    #[arg(
        long,
        value_name = "TIME",
        conflicts_with_all = ["since", "until", "directory", "from_sequence", "to_sequence", "types"]
    )]
    recover_since: Option<String>,
    /// Events from this time on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Events before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Of this directory only
    #[arg(long, value_name = "DIRECTORY_ID")]
    directory: Option<String>,
    /// From this sequence of the directory on
    #[arg(long, value_name = "NUMBER", requires = "directory")]
    from_sequence: Option<i64>,
    /// Up to this sequence of the directory
    #[arg(long, value_name = "NUMBER", requires = "directory")]
    to_sequence: Option<i64>,
    /// Of this event type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
}

impl WantedEvents {
    fn into_body(self) -> Value {
        if let Some(since) = self.recover_since {
            return json!({"recover": {"since": since}});
        }
        json!({"range": {
            "since": self.since,
            "until": self.until,
            "directory": self.directory,
            "from_sequence": self.from_sequence,
            "to_sequence": self.to_sequence,
            "types": self.types,
        }})
    }
}

impl ReplayVerb {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::Start {
                endpoint,
                wanted,
                place,
            } => {
                let path = format!("{}/replays", path(&endpoint));
                Request::new(&path, wanted.into_body(), place)
            }
            Self::List(endpoint) => {
                Request::get(&format!("{}/replays", path(&endpoint.id)), endpoint.place)
            }
            Self::Show(replay) => Request::get(&replay.path(), replay.place),
            Self::Cancel(replay) => Request::delete(&replay.path(), replay.place),
        }
    }
}
