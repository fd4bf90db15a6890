//! Verifying: recomputes the chains and names the first row that is not as it was written.
//!
//! It reads in pages beside a running server, so that what looks wrong is looked at again where sealing or
//! retention may have been at work in between.

mod fault;

pub use fault::{Fault, Place, Report};

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Key;
use super::heads::{self, HeadsError, Note};
use super::retention;
use crate::ids::{AuditEntryId, OrganizationId};
use crate::storage::Store;
use crate::storage::tables::{
    audit_anchors, audit_chains, audit_entries, audit_seals, audit_waiting,
};

const PAGE: usize = 500;
/// A sealer needs a second or two.
const WAITING_SECONDS_MAX: i64 = 60;

/// Verifies everything, with the heads in this file if there is one.
///
/// # Errors
/// The database fails, or the file cannot be read.
pub async fn verify(
    store: &Store,
    key: &Key,
    heads: Option<&Path>,
    now: DateTime<Utc>,
) -> Result<Report, HeadsError> {
    let mut verifier = Verifier {
        store,
        key,
        report: Report::default(),
    };
    let mut fault = verifier.chains().await?;
    if fault.is_none() {
        fault = verifier.entries(now).await?;
    }
    if let (None, Some(path)) = (&fault, heads) {
        fault = verifier.heads(path).await?;
    }
    verifier.report.fault = fault;
    Ok(verifier.report)
}

struct Verifier<'a> {
    store: &'a Store,
    key: &'a Key,
    report: Report,
}

type Found = Result<Option<Fault>, DbErr>;

