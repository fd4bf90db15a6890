//! `Store::write`: what use cases that are committed together mean to each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rollcall::events::log;
use rollcall::ids::EventId;
use rollcall::storage::tables::{directories, facts};
use rollcall::storage::{self, Lane, UseCase, WriteTx, is_unique_violation};
use sea_orm::{ActiveValue, EntityTrait as _};
use tokio::task::JoinSet;

use crate::support::store::{Fixture, draft};

const WRITERS: usize = 150;
/// The name that every violating use case tries to take.
const TAKEN: &str = "taken";

/// How a use case ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    /// It holds its transaction for a while, so that others gather behind it.
    DoneSlowly,
    RefusedUnwritten,
    RefusedWritten,
    PanickedWritten,
    Violated,
}

/// Why a use case was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("refused")]
    Refused,
    #[error("the name is taken")]
    Taken,
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Writes a row and an event, and ends in its way.
struct Step {
    name: String,
    directory: directories::Model,
    end: End,
    runs: Arc<AtomicUsize>,
}

impl Step {
    async fn claim(tx: &WriteTx, name: &str) -> Result<(), Failure> {
        let row = facts::ActiveModel {
            name: ActiveValue::Set(name.to_owned()),
            value: ActiveValue::Set(String::new()),
        };
        let inserted = facts::Entity::insert(row).exec_without_returning(tx).await;
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if is_unique_violation(&error) => Err(Failure::Taken),
            Err(error) => Err(Failure::Storage(error.into())),
        }
    }
}

impl UseCase for Step {
    type Answer = ();
    type Error = Failure;

    async fn run(&self, tx: &WriteTx) -> Result<(), Failure> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        if self.end == End::RefusedUnwritten {
            return Err(Failure::Refused);
        }
        tx.buffer(draft(&self.directory, EventId::generate()));
        Self::claim(tx, &self.name).await?;
        match self.end {
            End::Done | End::RefusedUnwritten => Ok(()),
            End::DoneSlowly => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(())
            }
            End::RefusedWritten => Err(Failure::Refused),
            End::PanickedWritten => panic!("as the test wants it"),
            End::Violated => Self::claim(tx, TAKEN).await,
        }
    }
}

/// Runs use cases at once in one directory; the first of them holds up the rest, which then form one
/// group. Returns how each ended and how often it ran.
async fn run(fixture: &Fixture, ends: &[End]) -> Vec<(Result<(), Failure>, usize)> {
    let directory = &fixture.directories[0];
    let mut tasks = JoinSet::new();
    for (number, end) in ends.iter().copied().enumerate() {
        let runs = Arc::new(AtomicUsize::new(0));
        let step = Step {
            name: number.to_string(),
            directory: directory.clone(),
            end,
            runs: Arc::clone(&runs),
        };
        let (store, lane) = (fixture.store.clone(), Lane::Directory(directory.id));
        tasks.spawn(async move {
            let result = store.write(lane, step).await;
            let row = facts::Entity::find_by_id(number.to_string())
                .one(store.reader())
                .await
                .unwrap();
            assert_eq!(row.is_some(), result.is_ok(), "{number}: {result:?}");
            (number, (result, runs.load(Ordering::SeqCst)))
        });
        if number == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut ended = tasks.join_all().await;
    ended.sort_by_key(|(number, _)| *number);
    let ended: Vec<_> = ended.into_iter().map(|(_, ended)| ended).collect();
    let done = ended.iter().filter(|(result, _)| result.is_ok()).count();
    assert_eq!(sequences(fixture).await, (1..=done).collect::<Vec<_>>());
    ended
}

/// The sequences of the directory in the order of their positions.
async fn sequences(fixture: &Fixture) -> Vec<usize> {
    let shard = fixture.directories[0].shard;
    log::read_shard(fixture.store.reader(), shard, 0, i64::MAX, 10_000)
        .await
        .unwrap()
        .into_iter()
        .map(|row| usize::try_from(row.sequence.unwrap()).unwrap())
        .collect()
}

async fn gapless(fixture: &Fixture) {
    let ended = run(fixture, &[End::Done; WRITERS]).await;

    assert!(ended.iter().all(|(result, _)| result.is_ok()));
}

async fn unwritten(fixture: &Fixture) {
    use End::{Done, DoneSlowly, RefusedUnwritten};
    let ends = [DoneSlowly, Done, RefusedUnwritten, Done, RefusedUnwritten];

    let ended = run(fixture, &ends).await;

    for ((result, runs), end) in ended.iter().zip(ends) {
        assert_eq!(result.is_ok(), end != RefusedUnwritten);
        assert_eq!(*runs, 1, "nobody runs again");
    }
}

async fn written(fixture: &Fixture) {
    use End::{Done, DoneSlowly, PanickedWritten, RefusedWritten};
    let ends = [
        DoneSlowly,
        Done,
        RefusedWritten,
        Done,
        PanickedWritten,
        Done,
    ];

    let ended = run(fixture, &ends).await;

    for ((result, _), end) in ended.iter().zip(ends) {
        match end {
            RefusedWritten => assert!(matches!(result, Err(Failure::Refused))),
            PanickedWritten => assert!(matches!(
                result,
                Err(Failure::Storage(storage::Error::Panicked))
            )),
            Done | DoneSlowly | End::RefusedUnwritten | End::Violated => {
                assert!(result.is_ok(), "{end:?}: {result:?}");
            }
        }
    }
}

async fn violated(fixture: &Fixture) {
    use End::{Done, DoneSlowly, Violated};
    let ends = [DoneSlowly, Violated, Done, Violated, Done, Violated];

    let ended = run(fixture, &ends).await;

    let of = |wanted: End| {
        let both = ended.iter().zip(ends);
        both.filter(move |(_, end)| *end == wanted)
            .map(|((result, _), _)| result)
    };
    assert!(of(Done).all(Result::is_ok));
    assert_eq!(
        of(Violated).filter(|result| result.is_ok()).count(),
        1,
        "who comes first"
    );
    let is_taken = |result: &&Result<(), Failure>| matches!(result, Err(Failure::Taken));
    assert_eq!(of(Violated).filter(is_taken).count(), 2);
}

/// The same test on both databases.
macro_rules! on_both {
    ($($test:ident => $name:ident),+ $(,)?) => {
        mod sqlite {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    $test(&Fixture::on_sqlite(1).await).await;
                }
            )+
        }

        mod postgres {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    if let Some(fixture) = Fixture::on_postgres(1).await {
                        $test(&fixture).await;
                    }
                }
            )+
        }
    };
}

on_both! {
    gapless => concurrent_writes_to_one_directory_all_commit_without_a_gap_in_the_sequence,
    unwritten => an_error_without_writes_is_its_own_and_nobody_runs_again,
    written => an_error_or_panic_after_a_write_rolls_back_that_use_case_alone,
    violated => a_unique_violation_is_told_to_who_caused_it_and_harms_nobody_else,
}
