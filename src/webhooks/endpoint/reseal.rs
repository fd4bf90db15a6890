//! Sealing what endpoints hold anew, when one master key takes over from another.

use std::sync::Arc;

use sea_orm::{
    ActiveValue, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::LockType,
};

use super::Error;
use super::headers::PURPOSE as HEADERS_PURPOSE;
use super::secrets::{SECRET_PURPOSE, SIGNING_KEY_PURPOSE};
use crate::ids::EndpointId;
use crate::secrets::{MasterKey, SecretError};
use crate::storage::tables::endpoints::{self, Column};
use crate::storage::{Lane, Store, UseCase, WriteTx};

const ROWS_AT_ONCE: u64 = 100;

/// Seals anew what is not sealed with the newest master key, page by page; tells of how many endpoints.
///
/// # Errors
/// Something was sealed with a key that is not there, or the database fails.
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
    after: Option<EndpointId>,
}

impl UseCase for Page {
    /// The last endpoint, if there was one, and how many were sealed anew.
    type Answer = (Option<EndpointId>, u64);
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Self::Answer, Error> {
        let mut rows = endpoints::Entity::find()
            .order_by_asc(Column::Id)
            .limit(ROWS_AT_ONCE)
            .lock(LockType::Update);
        if let Some(after) = self.after {
            rows = rows.filter(Column::Id.gt(after));
        }
        let (mut last, mut changed) = (None, 0);
        for row in rows.all(tx).await? {
            last = Some(row.id);
            if let Some(change) = resealed(&self.master_key, &row)? {
                endpoints::Entity::update(change).exec(tx).await?;
                changed += 1;
            }
        }
        Ok((last, changed))
    }
}

/// What changes in the row; `None` if nothing does.
fn resealed(
    master_key: &MasterKey,
    row: &endpoints::Model,
) -> Result<Option<endpoints::ActiveModel>, SecretError> {
    let aad = row.id.to_string();
    let anew = |purpose: &str, sealed: Option<&Vec<u8>>| {
        let resealed = sealed.map(|sealed| master_key.reseal(purpose, &aad, sealed));
        resealed.transpose().map(Option::flatten)
    };
    let secret = anew(SECRET_PURPOSE, Some(&row.sealed_secret))?;
    let second = anew(SECRET_PURPOSE, row.sealed_second_secret.as_ref())?;
    let headers = anew(HEADERS_PURPOSE, row.sealed_headers.as_ref())?;
    let signing_key = anew(SIGNING_KEY_PURPOSE, row.sealed_signing_key.as_ref())?;
    let is_changed = [&secret, &second, &headers, &signing_key]
        .into_iter()
        .any(Option::is_some);
    Ok(is_changed.then(|| endpoints::ActiveModel {
        id: ActiveValue::Unchanged(row.id),
        sealed_secret: secret.map_or(ActiveValue::NotSet, ActiveValue::Set),
        sealed_second_secret: changed(second),
        sealed_headers: changed(headers),
        sealed_signing_key: changed(signing_key),
        ..Default::default()
    }))
}

fn changed(sealed: Option<Vec<u8>>) -> ActiveValue<Option<Vec<u8>>> {
    sealed.map_or(ActiveValue::NotSet, |sealed| ActiveValue::Set(Some(sealed)))
}
