//! The events of a snapshot: made of a page of its rows and of what these are now.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::directories::group::Group;
use crate::directories::membership::{self, Membership};
use crate::directories::user::User;
use crate::events::{self, Kind};
use crate::ids::{EventId, ResourceId, SnapshotId};
use crate::storage::Store;
use crate::storage::tables::{directories, groups, snapshot_rows, snapshots, users};
use crate::tenancy::organization;

/// An event of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its place in the snapshot, from 1.
    pub(super) number: i64,
    /// What it tells.
    pub(super) kind: Kind,
    /// Its id.
    pub(super) event_id: EventId,
    /// The exact text on the wire.
    pub(super) payload: String,
}

/// What the resources of a page are now.
struct Now<'a> {
    directory: &'a directories::Model,
    users: BTreeMap<ResourceId, User>,
    groups: BTreeMap<ResourceId, Group>,
    memberships: BTreeMap<(ResourceId, ResourceId), Membership>,
}

/// The events of a page of rows; those whose resources are gone are left out.
///
/// # Errors
/// The database fails.
pub(super) async fn messages(
    store: &Store,
    snapshot: &snapshots::Model,
    directory: &directories::Model,
    rows: &[snapshot_rows::Model],
) -> Result<Vec<Message>, DbErr> {
    let now = Now::read(store, directory, rows).await?;
    let domains = organization::domains(store.dispatch_reader(), directory.organization_id).await?;
    let activated = events::activated_data(directory, &domains);
    let messages = rows.iter().filter_map(|row| {
        let told = match row.kind.as_str() {
            "user" => now.user(row),
            "group" => now.group(row),
            "membership" => now.membership(row),
            _ => Some((Kind::Activated, activated.clone())),
        };
        // The end must be marked, whatever has become of it.
        let is_last = row.number == snapshot.total;
        let (kind, data) =
            told.or_else(|| is_last.then(|| (Kind::Activated, activated.clone())))?;
        let event_id = event_id(snapshot.id, row.number);
        Some(Message {
            number: row.number,
            kind,
            event_id,
            payload: events::payload(event_id, kind, &data, snapshot.created_at),
        })
    });
    Ok(messages.collect())
}

impl<'a> Now<'a> {
    async fn read(
        store: &Store,
        directory: &'a directories::Model,
        rows: &[snapshot_rows::Model],
    ) -> Result<Self, DbErr> {
        let ids = |kind: &str, id: fn(&snapshot_rows::Model) -> Option<ResourceId>| {
            let of_kind = rows.iter().filter(|row| row.kind == kind);
            of_kind.filter_map(id).collect::<BTreeSet<ResourceId>>()
        };
        let members = ids("membership", |row| row.user_id);
        let users = ids("user", |row| row.user_id).into_iter();
        let users = users.chain(members.iter().copied()).collect();
        Ok(Self {
            directory,
            users: read_users(store, directory, users).await?,
            groups: read_groups(store, directory, ids("group", |row| row.group_id)).await?,
            memberships: read_memberships(store, directory, members).await?,
        })
    }

    fn user(&self, row: &snapshot_rows::Model) -> Option<(Kind, Value)> {
        let user = self.users.get(&row.user_id?)?;
        let data = user.data(self.directory.organization_id);
        Some((Kind::UserCreated, Value::Object(data)))
    }

    fn group(&self, row: &snapshot_rows::Model) -> Option<(Kind, Value)> {
        let group = self.groups.get(&row.group_id?)?;
        let data = group.data(self.directory.organization_id);
        Some((Kind::GroupCreated, Value::Object(data)))
    }

    fn membership(&self, row: &snapshot_rows::Model) -> Option<(Kind, Value)> {
        let user = self.users.get(&row.user_id?)?;
        let membership = self.memberships.get(&(row.user_id?, row.group_id?))?;
        let data = json!({
            "directory_id": self.directory.id,
            "user": user.data(self.directory.organization_id),
            "group": membership.group.data(self.directory.organization_id),
        });
        Some((Kind::UserAdded, data))
    }
}

/// Those of `ids` whom vendors know.
async fn read_users(
    store: &Store,
    directory: &directories::Model,
    ids: BTreeSet<ResourceId>,
) -> Result<BTreeMap<ResourceId, User>, DbErr> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    users::Entity::find()
        .filter(users::Column::DirectoryId.eq(directory.id))
        .filter(users::Column::Id.is_in(ids))
        .filter(users::Column::EndedAt.is_null())
        .all(store.dispatch_reader())
        .await?
        .into_iter()
        .map(|row| Ok((row.id, User::from_row(row)?)))
        .collect()
}

async fn read_groups(
    store: &Store,
    directory: &directories::Model,
    ids: BTreeSet<ResourceId>,
) -> Result<BTreeMap<ResourceId, Group>, DbErr> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    groups::Entity::find()
        .filter(groups::Column::DirectoryId.eq(directory.id))
        .filter(groups::Column::Id.is_in(ids))
        .all(store.dispatch_reader())
        .await?
        .into_iter()
        .map(|row| Ok((row.id, Group::from_row(row)?)))
        .collect()
}

/// The memberships of these users that count.
async fn read_memberships(
    store: &Store,
    directory: &directories::Model,
    ids: BTreeSet<ResourceId>,
) -> Result<BTreeMap<(ResourceId, ResourceId), Membership>, DbErr> {
    let ids: Vec<ResourceId> = ids.into_iter().collect();
    let found = membership::groups_of(store.dispatch_reader(), directory.id, &ids).await?;
    let counting = found
        .into_iter()
        .filter(|found| found.is_direct || directory.flatten_groups);
    Ok(counting
        .map(|found| ((found.user_id, found.group.row.id), found))
        .collect())
}

/// The id of an event, the same whenever it is made: of the snapshot's instant, and else by its number.
fn event_id(snapshot: SnapshotId, number: i64) -> EventId {
    const VERSION: u128 = 0x7 << 76;
    const VARIANT: u128 = 0b10 << 62;
    const TIME: u128 = 0xFFFF_FFFF_FFFF << 80;
    let digest = Sha256::new()
        .chain_update(snapshot.uuid().as_bytes())
        .chain_update(number.to_be_bytes())
        .finalize();
    let hashed = digest
        .iter()
        .take(16)
        .fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let free = hashed & !(TIME | (0xF << 76) | (0b11 << 62));
    let time = snapshot.uuid().as_u128() & TIME;
    EventId::from(Uuid::from_u128(time | VERSION | VARIANT | free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_snapshots_events_are_always_the_same_and_nobody_elses() {
        let (one, other) = (SnapshotId::generate(), SnapshotId::generate());
        assert_eq!(event_id(one, 7), event_id(one, 7));
        let ids: BTreeSet<EventId> = (1..=500)
            .flat_map(|number| [event_id(one, number), event_id(other, number)])
            .collect();
        assert_eq!(ids.len(), 1_000);
        for id in ids {
            assert_eq!(id.uuid().get_version_num(), 7);
            assert_eq!(EventId::parse(&id.to_string()), Some(id));
        }
    }
}
