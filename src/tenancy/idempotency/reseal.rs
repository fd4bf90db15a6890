//! Sealing kept answers anew, when one master key takes over from another.

use std::sync::Arc;

use sea_orm::{
    ActiveValue, ColumnTrait, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder, QuerySelect,
    sea_query::LockType,
};

use super::{ANSWER_PURPOSE, Error};
use crate::ids::ApiKeyId;
use crate::secrets::MasterKey;
use crate::storage::tables::idempotency_keys::{self, Column};
use crate::storage::{Lane, Store, UseCase, WriteTx};

const ROWS_AT_ONCE: u64 = 100;

/// The key of a row.
type Place = (ApiKeyId, String);

/// Seals anew what is not sealed with the newest master key, page by page; tells how many answers.
///
/// # Errors
/// One was sealed with a key that is not there, or the database fails.
pub async fn reseal(store: &Store, master_key: &Arc<MasterKey>) -> Result<u64, Error> {
    let mut resealed = 0;
    let mut after = None;
    loop {
        let master_key = Arc::clone(master_key);
        let page = Page { master_key, after };
        let (last, changed) = store.write(Lane::System, page).await?;
        resealed += changed;
        if last.is_none() {
            return Ok(resealed);
        }
        after = last;
    }
}

struct Page {
    master_key: Arc<MasterKey>,
    after: Option<Place>,
}

impl UseCase for Page {
    /// The last row, if there was one, and how many were sealed anew.
    type Answer = (Option<Place>, u64);
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Self::Answer, Error> {
        let mut rows = idempotency_keys::Entity::find()
            .order_by_asc(Column::ApiKeyId)
            .order_by_asc(Column::IdempotencyKey)
            .limit(ROWS_AT_ONCE)
            .lock(LockType::Update);
        if let Some((api_key_id, key)) = &self.after {
            let later_key = Column::ApiKeyId
                .eq(*api_key_id)
                .and(Column::IdempotencyKey.gt(key));
            rows = rows.filter(Column::ApiKeyId.gt(*api_key_id).or(later_key));
        }
        let (mut last, mut changed) = (None, 0);
        for row in rows.all(tx).await? {
            changed += u64::from(self.reseal(tx, &row).await?);
            last = Some((row.api_key_id, row.idempotency_key));
        }
        Ok((last, changed))
    }
}

impl Page {
    async fn reseal(&self, tx: &WriteTx, row: &idempotency_keys::Model) -> Result<bool, Error> {
        let Some(sealed) = &row.sealed_answer else {
            return Ok(false);
        };
        let aad = format!("{}|{}", row.api_key_id, row.idempotency_key);
        let Some(anew) = self.master_key.reseal(ANSWER_PURPOSE, &aad, sealed)? else {
            return Ok(false);
        };
        let change = idempotency_keys::ActiveModel {
            api_key_id: ActiveValue::Unchanged(row.api_key_id),
            idempotency_key: ActiveValue::Unchanged(row.idempotency_key.clone()),
            sealed_answer: ActiveValue::Set(Some(anew)),
            ..Default::default()
        };
        idempotency_keys::Entity::update(change).exec(tx).await?;
        Ok(true)
    }
}
