//! SCIM errors: a status, a `scimType` and a text for the administrator (RFC 7644 section 3.12).
//!
//! The texts are shown to people in the identity provider's console, so each says what was wrong
//! and what to change. They never hold more of a request than the name of an attribute or the
//! position of a fault. Nothing here knows about HTTP beyond the number of the status.

use std::fmt;

use serde_json::{Value, json};

/// The schema of a SCIM error body.
pub const ERROR_URN: &str = "urn:ietf:params:scim:api:messages:2.0:Error";

/// The `scimType` keywords of RFC 7644, table 9, and of RFC 9865.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScimType {
    /// The filter is malformed, or compares what cannot be compared.
    InvalidFilter,
    /// There is more in the request, or in its answer, than the server is willing to process.
    TooMany,
    /// A value is in use already, or reserved.
    Uniqueness,
    /// The attribute cannot be changed that way.
    Mutability,
    /// The body is not JSON, or not the JSON that the request calls for.
    InvalidSyntax,
    /// The `path` of a PATCH operation is malformed.
    InvalidPath,
    /// The `path` of a PATCH operation leads to nothing that could be changed.
    NoTarget,
    /// A required value is missing, or a value is not of the attribute's type.
    InvalidValue,
    /// The SCIM version in the request is not supported.
    InvalidVers,
    /// The request would put sensitive data into a URL.
    Sensitive,
    /// The cursor is none of this list (RFC 9865 section 2.1).
    InvalidCursor,
    /// The page size is too large, or not the one that the cursor was made for (RFC 9865).
    InvalidCount,
}

impl ScimType {
    /// The keyword as it is written in an error body.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidFilter => "invalidFilter",
            Self::TooMany => "tooMany",
            Self::Uniqueness => "uniqueness",
            Self::Mutability => "mutability",
            Self::InvalidSyntax => "invalidSyntax",
            Self::InvalidPath => "invalidPath",
            Self::NoTarget => "noTarget",
            Self::InvalidValue => "invalidValue",
            Self::InvalidVers => "invalidVers",
            Self::Sensitive => "sensitive",
            Self::InvalidCursor => "invalidCursor",
            Self::InvalidCount => "invalidCount",
        }
    }
}

/// One refusal, ready to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScimError {
    /// The HTTP status.
    pub status: u16,
    /// The keyword, for those statuses that have one.
    pub scim_type: Option<ScimType>,
    /// What was wrong and what to change, for a person.
    pub detail: String,
}

impl ScimError {
    /// An error without a `scimType`.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self {
            status,
            scim_type: None,
            detail: detail.into(),
        }
    }

    fn typed(status: u16, scim_type: ScimType, detail: impl Into<String>) -> Self {
        Self {
            status,
            scim_type: Some(scim_type),
            detail: detail.into(),
        }
    }

    /// 400 `invalidValue`.
    pub fn invalid_value(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::InvalidValue, detail)
    }

    /// 400 `invalidSyntax`.
    pub fn invalid_syntax(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::InvalidSyntax, detail)
    }

    /// 400 `invalidPath`.
    pub fn invalid_path(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::InvalidPath, detail)
    }

    /// 400 `noTarget`.
    pub fn no_target(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::NoTarget, detail)
    }

    /// 400 `mutability`.
    pub fn mutability(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::Mutability, detail)
    }

    /// 400 `invalidFilter`.
    pub fn invalid_filter(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::InvalidFilter, detail)
    }

    /// 400 `tooMany`: an array or a result is longer than allowed.
    pub fn too_many(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::TooMany, detail)
    }

    /// 413 `tooMany`: more operations than one request may carry.
    pub fn too_many_operations(detail: impl Into<String>) -> Self {
        Self::typed(413, ScimType::TooMany, detail)
    }

    /// 400 `invalidCursor`.
    pub fn invalid_cursor(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::InvalidCursor, detail)
    }

    /// 400 `invalidCount`.
    pub fn invalid_count(detail: impl Into<String>) -> Self {
        Self::typed(400, ScimType::InvalidCount, detail)
    }

    /// 412: the resource is not in the version that the client has.
    pub fn precondition_failed() -> Self {
        Self::new(
            412,
            "The resource has changed since you read it. Read it again, and repeat the change.",
        )
    }

    /// 409 `uniqueness`.
    pub fn uniqueness(detail: impl Into<String>) -> Self {
        Self::typed(409, ScimType::Uniqueness, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, detail)
    }

    /// The same error with a text in front of its detail, such as the operation it happened in.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.detail = format!("{place}: {}", self.detail);
        self
    }

    /// The body of the answer. `status` is a JSON *string* (RFC 7644 section 3.12).
    pub fn to_body(&self) -> Value {
        let mut body = json!({
            "schemas": [ERROR_URN],
            "status": self.status.to_string(),
            "detail": self.detail,
        });
        if let (Some(scim_type), Some(map)) = (self.scim_type, body.as_object_mut()) {
            map.insert("scimType".to_owned(), scim_type.as_str().into());
        }
        body
    }
}

impl fmt::Display for ScimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(scim_type) = self.scim_type {
            write!(f, " {}", scim_type.as_str())?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl std::error::Error for ScimError {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::ScimError;

    #[test]
    fn the_status_is_a_json_string() {
        assert_eq!(
            ScimError::mutability("Attribute 'id' is read-only").to_body(),
            json!({
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
                "scimType": "mutability",
                "detail": "Attribute 'id' is read-only",
                "status": "400",
            })
        );
    }

    #[test]
    fn an_error_without_a_type_has_no_scim_type() {
        let body = ScimError::not_found("No such user.").to_body();
        assert_eq!(body["status"], "404");
        assert!(body.get("scimType").is_none());
    }

    #[test]
    fn it_prints_as_one_line() {
        assert_eq!(
            ScimError::no_target("x")
                .within("Operations[1]")
                .to_string(),
            "400 noTarget: Operations[1]: x"
        );
    }
}
