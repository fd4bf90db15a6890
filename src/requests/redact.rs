//! What of a request may be written down: no secrets, and no more than so many bytes. Pure.
//!
//! Passwords go wherever a body can hold one; tokens and keys of ours go by their prefixes. Of a query,
//! the values of parameters that SCIM does not know are left out, because nobody knows what they are.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::telemetry;

/// How many bytes of a request's body are kept.
const REQUEST_BODY_BYTES: usize = 16 * 1_024;
/// How many bytes of an answer's body, and of any other text, are kept.
const RESPONSE_BODY_BYTES: usize = 4 * 1_024;
/// How many bytes of what a client calls itself are kept.
const USER_AGENT_BYTES: usize = 255;
/// No token is longer: what a cut leaves of one is within so many bytes before it.
const TOKEN_BYTES_MAX: usize = 128;
/// What stands where something was left out.
const LEFT_OUT: &str = "…";
/// What stands where the rest was left out.
const CUT: &str = "… (cut)";
/// The parameters of RFC 7644 and RFC 9865, in lower case.
const PARAMETERS: [&str; 8] = [
    "attributes",
    "count",
    "cursor",
    "excludedattributes",
    "filter",
    "sortby",
    "sortorder",
    "startindex",
];

/// A body that is a JSON object.
pub fn body(body: &Map<String, Value>) -> String {
    let mut kept = Bounded {
        bytes: Vec::new(),
        bytes_max: REQUEST_BODY_BYTES + 2 * TOKEN_BYTES_MAX,
    };
    let is_whole = serde_json::to_writer(&mut kept, &Fields(body)).is_ok();
    bounded(&kept.bytes, is_whole, REQUEST_BODY_BYTES)
}

/// A body that is none. What a password in it is cannot be told, so that all goes that may hold one.
pub fn unread_body(bytes: &[u8]) -> String {
    let bytes_max = REQUEST_BODY_BYTES + 2 * TOKEN_BYTES_MAX;
    let kept = bytes.get(..bytes_max).unwrap_or(bytes);
    let text = String::from_utf8_lossy(kept);
    let folded = text.to_lowercase();
    if folded.contains("passw") || folded.contains("\\u00") {
        return "(left out: it is not JSON and may hold a password)".to_owned();
    }
    bounded(
        text.as_bytes(),
        kept.len() == bytes.len(),
        REQUEST_BODY_BYTES,
    )
}

/// The body of an answer, or any text of ours.
pub fn answer(text: &str) -> String {
    bounded(text.as_bytes(), true, RESPONSE_BODY_BYTES)
}

/// What a client calls itself.
pub fn user_agent(text: &str) -> String {
    let mut text = without_tokens(text.as_bytes());
    text.truncate(text.floor_char_boundary(USER_AGENT_BYTES));
    text
}

/// The path and the query.
pub fn target(path: &str, query: &str) -> String {
    let decoded = decoded(path);
    let safe = without_tokens(decoded.as_bytes());
    let mut text = if safe == decoded {
        path.to_owned()
    } else {
        safe
    };
    for (index, part) in query.split('&').enumerate() {
        if !query.is_empty() {
            text.push(if index == 0 { '?' } else { '&' });
            push_parameter(&mut text, part);
        }
    }
    bounded(text.as_bytes(), true, RESPONSE_BODY_BYTES)
}

fn push_parameter(text: &mut String, part: &str) {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    let (plain_name, plain_value) = (decoded(name), decoded(value));
    let is_known = PARAMETERS.contains(&plain_name.to_lowercase().as_str());
    let is_secret =
        !is_known || has_token(&plain_value) || plain_value.to_lowercase().contains("password");
    if has_token(&plain_name) {
        text.push_str(LEFT_OUT);
    } else if value.is_empty() || !is_secret {
        text.push_str(part);
    } else {
        text.push_str(name);
        text.push('=');
        text.push_str(LEFT_OUT);
    }
}

/// Whether a text holds a token or key of ours.
pub(super) fn has_token(text: &str) -> bool {
    telemetry::redact(text.as_bytes()) != text.as_bytes()
}

/// What percent-encoding hides.
fn decoded(text: &str) -> String {
    form_urlencoded::parse(text.as_bytes())
        .flat_map(|(name, value)| [name, value])
        .collect()
}

fn without_tokens(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&telemetry::redact(bytes)).replace('\0', "")
}

