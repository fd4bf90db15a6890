use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::{
    CHAIN_MAX, Error, GROUPS_MAX, Links, MemberShift, Pair, Scene, Shift, Turnover, judge,
};
use crate::ids::ResourceId;

const GROUPS: u128 = 6;
const USERS: u128 = 4;

fn group(number: u128) -> ResourceId {
    ResourceId::from(Uuid::from_u128(number))
}

fn user(number: u128) -> ResourceId {
    ResourceId::from(Uuid::from_u128(1_000_000 + number))
}

/// Links from each group to the next, and of the last to none.
fn chain(groups: impl IntoIterator<Item = u128>) -> Links {
    let mut links = Links::default();
    let groups: Vec<ResourceId> = groups.into_iter().map(group).collect();
    for pair in groups.windows(2) {
        links.add(pair[0], pair[1]);
    }
    links
}

#[test]
fn a_group_in_itself_is_a_circle_over_any_distance() {
    for above in 0..3 {
        let up = chain(0..=above);
        let children = BTreeSet::from([group(above)]);
        let judged = judge(&up, &Links::default(), group(0), &children);
        assert_eq!(judged, Err(Error::Circle), "{above} groups above");
    }
    let children = BTreeSet::from([group(7)]);
    assert_eq!(
        judge(&chain(0..3), &Links::default(), group(0), &children),
        Ok(())
    );
}

#[test]
fn a_chain_counts_what_is_above_and_below() {
    let children = BTreeSet::from([group(10_000)]);
    let judged = |above, below| {
        let (up, down) = (chain(0..=above), chain(10_000..=10_000 + below));
        judge(&up, &down, group(0), &children)
    };
    let rest = u128::try_from(CHAIN_MAX).unwrap() - 2;
    assert_eq!(judged(rest, 0), Ok(()));
    assert_eq!(judged(0, rest), Ok(()));
    assert_eq!(judged(10, rest - 10), Ok(()));
    assert_eq!(judged(rest, 1), Err(Error::TooDeep));
    assert_eq!(judged(1_000, 0), Err(Error::TooDeep));
}

#[test]
fn the_longest_way_counts_and_not_the_shortest() {
    let mut links = chain(0..5);
    links.add(group(0), group(4));
    assert_eq!(links.longest_way(BTreeSet::from([group(0)])), 4);
    assert_eq!(links.longest_way(BTreeSet::from([group(4)])), 0);
}

#[test]
fn more_groups_than_the_limit_are_refused() {
    let all = u128::try_from(GROUPS_MAX).unwrap() + 1;
    let children: BTreeSet<ResourceId> = (1..=all).map(group).collect();
    let mut down = Links::default();
    for child in &children {
        down.0.insert(*child, BTreeSet::new());
    }
    let judged = |down: &Links| judge(&Links::default(), down, group(0), &children);
    assert_eq!(judged(&down), Err(Error::TooMany));
    down.0.pop_last();
    assert_eq!(judged(&down), Ok(()));
}

#[test]
fn a_walk_ends_even_where_there_is_a_circle() {
    let mut links = chain(0..3);
    links.add(group(2), group(0));
    assert_eq!(links.reach([group(1)]).len(), 3);
    assert_eq!(links.longest_way(BTreeSet::from([group(1)])), CHAIN_MAX);
}

/// Who is in what, as plain pairs: of a user and a group, and of a group and one above it.
#[derive(Clone, Debug)]
struct Model {
    direct: BTreeSet<Pair>,
    nested: BTreeSet<Pair>,
}

impl Model {
    /// Whether a user is in a group, by looking into each group in it.
    fn is_in(&self, user_id: ResourceId, group_id: ResourceId) -> bool {
        let mut children = self.nested.iter().filter(|(_, above)| *above == group_id);
        self.direct.contains(&(user_id, group_id))
            || children.any(|(child, _)| self.is_in(user_id, *child))
    }

    fn pairs(&self, is_flat: bool) -> BTreeSet<Pair> {
        if !is_flat {
            return self.direct.clone();
        }
        let all =
            (0..USERS).flat_map(|number| (0..GROUPS).map(move |of| (user(number), group(of))));
        all.filter(|(user_id, group_id)| self.is_in(*user_id, *group_id))
            .collect()
    }

    fn scene(&self) -> Scene {
        let mut scene = Scene::default();
        for number in 0..GROUPS {
            scene.up.0.insert(group(number), BTreeSet::new());
        }
        for (child, above) in &self.nested {
            scene.up.add(*child, *above);
        }
        for (user_id, group_id) in &self.direct {
            let groups: &mut BTreeSet<_> = scene.direct.entry(*user_id).or_default();
            groups.insert(*group_id);
        }
        scene
    }

    fn without_group(&self, gone: ResourceId) -> Self {
        let mut after = self.clone();
        after.direct.retain(|(_, group_id)| *group_id != gone);
        after
            .nested
            .retain(|(child, above)| ![*child, *above].contains(&gone));
        after
    }

