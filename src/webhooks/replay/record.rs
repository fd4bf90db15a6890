//! Writing down what a replay has done: its place, its numbers and its attempts, in one transaction that
//! is worth nothing if the claim is not ours any more.

use sea_orm::{ActiveValue, ConnectionTrait, DbErr, EntityTrait};
use std::sync::Arc;
use uuid::Uuid;

use crate::clock;
use crate::ids::{EndpointId, ReplayId};
use crate::storage::tables::attempts;
use crate::storage::{self, UseCase, WriteTx};
use crate::webhooks::place;
use crate::webhooks::stream::{Attempted, Offer};

/// What came of one event.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    pub(super) offer: Arc<Offer>,
    pub(super) shard: i16,
    /// Each request with its time.
    pub(super) attempts: Vec<(Attempted, i64)>,
    /// Whether it is an event of the log.
    pub(super) is_logged: bool,
}

impl Tried {
    pub(super) fn is_delivered(&self) -> bool {
        let last = self.attempts.last();
        last.is_some_and(|(attempted, _)| attempted.is_success)
    }
}

/// A page of a replay.
pub(super) struct Record {
    pub(super) id: ReplayId,
    pub(super) endpoint_id: EndpointId,
    pub(super) token: Uuid,
    pub(super) lease_ms: i64,
    pub(super) position: i64,
    pub(super) is_last: bool,
    pub(super) tried: Vec<Tried>,
}

impl UseCase for Record {
    /// Whether the replay goes on.
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        if !self.move_on(tx).await? {
            return Ok(false);
        }
        for tried in self.tried.iter().filter(|tried| tried.is_logged) {
            self.record(tx, tried).await?;
        }
        Ok(!self.is_last)
    }
}

impl Record {
    /// Moves the replay's row on, if the claim holds. One that was canceled meanwhile keeps its numbers.
    async fn move_on(&self, tx: &WriteTx) -> Result<bool, DbErr> {
        let delivered = self.tried.iter().filter(|one| one.is_delivered()).count();
        let sent = i64::try_from(delivered).unwrap_or(i64::MAX);
        let failed = i64::try_from(self.tried.len() - delivered).unwrap_or(i64::MAX);
        let sql = format!(
            "UPDATE replays SET position = $3, sent = sent + $4, failed = failed + $5, \
             lease_until_ms = {} + $6, updated_at = $7, \
             ended_at = CASE WHEN state = 'running' AND $8 THEN $7 ELSE ended_at END, \
             state = CASE WHEN state = 'running' AND $8 THEN 'done' ELSE state END \
             WHERE id = $1 AND lease_token = $2",
            tx.dialect().now_ms()
        );
        let values = [
            self.id.into(),
            self.token.into(),
            self.position.into(),
            sent.into(),
            failed.into(),
            self.lease_ms.into(),
            tx.now().into(),
            self.is_last.into(),
        ];
        let moved = tx.execute_raw(tx.dialect().statement(&sql, values)).await?;
        Ok(moved.rows_affected() == 1)
    }

    async fn record(&self, tx: &WriteTx, tried: &Tried) -> Result<(), DbErr> {
        let position = tried.offer.position;
        let key = [self.endpoint_id.into(), position.into()];
        let statement = tx.dialect().statement(
            "SELECT (SELECT attempts FROM deliveries WHERE endpoint_id = $1 AND position = $2) \
             AS made, (SELECT max(number) FROM attempts WHERE endpoint_id = $1 AND position = $2) \
             AS failed, (SELECT state FROM exceptions WHERE endpoint_id = $1 AND position = $2) \
             AS exception",
            key.clone(),
        );
        let Some(row) = tx.query_one_raw(statement).await? else {
            return Ok(());
        };
        let made: Option<i32> = row.try_get("", "made")?;
        let failed: Option<i32> = row.try_get("", "failed")?;
        let exception: Option<String> = row.try_get("", "exception")?;
        let before = made.max(failed).unwrap_or(0);
        self.record_failures(tx, tried, before).await?;
        let number = before + i32::try_from(tried.attempts.len()).unwrap_or(0);
        // What the dispatcher still tries is for it to write down.
        if exception.is_some_and(|state| state != "parked") {
            return Ok(());
        }
        if tried.is_delivered() {
            self.deliver(tx, tried, number).await?;
            tx.execute_raw(tx.dialect().statement(
                "DELETE FROM exceptions WHERE endpoint_id = $1 AND position = $2 \
                 AND state = 'parked'",
                key,
            ))
            .await?;
        }
        Ok(())
    }

    async fn record_failures(&self, tx: &WriteTx, tried: &Tried, before: i32) -> Result<(), DbErr> {
        let rows: Vec<attempts::ActiveModel> = (before.saturating_add(1)..)
            .zip(&tried.attempts)
            .filter(|(_, (attempted, _))| !attempted.is_success)
            .map(|(number, (attempted, at_ms))| attempts::ActiveModel {
                endpoint_id: ActiveValue::Set(self.endpoint_id),
                position: ActiveValue::Set(tried.offer.position),
                number: ActiveValue::Set(number),
                status_code: ActiveValue::Set(attempted.status_code.map(i32::from)),
                failure: ActiveValue::Set(attempted.failure.clone()),
                excerpt: ActiveValue::Set(attempted.excerpt.as_deref().map(place::without_nul)),
                duration_ms: ActiveValue::Set(attempted.duration_ms),
                at: ActiveValue::Set(clock::from_ms(*at_ms)),
            })
            .collect();
        if !rows.is_empty() {
            attempts::Entity::insert_many(rows)
                .exec_without_returning(tx)
                .await?;
        }
        Ok(())
    }

    async fn deliver(&self, tx: &WriteTx, tried: &Tried, number: i32) -> Result<(), DbErr> {
        let Some((last, at_ms)) = tried.attempts.last() else {
            return Ok(());
        };
        let values = [
            self.endpoint_id.into(),
            tried.offer.position.into(),
            tried.shard.into(),
            tried.offer.event_id.into(),
            tried.offer.directory_id.into(),
            number.into(),
            last.status_code.map(i32::from).into(),
            last.duration_ms.into(),
            clock::from_ms(*at_ms).into(),
        ];
        tx.execute_raw(tx.dialect().statement(
            "INSERT INTO deliveries (endpoint_id, position, shard, event_id, directory_id, state, \
             attempts, status_code, failure, duration_ms, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, 'delivered', $6, $7, NULL, $8, $9, $9) \
             ON CONFLICT (endpoint_id, position) DO UPDATE SET state = excluded.state, \
             attempts = excluded.attempts, status_code = excluded.status_code, failure = NULL, \
             duration_ms = excluded.duration_ms, updated_at = excluded.updated_at",
            values,
        ))
        .await?;
        Ok(())
    }
}
