//! What is written down about each request, also about those that are refused.
//!
//! [`keep`] is around all SCIM endpoints. What the answer does not show, such as the token and the body,
//! handlers note with the request as they come to it. Nothing here makes a request wait or fail: records
//! go into a queue in memory.

use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::web::{Data, Payload};
use actix_web::{Error, HttpMessage as _, HttpRequest};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::body;
use super::caller;
use super::error::ScimError;
use super::http::Refusal;
use crate::context::Context;
use crate::directories::query::{Key, Term, Test};
use crate::directories::token::Opened;
use crate::ids::{DirectoryId, RequestId, ResourceId, ScimTokenId};
use crate::requests::{Place, Presented, Record, Subject, redact};
use crate::web::{self, front, peer};

mod subjects;

/// How many subjects of one request are noted.
const SUBJECTS_MAX: usize = 5_000;

/// What handlers have noted about a request.
#[derive(Debug, Default)]
struct Note {
    opened: Option<(DirectoryId, ScimTokenId)>,
    body: Option<String>,
    subjects: Vec<Subject>,
}

/// Has the request answered, and writes down what became of it.
pub(super) async fn keep<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    request.extensions_mut().insert(Note::default());
    let started = Instant::now();
    let response = next.call(request).await?;
    let error = response.response().error();
    let refusal = error.and_then(|error| error.as_error::<Refusal>());
    let status = response.status().as_u16();
    let request = response.request();
    if let Some(context) = request.app_data::<Data<Context>>()
        && let Some(record) = record(context, request, status, refusal, started.elapsed())
    {
        context.request_log.push(record);
    }
    Ok(response)
}

/// The record of an answered request; `None` if it names no directory.
fn record(
    context: &Context,
    request: &HttpRequest,
    status: u16,
    refusal: Option<&Refusal>,
    duration: Duration,
) -> Option<Record> {
    let note: Note = request.extensions_mut().remove().unwrap_or_default();
    let (directory, token) = if let Some((directory_id, token_id)) = note.opened {
        (Place::Known(directory_id), Presented::Opened(token_id))
    } else {
        let (_, address) = caller::called(request);
        (Place::At(address?.as_str().to_owned()), presented(request))
    };
    let endpoint = endpoint(request);
    let user_agent = request.headers().get(header::USER_AGENT);
    let user_agent = user_agent.and_then(|value| value.to_str().ok());
    let error = refusal.map(Refusal::error);
    let scim_type = error.and_then(|error| error.scim_type);
    let mut subjects = note.subjects;
    subjects.extend(named_by(endpoint));
    Some(Record {
        id: front::current(request).unwrap_or_else(RequestId::generate),
        at: context.clock.now(),
        directory,
        method: request.method().as_str().to_owned(),
        path: redact::target(request.path(), request.query_string()),
        endpoint: endpoint.to_owned(),
        status,
        duration,
        token,
        user_agent: user_agent.map(redact::user_agent),
        address: Some(peer::address(request)).filter(|address| !address.is_empty()),
        scim_type: scim_type.map(|scim_type| scim_type.as_str().to_owned()),
        detail: error.map(|error| redact::answer(&error.detail)),
        request_body: note.body,
        response_body: error.map(|error| redact::answer(&error.to_body().to_string())),
        subjects,
    })
}

/// What follows the directory's base URL in the path.
fn endpoint(request: &HttpRequest) -> &str {
    let path = request.path();
    let rest = path.strip_prefix("/scim/v2").unwrap_or(path);
    let segment = request.match_info().get("directory").unwrap_or("");
    let within = rest.strip_prefix('/').and_then(|rest| {
        let (_, endpoint) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        (!segment.is_empty()).then_some(endpoint)
    });
    within.unwrap_or(rest)
}

/// The resource that the path names.
fn named_by(endpoint: &str) -> Option<Subject> {
    let (_, id) = endpoint.rsplit_once('/')?;
    ResourceId::parse(id).map(Subject::Resource)
}

/// What a request has for a token that did not open a directory.
fn presented(request: &HttpRequest) -> Presented {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let Some(value) = values.next() else {
        return Presented::Nothing;
    };
    if values.next().is_some() {
        return Presented::Several;
    }
    let Ok(value) = value.to_str() else {
        return Presented::Foreign;
    };
    match value.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Presented::refused(token.trim())
        }
        Some(_) => Presented::OtherScheme,
        None if value.trim().eq_ignore_ascii_case("bearer") => Presented::Nothing,
        None => Presented::refused(value.trim()),
    }
}

/// Notes what the request's token has opened.
pub(super) fn opened(request: &HttpRequest, opened: &Opened) {
    add(request, |note| {
        note.opened = Some((opened.directory.id, opened.token_id));
    });
}

/// Reads a body of at most `bytes_max` bytes, and notes it and whom it is about.
pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    bytes_max: usize,
) -> Result<Map<String, Value>, Refusal> {
    let bytes = web::body::read(request, payload, bytes_max).await?;
    let parsed: Result<_, ScimError> = body::parse(&bytes, &body::Limits::default());
    add(request, |note| match &parsed {
        Ok(body) => {
            note.body = Some(redact::body(body));
            let is_group = endpoint(request).starts_with("/Groups");
            note.subjects.extend(subjects::of(body, is_group));
        }
        Err(_) => note.body = Some(redact::unread_body(&bytes)),
    });
    Ok(parsed?)
}

/// Notes the resource that the request made.
pub(super) fn made(request: &HttpRequest, id: ResourceId) {
    add(request, |note| note.subjects.push(Subject::Resource(id)));
}

/// Notes the resources that the operations of a Bulk request were about, from what is answered.
pub(super) fn operated<'a>(request: &HttpRequest, answers: impl Iterator<Item = &'a Value>) {
    let locations = answers.filter_map(|answer| answer.get("location").and_then(Value::as_str));
    add(request, |note| {
        note.subjects.extend(locations.filter_map(named_by));
    });
}

/// Notes whom a list was asked for.
pub(super) fn looked_for<'a>(request: &HttpRequest, terms: impl Iterator<Item = &'a Term>) {
    add(request, |note| {
        note.subjects.extend(terms.filter_map(named_in));
    });
}

fn named_in(term: &Term) -> Option<Subject> {
    match term {
        Term::Id(id) | Term::Member(id) => Some(Subject::Resource(*id)),
        Term::Key(key, Test::Equal(text)) => Some(match key {
            Key::UserName => Subject::UserName(text.clone()),
            Key::ExternalId => Subject::ExternalId(text.clone()),
            Key::DisplayName => Subject::DisplayName(text.clone()),
            Key::Email => Subject::Email(text.clone()),
        }),
        Term::Key(..) | Term::Ids(_) | Term::Any(_) | Term::Nothing => None,
    }
}

fn add(request: &HttpRequest, add: impl FnOnce(&mut Note)) {
    if let Some(note) = request.extensions_mut().get_mut::<Note>() {
        add(note);
        note.subjects.truncate(SUBJECTS_MAX);
    }
}