    /// Turns memberships of a group over: who is among the chosen joins if it is not in yet, and leaves
    /// if it is. Only groups with a higher number can be in a group, so that there is no circle.
    fn toggle(&self, of: u128, users: &[u128], groups: &[u128]) -> (MemberShift, Self) {
        let mut after = self.clone();
        let mut turn = |pairs: fn(&mut Self) -> &mut BTreeSet<Pair>,
                        chosen: BTreeSet<ResourceId>| {
            let pairs = pairs(&mut after);
            let (out, into): (BTreeSet<_>, BTreeSet<_>) = chosen
                .into_iter()
                .partition(|id| pairs.contains(&(*id, group(of))));
            pairs.retain(|(id, above)| *above != group(of) || !out.contains(id));
            pairs.extend(into.iter().map(|id| (*id, group(of))));
            (into, out)
        };
        let users = users.iter().map(|number| user(*number)).collect();
        let (joining, leaving) = turn(|model| &mut model.direct, users);
        let groups = groups.iter().filter(|number| **number > of);
        let groups = groups.map(|number| group(*number)).collect();
        let (nesting, unnesting) = turn(|model| &mut model.nested, groups);
        let shift = MemberShift {
            group_id: group(of),
            joining,
            leaving,
            nesting,
            unnesting,
        };
        (shift, after)
    }
}

fn any_model() -> impl Strategy<Value = Model> {
    let direct = proptest::collection::btree_set((0..USERS, 0..GROUPS), 0..8);
    let nested = proptest::collection::btree_set((0..GROUPS, 0..GROUPS), 0..12);
    (direct, nested).prop_map(|(direct, nested)| Model {
        direct: direct
            .into_iter()
            .map(|(number, of)| (user(number), group(of)))
            .collect(),
        nested: nested
            .into_iter()
            .filter(|(child, above)| child > above)
            .map(|(child, above)| (group(child), group(above)))
            .collect(),
    })
}

/// What `shift` tells of everybody.
fn told(model: &Model, shift: &Shift, is_flat: bool) -> Turnover {
    let everybody: Vec<ResourceId> = (0..USERS).map(user).collect();
    shift.turnover(&model.scene(), is_flat, &everybody)
}

/// Exactly the difference, each pair once.
fn difference(before: &BTreeSet<Pair>, after: &BTreeSet<Pair>) -> Turnover {
    Turnover {
        left: before.difference(after).copied().collect(),
        joined: after.difference(before).copied().collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn a_change_of_members_tells_exactly_who_is_in_what_anew(
        model in any_model(),
        of in 0..GROUPS,
        users in proptest::collection::vec(0..USERS, 0..3),
        groups in proptest::collection::vec(0..GROUPS, 0..3),
        is_flat in any::<bool>(),
    ) {
        let (shift, after) = model.toggle(of, &users, &groups);
        let expected = difference(&model.pairs(is_flat), &after.pairs(is_flat));
        prop_assert_eq!(told(&model, &Shift::Members(shift), is_flat), expected);
    }

    #[test]
    fn the_end_of_a_group_tells_who_leaves_other_groups(
        model in any_model(), gone in 0..GROUPS, is_flat in any::<bool>(),
    ) {
        let after = model.without_group(group(gone));
        let mut expected = difference(&model.pairs(is_flat), &after.pairs(is_flat));
        expected.left.retain(|(_, group_id)| *group_id != group(gone));
        prop_assert_eq!(told(&model, &Shift::GroupGone(group(gone)), is_flat), expected);
    }

    #[test]
    fn the_end_of_a_user_tells_all_that_it_was_in(
        model in any_model(), gone in 0..USERS, is_flat in any::<bool>(),
    ) {
        let left = model.pairs(is_flat).into_iter().filter(|(user_id, _)| *user_id == user(gone));
        let expected = Turnover { left: left.collect(), joined: Vec::new() };
        let turnover = Shift::UsersGone.turnover(&model.scene(), is_flat, &[user(gone)]);
        prop_assert_eq!(turnover, expected);
    }

    #[test]
    fn flattening_tells_who_is_in_something_through_others(model in any_model()) {
        let (bare, flat) = (model.pairs(false), model.pairs(true));
        let on = told(&model, &Shift::Flattened(true), false);
        let off = told(&model, &Shift::Flattened(false), true);
        prop_assert_eq!(&on, &difference(&bare, &flat));
        prop_assert_eq!(&off, &difference(&flat, &bare));
        prop_assert!(on.left.is_empty());
    }

    #[test]
    fn a_walk_finds_what_is_above_in_any_number_of_steps(model in any_model(), from in 0..GROUPS) {
        let mut above = BTreeSet::from([group(from)]);
        for _ in 0..GROUPS {
            let next = model.nested.iter().filter(|(child, _)| above.contains(child));
            let next: BTreeMap<_, _> = next.map(|(child, parent)| (*parent, *child)).collect();
            above.extend(next.into_keys());
        }
        prop_assert_eq!(model.scene().up.reach([group(from)]), above);
    }
}
