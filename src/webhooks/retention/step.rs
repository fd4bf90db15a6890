//! Cutting a shard: a chunk of its front in one transaction, with the gaps that this makes.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait,
    QueryFilter, Statement,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::chunk::{self, Row};
use super::{Limits, STEPS_MAX, pause};
use crate::actor::Actor;
use crate::audit;
use crate::events::cut;
use crate::ids::{DirectoryId, EndpointId};
use crate::storage::dialect::ColumnKind;
use crate::storage::horizon::SHARDS;
use crate::storage::tables::{
    endpoint_cursors, endpoint_gaps, endpoints, events, exceptions, lagging,
};
use crate::storage::{self, Dialect, Lane, Store, UseCase, WriteTx};
use crate::webhooks::endpoint;
use crate::webhooks::stream::Exception;

/// Cuts every shard as far as it may be; tells how many events went.
pub(super) async fn cut_all(
    store: &Store,
    limits: Limits,
    stop: &CancellationToken,
) -> Result<u64, storage::Error> {
    let mut removed = 0;
    let mut steps = 0;
    for shard in (0_i16..).take(SHARDS) {
        let mut after = cut::position(store.reader(), shard).await?;
        while steps < STEPS_MAX {
            let rows = chunk::read(store, shard, after, limits).await?;
            let Some(last) = rows.last() else {
                break;
            };
            let end = last.position;
            let cut = Cut {
                shard,
                after,
                end,
                rows,
            };
            let done = store.write(Lane::System, cut).await?;
            tell(store, &done.missed);
            removed += done.events;
            after = end;
            steps += 1;
            if !pause(stop).await {
                return Ok(removed);
            }
        }
    }
    Ok(removed)
}

/// Says of which live endpoints events are lost, and lets the dispatchers look at them anew.
fn tell(store: &Store, missed: &[(EndpointId, u64)]) {
    for (endpoint_id, events) in missed {
        tracing::error!(
            endpoint.id = %endpoint_id,
            events,
            "undelivered events were older than events.retention_max and are gone; the endpoint goes on after them"
        );
    }
    if !missed.is_empty() {
        store.wake().endpoints_changed();
    }
}

/// What a cut has done.
struct Done {
    events: u64,
    /// How many events each live endpoint never gets.
    missed: Vec<(EndpointId, u64)>,
}

/// Removes the events of a shard after `after` up to `end`, which are `rows`.
struct Cut {
    shard: i16,
    after: i64,
    end: i64,
    rows: Vec<Row>,
}

impl UseCase for Cut {
    type Answer = Done;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<Done, storage::Error> {
        let mut missed = Vec::new();
        for row in endpoint::list(tx).await? {
            let events = self.pass(tx, &row).await?;
            if events > 0 && endpoint::is_enabled(&row) {
                missed.push((row.id, events));
            }
        }
        let events = self.remove(tx).await?;
        cut::note(tx, self.shard, self.end).await?;
        Ok(Done { events, missed })
    }
}

impl Cut {
    /// Moves an endpoint's places past the cut; tells how many events it never gets by that.
    async fn pass(&self, tx: &WriteTx, row: &endpoints::Model) -> Result<u64, DbErr> {
        let floor = chunk::floor(tx, tx.dialect(), row.id, self.shard).await?;
        let events = match floor {
            Some(floor) if floor < self.end => self.missed_by(tx, row).await?,
            Some(_) | None => 0,
        };
        exceptions::Entity::delete_many()
            .filter(self.exceptions_of(row.id))
            .exec(tx)
            .await?;
        if let Some(floor) = floor.filter(|_| events > 0) {
            self.write_gap(tx, row, floor, events).await?;
            self.move_on(tx, row).await?;
        }
        Ok(events)
    }

    fn exceptions_of(&self, id: EndpointId) -> Condition {
        Condition::all()
            .add(exceptions::Column::EndpointId.eq(id))
            .add(exceptions::Column::Shard.eq(self.shard))
            .add(exceptions::Column::Position.lte(self.end))
    }

    /// The events that pass an endpoint's filter, are past its place, and are not parked for good. Those
    /// delivered ahead of its place, a few at most, count with them.
    async fn missed_by(&self, tx: &WriteTx, row: &endpoints::Model) -> Result<u64, DbErr> {
        let view = endpoint::view(tx, row).await?;
        let cursor = endpoint_cursors::Entity::find_by_id((row.id, self.shard))
            .one(tx)
            .await?
            .map_or(i64::MAX, |cursor| cursor.position);
        let apart: BTreeMap<DirectoryId, i64> = lagging::Entity::find()
            .filter(lagging::Column::EndpointId.eq(row.id))
            .filter(lagging::Column::Shard.eq(self.shard))
            .filter(lagging::Column::Position.lt(self.end))
            .all(tx)
            .await?
            .into_iter()
            .map(|place| (place.directory_id, place.position))
            .collect();
        let is_past = |event: &&Row| {
            let place = apart.get(&event.directory_id).copied();
            let filter = view.in_force_at(event.position);
            event.position > place.unwrap_or(cursor)
                && filter.is_some_and(|filter| {
                    filter.kinds.contains(event.kind.as_str())
                        && filter.reaches(event.organization_id, event.directory_id)
                })
        };
        let past = u64::try_from(self.rows.iter().filter(is_past).count()).unwrap_or(u64::MAX);
        let unfinished = exceptions::Entity::find()
            .filter(self.exceptions_of(row.id))
            .filter(exceptions::Column::Position.lte(cursor))
            .filter(
                Condition::any()
                    .add(exceptions::Column::State.ne(Exception::Parked.as_str()))
                    .add(exceptions::Column::NextAtMs.is_not_null()),
            )
            .count(tx)
            .await?;
        Ok(past + unfinished)
    }

