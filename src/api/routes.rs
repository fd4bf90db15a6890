//! Which operation answers which URL.

use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web::{Path, Payload, ServiceConfig, delete, get, patch, post, resource, scope, to};
use actix_web::{Error, HttpRequest, HttpResponse, Resource, ResponseError as _};
use serde::Deserialize;

use super::caller::Caller;
use super::directory_states::VERBS;
use super::requests::ListRequests;
use super::tokens::{CreateToken, RotateToken};
use super::{
    Problem, api_keys, audit, checks, directories, directory_states, erasure, explanations,
    generations, health, idempotency, organizations, read, requests, tokens,
};
use crate::web::front::Refused;

mod by_hand;
mod deliveries;
mod endpoints;
mod state;

type Answer = Result<HttpResponse, Problem>;

/// Mounts the API.
pub fn configure(config: &mut ServiceConfig) {
    let turns = format!("/directories/{{id}}/{{verb:{}}}", VERBS.join("|"));
    config
        .service(endpoint("/organizations").route(post().to(create_organization)))
        .service(
            endpoint("/organizations/{id}")
                .route(get().to(show_organization))
                .route(delete().to(delete_organization)),
        )
        .service(endpoint("/directories/{id}").route(delete().to(delete_contract_directory)))
        .configure(endpoints::configure_contract)
        .service(
            scope("/admin/v1")
                .service(endpoint("/api_keys").route(post().to(create_api_key)))
                .service(endpoint("/audit_entries").route(get().to(list_audit_entries)))
                .service(endpoint("/generations").route(get().to(list_generations)))
                .service(
                    endpoint("/organizations/{id}/restore").route(post().to(restore_organization)),
                )
                .service(
                    endpoint("/directories")
                        .route(get().to(list_directories))
                        .route(post().to(create_directory)),
                )
                .service(endpoint(&turns).route(post().to(turn_directory)))
                .service(
                    endpoint("/directories/{id}")
                        .route(get().to(show_directory))
                        .route(patch().to(configure_directory))
                        .route(delete().to(delete_directory)),
                )
                .service(endpoint("/sign_in_checks").route(get().to(check_sign_in)))
                .service(endpoint("/registration_checks").route(get().to(check_registration)))
                .service(endpoint("/explanations").route(get().to(explain)))
                .service(endpoint("/erasures").route(post().to(erase)))
                .service(endpoint("/directories/{id}/health").route(get().to(show_health)))
                .service(
                    endpoint("/directories/{id}/labels/{label}")
                        .route(delete().to(remove_directory_label)),
                )
                .service(
                    endpoint("/directories/{id}/tokens")
                        .route(get().to(list_tokens))
                        .route(post().to(create_token)),
                )
                .service(
                    endpoint("/directories/{id}/tokens/{token}")
                        .route(get().to(show_token))
                        .route(delete().to(revoke_token)),
                )
                .service(
                    endpoint("/directories/{id}/tokens/{token}/rotate")
                        .route(post().to(rotate_token)),
                )
                .service(endpoint("/directories/{id}/requests").route(get().to(list_requests)))
                .service(
                    endpoint("/directories/{id}/requests/{request}").route(get().to(show_request)),
                )
                .configure(by_hand::configure)
                .configure(state::configure)
                .configure(deliveries::configure)
                .configure(endpoints::configure)
                .default_service(to(not_found)),
        );
}

/// A place of the API; what is posted there with an idempotency key is carried out once.
fn endpoint(
    path: &str,
) -> Resource<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    resource(path)
        .wrap(from_fn(idempotency::once))
        .default_service(to(method_not_allowed))
}

async fn method_not_allowed(_: Caller) -> Answer {
    Err(Problem::new(
        405,
        "method_not_allowed",
        "This endpoint does not have this method.",
    ))
}

/// Answers paths that do not exist.
pub async fn not_found(request: HttpRequest) -> Answer {
    Err(Problem::new(
        404,
        "not_found",
        format!("There is nothing at {}.", request.path()),
    ))
}

/// Answers what is refused before it has a handler.
pub fn refuse(refused: Refused) -> HttpResponse {
    Problem::from(refused).error_response()
}

async fn create_organization(caller: Caller, request: HttpRequest, payload: Payload) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = organizations::create(&caller, body).await?;
    Ok(HttpResponse::Created().json(view))
}

