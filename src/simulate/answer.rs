//! What a provider makes of an answer: whether it is one that it expects, how long it is asked to
//! wait, which id a resource was given. Pure.

use std::time::Duration;

use serde_json::Value;

use super::{Failure, session::Ask};
use crate::outbound::ApiResponse;

/// The longest pause taken, whatever the server asks for.
const PAUSE_SECONDS_MAX: u64 = 30;
/// The longest part of an answer that is quoted in a failure.
const QUOTE_CHARACTERS_MAX: usize = 160;

/// The `id` of the first resource of a list, if it lists any.
pub(super) fn first_id(list: &Value) -> Option<String> {
    list.pointer("/Resources/0/id")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

/// The `id` of a resource that was just created.
pub(super) fn created_id(request: &str, created: &Value) -> Result<String, Failure> {
    let id = created
        .get("id")
        .and_then(Value::as_str)
        .filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or_else(|| Failure {
        request: request.to_owned(),
        status: Some(201),
        detail: "the answer has no id".to_owned(),
    })
}

/// The `id` that the server once gave, without which there is nothing to say about a resource.
pub(super) fn known_id(id: Option<&String>, name: &str) -> Result<String, Failure> {
    id.cloned().ok_or_else(|| Failure {
        request: format!("(nothing sent about {name})"),
        status: None,
        detail: "it was never created".to_owned(),
    })
}

/// Whether the provider accepts an answer: its body, or what is wrong with it.
pub(super) fn check(ask: &Ask, answer: &ApiResponse) -> Result<Value, Failure> {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    let failure = |detail: String| Failure {
        request: name(ask),
        status: Some(answer.status),
        detail,
    };
    if !ask.accepts.contains(&answer.status) {
        let detail = body.get("detail").and_then(Value::as_str);
        let quoted = || answer.body.chars().take(QUOTE_CHARACTERS_MAX).collect();
        return Err(failure(detail.map_or_else(quoted, str::to_owned)));
    }
    let is_list =
        !ask.query.is_empty() && ask.method == "GET" && ask.path.matches('/').count() == 1;
    if is_list && !body.get("totalResults").is_some_and(Value::is_u64) {
        return Err(failure(
            "the answer is no ListResponse: totalResults is missing".to_owned(),
        ));
    }
    if answer.status != 204 && body.is_null() {
        return Err(failure("the answer has no JSON body".to_owned()));
    }
    Ok(body)
}

/// Method and path.
pub(super) fn name(ask: &Ask) -> String {
    format!("{} {}", ask.method, ask.path)
}

/// Whole seconds of `Retry-After` are obeyed; otherwise the pauses double from one second.
pub(super) fn pause(answer: &ApiResponse, tries: u32) -> Duration {
    let asked = answer
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    let asked = asked.and_then(|(_, value)| value.trim().parse::<u64>().ok());
    Duration::from_secs(
        asked
            .unwrap_or(1 << tries.min(6) >> 1)
            .min(PAUSE_SECONDS_MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> ApiResponse {
        ApiResponse {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
        }
    }

    #[test]
    fn an_unexpected_answer_is_told_in_the_servers_words() {
        let ask = Ask {
            method: "POST",
            path: "/Users".into(),
            accepts: &[201],
            ..Ask::default()
        };
        let refused = check(
            &ask,
            &answer(409, r#"{"status":"409","detail":"userName is taken"}"#),
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "POST /Users: 409, userName is taken"
        );
        assert!(check(&ask, &answer(201, "")).is_err());
        assert!(check(&ask, &answer(201, r#"{"id":"1"}"#)).is_ok());
    }

    #[test]
    fn a_match_query_needs_a_list() {
        let ask = Ask {
            method: "GET",
            path: "/Users".into(),
            query: "filter=x".into(),
            accepts: &[200],
            ..Ask::default()
        };
        assert!(check(&ask, &answer(200, "{}")).is_err());
        assert!(check(&ask, &answer(200, r#"{"totalResults":0}"#)).is_ok());
    }

    #[test]
    fn patience_is_bounded() {
        let mut busy = answer(429, "");
        assert_eq!(
            (pause(&busy, 1).as_secs(), pause(&busy, 3).as_secs()),
            (1, 4)
        );
        busy.headers
            .push(("Retry-After".to_owned(), "7".to_owned()));
        assert_eq!(pause(&busy, 1).as_secs(), 7);
        busy.headers = vec![("retry-after".to_owned(), "86400".to_owned())];
        assert_eq!(pause(&busy, 1).as_secs(), PAUSE_SECONDS_MAX);
    }
}
