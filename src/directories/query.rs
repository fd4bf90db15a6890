//! Looking users and groups up by what columns hold.
//!
//! A *term* is something that an index answers; a query is the conjunction of its terms. What a filter
//! says beyond its terms is evaluated on the rows by the caller, a page at a time.

use sea_orm::sea_query::{Condition, Expr, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use crate::ids::{DirectoryId, ResourceId};
use crate::storage::tables::{groups, memberships, user_emails, users};

/// Something that an index answers; keys are folded by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// The id of the resource.
    Id(ResourceId),
    /// The folded userName.
    UserName(String),
    /// The provider's own id, with case.
    ExternalId(String),
    /// The folded displayName.
    DisplayName(String),
    /// One of the folded e-mail addresses.
    Email(String),
    /// A member of the group.
    Member(ResourceId),
    /// Nothing matches.
    Nothing,
}

/// Which rows of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many to skip.
    pub skip: u64,
    /// How many to return at most.
    pub take: u64,
}

/// The users of a directory that match all `terms`, by id, and how many there are in all.
///
/// # Errors
/// The database fails.
pub async fn users(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    terms: &[Term],
    window: Window,
) -> Result<(Vec<users::Model>, u64), DbErr> {
    let query = users::Entity::find()
        .filter(users::Column::DirectoryId.eq(directory_id))
        .filter(user_condition(directory_id, terms));
    let total = query.clone().count(connection).await?;
    if window.take == 0 || window.skip >= total {
        return Ok((Vec::new(), total));
    }
    let rows = query
        .order_by_asc(users::Column::Id)
        .offset(window.skip)
        .limit(window.take)
        .all(connection)
        .await?;
    Ok((rows, total))
}

/// A page of the users that match all `terms`, by id, after `after`.
///
/// # Errors
/// The database fails.
pub async fn users_after(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    terms: &[Term],
    after: Option<ResourceId>,
    take: u64,
) -> Result<Vec<users::Model>, DbErr> {
    users::Entity::find()
        .filter(users::Column::DirectoryId.eq(directory_id))
        .filter(user_condition(directory_id, terms))
        .filter(Condition::all().add_option(after.map(|id| users::Column::Id.gt(id))))
        .order_by_asc(users::Column::Id)
        .limit(take)
        .all(connection)
        .await
}

/// The groups of a directory that match all `terms`, by id, and how many there are in all.
///
/// # Errors
/// The database fails.
pub async fn groups(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    terms: &[Term],
    window: Window,
) -> Result<(Vec<groups::Model>, u64), DbErr> {
    let query = groups::Entity::find()
        .filter(groups::Column::DirectoryId.eq(directory_id))
        .filter(group_condition(directory_id, terms));
    let total = query.clone().count(connection).await?;
    if window.take == 0 || window.skip >= total {
        return Ok((Vec::new(), total));
    }
    let rows = query
        .order_by_asc(groups::Column::Id)
        .offset(window.skip)
        .limit(window.take)
        .all(connection)
        .await?;
    Ok((rows, total))
}

/// A page of the groups that match all `terms`, by id, after `after`.
///
/// # Errors
/// The database fails.
pub async fn groups_after(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    terms: &[Term],
    after: Option<ResourceId>,
    take: u64,
) -> Result<Vec<groups::Model>, DbErr> {
    groups::Entity::find()
        .filter(groups::Column::DirectoryId.eq(directory_id))
        .filter(group_condition(directory_id, terms))
        .filter(Condition::all().add_option(after.map(|id| groups::Column::Id.gt(id))))
        .order_by_asc(groups::Column::Id)
        .limit(take)
        .all(connection)
        .await
}

fn user_condition(directory_id: DirectoryId, terms: &[Term]) -> Condition {
    terms.iter().fold(Condition::all(), |condition, term| {
        condition.add(match term {
            Term::Id(id) => Condition::all().add(users::Column::Id.eq(*id)),
            Term::UserName(key) => Condition::all().add(users::Column::UserNameKey.eq(key)),
            Term::ExternalId(id) => Condition::all().add(users::Column::ExternalId.eq(id)),
            Term::DisplayName(key) => Condition::all().add(users::Column::DisplayNameKey.eq(key)),
            Term::Email(key) => Condition::any()
                .add(users::Column::EmailKey.eq(key))
                .add(has_other_email(directory_id, key)),
            Term::Member(_) | Term::Nothing => nothing(),
        })
    })
}

fn group_condition(directory_id: DirectoryId, terms: &[Term]) -> Condition {
    terms.iter().fold(Condition::all(), |condition, term| {
        condition.add(match term {
            Term::Id(id) => Condition::all().add(groups::Column::Id.eq(*id)),
            Term::ExternalId(id) => Condition::all().add(groups::Column::ExternalId.eq(id)),
            Term::DisplayName(key) => Condition::all().add(groups::Column::DisplayNameKey.eq(key)),
            Term::Member(user_id) => Condition::all().add(has_member(directory_id, *user_id)),
            Term::UserName(_) | Term::Email(_) | Term::Nothing => nothing(),
        })
    })
}

fn nothing() -> Condition {
    Condition::all().add(Expr::cust("1 = 0"))
}

fn has_other_email(directory_id: DirectoryId, key: &str) -> SimpleExpr {
    users::Column::Id.in_subquery(
        Query::select()
            .column(user_emails::Column::UserId)
            .from(user_emails::Entity)
            .and_where(user_emails::Column::DirectoryId.eq(directory_id))
            .and_where(user_emails::Column::EmailKey.eq(key))
            .take(),
    )
}

fn has_member(directory_id: DirectoryId, user_id: ResourceId) -> SimpleExpr {
    groups::Column::Id.in_subquery(
        Query::select()
            .column(memberships::Column::GroupId)
            .from(memberships::Entity)
            .and_where(memberships::Column::DirectoryId.eq(directory_id))
            .and_where(memberships::Column::UserId.eq(user_id))
            .take(),
    )
}
