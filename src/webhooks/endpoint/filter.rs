//! What an endpoint takes, and since when.

use serde::{Deserialize, Serialize};

use crate::storage::horizon::SHARDS;

/// Which events an endpoint takes. An empty list stands for no limit, but among event types for those of
/// the sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The names of event types.
    pub events: Vec<String>,
    /// The ids of organizations.
    #[serde(default)]
    pub organizations: Vec<String>,
    /// The ids of directories.
    #[serde(default)]
    pub directories: Vec<String>,
}

/// A filter and, for each shard, the position after which it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The positions, by shard.
    pub from: [i64; SHARDS],
    /// What is taken from there on.
    #[serde(flatten)]
    pub filter: Filter,
}
