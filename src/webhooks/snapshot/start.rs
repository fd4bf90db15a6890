//! Starting a snapshot: noting what a directory consists of, under its lock.

use sea_orm::{ActiveValue, ConnectionTrait, DbErr, EntityTrait};
use serde_json::json;

use super::{Error, RUNNING, running};
use crate::actor::Actor;
use crate::audit;
use crate::directories::directory::{self, State};
use crate::events::Kind;
use crate::ids::{DirectoryId, EndpointId, SnapshotId};
use crate::storage::sql::Sql;
use crate::storage::tables::{directories, endpoints, snapshots};
use crate::storage::{Lane, Store, UseCase, WriteTx, newest_sequence};
use crate::webhooks::endpoint::{self, Filter, Term};

/// How many directories are looked up at a time.
const PAGE: u64 = 500;

struct Start {
    actor: Actor,
    id: SnapshotId,
    directory_id: DirectoryId,
    endpoint_id: EndpointId,
}

impl UseCase for Start {
    type Answer = snapshots::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<snapshots::Model, Error> {
        let directory = self.directory(tx)?;
        let endpoint = endpoint::find(tx, self.endpoint_id)
            .await?
            .ok_or(Error::NoEndpoint(self.endpoint_id))?;
        let filter = newest_filter(&endpoint);
        if !takes(&filter, &directory) {
            return Err(Error::NotTaken);
        }
        if !endpoint::is_enabled(&endpoint) {
            return Err(Error::Disabled);
        }
        if let Some(other) = running(self.endpoint_id, directory.id).one(tx).await? {
            return Err(Error::Running(other.id));
        }
        let row = self.row(tx, &directory).await?;
        snapshots::Entity::insert(snapshots::ActiveModel::from(row.clone()))
            .exec_without_returning(tx)
            .await?;
        let total = copy(tx, self.id, &directory, &filter).await?;
        let change = snapshots::ActiveModel {
            id: ActiveValue::Unchanged(self.id),
            total: ActiveValue::Set(total),
            ..Default::default()
        };
        let started = snapshots::Entity::update(change).exec(tx).await?;
        let details = json!({
            "endpoint_id": self.endpoint_id, "sequence": row.sequence, "total": total,
        });
        let entry = audit::Entry::of_directory(&directory, "snapshot.started", &self.id);
        audit::record(tx, self.actor, entry.with(details)).await?;
        Ok(started)
    }
}

impl Start {
    fn directory(&self, tx: &WriteTx) -> Result<directories::Model, Error> {
        let row = tx.directory().map(|locked| &locked.row);
        let row = row
            .filter(|row| State::is_open(row))
            .ok_or(Error::NoDirectory(self.directory_id))?;
        if row.deletion_due_at.is_some() {
            return Err(Error::Deleting);
        }
        if !State::Linked.is_of(row) {
            return Err(Error::NotLinked);
        }
        Ok(row.clone())
    }

    async fn row(
        &self,
        tx: &WriteTx,
        directory: &directories::Model,
    ) -> Result<snapshots::Model, DbErr> {
        // What the transaction has changed so far is in the rows, and its events are not in the log yet.
        let ahead = i64::try_from(tx.upcoming(directory.id).sequenced).unwrap_or(i64::MAX);
        Ok(snapshots::Model {
            id: self.id,
            endpoint_id: self.endpoint_id,
            directory_id: directory.id,
            state: RUNNING.to_owned(),
            sequence: newest_sequence(tx, directory.id).await? + ahead,
            position: newest_position(tx, directory.id).await?,
            total: 0,
            next_number: 1,
            error: None,
            actor: self.actor.who.to_string(),
            lease_token: None,
            lease_until_ms: 0,
            ended_at: None,
            created_at: tx.now(),
            updated_at: tx.now(),
        })
    }
}

async fn newest_position(tx: &WriteTx, directory_id: DirectoryId) -> Result<i64, DbErr> {
    let mut sql = Sql::default();
    sql.push("SELECT max(position) AS newest FROM events WHERE directory_id = ")
        .bind(directory_id);
    let row = tx.query_one_raw(sql.statement(tx.dialect())).await?;
    let newest = row.map_or(Ok(None), |row| row.try_get::<Option<i64>>("", "newest"))?;
    Ok(newest.unwrap_or(0))
}

/// What the endpoint takes now.
fn newest_filter(endpoint: &endpoints::Model) -> Filter {
    let terms: Vec<Term> = serde_json::from_str(&endpoint.filters).unwrap_or_default();
    let newest = terms.into_iter().next_back();
    newest.map(|term| term.filter).unwrap_or_default()
}

