//! `rollcall doctor`, on sound installations and on unsound ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use sea_orm::ConnectionTrait as _;
use serde_json::Value;

use crate::support::client::Admin;
use crate::support::postgres::{self, server};
use crate::support::process::{Installation, Node};
use crate::support::receiver::Receiver;

/// What the doctor has found, and whether it calls that well.
struct Diagnosis {
    is_well: bool,
    findings: Vec<(String, String, String)>,
}

impl Diagnosis {
    fn of(mut command: Command) -> Self {
        let output = command.arg("--json").output().unwrap();
        let view: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(view["ok"] == true, output.status.success());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let findings = view["findings"].as_array().unwrap().iter();
        Self {
            is_well: output.status.success(),
            findings: findings
                .map(|one| {
                    (
                        text(&one["verdict"]),
                        text(&one["about"]),
                        text(&one["text"]),
                    )
                })
                .collect(),
        }
    }

    /// Those that are not well: verdict and what about.
    fn complaints(&self) -> Vec<(&str, &str)> {
        let found = self.findings.iter().filter(|(verdict, ..)| verdict != "ok");
        found
            .map(|(verdict, about, _)| (verdict.as_str(), about.as_str()))
            .collect()
    }

    #[track_caller]
    fn assert_found(&self, verdict: &str, about: &str, part: &str) {
        let is_there = self
            .findings
            .iter()
            .any(|found| found.0 == verdict && found.1 == about && found.2.contains(part));
        assert!(is_there, "{:#?}", self.findings);
    }
}

/// A node with a receiver, and an address by which it is found.
async fn node_with_receiver(installation: &Installation) -> (Node, Receiver) {
    let mut node = installation.start().await;
    let public_url = node.base().replace("127.0.0.1", "localhost");
    node.set("PUBLIC_URL", &public_url);
    let admin = Admin::new(&[node.base()], installation.api_key().await);
    let receiver = Receiver::start();
    admin.subscribe(&receiver).await;
    (node, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_installation_is_found_well_but_for_its_plain_http() {
    let mut installations = vec![Installation::on_sqlite()];
    installations.extend(server().map(Installation::on_postgres));
    for installation in &installations {
        let (node, receiver) = node_with_receiver(installation).await;
        let found = Diagnosis::of(node.verb(&["doctor"]));
        assert!(found.is_well);
        assert_eq!(found.complaints(), [("warn", "public URL")]);
        found.assert_found("warn", "public URL", "not https");
        found.assert_found("ok", "public URL", "answers");
        found.assert_found("ok", "endpoint", "answers");
        found.assert_found("ok", "master key", "");
        found.assert_found("ok", "schema", "up to date");
        assert_eq!(receiver.ledger().requests().len(), 0, "nothing was sent");
        let lines = node.verb(&["doctor"]).output().unwrap();
        let lines = String::from_utf8(lines.stdout).unwrap();
        assert_eq!(lines.lines().count(), found.findings.len(), "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_around_a_server_is_said_with_what_to_do() {
    let installation = Installation::on_sqlite();
    let (node, mut receiver) = node_with_receiver(&installation).await;
    let file = node.directory().join("rollcall.sqlite3");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the server itself makes it private");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    receiver.stop();
    let mut doctor = node.verb(&["doctor"]);
    doctor.env("ROLLCALL_PUBLIC_URL", "https://localhost:1");
    let found = Diagnosis::of(doctor);
    assert!(!found.is_well);
    found.assert_found("warn", "database file", "chmod 600");
    found.assert_found("fail", "endpoint", "connect");
    found.assert_found("warn", "public URL", "does not answer");
    found.assert_found("warn", "proxies", "trusted_proxies");

    receiver.start_again();
    let mut doctor = node.verb(&["doctor"]);
    doctor.env("ROLLCALL_WEBHOOKS__ALLOW_NETWORKS", "");
    let found = Diagnosis::of(doctor);
    found.assert_found("fail", "endpoint", "forbidden_address");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_missing_or_not_ours_is_said_to_be() {
    let installation = Installation::on_sqlite();
    let (node, _receiver) = node_with_receiver(&installation).await;
    let mut doctor = node.verb(&["doctor"]);
    doctor.env("ROLLCALL_DATABASE_URL", "sqlite:nowhere.sqlite3");
    let found = Diagnosis::of(doctor);
    assert!(!found.is_well);
    found.assert_found("fail", "database", "there is no database");
    assert!(!node.directory().join("nowhere.sqlite3").exists());

    fs::write(node.directory().join("text"), "not a database, only text").unwrap();
    let mut doctor = node.verb(&["doctor"]);
    doctor.env("ROLLCALL_DATABASE_URL", "sqlite:text");
    Diagnosis::of(doctor).assert_found("fail", "database", "not a database");

    let key = node.verb(&["key", "new"]).output().unwrap().stdout;
    let key = String::from_utf8(key).unwrap();
    let mut doctor = node.verb(&["doctor"]);
    doctor.env("ROLLCALL_MASTER_KEY", key.trim());
    let found = Diagnosis::of(doctor);
    assert!(!found.is_well);
    found.assert_found("fail", "master key", "not the one");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_postgresql_that_lose_commits_are_found() {
    let Some(server) = server() else { return };
    let installation = Installation::on_postgres(server);
    let (node, _receiver) = node_with_receiver(&installation).await;
    let url = installation.database_url();
    let name = url.rsplit('/').next().unwrap();
    let connection = postgres::connect(&url).await.unwrap();
    connection
        .execute_unprepared(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = off"
        ))
        .await
        .unwrap();
    connection.close().await.unwrap();
    let found = Diagnosis::of(node.verb(&["doctor"]));
    assert!(!found.is_well);
    found.assert_found("fail", "durability", "synchronous_commit = off");

    let mut doctor = node.verb(&["doctor"]);
    doctor.env(
        "ROLLCALL_DATABASE_URL",
        "postgres://postgres@127.0.0.1:1/none",
    );
    let found = Diagnosis::of(doctor);
    assert!(!found.is_well);
    found.assert_found("fail", "database", "cannot open the database");
}
