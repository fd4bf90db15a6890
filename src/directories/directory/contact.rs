//! Providers at the door: who may come in, and who was heard when.
//!
//! The first authenticated request makes a directory `linked`.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait, QueryFilter as _,
};

use super::{State, append, set_state};
use crate::actor::Actor;
use crate::directories::gate::{self, Denied};
use crate::events::{self, Kind};
use crate::ids::{DirectoryId, ScimTokenId};
use crate::storage::tables::{directories, directory_activity};
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};
use crate::tenancy::organization;

/// Checks under the lock that `actor` may write, and makes the directory `linked` if it is not yet.
///
/// Returns the directory as it is now.
pub(in crate::directories) async fn enter<E>(
    tx: &WriteTx,
    actor: Actor,
) -> Result<directories::Model, E>
where
    E: From<Denied> + From<DbErr>,
{
    let locked = tx.directory().ok_or(Denied::NoDirectory)?;
    gate::admit(locked, actor.who)?;
    gate::check(&locked.row, actor.who)?;
    tx.act_as(actor);
    Ok(activated(tx, locked.row.clone()).await?)
}

/// The directory, `linked` now if it was not yet.
async fn activated(
    tx: &WriteTx,
    directory: directories::Model,
) -> Result<directories::Model, DbErr> {
    if State::Validating.is_of(&directory) {
        return activate(tx, &directory).await;
    }
    Ok(directory)
}

async fn activate(
    tx: &WriteTx,
    directory: &directories::Model,
) -> Result<directories::Model, DbErr> {
    let activated = set_state(tx, directory.id, State::Linked).await?;
    tx.directory_changed(directory.id);
    let domains = organization::domains(tx, directory.organization_id).await?;
    append(
        tx,
        &activated,
        Kind::Activated,
        events::activated_data(&activated, &domains),
    );
    Ok(activated)
}

struct Activate(Actor);

/// Why a first contact was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The actor may not write.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for ActivateError {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

impl UseCase for Activate {
    type Answer = ();
    type Error = ActivateError;

    async fn run(&self, tx: &WriteTx) -> Result<(), ActivateError> {
        let locked = tx.directory().ok_or(Denied::NoDirectory)?;
        gate::admit(locked, self.0.who)?;
        tx.act_as(self.0);
        activated(tx, locked.row.clone()).await?;
        Ok(())
    }
}

/// Makes a directory `linked` because its provider was heard, reading or writing.
///
/// # Errors
/// The token is no longer valid, or the database fails.
pub async fn contact(store: &Store, id: DirectoryId, actor: Actor) -> Result<(), ActivateError> {
    store.write(Lane::Directory(id), Activate(actor)).await
}

/// When the provider of a directory was first and last heard, if it was.
///
/// # Errors
/// The database fails.
pub async fn activity(
    connection: &impl ConnectionTrait,
    id: DirectoryId,
) -> Result<Option<directory_activity::Model>, DbErr> {
    directory_activity::Entity::find_by_id(id)
        .one(connection)
        .await
}

/// When the provider of a directory was heard, first and last, and with which token last.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// The directory.
    pub directory_id: DirectoryId,
    /// When it was heard first.
    pub first: DateTime<Utc>,
    /// When it was heard last.
    pub last: DateTime<Utc>,
    /// By which token it was heard last.
    pub token_id: ScimTokenId,
}

/// Records that providers were heard: one row per directory and batch.
///
/// # Errors
/// The database fails.
pub async fn record_activity(store: &Store, heard: Vec<Heard>) -> Result<(), storage::Error> {
    store.write(Lane::System, RecordActivity(heard)).await
}

struct RecordActivity(Vec<Heard>);

impl UseCase for RecordActivity {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        for heard in &self.0 {
            let row = directory_activity::ActiveModel {
                directory_id: ActiveValue::Set(heard.directory_id),
                first_request_at: ActiveValue::Set(heard.first),
                last_request_at: ActiveValue::Set(heard.last),
                last_token_id: ActiveValue::Set(Some(heard.token_id)),
            };
            if !insert_new(tx, row.clone()).await? {
                let change = directory_activity::ActiveModel {
                    last_request_at: row.last_request_at,
                    last_token_id: row.last_token_id,
                    ..Default::default()
                };
                // Another node may have heard, and written down, what came later.
                directory_activity::Entity::update_many()
                    .set(change)
                    .filter(directory_activity::Column::DirectoryId.eq(heard.directory_id))
                    .filter(directory_activity::Column::LastRequestAt.lte(heard.last))
                    .exec(tx)
                    .await?;
            }
        }
        Ok(())
    }
}
