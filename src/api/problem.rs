//! The wire contract's error shape: `{"message", "code", "errors"}`.
//!
//! There is never an `error` key: an SDK would take it for an OAuth error.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::limits;
use crate::storage;
use crate::web::body::BodyError;
use crate::web::front::Refused;

/// What is wrong with one field; SDKs print the code as the requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field.
    pub field: String,
    /// What it must be.
    pub code: String,
}

/// An error on its way to a vendor.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(skip)]
    status: u16,
    message: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    /// Whether the connection ends, because the rest of the request is not read.
    #[serde(skip)]
    is_last: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)?;
        for error in &self.errors {
            write!(formatter, "; {}: {}", error.field, error.code)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl Problem {
    /// A problem with this status, code and text.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code,
            errors: Vec::new(),
            retry_after: None,
            is_last: false,
        }
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(
            401,
            "unauthorized",
            "The API key is missing, wrong or revoked. Send it as 'Authorization: Bearer sk_…'.",
        )
    }

    /// 404 for an entity with this id.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(
            404,
            "entity_not_found",
            format!("{what} not found: '{id}'."),
        )
    }

    /// 422 with what is wrong with which field.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        Self {
            errors,
            ..Self::new(
                422,
                "invalid_request_parameters",
                "The request has invalid parameters.",
            )
        }
    }

    /// The problem with what it is about, by field.
    #[must_use]
    pub fn with_errors(self, errors: Vec<FieldError>) -> Self {
        Self { errors, ..self }
    }

    /// The problem with when it is worth trying again.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// 429.
    pub fn too_many_requests(wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::new(
                429,
                "rate_limit_exceeded",
                "Too many requests. Send fewer at a time.",
            )
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A defect of ours; the cause goes to the log only.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "an API request failed");
        Self::new(
            500,
            "internal_error",
            "The server failed to answer. The X-Request-ID header names this request in its log.",
        )
    }
}

impl From<storage::Error> for Problem {
    fn from(error: storage::Error) -> Self {
        if error.is_transient() {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "an API request has to wait"
            );
            return Self {
                retry_after: Some(Duration::from_secs(5)),
                ..Self::new(
                    503,
                    "unavailable",
                    "The server cannot answer right now. Try again.",
                )
            };
        }
        Self::internal(&error)
    }
}

impl From<sea_orm::DbErr> for Problem {
    fn from(error: sea_orm::DbErr) -> Self {
        storage::Error::from(error).into()
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::Busy => "unavailable",
            BodyError::TooLarge(_)
            | BodyError::TooSlow
            | BodyError::Broken
            | BodyError::Encoded
            | BodyError::NotJson => "invalid_body",
        };
        Self {
            is_last: true,
            retry_after: error.retry_after(),
            ..Self::new(error.status(), code, format!("In the request, {error}."))
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::NotServed => "not_implemented",
            Refused::TargetTooLong(_) => "uri_too_long",
        };
        Self {
            is_last: true,
            ..Self::new(refused.status(), code, refused.to_string())
        }
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        if let Some(wait) = self.retry_after {
            answer.insert_header((header::RETRY_AFTER, limits::retry_after(wait)));
        }
        if self.is_last {
            answer.insert_header((header::CONNECTION, "close"));
        }
        answer.json(self)
    }
}
