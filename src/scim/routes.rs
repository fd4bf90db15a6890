//! Which handler answers which URL under `/scim/v2/{directory}`, or under `/scim/v2` of a directory's own
//! host.
//!
//! Methods that an endpoint lacks are 405, and paths that do not exist 404, both only after the caller
//! is known, and both in SCIM's own form.

use actix_web::guard::GuardContext;
use actix_web::middleware::from_fn;
use actix_web::web::{
    Data, Payload, ServiceConfig, delete, get, head, patch, post, put, resource, scope, to,
};
use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, ResponseError as _, Scope,
};

use super::caller::{Caller, Knock};
use super::error::ScimError;
use super::http::Refusal;
use super::schema::ResourceType::{self, Group, User};
use super::search::anchors::Anchors;
use super::{bulk, discovery, handlers, journal};
use crate::directories::address;
use crate::web::front::Refused;

/// What the handlers of a node share.
pub fn shared() -> Data<impl std::fmt::Debug> {
    Data::new(Anchors::default())
}

/// Mounts the SCIM endpoints, twice.
pub fn configure(config: &mut ServiceConfig) {
    // The segment is there and empty, so that handlers find the same ones in both.
    let by_host = scope("/scim/v2{directory:}").guard(names_no_directory);
    let by_path = scope("/scim/v2/{directory}");
    config
        .service(endpoints(by_host).wrap(from_fn(journal::keep)))
        .service(endpoints(by_path).wrap(from_fn(journal::keep)))
        .service(scope("/scim").default_service(to(no_scim)));
}

/// Whether the path goes on with an endpoint, or not at all, where a directory would be named.
fn names_no_directory(request: &GuardContext<'_>) -> bool {
    let path = request.head().uri.path();
    let rest = path.strip_prefix("/scim/v2").unwrap_or("");
    let segment = rest.split('/').nth(1).unwrap_or("");
    segment.is_empty() || address::is_endpoint(segment)
}

fn endpoints(directory: Scope) -> Scope {
    directory
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
        .default_service(to(not_found))
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

/// Answers what is refused before it has a handler.
pub fn refuse(refused: Refused) -> HttpResponse {
    Refusal::from(refused).error_response()
}

async fn no_scim() -> Result<HttpResponse, Refusal> {
    Err(ScimError::not_found("SCIM 2.0 is at /scim/v2; there is nothing else below /scim.").into())
}

async fn not_found(_: Caller) -> Result<HttpResponse, Refusal> {
    Err(ScimError::not_found(
        "There is no such endpoint. The directory's base URL is followed by /Users, /Groups, /Bulk, \
         /.search, /Schemas, /ResourceTypes or /ServiceProviderConfig.",
    )
    .into())
}
