//! What a provider lives through, told once for all dialects.
//!
//! A script is a list of *chapters*, one per [`Phase`]; a chapter is a list of *actions* that may
//! run side by side. How an action is said over SCIM is the dialect's business.

use std::collections::BTreeSet;

use super::{Dialect, Plan, figures::counted, people::World};

/// Okta puts this many members into one PATCH.
const OKTA_MEMBERS_PER_REQUEST: usize = 100;
/// How far the search for somebody to change places with looks.
const EXCHANGE_WINDOW: usize = 16;

/// A stretch of the provider's story; all actions of one end before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The administrator presses "test connection".
    Connection,
    /// People are created.
    Users,
    /// Groups are created.
    Groups,
    /// People join groups.
    Members,
    /// Managers are set (Entra only).
    Managers,
    /// People's names and jobs change.
    Profiles,
    /// Groups are renamed.
    Renames,
    /// People change places between groups.
    Moves,
    /// People are deactivated.
    Deactivations,
    /// People come back.
    Reactivations,
    /// People (Entra only) and groups are deleted.
    Deletions,
}

/// One thing that the provider has to bring about; numbers are places in the [`World`].
#[derive(Debug, Clone)]
pub(super) enum Action {
    Connect,
    CreateUser(usize),
    CreateGroup(usize),
    AddMembers {
        group: usize,
        members: Vec<usize>,
    },
    SetManager {
        user: usize,
        manager: usize,
    },
    ChangeProfile(usize),
    RenameGroup(usize),
    Exchange {
        group: usize,
        leaves: usize,
        joins: usize,
    },
    Deactivate(usize),
    Reactivate(usize),
    DeleteUser(usize),
    DeleteGroup(usize),
}

/// One phase of a script.
#[derive(Debug, Clone)]
pub struct Chapter {
    /// Which.
    pub phase: Phase,
    /// What it brings about, such as "50 people created".
    pub label: String,
    /// How many requests it takes when nothing goes wrong.
    pub requests: usize,
    pub(super) actions: Vec<Action>,
}

/// Writes the script of a plan.
pub(super) fn write(dialect: Dialect, plan: &Plan, world: &World) -> Vec<Chapter> {
    let cast = Cast::choose(plan, world);
    let is_entra = dialect == Dialect::Entra;
    let people = |count| counted(count, "person/people");
    let groups = |count| counted(count, "group");
    let mut chapters = Vec::new();
    let mut chapter = |phase, label: String, actions: Vec<Action>| {
        if !actions.is_empty() {
            let requests = actions.iter().map(|action| requests(dialect, action)).sum();
            chapters.push(Chapter {
                phase,
                label,
                requests,
                actions,
            });
        }
    };
    chapter(
        Phase::Connection,
        "connection tested".to_owned(),
        vec![Action::Connect],
    );
    let created = (0..plan.users).map(Action::CreateUser).collect();
    chapter(
        Phase::Users,
        format!("{} created", people(plan.users)),
        created,
    );
    let created = (0..plan.groups).map(Action::CreateGroup).collect();
    chapter(
        Phase::Groups,
        format!("{} created", groups(plan.groups)),
        created,
    );
    let memberships = counted(cast.members.iter().map(BTreeSet::len).sum(), "membership");
    chapter(
        Phase::Members,
        format!("{memberships} added"),
        joins(dialect, &cast.members),
    );
    let managed: Vec<Action> = cast.managed(is_entra);
    let managers = counted(managed.len(), "manager");
    chapter(Phase::Managers, format!("{managers} set"), managed);
    let changed = cast
        .profiles
        .iter()
        .copied()
        .map(Action::ChangeProfile)
        .collect();
    chapter(
        Phase::Profiles,
        format!("{} renamed", people(cast.profiles.len())),
        changed,
    );
    let renamed = (0..cast.renamed).map(Action::RenameGroup).collect();
    chapter(
        Phase::Renames,
        format!("{} renamed", groups(cast.renamed)),
        renamed,
    );
    let moved = people(cast.exchanges.len());
    chapter(
        Phase::Moves,
        format!("{moved} moved between groups"),
        cast.exchanges.clone(),
    );
    let left = cast
        .leavers
        .iter()
        .copied()
        .map(Action::Deactivate)
        .collect();
    chapter(
        Phase::Deactivations,
        format!("{} deactivated", people(cast.leavers.len())),
        left,
    );
    let (returning, staying_away) = cast.leavers.split_at(cast.returning);
    let returned = returning.iter().copied().map(Action::Reactivate).collect();
    chapter(
        Phase::Reactivations,
        format!("{} reactivated", people(cast.returning)),
        returned,
    );
    // Okta never deletes people.
    let erased = if is_entra { staying_away } else { &[] };
    let label = match (erased.len(), cast.deleted.iter().count()) {
        (0, gone) => format!("{} deleted", groups(gone)),
        (erased, 0) => format!("{} deleted", people(erased)),
        (erased, gone) => format!("{}, {} deleted", people(erased), groups(gone)),
    };
    let erased = erased.iter().copied().map(Action::DeleteUser);
    let deleted = cast.deleted.into_iter().map(Action::DeleteGroup);
    chapter(Phase::Deletions, label, erased.chain(deleted).collect());
    chapters
}

