//! Reading what vendors send: bodies, ids, and what the contract says about fields.

use actix_web::HttpRequest;
use actix_web::web::{Payload, Query};
use serde::de::DeserializeOwned;

use super::{FieldError, Problem};
use crate::context::Context;
use crate::web;

/// How long a name may be, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Reads a JSON body. Fields that we do not know are ignored, as newer SDKs may send some.
pub(super) async fn body<T: DeserializeOwned>(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
) -> Result<T, Problem> {
    let bytes = web::body::read(request, payload, context.limits.api_body_bytes).await?;
    parse(&bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let unfit = |why: &str| {
        Problem::new(
            422,
            "invalid_request_parameters",
            format!("The body does not fit: {why}."),
        )
    };
    let read = serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            unfit(&error.to_string())
        } else {
            Problem::new(
                400,
                "invalid_json",
                format!("The body is not JSON: {error}."),
            )
        }
    })?;
    // Else a list would be taken for the fields in their order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(unfit("it must be an object"));
    }
    Ok(read)
}

/// Reads what follows the `?` of a URL. Names that we do not know are ignored, as those of bodies are.
///
/// # Errors
/// A value does not fit.
pub fn query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let read = Query::<T>::from_query(text).map_err(|error| {
        Problem::new(
            422,
            "invalid_request_parameters",
            format!("The query does not fit: {error}."),
        )
    })?;
    Ok(read.into_inner())
}

/// The same where no field is needed: an empty body stands for an object without fields, since SDKs
/// send one when they have nothing to say.
pub(super) async fn optional_body<T: DeserializeOwned + Default>(
    context: &Context,
    request: &HttpRequest,
    payload: Payload,
) -> Result<T, Problem> {
    let bytes = web::body::read(request, payload, context.limits.api_body_bytes).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    parse(&bytes)
}

/// The form of a name: some text, not too long, without control characters.
pub(super) fn check_name(field: &str, name: &str, errors: &mut Vec<FieldError>) {
    let code = if name.trim().is_empty() {
        "must not be empty"
    } else if name.len() > NAME_BYTES_MAX {
        "must be at most 255 bytes"
    } else if name.contains(char::is_control) {
        "must not contain control characters"
    } else {
        return;
    };
    errors.push(field_error(field, code));
}

/// An error about one field.
pub(super) fn field_error(field: &str, code: impl Into<String>) -> FieldError {
    FieldError {
        field: field.to_owned(),
        code: code.into(),
    }
}
