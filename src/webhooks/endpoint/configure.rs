//! The settings of endpoints.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Map, Value, json};

use super::{Error, Filter, Headers, Ordering, filter, locked, save, secrets};
use crate::actor::Actor;
use crate::audit;
use crate::directories::directory::Change;
use crate::ids::EndpointId;
use crate::secrets::MasterKey;
use crate::storage::tables::endpoints;
use crate::storage::{Lane, Store, UseCase, WriteTx};

/// What changes about an endpoint; all of it is checked by the caller.
#[derive(Debug, Default)]
pub struct Changes {
    /// Where the events go.
    pub url: Option<String>,
    /// What it is for, for people.
    pub description: Change<String>,
    /// What is kept in order.
    pub ordering: Option<Ordering>,
    /// How many requests may be on their way at once.
    pub max_in_flight: Option<i32>,
    /// How many requests may be sent a second.
    pub rate_per_second: Change<i32>,
    /// How long one request may take.
    pub timeout_ms: Option<i32>,
    /// The event types that it takes.
    pub events: Option<Vec<String>>,
    /// The organizations whose events it takes.
    pub organizations: Option<Vec<String>>,
    /// The directories whose events it takes.
    pub directories: Option<Vec<String>>,
    /// Headers of its own, in place of those that it has.
    pub headers: Option<Headers>,
    /// Whether its deliveries wait.
    pub held: Option<bool>,
    /// Whether its requests are signed with a key of its own besides the secret.
    pub ed25519: Option<bool>,
}

impl Changes {
    /// The changes with what is secret in them sealed for this endpoint.
    pub(super) fn prepare(self, master_key: &MasterKey, id: EndpointId) -> Prepared {
        let headers = self.headers.as_ref();
        Prepared {
            sealed_headers: headers.map(|headers| SealedHeaders(headers.seal(master_key, id))),
            sealed_signing_key: secrets::new_signing_key(master_key, id),
            changes: self,
        }
    }
}

/// Headers as they go into the row: nothing if there are none.
struct SealedHeaders(Option<Vec<u8>>);

/// Changes that can be written down.
pub(super) struct Prepared {
    changes: Changes,
    sealed_headers: Option<SealedHeaders>,
    sealed_signing_key: Vec<u8>,
}

impl Prepared {
    /// Makes the changes, but for that of the filter.
    pub(super) fn apply(&self, row: &mut endpoints::Model, now: DateTime<Utc>) {
        let changes = &self.changes;
        if let Some(url) = &changes.url {
            row.url.clone_from(url);
        }
        apply(&changes.description, &mut row.description);
        if let Some(ordering) = changes.ordering {
            ordering.as_str().clone_into(&mut row.ordering);
        }
        row.max_in_flight = changes.max_in_flight.unwrap_or(row.max_in_flight);
        apply(&changes.rate_per_second, &mut row.rate_per_second);
        row.timeout_ms = changes.timeout_ms.unwrap_or(row.timeout_ms);
        if let Some(sealed) = &self.sealed_headers {
            row.sealed_headers.clone_from(&sealed.0);
        }
        if let Some(is_held) = changes.held {
            row.held_at = is_held.then(|| row.held_at.unwrap_or(now));
        }
        match changes.ed25519 {
            Some(true) if row.sealed_signing_key.is_none() => {
                row.sealed_signing_key = Some(self.sealed_signing_key.clone());
            }
            Some(false) => row.sealed_signing_key = None,
            Some(true) | None => {}
        }
    }

    /// The filter with its changes.
    pub(super) fn filter(&self, row: &endpoints::Model) -> Filter {
        let before = Filter::of(row);
        let changes = &self.changes;
        Filter {
            events: changes.events.clone().unwrap_or(before.events),
            organizations: changes
                .organizations
                .clone()
                .unwrap_or(before.organizations),
            directories: changes.directories.clone().unwrap_or(before.directories),
        }
    }
}

fn apply<T: Clone>(change: &Change<T>, value: &mut Option<T>) {
    match change {
        Change::Keep => {}
        Change::Clear => *value = None,
        Change::To(new) => *value = Some(new.clone()),
    }
}

struct Configure(Actor, EndpointId, Prepared);

impl UseCase for Configure {
    type Answer = endpoints::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<endpoints::Model, Error> {
        let Self(actor, id, changes) = self;
        let before = locked(tx, *id).await?;
        let mut after = before.clone();
        changes.apply(&mut after, tx.now());
        if after.url != before.url && is_taken(tx, &after.url).await? {
            return Err(Error::Duplicate);
        }
        let filter = changes.filter(&before);
        if filter != Filter::of(&before) {
            filter::put_in_force(tx, &mut after, filter).await?;
        }
        if after == before {
            return Ok(before);
        }
        let entry = audit::Entry::of_installation("webhook_endpoint.configured", id);
        audit::record(tx, *actor, entry.with(differences(&before, &after))).await?;
        save(tx, after).await
    }
}

async fn is_taken(tx: &WriteTx, url: &str) -> Result<bool, Error> {
    let same = endpoints::Entity::find().filter(endpoints::Column::Url.eq(url));
    Ok(same.count(tx).await? > 0)
}

/// The settings that differ, with both values; of what is secret and of what people wrote, only that.
fn differences(before: &endpoints::Model, after: &endpoints::Model) -> Value {
    let settings = |row: &endpoints::Model| {
        [
            ("ordering", json!(row.ordering)),
            ("max_in_flight", json!(row.max_in_flight)),
            ("rate_per_second", json!(row.rate_per_second)),
            ("timeout_ms", json!(row.timeout_ms)),
            ("filter", json!(Filter::of(row))),
            ("held", json!(row.held_at.is_some())),
            ("ed25519", json!(row.sealed_signing_key.is_some())),
        ]
    };
    let mut differences: Map<String, Value> = settings(before)
        .into_iter()
        .zip(settings(after))
        .filter(|(before, after)| before != after)
        .map(|((name, before), (_, after))| (name.to_owned(), json!([before, after])))
        .collect();
    for (name, differs) in [
        ("endpoint_url", before.url != after.url),
        ("description", before.description != after.description),
        ("headers", before.sealed_headers != after.sealed_headers),
    ] {
        if differs {
            differences.insert(name.to_owned(), json!("changed"));
        }
    }
    differences.into()
}

/// Changes an endpoint.
///
/// # Errors
/// There is none, its new URL is taken, its filter was changed too often, or the database fails.
pub async fn configure(
    store: &Store,
    actor: Actor,
    master_key: &MasterKey,
    id: EndpointId,
    changes: Changes,
) -> Result<endpoints::Model, Error> {
    let configure = Configure(actor, id, changes.prepare(master_key, id));
    let row = store.write(Lane::System, configure).await?;
    store.wake().endpoints_changed();
    Ok(row)
}
