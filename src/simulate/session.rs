//! One provider's conversation with one SCIM server: how requests are paced, sent, repeated when
//! the server asks for patience, checked and counted. What is said is the dialects' business.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::{
    Change, ChangeKind, Dialect, Failure, Observer, Phase, Plan, SimulateError, Step, Subject,
    Target,
    answer::{check, name, pause},
    people::{Group, Person, World},
};
use crate::outbound::{ApiClient, ApiResponse};

/// How often a request is sent when the server keeps asking for patience.
const TRIES_MAX: u32 = 6;
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const SCIM_JSON: &str = "application/scim+json; charset=utf-8";

/// A request as a dialect words it.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// The HTTP method.
    pub(super) method: &'static str,
    /// The path under the base URL.
    pub(super) path: String,
    /// The query, encoded, without `?`.
    pub(super) query: String,
    /// The body.
    pub(super) body: Option<Value>,
    /// Whom it is about, for people.
    pub(super) subject: String,
    /// What it must have changed when it succeeds.
    pub(super) changes: Vec<Change>,
    /// The statuses that the provider takes for success.
    pub(super) accepts: &'static [u16],
}

impl Ask {
    /// A PATCH of some operations.
    pub(super) fn patch(
        path: String,
        subject: String,
        operations: &Value,
        changes: Vec<Change>,
    ) -> Self {
        Self {
            method: "PATCH",
            path,
            body: Some(json!({"schemas": [PATCH], "Operations": operations})),
            subject,
            changes,
            accepts: &[200, 204],
            ..Self::default()
        }
    }

    /// A deletion.
    pub(super) fn delete(path: String, subject: String, changes: Vec<Change>) -> Self {
        Self {
            method: "DELETE",
            path,
            subject,
            changes,
            accepts: &[204],
            ..Self::default()
        }
    }
}

/// What a session has counted.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) took: BTreeMap<String, Vec<Duration>>,
    pub(super) retries: usize,
    pub(super) world: World,
}

