//! SCIM tokens: what an identity provider opens one directory with.
//!
//! A few may be *active* at once (neither revoked nor expired), so that a provider can be moved from one
//! to the next without a gap. A token is shown once, when it is made; the database holds a
//! digest of it, by which it is found. Revoking takes the directory's lock, which every
//! write takes too: after a revocation has answered, nothing is written by that token.

mod issue;
mod opening;

use std::fmt;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    QueryOrder,
};

use super::Denied;
use crate::actor::Actor;
use crate::audit;
use crate::clock;
use crate::events::{self, Event, Kind};
use crate::ids::{DirectoryId, ScimTokenId};
use crate::secrets::Token;
use crate::storage::tables::{directories, scim_tokens};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

pub use issue::{Draft, create, rotate};
pub use opening::{Credential, Opened, open};
pub(super) use opening::{OPENED, OPENING};

/// A new token, the only time that it can be seen.
#[derive(Debug)]
pub struct NewToken {
    /// The row.
    pub row: scim_tokens::Model,
    /// The token itself.
    pub token: Token,
    /// The token that it takes over from, as it is now.
    pub replaces: Option<scim_tokens::Model>,
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such directory.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The directory has no such token.
    #[error("the directory has no token {0}")]
    NotFound(ScimTokenId),
    /// The token cannot be rotated any more.
    #[error("The token {} ended at {}. Create a new one instead.", Named(.0), ended_at(.0))]
    Ended(Box<scim_tokens::Model>),
    /// The directory has as many active tokens as it may have.
    #[error(
        "The directory has {}, and may have no more: {}. Revoke one that is no longer in use, or name \
         the one to end as 'replace'.",
        count(.0.len()),
        list_of(.0)
    )]
    TooMany(Vec<scim_tokens::Model>),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

/// A token as people know it: its last characters, and its label.
struct Named<'a>(&'a scim_tokens::Model);

impl fmt::Display for Named<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "…{}", self.0.suffix)?;
        match &self.0.label {
            Some(label) => write!(formatter, " ({label:?})"),
            None => Ok(()),
        }
    }
}

fn ended_at(token: &scim_tokens::Model) -> String {
    let ended = token.revoked_at.or(token.expires_at);
    ended.map(clock::text).unwrap_or_default()
}

fn count(tokens: usize) -> String {
    let plural = if tokens == 1 { "" } else { "s" };
    format!("{tokens} active token{plural}")
}

fn list_of(tokens: &[scim_tokens::Model]) -> String {
    let tokens: Vec<String> = tokens
        .iter()
        .map(|token| match token.last_used_at {
            Some(at) => format!("{}, last used at {}", Named(token), clock::text(at)),
            None => format!("{}, never used", Named(token)),
        })
        .collect();
    tokens.join("; ")
}

/// Whether a token opens its directory at `now`.
pub fn is_active(token: &scim_tokens::Model, now: DateTime<Utc>) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|at| at > now)
}

struct Revoke {
    actor: Actor,
    directory_id: DirectoryId,
    id: ScimTokenId,
}

impl UseCase for Revoke {
    type Answer = ();
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), Error> {
        let directory = tx.directory().ok_or(Denied::NoDirectory)?;
        let row = find(tx, self.directory_id, self.id).await?;
        let row = row.ok_or(Error::NotFound(self.id))?;
        tx.act_as(self.actor);
        end(tx, self.actor, &directory.row, &row).await?;
        tx.directory_changed(self.directory_id);
        Ok(())
    }
}

/// Revokes a token; revoking twice is a success.
///
/// # Errors
/// The directory has no such token, or the database fails.
pub async fn revoke(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
    id: ScimTokenId,
) -> Result<(), Error> {
    let use_case = Revoke {
        actor,
        directory_id,
        id,
    };
    store.write(Lane::Directory(directory_id), use_case).await
}

/// Revokes a token of the locked directory, unless it is revoked already.
async fn end(
    tx: &WriteTx,
    actor: Actor,
    directory: &directories::Model,
    token: &scim_tokens::Model,
) -> Result<(), DbErr> {
    if token.revoked_at.is_some() {
        return Ok(());
    }
    let change = scim_tokens::ActiveModel {
        id: ActiveValue::Unchanged(token.id),
        revoked_at: ActiveValue::Set(Some(tx.now())),
        ..Default::default()
    };
    scim_tokens::Entity::update(change).exec(tx).await?;
    append(tx, directory, Kind::TokenRevoked, token);
    let entry = audit::Entry::of_directory(directory, "token.revoked", &token.id);
    audit::record(tx, actor, entry).await
}

fn append(tx: &WriteTx, directory: &directories::Model, kind: Kind, token: &scim_tokens::Model) {
    let event = Event {
        kind,
        user_id: None,
        group_id: None,
        names: Vec::new(),
        data: events::token_data(directory.organization_id, token),
    };
    events::append(tx, directory, &event);
}

/// Revokes all tokens of the locked directory, which ends: that is told by the directory's own event.
pub(super) async fn revoke_all(tx: &WriteTx, directory_id: DirectoryId) -> Result<(), DbErr> {
    scim_tokens::Entity::update_many()
        .col_expr(scim_tokens::Column::RevokedAt, Expr::value(tx.now()))
        .filter(scim_tokens::Column::DirectoryId.eq(directory_id))
        .filter(scim_tokens::Column::RevokedAt.is_null())
        .exec(tx)
        .await
        .map(drop)
}

/// Finds a token of a directory.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    id: ScimTokenId,
) -> Result<Option<scim_tokens::Model>, DbErr> {
    scim_tokens::Entity::find_by_id(id)
        .filter(scim_tokens::Column::DirectoryId.eq(directory_id))
        .one(connection)
        .await
}

/// The tokens of a directory, oldest first.
///
/// # Errors
/// The database fails.
pub async fn list(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
) -> Result<Vec<scim_tokens::Model>, DbErr> {
    scim_tokens::Entity::find()
        .filter(scim_tokens::Column::DirectoryId.eq(directory_id))
        .order_by_asc(scim_tokens::Column::Id)
        .all(connection)
        .await
}

/// Records when tokens were used last.
///
/// # Errors
/// The database fails.
pub async fn record_use(
    store: &Store,
    used: Vec<(ScimTokenId, DateTime<Utc>)>,
) -> Result<(), storage::Error> {
    store.write(Lane::System, RecordUse(used)).await
}

struct RecordUse(Vec<(ScimTokenId, DateTime<Utc>)>);

impl UseCase for RecordUse {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        for (id, at) in &self.0 {
            scim_tokens::Entity::update_many()
                .col_expr(scim_tokens::Column::LastUsedAt, Expr::value(*at))
                .filter(scim_tokens::Column::Id.eq(*id))
                .filter(is_before(*at))
                .exec(tx)
                .await?;
        }
        Ok(())
    }
}

/// What was written down is from before `at`: other nodes write down what they have heard, too.
fn is_before(at: DateTime<Utc>) -> Condition {
    Condition::any()
        .add(scim_tokens::Column::LastUsedAt.is_null())
        .add(scim_tokens::Column::LastUsedAt.lt(at))
}
