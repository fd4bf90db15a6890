//! Lanes: which events may be on their way at the same time.
//!
//! An event holds *keys*, shared or exclusive, from when it is read until it has ended. It may go when
//! no earlier unfinished event holds a conflicting key: two shared holders do not conflict, anything
//! else does. So the memberships of one group go side by side, one person's events in order, and
//! `dsync.activated` and `dsync.deleted` alone.
//!
//! | event | exclusive | shared |
//! | --- | --- | --- |
//! | user created, updated, deleted | the user, its names | the directory |
//! | group created, deleted | the group, its name | the directory |
//! | group updated | its names | the group, the directory |
//! | user added, removed | the pair | the user, the group, the directory |
//! | activated, deleted | the directory | |
//! | token created, revoked | | the directory |
//!
//! Pure; positions stand for events.

use std::collections::{BTreeSet, HashMap};

use crate::events::Kind;
use crate::ids::{DirectoryId, ResourceId};

/// What an event is about, as far as order goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Everything in a directory.
    Directory(DirectoryId),
    /// A person: the SCIM resource, which stays when the directory user id changes.
    User(ResourceId),
    /// A folded userName of a directory.
    UserName(DirectoryId, String),
    /// A group's life.
    Group(ResourceId),
    /// A folded group name of a directory.
    GroupName(DirectoryId, String),
    /// One person in one group.
    Pair(ResourceId, ResourceId),
}

impl Key {
    /// Whether it is a name, which passes from one person or group to another.
    pub fn is_name(&self) -> bool {
        match self {
            Self::UserName(..) | Self::GroupName(..) => true,
            Self::Directory(_) | Self::User(_) | Self::Group(_) | Self::Pair(..) => false,
        }
    }
}

/// How a key is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Beside other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// What the keys of an event are made from.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The event type; one that this binary does not know is ordered with everything.
    pub kind: Option<Kind>,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// The user that it is about.
    pub user_id: Option<ResourceId>,
    /// The group that it is about.
    pub group_id: Option<ResourceId>,
    /// The folded names that it takes or frees, a line each.
    pub names: Option<&'a str>,
}

/// The keys that an event holds.
pub fn keys_of(subject: &Subject<'_>) -> Vec<(Key, Mode)> {
    use Mode::{Exclusive, Shared};
    let directory_id = subject.directory_id;
    let names = || {
        subject
            .names
            .into_iter()
            .flat_map(str::lines)
            .map(str::to_owned)
    };
    let user = subject.user_id.map(Key::User);
    let group = subject.group_id.map(Key::Group);
    let mut keys = vec![(Key::Directory(directory_id), Shared)];
    match subject.kind {
        None | Some(Kind::Activated | Kind::Deleted) => {
            return vec![(Key::Directory(directory_id), Exclusive)];
        }
        Some(Kind::UserCreated | Kind::UserUpdated | Kind::UserDeleted) => {
            keys.extend(user.map(|key| (key, Exclusive)));
            keys.extend(names().map(|name| (Key::UserName(directory_id, name), Exclusive)));
        }
        Some(kind @ (Kind::GroupCreated | Kind::GroupUpdated | Kind::GroupDeleted)) => {
            let life = if kind == Kind::GroupUpdated {
                Shared
            } else {
                Exclusive
            };
            keys.extend(group.map(|key| (key, life)));
            keys.extend(names().map(|name| (Key::GroupName(directory_id, name), Exclusive)));
        }
        Some(Kind::UserAdded | Kind::UserRemoved) => {
            keys.extend(user.map(|key| (key, Shared)));
            keys.extend(group.map(|key| (key, Shared)));
            if let (Some(user_id), Some(group_id)) = (subject.user_id, subject.group_id) {
                keys.push((Key::Pair(user_id, group_id), Exclusive));
            }
        }
        Some(Kind::TokenCreated | Kind::TokenRevoked) => {}
    }
    keys
}

/// Who holds a key, by position.
#[derive(Debug, Default)]
struct Holders {
    shared: BTreeSet<i64>,
    exclusive: BTreeSet<i64>,
}

impl Holders {
    fn of(&mut self, mode: Mode) -> &mut BTreeSet<i64> {
        match mode {
            Mode::Shared => &mut self.shared,
            Mode::Exclusive => &mut self.exclusive,
        }
    }

    /// Whether somebody before `position` conflicts with holding the key in `mode`.
    fn conflict_before(&self, position: i64, mode: Mode) -> bool {
        let is_before = |set: &BTreeSet<i64>| set.first().is_some_and(|first| *first < position);
        is_before(&self.exclusive) || (mode == Mode::Exclusive && is_before(&self.shared))
    }

    fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.exclusive.is_empty()
    }
}

/// The unfinished events of one endpoint in one shard, by the keys that they hold.
#[derive(Debug, Default)]
pub struct Lanes {
    holders: HashMap<Key, Holders>,
}

impl Lanes {
    /// An event takes its place in its lanes.
    pub fn enter(&mut self, position: i64, keys: &[(Key, Mode)]) {
        for (key, mode) in keys {
            self.holders
                .entry(key.clone())
                .or_default()
                .of(*mode)
                .insert(position);
        }
    }

