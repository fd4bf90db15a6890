//! The closed list of event types, and the envelope that WorkOS's SDKs read.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::ids::{EventId, OrganizationId, ResourceId};
use crate::json;
use crate::storage::tables::{directories, organization_domains, scim_tokens};
use crate::storage::{EventDraft, WriteTx};

/// An event type of the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`as_str` is the documentation")]
pub enum Kind {
    Activated,
    Deleted,
    UserCreated,
    UserUpdated,
    UserDeleted,
    GroupCreated,
    GroupUpdated,
    GroupDeleted,
    UserAdded,
    UserRemoved,
    TokenCreated,
    TokenRevoked,
}

impl Kind {
    /// Those that make up a directory's sequence: what an endpoint that names no event types gets.
    pub const SEQUENCED: [Self; 10] = [
        Self::Activated,
        Self::Deleted,
        Self::UserCreated,
        Self::UserUpdated,
        Self::UserDeleted,
        Self::GroupCreated,
        Self::GroupUpdated,
        Self::GroupDeleted,
        Self::UserAdded,
        Self::UserRemoved,
    ];

    /// Those beside it, which only endpoints that name them get: SDKs stumble over types that they do
    /// not know.
    pub const BESIDE: [Self; 2] = [Self::TokenCreated, Self::TokenRevoked];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::SEQUENCED.into_iter().chain(Self::BESIDE)
    }

    /// Whether it is part of a directory's gapless sequence.
    pub fn is_sequenced(self) -> bool {
        Self::SEQUENCED.contains(&self)
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Activated => "dsync.activated",
            Self::Deleted => "dsync.deleted",
            Self::UserCreated => "dsync.user.created",
            Self::UserUpdated => "dsync.user.updated",
            Self::UserDeleted => "dsync.user.deleted",
            Self::GroupCreated => "dsync.group.created",
            Self::GroupUpdated => "dsync.group.updated",
            Self::GroupDeleted => "dsync.group.deleted",
            Self::UserAdded => "dsync.group.user_added",
            Self::UserRemoved => "dsync.group.user_removed",
            Self::TokenCreated => "dsync.token.created",
            Self::TokenRevoked => "dsync.token.revoked",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::all().find(|kind| kind.as_str() == text)
    }
}

/// Something that a vendor is told about.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// The SCIM resource of the user it is about, if any.
    pub user_id: Option<ResourceId>,
    /// The SCIM resource of the group it is about, if any.
    pub group_id: Option<ResourceId>,
    /// The folded names that it takes or frees: two events about one name keep their order.
    pub names: Vec<String>,
    /// The contract's `data`.
    pub data: Value,
}

/// Appends `event` to the log of `directory` when the transaction commits.
pub fn append(tx: &WriteTx, directory: &directories::Model, event: &Event) {
    let id = EventId::generate();
    let payload = payload(id, event.kind, &event.data, tx.now());
    tx.buffer(EventDraft {
        id,
        organization_id: directory.organization_id,
        directory_id: directory.id,
        shard: directory.shard,
        is_sequenced: event.kind.is_sequenced(),
        kind: event.kind.as_str(),
        user_id: event.user_id,
        group_id: event.group_id,
        names: (!event.names.is_empty()).then(|| event.names.join("\n")),
        payload,
        is_departure: is_departure(event),
        actor: tx.actor(),
    });
}

/// The exact text of an event on the wire.
pub fn payload(id: EventId, kind: Kind, data: &Value, at: DateTime<Utc>) -> String {
    json::canonical(&json!({
        "object": "event",
        "id": id.to_string(),
        "event": kind.as_str(),
        "data": data,
        "created_at": clock::text(at),
    }))
}

/// Whether it says that a person was deleted or became inactive: what must not wait behind other things.
fn is_departure(event: &Event) -> bool {
    let was_active = || event.data.pointer("/previous_attributes/state").is_some();
    match event.kind {
        Kind::UserDeleted => true,
        Kind::UserUpdated => event.data.get("state") == Some(&json!("inactive")) && was_active(),
        Kind::Activated
        | Kind::Deleted
        | Kind::UserCreated
        | Kind::GroupCreated
        | Kind::GroupUpdated
        | Kind::GroupDeleted
        | Kind::UserAdded
        | Kind::UserRemoved
        | Kind::TokenCreated
        | Kind::TokenRevoked => false,
    }
}

/// The directory as `dsync.activated` shows it.
pub fn activated_data(
    directory: &directories::Model,
    domains: &[organization_domains::Model],
) -> Value {
    let domains: Vec<Value> = domains
        .iter()
        .map(|domain| {
            json!({
                "object": "organization_domain",
                "id": domain.id,
                "organization_id": domain.organization_id,
                "domain": domain.domain,
            })
        })
        .collect();
    let mut data = directory_data(directory);
    data.insert("external_key".to_owned(), json!(directory.external_key));
    data.insert("domains".to_owned(), Value::Array(domains));
    Value::Object(data)
}

/// The directory as `dsync.deleted` shows it: in the state before its deletion.
pub fn deleted_data(directory: &directories::Model) -> Value {
    Value::Object(directory_data(directory))
}

/// What both show. Events say `active` where the REST API says `linked`.
fn directory_data(directory: &directories::Model) -> Map<String, Value> {
    json::fields(json!({
        "object": "directory",
        "id": directory.id,
        "organization_id": directory.organization_id,
        "type": directory.kind,
        "state": "active",
        "name": directory.name,
        "created_at": clock::text(directory.created_at),
        "updated_at": clock::text(directory.updated_at),
    }))
}

/// The token as `dsync.token.created` and `dsync.token.revoked` show it.
pub fn token_data(organization_id: OrganizationId, token: &scim_tokens::Model) -> Value {
    json!({
        "object": "directory_token",
        "id": token.id,
        "directory_id": token.directory_id,
        "organization_id": organization_id,
        "token_suffix": token.suffix,
        "created_at": clock::text(token.created_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_from_its_name() {
        for kind in Kind::all() {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("dsync.user.suspended"), None);
    }
}
