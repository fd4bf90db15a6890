//! What a person has left behind: every name that they ever had, as their events have it.

use std::collections::BTreeSet;

use sea_orm::DbErr;
use serde_json::Value;

use super::{KINDS, page};
use crate::directories::person::Person;
use crate::ids::RequestId;
use crate::keys::fold;
use crate::requests::Subject;
use crate::storage::Store;
use crate::storage::tables::events;

/// By what the requests about a person are found.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// As the request log has them.
    pub(super) subjects: BTreeSet<String>,
    /// Those that made their events.
    pub(super) requests: BTreeSet<RequestId>,
    /// The person as the vendor knew them last.
    pub(super) user_id: Option<String>,
}

impl Traces {
    /// Reads all events of a person for the names that they ever had.
    pub(super) async fn gather(store: &Store, person: Person) -> Result<Self, DbErr> {
        let mut traces = Self::default();
        traces.add(&Subject::Resource(person.id));
        for kind in KINDS {
            let mut after = 0;
            loop {
                let rows = page(store.reader(), person, kind, after).await?;
                let Some(last) = rows.last() else {
                    break;
                };
                after = last.position;
                for row in &rows {
                    traces.read(row);
                }
            }
        }
        Ok(traces)
    }

    fn read(&mut self, row: &events::Model) {
        self.requests.extend(row.request_id);
        for name in row.names.iter().flat_map(|names| names.lines()) {
            self.add(&Subject::UserName(name.to_owned()));
        }
        let payload: Value = serde_json::from_str(&row.payload).unwrap_or_default();
        let Some(user) = payload.get("data").map(user_of) else {
            return;
        };
        let id = user.get("id").and_then(Value::as_str);
        self.user_id = id.map(str::to_owned).or(self.user_id.take());
        self.read_names(user);
        if let Some(former) = user.get("previous_attributes") {
            self.read_names(former);
        }
    }

    fn read_names(&mut self, user: &Value) {
        let text =
            |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let others = user.get("emails").and_then(Value::as_array);
        let others = others.into_iter().flatten();
        let emails = others
            .filter_map(|email| text(email, "value"))
            .chain(text(user, "email"));
        for email in emails {
            self.add(&Subject::Email(fold(&email)));
        }
        if let Some(name) = text(user, "username") {
            self.add(&Subject::UserName(fold(&name)));
        }
        if let Some(id) = text(user, "idp_id") {
            self.add(&Subject::ExternalId(id));
        }
    }

    fn add(&mut self, subject: &Subject) {
        self.subjects.insert(subject.to_string());
    }
}

/// The user of an event: of a membership, or all of what the event is about.
fn user_of(data: &Value) -> &Value {
    data.get("user").unwrap_or(data)
}
