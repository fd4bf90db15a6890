//! Deliveries to look at: lists, single ones with their attempts, and backlogs.

use std::time::Duration;

use rollcall::clock::{self, Clock as _};
use serde_json::Value;

use crate::support::client::Admin;
use crate::support::receiver::Reply;
use crate::support::still::StillServer;
use crate::support::waiting::eventually;

const MINUTE: i64 = 60_000;
const SOON: Duration = Duration::from_secs(20);
const POISONED: &str = "poisoned@example.com";

/// A directory with one person whom the receiver takes and one whom it does not, until that is parked.
pub(crate) async fn park(world: &StillServer, admin: &Admin) -> (String, String) {
    let endpoint = admin.subscribe(&world.receiver).await;
    let scim = admin.directory().await;
    world.receiver.behave(|request| {
        let is_poisoned = request.body.contains(POISONED);
        Reply::status(if is_poisoned { 500 } else { 200 })
    });
    scim.create_user(POISONED).await;
    scim.create_user("fine@example.com").await;
    eventually("a parked event", SOON, async || {
        world.clock.advance_ms(MINUTE);
        tokio::time::sleep(Duration::from_millis(30)).await;
        let rows = world.exceptions().await;
        rows.len() == 1 && rows[0].state == "parked"
    })
    .await;
    (endpoint, scim.directory().to_owned())
}

async fn list(admin: &Admin, endpoint: &str, query: &str) -> Vec<Value> {
    let path = format!("/admin/v1/deliveries?endpoint={endpoint}&{query}");
    let page = admin.get(&path).await;
    page["data"].as_array().unwrap().clone()
}

async fn look(world: StillServer) {
    let admin = world.admin();
    let (endpoint, directory) = park(&world, &admin).await;
    let all = list(&admin, &endpoint, "limit=100").await;
    let positions: Vec<i64> = all
        .iter()
        .map(|one| one["position"].as_i64().unwrap())
        .collect();
    assert!(positions.is_sorted_by(|one, other| one > other));

    let parked = list(&admin, &endpoint, "status=parked").await;
    assert_eq!(parked.len(), 1);
    let delivered = list(&admin, &endpoint, "status=delivered").await;
    assert_eq!(delivered.len() + 1, all.len());
    assert!(list(&admin, &endpoint, "status=held").await.is_empty());
    let created = list(&admin, &endpoint, "type=dsync.user.created").await;
    assert_eq!(created.len(), 2);
    let here = format!("directory={directory}&type=dsync.user.created&status=delivered");
    assert_eq!(list(&admin, &endpoint, &here).await.len(), 1);
    let there = format!("directory={directory}");
    assert_eq!(list(&admin, &endpoint, &there).await.len(), all.len());
    let now = clock::text(world.clock.now());
    assert!(
        list(&admin, &endpoint, &format!("since={now}"))
            .await
            .is_empty()
    );
    let before = list(&admin, &endpoint, &format!("until={now}")).await;
    assert_eq!(before, all);
    check_pages(&admin, &endpoint, &all).await;
    check_one(&admin, &endpoint, &parked[0]).await;
    check_one_success(&admin, &endpoint, &delivered[0]).await;
    check_backlog(&world, &admin, &endpoint).await;
    world.stop().await;
}

async fn check_pages(admin: &Admin, endpoint: &str, all: &[Value]) {
    let mut walked = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/admin/v1/deliveries?endpoint={endpoint}&limit=1{after}");
        let page = admin.get(&path).await;
        walked.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["list_metadata"]["after"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(walked, all);
}

async fn check_one(admin: &Admin, endpoint: &str, parked: &Value) {
    let id = parked["event_id"].as_str().unwrap();
    let one = admin
        .get(&format!(
            "/admin/v1/webhook_endpoints/{endpoint}/deliveries/{id}"
        ))
        .await;
    assert_eq!(one["status"], "parked");
    assert_eq!(one["event"], "dsync.user.created");
    let attempts = one["attempts_made"].as_array().unwrap();
    assert!(attempts.len() >= 6, "{one}");
    assert!(attempts.iter().all(|attempt| attempt["status_code"] == 500));
    assert!(one["next_attempt_at"].is_string(), "{one}");
}

async fn check_one_success(admin: &Admin, endpoint: &str, delivered: &Value) {
    let position = &delivered["position"];
    let one = admin
        .get(&format!(
            "/admin/v1/webhook_endpoints/{endpoint}/deliveries/{position}"
        ))
        .await;
    let attempts = one["attempts_made"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{one}");
    assert_eq!(attempts[0]["status_code"], 200);
    assert_eq!(attempts[0]["number"], 1);
}

/// What waits while the receiver refuses everything is counted, and how long it has.
async fn check_backlog(world: &StillServer, admin: &Admin, endpoint: &str) {
    let path = format!("/admin/v1/webhook_endpoints/{endpoint}/backlog");
    let idle = admin.get(&path).await;
    assert_eq!(idle["events"], 0, "{idle}");
    assert_eq!(
        (&idle["parked"], &idle["is_exact"]),
        (&1.into(), &true.into())
    );

    world.receiver.behave(|_| Reply::status(500));
    let scim = admin.directory().await;
    for number in 0..3 {
        scim.create_user(&format!("late-{number}@example.com"))
            .await;
    }
    let expected = admin.sequence(scim.directory()).await;
    world.clock.advance_ms(90_000);
    let behind = admin.get(&path).await;
    assert_eq!(behind["events"], expected, "{behind}");
    assert!(behind["seconds_behind"].as_i64().unwrap() >= 90, "{behind}");
    assert_eq!(behind["directories"][0]["directory_id"], scim.directory());
    assert_eq!(behind["directories"][0]["events"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_deliveries_are_listed_and_shown_and_what_waits_is_counted() {
    look(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_deliveries_are_listed_and_shown_and_what_waits_is_counted() {
    if let Some(world) = StillServer::on_postgres().await {
        look(world).await;
    }
}
