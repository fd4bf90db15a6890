//! The settings of directories.

use sea_orm::{ActiveValue, EntityTrait};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::{Error, standing};
use crate::actor::Actor;
use crate::audit;
use crate::directories::address::{self, Address, LABELS_MAX};
use crate::directories::membership;
use crate::ids::DirectoryId;
use crate::storage::tables::directories;
use crate::storage::{Lane, Store, UseCase, WriteTx};

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

struct Configure(Actor, DirectoryId, Changes);

impl UseCase for Configure {
    type Answer = directories::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, Error> {
        let Self(actor, id, changes) = self;
        let before = standing(tx, *id)?;
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
        if label_count(tx, directory).await? > LABELS_MAX {
            return Err(Error::TooManyLabels);
        }
    }
    directory.label = label;
    Ok(())
}

async fn label_count(tx: &WriteTx, directory: &directories::Model) -> Result<usize, Error> {
    let labels = address::labels(tx, std::slice::from_ref(directory)).await?;
    Ok(labels.values().map(Vec::len).sum())
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
/// There is no such directory, it is going to be deleted, an address is taken, or the database fails; then
/// nothing is changed.
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
        let mut directory = standing(tx, *id)?;
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
/// There is no such directory, it is going to be deleted, it has no such label, or the database fails.
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
