//! Directories: making them, finding them, their settings and their states.
//!
//! A directory is `validating` until its provider is heard for the first time; then it is `linked`, and
//! `dsync.activated` is the first event of its log.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::address::{self, Address, LABELS_MAX};
use super::gate::{self, Denied, Management};
use super::{membership, token};
use crate::actor::Actor;
use crate::audit;
use crate::events::{self, Event, Kind};
use crate::ids::{DirectoryId, OrganizationId, ScimTokenId};
use crate::storage::tables::{directories, directory_activity, directory_addresses, organizations};
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};
use crate::tenancy::organization;

/// How many characters an external key has; 32 of them make 10^36 keys at 25 characters.
const EXTERNAL_KEY_LENGTH: usize = 26;

/// The directory types of the wire contract that a SCIM provider can have.
pub const KINDS: [&str; 9] = [
    "azure scim v2.0",
    "cyberark scim v2.0",
    "generic scim v2.0",
    "jump cloud scim v2.0",
    "okta scim v2.0",
    "onelogin scim v2.0",
    "pingfederate scim v2.0",
    "rippling",
    "sailpoint scim v2.0",
];

/// The state of a directory, in the vocabulary of the REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The provider has not been heard yet.
    Validating,
    /// The provider has been heard.
    Linked,
    /// It has been deleted; its rows go bit by bit.
    Deleting,
    /// It has been deleted, and only its own row is left.
    Deleted,
}

impl State {
    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Linked => "linked",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// Whether `directory` has not been deleted.
    pub fn is_open(directory: &directories::Model) -> bool {
        Self::Validating.is_of(directory) || Self::Linked.is_of(directory)
    }

    /// Whether `directory` is in this state.
    pub fn is_of(self, directory: &directories::Model) -> bool {
        directory.state == self.as_str()
    }
}

/// What a new directory is made from.
#[derive(Clone, Debug)]
pub struct NewDirectory {
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
    /// Its name.
    pub name: String,
    /// One of [`KINDS`].
    pub kind: &'static str,
}

/// What becomes of a setting that may be left without a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It has no value any more.
    Clear,
    /// It has this value.
    To(T),
}

/// For a field that may be left out (with `default`) or `null`.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::To))
    }
}

/// What changes about a directory.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Its name.
    pub name: Option<String>,
    /// Its label; the former one keeps answering.
    pub label: Change<Address>,
    /// The host name of its own; the former one does not answer any more.
    pub host_name: Change<Address>,
    /// Whether events tell of everybody in a group, also through groups in it, or of its direct members
    /// only. Switching makes the events of the difference.
    pub flatten_groups: Option<bool>,
}