/// The text without tokens, cut at `bytes_max`. One that was cut before may end within a token.
fn bounded(bytes: &[u8], is_whole: bool, bytes_max: usize) -> String {
    let mut text = without_tokens(bytes);
    if is_whole && text.len() <= bytes_max {
        return text;
    }
    let known = if is_whole {
        text.len()
    } else {
        text.len().saturating_sub(TOKEN_BYTES_MAX)
    };
    text.truncate(text.floor_char_boundary(known.min(bytes_max)));
    text.push_str(CUT);
    text
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.bytes_max - self.bytes.len();
        if room == 0 {
            return Ok(0);
        }
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A value without what is secret in it.
struct Safe<'a>(&'a Value);

impl Serialize for Safe<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => Fields(fields).serialize(serializer),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Safe)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.0.serialize(serializer)
            }
        }
    }
}

/// The fields of an object without those that are secret.
struct Fields<'a>(&'a Map<String, Value>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sets_password = self.0.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("path") && value.as_str().is_some_and(is_password)
        });
        let is_safe = |name: &str, value: &Value| {
            let is_secret = is_password(name)
                || sets_password && name.eq_ignore_ascii_case("value")
                || name.eq_ignore_ascii_case("filter") && speaks_of_password(value);
            !is_secret
        };
        let fields = self.0.iter().filter(|(name, value)| is_safe(name, value));
        serializer.collect_map(fields.map(|(name, value)| (name, Safe(value))))
    }
}

fn speaks_of_password(filter: &Value) -> bool {
    filter.to_string().to_lowercase().contains("password")
}

/// Whether the name or path of an attribute, perhaps behind a URN, is that of a password.
fn is_password(name: &str) -> bool {
    const PASSWORD: &str = "password";
    let name = name.trim();
    let start = name.len().checked_sub(PASSWORD.len());
    let end = start.and_then(|start| name.get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(PASSWORD))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "rc_scim_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0OAPgj";

    fn of(value: &Value) -> String {
        body(value.as_object().unwrap())
    }

    #[test]
    fn passwords_go_wherever_they_are() {
        let urn = "urn:ietf:params:scim:schemas:core:2.0:User:password";
        for value in [
            json!({"userName": "ada", "password": "hunter2"}),
            json!({"userName": "ada", "Operations": [{"value": {"PassWord": "hunter2"}}]}),
            json!({"userName": "ada", "Operations": [{"path": "password", "value": "hunter2"}]}),
            json!({"userName": "ada", "Operations": [{"path": urn, "value": ["hunter2"]}]}),
            json!({"userName": "ada", urn: "hunter2"}),
            json!({"userName": "ada", "filter": "password eq \"hunter2\""}),
        ] {
            let text = of(&value);
            assert!(text.contains("ada") && !text.contains("hunter2"), "{text}");
        }
        for text in [
            "{\"PASSWORD\": \"hunter2\"",
            "{\"p\\u0061ssword\": \"hunter2\"",
        ] {
            assert!(!unread_body(text.as_bytes()).contains("hunter2"));
        }
    }

    #[test]
    fn tokens_go_also_where_a_text_is_cut() {
        assert_eq!(of(&json!({"title": TOKEN})), r#"{"title":"rc_scim_…"}"#);
        for spaces in 16_200..16_500 {
            let value =
                json!({"title": format!("{}{TOKEN}{}", " ".repeat(spaces), "x".repeat(500))});
            for text in [of(&value), unread_body(value.to_string().as_bytes())] {
                assert!(!text.contains("0123456789ABCDEF"), "{spaces}");
                assert!(text.ends_with(CUT));
                assert!(text.len() <= REQUEST_BODY_BYTES + CUT.len());
            }
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let text = of(&json!({"title": "é".repeat(20_000)}));
        assert!(text.len() <= REQUEST_BODY_BYTES + CUT.len() && text.ends_with(CUT));
        assert_eq!(user_agent(&"é".repeat(200)).len(), 254);
    }

    #[test]
    fn a_query_keeps_what_scim_knows() {
        let kept = "filter=userName%20eq%20%22ada%22&startIndex=1&aadOptscim062020";
        assert_eq!(
            target("/scim/v2/x/Users", kept),
            format!("/scim/v2/x/Users?{kept}")
        );
        assert_eq!(target("/x", ""), "/x");
        let secret = format!("token=secret&filter={TOKEN}&{TOKEN}&filter=Password%20pr&a=%72");
        assert_eq!(target("/x", &secret), "/x?token=…&filter=…&…&filter=…&a=…");
        let encoded = format!("/scim/v2/rc%5Fscim_{}", TOKEN.split_at(8).1);
        assert_eq!(target(&encoded, ""), "/scim/v2/rc_scim_…");
    }
}
