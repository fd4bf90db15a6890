//! A server in this process, on a free port, with a database and a clock of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rollcall::app::{self, Running};
use rollcall::audit::verify::{self, Report};
use rollcall::audit::{Key, Sealer};
use rollcall::clock::ManualClock;
use rollcall::config::Config;
use rollcall::context::Context;
use rollcall::outbound::ApiClient;
use rollcall::requests::retention;
use rollcall::secrets::MasterKey;
use rollcall::storage::Store;
use rollcall::webhooks::retention::{Removed, forget};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::actors::{Idp, Vendor};
use super::database::{Backend, Database};

/// Where the clock of every app stands at first: 2026-01-15T12:00:00.000Z.
const START_MS: i64 = 1_768_478_400_000;

/// A setting's dotted name and its value.
pub(crate) type Setting = (&'static str, &'static str);

/// What differs from the defaults, unless the test says otherwise: no limits, and no workers, so that
/// nothing happens but what the test does.
const SETTINGS: [Setting; 8] = [
    ("listen", "127.0.0.1:0"),
    ("webhooks.allow_networks", "127.0.0.0/8"),
    ("limits.scim_requests_per_second", "0"),
    ("limits.api_requests_per_second", "0"),
    ("limits.failed_auth_per_minute", "0"),
    ("node.dispatcher", "false"),
    ("node.scheduler", "false"),
    ("shutdown_timeout_seconds", "10"),
];

/// A server under test; clones are the same server.
#[derive(Clone)]
pub(crate) struct TestApp {
    context: Context,
    clock: Arc<ManualClock>,
    client: ApiClient,
    url: String,
    api_key: String,
    running: Arc<Mutex<Option<Running>>>,
}

/// Runs `check` against a server on a database of its own, and stops it.
pub(crate) fn run<F: Future<Output = ()>>(
    backend: Backend,
    settings: &[Setting],
    check: impl FnOnce(TestApp) -> F,
) {
    if let Some(database) = Database::with_tables(backend) {
        run_on(&database, settings, check);
    }
}

/// Runs `check` against a server on `database`, and stops it.
pub(crate) fn run_on<F: Future<Output = ()>>(
    database: &Database,
    settings: &[Setting],
    check: impl FnOnce(TestApp) -> F,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // Each inline snapshot is looked at once per database.
    insta::allow_duplicates! {
        runtime.block_on(async {
            let app = TestApp::start(database, settings).await;
            let running = Arc::clone(&app.running);
            // Takes the client's open connections along, for which the server would wait.
            Box::pin(check(app)).await;
            stop(&running).await;
        });
    }
}

/// Stops the server as SIGTERM would.
async fn stop(running: &Mutex<Option<Running>>) {
    let running = running.lock().unwrap().take();
    if let Some(running) = running {
        running.stop().await;
    }
}

impl TestApp {
    /// Starts a server on `database`, which must not have had one.
    pub(crate) async fn start(database: &Database, settings: &[Setting]) -> Self {
        let clock = Arc::new(ManualClock::at(START_MS));
        let config = config(database, settings);
        let running = app::start_with(config, Arc::<ManualClock>::clone(&clock))
            .await
            .unwrap();
        Self {
            context: running.context.clone(),
            clock,
            client: ApiClient::new().unwrap(),
            url: format!("http://{}", running.address),
            api_key: running.first_api_key().unwrap(),
            running: Arc::new(Mutex::new(Some(running))),
        }
    }

    /// Where the server is, without a slash at its end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// IP address and port of the server.
    pub(crate) fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// The server's database.
    pub(crate) fn store(&self) -> &Store {
        &self.context.store
    }

    /// Writes down who was heard when, as the server does every few seconds.
    pub(crate) async fn write_down_activity(&self) {
        let written = self.context.activity.write_down(&self.context.store).await;
        written.unwrap();
    }

