//! What becomes of users who are inactive: they stay as inactive users, or they end.
//!
//! A user that *ends* is deleted as far as the vendor sees: it leaves its groups, and the directory user
//! is gone. The SCIM resource lives on under its id, with its memberships, as the provider wants it;
//! nobody is told of it until it is active again, and then it is a new directory user with a new id.
//!
//! Switching a directory's [`Policy`] brings those who are inactive already into line, some at a time.
//! `directories.aligning_since` is set until that is done, so that it is taken up again after a crash.

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveValue, ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::gate::{self, SettingError};
use super::guard;
use super::nesting::Shift;
use super::turnover;
use super::user::{self, User};
use crate::actor::Actor;
use crate::audit;
use crate::events::Kind;
use crate::ids::{DirectoryId, DirectoryUserId, ResourceId};
use crate::storage::tables::{directories, users};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// How many inactive users one transaction looks at; each may be in many groups.
const STEP: usize = 100;

/// What becomes of users of a directory who are inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They stay, as inactive users.
    Retain,
    /// They end.
    Delete,
}

impl Policy {
    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "retain",
            Self::Delete => "delete",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Retain, Self::Delete]
            .into_iter()
            .find(|policy| policy.as_str() == text)
    }

    /// Whether it is in force in `directory`.
    pub fn is_of(self, directory: &directories::Model) -> bool {
        directory.inactive_users == self.as_str()
    }
}

/// Whether a user who is active or not has ended, as `directory` wants it.
pub(super) fn has_ended(directory: &directories::Model, is_active: bool) -> bool {
    !is_active && Policy::Delete.is_of(directory)
}

/// What a write means for a directory user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It is what it was.
    GoesOn,
    /// It is gone.
    Ends,
    /// A new one is there.
    Begins,
    /// There was none and is none.
    Over,
}

impl Life {
    pub(super) fn of(had_ended: bool, has_ended: bool) -> Self {
        match (had_ended, has_ended) {
            (false, false) => Self::GoesOn,
            (false, true) => Self::Ends,
            (true, false) => Self::Begins,
            (true, true) => Self::Over,
        }
    }
}

struct SetPolicy(Actor, Policy);

impl UseCase for SetPolicy {
    type Answer = directories::Model;
    type Error = SettingError;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, SettingError> {
        let Self(actor, policy) = self;
        let directory = gate::open(tx)?;
        if policy.is_of(&directory) {
            return Ok(directory);
        }
        let details = json!({"inactive_users": [directory.inactive_users, policy.as_str()]});
        let entry = audit::Entry::of_directory(&directory, "directory.configured", &directory.id);
        audit::record(tx, *actor, entry.with(details)).await?;
        let change = directories::ActiveModel {
            id: ActiveValue::Unchanged(directory.id),
            inactive_users: ActiveValue::Set(policy.as_str().to_owned()),
            aligning_since: ActiveValue::Set(Some(tx.now())),
            updated_at: ActiveValue::Set(tx.now()),
            ..Default::default()
        };
        let changed = directories::Entity::update(change).exec(tx).await?;
        tx.directory_changed(changed.id);
        Ok(changed)
    }
}

/// Says what becomes of inactive users from now on; [`align`] brings those into line who are so already.
///
/// # Errors
/// There is no such directory, or the database fails; then nothing is changed.
pub async fn set_policy(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
    policy: Policy,
) -> Result<directories::Model, SettingError> {
    let use_case = SetPolicy(actor, policy);
    store.write(Lane::Directory(directory_id), use_case).await
}

/// Looks at the next inactive users after `after`; answers with the last of them, if there are more.
struct Align {
    actor: Actor,
    after: Option<ResourceId>,
}

