//! Who is in which group.
//!
//! Memberships are rows, and a change touches only the rows that it names: adding one member to a group
//! of 100,000 reads and writes one row. Adding who is already there and removing who is not are
//! successes without an effect; who does not exist in the directory is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde_json::{Map, Value, json};

use super::group::Group;
use super::user::User;
use crate::events::{self, Event, Kind};
use crate::ids::{DirectoryId, ResourceId};
use crate::storage::WriteTx;
use crate::storage::tables::{directories, groups, memberships, users};

/// How many rows one statement names at most.
const ROWS_MAX: usize = 1_000;

/// A member as the provider names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The SCIM id of the user.
    pub user_id: ResourceId,
    /// How the provider calls it, if it says so.
    pub display: Option<String>,
}

/// Decides which members a removal means.
pub type MemberTest = Arc<dyn Fn(&Member) -> bool + Send + Sync>;

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

/// The members that some changes are about: how it was, and how it will be.
#[derive(Debug, Default)]
struct Plan {
    /// Who is a member now, among those looked at.
    before: BTreeMap<ResourceId, Option<String>>,
    /// Who has been looked at.
    known: BTreeSet<ResourceId>,
    /// Who will be a member, among those looked at.
    after: BTreeMap<ResourceId, Option<String>>,
    /// Whether all members have been looked at.
    is_whole: bool,
}

impl Plan {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Add(members) => {
                for member in members {
                    self.after
                        .entry(member.user_id)
                        .or_insert_with(|| member.display.clone());
                }
            }
            Change::Remove(ids) => {
                for id in ids {
                    self.after.remove(id);
                }
            }
            Change::RemoveMatching(test) => self.after.retain(|user_id, display| {
                !test(&Member {
                    user_id: *user_id,
                    display: display.clone(),
                })
            }),
            Change::Replace(members) => {
                self.after = members
                    .iter()
                    .map(|member| (member.user_id, member.display.clone()))
                    .collect();
            }
        }
    }

    fn joining(&self) -> Vec<Member> {
        self.after
            .iter()
            .filter(|(user_id, _)| !self.before.contains_key(user_id))
            .map(|(user_id, display)| Member {
                user_id: *user_id,
                display: display.clone(),
            })
            .collect()
    }

    fn leaving(&self) -> Vec<ResourceId> {
        self.before
            .keys()
            .filter(|user_id| !self.after.contains_key(user_id))
            .copied()
            .collect()
    }
}

/// Applies `changes` to the members of `group`, writes the difference, and appends its events. Tells
/// whether anything changed.
pub(super) async fn change(
    tx: &WriteTx,
    directory: &directories::Model,
    group: &Group,
    changes: &[Change],
) -> Result<bool, DbErr> {
    let mut plan = Plan::default();
    for change in changes {
        look_at(tx, group, change, &mut plan).await?;
        plan.apply(change);
    }
    let leaving = plan.leaving();
    let joining = plan.joining();
    for chunk in leaving.chunks(ROWS_MAX) {
        remove(tx, directory, group, chunk).await?;
    }
    let mut has_joined = false;
    for chunk in joining.chunks(ROWS_MAX) {
        has_joined |= add(tx, directory, group, chunk).await?;
    }
    Ok(has_joined || !leaving.is_empty())
}

/// Loads into `plan` what `change` needs to know and the plan does not yet.
async fn look_at(
    tx: &WriteTx,
    group: &Group,
    change: &Change,
    plan: &mut Plan,
) -> Result<(), DbErr> {
    if plan.is_whole {
        return Ok(());
    }
    let named: Vec<ResourceId> = match change {
        Change::Add(members) => members.iter().map(|member| member.user_id).collect(),
        Change::Remove(ids) => ids.clone(),
        Change::RemoveMatching(_) | Change::Replace(_) => {
            plan.is_whole = true;
            Vec::new()
        }
    };
    let rows = if plan.is_whole {
        of_group_all(tx, group).await?
    } else {
        of_group_among(tx, group, &named).await?
    };
    for row in rows {
        if plan.known.insert(row.user_id) {
            plan.before.insert(row.user_id, row.display.clone());
            plan.after.insert(row.user_id, row.display);
        }
    }
    plan.known.extend(named);
    Ok(())
}

