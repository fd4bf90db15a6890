//! The sealer: gives entries their places in the chains, and makes entries of what providers write.
//!
//! Writes of providers add no entry of their own, to stay fast; who did them in which request is in the
//! event log, which the sealer follows shard by shard. Several sealers may run: each batch is one
//! transaction, and the chains' lock and the stored cursors decide whose it is.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue, ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::{Key, PROVIDER_WRITE, chain};
use crate::events::log;
use crate::ids::{AuditEntryId, DirectoryId, EventId, RequestId, ScimTokenId};
use crate::storage::horizon::{self, Horizon, SHARDS};
use crate::storage::tables::{audit_cursors, audit_entries, audit_waiting, events};
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};

/// How many entries or events one batch takes.
const BATCH: usize = 500;

/// Seals entries, a bounded step after the other.
#[derive(Debug)]
pub struct Sealer {
    store: Store,
    key: Arc<Key>,
    /// Up to where the event log has been read to its end.
    read: Option<Horizon>,
}

impl Sealer {
    /// A sealer that has not looked yet.
    pub fn new(store: Store, key: Arc<Key>) -> Self {
        Self {
            store,
            key,
            read: None,
        }
    }

    /// Seals a batch of the entries that wait, and follows each shard of the log by one. Tells whether
    /// there may be more.
    ///
    /// # Errors
    /// The database fails; what was done before is kept.
    pub async fn step(&mut self) -> Result<bool, storage::Error> {
        let is_full = self.seal_waiting().await? == BATCH;
        let horizon = horizon::read(self.store.reader(), self.store.dialect()).await?;
        if self.read.as_ref() == Some(&horizon) {
            return Ok(is_full);
        }
        let is_behind = self.follow_log(&horizon).await?;
        self.read = (!is_behind).then_some(horizon);
        Ok(is_full || is_behind)
    }

    async fn seal_waiting(&self) -> Result<usize, storage::Error> {
        let first = audit_waiting::Entity::find().one(self.store.reader());
        if first.await?.is_none() {
            return Ok(0);
        }
        let seal = SealWaiting(Arc::clone(&self.key));
        self.store.write(Lane::System, seal).await
    }

    /// Reads a page of each shard; tells whether there may be more.
    async fn follow_log(&self, horizon: &Horizon) -> Result<bool, storage::Error> {
        let reader = self.store.reader();
        let cursors = audit_cursors::Entity::find().all(reader).await?;
        let cursors: HashMap<i16, i64> = cursors
            .into_iter()
            .map(|cursor| (cursor.shard, cursor.position))
            .collect();
        let mut is_behind = false;
        for shard in (0_i16..).take(SHARDS) {
            let after = cursors.get(&shard).copied();
            let (from, up_to) = (after.unwrap_or(0), horizon.of(shard));
            let limit = u64::try_from(BATCH).unwrap_or(u64::MAX);
            let mut rows = log::read_shard(reader, shard, from, up_to, limit).await?;
            if rows.len() == BATCH {
                is_behind = true;
                rows.truncate(whole_requests(&rows));
            }
            let Some(last) = rows.last() else {
                continue;
            };
            let pass = Pass {
                key: Arc::clone(&self.key),
                shard,
                after,
                position: last.position,
                entries: entries_of(&rows),
            };
            // A node that was faster may have stopped earlier.
            is_behind |= !self.store.write(Lane::System, pass).await?;
        }
        Ok(is_behind)
    }
}

/// How many of the first rows of a full page do not belong to the request of the last one, which may go
/// on in the next page; all of them if there is no other request.
fn whole_requests(rows: &[events::Model]) -> usize {
    let request = |row: &events::Model| (row.directory_id, row.request_id);
    let last = rows.last().map(request);
    let start = rows.iter().position(|row| Some(request(row)) == last);
    start.filter(|start| *start > 0).unwrap_or(rows.len())
}

/// An entry for each request of a provider among these events. A request of more events than a page
/// holds, or of several transactions, may get several; each of its events is in one of them.
fn entries_of(rows: &[events::Model]) -> Vec<audit_entries::Model> {
    let mut writes: Vec<(&events::Model, Vec<EventId>)> = Vec::new();
    let mut known: HashMap<(DirectoryId, Option<RequestId>, &str), usize> = HashMap::new();
    for row in rows {
        let Some(actor) = row.actor.as_deref().filter(|actor| is_provider(actor)) else {
            continue;
        };
        let index = *known
            .entry((row.directory_id, row.request_id, actor))
            .or_insert(writes.len());
        match writes.get_mut(index) {
            Some((_, events)) => events.push(row.id),
            None => writes.push((row, vec![row.id])),
        }
    }
    let entry = |(first, events): (&events::Model, Vec<EventId>)| audit_entries::Model {
        id: AuditEntryId::generate(),
        organization_id: Some(first.organization_id),
        directory_id: Some(first.directory_id),
        actor: first.actor.clone().unwrap_or_default(),
        request_id: first.request_id,
        action: PROVIDER_WRITE.to_owned(),
        subject: first.directory_id.to_string(),
        details: json!({"events": events}).to_string(),
        created_at: first.created_at,
    };
    writes.into_iter().map(entry).collect()
}

