//! The database schema of Rollcall, written once for SQLite and PostgreSQL.
//!
//! Each migration is append-only after a release and *expands* before it *contracts*: a binary one
//! release older keeps working on the new schema, so that nodes can be upgraded one by one. The oldest
//! binary that the schema serves is [`OLDEST_BINARY`], and it is recorded in the database.

#![expect(
    elided_lifetimes_in_paths,
    reason = "the signatures of MigrationTrait leave them out"
)]

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::timestamp_with_time_zone;

mod m20261122_000001_tenancy;
mod m20261122_000002_directories;
mod m20261122_000003_events;
mod m20261122_000004_webhooks;
mod m20261122_000005_records;
mod m20261122_000006_row_security;

/// The oldest version of the `rollcall` binary that can run on the schema these migrations make.
pub const OLDEST_BINARY: &str = "0.1.0";

/// Runs the migrations in order; see the module documentation for the rules.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_tenancy::Migration),
            Box::new(m20261122_000002_directories::Migration),
            Box::new(m20261122_000003_events::Migration),
            Box::new(m20261122_000004_webhooks::Migration),
            Box::new(m20261122_000005_records::Migration),
            Box::new(m20261122_000006_row_security::Migration),
        ]
    }
}

/// The names of all migrations, oldest first, to compare with what a database has.
pub fn names() -> Vec<String> {
    Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect()
}

/// A table that starts with `created_at` and `updated_at`.
fn table_with_times(name: &'static str) -> TableCreateStatement {
    Table::create()
        .table(name)
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .take()
}

/// A composite primary key over `columns`.
fn primary_key(columns: &[&'static str]) -> IndexCreateStatement {
    let mut key = Index::create();
    for column in columns {
        key.col(*column);
    }
    key.primary().take()
}

/// An index named after its table and columns.
fn index(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index
        .name(format!("{table}_{}", columns.join("_")))
        .table(table);
    for column in columns {
        index.col(*column);
    }
    index.take()
}

/// A foreign key from `columns` of `table` to `referenced` of `target`, cascading on delete.
fn foreign_key(
    table: &'static str,
    columns: &[&'static str],
    target: &'static str,
    referenced: &[&'static str],
) -> ForeignKeyCreateStatement {
    let mut key = ForeignKey::create();
    key.name(format!("{table}_{}_fk", columns.join("_")))
        .from_tbl(table)
        .to_tbl(target);
    for column in columns {
        key.from_col(*column);
    }
    for column in referenced {
        key.to_col(*column);
    }
    key.on_delete(ForeignKeyAction::Cascade).take()
}

/// Makes a column of text compare by its bytes, as SQLite does by itself, whatever the language of a
/// PostgreSQL database; the server's own comparisons do so too.
fn by_bytes(mut column: ColumnDef, manager: &SchemaManager<'_>) -> ColumnDef {
    if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
        column.extra("COLLATE \"C\"");
    }
    column
}