impl Verifier<'_> {
    /// Walks all chains.
    async fn chains(&mut self) -> Found {
        let mut last: Option<OrganizationId> = None;
        loop {
            let mut page = audit_chains::Entity::find()
                .order_by_asc(audit_chains::Column::OrganizationId)
                .limit(limit());
            if let Some(last) = last {
                page = page.filter(audit_chains::Column::OrganizationId.gt(last));
            }
            let rows = page.all(self.store.reader()).await?;
            if rows.is_empty() {
                return Ok(None);
            }
            for row in rows {
                last = Some(row.organization_id);
                if let Some(fault) = self.chain(&row).await? {
                    return Ok(Some(fault));
                }
            }
        }
    }

    /// Walks a chain, and again if retention has shortened it meanwhile.
    async fn chain(&mut self, end: &audit_chains::Model) -> Found {
        loop {
            let before = self.report.entries;
            let anchor = self.anchor(end.organization_id).await?;
            let Some(fault) = self.walk(end, anchor.as_ref()).await? else {
                return Ok(None);
            };
            if self.anchor(end.organization_id).await? == anchor {
                return Ok(Some(fault));
            }
            self.report.entries = before;
        }
    }

    async fn anchor(
        &self,
        organization_id: OrganizationId,
    ) -> Result<Option<audit_anchors::Model>, DbErr> {
        retention::anchor_of(self.store.reader(), organization_id).await
    }

    async fn walk(
        &mut self,
        end: &audit_chains::Model,
        anchor: Option<&audit_anchors::Model>,
    ) -> Found {
        let organization_id = end.organization_id;
        let place = |number| Place {
            organization_id,
            number,
        };
        let Some((mut number, mut digest)) = retention::start(self.key, organization_id, anchor)
        else {
            let number = anchor.map_or(0, |anchor| anchor.number);
            return Ok(Some(Fault::FrontRemoved(place(number))));
        };
        loop {
            let (seals, entries) = self.page(organization_id, number).await?;
            if seals.is_empty() {
                break;
            }
            for seal in seals {
                if seal.number != number + 1 {
                    return Ok(Some(Fault::SealDeleted(place(number + 1))));
                }
                number = seal.number;
                let Some(entry) = entries.get(&seal.entry_id) else {
                    return Ok(Some(Fault::EntryDeleted(place(number), seal.entry_id)));
                };
                if self.key.link(&digest, entry, number).as_slice() != seal.digest {
                    return Ok(Some(Fault::Altered(place(number), seal.entry_id)));
                }
                digest = seal.digest;
                self.report.entries += 1;
            }
        }
        Ok((number < end.number).then(|| Fault::Truncated(place(number + 1))))
    }

    /// The seals of a chain after `number`, and their entries.
    async fn page(
        &self,
        organization_id: OrganizationId,
        number: i64,
    ) -> Result<
        (
            Vec<audit_seals::Model>,
            HashMap<AuditEntryId, audit_entries::Model>,
        ),
        DbErr,
    > {
        let seals = audit_seals::Entity::find()
            .filter(audit_seals::Column::OrganizationId.eq(organization_id))
            .filter(audit_seals::Column::Number.gt(number))
            .order_by_asc(audit_seals::Column::Number)
            .limit(limit())
            .all(self.store.reader())
            .await?;
        let entries = audit_entries::Entity::find()
            .filter(audit_entries::Column::Id.is_in(seals.iter().map(|seal| seal.entry_id)))
            .all(self.store.reader())
            .await?;
        let entries = entries.into_iter().map(|entry| (entry.id, entry));
        Ok((seals, entries.collect()))
    }

    /// Looks for entries that no chain has.
    async fn entries(&self, now: DateTime<Utc>) -> Found {
        let mut last: Option<AuditEntryId> = None;
        loop {
            let mut page = audit_entries::Entity::find()
                .select_only()
                .columns([audit_entries::Column::Id, audit_entries::Column::CreatedAt])
                .order_by_asc(audit_entries::Column::Id)
                .limit(limit());
            if let Some(last) = last {
                page = page.filter(audit_entries::Column::Id.gt(last));
            }
            let rows: Vec<(AuditEntryId, DateTime<Utc>)> =
                page.into_tuple().all(self.store.reader()).await?;
            let Some((newest, _)) = rows.last() else {
                return Ok(None);
            };
            last = Some(*newest);
            if let Some(fault) = self.unsealed(&rows, now).await? {
                return Ok(Some(fault));
            }
        }
    }

    async fn unsealed(&self, rows: &[(AuditEntryId, DateTime<Utc>)], now: DateTime<Utc>) -> Found {
        // In this order: what is sealed in between is found once or twice, and not missed.
        let waiting = self.waiting(rows).await?;
        let sealed = self.sealed(rows).await?;
        let latest = now - TimeDelta::seconds(WAITING_SECONDS_MAX);
        for (id, created_at) in rows {
            if waiting.contains(id) {
                if *created_at < latest {
                    return Ok(Some(Fault::Waiting(*id, *created_at)));
                }
            } else if !sealed.contains(id) && self.is_there(*id).await? {
                return Ok(Some(Fault::Unsealed(*id)));
            }
        }
        Ok(None)
    }

    async fn waiting(
        &self,
        rows: &[(AuditEntryId, DateTime<Utc>)],
    ) -> Result<BTreeSet<AuditEntryId>, DbErr> {
        let found = audit_waiting::Entity::find()
            .filter(audit_waiting::Column::EntryId.is_in(rows.iter().map(|(id, _)| *id)))
            .all(self.store.reader())
            .await?;
        Ok(found.into_iter().map(|row| row.entry_id).collect())
    }

    /// The entries that are in chains which exist, and so were walked.
    async fn sealed(
        &self,
        rows: &[(AuditEntryId, DateTime<Utc>)],
    ) -> Result<BTreeSet<AuditEntryId>, DbErr> {
        let seals = audit_seals::Entity::find()
            .filter(audit_seals::Column::EntryId.is_in(rows.iter().map(|(id, _)| *id)))
            .all(self.store.reader())
            .await?;
        let owners: BTreeSet<_> = seals.iter().map(|seal| seal.organization_id).collect();
        let chains: BTreeSet<OrganizationId> = audit_chains::Entity::find()
            .filter(audit_chains::Column::OrganizationId.is_in(owners))
            .all(self.store.reader())
            .await?
            .into_iter()
            .map(|chain| chain.organization_id)
            .collect();
        let in_chains = seals
            .into_iter()
            .filter(|seal| chains.contains(&seal.organization_id));
        Ok(in_chains.map(|seal| seal.entry_id).collect())
    }

    /// Retention may have removed it since it was read.
    async fn is_there(&self, id: AuditEntryId) -> Result<bool, DbErr> {
        let found = audit_entries::Entity::find_by_id(id).one(self.store.reader());
        Ok(found.await?.is_some())
    }

    /// Compares the chains with what heads have noted of them.
    async fn heads(&mut self, path: &Path) -> Result<Option<Fault>, HeadsError> {
        let lines = read_lines(path.to_owned()).await?;
        let mut notes = Vec::new();
        for (line, number) in lines.iter().zip(1..) {
            let Some(found) = heads::read(self.key, line) else {
                return Ok(Some(Fault::HeadAltered(number)));
            };
            self.report.heads += 1;
            notes.extend(found);
        }
        for notes in notes.chunks(PAGE) {
            if let Some(fault) = self.compare(notes).await? {
                return Ok(Some(fault));
            }
        }
        Ok(None)
    }

    async fn compare(&self, notes: &[Note]) -> Found {
        let noted = notes.iter().fold(Condition::any(), |any, note| {
            let place = Condition::all()
                .add(audit_seals::Column::OrganizationId.eq(note.organization_id))
                .add(audit_seals::Column::Number.eq(note.number));
            any.add(place)
        });
        let seals: HashMap<_, _> = audit_seals::Entity::find()
            .filter(noted)
            .all(self.store.reader())
            .await?
            .into_iter()
            .map(|seal| ((seal.organization_id, seal.number), seal.digest))
            .collect();
        let owners: BTreeSet<_> = notes.iter().map(|note| note.organization_id).collect();
        let removed: HashMap<_, _> = audit_anchors::Entity::find()
            .filter(audit_anchors::Column::OrganizationId.is_in(owners))
            .all(self.store.reader())
            .await?
            .into_iter()
            .map(|anchor| (anchor.organization_id, anchor.number))
            .collect();
        for note in notes {
            let place = Place {
                organization_id: note.organization_id,
                number: note.number,
            };
            let is_removed = removed
                .get(&note.organization_id)
                .is_some_and(|number| *number >= note.number);
            match seals.get(&(note.organization_id, note.number)) {
                Some(digest) if *digest != note.digest => {
                    return Ok(Some(Fault::Replaced(place)));
                }
                None if !is_removed => return Ok(Some(Fault::Truncated(place))),
                Some(_) | None => {}
            }
        }
        Ok(None)
    }
}

/// The whole lines of a file; what follows the last of them is still being written.
async fn read_lines(path: PathBuf) -> Result<Vec<String>, HeadsError> {
    let text = tokio::fs::read_to_string(&path).await;
    let text = text.map_err(|source| HeadsError::File { path, source })?;
    let (lines, _) = text.rsplit_once('\n').unwrap_or_default();
    Ok(lines.lines().map(str::to_owned).collect())
}

fn limit() -> u64 {
    u64::try_from(PAGE).unwrap_or(u64::MAX)
}
