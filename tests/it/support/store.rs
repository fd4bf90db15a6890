//! An open database without a server around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall::actor::Actor;
use rollcall::clock::SystemClock;
use rollcall::directories::directory::{self, NewDirectory};
use rollcall::events::Kind;
use rollcall::ids::EventId;
use rollcall::storage::tables::directories;
use rollcall::storage::{EventDraft, Opener, Store, schema};
use rollcall::tenancy::organization::{self, NewOrganization};
use tempfile::TempDir;

use super::postgres::server;

/// A database of one test, with directories of one organization in it.
#[derive(Debug)]
pub(crate) struct Fixture {
    /// The database.
    pub(crate) store: Store,
    /// Its directories.
    pub(crate) directories: Vec<directories::Model>,
    _files: Option<TempDir>,
}

impl Fixture {
    /// On SQLite.
    pub(crate) async fn on_sqlite(directories: usize) -> Self {
        let files = TempDir::with_prefix("rollcall-test-").expect("a temporary directory");
        let url = format!("sqlite:{}", files.path().join("test.sqlite3").display());
        Self {
            _files: Some(files),
            ..Self::at(&url, directories).await
        }
    }

    /// On PostgreSQL, if it is installed.
    pub(crate) async fn on_postgres(directories: usize) -> Option<Self> {
        let url = server()?.create_database();
        Some(Self::at(&url, directories).await)
    }

    /// On an empty database.
    pub(crate) async fn at(url: &str, count: usize) -> Self {
        let store = Store::open(url, Opener::Server, Arc::new(SystemClock))
            .await
            .expect("the database opens");
        schema::migrate(&store).await.expect("migrations run");
        let organization = NewOrganization {
            name: "Example".to_owned(),
            external_id: None,
            domains: Vec::new(),
            metadata: BTreeMap::new(),
        };
        let organization = organization::create(&store, Actor::SYSTEM, organization)
            .await
            .expect("an organization");
        let mut directories = Vec::new();
        for number in 0..count {
            let directory = NewDirectory {
                organization_id: organization.row.id,
                name: format!("Directory {number}"),
                kind: "generic scim v2.0",
            };
            let made = directory::create(&store, Actor::SYSTEM, directory).await;
            directories.push(made.expect("a directory"));
        }
        Self {
            store,
            directories,
            _files: None,
        }
    }
}

/// An event about nobody.
pub(crate) fn draft(directory: &directories::Model, id: EventId) -> EventDraft {
    EventDraft {
        id,
        organization_id: directory.organization_id,
        directory_id: directory.id,
        shard: directory.shard,
        is_sequenced: true,
        kind: Kind::UserCreated.as_str(),
        user_id: None,
        group_id: None,
        names: None,
        payload: "{}".to_owned(),
        is_departure: false,
        actor: None,
    }
}
