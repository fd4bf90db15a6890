//! Groups in groups: who is thereby in what, and how far it may go.
//!
//! `Links` lead from a group to other groups, all of them up, to the groups that it is a member of, or
//! all of them down, to the groups that are its members. A `Scene` is who is in which group, as far as
//! it has been looked at; a `Shift` is what happens to it, and its `Turnover` is who thereby leaves
//! and joins what. All of these are pure; what reads the database stands at the end.
//!
//! Invariants: links never form a circle; no more than [`CHAIN_MAX`] groups lie in one another, and no
//! more than [`GROUPS_MAX`] above one, so that a walk along them stays short whoever made them.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, JoinType, QueryFilter, QuerySelect,
};

use super::membership::ROWS_MAX;
use crate::ids::{DirectoryId, ResourceId};
use crate::storage::tables::{group_members, memberships};

/// How many groups may lie in one another.
pub const CHAIN_MAX: usize = 32;

/// How many groups may come together above and below by one nesting.
pub const GROUPS_MAX: usize = 10_000;

/// Why a group cannot become a member of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It would be its own member.
    #[error(
        "The group would be a member of itself, directly or through other groups. Leave out of \
         'members' the group itself and every group that it is in."
    )]
    Circle,
    /// Too many groups would lie in one another.
    #[error(
        "More than {CHAIN_MAX} groups would lie in one another. Make a group further up a member \
         instead, or take one out of the chain."
    )]
    TooDeep,
    /// Too many groups would be connected.
    #[error(
        "More than {GROUPS_MAX} groups would be connected through this group. Nest fewer groups, or \
         make their users direct members."
    )]
    TooMany,
}

/// From groups to the groups next to them, all up or all down. A group that is in here is so with all
/// its links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links(BTreeMap<ResourceId, BTreeSet<ResourceId>>);

impl Links {
    fn add(&mut self, from: ResourceId, to: ResourceId) {
        self.0.entry(from).or_default().insert(to);
    }

    fn remove(&mut self, from: ResourceId, to: ResourceId) {
        if let Some(next) = self.0.get_mut(&from) {
            next.remove(&to);
        }
    }

    /// Takes a group out, with the links from and to it.
    fn forget(&mut self, group_id: ResourceId) {
        self.0.remove(&group_id);
        for next in self.0.values_mut() {
            next.remove(&group_id);
        }
    }

    fn next(&self, group_id: ResourceId) -> impl Iterator<Item = ResourceId> {
        self.0.get(&group_id).into_iter().flatten().copied()
    }

    /// `starts` and every group that they lead to.
    pub(super) fn reach(
        &self,
        starts: impl IntoIterator<Item = ResourceId>,
    ) -> BTreeSet<ResourceId> {
        let mut reached = BTreeSet::new();
        let mut left: Vec<ResourceId> = starts.into_iter().collect();
        while let Some(group_id) = left.pop() {
            if reached.insert(group_id) {
                left.extend(self.next(group_id));
            }
        }
        reached
    }

    /// Those that `starts` lead to and whose own links are not in here yet.
    fn unknown(&self, starts: &BTreeSet<ResourceId>) -> Vec<ResourceId> {
        let mut reached = self.reach(starts.iter().copied());
        reached.retain(|group_id| !self.0.contains_key(group_id));
        reached.into_iter().collect()
    }

    /// How many links the longest way from `starts` has, counted up to [`CHAIN_MAX`].
    fn longest_way(&self, starts: BTreeSet<ResourceId>) -> usize {
        let mut layer = starts;
        for links in 0..CHAIN_MAX {
            layer = layer.into_iter().flat_map(|id| self.next(id)).collect();
            if layer.is_empty() {
                return links;
            }
        }
        CHAIN_MAX
    }
}

/// Judges whether `children` may become members of `group_id`: `up` leads up from all of them and from
/// what is below them, `down` leads down from the children.
fn judge(
    up: &Links,
    down: &Links,
    group_id: ResourceId,
    children: &BTreeSet<ResourceId>,
) -> Result<(), Error> {
    if !up.reach([group_id]).is_disjoint(children) {
        return Err(Error::Circle);
    }
    let above = up.longest_way(BTreeSet::from([group_id]));
    let below = down.longest_way(children.clone());
    if above + 2 + below > CHAIN_MAX {
        return Err(Error::TooDeep);
    }
    if up.0.len().max(down.0.len()) > GROUPS_MAX {
        return Err(Error::TooMany);
    }
    Ok(())
}

/// Who is in which group, as far as it has been looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    /// The groups that users are directly in.
    pub(super) direct: BTreeMap<ResourceId, BTreeSet<ResourceId>>,
    /// From these groups up.
    pub(super) up: Links,
}

impl Scene {
    /// The groups that a user is in, directly and through others.
    pub(super) fn groups_of(&self, user_id: ResourceId) -> BTreeSet<ResourceId> {
        self.up
            .reach(self.direct.get(&user_id).into_iter().flatten().copied())
    }

