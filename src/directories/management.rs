//! Who is master of a directory's users and groups, and what is not settled between the two masters.
//!
//! While the vendor is master, or writes are paused, the provider's writes are refused and noted
//! ([`super::refused`]), and what is changed by hand is noted too ([`super::drift`]). The provider's next
//! write about somebody that succeeds, also one that finds nothing to change, settles what was noted of
//! them. Whether anything is noted at all stands in the directory's row, which a writer has at hand.

use sea_orm::{ActiveValue, ConnectionTrait, DbErr, EntityTrait};
use serde_json::json;

use super::drift::{self, What};
use super::gate::{self, Management, SettingError};
use super::refused;
use super::resource::ResourceKind;
use crate::actor::{Actor, Who};
use crate::audit;
use crate::ids::{DirectoryId, ResourceId};
use crate::requests::Subject;
use crate::storage::tables::directories;
use crate::storage::{Lane, Store, UseCase, WriteTx};

/// Whom a write was about.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    pub(super) kind: ResourceKind,
    pub(super) id: ResourceId,
    /// What it is called now, and then what it was called before.
    pub(super) names: Vec<Subject>,
    /// What people call it.
    pub(super) label: String,
}

impl Touched {
    /// A resource that is not there.
    pub(super) fn gone(kind: ResourceKind, id: ResourceId) -> Self {
        Self {
            kind,
            id,
            names: Vec::new(),
            label: String::new(),
        }
    }
}

/// How much is not settled in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// The people and groups about whom writes were refused.
    pub refused_writes: u64,
    /// The people and groups that were changed by hand.
    pub drift: u64,
}

struct Switch {
    actor: Actor,
    described: String,
    to: Management,
}

impl UseCase for Switch {
    type Answer = directories::Model;
    type Error = SettingError;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, SettingError> {
        let directory = gate::open(tx)?;
        if self.to.is_of(&directory) {
            return Ok(directory);
        }
        let details = json!({"management": [directory.management, self.to.as_str()]});
        let entry = audit::Entry::of_directory(&directory, "directory.configured", &directory.id);
        audit::record(tx, self.actor, entry.with(details)).await?;
        let change = directories::ActiveModel {
            id: ActiveValue::Unchanged(directory.id),
            management: ActiveValue::Set(self.to.as_str().to_owned()),
            management_changed_by: ActiveValue::Set(Some(self.described.clone())),
            management_changed_at: ActiveValue::Set(Some(tx.now())),
            updated_at: ActiveValue::Set(tx.now()),
            ..Default::default()
        };
        let changed = directories::Entity::update(change).exec(tx).await?;
        tx.directory_changed(changed.id);
        Ok(changed)
    }
}

/// Makes somebody master of a directory's users and groups; `described` is who asked for it.
///
/// # Errors
/// There is no such directory, or the database fails; then nothing is changed.
pub async fn switch(
    store: &Store,
    actor: Actor,
    described: String,
    directory_id: DirectoryId,
    to: Management,
) -> Result<directories::Model, SettingError> {
    let use_case = Switch {
        actor,
        described,
        to,
    };
    store.write(Lane::Directory(directory_id), use_case).await
}

/// Counts what is not settled in a directory.
///
/// # Errors
/// The database fails.
pub async fn unsettled(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
) -> Result<Unsettled, DbErr> {
    Ok(Unsettled {
        refused_writes: refused::count(connection, directory_id).await?,
        drift: drift::count(connection, directory_id).await?,
    })
}

/// Follows a write that succeeded: what the provider wrote is settled, what was changed by hand is noted.
/// `what` is what changed, if anything did.
pub(super) async fn written(
    tx: &WriteTx,
    directory: &directories::Model,
    actor: Actor,
    what: Option<What>,
    touched: &Touched,
) -> Result<(), DbErr> {
    match (actor.who, what) {
        (Who::Provider(_), _) if directory.has_unsettled => {
            let refused = refused::clear(tx, directory.id, touched).await?;
            let drifted = drift::clear(tx, directory.id, touched).await?;
            if refused + drifted > 0 {
                relax(tx, directory.id).await?;
            }
            Ok(())
        }
        (Who::Api(_) | Who::Command, Some(what)) => {
            drift::note(tx, directory, actor, what, touched).await
        }
        (Who::Provider(_) | Who::Api(_) | Who::Command | Who::System, _) => Ok(()),
    }
}

/// Has writers look for what is not settled from now on.
pub(super) async fn alert(tx: &WriteTx, directory: &directories::Model) -> Result<(), DbErr> {
    if directory.has_unsettled {
        return Ok(());
    }
    mark(tx, directory.id, true).await
}

/// Has writers look no longer, if all is settled.
pub(super) async fn relax(tx: &WriteTx, directory_id: DirectoryId) -> Result<(), DbErr> {
    if unsettled(tx, directory_id).await? != Unsettled::default() {
        return Ok(());
    }
    mark(tx, directory_id, false).await
}

async fn mark(tx: &WriteTx, directory_id: DirectoryId, has_unsettled: bool) -> Result<(), DbErr> {
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(directory_id),
        has_unsettled: ActiveValue::Set(has_unsettled),
        ..Default::default()
    };
    directories::Entity::update(change).exec(tx).await?;
    tx.directory_changed(directory_id);
    Ok(())
}
