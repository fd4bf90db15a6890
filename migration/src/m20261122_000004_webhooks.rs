//! Webhook endpoints, their place in the log, deliveries, and which node owns which shard.
//!
//! Nothing here refers to directories or events by foreign key: these tables are written in bulk while
//! the others are locked by their own writers.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, binary, binary_null, integer, integer_null, pk_uuid,
    small_integer, string, string_null, text, text_null, timestamp_with_time_zone,
    timestamp_with_time_zone_null, uuid, uuid_null,
};

use crate::{foreign_key, index, primary_key, table_with_times};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// How many shards the log has; fixed for good.
const SHARDS: i16 = 16;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            endpoints(),
            endpoint_states(),
            endpoint_gaps(),
            endpoint_cursors(),
            lagging(),
            exceptions(),
            deliveries(),
            attempts(),
            replays(),
            snapshots(),
            snapshot_rows(),
            shard_leases(),
            nodes(),
        ] {
            manager.create_table(table).await?;
        }
        manager
            .create_index(index("endpoints", &["url"]).unique().take())
            .await?;
        manager
            .create_index(index("exceptions", &["endpoint_id", "shard", "position"]))
            .await?;
        manager
            .create_index(index(
                "exceptions",
                &["endpoint_id", "directory_id", "position"],
            ))
            .await?;
        manager
            .create_index(index("exceptions", &["endpoint_id", "state", "position"]))
            .await?;
        manager
            .create_index(index("lagging", &["endpoint_id", "shard"]))
            .await?;
        manager
            .create_index(index("deliveries", &["endpoint_id", "shard", "position"]))
            .await?;
        // What receivers answered about a person is looked up by their events when they are erased.
        manager
            .create_index(index("attempts", &["position"]))
            .await?;
        for plain in [
            index("replays", &["endpoint_id", "id"]),
            index("replays", &["state", "id"]),
            index("snapshots", &["endpoint_id", "directory_id"]),
            index("snapshots", &["state", "id"]),
        ] {
            manager.create_index(plain).await?;
        }
        for shard in 0..SHARDS {
            manager
                .execute(
                    Query::insert()
                        .into_table("shard_leases")
                        .columns(["shard", "epoch", "until_ms"])
                        .values_panic([shard.into(), 0_i64.into(), 0_i64.into()])
                        .take(),
                )
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "nodes",
            "shard_leases",
            "snapshot_rows",
            "snapshots",
            "replays",
            "attempts",
            "deliveries",
            "exceptions",
            "lagging",
            "endpoint_cursors",
            "endpoint_gaps",
            "endpoint_states",
            "endpoints",
        ] {
            manager
                .drop_table(Table::drop().table(table).if_exists().take())
                .await?;
        }
        Ok(())
    }
}

/// `filters` is what the endpoint takes, a JSON list of the filters that events in the log are judged by, with
/// the positions from which each was in force; `filter_number` counts the changes, from 1. A second secret is either the
/// next one, until it is promoted, or the previous one, until it expires.
fn endpoints() -> TableCreateStatement {
    table_with_times("endpoints")
        .col(pk_uuid("id"))
        .col(string("url"))
        .col(text_null("description"))
        .col(string("status"))
        .col(string_null("disabled_because"))
        .col(timestamp_with_time_zone_null("disabled_at"))
        .col(timestamp_with_time_zone_null("held_at"))
        .col(text("filters"))
        .col(integer("filter_number"))
        .col(string("ordering"))
        .col(integer("max_in_flight"))
        .col(integer_null("rate_per_second"))
        .col(integer("timeout_ms"))
        .col(binary_null("sealed_headers"))
        .col(binary("sealed_secret"))
        .col(binary_null("sealed_second_secret"))
        .col(string_null("second_secret_role"))
        .col(timestamp_with_time_zone_null("second_secret_expires_at"))
        .col(binary_null("sealed_signing_key"))
        .take()
}

/// How an endpoint fares, written by the dispatcher when that changes: whether its breaker is open, since
/// when it has been failing, and how often people were told.
fn endpoint_states() -> TableCreateStatement {
    Table::create()
        .table("endpoint_states")
        .col(pk_uuid("endpoint_id"))
        .col(string("breaker"))
        .col(big_integer_null("failing_since_ms"))
        .col(big_integer_null("probe_at_ms"))
        .col(integer("probes"))
        .col(text_null("last_failure"))
        .col(integer("told"))
        .col(big_integer("changed_at_ms"))
        .foreign_key(&mut foreign_key(
            "endpoint_states",
            &["endpoint_id"],
            "endpoints",
            &["id"],
        ))
        .take()
}

/// Events that an endpoint never got because they were older than the log is kept.
fn endpoint_gaps() -> TableCreateStatement {
    Table::create()
        .table("endpoint_gaps")
        .col(uuid("endpoint_id"))
        .col(small_integer("shard"))
        .col(big_integer("after_position"))
        .col(big_integer("up_to_position"))
        .col(big_integer("events"))
        .col(timestamp_with_time_zone("noticed_at"))
        .primary_key(&mut primary_key(&[
            "endpoint_id",
            "shard",
            "up_to_position",
        ]))
        .foreign_key(&mut foreign_key(
            "endpoint_gaps",
            &["endpoint_id"],
            "endpoints",
            &["id"],
        ))
        .take()
}

/// An endpoint's place in a shard: every event it takes at or below `position` has ended or is an
/// exception, except in directories that have a place of their own in `lagging`. Events at or below
/// `start` are from before the endpoint.
fn endpoint_cursors() -> TableCreateStatement {
    Table::create()
        .table("endpoint_cursors")
        .col(uuid("endpoint_id"))
        .col(small_integer("shard"))
        .col(big_integer("start"))
        .col(big_integer("position"))
        .primary_key(&mut primary_key(&["endpoint_id", "shard"]))
        .foreign_key(&mut foreign_key(
            "endpoint_cursors",
            &["endpoint_id"],
            "endpoints",
            &["id"],
        ))
        .take()
}

