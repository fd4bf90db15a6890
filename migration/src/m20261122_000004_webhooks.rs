//! Webhook endpoints, their place in the log, deliveries, and which node owns which shard.
//!
//! Nothing here refers to directories or events by foreign key: these tables are written in bulk while
//! the others are locked by their own writers.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, binary, integer, integer_null, pk_uuid, small_integer, string,
    string_null, text, text_null, timestamp_with_time_zone, uuid, uuid_null,
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
            endpoint_cursors(),
            lagging(),
            exceptions(),
            deliveries(),
            attempts(),
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
            .create_index(index("lagging", &["endpoint_id", "shard"]))
            .await?;
        manager
            .create_index(index("deliveries", &["endpoint_id", "shard", "position"]))
            .await?;
        // What receivers answered about a person is looked up by their events when they are erased.
        manager
            .create_index(index("attempts", &["position"]))
            .await?;
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
            "attempts",
            "deliveries",
            "exceptions",
            "lagging",
            "endpoint_cursors",
            "endpoints",
        ] {
            manager
                .drop_table(Table::drop().table(table).if_exists().take())
                .await?;
        }
        Ok(())
    }
}

fn endpoints() -> TableCreateStatement {
    table_with_times("endpoints")
        .col(pk_uuid("id"))
        .col(string("url"))
        .col(string("status"))
        .col(text("events"))
        .col(binary("sealed_secret"))
        .col(integer("max_in_flight"))
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
