//! Erasing a person: nothing that says who they were stays, and the story stays whole.
//!
//! Somebody who is still there is deleted first, so that everybody who was told of them is told of that.
//! Then whatever names them is overwritten where it stands: their events keep id, type, position and
//! sequence, and lose what is personal; what providers asked about them keeps when, how and with what
//! result. Events that have not arrived at an endpoint yet arrive in the erased form, unless they are on
//! their way already.
//!
//! All of it goes page by page, and may be run again after a crash: the event of the deletion, by which
//! somebody who is gone is found, is erased last.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};
use serde_json::{Value, json};

use super::person::Person;
use super::resource::Error;
use super::user;
use crate::actor::{Actor, Who};
use crate::audit;
use crate::events::Kind;
use crate::ids::{DirectoryId, EndpointId, ErasureId};
use crate::json;
use crate::storage::tables::{attempts, directories, events};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

mod requests;
mod traces;

use traces::Traces;

/// How many rows one transaction overwrites.
const PAGE_ROWS: u64 = 500;
/// The types of events that name a person, the one by which they are found last.
const KINDS: [Kind; 5] = [
    Kind::UserAdded,
    Kind::UserRemoved,
    Kind::UserCreated,
    Kind::UserUpdated,
    Kind::UserDeleted,
];

/// What was erased, without saying of whom.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The erasure.
    pub id: ErasureId,
    /// The directory.
    pub directory_id: DirectoryId,
    /// The person as the vendor knew them last.
    pub user_id: Option<String>,
    /// How many events were overwritten.
    pub events: u64,
    /// How many requests of providers were.
    pub requests: u64,
    /// Of how many deliveries the answers were.
    pub deliveries: u64,
    /// When it was done.
    pub erased_at: DateTime<Utc>,
}

/// Erases a person of `directory`, whoever manages it: `actor` answers for that, and the trail says so.
///
/// # Errors
/// The directory is going to be deleted, or the database fails; then it may have been done in part, and
/// can be done again.
pub async fn erase(
    store: &Store,
    actor: Actor,
    directory: &directories::Model,
    person: Person,
) -> Result<Receipt, Error> {
    let id = ErasureId::generate();
    note(
        store,
        actor,
        directory,
        "directory_user.erasure_started",
        id,
        Value::Null,
    )
    .await?;
    delete(store, actor, person).await?;
    let traces = Traces::gather(store, person).await?;
    let requests = requests::erase(store, person.directory_id, &traces).await?;
    let mut receipt = Receipt {
        id,
        directory_id: person.directory_id,
        user_id: traces.user_id,
        events: 0,
        requests,
        deliveries: 0,
        erased_at: store.clock().now(),
    };
    for kind in KINDS {
        erase_events(store, person, kind, &mut receipt).await?;
    }
    let counts = json!({
        "directory_user_id": receipt.user_id,
        "events": receipt.events,
        "requests": receipt.requests,
        "deliveries": receipt.deliveries,
    });
    note(store, actor, directory, "directory_user.erased", id, counts).await?;
    Ok(receipt)
}

/// Deletes somebody who is still there, with the events of it.
async fn delete(store: &Store, actor: Actor, person: Person) -> Result<(), Error> {
    let system = Actor {
        who: Who::System,
        ..actor
    };
    let check: user::Check = Arc::new(|_| Ok(()));
    let present = user::find(store.reader(), person.directory_id, person.id).await?;
    if present.is_none() {
        return Ok(());
    }
    match user::delete(store, person.directory_id, system, person.id, check).await {
        Err(Error::NotFound) => Ok(()),
        done => done,
    }
}

async fn note(
    store: &Store,
    actor: Actor,
    directory: &directories::Model,
    action: &'static str,
    id: ErasureId,
    details: Value,
) -> Result<(), storage::Error> {
    let entry = audit::Entry::of_directory(directory, action, &id).with(details);
    store.write(Lane::System, Note(actor, entry)).await
}

