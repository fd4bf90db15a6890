//! Organizations, their domains, API keys, what they asked once, and facts about the database itself.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, binary, binary_null, pk_uuid, small_integer_null, string, string_null, text,
    timestamp_with_time_zone, timestamp_with_time_zone_null, uuid,
};

use crate::{foreign_key, index, primary_key, table_with_times};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(facts()).await?;
        manager.create_table(organizations()).await?;
        manager
            .create_index(index("organizations", &["external_id"]).unique().take())
            .await?;
        let mut due = index("organizations", &["deletion_due_at"]);
        due.and_where(Expr::col("deletion_due_at").is_not_null());
        manager.create_index(due).await?;
        manager.create_table(organization_domains()).await?;
        manager
            .create_index(index("organization_domains", &["domain"]).unique().take())
            .await?;
        manager
            .create_index(index("organization_domains", &["organization_id"]))
            .await?;
        manager.create_table(api_keys()).await?;
        manager
            .create_index(index("api_keys", &["digest"]).unique().take())
            .await?;
        manager.create_table(idempotency_keys()).await?;
        manager
            .create_index(index("idempotency_keys", &["claimed_at"]))
            .await?;
        manager.create_table(schedules()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "schedules",
            "idempotency_keys",
            "api_keys",
            "organization_domains",
            "organizations",
            "facts",
        ] {
            manager
                .drop_table(Table::drop().table(table).if_exists().take())
                .await?;
        }
        Ok(())
    }
}

/// What is true of this database as a whole: oldest binary served, generation, master key check.
fn facts() -> TableCreateStatement {
    Table::create()
        .table("facts")
        .col(string("name").primary_key())
        .col(text("value"))
        .take()
}

fn organizations() -> TableCreateStatement {
    table_with_times("organizations")
        .col(pk_uuid("id"))
        .col(string("name"))
        .col(string_null("external_id"))
        .col(text("metadata"))
        .col(timestamp_with_time_zone_null("deletion_due_at"))
        .take()
}

fn organization_domains() -> TableCreateStatement {
    table_with_times("organization_domains")
        .col(pk_uuid("id"))
        .col(uuid("organization_id"))
        .col(string("domain"))
        .col(string("state"))
        .foreign_key(&mut foreign_key(
            "organization_domains",
            &["organization_id"],
            "organizations",
            &["id"],
        ))
        .take()
}

fn api_keys() -> TableCreateStatement {
    Table::create()
        .table("api_keys")
        .col(pk_uuid("id"))
        .col(string("name"))
        .col(binary("digest"))
        .col(string("suffix"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone_null("last_used_at"))
        .col(timestamp_with_time_zone_null("revoked_at"))
        .take()
}

/// Requests with an idempotency key: `digest` is over what was asked, `claim` is whose carrying out counts,
/// `sealed_answer` is there once it is done.
fn idempotency_keys() -> TableCreateStatement {
    Table::create()
        .table("idempotency_keys")
        .col(uuid("api_key_id"))
        .col(string("idempotency_key"))
        .col(binary("digest"))
        .col(uuid("claim"))
        .col(timestamp_with_time_zone("claimed_at"))
        .col(small_integer_null("status"))
        .col(binary_null("sealed_answer"))
        .primary_key(&mut primary_key(&["api_key_id", "idempotency_key"]))
        .foreign_key(&mut foreign_key(
            "idempotency_keys",
            &["api_key_id"],
            "api_keys",
            &["id"],
        ))
        .take()
}

/// When each recurring job is due next; a node claims a run by moving the time on.
fn schedules() -> TableCreateStatement {
    Table::create()
        .table("schedules")
        .col(string("name").primary_key())
        .col(big_integer("due_at_ms"))
        .take()
}