/// Why a directory was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such organization.
    #[error("Organization not found: '{0}'.")]
    NoOrganization(OrganizationId),
    /// There is no such directory.
    #[error("Directory not found: '{0}'.")]
    NoDirectory(DirectoryId),
    /// The label is, or was, another directory's, or an external key.
    #[error("the label {0:?} belongs to another directory; choose another one")]
    LabelTaken(String),
    /// The host name is another directory's.
    #[error("the host name {0:?} belongs to another directory; choose another one")]
    HostNameTaken(String),
    /// The directory has as many labels as it can have.
    #[error("the directory has {LABELS_MAX} labels; remove former ones first")]
    TooManyLabels,
    /// The directory has no such label.
    #[error("the directory has no label {0:?}")]
    NoLabel(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

struct Create(Actor, NewDirectory);

impl UseCase for Create {
    type Answer = directories::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, Error> {
        let Self(actor, new) = self;
        let organization_id = new.organization_id;
        let organization = organizations::Entity::find_by_id(organization_id)
            .one(tx)
            .await?;
        if organization.is_none() {
            return Err(Error::NoOrganization(organization_id));
        }
        let id = DirectoryId::generate();
        let row = directories::Model {
            id,
            organization_id,
            external_key: external_key(),
            label: None,
            host_name: None,
            name: new.name.clone(),
            kind: new.kind.to_owned(),
            state: State::Validating.as_str().to_owned(),
            shard: shard_of(id),
            flatten_groups: false,
            management: Management::Provider.as_str().to_owned(),
            management_changed_by: None,
            management_changed_at: None,
            inactive_users: "retain".to_owned(),
            deliveries_held_at: None,
            writes_refused_at: None,
            writes_refused_by: None,
            deletion_due_at: None,
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        directories::Entity::insert(directories::ActiveModel::from(row.clone()))
            .exec_without_returning(tx)
            .await?;
        let address = directory_addresses::ActiveModel {
            address: ActiveValue::Set(row.external_key.clone()),
            directory_id: ActiveValue::Set(id),
            created_at: ActiveValue::Set(tx.now()),
        };
        directory_addresses::Entity::insert(address)
            .exec_without_returning(tx)
            .await?;
        let entry = audit::Entry::of_directory(&row, "directory.created", &id);
        audit::record(tx, *actor, entry).await?;
        Ok(row)
    }
}

/// Makes a directory for an organization.
///
/// # Errors
/// There is no such organization, or the database fails.
pub async fn create(
    store: &Store,
    actor: Actor,
    directory: NewDirectory,
) -> Result<directories::Model, Error> {
    store.write(Lane::System, Create(actor, directory)).await
}

/// Finds a directory by its id.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    id: DirectoryId,
) -> Result<Option<directories::Model>, DbErr> {
    directories::Entity::find_by_id(id).one(connection).await
}

/// When the provider of a directory was first and last heard.
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

struct Configure(Actor, DirectoryId, Changes);

impl UseCase for Configure {
    type Answer = directories::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, Error> {
        let Self(actor, id, changes) = self;
        let before = open(tx, *id)?;
        tx.act_as(*actor);
        let mut after = before.clone();
        if let Some(name) = &changes.name {
            after.name.clone_from(name);
        }
        relabel(tx, &mut after, &changes.label).await?;
        move_to_host(tx, &mut after, &changes.host_name).await?;
        if let Some(is_flat) = changes.flatten_groups {
            after.flatten_groups = is_flat;
        }
        if after.flatten_groups != before.flatten_groups {
            membership::announce_flattening(tx, &before, after.flatten_groups).await?;
        }
        if after == before {
            return Ok(before);
        }
        let entry = audit::Entry::of_directory(&before, "directory.configured", id);
        audit::record(tx, *actor, entry.with(differences(&before, &after))).await?;
        save(tx, after).await
    }
}

/// The settings that differ, with both values.
fn differences(before: &directories::Model, after: &directories::Model) -> serde_json::Value {
    let settings = |row: &directories::Model| {
        [
            ("name", json!(row.name)),
            ("label", json!(row.label)),
            ("host_name", json!(row.host_name)),
            ("flatten_groups", json!(row.flatten_groups)),
        ]
    };
    settings(before)
        .into_iter()
        .zip(settings(after))
        .filter(|(before, after)| before != after)
        .map(|((name, before), (_, after))| (name.to_owned(), json!([before, after])))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The locked directory, unless it has been deleted.
fn open(tx: &WriteTx, id: DirectoryId) -> Result<directories::Model, Error> {
    tx.directory()
        .map(|locked| locked.row.clone())
        .filter(State::is_open)
        .ok_or(Error::NoDirectory(id))
}

async fn relabel(
    tx: &WriteTx,
    directory: &mut directories::Model,
    change: &Change<Address>,
) -> Result<(), Error> {
    let label = match change {
        Change::Keep => return Ok(()),
        Change::Clear => None,
        Change::To(address) => Some(address.as_str().to_owned()),
    };
    if let Some(label) = &label {
        if *label == directory.external_key || !address::claim(tx, directory.id, label).await? {
            return Err(Error::LabelTaken(label.clone()));
        }
        if address::labels(tx, directory).await?.len() > LABELS_MAX {
            return Err(Error::TooManyLabels);
        }
    }
    directory.label = label;
    Ok(())
}

async fn move_to_host(
    tx: &WriteTx,
    directory: &mut directories::Model,
    change: &Change<Address>,
) -> Result<(), Error> {
    let host_name = match change {
        Change::Keep => return Ok(()),
        Change::Clear => None,
        Change::To(address) => Some(address.as_str().to_owned()),
    };
    if host_name == directory.host_name {
        return Ok(());
    }
    if let Some(host_name) = &host_name
        && !address::claim(tx, directory.id, host_name).await?
    {
        return Err(Error::HostNameTaken(host_name.clone()));
    }
    if let Some(former) = &directory.host_name {
        address::release(tx, directory.id, former).await?;
    }
    directory.host_name = host_name;
    Ok(())
}

/// Writes the settings of the locked directory.
async fn save(tx: &WriteTx, directory: directories::Model) -> Result<directories::Model, Error> {
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(directory.id),
        name: ActiveValue::Set(directory.name),
        label: ActiveValue::Set(directory.label),
        host_name: ActiveValue::Set(directory.host_name),
        flatten_groups: ActiveValue::Set(directory.flatten_groups),
        updated_at: ActiveValue::Set(tx.now()),
        ..Default::default()
    };
    let saved = directories::Entity::update(change).exec(tx).await?;
    tx.directory_changed(saved.id);
    Ok(saved)
}

/// Changes the settings of a directory.
///
/// # Errors
/// There is no such directory, an address is taken, or the database fails; then nothing is changed.
pub async fn configure(
    store: &Store,
    actor: Actor,
    id: DirectoryId,
    changes: Changes,
) -> Result<directories::Model, Error> {
    store
        .write(Lane::Directory(id), Configure(actor, id, changes))
        .await
}

struct RemoveLabel(Actor, DirectoryId, Address);

impl UseCase for RemoveLabel {
    type Answer = ();
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), Error> {
        let Self(actor, id, label) = self;
        let mut directory = open(tx, *id)?;
        let label = label.as_str();
        if label == directory.external_key || !address::release(tx, directory.id, label).await? {
            return Err(Error::NoLabel(label.to_owned()));
        }
        let entry = audit::Entry::of_directory(&directory, "directory.label_removed", id);
        audit::record(tx, *actor, entry.with(json!({"label": label}))).await?;
        if directory.label.as_deref() == Some(label) {
            directory.label = None;
            save(tx, directory).await?;
        }
        Ok(())
    }
}