    /// As if no group were in another.
    fn bare(&self) -> Self {
        Self {
            direct: self.direct.clone(),
            up: Links::default(),
        }
    }
}

/// What happens to who is in which group.
#[derive(Clone, Debug)]
pub(super) enum Shift {
    /// A group's members change.
    Members(MemberShift),
    /// A group goes. Who was in it hears of nothing but its end.
    GroupGone(ResourceId),
    /// Users go.
    UsersGone,
    /// Users come, who were nowhere before.
    UsersCome,
    /// The directory tells of everybody in a group from now on, or no longer.
    Flattened(bool),
}

/// Users and groups that become members of a group, and such that cease to be.
#[derive(Clone, Debug)]
pub(super) struct MemberShift {
    pub(super) group_id: ResourceId,
    pub(super) joining: BTreeSet<ResourceId>,
    pub(super) leaving: BTreeSet<ResourceId>,
    pub(super) nesting: BTreeSet<ResourceId>,
    pub(super) unnesting: BTreeSet<ResourceId>,
}

/// A user and a group.
pub(super) type Pair = (ResourceId, ResourceId);

/// Who leaves and who joins what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Turnover {
    pub(super) left: Vec<Pair>,
    pub(super) joined: Vec<Pair>,
}

impl Shift {
    /// What the shift means for these users of a scene from before it. `is_flat` tells whether users
    /// count as in a group through others.
    pub(super) fn turnover(&self, scene: &Scene, is_flat: bool, users: &[ResourceId]) -> Turnover {
        let (before, after) = self.views(scene, is_flat);
        let mut turnover = Turnover::default();
        for user_id in users.iter().copied() {
            let (was_in, is_in) = (before.groups_of(user_id), after.groups_of(user_id));
            let left = was_in.difference(&is_in).copied();
            let left = left.filter(|group_id| !self.ends(*group_id));
            turnover
                .left
                .extend(left.map(|group_id| (user_id, group_id)));
            let joined = is_in.difference(&was_in).copied();
            turnover
                .joined
                .extend(joined.map(|group_id| (user_id, group_id)));
        }
        turnover
    }

    /// What counts before the shift and what counts after it.
    fn views(&self, scene: &Scene, is_flat: bool) -> (Scene, Scene) {
        match self {
            Self::Flattened(true) => (scene.bare(), scene.clone()),
            Self::Flattened(false) => (scene.clone(), scene.bare()),
            Self::Members(_) | Self::GroupGone(_) | Self::UsersGone | Self::UsersCome => {
                let mut other = scene.clone();
                self.apply(&mut other);
                let (before, after) = if matches!(self, Self::UsersCome) {
                    (other, scene.clone())
                } else {
                    (scene.clone(), other)
                };
                if is_flat {
                    (before, after)
                } else {
                    (before.bare(), after.bare())
                }
            }
        }
    }

    fn apply(&self, scene: &mut Scene) {
        match self {
            Self::Members(shift) => shift.apply(scene),
            Self::GroupGone(group_id) => {
                scene.up.forget(*group_id);
                for groups in scene.direct.values_mut() {
                    groups.remove(group_id);
                }
            }
            Self::UsersGone | Self::UsersCome => scene.direct.clear(),
            Self::Flattened(_) => {}
        }
    }

    fn ends(&self, group_id: ResourceId) -> bool {
        matches!(self, Self::GroupGone(gone) if *gone == group_id)
    }
}

impl MemberShift {
    fn apply(&self, scene: &mut Scene) {
        for user_id in &self.leaving {
            if let Some(groups) = scene.direct.get_mut(user_id) {
                groups.remove(&self.group_id);
            }
        }
        for user_id in &self.joining {
            let groups = scene.direct.entry(*user_id).or_default();
            groups.insert(self.group_id);
        }
        for group_id in &self.unnesting {
            scene.up.remove(*group_id, self.group_id);
        }
        for group_id in &self.nesting {
            scene.up.add(*group_id, self.group_id);
        }
    }
}

/// Which way to follow links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the groups that a group is a member of.
    Up,
    /// To the groups that are members of a group.
    Down,
}

/// Refuses `children` as members of `group_id` if that would form a circle or grow too large.
pub(super) async fn check<E>(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    group_id: ResourceId,
    children: &BTreeSet<ResourceId>,
) -> Result<(), E>
where
    E: From<Error> + From<DbErr>,
{
    let (mut up, mut down) = (Links::default(), Links::default());
    let parent = BTreeSet::from([group_id]);
    follow(connection, directory_id, Way::Up, &parent, &mut up).await?;
    follow_some(
        connection,
        directory_id,
        Way::Down,
        children,
        &mut down,
        GROUPS_MAX,
    )
    .await?;
    let below = down.reach(children.iter().copied());
    follow_some(
        connection,
        directory_id,
        Way::Up,
        &below,
        &mut up,
        GROUPS_MAX,
    )
    .await?;
    Ok(judge(&up, &down, group_id, children)?)
}

