//! What is written down about what was done and asked: the audit trail and the request log.
//!
//! Neither has foreign keys: both outlive what they tell of.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, binary, integer, pk_uuid, small_integer, string, string_null, text, text_null,
    timestamp_with_time_zone, uuid, uuid_null,
};

use crate::{by_bytes, index, primary_key};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            audit_entries(),
            audit_waiting(),
            audit_seals(),
            audit_chains(),
            audit_anchors(),
            audit_cursors(),
            scim_requests(),
            scim_request_subjects(manager),
        ] {
            manager.create_table(table).await?;
        }
        manager
            .create_index(index("audit_seals", &["entry_id"]).unique().take())
            .await?;
        for plain in [
            index("audit_entries", &["created_at", "id"]),
            index("audit_entries", &["organization_id", "created_at", "id"]),
            index("audit_entries", &["directory_id", "created_at", "id"]),
            index("audit_entries", &["actor", "created_at", "id"]),
            index("scim_request_subjects", &["directory_id", "request_id"]),
        ] {
            manager.create_index(plain).await?;
        }
        // Most entries are providers' writes, which are found by their times as fast.
        let mut acts = index("audit_entries", &["action", "created_at", "id"]);
        acts.and_where(Expr::col("action").ne("scim.write"));
        manager.create_index(acts).await?;
        let mut refused = index("scim_requests", &["directory_id", "id"]);
        refused.name("scim_requests_directory_id_refused");
        refused.and_where(Expr::col("status").gte(400));
        manager.create_index(refused).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "scim_request_subjects",
            "scim_requests",
            "audit_cursors",
            "audit_anchors",
            "audit_chains",
            "audit_seals",
            "audit_waiting",
            "audit_entries",
        ] {
            manager
                .drop_table(Table::drop().table(table).if_exists().take())
                .await?;
        }
        Ok(())
    }
}

/// Who did what; never changed once it is written.
fn audit_entries() -> TableCreateStatement {
    Table::create()
        .table("audit_entries")
        .col(pk_uuid("id"))
        .col(uuid_null("organization_id"))
        .col(uuid_null("directory_id"))
        .col(string("actor"))
        .col(uuid_null("request_id"))
        .col(string("action"))
        .col(string("subject"))
        .col(text("details"))
        .col(timestamp_with_time_zone("created_at"))
        .take()
}

/// The entries that have no number in a chain yet.
fn audit_waiting() -> TableCreateStatement {
    Table::create()
        .table("audit_waiting")
        .col(pk_uuid("entry_id"))
        .take()
}

/// The chains: a gapless number per organization (the nil id stands for none), and a digest over the
/// entry and the digest before it.
fn audit_seals() -> TableCreateStatement {
    Table::create()
        .table("audit_seals")
        .col(uuid("organization_id"))
        .col(big_integer("number"))
        .col(uuid("entry_id"))
        .col(binary("digest"))
        .primary_key(&mut primary_key(&["organization_id", "number"]))
        .take()
}

/// The last number and digest of each chain, from which it grows.
fn audit_chains() -> TableCreateStatement {
    Table::create()
        .table("audit_chains")
        .col(pk_uuid("organization_id"))
        .col(big_integer("number"))
        .col(binary("digest"))
        .take()
}

/// The last number and digest that retention has removed from the front of a chain, and a code that only
/// the server can make.
fn audit_anchors() -> TableCreateStatement {
    Table::create()
        .table("audit_anchors")
        .col(pk_uuid("organization_id"))
        .col(big_integer("number"))
        .col(binary("digest"))
        .col(binary("code"))
        .take()
}

/// Up to where each shard of the event log is in the audit trail: the position of a row that was read.
fn audit_cursors() -> TableCreateStatement {
    Table::create()
        .table("audit_cursors")
        .col(small_integer("shard").primary_key())
        .col(big_integer("position"))
        .take()
}

/// What providers asked, and what they were answered.
fn scim_requests() -> TableCreateStatement {
    Table::create()
        .table("scim_requests")
        .col(uuid("directory_id"))
        .col(uuid("id"))
        .col(timestamp_with_time_zone("created_at"))
        .col(string("method"))
        .col(text("path"))
        .col(small_integer("status"))
        .col(integer("duration_ms"))
        .col(uuid_null("token_id"))
        .col(string_null("token_suffix"))
        .col(string_null("user_agent"))
        .col(string_null("address"))
        .col(string_null("scim_type"))
        .col(text_null("detail"))
        .col(string_null("situation"))
        .col(text_null("request_body"))
        .col(text_null("response_body"))
        .primary_key(&mut primary_key(&["directory_id", "id"]))
        .take()
}

/// Whom a request was about, by everything that it may be looked for by: the folded userName or e-mail
/// address, the external id, the id of the SCIM resource.
fn scim_request_subjects(manager: &SchemaManager<'_>) -> TableCreateStatement {
    Table::create()
        .table("scim_request_subjects")
        .col(uuid("directory_id"))
        .col(by_bytes(string("subject"), manager))
        .col(uuid("request_id"))
        .primary_key(&mut primary_key(&["directory_id", "subject", "request_id"]))
        .take()
}
