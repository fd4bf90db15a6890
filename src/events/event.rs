//! The closed list of event types, and the envelope that WorkOS's SDKs read.

use serde_json::{Map, Value, json};

use crate::clock;
use crate::ids::{EventId, ResourceId};
use crate::json;
use crate::storage::tables::{directories, organization_domains};
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
}

impl Kind {
    /// All of them: what an endpoint that names no event types gets.
    pub const ALL: [Self; 10] = [
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
        }
    }

    /// Reads the name on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
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
    let payload = json::canonical(&json!({
        "object": "event",
        "id": id.to_string(),
        "event": event.kind.as_str(),
        "data": event.data,
        "created_at": clock::text(tx.now()),
    }));
    tx.buffer(EventDraft {
        id,
        organization_id: directory.organization_id,
        directory_id: directory.id,
        shard: directory.shard,
        is_sequenced: true,
        kind: event.kind.as_str(),
        user_id: event.user_id,
        group_id: event.group_id,
        names: (!event.names.is_empty()).then(|| event.names.join("\n")),
        payload,
        actor: tx.actor(),
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_from_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::parse("dsync.user.suspended"), None);
    }
}
