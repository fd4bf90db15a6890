//! What is known of a directory as a whole: its checksum, its guard, and its snapshots on their way.

use actix_web::web::{Path, Payload, ServiceConfig, delete, get, patch, post, put};
use actix_web::{HttpRequest, HttpResponse};

use super::{Answer, endpoint};
use crate::api::{Caller, checksum, guard, read, snapshots};

/// Mounts it below `/admin/v1`.
pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(endpoint("/directories/{id}/checksum").route(get().to(show_checksum)))
        .service(
            endpoint("/directories/{id}/guard")
                .route(get().to(show_guard))
                .route(put().to(set_guard))
                .route(patch().to(set_guard)),
        )
        .service(endpoint("/directories/{id}/guard/release").route(post().to(release_guard)))
        .service(endpoint("/directories/{id}/snapshot").route(post().to(start_snapshot)))
        .service(
            endpoint("/snapshots/{id}")
                .route(get().to(show_snapshot))
                .route(delete().to(cancel_snapshot)),
        )
        .service(endpoint("/webhook_endpoints/{id}/snapshots").route(get().to(list_snapshots)));
}

async fn show_checksum(caller: Caller, id: Path<String>) -> Answer {
    let view = checksum::show(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn show_guard(caller: Caller, id: Path<String>) -> Answer {
    let view = guard::show(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn set_guard(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = guard::set(&caller, &id, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn release_guard(caller: Caller, id: Path<String>) -> Answer {
    let view = guard::release(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn start_snapshot(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = snapshots::start(&caller, &id, body).await?;
    Ok(HttpResponse::Accepted().json(view))
}

async fn show_snapshot(caller: Caller, id: Path<String>) -> Answer {
    let view = snapshots::show(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn cancel_snapshot(caller: Caller, id: Path<String>) -> Answer {
    let view = snapshots::cancel(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn list_snapshots(caller: Caller, id: Path<String>, request: HttpRequest) -> Answer {
    let query = read::query(request.query_string())?;
    let view = snapshots::list(&caller, &id, query).await?;
    Ok(HttpResponse::Ok().json(view))
}
