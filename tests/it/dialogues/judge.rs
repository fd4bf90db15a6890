//! Compares what came of a request with what a dialogue says, and says what is different.

use std::collections::BTreeMap;

use rollcall::outbound::ApiResponse;
use rollcall::storage::tables::events;
use serde_json::{Value, json};

use super::SCIM_JSON;
use super::transcript::Step;

/// In an array: it may hold more.
const MORE: &str = "...";

/// What the names in braces stand for by now.
#[derive(Clone, Debug)]
pub(super) struct Names(BTreeMap<String, Value>);

impl Names {
    pub(super) fn new(known: BTreeMap<String, Value>) -> Self {
        Self(known)
    }

    /// Puts values in the place of their names.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        self.fill_with(text, |value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        })
    }

    /// The same in JSON, where texts stand between quotes.
    pub(super) fn fill_json(&self, text: &str) -> Result<String, String> {
        self.fill_with(text, |value| {
            let json = value.to_string();
            let between = json
                .strip_prefix('"')
                .and_then(|json| json.strip_suffix('"'));
            between.unwrap_or(&json).to_owned()
        })
    }

    fn fill_with(&self, text: &str, show: impl Fn(&Value) -> String) -> Result<String, String> {
        let mut filled = text.to_owned();
        for name in names_in(text) {
            let value = self.0.get(name);
            let value = value.ok_or_else(|| format!("nothing is called {{{name}}} yet"))?;
            filled = filled.replace(&format!("{{{name}}}"), &show(value));
        }
        Ok(filled)
    }
}

/// The names in braces, each as often as it occurs. Small letters, digits and underscores make a name, so
/// no JSON is taken for one.
pub(super) fn names_in(text: &str) -> Vec<&str> {
    let is_name = |name: &&str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.split('{')
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('}')?.0))
        .filter(is_name)
        .collect()
}

/// Looks at one answer and its events, and learns names from them.
pub(super) struct Judge<'n> {
    names: &'n mut Names,
    differences: Vec<String>,
}

impl<'n> Judge<'n> {
    pub(super) fn new(names: &'n mut Names) -> Self {
        Self {
            names,
            differences: Vec::new(),
        }
    }

    pub(super) fn into_differences(self) -> Vec<String> {
        self.differences
    }

    fn say(&mut self, difference: String) {
        self.differences.push(difference);
    }

    /// Status, body and headers.
    pub(super) fn answer(&mut self, step: &Step<'_>, answer: &ApiResponse) {
        if answer.status != step.status {
            self.say(format!(
                "the status is {}, not {}",
                answer.status, step.status
            ));
        }
        let body = self.body_of(answer);
        if step.status >= 400 {
            self.compare("", &error(step), body.as_ref(), false);
        }
        match &step.answer {
            Some(expected) => self.compare("", expected, body.as_ref(), false),
            None if step.status < 400 && body.is_some() => {
                self.say("the body is not spoken of".to_owned());
            }
            None => {}
        }
        for (name, expected) in &step.answer_headers {
            let actual = answer.header(name).map(Value::from);
            self.text(&format!("the header {name}"), expected, actual.as_ref());
        }
    }

    fn body_of(&mut self, answer: &ApiResponse) -> Option<Value> {
        if answer.body.is_empty() {
            return None;
        }
        let kind = answer.header("Content-Type");
        if kind != Some(SCIM_JSON) {
            self.say(format!("the Content-Type is {kind:?}"));
        }
        match serde_json::from_str(&answer.body) {
            Ok(body) => {
                if holds_null(&body) {
                    self.say("the body holds null".to_owned());
                }
                Some(body)
            }
            Err(error) => {
                self.say(format!("the body is no JSON: {error}"));
                None
            }
        }
    }

    /// All events of one request, in order.
    pub(super) fn events(&mut self, expected: &[&str], actual: &[events::Model]) {
        for (index, text) in expected.iter().enumerate() {
            match actual.get(index) {
                Some(event) => self.event(index + 1, text, event),
                None => self.say(format!("there is no event {text}")),
            }
        }
        for event in actual.iter().skip(expected.len()) {
            self.say(format!("there is an event more: {}", shown(event)));
        }
    }

    fn event(&mut self, number: usize, expected: &str, event: &events::Model) {
        let (head, was) = expected.split_once(" was ").unwrap_or((expected, "{}"));
        let actual = shown(event);
        match self.names.fill(head) {
            Ok(head) if head == actual => {}
            Ok(head) => self.say(format!("event {number} is {actual}, not {head}")),
            Err(fault) => self.say(fault),
        }
        let payload: Value = serde_json::from_str(&event.payload).unwrap();
        let previous = &payload["data"]["previous_attributes"];
        let Ok(Value::Object(was)) = serde_json::from_str(was) else {
            self.say(format!("event {number}: {was} is no object"));
            return;
        };
        // Here `null` is a value: there was none before.
        for (name, expected) in was {
            match previous.get(&name) {
                Some(actual) if *actual == expected => {}
                Some(actual) => {
                    self.say(format!(
                        "event {number}: {name} was {actual}, not {expected}"
                    ));
                }
                None => self.say(format!("event {number}: {name} was the same before")),
            }
        }
    }

