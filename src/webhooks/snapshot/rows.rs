//! A snapshot's rows in the database, and its progress: what the node that is at it reads and writes.
//!
//! Whoever works on a snapshot has a *lease* of it, judged by the database's clock, and writes only under
//! the lease's token: a node that was thought dead cannot move it back.

use std::time::Duration;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value,
};
use uuid::Uuid;

use super::{PAGE_ROWS, RUNNING, find};
use crate::ids::{SnapshotId, random_uuid};
use crate::storage::Store;
use crate::storage::tables::{snapshot_rows, snapshots};

/// How long a lease lasts unless it is renewed.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// A snapshot that this node works on.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) snapshot: snapshots::Model,
    token: Uuid,
}

/// Takes the oldest snapshot that nobody is at and that is not to wait; one for each endpoint at a time.
pub(super) async fn claim(store: &Store) -> Result<Option<Claim>, DbErr> {
    let (dialect, token) = (store.dialect(), random_uuid());
    let now = dialect.now_ms();
    let sql = format!(
        "UPDATE snapshots SET lease_token = $1, lease_until_ms = {now} + $2 WHERE state = $3 \
         AND lease_until_ms < {now} AND id = (SELECT s.id FROM snapshots s WHERE s.state = $3 \
         AND s.lease_until_ms < {now} AND NOT EXISTS (SELECT 1 FROM snapshots o \
         WHERE o.endpoint_id = s.endpoint_id AND o.state = $3 AND o.lease_token IS NOT NULL \
         AND o.lease_until_ms >= {now}) ORDER BY s.id LIMIT 1) RETURNING id"
    );
    let values: [Value; 3] = [token.into(), millis(LEASE).into(), RUNNING.into()];
    let claimed = store
        .statement_connection()
        .query_one_raw(dialect.statement(&sql, values))
        .await?;
    let Some(row) = claimed else {
        return Ok(None);
    };
    let snapshot = find(store.statement_connection(), row.try_get("", "id")?).await?;
    Ok(snapshot.map(|snapshot| Claim { snapshot, token }))
}

impl Claim {
    /// Prolongs the lease; tells whether it was still ours.
    pub(super) async fn renew(&self, store: &Store) -> Result<bool, DbErr> {
        let until = format!("lease_until_ms = {} + $3", store.dialect().now_ms());
        self.update(store, &until, vec![millis(LEASE).into()]).await
    }

    /// Lets it go, to be taken up again after `wait`, because of `error` if there is one.
    pub(super) async fn give_back(
        &self,
        store: &Store,
        wait: Duration,
        error: Option<&str>,
    ) -> Result<(), DbErr> {
        let change = format!(
            "lease_token = NULL, lease_until_ms = {} + $3, error = $4",
            store.dialect().now_ms()
        );
        let values = vec![millis(wait).into(), error.map(str::to_owned).into()];
        self.update(store, &change, values).await.map(drop)
    }

    /// The rows up to `next` have arrived; tells whether the lease was still ours.
    pub(super) async fn advance(&self, store: &Store, next: i64) -> Result<bool, DbErr> {
        let values = vec![next.into(), store.clock().now().into()];
        let change = "next_number = $3, updated_at = $4, error = NULL";
        let is_ours = self.update(store, change, values).await?;
        if is_ours {
            remove_before(store, self.snapshot.id, next).await?;
        }
        Ok(is_ours)
    }

    /// Ends it as `state`.
    pub(super) async fn end(
        &self,
        store: &Store,
        state: &str,
        error: Option<&str>,
    ) -> Result<(), DbErr> {
        let change = "state = $3, error = $4, ended_at = $5, updated_at = $5, lease_token = NULL";
        let values = vec![
            state.into(),
            error.map(str::to_owned).into(),
            store.clock().now().into(),
        ];
        if self.update(store, change, values).await? {
            store.wake().endpoints_changed();
            remove_all(store, self.snapshot.id, self.snapshot.total).await?;
        }
        Ok(())
    }

    /// Writes `change` if the lease is still ours; its parameters begin with `$3`.
    async fn update(&self, store: &Store, change: &str, values: Vec<Value>) -> Result<bool, DbErr> {
        let sql = format!(
            "UPDATE snapshots SET {change} WHERE id = $1 AND lease_token = $2 AND state = '{RUNNING}'"
        );
        let fence = [self.snapshot.id.into(), self.token.into()];
        let statement = store
            .dialect()
            .statement(&sql, fence.into_iter().chain(values));
        let done = store.statement_connection().execute_raw(statement).await?;
        Ok(done.rows_affected() > 0)
    }
}

/// A page of rows, from number `from` on.
pub(super) async fn page(
    store: &Store,
    id: SnapshotId,
    from: i64,
) -> Result<Vec<snapshot_rows::Model>, DbErr> {
    snapshot_rows::Entity::find()
        .filter(snapshot_rows::Column::SnapshotId.eq(id))
        .filter(snapshot_rows::Column::Number.gte(from))
        .order_by_asc(snapshot_rows::Column::Number)
        .limit(PAGE_ROWS)
        .all(store.dispatch_reader())
        .await
}

/// Removes what is left of a snapshot's rows, a page after the other.
pub(super) async fn remove_all(store: &Store, id: SnapshotId, total: i64) -> Result<(), DbErr> {
    let first = page(store, id, 1).await?.first().map(|row| row.number);
    let Some(mut next) = first else {
        return Ok(());
    };
    while next <= total {
        next = next.saturating_add(i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX));
        remove_before(store, id, next).await?;
    }
    Ok(())
}

/// Removes what was left of snapshots that have ended when their node did.
pub(super) async fn sweep(store: &Store) -> Result<(), DbErr> {
    let left = snapshots::Entity::find()
        .from_raw_sql(store.dialect().statement(
            "SELECT * FROM snapshots s WHERE s.state IN ('cancelled', 'done', 'failed') \
             AND EXISTS (SELECT 1 FROM snapshot_rows r WHERE r.snapshot_id = s.id)",
            [],
        ))
        .all(store.dispatch_reader())
        .await?;
    for snapshot in left {
        remove_all(store, snapshot.id, snapshot.total).await?;
    }
    Ok(())
}

async fn remove_before(store: &Store, id: SnapshotId, number: i64) -> Result<(), DbErr> {
    let sql = "DELETE FROM snapshot_rows WHERE snapshot_id = $1 AND number < $2";
    let statement = store.dialect().statement(sql, [id.into(), number.into()]);
    let connection = store.statement_connection();
    connection.execute_raw(statement).await.map(drop)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
