//! Questions that an app asks while somebody waits: may this person sign in, may they register?

use serde::Deserialize;
use serde_json::{Value, json};

use super::person::PersonQuery;
use super::read::field_error;
use super::{Caller, Problem};
use crate::directories::sign_in::{self, Answer, Reason};
use crate::keys::fold;

/// Tells whether a person may sign in right now, by what the directories that know them say. One that
/// has the person as active is enough; the answer names it, and it is to its organization that the
/// person may sign in.
///
/// # Errors
/// The request does not name one person, or there is no such directory or organization.
pub async fn sign_in(caller: &Caller, request: &PersonQuery) -> Result<Value, Problem> {
    let known = request.known()?;
    let scope = request.scope(caller).await?;
    let answers = sign_in::ask(&caller.context.store, &known, scope).await?;
    let mut view = match answers.first() {
        Some(decisive) => view(decisive),
        None => json!({
            "object": "sign_in_check", "allowed": false, "reason": Reason::Unknown.as_str(),
            "directory_id": null, "organization_id": null, "user_id": null, "state": null,
            "sequence": null, "stale": false,
        }),
    };
    let all: Vec<Value> = answers.iter().map(of_directory).collect();
    if let Some(fields) = view.as_object_mut() {
        fields.insert("directories".to_owned(), Value::Array(all));
    }
    Ok(view)
}

fn view(answer: &Answer) -> Value {
    let state = answer
        .user
        .map(|(_, is_active)| if is_active { "active" } else { "inactive" });
    json!({
        "object": "sign_in_check",
        "allowed": answer.is_allowed(),
        "reason": answer.reason.as_str(),
        "directory_id": answer.directory_id,
        "organization_id": answer.organization_id,
        "user_id": answer.user.map(|(id, _)| id),
        "state": state,
        "sequence": answer.sequence,
        "stale": answer.is_stale,
    })
}

/// The same without naming itself, as one of several.
fn of_directory(answer: &Answer) -> Value {
    let mut view = view(answer);
    if let Some(fields) = view.as_object_mut() {
        fields.shift_remove("object");
    }
    view
}

/// What `GET /admin/v1/registration_checks` takes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationQuery {
    /// The address that somebody wants to register with.
    pub email: String,
}

/// Tells whether somebody may register by themselves with an e-mail address, or belongs to an
/// organization whose directory manages its people.
///
/// # Errors
/// It is not an address.
pub async fn registration(caller: &Caller, request: &RegistrationQuery) -> Result<Value, Problem> {
    let key = fold(&request.email);
    if !key.contains('@') {
        let error = field_error("email", "must be an e-mail address");
        return Err(Problem::invalid(vec![error]));
    }
    let manager = sign_in::manager_of(&caller.context.store, &key).await?;
    let reason = match manager {
        Some(manager) if manager.is_by_domain => "domain_managed",
        Some(_) => "person_managed",
        None => "unmanaged",
    };
    Ok(json!({
        "object": "registration_check",
        "allowed": manager.is_none(),
        "reason": reason,
        "organization_id": manager.map(|manager| manager.organization_id),
        "directory_id": manager.map(|manager| manager.directory_id),
    }))
}
