//! Which node dispatches which shard.
//!
//! There are sixteen lease rows. A lease holds for six seconds on the database's clock and is renewed
//! every two by (shard, epoch, token) as held in memory, never by the owner's name: a node that has lost
//! its memory has lost its shards. Nodes take no more than their share, and give back what is too much
//! one shard at a time. On SQLite the one server takes all shards at once.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DbErr};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::ids::{NodeId, random_uuid};
use crate::storage::Store;
use crate::storage::dialect::ColumnKind;
use crate::storage::horizon::SHARDS;

/// How long a lease holds.
pub const LEASE_MS: i64 = 6_000;
/// How often a lease is renewed.
pub const RENEW_EVERY_MS: i64 = 2_000;
/// How often a node looks for leases that have run out.
pub const POLL_EVERY_MS: i64 = 500;
/// After how long without a sign of life a node does not count any more.
const NODE_SILENT_MS: i64 = 6_000;

/// A lease as held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The shard.
    pub shard: i16,
    /// Counts its owners.
    pub epoch: i64,
    /// Told by this owner alone.
    pub token: Uuid,
}

/// Says that the node lives, and returns how many nodes do.
///
/// # Errors
/// The database fails.
pub async fn heartbeat(store: &Store, node_id: NodeId) -> Result<usize, DbErr> {
    let dialect = store.dialect();
    let now = dialect.now_ms();
    let connection = store.lease_connection();
    let sql = format!(
        "INSERT INTO nodes (id, heartbeat_ms) VALUES ($1, {now}) \
         ON CONFLICT (id) DO UPDATE SET heartbeat_ms = excluded.heartbeat_ms"
    );
    connection
        .execute_raw(dialect.statement(&sql, [node_id.uuid().into()]))
        .await?;
    let sql = format!("SELECT count(*) AS live FROM nodes WHERE heartbeat_ms > {now} - $1");
    let row = connection
        .query_one_raw(dialect.statement(&sql, [NODE_SILENT_MS.into()]))
        .await?;
    let live: i64 = row.map_or(Ok(1), |row| row.try_get("", "live"))?;
    Ok(usize::try_from(live).unwrap_or(1).max(1))
}

/// How many shards a node should have among `nodes`.
pub fn share(nodes: usize) -> usize {
    SHARDS.div_ceil(nodes.max(1))
}

/// Renews the leases in `held`; returns those that are still ours.
///
/// # Errors
/// The database fails; then nothing is known about any of them.
pub async fn renew(store: &Store, held: &[Held]) -> Result<Vec<Held>, DbErr> {
    let dialect = store.dialect();
    let columns = [
        ("shard", ColumnKind::Integer),
        ("epoch", ColumnKind::Integer),
        ("token", ColumnKind::Uuid),
    ];
    let sql = format!(
        "UPDATE shard_leases SET until_ms = {} + $2 FROM {} \
         WHERE shard_leases.shard = r.shard AND shard_leases.epoch = r.epoch \
         AND shard_leases.token = r.token RETURNING shard_leases.shard AS renewed",
        dialect.now_ms(),
        dialect.rows(1, &columns)
    );
    let rows: Vec<Json> = held
        .iter()
        .map(|lease| json!({"shard": lease.shard, "epoch": lease.epoch, "token": lease.token}))
        .collect();
    let renewed = store
        .lease_connection()
        .query_all_raw(dialect.statement(
            &sql,
            [Json::Array(rows).to_string().into(), LEASE_MS.into()],
        ))
        .await?
        .iter()
        .map(|row| row.try_get("", "renewed"))
        .collect::<Result<BTreeSet<i16>, DbErr>>()?;
    Ok(held
        .iter()
        .filter(|lease| renewed.contains(&lease.shard))
        .copied()
        .collect())
}

/// Takes up to `count` shards, not among `held`, whose lease has run out; `takes_all` takes them from
/// anybody.
///
/// # Errors
/// The database fails.
pub async fn take(
    store: &Store,
    node_id: NodeId,
    held: &BTreeSet<i16>,
    count: usize,
    takes_all: bool,
) -> Result<Vec<Held>, DbErr> {
    let dialect = store.dialect();
    let mut taken = Vec::new();
    let others = (0_i16..).take(SHARDS).filter(|shard| !held.contains(shard));
    for shard in others {
        if taken.len() >= count {
            break;
        }
        let now = dialect.now_ms();
        let free = if takes_all {
            "true".to_owned()
        } else {
            format!("until_ms <= {now}")
        };
        let token = random_uuid();
        let sql = format!(
            "UPDATE shard_leases SET node_id = $2, token = $3, epoch = epoch + 1, \
             until_ms = {now} + $4 WHERE shard = $1 AND {free} RETURNING epoch"
        );
        let row = store
            .lease_connection()
            .query_one_raw(dialect.statement(
                &sql,
                [
                    shard.into(),
                    node_id.uuid().into(),
                    token.into(),
                    LEASE_MS.into(),
                ],
            ))
            .await?;
        if let Some(row) = row {
            taken.push(Held {
                shard,
                epoch: row.try_get("", "epoch")?,
                token,
            });
        }
    }
    Ok(taken)
}

/// Gives a shard back, so that another node can take it at once.
///
/// # Errors
/// The database fails; then the lease runs out by itself.
pub async fn give_back(store: &Store, lease: &Held) -> Result<(), DbErr> {
    store
        .lease_connection()
        .execute_raw(store.dialect().statement(
            "UPDATE shard_leases SET until_ms = 0 WHERE shard = $1 AND epoch = $2 AND token = $3",
            [lease.shard.into(), lease.epoch.into(), lease.token.into()],
        ))
        .await
        .map(drop)
}

/// Says that the node is gone.
///
/// # Errors
/// The database fails; then the node is forgotten when it has been silent for long enough.
pub async fn leave(store: &Store, node_id: NodeId) -> Result<(), DbErr> {
    store
        .lease_connection()
        .execute_raw(
            store
                .dialect()
                .statement("DELETE FROM nodes WHERE id = $1", [node_id.uuid().into()]),
        )
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_are_shared_evenly_and_none_is_left_over() {
        assert_eq!(
            [share(1), share(2), share(3), share(16), share(40)],
            [16, 8, 6, 1, 1]
        );
    }
}
