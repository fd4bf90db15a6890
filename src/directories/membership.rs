//! Who is in which group: users, and other groups.
//!
//! Memberships are rows, and a change touches only the rows that it names: adding one member to a group
//! of 100,000 reads and writes one row. Adding who is already there and removing who is not are
//! successes without an effect; who does not exist in the directory is left out.
//!
//! A change is first compared with what is there, which gives a `Difference`, and then written, so
//! that one that is refused has written nothing. Who is in a group through others is no row: see
//! [`super::nesting`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sea_orm::sea_query::{Query, SelectStatement};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::group::{self, Group};
use super::nesting::{self, MemberShift, Scene, Shift};
use super::resource::ResourceKind;
use super::turnover;
use crate::ids::{DirectoryId, ResourceId};
use crate::storage::WriteTx;
use crate::storage::tables::{directories, group_members, groups, memberships, users};

/// How many rows one statement names at most.
pub(super) const ROWS_MAX: usize = 1_000;

/// A member as the provider names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The SCIM id of the user or group; it alone decides which of them it is.
    pub id: ResourceId,
    /// How the provider calls it, if it says so.
    pub display: Option<String>,
}

/// A member as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMember {
    /// Its SCIM id.
    pub id: ResourceId,
    /// Whether it is a user or a group.
    pub kind: ResourceKind,
    /// How the provider calls it, if it says so.
    pub display: Option<String>,
}

/// A place in the list of a group's members: users come first, then groups, each by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberPlace {
    kind: ResourceKind,
    id: ResourceId,
}

impl ListedMember {
    /// Where it stands in the list.
    pub fn place(&self) -> MemberPlace {
        MemberPlace {
            kind: self.kind,
            id: self.id,
        }
    }
}

/// A group that a user is in.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The user.
    pub user_id: ResourceId,
    /// The group.
    pub group: Arc<Group>,
    /// Whether the user is a member of the group itself, and not only of a group in it.
    pub is_direct: bool,
}

/// Decides which members a removal means.
pub type MemberTest = Arc<dyn Fn(&ListedMember) -> bool + Send + Sync>;

/// A change of a group's members.
#[derive(Clone)]
pub enum Change {
    /// These join.
    Add(Vec<Member>),
    /// These leave.
    Remove(Vec<ResourceId>),
    /// Those leave that the test picks.
    RemoveMatching(MemberTest),
    /// These are the members from now on, and nobody else.
    Replace(Vec<Member>),
}

impl std::fmt::Debug for Change {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Add(members) => formatter.debug_tuple("Add").field(&members.len()).finish(),
            Self::Remove(ids) => formatter.debug_tuple("Remove").field(&ids.len()).finish(),
            Self::RemoveMatching(_) => formatter.write_str("RemoveMatching"),
            Self::Replace(members) => formatter
                .debug_tuple("Replace")
                .field(&members.len())
                .finish(),
        }
    }
}

impl Change {
    /// Whether it depends on members that it does not name.
    fn is_about_all(&self) -> bool {
        match self {
            Self::Add(_) | Self::Remove(_) => false,
            Self::RemoveMatching(_) | Self::Replace(_) => true,
        }
    }

    /// Who might become a member by it.
    fn added(&self) -> &[Member] {
        match self {
            Self::Add(members) | Self::Replace(members) => members,
            Self::Remove(_) | Self::RemoveMatching(_) => &[],
        }
    }

    /// Whom it takes out by name.
    fn removed(&self) -> &[ResourceId] {
        match self {
            Self::Remove(ids) => ids,
            Self::Add(_) | Self::Replace(_) | Self::RemoveMatching(_) => &[],
        }
    }
}

/// Somebody who is a member, or might become one, while changes are applied.
#[derive(Debug)]
struct Candidate {
    listed: ListedMember,
    was_member: bool,
    is_member: bool,
}

/// Everybody whom some changes are about.
#[derive(Debug, Default)]
struct Plan(BTreeMap<ResourceId, Candidate>);