    /// Whether no earlier event holds a conflicting key.
    pub fn is_free<'a>(
        &self,
        position: i64,
        keys: impl IntoIterator<Item = &'a (Key, Mode)>,
    ) -> bool {
        !keys.into_iter().any(|(key, mode)| {
            self.holders
                .get(key)
                .is_some_and(|holders| holders.conflict_before(position, *mode))
        })
    }

    /// The events before `position` that hold a key, those that share it included if asked for.
    pub fn before(&self, position: i64, key: &Key, with_shared: bool) -> BTreeSet<i64> {
        let Some(holders) = self.holders.get(key) else {
            return BTreeSet::new();
        };
        let shared = with_shared.then(|| holders.shared.range(..position));
        let exclusive = holders.exclusive.range(..position);
        exclusive
            .chain(shared.into_iter().flatten())
            .copied()
            .collect()
    }

    /// An event gives its keys back. Returns the events that may be free now.
    pub fn leave(&mut self, position: i64, keys: &[(Key, Mode)]) -> BTreeSet<i64> {
        let mut candidates = BTreeSet::new();
        for (key, mode) in keys {
            let Some(holders) = self.holders.get_mut(key) else {
                continue;
            };
            holders.of(*mode).remove(&position);
            let next_exclusive = holders.exclusive.first().copied();
            candidates.extend(next_exclusive);
            if *mode == Mode::Exclusive {
                let end = next_exclusive.unwrap_or(i64::MAX);
                candidates.extend(holders.shared.range(..end));
            }
            if holders.is_empty() {
                self.holders.remove(key);
            }
        }
        candidates
    }

    /// Whether nobody is in any lane.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        directory_id: DirectoryId,
        users: Vec<ResourceId>,
        group: ResourceId,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                directory_id: DirectoryId::generate(),
                users: (0..4).map(|_| ResourceId::generate()).collect(),
                group: ResourceId::generate(),
            }
        }

        fn keys(&self, kind: Kind, user: Option<usize>, has_group: bool) -> Vec<(Key, Mode)> {
            keys_of(&Subject {
                kind: Some(kind),
                directory_id: self.directory_id,
                user_id: user.map(|index| self.users[index]),
                group_id: has_group.then_some(self.group),
                names: None,
            })
        }
    }

    #[test]
    fn members_of_one_group_go_side_by_side_after_the_group_and_their_user() {
        let scene = Scene::new();
        let mut lanes = Lanes::default();
        let group = scene.keys(Kind::GroupCreated, None, true);
        let user = scene.keys(Kind::UserCreated, Some(0), false);
        let joins: Vec<_> = (0..3)
            .map(|index| scene.keys(Kind::UserAdded, Some(index), true))
            .collect();
        lanes.enter(1, &group);
        lanes.enter(2, &user);
        for (index, keys) in joins.iter().enumerate() {
            lanes.enter(3 + i64::try_from(index).unwrap(), keys);
        }
        assert!(lanes.is_free(1, &group) && lanes.is_free(2, &user));
        assert!(!lanes.is_free(4, &joins[1]));

        assert!(lanes.leave(1, &group).contains(&4));
        assert!(!lanes.is_free(3, &joins[0]), "its user is still on the way");
        assert!(lanes.is_free(4, &joins[1]) && lanes.is_free(5, &joins[2]));
        assert!(lanes.leave(2, &user).contains(&3));
        assert!(lanes.is_free(3, &joins[0]));
    }

    #[test]
    fn activation_and_deletion_of_a_directory_go_alone() {
        let scene = Scene::new();
        let mut lanes = Lanes::default();
        let activated = scene.keys(Kind::Activated, None, false);
        let user = scene.keys(Kind::UserCreated, Some(0), false);
        let deleted = scene.keys(Kind::Deleted, None, false);
        lanes.enter(1, &activated);
        lanes.enter(2, &user);
        lanes.enter(3, &deleted);
        assert!(!lanes.is_free(2, &user));
        lanes.leave(1, &activated);
        assert!(lanes.is_free(2, &user) && !lanes.is_free(3, &deleted));
        assert!(lanes.leave(2, &user).contains(&3));
        assert!(lanes.is_free(3, &deleted));
        lanes.leave(3, &deleted);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_name_that_moves_from_one_person_to_another_keeps_its_order() {
        let directory_id = DirectoryId::generate();
        let renamed = |names| {
            keys_of(&Subject {
                kind: Some(Kind::UserUpdated),
                directory_id,
                user_id: Some(ResourceId::generate()),
                group_id: None,
                names: Some(names),
            })
        };
        let frees = renamed("new@x.org\nada@x.org");
        let takes = renamed("ada@x.org");
        let mut lanes = Lanes::default();
        lanes.enter(1, &frees);
        lanes.enter(2, &takes);
        assert!(!lanes.is_free(2, &takes));
        assert!(lanes.leave(1, &frees).contains(&2));
    }
}
