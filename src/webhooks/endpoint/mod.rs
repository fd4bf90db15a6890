//! Webhook endpoints: where a vendor's events go.
//!
//! The signing secret is sealed with the master key: whoever has only the database cannot forge a
//! webhook. A new endpoint begins where the log ends.

mod disabling;
mod filter;
mod options;
pub mod states;

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder,
};

pub use self::disabling::{FAILING, GONE, disable, enable, follow_failing};
pub use self::filter::{Filter, Term};
pub use self::options::{MAX_IN_FLIGHT, Options, Ordering, TIMEOUT_MS};
use super::links::View;
use crate::actor::Actor;
use crate::audit;
use crate::events::{Kind, log};
use crate::ids::EndpointId;
use crate::secrets::{MasterKey, SecretError, WebhookSecret};
use crate::storage::horizon::{self, SHARDS};
use crate::storage::tables::{endpoint_cursors, endpoints, exceptions};
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};

/// What the secret of an endpoint is sealed for.
const SECRET_PURPOSE: &str = "webhook-secret";
const ENABLED: &str = "enabled";

/// What a new endpoint is made from; the URL and the event types are checked by the caller.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// Where the events go.
    pub url: String,
    /// The event types that it takes, none meaning [`Kind::SEQUENCED`].
    pub kinds: Vec<Kind>,
}

/// An endpoint with its secret opened.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The row.
    pub row: endpoints::Model,
    /// What its webhooks are signed with.
    pub secret: WebhookSecret,
}

/// Why an endpoint was not made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another endpoint has the URL.
    #[error("another webhook endpoint has this endpoint_url")]
    Duplicate,
    /// The sealed secret cannot be opened with the master key.
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

struct Create {
    actor: Actor,
    endpoint: NewEndpoint,
    id: EndpointId,
    sealed_secret: Vec<u8>,
    starts: [i64; SHARDS],
}

