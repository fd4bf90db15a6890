//! Who is asking: an identity provider, known by a bearer token of the directory that the URL names.
//!
//! Handlers that take a [`Caller`] cannot run unauthenticated. It is resolved before the body is read.

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;

use super::http::Refusal;
use crate::context::Context;
use crate::directories::directory::{self, State};
use crate::directories::{Actor, token};
use crate::ids::DirectoryId;
use crate::storage::tables::directories;
use crate::web::peer;

/// An identity provider that has opened a directory.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the server has at hand.
    pub context: Data<Context>,
    /// The directory.
    pub directory: directories::Model,
    /// The right to write to it.
    pub actor: Actor,
    /// Where the directory's SCIM endpoint is, without a slash at its end.
    pub base_url: String,
}

impl Caller {
    /// The directory's id.
    pub fn directory_id(&self) -> DirectoryId {
        self.directory.id
    }
}

impl FromRequest for Caller {
    type Error = Refusal;
    type Future = LocalBoxFuture<'static, Result<Self, Refusal>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { resolve(&request).await })
    }
}

async fn resolve(request: &HttpRequest) -> Result<Caller, Refusal> {
    let Some(context) = request.app_data::<Data<Context>>().cloned() else {
        return Err(Refusal::unavailable());
    };
    let external_key = request.match_info().get("directory").unwrap_or("");
    let opened = match bearer(request) {
        Some(text) => token::open(&context.store, external_key, text, context.clock.now()).await?,
        None => None,
    };
    let Some(opened) = opened else {
        return Err(
            match context
                .limits
                .failed_authentication(&peer::address(request), external_key)
            {
                Ok(()) => Refusal::unauthorized(),
                Err(wait) => Refusal::too_many_requests(wait),
            },
        );
    };
    let directory_id = opened.directory.id;
    context
        .limits
        .scim(directory_id)
        .map_err(Refusal::too_many_requests)?;
    let actor = Actor::Provider(opened.token_id);
    if State::Validating.is_of(&opened.directory) {
        directory::contact(&context.store, directory_id, actor).await?;
    }
    context
        .activity
        .heard(directory_id, opened.token_id, context.clock.now());
    Ok(Caller {
        base_url: context.scim_base_url(&opened.directory.external_key),
        directory: opened.directory,
        context,
        actor,
    })
}

/// The token in the one `Authorization` header. Okta's "Header Auth" sends it without a scheme.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let value = values.next()?.to_str().ok()?.trim();
    if values.next().is_some() {
        return None;
    }
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        Some(_) => None,
        None => Some(value),
    }
}