struct Note(Actor, audit::Entry);

impl UseCase for Note {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        Ok(audit::record(tx, self.0, self.1.clone()).await?)
    }
}

/// Some events of a person, of one type after a position.
async fn page(
    connection: &impl ConnectionTrait,
    person: Person,
    kind: Kind,
    after: i64,
) -> Result<Vec<events::Model>, DbErr> {
    events::Entity::find()
        .filter(events::Column::DirectoryId.eq(person.directory_id))
        .filter(events::Column::UserId.eq(person.id))
        .filter(events::Column::Kind.eq(kind.as_str()))
        .filter(events::Column::Position.gt(after))
        .order_by_asc(events::Column::Position)
        .limit(PAGE_ROWS)
        .all(connection)
        .await
}

async fn erase_events(
    store: &Store,
    person: Person,
    kind: Kind,
    receipt: &mut Receipt,
) -> Result<(), storage::Error> {
    let mut after = Some(0);
    while let Some(position) = after {
        let erase = EraseEvents {
            person,
            kind,
            after: position,
        };
        let erased = store.write(Lane::System, erase).await?;
        receipt.events += erased.events;
        receipt.deliveries += erased.deliveries;
        after = erased.last;
    }
    Ok(())
}

/// Overwrites a page of a person's events, and the answers that receivers gave to them.
struct EraseEvents {
    person: Person,
    kind: Kind,
    after: i64,
}

struct Erased {
    events: u64,
    deliveries: u64,
    last: Option<i64>,
}

impl UseCase for EraseEvents {
    type Answer = Erased;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<Erased, storage::Error> {
        let rows = page(tx, self.person, self.kind, self.after).await?;
        let mut events = 0;
        for row in &rows {
            let Some(payload) = erased(row) else {
                continue;
            };
            let change = events::ActiveModel {
                position: ActiveValue::Unchanged(row.position),
                names: ActiveValue::Set(None),
                payload: ActiveValue::Set(payload),
                ..Default::default()
            };
            events::Entity::update(change).exec(tx).await?;
            events += 1;
        }
        let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
        Ok(Erased {
            events,
            deliveries: erase_excerpts(tx, &positions).await?,
            last: positions.last().copied(),
        })
    }
}

/// The event without what is personal; `None` if it has been erased before.
fn erased(row: &events::Model) -> Option<String> {
    let mut payload: Value = serde_json::from_str(&row.payload).ok()?;
    let data = payload.get_mut("data")?;
    let is_of_membership = data.get("user").is_some();
    let user = if is_of_membership {
        data.get_mut("user")?
    } else {
        data
    };
    if user.get("erased").is_some() {
        return None;
    }
    *user = json!({
        "object": "directory_user",
        "id": user.get("id"),
        "directory_id": row.directory_id,
        "organization_id": row.organization_id,
        "state": user.get("state"),
        "erased": true,
    });
    Some(json::canonical(&payload))
}

/// Forgets what receivers answered, which may repeat what they were sent; returns of how many deliveries.
async fn erase_excerpts(tx: &WriteTx, positions: &[i64]) -> Result<u64, DbErr> {
    use attempts::Column;
    let deliveries: Vec<(EndpointId, i64)> = attempts::Entity::find()
        .select_only()
        .columns([Column::EndpointId, Column::Position])
        .distinct()
        .filter(Column::Position.is_in(positions.iter().copied()))
        .filter(Column::Excerpt.is_not_null())
        .into_tuple()
        .all(tx)
        .await?;
    attempts::Entity::update_many()
        .col_expr(Column::Excerpt, Expr::value(None::<String>))
        .filter(Column::Position.is_in(positions.iter().copied()))
        .filter(Column::Excerpt.is_not_null())
        .exec(tx)
        .await?;
    Ok(u64::try_from(deliveries.len()).unwrap_or(u64::MAX))
}
