//! Looking users and groups up by what columns hold.
//!
//! A [`Term`] is something that an index answers; a [`Selection`] is the conjunction of its terms in one
//! directory. What a filter says beyond its terms is evaluated on the rows by the caller, a page at a
//! time. Rows come in an [`Order`] that an index has, from a [`Start`] that is best a [`Place`]: the rows
//! before it are then not walked again.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ConnectionTrait, DbErr, FromQueryResult, IdenStatic as _, Iterable as _, QueryResult, Statement,
};

use super::address::Address;
pub use super::resource::ResourceKind;
use super::token::{self, Opened};
use crate::ids::{DirectoryId, ResourceId};
use crate::storage::Store;
use crate::storage::dialect::Dialect;
use crate::storage::sql::Sql;
use crate::storage::tables::{groups, users};

mod term;

pub use term::{Key, Term, Test};

/// How many ids one statement names at most.
const IDS_MAX: usize = 1_000;

impl ResourceKind {
    fn table(self) -> &'static str {
        match self {
            Self::User => "users",
            Self::Group => "groups",
        }
    }

    /// The column of [`OrderBy::Name`].
    fn name_column(self) -> &'static str {
        match self {
            Self::User => "user_name_key",
            Self::Group => "display_name_key",
        }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub enum Row {
    /// A user, and whether it is a member of any group.
    User(users::Model, bool),
    /// A group.
    Group(groups::Model),
}

impl Row {
    /// Whether it is a user or a group.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::User(..) => ResourceKind::User,
            Self::Group(_) => ResourceKind::Group,
        }
    }

    /// Its id.
    pub fn id(&self) -> ResourceId {
        match self {
            Self::User(row, _) => row.id,
            Self::Group(row) => row.id,
        }
    }

    /// What [`OrderBy::Name`] compares.
    pub fn name_key(&self) -> &str {
        match self {
            Self::User(row, _) => &row.user_name_key,
            Self::Group(row) => &row.display_name_key,
        }
    }

    /// Reads the columns that start with [`PREFIX`].
    fn read(kind: ResourceKind, row: &QueryResult) -> Result<Self, DbErr> {
        Ok(match kind {
            ResourceKind::User => Self::User(
                users::Model::from_query_result(row, PREFIX)?,
                row.try_get(PREFIX, "has_groups")?,
            ),
            ResourceKind::Group => Self::Group(groups::Model::from_query_result(row, PREFIX)?),
        })
    }
}

/// What the columns of a found resource start with in a result.
const PREFIX: &str = "r_";

/// Users or groups of one directory for which all terms hold.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// The directory.
    pub directory_id: DirectoryId,
    /// Users or groups.
    pub kind: ResourceKind,
    /// What must hold.
    pub terms: &'a [Term],
}

/// By what rows are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// The id, which is about the order in which they were created.
    Id,
    /// A user's userName or a group's displayName, folded; then the id.
    Name,
}

/// How rows are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub by: OrderBy,
    /// Whether the last comes first.
    pub is_descending: bool,
}

impl Order {
    /// By id, the first one first.
    pub const BY_ID: Self = Self {
        by: OrderBy::Id,
        is_descending: false,
    };
}

/// A row's place in an order, whether or not the row is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name, if that is what rows are ordered by.
    pub name: Option<String>,
    /// The id.
    pub id: ResourceId,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Behind so many rows, which are walked.
    Skip(u64),
    /// Behind a place, to which the index leads.
    After(Place),
}

/// Up to `take` rows of a selection.
///
/// # Errors
/// The database fails.
pub async fn rows(
    store: &Store,
    selection: Selection<'_>,
    order: Order,
    start: &Start,
    take: u64,
) -> Result<Vec<Row>, DbErr> {
    let statement = rows_statement(store.dialect(), selection, order, start, take);
    let found = store.reader().query_all_raw(statement).await?;
    found
        .iter()
        .map(|row| Row::read(selection.kind, row))
        .collect()
}

