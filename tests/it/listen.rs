//! `rollcall listen`, the binary itself, with a real app beside it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::TestApp;
use crate::support::client::Admin;
use crate::support::process::command;
use crate::support::receiver::Receiver;
use crate::support::waiting::eventually;

on_both! {
    events_come_to_an_app_beside_and_its_absence_is_said,
}

const SECRET: &str = "whsec_bG9jYWwtc2VjcmV0LWZvci10ZXN0cw==";
const SOON: Duration = Duration::from_secs(20);

async fn events_come_to_an_app_beside_and_its_absence_is_said(app: TestApp) {
    let admin = Admin::new(&[app.url()], app.api_key().to_owned());
    let scim = admin.directory().await;
    scim.create_user("before@example.com").await;
    let mut receiver = Receiver::start();
    receiver.expect_secret(SECRET);
    let mut child = command()
        .args([
            "listen",
            "--forward-to",
            &receiver.url(),
            "--secret",
            SECRET,
        ])
        .args(["--url", app.url(), "--api-key", app.api_key()])
        .args(["--type", "dsync.user.created"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (heard, lines) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            drop(heard.send(line));
        }
    });
    let next = || lines.recv_timeout(SOON).unwrap();
    assert!(next().starts_with("Listening"));

    scim.create_user("one@example.com").await;
    scim.create_group("everybody").await;
    let line = next();
    assert!(
        line.contains("dsync.user.created") && line.contains("  200  "),
        "{line}"
    );
    assert!(!line.contains(SECRET));
    receiver.stop();
    scim.create_user("two@example.com").await;
    let line = next();
    assert!(line.contains("does not answer"), "{line}");
    receiver.start_again();
    scim.create_user("three@example.com").await;
    assert!(next().contains("  200  "));
    let accepted = receiver.ledger().accepted();
    assert_eq!(accepted, 2);

    let pid = child.id().to_string();
    let told = Command::new("kill").args(["-INT", &pid]).status();
    assert!(told.is_ok_and(|status| status.success()));
    let mut status = None;
    eventually("the end", SOON, async || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.unwrap().success());
    reading.join().unwrap();
}