/// A conversation under way.
pub(super) struct Session<'a> {
    pub(super) dialect: Dialect,
    /// Whether the administrator typed Entra's `aadOptscim062020` flag into the URL.
    pub(super) is_flagged: bool,
    client: ApiClient,
    base: String,
    /// What followed the `?` in the URL; Entra repeats it on each request.
    flags: String,
    token: &'a str,
    observer: &'a dyn Observer,
    interval: Option<Duration>,
    next_slot: Mutex<Instant>,
    tally: Mutex<Tally>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        dialect: Dialect,
        target: &'a Target,
        plan: &Plan,
        world: World,
        observer: &'a dyn Observer,
    ) -> Result<Self, SimulateError> {
        let is_web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if !Url::parse(&target.scim_base_url).is_ok_and(|url| is_web(&url)) {
            return Err(SimulateError::NotAUrl {
                url: target.scim_base_url.clone(),
            });
        }
        let (base, flags) = target
            .scim_base_url
            .split_once('?')
            .unwrap_or((&target.scim_base_url, ""));
        Ok(Self {
            dialect,
            is_flagged: flags.to_ascii_lowercase().contains("aadoptscim062020"),
            client: ApiClient::new()?,
            base: base.trim_end_matches('/').to_owned(),
            flags: flags.to_owned(),
            token: &target.token,
            observer,
            interval: plan
                .rate
                .filter(|r| *r > 0.0)
                .map(|r| Duration::from_secs_f64(1.0 / r)),
            next_slot: Mutex::new(Instant::now()),
            tally: Mutex::new(Tally {
                took: BTreeMap::new(),
                retries: 0,
                world,
            }),
        })
    }

    /// Ends the conversation.
    pub(super) fn into_tally(self) -> Tally {
        self.tally
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of a person as they are now.
    pub(super) fn person(&self, place: usize) -> Result<Person, Failure> {
        self.tally()
            .world
            .people
            .get(place)
            .cloned()
            .ok_or_else(|| nobody("person", place))
    }

    /// A copy of a group as it is now, without its members.
    pub(super) fn group(&self, place: usize) -> Result<Group, Failure> {
        let tally = self.tally();
        let group = tally
            .world
            .groups
            .get(place)
            .ok_or_else(|| nobody("group", place))?;
        Ok(Group {
            members: std::collections::BTreeSet::new(),
            external_id: group.external_id.clone(),
            name: group.name.clone(),
            id: group.id.clone(),
            gone: group.gone,
        })
    }

    /// What taking a person's access away or giving it back must change, and what it may: somebody
    /// who comes back as a new directory user joins their groups anew.
    pub(super) fn access_changes(&self, place: usize, active: bool) -> Vec<Change> {
        let Ok(person) = self.person(place) else {
            return Vec::new();
        };
        let user = Subject::User(person.external_id);
        if !active {
            return vec![must(ChangeKind::Deactivated, user)];
        }
        let mut changes = vec![must(ChangeKind::Reactivated, user)];
        changes.extend(self.membership_changes(place, ChangeKind::Added));
        changes
    }

    /// What deleting a person may change: nothing in a directory that drops inactive people.
    pub(super) fn deletion_changes(&self, place: usize) -> Vec<Change> {
        let person = self.person(place).into_iter();
        let deleted = |person: Person| may(ChangeKind::Deleted, Subject::User(person.external_id));
        let mut changes: Vec<Change> = person.map(deleted).collect();
        changes.extend(self.membership_changes(place, ChangeKind::Removed));
        changes
    }

    fn membership_changes(&self, place: usize, kind: ChangeKind) -> Vec<Change> {
        let tally = self.tally();
        let Some(person) = tally.world.people.get(place) else {
            return Vec::new();
        };
        let membership =
            |group: &Group| Subject::Membership(person.external_id.clone(), group.name.clone());
        let groups = tally.world.groups.iter();
        let groups = groups.filter(|group| !group.gone && group.members.contains(&place));
        groups.map(|group| may(kind, membership(group))).collect()
    }

    /// Changes the provider's picture of a person.
    pub(super) fn edit_person(&self, place: usize, edit: impl FnOnce(&mut Person)) {
        if let Some(person) = self.tally().world.people.get_mut(place) {
            edit(person);
        }
    }

    /// Changes the provider's picture of a group.
    pub(super) fn edit_group(&self, place: usize, edit: impl FnOnce(&mut Group)) {
        if let Some(group) = self.tally().world.groups.get_mut(place) {
            edit(group);
        }
    }

    /// Sends a request, again if the server asks for patience, and gives back the body of an
    /// answer that the provider accepts.
    pub(super) async fn send(&self, phase: Phase, ask: Ask) -> Result<Value, Failure> {
        let mut tries = 1;
        loop {
            self.await_slot().await;
            let sent_at = Instant::now();
            let answer = self.exchange(&ask).await?;
            let finished_at = Instant::now();
            if let (429 | 503, true) = (answer.status, tries < TRIES_MAX) {
                self.tally().retries += 1;
                tokio::time::sleep(pause(&answer, tries)).await;
                tries += 1;
                continue;
            }
            return self.conclude(phase, ask, &answer, sent_at, finished_at);
        }
    }

    fn conclude(
        &self,
        phase: Phase,
        ask: Ask,
        answer: &ApiResponse,
        sent_at: Instant,
        finished_at: Instant,
    ) -> Result<Value, Failure> {
        let took = finished_at.duration_since(sent_at);
        let resource = ask.path.split('/').nth(1).unwrap_or_default();
        let kind = format!("{:<6} /{resource}", ask.method);
        self.tally().took.entry(kind).or_default().push(took);
        let verdict = check(&ask, answer);
        let changes = if verdict.is_ok() {
            ask.changes
        } else {
            Vec::new()
        };
        self.observer.step(&Step {
            phase,
            subject: ask.subject,
            method: ask.method,
            path: ask.path,
            status: answer.status,
            took,
            finished_at,
            changes,
        });
        verdict
    }

    async fn exchange(&self, ask: &Ask) -> Result<ApiResponse, Failure> {
        let query = [self.flags.as_str(), ask.query.as_str()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{}{mark}{query}", self.base, ask.path);
        let body = ask.body.as_ref().map(Value::to_string);
        let headers = self.headers(ask.body.is_some());
        let sending =
            self.client
                .send(ask.method, &url, Some(self.token), SCIM_JSON, body, headers);
        sending.await.map_err(|error| Failure {
            request: name(ask),
            status: None,
            detail: error.to_string(),
        })
    }

    /// Okta names itself and what it accepts on every request. Entra's reads name no type at all,
    /// which a server must not answer with 406.
    fn headers(&self, has_body: bool) -> &'static [(&'static str, &'static str)] {
        match (self.dialect, has_body) {
            (Dialect::Okta, _) => &[
                ("User-Agent", "Okta SCIM Client 1.0.0"),
                ("Accept", "application/scim+json"),
                ("Accept-Charset", "utf-8"),
            ],
            (Dialect::Entra, true) => &[("Accept", "application/scim+json")],
            (Dialect::Entra, false) => &[],
        }
    }

    /// Waits for this request's turn when the plan has a rate.
    async fn await_slot(&self) {
        let Some(interval) = self.interval else {
            return;
        };
        let slot = {
            let mut next = self
                .next_slot
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let slot = (*next).max(Instant::now());
            *next = slot + interval;
            slot
        };
        tokio::time::sleep_until(slot.into()).await;
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes a filter as the provider does: Okta writes a space as `%20`, Entra as `+`.
pub(super) fn filter(dialect: Dialect, filter: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    match dialect {
        Dialect::Okta => format!("filter={}", encoded.replace('+', "%20")),
        Dialect::Entra => format!("filter={encoded}"),
    }
}

/// A change that must be told about.
pub(super) fn must(kind: ChangeKind, subject: Subject) -> Change {
    Change {
        kind,
        subject,
        is_required: true,
    }
}

/// A change that may be told about: whether it makes a difference is the server's affair.
pub(super) fn may(kind: ChangeKind, subject: Subject) -> Change {
    Change {
        kind,
        subject,
        is_required: false,
    }
}

fn nobody(what: &str, place: usize) -> Failure {
    Failure {
        request: "(nothing sent)".to_owned(),
        status: None,
        detail: format!("there is no {what} {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_encoded_as_the_provider_does() {
        let wanted = "filter=userName%20eq%20%22a%2Bb%40x.y%22";
        assert_eq!(filter(Dialect::Okta, "userName eq \"a+b@x.y\""), wanted);
        assert_eq!(
            filter(Dialect::Entra, "userName eq \"a\""),
            "filter=userName+eq+%22a%22"
        );
    }
}
