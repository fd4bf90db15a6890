//! Reading a request's body: within a size, within a time, only of a kind that we read, and only so many
//! at once that memory lasts.
//!
//! actix-web has no deadline for bodies of its own; without one, a client that sends a byte a minute
//! holds a handler for as long as it likes.

use std::ops::Deref;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::{Bytes, BytesMut, Data, Payload};
use futures_util::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::Limits;

/// How long a client may take to send a body.
const BODY_SECONDS_MAX: u64 = 15;
/// After how long those who found too many bodies under way may try again.
const BUSY_SECONDS: u64 = 1;

/// A body; as long as it is there, it counts among those that are.
#[derive(Debug)]
pub struct Body {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Body {
    /// The bytes, which count no longer.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the body is larger than {0} bytes; send less at a time")]
    TooLarge(usize),
    /// It took too long.
    #[error("the body did not arrive within {BODY_SECONDS_MAX} seconds")]
    TooSlow,
    /// The client broke off or broke the framing.
    #[error("the body could not be read to its end")]
    Broken,
    /// There is no room for it beside the bodies of other requests.
    #[error("the body has to wait for those of other requests; send it again")]
    Busy,
    /// It is compressed, which we do not read.
    #[error("the body is compressed; send it without Content-Encoding")]
    Encoded,
    /// It says that it is something else than JSON.
    #[error("the Content-Type must be application/json or application/scim+json")]
    NotJson,
}

impl BodyError {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge(_) => 413,
            Self::TooSlow => 408,
            Self::Broken => 400,
            Self::Busy => 503,
            Self::Encoded | Self::NotJson => 415,
        }
    }

    /// When it is worth trying again.
    pub fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Busy).then(|| Duration::from_secs(BUSY_SECONDS))
    }
}

/// Reads a JSON body of at most `bytes_max` bytes.
///
/// # Errors
/// It is too large, too slow, broken, compressed, or says that it is not JSON; or there is no room for it.
pub async fn read(
    request: &HttpRequest,
    payload: Payload,
    bytes_max: usize,
) -> Result<Body, BodyError> {
    let room = check_headers(request, bytes_max).and_then(|bytes| room(request, bytes))?;
    let deadline = Duration::from_secs(BODY_SECONDS_MAX);
    let bytes = tokio::time::timeout(deadline, collect(payload, bytes_max))
        .await
        .unwrap_or(Err(BodyError::TooSlow))?;
    Ok(Body { bytes, _room: room })
}

fn room(request: &HttpRequest, bytes: usize) -> Result<OwnedSemaphorePermit, BodyError> {
    request
        .app_data::<Data<Limits>>()
        .and_then(|limits| limits.room_for_body(bytes))
        .ok_or(BodyError::Busy)
}

/// Checks what the headers say about the body, and how many bytes it will have at most.
fn check_headers(request: &HttpRequest, bytes_max: usize) -> Result<usize, BodyError> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    };
    let encoding = text(header::CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return Err(BodyError::Encoded);
    }
    let kind = text(header::CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or("")
        .trim();
    let is_json = kind.is_empty()
        || kind.eq_ignore_ascii_case("application/json")
        || kind.eq_ignore_ascii_case("application/scim+json");
    if !is_json {
        return Err(BodyError::NotJson);
    }
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Ok(bytes_max);
    }
    match text(header::CONTENT_LENGTH) {
        "" => Ok(0),
        announced => announced
            .parse()
            .ok()
            .filter(|bytes| *bytes <= bytes_max)
            .ok_or(BodyError::TooLarge(bytes_max)),
    }
}

async fn collect(mut payload: Payload, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            tracing::debug!(%error, "a body broke off");
            BodyError::Broken
        })?;
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(BodyError::TooLarge(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
