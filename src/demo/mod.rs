//! `rollcall demo`: the whole system on one machine, with a provider that pushes and a receiver
//! that checks.
//!
//! A server is started in this process on an empty database in a temporary directory.
//! Everything else goes over real HTTP, as it would between strangers: an organization and two
//! directories are made through the API, a simulated Okta and a simulated Entra ID
//! ([`crate::simulate`]) push people and groups, and a receiver (`receiver`) verifies every
//! webhook (`checker`). The account (`account`) is told as it happens; the verdict
//! (`verdict`) is given at the end.

mod account;
mod admin;
mod checker;
mod ledger;
mod receiver;
mod replica;
mod verdict;
mod workspace;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::future;

use self::{
    account::{ARRIVAL_SECONDS_MAX, Account},
    admin::{Admin, Connection, Endpoint},
    checker::Arrival,
    receiver::Receiver,
    verdict::Evidence,
    workspace::Workspace,
};
use crate::{
    app,
    config::Config,
    simulate::{
        self, Dialect, Figures, Plan, Summary, Target, figures,
        terminal::{Ink, Stream, Terminal},
    },
};

const ORGANIZATION: &str = "Meridian Foods";
/// This machine, and networks as homes, offices and containers have them.
const NEIGHBOURS: [&str; 6] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
];
const USERS: usize = 50;
const GROUPS: usize = 5;
const SEED: u64 = 2_026;
const LOOK_MILLISECONDS: u64 = 50;

/// How to run the demo.
#[derive(Debug, Clone, Default)]
pub struct DemoOptions {
    /// End when all is told instead of staying up.
    pub exit: bool,
    /// Send the webhooks there instead of to the demo's own receiver.
    pub forward_to: Option<String>,
    /// Where the server listens; 127.0.0.1:8080 if not said.
    pub listen: Option<SocketAddr>,
}

/// Runs the demo; whether everything arrived and was verified.
pub async fn run(options: DemoOptions) -> anyhow::Result<bool> {
    let terminal = Arc::new(Terminal::new(Stream::Out));
    let workspace = Workspace::create().context("no temporary directory could be made")?;
    let (address, is_other) = workspace::address(options.listen).context("no port is free")?;
    terminal.line(&terminal.ink(Ink::Bold, "Rollcall demo"));
    if is_other {
        let wanted = options.listen.map_or(8080, |wanted| wanted.port());
        terminal.line(&format!(
            "  port {wanted} is busy, so the server is on {}",
            address.port()
        ));
    }
    let running = app::start(configuration(workspace.path(), address)?).await?;
    let key = running
        .first_api_key()
        .context("the fresh database came without an API key")?;
    let admin = Admin::new(format!("http://{}", running.address), key.clone())?;
    let show = Show {
        terminal,
        admin,
        board: Arc::default(),
        key,
        workspace: &workspace,
        options,
    };
    let outcome = tokio::select! {
        outcome = show.play(running.address) => outcome,
        _ = tokio::signal::ctrl_c() => {
            show.terminal.line("\nStopped.");
            Ok(!show.options.exit)
        }
    };
    running.stop().await;
    outcome
}

/// The server's configuration: the defaults, whatever the environment says, with all its files in
/// the workspace. It may call this machine and its neighbours, where developers' receivers are.
fn configuration(workspace: &Path, address: SocketAddr) -> anyhow::Result<Config> {
    let mut config = Config::load_from(None, std::iter::empty())?;
    config.listen = address;
    workspace.clone_into(&mut config.data_dir);
    "warn".clone_into(&mut config.log.level);
    let networks = NEIGHBOURS.iter().map(|network| network.parse());
    config.webhooks.allow_networks = networks.collect::<Result<_, _>>()?;
    Ok(config)
}

/// Where arrivals are announced: to the account of their directory while it is told, to the
/// screen once all is over.
#[derive(Default)]
struct Board {
    accounts: Mutex<HashMap<String, Place>>,
    is_live: AtomicBool,
}

/// Who takes the arrivals of a directory.
enum Place {
    Account(Arc<Account>),
    /// Nobody yet: a directory's first webhook can overtake the answer that names the directory.
    Waiting(Vec<Arrival>),
}