/// Who plays which part. Parts that would change one person's profile twice are given to
/// different people, so that every event can be told apart by whom it is about.
struct Cast {
    members: Vec<BTreeSet<usize>>,
    managed: Vec<(usize, usize)>,
    profiles: Vec<usize>,
    renamed: usize,
    exchanges: Vec<Action>,
    leavers: Vec<usize>,
    returning: usize,
    deleted: Option<usize>,
}

impl Cast {
    fn choose(plan: &Plan, world: &World) -> Self {
        let (users, groups) = (world.people.len(), plan.groups);
        let mut members = vec![BTreeSet::new(); groups];
        for user in 0..users {
            for group in memberships(user, groups) {
                if let Some(group) = members.get_mut(group) {
                    group.insert(user);
                }
            }
        }
        let leaving = if users < 2 {
            0
        } else {
            (users * 6 / 100).max(1)
        };
        let staying = users - leaving;
        let leavers: Vec<usize> = (staying..users).collect();
        // Every sixth changes their name; every sixth, offset by three, gets a manager.
        let profiles: Vec<usize> = (0..staying).filter(|user| user % 6 == 1).collect();
        let managed = (1..staying)
            .filter(|user| user % 6 == 4)
            .map(|user| (user, user / 6));
        let kept = if groups > 1 { groups - 1 } else { groups };
        Self {
            exchanges: exchanges(&members, staying, kept, (users / 25).max(1)),
            members,
            managed: managed.collect(),
            profiles,
            renamed: if kept == 0 { 0 } else { (groups / 5).max(1) },
            returning: if leaving > 1 { (leaving / 3).max(1) } else { 0 },
            leavers,
            deleted: (groups > 1).then_some(kept),
        }
    }
}

impl Cast {
    /// Entra sets managers once the people exist; Okta keeps them to itself.
    fn managed(&self, is_entra: bool) -> Vec<Action> {
        let managed = self.managed.iter().filter(|_| is_entra);
        managed
            .map(|&(user, manager)| Action::SetManager { user, manager })
            .collect()
    }
}

/// Everybody is in one group, every third person in a second one.
fn memberships(user: usize, groups: usize) -> impl Iterator<Item = usize> {
    let first = (groups > 0).then(|| user % groups);
    let second = (groups > 1 && user.is_multiple_of(3)).then(|| (user + 1) % groups);
    first.into_iter().chain(second)
}

