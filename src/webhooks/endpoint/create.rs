//! Making endpoints.

use sea_orm::{ActiveValue, DbErr, EntityTrait};
use serde_json::json;

use super::configure::{Changes, Prepared};
use super::{ENABLED, Endpoint, Error, MAX_IN_FLIGHT, Ordering, TIMEOUT_MS, Term, open, secrets};
use crate::actor::Actor;
use crate::audit;
use crate::events::log;
use crate::ids::EndpointId;
use crate::secrets::{MasterKey, WebhookSecret};
use crate::storage::horizon::{self, SHARDS};
use crate::storage::tables::{endpoint_cursors, endpoints};
use crate::storage::{Lane, Store, UseCase, WriteTx, insert_new};

/// Where an endpoint begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Where the log ends.
    #[default]
    Now,
    /// Where the log begins, as far as it is kept.
    Beginning,
}

/// What a new endpoint is made from, checked by the caller.
#[derive(Debug)]
pub struct NewEndpoint {
    /// Where the events go.
    pub url: String,
    /// What differs from the defaults.
    pub settings: Changes,
    /// Where it begins.
    pub start: Start,
}

struct Create {
    actor: Actor,
    id: EndpointId,
    url: String,
    settings: Prepared,
    sealed_secret: Vec<u8>,
    starts: [i64; SHARDS],
}

impl UseCase for Create {
    type Answer = endpoints::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<endpoints::Model, Error> {
        let mut row = self.plain(tx);
        self.settings.apply(&mut row, tx.now());
        let term = Term {
            from: self.starts,
            filter: self.settings.filter(&row),
        };
        row.filters = json!([term]).to_string();
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

impl Create {
    /// An endpoint as it is unless somebody says otherwise.
    fn plain(&self, tx: &WriteTx) -> endpoints::Model {
        endpoints::Model {
            id: self.id,
            url: self.url.clone(),
            description: None,
            status: ENABLED.to_owned(),
            disabled_because: None,
            disabled_at: None,
            held_at: None,
            filters: "[]".to_owned(),
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
        }
    }
}

/// Makes an endpoint.
///
/// # Errors
/// The URL is taken, or the database fails.
pub async fn create(
    store: &Store,
    actor: Actor,
    master_key: &MasterKey,
    endpoint: NewEndpoint,
) -> Result<Endpoint, Error> {
    let id = EndpointId::generate();
    let starts = match endpoint.start {
        Start::Now => ends_of_shards(store).await?,
        Start::Beginning => [0; SHARDS],
    };
    let create = Create {
        actor,
        id,
        url: endpoint.url,
        settings: endpoint.settings.prepare(master_key, id),
        sealed_secret: secrets::seal(master_key, id, &WebhookSecret::generate()),
        starts,
    };
    let row = store.write(Lane::System, create).await?;
    store.wake().endpoints_changed();
    open(master_key, row)
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
