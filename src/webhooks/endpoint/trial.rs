//! An event that never happened, sent to see whether a receiver verifies and reads what we send.
//!
//! It is not in the log and has no sequence, and `Rollcall-Replay: test` says what it is. What it holds is
//! awkward on purpose: keys that JavaScript reorders, numbers that it writes differently, quotes, and
//! characters beyond the first 65,536.

use serde_json::{Value, json};
use url::Url;

use super::Endpoint;
use crate::actor::Actor;
use crate::audit;
use crate::clock;
use crate::events::Kind;
use crate::ids::{DirectoryGroupId, DirectoryId, DirectoryUserId, EndpointId, EventId};
use crate::ids::{OrganizationId, ScimTokenId};
use crate::json::canonical;
use crate::outbound::{Outcome, WebhookClient};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};
use crate::webhooks::{endpoint, request};

struct Note(Actor, EndpointId, Kind);

impl UseCase for Note {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        let Self(actor, id, kind) = self;
        let entry = audit::Entry::of_installation("webhook_endpoint.tested", id);
        let entry = entry.with(json!({"type": kind.as_str()}));
        Ok(audit::record(tx, *actor, entry).await?)
    }
}

/// Sends an event of this type to an endpoint at once, and waits for the answer.
///
/// # Errors
/// The database fails.
pub async fn send(
    store: &Store,
    actor: Actor,
    client: &WebhookClient,
    endpoint: &Endpoint,
    url: &Url,
    kind: Kind,
    now_ms: i64,
) -> Result<Outcome, storage::Error> {
    let note = Note(actor, endpoint.row.id, kind);
    store.write(Lane::System, note).await?;
    let (directory_id, event_id) = (DirectoryId::generate(), EventId::generate());
    let body = body(kind, event_id, directory_id, now_ms);
    let mut headers = endpoint.headers.all().to_vec();
    headers.extend(request::signatures(&endpoint.keys, event_id, &body, now_ms));
    for (name, value) in [
        ("Rollcall-Directory", directory_id.to_string()),
        ("Rollcall-Attempt", "1".to_owned()),
        ("Rollcall-Replay", "test".to_owned()),
    ] {
        headers.push((name.to_owned(), value));
    }
    let within = endpoint::Options::of(&endpoint.row).timeout;
    Ok(client.post(url, &headers, &body, within).await)
}

fn body(kind: Kind, id: EventId, directory_id: DirectoryId, now_ms: i64) -> String {
    let now = clock::text(clock::from_ms(now_ms));
    canonical(&json!({
        "object": "event",
        "id": id,
        "event": kind.as_str(),
        "data": data(kind, directory_id, &now),
        "created_at": now,
    }))
}

fn data(kind: Kind, directory_id: DirectoryId, now: &str) -> Value {
    let organization_id = OrganizationId::generate();
    let base = json!({
        "directory_id": directory_id, "organization_id": organization_id,
        "created_at": now, "updated_at": now, "raw_attributes": awkward(),
    });
    let with = |fields: Value| -> Value {
        let mut all = crate::json::fields(fields);
        all.extend(crate::json::fields(base.clone()));
        all.into()
    };
    let user = || {
        with(json!({
            "object": "directory_user", "id": DirectoryUserId::generate(), "idp_id": "test",
            "username": "zoe@example.com", "email": "zoe@example.com", "first_name": "Zoë \"Z\"",
            "last_name": "O'Neill 🦊", "name": "Zoë O'Neill 🦊", "job_title": null,
            "emails": [{"primary": true, "type": "work", "value": "zoe@example.com"}],
            "state": "active", "groups": [], "custom_attributes": awkward(),
        }))
    };
    let group = || {
        with(json!({
            "object": "directory_group", "id": DirectoryGroupId::generate(), "idp_id": "test",
            "name": "R&D </group> 𝔘𝔫𝔦",
        }))
    };
    match kind {
        Kind::Activated | Kind::Deleted => json!({
            "object": "directory", "id": directory_id, "organization_id": organization_id,
            "external_key": "test", "type": "generic scim v2.0", "state": "active", "domains": [],
            "name": "Tëst \\ \"directory\" 🗂", "created_at": now, "updated_at": now,
        }),
        Kind::UserCreated | Kind::UserUpdated | Kind::UserDeleted => user(),
        Kind::GroupCreated | Kind::GroupUpdated | Kind::GroupDeleted => group(),
        Kind::UserAdded | Kind::UserRemoved => {
            json!({"directory_id": directory_id, "user": user(), "group": group()})
        }
        Kind::TokenCreated | Kind::TokenRevoked => json!({
            "object": "directory_token", "id": ScimTokenId::generate(), "directory_id": directory_id,
            "organization_id": organization_id, "token_suffix": "test", "created_at": now,
        }),
    }
}

fn awkward() -> Value {
    json!({
        "z": 1.0, "10": "ten", "2": "two", "quotes": "\"'`\\/ \t\u{7f}", "emoji": "👩‍👩‍👧 🦊",
        "beyond": "\u{10ffff}\u{2028}", "numbers": [1e21, -0.0, 1e-7, 9_007_199_254_740_991_i64],
        "markup": "</script><b>&amp;", "empty": {}, "null": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_body_that_javascript_would_write_the_same() {
        for kind in Kind::all() {
            let body = body(kind, EventId::generate(), DirectoryId::generate(), 0);
            let read: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(read["event"], kind.as_str());
            assert_eq!(canonical(&read), body);
        }
        let user = body(
            Kind::UserCreated,
            EventId::generate(),
            DirectoryId::generate(),
            0,
        );
        assert!(user.contains(r#""2":"two","10":"ten","z":1,"#), "{user}");
    }
}
