//! Erasing a person from the request log.

use std::collections::BTreeSet;

use sea_orm::{ActiveValue, ColumnTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};

use super::PAGE_ROWS;
use super::traces::Traces;
use crate::ids::{DirectoryId, RequestId};
use crate::storage::tables::{scim_request_subjects, scim_requests};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// Overwrites what was asked about a person, and what made their events; returns how many requests.
pub(super) async fn erase(
    store: &Store,
    directory_id: DirectoryId,
    traces: &Traces,
) -> Result<u64, storage::Error> {
    let mut erased = BTreeSet::new();
    for subject in &traces.subjects {
        loop {
            let ids = requests_about(store, directory_id, subject).await?;
            if ids.is_empty() {
                break;
            }
            let subject = Some(subject.clone());
            erased.extend(wipe(store, directory_id, ids, subject).await?);
        }
    }
    let caused: Vec<RequestId> = traces.requests.iter().copied().collect();
    for ids in caused.chunks(usize::try_from(PAGE_ROWS).unwrap_or(usize::MAX)) {
        erased.extend(wipe(store, directory_id, ids.to_vec(), None).await?);
    }
    Ok(u64::try_from(erased.len()).unwrap_or(u64::MAX))
}

async fn requests_about(
    store: &Store,
    directory_id: DirectoryId,
    subject: &str,
) -> Result<Vec<RequestId>, DbErr> {
    scim_request_subjects::Entity::find()
        .select_only()
        .column(scim_request_subjects::Column::RequestId)
        .filter(scim_request_subjects::Column::DirectoryId.eq(directory_id))
        .filter(scim_request_subjects::Column::Subject.eq(subject))
        .limit(PAGE_ROWS)
        .into_tuple()
        .all(store.reader())
        .await
}

async fn wipe(
    store: &Store,
    directory_id: DirectoryId,
    ids: Vec<RequestId>,
    subject: Option<String>,
) -> Result<Vec<RequestId>, storage::Error> {
    let wipe = Wipe {
        directory_id,
        ids,
        subject,
    };
    store.write(Lane::System, wipe).await
}

/// Takes from requests what may name a person, and from `subject` that they were about them.
struct Wipe {
    directory_id: DirectoryId,
    ids: Vec<RequestId>,
    subject: Option<String>,
}

impl UseCase for Wipe {
    type Answer = Vec<RequestId>;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<Vec<RequestId>, storage::Error> {
        use scim_requests::Column;
        let rows: Vec<(RequestId, String)> = scim_requests::Entity::find()
            .select_only()
            .columns([Column::Id, Column::Path])
            .filter(Column::DirectoryId.eq(self.directory_id))
            .filter(Column::Id.is_in(self.ids.iter().copied()))
            .into_tuple()
            .all(tx)
            .await?;
        for (id, path) in &rows {
            let change = scim_requests::ActiveModel {
                directory_id: ActiveValue::Unchanged(self.directory_id),
                id: ActiveValue::Unchanged(*id),
                path: ActiveValue::Set(path.split('?').next().unwrap_or_default().to_owned()),
                detail: ActiveValue::Set(None),
                request_body: ActiveValue::Set(None),
                response_body: ActiveValue::Set(None),
                ..Default::default()
            };
            scim_requests::Entity::update(change).exec(tx).await?;
        }
        if let Some(subject) = &self.subject {
            use scim_request_subjects::Column;
            scim_request_subjects::Entity::delete_many()
                .filter(Column::DirectoryId.eq(self.directory_id))
                .filter(Column::Subject.eq(subject.as_str()))
                .filter(Column::RequestId.is_in(self.ids.iter().copied()))
                .exec(tx)
                .await?;
        }
        Ok(rows.into_iter().map(|(id, _)| id).collect())
    }
}
