//! Snapshots: an endpoint that knew nothing of a directory knows all of it in the end, whatever happens
//! meanwhile; and checksums, by which it can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rollcall::outbound::ApiClient;
use serde_json::{Value, json};

use crate::support::actors::Vendor;
use crate::support::choices::Choices;
use crate::support::client::{Admin, Scim};
use crate::support::ledger::Request;
use crate::support::mirror::Mirror;
use crate::support::receiver::{Receiver, Reply};
use crate::support::still::StillServer;
use crate::support::waiting::{eventually, settled};

const SOON: Duration = Duration::from_secs(30);

on_both_still! {
    a_snapshot_and_the_events_after_it_make_the_state_at_the_end_while_everything_changes,
    a_snapshot_of_an_empty_directory_is_its_beginning_and_its_end,
    a_snapshot_goes_on_after_a_restart_and_the_live_events_wait_for_its_end,
    one_snapshot_at_a_time_is_on_its_way_and_can_be_cancelled,
    a_receiver_that_knows_nothing_but_webhooks_computes_the_checksum,
    a_new_endpoint_may_begin_with_a_snapshot_of_each_directory,
}

async fn start(admin: &Admin, scim: &Scim, endpoint: &str) -> Value {
    let path = format!("/admin/v1/directories/{}/snapshot", scim.directory());
    admin.post(&path, json!({"endpoint_id": endpoint})).await
}

async fn checksum(admin: &Admin, scim: &Scim) -> Value {
    let path = format!("/admin/v1/directories/{}/checksum", scim.directory());
    admin.get(&path).await
}

async fn arrives(admin: &Admin, snapshot: &Value) {
    let path = format!("/admin/v1/snapshots/{}", snapshot["id"].as_str().unwrap());
    eventually("end of the snapshot", SOON, async || {
        admin.get(&path).await["state"] == "done"
    })
    .await;
}

fn number(request: &Request) -> Option<i64> {
    let number = request.headers.get("rollcall-snapshot-number")?;
    Some(number.parse().unwrap())
}

/// The snapshot's events that were accepted, and those of the log, in the order in which they came.
fn sort(receiver: &Receiver) -> (Vec<Request>, Vec<Request>) {
    let ledger = receiver.ledger();
    let accepted = ledger.requests().iter().filter(|one| one.is_accepted());
    accepted
        .cloned()
        .partition(|request| number(request).is_some())
}

