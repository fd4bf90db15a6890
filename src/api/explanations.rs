//! Why somebody is missing in the vendor's app, at `/admin/v1/explanations` and as `rollcall why`.
//!
//! What is known of the person is gathered here, from what the provider asked to what the endpoints
//! answered; its verdict is a pure decision. Reads only, and not in one transaction: it is for people to read.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Value, json};

use super::person::PersonQuery;
use super::{Caller, Problem};
use crate::clock;
use crate::directories::directory;
use crate::directories::person::{self, Known, Person, Scope};
use crate::directories::sign_in;
use crate::events::Kind;
use crate::ids::DirectoryId;
use crate::requests::Subject;
use crate::storage::Store;
use crate::storage::sql::Sql;
use crate::storage::tables::{directories, endpoints, events, scim_requests, users};
use crate::webhooks::endpoint;
use crate::webhooks::explain::{self, Behind, Progress, Standing};

mod verdict;

use verdict::decide;

/// How many of a person's events are looked at, the newest.
const EVENTS_MAX: u64 = 20;
/// How many deletions of a directory are looked through for somebody who is not there.
const DELETIONS_MAX: u64 = 2_000;

/// What is known about a person who is missing.
#[derive(Debug, Default)]
struct Facts {
    /// The directory that knows the person, or should.
    directory: Option<directories::Model>,
    /// When its provider was heard last.
    last_heard: Option<DateTime<Utc>>,
    /// The person, there or deleted.
    person: Option<Person>,
    /// The person, if there.
    user: Option<users::Model>,
    /// The newest request to change the person, if it was refused.
    refusal: Option<scim_requests::Model>,
    /// What the log says of the person, oldest first.
    events: Vec<events::Model>,
    /// How far that has come.
    endpoints: Vec<(endpoints::Model, Standing)>,
}

/// Explains why a person is missing in the vendor's app: one verdict, and what it rests on.
///
/// # Errors
/// The request does not name one person, or there is no such directory or organization.
pub async fn explain(caller: &Caller, request: &PersonQuery) -> Result<Value, Problem> {
    let known = request.known()?;
    let scope = request.scope(caller).await?;
    let facts = gather(&caller.context.store, &known, scope).await?;
    let verdict = decide(&facts);
    Ok(json!({
        "object": "explanation",
        "email": request.email,
        "verdict": verdict.as_str(),
        "text": verdict.text(&facts),
        "next": verdict.next(),
        "directory_id": facts.directory.as_ref().map(|directory| directory.id),
        "user_id": facts.user.as_ref().map(|user| user.directory_user_id),
        "facts": list(&facts),
        "per_endpoint": facts.endpoints.iter().map(at_endpoint).collect::<Vec<_>>(),
    }))
}

async fn gather(store: &Store, known: &Known, scope: Scope) -> Result<Facts, DbErr> {
    let mut facts = Facts::default();
    find_person(store, known, scope, &mut facts).await?;
    let mut subjects = known.subjects();
    subjects.extend(facts.person.map(|person| Subject::Resource(person.id)));
    if let Some(user) = &facts.user {
        subjects.push(Subject::UserName(user.user_name_key.clone()));
        subjects.extend(user.email_key.clone().map(Subject::Email));
    }
    let within = facts
        .person
        .map_or(scope, |person| Scope::Directory(person.directory_id));
    let newest = newest_change(store, within, &subjects).await?;
    facts.refusal = newest.filter(|request| request.status >= 400);
    let Some(id) = directory_of(store, known, scope, &facts).await? else {
        return Ok(facts);
    };
    let activity = directory::activity(store.reader(), id).await?;
    facts.last_heard = activity.map(|heard| heard.last_request_at);
    facts.directory = directory::find(store.reader(), id).await?;
    if let (Some(directory), Some(person)) = (&facts.directory, facts.person) {
        facts.events = events_about(store.reader(), person).await?;
        for row in endpoint::list(store.reader()).await? {
            let standing = explain::standing(store, &row, directory, &facts.events).await?;
            facts.endpoints.push((row, standing));
        }
    }
    Ok(facts)
}

/// Somebody who is there, active if there are several; else whoever was asked for or deleted last.
async fn find_person(
    store: &Store,
    known: &Known,
    scope: Scope,
    facts: &mut Facts,
) -> Result<(), DbErr> {
    let mut present = person::present(store, known, scope).await?;
    present.sort_by_key(|user| (!user.active, user.ended_at.is_some(), user.id));
    facts.user = present.into_iter().next();
    facts.person = facts.user.as_ref().map(|user| Person {
        directory_id: user.directory_id,
        id: user.id,
    });
    if facts.person.is_some() {
        return Ok(());
    }
    let directories = scope.directories(store.reader()).await?;
    let mut former = person::asked_for(store, known, scope).await?;
    former.extend(person::deleted(store, known, &directories, DELETIONS_MAX).await?);
    facts.person = former.into_iter().max_by_key(|person| person.id);
    if let Some(person) = facts.person {
        // Their address may be another one by now.
        facts.user = users::Entity::find_by_id((person.directory_id, person.id))
            .one(store.reader())
            .await?;
    }
    Ok(())
}

