//! A copy of a directory made of webhooks alone, as a vendor's app would keep one. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::simulate::Roster;

/// One directory as the webhooks tell it.
#[derive(Debug, Default)]
pub(super) struct Replica {
    state: State,
    users: HashMap<String, User>,
    groups: HashMap<String, Group>,
    memberships: BTreeSet<(String, String)>,
    /// Ids that were deleted; they never come back.
    deleted: BTreeSet<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Silent,
    Active,
    Deleted,
}

#[derive(Debug)]
struct User {
    idp_id: String,
    name: String,
    is_active: bool,
    sequence: u64,
}

#[derive(Debug)]
struct Group {
    name: String,
    sequence: u64,
}

impl Replica {
    /// Applies an event and says what does not fit with those before it.
    pub(super) fn apply(&mut self, sequence: u64, event: &str, body: &Value) -> Vec<String> {
        let mut complaints = Vec::new();
        match (self.state, event) {
            (State::Silent, "dsync.activated") => self.state = State::Active,
            (State::Silent, _) => complaints.push("it came before dsync.activated".to_owned()),
            (State::Active, "dsync.activated") => {
                complaints.push("the directory was activated already".to_owned());
            }
            (State::Deleted, _) => complaints.push("it came after dsync.deleted".to_owned()),
            (State::Active, _) => {}
        }
        let nothing = Value::Null;
        let data = body.get("data").unwrap_or(&nothing);
        let complaint = match event {
            "dsync.activated" => None,
            "dsync.deleted" => {
                self.state = State::Deleted;
                None
            }
            "dsync.user.created" => self.create_user(sequence, data),
            "dsync.user.updated" => self.update_user(sequence, data),
            "dsync.user.deleted" => self.delete_user(data),
            "dsync.group.created" => self.create_group(sequence, data),
            "dsync.group.updated" => self.update_group(sequence, data),
            "dsync.group.deleted" => self.delete_group(data),
            "dsync.group.user_added" => self.join(data),
            "dsync.group.user_removed" => self.leave(data),
            other => Some(format!("{other:?} is an event type that nobody asked for")),
        };
        complaints.extend(complaint);
        complaints
    }

    fn create_user(&mut self, sequence: u64, data: &Value) -> Option<String> {
        let id = text(data, "id");
        let complaint = self.returned(&id).or_else(|| {
            if self.users.contains_key(&id) {
                Some("the user exists already".to_owned())
            } else if self.is_doubled(&text(data, "idp_id")) {
                Some("another active user is the same person".to_owned())
            } else {
                None
            }
        });
        self.users.insert(id, user(sequence, data));
        complaint
    }

    /// A person has one directory user at a time: the one who left is deleted before the one who
    /// returns is created.
    fn is_doubled(&self, idp_id: &str) -> bool {
        let mut users = self.users.values();
        !idp_id.is_empty() && users.any(|user| user.is_active && user.idp_id == idp_id)
    }

    fn update_user(&mut self, sequence: u64, data: &Value) -> Option<String> {
        let id = text(data, "id");
        let complaint = self.returned(&id).or_else(|| match self.users.get(&id) {
            None => Some("nobody has created the user".to_owned()),
            Some(known) if known.sequence > sequence => Some(format!(
                "sequence {} of the same user came first",
                known.sequence
            )),
            Some(_) => None,
        });
        self.users.insert(id, user(sequence, data));
        complaint
    }

    fn delete_user(&mut self, data: &Value) -> Option<String> {
        let id = text(data, "id");
        let complaint = self.returned(&id).or_else(|| {
            self.users
                .remove(&id)
                .is_none()
                .then(|| "nobody has created the user".to_owned())
        });
        self.memberships.retain(|(user, _)| *user != id);
        self.deleted.insert(id);
        complaint
    }

    fn create_group(&mut self, sequence: u64, data: &Value) -> Option<String> {
        let id = text(data, "id");
        let complaint = self.returned(&id).or_else(|| {
            self.groups
                .contains_key(&id)
                .then(|| "the group exists already".to_owned())
        });
        self.groups.insert(
            id,
            Group {
                name: text(data, "name"),
                sequence,
            },
        );
        complaint
    }

