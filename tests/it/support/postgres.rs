//! A PostgreSQL server for tests.
//!
//! [`server`] is started once per test process (or named by `ROLLCALL_TEST_POSTGRES`, the URL of a
//! superuser) and gives each test a database of its own. [`Private`] is a server for one test alone,
//! which may crash it. Both are durable like a real one, live in a temporary directory, and end with
//! the process that started them, however it ends: a shell that waits at a pipe from us stops the
//! server and removes the directory when the pipe closes.
//!
//! `cargo test` runs all tests in one process and so starts one server. `cargo nextest` runs each test
//! in a process of its own: start a server once and name it in `ROLLCALL_TEST_POSTGRES`.
//!
//! Where PostgreSQL is not installed the tests that need it say so and pass;
//! `ROLLCALL_TEST_REQUIRE_ALL=1` makes them fail instead.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbErr};

const PREFIX: &str = "rollcall-test-postgres-";
const START_SECONDS_MAX: u64 = 60;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Starts and stops PostgreSQL at our word, and ends it when our end of the pipe closes.
const GUARD: &str = r#"
start() { "$@" </dev/null >>log 2>&1 & server=$!; echo started; }
stop() { kill -QUIT $server; wait $server; }
while read -r order; do
  case $order in start) start "$@" ;; stop) stop; echo stopped ;; esac
done
trap '' HUP INT TERM
stop
rm -rf "$PWD"
"#;

/// The server that all tests of this process share.
#[derive(Debug)]
pub(crate) struct Server {
    /// Ends in a slash; a database's name follows.
    base: String,
    admin_url: String,
    /// `None` if it was there before us.
    _cluster: Option<Cluster>,
}

/// The shared server, if there can be one.
pub(crate) fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(Server::find).as_ref()
}

impl Server {
    fn find() -> Option<Self> {
        if let Some(url) = environment("ROLLCALL_TEST_POSTGRES") {
            let (base, _) = url.rsplit_once('/').expect("a URL with a database's name");
            return Some(Self {
                base: format!("{base}/"),
                admin_url: url,
                _cluster: None,
            });
        }
        let cluster = Cluster::make()?;
        Some(Self {
            base: cluster.base(),
            admin_url: format!("{}postgres", cluster.base()),
            _cluster: Some(cluster),
        })
    }

    /// Makes an empty database and returns its URL.
    pub(crate) fn create_database(&self) -> String {
        self.copy_database("template1")
    }

    /// Makes a database like another one, to which nobody may be connected, and returns its URL.
    pub(crate) fn copy_database(&self, model: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rollcall_{}_{number}", std::process::id());
        execute(
            &self.admin_url,
            &[
                format!("DROP DATABASE IF EXISTS {name}"),
                format!("CREATE DATABASE {name} TEMPLATE {model}"),
            ],
        )
        .expect("a database can be created");
        format!("{}{name}", self.base)
    }
}

/// A server for one test, to be crashed.
#[derive(Debug)]
pub(crate) struct Private(Cluster);

impl Private {
    /// Starts one with an empty database; `None` without PostgreSQL.
    pub(crate) fn start() -> Option<Self> {
        let cluster = Cluster::make()?;
        let admin_url = format!("{}postgres", cluster.base());
        execute(&admin_url, &["CREATE DATABASE rollcall".to_owned()])
            .expect("a database can be created");
        Some(Self(cluster))
    }

    /// The URL of its database.
    pub(crate) fn url(&self) -> String {
        format!("{}rollcall", self.0.base())
    }

    /// Stops it as a power cut would: no checkpoint, no goodbye.
    pub(crate) fn stop_immediately(&mut self) {
        self.0.order("stop", "stopped");
    }

    /// Starts it again on what is on disk, on the same port.
    pub(crate) fn start_again(&mut self) {
        self.0.order("start", "started");
        self.0.wait_until_ready();
    }
}

