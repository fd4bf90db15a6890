//! The composition root: opens the database, starts what the configuration asks for, and stops it.
//!
//! The order of a start makes its failures harmless: the port is taken first, then the database is
//! opened, its schema checked and the master key compared, before anything is written.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::{Compress, NormalizePath, from_fn};
use actix_web::web::Data;
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::Activity;
use crate::clock::{Clock, SystemClock};
use crate::config::{Backend, Config};
use crate::context::Context;
use crate::first_start::{self, generation};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::outbound::{AddressPolicy, TimeLimits, WebhookClient};
use crate::secrets::{MasterKey, SecretError};
use crate::storage::schema::{self, State};
use crate::storage::{Opener, Store};
use crate::web::connections::Connections;
use crate::web::front::{self, Refused};
use crate::web::peer::TrustedProxies;
use crate::webhooks::{driver, replay, snapshot};
use crate::{api, jobs, requests, scim};

/// The fact that tells a wrong master key.
pub const MASTER_KEY_CHECK: &str = "master_key_check";
/// A client has this long to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without requests stays open for this long; longer than providers pause.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const CONNECTIONS_MAX: usize = 4_096;
/// How much of the shutdown is left for closing after webhooks have been written down.
const CLOSING: Duration = Duration::from_secs(3);

/// A running server.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// What its handlers have at hand.
    pub context: Context,
    first_api_key: Option<String>,
    server: Option<ServerHandle>,
    stop: CancellationToken,
    tasks: TaskTracker,
    shutdown_timeout: Duration,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Running")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// The API key that was made because the database was fresh.
    pub fn first_api_key(&self) -> Option<String> {
        self.first_api_key.clone()
    }

    /// Stops: no new requests, then no new webhooks, then everything is written down and closed.
    pub async fn stop(self) {
        let stopping = async {
            if let Some(server) = &self.server {
                server.stop(true).await;
            }
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            self.context.store.close().await;
        };
        if tokio::time::timeout(self.shutdown_timeout, stopping)
            .await
            .is_err()
        {
            tracing::warn!("the shutdown took too long; what is left is done after the next start");
        }
    }
}

/// Starts a server with the machine's clock.
///
/// # Errors
/// Something in the configuration or the environment does not allow it; nothing was changed.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    start_with(config, Arc::new(SystemClock)).await
}

/// Starts a server with a clock of the caller's.
///
/// # Errors
/// Something in the configuration or the environment does not allow it; nothing was changed.
pub async fn start_with(mut config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Running> {
    let listener = if config.node.web {
        Some(listen(config.listen)?)
    } else {
        None
    };
    if let Some(listener) = &listener {
        config.listen = listener.local_addr().context("the port cannot be read")?;
    }
    let (store, master_key) = open(&config, Opener::Server, Arc::clone(&clock)).await?;
    let first_api_key = first_start::api_key(&store).await?;
    let generation =
        generation::at_start(&store, clock.now(), config.database.lossy_failover).await?;
    let context = context(&config, store, master_key, clock);
    let mut running = Running {
        address: config.listen,
        first_api_key,
        server: None,
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        shutdown_timeout: Duration::from_secs(u64::from(config.shutdown_timeout_seconds)),
        context,
    };
    start_workers(&config, &running, generation)?;
    if let Some(listener) = listener {
        running.server = Some(serve(&config, &running, listener)?);
    }
    tracing::info!(address = %running.address, version = env!("CARGO_PKG_VERSION"), "started");
    Ok(running)
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; stop what uses the port, or set ROLLCALL_LISTEN")
    })?;
    listener
        .set_nonblocking(true)
        .context("cannot prepare the port")?;
    Ok(listener)
}

/// Opens the database and the master key and brings the schema up to date.
///
/// # Errors
/// The database cannot be used, or the key is missing or wrong; nothing was changed.
pub async fn open(
    config: &Config,
    opener: Opener,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(Store, MasterKey)> {
    let url = config.database_url();
    if url.backend() == Backend::Sqlite
        && opener == Opener::Command
        && let Some(file) = url.sqlite_file()
        && !file.exists()
    {
        bail!(
            "there is no database at {}; start `rollcall serve` once, or set ROLLCALL_DATABASE_URL",
            file.display()
        );
    }
    let store = Store::open(url.expose(), opener, clock).await?;
    let state = schema::check(&store).await?;
    let stored = if state == State::Behind(migration::names()) {
        None
    } else {
        schema::read_fact(store.statement_connection(), MASTER_KEY_CHECK).await?
    };
    let mut master_key = master_key(config, url.backend(), stored.is_none())?;
    if let Some(stored) = &stored {
        master_key = known_to(master_key, stored)?;
    }
    if opener == Opener::Server && config.migrate {
        for name in schema::migrate(&store).await? {
            tracing::info!(migration = name, "migrated");
        }
    } else {
        schema::require(&store).await?;
    }
    let check = STANDARD.encode(master_key.check_value());
    let writer = store.statement_connection();
    if stored.is_none() && !schema::claim_fact(writer, MASTER_KEY_CHECK, &check).await? {
        // Another node was faster; its key must be ours.
        let stored = schema::read_fact(writer, MASTER_KEY_CHECK).await?;
        master_key = known_to(master_key, stored.as_deref().unwrap_or(""))?;
    }
    Ok((store, master_key))
}

/// The key as the database with this check value knows it.
///
/// # Errors
/// It is not a key of that database.
pub fn known_to(master_key: MasterKey, stored: &str) -> Result<MasterKey, SecretError> {
    master_key.of_database(&STANDARD.decode(stored).unwrap_or_default())
}

/// The key from the configuration; on SQLite else from its file, which the first start makes.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn master_key(
    config: &Config,
    backend: Backend,
    may_create: bool,
) -> anyhow::Result<MasterKey> {
    if let Some(key) = &config.master_key {
        return MasterKey::parse(key.expose_secret())
            .context("ROLLCALL_MASTER_KEY (master_key) cannot be used");
    }
    if backend == Backend::Postgres && config.master_key_file.is_none() {
        bail!(
            "on PostgreSQL the master key must be configured: make one with `rollcall key new` and \
             set ROLLCALL_MASTER_KEY to it, the same on every node"
        );
    }
    let path = config.master_key_file();
    let may_create = may_create && backend == Backend::Sqlite;
    if may_create && let Some(directory) = path.parent().filter(|path| *path != Path::new("")) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    }
    Ok(MasterKey::load_or_create(&path, may_create)?)
}

