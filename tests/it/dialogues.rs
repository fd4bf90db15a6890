//! Recorded dialogues: what identity providers send, and what the RFCs print as examples, replayed
//! against a real server on both databases. One file in `dialogues/` is one test and one directory.
//!
//! A file reads like the transcript that `curl -v` prints. Blank lines divide it into blocks, and a
//! block with a request in it is a step:
//!
//! ```text
//! # Okta gives the group another name. It sends the id along.
//! > PATCH /Groups/{group}
//! > Content-Type: application/scim+json; charset=utf-8
//! {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
//!  "Operations": [{"op": "replace", "value": {"id": "{group}", "displayName": "Makers"}}]}
//! < 204
//! * dsync.group.updated {group} was {"name": "Engineers"}
//! ```
//!
//! - `#` says what the client does and why. Each step says so.
//! - `>` is the request line, its path below the directory's base URL, and then the headers; the lines
//!   after them are the body. URLs are sent as they stand, but for characters that no URL can have. The
//!   directory's token is sent unless there is an `Authorization`, which is sent as it stands, and not
//!   at all if it is empty. A block of nothing but headers sets those of all requests after it.
//! - `<` is the status, and then the headers that the answer must have; the lines after them are its
//!   body. An error has its `scimType` beside the status (`< 400 noTarget`), and must be one in all
//!   other respects too. An answer with a body is `application/scim+json`, holds no `null`, and is
//!   spoken of.
//! - `*` are the events that the request made: all of them, in order, each with the ids of its user and
//!   its group, and if one likes with attributes that it says were different before. No such line
//!   means: no event.
//!
//! In the body of an answer, objects hold at least what is expected and arrays hold exactly that.
//! `"name="` in place of `"name"` means: this and nothing else, however deep. `null` means absent,
//! `"*"` anything at all, and `"!x"` anything but `x`. An array with `"..."` in it may hold more, in any
//! order.
//!
//! `{name}` stands for a value. Where an answer first has it, it takes the answer's; from then on that is
//! what it means, in requests, answers and events. A name that occurs only once is a mistake. `{base}`
//! and `{token}` are there from the start. A second passes before each step, so a time that
//! stays the same does so because nothing was written.

mod judge;
mod transcript;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rollcall::outbound::{ApiClient, ApiResponse};
use serde_json::Value;

use crate::support::world::events;
use crate::support::{Idp, TestApp};
use judge::{Judge, Names};
use transcript::Step;

const SCIM_JSON: &str = "application/scim+json";

/// Makes a test on each database of each file named.
macro_rules! dialogues {
    ($($name:ident),* $(,)?) => {
        on_both! { $($name),* }

        const NAMED: &[&str] = &[$(stringify!($name)),*];

        $(
            async fn $name(app: TestApp) {
                replay(&app, stringify!($name)).await;
            }
        )*
    };
}

dialogues! {
    bulk,
    cursor,
    cyberark_and_others,
    entra,
    entra_aadoptscim062020,
    etag,
    filters,
    google,
    jumpcloud,
    okta,
    onelogin,
    patch_cases,
    pingfederate,
    pingone,
    rfc7643,
    rfc7644,
    rippling,
    search,
    sort,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/dialogues")
}

/// Plays a file and fails with everything in it that did not go as recorded.
async fn replay(app: &TestApp, name: &str) {
    let file = format!("{name}.dialogue");
    let text = std::fs::read_to_string(folder().join(&file)).unwrap();
    let failures = play(app, &text).await.unwrap_or_else(|fault| vec![fault]);
    let failures: Vec<String> = failures
        .iter()
        .map(|failure| format!("{file}:{failure}"))
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Plays a dialogue in a new directory; an error if it cannot be read. Returns a paragraph for each
/// step that went otherwise, which begins with its line.
async fn play(app: &TestApp, text: &str) -> Result<Vec<String>, String> {
    let steps = transcript::read(text)?;
    let mut stage = Stage::new(app).await;
    let mut failures = Vec::new();
    for step in &steps {
        app.advance_seconds(1);
        let differences = stage.perform(step).await;
        if !differences.is_empty() {
            let differences = differences.join("\n  ");
            failures.push(format!("{}: {}\n  {differences}\n", step.line, step.title));
        }
    }
    Ok(failures)
}

/// A directory, its provider, and what is known of it by now.
struct Stage<'a> {
    app: &'a TestApp,
    idp: Idp,
    client: ApiClient,
    names: Names,
    /// How many events have been looked at.
    seen: usize,
}

impl<'a> Stage<'a> {
    async fn new(app: &'a TestApp) -> Self {
        let idp = app.idp().await;
        let known = [("base", &idp.base_url), ("token", &idp.token)];
        let names = known.map(|(name, text)| (name.to_owned(), Value::from(text.as_str())));
        Self {
            app,
            client: ApiClient::new().unwrap(),
            names: Names::new(BTreeMap::from(names)),
            seen: 0,
            idp,
        }
    }

    /// Sends a request, and says what came of it otherwise than expected.
    async fn perform(&mut self, step: &Step<'_>) -> Vec<String> {
        let answer = match self.send(step).await {
            Ok(answer) => answer,
            Err(fault) => return vec![fault],
        };
        let log = events(self.app, &self.idp.directory_id).await;
        let mut judge = Judge::new(&mut self.names);
        judge.answer(step, &answer);
        judge.events(&step.events, &log[self.seen..]);
        let mut differences = judge.into_differences();
        if !differences.is_empty() {
            differences.push(format!("the answer was {} {}", answer.status, answer.body));
        }
        self.seen = log.len();
        differences
    }

