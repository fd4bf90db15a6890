//! Who was heard when: collected in memory, written in batches, so that no request writes for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::directories::directory::{self, Heard};
use crate::directories::token;
use crate::ids::{DirectoryId, ScimTokenId};
use crate::storage::{self, Store};

/// A token's last use is written at most this often.
const TOKEN_EVERY_MS: i64 = 60_000;

/// What has been heard and is not written down yet.
#[derive(Debug, Default)]
pub struct Activity(Mutex<Unwritten>);

#[derive(Debug, Default)]
struct Unwritten {
    directories: HashMap<DirectoryId, Heard>,
    tokens: HashMap<ScimTokenId, DateTime<Utc>>,
    /// When each token's last use was written.
    written: HashMap<ScimTokenId, DateTime<Utc>>,
}

impl Activity {
    /// A provider was heard.
    pub fn heard(&self, directory_id: DirectoryId, token_id: ScimTokenId, now: DateTime<Utc>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .directories
            .entry(directory_id)
            .and_modify(|heard| {
                heard.last = now;
                heard.token_id = token_id;
            })
            .or_insert(Heard {
                directory_id,
                first: now,
                last: now,
                token_id,
            });
        heard.tokens.insert(token_id, now);
    }

    /// Writes down what has been heard.
    ///
    /// # Errors
    /// The database fails; what was heard is kept.
    pub async fn write_down(&self, store: &Store) -> Result<(), storage::Error> {
        let (directories, tokens) = self.take();
        if !directories.is_empty()
            && let Err(error) = directory::record_activity(store, directories.clone()).await
        {
            self.put_back(directories, tokens);
            return Err(error);
        }
        if !tokens.is_empty()
            && let Err(error) = token::record_use(store, tokens.clone()).await
        {
            self.put_back(Vec::new(), tokens);
            return Err(error);
        }
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.written.extend(tokens);
        Ok(())
    }

    fn take(&self) -> (Vec<Heard>, Vec<(ScimTokenId, DateTime<Utc>)>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let directories = std::mem::take(&mut heard.directories)
            .into_values()
            .collect();
        let (due, waiting): (HashMap<_, _>, HashMap<_, _>) = std::mem::take(&mut heard.tokens)
            .into_iter()
            .partition(|(id, at)| {
                heard
                    .written
                    .get(id)
                    .is_none_or(|written| (*at - *written).num_milliseconds() >= TOKEN_EVERY_MS)
            });
        heard.tokens = waiting;
        (directories, due.into_iter().collect())
    }

    fn put_back(&self, directories: Vec<Heard>, tokens: Vec<(ScimTokenId, DateTime<Utc>)>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for former in directories {
            heard
                .directories
                .entry(former.directory_id)
                .and_modify(|known| known.first = former.first)
                .or_insert(former);
        }
        for (id, at) in tokens {
            heard.tokens.entry(id).or_insert(at);
        }
    }
}