    /// The server's clock.
    pub(crate) fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    /// What the audit trail is sealed with.
    pub(crate) fn audit_key(&self) -> Arc<Key> {
        Arc::new(Key::of(&self.context.master_key))
    }

    /// Seals the audit trail, as the server does every second.
    pub(crate) async fn seal_audit_trail(&self) {
        let mut sealer = Sealer::new(self.store().clone(), self.audit_key());
        while sealer.step().await.unwrap() {}
    }

    /// Verifies the audit trail at the server's time.
    pub(crate) async fn verify_audit_trail(&self, heads: Option<&Path>) -> Report {
        let now = self.context.clock.now();
        verify::verify(self.store(), &self.audit_key(), heads, now)
            .await
            .unwrap()
    }

    /// Writes down what providers asked, as the server does a few times a second.
    pub(crate) async fn write_down_requests(&self) {
        let log = &self.context.request_log;
        log.write_down(&self.context.store).await.unwrap();
    }

    /// Forgets old requests, as the server does every few minutes; how many.
    pub(crate) async fn forget_requests(&self) -> u64 {
        let stop = CancellationToken::new();
        retention::forget(&self.context.store, self.context.requests, &stop)
            .await
            .unwrap()
    }

    /// Forgets old events and deliveries, as the server does every few minutes; after one step if `stop`
    /// has come.
    pub(crate) async fn forget_events(&self, stop: &CancellationToken) -> Removed {
        let context = &self.context;
        let (events, deliveries) = (context.events, context.deliveries);
        forget(&context.store, events, deliveries, stop)
            .await
            .unwrap()
    }

    /// The server's time.
    pub(crate) fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.context.clock.now()
    }

    /// Moves the server's clock on.
    pub(crate) fn advance_seconds(&self, seconds: i64) {
        self.clock.advance_ms(seconds * 1_000);
    }

    /// A vendor with the first API key.
    pub(crate) fn vendor(&self) -> Vendor {
        self.vendor_with(&self.api_key)
    }

    /// The first API key.
    pub(crate) fn api_key(&self) -> &str {
        &self.api_key
    }

    /// A vendor with this API key.
    pub(crate) fn vendor_with(&self, key: &str) -> Vendor {
        Vendor::new(self.client.clone(), &self.url, key)
    }

    /// The provider of a new directory of a new organization.
    pub(crate) async fn idp(&self) -> Idp {
        let vendor = self.vendor();
        let organization = vendor.create_organization(json!({"name": "Acme"})).await;
        let organization = organization.expect(201);
        self.idp_of(&organization["id"]).await
    }

    /// The provider of a new directory of this organization.
    pub(crate) async fn idp_of(&self, organization_id: &serde_json::Value) -> Idp {
        let vendor = self.vendor();
        let directory = vendor
            .create_directory(json!({
                "organization_id": organization_id,
                "name": "Acme's directory",
                "type": "generic scim v2.0",
            }))
            .await
            .expect(201);
        let id = directory["id"].as_str().unwrap();
        let token = vendor.create_token(id, json!({})).await.expect(201);
        Idp::new(
            self.client.clone(),
            directory["scim_base_url"].as_str().unwrap(),
            token["token"].as_str().unwrap(),
            id,
        )
    }
}

fn config(database: &Database, settings: &[Setting]) -> Config {
    let own = [
        ("data_dir", database.data_dir().display().to_string()),
        ("database_url", database.url.clone()),
        ("master_key", MasterKey::generate().expose().to_string()),
    ];
    let environment = SETTINGS
        .iter()
        .chain(settings)
        .map(|(name, value)| (*name, (*value).to_owned()))
        .chain(own)
        .map(|(name, value)| (variable(name), value));
    Config::load_from(None, environment).unwrap()
}

/// The environment variable of a setting.
pub(crate) fn variable(setting: &str) -> String {
    format!("ROLLCALL_{}", setting.replace('.', "__").to_uppercase())
}