/// Removes a label, in use or a former one: it stops answering, and may be another directory's.
///
/// # Errors
/// There is no such directory, it has no such label, or the database fails.
pub async fn remove_label(
    store: &Store,
    actor: Actor,
    id: DirectoryId,
    label: Address,
) -> Result<(), Error> {
    store
        .write(Lane::Directory(id), RemoveLabel(actor, id, label))
        .await
}

/// Checks under the lock that `actor` may write, and makes the directory `linked` if it is not yet.
///
/// Returns the directory as it is now.
pub(super) async fn enter<E>(tx: &WriteTx, actor: Actor) -> Result<directories::Model, E>
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

async fn set_state(
    tx: &WriteTx,
    id: DirectoryId,
    state: State,
) -> Result<directories::Model, DbErr> {
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(id),
        state: ActiveValue::Set(state.as_str().to_owned()),
        updated_at: ActiveValue::Set(tx.now()),
        ..Default::default()
    };
    directories::Entity::update(change).exec(tx).await
}

fn append(tx: &WriteTx, directory: &directories::Model, kind: Kind, data: serde_json::Value) {
    let event = Event {
        kind,
        user_id: None,
        group_id: None,
        names: Vec::new(),
        data,
    };
    events::append(tx, directory, &event);
}

struct Delete(Actor);

impl UseCase for Delete {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        let Some(directory) = tx.directory().map(|locked| locked.row.clone()) else {
            return Ok(());
        };
        if !State::is_open(&directory) {
            return Ok(());
        }
        tx.act_as(self.0);
        let entry = audit::Entry::of_directory(&directory, "directory.deleted", &directory.id);
        audit::record(tx, self.0, entry).await?;
        set_state(tx, directory.id, State::Deleting).await?;
        token::revoke_all(tx, directory.id).await?;
        tx.directory_changed(directory.id);
        // A directory that no provider ever reached has no story, so that nobody is told of its end.
        if State::Linked.is_of(&directory) {
            append(
                tx,
                &directory,
                Kind::Deleted,
                events::deleted_data(&directory),
            );
        }
        Ok(())
    }
}