/// Each number has one id, and what is live comes after all of them, or was there before.
fn assert_in_place(receiver: &Receiver, snapshot: &Value) {
    let (sent, live) = sort(receiver);
    let mut ids: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    let exact_at = snapshot["sequence"].as_i64().unwrap();
    for request in &sent {
        let header = |name: &str| request.headers[name].clone();
        assert_eq!(header("rollcall-snapshot"), snapshot["id"]);
        assert_eq!(
            header("rollcall-snapshot-sequence"),
            snapshot["sequence"].to_string()
        );
        assert_eq!(
            header("rollcall-snapshot-total"),
            snapshot["total"].to_string()
        );
        assert_eq!(request.replay, "snapshot");
        assert!(!request.headers.contains_key("rollcall-sequence"));
        let number = number(request).unwrap();
        let is_end = request.headers.contains_key("rollcall-snapshot-end");
        assert_eq!(is_end, Some(number) == snapshot["total"].as_i64());
        ids.entry(number)
            .or_default()
            .insert(request.event_id.clone());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    assert_eq!(ids.keys().next_back().copied(), snapshot["total"].as_i64());
    let end = sent.iter().map(|request| request.answered.unwrap().0).max();
    for request in live.iter().filter(|one| one.sequence > exact_at) {
        assert!(
            Some(request.arrived) > end,
            "{} came ahead",
            request.sequence
        );
    }
}

/// Something that a provider might do.
async fn change(scim: &Scim, choices: &mut Choices, users: &mut Vec<String>, groups: &[String]) {
    let at = choices.below(users.len());
    let (user, group) = (users[at].clone(), choices.one_of(groups).clone());
    let replace =
        |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    match choices.below(8) {
        0 => {
            let name = format!("late-{}@example.com", choices.below(1_000_000_000));
            users.push(scim.create_user(&name).await);
        }
        1 => {
            scim.delete(&format!("/Users/{user}")).await;
            users.swap_remove(at);
        }
        2 => {
            let is_active = choices.below(2) == 0;
            let operations = replace("active", json!(is_active));
            scim.patch(&format!("/Users/{user}"), operations).await;
        }
        3 => {
            let name = format!("renamed {}", choices.below(1_000));
            let operations = replace("displayName", json!(name));
            scim.patch(&format!("/Groups/{group}"), operations).await;
        }
        4 | 5 => scim.add_members(&group, &[user]).await,
        6 => scim.remove_member(&group, &user).await,
        _ => {
            let operations = replace("title", json!("changed"));
            scim.patch(&format!("/Users/{user}"), operations).await;
        }
    }
}

async fn populate(scim: &Scim, people: usize) -> (Vec<String>, Vec<String>) {
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for number in 0..people {
        let name = format!("user-{number}@example.com");
        users.push(scim.create_user(&name).await);
    }
    for number in 0..4 {
        let group = scim.create_group(&format!("group {number}")).await;
        let members: Vec<String> = users.iter().skip(number).step_by(3).cloned().collect();
        scim.add_members(&group, &members).await;
        groups.push(group);
    }
    (users, groups)
}

async fn a_snapshot_and_the_events_after_it_make_the_state_at_the_end_while_everything_changes(
    world: StillServer,
) {
    let mut choices = Choices::seeded("snapshots");
    let admin = world.admin();
    let scim = admin.directory().await;
    let (mut users, groups) = populate(&scim, 40).await;
    let endpoint = admin.subscribe(&world.receiver).await;
    world.receiver.behave(|request| match number(request) {
        Some(number) if number % 17 == 0 && request.attempt == 1 => Reply::status(503),
        Some(_) => Reply::slow(Duration::from_millis(20)),
        None => Reply::OK,
    });

    let snapshot = start(&admin, &scim, &endpoint).await;
    assert_eq!(snapshot["state"], "running");
    for _ in 0..60 {
        change(&scim, &mut choices, &mut users, &groups).await;
    }
    arrives(&admin, &snapshot).await;
    for _ in 0..10 {
        change(&scim, &mut choices, &mut users, &groups).await;
    }
    eventually("delivery of what was held", SOON, async || {
        let is_delivered = admin.undelivered(&endpoint).await == 0;
        let last = admin.sequence(scim.directory()).await;
        let (_, live) = sort(&world.receiver);
        is_delivered && live.iter().any(|request| request.sequence == last)
    })
    .await;

    assert_in_place(&world.receiver, &snapshot);
    let mirror = Mirror::of(world.receiver.ledger().requests(), scim.directory());
    let checksum = checksum(&admin, &scim).await;
    assert_eq!(checksum["sequence"], admin.sequence(scim.directory()).await);
    let [users, groups, memberships] = mirror.counts();
    assert_eq!(checksum["users"], users);
    assert_eq!(checksum["groups"], groups);
    assert_eq!(checksum["memberships"], memberships);
    assert_eq!(checksum["sha256"], mirror.digest());
    world.stop().await;
}

async fn a_snapshot_of_an_empty_directory_is_its_beginning_and_its_end(world: StillServer) {
    let admin = world.admin();
    let scim = admin.directory().await;
    let endpoint = admin.subscribe(&world.receiver).await;
    let user = scim.create_user("short@example.com").await;
    scim.delete(&format!("/Users/{user}")).await;
    settled(&admin, &world.receiver, &[scim.directory()], SOON).await;

    let snapshot = start(&admin, &scim, &endpoint).await;
    assert_eq!(snapshot["total"], 1);
    assert_eq!(snapshot["sequence"], 3);
    arrives(&admin, &snapshot).await;

    assert_in_place(&world.receiver, &snapshot);
    let (sent, _) = sort(&world.receiver);
    let body: Value = serde_json::from_str(&sent[0].body).unwrap();
    assert_eq!(body["event"], "dsync.activated");
    let mirror = Mirror::of(world.receiver.ledger().requests(), scim.directory());
    assert_eq!(checksum(&admin, &scim).await["sha256"], mirror.digest());
    world.stop().await;
}

async fn a_snapshot_goes_on_after_a_restart_and_the_live_events_wait_for_its_end(
    mut world: StillServer,
) {
    let admin = world.admin();
    let scim = admin.directory().await;
    populate(&scim, 12).await;
    let endpoint = admin.subscribe(&world.receiver).await;
    world.receiver.behave(|request| {
        let is_early = number(request).is_some_and(|number| number <= 5);
        Reply::status(if is_early { 200 } else { 503 })
    });
    let snapshot = start(&admin, &scim, &endpoint).await;
    let path = format!("/admin/v1/snapshots/{}", snapshot["id"].as_str().unwrap());
    eventually("a snapshot that is stuck", SOON, async || {
        let seen = admin.get(&path).await;
        seen["sent"] == 5 && seen["error"].as_str().is_some()
    })
    .await;
    scim.create_user("late@example.com").await;

    world.restart().await;
    let admin = world.admin();
    let base = format!("http://{}", world.running.as_ref().unwrap().address);
    let scim = scim.through(&base);
    let other = admin.directory().await;
    world.receiver.behave(|request| {
        let is_live = number(request).is_none();
        Reply::status(if is_live { 200 } else { 503 })
    });
    other.create_user("other@example.com").await;
    settled(&admin, &world.receiver, &[other.directory()], SOON).await;
    let is_held = |request: &Request| request.directory != scim.directory();
    assert!(sort(&world.receiver).1.iter().all(is_held));

    world.receiver.behave(|_| Reply::OK);
    arrives(&admin, &snapshot).await;
    scim.create_user("later@example.com").await;
    eventually("the live events", SOON, async || {
        let mirror = Mirror::of(world.receiver.ledger().requests(), scim.directory());
        checksum(&admin, &scim).await["sha256"] == mirror.digest()
    })
    .await;
    let of_directory = |one: &Request| one.directory == scim.directory();
    let (sent, live) = sort(&world.receiver);
    let end = sent.iter().map(|one| one.answered.unwrap().0).max();
    assert!(
        live.iter()
            .filter(|one| of_directory(one))
            .all(|one| Some(one.arrived) > end)
    );
    world.stop().await;
}

async fn one_snapshot_at_a_time_is_on_its_way_and_can_be_cancelled(world: StillServer) {
    let admin = world.admin();
    let base = format!("http://{}", world.running.as_ref().unwrap().address);
    let vendor = Vendor::new(ApiClient::new().unwrap(), &base, &world.key);
    let scim = admin.directory().await;
    let endpoint = admin.subscribe(&world.receiver).await;
    let (id, body) = (scim.directory(), json!({"endpoint_id": endpoint}));
    let post = async |body: &Value| {
        let body = Some(body.clone());
        vendor.of_directory("POST", id, "/snapshot", body).await
    };
    assert_eq!(
        post(&body).await.expect(409)["code"],
        "directory_not_linked"
    );
    post(&json!({"endpoint_id": "we_0"})).await.expect(404);
    post(&json!({})).await.expect(422);
    scim.create_user("ada@example.com").await;
    settled(&admin, &world.receiver, &[id], SOON).await;
    world.receiver.behave(|request| {
        let is_live = number(request).is_none();
        Reply::status(if is_live { 200 } else { 503 })
    });

    let snapshot = post(&body).await.expect(202);
    let running = post(&body).await.expect(409);
    assert_eq!(running["code"], "snapshot_running");
    scim.create_user("eve@example.com").await;
    let path = format!("/admin/v1/snapshots/{}", snapshot["id"].as_str().unwrap());
    let cancelled = vendor.raw("DELETE", &path, &[], None).await.expect(200);
    assert_eq!(cancelled["state"], "cancelled");
    let ended = vendor.raw("DELETE", &path, &[], None).await.expect(409);
    assert_eq!(ended["code"], "snapshot_ended");
    settled(&admin, &world.receiver, &[id], SOON).await;

    world.receiver.behave(|_| Reply::OK);
    let next = post(&body).await.expect(202);
    arrives(&admin, &next).await;
    let list = format!("/admin/v1/webhook_endpoints/{endpoint}/snapshots");
    let listed = admin.get(&list).await;
    assert_eq!(listed["data"][0]["id"], next["id"]);
    assert_eq!(listed["data"][1]["id"], snapshot["id"]);
    let first = admin.get(&format!("{list}?limit=1")).await;
    assert_eq!(first["list_metadata"]["after"], next["id"]);
    let audited = vendor.audit_entries("limit=100").await.expect(200);
    let audited = audited["data"].as_array().unwrap().iter();
    let actions: Vec<&Value> = audited.map(|entry| &entry["action"]).collect();
    let count = |action: &str| actions.iter().filter(|one| **one == action).count();
    assert_eq!(count("snapshot.started"), 2);
    assert_eq!(count("snapshot.cancelled"), 1);
    world.stop().await;
}

async fn a_receiver_that_knows_nothing_but_webhooks_computes_the_checksum(world: StillServer) {
    let admin = world.admin();
    let endpoint = admin.subscribe(&world.receiver).await;
    let scim = admin.directory().await;
    let path = format!("/admin/v1/directories/{}", scim.directory());
    let (users, groups) = populate(&scim, 6).await;
    let nest = json!([{"op": "add", "path": "members", "value": [{"value": groups[1]}]}]);
    scim.patch(&format!("/Groups/{}", groups[0]), nest).await;
    let mut digests = BTreeSet::new();
    for step in 0..4 {
        match step {
            0 => {}
            1 => {
                let body = json!({"flatten_groups": true}).to_string();
                admin.ask("PATCH", &path, Some(body)).await;
            }
            2 => {
                let off = json!([{"op": "replace", "path": "active", "value": false}]);
                scim.patch(&format!("/Users/{}", users[0]), off).await;
            }
            _ => {
                let body = json!({"policy": "delete"}).to_string();
                let path = format!("{path}/inactive_users");
                admin.ask("PUT", &path, Some(body)).await;
            }
        }
        settled(&admin, &world.receiver, &[scim.directory()], SOON).await;
        let mirror = Mirror::of(world.receiver.ledger().requests(), scim.directory());
        let checksum = checksum(&admin, &scim).await;
        assert_eq!(checksum["sha256"], mirror.digest(), "{step}: {checksum}");
        digests.insert(mirror.digest());
    }
    assert_eq!(digests.len(), 4);
    // A snapshot knows of groups in groups too.
    let snapshot = start(&admin, &scim, &endpoint).await;
    arrives(&admin, &snapshot).await;
    let (sent, _) = sort(&world.receiver);
    let copy = Mirror::of(&sent, scim.directory());
    assert!(digests.contains(&copy.digest()));
    let now = checksum(&admin, &scim).await;
    assert_eq!(now["sha256"], copy.digest());
    world.stop().await;
}

async fn a_new_endpoint_may_begin_with_a_snapshot_of_each_directory(world: StillServer) {
    let admin = world.admin();
    let (one, other) = (admin.directory().await, admin.directory().await);
    populate(&one, 5).await;
    other.create_user("alone@example.com").await;
    let body = json!({"endpoint_url": world.receiver.url(), "start_at": "snapshot"});
    let made = admin.post("/admin/v1/webhook_endpoints", body).await;
    world
        .receiver
        .expect_secret(made["secret"].as_str().unwrap());

    eventually("the end of both snapshots", SOON, async || {
        let (sent, _) = sort(&world.receiver);
        let ends = sent
            .iter()
            .filter(|request| request.headers.contains_key("rollcall-snapshot-end"));
        ends.count() == 2
    })
    .await;
    let (sent, live) = sort(&world.receiver);
    let of = |scim: &Scim| {
        let of_it = sent.iter().filter(|one| one.directory == scim.directory());
        of_it
            .filter(|one| one.body.contains("dsync.user.created"))
            .count()
    };
    assert_eq!((of(&one), of(&other)), (5, 1));
    assert!(live.is_empty());
    world.stop().await;
}
