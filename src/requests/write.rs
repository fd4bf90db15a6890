//! Writing records down: what is known of refused tokens and of addresses is found here, a batch at a
//! time, so that no request has to.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::situations::{self, Seen, TokenState};
use super::{Place, Presented, Record};
use crate::directories::directory::State;
use crate::ids::{DirectoryId, ScimTokenId};
use crate::storage::dialect::ColumnKind::{self, Integer, Text, Time, Uuid};
use crate::storage::dialect::time_text;
use crate::storage::tables::{directories, directory_addresses, scim_tokens};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// The columns of `scim_requests`.
const ROW: [(&str, ColumnKind); 16] = [
    ("directory_id", Uuid),
    ("id", Uuid),
    ("created_at", Time),
    ("method", Text),
    ("path", Text),
    ("status", Integer),
    ("duration_ms", Integer),
    ("token_id", Uuid),
    ("token_suffix", Text),
    ("user_agent", Text),
    ("address", Text),
    ("scim_type", Text),
    ("detail", Text),
    ("situation", Text),
    ("request_body", Text),
    ("response_body", Text),
];

/// The columns of `scim_request_subjects`.
const SUBJECT: [(&str, ColumnKind); 3] = [
    ("directory_id", Uuid),
    ("subject", Text),
    ("request_id", Uuid),
];