/// A data directory and the guard that runs PostgreSQL on it.
#[derive(Debug)]
struct Cluster {
    directory: PathBuf,
    port: u16,
    guard: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    fn make() -> Option<Self> {
        let Some(binaries) = binaries() else {
            assert!(
                environment("ROLLCALL_TEST_REQUIRE_ALL").is_none_or(|value| value != "1"),
                "PostgreSQL is not installed"
            );
            eprintln!(
                "skipped: no PostgreSQL; install it (Debian: postgresql) or set \
                 ROLLCALL_TEST_POSTGRES to a superuser's URL"
            );
            return None;
        };
        remove_stale();
        let user = unprivileged_user();
        let directory = make_directory(user);
        let data = directory.join("data");
        let made = command(&binaries.join("initdb"), &directory, user)
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--no-instructions", "--pgdata"])
            .arg(&data)
            .output()
            .expect("initdb runs");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = free_port();
        let mut guard = command(Path::new("/bin/sh"), &directory, user)
            .args(["-c", GUARD, "guard"])
            .arg(binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(settings(port).iter().flat_map(|one| ["-c", one.as_str()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A signal to our process group, such as Ctrl-C, is not one to the server.
            .process_group(0)
            .spawn()
            .expect("the guard starts");
        let mut cluster = Self {
            directory,
            port,
            orders: guard.stdin.take(),
            answers: BufReader::new(guard.stdout.take().expect("a pipe")),
            guard,
        };
        cluster.order("start", "started");
        cluster.wait_until_ready();
        Some(cluster)
    }

    fn base(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/", self.port)
    }

    fn order(&mut self, order: &str, expected: &str) {
        let orders = self.orders.as_mut().expect("the guard runs");
        writeln!(orders, "{order}").expect("the guard listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        assert_eq!(answer.trim_end(), expected);
    }

    fn wait_until_ready(&self) {
        let url = format!("{}postgres", self.base());
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while let Err(error) = execute(&url, &["SELECT 1".to_owned()]) {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "not ready: {error}\n{log}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.orders.take());
        drop(self.guard.wait());
    }
}

fn settings(port: u16) -> [String; 7] {
    [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "max_connections=300".to_owned(),
        "fsync=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "log_min_messages=warning".to_owned(),
    ]
}

/// Where `initdb` and `postgres` are, links followed.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let mut versions: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort();
    candidates.extend(versions.into_iter().rev());
    candidates
        .iter()
        .find(|directory| {
            ["initdb", "postgres"]
                .iter()
                .all(|name| directory.join(name).is_file())
        })
        .and_then(|directory| directory.join("postgres").canonicalize().ok())
        .and_then(|postgres| Some(postgres.parent()?.to_owned()))
}

/// PostgreSQL refuses to run as root; who runs it then: user and group.
fn unprivileged_user() -> Option<(u32, u32)> {
    let me = Command::new("id").arg("-u").output().expect("id runs");
    if String::from_utf8_lossy(&me.stdout).trim() != "0" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, user, group, ..] = fields.as_slice() else {
                return None;
            };
            (*name == wanted).then(|| (user.parse().ok(), group.parse().ok()))
        })
    };
    let (user, group) = find("postgres").or_else(|| find("nobody"))?;
    Some((user?, group?))
}

fn command(program: &Path, directory: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_remove("PGDATA");
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}

fn make_directory(user: Option<(u32, u32)>) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{PREFIX}{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory).expect("a temporary directory can be made");
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&directory, private).expect("it is ours");
    if let Some((user, group)) = user {
        chown(&directory, Some(user), Some(group)).expect("root may do this");
    }
    directory
}

/// Removes what test processes have left whose guards were killed too.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(owner) = owner else { continue };
        if Path::new("/proc/self").exists() && !Path::new("/proc").join(owner).exists() {
            stop_orphan(&entry.path());
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Stops the server on a directory whose guard is gone, if one still runs there.
fn stop_orphan(directory: &Path) {
    let data = directory.join("data");
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else {
        return;
    };
    let pid = text.lines().next().unwrap_or_default().to_owned();
    let working_directory = std::fs::read_link(Path::new("/proc").join(&pid).join("cwd"));
    let owner = std::fs::metadata(Path::new("/proc").join(&pid)).map(|found| found.uid());
    let is_ours = std::fs::metadata(directory).map(|found| found.uid()).ok() == owner.ok();
    if is_ours && working_directory.is_ok_and(|path| path == data) {
        drop(Command::new("kill").args(["-QUIT", &pid]).status());
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

/// Connects without any of Rollcall's settings.
pub(crate) async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options
        .sqlx_logging(false)
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(2));
    Database::connect(options).await
}

/// Executes statements on a connection of their own, whether or not the caller is asynchronous.
fn execute(url: &str, statements: &[String]) -> Result<(), DbErr> {
    let work = async {
        let outcome = async {
            let connection = connect(url).await?;
            for statement in statements {
                connection.execute_unprepared(statement).await?;
            }
            connection.close().await
        };
        let outcome = outcome.await;
        if outcome.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        outcome
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(work)
        });
        thread.join().expect("no panic")
    })
}
