//! What happens to every request before and after its handler.
//!
//! Each answer carries `X-Request-ID`, and each request is one log line. `CONNECT`, `TRACE` and any
//! request with `Upgrade` are refused before a body is read: with them, a body extractor of actix-web
//! waits until the client hangs up.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpResponse};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::ids::RequestId;

/// The request's id, for handlers.
#[derive(Clone, Copy, Debug)]
pub struct CurrentRequest(pub RequestId);

/// Names the request, refuses what is never served, and logs the answer.
///
/// # Errors
/// Whatever the handler's service could not turn into an answer.
pub async fn handle<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let id = RequestId::generate();
    request.extensions_mut().insert(CurrentRequest(id));
    let method = request.method().clone();
    let path = request.path().to_owned();
    let started = Instant::now();
    let span = tracing::info_span!("request", request.id = %id);
    let mut response = if is_refused(&request) {
        let answer = HttpResponse::build(StatusCode::NOT_IMPLEMENTED)
            .insert_header((header::CONNECTION, "close"))
            .json(serde_json::json!({
                "message": "This method or protocol upgrade is not served here.",
                "code": "not_implemented",
            }));
        request.into_response(answer).map_into_right_body()
    } else {
        next.call(request)
            .instrument(span.clone())
            .await?
            .map_into_left_body()
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        tracing::info!(http.method = %method, http.path = path, http.status = status, duration_ms, "answered");
    });
    Ok(response)
}

fn is_refused(request: &ServiceRequest) -> bool {
    [Method::CONNECT, Method::TRACE].contains(request.method())
        || request.headers().contains_key(header::UPGRADE)
}