impl UseCase for Create {
    type Answer = endpoints::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<endpoints::Model, Error> {
        let named = self
            .endpoint
            .kinds
            .iter()
            .map(|kind| kind.as_str().to_owned());
        let term = Term {
            from: self.starts,
            filter: Filter {
                events: named.collect(),
                ..Filter::default()
            },
        };
        let row = endpoints::Model {
            id: self.id,
            url: self.endpoint.url.clone(),
            description: None,
            status: ENABLED.to_owned(),
            disabled_because: None,
            disabled_at: None,
            held_at: None,
            filters: serde_json::json!([term]).to_string(),
            filter_number: 1,
            ordering: Ordering::default().as_str().to_owned(),
            max_in_flight: MAX_IN_FLIGHT,
            rate_per_second: None,
            timeout_ms: TIMEOUT_MS,
            sealed_headers: None,
            sealed_secret: self.sealed_secret.clone(),
            sealed_second_secret: None,
            second_secret_role: None,
            second_secret_expires_at: None,
            sealed_signing_key: None,
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        if !insert_new(tx, endpoints::ActiveModel::from(row.clone())).await? {
            return Err(Error::Duplicate);
        }
        let cursors =
            (0_i16..)
                .zip(self.starts)
                .map(|(shard, start)| endpoint_cursors::ActiveModel {
                    endpoint_id: ActiveValue::Set(self.id),
                    shard: ActiveValue::Set(shard),
                    start: ActiveValue::Set(start),
                    position: ActiveValue::Set(start),
                });
        endpoint_cursors::Entity::insert_many(cursors)
            .exec_without_returning(tx)
            .await?;
        let entry = audit::Entry::of_installation("webhook_endpoint.created", &row.id);
        audit::record(tx, self.actor, entry).await?;
        Ok(row)
    }
}

/// Makes an endpoint that begins where the log ends now.
///
/// # Errors
/// The URL is taken, or the database fails.
pub async fn create(
    store: &Store,
    actor: Actor,
    master_key: &MasterKey,
    endpoint: NewEndpoint,
) -> Result<Endpoint, Error> {
    let secret = WebhookSecret::generate();
    let id = EndpointId::generate();
    let sealed_secret =
        master_key.seal(SECRET_PURPOSE, &id.to_string(), secret.expose().as_bytes());
    let starts = ends_of_shards(store).await?;
    let create = Create {
        actor,
        endpoint,
        id,
        sealed_secret,
        starts,
    };
    let row = store.write(Lane::System, create).await?;
    store.wake().endpoints_changed();
    Ok(Endpoint { row, secret })
}

/// Where each shard ends now: the position of its last readable row.
async fn ends_of_shards(store: &Store) -> Result<[i64; SHARDS], DbErr> {
    let horizon = horizon::read(store.reader(), store.dialect()).await?;
    let mut ends = [0; SHARDS];
    for (shard, end) in (0_i16..).zip(&mut ends) {
        *end = log::newest_position(store.reader(), shard, horizon.of(shard)).await?;
    }
    Ok(ends)
}

/// Reads the secret of an endpoint.
///
/// # Errors
/// It was sealed with another master key.
pub fn open(master_key: &MasterKey, row: endpoints::Model) -> Result<Endpoint, Error> {
    let opened = master_key.open(SECRET_PURPOSE, &row.id.to_string(), &row.sealed_secret)?;
    let secret = WebhookSecret::from_text(&String::from_utf8_lossy(&opened))?;
    Ok(Endpoint { row, secret })
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

/// The event types that an endpoint takes, as it named them.
pub fn kinds(row: &endpoints::Model) -> Vec<String> {
    let terms: Vec<Term> = serde_json::from_str(&row.filters).unwrap_or_default();
    let newest = terms.into_iter().next_back();
    newest.map_or_else(Vec::new, |term| term.filter.events)
}

/// What an endpoint sees of the log.
///
/// # Errors
/// The database fails.
pub async fn view(
    connection: &impl ConnectionTrait,
    row: &endpoints::Model,
) -> Result<View, DbErr> {
    let named = kinds(row);
    let kinds: BTreeSet<&'static str> = if named.is_empty() {
        Kind::SEQUENCED.map(Kind::as_str).into()
    } else {
        let passes = |kind: &&str| named.iter().any(|name| name == kind);
        Kind::all().map(Kind::as_str).filter(passes).collect()
    };
    let starts: BTreeMap<i16, i64> = endpoint_cursors::Entity::find()
        .filter(endpoint_cursors::Column::EndpointId.eq(row.id))
        .all(connection)
        .await?
        .into_iter()
        .map(|cursor| (cursor.shard, cursor.start))
        .collect();
    Ok(View {
        endpoint_id: row.id,
        kinds,
        starts,
    })
}

/// How many events an endpoint has not received yet, as far as they are written down: those past its
/// cursors and past its places in directories that are split off, and exceptions that are not parked.
///
/// # Errors
/// The database fails.
pub async fn undelivered(store: &Store, row: &endpoints::Model) -> Result<u64, DbErr> {
    let view = view(store.reader(), row).await?;
    let mut count = 0;
    for kind in &view.kinds {
        for places in [SHARDS_PLACES, DIRECTORIES_PLACES] {
            count += past_places(store, row.id, kind, places).await?;
        }
    }
    let exceptions = exceptions::Entity::find()
        .filter(exceptions::Column::EndpointId.eq(row.id))
        .filter(exceptions::Column::State.ne("parked"))
        .count(store.reader())
        .await?;
    Ok(count + exceptions)
}

/// The cursors with the events past them, those of directories that are split off left out.
const SHARDS_PLACES: &str = "endpoint_cursors c \
     JOIN events e ON e.shard = c.shard AND e.position > c.position \
     AND NOT EXISTS (SELECT 1 FROM lagging l WHERE l.endpoint_id = c.endpoint_id \
     AND l.directory_id = e.directory_id)";
/// The places in directories that are split off, with the events past them.
const DIRECTORIES_PLACES: &str = "lagging c \
     JOIN events e ON e.directory_id = c.directory_id AND e.position > c.position";

/// Events of one type past such places that have not been delivered ahead of them.
async fn past_places(
    store: &Store,
    id: EndpointId,
    kind: &str,
    places: &str,
) -> Result<u64, DbErr> {
    let sql = format!(
        "SELECT count(*) AS waiting FROM {places} WHERE c.endpoint_id = $1 AND e.kind = $2 \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.endpoint_id = c.endpoint_id \
         AND d.position = e.position) \
         AND NOT EXISTS (SELECT 1 FROM exceptions x WHERE x.endpoint_id = c.endpoint_id \
         AND x.position = e.position)"
    );
    let row = store
        .reader()
        .query_one_raw(
            store
                .dialect()
                .statement(&sql, [id.uuid().into(), kind.into()]),
        )
        .await?;
    let waiting: i64 = row.map_or(Ok(0), |row| row.try_get("", "waiting"))?;
    Ok(u64::try_from(waiting).unwrap_or(0))
}
