//! What a stream has to write down, and what becomes of it once that is durable.

use super::{
    Attempted, Batch, DeliveryRow, Exception, ExceptionRow, Item, SPAN_MAX, State, Stream,
};
use crate::webhooks::endpoint::Ordering;
use crate::webhooks::lanes::Lanes;

/// How long a cursor that only skipped foreign events may stay unwritten.
const SKIPPED_CURSOR_MS: i64 = 30_000;

impl Stream {
    /// What is to be written down now; `None` while a batch is under way or if there is nothing.
    pub fn batch(&mut self, now_ms: i64) -> Option<Batch> {
        if self.recording.is_some() {
            return None;
        }
        let mut batch = Batch {
            attempts: self.attempts.iter().cloned().collect(),
            settled: self.orphans.clone(),
            ..Batch::default()
        };
        let mut failed = self.failed_rows.clone();
        let mut stuck = Lanes::default();
        let mut cursor = self.cursor;
        let mut is_open_before = false;
        for (position, item) in &self.items {
            if item.state == State::Delivered {
                batch.deliveries.push(delivered(*position, item, now_ms));
                failed.remove(position);
                if item.may_have_row {
                    batch.settled.push(*position);
                }
                continue;
            }
            let row = self.exception_of(*position, item, &stuck, is_open_before);
            match row {
                Some(row) => {
                    if !matches!(item.state, State::Parked(_)) {
                        stuck.enter(*position, &item.offer.keys_in(self.ordering));
                    }
                    if item.written.as_ref() != Some(&row) {
                        batch.exceptions.push(row);
                    }
                }
                None if !is_open_before => {
                    is_open_before = true;
                    cursor = cursor.max(self.last_row_before(*position));
                }
                None => {}
            }
        }
        batch.deliveries.extend(failed.into_values());
        if !is_open_before {
            cursor = cursor.max(self.scan);
        }
        let is_overdue = now_ms - self.cursor_written_at_ms >= SKIPPED_CURSOR_MS;
        if self.needs_row || cursor > self.cursor && (is_overdue || !batch.is_empty()) {
            batch.cursor = Some(cursor);
            self.cursor_handed_out = self.cursor_handed_out.max(cursor);
        }
        if batch.is_empty() {
            return None;
        }
        for row in &batch.exceptions {
            if let Some(item) = self.items.get_mut(&row.position) {
                item.may_have_row = true;
            }
        }
        self.recording = Some(batch.clone());
        Some(batch)
    }

    /// The last offered event before `position`: a row that was read. (Rows between the two that do not
    /// pass the filter are read again after a takeover, which costs little.) Between two that overtook
    /// there are others that were not read.
    fn last_row_before(&self, position: i64) -> i64 {
        self.items
            .range(..position)
            .next_back()
            .map_or(self.cursor, |(before, _)| (*before).min(self.scan))
    }

    /// The exception that an unfinished item is, if the cursor may pass it.
    ///
    /// `stuck` are the lanes of the exceptions before it; `has_open_before` says that an earlier event is
    /// neither finished nor an exception, so that the cursor stays before it anyway. Where order is strict
    /// the cursor of a directory that stops just stays, and what waits has no rows.
    fn exception_of(
        &self,
        position: i64,
        item: &Item,
        stuck: &Lanes,
        has_open_before: bool,
    ) -> Option<ExceptionRow> {
        let may_be_held = !has_open_before && self.ordering != Ordering::Strict;
        let (state, next_at_ms) = match item.state {
            State::Retrying(at) => (Exception::Retrying, Some(at)),
            State::Parked(at) => (Exception::Parked, at),
            State::Waiting if may_be_held && !item.is_free(stuck, self.ordering) => {
                (Exception::Held, None)
            }
            State::InFlight if item.written.is_some() => return item.written.clone(),
            State::InFlight if !has_open_before && self.scan >= position + SPAN_MAX => {
                (Exception::InFlight, None)
            }
            State::Waiting | State::Ready | State::InFlight | State::Delivered => {
                return item.written.clone();
            }
        };
        Some(ExceptionRow {
            position,
            directory_id: item.offer.directory_id,
            state,
            attempts: item.attempts,
            first_failed_ms: item.first_failed_ms,
            next_at_ms,
        })
    }

    /// The batch under way is durable.
    pub fn recorded(&mut self, now_ms: i64) {
        let Some(batch) = self.recording.take() else {
            return;
        };
        if let Some(cursor) = batch.cursor {
            self.cursor = cursor;
            self.cursor_written_at_ms = now_ms;
            self.needs_row = false;
        }
        for row in &batch.deliveries {
            if self.failed_rows.get(&row.position) == Some(row) {
                self.failed_rows.remove(&row.position);
            }
            if row.state == "delivered" {
                self.failed_rows.remove(&row.position);
                if let Some(item) = self.items.remove(&row.position) {
                    self.open.remove(&row.position);
                    self.arrived = self.arrived.saturating_sub(1);
                    self.parked = self.parked.saturating_sub(usize::from(item.is_late));
                    self.done_ahead
                        .extend((row.position > self.scan).then_some(row.position));
                }
            }
        }
        self.orphans.clear();
        self.attempts
            .drain(..batch.attempts.len().min(self.attempts.len()));
        for row in batch.exceptions {
            if let Some(item) = self.items.get_mut(&row.position) {
                self.open.remove(&row.position);
                item.written = Some(row);
            }
        }
        self.forget_ended_parked();
    }

    /// The batch under way was not written; it will be part of the next one.
    pub fn not_recorded(&mut self) {
        self.recording = None;
    }

    /// A parked event that is not tried again stays in its delivery row and its exception row only.
    fn forget_ended_parked(&mut self) {
        let (parked, scan) = (&mut self.parked, self.scan);
        let (uncreated, done_ahead) = (&mut self.uncreated, &mut self.done_ahead);
        self.items.retain(|position, item| {
            let is_over = item.state == State::Parked(None)
                && item
                    .written
                    .as_ref()
                    .is_some_and(|row| row.next_at_ms.is_none() && row.state == Exception::Parked);
            if is_over {
                *parked = parked.saturating_sub(1);
                done_ahead.extend((*position > scan).then_some(*position));
                if let Some(created) = item.offer.creates() {
                    uncreated.remove(created);
                }
            }
            !is_over
        });
    }
}

fn delivered(position: i64, item: &Item, now_ms: i64) -> DeliveryRow {
    DeliveryRow {
        position,
        event_id: item.offer.event_id,
        directory_id: item.offer.directory_id,
        state: "delivered",
        attempts: item.attempts,
        last: item.last.clone().unwrap_or(Attempted {
            is_success: true,
            status_code: None,
            failure: None,
            excerpt: None,
            retry_after: None,
            duration_ms: 0,
        }),
        at_ms: now_ms,
    }
}
