//! The event log: append-only, in the order of `position`.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean, integer, small_integer, string, string_null, text,
    text_null, timestamp_with_time_zone, uuid, uuid_null,
};
use sea_orm_migration::sea_orm::DbBackend;

use crate::index;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(events()).await?;
        manager.create_table(generations()).await?;
        for unique in [
            index("events", &["id"]),
            index("events", &["directory_id", "sequence"]),
        ] {
            manager.create_index(unique.clone().unique().take()).await?;
        }
        for plain in [
            index("events", &["shard", "position"]),
            index("events", &["directory_id", "position"]),
            index("events", &["directory_id", "kind", "position"]),
            index("events", &["directory_id", "user_id", "kind", "position"]),
            index("events", &["directory_id", "group_id", "kind", "position"]),
        ] {
            manager.create_index(plain).await?;
        }
        // Memberships are looked up by user and group together: either alone may have thousands. Comparing
        // both columns implies that neither is null, which is how the planner knows that it may use this.
        let mut pair = index(
            "events",
            &["directory_id", "user_id", "group_id", "kind", "position"],
        );
        pair.and_where(Expr::col("user_id").is_not_null())
            .and_where(Expr::col("group_id").is_not_null());
        manager.create_index(pair).await?;
        let mut caused = index("events", &["directory_id", "request_id", "position"]);
        caused.and_where(Expr::col("request_id").is_not_null());
        manager.create_index(caused).await?;
        // Departures are few, and are looked for ahead of what waits and counted by time.
        for columns in [["shard", "position"], ["directory_id", "created_at"]] {
            let mut departures = index("events", &columns);
            departures.name(format!("events_departures_{}", columns.join("_")));
            departures.and_where(Expr::col("is_departure").eq(true));
            manager.create_index(departures).await?;
        }
        if manager.get_database_backend() == DbBackend::Postgres {
            // A fresh sequence shows last_value 1 and then draws 1; readers compare with last_value, so
            // the first value is drawn here and belongs to no event.
            manager
                .get_connection()
                .execute_unprepared("SELECT nextval('events_position_seq')")
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("generations").if_exists().take())
            .await?;
        manager
            .drop_table(Table::drop().table("events").if_exists().take())
            .await
    }
}

/// `user_id`, `group_id` and `names` are what an event is about, for its order among other events;
/// `payload` is the exact text that goes over the wire; `is_departure` says that a person was deleted or
/// became inactive. `actor` and `request_id` are who caused it. `sequence` counts within the directory, and is
/// absent on events outside a directory's story. SQLite's AUTOINCREMENT never gives a position twice.
fn events() -> TableCreateStatement {
    Table::create()
        .table("events")
        .col(
            ColumnDef::new("position")
                .big_integer()
                .not_null()
                .auto_increment()
                .primary_key(),
        )
        .col(uuid("id"))
        .col(uuid("organization_id"))
        .col(uuid("directory_id"))
        .col(small_integer("shard"))
        .col(big_integer_null("sequence"))
        .col(string("kind"))
        .col(uuid_null("user_id"))
        .col(uuid_null("group_id"))
        .col(text_null("names"))
        .col(text("payload"))
        .col(boolean("is_departure").default(false))
        .col(string_null("actor"))
        .col(uuid_null("request_id"))
        .col(timestamp_with_time_zone("created_at"))
        .take()
}

/// The histories that sequences have belonged to. In one that began after something was lost, events
/// past `position` have sequences at least `step` above those before it. `directories` is how many had
/// events then.
fn generations() -> TableCreateStatement {
    Table::create()
        .table("generations")
        .col(integer("number").primary_key())
        .col(big_integer("position"))
        .col(big_integer("step"))
        .col(string("cause"))
        .col(big_integer("directories"))
        .col(timestamp_with_time_zone("started_at"))
        .take()
}
