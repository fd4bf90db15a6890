//! The HTTP request that carries an event: its headers, signed at the moment of sending. Pure.

use super::endpoint::{Keys, Role};
use super::signature;
use super::stream::Sending;
use crate::ids::EventId;

/// The header that says what an event is sent once more for.
pub fn replay_mark(mark: &str) -> (String, String) {
    ("Rollcall-Replay".to_owned(), mark.to_owned())
}

/// The headers of one attempt, besides `Content-Type`, `User-Agent` and those that the endpoint wants.
///
/// `generation` tells the receiver which history the sequences belong to.
pub fn headers(
    sending: &Sending,
    keys: &Keys,
    generation: i32,
    now_ms: i64,
) -> Vec<(String, String)> {
    let offer = &sending.offer;
    let mut headers = signatures(keys, offer.event_id, &offer.payload, now_ms);
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    add("Rollcall-Directory", offer.directory_id.to_string());
    add("Rollcall-Attempt", sending.attempt.to_string());
    add("Rollcall-Generation", generation.to_string());
    if let Some(sequence) = offer.sequence {
        add("Rollcall-Sequence", sequence.to_string());
        add("Rollcall-Previous", offer.previous.to_string());
        add("Rollcall-After", offer.after.clone());
    }
    if sending.is_late {
        add("Rollcall-Replay", "late".to_owned());
    }
    headers
}

/// The headers that prove where a body comes from.
///
/// `WorkOS-Signature` has exactly one signature, by the current secret, as several SDKs refuse more; that by
/// a second secret goes into a header of its own. Standard Webhooks has room for all.
pub fn signatures(keys: &Keys, id: EventId, body: &str, now_ms: i64) -> Vec<(String, String)> {
    let id = id.to_string();
    let seconds = now_ms.div_euclid(1_000);
    let current = keys.current.expose();
    let mut headers = vec![("WorkOS-Signature", signature::workos(current, now_ms, body))];
    let mut standard: Vec<String> = signature::standard(current, &id, seconds, body)
        .into_iter()
        .collect();
    if let Some(second) = keys.second_at(now_ms) {
        let secret = second.secret.expose();
        let name = match second.role {
            Role::Next => "Rollcall-Signature-Next",
            Role::Previous => "Rollcall-Signature-Previous",
        };
        headers.push((name, signature::workos(secret, now_ms, body)));
        standard.extend(signature::standard(secret, &id, seconds, body));
    }
    let signer = keys.signer.as_ref();
    standard.extend(signer.map(|signer| signature::asymmetric(signer, &id, seconds, body)));
    if !standard.is_empty() {
        headers.push(("webhook-signature", standard.join(" ")));
    }
    headers.push(("webhook-timestamp", seconds.to_string()));
    headers.push(("webhook-id", id));
    headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
