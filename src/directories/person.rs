//! Finding a person by what is known of them: somebody who is there, or who was and has been deleted.
//!
//! Whoever is there is found by an index. Whoever was deleted lives on in the log only, and is found by
//! what providers asked about them, or by reading what a directory's log says of deleted people.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::Value;

use crate::events::Kind;
use crate::ids::{DirectoryId, DirectoryUserId, OrganizationId, ResourceId};
use crate::keys::fold;
use crate::requests::Subject;
use crate::storage::Store;
use crate::storage::sql::Sql;
use crate::storage::tables::{directories, events, users};

/// How many events one statement reads.
const PAGE_ROWS: u64 = 500;

/// What the indexes over all directories hold. It is not the column itself, so that no query of one
/// directory is led through the rows of the others.
const EMAIL_EVERYWHERE: &str = "(email_key || '')";

/// The same for userNames, of whoever has no e-mail address.
const NAME_EVERYWHERE: &str = "(user_name_key || '')";

/// What is known of a person; the texts are folded as the columns are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// One of their e-mail addresses.
    Email(String),
    /// Their userName.
    UserName(String),
    /// The provider's own id: the external id, or that of the SCIM resource where there is none.
    IdpId(String),
    /// The id that the vendor knows.
    User(DirectoryUserId),
}

/// Where a person is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In all directories.
    Everywhere,
    /// In those of an organization.
    Organization(OrganizationId),
    /// In one.
    Directory(DirectoryId),
}

/// A SCIM resource of a directory, there or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person {
    /// The directory.
    pub directory_id: DirectoryId,
    /// The SCIM resource.
    pub id: ResourceId,
}

impl Known {
    /// Whether an index finds the person without a directory being named.
    pub fn is_found_everywhere(&self) -> bool {
        match self {
            Self::Email(_) | Self::User(_) => true,
            Self::UserName(_) | Self::IdpId(_) => false,
        }
    }

    /// By what requests about the person are found. An address may have been sent as a userName only.
    pub fn subjects(&self) -> Vec<Subject> {
        match self {
            Self::Email(key) => vec![Subject::Email(key.clone()), Subject::UserName(key.clone())],
            Self::UserName(key) => vec![Subject::UserName(key.clone())],
            Self::IdpId(id) => vec![Subject::ExternalId(id.clone())],
            Self::User(_) => Vec::new(),
        }
    }

    /// Whether the user of an event is the person.
    pub fn is_of(&self, user: &Value) -> bool {
        let text = |value: &Value, name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .unwrap_or_default()
        };
        match self {
            Self::Email(key) => {
                let others = user.get("emails").and_then(Value::as_array);
                fold(&text(user, "email")) == *key
                    || fold(&text(user, "username")) == *key
                    || others
                        .into_iter()
                        .flatten()
                        .any(|email| fold(&text(email, "value")) == *key)
            }
            Self::UserName(key) => fold(&text(user, "username")) == *key,
            Self::IdpId(id) => text(user, "idp_id") == *id,
            Self::User(id) => text(user, "id") == id.to_string(),
        }
    }

    /// `SELECT directory_id, id, is_primary` of whoever is there; an address that is one among several
    /// of a person is not primary.
    pub(super) fn push_matches(&self, sql: &mut Sql, scope: Scope) {
        const PRIMARY: &str = "SELECT directory_id, id, 1 AS is_primary FROM users WHERE ";
        match self {
            Self::Email(key) => {
                let (column, name) = match scope {
                    Scope::Everywhere => (EMAIL_EVERYWHERE, NAME_EVERYWHERE),
                    Scope::Organization(_) | Scope::Directory(_) => ("email_key", "user_name_key"),
                };
                sql.push(PRIMARY)
                    .push(column)
                    .push(" = ")
                    .bind(key.as_str());
                scope.push_to(sql, "directory_id");
                // Whoever has no mailbox may have an address for a userName, as with Entra ID.
                sql.push(" UNION ALL ")
                    .push(PRIMARY)
                    .push("email_key IS NULL AND ")
                    .push(name)
                    .push(" = ")
                    .bind(key.as_str());
                scope.push_to(sql, "directory_id");
                sql.push(
                    " UNION ALL SELECT directory_id, user_id AS id, 0 AS is_primary \
                     FROM user_emails WHERE ",
                )
                .push(column)
                .push(" = ")
                .bind(key.as_str());
            }
            Self::UserName(key) => {
                sql.push(PRIMARY)
                    .push("user_name_key = ")
                    .bind(key.as_str());
            }
            Self::IdpId(id) => {
                sql.push(PRIMARY).push("external_id = ").bind(id.as_str());
                if let Some(resource) = ResourceId::parse(id) {
                    scope.push_to(sql, "directory_id");
                    sql.push(" UNION ALL ")
                        .push(PRIMARY)
                        .push("external_id IS NULL AND id = ")
                        .bind(resource);
                }
            }
            Self::User(id) => {
                sql.push(PRIMARY).push("directory_user_id = ").bind(*id);
            }
        }
        scope.push_to(sql, "directory_id");
    }
}

