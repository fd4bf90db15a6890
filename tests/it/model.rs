//! Any sequence of requests does to a directory what it does to a small model of one: the same answers,
//! the same lists, the same resources in the end, and a log that replays to them.
//!
//! The sequences are random; `ROLLCALL_TEST_SEED` makes the same ones again, and what fails is shortened
//! before it is shown.

mod bulk;
mod lists;
mod requests;
mod store;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::support::actors::id_of;
use crate::support::choices::Choices;
use crate::support::people::{GROUP, USER};
use crate::support::replica::Replica;
use crate::support::world::events;
use crate::support::{Answer, Idp, TestApp};
use lists::List;
use requests::{Asked, Condition, GroupWrite, NAMES, Request, Step, TITLES, UserWrite, Words};
use store::{Change, Outcome, Person, Set, Store};

const SEQUENCES: u32 = 30;
const REQUESTS_MAX: usize = 40;
/// What never was an id here.
const NOBODY: &str = "01912345-0000-7000-8000-000000000000";

on_both! {
    any_sequence_of_requests_does_what_it_does_to_a_model,
}

async fn any_sequence_of_requests_does_what_it_does_to_a_model(app: TestApp) {
    let mut choices = Choices::seeded("model");
    let seed: Vec<u8> = (0..32)
        .map(|_| u8::try_from(choices.below(256)).unwrap())
        .collect();
    let config = Config {
        cases: SEQUENCES,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let runtime = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&vec(requests::request(), 1..REQUESTS_MAX), |requests| {
            runtime.block_on(play(&app, &requests));
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

async fn play(app: &TestApp, requests: &[Request]) {
    let mut run = Run {
        idp: app.idp().await,
        model: Store::default(),
        users: Vec::new(),
        groups: Vec::new(),
        tags: BTreeMap::new(),
    };
    for request in requests {
        run.perform(request).await;
    }
    run.check_all().await;
    let mut replica = Replica::default();
    for event in events(app, &run.idp.directory_id).await {
        let body = serde_json::from_str(&event.payload).unwrap();
        replica.apply(&body).unwrap();
    }
    assert_eq!(replica.picture(), run.model.picture());
}

/// A directory and what it should be.
struct Run {
    idp: Idp,
    model: Store,
    /// The ids of all users there ever were.
    users: Vec<String>,
    groups: Vec<String>,
    /// The version that each resource is in, and the one before it.
    tags: BTreeMap<String, (String, Option<String>)>,
}

fn nth(ids: &[String], number: usize) -> String {
    let count = ids.len().max(1);
    ids.get(number % count)
        .map_or(NOBODY, String::as_str)
        .to_owned()
}

fn name(number: usize) -> String {
    NAMES[number % NAMES.len()].to_owned()
}

fn title(number: usize) -> Option<String> {
    let title = TITLES[number % TITLES.len()];
    (!title.is_empty()).then(|| title.to_owned())
}

fn person(words: &Words) -> Person {
    Person {
        name: name(words.name),
        title: title(words.title),
        is_active: words.is_active,
    }
}

/// A tag without the part that tells of a user's groups.
fn number_of(tag: &str) -> String {
    let number = tag.trim_end_matches('"').split('.').next();
    format!("{}\"", number.unwrap_or(tag))
}

impl Run {
    fn users_of(&self, numbers: &[usize]) -> Vec<String> {
        numbers
            .iter()
            .map(|number| nth(&self.users, *number))
            .collect()
    }

    async fn perform(&mut self, request: &Request) {
        match request {
            Request::AddUser(words) => self.add_user(person(words)).await,
            Request::User(user, condition, write) => {
                let id = nth(&self.users, *user);
                match write {
                    UserWrite::Replace(words) => {
                        self.replace_user(&id, person(words), *condition).await;
                    }
                    UserWrite::Patch(patch) => self.patch_user(&id, *patch, *condition).await,
                    UserWrite::Delete => self.delete_user(&id, *condition).await,
                }
            }
            Request::AddGroup(number, members) => self.add_group(name(*number), members).await,
            Request::Group(group, condition, write) => {
                let id = nth(&self.groups, *group);
                match write {
                    GroupWrite::Replace(number, members) => {
                        self.replace_group(&id, name(*number), members, *condition)
                            .await;
                    }
                    GroupWrite::Patch(steps) => self.patch_group(&id, steps, *condition).await,
                    GroupWrite::Delete => self.delete_group(&id, *condition).await,
                }
            }
            Request::Bulk(pieces, errors_max) => self.bulk(pieces, *errors_max).await,
            Request::List(asked, start, count) => {
                let list = List::of(&self.model, *asked);
                list.check_page(&self.idp, *start, *count).await;
            }
            Request::Walk(asked, count) => {
                List::of(&self.model, *asked)
                    .check_walk(&self.idp, *count)
                    .await;
            }
        }
    }

    /// Forgets the versions of groups, of which some may have lost a member.
    fn forget_groups(&mut self) {
        let users = &self.users;
        self.tags.retain(|id, _| users.contains(id));
    }

    /// The tag to send, if any.
    fn tag(&self, id: &str, condition: Condition) -> Option<String> {
        let (current, before) = self.tags.get(id)?;
        match condition {
            Condition::None => None,
            Condition::Current => Some(current.clone()),
            Condition::Stale => before.clone(),
        }
    }

    fn is_stale(&self, id: &str, condition: Condition) -> bool {
        condition == Condition::Stale && self.tag(id, condition).is_some()
    }

    /// Sends a write of one resource under a condition.
    async fn write(
        &self,
        method: &str,
        path: &str,
        id: &str,
        condition: Condition,
        body: Option<Value>,
    ) -> Answer {
        let tag = self.tag(id, condition);
        let headers: Vec<(&str, &str)> = tag.iter().map(|tag| ("If-Match", tag.as_str())).collect();
        let body = body.map(|body| body.to_string());
        self.idp.raw(method, path, &headers, body.as_deref()).await
    }

    /// Notes the version that a resource is in now, which is another exactly if it has changed.
    fn note(&mut self, id: &str, answer: &Answer, has_changed: bool) {
        let before = self.tags.get(id).map(|(current, _)| current.clone());
        self.note_tag(id, answer.header("ETag").unwrap());
        let (now, _) = &self.tags[id];
        let is_same = before.as_ref() == Some(now);
        assert!(
            before.is_none() || is_same != has_changed,
            "{id}: {before:?} {now}"
        );
    }

    fn note_tag(&mut self, id: &str, tag: &str) {
        let tag = number_of(tag);
        let known = self.tags.get(id).map(|(current, _)| current.clone());
        if known.as_ref() != Some(&tag) {
            self.tags.insert(id.to_owned(), (tag, known));
        }
    }

    async fn add_user(&mut self, person: Person) {
        let expected = self.model.user_may_be_called(&person.name, "");
        let answer = self.idp.create_user(user_body(&person)).await;
        check_status(&answer, 201, expected);
        if expected.is_ok() {
            let created = answer.json();
            assert_eq!(person_of(&created), person);
            self.model.users.insert(id_of(&created), person);
            self.users.push(id_of(&created));
            self.note(&id_of(&created), &answer, true);
        }
    }

    async fn add_group(&mut self, name: String, members: &[usize]) {
        let members = self.users_of(members);
        let expected = self.model.group_may_be_called(&name, "");
        let answer = self.idp.create_group(group_body(&name, &members)).await;
        check_status(&answer, 201, expected);
        if expected.is_ok() {
            let created = answer.json();
            let members = self.model.known(&members);
            let set = Set { name, members };
            assert_eq!(set_of(&created), set);
            self.model.groups.insert(id_of(&created), set);
            self.groups.push(id_of(&created));
            self.note(&id_of(&created), &answer, true);
        }
    }

    async fn replace_user(&mut self, id: &str, person: Person, condition: Condition) {
        let before = self.model.users.get(id).cloned();
        let is_stale = self.is_stale(id, condition);
        let expected = self.model.replace_user(id, is_stale, person.clone());
        let body = user_body(&person);
        let answer = self
            .write("PUT", &format!("/Users/{id}"), id, condition, Some(body))
            .await;
        check_status(&answer, 200, expected);
        if expected.is_ok() {
            assert_eq!(person_of(&answer.json()), person);
            self.note(id, &answer, before != Some(person));
        }
    }

    async fn patch_user(&mut self, id: &str, patch: (usize, usize), condition: Condition) {
        let before = self.model.users.get(id).cloned();
        let is_stale = self.is_stale(id, condition);
        let mut after = before.clone().unwrap_or_else(|| Person {
            name: String::new(),
            title: None,
            is_active: true,
        });
        let (operations, is_possible) = patch_of(patch, &mut after);
        let mut expected = self.model.clone().replace_user(id, is_stale, after.clone());
        if is_possible {
            expected = self.model.replace_user(id, is_stale, after.clone());
        } else if expected != Err(404) && expected != Err(412) {
            expected = Err(400);
        }
        let body = patch_body(&operations);
        let answer = self
            .write("PATCH", &format!("/Users/{id}"), id, condition, Some(body))
            .await;
        check_status(&answer, 200, expected);
        if expected.is_ok() {
            assert_eq!(person_of(&answer.json()), after);
            self.note(id, &answer, before != Some(after));
        }
    }

    async fn replace_group(
        &mut self,
        id: &str,
        name: String,
        members: &[usize],
        condition: Condition,
    ) {
        let members = self.users_of(members);
        let body = group_body(&name, &members);
        let changes = [Change::Rename(name), Change::Replace(members)];
        self.change_group(id, "PUT", 200, body, &changes, condition)
            .await;
    }

    async fn patch_group(&mut self, id: &str, steps: &[Step], condition: Condition) {
        let steps = steps.iter().map(|step| self.change_of(step));
        let (changes, operations): (Vec<Change>, Vec<Value>) = steps.unzip();
        let body = patch_body(&Value::Array(operations));
        self.change_group(id, "PATCH", 204, body, &changes, condition)
            .await;
    }

    async fn change_group(
        &mut self,
        id: &str,
        method: &str,
        status: u16,
        body: Value,
        changes: &[Change],
        condition: Condition,
    ) {
        let before = self.model.groups.get(id).cloned();
        let is_stale = self.is_stale(id, condition);
        let expected = self.model.change_group(id, is_stale, changes);
        let path = format!("/Groups/{id}");
        let answer = self.write(method, &path, id, condition, Some(body)).await;
        check_status(&answer, status, expected);
        if expected.is_ok() {
            let has_changed = before != self.model.groups.get(id).cloned();
            self.note(id, &answer, has_changed);
        }
    }

    /// A step as the model and as the server understand it.
    fn change_of(&self, step: &Step) -> (Change, Value) {
        let listed =
            |ids: &[String]| -> Value { ids.iter().map(|id| json!({"value": id})).collect() };
        match step {
            Step::Rename(number) => {
                let operation = json!({"op": "Replace", "value": {"displayName": name(*number)}});
                (Change::Rename(name(*number)), operation)
            }
            Step::Add(numbers) => {
                let ids = self.users_of(numbers);
                let operation = json!({"op": "add", "path": "members", "value": listed(&ids)});
                (Change::Add(ids), operation)
            }
            Step::RemoveListed(numbers) if numbers.is_empty() => self.change_of(&Step::RemoveAll),
            Step::RemoveListed(numbers) => {
                let ids = self.users_of(numbers);
                let operation = json!({"op": "remove", "path": "members", "value": listed(&ids)});
                (Change::Remove(ids), operation)
            }
            Step::RemoveByPath(number) => {
                let id = nth(&self.users, *number);
                let path = format!("members[value eq \"{id}\"]");
                (
                    Change::Remove(vec![id]),
                    json!({"op": "remove", "path": path}),
                )
            }
            Step::RemoveAll => (
                Change::RemoveAll,
                json!({"op": "remove", "path": "members"}),
            ),
            Step::Replace(numbers) => {
                let ids = self.users_of(numbers);
                let operation = json!({"op": "replace", "path": "members", "value": listed(&ids)});
                (Change::Replace(ids), operation)
            }
        }
    }

    async fn delete_user(&mut self, id: &str, condition: Condition) {
        let is_stale = self.is_stale(id, condition);
        let expected = self.model.delete_user(id, is_stale);
        let path = format!("/Users/{id}");
        let answer = self.write("DELETE", &path, id, condition, None).await;
        check_status(&answer, 204, expected);
        self.forget_groups();
    }

    async fn delete_group(&mut self, id: &str, condition: Condition) {
        let is_stale = self.is_stale(id, condition);
        let expected = self.model.delete_group(id, is_stale);
        let path = format!("/Groups/{id}");
        let answer = self.write("DELETE", &path, id, condition, None).await;
        check_status(&answer, 204, expected);
    }

    /// Compares every resource there ever was with the model.
    async fn check_all(&self) {
        for id in &self.users {
            let answer = self.idp.user(id).await;
            let found = (answer.status() == 200).then(|| person_of(&answer.json()));
            assert_eq!(found.as_ref(), self.model.users.get(id), "{id}");
        }
        for id in &self.groups {
            let answer = self.idp.group(id).await;
            let found = (answer.status() == 200).then(|| set_of(&answer.json()));
            assert_eq!(found.as_ref(), self.model.groups.get(id), "{id}");
        }
        for of_users in [true, false] {
            let asked = Asked {
                of_users,
                by: 0,
                is_descending: false,
            };
            let list = List::of(&self.model, asked);
            list.check_page(&self.idp, 1, 1_000).await;
        }
    }
}

/// The operations of a PATCH of a user, and whether they are possible.
fn patch_of((shape, value): (usize, usize), person: &mut Person) -> (Value, bool) {
    match shape % 6 {
        0 => {
            person.title = Some(name(value));
            (
                json!([{"op": "replace", "path": "title", "value": name(value)}]),
                true,
            )
        }
        1 => {
            person.title = Some(name(value));
            person.is_active = value % 2 == 0;
            let value = json!({"title": person.title, "active": person.is_active});
            (json!([{"op": "Add", "value": value}]), true)
        }
        2 => {
            person.name = name(value);
            (
                json!([{"op": "replace", "path": "userName", "value": name(value)}]),
                true,
            )
        }
        3 => {
            person.title = None;
            (json!([{"op": "remove", "path": "title"}]), true)
        }
        4 => {
            person.is_active = false;
            (
                json!([{"op": "Replace", "path": "active", "value": "False"}]),
                true,
            )
        }
        _ => {
            let first = json!({"op": "replace", "path": "title", "value": "never"});
            (json!([first, {"op": "remove", "path": "userName"}]), false)
        }
    }
}

fn patch_body(operations: &Value) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": operations,
    })
}

fn user_body(person: &Person) -> Value {
    json!({
        "schemas": [USER],
        "userName": person.name,
        "title": person.title,
        "active": person.is_active,
    })
}

fn group_body(name: &str, members: &[String]) -> Value {
    let members: Vec<Value> = members.iter().map(|id| json!({"value": id})).collect();
    json!({"schemas": [GROUP], "displayName": name, "members": members})
}

fn person_of(user: &Value) -> Person {
    Person {
        name: user["userName"].as_str().unwrap().to_owned(),
        title: user["title"].as_str().map(str::to_owned),
        is_active: user["active"].as_bool().unwrap_or(true),
    }
}

fn set_of(group: &Value) -> Set {
    let members = group["members"].as_array().cloned().unwrap_or_default();
    let ids = members
        .iter()
        .map(|member| member["value"].as_str().unwrap().to_owned());
    Set {
        name: group["displayName"].as_str().unwrap().to_owned(),
        members: ids.collect(),
    }
}

#[track_caller]
fn check_status(answer: &Answer, success: u16, expected: Outcome) {
    let expected = expected.map_or_else(|status| status, |()| success);
    assert_eq!(answer.status(), expected, "{}", answer.text());
}
