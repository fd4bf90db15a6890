//! Idempotency keys: what a vendor's program asks twice is carried out once.
//!
//! A key is *claimed* before a request is carried out, by one process at a time, and *settled* with the
//! answer, which is kept for a day. Answers may hold secrets, so they are sealed with the master key. A
//! process that dies in between leaves a claim without an answer; after a minute it is taken over, and
//! the request is carried out again.

mod reseal;

pub use self::reseal::reseal;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{self, ApiKeyId};
use crate::secrets::{MasterKey, SecretError};
use crate::storage::sql::Sql;
use crate::storage::tables::idempotency_keys;
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};

/// How long an answer is kept.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// After how long a claim without an answer is taken over. No request takes so long.
const ABANDONED: TimeDelta = TimeDelta::seconds(60);
/// What an answer is sealed for.
const ANSWER_PURPOSE: &str = "idempotent-answer";

/// A request that carries a key.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks: keys of different API keys have nothing to do with each other.
    pub api_key_id: ApiKeyId,
    /// The idempotency key.
    pub key: String,
    /// A digest of all that is asked.
    pub digest: Vec<u8>,
}

/// The right to carry out a request.
#[derive(Clone, Debug)]
pub struct Claim {
    request: Request,
    /// Tells this claim from one that took it over.
    fence: Uuid,
}

/// What a request was answered.
#[derive(Clone, Deserialize, Serialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body, which may hold secrets.
    pub body: String,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// What became of an attempt to claim a key.
#[derive(Debug)]
pub enum Claimed {
    /// The request is ours to carry out.
    Ours(Claim),
    /// It has been carried out.
    Answered(Answer),
    /// Another request has this key.
    Reused,
    /// Somebody is carrying it out.
    Busy,
}

