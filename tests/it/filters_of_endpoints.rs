//! Endpoints that take some of the events: a receiver that has nothing but the headers misses nothing
//! without noticing, and never waits for what does not come, also while its filter changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall::clock::ManualClock;
use rollcall::storage::tables::events;
use sea_orm::{EntityTrait as _, QueryOrder as _};
use serde_json::{Value, json};

use crate::support::Answer;
use crate::support::client::Scim;
use crate::support::receiver::Receiver;
use crate::support::still::StillServer;
use crate::support::waiting::eventually;

const SOON: Duration = Duration::from_secs(20);
const CREATED: &str = "dsync.user.created";
const UPDATED: &str = "dsync.user.updated";

/// An endpoint with a receiver of its own.
struct Subscriber {
    id: String,
    receiver: Receiver,
}

impl Subscriber {
    async fn new(world: &StillServer, filter: Value) -> Self {
        let receiver = Receiver::start_with(Arc::<ManualClock>::clone(&world.clock));
        let mut body = filter;
        body["endpoint_url"] = json!(receiver.url());
        let made = world.vendor().create_endpoint(body).await.expect(201);
        receiver.expect_secret(made["secret"].as_str().unwrap());
        Self {
            id: made["id"].as_str().unwrap().to_owned(),
            receiver,
        }
    }

    /// Waits until nothing is on its way.
    async fn settled(&self, world: &StillServer) {
        let admin = world.admin();
        eventually("complete delivery", SOON, async || {
            admin.undelivered(&self.id).await == 0
        })
        .await;
    }

    /// The ids of the events that have arrived.
    fn arrived(&self) -> BTreeSet<String> {
        let ledger = self.receiver.ledger();
        let requests = ledger.requests().iter();
        requests.map(|request| request.event_id.clone()).collect()
    }

    /// For each directory, by sequence, what each event says that it follows.
    fn chains(&self) -> BTreeMap<String, BTreeMap<i64, BTreeSet<i64>>> {
        let mut chains: BTreeMap<String, BTreeMap<i64, BTreeSet<i64>>> = BTreeMap::new();
        for request in self.receiver.ledger().requests() {
            if !request.is_beside {
                let chain = chains.entry(request.directory.clone()).or_default();
                let previous = chain.entry(request.sequence).or_default();
                previous.insert(request.previous);
            }
        }
        chains
    }

    /// Plays receivers that have the headers and nothing else: one that has lost nothing raises no alarm,
    /// and whoever loses an event that another one followed knows which.
    fn judge(&self) -> usize {
        let mut events = 0;
        for (directory, chain) in self.chains() {
            assert_eq!(alarms(&chain, None), BTreeSet::new(), "{directory}");
            let newest = chain.keys().next_back().copied();
            for lost in chain.keys().copied().filter(|one| Some(*one) != newest) {
                assert!(
                    alarms(&chain, Some(lost)).contains(&lost),
                    "{directory}: {lost}"
                );
            }
            events += chain.len();
        }
        events
    }
}

/// The events that others say they follow and that have not come.
fn alarms(chain: &BTreeMap<i64, BTreeSet<i64>>, lost: Option<i64>) -> BTreeSet<i64> {
    let came = |sequence: &i64| chain.contains_key(sequence) && Some(*sequence) != lost;
    chain
        .iter()
        .filter(|(sequence, _)| came(sequence))
        .flat_map(|(_, previous)| previous)
        .filter(|sequence| **sequence != 0 && !came(sequence))
        .copied()
        .collect()
}

/// The ids of the events in the log after the first `skipped` that fit.
async fn logged(
    world: &StillServer,
    skipped: usize,
    fits: impl Fn(&events::Model) -> bool,
) -> BTreeSet<String> {
    let rows = events::Entity::find().order_by_asc(events::Column::Position);
    let rows = rows.all(world.store().reader()).await.unwrap();
    let rows = rows.iter().skip(skipped).filter(|row| fits(row));
    rows.map(|row| row.id.to_string()).collect()
}

/// People who come, change and go, some of them in a group.
async fn write(scim: &Scim, prefix: &str, people: usize) {
    let group = scim.create_group(&format!("{prefix}-group")).await;
    for number in 0..people {
        let name = format!("{prefix}-{number}@example.com");
        let id = scim.create_user(&name).await;
        scim.add_members(&group, std::slice::from_ref(&id)).await;
        let title = json!([{"op": "replace", "path": "title", "value": prefix}]);
        scim.patch(&format!("/Users/{id}"), title).await;
        if number % 2 == 1 {
            scim.remove_member(&group, &id).await;
            scim.delete(&format!("/Users/{id}")).await;
        }
    }
}