/// An endpoint's place in a directory that is split off from its shard: every event of the directory
/// that it takes at or below `position` has ended or is an exception.
fn lagging() -> TableCreateStatement {
    Table::create()
        .table("lagging")
        .col(uuid("endpoint_id"))
        .col(uuid("directory_id"))
        .col(small_integer("shard"))
        .col(big_integer("position"))
        .primary_key(&mut primary_key(&["endpoint_id", "directory_id"]))
        .foreign_key(&mut foreign_key(
            "lagging",
            &["endpoint_id"],
            "endpoints",
            &["id"],
        ))
        .take()
}

/// Events at or below an endpoint's cursor that have not ended: retrying, held behind one that is,
/// slow, or parked.
fn exceptions() -> TableCreateStatement {
    Table::create()
        .table("exceptions")
        .col(uuid("endpoint_id"))
        .col(big_integer("position"))
        .col(small_integer("shard"))
        .col(uuid("directory_id"))
        .col(string("state"))
        .col(integer("attempts"))
        .col(big_integer_null("first_failed_at_ms"))
        .col(big_integer_null("next_at_ms"))
        .primary_key(&mut primary_key(&["endpoint_id", "position"]))
        .foreign_key(&mut foreign_key(
            "exceptions",
            &["endpoint_id"],
            "endpoints",
            &["id"],
        ))
        .take()
}

/// One event to one endpoint; appended when it ends or when its first attempt fails.
fn deliveries() -> TableCreateStatement {
    Table::create()
        .table("deliveries")
        .col(uuid("endpoint_id"))
        .col(big_integer("position"))
        .col(small_integer("shard"))
        .col(uuid("event_id"))
        .col(uuid("directory_id"))
        .col(string("state"))
        .col(integer("attempts"))
        .col(integer_null("status_code"))
        .col(string_null("failure"))
        .col(integer("duration_ms"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .primary_key(&mut primary_key(&["endpoint_id", "position"]))
        .take()
}

/// The attempts that failed; one that succeeded is described by its delivery.
fn attempts() -> TableCreateStatement {
    Table::create()
        .table("attempts")
        .col(uuid("endpoint_id"))
        .col(big_integer("position"))
        .col(integer("number"))
        .col(integer_null("status_code"))
        .col(string_null("failure"))
        .col(text_null("excerpt"))
        .col(integer("duration_ms"))
        .col(timestamp_with_time_zone("at"))
        .primary_key(&mut primary_key(&["endpoint_id", "position", "number"]))
        .take()
}

/// Events sent to an endpoint once more: which, how far it has come, and which node is at it.
fn replays() -> TableCreateStatement {
    table_with_times("replays")
        .col(pk_uuid("id"))
        .col(uuid("endpoint_id"))
        .col(string("kind"))
        .col(text("criteria"))
        .col(string("state"))
        .col(big_integer("position"))
        .col(big_integer("up_to"))
        .col(big_integer("total"))
        .col(big_integer("sent"))
        .col(big_integer("failed"))
        .col(text_null("error"))
        .col(string("actor"))
        .col(uuid_null("lease_token"))
        .col(big_integer("lease_until_ms"))
        .col(timestamp_with_time_zone_null("ended_at"))
        .foreign_key(&mut foreign_key(
            "replays",
            &["endpoint_id"],
            "endpoints",
            &["id"],
        ))
        .take()
}

/// The whole state of a directory on its way to an endpoint. It is exact at `sequence` and `position`;
/// the rows before `next_number` have arrived.
fn snapshots() -> TableCreateStatement {
    table_with_times("snapshots")
        .col(pk_uuid("id"))
        .col(uuid("endpoint_id"))
        .col(uuid("directory_id"))
        .col(string("state"))
        .col(big_integer("sequence"))
        .col(big_integer("position"))
        .col(big_integer("total"))
        .col(big_integer("next_number"))
        .col(text_null("error"))
        .col(string("actor"))
        .col(uuid_null("lease_token"))
        .col(big_integer("lease_until_ms"))
        .col(timestamp_with_time_zone_null("ended_at"))
        .foreign_key(&mut foreign_key(
            "snapshots",
            &["endpoint_id"],
            "endpoints",
            &["id"],
        ))
        .take()
}

/// What a snapshot consists of, in the order in which it is sent.
fn snapshot_rows() -> TableCreateStatement {
    Table::create()
        .table("snapshot_rows")
        .col(uuid("snapshot_id"))
        .col(big_integer("number"))
        .col(string("kind"))
        .col(uuid_null("user_id"))
        .col(uuid_null("group_id"))
        .col(big_integer("version"))
        .primary_key(&mut primary_key(&["snapshot_id", "number"]))
        .foreign_key(&mut foreign_key(
            "snapshot_rows",
            &["snapshot_id"],
            "snapshots",
            &["id"],
        ))
        .take()
}

/// Which node dispatches a shard; `(epoch, token)` fences everything that the owner writes.
fn shard_leases() -> TableCreateStatement {
    Table::create()
        .table("shard_leases")
        .col(small_integer("shard").primary_key())
        .col(uuid_null("node_id"))
        .col(big_integer("epoch"))
        .col(uuid_null("token"))
        .col(big_integer("until_ms"))
        .take()
}

fn nodes() -> TableCreateStatement {
    Table::create()
        .table("nodes")
        .col(pk_uuid("id"))
        .col(big_integer("heartbeat_ms"))
        .take()
}