/// Why a key was not claimed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kept answer cannot be opened with the master key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The kept answer is not one.
    #[error("a kept answer cannot be read")]
    Garbled(#[from] serde_json::Error),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

/// Claims the key of a request.
///
/// # Errors
/// The answer was sealed with another master key, or the database fails.
pub async fn claim(
    store: &Store,
    master_key: &MasterKey,
    request: &Request,
) -> Result<Claimed, Error> {
    let claim = Claim {
        request: request.clone(),
        fence: ids::random_uuid(),
    };
    Ok(
        match store.write(Lane::System, Take(claim.clone())).await? {
            Found::Ours => Claimed::Ours(claim),
            Found::Answered(sealed) => {
                let opened = master_key.open(ANSWER_PURPOSE, &bound_to(request), &sealed)?;
                Claimed::Answered(serde_json::from_slice(&opened)?)
            }
            Found::Reused => Claimed::Reused,
            Found::Busy => Claimed::Busy,
        },
    )
}

/// The row that a sealed answer belongs to.
fn bound_to(request: &Request) -> String {
    format!("{}|{}", request.api_key_id, request.key)
}

struct Take(Claim);

enum Found {
    Ours,
    Answered(Vec<u8>),
    Reused,
    Busy,
}

impl UseCase for Take {
    type Answer = Found;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<Found, storage::Error> {
        let Request {
            api_key_id,
            key,
            digest,
        } = &self.0.request;
        let row = idempotency_keys::Model {
            api_key_id: *api_key_id,
            idempotency_key: key.clone(),
            digest: digest.clone(),
            claim: self.0.fence,
            claimed_at: tx.now(),
            status: None,
            sealed_answer: None,
        };
        if insert_new(tx, idempotency_keys::ActiveModel::from(row.clone())).await? {
            return Ok(Found::Ours);
        }
        let found = idempotency_keys::Entity::find_by_id((*api_key_id, key.clone()));
        let Some(found) = found.one(tx).await? else {
            return Ok(Found::Busy);
        };
        if is_over(&found, digest, tx.now()) {
            return Ok(if take_over(tx, &found, row).await? {
                Found::Ours
            } else {
                Found::Busy
            });
        }
        if found.digest != *digest {
            return Ok(Found::Reused);
        }
        Ok(found.sealed_answer.map_or(Found::Busy, Found::Answered))
    }
}

/// Whether a row says nothing any more about a request with this digest.
fn is_over(found: &idempotency_keys::Model, digest: &[u8], now: DateTime<Utc>) -> bool {
    let age = now - found.claimed_at;
    let is_abandoned = found.sealed_answer.is_none() && age >= ABANDONED;
    age >= KEPT || (is_abandoned && found.digest == digest)
}

/// Puts `row` in the place of `found`, unless somebody was faster.
async fn take_over(
    tx: &WriteTx,
    found: &idempotency_keys::Model,
    row: idempotency_keys::Model,
) -> Result<bool, DbErr> {
    let change = idempotency_keys::ActiveModel {
        digest: ActiveValue::Set(row.digest),
        claim: ActiveValue::Set(row.claim),
        claimed_at: ActiveValue::Set(row.claimed_at),
        status: ActiveValue::Set(None),
        sealed_answer: ActiveValue::Set(None),
        ..Default::default()
    };
    let taken = idempotency_keys::Entity::update_many()
        .set(change)
        .filter(idempotency_keys::Column::ApiKeyId.eq(found.api_key_id))
        .filter(idempotency_keys::Column::IdempotencyKey.eq(&found.idempotency_key))
        .filter(idempotency_keys::Column::Claim.eq(found.claim))
        .exec(tx)
        .await?;
    Ok(taken.rows_affected == 1)
}

/// Keeps the answer of a request that was carried out; without one, gives the key back, so that the
/// request can be carried out again.
///
/// # Errors
/// The database fails.
pub async fn settle(
    store: &Store,
    master_key: &MasterKey,
    claim: Claim,
    answer: Option<&Answer>,
) -> Result<(), storage::Error> {
    let kept = answer.map(|answer| {
        let text = serde_json::json!(answer).to_string();
        let sealed = master_key.seal(ANSWER_PURPOSE, &bound_to(&claim.request), text.as_bytes());
        (i16::try_from(answer.status).unwrap_or(0), sealed)
    });
    store.write(Lane::System, Settle { claim, kept }).await
}

struct Settle {
    claim: Claim,
    kept: Option<(i16, Vec<u8>)>,
}

impl UseCase for Settle {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        use idempotency_keys::Column::{ApiKeyId, Claim, IdempotencyKey};
        let Request {
            api_key_id, key, ..
        } = &self.claim.request;
        let ours = Condition::all()
            .add(ApiKeyId.eq(*api_key_id))
            .add(IdempotencyKey.eq(key))
            .add(Claim.eq(self.claim.fence));
        let Some((status, sealed)) = &self.kept else {
            idempotency_keys::Entity::delete_many()
                .filter(ours)
                .exec(tx)
                .await?;
            return Ok(());
        };
        let change = idempotency_keys::ActiveModel {
            status: ActiveValue::Set(Some(*status)),
            sealed_answer: ActiveValue::Set(Some(sealed.clone())),
            ..Default::default()
        };
        idempotency_keys::Entity::update_many()
            .set(change)
            .filter(ours)
            .exec(tx)
            .await?;
        Ok(())
    }
}

/// Forgets up to `rows_max` requests that were asked more than a day ago; tells how many it forgot.
///
/// # Errors
/// The database fails.
pub async fn forget(store: &Store, rows_max: u64) -> Result<u64, storage::Error> {
    store.write(Lane::System, Forget(rows_max)).await
}

struct Forget(u64);

impl UseCase for Forget {
    type Answer = u64;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<u64, storage::Error> {
        let mut sql = Sql::default();
        sql.push("DELETE FROM idempotency_keys WHERE (api_key_id, idempotency_key) IN (SELECT ")
            .push("api_key_id, idempotency_key FROM idempotency_keys WHERE claimed_at <= ")
            .bind(tx.now() - KEPT)
            .push(" ORDER BY claimed_at LIMIT ")
            .bind(i64::try_from(self.0).unwrap_or(i64::MAX))
            .push(")");
        let forgotten = tx.execute_raw(sql.statement(tx.dialect())).await?;
        Ok(forgotten.rows_affected())
    }
}