async fn of_group_all(tx: &WriteTx, group: &Group) -> Result<Vec<memberships::Model>, DbErr> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = members_after(tx, group.row.directory_id, group.row.id, after, ROWS_MAX).await?;
        let Some(last) = page.last() else {
            return Ok(all);
        };
        after = Some(last.user_id);
        all.extend(page);
    }
}

async fn of_group_among(
    tx: &WriteTx,
    group: &Group,
    user_ids: &[ResourceId],
) -> Result<Vec<memberships::Model>, DbErr> {
    let mut found = Vec::new();
    for chunk in user_ids.chunks(ROWS_MAX) {
        found.extend(
            memberships::Entity::find()
                .filter(memberships::Column::DirectoryId.eq(group.row.directory_id))
                .filter(memberships::Column::GroupId.eq(group.row.id))
                .filter(memberships::Column::UserId.is_in(chunk.iter().copied()))
                .all(tx)
                .await?,
        );
    }
    Ok(found)
}

/// A page of a group's members by user id, after `after`.
///
/// # Errors
/// The database fails.
pub async fn members_after(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    group_id: ResourceId,
    after: Option<ResourceId>,
    take: usize,
) -> Result<Vec<memberships::Model>, DbErr> {
    let after = after.map(|id| memberships::Column::UserId.gt(id));
    memberships::Entity::find()
        .filter(memberships::Column::DirectoryId.eq(directory_id))
        .filter(memberships::Column::GroupId.eq(group_id))
        .filter(sea_orm::Condition::all().add_option(after))
        .order_by_asc(memberships::Column::UserId)
        .limit(u64::try_from(take).unwrap_or(u64::MAX))
        .all(connection)
        .await
}

/// The groups that each of these users is in.
///
/// # Errors
/// The database fails.
pub async fn groups_of(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    user_ids: &[ResourceId],
) -> Result<Vec<(ResourceId, groups::Model)>, DbErr> {
    let rows = memberships::Entity::find()
        .filter(memberships::Column::DirectoryId.eq(directory_id))
        .filter(memberships::Column::UserId.is_in(user_ids.iter().copied()))
        .order_by_asc(memberships::Column::GroupId)
        .all(connection)
        .await?;
    let ids: BTreeSet<ResourceId> = rows.iter().map(|row| row.group_id).collect();
    let found: BTreeMap<ResourceId, groups::Model> = groups::Entity::find()
        .filter(groups::Column::DirectoryId.eq(directory_id))
        .filter(groups::Column::Id.is_in(ids))
        .all(connection)
        .await?
        .into_iter()
        .map(|group| (group.id, group))
        .collect();
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((row.user_id, found.get(&row.group_id)?.clone())))
        .collect())
}

async fn remove(
    tx: &WriteTx,
    directory: &directories::Model,
    group: &Group,
    user_ids: &[ResourceId],
) -> Result<(), DbErr> {
    memberships::Entity::delete_many()
        .filter(memberships::Column::DirectoryId.eq(directory.id))
        .filter(memberships::Column::GroupId.eq(group.row.id))
        .filter(memberships::Column::UserId.is_in(user_ids.iter().copied()))
        .exec(tx)
        .await?;
    let users = users_among(tx, directory.id, user_ids).await?;
    append_all(tx, directory, group, &users, Kind::UserRemoved);
    Ok(())
}

