//! Webhook signatures: made and verified, in two forms. Pure.
//!
//! - [`workos`]: the `WorkOS-Signature` header, `t=<milliseconds>, v1=<hex>`, over `t.body`, with
//!   the secret's whole text as the key. The SDKs split on a comma and one space and several insist
//!   on exactly two parts, so the form is fixed to the character.
//! - [`standard`]: the `webhook-signature` header of Standard Webhooks, `v1,<Base64>`, over
//!   `id.timestamp.body`, with the Base64-decoded part after `whsec_` as the key.
//!
//!   [`asymmetric`] adds `v1a,<Base64>` to it, an Ed25519 signature of the same.
//!
//! The first two are HMAC-SHA256 over exactly the bytes sent, made anew on every attempt, as receivers
//! refuse a time more than a few minutes off. Verifying is for receivers: the demonstration's own,
//! and whoever wants a reference. It compares in constant time.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::secrets::Signer;

const SECRET_PREFIX: &str = "whsec_";
const SIGNATURE_BYTES: usize = 32;

/// Why a receiver does not accept a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A header does not have the form described above.
    #[error("the signature header is malformed")]
    Malformed,
    /// The time signed is too far in the past or in the future.
    #[error("the signature's time is outside the tolerance")]
    Stale,
    /// No signature fits the body and the secret.
    #[error("the signature does not fit the body")]
    Mismatch,
}

/// The three headers of a Standard Webhooks request.
#[derive(Clone, Copy, Debug)]
pub struct StandardHeaders<'a> {
    /// `webhook-id`
    pub id: &'a str,
    /// `webhook-timestamp`, in seconds
    pub timestamp: &'a str,
    /// `webhook-signature`: one or more signatures separated by spaces
    pub signature: &'a str,
}

/// The value of the `WorkOS-Signature` header.
pub fn workos(secret: &str, timestamp_ms: i64, body: &str) -> String {
    let signature = workos_mac(secret, &timestamp_ms.to_string(), body);
    let mut header = format!("t={timestamp_ms}, v1=");
    for byte in signature {
        // Writing to a String cannot fail.
        _ = write!(header, "{byte:02x}");
    }
    header
}

/// The value of the `webhook-signature` header.
///
/// `None` when the part of the secret after `whsec_` is not Base64: a secret taken over from
/// `WorkOS` may be such, and no Standard Webhooks library could verify with it.
pub fn standard(secret: &str, id: &str, timestamp_s: i64, body: &str) -> Option<String> {
    let key = standard_key(secret)?;
    let signature = standard_mac(&key, id, &timestamp_s.to_string(), body);
    Some(format!("v1,{}", STANDARD.encode(signature)))
}

/// A part of the `webhook-signature` header that can be checked with the public key alone.
pub fn asymmetric(signer: &Signer, id: &str, timestamp_s: i64, body: &str) -> String {
    let message = format!("{id}.{timestamp_s}.{body}");
    let signature = signer.sign(message.as_bytes());
    format!("v1a,{}", STANDARD.encode(signature))
}

/// A public key as text, as Standard Webhooks has it.
pub fn public_key(signer: &Signer) -> String {
    format!("whpk_{}", STANDARD.encode(signer.public_key()))
}

/// Verifies a `WorkOS-Signature` header as strictly as the strictest SDK: two parts, and a time
/// off by no more than the tolerance in either direction.
pub fn verify_workos(
    header: &str,
    secret: &str,
    body: &str,
    now_ms: i64,
    tolerance_ms: u64,
) -> Result<(), Refusal> {
    let (time, signature) = header.split_once(", ").ok_or(Refusal::Malformed)?;
    let timestamp = time.strip_prefix("t=").ok_or(Refusal::Malformed)?;
    let signature = signature.strip_prefix("v1=").ok_or(Refusal::Malformed)?;
    let signature = from_hex(signature).ok_or(Refusal::Malformed)?;
    let timestamp_ms = whole_number(timestamp)?;
    let expected = workos_mac(secret, timestamp, body);
    check(
        &expected,
        &signature,
        timestamp_ms.abs_diff(now_ms) <= tolerance_ms,
    )
}

/// Verifies the headers of a Standard Webhooks request; any one fitting signature will do.
pub fn verify_standard(
    headers: StandardHeaders<'_>,
    secret: &str,
    body: &str,
    now_s: i64,
    tolerance_s: u64,
) -> Result<(), Refusal> {
    let key = standard_key(secret).ok_or(Refusal::Mismatch)?;
    let timestamp_s = whole_number(headers.timestamp)?;
    let expected = standard_mac(&key, headers.id, headers.timestamp, body);
    let is_fresh = timestamp_s.abs_diff(now_s) <= tolerance_s;
    let mut refusal = Refusal::Malformed;
    for encoded in headers
        .signature
        .split(' ')
        .filter_map(|part| part.strip_prefix("v1,"))
    {
        let Ok(signature) = STANDARD.decode(encoded) else {
            continue;
        };
        match check(&expected, &signature, is_fresh) {
            Ok(()) => return Ok(()),
            Err(found) => refusal = found,
        }
    }
    Err(refusal)
}

fn check(expected: &[u8], given: &[u8], is_fresh: bool) -> Result<(), Refusal> {
    if !bool::from(expected.ct_eq(given)) {
        Err(Refusal::Mismatch)
    } else if is_fresh {
        Ok(())
    } else {
        Err(Refusal::Stale)
    }
}

fn workos_mac(secret: &str, timestamp: &str, body: &str) -> [u8; SIGNATURE_BYTES] {
    mac(secret.as_bytes(), &[timestamp, ".", body])
}

fn standard_mac(key: &[u8], id: &str, timestamp: &str, body: &str) -> [u8; SIGNATURE_BYTES] {
    mac(key, &[id, ".", timestamp, ".", body])
}

