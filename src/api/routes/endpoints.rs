//! Which operations on webhook endpoints answer which URL.

use actix_web::web::{Path, Payload, ServiceConfig, delete, get, patch, post};
use actix_web::{HttpRequest, HttpResponse};

use super::{Answer, endpoint};
use crate::api::caller::Caller;
use crate::api::{endpoints, read};

/// Mounts the wire contract's.
pub(super) fn configure_contract(config: &mut ServiceConfig) {
    config
        .service(
            endpoint("/webhook_endpoints")
                .route(get().to(list_contract_endpoints))
                .route(post().to(create_contract_endpoint)),
        )
        .service(
            endpoint("/webhook_endpoints/{id}")
                .route(patch().to(configure_contract_endpoint))
                .route(delete().to(delete_endpoint)),
        );
}

/// Mounts ours.
pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(
            endpoint("/webhook_endpoints")
                .route(get().to(list_endpoints))
                .route(post().to(create_endpoint)),
        )
        .service(
            endpoint("/webhook_endpoints/{id}")
                .route(get().to(show_endpoint))
                .route(patch().to(configure_endpoint))
                .route(delete().to(delete_endpoint)),
        )
        .service(endpoint("/webhook_endpoints/{id}/test").route(post().to(test_endpoint)))
        .service(endpoint("/webhook_endpoints/{id}/secrets").route(post().to(add_secret)))
        .service(
            endpoint("/webhook_endpoints/{id}/secrets/promote").route(post().to(promote_secret)),
        )
        .service(endpoint("/webhook_endpoints/{id}/secrets/{role}").route(delete().to(end_secret)));
}

async fn list_contract_endpoints(caller: Caller, request: HttpRequest) -> Answer {
    let query = read::query(request.query_string())?;
    let view = endpoints::list_contract(&caller, query).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn create_contract_endpoint(
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = endpoints::create_contract(&caller, body).await?;
    Ok(HttpResponse::Created().json(view))
}

async fn configure_contract_endpoint(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = endpoints::configure_contract(&caller, &id, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn list_endpoints(caller: Caller, request: HttpRequest) -> Answer {
    let query = read::query(request.query_string())?;
    let view = endpoints::list(&caller, query).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn create_endpoint(caller: Caller, request: HttpRequest, payload: Payload) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = endpoints::create(&caller, body).await?;
    Ok(new_secret(&view))
}

async fn show_endpoint(caller: Caller, id: Path<String>) -> Answer {
    let view = endpoints::show(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn configure_endpoint(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = endpoints::configure(&caller, &id, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn delete_endpoint(caller: Caller, id: Path<String>) -> Answer {
    endpoints::delete(&caller, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn test_endpoint(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::optional_body(&caller.context, &request, payload).await?;
    let view = endpoints::test(&caller, &id, &body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn add_secret(caller: Caller, id: Path<String>) -> Answer {
    let view = endpoints::add_secret(&caller, &id).await?;
    Ok(new_secret(&view))
}

async fn promote_secret(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::optional_body(&caller.context, &request, payload).await?;
    let view = endpoints::promote_secret(&caller, &id, &body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn end_secret(caller: Caller, path: Path<(String, String)>) -> Answer {
    endpoints::end_secret(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn new_secret(view: &serde_json::Value) -> HttpResponse {
    HttpResponse::Created()
        .insert_header(("Cache-Control", "no-store"))
        .json(view)
}
