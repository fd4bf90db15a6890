//! Heads: signed notes, in a file outside the database, of how long each chain is and what it ends with.
//!
//! They are what tells that entries were cut off the end of a chain, or that the database is an older one:
//! both leave chains that fit together. A line names the chains that have grown since the line before
//! it; the first line of a process names all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Key;
use crate::ids::OrganizationId;
use crate::storage::Store;
use crate::storage::tables::audit_chains;
use crate::{clock, json};

const PAGE: u64 = 500;

/// Why no head was written, or none could be read.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// The file cannot be used.
    #[error("the file {} cannot be used: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Appends heads to a file that no other process appends to.
#[derive(Debug)]
pub struct Heads {
    path: PathBuf,
    /// How long each chain was at the last line; nothing before the first.
    written: Option<BTreeMap<OrganizationId, i64>>,
}

/// The chains at one moment.
#[derive(Default)]
struct Picture {
    numbers: BTreeMap<OrganizationId, i64>,
    grown: Vec<Value>,
    root: Sha256,
}

impl Heads {
    /// Heads in this file, which is made when it is missing.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
        }
    }

    /// Appends a line, if anything has grown since the last one.
    ///
    /// # Errors
    /// The database fails, or the file cannot be written; the next line makes up for it.
    pub async fn write(
        &mut self,
        store: &Store,
        key: &Key,
        now: DateTime<Utc>,
    ) -> Result<(), HeadsError> {
        let picture = self.look(store).await?;
        if picture.grown.is_empty() {
            return Ok(());
        }
        let chains = picture.numbers.len();
        let root = STANDARD.encode(picture.root.finalize());
        let mut line = json::fields(json!({
            "time": clock::text(now),
            "is_whole": self.written.is_none(),
            "count": chains,
            "root": root,
            "chains": picture.grown,
            "public_key": STANDARD.encode(key.heads().public_key()),
        }));
        let signature = key.heads().sign(signed_text(&line).as_bytes());
        let signature = STANDARD.encode(signature);
        line.insert("signature".to_owned(), json!(signature));
        self.append(json::canonical(&Value::Object(line))).await?;
        self.written = Some(picture.numbers);
        tracing::info!(chains, root, signature, "the audit trail's heads");
        Ok(())
    }

    /// Reads the ends of all chains, page by page.
    async fn look(&self, store: &Store) -> Result<Picture, DbErr> {
        let mut picture = Picture::default();
        let mut last: Option<OrganizationId> = None;
        loop {
            let mut page = audit_chains::Entity::find()
                .order_by_asc(audit_chains::Column::OrganizationId)
                .limit(PAGE);
            if let Some(last) = last {
                page = page.filter(audit_chains::Column::OrganizationId.gt(last));
            }
            let rows = page.all(store.reader()).await?;
            let Some(row) = rows.last() else {
                return Ok(picture);
            };
            last = Some(row.organization_id);
            for row in rows.into_iter().filter(|row| row.number > 0) {
                self.add(&mut picture, &row);
            }
        }
    }

    fn add(&self, picture: &mut Picture, row: &audit_chains::Model) {
        let id = row.organization_id;
        picture.root.update(id.uuid().as_bytes());
        picture.root.update(row.number.to_be_bytes());
        picture.root.update(&row.digest);
        picture.numbers.insert(id, row.number);
        let before = self.written.as_ref().and_then(|written| written.get(&id));
        if before.copied() != Some(row.number) {
            let digest = STANDARD.encode(&row.digest);
            let grown = json!({"organization_id": id, "number": row.number, "digest": digest});
            picture.grown.push(grown);
        }
    }

    async fn append(&self, line: String) -> Result<(), HeadsError> {
        let path = self.path.clone();
        let appended = tokio::task::spawn_blocking(move || append(&path, &line)).await;
        appended
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| HeadsError::File {
                path: self.path.clone(),
                source,
            })
    }
}

/// Appends a line, and sees to it that it stays.
fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|path| *path != Path::new("")) {
        std::fs::create_dir_all(directory)?;
    }
    let mut options = File::options();
    let mut file = options.read(true).append(true).create(true).open(path)?;
    remove_torn_line(&mut file)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}

/// Removes what a crash has left of a line.
fn remove_torn_line(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    let mut last = [0_u8];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == [b'\n'] {
        return Ok(());
    }
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n');
    file.set_len(
        whole
            .map_or(Ok(0), |end| u64::try_from(end + 1))
            .unwrap_or(length),
    )
}

/// What one head says of one chain.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) organization_id: OrganizationId,
    pub(super) number: i64,
    pub(super) digest: Vec<u8>,
}

/// Reads a line and checks its signature; `None` if it is not as it was written.
pub(super) fn read(key: &Key, line: &str) -> Option<Vec<Note>> {
    let Value::Object(mut fields) = serde_json::from_str(line).ok()? else {
        return None;
    };
    let signature = fields.remove("signature")?;
    let signature = STANDARD.decode(signature.as_str()?).ok()?;
    if !key
        .heads()
        .verify(signed_text(&fields).as_bytes(), &signature)
    {
        return None;
    }
    let chains = fields.get("chains")?.as_array()?;
    chains.iter().map(note).collect()
}

fn note(chain: &Value) -> Option<Note> {
    Some(Note {
        organization_id: OrganizationId::parse(chain.get("organization_id")?.as_str()?)?,
        number: chain.get("number")?.as_i64()?,
        digest: STANDARD.decode(chain.get("digest")?.as_str()?).ok()?,
    })
}

fn signed_text(line: &Map<String, Value>) -> String {
    json::canonical(&Value::Object(line.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_has_left_of_a_line_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/heads.jsonl");
        append(&path, "one").unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"tw").unwrap();
        append(&path, "three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nthree\n");
        std::fs::write(&path, "on").unwrap();
        append(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }
}