impl Board {
    fn announce(&self, terminal: &Terminal, arrival: &Arrival) {
        {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            let nobody = || Place::Waiting(Vec::new());
            match accounts
                .entry(arrival.directory.clone())
                .or_insert_with(nobody)
            {
                Place::Account(account) => account.arrive(arrival),
                Place::Waiting(waiting) => waiting.push(arrival.clone()),
            }
        }
        if self.is_live.load(Ordering::Relaxed) {
            let Arrival {
                event,
                title,
                sequence,
                ..
            } = arrival;
            let verified = terminal.ink(Ink::Green, "✓");
            terminal.line(&format!(
                "{verified} {event:<25} {title} (sequence {sequence})"
            ));
        }
    }

    fn post(&self, directory: &str, account: &Arc<Account>) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Place::Account(Arc::clone(account));
        if let Some(Place::Waiting(waiting)) = accounts.insert(directory.to_owned(), place) {
            for arrival in &waiting {
                account.arrive(arrival);
            }
        }
    }
}

/// One performance.
struct Show<'a> {
    terminal: Arc<Terminal>,
    admin: Admin,
    board: Arc<Board>,
    key: String,
    workspace: &'a Workspace,
    options: DemoOptions,
}

/// One provider's act, played to its end.
struct Act {
    connection: Connection,
    account: Arc<Account>,
    summary: Summary,
    ended: Instant,
}

