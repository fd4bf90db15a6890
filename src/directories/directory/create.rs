//! Making directories.

use sea_orm::{ActiveValue, EntityTrait, QuerySelect, sea_query::LockType};
use sha2::{Digest as _, Sha256};

use super::{Error, State};
use crate::actor::Actor;
use crate::audit;
use crate::directories::gate::Management;
use crate::ids::{DirectoryId, OrganizationId};
use crate::storage::tables::{directories, directory_addresses, organizations};
use crate::storage::{Lane, Store, UseCase, WriteTx};

/// How many characters an external key has; 32 of them make 10^36 keys at 25 characters.
const EXTERNAL_KEY_LENGTH: usize = 26;

/// What a new directory is made from.
#[derive(Clone, Debug)]
pub struct NewDirectory {
    /// The organization that it belongs to.
    pub organization_id: OrganizationId,
    /// Its name.
    pub name: String,
    /// One of [`KINDS`](super::KINDS).
    pub kind: &'static str,
}

struct Create(Actor, NewDirectory);

impl UseCase for Create {
    type Answer = directories::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, Error> {
        let Self(actor, new) = self;
        let organization_id = new.organization_id;
        // Whoever deletes the organization meanwhile waits, and finds this directory.
        let organization = organizations::Entity::find_by_id(organization_id)
            .lock(LockType::Share)
            .one(tx)
            .await?
            .ok_or(Error::NoOrganization(organization_id))?;
        if let Some(due_at) = organization.deletion_due_at {
            return Err(Error::OrganizationDeleting(due_at));
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
            aligning_since: None,
            has_unsettled: false,
            deliveries_held_at: None,
            deliveries_held_by: None,
            guard: None,
            guard_held_at: None,
            writes_refused_at: None,
            writes_refused_by: None,
            deletion_due_at: None,
            deletion_with_organization: false,
            rows_removed: 0,
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
/// There is no such organization, it is going to be deleted, or the database fails.
pub async fn create(
    store: &Store,
    actor: Actor,
    directory: NewDirectory,
) -> Result<directories::Model, Error> {
    store.write(Lane::System, Create(actor, directory)).await
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
