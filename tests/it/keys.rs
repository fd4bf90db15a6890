//! Changing the master key while servers run and webhooks are delivered.

use std::time::Duration;

use rollcall::outbound::ApiClient;
use rollcall::storage::tables::{endpoints, facts};
use sea_orm::EntityTrait as _;
use tokio::task::JoinSet;

use crate::support::client::Admin;
use crate::support::postgres::{self, server};
use crate::support::process::{Installation, Node, fail, succeed};
use crate::support::receiver::Receiver;
use crate::support::waiting::settled;

const DELIVERY_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_changed_on_sqlite_while_webhooks_are_delivered() {
    change(&Installation::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_changed_on_postgresql_while_webhooks_are_delivered() {
    if let Some(server) = server() {
        change(&Installation::on_postgres(server)).await;
    }
}

/// Everything sealed in the database, as it is stored.
async fn sealed(installation: &Installation) -> Vec<Vec<u8>> {
    let connection = postgres::connect(&installation.database_url())
        .await
        .unwrap();
    let endpoints = endpoints::Entity::find().all(&connection).await.unwrap();
    let check = facts::Entity::find_by_id("master_key_check")
        .one(&connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let mut sealed: Vec<Vec<u8>> = endpoints.into_iter().map(|row| row.sealed_secret).collect();
    sealed.push(check.unwrap().value.into_bytes());
    sealed
}

/// Makes an organization under an idempotency key; the body, and whether it is that of an earlier request.
async fn make_once(node: &Node, key: &str) -> (String, bool) {
    let url = format!("{}/organizations", node.base());
    let body = Some(r#"{"name":"Once"}"#.to_owned());
    let headers = [("Idempotency-Key", "once")];
    let answer = ApiClient::new()
        .unwrap()
        .send("POST", &url, Some(key), "application/json", body, &headers)
        .await
        .unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let is_replayed = answer.header("Idempotent-Replayed").is_some();
    (answer.body, is_replayed)
}

async fn change(installation: &Installation) {
    let mut node = installation.start().await;
    let api_key = installation.api_key().await;
    let admin = Admin::new(&[node.base()], api_key.clone());
    let receiver = Receiver::start();
    admin.subscribe(&receiver).await;
    let scim = admin.directory().await;
    let (made, _) = make_once(&node, &api_key).await;
    let file = node.directory().join("master.key");
    let old = std::fs::read_to_string(&file).map_or_else(
        |_no_file| node.setting("MASTER_KEY").to_owned(),
        |text| text.trim().to_owned(),
    );
    let new = succeed(node.verb(&["key", "new"])).trim().to_owned();
    let refused = fail(node.verb(&["key", "rotate"]));
    assert!(refused.contains("rollcall key new"), "{refused}");
    let before = sealed(installation).await;

    let put = |node: &mut Node, keys: &str| {
        if file.exists() {
            std::fs::write(&file, keys.replace(' ', "\n")).unwrap();
        } else {
            node.set("MASTER_KEY", keys);
        }
    };
    let mut writer = JoinSet::new();
    let user = scim.clone();
    writer.spawn(async move {
        for number in 0..80 {
            user.create_user(&format!("user-{number}@example.com"))
                .await;
        }
    });
    put(&mut node, &format!("{new} {old}"));
    node.start_again().await;
    let told = succeed(node.verb(&["key", "rotate"]));
    assert!(told.contains("1 webhook endpoint(s), "), "{told}");
    let after = sealed(installation).await;
    assert!(before.iter().all(|sealed| !after.contains(sealed)));
    let told = succeed(node.verb(&["key", "rotate"]));
    assert!(told.contains("0 webhook endpoint(s), 0 kept"), "{told}");
    writer.join_all().await;

    put(&mut node, &new);
    node.start_again().await;
    scim.create_user("last@example.com").await;
    settled(&admin, &receiver, &[scim.directory()], DELIVERY_MAX).await;
    assert_eq!(make_once(&node, &api_key).await, (made, true));
    succeed(node.verb(&["audit", "verify"]));

    put(&mut node, &old);
    let refused = fail(node.verb(&["api-key", "create", "--name", "late"]));
    assert!(refused.contains("master key is not the one"), "{refused}");
    assert!(!refused.contains(&old));
}
