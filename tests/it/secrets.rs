//! No secret is in clear in anything that a server writes: its log, its database, its metrics.

use std::path::Path;
use std::time::Duration;

use rollcall::outbound::ApiClient;
use serde_json::{Value, json};

use crate::support::client::Admin;
use crate::support::process::Installation;
use crate::support::receiver::{Receiver, Reply};
use crate::support::waiting::eventually;

const SOON: Duration = Duration::from_secs(20);
/// What the server is told to keep secrets in.
const KEPT: [&str; 2] = ["first-credentials.txt", "master.key"];

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_clear_in_what_a_server_writes() {
    let installation = Installation::on_sqlite();
    let mut node = installation.start().await;
    node.set("LOG__LEVEL", "debug");
    node.start_again().await;
    let key = installation.api_key().await;
    let admin = Admin::new(&[node.base()], key.clone());
    let client = ApiClient::new().unwrap();
    let ask = async |method: &str, path: &str, key: &str, body: Value| {
        let url = format!("{}{path}", node.base());
        let body = (!body.is_null()).then(|| body.to_string());
        let sent = client.send(method, &url, Some(key), "application/json", body, &[]);
        sent.await.unwrap()
    };

    let receiver = Receiver::start();
    receiver.behave(|request| Reply::status(if request.attempt == 1 { 500 } else { 200 }));
    let body = json!({"endpoint_url": receiver.url()});
    let made = ask("POST", "/admin/v1/webhook_endpoints", &key, body).await;
    let endpoint: Value = serde_json::from_str(&made.body).unwrap();
    let webhook_secret = endpoint["secret"].as_str().unwrap().to_owned();
    receiver.expect_secret(&webhook_secret);
    let made = ask(
        "POST",
        "/admin/v1/api_keys",
        &key,
        json!({"name": "second"}),
    )
    .await;
    let second: Value = serde_json::from_str(&made.body).unwrap();
    let second_key = second["key"].as_str().unwrap().to_owned();

    let scim = admin.directory().await;
    scim.create_user("ada@example.com").await;
    let token = &admin.tokens(scim.directory()).await[0];
    let rotated = admin.rotate_token(scim.directory(), token).await;
    scim.with_token(&rotated)
        .create_user("bob@example.com")
        .await;
    eventually("deliveries", SOON, async || {
        receiver.ledger().accepted() >= 3
    })
    .await;
    // The wrong way round, too long, and with a character too many: refused, and not repeated either.
    ask("GET", "/organizations", scim.token(), Value::Null).await;
    ask("GET", "/organizations", &format!("{key}x"), Value::Null).await;
    scim.with_token(&key)
        .try_to_create_user("eve@example.com")
        .await;
    let metrics = ask("GET", "/metrics", "", Value::Null).await;
    assert_eq!(metrics.status, 200);
    node.terminate().await;

    let secrets = [&key, &second_key, &webhook_secret, scim.token(), &rotated];
    let mut written = vec![("metrics".to_owned(), metrics.body.into_bytes())];
    read_all(node.directory(), &mut written);
    let log = node.log();
    assert!(
        log.contains("webhook sent") && log.contains("/scim/v2/"),
        "{log}"
    );
    let has_database = written
        .iter()
        .any(|(name, _)| name.ends_with("rollcall.sqlite3"));
    assert!(has_database);
    for (name, bytes) in &written {
        for secret in secrets {
            // What comes after the prefix is what nobody must learn.
            let core = ["sk_", "rc_scim_", "whsec_"]
                .iter()
                .find_map(|prefix| secret.strip_prefix(prefix));
            let core = core.expect("a known kind of secret").as_bytes();
            let is_there = bytes.windows(core.len()).any(|window| window == core);
            assert!(!is_there, "{name} holds a secret");
        }
    }
}

/// The files below a directory, without those that are there for secrets.
fn read_all(directory: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            read_all(&path, files);
        } else if !KEPT.iter().any(|kept| name.ends_with(kept)) {
            files.push((name, std::fs::read(&path).unwrap()));
        }
    }
}
