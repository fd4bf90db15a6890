//! The binary itself, as an operator runs it: its verbs, its one-line failures, its start and its end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rollcall::storage::tables::facts;
use sea_orm::{ActiveValue, ConnectionTrait, EntityTrait};
use serde_json::Value;

use crate::support::Database;
use crate::support::app::variable;
use crate::support::database::Backend;
use crate::support::postgres;

on_both_databases! {
    verbs_beside_a_server_and_through_its_api_print_the_same_fields,
    why_explains_beside_a_server_and_through_its_api,
    an_unready_database_is_told_and_migrated,
    a_server_ends_well_at_sigterm,
    the_first_key_is_written_into_a_private_file,
    a_database_of_a_newer_binary_is_left_alone,
    a_wrong_master_key_is_noticed,
    verbs_name_what_is_wrong_with_what_they_were_given,
    requests_are_shown_with_what_to_do_about_them,
    a_directory_is_configured_one_setting_at_a_time,
    directories_are_stopped_deleted_and_restored_beside_a_server_and_through_its_api,
    tokens_are_moved_from_one_to_the_next_here_and_through_the_api,
    the_audit_trail_is_shown_and_verified,
    who_is_master_and_what_is_not_settled_is_said_and_shown,
    endpoints_are_administered_here_and_through_the_api,
}

/// How a verb is run: on the database, or through a server.
type Way<'a> = &'a dyn Fn(&[&str]) -> Command;

/// No test waits longer than this for a process.
const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &str = "rcmk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER_KEY: &str = "rcmk_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";

/// The binary in `directory`, with no setting from our own environment.
fn rollcall(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROLLCALL_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(directory)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// The binary on `database`, with a key of its own.
fn rollcall_on(database: &Database, arguments: &[&str]) -> Command {
    let mut command = rollcall(database.directory(), arguments);
    command
        .env("ROLLCALL_DATABASE_URL", &database.url)
        .env("ROLLCALL_DATA_DIR", database.data_dir())
        .env("ROLLCALL_MASTER_KEY", KEY)
        .env("ROLLCALL_LISTEN", "127.0.0.1:0");
    command
}

/// What a command printed, and how it ended.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn run(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The output of a command that must succeed.
#[track_caller]
fn succeed(command: Command) -> String {
    let ended = run(command);
    assert!(ended.status.success(), "{}", ended.stderr);
    ended.stdout
}

/// The one line with which a command must fail; starts with the program's name and names no secret.
#[track_caller]
fn fail(command: Command) -> String {
    let ended = run(command);
    assert_eq!(
        ended.status.code(),
        Some(1),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("rollcall: "), "{}", ended.stderr);
    for secret in [KEY, OTHER_KEY, "s3cret"] {
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }
    ended.stderr
}

/// A line of words and values as the verbs print them.
fn field<'a>(output: &'a str, name: &str) -> &'a str {
    output
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {name} in {output}"))
        .trim()
}

/// A running server; killed when dropped.
struct Server {
    child: Child,
    url: String,
    log: Option<BufReader<ChildStderr>>,
}

impl Server {
    /// Starts one and waits until it says where it listens.
    fn start(mut command: Command) -> Self {
        let child = command
            .env("ROLLCALL_LOG__FORMAT", "json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self {
            child,
            url: String::new(),
            log: None,
        };
        let mut log = BufReader::new(server.child.stderr.take().unwrap());
        let mut seen = String::new();
        while server.url.is_empty() {
            let start = seen.len();
            let read = log.read_line(&mut seen).unwrap();
            assert_ne!(read, 0, "the server ended: {seen}");
            if let Some(address) = seen.get(start..).and_then(address_in) {
                server.url = format!("http://{address}");
            }
        }
        server.log = Some(log);
        server
    }

