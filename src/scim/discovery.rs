//! Handlers of the discovery endpoints (RFC 7644 section 4).

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::caller::Caller;
use super::error::ScimError;
use super::http::{Refusal, answer};
use super::{render, schema};

pub(super) async fn service_provider_config(caller: Caller) -> HttpResponse {
    answer(
        StatusCode::OK,
        schema::discovery::service_provider_config(&caller.base_url),
    )
}

pub(super) async fn schemas(caller: Caller) -> HttpResponse {
    list(schema::discovery::schemas(&caller.base_url))
}

pub(super) async fn schema(
    caller: Caller,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    let found = schema::discovery::schema(&caller.base_url, &path.1);
    one(found, "There is no such schema.")
}

pub(super) async fn resource_types(caller: Caller) -> HttpResponse {
    list(schema::discovery::resource_types(&caller.base_url))
}

pub(super) async fn resource_type(
    caller: Caller,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    let found = schema::discovery::resource_type(&caller.base_url, &path.1);
    one(found, "There is no such resource type.")
}

fn list(all: Vec<serde_json::Value>) -> HttpResponse {
    let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
    answer(StatusCode::OK, render::list_response(all, total, 1))
}

fn one(found: Option<serde_json::Value>, missing: &str) -> Result<HttpResponse, Refusal> {
    let found = found.ok_or_else(|| ScimError::not_found(missing))?;
    Ok(answer(StatusCode::OK, found))
}