/// The statement of [`rows`].
pub fn rows_statement(
    dialect: Dialect,
    selection: Selection<'_>,
    order: Order,
    start: &Start,
    take: u64,
) -> Statement {
    let kind = selection.kind;
    let mut sql = Sql::default();
    sql.push("SELECT ").push(&columns(kind));
    push_from(&mut sql, selection);
    if let Start::After(place) = start {
        push_place(&mut sql, kind, order, place);
    }
    push_order(&mut sql, kind, order);
    sql.push(" LIMIT ").bind(integer(take));
    if let Start::Skip(skip @ 1..) = start {
        sql.push(" OFFSET ").bind(integer(*skip));
    }
    sql.statement(dialect)
}

/// How many rows a selection has. Without terms they are not walked but read from the counts.
///
/// # Errors
/// The database fails.
pub async fn count(store: &Store, selection: Selection<'_>) -> Result<u64, DbErr> {
    let mut sql = Sql::default();
    if selection.terms.is_empty() {
        let column = match selection.kind {
            ResourceKind::User => "users",
            ResourceKind::Group => "groups",
        };
        sql.push("SELECT CAST(COALESCE(SUM(")
            .push(column)
            .push("), 0) AS BIGINT) AS found FROM resource_counts WHERE directory_id = ")
            .bind(selection.directory_id);
    } else {
        sql.push("SELECT COUNT(*) AS found");
        push_from(&mut sql, selection);
    }
    let statement = sql.statement(store.dialect());
    let row = store.reader().query_one_raw(statement).await?;
    let found: i64 = row.map_or(Ok(0), |row| row.try_get("", "found"))?;
    Ok(u64::try_from(found).unwrap_or(0))
}