async fn add(
    tx: &WriteTx,
    directory: &directories::Model,
    group: &Group,
    members: &[Member],
) -> Result<bool, DbErr> {
    let ids: Vec<ResourceId> = members.iter().map(|member| member.user_id).collect();
    let users = users_among(tx, directory.id, &ids).await?;
    let rows: Vec<memberships::ActiveModel> = members
        .iter()
        .filter(|member| users.contains_key(&member.user_id))
        .map(|member| memberships::ActiveModel {
            directory_id: ActiveValue::Set(directory.id),
            group_id: ActiveValue::Set(group.row.id),
            user_id: ActiveValue::Set(member.user_id),
            display: ActiveValue::Set(member.display.clone()),
            created_at: ActiveValue::Set(tx.now()),
        })
        .collect();
    memberships::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    append_all(tx, directory, group, &users, Kind::UserAdded);
    Ok(!users.is_empty())
}

async fn users_among(
    tx: &WriteTx,
    directory_id: DirectoryId,
    ids: &[ResourceId],
) -> Result<BTreeMap<ResourceId, User>, DbErr> {
    users::Entity::find()
        .filter(users::Column::DirectoryId.eq(directory_id))
        .filter(users::Column::Id.is_in(ids.iter().copied()))
        .all(tx)
        .await?
        .into_iter()
        .map(|row| Ok((row.id, User::from_row(row)?)))
        .collect()
}

/// Takes a user out of all its groups, with their events.
pub(super) async fn remove_user(
    tx: &WriteTx,
    directory: &directories::Model,
    user: &User,
) -> Result<(), DbErr> {
    let left = groups_of(tx, directory.id, &[user.row.id]).await?;
    memberships::Entity::delete_many()
        .filter(memberships::Column::DirectoryId.eq(directory.id))
        .filter(memberships::Column::UserId.eq(user.row.id))
        .exec(tx)
        .await?;
    for (_, group) in left {
        let group = Group::from_row(group)?;
        append(
            tx,
            directory,
            &group.data(directory.organization_id),
            &group,
            user,
            Kind::UserRemoved,
        );
    }
    Ok(())
}

fn append_all(
    tx: &WriteTx,
    directory: &directories::Model,
    group: &Group,
    users: &BTreeMap<ResourceId, User>,
    kind: Kind,
) {
    let group_data = group.data(directory.organization_id);
    for user in users.values() {
        append(tx, directory, &group_data, group, user, kind);
    }
}

fn append(
    tx: &WriteTx,
    directory: &directories::Model,
    group_data: &Map<String, Value>,
    group: &Group,
    user: &User,
    kind: Kind,
) {
    let data = json!({
        "directory_id": directory.id,
        "user": user.data(directory.organization_id),
        "group": group_data,
    });
    let event = Event {
        kind,
        user_id: Some(user.row.id),
        group_id: Some(group.row.id),
        names: Vec::new(),
        data,
    };
    events::append(tx, directory, &event);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(user_id: ResourceId) -> Member {
        Member {
            user_id,
            display: None,
        }
    }

    #[test]
    fn joining_and_leaving_in_one_change_cancel_out() {
        let id = ResourceId::generate();
        let mut plan = Plan::default();
        plan.apply(&Change::Add(vec![member(id)]));
        plan.apply(&Change::Remove(vec![id]));
        assert!(plan.joining().is_empty());
        assert!(plan.leaving().is_empty());
    }

    #[test]
    fn a_replacement_names_only_the_difference() {
        let ids: Vec<ResourceId> = (0..3).map(|_| ResourceId::generate()).collect();
        let mut plan = Plan {
            before: BTreeMap::from([(ids[0], None), (ids[1], None)]),
            after: BTreeMap::from([(ids[0], None), (ids[1], None)]),
            ..Plan::default()
        };
        plan.apply(&Change::Replace(vec![member(ids[1]), member(ids[2])]));
        assert_eq!(plan.joining(), [member(ids[2])]);
        assert_eq!(plan.leaving(), [ids[0]]);
    }
}
