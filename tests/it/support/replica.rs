//! A copy of a directory made of webhooks alone, as a vendor's app would keep one. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What the copy and the directory itself are compared by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// userName to title and whether active.
    pub(crate) users: BTreeMap<String, (String, bool)>,
    /// Names.
    pub(crate) groups: BTreeSet<String>,
    /// userName and group name.
    pub(crate) memberships: BTreeSet<(String, String)>,
}

/// One directory as the webhooks tell it.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    is_active: bool,
    users: BTreeMap<String, Value>,
    groups: BTreeMap<String, Value>,
    memberships: BTreeSet<(String, String)>,
}

impl Replica {
    /// Applies an event, or says why it cannot have come now.
    pub(crate) fn apply(&mut self, body: &Value) -> Result<(), String> {
        let (kind, data) = (text(body, "event"), &body["data"]);
        let id = text(data, "id");
        match kind.as_str() {
            "dsync.activated" => ensure(!self.is_active, "activated twice")?,
            _ => ensure(self.is_active, "before the activation")?,
        }
        match kind.as_str() {
            "dsync.activated" => self.is_active = true,
            "dsync.deleted" => self.is_active = false,
            "dsync.user.created" => {
                ensure(!self.users.contains_key(&id), "the user exists already")?;
                self.users.insert(id, data.clone());
            }
            "dsync.user.updated" => {
                ensure(self.users.contains_key(&id), "no such user")?;
                self.users.insert(id, data.clone());
            }
            "dsync.user.deleted" => {
                self.memberships.retain(|(user, _)| *user != id);
                ensure(self.users.remove(&id).is_some(), "no such user")?;
            }
            "dsync.group.created" => {
                ensure(!self.groups.contains_key(&id), "the group exists already")?;
                self.groups.insert(id, data.clone());
            }
            "dsync.group.updated" => {
                ensure(self.groups.contains_key(&id), "no such group")?;
                self.groups.insert(id, data.clone());
            }
            "dsync.group.deleted" => {
                self.memberships.retain(|(_, group)| *group != id);
                ensure(self.groups.remove(&id).is_some(), "no such group")?;
            }
            "dsync.group.user_added" => {
                let pair = self.pair(data)?;
                ensure(self.memberships.insert(pair), "a member already")?;
            }
            "dsync.group.user_removed" => {
                let pair = self.pair(data)?;
                ensure(self.memberships.remove(&pair), "not a member")?;
            }
            other => return Err(format!("nobody asked for {other}")),
        }
        Ok(())
    }

    fn pair(&self, data: &Value) -> Result<(String, String), String> {
        let (user, group) = (text(&data["user"], "id"), text(&data["group"], "id"));
        ensure(self.users.contains_key(&user), "no such user")?;
        ensure(self.groups.contains_key(&group), "no such group")?;
        Ok((user, group))
    }

    /// What a comparison needs.
    pub(crate) fn picture(&self) -> Picture {
        let name = |id: &String| text(&self.users[id], "username");
        let group_name = |id: &String| text(&self.groups[id], "name");
        Picture {
            users: self
                .users
                .values()
                .map(|user| {
                    let is_active = user["state"] == "active";
                    (text(user, "username"), (text(user, "job_title"), is_active))
                })
                .collect(),
            groups: self.groups.keys().map(group_name).collect(),
            memberships: self
                .memberships
                .iter()
                .map(|(user, group)| (name(user), group_name(group)))
                .collect(),
        }
    }
}

fn ensure(holds: bool, complaint: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(complaint.to_owned())
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
