//! Reading the request log: newest first, a page at a time, and no more than so many rows for a page.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, FromQueryResult};

use super::Subject;
use crate::ids::{DirectoryId, EventId, RequestId, ResourceId, ScimTokenId};
use crate::keys::fold;
use crate::storage::Store;
use crate::storage::sql::Sql;
use crate::storage::tables::scim_requests;

/// How many rows are looked at for one page, and how many of them at a time.
const ROWS_MAX: usize = 10_000;
const STEP: usize = 500;
/// How many people or groups one name stands for at most.
const NAMESAKES_MAX: i64 = 20;
/// How many events of a request are shown.
const EVENTS_MAX: i64 = 1_000;
const COLUMNS: &str = "id, created_at, method, path, status, duration_ms, token_id, token_suffix, \
     user_agent, address, scim_type, detail, situation";

/// Which requests are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those that were answered so.
    pub statuses: Option<(i16, i16)>,
    /// Those with this method.
    pub method: Option<String>,
    /// Those whose path and query contain this.
    pub path: Option<String>,
    /// Those from this instant on.
    pub since: Option<DateTime<Utc>>,
    /// Those before this instant.
    pub until: Option<DateTime<Utc>>,
    /// Those that are about one of these.
    pub subjects: Option<Vec<Subject>>,
}

impl Filter {
    fn takes(&self, row: &Summary) -> bool {
        let is_status = |(first, last)| (first..=last).contains(&row.status);
        self.statuses.is_none_or(is_status)
            && self
                .method
                .as_ref()
                .is_none_or(|method| *method == row.method)
            && self
                .path
                .as_ref()
                .is_none_or(|part| row.path.contains(part))
    }
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the newest.
    Newest,
    /// With the newest of those older than this one.
    OlderThan(RequestId),
    /// With the oldest of those newer than this one; it is shown newest first all the same.
    NewerThan(RequestId),
}

/// A request without its bodies.
#[derive(Clone, Debug, FromQueryResult)]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Summary {
    pub id: RequestId,
    pub created_at: DateTime<Utc>,
    pub method: String,
    pub path: String,
    pub status: i16,
    pub duration_ms: i32,
    pub token_id: Option<ScimTokenId>,
    pub token_suffix: Option<String>,
    pub user_agent: Option<String>,
    pub address: Option<String>,
    pub scim_type: Option<String>,
    pub detail: Option<String>,
    pub situation: Option<String>,
}

/// Requests, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// The requests.
    pub rows: Vec<Summary>,
    /// What the page with newer ones is to be before of.
    pub before: Option<RequestId>,
    /// What the page with older ones is to be after of.
    pub after: Option<RequestId>,
    /// Whether it ends because so many rows were looked at, and not because it is full.
    pub is_cut: bool,
}

/// Lists requests of a directory.
///
/// # Errors
/// The database fails.
pub async fn list(
    store: &Store,
    directory_id: DirectoryId,
    filter: &Filter,
    start: Start,
    limit: usize,
) -> Result<Page, DbErr> {
    let mut walk = Walk::new(directory_id, filter, start);
    let mut taken = Taken::default();
    while !taken.is_over(limit) {
        let step = walk.next(store).await?;
        taken.is_last = step.len() < STEP;
        taken.take(step, filter, limit);
    }
    let onward = taken.onward(limit);
    let is_cut = onward.is_some() && taken.rows.len() <= limit;
    let mut rows = taken.rows;
    rows.truncate(limit);
    let first = rows.first().map(|row| row.id);
    let (before, after) = match start {
        Start::Newest => (None, onward),
        Start::OlderThan(id) => (first.or(Some(id)), onward),
        Start::NewerThan(id) => {
            rows.reverse();
            (onward, first.or(Some(id)))
        }
    };
    Ok(Page {
        rows,
        before,
        after,
        is_cut,
    })
}

/// What a page takes of the candidates: one more than it has room for tells that there are more.
#[derive(Default)]
struct Taken {
    rows: Vec<Summary>,
    looked_at: usize,
    last_look: Option<RequestId>,
    is_last: bool,
}

