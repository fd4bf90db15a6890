//! A server in the process of the test whose clock stands still unless the test moves it, with a receiver
//! beside it; it delivers, and can be started again on its database.

use std::path::Path;
use std::sync::Arc;

use rollcall::app::{self, Running};
use rollcall::clock::ManualClock;
use rollcall::config::Config;
use rollcall::outbound::ApiClient;
use rollcall::storage::Store;
use rollcall::storage::tables::exceptions;
use sea_orm::EntityTrait as _;
use tempfile::TempDir;

use super::actors::Vendor;
use super::client::Admin;
use super::postgres::server;
use super::receiver::Receiver;

const NOW_MS: i64 = 1_790_000_000_000;
const MASTER_KEY: &str = "rcmk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// Makes two tests of each `async fn name(world: StillServer)` named, `name::sqlite` and `name::postgres`.
macro_rules! on_both_still {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                use crate::support::still::StillServer;

                #[tokio::test(flavor = "multi_thread")]
                async fn sqlite() {
                    Box::pin(super::$name(StillServer::on_sqlite().await)).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn postgres() {
                    if let Some(world) = StillServer::on_postgres().await {
                        Box::pin(super::$name(world)).await;
                    }
                }
            }
        )*
    };
}

/// A server in this process whose clock stands still.
pub(crate) struct StillServer {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) files: TempDir,
    pub(crate) database_url: String,
    pub(crate) running: Option<Running>,
    pub(crate) key: String,
    pub(crate) receiver: Receiver,
}

impl StillServer {
    pub(crate) async fn on_sqlite() -> Self {
        let files = TempDir::with_prefix("rollcall-test-").unwrap();
        let url = format!("sqlite:{}", files.path().join("test.sqlite3").display());
        Self::start(files, url).await
    }

    pub(crate) async fn on_postgres() -> Option<Self> {
        let files = TempDir::with_prefix("rollcall-test-").unwrap();
        Some(Self::start(files, server()?.create_database()).await)
    }

    pub(crate) async fn start(files: TempDir, database_url: String) -> Self {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let running = run(files.path(), &database_url, &clock).await;
        let receiver = Receiver::start_with(Arc::<ManualClock>::clone(&clock));
        Self {
            key: running.first_api_key().unwrap(),
            running: Some(running),
            clock,
            files,
            database_url,
            receiver,
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.running.take().unwrap().stop().await;
        let running = run(self.files.path(), &self.database_url, &self.clock).await;
        self.running = Some(running);
    }

    /// Another node with the same clock, and its files.
    pub(crate) async fn another(&self) -> (Running, TempDir) {
        let files = TempDir::with_prefix("rollcall-test-").unwrap();
        let running = run(files.path(), &self.database_url, &self.clock).await;
        (running, files)
    }

    pub(crate) async fn stop(mut self) {
        self.running.take().unwrap().stop().await;
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.running.as_ref().unwrap().address)
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&[&self.base()], self.key.clone())
    }

    pub(crate) fn vendor(&self) -> Vendor {
        let base = format!("http://{}", self.running.as_ref().unwrap().address);
        Vendor::new(ApiClient::new().unwrap(), &base, &self.key)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.running.as_ref().unwrap().context.store
    }

    pub(crate) async fn exceptions(&self) -> Vec<exceptions::Model> {
        let rows = exceptions::Entity::find();
        rows.all(self.store().reader()).await.unwrap()
    }
}

async fn run(directory: &Path, database_url: &str, clock: &Arc<ManualClock>) -> Running {
    let settings = [
        ("DATA_DIR", directory.to_str().unwrap()),
        ("DATABASE_URL", database_url),
        ("MASTER_KEY", MASTER_KEY),
        ("LISTEN", "127.0.0.1:0"),
        ("NODE__SCHEDULER", "false"),
        ("WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8"),
        ("LIMITS__SCIM_REQUESTS_PER_SECOND", "0"),
        ("LIMITS__API_REQUESTS_PER_SECOND", "0"),
    ];
    let environment = settings
        .into_iter()
        .map(|(name, value)| (format!("ROLLCALL_{name}"), value.to_owned()));
    let config = Config::load_from(None, environment).unwrap();
    app::start_with(config, Arc::<ManualClock>::clone(clock))
        .await
        .unwrap()
}
