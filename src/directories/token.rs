//! SCIM tokens: what an identity provider opens one directory with.
//!
//! Several may be valid at once, so that a provider can be moved from one to the next without a gap. A
//! token is shown once, when it is made; the database holds a digest of it. Revoking takes the
//! directory's lock, which every write takes too: after a revocation has answered, nothing is written by
//! that token.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QueryResult,
};

use super::Denied;
use super::address::Address;
use super::directory::State;
use crate::actor::Actor;
use crate::audit;
use crate::ids::{DirectoryId, ScimTokenId};
use crate::secrets::{Token, TokenKind};
use crate::storage::sql::Sql;
use crate::storage::tables::{directories, scim_tokens};
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};

/// A new token, the only time that it can be seen.
#[derive(Debug)]
pub struct NewToken {
    /// The row.
    pub row: scim_tokens::Model,
    /// The token itself.
    pub token: Token,
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such directory.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The directory has no such token.
    #[error("the directory has no such token")]
    NotFound,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

struct Create {
    actor: Actor,
    directory_id: DirectoryId,
    label: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    digest: Vec<u8>,
    suffix: String,
}

impl UseCase for Create {
    type Answer = scim_tokens::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<scim_tokens::Model, Error> {
        // A deleted directory keeps its row for a while, and must not be opened again.
        let directory = tx.directory().map(|locked| &locked.row);
        let directory = directory.filter(|row| State::is_open(row));
        let directory = directory.ok_or(Denied::NoDirectory)?;
        if let Some(due_at) = directory.deletion_due_at {
            return Err(Denied::Deleting(due_at).into());
        }
        tx.act_as(self.actor);
        let row = scim_tokens::Model {
            id: ScimTokenId::generate(),
            directory_id: self.directory_id,
            label: self.label.clone(),
            digest: self.digest.clone(),
            suffix: self.suffix.clone(),
            created_by: self.actor.who.to_string(),
            created_at: tx.now(),
            last_used_at: None,
            expires_at: self.expires_at,
            revoked_at: None,
        };
        insert_new(tx, scim_tokens::ActiveModel::from(row.clone())).await?;
        let entry = audit::Entry::of_directory(directory, "token.created", &row.id);
        audit::record(tx, self.actor, entry).await?;
        tx.directory_changed(self.directory_id);
        Ok(row)
    }
}

/// Makes a token for a directory.
///
/// # Errors
/// There is no such directory, it is going to be deleted, or the database fails.
pub async fn create(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
    label: Option<String>,
    expires_at: Option<DateTime<Utc>>,
) -> Result<NewToken, Error> {
    let token = Token::generate(TokenKind::Scim);
    let use_case = Create {
        actor,
        directory_id,
        label,
        expires_at,
        digest: token.digest().to_vec(),
        suffix: token.suffix().to_owned(),
    };
    let row = store.write(Lane::Directory(directory_id), use_case).await?;
    Ok(NewToken { row, token })
}

struct Revoke {
    actor: Actor,
    directory_id: DirectoryId,
    id: ScimTokenId,
}

impl UseCase for Revoke {
    type Answer = scim_tokens::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<scim_tokens::Model, Error> {
        let row = find(tx, self.directory_id, self.id)
            .await?
            .ok_or(Error::NotFound)?;
        if row.revoked_at.is_some() {
            return Ok(row);
        }
        let change = scim_tokens::ActiveModel {
            id: ActiveValue::Unchanged(row.id),
            revoked_at: ActiveValue::Set(Some(tx.now())),
            ..Default::default()
        };
        let revoked = scim_tokens::Entity::update(change).exec(tx).await?;
        if let Some(locked) = tx.directory() {
            tx.act_as(self.actor);
            let entry = audit::Entry::of_directory(&locked.row, "token.revoked", &self.id);
            audit::record(tx, self.actor, entry).await?;
        }
        tx.directory_changed(self.directory_id);
        Ok(revoked)
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
) -> Result<scim_tokens::Model, Error> {
    let use_case = Revoke {
        actor,
        directory_id,
        id,
    };
    store.write(Lane::Directory(directory_id), use_case).await
}

/// Revokes all tokens of the locked directory.
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

/// What a token opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The directory.
    pub directory: directories::Model,
    /// The token.
    pub token_id: ScimTokenId,
}

/// What is read of a directory and the token that opens it.
pub(super) const OPENED: &str = "d.*, t.id AS token_id, t.digest AS token_digest";

/// Where it is read.
pub(super) const OPENING: &str = " FROM scim_tokens t JOIN directories d ON d.id = t.directory_id \
     JOIN directory_addresses a ON a.directory_id = t.directory_id";

/// A token as a caller sent it, well formed but not known yet.
#[derive(Debug)]
pub struct Credential(Token);

impl Credential {
    /// Reads the token's text; `None` if it cannot be a token.
    pub fn parse(text: &str) -> Option<Self> {
        Token::parse(TokenKind::Scim, text).map(Self)
    }

    /// Appends the SELECT that finds the directory at `address` with this token.
    pub(super) fn push_opening(&self, sql: &mut Sql, address: &Address, now: DateTime<Utc>) {
        sql.push("SELECT ").push(OPENED).push(OPENING);
        self.push_conditions(sql, address, now);
    }

    /// Appends what must hold of the rows of [`OPENING`]: the token is the directory's own, not revoked
    /// and not expired at `now`, and the directory is not deleted.
    pub(super) fn push_conditions(&self, sql: &mut Sql, address: &Address, now: DateTime<Utc>) {
        sql.push(" WHERE t.digest = ")
            .bind(self.0.digest().to_vec())
            .push(" AND a.address = ")
            .bind(address.as_str())
            .push(" AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > ")
            .bind(now)
            .push(") AND d.state IN (")
            .bind(State::Validating.as_str())
            .push(", ")
            .bind(State::Linked.as_str())
            .push(")");
    }

    /// Reads what [`Self::push_opening`] found.
    pub(super) fn read(&self, row: Option<&QueryResult>) -> Result<Option<Opened>, DbErr> {
        let Some(row) = row else {
            return Ok(None);
        };
        let stored: Vec<u8> = row.try_get("", "token_digest")?;
        if !self.0.digest().matches(&stored) {
            return Ok(None);
        }
        Ok(Some(Opened {
            directory: FromQueryResult::from_query_result(row, "")?,
            token_id: row.try_get("", "token_id")?,
        }))
    }
}

/// Finds what `text` opens at `address`, in one statement.
///
/// # Errors
/// The database fails.
pub async fn open(
    store: &Store,
    address: &Address,
    text: &str,
    now: DateTime<Utc>,
) -> Result<Option<Opened>, DbErr> {
    let Some(credential) = Credential::parse(text) else {
        return Ok(None);
    };
    let mut sql = Sql::default();
    credential.push_opening(&mut sql, address, now);
    let statement = sql.statement(store.dialect());
    let row = store.reader().query_one_raw(statement).await?;
    credential.read(row.as_ref())
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
                .exec(tx)
                .await?;
        }
        Ok(())
    }
}