/// What handlers and commands have at hand.
pub fn context(
    config: &Config,
    store: Store,
    master_key: MasterKey,
    clock: Arc<dyn Clock>,
) -> Context {
    Context {
        store,
        clock,
        master_key: Arc::new(master_key),
        public_url: Arc::new(config.public_url()),
        address_policy: Arc::new(AddressPolicy {
            allow_networks: config.webhooks.allow_networks.clone(),
        }),
        name_servers: config.webhooks.name_servers.clone().into(),
        limits: Arc::new(Limits::new(&config.limits)),
        directories: config.directories,
        requests: config.requests,
        audit: config.audit.clone(),
        events: config.events,
        deliveries: config.deliveries,
        metrics: Arc::new(Metrics::new()),
        activity: Arc::new(Activity::default()),
        request_log: Arc::new(requests::Queue::default()),
    }
}

fn start_workers(config: &Config, running: &Running, generation: i32) -> anyhow::Result<()> {
    let context = &running.context;
    if config.node.dispatcher {
        let policy = AddressPolicy::clone(&context.address_policy);
        let tools = driver::Tools {
            store: context.store.clone(),
            clock: Arc::clone(&context.clock),
            client: WebhookClient::new(
                policy,
                TimeLimits::default(),
                &config.webhooks.name_servers,
            )?,
            master_key: Arc::clone(&context.master_key),
            generation,
            metrics: Arc::clone(&context.metrics),
        };
        running
            .tasks
            .spawn(snapshot::run(tools.clone(), running.stop.clone()));
        running
            .tasks
            .spawn(replay::run::work(tools.clone(), running.stop.clone()));
        let drain_within = running.shutdown_timeout.saturating_sub(CLOSING);
        running
            .tasks
            .spawn(driver::run(tools, running.stop.clone(), drain_within));
    }
    if config.node.scheduler {
        running
            .tasks
            .spawn(jobs::run_schedules(context.clone(), running.stop.clone()));
        running.tasks.spawn(jobs::audit::seal(
            context.clone(),
            config.audit_heads_file(),
            running.stop.clone(),
        ));
    }
    running
        .tasks
        .spawn(jobs::write_activity(context.clone(), running.stop.clone()));
    running
        .tasks
        .spawn(jobs::write_requests(context.clone(), running.stop.clone()));
    Ok(())
}

fn serve(
    config: &Config,
    running: &Running,
    listener: TcpListener,
) -> anyhow::Result<ServerHandle> {
    let context = Data::new(running.context.clone());
    let limits = Data::from(Arc::clone(&running.context.limits));
    let proxies = TrustedProxies(config.trusted_proxies.clone());
    let connections = Connections::new(config.limits.connections_per_address, proxies.clone());
    let proxies = Data::new(proxies);
    let metrics_access = Data::new(config.metrics.clone());
    let scim = scim::routes::shared();
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(context.clone())
            .app_data(limits.clone())
            .app_data(scim.clone())
            .app_data(proxies.clone())
            .app_data(metrics_access.clone())
            .wrap(NormalizePath::trim())
            .wrap(Compress::default())
            .wrap(from_fn(|request, next| {
                front::handle(request, next, refuse)
            }))
            .route("/livez", actix_web::web::get().to(livez))
            .route("/readyz", actix_web::web::get().to(readyz))
            .route("/metrics", actix_web::web::get().to(api::metrics::show))
            .configure(scim::routes::configure)
            .configure(api::routes::configure)
            .default_service(actix_web::web::to(api::routes::not_found))
    })
    .on_connect(move |connection, extensions| connections.accept(connection, extensions))
    .workers(workers)
    // actix-web counts them per worker.
    .max_connections(CONNECTIONS_MAX.div_ceil(workers))
    .client_request_timeout(HEAD_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(u64::from(
        config.shutdown_timeout_seconds.saturating_sub(10).max(1),
    ))
    .disable_signals()
    .listen(listener)
    .context("the HTTP server cannot start")?
    .run();
    let handle = server.handle();
    running.tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the HTTP server failed");
        }
    });
    Ok(handle)
}

/// What is refused before it has a handler is answered in the form of whoever would have had it.
fn refuse(path: &str, refused: Refused) -> HttpResponse {
    if path == "/scim" || path.starts_with("/scim/") {
        scim::routes::refuse(refused)
    } else {
        api::routes::refuse(refused)
    }
}

/// The process is alive.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "ok"}))
}

/// The database answers.
async fn readyz(context: Data<Context>) -> HttpResponse {
    match schema::check(&context.store).await {
        Ok(_) => HttpResponse::Ok().json(serde_json::json!({"status": "ok"})),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            HttpResponse::ServiceUnavailable()
                .json(serde_json::json!({"status": "the database does not answer"}))
        }
    }
}
