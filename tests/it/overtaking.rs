//! What goes before what: a person who leaves does not wait behind an import, and an import does not keep
//! other directories waiting.

use std::time::Duration;

use crate::support::client::Scim;
use crate::support::receiver::Reply;
use crate::support::still::StillServer;
use crate::support::waiting::{eventually, settled};

const IMPORTED: usize = 1_200;
const SOON: Duration = Duration::from_secs(20);

/// At which place among all requests something first arrived.
fn place_of(world: &StillServer, text: &str) -> Option<usize> {
    let ledger = world.receiver.ledger();
    ledger
        .requests()
        .iter()
        .position(|one| one.body.contains(text))
}

async fn import(scim: &Scim) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..IMPORTED {
        ids.push(scim.create_user(&format!("new-{number}@example.com")).await);
    }
    ids
}

/// An import waits for a receiver that takes nothing; when that takes something, who left comes first.
async fn leave(world: StillServer) {
    let admin = world.admin();
    admin.subscribe(&world.receiver).await;
    let (scim, other) = (admin.directory().await, admin.directory().await);
    world
        .receiver
        .behave(|_| Reply::slow(Duration::from_secs(3)));
    let ids = import(&scim).await;
    let group = scim.create_group("leavers").await;
    let leaver = ids.last().unwrap();
    scim.add_members(&group, std::slice::from_ref(leaver)).await;
    scim.delete(&format!("/Users/{leaver}")).await;
    other.create_user("other@example.com").await;
    world
        .receiver
        .behave(|_| Reply::slow(Duration::from_millis(40)));

    eventually("the departure", SOON, async || {
        place_of(&world, "dsync.user.deleted").is_some()
            && place_of(&world, "other@example.com").is_some()
    })
    .await;
    let arrived = world.receiver.ledger().requests().len();
    assert!(
        arrived < IMPORTED,
        "all of the import came first: {arrived}"
    );
    let both = [scim.directory(), other.directory()];
    settled(&admin, &world.receiver, &both, Duration::from_secs(40)).await;
    assert_eq!(world.receiver.ledger().duplicates(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_who_leaves_does_not_wait_behind_an_import() {
    leave(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_who_leaves_does_not_wait_behind_an_import() {
    if let Some(world) = StillServer::on_postgres().await {
        leave(world).await;
    }
}
