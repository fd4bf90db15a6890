//! What happens to every request before and after its handler.
//!
//! Each answer carries `X-Request-ID`, and each request is one log line. `CONNECT`, `TRACE` and any
//! request with `Upgrade` are refused before a body is read: with them, a body extractor of actix-web
//! waits until the client hangs up. Whoever is asked says it in a form of its own, by [`Refuse`].

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, AcceptEncoding, Encoding, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::context::Context;
use crate::ids::RequestId;
use crate::limits::Limits;

/// The request's id, kept with it.
#[derive(Clone, Copy, Debug)]
struct CurrentRequest(RequestId);

/// The id that the request has been given.
pub fn current(request: &HttpRequest) -> Option<RequestId> {
    let extensions = request.extensions();
    extensions.get::<CurrentRequest>().map(|current| current.0)
}

/// Why a request never gets to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its method, or the protocol that it wants to change to, is not for us.
    #[error("This method or protocol upgrade is not served here.")]
    NotServed,
    /// Its path and query together are too long.
    #[error("The path and the query are longer than {0} bytes together. Ask for less at a time.")]
    TargetTooLong(usize),
}

impl Refused {
    /// The HTTP status that says so.
    pub fn status(self) -> u16 {
        match self {
            Self::NotServed => 501,
            Self::TargetTooLong(_) => 414,
        }
    }
}

/// The answer to a request for a path that is refused.
pub type Refuse = fn(&str, Refused) -> HttpResponse;

/// Names the request, refuses what is never served, and logs the answer.
///
/// # Errors
/// Whatever the handler's service could not turn into an answer.
pub async fn handle<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
    refuse: Refuse,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let context = request.app_data::<Data<Context>>();
    let id = context.map_or_else(RequestId::generate, |context| {
        RequestId::generate_at(context.clock.now_ms())
    });
    request.extensions_mut().insert(CurrentRequest(id));
    let method = request.method().clone();
    let path = request.path().to_owned();
    let started = Instant::now();
    let span = tracing::info_span!("request", request.id = %id);
    settle_encoding(&mut request);
    let mut response = if let Some(refused) = refusal(&request) {
        let answer = refuse(&path, refused);
        request.into_response(answer).map_into_right_body()
    } else {
        next.call(request)
            .instrument(span.clone())
            .await?
            .map_into_left_body()
    };
    add_headers(response.headers_mut(), id);
    let status = response.status().as_u16();
    count(response.request(), &method, &path, status);
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        tracing::info!(http.method = %method, http.path = path, http.status = status, duration_ms, "answered");
    });
    Ok(response)
}

/// Counts what providers ask.
fn count(request: &HttpRequest, method: &Method, path: &str, status: u16) {
    if let Some(context) = request.app_data::<Data<Context>>()
        && path.starts_with("/scim/")
    {
        context.metrics.scim_answered(method.as_str(), status);
    }
}

fn refusal(request: &ServiceRequest) -> Option<Refused> {
    let is_served = ![Method::CONNECT, Method::TRACE].contains(request.method())
        && !request.headers().contains_key(header::UPGRADE);
    if !is_served {
        return Some(Refused::NotServed);
    }
    let target = request.uri().path_and_query();
    let length = target.map_or(0, |target| target.as_str().len());
    let length_max = request.app_data::<Data<Limits>>()?.request_target_bytes;
    (length > length_max).then_some(Refused::TargetTooLong(length_max))
}

/// Leaves of `Accept-Encoding` whether the answer may be compressed with gzip. What else it may say is
/// not for us: `deflate` is read in two ways, and actix-web has an answer of its own, in nobody's form,
/// for clients that take nothing.
fn settle_encoding(request: &mut ServiceRequest) {
    let choice = request
        .get_header::<AcceptEncoding>()
        .and_then(|accepted| accepted.negotiate([Encoding::identity(), Encoding::gzip()].iter()));
    let headers = request.headers_mut();
    headers.remove(header::ACCEPT_ENCODING);
    if choice == Some(Encoding::gzip()) {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

fn add_headers(headers: &mut HeaderMap, id: RequestId) {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // For caches, also where the answer is not compressed.
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}
