//! Bulk: many operations in one request (RFC 7644 section 3.7).
//!
//! Each operation is a write of its own, with its own outcome and its own events, as if it had come
//! alone. [`request`] reads the body; [`references`] gives each new resource its id before anything
//! runs, puts the ids in the place of `bulkId:` references, and decides the order.
//!
//! A reference to a resource whose creation failed is a conflict. People may refer to one another in a
//! circle, as two managers of each other do, because an id is known before its resource exists.

use actix_web::http::StatusCode;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::error::ScimError;
use super::http::{Refusal, answer};
use super::journal;
use super::resources::{self, Resource, location};
use super::version::Conditions;
use references::{Plan, Step};
use request::{Method, Target};

mod references;
mod request;

/// The schema of the answer.
const RESPONSE_URN: &str = "urn:ietf:params:scim:api:messages:2.0:BulkResponse";

/// `POST /Bulk`.
pub(super) async fn run(
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let bytes_max = caller.context.limits.scim_group_body_bytes;
    let bulk = request::read(journal::read(&request, payload, bytes_max).await?)?;
    let mut outcomes = Outcomes::new(bulk.operations.len());
    let plan = Plan::of(bulk.operations);
    for step in plan.steps() {
        let (outcome, has_failed) = perform(&caller, step, &outcomes).await;
        outcomes.note(step.index, outcome, has_failed);
        if bulk
            .fail_on_errors
            .is_some_and(|max| outcomes.errors >= max)
        {
            break;
        }
    }
    journal::operated(&request, outcomes.answers.iter().flatten());
    let body = json!({
        "schemas": [RESPONSE_URN],
        "Operations": outcomes.answers.into_iter().flatten().collect::<Vec<_>>(),
    });
    Ok(answer(StatusCode::OK, body))
}

/// What became of the operations, in the order of the request.
struct Outcomes {
    /// What is answered; nothing for those that were not reached.
    answers: Vec<Option<Value>>,
    /// The operations that failed.
    failed: Vec<bool>,
    errors: u64,
}

impl Outcomes {
    fn new(count: usize) -> Self {
        Self {
            answers: vec![None; count],
            failed: vec![false; count],
            errors: 0,
        }
    }

    fn note(&mut self, index: usize, answer: Value, has_failed: bool) {
        if let (Some(place), Some(failed)) =
            (self.answers.get_mut(index), self.failed.get_mut(index))
        {
            *place = Some(answer);
            *failed = has_failed;
            self.errors += u64::from(has_failed);
        }
    }

    fn has_failed(&self, index: usize) -> bool {
        self.failed.get(index) == Some(&true)
    }
}

/// Performs one operation; what is answered, and whether it failed.
async fn perform(caller: &Caller, step: &Step, outcomes: &Outcomes) -> (Value, bool) {
    let mut entry = Map::new();
    if let Some(method) = &step.method {
        entry.insert("method".to_owned(), method.as_str().into());
    }
    if let Some(bulk_id) = &step.bulk_id {
        entry.insert("bulkId".to_owned(), bulk_id.as_str().into());
    }
    let done = match &step.operation {
        Err(error) => Err(error.clone().into()),
        Ok(_) if step.needs.iter().any(|index| outcomes.has_failed(*index)) => {
            Err(unresolved().into())
        }
        Ok(operation) => operate(caller, operation).await,
    };
    let status = match done {
        Ok(done) => {
            if let Some(resource) = &done.resource {
                entry.insert("version".to_owned(), resource.tag().into());
            }
            entry.insert("location".to_owned(), done.location.into());
            done.status
        }
        Err(refusal) => {
            if let Some((Target::One(kind, id), true)) = step.named() {
                entry.insert("location".to_owned(), location(caller, kind, id).into());
            }
            entry.insert("response".to_owned(), refusal.to_body());
            refusal.status_code().as_u16()
        }
    };
    // A string, as the status of an error is (RFC 7644 section 3.7.3).
    entry.insert("status".to_owned(), status.to_string().into());
    (Value::Object(entry), status >= 400)
}

/// What an operation did.
struct Done {
    status: u16,
    location: String,
    resource: Option<Resource>,
}

/// An operation whose references are resolved.
#[derive(Clone, Debug)]
struct Operation {
    method: Method,
    target: Target,
    version: Option<String>,
    data: Map<String, Value>,
}

async fn operate(caller: &Caller, operation: &Operation) -> Result<Done, Refusal> {
    let conditions = operation
        .version
        .as_deref()
        .map_or_else(Conditions::default, Conditions::matching);
    let body = operation.data.clone();
    let (status, kind, id, resource) = match (operation.method, operation.target) {
        (Method::Post, Target::New(kind, id)) => {
            let resource = resources::create(caller, kind, id, body).await?;
            (201, kind, id, Some(resource))
        }
        (Method::Put, Target::One(kind, id)) => {
            let resource = resources::replace(caller, kind, id, conditions, body).await?;
            (200, kind, id, Some(resource))
        }
        (Method::Patch, Target::One(kind, id)) => {
            let resource = resources::patch(caller, kind, id, conditions, body).await?;
            (200, kind, id, Some(resource))
        }
        (Method::Delete, Target::One(kind, id)) => {
            resources::delete(caller, kind, id, conditions).await?;
            (204, kind, id, None)
        }
        (Method::Post, Target::One(..))
        | (Method::Put | Method::Patch | Method::Delete, Target::New(..)) => {
            return Err(request::wrong_path().into());
        }
    };
    Ok(Done {
        status,
        location: location(caller, kind, id),
        resource,
    })
}

fn unresolved() -> ScimError {
    ScimError::new(
        409,
        "The operation refers to a resource of this request that was not created. Correct that one \
         first.",
    )
}
