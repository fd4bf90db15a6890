//! `kill -9` of the server at random instants while providers write and webhooks go out.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::choices::Choices;
use crate::support::client::{Admin, Scim};
use crate::support::postgres::server;
use crate::support::process::Installation;
use crate::support::receiver::{Receiver, Reply};
use crate::support::replica::Picture;
use crate::support::waiting::settled;

const DIRECTORIES: usize = 4;
const CLIENTS: usize = 4;
const CHANGES: usize = 125;
/// How long a client thinks between two changes at most, in milliseconds.
const PAUSE_MAX: usize = 400;
const KILLS_MIN: usize = 5;
const KILLS_MAX: usize = 25;
const ANSWER: Duration = Duration::from_millis(10);
/// After the faults have ended, everything must arrive within this.
const DELIVERY_MAX: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_nothing_acknowledged_is_lost_however_often_the_server_is_killed() {
    survive(&Installation::on_sqlite(), 100..1_200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_nothing_acknowledged_is_lost_however_often_the_server_is_killed() {
    let Some(server) = server() else { return };
    // A killed node's leases hold for six seconds, so that short lives alone would deliver nothing.
    survive(&Installation::on_postgres(server), 300..9_000).await;
}

/// Kills the server again and again; it lives for so many milliseconds in between.
async fn survive(installation: &Installation, lives: Range<usize>) {
    let mut choices = Choices::seeded("crash");
    let mut node = installation.start().await;
    let admin = Admin::new(&[node.base()], installation.api_key().await);
    let receiver = Receiver::start();
    admin.subscribe(&receiver).await;
    receiver.behave(|_| Reply::slow(ANSWER));
    let mut directories = Vec::new();
    let mut clients = JoinSet::new();
    for number in 0..DIRECTORIES {
        let scim = admin.directory().await;
        for client in 0..CLIENTS {
            let provider = Provider::new(&scim, client, choices.fork());
            clients.spawn(async move { (number, provider.work().await) });
        }
        directories.push(scim);
    }

    let started = Instant::now();
    let mut kills = 0;
    let mut expected = vec![Picture::default(); DIRECTORIES];
    let mut working = CLIENTS * DIRECTORIES;
    while working > 0 || kills < KILLS_MIN {
        let life = lives.start + choices.below(lives.len());
        tokio::time::sleep(milliseconds(life)).await;
        if kills < KILLS_MAX {
            node.kill_9();
            kills += 1;
            node.start_again().await;
        }
        while let Some(ended) = clients.try_join_next() {
            let (number, picture) = ended.expect("clients do not panic");
            merge(&mut expected[number], picture);
            working -= 1;
        }
    }
    let took = started.elapsed();

    let names: Vec<&str> = directories.iter().map(Scim::directory).collect();
    let settling = settled(&admin, &receiver, &names, DELIVERY_MAX).await;
    let (accepted, duplicates) = {
        let ledger = receiver.ledger();
        (ledger.accepted(), ledger.duplicates())
    };
    eprintln!(
        "{kills} kills in {took:?}, settled within {settling:?}: {accepted} events, \
         {duplicates} duplicates"
    );
    for (scim, expected) in directories.iter().zip(expected) {
        let shown = scim.picture().await;
        let told = receiver
            .ledger()
            .replica(scim.directory())
            .unwrap()
            .picture();
        assert_eq!(shown, expected, "what SCIM shows is what was acknowledged");
        assert_eq!(
            told, expected,
            "what webhooks tell is what was acknowledged"
        );
    }
}

fn milliseconds(count: usize) -> Duration {
    Duration::from_millis(count.try_into().unwrap())
}

fn merge(into: &mut Picture, from: Picture) {
    into.users.extend(from.users);
    into.groups.extend(from.groups);
    into.memberships.extend(from.memberships);
}

/// One client of a directory, with people of its own in groups that all share.
struct Provider {
    scim: Scim,
    client: usize,
    choices: Choices,
    /// What it has been told is done.
    picture: Picture,
    /// Name and id.
    users: Vec<(String, String)>,
    group: (String, String),
}

impl Provider {
    fn new(scim: &Scim, client: usize, choices: Choices) -> Self {
        Self {
            scim: scim.clone(),
            client,
            choices,
            picture: Picture::default(),
            users: Vec::new(),
            group: Default::default(),
        }
    }

    async fn work(mut self) -> Picture {
        let name = format!("group-{}", self.client % 2);
        self.group = (name.clone(), self.scim.create_group(&name).await);
        self.picture.groups.insert(name);
        for number in 0..CHANGES {
            match (self.users.is_empty(), self.choices.below(100)) {
                (true, _) | (_, 0..35) => self.create(number).await,
                (_, 35..60) => self.rename(number).await,
                (_, 60..85) => self.join().await,
                (_, 85..95) => self.leave().await,
                _ => self.delete().await,
            }
            tokio::time::sleep(milliseconds(self.choices.below(PAUSE_MAX))).await;
        }
        self.picture
    }

    async fn create(&mut self, number: usize) {
        let name = format!("user-{}-{number}@example.com", self.client);
        let id = self.scim.create_user(&name).await;
        self.picture
            .users
            .insert(name.clone(), ("new".to_owned(), true));
        self.users.push((name, id));
    }

    async fn rename(&mut self, number: usize) {
        let (name, id) = self.choices.one_of(&self.users).clone();
        let title = format!("title-{number}");
        let is_active = self.choices.below(4) > 0;
        let operations = json!([
            {"op": "replace", "path": "title", "value": title},
            {"op": "replace", "path": "active", "value": is_active},
        ]);
        self.scim.patch(&format!("/Users/{id}"), operations).await;
        self.picture.users.insert(name, (title, is_active));
    }

    async fn join(&mut self) {
        let (name, id) = self.choices.one_of(&self.users).clone();
        self.scim.add_members(&self.group.1, &[id]).await;
        self.picture
            .memberships
            .insert((name, self.group.0.clone()));
    }

    async fn leave(&mut self) {
        let (name, id) = self.choices.one_of(&self.users).clone();
        self.scim.remove_member(&self.group.1, &id).await;
        self.picture
            .memberships
            .remove(&(name, self.group.0.clone()));
    }

    async fn delete(&mut self) {
        let place = self.choices.below(self.users.len());
        let (name, id) = self.users.swap_remove(place);
        self.scim.delete(&format!("/Users/{id}")).await;
        self.picture.users.remove(&name);
        self.picture.memberships.retain(|(user, _)| *user != name);
    }
}
