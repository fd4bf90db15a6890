//! The real binary as a process of its own, to be killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rollcall::outbound::ApiClient;
use tempfile::TempDir;

use super::postgres::{Server, free_port};
use super::waiting::eventually;

const READY_SECONDS_MAX: u64 = 40;
const STOP_SECONDS_MAX: u64 = 30;
const BINARY: &str = env!("CARGO_BIN_EXE_rollcall");

/// What one installation has in common: its database, its key and a place for files.
#[derive(Debug)]
pub(crate) struct Installation {
    files: TempDir,
    /// `None` for SQLite.
    database_url: Option<String>,
    master_key: &'static str,
    nodes: AtomicUsize,
}

impl Installation {
    /// One node on SQLite.
    pub(crate) fn on_sqlite() -> Self {
        Self::new(None)
    }

    /// Any number of nodes on an empty database of `server`.
    pub(crate) fn on_postgres(server: &Server) -> Self {
        Self::new(Some(server.create_database()))
    }

    /// Any number of nodes on the PostgreSQL database of this URL.
    pub(crate) fn at(database_url: impl Into<String>) -> Self {
        Self::new(Some(database_url.into()))
    }

    fn new(database_url: Option<String>) -> Self {
        Self {
            files: TempDir::with_prefix("rollcall-test-").expect("a temporary directory"),
            database_url,
            master_key: master_key(),
            nodes: AtomicUsize::new(0),
        }
    }

    /// The URL of its database.
    pub(crate) fn database_url(&self) -> String {
        self.database_url.clone().unwrap_or_else(|| {
            let file = self.files.path().join("node-0/rollcall.sqlite3");
            format!("sqlite:{}", file.display())
        })
    }

    /// Starts a node and waits until it is ready.
    pub(crate) async fn start(&self) -> Node {
        let node = self.launch();
        node.wait_until_ready().await;
        node
    }

    /// Starts a node.
    pub(crate) fn launch(&self) -> Node {
        let mut node = self.prepare();
        node.launch();
        node
    }

    /// A node that has not been started.
    pub(crate) fn prepare(&self) -> Node {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        let directory = self.files.path().join(format!("node-{number}"));
        std::fs::create_dir(&directory).expect("the directory is ours");
        let port = free_port();
        let mut settings = vec![
            ("DATA_DIR", directory.display().to_string()),
            ("LISTEN", format!("127.0.0.1:{port}")),
            ("WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8".to_owned()),
            ("LOG__LEVEL", "info".to_owned()),
            ("LIMITS__SCIM_REQUESTS_PER_SECOND", "0".to_owned()),
            ("LIMITS__API_REQUESTS_PER_SECOND", "0".to_owned()),
            ("LIMITS__FAILED_AUTH_PER_MINUTE", "0".to_owned()),
        ];
        if let Some(url) = &self.database_url {
            settings.push(("DATABASE_URL", url.clone()));
            settings.push(("MASTER_KEY", self.master_key.to_owned()));
        }
        Node {
            base: format!("http://127.0.0.1:{port}"),
            directory,
            settings,
            environment: Vec::new(),
            limit: None,
            child: None,
        }
    }

    /// The first API key, which one of the nodes has written into a file.
    pub(crate) async fn api_key(&self) -> String {
        let find = || {
            let nodes = std::fs::read_dir(self.files.path()).expect("our directory");
            nodes.flatten().find_map(|node| {
                let file = node.path().join("first-credentials.txt");
                let text = std::fs::read_to_string(file).ok()?;
                let line = text.strip_suffix('\n')?;
                Some(line.strip_prefix("ROLLCALL_API_KEY=")?.to_owned())
            })
        };
        eventually("an API key", Duration::from_secs(10), async || {
            find().is_some()
        })
        .await;
        find().expect("it was there")
    }
}

