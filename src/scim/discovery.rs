//! Handlers of the discovery endpoints (RFC 7644 section 4).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use super::caller::Caller;
use super::error::ScimError;
use super::http::{Refusal, answer};
use super::{render, schema};

pub(super) async fn service_provider_config(
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let found = schema::discovery::service_provider_config(&caller.base_url);
    one(&request, Some(found), "")
}

pub(super) async fn schemas(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    all(&request, &schema::discovery::schemas(&caller.base_url))
}

pub(super) async fn schema(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let found = schema::discovery::schema(&caller.base_url, name(&request));
    one(&request, found, "There is no such schema.")
}

pub(super) async fn resource_types(
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    all(
        &request,
        &schema::discovery::resource_types(&caller.base_url),
    )
}

pub(super) async fn resource_type(
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let found = schema::discovery::resource_type(&caller.base_url, name(&request));
    one(&request, found, "There is no such resource type.")
}

/// Which document, as the URL names it.
fn name(request: &HttpRequest) -> &str {
    request.match_info().get("name").unwrap_or("")
}

fn all(request: &HttpRequest, found: &[Value]) -> Result<HttpResponse, Refusal> {
    refuse_filter(request)?;
    Ok(answer(StatusCode::OK, render::list_response(found)))
}

fn one(
    request: &HttpRequest,
    found: Option<Value>,
    missing: &str,
) -> Result<HttpResponse, Refusal> {
    refuse_filter(request)?;
    let found = found.ok_or_else(|| ScimError::not_found(missing))?;
    Ok(answer(StatusCode::OK, found))
}

/// Other parameters are ignored, but who sends a filter would take the answer for filtered.
fn refuse_filter(request: &HttpRequest) -> Result<(), ScimError> {
    let mut parameters = url::form_urlencoded::parse(request.query_string().as_bytes());
    if parameters.any(|(name, _)| name.eq_ignore_ascii_case("filter")) {
        return Err(ScimError::new(
            403,
            "Discovery documents cannot be filtered. Leave 'filter' out.",
        ));
    }
    Ok(())
}