impl Show<'_> {
    async fn play(&self, address: SocketAddr) -> anyhow::Result<bool> {
        let started = Instant::now();
        let receiver = match self.options.forward_to {
            Some(_) => None,
            None => Some(self.open_receiver()?),
        };
        let url = receiver
            .as_ref()
            .map(Receiver::url)
            .or(self.options.forward_to.clone());
        let url = url.unwrap_or_default();
        self.introduce(address, &url);
        let endpoint = self.admin.create_endpoint(&url).await?;
        if let Some(receiver) = &receiver {
            receiver.expect_secret(endpoint.secret.clone());
        } else {
            self.field("secret", &endpoint.secret);
        }
        let organization = self.admin.create_organization(ORGANIZATION).await?;
        let mut acts = Vec::new();
        for dialect in [Dialect::Okta, Dialect::Entra] {
            acts.push(
                self.perform(&organization, dialect, receiver.is_some())
                    .await?,
            );
        }
        self.terminal.line("");
        let is_well = match &receiver {
            Some(receiver) => self.judge(receiver, &acts).await?,
            None => self.judge_forwarded(&endpoint, &acts).await?,
        };
        self.conclude(is_well, receiver.is_some(), started.elapsed());
        if !self.options.exit {
            self.stay(address, &endpoint, &acts);
            future::pending::<()>().await;
        }
        if let Some(receiver) = receiver {
            receiver.stop().await;
        }
        Ok(is_well)
    }

    fn open_receiver(&self) -> anyhow::Result<Receiver> {
        let (board, terminal) = (Arc::clone(&self.board), Arc::clone(&self.terminal));
        let listener = Box::new(move |arrival: &Arrival| board.announce(&terminal, arrival));
        Receiver::start(listener).context("the webhook receiver could not listen")
    }

    fn introduce(&self, address: SocketAddr, url: &str) {
        self.field("server", &format!("http://{address}"));
        let database = self.workspace.path().display();
        self.field("database", &format!("a fresh SQLite file in {database}"));
        self.field("webhooks", &format!("to {url}"));
        let directories = "one directory fed by Okta, one by Entra ID";
        self.field("customer", &format!("{ORGANIZATION}: {directories}"));
    }

    async fn perform(
        &self,
        organization: &str,
        dialect: Dialect,
        is_receiving: bool,
    ) -> anyhow::Result<Act> {
        let connection = self.admin.connect(organization, dialect).await?;
        let account = Arc::new(Account::new(Arc::clone(&self.terminal), is_receiving));
        self.board.post(&connection.id, &account);
        self.terminal.line("");
        self.terminal
            .line(&self.terminal.ink(Ink::Bold, dialect.name()));
        let target = Target {
            scim_base_url: connection.scim_base_url.clone(),
            token: connection.token.clone(),
        };
        let plan = Plan {
            users: USERS,
            groups: GROUPS,
            rate: None,
            seed: SEED,
        };
        let pushing = async {
            let outcome = simulate::run(dialect, &target, &plan, &*account).await;
            account.end();
            (outcome, Instant::now())
        };
        let ((summary, ended), ()) = future::join(pushing, account.tell()).await;
        Ok(Act {
            connection,
            account,
            summary: summary?,
            ended,
        })
    }

    /// Waits until all that was written has arrived, and judges it.
    async fn judge(&self, receiver: &Receiver, acts: &[Act]) -> anyhow::Result<bool> {
        let deadline = deadline(acts);
        let mut sequences = Vec::new();
        for act in acts {
            sequences.push(loop {
                let last = self.admin.last_sequence(&act.connection.id).await?;
                let is_complete = receiver.checker().is_complete(&act.connection.id, last)
                    && act.account.outstanding() == 0;
                if is_complete || Instant::now() >= deadline {
                    break last;
                }
                tokio::time::sleep(Duration::from_millis(LOOK_MILLISECONDS)).await;
            });
        }
        let latencies = acts
            .iter()
            .flat_map(|act| act.account.latencies())
            .collect();
        let evidence = evidence(acts, &sequences);
        let figures = Figures::of(latencies);
        Ok(verdict::print(
            &self.terminal,
            &receiver.checker(),
            &evidence,
            figures,
        ))
    }

    /// Waits until the developer's own receiver has answered everything.
    async fn judge_forwarded(&self, endpoint: &Endpoint, acts: &[Act]) -> anyhow::Result<bool> {
        let deadline = deadline(acts);
        let undelivered = loop {
            let undelivered = self.admin.undelivered(&endpoint.id).await?;
            if undelivered == 0 || Instant::now() >= deadline {
                break undelivered;
            }
            self.terminal
                .transient(&format!("  {undelivered} events to deliver"));
            tokio::time::sleep(Duration::from_millis(LOOK_MILLISECONDS)).await;
        };
        let mut sequences = Vec::new();
        for act in acts {
            sequences.push(self.admin.last_sequence(&act.connection.id).await?);
        }
        let evidence = evidence(acts, &sequences);
        Ok(verdict::print_forwarded(
            &self.terminal,
            &evidence,
            undelivered,
        ))
    }

    fn conclude(&self, is_well: bool, is_verified: bool, took: Duration) {
        let took = figures::duration(took);
        let text = match (is_well, is_verified) {
            (true, true) => format!("Everything arrived and was verified, in {took}."),
            (true, false) => format!("Everything was delivered, in {took}."),
            (false, _) => format!("Not everything is as it should be, after {took}."),
        };
        let ink = if is_well { Ink::Green } else { Ink::Red };
        self.terminal
            .line(&format!("\n{}", self.terminal.ink(ink, &text)));
    }

    /// Says what can be done with the server while it stays up.
    fn stay(&self, address: SocketAddr, endpoint: &Endpoint, acts: &[Act]) {
        self.board.is_live.store(true, Ordering::Relaxed);
        self.terminal
            .line("\nStill running; Ctrl-C stops it and removes all it stored.");
        self.field("dashboard", &format!("http://{address}/dashboard"));
        self.field("API key", &self.key);
        self.field("secret", &endpoint.secret);
        for Act { connection, .. } in acts {
            self.field(connection.dialect.name(), &connection.scim_base_url);
            self.field("  token", &connection.token);
        }
        let Some(Act { connection, .. }) = acts.first() else {
            return;
        };
        let command = format!(
            "curl {}/Users \\\n  -H 'Authorization: Bearer {}' \\\n  \
             -H 'Content-Type: application/scim+json' \\\n  \
             -d '{{\"schemas\":[\"urn:ietf:params:scim:schemas:core:2.0:User\"],\n       \
             \"userName\":\"ada@meridian.example\",\"active\":true,\n       \
             \"name\":{{\"givenName\":\"Ada\",\"familyName\":\"Lovelace\"}}}}'\n",
            connection.scim_base_url, connection.token,
        );
        self.terminal
            .line("\nPush one more person, and see the webhook arrive here:\n");
        self.terminal.line(&self.terminal.ink(Ink::Cyan, &command));
    }

    fn field(&self, name: &str, value: &str) {
        self.terminal.line(&format!(
            "  {} {value}",
            self.terminal.ink(Ink::Dim, &format!("{name:<10}"))
        ));
    }
}

/// When to stop waiting for webhooks.
fn deadline(acts: &[Act]) -> Instant {
    let ended = acts
        .iter()
        .map(|act| act.ended)
        .max()
        .unwrap_or_else(Instant::now);
    ended + Duration::from_secs(ARRIVAL_SECONDS_MAX)
}

fn evidence<'a>(acts: &'a [Act], sequences: &[u64]) -> Vec<Evidence<'a>> {
    let of = |(act, last): (&'a Act, &u64)| Evidence {
        directory: &act.connection.id,
        last_sequence: *last,
        summary: &act.summary,
        unexplained: act.account.unexplained(),
        outstanding: act.account.outstanding(),
    };
    acts.iter().zip(sequences).map(of).collect()
}
