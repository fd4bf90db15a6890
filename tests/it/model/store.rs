//! What a directory should be: users, groups, and what becomes of each request. Pure.

use std::collections::{BTreeMap, BTreeSet};

use rollcall::keys::fold;

use crate::support::replica::Picture;

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) title: Option<String>,
    pub(super) is_active: bool,
}

/// A group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    pub(super) name: String,
    /// Ids of users.
    pub(super) members: BTreeSet<String>,
}

/// A directory, by the ids of its resources.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) users: BTreeMap<String, Person>,
    pub(super) groups: BTreeMap<String, Set>,
}

/// A change of a group.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Rename(String),
    Add(Vec<String>),
    Remove(Vec<String>),
    RemoveAll,
    Replace(Vec<String>),
}

/// What becomes of a write.
pub(super) type Outcome = Result<(), u16>;

impl Store {
    /// Whether a user may be called `name`; `id` may, if it is so already.
    pub(super) fn user_may_be_called(&self, name: &str, id: &str) -> Outcome {
        let mut others = self.users.iter().filter(|(other, _)| *other != id);
        let is_taken = others.any(|(_, user)| fold(&user.name) == fold(name));
        if is_taken { Err(409) } else { Ok(()) }
    }

    /// The same for a group.
    pub(super) fn group_may_be_called(&self, name: &str, id: &str) -> Outcome {
        let mut others = self.groups.iter().filter(|(other, _)| *other != id);
        let is_taken = others.any(|(_, group)| fold(&group.name) == fold(name));
        if is_taken { Err(409) } else { Ok(()) }
    }

    /// Puts a person in the place of what is there.
    pub(super) fn replace_user(&mut self, id: &str, is_stale: bool, new: Person) -> Outcome {
        self.users.get(id).ok_or(404_u16)?;
        if is_stale {
            return Err(412);
        }
        self.user_may_be_called(&new.name, id)?;
        self.users.insert(id.to_owned(), new);
        Ok(())
    }

    /// Takes a user out, and out of all groups.
    pub(super) fn delete_user(&mut self, id: &str, is_stale: bool) -> Outcome {
        self.users.get(id).ok_or(404_u16)?;
        if is_stale {
            return Err(412);
        }
        self.users.remove(id);
        for group in self.groups.values_mut() {
            group.members.remove(id);
        }
        Ok(())
    }

    /// Those of `ids` who are users.
    pub(super) fn known(&self, ids: &[String]) -> BTreeSet<String> {
        let known = ids.iter().filter(|id| self.users.contains_key(*id));
        known.cloned().collect()
    }

    /// Applies all changes to a group, or none.
    pub(super) fn change_group(&mut self, id: &str, is_stale: bool, changes: &[Change]) -> Outcome {
        let mut group = self.groups.get(id).ok_or(404_u16)?.clone();
        if is_stale {
            return Err(412);
        }
        for change in changes {
            match change {
                Change::Rename(name) => name.clone_into(&mut group.name),
                Change::Add(ids) => group.members.extend(self.known(ids)),
                Change::Remove(ids) => group.members.retain(|member| !ids.contains(member)),
                Change::RemoveAll => group.members.clear(),
                Change::Replace(ids) => group.members = self.known(ids),
            }
        }
        self.group_may_be_called(&group.name, id)?;
        self.groups.insert(id.to_owned(), group);
        Ok(())
    }

    /// Takes a group out.
    pub(super) fn delete_group(&mut self, id: &str, is_stale: bool) -> Outcome {
        self.groups.get(id).ok_or(404_u16)?;
        if is_stale {
            return Err(412);
        }
        self.groups.remove(id);
        Ok(())
    }

    /// The names of users in an order: by `by`, or by id.
    pub(super) fn users_by(&self, by: Option<&str>, is_descending: bool) -> Vec<String> {
        let key = |user: &Person| match by {
            Some("title") => user.title.as_deref().map(fold),
            Some(_) => Some(fold(&user.name)),
            None => None,
        };
        let keys = self
            .users
            .iter()
            .map(|(id, user)| (key(user), id, &user.name));
        ordered(keys.collect(), by.is_some() && is_descending)
    }

    /// The names of groups in an order.
    pub(super) fn groups_by(&self, by: Option<&str>, is_descending: bool) -> Vec<String> {
        let key = |group: &Set| by.map(|_| fold(&group.name));
        let keys = self
            .groups
            .iter()
            .map(|(id, group)| (key(group), id, &group.name));
        ordered(keys.collect(), by.is_some() && is_descending)
    }

    /// What the event log must replay to.
    pub(super) fn picture(&self) -> Picture {
        let users = self.users.values().map(|user| {
            let title = user.title.clone().unwrap_or_default();
            (user.name.clone(), (title, user.is_active))
        });
        let memberships = self.groups.values().flat_map(|group| {
            let names = group.members.iter().map(|id| self.users[id].name.clone());
            names.map(|name| (name, group.name.clone()))
        });
        Picture {
            users: users.collect(),
            groups: self
                .groups
                .values()
                .map(|group| group.name.clone())
                .collect(),
            memberships: memberships.collect(),
        }
    }
}

/// Names by key, those without one last, and then by id.
fn ordered(mut keys: Vec<(Option<String>, &String, &String)>, is_descending: bool) -> Vec<String> {
    keys.sort_by_key(|(key, id, _)| (key.is_none(), key.clone(), (*id).clone()));
    if is_descending {
        keys.reverse();
    }
    keys.into_iter().map(|(_, _, name)| name.clone()).collect()
}
