//! PgBouncer between us and PostgreSQL: one that loses prepared statements is refused, behind any other
//! everything works.
//!
//! PgBouncer is looked for in PATH and /usr/sbin; without it these tests say so and pass.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::client::Admin;
use crate::support::postgres::{environment, free_port, server};
use crate::support::process::{Installation, fail};
use crate::support::receiver::Receiver;
use crate::support::waiting::{eventually, settled};

/// The first one that keeps prepared statements in transaction mode.
const KEEPS_STATEMENTS: (u32, u32) = (1, 21);
const START_MAX: Duration = Duration::from_secs(20);
const DELIVERY_MAX: Duration = Duration::from_secs(30);

/// A running PgBouncer; killed when dropped.
struct Bouncer {
    child: Child,
    url: String,
    _files: TempDir,
}

impl Bouncer {
    /// Starts one before the database at `url`, and waits until it answers.
    async fn start(program: &Path, url: &str, settings: &[(&str, &str)]) -> Self {
        let files = TempDir::with_prefix("rollcall-test-").unwrap();
        let (behind, port) = (url::Url::parse(url).unwrap(), free_port());
        let mut text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\nmax_client_conn = 200\ndefault_pool_size = 60\n",
            behind.port().unwrap()
        );
        for (name, value) in settings {
            writeln!(text, "{name} = {value}").unwrap();
        }
        let file = files.path().join("pgbouncer.ini");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        let me = Command::new("id").arg("-u").output().unwrap();
        if me.stdout == b"0\n" {
            // It refuses to run as root.
            command.args(["-u", "nobody"]);
        }
        let child = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut before = behind.clone();
        before.set_port(Some(port)).unwrap();
        let bouncer = Self {
            child,
            url: before.into(),
            _files: files,
        };
        eventually("PgBouncer", START_MAX, async || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        bouncer
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where PgBouncer is, and its version.
fn pgbouncer() -> Option<(PathBuf, (u32, u32))> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join("pgbouncer"))
        .find(|program| program.is_file());
    let Some(program) = found else {
        assert!(
            environment("ROLLCALL_TEST_REQUIRE_ALL").is_none_or(|value| value != "1"),
            "PgBouncer is not installed"
        );
        eprintln!("skipped: no PgBouncer; install it (Debian: pgbouncer)");
        return None;
    };
    let told = Command::new(&program).arg("--version").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let version = told.lines().next()?.strip_prefix("PgBouncer ")?;
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    Some((program, (numbers.next()?, numbers.next()?)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_loses_prepared_statements_is_refused_in_one_line() {
    let (Some(server), Some((program, version))) = (server(), pgbouncer()) else {
        return;
    };
    let installation = Installation::on_postgres(server);
    let node = installation.start().await;
    let mut settings = vec![("pool_mode", "transaction")];
    if version >= KEEPS_STATEMENTS {
        settings.push(("max_prepared_statements", "0"));
    }
    let bouncer = Bouncer::start(&program, &installation.database_url(), &settings).await;
    // However often: what one client has left behind must not hide it from the next.
    for verb in [
        &["serve"][..],
        &["migrate", "--check"],
        &["directory", "list"],
    ] {
        let mut command = node.verb(verb);
        command
            .env("ROLLCALL_DATABASE_URL", &bouncer.url)
            .env("ROLLCALL_LISTEN", "127.0.0.1:0");
        let refused = fail(command);
        assert!(refused.contains("PgBouncer 1.21 or newer"), "{refused}");
    }
    let mut doctor = node.verb(&["doctor", "--json"]);
    doctor.env("ROLLCALL_DATABASE_URL", &bouncer.url);
    let told = doctor.output().unwrap();
    assert!(!told.status.success());
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("PgBouncer 1.21 or newer"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_that_keeps_prepared_statements_everything_is_delivered() {
    let (Some(server), Some((program, version))) = (server(), pgbouncer()) else {
        return;
    };
    let settings = if version >= KEEPS_STATEMENTS {
        vec![
            ("pool_mode", "transaction"),
            ("max_prepared_statements", "200"),
        ]
    } else {
        vec![("pool_mode", "session")]
    };
    let bouncer = Bouncer::start(&program, &server.create_database(), &settings).await;
    let installation = Installation::at(&bouncer.url);
    let node = installation.start().await;
    let admin = Admin::new(&[node.base()], installation.api_key().await);
    let receiver = Receiver::start();
    admin.subscribe(&receiver).await;
    let scim = admin.directory().await;
    let group = scim.create_group("Everybody").await;
    let mut users = Vec::new();
    for number in 0..20 {
        users.push(
            scim.create_user(&format!("user-{number}@example.com"))
                .await,
        );
    }
    scim.add_members(&group, &users).await;
    settled(&admin, &receiver, &[scim.directory()], DELIVERY_MAX).await;
}