fn standard_key(secret: &str) -> Option<Vec<u8>> {
    let encoded = secret.strip_prefix(SECRET_PREFIX)?;
    STANDARD.decode(encoded).ok().filter(|key| !key.is_empty())
}

fn mac(key: &[u8], parts: &[&str]) -> [u8; SIGNATURE_BYTES] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        // RFC 2104: longer keys are hashed, shorter ones padded.
        unreachable!("HMAC takes a key of any length");
    };
    for part in parts {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// Digits only: a sign or white space would be another text than the one signed.
fn whole_number(text: &str) -> Result<i64, Refusal> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| is_digits)
        .ok_or(Refusal::Malformed)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const BODY: &str = r#"{"id":"event_01","event":"dsync.user.created","data":{"name":"Zoë"}}"#;
    const NOW_MS: i64 = 1_763_795_214_123;
    const NOW_S: i64 = 1_763_795_214;
    const TOLERANCE_MS: u64 = 180_000;
    const TOLERANCE_S: u64 = 300;
    // `openssl dgst -sha256 -hmac "$SECRET"` over `1763795214123.` and the body.
    const WORKOS: &str = "t=1763795214123, \
         v1=f74398509754a676fc1391efdd1a8b3051eab66b3e717961a10000450ae533ab";
    // Python's hmac with bytes(range(32)) over `msg_01.1763795214.` and the body.
    const STANDARD_HEADER: &str = "v1,z2dw+su8KcZNW4xpRvOTgHEe7EWRVSKD2hxU/m5VArI=";

    fn headers(signature: &str) -> StandardHeaders<'_> {
        StandardHeaders {
            id: "msg_01",
            timestamp: "1763795214",
            signature,
        }
    }

    #[test]
    fn signatures_are_the_ones_computed_elsewhere() {
        assert_eq!(workos(SECRET, NOW_MS, BODY), WORKOS);
        assert_eq!(
            standard(SECRET, "msg_01", NOW_S, BODY).unwrap(),
            STANDARD_HEADER
        );
    }

    #[test]
    fn the_example_that_the_standard_webhooks_libraries_test_with() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signature = standard(
            secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(
            signature.unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_that_is_not_base64_has_a_workos_signature_only() {
        let secret = "whsec_0FWAiVGkEfGBqqsJH4aNAGBJ4";
        assert!(standard(secret, "msg_01", NOW_S, BODY).is_none());
        let header = workos(secret, NOW_MS, BODY);
        assert_eq!(
            verify_workos(&header, secret, BODY, NOW_MS, TOLERANCE_MS),
            Ok(())
        );
    }

    #[test]
    fn what_we_sign_verifies_and_what_was_altered_does_not() {
        let verify = |secret, body| verify_workos(WORKOS, secret, body, NOW_MS, TOLERANCE_MS);
        assert_eq!(verify(SECRET, BODY), Ok(()));
        assert_eq!(verify(SECRET, "{}"), Err(Refusal::Mismatch));
        assert_eq!(verify("whsec_other", BODY), Err(Refusal::Mismatch));

        let verify = |secret, body| {
            verify_standard(headers(STANDARD_HEADER), secret, body, NOW_S, TOLERANCE_S)
        };
        assert_eq!(verify(SECRET, BODY), Ok(()));
        assert_eq!(verify(SECRET, "{}"), Err(Refusal::Mismatch));
        assert_eq!(verify("whsec_b3RoZXI=", BODY), Err(Refusal::Mismatch));
    }

    #[test]
    fn the_time_may_be_off_by_the_tolerance_and_no_more() {
        for (offset, expected) in [
            (180_000, Ok(())),
            (-180_000, Ok(())),
            (180_001, Err(Refusal::Stale)),
            (-180_001, Err(Refusal::Stale)),
        ] {
            let now = NOW_MS + offset;
            assert_eq!(
                verify_workos(WORKOS, SECRET, BODY, now, TOLERANCE_MS),
                expected
            );
        }
        for (offset, expected) in [(300, Ok(())), (-301, Err(Refusal::Stale))] {
            let now = NOW_S + offset;
            let verified =
                verify_standard(headers(STANDARD_HEADER), SECRET, BODY, now, TOLERANCE_S);
            assert_eq!(verified, expected);
        }
    }

    #[test]
    fn malformed_workos_headers_are_told_apart_from_wrong_ones() {
        let third_part = format!("{WORKOS}, v1=00");
        for header in [
            "",
            "t=1",
            "t=1,v1=00",
            "t=, v1=00",
            "t=+1763795214123, v1=00",
            "t=1763795214123, v1=zz",
            "t=1763795214123, v1=0",
            "v1=00, t=1763795214123",
            "t=99999999999999999999, v1=00",
            &third_part,
        ] {
            let verified = verify_workos(header, SECRET, BODY, NOW_MS, TOLERANCE_MS);
            assert_eq!(verified, Err(Refusal::Malformed), "{header:?}");
        }
        let empty = verify_workos("t=1763795214123, v1=", SECRET, BODY, NOW_MS, TOLERANCE_MS);
        assert_eq!(empty, Err(Refusal::Mismatch));
    }

    #[test]
    fn one_of_several_standard_signatures_is_enough() {
        let several = format!("v1a,AAAA v1,AAAA {STANDARD_HEADER}");
        let verify =
            |signature| verify_standard(headers(signature), SECRET, BODY, NOW_S, TOLERANCE_S);
        assert_eq!(verify(&several), Ok(()));
        assert_eq!(verify("v1,AAAA"), Err(Refusal::Mismatch));
        assert_eq!(verify("v2,AAAA"), Err(Refusal::Malformed));
        assert_eq!(verify(""), Err(Refusal::Malformed));
    }
}