/// Everybody else's acts have entries of their own.
fn is_provider(actor: &str) -> bool {
    ScimTokenId::parse(actor).is_some()
}

/// Gives the entries that wait their places.
struct SealWaiting(Arc<Key>);

impl UseCase for SealWaiting {
    type Answer = usize;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<usize, storage::Error> {
        chain::lock(tx).await?;
        let waiting: Vec<AuditEntryId> = audit_waiting::Entity::find()
            .select_only()
            .column(audit_waiting::Column::EntryId)
            .order_by_asc(audit_waiting::Column::EntryId)
            .limit(u64::try_from(BATCH).unwrap_or(u64::MAX))
            .into_tuple()
            .all(tx)
            .await?;
        if waiting.is_empty() {
            return Ok(0);
        }
        let entries = audit_entries::Entity::find()
            .filter(audit_entries::Column::Id.is_in(waiting.iter().copied()))
            .order_by_asc(audit_entries::Column::CreatedAt)
            .order_by_asc(audit_entries::Column::Id)
            .all(tx)
            .await?;
        if entries.len() < waiting.len() {
            let missing = waiting.len() - entries.len();
            tracing::error!(
                missing,
                "audit entries were deleted before they were sealed"
            );
        }
        if !entries.is_empty() {
            chain::append(tx, &self.0, &entries).await?;
        }
        audit_waiting::Entity::delete_many()
            .filter(audit_waiting::Column::EntryId.is_in(waiting.iter().copied()))
            .exec(tx)
            .await?;
        Ok(waiting.len())
    }
}

/// Moves the cursor of a shard on, with the entries about what lies between, unless another node has
/// moved it; tells whether it did.
struct Pass {
    key: Arc<Key>,
    shard: i16,
    after: Option<i64>,
    position: i64,
    entries: Vec<audit_entries::Model>,
}

impl UseCase for Pass {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        if !self.entries.is_empty() {
            chain::lock(tx).await?;
        }
        let is_moved = self.move_cursor(tx).await?;
        if is_moved && !self.entries.is_empty() {
            let rows = self.entries.iter().cloned();
            let rows = rows.map(audit_entries::ActiveModel::from);
            audit_entries::Entity::insert_many(rows)
                .exec_without_returning(tx)
                .await?;
            chain::append(tx, &self.key, &self.entries).await?;
        }
        Ok(is_moved)
    }
}

impl Pass {
    async fn move_cursor(&self, tx: &WriteTx) -> Result<bool, DbErr> {
        let Some(after) = self.after else {
            let row = audit_cursors::ActiveModel {
                shard: ActiveValue::Set(self.shard),
                position: ActiveValue::Set(self.position),
            };
            return insert_new(tx, row).await;
        };
        let moved = audit_cursors::Entity::update_many()
            .col_expr(audit_cursors::Column::Position, Expr::value(self.position))
            .filter(audit_cursors::Column::Shard.eq(self.shard))
            .filter(audit_cursors::Column::Position.eq(after))
            .exec(tx)
            .await?;
        Ok(moved.rows_affected == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::ids::OrganizationId;

    fn event(directory: DirectoryId, request: RequestId, actor: &str) -> events::Model {
        events::Model {
            position: 1,
            id: EventId::generate(),
            organization_id: OrganizationId::generate(),
            directory_id: directory,
            shard: 0,
            sequence: Some(1),
            kind: "dsync.user.created".to_owned(),
            user_id: None,
            group_id: None,
            names: None,
            payload: "{}".to_owned(),
            is_departure: false,
            actor: Some(actor.to_owned()),
            request_id: Some(request),
            created_at: clock::from_ms(0),
        }
    }

    #[test]
    fn each_request_of_a_provider_is_one_entry_also_among_others() {
        let (one, other) = (DirectoryId::generate(), DirectoryId::generate());
        let (first, second) = (RequestId::generate(), RequestId::generate());
        let token = ScimTokenId::generate().to_string();
        let rows = [
            event(one, first, &token),
            event(other, second, &token),
            event(one, RequestId::generate(), "command"),
            event(one, first, &token),
        ];

        let entries = entries_of(&rows);

        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].request_id, Some(first));
        assert_eq!(
            entries[0].details,
            json!({"events": [rows[0].id, rows[3].id]}).to_string()
        );
        assert_eq!(entries[1].directory_id, Some(other));
    }

    #[test]
    fn a_page_ends_before_a_request_that_may_go_on() {
        let directory = DirectoryId::generate();
        let (first, second) = (RequestId::generate(), RequestId::generate());
        let rows = [first, first, second, second].map(|request| event(directory, request, "x"));

        assert_eq!(whole_requests(&rows), 2);
        assert_eq!(whole_requests(&rows[..2]), 2);
    }
}