    async fn send(&self, step: &Step<'_>) -> Result<ApiResponse, String> {
        let mut bearer = Some(self.idp.token.as_str());
        let mut content_type = SCIM_JSON;
        let mut others = Vec::new();
        for (name, value) in &step.headers {
            match name.to_ascii_lowercase().as_str() {
                "content-type" => content_type = value,
                "authorization" => {
                    bearer = None;
                    others.push((*name, self.names.fill(value)?));
                }
                _ => others.push((*name, self.names.fill(value)?)),
            }
        }
        let others: Vec<(&str, &str)> = others
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let url = format!("{}{}", self.idp.base_url, self.names.fill(step.path)?);
        let body = self.names.fill_json(&step.body)?;
        let body = (!body.is_empty()).then_some(body);
        let sent = self
            .client
            .send(step.method, &url, bearer, content_type, body, &others);
        sent.await.map_err(|error| error.to_string())
    }
}

#[test]
fn every_file_is_replayed() {
    let found: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| Some(file.strip_suffix(".dialogue")?.to_owned()))
        .collect();

    let named: BTreeSet<String> = NAMED.iter().map(|&name| name.to_owned()).collect();

    assert_eq!(found, named);
}

on_both! {
    what_goes_as_recorded_passes,
    what_goes_otherwise_fails,
}

/// Makes a user, as the first step of the dialogues below.
const CREATES: &str = r#"
# Creates Ada.
> POST /Users
{"userName": "ada", "name": {"givenName": "Ada", "familyName": "Lovelace"}}
"#;

async fn what_goes_as_recorded_passes(app: TestApp) {
    let text = format!(
        r#"{CREATES}< 201
< Location: {{base}}/Users/{{ada}}
{{"meta": {{"location": "{{base}}/Users/{{ada}}", "created": "*", "version": "!x"}},
 "schemas": ["...", "urn:ietf:params:scim:schemas:core:2.0:User"],
 "id": "{{ada}}", "userName": "ada", "title": null,
 "name=": {{"familyName": "Lovelace", "givenName": "Ada"}}}}
* dsync.activated
* dsync.user.created {{ada}}

# Asks without a token.
> GET /Users
> Authorization:
< 401

# Gives her a title.
> PATCH /Users/{{ada}}
{{"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
 "Operations": [{{"op": "add", "path": "title", "value": "Countess"}}]}}
< 200
{{"id": "{{ada}}"}}
* dsync.user.updated {{ada}} was {{"job_title": null}}
"#
    );

    let failures = play(&app, &text).await.unwrap();

    assert!(failures.is_empty(), "{failures:#?}");
}

/// The end of a step that begins with [`CREATES`], and what must be said about it.
const OTHERWISE: [(&str, &str); 17] = [
    ("< 200\n{\"id\": \"*\"}", "the status is 201, not 200"),
    ("< 409 uniqueness", "the status is 201, not 409"),
    ("< 201", "the body is not spoken of"),
    (
        "< 201\n{\"userName\": \"bob\"}",
        r#"userName is "ada", not "bob""#,
    ),
    (
        "< 201\n{\"userName\": \"!ada\"}",
        r#"userName is "ada", which it must not be"#,
    ),
    ("< 201\n{\"title\": \"*\"}", "title is absent"),
    (
        "< 201\n{\"userName\": null}",
        r#"userName is "ada", not absent"#,
    ),
    (
        "< 201\n{\"name=\": {\"givenName\": \"Ada\"}}",
        "name has familyName, unasked",
    ),
    ("< 201\n{\"name\": \"Ada\"}", "name is {"),
    ("< 201\n{\"schemas\": []}", "schemas has 1 elements, not 0"),
    (
        "< 201\n{\"schemas\": [\"urn:x\", \"...\"]}",
        r#"schemas has no "urn:x""#,
    ),
    (
        "< 201\n< Location: elsewhere\n{\"id\": \"*\"}",
        "the header Location is",
    ),
    (
        "< 201\n< Retry-After: *\n{\"id\": \"*\"}",
        "the header Retry-After is absent",
    ),
    (
        "< 201\n{\"id\": \"*\"}\n* dsync.activated",
        "there is an event more: dsync.user.created",
    ),
    (
        "< 201\n{\"id\": \"{ada}\"}\n* dsync.activated\n* dsync.user.updated {ada}",
        "event 2 is dsync.user.created",
    ),
    (
        "< 201\n{\"id\": \"{ada}\"}\n* dsync.activated\n* dsync.user.created {ada}\n* dsync.activated",
        "there is no event dsync.activated",
    ),
    (
        "< 201\n{\"id\": \"{ada}\"}\n* dsync.activated\n* dsync.user.created {ada} was {\"x\": 1}",
        "event 2: x was the same before",
    ),
];

async fn what_goes_otherwise_fails(app: TestApp) {
    for (end, said) in OTHERWISE {
        let failures = play(&app, &format!("{CREATES}{end}\n")).await.unwrap();

        assert_eq!(failures.len(), 1, "{end}");
        assert!(
            failures[0].starts_with("2: Creates Ada."),
            "{}",
            failures[0]
        );
        assert!(failures[0].contains(said), "{said}: {}", failures[0]);
    }
}
