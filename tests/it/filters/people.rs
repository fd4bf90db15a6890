//! A directory of people and groups whose names and values are chosen to be confused with one another.

use serde_json::{Map, Value, json};

use crate::support::choices::Choices;
use crate::support::people::{ENTERPRISE, GROUP, USER};
use crate::support::{Idp, TestApp};

/// Names that fold, sort, or look like patterns in ways that databases do not agree on.
pub(super) const NAMES: &[&str] = &[
    "ada",
    "ADA2",
    "Ada Lovelace",
    "ada.lovelace@example.com",
    "Ädä",
    "a\u{308}da\u{308}3",
    "zoë@example.com",
    "straße",
    "STRASSE2",
    "İstanbul",
    "istanbul",
    "ΟΔΟΣ",
    "οδοσ2",
    "ﬁnance",
    "finance2",
    "Ａｄａ４",
    "a%b",
    "a_b",
    "axb",
    "a\\b",
    "a'b",
    "a\"b",
    "100%",
    "~tilde",
    " leading",
    "trailing ",
    "tab\there",
    "\u{1}control",
    "\u{D7FF}last before surrogates",
    "\u{E000}first behind surrogates",
    "\u{FFFF}",
    "\u{10FFFF}last of all",
    "😀",
    "Z",
    "z2",
    "é",
    "null",
    "true",
    "42",
];

const TITLES: &[&str] = &[
    "Countess", "countess", "CEO", "", " ", "%", "Straße", "null",
];
const TYPES: &[&str] = &["work", "home", "Work", "other", ""];

/// The providers' own word for people of this directory.
pub(super) const FOREIGN: &str = "urn:acme:params:scim:schemas:2.0:User";

/// Fills a directory; a few seconds pass now and then.
pub(super) async fn populate(app: &TestApp, idp: &Idp, choices: &mut Choices) {
    let mut ids = Vec::new();
    for number in 0..110 {
        let created = idp.create_user(user(number, choices)).await.expect(201);
        ids.push(created["id"].as_str().unwrap().to_owned());
        app.advance_seconds(i64::from(choices.below(3) == 0));
    }
    for id in &ids {
        if choices.below(8) == 0 {
            app.advance_seconds(1);
            let title = json!([{"op": "replace", "path": "title", "value": "Changed"}]);
            idp.patch_user(id, title).await.expect(200);
        }
    }
    for number in 0..40 {
        let group = group(number, &ids, choices);
        idp.create_group(group).await.expect(201);
        app.advance_seconds(i64::from(choices.below(3) == 0));
    }
}

/// A name that nobody else has.
fn name(number: usize) -> String {
    match NAMES.get(number) {
        Some(name) => (*name).to_owned(),
        None => format!("{}-{number}", NAMES[number % NAMES.len()]),
    }
}

fn sometimes(map: &mut Map<String, Value>, choices: &mut Choices, name: &str, value: Value) {
    if choices.below(3) > 0 {
        map.insert(name.to_owned(), value);
    }
}

fn user(number: usize, choices: &mut Choices) -> Value {
    let mut user = Map::from_iter([
        ("schemas".to_owned(), json!([USER])),
        ("userName".to_owned(), json!(name(number))),
    ]);
    let text = (*choices.one_of(NAMES)).to_owned();
    let other = (*choices.one_of(NAMES)).to_owned();
    let title = (*choices.one_of(TITLES)).to_owned();
    sometimes(&mut user, choices, "externalId", json!(text));
    sometimes(&mut user, choices, "displayName", json!(other));
    sometimes(&mut user, choices, "title", json!(title));
    sometimes(&mut user, choices, "nickName", json!(text.to_uppercase()));
    let family = json!({"familyName": other, "givenName": text});
    sometimes(&mut user, choices, "name", family);
    let active = json!(choices.below(2) == 0);
    sometimes(&mut user, choices, "active", active);
    let emails = (0..choices.below(4)).map(|_| email(choices)).collect();
    sometimes(&mut user, choices, "emails", emails);
    let roles = json!([{"value": text, "primary": choices.below(2) == 0}, {"value": other}]);
    sometimes(&mut user, choices, "roles", roles);
    let address = json!([{"locality": other, "type": choices.one_of(TYPES)}]);
    sometimes(&mut user, choices, "addresses", address);
    let work = json!({"department": title, "employeeNumber": number.to_string(), "manager": {"value": text}});
    sometimes(&mut user, choices, ENTERPRISE, work);
    sometimes(&mut user, choices, FOREIGN, json!({"desk": number}));
    // What is empty is told from what is missing.
    for name in ["externalId", "displayName"] {
        if choices.below(12) == 0 {
            user.insert(name.to_owned(), json!(""));
        }
    }
    Value::Object(user)
}

fn email(choices: &mut Choices) -> Value {
    let value = match choices.below(6) {
        0 => " ".to_owned(),
        1 => String::new(),
        _ => format!("{}@example.com", choices.one_of(NAMES)),
    };
    json!({
        "value": value,
        "type": choices.one_of(TYPES),
        "primary": choices.below(3) == 0,
        "display": choices.one_of(NAMES),
    })
}

fn group(number: usize, ids: &[String], choices: &mut Choices) -> Value {
    let mut group = Map::from_iter([
        ("schemas".to_owned(), json!([GROUP])),
        ("displayName".to_owned(), json!(name(number))),
    ]);
    // One name for several groups, which their own ids tell apart.
    if choices.below(2) == 0 {
        group.insert("externalId".to_owned(), json!(format!("g{number}")));
        let shared = format!("Shared {}", choices.below(3));
        sometimes(&mut group, choices, "displayName", json!(shared));
    }
    let members = (0..choices.below(6)).map(|_| {
        let display = choices.below(2) == 0;
        let mut member = json!({"value": choices.one_of(ids)});
        if display {
            member["display"] = json!(choices.one_of(NAMES));
        }
        member
    });
    group.insert("members".to_owned(), members.collect());
    Value::Object(group)
}