/// Pairs of people who change places: each leaves a group that the other joins.
fn exchanges(
    members: &[BTreeSet<usize>],
    staying: usize,
    groups: usize,
    wanted: usize,
) -> Vec<Action> {
    let only_in = |user: usize, here: usize, there: usize| {
        let is_in = |group: usize| {
            members
                .get(group)
                .is_some_and(|group| group.contains(&user))
        };
        is_in(here) && !is_in(there)
    };
    let mut taken = BTreeSet::new();
    let mut found = Vec::new();
    for user in 0..staying {
        if found.len() >= wanted * 2 || groups < 2 {
            break;
        }
        let here = user % members.len().max(1);
        let other = (user + 1..staying.min(user + EXCHANGE_WINDOW)).find(|other| {
            let there = other % members.len().max(1);
            here < groups
                && there < groups
                && !taken.contains(other)
                && only_in(user, here, there)
                && only_in(*other, there, here)
        });
        if let (Some(other), false) = (other, taken.contains(&user)) {
            let there = other % members.len().max(1);
            taken.extend([user, other]);
            found.push(Action::Exchange {
                group: here,
                leaves: user,
                joins: other,
            });
            found.push(Action::Exchange {
                group: there,
                leaves: other,
                joins: user,
            });
        }
    }
    found
}

fn joins(dialect: Dialect, groups: &[BTreeSet<usize>]) -> Vec<Action> {
    // Okta pushes many members at once; Entra one at a time unless the application is known to
    // take several.
    let per_request = match dialect {
        Dialect::Okta => OKTA_MEMBERS_PER_REQUEST,
        Dialect::Entra => 1,
    };
    let mut joins = Vec::new();
    for (group, members) in groups.iter().enumerate() {
        let members: Vec<usize> = members.iter().copied().collect();
        for members in members.chunks(per_request) {
            joins.push(Action::AddMembers {
                group,
                members: members.to_vec(),
            });
        }
    }
    joins
}

fn requests(dialect: Dialect, action: &Action) -> usize {
    match (dialect, action) {
        (
            _,
            Action::Connect
            | Action::CreateUser(_)
            | Action::CreateGroup(_)
            | Action::ChangeProfile(_)
            | Action::Reactivate(_),
        )
        | (
            Dialect::Entra,
            Action::RenameGroup(_) | Action::Exchange { .. } | Action::Deactivate(_),
        ) => 2,
        (
            _,
            Action::AddMembers { .. }
            | Action::SetManager { .. }
            | Action::DeleteUser(_)
            | Action::DeleteGroup(_),
        )
        | (
            Dialect::Okta,
            Action::RenameGroup(_) | Action::Exchange { .. } | Action::Deactivate(_),
        ) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(dialect: Dialect, users: usize, groups: usize) -> Vec<String> {
        let plan = Plan {
            users,
            groups,
            rate: None,
            seed: 1,
        };
        let world = World::new(dialect, users, groups, 1);
        write(dialect, &plan, &world)
            .into_iter()
            .map(|chapter| chapter.label)
            .collect()
    }

    #[test]
    fn fifty_people_live_through_everything() {
        let okta = labels(Dialect::Okta, 50, 5);
        assert_eq!(
            okta,
            [
                "connection tested",
                "50 people created",
                "5 groups created",
                "67 memberships added",
                "8 people renamed",
                "1 group renamed",
                "4 people moved between groups",
                "3 people deactivated",
                "1 person reactivated",
                "1 group deleted",
            ]
        );
        let entra = labels(Dialect::Entra, 50, 5);
        assert_eq!(
            entra.last().map(String::as_str),
            Some("2 people, 1 group deleted")
        );
        assert!(entra.iter().any(|label| label == "8 managers set"));
    }

    #[test]
    fn small_plans_are_stories_too() {
        for (users, groups) in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 2), (3, 9)] {
            for dialect in [Dialect::Okta, Dialect::Entra] {
                assert!(!labels(dialect, users, groups).is_empty());
            }
        }
    }
}
