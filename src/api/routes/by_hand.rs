//! Who is master of a directory's users and groups, and writing them by hand.

use actix_web::web::{Path, Payload, Query, ServiceConfig, delete, get, patch, post, put};
use actix_web::{HttpRequest, HttpResponse};

use super::{Answer, endpoint};
use crate::api::groups::Movement;
use crate::api::{Caller, Problem, groups, management, read, resources, users};
use crate::directories::resource::ResourceKind;

/// Mounts it below `/admin/v1`.
pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(
            endpoint("/directories/{id}/management")
                .route(get().to(show_management))
                .route(put().to(switch_management)),
        )
        .service(
            endpoint("/directories/{id}/inactive_users")
                .route(get().to(show_inactive_users))
                .route(put().to(set_inactive_users)),
        )
        .service(endpoint("/directories/{id}/refused_writes").route(get().to(list_refused_writes)))
        .service(endpoint("/directories/{id}/drift").route(get().to(list_drift)))
        .service(endpoint("/directories/{id}/users").route(post().to(create_user)))
        .service(
            endpoint("/directories/{id}/users/{user}")
                .route(get().to(show_user))
                .route(put().to(replace_user))
                .route(patch().to(change_user))
                .route(delete().to(delete_user)),
        )
        .service(endpoint("/directories/{id}/groups").route(post().to(create_group)))
        .service(
            endpoint("/directories/{id}/groups/{group}")
                .route(get().to(show_group))
                .route(put().to(replace_group))
                .route(patch().to(change_group))
                .route(delete().to(delete_group)),
        )
        .service(
            endpoint("/directories/{id}/groups/{group}/members")
                .route(post().to(add_members))
                .route(delete().to(remove_members)),
        );
}

async fn show_management(caller: Caller, id: Path<String>) -> Answer {
    let view = management::show(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn switch_management(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = management::switch(&caller, &id, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn show_inactive_users(caller: Caller, id: Path<String>) -> Answer {
    let view = management::show_inactive_users(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn set_inactive_users(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = management::set_inactive_users(&caller, &id, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn list_refused_writes(caller: Caller, id: Path<String>, request: HttpRequest) -> Answer {
    let view = management::refused_writes(&caller, &id, page(&request)?).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn list_drift(caller: Caller, id: Path<String>, request: HttpRequest) -> Answer {
    let view = management::drift(&caller, &id, page(&request)?).await?;
    Ok(HttpResponse::Ok().json(view))
}

fn page(request: &HttpRequest) -> Result<management::Page, Problem> {
    let page = Query::<management::Page>::from_query(request.query_string());
    page.map(Query::into_inner).map_err(|error| {
        let text = format!("The query does not fit: {error}.");
        Problem::new(422, "invalid_request_parameters", text)
    })
}

async fn create_user(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = resources::read_body(&caller, ResourceKind::User, &request, payload).await?;
    let view = users::create(&caller, &id, body).await?;
    Ok(HttpResponse::Created().json(view))
}

async fn show_user(caller: Caller, path: Path<(String, String)>) -> Answer {
    let view = users::show(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn replace_user(
    caller: Caller,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = resources::read_body(&caller, ResourceKind::User, &request, payload).await?;
    let view = users::replace(&caller, &path.0, &path.1, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn change_user(
    caller: Caller,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = resources::read_body(&caller, ResourceKind::User, &request, payload).await?;
    let view = users::change(&caller, &path.0, &path.1, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn delete_user(caller: Caller, path: Path<(String, String)>) -> Answer {
    users::delete(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn create_group(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = resources::read_body(&caller, ResourceKind::Group, &request, payload).await?;
    let view = groups::create(&caller, &id, body).await?;
    Ok(HttpResponse::Created().json(view))
}

async fn show_group(caller: Caller, path: Path<(String, String)>) -> Answer {
    let view = groups::show(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn replace_group(
    caller: Caller,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = resources::read_body(&caller, ResourceKind::Group, &request, payload).await?;
    let view = groups::replace(&caller, &path.0, &path.1, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn change_group(
    caller: Caller,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = resources::read_body(&caller, ResourceKind::Group, &request, payload).await?;
    let view = groups::change(&caller, &path.0, &path.1, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn delete_group(caller: Caller, path: Path<(String, String)>) -> Answer {
    groups::delete(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn add_members(
    caller: Caller,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = groups::move_users(&caller, &path.0, &path.1, Movement::Join, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn remove_members(
    caller: Caller,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = groups::move_users(&caller, &path.0, &path.1, Movement::Leave, body).await?;
    Ok(HttpResponse::Ok().json(view))
}
