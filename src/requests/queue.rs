//! Records that wait to be written: collected in memory, so that no request waits for the log.
//!
//! The queue is bounded. What comes beyond its bounds, while the database does not answer or more comes
//! than it can take, is counted and lost.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Record, write};
use crate::storage::{self, Store};

/// How many records wait at most, and how many bytes they have together.
const RECORDS_MAX: usize = 10_000;
const BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// How many records, and how many of their subjects, are written in one transaction.
const BATCH_RECORDS: usize = 500;
const BATCH_SUBJECTS: usize = 5_000;

/// The records that are not written yet.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    /// Told when there is enough for a batch.
    enough: Notify,
    /// Held by whoever writes, so that what was there before is written once it is had.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Record>,
    bytes: usize,
    dropped: u64,
}

impl Queue {
    /// Adds a record, or counts it as lost if there is no room.
    pub fn push(&self, record: Record) {
        let bytes = record.bytes();
        let mut waiting = self.lock();
        if waiting.records.len() >= RECORDS_MAX || waiting.bytes + bytes > BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += bytes;
        waiting.records.push_back(record);
        let is_enough = waiting.records.len() >= BATCH_RECORDS;
        drop(waiting);
        if is_enough {
            self.enough.notify_one();
        }
    }

    /// Waits until there is enough for a batch.
    pub async fn enough(&self) {
        self.enough.notified().await;
    }

    /// Writes down what waits, a batch after the other.
    ///
    /// # Errors
    /// The database fails; what was not written is kept.
    pub async fn write_down(&self, store: &Store) -> Result<(), storage::Error> {
        let _turn = self.writing.lock().await;
        let dropped = std::mem::take(&mut self.lock().dropped);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "requests are missing from the request log, because there were too many at once"
            );
        }
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = write::write(store, &batch).await {
                self.put_back(batch);
                return Err(error);
            }
        }
    }

    fn take(&self) -> Vec<Record> {
        let mut waiting = self.lock();
        let (mut batch, mut subjects) = (Vec::new(), 0);
        while batch.len() < BATCH_RECORDS && subjects < BATCH_SUBJECTS {
            let Some(record) = waiting.records.pop_front() else {
                break;
            };
            waiting.bytes = waiting.bytes.saturating_sub(record.bytes());
            subjects += record.subjects.len();
            batch.push(record);
        }
        batch
    }

    fn put_back(&self, batch: Vec<Record>) {
        let mut waiting = self.lock();
        for record in batch.into_iter().rev() {
            waiting.bytes += record.bytes();
            waiting.records.push_front(record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::ids::{DirectoryId, RequestId};
    use crate::requests::{Place, Presented};

    fn record(body: usize) -> Record {
        Record {
            id: RequestId::generate(),
            at: clock::from_ms(0),
            directory: Place::Known(DirectoryId::generate()),
            method: "POST".to_owned(),
            path: String::new(),
            endpoint: String::new(),
            status: 201,
            duration: std::time::Duration::ZERO,
            token: Presented::Nothing,
            user_agent: None,
            address: None,
            scim_type: None,
            detail: None,
            request_body: Some("x".repeat(body)),
            response_body: None,
            subjects: Vec::new(),
        }
    }

    #[test]
    fn what_comes_beyond_the_bounds_is_counted() {
        let many = Queue::default();
        for _ in 0..RECORDS_MAX + 3 {
            many.push(record(0));
        }
        assert_eq!(many.lock().records.len(), RECORDS_MAX);
        assert_eq!(many.lock().dropped, 3);

        let large = Queue::default();
        for _ in 0..33 {
            large.push(record(1_024 * 1_024));
        }
        assert_eq!(large.lock().records.len(), 31);
        assert_eq!(large.lock().dropped, 2);
    }

    #[test]
    fn what_could_not_be_written_is_the_next_to_be_taken() {
        let queue = Queue::default();
        for _ in 0..=BATCH_RECORDS {
            queue.push(record(1));
        }
        let bytes = queue.lock().bytes;
        let batch = queue.take();
        let first = batch.first().map(|record| record.id);
        assert_eq!(batch.len(), BATCH_RECORDS);

        queue.put_back(batch);

        assert_eq!(queue.lock().bytes, bytes);
        assert_eq!(queue.take().first().map(|record| record.id), first);
    }
}