    fn update_group(&mut self, sequence: u64, data: &Value) -> Option<String> {
        let id = text(data, "id");
        let complaint = self.returned(&id).or_else(|| match self.groups.get(&id) {
            None => Some("nobody has created the group".to_owned()),
            Some(known) if known.sequence > sequence => Some(format!(
                "sequence {} of the same group came first",
                known.sequence
            )),
            Some(_) => None,
        });
        self.groups.insert(
            id,
            Group {
                name: text(data, "name"),
                sequence,
            },
        );
        complaint
    }

    fn delete_group(&mut self, data: &Value) -> Option<String> {
        let id = text(data, "id");
        let complaint = self.returned(&id).or_else(|| {
            self.groups
                .remove(&id)
                .is_none()
                .then(|| "nobody has created the group".to_owned())
        });
        self.memberships.retain(|(_, group)| *group != id);
        self.deleted.insert(id);
        complaint
    }

    fn join(&mut self, data: &Value) -> Option<String> {
        let pair = pair(data);
        let complaint = self.ends_missing(&pair);
        let is_new = self.memberships.insert(pair);
        complaint.or_else(|| (!is_new).then(|| "the user was in the group already".to_owned()))
    }

    fn leave(&mut self, data: &Value) -> Option<String> {
        let pair = pair(data);
        let complaint = self.ends_missing(&pair);
        let was_there = self.memberships.remove(&pair);
        complaint.or_else(|| (!was_there).then(|| "the user was not in the group".to_owned()))
    }

    fn ends_missing(&self, (user, group): &(String, String)) -> Option<String> {
        self.returned(user)
            .or_else(|| self.returned(group))
            .or_else(|| {
                if !self.users.contains_key(user) {
                    Some("nobody has created the user".to_owned())
                } else if !self.groups.contains_key(group) {
                    Some("nobody has created the group".to_owned())
                } else {
                    None
                }
            })
    }

    fn returned(&self, id: &str) -> Option<String> {
        self.deleted
            .contains(id)
            .then(|| format!("{id} is named after it was deleted"))
    }

    /// Says where this copy and the provider's own picture differ.
    pub(super) fn differences(&self, roster: &Roster) -> Vec<String> {
        let active: BTreeMap<&str, &str> = self
            .users
            .values()
            .filter(|user| user.is_active)
            .map(|user| (user.idp_id.as_str(), user.name.as_str()))
            .collect();
        let mut differences = Vec::new();
        for (id, name) in &roster.active {
            match active.get(id.as_str()) {
                None => differences.push(format!("{name} is missing from the copy")),
                Some(copied) if copied != name => {
                    differences.push(format!("{name} is called {copied} in the copy"));
                }
                Some(_) => {}
            }
        }
        let surplus = active
            .iter()
            .filter(|(id, _)| !roster.active.contains_key(**id));
        differences.extend(surplus.map(|(_, name)| format!("{name} should not be in the copy")));
        let gone = self
            .users
            .values()
            .filter(|user| roster.gone.contains(&user.idp_id));
        differences.extend(gone.map(|user| format!("{} should be deleted", user.name)));
        let groups: BTreeSet<String> = self.groups.values().map(|g| g.name.clone()).collect();
        differences.extend(
            groups
                .symmetric_difference(&roster.groups)
                .map(|name| format!("group {name} differs")),
        );
        let memberships: BTreeSet<(String, String)> = self
            .memberships
            .iter()
            .filter_map(|(user, group)| {
                let user = self.users.get(user).filter(|user| user.is_active)?;
                Some((user.idp_id.clone(), self.groups.get(group)?.name.clone()))
            })
            .collect();
        differences.extend(
            memberships
                .symmetric_difference(&roster.memberships)
                .map(|(user, group)| format!("the membership of {user} in {group} differs")),
        );
        differences
    }
}

fn user(sequence: u64, data: &Value) -> User {
    User {
        idp_id: text(data, "idp_id"),
        name: format!("{} {}", text(data, "first_name"), text(data, "last_name")),
        is_active: text(data, "state") == "active",
        sequence,
    }
}

fn pair(data: &Value) -> (String, String) {
    let id = |what| {
        data.get(what)
            .map(|found| text(found, "id"))
            .unwrap_or_default()
    };
    (id("user"), id("group"))
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