impl Scope {
    /// `AND column …`, which holds the directories of the scope.
    pub fn push_to(self, sql: &mut Sql, column: &str) {
        match self {
            Self::Everywhere => {}
            Self::Organization(id) => {
                sql.push(" AND ")
                    .push(column)
                    .push(" IN (SELECT id FROM directories WHERE organization_id = ")
                    .bind(id)
                    .push(")");
            }
            Self::Directory(id) => {
                sql.push(" AND ").push(column).push(" = ").bind(id);
            }
        }
    }

    /// The directories of the scope, oldest first; none if it is everywhere.
    ///
    /// # Errors
    /// The database fails.
    pub async fn directories(
        self,
        connection: &impl ConnectionTrait,
    ) -> Result<Vec<directories::Model>, DbErr> {
        let rows = directories::Entity::find().order_by_asc(directories::Column::Id);
        let rows = match self {
            Self::Everywhere => return Ok(Vec::new()),
            Self::Organization(id) => rows.filter(directories::Column::OrganizationId.eq(id)),
            Self::Directory(id) => rows.filter(directories::Column::Id.eq(id)),
        };
        rows.all(connection).await
    }
}

/// Whoever is there, oldest first.
///
/// # Errors
/// The database fails.
pub async fn present(
    store: &Store,
    known: &Known,
    scope: Scope,
) -> Result<Vec<users::Model>, DbErr> {
    let mut sql = Sql::default();
    sql.push("SELECT u.* FROM (");
    known.push_matches(&mut sql, scope);
    sql.push(") f JOIN users u ON u.directory_id = f.directory_id AND u.id = f.id ORDER BY u.id");
    users::Entity::find()
        .from_raw_sql(sql.statement(store.dialect()))
        .all(store.reader())
        .await
}

/// Whoever was asked for by a provider and has an event that knows the person.
///
/// # Errors
/// The database fails.
pub async fn asked_for(
    store: &Store,
    known: &Known,
    scope: Scope,
) -> Result<BTreeSet<Person>, DbErr> {
    let mut found = BTreeSet::new();
    for subject in known.subjects() {
        found.extend(asked_for_as(store, known, &subject, scope).await?);
    }
    Ok(found)
}

async fn asked_for_as(
    store: &Store,
    known: &Known,
    subject: &Subject,
    scope: Scope,
) -> Result<BTreeSet<Person>, DbErr> {
    let mut sql = Sql::default();
    // A request names its directory first in every index, so that the directories lead the way.
    sql.push(
        "SELECT e.* FROM directories d JOIN scim_request_subjects s ON s.directory_id = d.id \
         AND s.subject = ",
    )
    .bind(subject.to_string())
    .push(
        " JOIN events e ON e.directory_id = s.directory_id AND e.request_id = s.request_id \
         WHERE d.state IN ('validating', 'linked', 'deleting', 'deleted') \
         AND e.user_id IS NOT NULL AND e.group_id IS NULL",
    );
    scope.push_to(&mut sql, "d.id");
    let rows = events::Entity::find()
        .from_raw_sql(sql.statement(store.dialect()))
        .all(store.reader())
        .await?;
    Ok(people(known, &rows).collect())
}

/// Whoever has been deleted, as far as the last `events_max` deletions of each directory say.
///
/// # Errors
/// The database fails.
pub async fn deleted(
    store: &Store,
    known: &Known,
    directories: &[directories::Model],
    events_max: u64,
) -> Result<BTreeSet<Person>, DbErr> {
    let mut found = BTreeSet::new();
    for directory in directories {
        let (mut before, mut read) = (i64::MAX, 0);
        while read < events_max {
            let rows = deletions(store, directory.id, before).await?;
            found.extend(people(known, &rows));
            let Some(last) = rows.last() else {
                break;
            };
            before = last.position;
            read += PAGE_ROWS;
        }
    }
    Ok(found)
}

/// A page of a directory's deletions of people, newest first.
async fn deletions(
    store: &Store,
    directory_id: DirectoryId,
    before: i64,
) -> Result<Vec<events::Model>, DbErr> {
    events::Entity::find()
        .filter(events::Column::DirectoryId.eq(directory_id))
        .filter(events::Column::Kind.eq(Kind::UserDeleted.as_str()))
        .filter(events::Column::Position.lt(before))
        .order_by_desc(events::Column::Position)
        .limit(PAGE_ROWS)
        .all(store.reader())
        .await
}

/// The people of those events whose user is the one who is known.
fn people<'a>(known: &'a Known, rows: &'a [events::Model]) -> impl Iterator<Item = Person> + 'a {
    rows.iter().filter_map(|row| {
        let payload: Value = serde_json::from_str(&row.payload).ok()?;
        let is_known = payload.get("data").is_some_and(|user| known.is_of(user));
        let id = row.user_id.filter(|_| is_known)?;
        let directory_id = row.directory_id;
        Some(Person { directory_id, id })
    })
}
