//! Webhook endpoints: where a vendor's events go.
//!
//! Cast: an endpoint takes what its [`Filter`] passes, as its [`Options`] say, signed with its [`Keys`] and
//! with its own [`Headers`]. [`create`], [`configure`], [`enable`] and [`disable`] change it, [`secrets`] rotates what
//! it is signed with, and [`trial`] sends it an event that never happened.
//!
//! Signing secrets and header values are sealed with the master key: whoever has only the database cannot
//! forge a webhook. A new endpoint begins where the log ends, unless it is to begin where the log does.

mod configure;
mod create;
mod disabling;
mod filter;
mod headers;
mod options;
mod reseal;
pub mod secrets;
pub mod states;
pub mod trial;

use std::collections::BTreeMap;

use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
};

pub use self::configure::{Changes, configure};
pub use self::create::{NewEndpoint, Start, create};
pub use self::disabling::{FAILING, GONE, disable, enable, follow_failing};
pub use self::filter::{Filter, Term};
pub use self::headers::{HEADERS_MAX, Headers};
pub use self::options::{MAX_IN_FLIGHT, Options, Ordering, TIMEOUT_MS};
pub use self::reseal::reseal;
pub use self::secrets::{Keys, Role};
use super::backlog;
use super::links::View;
use crate::actor::Actor;
use crate::audit;
use crate::ids::EndpointId;
use crate::secrets::{MasterKey, SecretError};
use crate::storage::error::is_unique_violation;
use crate::storage::tables::{endpoint_cursors, endpoints};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

const ENABLED: &str = "enabled";
const DISABLED: &str = "disabled";

/// An endpoint with what is sealed in its row opened.
#[derive(Debug)]
pub struct Endpoint {
    /// The row.
    pub row: endpoints::Model,
    /// What its webhooks are signed with.
    pub keys: Keys,
    /// Headers of its own.
    pub headers: Headers,
}

/// Why an endpoint was not made, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("there is no such webhook endpoint")]
    NotFound,
    /// Another endpoint has the URL.
    #[error("another webhook endpoint has this endpoint_url")]
    Duplicate,
    /// Its filter was changed too often.
    #[error(
        "the filter of this webhook endpoint was changed too often; change it again when older events \
         have left the log, or make another endpoint"
    )]
    TooManyFilters,
    /// It has two secrets.
    #[error("the webhook endpoint has a {} secret; end it first", .0.as_str())]
    SecondSecret(Role),
    /// It has no secret to promote or to end.
    #[error("the webhook endpoint has no {} secret", .0.as_str())]
    NoSecret(Role),
    /// What is sealed cannot be opened with the master key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

/// Reads what is sealed in an endpoint's row.
///
/// # Errors
/// It was sealed with another master key.
pub fn open(master_key: &MasterKey, row: endpoints::Model) -> Result<Endpoint, Error> {
    let keys = Keys::open(master_key, &row)?;
    let headers = Headers::open(master_key, &row)?;
    Ok(Endpoint { row, keys, headers })
}

/// The endpoint, which nobody else changes until the transaction ends.
async fn locked(tx: &WriteTx, id: EndpointId) -> Result<endpoints::Model, Error> {
    endpoints::Entity::find_by_id(id)
        .lock(LockType::NoKeyUpdate)
        .one(tx)
        .await?
        .ok_or(Error::NotFound)
}

/// Writes a row that is locked.
async fn save(tx: &WriteTx, mut row: endpoints::Model) -> Result<endpoints::Model, Error> {
    row.updated_at = tx.now();
    let change = row.into_active_model().reset_all();
    let saved = endpoints::Entity::update(change).exec(tx).await;
    saved.map_err(|error| {
        if is_unique_violation(&error) {
            Error::Duplicate
        } else {
            error.into()
        }
    })
}

/// Finds an endpoint.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    id: EndpointId,
) -> Result<Option<endpoints::Model>, DbErr> {
    endpoints::Entity::find_by_id(id).one(connection).await
}

/// All endpoints, oldest first.
///
/// # Errors
/// The database fails.
pub async fn list(connection: &impl ConnectionTrait) -> Result<Vec<endpoints::Model>, DbErr> {
    endpoints::Entity::find()
        .order_by_asc(endpoints::Column::Id)
        .all(connection)
        .await
}

struct Delete(Actor, EndpointId);

impl UseCase for Delete {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        let Self(actor, id) = self;
        let deleted = endpoints::Entity::delete_by_id(*id).exec(tx).await?;
        if deleted.rows_affected == 0 {
            return Ok(false);
        }
        let entry = audit::Entry::of_installation("webhook_endpoint.deleted", id);
        audit::record(tx, *actor, entry).await?;
        Ok(true)
    }
}

/// Deletes an endpoint with its place in the log; tells whether there was one.
///
/// # Errors
/// The database fails.
pub async fn delete(store: &Store, actor: Actor, id: EndpointId) -> Result<bool, storage::Error> {
    let is_deleted = store.write(Lane::System, Delete(actor, id)).await?;
    store.wake().endpoints_changed();
    Ok(is_deleted)
}

/// Whether events are sent to it now.
pub fn is_sending(row: &endpoints::Model) -> bool {
    is_enabled(row) && row.held_at.is_none()
}

/// Whether events are to be sent to it.
pub fn is_enabled(row: &endpoints::Model) -> bool {
    row.status == ENABLED
}

/// What an endpoint sees of the log.
///
/// # Errors
/// The database fails.
pub async fn view(
    connection: &impl ConnectionTrait,
    row: &endpoints::Model,
) -> Result<View, DbErr> {
    let starts: BTreeMap<i16, i64> = endpoint_cursors::Entity::find()
        .filter(endpoint_cursors::Column::EndpointId.eq(row.id))
        .all(connection)
        .await?
        .into_iter()
        .map(|cursor| (cursor.shard, cursor.start))
        .collect();
    Ok(View::new(row, starts))
}

/// Whether the newest filter of a view is still the endpoint's newest.
///
/// # Errors
/// The database fails.
pub async fn is_under_filter(
    connection: &impl ConnectionTrait,
    view: &View,
) -> Result<bool, DbErr> {
    let number = endpoints::Entity::find_by_id(view.endpoint_id)
        .select_only()
        .column(endpoints::Column::FilterNumber)
        .into_tuple::<i32>()
        .one(connection)
        .await?;
    Ok(number == Some(view.filter_number))
}

/// How many events an endpoint has not received yet, as far as they are written down, counted to a bound.
///
/// # Errors
/// The database fails.
pub async fn undelivered(store: &Store, row: &endpoints::Model) -> Result<u64, DbErr> {
    let summary = backlog::summary(store, row).await?;
    Ok(u64::try_from(summary.undelivered).unwrap_or(0))
}
