//! Reading the trail, newest first.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait as _, DbErr, EntityTrait as _, FromQueryResult as _};

use super::PROVIDER_WRITE;
use crate::ids::{AuditEntryId, DirectoryId, OrganizationId};
use crate::storage::Store;
use crate::storage::sql::Sql;
use crate::storage::tables::audit_entries;

/// Which entries; what is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Those of this organization.
    pub organization_id: Option<OrganizationId>,
    /// Those of this directory.
    pub directory_id: Option<DirectoryId>,
    /// What this one did.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// Not before.
    pub since: Option<DateTime<Utc>>,
    /// Before.
    pub until: Option<DateTime<Utc>>,
    /// Those that come after this one.
    pub after: Option<AuditEntryId>,
}

/// An entry and its place in its chain, once it has one.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The entry.
    pub entry: audit_entries::Model,
    /// Its number.
    pub number: Option<i64>,
}

/// Finds up to `limit` entries.
///
/// # Errors
/// The database fails.
pub async fn search(store: &Store, search: &Search, limit: u32) -> Result<Vec<Listed>, DbErr> {
    let mut sql = Sql::default();
    sql.push(
        "SELECT e.*, s.number AS number FROM audit_entries e \
         LEFT JOIN audit_seals s ON s.entry_id = e.id WHERE e.created_at IS NOT NULL",
    );
    push_conditions(&mut sql, search);
    sql.push(" ORDER BY e.created_at DESC, e.id DESC LIMIT ");
    sql.bind(i64::from(limit));
    let statement = sql.statement(store.dialect());
    let rows = store.reader().query_all_raw(statement).await?;
    let listed = rows.iter().map(|row| {
        Ok(Listed {
            entry: audit_entries::Model::from_query_result(row, "")?,
            number: row.try_get("", "number")?,
        })
    });
    listed.collect()
}

fn push_conditions(sql: &mut Sql, search: &Search) {
    if let Some(id) = search.organization_id {
        sql.push(" AND e.organization_id = ").bind(id.uuid());
    }
    if let Some(id) = search.directory_id {
        sql.push(" AND e.directory_id = ").bind(id.uuid());
    }
    if let Some(actor) = &search.actor {
        sql.push(" AND e.actor = ").bind(actor.as_str());
    }
    if let Some(action) = &search.action {
        sql.push(" AND e.action = ").bind(action.as_str());
        // The index of actions leaves these out, and must be told so.
        if action != PROVIDER_WRITE {
            sql.push(" AND e.action <> 'scim.write'");
        }
    }
    if let Some(since) = search.since {
        sql.push(" AND e.created_at >= ").bind(since);
    }
    if let Some(until) = search.until {
        sql.push(" AND e.created_at < ").bind(until);
    }
    if let Some(id) = search.after {
        sql.push(
            " AND (e.created_at, e.id) < (SELECT a.created_at, a.id FROM audit_entries a WHERE a.id = ",
        );
        sql.bind(id.uuid()).push(")");
    }
}

/// Whether there is such an entry.
///
/// # Errors
/// The database fails.
pub async fn exists(store: &Store, id: AuditEntryId) -> Result<bool, DbErr> {
    let found = audit_entries::Entity::find_by_id(id).one(store.reader());
    Ok(found.await?.is_some())
}
