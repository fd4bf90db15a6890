//! `rollcall key rotate`: one master key takes over from another.

use std::sync::Arc;

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sea_orm::{ActiveValue, EntityTrait};

use super::print_line;
use crate::actor::Actor;
use crate::app::{self, MASTER_KEY_CHECK};
use crate::audit;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::secrets::MasterKey;
use crate::storage::schema::read_fact;
use crate::storage::tables::facts;
use crate::storage::{Error, Lane, Opener, Store, UseCase, WriteTx};
use crate::tenancy::idempotency;
use crate::webhooks::endpoint;

/// Seals everything with the newest key. What was done stays done if it is broken off, and the keys are
/// all needed until it has come to its end.
pub(super) async fn rotate(config: &Config) -> anyhow::Result<bool> {
    let (store, master_key) = app::open(config, Opener::Command, Arc::new(SystemClock)).await?;
    let rotated = run(&store, Arc::new(master_key)).await;
    store.close().await;
    let (endpoints, answers) = rotated?;
    print_line(&format!(
        "Sealed with the newest master key: the secrets of {endpoints} webhook endpoint(s), {answers} kept \
         answer(s). The older keys open nothing any more: take them out on every node and restart it. \
         Keep them with the backups that were made until now."
    ))?;
    Ok(true)
}

async fn run(store: &Store, master_key: Arc<MasterKey>) -> anyhow::Result<(u64, u64)> {
    if !master_key.has_older() {
        bail!(
            "there is only one master key: make another one with `rollcall key new`, put it in front of \
             the old one on every node, restart the nodes, and run this again"
        );
    }
    let (mut endpoints, mut answers) = (0, 0);
    loop {
        let found = (
            endpoint::reseal(store, &master_key).await?,
            idempotency::reseal(store, &master_key).await?,
        );
        endpoints += found.0;
        answers += found.1;
        // A server that began before the new key was in front may have sealed something meanwhile.
        if found == (0, 0) {
            break;
        }
    }
    store.write(Lane::System, Finish(master_key)).await??;
    Ok((endpoints, answers))
}

/// Seals the check value, from when on the newest key is needed and the older ones are not.
struct Finish(Arc<MasterKey>);

impl UseCase for Finish {
    type Answer = Result<(), crate::secrets::SecretError>;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Self::Answer, Error> {
        let stored = read_fact(tx, MASTER_KEY_CHECK).await?.unwrap_or_default();
        let stored = STANDARD.decode(stored).unwrap_or_default();
        let sealed = match self.0.reseal_check_value(&stored) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let fact = facts::ActiveModel {
            name: ActiveValue::Unchanged(MASTER_KEY_CHECK.to_owned()),
            value: ActiveValue::Set(STANDARD.encode(sealed)),
        };
        facts::Entity::update(fact).exec(tx).await?;
        let entry = audit::Entry::of_installation("master_key.rotated", &"master_key");
        audit::record(tx, Actor::COMMAND, entry).await?;
        Ok(Ok(()))
    }
}