/// A server process.
#[derive(Debug)]
pub(crate) struct Node {
    base: String,
    directory: PathBuf,
    settings: Vec<(&'static str, String)>,
    environment: Vec<(&'static str, String)>,
    /// What the shell is told before the server takes its place.
    limit: Option<&'static str>,
    child: Option<Child>,
}

impl Node {
    /// Where it answers, without a slash at the end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Where it keeps its files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// How a setting is set, or "".
    pub(crate) fn setting(&self, name: &str) -> &str {
        let found = self.settings.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Changes a setting from the next start on.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
    }

    /// Sets a variable of the environment that is not one of Rollcall's settings.
    pub(crate) fn set_environment(&mut self, name: &'static str, value: String) {
        self.environment.push((name, value));
    }

    /// Starts it under a limit from now on, set by commands of the shell such as `ulimit -n 64`.
    pub(crate) fn limit(&mut self, commands: &'static str) {
        self.limit = Some(commands);
    }

    /// The binary with its settings, for a verb beside it.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Command {
        let mut command = command_under(self.limit);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for (name, value) in &self.settings {
            command.env(format!("ROLLCALL_{name}"), value);
        }
        command
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn launch(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .expect("a log file");
        let child = self
            .verb(&["serve"])
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn wait_until_ready(&self) {
        let client = ApiClient::new().expect("a client");
        let url = format!("{}/readyz", self.base);
        let limit = Duration::from_secs(READY_SECONDS_MAX);
        let what = format!("a node ready; its log is {}", self.directory.display());
        eventually(&what, limit, async || {
            let answer = client.send("GET", &url, None, "", None, &[]).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Ends it at once, with no chance to do anything.
    pub(crate) fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Starts it again, on the same port and files, and waits until it is ready.
    pub(crate) async fn start_again(&mut self) {
        self.kill_9();
        self.launch();
        self.wait_until_ready().await;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let told = Command::new("kill")
            .args([name, &self.pid().to_string()])
            .status();
        assert!(told.is_ok_and(|status| status.success()));
    }

    /// Starts it and waits until it has given up; fails if it ended well. Returns what it said.
    pub(crate) async fn fail_to_start(&mut self) -> String {
        self.kill_9();
        let before = self.log().len();
        self.launch();
        let mut child = self.child.take().expect("it was started");
        let mut status = None;
        eventually(
            "a refusal",
            Duration::from_secs(READY_SECONDS_MAX),
            async || {
                status = child.try_wait().expect("it can be asked");
                status.is_some()
            },
        )
        .await;
        assert!(status.is_some_and(|status| !status.success()), "{status:?}");
        self.log().split_off(before)
    }

    /// Asks it to stop and waits until it has; fails unless it ended well.
    pub(crate) async fn terminate(&mut self) {
        self.signal("-TERM");
        self.wait_until_ended().await;
    }

    /// Waits until it has ended; fails unless it ended well.
    pub(crate) async fn wait_until_ended(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let mut status = None;
        eventually(
            "a stop",
            Duration::from_secs(STOP_SECONDS_MAX),
            async || {
                status = child.try_wait().expect("it can be asked");
                status.is_some()
            },
        )
        .await;
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill_9();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(30));
            eprintln!("--- the last of the log of {}", self.base);
            last.for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The binary, without any setting from our own environment.
pub(crate) fn command() -> Command {
    command_under(None)
}

/// The same in a shell that sets a limit first.
fn command_under(limit: Option<&str>) -> Command {
    let mut command = match limit {
        None => Command::new(BINARY),
        Some(limit) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &format!("{limit}; exec \"$@\""), "sh", BINARY]);
            shell
        }
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROLLCALL_") {
            command.env_remove(name);
        }
    }
    command
}

/// The output of a verb that must succeed.
#[track_caller]
pub(crate) fn succeed(mut command: Command) -> String {
    let output = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).expect("text")
}

/// The one line with which a verb must fail.
#[track_caller]
pub(crate) fn fail(mut command: Command) -> String {
    let output = command.output().expect("it runs");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    told
}

/// A master key, made as an operator would.
fn master_key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let made = command().args(["key", "new"]).output().expect("it runs");
        String::from_utf8(made.stdout)
            .expect("text")
            .trim()
            .to_owned()
    })
}