/// The newest request that was to change somebody who goes by one of these names.
async fn newest_change(
    store: &Store,
    scope: Scope,
    subjects: &[Subject],
) -> Result<Option<scim_requests::Model>, DbErr> {
    if subjects.is_empty() {
        return Ok(None);
    }
    let mut sql = Sql::default();
    sql.push(
        "SELECT r.* FROM directories d JOIN scim_request_subjects s ON s.directory_id = d.id \
         JOIN scim_requests r ON r.directory_id = s.directory_id AND r.id = s.request_id \
         WHERE d.state IN ('validating', 'linked', 'deleting', 'deleted') \
         AND r.method <> 'GET' AND r.method <> 'HEAD' AND s.subject IN (",
    );
    for (number, subject) in subjects.iter().enumerate() {
        sql.push(if number == 0 { "" } else { ", " })
            .bind(subject.to_string());
    }
    sql.push(")");
    scope.push_to(&mut sql, "d.id");
    sql.push(" ORDER BY r.id DESC LIMIT 1");
    scim_requests::Entity::find()
        .from_raw_sql(sql.statement(store.dialect()))
        .one(store.reader())
        .await
}

/// The directory that knows the person; without one the directory that was asked about, that refused
/// them, or that manages their address.
async fn directory_of(
    store: &Store,
    known: &Known,
    scope: Scope,
    facts: &Facts,
) -> Result<Option<DirectoryId>, DbErr> {
    let found = facts.person.map(|person| person.directory_id);
    let refused = facts.refusal.as_ref().map(|request| request.directory_id);
    if let Some(id) = found.or(refused) {
        return Ok(Some(id));
    }
    if let Some(first) = scope.directories(store.reader()).await?.first() {
        return Ok(Some(first.id));
    }
    let Known::Email(key) = known else {
        return Ok(None);
    };
    let manager = sign_in::manager_of(store, key).await?;
    Ok(manager.map(|manager| manager.directory_id))
}

async fn events_about(
    connection: &impl ConnectionTrait,
    person: Person,
) -> Result<Vec<events::Model>, DbErr> {
    const KINDS: [Kind; 3] = [Kind::UserCreated, Kind::UserUpdated, Kind::UserDeleted];
    let mut rows = events::Entity::find()
        .filter(events::Column::DirectoryId.eq(person.directory_id))
        .filter(events::Column::UserId.eq(person.id))
        .filter(events::Column::Kind.is_in(KINDS.map(Kind::as_str)))
        .order_by_desc(events::Column::Position)
        .limit(EVENTS_MAX)
        .all(connection)
        .await?;
    rows.reverse();
    Ok(rows)
}

/// What the verdict rests on, a line each.
fn list(facts: &Facts) -> Vec<Value> {
    let mut list = Vec::new();
    if let Some(directory) = &facts.directory {
        list.extend(of_directory(directory, facts.last_heard));
    }
    if let Some(user) = &facts.user {
        let state = if user.active { "active" } else { "inactive" };
        let text = format!("the person is there and {state}");
        list.push(fact("user", &text, Some(user.updated_at)));
    }
    if let Some(request) = &facts.refusal {
        let text = verdict::refused(request);
        list.push(fact("refused_request", &text, Some(request.created_at)));
    }
    if let Some(event) = facts.events.last() {
        let sequence = event.sequence.unwrap_or_default();
        let text = format!("the newest event is {} at sequence {sequence}", event.kind);
        list.push(fact("newest_event", &text, Some(event.created_at)));
    }
    list
}

fn of_directory(directory: &directories::Model, last_heard: Option<DateTime<Utc>>) -> Vec<Value> {
    let (name, state, management) = (&directory.name, &directory.state, &directory.management);
    let text = format!("the directory {name:?} is {state}, its management {management}");
    let mut list = vec![
        fact("directory", &text, None),
        fact("last_heard", "the provider was heard last", last_heard),
    ];
    let (held, refused) = (directory.deliveries_held_at, directory.writes_refused_at);
    for (name, text, at) in [
        ("deliveries_held", "deliveries are held", held),
        (
            "writes_refused",
            "the provider's writes are refused",
            refused,
        ),
        (
            "deletion_due",
            "the directory will be deleted",
            directory.deletion_due_at,
        ),
    ] {
        list.extend(at.map(|at| fact(name, text, Some(at))));
    }
    list
}

fn fact(name: &str, text: &str, at: Option<DateTime<Utc>>) -> Value {
    json!({"name": name, "text": text, "at": at.map(clock::text)})
}

fn at_endpoint((row, standing): &(endpoints::Model, Standing)) -> Value {
    let (state, cause, on_its_way, before) = match standing {
        Standing::NotTaken => ("filtered_out", Some("event_types"), None, None),
        Standing::BeganLater => ("filtered_out", Some("began_later"), None, None),
        Standing::Delivered(progress) => ("delivered", None, progress.as_ref(), None),
        Standing::Parked(progress) => ("parked", None, Some(progress), None),
        Standing::Waiting(progress, behind) => {
            let (cause, before) = match behind {
                Behind::Retry => ("retry", None),
                Behind::Event(other) => ("earlier_event", Some(other.as_ref())),
                Behind::Failing(other) => ("endpoint_failing", Some(other.as_ref())),
                Behind::Backlog(_) => ("backlog", None),
                Behind::Disabled => ("endpoint_disabled", None),
            };
            ("waiting", Some(cause), Some(progress), before)
        }
    };
    json!({
        "endpoint_id": row.id,
        "endpoint_url": row.url,
        "state": state,
        "cause": cause,
        "event": on_its_way.map(progress),
        "behind": before.map(progress),
    })
}

fn progress(progress: &Progress) -> Value {
    json!({
        "id": progress.event.id,
        "event": progress.event.kind,
        "sequence": progress.event.sequence,
        "created_at": clock::text(progress.event.created_at),
        "attempts": progress.attempts,
        "status_code": progress.status_code,
        "failure": progress.failure,
        "excerpt": progress.excerpt,
        "at": progress.at.map(clock::text),
        "next_attempt_at": progress.next_attempt_at.map(clock::text),
    })
}
