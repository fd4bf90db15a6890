//! Follows the end of the log: how far each shard may be read.
//!
//! Woken by writes of this process, and polling for those of others: every 50 ms while there is something
//! to find, and less and less often, down to once a second, while there is not.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::storage::Store;
use crate::storage::dialect::ColumnKind;
use crate::storage::horizon::{self, Horizon, SHARDS};

const POLL_BUSY: Duration = Duration::from_millis(50);
const POLL_IDLE: Duration = Duration::from_secs(1);

/// What a look at the end of the log has shown.
#[derive(Debug)]
pub(super) struct Seen {
    /// For each shard the position of the last row that may be read.
    pub(super) newest: [i64; SHARDS],
    /// Whether the database server is another one than at the last look, or was restarted.
    pub(super) is_other_server: bool,
}

/// What is known of the end of the log.
#[derive(Debug, Default)]
pub(super) struct Tail {
    horizon: Option<Horizon>,
    newest: [i64; SHARDS],
    pause: Duration,
}

impl Tail {
    /// Looks at the end of the log; `None` if nothing has changed.
    pub(super) async fn look(&mut self, store: &Store) -> Result<Option<Seen>, DbErr> {
        let connection = store.dispatch_reader();
        let horizon = horizon::read(connection, store.dialect()).await?;
        let Some(known) = self.horizon.take() else {
            self.advance(store, None, &horizon).await?;
            self.horizon = Some(horizon);
            return Ok(Some(self.seen(false)));
        };
        if known.server != horizon.server {
            // What this process remembers may not be in the database any more.
            *self = Self::default();
            return Ok(Some(Seen {
                newest: [0; SHARDS],
                is_other_server: true,
            }));
        }
        if known == horizon {
            self.horizon = Some(known);
            self.pause = (self.pause * 2).clamp(POLL_BUSY, POLL_IDLE);
            return Ok(None);
        }
        let changed = self.advance(store, Some(&known), &horizon).await;
        // After an error the same stretch is looked at again.
        self.horizon = Some(if changed.is_ok() { horizon } else { known });
        self.pause = POLL_BUSY;
        changed?;
        Ok(Some(self.seen(false)))
    }

    /// Looks for the last row of each shard between the two horizons.
    ///
    /// What is kept is the position of a row, never the horizon itself: after a crash positions that
    /// nobody had seen are drawn again, and reading up to there would pass events yet to be committed.
    async fn advance(
        &mut self,
        store: &Store,
        known: Option<&Horizon>,
        horizon: &Horizon,
    ) -> Result<(), DbErr> {
        let stretches: Vec<Json> = (0_i16..)
            .take(SHARDS)
            .map(|shard| {
                (
                    shard,
                    known.map_or(0, |known| known.of(shard)),
                    horizon.of(shard),
                )
            })
            .filter(|(_, above, up_to)| above < up_to)
            .map(|(shard, above, up_to)| json!({"shard": shard, "above": above, "up_to": up_to}))
            .collect();
        if stretches.is_empty() {
            return Ok(());
        }
        let columns = ["shard", "above", "up_to"].map(|name| (name, ColumnKind::Integer));
        let sql = format!(
            "SELECT r.shard, (SELECT e.position FROM events e WHERE e.shard = r.shard \
             AND e.position > r.above AND e.position <= r.up_to \
             ORDER BY e.position DESC LIMIT 1) AS newest FROM {}",
            store.dialect().rows(1, &columns)
        );
        let stretches = Json::Array(stretches).to_string();
        let rows = store
            .dispatch_reader()
            .query_all_raw(store.dialect().statement(&sql, [stretches.into()]))
            .await?;
        for row in rows {
            let shard: i64 = row.try_get("", "shard")?;
            let newest: Option<i64> = row.try_get("", "newest")?;
            if let Some(newest) = newest
                && let Some(known) = usize::try_from(shard)
                    .ok()
                    .and_then(|index| self.newest.get_mut(index))
            {
                *known = newest.max(*known);
            }
        }
        Ok(())
    }

    fn seen(&self, is_other_server: bool) -> Seen {
        Seen {
            newest: self.newest,
            is_other_server,
        }
    }

    /// Waits until it is worth looking again; `took` is how long the last look was.
    pub(super) async fn pause(&self, store: &Store, took: Duration) {
        let wake = store.wake();
        // Under load looks follow each other; half of the time is left to others.
        let earliest = Instant::now() + took.min(POLL_BUSY);
        // Running out of time and being woken both mean: look again.
        drop(tokio::time::timeout(self.pause.max(POLL_BUSY), wake.wait()).await);
        tokio::time::sleep_until(earliest).await;
        wake.take();
    }
}
