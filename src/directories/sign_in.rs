//! May a person sign in, or register by themselves, right now?
//!
//! The answer is that of one statement: the person, the state of the directory and its sequence are read
//! as of one moment, so that it is exact at that sequence. What holds back webhooks does not hold back
//! this. What a directory's state makes of the answers:
//!
//! | the directory | signing in | registering |
//! | --- | --- | --- |
//! | is validating | nobody is in it: `unknown` | it manages nobody |
//! | is linked, whoever manages it | as the person's state says | it manages its people |
//! | holds its deliveries | as the person's state says, which may be ahead of the webhooks | it manages its people |
//! | refuses its provider's writes | as the last known state says, and `stale` | it manages its people |
//! | will be deleted | `directory_deleting`, nobody; restoring it undoes this | it manages its people |
//! | has been deleted | `directory_deleting` until its rows are gone, then `unknown` | it manages nobody |

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QueryResult,
    Statement,
};

use super::directory::State;
use super::person::{Known, Scope};
use crate::ids::{DirectoryId, DirectoryUserId, OrganizationId};
use crate::storage::sql::Sql;
use crate::storage::tables::{directories, organization_domains};
use crate::storage::{Dialect, Store};
use crate::tenancy::organization::DomainState;

/// Why a person may or may not sign in; the earlier one decides where several directories answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The person is there and active: the only reason that allows.
    Active,
    /// The person is there and was deactivated.
    Inactive,
    /// The person's account with the vendor has ended.
    Ended,
    /// The directory has been deleted, or will be.
    DirectoryDeleting,
    /// No directory knows the person.
    Unknown,
}

impl Reason {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Ended => "ended",
            Self::DirectoryDeleting => "directory_deleting",
            Self::Unknown => "unknown",
        }
    }
}

/// What one directory says of a person.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The directory.
    pub directory_id: DirectoryId,
    /// Its organization.
    pub organization_id: OrganizationId,
    /// Why the person may or may not sign in.
    pub reason: Reason,
    /// The person, if they are there, and whether they are active.
    pub user: Option<(DirectoryUserId, bool)>,
    /// Whether the provider's writes do not get through, so that it may know better.
    pub is_stale: bool,
    /// The directory's sequence at which the answer is exact.
    pub sequence: i64,
    /// Whether the person was asked for by what is theirs alone.
    is_primary: bool,
}

impl Answer {
    /// Whether the person may sign in.
    pub fn is_allowed(&self) -> bool {
        self.reason == Reason::Active
    }
}

/// What each directory says of a person, the one that decides first. A directory that is in the scope
/// and does not know the person says so; without a scope only those answer that do.
///
/// # Errors
/// The database fails.
pub async fn ask(store: &Store, known: &Known, scope: Scope) -> Result<Vec<Answer>, DbErr> {
    let rows = store
        .reader()
        .query_all_raw(statement(store.dialect(), known, scope))
        .await?;
    let answers = rows.iter().map(read).collect::<Result<Vec<Answer>, _>>()?;
    Ok(decide(answers))
}

/// The statement of [`ask`].
pub fn statement(dialect: Dialect, known: &Known, scope: Scope) -> Statement {
    const OF_DIRECTORY: &str = "SELECT d.id AS directory_id, d.organization_id AS organization_id, \
         d.state AS state, d.writes_refused_at AS writes_refused_at, \
         d.deletion_due_at AS deletion_due_at, (SELECT e.sequence FROM events e \
         WHERE e.directory_id = d.id AND e.sequence IS NOT NULL \
         ORDER BY e.sequence DESC LIMIT 1) AS sequence, ";
    let mut sql = Sql::default();
    sql.push(OF_DIRECTORY)
        .push("u.directory_user_id AS user_id, u.active AS active, u.ended_at AS ended_at, ")
        .push("f.is_primary AS is_primary FROM (");
    known.push_matches(&mut sql, scope);
    sql.push(
        ") f JOIN users u ON u.directory_id = f.directory_id AND u.id = f.id \
         JOIN directories d ON d.id = u.directory_id",
    );
    if scope != Scope::Everywhere {
        sql.push(" UNION ALL ")
            .push(OF_DIRECTORY)
            .push("NULL, NULL, NULL, 0 FROM directories d WHERE d.state <> 'deleted'");
        scope.push_to(&mut sql, "d.id");
    }
    sql.statement(dialect)
}

