//! Which handler answers which URL under `/scim/v2/{directory}`.
//!
//! Methods that an endpoint lacks are 405, and paths that do not exist 404, both only after the caller
//! is known, and both in SCIM's own form.

use actix_web::web::{ServiceConfig, delete, get, patch, post, put, resource, scope, to};
use actix_web::{HttpResponse, Resource};

use super::caller::Caller;
use super::error::ScimError;
use super::http::Refusal;
use super::{discovery, groups, users};

/// Mounts the SCIM endpoints.
pub fn configure(config: &mut ServiceConfig) {
    let directory = scope("/scim/v2/{directory}")
        .service(
            endpoint("/Users")
                .route(get().to(users::list))
                .route(post().to(users::create)),
        )
        .service(
            endpoint("/Users/{id}")
                .route(get().to(users::read))
                .route(put().to(users::replace))
                .route(patch().to(users::patch))
                .route(delete().to(users::delete)),
        )
        .service(
            endpoint("/Groups")
                .route(get().to(groups::list))
                .route(post().to(groups::create)),
        )
        .service(
            endpoint("/Groups/{id}")
                .route(get().to(groups::read))
                .route(put().to(groups::replace))
                .route(patch().to(groups::patch))
                .route(delete().to(groups::delete)),
        )
        .service(
            endpoint("/ServiceProviderConfig").route(get().to(discovery::service_provider_config)),
        )
        .service(endpoint("/Schemas").route(get().to(discovery::schemas)))
        .service(endpoint("/Schemas/{urn}").route(get().to(discovery::schema)))
        .service(endpoint("/ResourceTypes").route(get().to(discovery::resource_types)))
        .service(endpoint("/ResourceTypes/{name}").route(get().to(discovery::resource_type)))
        .default_service(to(not_found));
    config.service(directory);
}

/// A resource that answers 405 to the methods that it lacks.
fn endpoint(path: &str) -> Resource {
    resource(path).default_service(to(method_not_allowed))
}

async fn method_not_allowed(_: Caller) -> Result<HttpResponse, Refusal> {
    Err(ScimError::new(405, "This endpoint does not have this method.").into())
}

async fn not_found(_: Caller) -> Result<HttpResponse, Refusal> {
    Err(ScimError::not_found(
        "There is no such endpoint. The base URL ends with the directory's key, and is followed by \
         /Users, /Groups, /Schemas, /ResourceTypes or /ServiceProviderConfig.",
    )
    .into())
}