async fn see_their_part(world: StillServer) {
    let admin = world.admin();
    let (one, other) = (admin.directory().await, admin.directory().await);
    let tokens = admin.tokens(one.directory()).await;
    write(&one, "before", 2).await;
    let before = logged(&world, 0, |_| true).await.len();
    let shown = world.vendor().directory(one.directory()).await.expect(200);
    let organization = shown["organization_id"].as_str().unwrap();
    let all = Subscriber::new(&world, json!({})).await;
    let kind = Subscriber::new(&world, json!({"events": [CREATED]})).await;
    let kinds = [
        CREATED,
        UPDATED,
        "dsync.group.user_added",
        "dsync.user.deleted",
    ];
    let several = Subscriber::new(&world, json!({"events": kinds})).await;
    let of_organization = Subscriber::new(&world, json!({"organizations": [organization]})).await;
    let of_directory = json!({"directories": [other.directory()], "events": [UPDATED]});
    let of_directory = Subscriber::new(&world, of_directory).await;
    let beside = json!({"events": ["dsync.token.created", UPDATED]});
    let beside = Subscriber::new(&world, beside).await;
    let whole = Subscriber::new(&world, json!({"start_at": "beginning"})).await;

    tokio::join!(write(&one, "a", 4), write(&other, "b", 4));
    admin.rotate_token(one.directory(), &tokens[0]).await;

    let is_sequenced = |row: &events::Model| row.sequence.is_some();
    let of = |row: &events::Model, kinds: &[&str]| kinds.contains(&row.kind.as_str());
    let (first, second) = (one.directory(), other.directory());
    let expected = [
        (&all, logged(&world, before, is_sequenced).await),
        (
            &kind,
            logged(&world, before, |row| of(row, &[CREATED])).await,
        ),
        (
            &several,
            logged(&world, before, |row| of(row, &kinds)).await,
        ),
        (
            &of_organization,
            logged(&world, before, |row| {
                is_sequenced(row) && row.directory_id.to_string() == first
            })
            .await,
        ),
        (
            &of_directory,
            logged(&world, before, |row| {
                of(row, &[UPDATED]) && row.directory_id.to_string() == second
            })
            .await,
        ),
        (
            &beside,
            logged(&world, before, |row| {
                of(row, &["dsync.token.created", UPDATED])
            })
            .await,
        ),
        (&whole, logged(&world, 0, is_sequenced).await),
    ];
    for (number, (subscriber, events)) in expected.iter().enumerate() {
        subscriber.settled(&world).await;
        assert_eq!(subscriber.arrived(), *events, "{number}");
        assert!(subscriber.judge() > 3, "{number}");
    }
    world.stop().await;
}

async fn change_on_the_way(world: StillServer) {
    let admin = world.admin();
    let (one, other) = (admin.directory().await, admin.directory().await);
    let changing = Subscriber::new(&world, json!({})).await;
    let vendor = world.vendor();
    let filters = [
        json!({"events": [CREATED]}),
        json!({"events": []}),
        json!({"directories": [other.directory()]}),
        json!({"directories": [], "events": [UPDATED, "dsync.user.deleted"]}),
        json!({"events": []}),
    ];
    let change = async {
        for filter in filters {
            let enough = changing.arrived().len() + 4;
            eventually("some more events", SOON, async || {
                changing.arrived().len() >= enough
            })
            .await;
            let changed: Answer = vendor.configure_endpoint(&changing.id, filter).await;
            changed.expect(200);
        }
    };

    tokio::join!(write(&one, "a", 24), write(&other, "b", 24), change);
    write(&one, "after", 2).await;

    changing.settled(&world).await;
    let all = logged(&world, 0, |_| true).await.len();
    let arrived = changing.judge();
    assert!(arrived > 20 && arrived < all, "{arrived} of {all}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_endpoints_see_what_their_filters_pass_and_can_tell_what_is_missing() {
    see_their_part(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_endpoints_see_what_their_filters_pass_and_can_tell_what_is_missing() {
    if let Some(world) = StillServer::on_postgres().await {
        see_their_part(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_filter_that_changes_while_events_flow_raises_no_false_alarm() {
    change_on_the_way(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_filter_that_changes_while_events_flow_raises_no_false_alarm() {
    if let Some(world) = StillServer::on_postgres().await {
        change_on_the_way(world).await;
    }
}