/// The rows with these ids that are there, in the order of `ids`.
///
/// # Errors
/// The database fails.
pub async fn by_ids(
    store: &Store,
    directory_id: DirectoryId,
    kind: ResourceKind,
    ids: &[ResourceId],
) -> Result<Vec<Row>, DbErr> {
    let mut found = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(IDS_MAX) {
        let terms = [Term::Ids(chunk.to_vec())];
        let selection = Selection {
            directory_id,
            kind,
            terms: &terms,
        };
        let take = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        for row in rows(store, selection, Order::BY_ID, &Start::Skip(0), take).await? {
            found.insert(row.id(), row);
        }
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// What a caller who is not known yet asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Users or groups.
    pub kind: ResourceKind,
    /// What must hold.
    pub terms: &'a [Term],
    /// How rows are ordered.
    pub order: Order,
    /// How many rows at most, and at least 1.
    pub take: u64,
    /// Whether the terms leave one row at most.
    pub is_narrow: bool,
}

/// What was read when a caller was let in.
#[derive(Clone, Debug)]
pub struct FirstRows {
    /// The rows.
    pub rows: Vec<Row>,
    /// The newest sequence of the directory's log as of the same moment, unless one row was asked for.
    pub sequence: Option<i64>,
}

/// Opens a directory by a token and reads its first rows that match, in one statement; see
/// [`token::open`].
///
/// # Errors
/// The database fails.
pub async fn open(
    store: &Store,
    address: &Address,
    text: &str,
    now: DateTime<Utc>,
    ask: Ask<'_>,
) -> Result<Option<(Opened, FirstRows)>, DbErr> {
    let Some(credential) = token::Credential::parse(text) else {
        return Ok(None);
    };
    let statement = opening_statement(store.dialect(), address, &credential, now, ask);
    let found = store.reader().query_all_raw(statement).await?;
    let Some(opened) = credential.read(found.first())? else {
        return Ok(None);
    };
    let sequence = match found.first() {
        Some(row) if !ask.is_narrow => Some(row.try_get("", "newest")?),
        Some(_) | None => None,
    };
    let rows = found
        .iter()
        .filter_map(|row| read_joined(ask.kind, row).transpose())
        .collect::<Result<_, _>>()?;
    Ok(Some((opened, FirstRows { rows, sequence })))
}

/// The statement of [`open`].
pub fn opening_statement(
    dialect: Dialect,
    address: &Address,
    credential: &token::Credential,
    now: DateTime<Utc>,
    ask: Ask<'_>,
) -> Statement {
    let mut sql = Sql::default();
    if ask.is_narrow {
        push_opening_to_one(&mut sql, address, credential, now, ask);
    } else {
        push_opening_to_page(&mut sql, address, credential, now, ask);
    }
    sql.statement(dialect)
}

/// With one row at most there is nothing to sort and to cut, which makes a plain join of it.
fn push_opening_to_one(
    sql: &mut Sql,
    address: &Address,
    credential: &token::Credential,
    now: DateTime<Utc>,
    ask: Ask<'_>,
) {
    sql.push("SELECT ")
        .push(token::OPENED)
        .push(", ")
        .push(&columns(ask.kind))
        .push(token::OPENING)
        .push(" LEFT JOIN ")
        .push(ask.kind.table())
        .push(" r ON r.directory_id = d.id");
    term::push_all(sql, ask.kind, "d.id", ask.terms);
    credential.push_conditions(sql, address, now);
}

fn push_opening_to_page(
    sql: &mut Sql,
    address: &Address,
    credential: &token::Credential,
    now: DateTime<Utc>,
    ask: Ask<'_>,
) {
    const DIRECTORY: &str = "(SELECT id FROM caller)";
    sql.push("WITH caller AS (");
    credential.push_opening(sql, address, now);
    sql.push(") SELECT caller.*, ")
        .push(&columns(ask.kind))
        .push(", COALESCE((SELECT MAX(e.sequence) FROM events e WHERE e.directory_id = ")
        .push(DIRECTORY)
        // The page is cut inside: PostgreSQL cannot know that there is one caller at most, and would
        // sort the whole directory to cut outside.
        .push("), 0) AS newest FROM caller LEFT JOIN (SELECT r.* FROM ")
        .push(ask.kind.table())
        .push(" r WHERE r.directory_id = ")
        .push(DIRECTORY);
    term::push_all(sql, ask.kind, DIRECTORY, ask.terms);
    push_order(sql, ask.kind, ask.order);
    sql.push(" LIMIT ")
        .bind(integer(ask.take))
        .push(") r ON 1 = 1");
    push_order(sql, ask.kind, ask.order);
}

/// A row of a LEFT JOIN; `None` if nothing was joined.
fn read_joined(kind: ResourceKind, row: &QueryResult) -> Result<Option<Row>, DbErr> {
    let id: Option<ResourceId> = row.try_get(PREFIX, "id")?;
    id.map(|_| Row::read(kind, row)).transpose()
}

fn columns(kind: ResourceKind) -> String {
    let named = |name: &str| format!("r.{name} AS {PREFIX}{name}");
    match kind {
        ResourceKind::User => {
            let mut names: Vec<String> = users::Column::iter()
                .map(|column| named(column.as_str()))
                .collect();
            // Not EXISTS, for which PostgreSQL may read all memberships of all directories.
            names.push(format!(
                "(SELECT m.user_id FROM memberships m WHERE m.directory_id = r.directory_id AND \
                 m.user_id = r.id LIMIT 1) IS NOT NULL AS {PREFIX}has_groups"
            ));
            names.join(", ")
        }
        ResourceKind::Group => {
            let names: Vec<String> = groups::Column::iter()
                .map(|column| named(column.as_str()))
                .collect();
            names.join(", ")
        }
    }
}

fn push_from(sql: &mut Sql, selection: Selection<'_>) {
    sql.push(" FROM ")
        .push(selection.kind.table())
        .push(" r WHERE r.directory_id = ")
        .bind(selection.directory_id);
    // The directory is the first parameter of every statement that begins like this.
    term::push_all(sql, selection.kind, "$1", selection.terms);
}

fn push_place(sql: &mut Sql, kind: ResourceKind, order: Order, place: &Place) {
    let operator = if order.is_descending { " < " } else { " > " };
    match (order.by, &place.name) {
        (OrderBy::Name, Some(name)) => {
            sql.push(" AND (r.")
                .push(kind.name_column())
                .push(", r.id)")
                .push(operator)
                .push("(")
                .bind(name.as_str())
                .push(", ")
                .bind(place.id)
                .push(")");
        }
        (OrderBy::Name | OrderBy::Id, _) => {
            sql.push(" AND r.id").push(operator).bind(place.id);
        }
    }
}

fn push_order(sql: &mut Sql, kind: ResourceKind, order: Order) {
    let direction = if order.is_descending { " DESC" } else { "" };
    sql.push(" ORDER BY ");
    if order.by == OrderBy::Name {
        sql.push("r.")
            .push(kind.name_column())
            .push(direction)
            .push(", ");
    }
    sql.push("r.id").push(direction);
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
