//! Replays: events of the log sent to an endpoint once more.
//!
//! Cast: a replay is a row that says which events, and how far it has come; [`plan`] makes it from what was
//! asked, [`run`] works on it on whichever node has claimed it, `record` writes down a page of results,
//! fenced by the claim. A replay keeps the order of each directory, sends the same ids, bodies and
//! sequences as the first time, and is marked with its id in `Rollcall-Replay`. It never changes where the
//! dispatcher is: what has not arrived yet is delivered by it all the same.

mod current;
pub mod plan;
mod record;
pub mod run;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actor::Actor;
use crate::audit;
use crate::ids::{DirectoryId, EndpointId, EventId, ReplayId};
use crate::storage::tables::replays;
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// What is sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One event.
    Delivery,
    /// What an event was about, as it is now.
    CurrentState,
    /// What was parked.
    Recover,
    /// A part of the log.
    Range,
}

impl Kind {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::CurrentState => "current_state",
            Self::Recover => "recover",
            Self::Range => "range",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Delivery,
            Self::CurrentState,
            Self::Recover,
            Self::Range,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// Which events of those between a replay's positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Criteria {
    /// The event, if it is one, or the one whose present state is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// The id under which a present state is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// From this time on: when it happened, or for what was parked, when it first failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Of this directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// From this sequence on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_sequence: Option<i64>,
    /// Up to this sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_sequence: Option<i64>,
    /// Of these types; none means all that the endpoint takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
}

impl Criteria {
    fn directory_id(&self) -> Option<DirectoryId> {
        self.directory.as_deref().and_then(DirectoryId::parse)
    }

    fn event_id(&self) -> EventId {
        let known = self.event_id.as_deref().and_then(EventId::parse);
        known.unwrap_or_else(EventId::generate)
    }
}

/// What a replay is made from.
#[derive(Clone, Debug)]
pub struct NewReplay {
    /// Where the events go.
    pub endpoint_id: EndpointId,
    /// What is sent.
    pub kind: Kind,
    /// Which events.
    pub criteria: Criteria,
    /// The position after which it begins.
    pub position: i64,
    /// The position at which it ends.
    pub up_to: i64,
    /// How many events there are; -1 if they are too many to count.
    pub total: i64,
}

struct Create(Actor, ReplayId, NewReplay);

impl UseCase for Create {
    type Answer = replays::Model;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<replays::Model, storage::Error> {
        let Self(actor, id, new) = self;
        let row = replays::Model {
            id: *id,
            endpoint_id: new.endpoint_id,
            kind: new.kind.as_str().to_owned(),
            criteria: json!(new.criteria).to_string(),
            state: "waiting".to_owned(),
            position: new.position,
            up_to: new.up_to,
            total: new.total,
            sent: 0,
            failed: 0,
            error: None,
            actor: actor.who.to_string(),
            lease_token: None,
            lease_until_ms: 0,
            ended_at: None,
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        replays::Entity::insert(replays::ActiveModel::from(row.clone()))
            .exec_without_returning(tx)
            .await?;
        let details = json!({"webhook_endpoint_id": new.endpoint_id, "kind": new.kind.as_str()});
        let entry = audit::Entry::of_installation("replay.started", id).with(details);
        audit::record(tx, *actor, entry).await?;
        Ok(row)
    }
}

/// Makes a replay, which a node takes up soon.
///
/// # Errors
/// The database fails.
pub async fn create(
    store: &Store,
    actor: Actor,
    new: NewReplay,
) -> Result<replays::Model, storage::Error> {
    let create = Create(actor, ReplayId::generate(), new);
    store.write(Lane::System, create).await
}

struct Cancel(Actor, EndpointId, ReplayId);

impl UseCase for Cancel {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        let Self(actor, endpoint_id, id) = self;
        let canceled = replays::Entity::update_many()
            .set(replays::ActiveModel {
                state: ActiveValue::Set("canceled".to_owned()),
                ended_at: ActiveValue::Set(Some(tx.now())),
                updated_at: ActiveValue::Set(tx.now()),
                ..Default::default()
            })
            .filter(replays::Column::Id.eq(*id))
            .filter(replays::Column::EndpointId.eq(*endpoint_id))
            .filter(replays::Column::State.is_in(["waiting", "running"]))
            .exec(tx)
            .await?;
        if canceled.rows_affected == 0 {
            return Ok(false);
        }
        let entry = audit::Entry::of_installation("replay.canceled", id);
        audit::record(tx, *actor, entry).await?;
        Ok(true)
    }
}

/// Ends a replay, after what is on its way; tells whether it was going on.
///
/// # Errors
/// The database fails.
pub async fn cancel(
    store: &Store,
    actor: Actor,
    endpoint_id: EndpointId,
    id: ReplayId,
) -> Result<bool, storage::Error> {
    store
        .write(Lane::System, Cancel(actor, endpoint_id, id))
        .await
}

/// Finds a replay of an endpoint.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    endpoint_id: EndpointId,
    id: ReplayId,
) -> Result<Option<replays::Model>, DbErr> {
    replays::Entity::find_by_id(id)
        .filter(replays::Column::EndpointId.eq(endpoint_id))
        .one(connection)
        .await
}

/// The replays of an endpoint before `before`, newest first.
///
/// # Errors
/// The database fails.
pub async fn list(
    connection: &impl ConnectionTrait,
    endpoint_id: EndpointId,
    before: Option<ReplayId>,
    limit: u64,
) -> Result<Vec<replays::Model>, DbErr> {
    let mut query = replays::Entity::find().filter(replays::Column::EndpointId.eq(endpoint_id));
    if let Some(before) = before {
        query = query.filter(replays::Column::Id.lt(before));
    }
    query
        .order_by_desc(replays::Column::Id)
        .limit(limit)
        .all(connection)
        .await
}