/// Deletes a directory: its tokens end, `dsync.deleted` is the last event of its log, and its rows go
/// afterwards, bit by bit. Deleting twice is a success.
///
/// # Errors
/// The database fails.
pub async fn delete(store: &Store, actor: Actor, id: DirectoryId) -> Result<(), storage::Error> {
    store.write(Lane::Directory(id), Delete(actor)).await
}

/// Removes up to `rows_max` rows of directories that have been deleted; tells how many it removed.
///
/// # Errors
/// The database fails.
pub async fn remove_deleted(store: &Store, rows_max: u64) -> Result<u64, storage::Error> {
    let deleted = directories::Entity::find()
        .filter(directories::Column::State.eq(State::Deleting.as_str()))
        .all(store.dispatch_reader())
        .await?;
    let mut removed = 0;
    for directory in deleted {
        if removed >= rows_max {
            break;
        }
        let lane = Lane::Directory(directory.id);
        removed += store
            .write(lane, RemoveRows(directory.id, rows_max - removed))
            .await?;
    }
    Ok(removed)
}

struct RemoveRows(DirectoryId, u64);

impl UseCase for RemoveRows {
    type Answer = u64;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<u64, storage::Error> {
        let mut left = self.1;
        // Memberships first: removing their user or group would cascade to any number of them.
        for (table, key) in [
            ("memberships", "(group_id, user_id)"),
            ("group_members", "(group_id, member_id)"),
            ("user_emails", "(email_key, user_id)"),
            ("users", "(id)"),
            ("groups", "(id)"),
            ("scim_tokens", "(id)"),
            ("resource_counts", "(id)"),
            ("directory_addresses", "(address)"),
        ] {
            let columns = key.trim_matches(['(', ')']);
            let sql = format!(
                "DELETE FROM {table} WHERE directory_id = $1 AND {key} IN \
                 (SELECT {columns} FROM {table} WHERE directory_id = $1 LIMIT $2)"
            );
            let limit = i64::try_from(left).unwrap_or(i64::MAX);
            let statement = tx
                .dialect()
                .statement(&sql, [self.0.uuid().into(), limit.into()]);
            left = left.saturating_sub(tx.execute_raw(statement).await?.rows_affected());
            if left == 0 {
                break;
            }
        }
        if left == self.1 {
            set_state(tx, self.0, State::Deleted).await?;
        }
        Ok(self.1 - left)
    }
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
                    directory_id: ActiveValue::Unchanged(heard.directory_id),
                    first_request_at: ActiveValue::NotSet,
                    last_request_at: row.last_request_at,
                    last_token_id: row.last_token_id,
                };
                directory_activity::Entity::update(change).exec(tx).await?;
            }
        }
        Ok(())
    }
}

/// The shard of a directory: the first four bits of the SHA-256 of its id, fixed for good.
fn shard_of(id: DirectoryId) -> i16 {
    let digest = Sha256::digest(id.uuid().as_bytes());
    digest.first().map_or(0, |byte| i16::from(byte >> 4))
}

/// A key for URLs: lower-case letters and digits, because Okta's form refuses underscores.
fn external_key() -> String {
    let id = DirectoryId::from(crate::ids::random_uuid()).to_string();
    id.trim_start_matches(DirectoryId::PREFIX)
        .to_lowercase()
        .chars()
        .take(EXTERNAL_KEY_LENGTH)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::horizon;

    #[test]
    fn directories_spread_over_all_shards() {
        let mut seen = [0; horizon::SHARDS];
        for _ in 0..1_000 {
            seen[usize::try_from(shard_of(DirectoryId::generate())).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }

    #[test]
    fn an_external_key_has_no_underscore() {
        let key = external_key();
        assert_eq!(key.len(), EXTERNAL_KEY_LENGTH);
        assert!(
            key.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        );
    }
}