impl Plan {
    fn note(&mut self, listed: ListedMember, is_member: bool) {
        let candidate = Candidate {
            was_member: is_member,
            is_member,
            listed,
        };
        self.0.insert(candidate.listed.id, candidate);
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Add(members) => self.add(members),
            Change::Remove(ids) => {
                for id in ids {
                    if let Some(candidate) = self.0.get_mut(id) {
                        candidate.is_member = false;
                    }
                }
            }
            Change::RemoveMatching(test) => {
                for candidate in self.0.values_mut() {
                    candidate.is_member = candidate.is_member && !test(&candidate.listed);
                }
            }
            Change::Replace(members) => {
                for candidate in self.0.values_mut() {
                    candidate.is_member = false;
                }
                self.add(members);
            }
        }
    }

    fn add(&mut self, members: &[Member]) {
        for member in members {
            let Some(candidate) = self.0.get_mut(&member.id) else {
                continue;
            };
            if !candidate.was_member && !candidate.is_member {
                candidate.listed.display.clone_from(&member.display);
            }
            candidate.is_member = true;
        }
    }

    fn difference(self) -> Difference {
        let mut difference = Difference::default();
        for candidate in self.0.into_values() {
            let listed = candidate.listed;
            match (candidate.was_member, candidate.is_member, listed.kind) {
                (true, true, _) | (false, false, _) => {}
                (true, false, ResourceKind::User) => difference.leaving.push(listed.id),
                (true, false, ResourceKind::Group) => difference.unnesting.push(listed.id),
                (false, true, ResourceKind::User) => difference.joining.push(listed),
                (false, true, ResourceKind::Group) => difference.nesting.push(listed),
            }
        }
        difference
    }
}

/// What some changes come to: who joins and who leaves a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    joining: Vec<ListedMember>,
    leaving: Vec<ResourceId>,
    nesting: Vec<ListedMember>,
    unnesting: Vec<ResourceId>,
}

/// Compares `changes` of the members of a group, which need not exist yet, with what is there.
///
/// # Errors
/// A group cannot be a member of this one, or the database fails.
pub(super) async fn difference<E>(
    tx: &WriteTx,
    directory_id: DirectoryId,
    group_id: ResourceId,
    changes: &[Change],
) -> Result<Difference, E>
where
    E: From<nesting::Error> + From<DbErr>,
{
    let mut plan = Plan::default();
    if changes.iter().any(Change::is_about_all) {
        note_all(tx, directory_id, group_id, &mut plan).await?;
        let strangers = strangers(changes, &plan);
        note_existing(tx, directory_id, &strangers, &mut plan).await?;
    } else {
        let strangers = strangers(changes, &plan);
        note_existing(tx, directory_id, &strangers, &mut plan).await?;
        note_named(tx, directory_id, group_id, changes, &mut plan).await?;
    }
    for change in changes {
        plan.apply(change);
    }
    let difference = plan.difference();
    if !difference.nesting.is_empty() {
        let children = ids_of(&difference.nesting);
        nesting::check::<E>(tx, directory_id, group_id, &children).await?;
    }
    Ok(difference)
}

/// Those who might become members and are not in the plan.
fn strangers(changes: &[Change], plan: &Plan) -> Vec<ResourceId> {
    let added = changes.iter().flat_map(Change::added);
    let strangers: BTreeSet<ResourceId> = added
        .map(|member| member.id)
        .filter(|id| !plan.0.contains_key(id))
        .collect();
    strangers.into_iter().collect()
}