fn read(row: &QueryResult) -> Result<Answer, DbErr> {
    let state: String = row.try_get("", "state")?;
    let deletion_due_at: Option<DateTime<Utc>> = row.try_get("", "deletion_due_at")?;
    let writes_refused_at: Option<DateTime<Utc>> = row.try_get("", "writes_refused_at")?;
    let ended_at: Option<DateTime<Utc>> = row.try_get("", "ended_at")?;
    let user_id: Option<DirectoryUserId> = row.try_get("", "user_id")?;
    let active: Option<bool> = row.try_get("", "active")?;
    let is_primary: i32 = row.try_get("", "is_primary")?;
    let is_going = deletion_due_at.is_some() || state == State::Deleting.as_str();
    let reason = match active {
        None => Reason::Unknown,
        Some(_) if is_going => Reason::DirectoryDeleting,
        Some(_) if ended_at.is_some() => Reason::Ended,
        Some(true) => Reason::Active,
        Some(false) => Reason::Inactive,
    };
    Ok(Answer {
        directory_id: row.try_get("", "directory_id")?,
        organization_id: row.try_get("", "organization_id")?,
        reason,
        user: user_id.zip(active),
        is_stale: writes_refused_at.is_some() || is_going,
        sequence: row.try_get::<Option<i64>>("", "sequence")?.unwrap_or(0),
        is_primary: is_primary == 1,
    })
}

/// In each directory the person whose own address it is goes before those who have it among others, and
/// anybody before nobody.
fn decide(mut answers: Vec<Answer>) -> Vec<Answer> {
    let having = |is_there: fn(&Answer) -> bool| -> BTreeSet<DirectoryId> {
        let there = answers.iter().filter(|answer| is_there(answer));
        there.map(|answer| answer.directory_id).collect()
    };
    let (known, owned) = (
        having(|answer| answer.user.is_some()),
        having(|answer| answer.is_primary),
    );
    answers.retain(|answer| {
        let id = answer.directory_id;
        if owned.contains(&id) {
            answer.is_primary
        } else {
            answer.user.is_some() || !known.contains(&id)
        }
    });
    answers.sort_by_key(|answer| (answer.reason, answer.directory_id));
    answers
}

/// Who manages an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Whether by the address's domain; else by the person.
    pub is_by_domain: bool,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Its directory.
    pub directory_id: DirectoryId,
}

/// Who manages the e-mail address `key` (folded): the organization that has shown its domain to be its
/// own, else one whose directory knows the person, in whatever state; in either case only with a
/// directory that its provider has reached and that has not been deleted.
///
/// # Errors
/// The database fails.
pub async fn manager_of(store: &Store, key: &str) -> Result<Option<Manager>, DbErr> {
    let by_domain = managing_domain(store.reader(), key).await?;
    let directory = match by_domain {
        Some(directory) => Some((true, directory)),
        None => managing_person(store, key)
            .await?
            .map(|found| (false, found)),
    };
    Ok(directory.map(|(is_by_domain, directory)| Manager {
        is_by_domain,
        organization_id: directory.organization_id,
        directory_id: directory.id,
    }))
}

async fn managing_domain(
    connection: &impl ConnectionTrait,
    key: &str,
) -> Result<Option<directories::Model>, DbErr> {
    let Some((_, domain)) = key.rsplit_once('@') else {
        return Ok(None);
    };
    let owner = organization_domains::Entity::find()
        .filter(organization_domains::Column::Domain.eq(domain))
        .filter(organization_domains::Column::State.eq(DomainState::Verified.as_str()))
        .one(connection)
        .await?;
    let Some(owner) = owner else {
        return Ok(None);
    };
    directories::Entity::find()
        .filter(directories::Column::OrganizationId.eq(owner.organization_id))
        .filter(directories::Column::State.eq(State::Linked.as_str()))
        .order_by_asc(directories::Column::Id)
        .one(connection)
        .await
}

async fn managing_person(store: &Store, key: &str) -> Result<Option<directories::Model>, DbErr> {
    let mut sql = Sql::default();
    sql.push("SELECT d.* FROM (");
    Known::Email(key.to_owned()).push_matches(&mut sql, Scope::Everywhere);
    sql.push(") f JOIN directories d ON d.id = f.directory_id WHERE d.state = ")
        .bind(State::Linked.as_str())
        .push(" ORDER BY d.id LIMIT 1");
    directories::Entity::find()
        .from_raw_sql(sql.statement(store.dialect()))
        .one(store.reader())
        .await
}
