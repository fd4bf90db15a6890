//! What an endpoint sees of the log: which events, and which filter was in force where.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::endpoint::{Filter, Term};
use crate::events::Kind;
use crate::ids::{DirectoryId, EndpointId, OrganizationId};
use crate::storage::tables::{endpoints, events};

/// What an endpoint sees of the log.
#[derive(Clone, Debug)]
pub struct View {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Which of its filters is the newest.
    pub filter_number: i32,
    /// For each shard, the position after which the endpoint began.
    starts: BTreeMap<i16, i64>,
    /// Its filters, oldest first.
    segments: Vec<Segment>,
}

/// A filter of an endpoint, and where it came into force.
#[derive(Clone, Debug)]
pub struct Segment {
    after: i64,
    /// The event types that pass; those of the sequence if the filter names none.
    pub kinds: BTreeSet<&'static str>,
    /// The organizations whose events pass; none stands for all.
    pub organizations: BTreeSet<OrganizationId>,
    /// The directories whose events pass; none stands for all.
    pub directories: BTreeSet<DirectoryId>,
}

/// Where a filter is in force.
#[derive(Clone, Copy, Debug)]
pub struct Reign<'a> {
    /// The filter.
    pub segment: &'a Segment,
    /// The position after which it is in force.
    pub after: i64,
    /// The position with which it ends.
    pub up_to: i64,
}

impl View {
    /// What an endpoint sees that began in each shard after the position in `starts`.
    pub fn new(row: &endpoints::Model, starts: BTreeMap<i16, i64>) -> Self {
        let terms = Term::all_of(row);
        let segments = terms.iter().enumerate();
        Self {
            endpoint_id: row.id,
            filter_number: row.filter_number,
            starts,
            segments: segments
                .map(|(number, term)| Segment::new(number, term))
                .collect(),
        }
    }

    /// Everything from the start of the log, as no endpoint in particular sees it.
    pub fn of_everything() -> Self {
        let segment = Segment {
            after: 0,
            kinds: Kind::all().map(Kind::as_str).collect(),
            organizations: BTreeSet::new(),
            directories: BTreeSet::new(),
        };
        Self {
            endpoint_id: EndpointId::from(Uuid::nil()),
            filter_number: 0,
            starts: BTreeMap::new(),
            segments: vec![segment],
        }
    }

    /// The same filters, as if the endpoint had been there when the log began.
    #[must_use]
    pub fn from_the_beginning(&self) -> Self {
        Self {
            starts: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// The position after which the endpoint began in a shard.
    pub fn start(&self, shard: i16) -> i64 {
        self.starts.get(&shard).copied().unwrap_or(0)
    }

    /// Whether the endpoint is offered this event.
    pub fn passes(&self, event: &events::Model) -> bool {
        let segment = self.in_force_at(event.position);
        segment.is_some_and(|segment| {
            segment.kinds.contains(event.kind.as_str())
                && segment.reaches(event.organization_id, event.directory_id)
        })
    }

    /// The filter that is in force at a position.
    pub fn in_force_at(&self, position: i64) -> Option<&Segment> {
        let newest = self.segments.iter().rev();
        let mut in_force = newest.filter(|segment| segment.after < position);
        in_force.next().or(self.segments.first())
    }

    /// Where its filters are in force, in whatever shard, newest first.
    pub fn reigns(&self) -> Vec<Reign<'_>> {
        let mut up_to = i64::MAX;
        let mut reigns = Vec::new();
        for segment in self.segments.iter().rev() {
            if segment.after < up_to {
                reigns.push(Reign {
                    segment,
                    after: segment.after,
                    up_to,
                });
                up_to = segment.after;
            }
        }
        reigns
    }

    /// Where its filters are in force in a shard, newest first.
    pub fn reigns_in(&self, shard: i16) -> Vec<Reign<'_>> {
        let start = self.start(shard);
        let mut reigns = self.reigns();
        for reign in &mut reigns {
            reign.after = reign.after.max(start);
        }
        reigns.retain(|reign| reign.after < reign.up_to);
        reigns
    }
}

impl Segment {
    /// The first filter is in force from the start, a later one from one position on in all shards.
    fn new(number: usize, term: &Term) -> Self {
        let from = term.from.iter().max().copied().unwrap_or(0);
        Self {
            after: if number == 0 { 0 } else { from },
            ..Self::of(&term.filter)
        }
    }

    fn of(filter: &Filter) -> Self {
        let Filter {
            events,
            organizations,
            directories,
        } = filter;
        let passes = |kind: &&str| events.iter().any(|name| name == kind);
        let kinds = if events.is_empty() {
            Kind::SEQUENCED.map(Kind::as_str).into()
        } else {
            Kind::all().map(Kind::as_str).filter(passes).collect()
        };
        let organizations = organizations.iter();
        let directories = directories.iter();
        Self {
            after: 0,
            kinds,
            organizations: organizations
                .filter_map(|id| OrganizationId::parse(id))
                .collect(),
            directories: directories
                .filter_map(|id| DirectoryId::parse(id))
                .collect(),
        }
    }

    /// Whether events of a directory pass, as far as it is concerned.
    pub fn reaches(&self, organization: OrganizationId, directory: DirectoryId) -> bool {
        (self.organizations.is_empty() || self.organizations.contains(&organization))
            && (self.directories.is_empty() || self.directories.contains(&directory))
    }

    /// Whether everything passes that has a sequence, as far as event types are concerned.
    pub fn takes_whole_sequence(&self) -> bool {
        let mut kinds = Kind::SEQUENCED.into_iter();
        kinds.all(|kind| self.kinds.contains(kind.as_str()))
    }

    /// Those of `kinds` that pass.
    pub fn among(&self, kinds: &[Kind]) -> Vec<&'static str> {
        let names = kinds.iter().map(|kind| kind.as_str());
        names.filter(|kind| self.kinds.contains(kind)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(after: i64) -> Segment {
        Segment {
            after,
            ..Segment::of(&Filter::default())
        }
    }

    #[test]
    fn each_filter_is_in_force_until_the_next_one_and_none_before_the_start() {
        let view = View {
            endpoint_id: EndpointId::generate(),
            filter_number: 4,
            starts: [(3, 50)].into(),
            segments: [0, 40, 70, 70].map(segment).into(),
        };

        let bounds = |reigns: Vec<Reign<'_>>| -> Vec<(i64, i64)> {
            let bounds = reigns.iter().map(|reign| (reign.after, reign.up_to));
            bounds.collect()
        };

        let all = [(70, i64::MAX), (40, 70), (0, 40)];
        assert_eq!(bounds(view.reigns()), all);
        assert_eq!(bounds(view.reigns_in(1)), all);
        assert_eq!(bounds(view.reigns_in(3)), [(70, i64::MAX), (50, 70)]);
    }
}