    /// Writes down a gap, or widens the one that this continues.
    async fn write_gap(
        &self,
        tx: &WriteTx,
        row: &endpoints::Model,
        floor: i64,
        events: u64,
    ) -> Result<(), DbErr> {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        let widened = endpoint_gaps::Entity::update_many()
            .col_expr(endpoint_gaps::Column::UpToPosition, Expr::value(self.end))
            .col_expr(
                endpoint_gaps::Column::Events,
                Expr::col(endpoint_gaps::Column::Events).add(events),
            )
            .filter(endpoint_gaps::Column::EndpointId.eq(row.id))
            .filter(endpoint_gaps::Column::Shard.eq(self.shard))
            .filter(endpoint_gaps::Column::UpToPosition.eq(self.after))
            .filter(endpoint_gaps::Column::UpToPosition.eq(floor))
            .exec(tx)
            .await?;
        if widened.rows_affected > 0 {
            return Ok(());
        }
        let gap = endpoint_gaps::ActiveModel {
            endpoint_id: ActiveValue::Set(row.id),
            shard: ActiveValue::Set(self.shard),
            after_position: ActiveValue::Set(floor),
            up_to_position: ActiveValue::Set(self.end),
            events: ActiveValue::Set(events),
            noticed_at: ActiveValue::Set(tx.now()),
        };
        endpoint_gaps::Entity::insert(gap)
            .exec_without_returning(tx)
            .await?;
        let entry = audit::Entry::of_installation("webhook_endpoint.events_lost", &row.id);
        let details = json!({
            "shard": self.shard, "after_position": floor, "up_to_position": self.end,
        });
        audit::record(tx, Actor::SYSTEM, entry.with(details)).await
    }

    /// Lets an endpoint go on after the cut, as if it began there: what it gets from now on has nothing
    /// before it that it could have.
    async fn move_on(&self, tx: &WriteTx, row: &endpoints::Model) -> Result<(), DbErr> {
        for column in [
            endpoint_cursors::Column::Start,
            endpoint_cursors::Column::Position,
        ] {
            endpoint_cursors::Entity::update_many()
                .col_expr(column, Expr::value(self.end))
                .filter(endpoint_cursors::Column::EndpointId.eq(row.id))
                .filter(endpoint_cursors::Column::Shard.eq(self.shard))
                .filter(column.lt(self.end))
                .exec(tx)
                .await?;
        }
        lagging::Entity::update_many()
            .col_expr(lagging::Column::Position, Expr::value(self.end))
            .filter(lagging::Column::EndpointId.eq(row.id))
            .filter(lagging::Column::Shard.eq(self.shard))
            .filter(lagging::Column::Position.lt(self.end))
            .exec(tx)
            .await?;
        // Its dispatchers know where it begins, and look again when its row has changed.
        endpoints::Entity::update_many()
            .col_expr(endpoints::Column::UpdatedAt, Expr::value(tx.now()))
            .filter(endpoints::Column::Id.eq(row.id))
            .exec(tx)
            .await
            .map(drop)
    }

    /// Removes the events, and what earlier cuts left of their directories, all but the newest sequenced
    /// event of each.
    async fn remove(&self, tx: &WriteTx) -> Result<u64, DbErr> {
        let directories = self.rows.iter().map(|row| row.directory_id).collect();
        let statement = ends_statement(tx.dialect(), &directories);
        let mut doomed: BTreeSet<i64> = self.rows.iter().map(|row| row.position).collect();
        for row in tx.query_all_raw(statement).await? {
            let oldest: Option<i64> = row.try_get("", "oldest")?;
            let newest: Option<i64> = row.try_get("", "newest")?;
            // An earlier cut has left one event at most, which is the oldest then.
            doomed.extend(oldest.filter(|position| *position < self.end));
            if let Some(newest) = newest {
                doomed.remove(&newest);
            }
        }
        events::Entity::delete_many()
            .filter(events::Column::Position.is_in(doomed))
            .exec(tx)
            .await
            .map(|deleted| deleted.rows_affected)
    }
}

/// Asks where the log of each of these directories begins, and where its newest sequenced event is.
pub fn ends_statement(dialect: Dialect, directories: &BTreeSet<DirectoryId>) -> Statement {
    let ids = directories
        .iter()
        .map(|id| json!({"directory_id": id.uuid()}));
    let ids: Vec<Value> = ids.collect();
    let named = dialect.rows(1, &[("directory_id", ColumnKind::Uuid)]);
    let sql = format!(
        "SELECT (SELECT e.position FROM events e WHERE e.directory_id = r.directory_id \
         ORDER BY e.position LIMIT 1) AS oldest, \
         (SELECT e.position FROM events e WHERE e.directory_id = r.directory_id \
         AND e.sequence IS NOT NULL ORDER BY e.sequence DESC LIMIT 1) AS newest FROM {named}"
    );
    dialect.statement(&sql, [json!(ids).to_string().into()])
}