async fn show_organization(caller: Caller, id: Path<String>) -> Answer {
    let view = organizations::show(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn delete_organization(caller: Caller, id: Path<String>) -> Answer {
    let view = organizations::delete(&caller, &id).await?;
    Ok(HttpResponse::Accepted().json(view))
}

async fn restore_organization(caller: Caller, id: Path<String>) -> Answer {
    let view = organizations::restore(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// What `POST /admin/v1/api_keys` takes.
#[derive(Deserialize)]
struct CreateApiKey {
    name: String,
}

async fn create_api_key(caller: Caller, request: HttpRequest, payload: Payload) -> Answer {
    let body: CreateApiKey = read::body(&caller.context, &request, payload).await?;
    let view = api_keys::create(&caller, body.name).await?;
    Ok(HttpResponse::Created().json(view))
}

async fn list_audit_entries(caller: Caller, request: HttpRequest) -> Answer {
    let search = read::query(request.query_string())?;
    let view = audit::list(&caller, search).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn list_generations(caller: Caller) -> Answer {
    Ok(HttpResponse::Ok().json(generations::list(&caller).await?))
}

async fn create_directory(caller: Caller, request: HttpRequest, payload: Payload) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = directories::create(&caller, body).await?;
    Ok(HttpResponse::Created().json(view))
}

async fn show_directory(caller: Caller, id: Path<String>) -> Answer {
    let view = directories::show(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn configure_directory(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = directories::configure(&caller, &id, body).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn remove_directory_label(caller: Caller, path: Path<(String, String)>) -> Answer {
    directories::remove_label(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list_directories(caller: Caller, request: HttpRequest) -> Answer {
    let query = read::query(request.query_string())?;
    let view = directories::list(&caller, query).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn delete_directory(caller: Caller, id: Path<String>, request: HttpRequest) -> Answer {
    let query = read::query(request.query_string())?;
    let view = directory_states::delete(&caller, &id, &query).await?;
    Ok(HttpResponse::Accepted().json(view))
}

async fn delete_contract_directory(caller: Caller, id: Path<String>) -> Answer {
    let request = directory_states::DeleteDirectory::default();
    directory_states::delete(&caller, &id, &request).await?;
    Ok(HttpResponse::Accepted().json(serde_json::json!({})))
}

async fn turn_directory(caller: Caller, path: Path<(String, String)>) -> Answer {
    let view = directory_states::turn(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn show_health(caller: Caller, id: Path<String>) -> Answer {
    let view = health::show(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn check_sign_in(caller: Caller, request: HttpRequest) -> Answer {
    let view = checks::sign_in(&caller, &read::query(request.query_string())?).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn check_registration(caller: Caller, request: HttpRequest) -> Answer {
    let view = checks::registration(&caller, &read::query(request.query_string())?).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn explain(caller: Caller, request: HttpRequest) -> Answer {
    let view = explanations::explain(&caller, &read::query(request.query_string())?).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn erase(caller: Caller, request: HttpRequest, payload: Payload) -> Answer {
    let body = read::body(&caller.context, &request, payload).await?;
    let view = erasure::create(&caller, &body).await?;
    Ok(HttpResponse::Created().json(view))
}

async fn create_token(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let mut body: CreateToken = read::optional_body(&caller.context, &request, payload).await?;
    body.replace = body.replace.or_else(|| replaced(&request));
    let view = tokens::create(&caller, &id, body).await?;
    Ok(new_token(&view))
}

async fn rotate_token(
    caller: Caller,
    path: Path<(String, String)>,
    request: HttpRequest,
    payload: Payload,
) -> Answer {
    let mut body: RotateToken = read::optional_body(&caller.context, &request, payload).await?;
    body.token.replace = body.token.replace.or_else(|| replaced(&request));
    let view = tokens::rotate(&caller, &path.0, &path.1, body).await?;
    Ok(new_token(&view))
}

/// The token to end, which may be named in the query as well.
fn replaced(request: &HttpRequest) -> Option<String> {
    url::form_urlencoded::parse(request.query_string().as_bytes())
        .find(|(name, _)| name == "replace")
        .map(|(_, id)| id.into_owned())
}

fn new_token(view: &serde_json::Value) -> HttpResponse {
    HttpResponse::Created()
        .insert_header(("Cache-Control", "no-store"))
        .json(view)
}

async fn list_tokens(caller: Caller, id: Path<String>) -> Answer {
    let view = tokens::list(&caller, &id).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn show_token(caller: Caller, path: Path<(String, String)>) -> Answer {
    let view = tokens::show(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn revoke_token(caller: Caller, path: Path<(String, String)>) -> Answer {
    tokens::revoke(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list_requests(caller: Caller, id: Path<String>, request: HttpRequest) -> Answer {
    let query = ListRequests::parse(request.query_string())?;
    let view = requests::list(&caller, &id, query).await?;
    Ok(HttpResponse::Ok().json(view))
}

async fn show_request(caller: Caller, path: Path<(String, String)>) -> Answer {
    let view = requests::show(&caller, &path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(view))
}