/// Reads into `links` whatever `starts` lead to: a statement for each step away from them.
pub(super) async fn follow(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    way: Way,
    starts: &BTreeSet<ResourceId>,
    links: &mut Links,
) -> Result<(), DbErr> {
    follow_some(connection, directory_id, way, starts, links, usize::MAX).await
}

/// The same, but gives up once there are more than `groups_max` groups.
async fn follow_some(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    way: Way,
    starts: &BTreeSet<ResourceId>,
    links: &mut Links,
    groups_max: usize,
) -> Result<(), DbErr> {
    loop {
        let next = links.unknown(starts);
        if next.is_empty() || links.0.len() > groups_max {
            return Ok(());
        }
        step(connection, directory_id, way, &next, links).await?;
    }
}

async fn step(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    way: Way,
    groups: &[ResourceId],
    links: &mut Links,
) -> Result<(), DbErr> {
    use group_members::Column::{GroupId, MemberId};
    let (from, to) = match way {
        Way::Up => (MemberId, GroupId),
        Way::Down => (GroupId, MemberId),
    };
    for chunk in groups.chunks(ROWS_MAX) {
        let found = group_members::Entity::find()
            .select_only()
            .columns([from, to])
            .filter(group_members::Column::DirectoryId.eq(directory_id))
            .filter(from.is_in(chunk.iter().copied()))
            .into_tuple::<Pair>()
            .all(connection)
            .await?;
        for group_id in chunk {
            links.0.entry(*group_id).or_default();
        }
        for (from, to) in found {
            links.add(from, to);
        }
    }
    Ok(())
}

/// Looks at where these users are; what was known of others is dropped, and of groups kept. Where no
/// group is in another, one statement tells so for up to [`ROWS_MAX`] users.
pub(super) async fn look_at(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    users: &[ResourceId],
    scene: &mut Scene,
) -> Result<(), DbErr> {
    scene.direct.clear();
    let mut starts = BTreeSet::new();
    for chunk in users.chunks(ROWS_MAX) {
        for (user_id, group_id, above) in places(connection, directory_id, chunk).await? {
            scene.direct.entry(user_id).or_default().insert(group_id);
            scene.up.0.entry(group_id).or_default().extend(above);
            starts.insert(group_id);
        }
    }
    follow(connection, directory_id, Way::Up, &starts, &mut scene.up).await
}

/// For each user the groups that it is directly in, each with every group right above it, or none.
async fn places(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    users: &[ResourceId],
) -> Result<Vec<(ResourceId, ResourceId, Option<ResourceId>)>, DbErr> {
    let above = memberships::Entity::belongs_to(group_members::Entity)
        .from((
            memberships::Column::DirectoryId,
            memberships::Column::GroupId,
        ))
        .to((
            group_members::Column::DirectoryId,
            group_members::Column::MemberId,
        ));
    memberships::Entity::find()
        .select_only()
        .columns([memberships::Column::UserId, memberships::Column::GroupId])
        .column_as(group_members::Column::GroupId, "above")
        .join(JoinType::LeftJoin, above.into())
        .filter(memberships::Column::DirectoryId.eq(directory_id))
        .filter(memberships::Column::UserId.is_in(users.iter().copied()))
        .into_tuple()
        .all(connection)
        .await
}

/// The users that are directly in one of these groups.
///
/// Each is made one here: asked for distinct users, SQLite reads an index of the whole directory.
pub(super) async fn users_in(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    groups: &BTreeSet<ResourceId>,
) -> Result<BTreeSet<ResourceId>, DbErr> {
    let groups: Vec<ResourceId> = groups.iter().copied().collect();
    let mut users = BTreeSet::new();
    for chunk in groups.chunks(ROWS_MAX) {
        users.extend(
            memberships::Entity::find()
                .select_only()
                .column(memberships::Column::UserId)
                .filter(memberships::Column::DirectoryId.eq(directory_id))
                .filter(memberships::Column::GroupId.is_in(chunk.iter().copied()))
                .into_tuple::<ResourceId>()
                .all(connection)
                .await?,
        );
    }
    Ok(users)
}

/// The users that are in one of these groups, directly or through others.
pub(super) async fn users_below(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    groups: &BTreeSet<ResourceId>,
) -> Result<BTreeSet<ResourceId>, DbErr> {
    if groups.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut down = Links::default();
    follow(connection, directory_id, Way::Down, groups, &mut down).await?;
    let below = down.reach(groups.iter().copied());
    users_in(connection, directory_id, &below).await
}

/// The groups of a directory that are members of another.
pub(super) async fn nested(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
) -> Result<BTreeSet<ResourceId>, DbErr> {
    let found = group_members::Entity::find()
        .select_only()
        .column(group_members::Column::MemberId)
        .distinct()
        .filter(group_members::Column::DirectoryId.eq(directory_id))
        .into_tuple::<ResourceId>()
        .all(connection)
        .await?;
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests;
