//! Deliveries to look at and to send again.

use actix_web::web::{Path, Payload, ServiceConfig, delete, get, post};
use actix_web::{HttpRequest, HttpResponse};

use super::{Answer, endpoint};
use crate::api::{Caller, deliveries, read, replays};

/// Mounts it below `/admin/v1`.
pub(super) fn configure(config: &mut ServiceConfig) {
    const REPLAYS: &str = "/webhook_endpoints/{id}/replays";
    config
        .service(endpoint("/deliveries").route(get().to(list_deliveries)))
        .service(endpoint("/log").route(get().to(read_log)))
        .service(
            endpoint("/webhook_endpoints/{id}/deliveries/{delivery}")
                .route(get().to(show_delivery)),
        )
        .service(endpoint("/webhook_endpoints/{id}/backlog").route(get().to(show_backlog)))
        .service(
            endpoint(REPLAYS)
                .route(get().to(list_replays))
                .route(post().to(create_replay)),
        )
        .service(
            endpoint(&format!("{REPLAYS}/{{replay}}"))
                .route(get().to(show_replay))
                .route(delete().to(cancel_replay)),
        );
}

async fn list_deliveries(caller: Caller, request: HttpRequest) -> Answer {
    let query = read::query(request.query_string())?;
    let view = deliveries::list(&caller, query).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn read_log(caller: Caller, request: HttpRequest) -> Answer {
    let query = read::query(request.query_string())?;
    let view = deliveries::log(&caller, query).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn show_delivery(caller: Caller, path: Path<(String, String)>) -> Answer {
    let view = deliveries::show(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn show_backlog(caller: Caller, id: Path<String>) -> Answer {
    let view = deliveries::backlog(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn create_replay(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = replays::create(&caller, &id, body).await?;
    Ok(HttpResponse::Accepted().json(view))
}

async fn list_replays(caller: Caller, id: Path<String>, request: HttpRequest) -> Answer {
    let query = read::query(request.query_string())?;
    let view = replays::list(&caller, &id, query).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn show_replay(caller: Caller, path: Path<(String, String)>) -> Answer {
    let view = replays::show(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn cancel_replay(caller: Caller, path: Path<(String, String)>) -> Answer {
    let view = replays::cancel(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(view))
}