    /// The first API key, from the file that the first start names.
    fn first_key(&mut self) -> String {
        let mut line = String::new();
        let mut output = BufReader::new(self.child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let file = line
            .trim()
            .strip_prefix("The first API key is in ")
            .unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        let key = text.trim().strip_prefix("ROLLCALL_API_KEY=").unwrap();
        key.to_owned()
    }

    /// SIGTERM, and the end.
    fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.is_ok_and(|status| status.success()));
        // Its end closes the log; reading it also keeps the pipe from filling up.
        let mut rest = String::new();
        self.log.take().unwrap().read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The address in the log line that says that the server has started.
fn address_in(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    (fields.get("message")? == "started").then_some(())?;
    Some(fields.get("address")?.as_str()?.to_owned())
}

/// Sets a fact behind the server's back.
fn set_fact(database: &Database, name: &str, value: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let connection = postgres::connect(&database.url).await.unwrap();
        let fact = facts::ActiveModel {
            name: ActiveValue::Unchanged(name.to_owned()),
            value: ActiveValue::Set(value.to_owned()),
        };
        facts::Entity::update(fact).exec(&connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

fn verbs_beside_a_server_and_through_its_api_print_the_same_fields(database: &Database) {
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    let key = server.first_key();
    let beside = |arguments: &[&str]| succeed(rollcall_on(database, arguments));
    let through = |arguments: &[&str]| {
        let mut command = rollcall(database.directory(), arguments);
        command
            .env("ROLLCALL_URL", &server.url)
            .env("ROLLCALL_API_KEY", &key);
        succeed(command)
    };
    let names = |output: &str| -> Vec<String> {
        let words = output
            .lines()
            .map(|line| line.split(' ').next().unwrap().to_owned());
        words.collect()
    };

    let organization = beside(&[
        "org",
        "create",
        "--name",
        "Acme",
        "--domain",
        "acme.example",
    ]);
    let id = field(&organization, "id");
    let directory = beside(&[
        "directory",
        "create",
        "--organization",
        id,
        "--name",
        "Okta",
    ]);
    let directory_id = field(&directory, "id");
    let verbs: [&[&str]; 6] = [
        &["org", "create", "--name", "Other"],
        &[
            "directory",
            "create",
            "--organization",
            id,
            "--name",
            "x",
            "--type",
            "okta scim v2.0",
        ],
        &[
            "token",
            "create",
            "--directory",
            directory_id,
            "--label",
            "x",
        ],
        &["api-key", "create", "--name", "ci"],
        &["directory", "configure", directory_id, "--label", "acme"],
        &[
            "endpoint",
            "create",
            "--event",
            "dsync.user.created",
            "--endpoint-url",
        ],
    ];
    for (number, verb) in verbs.into_iter().enumerate() {
        let urls = ["https://a.example.com/", "https://b.example.com/"];
        let with = |url| match verb {
            ["endpoint", ..] => [verb, &[url]].concat(),
            _ => verb.to_vec(),
        };
        let (here, there) = (beside(&with(urls[0])), through(&with(urls[1])));
        assert_eq!(names(&here), names(&there), "{number}");
        assert!(names(&here).contains(&"id".to_owned()));
    }
    let shown: Value =
        serde_json::from_str(&through(&["org", "create", "--name", "x", "--json"])).unwrap();
    assert_eq!(shown["object"], "organization");
}

fn why_explains_beside_a_server_and_through_its_api(database: &Database) {
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    let key = server.first_key();
    let arguments = ["why", "ada@example.com"];

    let beside = succeed(rollcall_on(database, &arguments));

    assert!(beside.starts_with("never_sent: "), "{beside}");
    let through = |arguments: &[&str]| {
        let mut command = rollcall(database.directory(), arguments);
        command.args(["--url", &server.url, "--api-key", &key]);
        command
    };
    assert_eq!(succeed(through(&arguments)), beside);
    let shown = succeed(through(&["why", "ada@example.com", "--json"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["email"], "ada@example.com");
    let elsewhere = ["why", "ada@example.com", "--directory", "directory_1"];
    let (here, there) = (
        fail(rollcall_on(database, &elsewhere)),
        fail(through(&elsewhere)),
    );
    for refused in [here, there] {
        assert!(refused.contains("directory_1"), "{refused}");
    }
}

fn an_unready_database_is_told_and_migrated(database: &Database) {
    if database.backend == Backend::Sqlite {
        let early = fail(rollcall_on(database, &["org", "create", "--name", "x"]));
        assert!(early.contains("there is no database"), "{early}");
    }
    let check = run(rollcall_on(database, &["migrate", "--check"]));
    assert_eq!(check.status.code(), Some(1), "{}", check.stderr);
    assert!(
        check
            .stdout
            .lines()
            .all(|line| line.starts_with("pending "))
    );
    let behind = fail(rollcall_on(database, &["serve", "--no-migrate"]));
    assert!(behind.contains("rollcall migrate"), "{behind}");

    let migrated = succeed(rollcall_on(database, &["migrate"]));

    assert_eq!(migrated.lines().count(), check.stdout.lines().count());
    let check = succeed(rollcall_on(database, &["migrate", "--check"]));
    assert_eq!(check, "The schema is up to date.\n");
    let again = succeed(rollcall_on(database, &["migrate"]));
    assert_eq!(again, "The schema is up to date.\n");
    drop(Server::start(rollcall_on(
        database,
        &["serve", "--no-migrate"],
    )));
}

fn a_server_ends_well_at_sigterm(database: &Database) {
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    // A provider's connection that stays open must not hold it up.
    let address = server.url.strip_prefix("http://").unwrap();
    let mut idle = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut idle, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = [0_u8; 12];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    let asked = Instant::now();
    let status = server.terminate();

    assert_eq!(status.code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(25),
        "{:?}",
        asked.elapsed()
    );
}

fn the_first_key_is_written_into_a_private_file(database: &Database) {
    use std::os::unix::fs::PermissionsExt as _;

    let mut server = Server::start(rollcall_on(database, &["serve"]));

    let key = server.first_key();

    let file = database.data_dir().join("first-credentials.txt");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(key.starts_with("sk_"));
    assert!(server.terminate().success());
    // There is one first start per database.
    std::fs::remove_file(&file).unwrap();
    drop(Server::start(rollcall_on(database, &["serve"])));
    assert!(!file.exists());
}

fn a_database_of_a_newer_binary_is_left_alone(database: &Database) {
    succeed(rollcall_on(database, &["migrate"]));
    set_fact(database, "oldest_binary", "99.0.0");

    for arguments in [
        &["serve"][..],
        &["migrate"],
        &["migrate", "--check"],
        &["org", "create", "--name", "x"],
    ] {
        let message = fail(rollcall_on(database, arguments));
        assert!(
            message.contains("99.0.0") && message.contains("upgrade"),
            "{message}"
        );
    }
}

fn a_wrong_master_key_is_noticed(database: &Database) {
    drop(Server::start(rollcall_on(database, &["serve"])));

    for arguments in [&["serve"][..], &["org", "create", "--name", "x"]] {
        let mut command = rollcall_on(database, arguments);
        command.env("ROLLCALL_MASTER_KEY", OTHER_KEY);
        let message = fail(command);
        assert!(message.contains("master key"), "{message}");
    }
    let mut garbled = rollcall_on(database, &["serve"]);
    garbled.env("ROLLCALL_MASTER_KEY", "s3cret");
    let message = fail(garbled);
    assert!(message.contains("ROLLCALL_MASTER_KEY"), "{message}");
}

fn verbs_name_what_is_wrong_with_what_they_were_given(database: &Database) {
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    let key = server.first_key();
    let private = ["endpoint", "create", "--endpoint-url", "http://10.0.0.1/"];
    let nameless = ["org", "create", "--name", ""];
    let nowhere = [
        "token",
        "create",
        "--directory",
        "directory_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ];

    for (arguments, word) in [
        (&private[..], "endpoint_url"),
        (&nameless, "name"),
        (&nowhere, "Directory not found"),
    ] {
        let mut through = rollcall(database.directory(), arguments);
        through.args(["--url", &server.url, "--api-key", &key]);
        for message in [fail(rollcall_on(database, arguments)), fail(through)] {
            assert!(message.contains(word), "{message}");
        }
    }
    let mut keyless = rollcall(database.directory(), &nameless);
    keyless.args(["--url", &server.url]);
    assert!(fail(keyless).contains("--api-key"));
    let mut wrong = rollcall(database.directory(), &nameless);
    wrong.args(["--url", &server.url, "--api-key", "sk_wrong"]);
    assert!(fail(wrong).contains("401"));
    let mut nobody = rollcall(database.directory(), &nameless);
    let url = format!("http://127.0.0.1:{}", postgres::free_port());
    nobody.args(["--url", &url, "--api-key", "sk_x"]);
    assert!(fail(nobody).contains("does not answer"));
}

/// Sends a `GET` without a token; the id of the request.
fn ask(url: &str) -> String {
    let asked = async {
        let client = rollcall::outbound::ApiClient::new().unwrap();
        let sent = client.send("GET", url, None, "application/json", None, &[]);
        let answer = sent.await.unwrap();
        answer.header("X-Request-ID").unwrap().to_owned()
    };
    tokio::runtime::Runtime::new().unwrap().block_on(asked)
}

fn requests_are_shown_with_what_to_do_about_them(database: &Database) {
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    let key = server.first_key();
    let verb = |arguments: &[&str]| succeed(rollcall_on(database, arguments));
    let organization = verb(&["org", "create", "--name", "Acme"]);
    let organization = field(&organization, "id");
    let made = ["directory", "create", "--organization", organization];
    let made = verb(&[&made[..], &["--name", "Okta"]].concat());
    let id = field(&made, "id");
    let base_url = field(&made, "scim_base_url").split_once("/scim").unwrap().1;
    let request = ask(&format!("{}/scim{base_url}/Users", server.url));
    let list = [
        "directory",
        "requests",
        id,
        "--status",
        "4xx",
        "--path",
        "/Users",
    ];
    let deadline = Instant::now() + PATIENCE;

    while !verb(&list).contains(&request) {
        assert!(Instant::now() < deadline);
    }
    let mut command = rollcall(
        database.directory(),
        &["directory", "request", id, &request],
    );
    command
        .env("ROLLCALL_URL", &server.url)
        .env("ROLLCALL_API_KEY", &key);
    let shown = succeed(command);

    assert_eq!(field(&shown, "status"), "401");
    assert!(field(&shown, "explanation").contains("token_missing"));
    assert!(verb(&["directory", "requests", id, "--status", "2xx"]).is_empty());
}

fn a_directory_is_configured_one_setting_at_a_time(database: &Database) {
    let _server = Server::start(rollcall_on(database, &["serve"]));
    let verb = |arguments: &[&str]| succeed(rollcall_on(database, arguments));
    let organization = verb(&["org", "create", "--name", "Acme"]);
    let organization = field(&organization, "id");
    let made = ["directory", "create", "--organization", organization];
    let made = verb(&[&made[..], &["--name", "Okta"]].concat());
    let id = field(&made, "id");
    let configure = |settings: &[&str]| {
        let verb = ["directory", "configure", id];
        rollcall_on(database, &[&verb[..], settings].concat())
    };

    let named = succeed(configure(&["--name", "Entra", "--label", "Acme"]));
    let moved = succeed(configure(&[
        "--host-name",
        "scim.acme.example",
        "--no-label",
    ]));
    let back = succeed(configure(&["--no-host-name"]));

    assert_eq!(field(&named, "name"), "Entra");
    assert!(field(&named, "scim_base_url").ends_with("/scim/v2/acme"));
    assert_eq!(field(&moved, "name"), "Entra");
    assert_eq!(field(&moved, "label"), "null");
    assert_eq!(field(&moved, "former_labels"), r#"["acme"]"#);
    assert_eq!(field(&moved, "host_name"), "scim.acme.example");
    assert_eq!(field(&back, "scim_base_url"), field(&made, "scim_base_url"));
    let refused = fail(configure(&["--label", "users"]));
    assert!(refused.contains("label"), "{refused}");
    for settings in [&[][..], &["--label", "x-y", "--no-label"]] {
        let ended = run(configure(settings));
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stdout);
    }
}

fn directories_are_stopped_deleted_and_restored_beside_a_server_and_through_its_api(
    database: &Database,
) {
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    let key = server.first_key();
    let through = |arguments: &[&str]| {
        let mut command = rollcall(database.directory(), arguments);
        command.args(["--url", &server.url, "--api-key", &key]);
        command
    };
    let beside = |arguments: &[&str]| rollcall_on(database, arguments);
    let ways: [Way<'_>; 2] = [&beside, &through];
    for verb in ways {
        let run = |arguments: &[&str]| succeed(verb(arguments));
        let organization = run(&["org", "create", "--name", "Acme"]);
        let organization = field(&organization, "id");
        let made = ["directory", "create", "--organization", organization];
        let made = run(&[&made[..], &["--name", "Okta"]].concat());
        let id = field(&made, "id");
        let turn = |word: &str| run(&["directory", word, id]);

        assert_eq!(turn("show"), made);
        assert_ne!(field(&turn("hold"), "deliveries_held_by"), "null");
        assert_eq!(field(&turn("release"), "deliveries_held_by"), "null");
        assert_ne!(field(&turn("pause"), "writes_refused_by"), "null");
        assert_eq!(field(&turn("resume"), "writes_refused_by"), "null");
        assert_ne!(field(&turn("delete"), "deletion_due_at"), "null");
        assert_eq!(field(&turn("restore"), "deletion_due_at"), "null");
        let refused = fail(verb(&["directory", "restore", id]));
        assert!(refused.contains("nothing to restore"), "{refused}");
        let gone = run(&["org", "delete", organization]);
        assert_ne!(field(&gone, "deletion_due_at"), "null");
        let listed = run(&["directory", "list", "--organization", organization]);
        assert_eq!(field(&listed, "id"), id);
        assert_eq!(field(&listed, "state"), "deleting");
        let back = run(&["org", "restore", organization]);
        assert_eq!(field(&back, "deletion_due_at"), "null");
        let ended = run(&["directory", "delete", id, "--immediately"]);
        assert_eq!(field(&ended, "deletion_due_at"), "null");
        assert_eq!(field(&ended, "state"), "deleting");
        let listed = run(&["directory", "list", "--limit", "1", "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    }
}

fn the_audit_trail_is_shown_and_verified(database: &Database) {
    let verify = |arguments: &[&str]| {
        let verb = ["audit", "verify"];
        run(rollcall_on(database, &[&verb[..], arguments].concat()))
    };
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    let key = server.first_key();
    for name in ["One", "Other"] {
        succeed(rollcall_on(database, &["org", "create", "--name", name]));
    }
    let list = [
        "audit",
        "list",
        "--action",
        "organization.created",
        "--json",
    ];
    let beside = succeed(rollcall_on(database, &list));
    let mut through = rollcall(database.directory(), &list);
    through.args(["--url", &server.url, "--api-key", &key]);
    let ids = |output: &str| -> Vec<Value> {
        let list: Value = serde_json::from_str(output).unwrap();
        let rows = list["data"].as_array().unwrap().iter();
        rows.map(|row| row["id"].clone()).collect()
    };
    assert_eq!(ids(&beside).len(), 2, "{beside}");
    assert_eq!(ids(&beside), ids(&succeed(through)));
    // What waits is sealed at the end at the latest, and the heads are written.
    assert!(server.terminate().success());

    let fine = verify(&[]);
    assert!(fine.status.success(), "{}{}", fine.stdout, fine.stderr);
    assert!(fine.stdout.contains("2 entries"), "{}", fine.stdout);
    assert!(
        fine.stdout.contains("signed heads agree"),
        "{}",
        fine.stdout
    );
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let connection = postgres::connect(&database.url).await.unwrap();
        for table in ["audit_entries", "audit_seals", "audit_chains"] {
            let emptied = format!("DELETE FROM {table}");
            connection.execute_unprepared(&emptied).await.unwrap();
        }
        connection.close().await.unwrap();
    });
    let cut = verify(&[]);
    assert_eq!(cut.status.code(), Some(1), "{}", cut.stderr);
    assert!(
        cut.stdout.contains("WRONG: number 1 of org_"),
        "{}",
        cut.stdout
    );
    let shown: Value = serde_json::from_str(&verify(&["--json"]).stdout).unwrap();
    assert!(shown["fault"].is_string(), "{shown}");
    let nowhere = fail(rollcall_on(
        database,
        &["audit", "verify", "--heads", "nowhere"],
    ));
    assert!(nowhere.contains("nowhere"), "{nowhere}");
}

fn who_is_master_and_what_is_not_settled_is_said_and_shown(database: &Database) {
    let _server = Server::start(rollcall_on(database, &["serve"]));
    let verb = |arguments: &[&str]| succeed(rollcall_on(database, arguments));
    let organization = verb(&["org", "create", "--name", "Acme"]);
    let organization = field(&organization, "id");
    let made = ["directory", "create", "--organization", organization];
    let made = verb(&[&made[..], &["--name", "Okta"]].concat());
    let id = field(&made, "id");

    let before = verb(&["directory", "management", id]);
    let manual = verb(&["directory", "management", id, "manual"]);
    let deleting = verb(&["directory", "inactive-users", id, "delete"]);

    assert_eq!(field(&before, "mode"), "provider");
    assert_eq!(field(&manual, "mode"), "manual");
    assert_eq!(field(&manual, "changed_by"), "somebody at the command line");
    assert_eq!(field(&deleting, "policy"), "delete");
    assert_eq!(
        field(&verb(&["directory", "inactive-users", id]), "policy"),
        "delete"
    );
    for list in ["drift", "refused-writes"] {
        assert_eq!(field(&verb(&["directory", list, id]), "total"), "0");
    }
    let wrong = ["directory", "management", id, "nobody"];
    assert_eq!(run(rollcall_on(database, &wrong)).status.code(), Some(2));
}

#[test]
fn a_new_key_is_a_key_and_another_one_each_time() {
    let directory = tempfile::tempdir().unwrap();

    let one = succeed(rollcall(directory.path(), &["key", "new"]));
    let other = succeed(rollcall(directory.path(), &["key", "new"]));

    assert!(one.starts_with("rcmk_") && one.trim().len() == 48, "{one}");
    assert_ne!(one, other);
}

#[test]
fn settings_that_are_not_understood_stop_the_start_with_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rollcall.toml");

    for (setting, value, words) in [
        (
            "limits.scim_brust",
            "5",
            vec!["LIMITS__SCIM_BRUST", "LIMITS__SCIM_BURST"],
        ),
        (
            "limits.scim_burst",
            "many",
            vec!["LIMITS__SCIM_BURST", "many"],
        ),
        ("listen", "localhost", vec!["ROLLCALL_LISTEN"]),
        (
            "database_url",
            "mysql://u:s3cret@h/d",
            vec!["ROLLCALL_DATABASE_URL"],
        ),
        (
            "public_url",
            "https://example.com/prefix",
            vec!["public_url"],
        ),
    ] {
        let mut command = rollcall(directory.path(), &["serve"]);
        command.env(variable(setting), value);
        let message = fail(command).to_lowercase();
        for word in words {
            assert!(message.contains(&word.to_lowercase()), "{word}: {message}");
        }
    }
    std::fs::write(&file, "[limits]\nscim_burst = -1\n").unwrap();
    let message = fail(rollcall(
        directory.path(),
        &["serve", "--config", "rollcall.toml"],
    ));
    assert!(
        message.contains("limits.scim_burst in rollcall.toml"),
        "{message}"
    );
    let message = fail(rollcall(
        directory.path(),
        &["serve", "--config", "nowhere.toml"],
    ));
    assert!(message.contains("nowhere.toml"), "{message}");
    assert!(
        !directory.path().join("rollcall-data").exists(),
        "nothing was made"
    );
}

#[test]
fn a_port_in_use_is_told_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    let mut command = rollcall(directory.path(), &["serve"]);
    command.env("ROLLCALL_LISTEN", &address);
    let message = fail(command);

    assert!(
        message.contains(&address) && message.contains("ROLLCALL_LISTEN"),
        "{message}"
    );
    assert!(!directory.path().join("rollcall-data").exists());
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let database = Database::fresh(Backend::Sqlite).unwrap();
    let _server = Server::start(rollcall_on(&database, &["serve"]));

    let message = fail(rollcall_on(&database, &["serve"]));

    assert!(message.contains("another server"), "{message}");
}

#[test]
fn a_key_file_that_cannot_be_used_is_told() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let serve = || {
        let mut command = rollcall(directory.path(), &["serve"]);
        command.env("ROLLCALL_LISTEN", "127.0.0.1:0");
        command
    };
    drop(Server::start(serve()));
    let file = directory.path().join("rollcall-data/master.key");
    let mode =
        |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();

    mode(0o644);
    let exposed = fail(serve());
    mode(0o600);
    std::fs::write(&file, "garbled").unwrap();
    let garbled = fail(serve());
    std::fs::remove_file(&file).unwrap();
    let missing = fail(serve());
    std::fs::create_dir(&file).unwrap();
    let unreadable = fail(serve());

    assert!(exposed.contains("chmod 600"), "{exposed}");
    assert!(garbled.contains("does not hold a master key"), "{garbled}");
    assert!(missing.contains("restore it"), "{missing}");
    assert!(unreadable.contains("master.key"), "{unreadable}");
}

#[test]
fn a_postgres_that_does_not_answer_is_told_without_its_password() {
    let directory = tempfile::tempdir().unwrap();
    let port = postgres::free_port();

    for arguments in [
        &["serve"][..],
        &["migrate"],
        &["org", "create", "--name", "x"],
    ] {
        let mut command = rollcall(directory.path(), arguments);
        let url = format!("postgres://rollcall:s3cret@127.0.0.1:{port}/rollcall");
        command
            .env("ROLLCALL_DATABASE_URL", url)
            .env("ROLLCALL_MASTER_KEY", KEY)
            .env("ROLLCALL_LISTEN", "127.0.0.1:0");
        let started = Instant::now();
        let message = fail(command);
        assert!(message.contains("cannot open the database"), "{message}");
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    }
}

#[test]
fn postgres_without_a_master_key_is_refused() {
    let Some(database) = Database::fresh(Backend::Postgres) else {
        return;
    };

    let mut command = rollcall_on(&database, &["serve"]);
    command.env_remove("ROLLCALL_MASTER_KEY");
    let message = fail(command);

    assert!(message.contains("rollcall key new"), "{message}");
    let check = run(rollcall_on(&database, &["migrate", "--check"]));
    assert!(check.stdout.contains("pending"), "nothing was made");
}

fn tokens_are_moved_from_one_to_the_next_here_and_through_the_api(database: &Database) {
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    let key = server.first_key();
    let organization = ["org", "create", "--name", "Acme"];
    let organization = succeed(rollcall_on(database, &organization));
    for is_here in [true, false] {
        let token = |verb: &[&str]| {
            let arguments = [&["token"], verb].concat();
            if is_here {
                return rollcall_on(database, &arguments);
            }
            let mut command = rollcall(database.directory(), &arguments);
            command.args(["--url", &server.url, "--api-key", &key]);
            command
        };
        let made = ["directory", "create", "--name", "Okta", "--organization"];
        let made = [&made[..], &[field(&organization, "id")]].concat();
        let made = succeed(rollcall_on(database, &made));
        let directory = ["--directory", field(&made, "id")];
        let create = [&["create", "--label", "one"][..], &directory].concat();
        let one = succeed(token(&create));
        let one = field(&one, "id");

        let two = ["rotate", one, "--overlap", "30m", "--label", "two"];
        let two = succeed(token(&[&two[..], &directory].concat()));
        let full = fail(token(&[&["create"][..], &directory].concat()));
        let three = ["create", "--label", "three", "--replace", one, "--json"];
        let three = succeed(token(&[&three[..], &directory].concat()));
        let gone = ["revoke", field(&two, "id")];
        let gone = succeed(token(&[&gone[..], &directory].concat()));
        let list = [&["list"][..], &directory].concat();
        let (shown, list) = (
            succeed(token(&list)),
            succeed(token(&[&list[..], &["--json"]].concat())),
        );

        assert!(field(&two, "replaces").contains(one), "{two}");
        assert!(
            full.contains("2 active tokens") && full.contains("\"two\""),
            "{full}"
        );
        let three: Value = serde_json::from_str(&three).unwrap();
        assert!(three["token"].is_string(), "{three}");
        assert_eq!(gone, "");
        let list: Value = serde_json::from_str(&list).unwrap();
        let states: Vec<(&str, &str)> = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| {
                (
                    token["label"].as_str().unwrap(),
                    token["state"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            states,
            [("one", "revoked"), ("two", "revoked"), ("three", "active")]
        );
        let shown: Vec<&str> = shown.split("\n\n").collect();
        assert_eq!(shown.len(), 3);
        assert_eq!(field(shown[2], "label"), "three");
    }
}

fn endpoints_are_administered_here_and_through_the_api(database: &Database) {
    let mut server = Server::start(rollcall_on(database, &["serve"]));
    let key = server.first_key();
    let here = |arguments: &[&str]| rollcall_on(database, arguments);
    let there = |arguments: &[&str]| {
        let mut command = rollcall(database.directory(), arguments);
        command.args(["--url", &server.url, "--api-key", &key]);
        command
    };
    let ways: [(&str, Way<'_>); 2] = [("here", &here), ("there", &there)];
    for (name, way) in ways {
        let ask = |arguments: &[&str]| -> Value {
            let arguments = [&["endpoint"], arguments, &["--json"]].concat();
            serde_json::from_str(&succeed(way(&arguments))).unwrap()
        };
        let url = format!("https://{name}.example.com/");
        let create = ["create", "--endpoint-url", &url, "--ordering", "strict"];
        let made = ask(&[&create[..], &["--header", "X-Key: s3cret"]].concat());
        let id = made["id"].as_str().unwrap();
        assert_eq!(
            (&made["ordering"], &made["headers"][0]),
            (&"strict".into(), &"x-key".into())
        );
        let rate = [
            "set",
            id,
            "--rate-per-second",
            "5",
            "--event",
            "dsync.deleted",
        ];
        assert_eq!(ask(&rate)["rate_per_second"], 5);
        let wide = [
            "set",
            id,
            "--rate-per-second",
            "0",
            "--event",
            "all",
            "--header",
            "none",
        ];
        let wide = ask(&wide);
        assert_eq!(wide["rate_per_second"], Value::Null);
        assert_eq!(wide["headers"], Value::Array(Vec::new()));
        assert_eq!(wide["events"].as_array().unwrap().len(), 10);
        assert!(ask(&["hold", id])["held_at"].is_string());
        assert_eq!(ask(&["release", id])["held_at"], Value::Null);
        assert_eq!(ask(&["disable", id])["status"], "disabled");
        assert_eq!(ask(&["enable", id])["status"], "enabled");
        let secret = ask(&["secret", "new", id])["secret"].clone();
        assert!(secret.as_str().unwrap().starts_with("whsec_"));
        let promoted = ask(&["secret", "promote", id, "--overlap", "1h"]);
        assert_eq!(promoted["second_secret"]["role"], "previous");
        ask(&["secret", "end", id, "previous"]);
        assert_eq!(
            ask(&["test", id, "--type", "dsync.deleted"])["is_success"],
            false
        );
        assert_eq!(ask(&["show", id])["second_secret"], Value::Null);
        assert_eq!(ask(&["list", "--limit", "1"])["data"][0]["id"], id);
        let plain = succeed(way(&["endpoint", "list"]));
        assert!(plain.contains(id) && !plain.contains("whsec_"), "{plain}");
        ask(&["delete", id]);
        let gone = fail(way(&["endpoint", "show", id]));
        assert!(gone.contains("not found"), "{gone}");
    }
}
