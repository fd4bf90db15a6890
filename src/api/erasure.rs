//! Erasing people, at `/admin/v1/erasures`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::person::PersonQuery;
use super::read::field_error;
use super::{Caller, Problem};
use crate::clock;
use crate::directories::erasure::{self, Receipt};
use crate::directories::person::{self, Known, Person, Scope};
use crate::directories::resource::Error;
use crate::directories::{directory, user};

/// Erases a person from a directory, or from all directories of an organization: whoever goes by the
/// name that is given, there or deleted. The receipts name nobody.
///
/// # Errors
/// The request does not name one person and where, nobody goes by the name, or a directory is going to
/// be deleted.
pub async fn create(caller: &Caller, request: &PersonQuery) -> Result<Value, Problem> {
    let known = request.known()?;
    let scope = request.scope(caller).await?;
    if scope == Scope::Everywhere && !matches!(known, Known::User(_)) {
        let code = "name the directory, or the organization with organization_id";
        return Err(Problem::invalid(vec![field_error("directory", code)]));
    }
    let people = find(caller, &known, scope).await?;
    if people.is_empty() {
        return Err(Problem::new(
            404,
            "entity_not_found",
            "Nobody goes by this name there. Somebody who was deleted is only found in a directory or \
             organization that is named.",
        ));
    }
    // What was asked about them a moment ago would else be written down after they are erased.
    let context = &caller.context;
    context.request_log.write_down(&context.store).await?;
    let mut receipts = Vec::new();
    for person in people {
        receipts.push(view(&erase(caller, person).await?));
    }
    Ok(json!({
        "object": "list",
        "data": receipts,
        "list_metadata": {"before": null, "after": null},
    }))
}

/// Whoever goes by the name now, and whoever was deleted with it; not those who only had it once.
async fn find(caller: &Caller, known: &Known, scope: Scope) -> Result<BTreeSet<Person>, Problem> {
    let store = &caller.context.store;
    let present = person::present(store, known, scope).await?;
    let mut people: BTreeSet<Person> = present
        .iter()
        .map(|row| Person {
            directory_id: row.directory_id,
            id: row.id,
        })
        .collect();
    let directories = scope.directories(store.reader()).await?;
    let mut former = person::asked_for(store, known, scope).await?;
    former.extend(person::deleted(store, known, &directories, u64::MAX).await?);
    for person in former {
        let row = user::find(store.reader(), person.directory_id, person.id).await?;
        if row.is_none() {
            people.insert(person);
        }
    }
    Ok(people)
}

async fn erase(caller: &Caller, person: Person) -> Result<Receipt, Problem> {
    let store = &caller.context.store;
    let directory = directory::find(store.reader(), person.directory_id).await?;
    let Some(directory) = directory else {
        let id = person.directory_id.to_string();
        return Err(Problem::not_found("Directory", &id));
    };
    let receipt = erasure::erase(store, caller.actor, &directory, person);
    receipt.await.map_err(|error| match error {
        Error::Denied(denied) => Problem::new(
            409,
            "directory_not_writable",
            format!("The person cannot be deleted, as a part of this: {denied}."),
        ),
        Error::Storage(error) => error.into(),
        Error::NotFound | Error::Taken | Error::Nesting(_) | Error::Refused(_) => {
            Problem::internal(&error)
        }
    })
}

fn view(receipt: &Receipt) -> Value {
    json!({
        "object": "erasure",
        "id": receipt.id,
        "directory_id": receipt.directory_id,
        "user_id": receipt.user_id,
        "events": receipt.events,
        "requests": receipt.requests,
        "deliveries": receipt.deliveries,
        "erased_at": clock::text(receipt.erased_at),
    })
}