impl Taken {
    fn is_over(&self, limit: usize) -> bool {
        self.is_last || self.rows.len() > limit || self.looked_at >= ROWS_MAX
    }

    fn take(&mut self, step: Vec<Summary>, filter: &Filter, limit: usize) {
        for row in step {
            if self.rows.len() > limit {
                return;
            }
            self.looked_at += 1;
            self.last_look = Some(row.id);
            if filter.takes(&row) {
                self.rows.push(row);
            }
        }
    }

    /// Where the next page goes on; `None` if there is none.
    fn onward(&self, limit: usize) -> Option<RequestId> {
        if self.rows.len() > limit {
            let last = self.rows.get(limit.checked_sub(1)?)?;
            return Some(last.id);
        }
        self.last_look.filter(|_| !self.is_last)
    }
}

/// A walk over candidates, from newer to older or the other way.
struct Walk<'a> {
    directory_id: DirectoryId,
    subjects: Option<&'a [Subject]>,
    is_upwards: bool,
    /// Ids below and above which nothing is wanted.
    from: Option<RequestId>,
    /// What is wanted is below or above this one, as the walk goes.
    place: Option<RequestId>,
    to: Option<RequestId>,
}

impl<'a> Walk<'a> {
    fn new(directory_id: DirectoryId, filter: &'a Filter, start: Start) -> Self {
        let at = |at: DateTime<Utc>| RequestId::first_at(at.timestamp_millis());
        let (is_upwards, place) = match start {
            Start::Newest => (false, None),
            Start::OlderThan(id) => (false, Some(id)),
            Start::NewerThan(id) => (true, Some(id)),
        };
        Self {
            directory_id,
            subjects: filter.subjects.as_deref(),
            is_upwards,
            from: filter.since.map(at),
            place,
            to: filter.until.map(at),
        }
    }

    /// The next candidates; fewer than [`STEP`] are the last ones.
    async fn next(&mut self, store: &Store) -> Result<Vec<Summary>, DbErr> {
        let mut sql = Sql::default();
        sql.push("SELECT ")
            .push(COLUMNS)
            .push(" FROM scim_requests WHERE directory_id = ");
        sql.bind(self.directory_id);
        match self.subjects {
            None => self.push_range(&mut sql, "id"),
            Some(subjects) => {
                let ids = self.ids_about(store, subjects).await?;
                push_ids(&mut sql, &ids);
            }
        }
        self.push_order(&mut sql, "id");
        let statement = sql.statement(store.dialect());
        let rows = store.reader().query_all_raw(statement).await?;
        let rows: Result<Vec<Summary>, DbErr> = rows
            .iter()
            .map(|row| Summary::from_query_result(row, ""))
            .collect();
        let rows = rows?;
        self.place = rows.last().map(|row| row.id).or(self.place);
        Ok(rows)
    }

