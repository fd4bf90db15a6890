//! Reading a request's body: within a size, within a time, and only of a kind that we read.
//!
//! actix-web has no deadline for bodies of its own; without one, a client that sends a byte a minute
//! holds a handler for as long as it likes.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;

/// How long a client may take to send a body.
const BODY_SECONDS_MAX: u64 = 15;

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
            Self::Encoded | Self::NotJson => 415,
        }
    }
}

/// Reads a JSON body of at most `bytes_max` bytes.
///
/// # Errors
/// It is too large, too slow, broken, compressed, or says that it is not JSON.
pub async fn read(
    request: &HttpRequest,
    payload: Payload,
    bytes_max: usize,
) -> Result<Bytes, BodyError> {
    check_headers(request, bytes_max)?;
    let deadline = Duration::from_secs(BODY_SECONDS_MAX);
    tokio::time::timeout(deadline, collect(payload, bytes_max))
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

fn check_headers(request: &HttpRequest, bytes_max: usize) -> Result<(), BodyError> {
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
    let announced = text(header::CONTENT_LENGTH).parse::<usize>().unwrap_or(0);
    if announced > bytes_max {
        return Err(BodyError::TooLarge(bytes_max));
    }
    Ok(())
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
