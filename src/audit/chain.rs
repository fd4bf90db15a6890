//! The chains: each organization's entries under gapless numbers, each with a digest that covers the entry
//! and the digest before it.

use std::collections::BTreeMap;

use sea_orm::sea_query::{LockType, OnConflict};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect,
};
use uuid::Uuid;

use super::key::{Digest, Key};
use crate::ids::OrganizationId;
use crate::storage::tables::{audit_chains, audit_entries, audit_seals};
use crate::storage::{WriteTx, insert_new};

/// What the first entry of a chain follows.
pub(super) const START: Digest = [0; 32];

/// The chain of an entry; entries of no organization have one together, under the nil id.
pub(super) fn chain_of(entry: &audit_entries::Model) -> OrganizationId {
    entry.organization_id.unwrap_or_else(nobody)
}

fn nobody() -> OrganizationId {
    OrganizationId::from(Uuid::nil())
}

/// Makes this transaction the only one that changes chains, until it ends.
pub(super) async fn lock(tx: &WriteTx) -> Result<(), DbErr> {
    insert_new(tx, end(nobody(), 0, &START)).await?;
    audit_chains::Entity::find_by_id(nobody())
        .lock(LockType::Update)
        .one(tx)
        .await
        .map(drop)
}

/// Appends `entries` to their chains, in their order. The chains must be locked.
pub(super) async fn append(
    tx: &WriteTx,
    key: &Key,
    entries: &[audit_entries::Model],
) -> Result<(), DbErr> {
    let mut ends = ends_of(tx, entries).await?;
    let mut seals = Vec::with_capacity(entries.len());
    for entry in entries {
        let organization_id = chain_of(entry);
        let (number, digest) = ends
            .entry(organization_id)
            .or_insert_with(|| (0, START.to_vec()));
        *number += 1;
        *digest = key.link(digest, entry, *number).to_vec();
        seals.push(audit_seals::ActiveModel {
            organization_id: ActiveValue::Set(organization_id),
            number: ActiveValue::Set(*number),
            entry_id: ActiveValue::Set(entry.id),
            digest: ActiveValue::Set(digest.clone()),
        });
    }
    audit_seals::Entity::insert_many(seals)
        .exec_without_returning(tx)
        .await?;
    let ends = ends
        .iter()
        .map(|(organization_id, (number, digest))| end(*organization_id, *number, digest));
    let mut replaced = OnConflict::column(audit_chains::Column::OrganizationId);
    replaced.update_columns([audit_chains::Column::Number, audit_chains::Column::Digest]);
    audit_chains::Entity::insert_many(ends)
        .on_conflict(replaced)
        .exec_without_returning(tx)
        .await
        .map(drop)
}

/// The last number and digest of each chain that `entries` go to.
async fn ends_of(
    connection: &impl ConnectionTrait,
    entries: &[audit_entries::Model],
) -> Result<BTreeMap<OrganizationId, (i64, Vec<u8>)>, DbErr> {
    let rows = audit_chains::Entity::find()
        .filter(audit_chains::Column::OrganizationId.is_in(entries.iter().map(chain_of)))
        .all(connection)
        .await?;
    let ends = rows
        .into_iter()
        .map(|row| (row.organization_id, (row.number, row.digest)));
    Ok(ends.collect())
}

fn end(organization_id: OrganizationId, number: i64, digest: &[u8]) -> audit_chains::ActiveModel {
    audit_chains::ActiveModel {
        organization_id: ActiveValue::Set(organization_id),
        number: ActiveValue::Set(number),
        digest: ActiveValue::Set(digest.to_vec()),
    }
}
