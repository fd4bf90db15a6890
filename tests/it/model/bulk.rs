//! Bulk requests, and what the model makes of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::requests::Piece;
use super::store::{Person, Set};
use super::{Run, group_body, name, nth, user_body};

/// A Bulk request that has been answered.
struct Answered<'a> {
    pieces: &'a [Piece],
    outcomes: &'a [Value],
    /// The users as they were when the request was written.
    users: Vec<String>,
    /// The ids of the users made so far, by the number of the piece.
    made: BTreeMap<usize, String>,
}

impl Answered<'_> {
    /// The id of what a piece has made, which the answer tells.
    fn id_of(&self, number: usize) -> String {
        let mut outcomes = self.outcomes.iter();
        let outcome = outcomes.find(|outcome| outcome["bulkId"] == bulk_id(number));
        let outcome = outcome.unwrap_or_else(|| panic!("no outcome of piece {number}"));
        last_of_location(outcome).unwrap()
    }
}

fn bulk_id(number: usize) -> String {
    format!("piece {number}")
}

fn last_of_location(outcome: &Value) -> Option<String> {
    let location = outcome["location"].as_str()?;
    location.rsplit('/').next().map(str::to_owned)
}

impl Run {
    pub(super) async fn bulk(&mut self, pieces: &[Piece], errors_max: Option<usize>) {
        let numbers = 0..pieces.len();
        let operations: Vec<Value> = numbers.map(|n| self.operation(n, pieces)).collect();
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
            "Operations": operations,
        });
        if let Some(errors_max) = errors_max {
            body["failOnErrors"] = json!(errors_max);
        }
        let body = body.to_string();
        let answer = self.idp.raw("POST", "/Bulk", &[], Some(&body)).await;
        let answer = answer.expect(200);
        let outcomes = answer["Operations"].as_array().unwrap();
        for outcome in outcomes {
            if let (Some(tag), Some(id)) = (outcome["version"].as_str(), last_of_location(outcome))
            {
                self.note_tag(&id, tag);
            }
        }
        let expected = self.statuses(pieces, outcomes, errors_max);
        let expected: Vec<String> = expected.values().map(u16::to_string).collect();
        let found: Vec<&Value> = outcomes.iter().map(|outcome| &outcome["status"]).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{answer}");
    }

    fn operation(&self, number: usize, pieces: &[Piece]) -> Value {
        let bulk_id = bulk_id(number);
        let path_of = |user: usize| format!("/Users/{}", nth(&self.users, user));
        match &pieces[number] {
            Piece::AddUser(n) => {
                let data = user_body(&plain(*n));
                json!({"method": "POST", "path": "/Users", "bulkId": bulk_id, "data": data})
            }
            Piece::AddGroup(n, of) => {
                let members = newcomers(pieces, of).into_iter();
                let members = members.map(|user| format!("bulkId:piece {user}"));
                let data = group_body(&name(*n), &members.collect::<Vec<_>>());
                json!({"method": "POST", "path": "/Groups", "bulkId": bulk_id, "data": data})
            }
            Piece::DeleteUser(user) => json!({"method": "DELETE", "path": path_of(*user)}),
            Piece::ReplaceUser(who, n) => {
                json!({"method": "PUT", "path": path_of(*who), "data": user_body(&plain(*n))})
            }
        }
    }

    /// Performs the pieces on the model, each behind those that it needs; the statuses of those that are
    /// reached, in the order of the request.
    fn statuses(
        &mut self,
        pieces: &[Piece],
        outcomes: &[Value],
        errors_max: Option<usize>,
    ) -> BTreeMap<usize, u16> {
        let mut answered = Answered {
            pieces,
            outcomes,
            users: self.users.clone(),
            made: BTreeMap::new(),
        };
        let (mut statuses, mut errors) = (BTreeMap::new(), 0);
        for number in order_of(pieces) {
            let outcome = self.piece(number, &mut answered);
            let status = outcome.unwrap_or_else(|status| status);
            statuses.insert(number, status);
            errors += usize::from(status >= 400);
            if errors_max.is_some_and(|max| errors >= max) {
                break;
            }
        }
        statuses
    }

    fn piece(&mut self, number: usize, answered: &mut Answered<'_>) -> Result<u16, u16> {
        match &answered.pieces[number] {
            Piece::AddUser(n) => {
                self.model.user_may_be_called(&name(*n), "")?;
                let id = answered.id_of(number);
                self.model.users.insert(id.clone(), plain(*n));
                self.users.push(id.clone());
                answered.made.insert(number, id);
                Ok(201)
            }
            Piece::AddGroup(n, of) => {
                let members = newcomers(answered.pieces, of).into_iter();
                let members = members.map(|user| answered.made.get(&user).cloned());
                let members: Vec<String> = members.collect::<Option<_>>().ok_or(409_u16)?;
                self.model.group_may_be_called(&name(*n), "")?;
                let (name, members) = (name(*n), self.model.known(&members));
                let id = answered.id_of(number);
                self.model.groups.insert(id.clone(), Set { name, members });
                self.groups.push(id);
                Ok(201)
            }
            Piece::DeleteUser(user) => {
                let id = nth(&answered.users, *user);
                self.forget_groups();
                self.model.delete_user(&id, false).map(|()| 204)
            }
            Piece::ReplaceUser(user, n) => {
                let id = nth(&answered.users, *user);
                let replaced = self.model.replace_user(&id, false, plain(*n));
                replaced.map(|()| 200)
            }
        }
    }
}

/// A user with nothing but a userName.
fn plain(number: usize) -> Person {
    Person {
        name: name(number),
        title: None,
        is_active: true,
    }
}

/// The users that a group of the same request is made of.
fn newcomers(pieces: &[Piece], of: &[usize]) -> Vec<usize> {
    let users: Vec<usize> = (0..pieces.len())
        .filter(|number| matches!(pieces[*number], Piece::AddUser(_)))
        .collect();
    let count = users.len().max(1);
    of.iter()
        .filter_map(|number| users.get(number % count).copied())
        .collect()
}

/// The order of the request, but each group behind its members.
fn order_of(pieces: &[Piece]) -> Vec<usize> {
    let mut order = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        if let Piece::AddGroup(_, of) = piece {
            let mut needed = newcomers(pieces, of);
            needed.sort_unstable();
            order.extend(needed);
        }
        order.push(number);
    }
    let mut seen = BTreeSet::new();
    order.retain(|number| seen.insert(*number));
    order
}
