//! What a provider holds to be true when it has said everything.

use std::collections::{BTreeMap, BTreeSet};

use super::people::World;

/// The provider's final picture, in its own words, to be compared with what the webhooks told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// Active people: `externalId` and full name.
    pub active: BTreeMap<String, String>,
    /// People deleted for good, by `externalId`.
    pub gone: BTreeSet<String>,
    /// Groups, by name.
    pub groups: BTreeSet<String>,
    /// Memberships of active people: `externalId` and group name.
    pub memberships: BTreeSet<(String, String)>,
}

impl Roster {
    /// Reads the picture off a world; what the server never accepted is not in it.
    pub(super) fn of(world: &World) -> Self {
        let mut roster = Self::default();
        for person in world.people.iter().filter(|person| person.id.is_some()) {
            if person.gone {
                roster.gone.insert(person.external_id.clone());
            } else if person.active {
                roster
                    .active
                    .insert(person.external_id.clone(), person.display_name());
            }
        }
        for group in world
            .groups
            .iter()
            .filter(|group| group.id.is_some() && !group.gone)
        {
            roster.groups.insert(group.name.clone());
            let members = group
                .members
                .iter()
                .filter_map(|place| world.people.get(*place));
            for member in members.filter(|member| roster.active.contains_key(&member.external_id)) {
                roster
                    .memberships
                    .insert((member.external_id.clone(), group.name.clone()));
            }
        }
        roster
    }
}
