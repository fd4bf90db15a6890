//! The checksum of a directory: whether somebody who knows it from webhooks alone has it as it is.
//!
//! It is the SHA-256 of these lines, each ended by a line feed, with tabs between the fields:
//!
//! ```text
//! user    <id>    <state>    <email, or nothing if there is none>
//! group   <id>    <name>
//! member  <id of the group>    <id of the user>
//! ```
//!
//! First come the users by their ids, then the groups by theirs, then the memberships by the ids of group
//! and user. Ids, states, addresses and names stand as in the `data` of events, in UTF-8, and whatever is
//! in them. Memberships are those that events tell of.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::group::Group;
use super::nesting::{self, Scene};
use super::user::User;
use crate::ids::{DirectoryGroupId, DirectoryUserId, ResourceId};
use crate::storage::tables::{directories, groups, users};
use crate::storage::{self, Store, newest_sequence};

/// How many users or groups one query reads.
const PAGE_ROWS: usize = 1_000;
/// How often it is begun again because something has changed meanwhile.
const TRIES: usize = 5;

/// What a directory comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// The sequence at which it is so.
    pub sequence: i64,
    /// How many users there are.
    pub users: usize,
    /// How many groups there are.
    pub groups: usize,
    /// How many memberships there are.
    pub memberships: usize,
    /// The SHA-256 of all of it, in lower-case hexadecimal digits.
    pub digest: String,
}

/// Why there is no checksum.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It never stood still.
    #[error("the directory has changed while it was read, {TRIES} times in a row; try again later")]
    Busy,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

/// Computes the checksum of a directory. It is read in pages, so that nothing waits for it; if something
/// has changed in between, it is read again.
///
/// # Errors
/// It changes all the time, or the database fails.
pub async fn compute(store: &Store, directory: &directories::Model) -> Result<Checksum, Error> {
    let connection = store.reader();
    for _ in 0..TRIES {
        let sequence = newest_sequence(connection, directory.id).await?;
        let content = Content::read(connection, directory).await?;
        if newest_sequence(connection, directory.id).await? == sequence {
            return Ok(content.checksum(sequence));
        }
    }
    Err(Error::Busy)
}

/// What a directory consists of, as vendors know it.
#[derive(Debug, Default)]
struct Content {
    users: BTreeMap<DirectoryUserId, String>,
    groups: BTreeMap<DirectoryGroupId, String>,
    memberships: Vec<(DirectoryGroupId, DirectoryUserId)>,
}

impl Content {
    async fn read(
        connection: &impl ConnectionTrait,
        directory: &directories::Model,
    ) -> Result<Self, DbErr> {
        let mut content = Self::default();
        let known = content.read_groups(connection, directory).await?;
        content.read_users(connection, directory, &known).await?;
        content.memberships.sort_unstable();
        Ok(content)
    }

    /// Reads the groups; returns what vendors call them.
    async fn read_groups(
        &mut self,
        connection: &impl ConnectionTrait,
        directory: &directories::Model,
    ) -> Result<BTreeMap<ResourceId, DirectoryGroupId>, DbErr> {
        let (mut known, mut after) = (BTreeMap::new(), None);
        loop {
            let mut query = groups::Entity::find()
                .filter(groups::Column::DirectoryId.eq(directory.id))
                .order_by_asc(groups::Column::Id)
                .limit(u64::try_from(PAGE_ROWS).ok());
            if let Some(after) = after {
                query = query.filter(groups::Column::Id.gt(after));
            }
            let page = query.all(connection).await?;
            let is_last = page.len() < PAGE_ROWS;
            for row in page {
                let (id, known_as) = (row.id, row.directory_group_id);
                let data = Group::from_row(row)?.data(directory.organization_id);
                self.groups
                    .insert(known_as, format!("{known_as}\t{}", text(&data, "name")));
                known.insert(id, known_as);
                after = Some(id);
            }
            if is_last {
                return Ok(known);
            }
        }
    }

    /// Reads the users that vendors know, and where they are.
    async fn read_users(
        &mut self,
        connection: &impl ConnectionTrait,
        directory: &directories::Model,
        groups: &BTreeMap<ResourceId, DirectoryGroupId>,
    ) -> Result<(), DbErr> {
        let (mut scene, mut after) = (Scene::default(), None);
        loop {
            let mut query = users::Entity::find()
                .filter(users::Column::DirectoryId.eq(directory.id))
                .filter(users::Column::EndedAt.is_null())
                .order_by_asc(users::Column::Id)
                .limit(u64::try_from(PAGE_ROWS).ok());
            if let Some(after) = after {
                query = query.filter(users::Column::Id.gt(after));
            }
            let page = query.all(connection).await?;
            let is_last = page.len() < PAGE_ROWS;
            after = page.last().map(|row| row.id).or(after);
            let ids: Vec<ResourceId> = page.iter().map(|row| row.id).collect();
            nesting::look_at(connection, directory.id, &ids, &mut scene).await?;
            for row in page {
                self.note_user(directory, row, &scene, groups)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn note_user(
        &mut self,
        directory: &directories::Model,
        row: users::Model,
        scene: &Scene,
        groups: &BTreeMap<ResourceId, DirectoryGroupId>,
    ) -> Result<(), DbErr> {
        let (id, known_as) = (row.id, row.directory_user_id);
        let data = User::from_row(row)?.data(directory.organization_id);
        let (state, email) = (text(&data, "state"), text(&data, "email"));
        self.users
            .insert(known_as, format!("{known_as}\t{state}\t{email}"));
        let places = if directory.flatten_groups {
            scene.groups_of(id)
        } else {
            scene.direct.get(&id).cloned().unwrap_or_default()
        };
        let places = places.iter().filter_map(|group_id| groups.get(group_id));
        self.memberships
            .extend(places.map(|group_id| (*group_id, known_as)));
        Ok(())
    }

    fn checksum(&self, sequence: i64) -> Checksum {
        let mut hasher = Sha256::new();
        for user in self.users.values() {
            hasher.update(format!("user\t{user}\n"));
        }
        for group in self.groups.values() {
            hasher.update(format!("group\t{group}\n"));
        }
        for (group, user) in &self.memberships {
            hasher.update(format!("member\t{group}\t{user}\n"));
        }
        let digest = hasher.finalize();
        let digest = digest.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        });
        Checksum {
            sequence,
            users: self.users.len(),
            groups: self.groups.len(),
            memberships: self.memberships.len(),
            digest,
        }
    }
}

fn text<'a>(data: &'a Map<String, Value>, name: &str) -> &'a str {
    data.get(name).and_then(Value::as_str).unwrap_or("")
}
