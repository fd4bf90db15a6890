//! Which handler answers which URL under `/scim/v2/{directory}`.
//!
//! Methods that an endpoint lacks are 405, and paths that do not exist 404, both only after the caller
//! is known, and both in SCIM's own form.

use actix_web::web::{
    Data, Payload, ServiceConfig, delete, get, head, patch, post, put, resource, scope, to,
};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder};

use super::caller::{Caller, Knock};
use super::error::ScimError;
use super::http::Refusal;
use super::schema::ResourceType::{self, Group, User};
use super::search::anchors::Anchors;
use super::{bulk, discovery, handlers};

/// What the handlers of a node share.
pub fn shared() -> Data<impl std::fmt::Debug> {
    Data::new(Anchors::default())
}

/// Mounts the SCIM endpoints.
pub fn configure(config: &mut ServiceConfig) {
    let directory = scope("/scim/v2/{directory}")
        .service(list_of("", &[User, Group]))
        .service(search_of("/.search", &[User, Group]))
        .service(search_of("/Users/.search", &[User]))
        .service(search_of("/Groups/.search", &[Group]))
        .service(collection("/Users", &[User], User))
        .service(collection("/Groups", &[Group], Group))
        .service(one("/Users/{id}", User))
        .service(one("/Groups/{id}", Group))
        .service(endpoint("/Bulk").route(post().to(bulk::run)))
        .service(resource("/Me").default_service(to(handlers::me)))
        .service(document(
            "/ServiceProviderConfig",
            discovery::service_provider_config,
        ))
        .service(document("/Schemas", discovery::schemas))
        .service(document("/Schemas/{name}", discovery::schema))
        .service(document("/ResourceTypes", discovery::resource_types))
        .service(document("/ResourceTypes/{name}", discovery::resource_type))
        .default_service(to(not_found));
    config.service(directory);
}

/// A resource that answers 405 to the methods that it lacks.
fn endpoint(path: &str) -> Resource {
    resource(path).default_service(to(method_not_allowed))
}

type Kinds = &'static [ResourceType];

/// Resources of these kinds, to be read.
fn list_of(path: &str, kinds: Kinds) -> Resource {
    let list = move |knock: Knock, request: HttpRequest, anchors: Data<Anchors>| {
        handlers::list(kinds, knock, request, anchors)
    };
    endpoint(path).route(get().to(list)).route(head().to(list))
}

/// Resources of these kinds, to be asked for in a body.
fn search_of(path: &str, kinds: Kinds) -> Resource {
    let search =
        move |caller: Caller, request: HttpRequest, body: Payload, anchors: Data<Anchors>| {
            handlers::search(kinds, caller, request, body, anchors)
        };
    endpoint(path).route(post().to(search))
}

/// All resources of one kind.
fn collection(path: &str, kinds: Kinds, kind: ResourceType) -> Resource {
    let create = move |caller: Caller, request: HttpRequest, body: Payload| {
        handlers::create(kind, caller, request, body)
    };
    list_of(path, kinds).route(post().to(create))
}

/// One resource.
fn one(path: &str, kind: ResourceType) -> Resource {
    let read = move |knock: Knock, request: HttpRequest| handlers::read(kind, knock, request);
    let replace = move |caller: Caller, request: HttpRequest, body: Payload| {
        handlers::replace(kind, caller, request, body)
    };
    let change = move |caller: Caller, request: HttpRequest, body: Payload| {
        handlers::patch(kind, caller, request, body)
    };
    let remove =
        move |caller: Caller, request: HttpRequest| handlers::delete(kind, caller, request);
    endpoint(path)
        .route(get().to(read))
        .route(head().to(read))
        .route(put().to(replace))
        .route(patch().to(change))
        .route(delete().to(remove))
}

/// A discovery document.
fn document<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args> + Clone,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    endpoint(path)
        .route(get().to(handler.clone()))
        .route(head().to(handler))
}

async fn method_not_allowed(_: Caller) -> Result<HttpResponse, Refusal> {
    Err(ScimError::new(405, "This endpoint does not have this method.").into())
}

async fn not_found(_: Caller) -> Result<HttpResponse, Refusal> {
    Err(ScimError::not_found(
        "There is no such endpoint. The base URL ends with the directory's key, and is followed by \
         /Users, /Groups, /Bulk, /.search, /Schemas, /ResourceTypes or /ServiceProviderConfig.",
    )
    .into())
}
