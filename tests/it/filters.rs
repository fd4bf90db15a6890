//! Lists with filters and orders are what plain evaluation of every resource gives, whichever way the
//! server finds them; and what indexes can answer is left to indexes.

mod people;
mod plans;
mod values;
mod words;

use rollcall::scim::filter::{Filter, eval, parse, pushdown::pushdown};
use rollcall::scim::schema::ResourceType;
use serde_json::{Value, json};

use crate::support::choices::Choices;
use crate::support::{Answer, Idp, TestApp};
use values::{ORDERS, order};
use words::Words;

/// How many lists are compared on each database.
const LISTS: usize = 1_200;

on_both! {
    a_list_is_what_plain_evaluation_of_every_resource_gives,
}

/// An endpoint and the kinds of its resources.
const ENDPOINTS: [(&str, &[ResourceType]); 3] = [
    ("/Users", &[ResourceType::User]),
    ("/Groups", &[ResourceType::Group]),
    ("", &[ResourceType::User, ResourceType::Group]),
];

/// What is asked for.
#[derive(Debug)]
struct Question {
    endpoint: &'static str,
    kinds: &'static [ResourceType],
    filter: Option<String>,
    by: Option<(&'static str, bool)>,
    is_descending: bool,
}

async fn a_list_is_what_plain_evaluation_of_every_resource_gives(app: TestApp) {
    let mut choices = Choices::seeded("lists");
    let idp = app.idp().await;
    people::populate(&app, &idp, &mut choices).await;
    let everything = read_one_by_one(&idp).await;

    for number in 0..LISTS {
        let question = question(&mut choices, &everything);
        let expected = expectation(&question, &everything);
        let Some(expected) = expected else {
            let refused = idp.get(question.endpoint, &parameters(&question)).await;
            let scim_type = refused.json()["scimType"].clone();
            let is_of_order = scim_type == "invalidValue" && question.by.is_some();
            assert_eq!(refused.status(), 400, "{question:?}");
            assert!(is_of_order || scim_type == "invalidFilter", "{question:?}");
            continue;
        };
        check_page(&idp, &question, &expected, &mut choices).await;
        if number % 6 == 0 {
            check_cursors(&idp, &question, &expected, &mut choices).await;
        }
    }
}

/// Every resource as a `GET` of it alone shows it.
async fn read_one_by_one(idp: &Idp) -> Vec<Value> {
    let mut all = Vec::new();
    for endpoint in ["/Users", "/Groups"] {
        let list = idp
            .get(endpoint, &[("count", "1000"), ("attributes", "id")])
            .await;
        for found in list.expect(200)["Resources"].as_array().unwrap() {
            let path = format!("{endpoint}/{}", found["id"].as_str().unwrap());
            all.push(idp.raw("GET", &path, &[], None).await.expect(200));
        }
    }
    assert_eq!(all.len(), 150);
    all
}

fn question(choices: &mut Choices, everything: &[Value]) -> Question {
    let (endpoint, kinds) = *choices.one_of(&ENDPOINTS);
    let depth = choices.below(4);
    let with_filter = choices.below(8) > 0;
    let filter = with_filter.then(|| {
        let resources: Vec<Value> = everything
            .iter()
            .filter(|resource| is_of(resource, kinds))
            .cloned()
            .collect();
        let mut words = Words {
            choices,
            resources: &resources,
        };
        words.filter(depth)
    });
    let is_sorted = choices.below(2) == 0;
    Question {
        endpoint,
        kinds,
        filter,
        by: is_sorted.then(|| *choices.one_of(ORDERS)),
        is_descending: choices.below(2) == 0,
    }
}

fn is_of(resource: &Value, kinds: &[ResourceType]) -> bool {
    let kind = &resource["meta"]["resourceType"];
    kinds.iter().any(|known| kind == known.name())
}

/// The resources asked for, in order; `None` if the question must be refused.
fn expectation<'a>(question: &Question, everything: &'a [Value]) -> Option<Vec<&'a Value>> {
    let filter = question.filter.as_deref().map(parse).transpose().ok()?;
    if let Some(filter) = &filter {
        let checks = question.kinds.iter().map(|kind| eval::check(filter, *kind));
        checks.collect::<Result<(), _>>().ok()?;
    }
    if let Some((name, _)) = question.by {
        question.kinds.iter().find(|kind| has(**kind, name))?;
    }
    let mut found: Vec<&Value> = everything
        .iter()
        .filter(|resource| is_of(resource, question.kinds))
        .filter(|resource| {
            filter
                .as_ref()
                .is_none_or(|filter| matches(filter, resource))
        })
        .collect();
    order(&mut found, question.by, question.is_descending);
    Some(found)
}

/// Whether resources of this kind have an attribute to be ordered by.
fn has(kind: ResourceType, name: &str) -> bool {
    let is_common = ["id", "externalId", "displayName"].contains(&name) || name.starts_with("meta");
    is_common || (kind == ResourceType::Group) == name.starts_with("members")
}

fn matches(filter: &Filter, resource: &Value) -> bool {
    let kind = if resource["meta"]["resourceType"] == "Group" {
        ResourceType::Group
    } else {
        ResourceType::User
    };
    eval::matches(filter, kind, resource.as_object().unwrap()).unwrap()
}

fn parameters(question: &Question) -> Vec<(&'static str, &str)> {
    let mut parameters = Vec::new();
    if let Some(filter) = &question.filter {
        parameters.push(("filter", filter.as_str()));
    }
    if let Some((name, _)) = question.by {
        parameters.push(("sortBy", name));
    }
    if question.is_descending {
        parameters.push(("sortOrder", "descending"));
    }
    parameters
}

