//! Replays: events sent once more, in order, through crashes.

use std::time::Duration;

use rollcall::clock::{self, Clock as _};
use serde_json::{Value, json};

use crate::deliveries::park;
use crate::support::client::{Admin, Scim};
use crate::support::ledger::Request;
use crate::support::postgres::server;
use crate::support::process::Installation;
use crate::support::receiver::{Receiver, Reply};
use crate::support::still::StillServer;
use crate::support::waiting::{eventually, settled};

const HOUR: i64 = 3_600_000;
const SOON: Duration = Duration::from_secs(30);

async fn start(admin: &Admin, endpoint: &str, body: Value) -> Value {
    let path = format!("/admin/v1/webhook_endpoints/{endpoint}/replays");
    admin.post(&path, body).await
}

async fn show(admin: &Admin, endpoint: &str, replay: &Value) -> Value {
    let id = replay["id"].as_str().unwrap();
    admin
        .get(&format!(
            "/admin/v1/webhook_endpoints/{endpoint}/replays/{id}"
        ))
        .await
}

/// Waits until a replay is over; returns it.
async fn end(admin: &Admin, endpoint: &str, replay: &Value) -> Value {
    eventually("the end of a replay", SOON, async || {
        let state = show(admin, endpoint, replay).await["state"].clone();
        state != "waiting" && state != "running"
    })
    .await;
    show(admin, endpoint, replay).await
}

/// The requests with this mark.
fn marked(receiver: &Receiver, mark: &Value) -> Vec<Request> {
    let mark = mark.as_str().unwrap();
    let ledger = receiver.ledger();
    let requests = ledger.requests().iter();
    requests.filter(|one| one.replay == mark).cloned().collect()
}

async fn recover(world: StillServer) {
    let admin = world.admin();
    let began = clock::text(world.clock.now());
    let (endpoint, directory) = park(&world, &admin).await;
    world.receiver.behave(|_| Reply::OK);

    let replay = start(&admin, &endpoint, json!({"recover": {"since": began}})).await;
    assert_eq!(replay["total"], 1, "{replay}");
    let ended = end(&admin, &endpoint, &replay).await;
    assert_eq!(
        (&ended["state"], &ended["sent"]),
        (&"done".into(), &1.into())
    );
    let sent = marked(&world.receiver, &replay["id"]);
    assert_eq!(sent.len(), 1);
    assert!(world.exceptions().await.is_empty());
    let event = sent[0].event_id.clone();
    let path = format!("/admin/v1/webhook_endpoints/{endpoint}/deliveries/{event}");
    let delivered = admin.get(&path).await;
    assert_eq!(delivered["status"], "delivered");
    settled(&admin, &world.receiver, &[&directory], SOON).await;

    world.clock.advance_ms(2 * HOUR);
    eventually("the late try", SOON, async || {
        admin.get(&path).await["attempted_at"] != delivered["attempted_at"]
    })
    .await;
    let last = {
        let ledger = world.receiver.ledger();
        let mut tries = ledger.requests().iter().rev();
        let last = tries.find(|one| one.event_id == event).unwrap();
        last.replay.clone()
    };
    assert_eq!(last, replay["id"].as_str().unwrap());
    world.stop().await;
}

async fn people(scim: &Scim, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(
            scim.create_user(&format!("user-{number}@example.com"))
                .await,
        );
    }
    ids
}

async fn send_a_range(world: StillServer) {
    let admin = world.admin();
    let endpoint = admin.subscribe(&world.receiver).await;
    let scim = admin.directory().await;
    let users = people(&scim, 12).await;
    let group = scim.create_group("everybody").await;
    scim.add_members(&group, &users).await;
    scim.delete(&format!("/Users/{}", users[0])).await;
    settled(&admin, &world.receiver, &[scim.directory()], SOON).await;
    let last = admin.sequence(scim.directory()).await;

    let range = json!({"range": {"directory": scim.directory(), "from_sequence": 3}});
    let replay = start(&admin, &endpoint, range).await;
    assert_eq!(replay["total"], last - 2);
    let ended = end(&admin, &endpoint, &replay).await;
    assert_eq!(
        (&ended["sent"], &ended["failed"]),
        (&(last - 2).into(), &0.into())
    );
    let sent = marked(&world.receiver, &replay["id"]);
    let sequences: Vec<i64> = sent.iter().map(|one| one.sequence).collect();
    assert!(sequences.iter().copied().eq(3..=last), "{sequences:?}");
    world.receiver.ledger().assert_orderly();

    let types = json!({"range": {"types": ["dsync.group.created"]}});
    let replay = start(&admin, &endpoint, types).await;
    assert_eq!(end(&admin, &endpoint, &replay).await["sent"], 1);

    resend(&world, &admin, &endpoint, &sent).await;
    cancel(&world, &admin, &endpoint).await;
    world.stop().await;
}

