//! SCIM's errors and answers as HTTP.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde_json::Value;

use super::error::ScimError;
use super::schema::ResourceType;
use crate::directories::directory::ActivateError;
use crate::directories::{Denied, resource};
use crate::limits;
use crate::storage;
use crate::web::body::BodyError;
use crate::web::front::Refused;

/// Exactly this, without a charset: several providers' test suites compare the bare text.
pub(super) const CONTENT_TYPE: &str = "application/scim+json";
/// How long to wait before asking again, when the fault is a passing one.
const RETRY_SECONDS: u64 = 5;
/// How long to wait before asking again, when somebody has stopped the directory.
const PAUSE: Duration = Duration::from_mins(5);

/// An error on its way to the provider, with the headers that it needs.
#[derive(Debug)]
pub struct Refusal {
    error: ScimError,
    retry_after: Option<Duration>,
    /// Whether the connection ends, because the rest of the request is not read.
    is_last: bool,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.error, formatter)
    }
}

impl Refusal {
    /// 401 with a challenge (RFC 6750 section 3).
    pub(super) fn unauthorized() -> Self {
        ScimError::new(
            401,
            "The bearer token is missing, wrong, expired or revoked, or belongs to another \
             directory. Copy a current token of this directory into the provider's settings.",
        )
        .into()
    }

    /// 429: too many requests.
    pub(super) fn too_many_requests(wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..ScimError::new(429, "Too many requests. Send fewer at a time.").into()
        }
    }

    /// 503: a passing fault; providers try again.
    pub(super) fn unavailable() -> Self {
        Self {
            retry_after: Some(Duration::from_secs(RETRY_SECONDS)),
            ..ScimError::new(503, "The server cannot answer right now. Try again.").into()
        }
    }

    /// 503: not now, as somebody decided.
    fn retry_later(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(PAUSE),
            ..ScimError::new(503, detail).into()
        }
    }

    /// The error itself.
    pub(super) fn error(&self) -> &ScimError {
        &self.error
    }

    /// The error as a body.
    pub(super) fn to_body(&self) -> Value {
        self.error.to_body()
    }

    fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "a SCIM request failed");
        ScimError::new(
            500,
            "The server failed to answer. The X-Request-ID header names this request in its log.",
        )
        .into()
    }
}

impl From<ScimError> for Refusal {
    fn from(error: ScimError) -> Self {
        Self {
            error,
            retry_after: None,
            is_last: false,
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self {
            is_last: true,
            retry_after: error.retry_after(),
            ..ScimError::new(error.status(), format!("In the request, {error}.")).into()
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self {
            is_last: true,
            ..ScimError::new(refused.status(), refused.to_string()).into()
        }
    }
}

impl From<storage::Error> for Refusal {
    fn from(error: storage::Error) -> Self {
        if error.is_transient() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a SCIM request has to wait"
            );
            Self::unavailable()
        } else {
            Self::internal(&error)
        }
    }
}

impl From<sea_orm::DbErr> for Refusal {
    fn from(error: sea_orm::DbErr) -> Self {
        storage::Error::from(error).into()
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoDirectory | Denied::TokenInvalid => Self::unauthorized(),
            Denied::Deleting(_) => Self::retry_later(
                "This directory is going to be deleted, and does not answer until it is restored.",
            ),
            Denied::Paused(by) => Self::retry_later(format!(
                "Writes to this directory are refused at present, as set by {by}; reading goes on. \
                 Try again later."
            )),
            Denied::ManagedByHand(by) => ScimError::new(
                403,
                format!(
                    "This directory is managed by hand, as set by {by}: changes by the identity \
                     provider are refused until that is turned off."
                ),
            )
            .into(),
            Denied::ManagedByProvider => ScimError::new(403, denied.to_string()).into(),
        }
    }
}

impl From<ActivateError> for Refusal {
    fn from(error: ActivateError) -> Self {
        match error {
            ActivateError::Denied(denied) => denied.into(),
            ActivateError::Storage(error) => error.into(),
        }
    }
}

/// Why a user or a group was not written, as the provider hears it.
pub(super) fn refuse(kind: ResourceType, error: resource::Error) -> Refusal {
    match error {
        resource::Error::Denied(denied) => denied.into(),
        resource::Error::NotFound => missing(kind),
        resource::Error::Taken => taken(kind).into(),
        resource::Error::Nesting(error) => ScimError::invalid_value(error.to_string()).into(),
        resource::Error::Refused(cause) => refused(cause),
        resource::Error::Storage(error) => error.into(),
    }
}

/// 404 for a resource.
pub(super) fn missing(kind: ResourceType) -> Refusal {
    ScimError::not_found(match kind {
        ResourceType::User => "There is no such user.",
        ResourceType::Group => "There is no such group.",
    })
    .into()
}

fn taken(kind: ResourceType) -> ScimError {
    ScimError::uniqueness(match kind {
        ResourceType::User => {
            "Another user of this directory has this userName (compared without case). Change the \
             userName, or update the existing user."
        }
        ResourceType::Group => {
            "Another group of this directory has this externalId or, where there is none, this \
             displayName. Rename one of them, or update the existing group."
        }
    })
}

/// What our own closures refuse with is a SCIM error.
fn refused(cause: Box<dyn std::error::Error + Send + Sync>) -> Refusal {
    match cause.downcast::<ScimError>() {
        Ok(error) => (*error).into(),
        Err(cause) => Refusal::internal(cause.as_ref()),
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        answer.insert_header((header::CONTENT_TYPE, CONTENT_TYPE));
        if self.error.status == 401 {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"scim\""));
        }
        if self.is_last {
            answer.insert_header((header::CONNECTION, "close"));
        }
        if let Some(wait) = self.retry_after {
            answer.insert_header((header::RETRY_AFTER, limits::retry_after(wait)));
        }
        answer.body(self.error.to_body().to_string())
    }
}

/// An answer with a body.
pub(super) fn answer(status: StatusCode, body: impl Into<Value>) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
        .body(body.into().to_string())
}