fn takes(filter: &Filter, directory: &directories::Model) -> bool {
    let passes = |named: &[String], id: String| named.is_empty() || named.contains(&id);
    passes(&filter.organizations, directory.organization_id.to_string())
        && passes(&filter.directories, directory.id.to_string())
}

/// Notes what there is, in one statement, in the order in which it is sent; tells how many rows that are.
async fn copy(
    tx: &WriteTx,
    id: SnapshotId,
    directory: &directories::Model,
    filter: &Filter,
) -> Result<i64, DbErr> {
    let takes = |kind: Kind| {
        let mut named = filter.events.iter();
        filter.events.is_empty() || named.any(|name| name == kind.as_str())
    };
    let mut sql = Sql::default();
    sql.push("INSERT INTO snapshot_rows (snapshot_id, number, kind, user_id, group_id, version) ");
    if directory.flatten_groups {
        push_chains(&mut sql, directory.id);
    }
    sql.push("SELECT ").bind(id).push(
        ", row_number() OVER (ORDER BY r.place, r.group_id, r.user_id), r.kind, r.user_id, \
         r.group_id, r.version FROM (SELECT 1 AS place, 'directory' AS kind, \
         CAST(NULL AS uuid) AS user_id, CAST(NULL AS uuid) AS group_id, CAST(0 AS bigint) AS version",
    );
    if takes(Kind::UserCreated) {
        sql.push(
            " UNION ALL SELECT 2, 'user', u.id, CAST(NULL AS uuid), u.version FROM users u \
             WHERE u.ended_at IS NULL AND u.directory_id = ",
        )
        .bind(directory.id);
    }
    if takes(Kind::GroupCreated) {
        sql.push(
            " UNION ALL SELECT 3, 'group', CAST(NULL AS uuid), g.id, g.version FROM groups g \
             WHERE g.directory_id = ",
        )
        .bind(directory.id);
    }
    if takes(Kind::UserAdded) {
        push_memberships(&mut sql, directory);
    }
    sql.push(") r");
    let done = tx.execute_raw(sql.statement(tx.dialect())).await?;
    Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
}

/// `chains`: for each group itself and all groups that it is in, directly or through others.
fn push_chains(sql: &mut Sql, directory_id: DirectoryId) {
    sql.push(
        "WITH RECURSIVE chains (group_id, above) AS (SELECT g.id, g.id FROM groups g \
         WHERE g.directory_id = ",
    )
    .bind(directory_id)
    .push(
        " UNION SELECT c.group_id, m.group_id FROM chains c JOIN group_members m \
         ON m.member_id = c.above AND m.directory_id = ",
    )
    .bind(directory_id)
    .push(") ");
}

fn push_memberships(sql: &mut Sql, directory: &directories::Model) {
    let (group, join) = if directory.flatten_groups {
        ("c.above", "JOIN chains c ON c.group_id = m.group_id ")
    } else {
        ("m.group_id", "")
    };
    sql.push(" UNION ALL SELECT DISTINCT 4, 'membership', m.user_id, ")
        .push(group)
        .push(", u.version FROM memberships m ")
        .push(join)
        .push(
            "JOIN users u ON u.directory_id = m.directory_id AND u.id = m.user_id \
             WHERE u.ended_at IS NULL AND m.directory_id = ",
        )
        .bind(directory.id);
}

/// Starts a snapshot of a directory for an endpoint.
///
/// # Errors
/// There is no such endpoint or directory, the directory has no state or is going to be deleted, the
/// endpoint is disabled or does not take its events, one is on its way already, or the database fails.
pub async fn start(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
    endpoint_id: EndpointId,
) -> Result<snapshots::Model, Error> {
    let start = Start {
        actor,
        id: SnapshotId::generate(),
        directory_id,
        endpoint_id,
    };
    let started = store.write(Lane::Directory(directory_id), start).await?;
    store.wake().endpoints_changed();
    Ok(started)
}

/// Starts a snapshot of every directory that has a state for an endpoint, each in a transaction of its
/// own; tells how many. Those that are on their way already are left as they are, so that it can be called
/// again.
///
/// # Errors
/// There is no such endpoint, it is disabled, or the database fails; then the rest is not started.
pub async fn of_everything(
    store: &Store,
    actor: Actor,
    endpoint_id: EndpointId,
) -> Result<u64, Error> {
    let (mut started, mut after) = (0, None);
    loop {
        let page = directory::list(store.reader(), None, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(started);
        };
        after = Some(last.id);
        for row in page.iter().filter(|row| State::Linked.is_of(row)) {
            match start(store, actor, row.id, endpoint_id).await {
                Ok(_) => started += 1,
                Err(
                    Error::NotLinked
                    | Error::Deleting
                    | Error::NotTaken
                    | Error::Running(_)
                    | Error::NoDirectory(_),
                ) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