    /// Whether `actual` is as `expected` says; `exact` if it must not hold anything else.
    fn compare(&mut self, place: &str, expected: &Value, actual: Option<&Value>, exact: bool) {
        match (expected, actual) {
            (Value::Null, None) => {}
            (Value::Null, Some(actual)) => self.say(format!("{place} is {actual}, not absent")),
            (Value::String(text), actual) => self.text(place, text, actual),
            (_, None) => self.say(format!("{place} is absent")),
            (Value::Object(expected), Some(Value::Object(actual))) => {
                for (name, inner) in expected {
                    let (name, is_whole) = whole(name);
                    self.compare(
                        &under(place, name),
                        inner,
                        actual.get(name),
                        exact || is_whole,
                    );
                }
                if exact {
                    let is_named = |key: &str| expected.keys().any(|name| whole(name).0 == key);
                    for name in actual.keys().filter(|key| !is_named(key)) {
                        self.say(format!("{place} has {name}, unasked"));
                    }
                }
            }
            (Value::Array(expected), Some(Value::Array(actual))) => {
                self.array(place, expected, actual, exact);
            }
            (expected, Some(actual)) if expected == actual => {}
            (expected, Some(actual)) => self.say(format!("{place} is {actual}, not {expected}")),
        }
    }

    fn array(&mut self, place: &str, expected: &[Value], actual: &[Value], exact: bool) {
        if expected.contains(&Value::from(MORE)) {
            for wanted in expected.iter().filter(|value| **value != MORE) {
                if !actual
                    .iter()
                    .any(|found| self.is_like(wanted, found, exact))
                {
                    self.say(format!("{place} has no {wanted}"));
                }
            }
            return;
        }
        if expected.len() != actual.len() {
            let (found, wanted) = (actual.len(), expected.len());
            self.say(format!("{place} has {found} elements, not {wanted}"));
        }
        for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
            self.compare(&format!("{place}[{index}]"), expected, Some(actual), exact);
        }
    }

    /// Looks without saying anything; what it learns of names counts if all is well.
    fn is_like(&mut self, expected: &Value, actual: &Value, exact: bool) -> bool {
        let mut names = self.names.clone();
        let mut judge = Judge::new(&mut names);
        judge.compare("", expected, Some(actual), exact);
        let is_like = judge.differences.is_empty();
        if is_like {
            *self.names = names;
        }
        is_like
    }

    /// A text that may be a name, `*`, or begin with `!`.
    fn text(&mut self, place: &str, expected: &str, actual: Option<&Value>) {
        let Some(actual) = actual else {
            self.say(format!("{place} is absent"));
            return;
        };
        if expected == "*" {
            return;
        }
        let (expected, is_other) = match expected.strip_prefix('!') {
            Some(expected) => (expected, true),
            None => (expected, false),
        };
        match self.value_of(expected, actual) {
            Ok(value) if (value == *actual) != is_other => {}
            Ok(_) if is_other => self.say(format!("{place} is {actual}, which it must not be")),
            Ok(value) => self.say(format!("{place} is {actual}, not {value}")),
            Err(fault) => self.say(format!("{place}: {fault}")),
        }
    }

    /// What an expected text means: the value of a name, or the text with names filled in. A name that
    /// comes up for the first time takes what is there.
    fn value_of(&mut self, expected: &str, actual: &Value) -> Result<Value, String> {
        if let [name] = names_in(expected).as_slice()
            && expected.len() == name.len() + 2
        {
            let known = self.names.0.entry((*name).to_owned());
            return Ok(known.or_insert_with(|| actual.clone()).clone());
        }
        if let Some(text) = actual.as_str() {
            self.learn(expected, text);
        }
        self.names.fill(expected).map(Value::String)
    }

    /// Takes the value of an unknown name out of the text around it.
    fn learn(&mut self, expected: &str, actual: &str) {
        let is_unknown = |name: &&str| !self.names.0.contains_key(*name);
        let Some(name) = names_in(expected).into_iter().find(is_unknown) else {
            return;
        };
        let around = expected.split_once(&format!("{{{name}}}"));
        let around =
            around.map(|(before, after)| (self.names.fill(before), self.names.fill(after)));
        if let Some((Ok(before), Ok(after))) = around {
            let value = actual.strip_prefix(before.as_str());
            if let Some(value) = value.and_then(|rest| rest.strip_suffix(after.as_str())) {
                self.names.0.insert(name.to_owned(), value.into());
            }
        }
    }
}

/// The body of every error (RFC 7644 section 3.12).
fn error(step: &Step<'_>) -> Value {
    let scim_type = Some(step.scim_type).filter(|word| !word.is_empty());
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": step.status.to_string(),
        "scimType": scim_type,
        "detail": "!",
    })
}

/// An event's kind, and the ids of its user and its group.
fn shown(event: &events::Model) -> String {
    let ids = [event.user_id, event.group_id].into_iter().flatten();
    let ids = ids.map(|id| format!(" {id}"));
    std::iter::once(event.kind.clone()).chain(ids).collect()
}

fn under(place: &str, name: &str) -> String {
    if place.is_empty() {
        name.to_owned()
    } else {
        format!("{place}.{name}")
    }
}

/// Takes the `=` off a name that has one.
fn whole(name: &str) -> (&str, bool) {
    match name.strip_suffix('=') {
        Some(name) => (name, true),
        None => (name, false),
    }
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(holds_null),
        Value::Object(entries) => entries.values().any(holds_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
