//! Row-level security on PostgreSQL: a second wall between directories.
//!
//! Whoever has said, in `rollcall.scope`, which directory a transaction is about, sees and writes the rows
//! of no other. The server says so in every write transaction of a directory, in which it also gives up
//! its own rights for those of the role `rollcall_tenant`: the owner of a table, and a superuser, would
//! pass every policy. What the role may do, the server sees to at its start, for it may come later than this.
//! Where there is no such role, the server goes on without this wall, and says so.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// The tables whose rows belong to directories and are written in their transactions.
const TABLES: [&str; 11] = [
    "directory_addresses",
    "scim_tokens",
    "users",
    "user_emails",
    "groups",
    "memberships",
    "group_members",
    "resource_counts",
    "refused_writes",
    "drift",
    "events",
];

/// Roles belong to a server, not to a database: another database may have made it, or be making it now.
const ROLE: &str = "
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rollcall_tenant') THEN
        CREATE ROLE rollcall_tenant NOLOGIN;
    END IF;
    IF NOT pg_has_role(current_user, 'rollcall_tenant', 'MEMBER') THEN
        EXECUTE format('GRANT rollcall_tenant TO %I', current_user);
    END IF;
EXCEPTION
    WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
END $$;";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        let connection = manager.get_connection();
        for table in TABLES {
            connection
                .execute_unprepared(&policy(table, "directory_id"))
                .await?;
        }
        connection
            .execute_unprepared(&policy("directories", "id"))
            .await?;
        connection.execute_unprepared(ROLE).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        let connection = manager.get_connection();
        for table in TABLES.into_iter().chain(["directories"]) {
            let drop = format!(
                "DROP POLICY IF EXISTS one_directory ON {table}; \
                 ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"
            );
            connection.execute_unprepared(&drop).await?;
        }
        Ok(())
    }
}

/// The settings are read once per statement, not once per row. One that was set in an earlier transaction
/// of the connection is empty afterwards.
fn policy(table: &str, column: &str) -> String {
    let scope = "nullif(current_setting('rollcall.scope', true), '')";
    format!(
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY one_directory ON {table} USING ((SELECT {scope} IS NULL) \
         OR {column} = (SELECT CAST({scope} AS uuid)))"
    )
}
