//! Which databases the tests run on: each test on a fresh SQLite file and on a fresh PostgreSQL
//! database.
//!
//! PostgreSQL comes from [`super::postgres`]: a cluster of this process's own, or the server that
//! `ROLLCALL_TEST_POSTGRES` names. Where there is neither, the PostgreSQL half of each test passes
//! without doing anything, after one line that says so; with `ROLLCALL_TEST_REQUIRE_ALL=1` it fails.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rollcall::clock::SystemClock;
use rollcall::storage::{Opener, Store, schema};

use super::postgres;

const SQLITE_FILE: &str = "test.sqlite3";

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// A fresh database of one test's own, and a directory for the server's files.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) backend: Backend,
    pub(crate) url: String,
    files: tempfile::TempDir,
}

impl Database {
    /// Makes an empty one; `None` where there is no PostgreSQL.
    pub(crate) fn fresh(backend: Backend) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let url = match backend {
            Backend::Sqlite => format!(
                "sqlite:{}",
                files.path().join("data").join(SQLITE_FILE).display()
            ),
            Backend::Postgres => postgres::server()?.create_database(),
        };
        Some(Self {
            backend,
            url,
            files,
        })
    }

    /// Makes one that has its tables; `None` where there is no PostgreSQL. They are made once and copied,
    /// because making them takes longer than most tests.
    pub(crate) fn with_tables(backend: Backend) -> Option<Self> {
        let database = Self::fresh(backend)?;
        match backend {
            Backend::Sqlite => {
                std::fs::create_dir(database.data_dir()).unwrap();
                let file = database.data_dir().join(SQLITE_FILE);
                std::fs::write(file, sqlite_tables()).unwrap();
                Some(database)
            }
            Backend::Postgres => {
                let url = postgres::server()?.copy_database(postgres_tables()?);
                Some(Self { url, ..database })
            }
        }
    }

    /// The same one, as a user of its server sees it.
    pub(crate) fn with_user(self, name: &str, password: &str) -> Self {
        let mut url = url::Url::parse(&self.url).unwrap();
        url.set_username(name).unwrap();
        url.set_password(Some(password)).unwrap();
        Self {
            url: url.into(),
            ..self
        }
    }

    /// The server's `data_dir`, not made yet.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.files.path().join("data")
    }

    /// A directory for whatever else a test needs.
    pub(crate) fn directory(&self) -> &Path {
        self.files.path()
    }
}

/// The bytes of an SQLite file with tables and nothing in them.
fn sqlite_tables() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join(SQLITE_FILE);
        make_tables(&format!("sqlite:{}", file.display()));
        std::fs::read(file).unwrap()
    })
}

/// The name of a PostgreSQL database with tables and nothing in them.
fn postgres_tables() -> Option<&'static str> {
    static NAME: OnceLock<String> = OnceLock::new();
    let server = postgres::server()?;
    let name = NAME.get_or_init(|| {
        let url = server.create_database();
        make_tables(&url);
        url.rsplit('/').next().unwrap().to_owned()
    });
    Some(name)
}

fn make_tables(url: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let clock = Arc::new(SystemClock);
        let store = Store::open(url, Opener::Server, clock).await.unwrap();
        schema::migrate(&store).await.unwrap();
        store.close().await;
    });
}

/// Makes two tests of each function named, `name::sqlite` and `name::postgres`.
///
/// `async fn name(app: TestApp)` gets a server on a fresh database, and one with these settings after
/// `name with [("setting", "value")]`. The functions stand outside, so that rustfmt sees them; one that
/// is not named here is dead code and warned of.
macro_rules! on_both {
    ($($name:ident $(with [$($setting:expr),* $(,)?])?),* $(,)?) => {
        $(
            mod $name {
                #[test]
                fn sqlite() {
                    let backend = $crate::support::database::Backend::Sqlite;
                    $crate::support::app::run(backend, &[$($($setting),*)?], super::$name);
                }

                #[test]
                fn postgres() {
                    let backend = $crate::support::database::Backend::Postgres;
                    $crate::support::app::run(backend, &[$($($setting),*)?], super::$name);
                }
            }
        )*
    };
}

/// The same for `fn name(database: &Database)`, which gets a fresh database and no server.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[test]
                fn sqlite() {
                    let backend = $crate::support::database::Backend::Sqlite;
                    $crate::support::database::run(backend, super::$name);
                }

                #[test]
                fn postgres() {
                    let backend = $crate::support::database::Backend::Postgres;
                    $crate::support::database::run(backend, super::$name);
                }
            }
        )*
    };
}

/// Runs `check` on a fresh database.
pub(crate) fn run(backend: Backend, check: impl FnOnce(&Database)) {
    if let Some(database) = Database::fresh(backend) {
        check(&database);
    }
}
