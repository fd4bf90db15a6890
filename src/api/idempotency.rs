//! `Idempotency-Key`: a `POST` that a vendor's program sends again is answered as it was before, and not
//! carried out again.
//!
//! SDKs send a key with every `POST` and repeat it when no answer comes, so this is around all of them
//! and not a matter of handlers. What was refused for good is answered the same again as well; an answer
//! after which it is worth trying again (5xx, 408, 429) is not kept.

use std::time::Duration;

use actix_web::body::{BoxBody, to_bytes};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpResponse, ResponseError as _, rt, web};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::read::field_error;
use super::{Caller, Problem};
use crate::actor::Who;
use crate::tenancy::idempotency::{self, Answer, Claim, Claimed, Request};
use crate::web::body::{self, BodyError};

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "Idempotent-Replayed";
const KEY_BYTES_MAX: usize = 255;
/// How long a request waits for the same one that is being carried out.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After how long it may then try again.
const BUSY: Duration = Duration::from_secs(1);

/// Carries out a `POST` with an idempotency key once; anything else passes.
///
/// # Errors
/// The handler panicked.
pub(super) async fn once(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let has_key = request.headers().contains_key(HEADER);
    if request.method() != Method::POST || !has_key {
        return next.call(request).await;
    }
    match begin(&mut request).await {
        Ok((caller, Claimed::Ours(claim))) => carry_out(request, next, caller, claim).await,
        Ok((_, claimed)) => Ok(request.into_response(answer_instead(claimed))),
        Err(problem) => Ok(request.into_response(problem.error_response())),
    }
}

/// Reads the request and claims its key; waits while somebody else carries the same request out.
async fn begin(request: &mut ServiceRequest) -> Result<(Caller, Claimed), Problem> {
    let caller = request.extract::<Caller>().await?;
    let Who::Api(api_key_id) = caller.actor.who else {
        return Err(Problem::unauthorized());
    };
    let key = key_of(request.headers())?;
    let digest = digest(request, &caller).await?;
    // The handler need not ask again who it is.
    request.extensions_mut().insert(caller.clone());
    let keyed = Request {
        api_key_id,
        key,
        digest,
    };
    let context = &caller.context;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let claimed = idempotency::claim(&context.store, &context.master_key, &keyed).await;
        let claimed = claimed.map_err(|error| match error {
            idempotency::Error::Storage(error) => error.into(),
            idempotency::Error::Secret(_) | idempotency::Error::Garbled(_) => {
                Problem::internal(&error)
            }
        })?;
        if !matches!(claimed, Claimed::Busy) || Instant::now() >= deadline {
            return Ok((caller, claimed));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn key_of(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(HEADER);
    let key = values.next().and_then(|value| value.to_str().ok());
    key.filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()) && values.next().is_none())
        .map(str::to_owned)
        .ok_or_else(|| {
            let code = "must be sent once, as 1 to 255 printable ASCII characters";
            Problem::invalid(vec![field_error("Idempotency-Key", code)])
        })
}

/// The digest of all that is asked. The body is read for it, and put back for the handler.
async fn digest(request: &mut ServiceRequest, caller: &Caller) -> Result<Vec<u8>, Problem> {
    let payload = request.extract::<web::Payload>().await;
    let payload = payload.or(Err(BodyError::Broken))?;
    let bytes_max = caller.context.limits.api_body_bytes;
    let body = body::read(request.request(), payload, bytes_max)
        .await?
        .into_bytes();
    let mut hash = Sha256::new();
    hash.update(request.method().as_str());
    hash.update([0]);
    hash.update(request.uri().path());
    hash.update([0]);
    hash.update(request.query_string());
    hash.update([0]);
    hash.update(&body);
    request.set_payload(Payload::from(body));
    Ok(hash.finalize().to_vec())
}

/// Calls the handler and keeps its answer, in a task of its own: that goes on when the client hangs up,
/// which is just when it will ask again.
async fn carry_out(
    request: ServiceRequest,
    next: Next<BoxBody>,
    caller: Caller,
    claim: Claim,
) -> Result<ServiceResponse, Error> {
    let task = async move {
        let response = next.call(request).await?;
        Ok(keep(response, &caller, claim).await?)
    };
    rt::spawn(task.in_current_span())
        .await
        .unwrap_or_else(|error| Err(Problem::internal(&error).into()))
}

async fn keep(
    response: ServiceResponse,
    caller: &Caller,
    claim: Claim,
) -> Result<ServiceResponse, Problem> {
    let (request, response) = response.into_parts();
    let (head, body) = response.into_parts();
    let body = to_bytes(body)
        .await
        .map_err(|error| Problem::internal(&*error))?;
    let headers = head.headers().iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let answer = Answer {
        status: head.status().as_u16(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let kept = is_final(head.status()).then_some(&answer);
    let context = &caller.context;
    if let Err(error) = idempotency::settle(&context.store, &context.master_key, claim, kept).await
    {
        tracing::warn!(
            error = &error as &(dyn std::error::Error + 'static),
            "an answer could not be kept; the same request would be carried out again"
        );
    }
    let response = head.set_body(body).map_into_boxed_body();
    Ok(ServiceResponse::new(request, response))
}

/// Whether the same request would be answered the same again.
fn is_final(status: StatusCode) -> bool {
    let is_passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    !status.is_server_error() && !is_passing.contains(&status)
}

/// What is answered when the request is not carried out.
fn answer_instead(claimed: Claimed) -> HttpResponse {
    match claimed {
        Claimed::Answered(answer) => replay(answer),
        Claimed::Reused => Problem::new(
            422,
            "idempotency_key_reused",
            "Another request was sent with this Idempotency-Key. Use a new key for each request.",
        )
        .error_response(),
        Claimed::Busy | Claimed::Ours(_) => Problem::new(
            409,
            "idempotency_key_in_use",
            "The request with this Idempotency-Key is being carried out. Send it again for its answer.",
        )
        .retry_after(BUSY)
        .error_response(),
    }
}

fn replay(answer: Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in answer.headers {
        response.insert_header((name, value));
    }
    response.insert_header((REPLAYED, "true")).body(answer.body)
}