/// Writes records down, all or none; those for no directory of ours are left out. Writing a record
/// again changes nothing.
pub(super) async fn write(store: &Store, records: &[Record]) -> Result<(), storage::Error> {
    let known = Known::read(store, records).await?;
    let (mut rows, mut subjects) = (Vec::new(), Vec::new());
    for record in records {
        let Some((directory_id, is_open)) = known.directory(record) else {
            continue;
        };
        rows.push(known.row(record, directory_id, is_open));
        for subject in &record.subjects {
            let Some(key) = subject.key() else { continue };
            subjects.push(json!({
                "directory_id": directory_id.uuid(),
                "subject": key,
                "request_id": record.id.uuid(),
            }));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let write = Write {
        rows: Value::Array(rows).to_string(),
        subjects: Value::Array(subjects).to_string(),
    };
    store.write(Lane::System, write).await
}

/// What is known of the addresses and refused tokens of a batch.
struct Known {
    directories: HashMap<String, directories::Model>,
    tokens: HashMap<Vec<u8>, scim_tokens::Model>,
}

impl Known {
    async fn read(store: &Store, records: &[Record]) -> Result<Self, storage::Error> {
        let addresses = records.iter().filter_map(|record| match &record.directory {
            Place::At(address) => Some(address.clone()),
            Place::Known(_) => None,
        });
        let digests = records.iter().filter_map(|record| match &record.token {
            Presented::Token { digest, .. } => Some(digest.clone()),
            Presented::Opened(_)
            | Presented::Nothing
            | Presented::Several
            | Presented::OtherScheme
            | Presented::ApiKey
            | Presented::Damaged
            | Presented::Foreign => None,
        });
        Ok(Self {
            directories: directories_at(store, addresses.collect()).await?,
            tokens: tokens_of(store, digests.collect()).await?,
        })
    }

    /// The directory that a record is for, and whether it has not been deleted.
    fn directory(&self, record: &Record) -> Option<(DirectoryId, bool)> {
        match &record.directory {
            Place::Known(id) => Some((*id, true)),
            Place::At(address) => {
                let row = self.directories.get(address)?;
                Some((row.id, State::is_open(row)))
            }
        }
    }

    fn row(&self, record: &Record, directory_id: DirectoryId, is_open: bool) -> Value {
        let (token, id, suffix) = self.token(record, directory_id);
        let situation = situations::of(&Seen {
            method: &record.method,
            endpoint: &record.endpoint,
            status: record.status,
            scim_type: record.scim_type.as_deref().unwrap_or(""),
            detail: record.detail.as_deref().unwrap_or(""),
            token,
            is_deleted: !is_open,
        });
        json!({
            "directory_id": directory_id.uuid(),
            "id": record.id.uuid(),
            "created_at": time_text(record.at),
            "method": record.method,
            "path": record.path,
            "status": record.status,
            "duration_ms": i32::try_from(record.duration.as_millis()).unwrap_or(i32::MAX),
            "token_id": id.map(ScimTokenId::uuid),
            "token_suffix": suffix,
            "user_agent": record.user_agent,
            "address": record.address,
            "scim_type": record.scim_type,
            "detail": record.detail,
            "situation": situation.map(situations::Situation::code),
            "request_body": record.request_body,
            "response_body": record.response_body,
        })
    }

    /// What the token of a record is, its id if it is the directory's, and its last characters if it is
    /// any directory's.
    fn token<'a>(
        &'a self,
        record: &'a Record,
        directory_id: DirectoryId,
    ) -> (TokenState, Option<ScimTokenId>, Option<&'a str>) {
        match &record.token {
            Presented::Opened(id) => (TokenState::Valid, Some(*id), None),
            Presented::Nothing => (TokenState::Missing, None, None),
            Presented::Several => (TokenState::Several, None, None),
            Presented::OtherScheme => (TokenState::OtherScheme, None, None),
            Presented::ApiKey => (TokenState::ApiKey, None, None),
            Presented::Damaged => (TokenState::Damaged, None, None),
            Presented::Foreign => (TokenState::Foreign, None, None),
            Presented::Token { digest, suffix } => match self.tokens.get(digest) {
                None => (TokenState::Unknown, None, None),
                Some(row) if row.directory_id != directory_id => {
                    (TokenState::Elsewhere, None, Some(suffix))
                }
                Some(row) => {
                    let state = if row.revoked_at.is_some() {
                        TokenState::Revoked
                    } else if row.expires_at.is_some_and(|at| at <= record.at) {
                        TokenState::Expired
                    } else {
                        TokenState::Unknown
                    };
                    (state, Some(row.id), Some(suffix))
                }
            },
        }
    }
}

async fn directories_at(
    store: &Store,
    addresses: Vec<String>,
) -> Result<HashMap<String, directories::Model>, storage::Error> {
    if addresses.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = directory_addresses::Entity::find()
        .filter(directory_addresses::Column::Address.is_in(addresses))
        .all(store.reader())
        .await?;
    let ids = rows.iter().map(|row| row.directory_id);
    let found = directories::Entity::find()
        .filter(directories::Column::Id.is_in(ids))
        .all(store.reader())
        .await?;
    let found: HashMap<DirectoryId, directories::Model> =
        found.into_iter().map(|row| (row.id, row)).collect();
    let named = rows.into_iter().filter_map(|row| {
        let directory = found.get(&row.directory_id)?.clone();
        Some((row.address, directory))
    });
    Ok(named.collect())
}

async fn tokens_of(
    store: &Store,
    digests: Vec<Vec<u8>>,
) -> Result<HashMap<Vec<u8>, scim_tokens::Model>, storage::Error> {
    if digests.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = scim_tokens::Entity::find()
        .filter(scim_tokens::Column::Digest.is_in(digests))
        .all(store.reader())
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.digest.clone(), row))
        .collect())
}

/// Rows as JSON, so that a batch of any size is one statement with one parameter.
struct Write {
    rows: String,
    subjects: String,
}

impl UseCase for Write {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        insert(tx, "scim_requests", &ROW, &self.rows).await?;
        if self.subjects != "[]" {
            insert(tx, "scim_request_subjects", &SUBJECT, &self.subjects).await?;
        }
        Ok(())
    }
}

/// Inserts rows that are not there yet: after a commit whose outcome is unknown, some are.
async fn insert(
    tx: &WriteTx,
    table: &str,
    columns: &[(&str, ColumnKind)],
    rows: &str,
) -> Result<(), storage::Error> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    let source = tx.dialect().rows(1, columns);
    let sql = format!(
        "INSERT INTO {table} ({names}) SELECT {names} FROM {source} WHERE 1 = 1 \
         ON CONFLICT DO NOTHING"
    );
    let statement = tx.dialect().statement(&sql, [rows.into()]);
    tx.execute_raw(statement).await?;
    Ok(())
}