    /// The ids of the next requests that are about one of the subjects: of each subject so many in the
    /// order of its index, and of all together as many.
    async fn ids_about(
        &self,
        store: &Store,
        subjects: &[Subject],
    ) -> Result<Vec<RequestId>, DbErr> {
        let mut ids = Vec::new();
        for key in subjects.iter().filter_map(Subject::key) {
            let mut sql = Sql::default();
            sql.push("SELECT request_id FROM scim_request_subjects WHERE directory_id = ")
                .bind(self.directory_id)
                .push(" AND subject = ")
                .bind(key);
            self.push_range(&mut sql, "request_id");
            self.push_order(&mut sql, "request_id");
            let statement = sql.statement(store.dialect());
            for row in store.reader().query_all_raw(statement).await? {
                ids.push(row.try_get::<RequestId>("", "request_id")?);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        if !self.is_upwards {
            ids.reverse();
        }
        ids.truncate(STEP);
        Ok(ids)
    }

    fn push_range(&self, sql: &mut Sql, column: &str) {
        let (above, below) = if self.is_upwards {
            (self.place, None)
        } else {
            (None, self.place)
        };
        for (operator, bound) in [
            (" >= ", self.from),
            (" > ", above),
            (" < ", below),
            (" < ", self.to),
        ] {
            if let Some(bound) = bound {
                sql.push(" AND ").push(column).push(operator).bind(bound);
            }
        }
    }

    fn push_order(&self, sql: &mut Sql, column: &str) {
        let direction = if self.is_upwards { " ASC" } else { " DESC" };
        sql.push(" ORDER BY ").push(column).push(direction);
        sql.push(" LIMIT ")
            .bind(i64::try_from(STEP).unwrap_or(i64::MAX));
    }
}

fn push_ids(sql: &mut Sql, ids: &[RequestId]) {
    if ids.is_empty() {
        sql.push(" AND 1 = 0");
        return;
    }
    sql.push(" AND id IN (");
    for (index, id) in ids.iter().enumerate() {
        sql.push(if index == 0 { "" } else { ", " }).bind(*id);
    }
    sql.push(")");
}

/// A request of a directory.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    id: RequestId,
) -> Result<Option<scim_requests::Model>, DbErr> {
    scim_requests::Entity::find_by_id((directory_id, id))
        .one(connection)
        .await
}

/// The events that a request caused, the first thousand of them, in order.
///
/// # Errors
/// The database fails.
pub async fn events(
    store: &Store,
    directory_id: DirectoryId,
    id: RequestId,
) -> Result<Vec<EventId>, DbErr> {
    let mut sql = Sql::default();
    sql.push("SELECT id FROM events WHERE directory_id = ")
        .bind(directory_id)
        .push(" AND request_id = ")
        .bind(id)
        .push(" ORDER BY position LIMIT ")
        .bind(EVENTS_MAX);
    let statement = sql.statement(store.dialect());
    let rows = store.reader().query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get("", "id")).collect()
}

/// Everything by which requests about a person are found: the name itself, as userName, e-mail address,
/// external id or SCIM id, and the SCIM ids of those who have it now.
///
/// # Errors
/// The database fails.
pub async fn person(
    store: &Store,
    directory_id: DirectoryId,
    name: &str,
) -> Result<Vec<Subject>, DbErr> {
    let key = fold(name);
    let found = "SELECT id FROM users WHERE directory_id = $1 AND user_name_key = $2 UNION \
         SELECT id FROM users WHERE directory_id = $1 AND email_key = $2 UNION \
         SELECT user_id AS id FROM user_emails WHERE directory_id = $1 AND email_key = $2 UNION \
         SELECT id FROM users WHERE directory_id = $1 AND external_id = $3 LIMIT $4";
    let mut subjects = holders(store, directory_id, found, &key, name).await?;
    subjects.push(Subject::UserName(key.clone()));
    subjects.push(Subject::Email(key));
    subjects.push(Subject::ExternalId(name.to_owned()));
    subjects.extend(ResourceId::parse(name).map(Subject::Resource));
    Ok(subjects)
}

/// The same for a group: its displayName, external id or SCIM id.
///
/// # Errors
/// The database fails.
pub async fn group(
    store: &Store,
    directory_id: DirectoryId,
    name: &str,
) -> Result<Vec<Subject>, DbErr> {
    let key = fold(name);
    let found = "SELECT id FROM groups WHERE directory_id = $1 AND display_name_key = $2 UNION \
         SELECT id FROM groups WHERE directory_id = $1 AND external_id = $3 LIMIT $4";
    let mut subjects = holders(store, directory_id, found, &key, name).await?;
    subjects.push(Subject::DisplayName(key));
    subjects.push(Subject::ExternalId(name.to_owned()));
    subjects.extend(ResourceId::parse(name).map(Subject::Resource));
    Ok(subjects)
}

async fn holders(
    store: &Store,
    directory_id: DirectoryId,
    sql: &str,
    key: &str,
    name: &str,
) -> Result<Vec<Subject>, DbErr> {
    let values = [
        directory_id.into(),
        key.into(),
        name.into(),
        NAMESAKES_MAX.into(),
    ];
    let statement = store.dialect().statement(sql, values);
    let rows = store.reader().query_all_raw(statement).await?;
    rows.iter()
        .map(|row| row.try_get("", "id").map(Subject::Resource))
        .collect()
}
