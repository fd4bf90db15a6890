//! Tells who joins and who leaves which group, in events.
//!
//! A [`Shift`] is told before its rows are written, from what is there and what will change, and only
//! about the users that it can concern; they are looked at a page at a time, so that no more than a page
//! of people is in memory at once.
//!
//! Nobody is told of users whose directory user has ended ([`super::inactive`]).

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};

use super::group::Group;
use super::membership::ROWS_MAX;
use super::nesting::{self, Pair, Scene, Shift};
use super::user::User;
use crate::events::{self, Event, Kind};
use crate::ids::ResourceId;
use crate::storage::WriteTx;
use crate::storage::tables::{directories, groups, users};

/// Appends the events of `shift`, which concerns nobody but `users`.
pub(super) async fn announce(
    tx: &WriteTx,
    directory: &directories::Model,
    shift: &Shift,
    users: &[ResourceId],
) -> Result<(), DbErr> {
    let mut announcement = Announcement {
        tx,
        directory,
        shift,
        scene: Scene::default(),
        groups: BTreeMap::new(),
    };
    for page in users.chunks(ROWS_MAX) {
        announcement.tell(page).await?;
    }
    Ok(())
}

/// Resources as events show them.
type Shown = BTreeMap<ResourceId, Map<String, Value>>;

struct Announcement<'a> {
    tx: &'a WriteTx,
    directory: &'a directories::Model,
    shift: &'a Shift,
    scene: Scene,
    groups: Shown,
}

impl Announcement<'_> {
    async fn tell(&mut self, page: &[ResourceId]) -> Result<(), DbErr> {
        self.look_at(page).await?;
        let is_flat = self.directory.flatten_groups;
        let turnover = self.shift.turnover(&self.scene, is_flat, page);
        let pairs = || turnover.left.iter().chain(&turnover.joined);
        if pairs().next().is_none() {
            return Ok(());
        }
        let users = self.users(pairs().map(|(user_id, _)| *user_id).collect());
        let users = users.await?;
        self.read_groups(pairs().map(|(_, group_id)| *group_id).collect())
            .await?;
        for (pairs, kind) in [
            (&turnover.left, Kind::UserRemoved),
            (&turnover.joined, Kind::UserAdded),
        ] {
            for (user_id, group_id) in pairs {
                if let Some(user) = users.get(user_id) {
                    self.append((*user_id, *group_id), kind, user);
                }
            }
        }
        Ok(())
    }

    /// Where these users are, as far as the shift depends on it. That is nowhere but in the group that
    /// they leave, if nobody counts as in a group through others.
    async fn look_at(&mut self, page: &[ResourceId]) -> Result<(), DbErr> {
        if let (Shift::Members(shift), false) = (self.shift, self.directory.flatten_groups) {
            let leaving = page.iter().filter(|id| shift.leaving.contains(id));
            let place = BTreeSet::from([shift.group_id]);
            self.scene.direct = leaving.map(|id| (*id, place.clone())).collect();
            return Ok(());
        }
        let (directory_id, scene) = (self.directory.id, &mut self.scene);
        if let Shift::Members(shift) = self.shift {
            let parent = BTreeSet::from([shift.group_id]);
            let up = nesting::Way::Up;
            nesting::follow(self.tx, directory_id, up, &parent, &mut scene.up).await?;
        }
        nesting::look_at(self.tx, directory_id, page, scene).await
    }

    /// Those of `ids` that anybody is told of.
    async fn users(&self, ids: BTreeSet<ResourceId>) -> Result<Shown, DbErr> {
        users::Entity::find()
            .filter(users::Column::DirectoryId.eq(self.directory.id))
            .filter(users::Column::Id.is_in(ids))
            .filter(users::Column::EndedAt.is_null())
            .all(self.tx)
            .await?
            .into_iter()
            .map(|row| {
                let user = User::from_row(row)?;
                Ok((user.row.id, user.data(self.directory.organization_id)))
            })
            .collect()
    }

    async fn read_groups(&mut self, ids: BTreeSet<ResourceId>) -> Result<(), DbErr> {
        let unknown = ids.into_iter().filter(|id| !self.groups.contains_key(id));
        let unknown: Vec<ResourceId> = unknown.collect();
        for chunk in unknown.chunks(ROWS_MAX) {
            let rows = groups::Entity::find()
                .filter(groups::Column::DirectoryId.eq(self.directory.id))
                .filter(groups::Column::Id.is_in(chunk.iter().copied()))
                .all(self.tx)
                .await?;
            for row in rows {
                let group = Group::from_row(row)?;
                let shown = group.data(self.directory.organization_id);
                self.groups.insert(group.row.id, shown);
            }
        }
        Ok(())
    }

    fn append(&self, (user_id, group_id): Pair, kind: Kind, user: &Map<String, Value>) {
        let data = json!({
            "directory_id": self.directory.id,
            "user": user,
            "group": self.groups.get(&group_id),
        });
        let event = Event {
            kind,
            user_id: Some(user_id),
            group_id: Some(group_id),
            names: Vec::new(),
            data,
        };
        events::append(self.tx, self.directory, &event);
    }
}
