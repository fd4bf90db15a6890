//! The HTTP request that carries an event: its headers, signed at the moment of sending. Pure.

use super::signature;
use super::stream::Sending;
use crate::secrets::WebhookSecret;

/// The headers of one attempt, besides `Content-Type` and `User-Agent`.
///
/// `generation` tells the receiver which history the sequences belong to.
pub fn headers(
    sending: &Sending,
    secret: &WebhookSecret,
    generation: u32,
    now_ms: i64,
) -> Vec<(String, String)> {
    let offer = &sending.offer;
    let id = offer.event_id.to_string();
    let seconds = now_ms.div_euclid(1_000);
    let mut headers = vec![
        (
            "WorkOS-Signature",
            signature::workos(secret.expose(), now_ms, &offer.payload),
        ),
        ("Rollcall-Directory", offer.directory_id.to_string()),
        ("Rollcall-Attempt", sending.attempt.to_string()),
        ("Rollcall-Generation", generation.to_string()),
    ];
    if let Some(signed) = signature::standard(secret.expose(), &id, seconds, &offer.payload) {
        headers.push(("webhook-signature", signed));
    }
    headers.push(("webhook-timestamp", seconds.to_string()));
    headers.push(("webhook-id", id));
    if let Some(sequence) = offer.sequence {
        headers.push(("Rollcall-Sequence", sequence.to_string()));
        headers.push(("Rollcall-Previous", offer.previous.to_string()));
        headers.push(("Rollcall-After", offer.after.clone()));
    }
    if sending.is_late {
        headers.push(("Rollcall-Replay", "late".to_owned()));
    }
    headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