async fn note_all(
    tx: &WriteTx,
    directory_id: DirectoryId,
    group_id: ResourceId,
    plan: &mut Plan,
) -> Result<(), DbErr> {
    let mut after = None;
    loop {
        let page = members_after(tx, directory_id, group_id, after, ROWS_MAX).await?;
        after = page.last().map(ListedMember::place);
        let is_last = page.len() < ROWS_MAX;
        for listed in page {
            plan.note(listed, true);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Notes those among `ids` who exist, as users or else as groups.
async fn note_existing(
    tx: &WriteTx,
    directory_id: DirectoryId,
    ids: &[ResourceId],
    plan: &mut Plan,
) -> Result<(), DbErr> {
    for chunk in ids.chunks(ROWS_MAX) {
        let users: BTreeSet<ResourceId> = users::Entity::find()
            .select_only()
            .column(users::Column::Id)
            .filter(users::Column::DirectoryId.eq(directory_id))
            .filter(users::Column::Id.is_in(chunk.iter().copied()))
            .into_tuple()
            .all(tx)
            .await?
            .into_iter()
            .collect();
        let others: Vec<ResourceId> = without(chunk, &users);
        let groups: Vec<ResourceId> = if others.is_empty() {
            Vec::new()
        } else {
            groups::Entity::find()
                .select_only()
                .column(groups::Column::Id)
                .filter(groups::Column::DirectoryId.eq(directory_id))
                .filter(groups::Column::Id.is_in(others))
                .into_tuple()
                .all(tx)
                .await?
        };
        let users = users.into_iter().map(|id| (id, ResourceKind::User));
        let groups = groups.into_iter().map(|id| (id, ResourceKind::Group));
        for (id, kind) in users.chain(groups) {
            let display = None;
            plan.note(ListedMember { id, kind, display }, false);
        }
    }
    Ok(())
}

/// Notes those whom `changes` name and who are members; who might become one is in the plan already.
async fn note_named(
    tx: &WriteTx,
    directory_id: DirectoryId,
    group_id: ResourceId,
    changes: &[Change],
    plan: &mut Plan,
) -> Result<(), DbErr> {
    let mut named: BTreeSet<ResourceId> = plan.0.keys().copied().collect();
    named.extend(changes.iter().flat_map(Change::removed));
    let named: Vec<ResourceId> = named.into_iter().collect();
    for chunk in named.chunks(ROWS_MAX) {
        let could_be = |kind: ResourceKind| {
            let known = |id: &ResourceId| plan.0.get(id).map(|candidate| candidate.listed.kind);
            let ids = chunk.iter().copied();
            ids.filter(move |id| known(id).is_none_or(|known| known == kind))
        };
        let users = could_be(ResourceKind::User).collect();
        let users = users_among(tx, directory_id, group_id, users).await?;
        let groups: Vec<ResourceId> = could_be(ResourceKind::Group).collect();
        let groups = without(&groups, &ids_of(&users));
        let groups = groups_among(tx, directory_id, group_id, groups).await?;
        for listed in users.into_iter().chain(groups) {
            plan.note(listed, true);
        }
    }
    Ok(())
}

async fn users_among(
    tx: &WriteTx,
    directory_id: DirectoryId,
    group_id: ResourceId,
    ids: Vec<ResourceId>,
) -> Result<Vec<ListedMember>, DbErr> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let which = Condition::all().add(memberships::Column::UserId.is_in(ids));
    users_of(tx, directory_id, group_id, which, None).await
}

async fn groups_among(
    tx: &WriteTx,
    directory_id: DirectoryId,
    group_id: ResourceId,
    ids: Vec<ResourceId>,
) -> Result<Vec<ListedMember>, DbErr> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let which = Condition::all().add(group_members::Column::MemberId.is_in(ids));
    groups_in(tx, directory_id, group_id, which, None).await
}

fn without(ids: &[ResourceId], found: &BTreeSet<ResourceId>) -> Vec<ResourceId> {
    let rest = ids.iter().copied();
    rest.filter(|id| !found.contains(id)).collect()
}

fn ids_of(members: &[ListedMember]) -> BTreeSet<ResourceId> {
    members.iter().map(|member| member.id).collect()
}

impl Difference {
    /// Whether nobody joins or leaves.
    pub(super) fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Appends the events, and writes the rows, of the group in which this happens.
    pub(super) async fn write(
        &self,
        tx: &WriteTx,
        directory: &directories::Model,
        group_id: ResourceId,
    ) -> Result<(), DbErr> {
        if self.is_empty() {
            return Ok(());
        }
        self.announce(tx, directory, group_id).await?;
        for chunk in self.leaving.chunks(ROWS_MAX) {
            memberships::Entity::delete_many()
                .filter(memberships::Column::DirectoryId.eq(directory.id))
                .filter(memberships::Column::GroupId.eq(group_id))
                .filter(memberships::Column::UserId.is_in(chunk.iter().copied()))
                .exec(tx)
                .await?;
        }
        for chunk in self.unnesting.chunks(ROWS_MAX) {
            group_members::Entity::delete_many()
                .filter(group_members::Column::DirectoryId.eq(directory.id))
                .filter(group_members::Column::GroupId.eq(group_id))
                .filter(group_members::Column::MemberId.is_in(chunk.iter().copied()))
                .exec(tx)
                .await?;
        }
        for chunk in self.joining.chunks(ROWS_MAX) {
            insert_users(tx, directory.id, group_id, chunk).await?;
        }
        for chunk in self.nesting.chunks(ROWS_MAX) {
            insert_groups(tx, directory.id, group_id, chunk).await?;
        }
        Ok(())
    }

    async fn announce(
        &self,
        tx: &WriteTx,
        directory: &directories::Model,
        group_id: ResourceId,
    ) -> Result<(), DbErr> {
        let joining = self.joining.iter().map(|member| member.id);
        let mut concerned: Vec<ResourceId> = self.leaving.iter().copied().chain(joining).collect();
        let shift = MemberShift {
            group_id,
            joining: ids_of(&self.joining),
            leaving: self.leaving.iter().copied().collect(),
            nesting: ids_of(&self.nesting),
            unnesting: self.unnesting.iter().copied().collect(),
        };
        if directory.flatten_groups {
            let moved = shift.nesting.union(&shift.unnesting).copied().collect();
            let below = nesting::users_below(tx, directory.id, &moved).await?;
            let is_named =
                |id: &ResourceId| shift.leaving.contains(id) || shift.joining.contains(id);
            concerned.extend(below.into_iter().filter(|id| !is_named(id)));
        }
        turnover::announce(tx, directory, &Shift::Members(shift), &concerned).await
    }
}

async fn insert_users(
    tx: &WriteTx,
    directory_id: DirectoryId,
    group_id: ResourceId,
    members: &[ListedMember],
) -> Result<(), DbErr> {
    let rows = members.iter().map(|member| memberships::ActiveModel {
        directory_id: ActiveValue::Set(directory_id),
        group_id: ActiveValue::Set(group_id),
        user_id: ActiveValue::Set(member.id),
        display: ActiveValue::Set(member.display.clone()),
        created_at: ActiveValue::Set(tx.now()),
    });
    memberships::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

async fn insert_groups(
    tx: &WriteTx,
    directory_id: DirectoryId,
    group_id: ResourceId,
    members: &[ListedMember],
) -> Result<(), DbErr> {
    let rows = members.iter().map(|member| group_members::ActiveModel {
        directory_id: ActiveValue::Set(directory_id),
        group_id: ActiveValue::Set(group_id),
        member_id: ActiveValue::Set(member.id),
        display: ActiveValue::Set(member.display.clone()),
        created_at: ActiveValue::Set(tx.now()),
    });
    group_members::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// A page of a group's members after `after`: users first, then groups, each by id.
///
/// # Errors
/// The database fails.
pub async fn members_after(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    group_id: ResourceId,
    after: Option<MemberPlace>,
    take: usize,
) -> Result<Vec<ListedMember>, DbErr> {
    let among = |kind| {
        after
            .filter(|place| place.kind == kind)
            .map(|place| place.id)
    };
    let mut page = Vec::new();
    if after.is_none_or(|place| place.kind == ResourceKind::User) {
        let after = among(ResourceKind::User).map(|id| memberships::Column::UserId.gt(id));
        let which = Condition::all().add_option(after);
        page = users_of(connection, directory_id, group_id, which, Some(take)).await?;
    }
    let left = take.saturating_sub(page.len());
    if left > 0 {
        let after = among(ResourceKind::Group).map(|id| group_members::Column::MemberId.gt(id));
        let which = Condition::all().add_option(after);
        page.extend(groups_in(connection, directory_id, group_id, which, Some(left)).await?);
    }
    Ok(page)
}

async fn users_of(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    group_id: ResourceId,
    which: Condition,
    take: Option<usize>,
) -> Result<Vec<ListedMember>, DbErr> {
    let rows = memberships::Entity::find()
        .filter(memberships::Column::DirectoryId.eq(directory_id))
        .filter(memberships::Column::GroupId.eq(group_id))
        .filter(which)
        .order_by_asc(memberships::Column::UserId)
        .limit(take.and_then(|take| u64::try_from(take).ok()))
        .all(connection)
        .await?;
    let listed = rows.into_iter().map(|row| ListedMember {
        id: row.user_id,
        kind: ResourceKind::User,
        display: row.display,
    });
    Ok(listed.collect())
}

async fn groups_in(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    group_id: ResourceId,
    which: Condition,
    take: Option<usize>,
) -> Result<Vec<ListedMember>, DbErr> {
    let rows = group_members::Entity::find()
        .filter(group_members::Column::DirectoryId.eq(directory_id))
        .filter(group_members::Column::GroupId.eq(group_id))
        .filter(which)
        .order_by_asc(group_members::Column::MemberId)
        .limit(take.and_then(|take| u64::try_from(take).ok()))
        .all(connection)
        .await?;
    let listed = rows.into_iter().map(|row| ListedMember {
        id: row.member_id,
        kind: ResourceKind::Group,
        display: row.display,
    });
    Ok(listed.collect())
}

/// The groups that each of these users is in, directly or through others (RFC 7643 section 4.1.2), by
/// user and group.
///
/// # Errors
/// The database fails.
pub async fn groups_of(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    user_ids: &[ResourceId],
) -> Result<Vec<Membership>, DbErr> {
    let mut scene = Scene::default();
    nesting::look_at(connection, directory_id, user_ids, &mut scene).await?;
    let direct = scene.direct.values().flatten().copied();
    let all: Vec<ResourceId> = scene.up.reach(direct).into_iter().collect();
    let mut found = BTreeMap::new();
    for chunk in all.chunks(ROWS_MAX) {
        let rows = groups::Entity::find()
            .filter(groups::Column::DirectoryId.eq(directory_id))
            .filter(groups::Column::Id.is_in(chunk.iter().copied()))
            .all(connection)
            .await?;
        for row in rows {
            found.insert(row.id, Arc::new(Group::from_row(row)?));
        }
    }
    let mut memberships = Vec::new();
    for (user_id, direct) in &scene.direct {
        for group_id in scene.groups_of(*user_id) {
            // A group may have gone between two statements; then nobody is in it.
            memberships.extend(found.get(&group_id).map(|group| Membership {
                user_id: *user_id,
                group: Arc::clone(group),
                is_direct: direct.contains(&group_id),
            }));
        }
    }
    Ok(memberships)
}

/// Takes a user out of all its groups, with their events if its directory user has not ended.
pub(super) async fn remove_user(
    tx: &WriteTx,
    directory: &directories::Model,
    user_id: ResourceId,
) -> Result<(), DbErr> {
    let left = Query::select()
        .column(memberships::Column::GroupId)
        .from(memberships::Entity)
        .and_where(memberships::Column::DirectoryId.eq(directory.id))
        .and_where(memberships::Column::UserId.eq(user_id))
        .take();
    touch_all(tx, directory.id, left).await?;
    turnover::announce(tx, directory, &Shift::UsersGone, &[user_id]).await?;
    memberships::Entity::delete_many()
        .filter(memberships::Column::DirectoryId.eq(directory.id))
        .filter(memberships::Column::UserId.eq(user_id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Takes a group out of all groups that it is in, with the events of who thereby leaves them. Its own
/// members go with its row.
pub(super) async fn remove_group(
    tx: &WriteTx,
    directory: &directories::Model,
    group_id: ResourceId,
) -> Result<(), DbErr> {
    let left = Query::select()
        .column(group_members::Column::GroupId)
        .from(group_members::Entity)
        .and_where(group_members::Column::DirectoryId.eq(directory.id))
        .and_where(group_members::Column::MemberId.eq(group_id))
        .take();
    let is_nested = touch_all(tx, directory.id, left).await?;
    if directory.flatten_groups && is_nested {
        let gone = BTreeSet::from([group_id]);
        let below = nesting::users_below(tx, directory.id, &gone).await?;
        let below: Vec<ResourceId> = below.into_iter().collect();
        turnover::announce(tx, directory, &Shift::GroupGone(group_id), &below).await?;
    }
    Ok(())
}

/// Counts the versions of groups on because their members change; tells whether there are any.
async fn touch_all(
    tx: &WriteTx,
    directory_id: DirectoryId,
    which: SelectStatement,
) -> Result<bool, DbErr> {
    let which = Condition::all().add(groups::Column::Id.in_subquery(which));
    Ok(group::touch(tx, directory_id, which).await? > 0)
}

/// Appends the events of a directory's telling of everybody in a group from now on, or no longer.
pub(super) async fn announce_flattening(
    tx: &WriteTx,
    directory: &directories::Model,
    is_flat: bool,
) -> Result<(), DbErr> {
    let nested = nesting::nested(tx, directory.id).await?;
    let users = nesting::users_in(tx, directory.id, &nested).await?;
    let users: Vec<ResourceId> = users.into_iter().collect();
    turnover::announce(tx, directory, &Shift::Flattened(is_flat), &users).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: ResourceId) -> Member {
        Member { id, display: None }
    }

    fn listed(id: ResourceId, kind: ResourceKind) -> ListedMember {
        let display = None;
        ListedMember { id, kind, display }
    }

    /// A plan about these ids, of which the first `members` are members.
    fn plan(ids: &[ResourceId], kind: ResourceKind, members: usize) -> Plan {
        let mut plan = Plan::default();
        for (index, id) in ids.iter().enumerate() {
            plan.note(listed(*id, kind), index < members);
        }
        plan
    }

    #[test]
    fn joining_and_leaving_in_one_change_cancel_out() {
        let id = ResourceId::generate();
        let mut plan = plan(&[id], ResourceKind::User, 0);
        plan.apply(&Change::Add(vec![member(id)]));
        plan.apply(&Change::Remove(vec![id]));
        assert!(plan.difference().is_empty());
    }

    #[test]
    fn a_replacement_names_only_the_difference() {
        let ids: Vec<ResourceId> = (0..3).map(|_| ResourceId::generate()).collect();
        let mut plan = plan(&ids, ResourceKind::Group, 2);
        plan.apply(&Change::Replace(vec![member(ids[1]), member(ids[2])]));
        let difference = plan.difference();
        assert_eq!(difference.nesting, [listed(ids[2], ResourceKind::Group)]);
        assert_eq!(difference.unnesting, [ids[0]]);
        assert!(difference.joining.is_empty() && difference.leaving.is_empty());
    }

    #[test]
    fn a_test_sees_who_joined_before_it() {
        let ids: Vec<ResourceId> = (0..2).map(|_| ResourceId::generate()).collect();
        let mut plan = plan(&ids, ResourceKind::User, 1);
        let named = Member {
            id: ids[1],
            display: Some("x".to_owned()),
        };
        plan.apply(&Change::Add(vec![named]));
        let is_named: MemberTest = Arc::new(|listed| listed.display.is_some());
        plan.apply(&Change::RemoveMatching(is_named));
        assert!(plan.difference().is_empty());
    }
}