/// Asks in a query string, or now and then in a body.
async fn ask(idp: &Idp, endpoint: &str, given: &[(&str, &str)], choices: &mut Choices) -> Answer {
    if choices.below(4) > 0 {
        return idp.get(endpoint, given).await;
    }
    let mut body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"]});
    for (name, value) in given {
        body[*name] = json!(value);
    }
    let path = format!("{endpoint}/.search");
    idp.raw("POST", &path, &[], Some(&body.to_string())).await
}

async fn check_page(idp: &Idp, question: &Question, expected: &[&Value], choices: &mut Choices) {
    let total = expected.len();
    let start = choices.below(total + 3);
    let count = choices.below(40);
    let (start_text, count_text) = (start.to_string(), count.to_string());
    let mut given = parameters(question);
    given.extend([("startIndex", start_text.as_str()), ("count", &count_text)]);

    let page = ask(idp, question.endpoint, &given, choices)
        .await
        .expect(200);

    let skipped = start.max(1) - 1;
    let on_page: Vec<&Value> = expected.iter().skip(skipped).take(count).copied().collect();
    assert_eq!(page["totalResults"], total, "{question:?}");
    assert_eq!(page["startIndex"], start.max(1), "{question:?}");
    assert_eq!(page["itemsPerPage"], on_page.len(), "{question:?}");
    same(&page["Resources"], &on_page, question);
}

/// Walks through all pages by cursor.
async fn check_cursors(idp: &Idp, question: &Question, expected: &[&Value], choices: &mut Choices) {
    let count = (choices.below(40) + 1).to_string();
    let mut cursor = String::new();
    let mut seen = Vec::new();
    loop {
        let mut given = parameters(question);
        given.extend([("cursor", cursor.as_str()), ("count", &count)]);
        let page = ask(idp, question.endpoint, &given, choices)
            .await
            .expect(200);
        assert_eq!(page["totalResults"], expected.len(), "{question:?}");
        seen.extend(page["Resources"].as_array().unwrap().clone());
        assert!(seen.len() <= expected.len(), "{question:?}");
        match page["nextCursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    same(&Value::Array(seen), expected, question);
}

/// Compares by id first, which is easier to read.
#[track_caller]
fn same(found: &Value, expected: &[&Value], question: &Question) {
    let name = |resource: &Value| {
        let name = resource.get("userName").unwrap_or(&resource["displayName"]);
        format!("{name} {}", resource["id"])
    };
    let found = found.as_array().unwrap();
    let names: Vec<String> = found.iter().map(name).collect();
    let expected_names: Vec<String> = expected.iter().map(|resource| name(resource)).collect();
    assert_eq!(names, expected_names, "{question:?}");
    let is_equal = found
        .iter()
        .zip(expected)
        .all(|(found, expected)| found == *expected);
    assert!(is_equal, "{question:?}: {found:?} is not {expected:?}");
}

/// Filters, how many terms indexes answer of them, and whether that is all of them.
const SPLITS: &[(ResourceType, &str, usize, bool)] = &[
    (ResourceType::User, "userName eq \"a\"", 1, true),
    (ResourceType::User, "USERNAME sw \"a\"", 1, true),
    (
        ResourceType::User,
        "userName ge \"a\" and userName lt \"b\"",
        2,
        true,
    ),
    (ResourceType::User, "externalId eq \"a\"", 1, true),
    (ResourceType::User, "externalId sw \"a\"", 1, true),
    (ResourceType::User, "displayName eq \"a\"", 1, true),
    (ResourceType::User, "displayName sw \"a\"", 1, true),
    (ResourceType::User, "id eq \"a\"", 1, true),
    (
        ResourceType::User,
        "id eq \"a\" or userName eq \"b\"",
        1,
        true,
    ),
    (ResourceType::User, "emails eq \"a\"", 1, false),
    (ResourceType::User, "emails.value sw \"a\"", 1, false),
    (ResourceType::User, "emails[value eq \"a\"]", 1, false),
    (
        ResourceType::User,
        "emails[type eq \"work\" and value eq \"a\"]",
        1,
        false,
    ),
    (
        ResourceType::User,
        "emails[type eq \"work\"].value eq \"a\"",
        1,
        false,
    ),
    (
        ResourceType::User,
        "emails[value eq \"a\" or value eq \"b\"]",
        1,
        false,
    ),
    (
        ResourceType::User,
        "userName eq \"a\" and not (title pr)",
        1,
        false,
    ),
    (
        ResourceType::User,
        "urn:ietf:params:scim:schemas:core:2.0:User:userName eq \"a\"",
        1,
        true,
    ),
    (ResourceType::Group, "displayName eq \"a\"", 1, true),
    (ResourceType::Group, "displayName gt \"a\"", 1, true),
    (ResourceType::Group, "externalId eq \"a\"", 1, true),
    (ResourceType::Group, "members eq \"a\"", 1, true),
    (ResourceType::Group, "members.value eq \"a\"", 1, true),
    (ResourceType::Group, "members[value eq \"a\"]", 1, false),
    (
        ResourceType::Group,
        "id eq \"a\" and members eq \"b\"",
        2,
        true,
    ),
    (ResourceType::User, "userName co \"a\"", 0, false),
    (
        ResourceType::User,
        "userName eq \"a\" or title eq \"b\"",
        0,
        false,
    ),
];

#[test]
fn what_indexes_can_answer_is_left_to_them() {
    for (kind, text, terms, is_exact) in SPLITS {
        let split = pushdown(&parse(text).unwrap(), *kind);
        assert_eq!(split.terms.len(), *terms, "{kind:?} {text}");
        assert_eq!(split.is_exact, *is_exact, "{kind:?} {text}");
    }
}