/// One event, about somebody who has been deleted since, and what became of them instead.
async fn resend(world: &StillServer, admin: &Admin, endpoint: &str, sent: &[Request]) {
    let end_of_user = sent
        .iter()
        .rfind(|one| one.body.contains("\"dsync.user.deleted\""))
        .unwrap();
    let deleted: Value = serde_json::from_str(&end_of_user.body).unwrap();
    let all = world.receiver.ledger().requests().to_vec();
    let made = all.iter().find(|one| {
        let body: Value = serde_json::from_str(&one.body).unwrap();
        body["event"] == "dsync.user.created" && body["data"]["id"] == deleted["data"]["id"]
    });
    let event = made.unwrap().event_id.clone();

    let replay = start(admin, endpoint, json!({"delivery": event})).await;
    assert_eq!(replay["newer"]["last_event"], "dsync.user.deleted");
    assert_eq!(replay["newer"]["sequence"], end_of_user.sequence);
    end(admin, endpoint, &replay).await;
    let again = marked(&world.receiver, &replay["id"]);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].event_id, event);

    let replay = start(admin, endpoint, replay["newer"]["instead"].clone()).await;
    end(admin, endpoint, &replay).await;
    let state = marked(&world.receiver, &"current-state".into());
    assert_eq!(state.len(), 1);
    let body: Value = serde_json::from_str(&state[0].body).unwrap();
    assert_eq!(body["event"], "dsync.user.deleted");
    assert_eq!(body["data"], deleted["data"]);
    assert_ne!(body["id"], deleted["id"]);
    world.receiver.ledger().assert_orderly();
}

async fn cancel(world: &StillServer, admin: &Admin, endpoint: &str) {
    world
        .receiver
        .behave(|_| Reply::slow(Duration::from_millis(300)));
    let replay = start(admin, endpoint, json!({"range": {}})).await;
    eventually("a first event", SOON, async || {
        !marked(&world.receiver, &replay["id"]).is_empty()
    })
    .await;
    let id = replay["id"].as_str().unwrap();
    let path = format!("/admin/v1/webhook_endpoints/{endpoint}/replays/{id}");
    let canceled = admin.ask("DELETE", &path, None).await;
    assert_eq!(canceled["state"], "canceled");
    let ended = end(admin, endpoint, &replay).await;
    assert_eq!(ended["state"], "canceled");
    assert!(ended["ended_at"].is_string());
}

/// A replay whose node is killed is gone on with, from the last page that was written down.
async fn survive_a_kill(installation: &Installation) {
    let mut node = installation.start().await;
    let admin = Admin::new(&[node.base()], installation.api_key().await);
    let receiver = Receiver::start();
    let endpoint = admin.subscribe(&receiver).await;
    let scim = admin.directory().await;
    people(&scim, 30).await;
    settled(&admin, &receiver, &[scim.directory()], SOON).await;
    let last = admin.sequence(scim.directory()).await;
    receiver.behave(|_| Reply::slow(Duration::from_millis(50)));

    let range = json!({"range": {"directory": scim.directory()}});
    let replay = start(&admin, &endpoint, range).await;
    eventually("some events", SOON, async || {
        marked(&receiver, &replay["id"]).len() > 5
    })
    .await;
    node.kill_9();
    receiver.behave(|_| Reply::OK);
    node.start_again().await;

    let ended = end(&admin, &endpoint, &replay).await;
    assert_eq!(
        (&ended["state"], &ended["sent"]),
        (&"done".into(), &last.into())
    );
    let sent = marked(&receiver, &replay["id"]);
    let after: Vec<i64> = sent.iter().map(|one| one.sequence).rev().collect();
    let count = usize::try_from(last).unwrap();
    assert!(
        after[..count].iter().rev().copied().eq(1..=last),
        "{after:?}"
    );
    receiver.ledger().assert_orderly();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_what_was_parked_is_recovered_and_not_tried_again() {
    recover(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_what_was_parked_is_recovered_and_not_tried_again() {
    if let Some(world) = StillServer::on_postgres().await {
        recover(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_part_of_the_log_or_one_event_is_sent_again_in_order() {
    send_a_range(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_part_of_the_log_or_one_event_is_sent_again_in_order() {
    if let Some(world) = StillServer::on_postgres().await {
        send_a_range(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_replay_survives_the_death_of_its_node() {
    survive_a_kill(&Installation::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_replay_survives_the_death_of_its_node() {
    if let Some(server) = server() {
        survive_a_kill(&Installation::on_postgres(server)).await;
    }
}