impl UseCase for Align {
    type Answer = Option<ResourceId>;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<Option<ResourceId>, storage::Error> {
        let Ok(directory) = gate::open(tx) else {
            return Ok(None);
        };
        if directory.aligning_since.is_none() {
            return Ok(None);
        }
        tx.act_as(self.actor);
        let page = inactive_after(tx, directory.id, self.after).await?;
        let last = page.last().map(|row| row.id);
        let is_last = page.len() < STEP;
        let ends = has_ended(&directory, false);
        let wrong = page
            .into_iter()
            .filter(|row| row.ended_at.is_some() != ends)
            .map(User::from_row)
            .collect::<Result<Vec<User>, DbErr>>()?;
        if ends {
            end(tx, &directory, &wrong).await?;
            guard::judge(tx, &directory).await?;
        } else {
            begin(tx, &directory, wrong).await?;
        }
        if is_last {
            finish(tx, directory.id).await?;
            return Ok(None);
        }
        Ok(last)
    }
}

async fn inactive_after(
    tx: &WriteTx,
    directory_id: DirectoryId,
    after: Option<ResourceId>,
) -> Result<Vec<users::Model>, DbErr> {
    // Written as in the index, which else would not be used.
    let is_inactive = Expr::col(users::Column::Active).not();
    let mut query = users::Entity::find()
        .filter(users::Column::DirectoryId.eq(directory_id))
        .filter(is_inactive)
        .order_by_asc(users::Column::Id)
        .limit(u64::try_from(STEP).ok());
    if let Some(after) = after {
        query = query.filter(users::Column::Id.gt(after));
    }
    query.all(tx).await
}

/// Ends directory users: they leave their groups and are gone.
async fn end(tx: &WriteTx, directory: &directories::Model, ending: &[User]) -> Result<(), DbErr> {
    if ending.is_empty() {
        return Ok(());
    }
    let ids: Vec<ResourceId> = ending.iter().map(|user| user.row.id).collect();
    turnover::announce(tx, directory, &Shift::UsersGone, &ids).await?;
    users::Entity::update_many()
        .col_expr(users::Column::EndedAt, Expr::value(tx.now()))
        .filter(users::Column::DirectoryId.eq(directory.id))
        .filter(users::Column::Id.is_in(ids))
        .exec(tx)
        .await?;
    for user in ending {
        user::append(tx, directory, Kind::UserDeleted, user, None);
    }
    Ok(())
}

/// Gives resources whose directory users have ended new ones, which join their groups.
async fn begin(
    tx: &WriteTx,
    directory: &directories::Model,
    beginning: Vec<User>,
) -> Result<(), DbErr> {
    let ids: Vec<ResourceId> = beginning.iter().map(|user| user.row.id).collect();
    for mut user in beginning {
        user.row.directory_user_id = DirectoryUserId::generate();
        user.row.ended_at = None;
        let change = users::ActiveModel {
            directory_id: ActiveValue::Unchanged(directory.id),
            id: ActiveValue::Unchanged(user.row.id),
            directory_user_id: ActiveValue::Set(user.row.directory_user_id),
            ended_at: ActiveValue::Set(None),
            ..Default::default()
        };
        users::Entity::update(change).exec(tx).await?;
        user::append(tx, directory, Kind::UserCreated, &user, None);
    }
    turnover::announce(tx, directory, &Shift::UsersCome, &ids).await
}

async fn finish(tx: &WriteTx, directory_id: DirectoryId) -> Result<(), DbErr> {
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(directory_id),
        aligning_since: ActiveValue::Set(None),
        ..Default::default()
    };
    directories::Entity::update(change).exec(tx).await?;
    tx.directory_changed(directory_id);
    Ok(())
}

/// Brings inactive users into line with their directory's policy, in up to `steps_max` transactions;
/// tells whether that is all of them. Nothing is done twice.
///
/// # Errors
/// The database fails; what was done before remains, and the rest can be done later.
pub async fn align(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    steps_max: usize,
) -> Result<bool, storage::Error> {
    let mut after = None;
    for _ in 0..steps_max {
        let step = Align { actor, after };
        after = store.write(Lane::Directory(directory_id), step).await?;
        if after.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Goes on wherever inactive users are not in line yet.
///
/// # Errors
/// The database fails.
pub async fn align_due(store: &Store) -> Result<(), storage::Error> {
    let due = directories::Entity::find()
        .filter(directories::Column::AligningSince.is_not_null())
        .all(store.dispatch_reader())
        .await?;
    for directory in due {
        align(store, directory.id, Actor::SYSTEM, usize::MAX).await?;
    }
    Ok(())
}
