//! Which generation of the log this is, and the beginning of new ones.
//!
//! See [`crate::storage::generation`] for what a generation is. One begins when a backup was restored,
//! or when a standby was promoted that may lack the last transactions, which only people can know.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue, EntityTrait, sea_query::OnConflict};
use serde_json::json;

use crate::actor::Actor;
use crate::audit;
use crate::storage::generation::{self, FIRST};
use crate::storage::schema::{claim_fact, read_fact};
use crate::storage::tables::{facts, generations};
use crate::storage::{Error, Lane, Store, UseCase, WriteTx};

/// The fact that names the timeline of the server on which the newest generation is known to be whole.
const TIMELINE: &str = "timeline";

/// The number of the generation that a server starts in. With `is_lossy` a new one begins first if the
/// database server is on another timeline than the one before it.
///
/// # Errors
/// The database fails.
pub async fn at_start(store: &Store, now: DateTime<Utc>, is_lossy: bool) -> Result<i32, Error> {
    generation::found(store.statement_connection(), now).await?;
    if let Some(timeline) = generation::timeline(store).await? {
        follow(store, timeline, is_lossy).await?;
    }
    let newest = generation::newest(store.statement_connection()).await?;
    Ok(newest.map_or(FIRST, |newest| newest.number))
}

async fn follow(store: &Store, timeline: String, is_lossy: bool) -> Result<(), Error> {
    let connection = store.statement_connection();
    claim_fact(connection, TIMELINE, &timeline).await?;
    if read_fact(connection, TIMELINE).await?.as_ref() == Some(&timeline) {
        return Ok(());
    }
    if !is_lossy {
        tracing::warn!(
            "the database server was replaced or promoted; if it may lack its predecessor's last \
             transactions, set database.lossy_failover and start again"
        );
        return Ok(());
    }
    if let Some(row) = store.write(Lane::System, Promoted(timeline)).await? {
        tracing::warn!(
            generation = row.number,
            directories = row.directories,
            "a new generation begins: the database server was replaced or promoted"
        );
    }
    Ok(())
}

/// Begins a generation for a timeline, unless another node has.
struct Promoted(String);

impl UseCase for Promoted {
    type Answer = Option<generations::Model>;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Self::Answer, Error> {
        generation::wait_for_writers(tx).await?;
        if read_fact(tx, TIMELINE).await?.as_ref() == Some(&self.0) {
            return Ok(None);
        }
        set_timeline(tx, &self.0).await?;
        let row = begin(tx, Actor::SYSTEM, "lossy failover", 0).await?;
        Ok(Some(row))
    }
}

/// Begins a generation because a backup was restored.
#[derive(Debug)]
pub struct Restored {
    /// The number above which it is to be.
    pub above: i32,
    /// The timeline of the server, if it has one.
    pub timeline: Option<String>,
}

impl UseCase for Restored {
    type Answer = generations::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<generations::Model, Error> {
        let row = begin(tx, Actor::COMMAND, "restored from a backup", self.above).await?;
        if let Some(timeline) = &self.timeline {
            set_timeline(tx, timeline).await?;
        }
        Ok(row)
    }
}

async fn begin(
    tx: &WriteTx,
    actor: Actor,
    cause: &str,
    above: i32,
) -> Result<generations::Model, Error> {
    let row = generation::begin(tx, cause, above).await?;
    let details = json!({"cause": row.cause, "directories": row.directories});
    let entry = audit::Entry::of_installation("generation.began", &row.number).with(details);
    audit::record(tx, actor, entry).await?;
    Ok(row)
}

async fn set_timeline(tx: &WriteTx, timeline: &str) -> Result<(), Error> {
    let fact = facts::ActiveModel {
        name: ActiveValue::Set(TIMELINE.to_owned()),
        value: ActiveValue::Set(timeline.to_owned()),
    };
    facts::Entity::insert(fact)
        .on_conflict(
            OnConflict::column(facts::Column::Name)
                .update_column(facts::Column::Value)
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(())
}
