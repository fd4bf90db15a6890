//! A copy of a directory as a receiver keeps one that takes snapshots: every event is taken as the state
//! that it shows, whether it was expected or not. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::ledger::Request;

/// The copy.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    users: BTreeMap<String, Value>,
    groups: BTreeMap<String, Value>,
    /// Group and user.
    members: BTreeSet<(String, String)>,
    /// The sequence at which the snapshot was exact; live events up to it tell nothing new.
    exact_at: i64,
    /// Whom the snapshot that is on its way has named: users, groups, and memberships.
    named: Option<BTreeSet<String>>,
}

impl Mirror {
    /// What the accepted requests about a directory make, each event taken once.
    pub(crate) fn of(requests: &[Request], directory: &str) -> Self {
        let (mut mirror, mut seen) = (Self::default(), BTreeSet::new());
        let accepted = requests
            .iter()
            .filter(|one| one.directory == directory && one.is_accepted());
        for request in accepted {
            if seen.insert(request.event_id.clone()) {
                mirror.take(request);
            }
        }
        mirror
    }

    fn take(&mut self, request: &Request) {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        if header("rollcall-snapshot").is_none() {
            if request.sequence > self.exact_at {
                self.apply(&body);
            }
            return;
        }
        if header("rollcall-snapshot-number") == Some("1") {
            self.exact_at = header("rollcall-snapshot-sequence")
                .unwrap()
                .parse()
                .unwrap();
            self.named = Some(BTreeSet::new());
        }
        self.apply(&body);
        if header("rollcall-snapshot-end").is_some() {
            let named = self.named.take().unwrap();
            self.users.retain(|id, _| named.contains(id));
            self.groups.retain(|id, _| named.contains(id));
            self.members.retain(|pair| named.contains(&key(pair)));
        }
    }

    fn apply(&mut self, body: &Value) {
        let data = &body["data"];
        let id = text(data, "id");
        match body["event"].as_str().unwrap() {
            "dsync.user.created" | "dsync.user.updated" => {
                self.name(&id);
                self.users.insert(id, data.clone());
            }
            "dsync.group.created" | "dsync.group.updated" => {
                self.name(&id);
                self.groups.insert(id, data.clone());
            }
            "dsync.user.deleted" => {
                self.users.remove(&id);
                self.members.retain(|(_, user)| *user != id);
            }
            "dsync.group.deleted" => {
                self.groups.remove(&id);
                self.members.retain(|(group, _)| *group != id);
            }
            "dsync.group.user_added" => self.add(data),
            "dsync.group.user_removed" => {
                self.members.remove(&pair(data));
            }
            _ => {}
        }
    }

    fn add(&mut self, data: &Value) {
        let pair = pair(data);
        for name in [&pair.0, &pair.1, &key(&pair)] {
            self.name(name);
        }
        let (group, user) = pair.clone();
        self.groups
            .entry(group)
            .or_insert_with(|| data["group"].clone());
        self.users
            .entry(user)
            .or_insert_with(|| data["user"].clone());
        self.members.insert(pair);
    }

    fn name(&mut self, name: &str) {
        if let Some(named) = &mut self.named {
            named.insert(name.to_owned());
        }
    }

    /// What `GET …/checksum` says of the same state.
    pub(crate) fn digest(&self) -> String {
        let mut lines = String::new();
        for (id, user) in &self.users {
            let (state, email) = (text(user, "state"), text(user, "email"));
            writeln!(lines, "user\t{id}\t{state}\t{email}").unwrap();
        }
        for (id, group) in &self.groups {
            writeln!(lines, "group\t{id}\t{}", text(group, "name")).unwrap();
        }
        for (group, user) in &self.members {
            writeln!(lines, "member\t{group}\t{user}").unwrap();
        }
        let digest = Sha256::digest(lines.as_bytes());
        digest.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// How many users, groups and memberships there are.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [self.users.len(), self.groups.len(), self.members.len()]
    }
}

fn pair(data: &Value) -> (String, String) {
    (text(&data["group"], "id"), text(&data["user"], "id"))
}

fn key((group, user): &(String, String)) -> String {
    format!("{group} {user}")
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
