//! What a token opens: the directory at an address, found in one statement.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, QueryResult};

use crate::directories::address::Address;
use crate::directories::directory::State;
use crate::ids::ScimTokenId;
use crate::secrets::{Token, TokenKind};
use crate::storage::Store;
use crate::storage::sql::Sql;
use crate::storage::tables::directories;

/// What a token opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The directory.
    pub directory: directories::Model,
    /// The token.
    pub token_id: ScimTokenId,
}

/// What is read of a directory and the token that opens it.
pub(in crate::directories) const OPENED: &str = "d.*, t.id AS token_id, t.digest AS token_digest";

/// Where it is read.
pub(in crate::directories) const OPENING: &str = " FROM scim_tokens t JOIN directories d ON d.id = t.directory_id \
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
    pub(in crate::directories) fn push_opening(
        &self,
        sql: &mut Sql,
        address: &Address,
        now: DateTime<Utc>,
    ) {
        sql.push("SELECT ").push(OPENED).push(OPENING);
        self.push_conditions(sql, address, now);
    }

    /// Appends what must hold of the rows of [`OPENING`]: the token is the directory's own, not revoked
    /// and not expired at `now`, and the directory is not deleted.
    pub(in crate::directories) fn push_conditions(
        &self,
        sql: &mut Sql,
        address: &Address,
        now: DateTime<Utc>,
    ) {
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
    pub(in crate::directories) fn read(
        &self,
        row: Option<&QueryResult>,
    ) -> Result<Option<Opened>, DbErr> {
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
