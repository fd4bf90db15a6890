//! Who is asking: an identity provider, known by a bearer token of the directory that the URL names, in
//! its path or by its host.
//!
//! Handlers that take a [`Caller`] cannot run unauthenticated. It is resolved before the body is read.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;

use super::http::Refusal;
use super::journal;
use crate::actor::{Actor, Who};
use crate::context::Context;
use crate::directories::Denied;
use crate::directories::address::Address;
use crate::directories::directory::{self, State};
use crate::directories::query::{self, Ask, FirstRows};
use crate::directories::token::{self, Opened};
use crate::ids::{DirectoryId, RequestId};
use crate::storage::tables::directories;
use crate::web::{front, peer};

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
        let knock = Knock(request.clone());
        Box::pin(async move { Ok(knock.enter(None).await?.0) })
    }
}

/// Somebody at the door: whatever they want, they have to [`Knock::enter`] first.
///
/// Reads take this instead of a [`Caller`], because what is asked for can be read in the very statement
/// that checks the token.
#[derive(Clone, Debug)]
pub struct Knock(HttpRequest);

impl FromRequest for Knock {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.clone())))
    }
}

impl Knock {
    /// Lets the caller in if the token opens the directory, and reads what is asked for.
    ///
    /// # Errors
    /// The token does not open the directory, the caller asks too often, or the database fails.
    pub async fn enter(self, ask: Option<Ask<'_>>) -> Result<(Caller, Option<FirstRows>), Refusal> {
        let request = self.0;
        let Some(context) = request.app_data::<Data<Context>>().cloned() else {
            return Err(Refusal::unavailable());
        };
        let (called, address) = called(&request);
        let (store, now) = (&context.store, context.clock.now());
        let opened = match (address, bearer(&request), ask) {
            (None, _, _) | (_, None, _) => None,
            (Some(address), Some(text), None) => token::open(store, &address, text, now)
                .await?
                .map(|opened| (opened, None)),
            (Some(address), Some(text), Some(ask)) => query::open(store, &address, text, now, ask)
                .await?
                .map(|(opened, first)| (opened, Some(first))),
        };
        let Some((opened, first)) = opened else {
            return Err(refused(&context, &request, called));
        };
        journal::opened(&request, &opened);
        let request_id = front::current(&request);
        Ok((welcome(context, opened, request_id).await?, first))
    }
}

/// 401, or 429 after too many of them.
fn refused(context: &Context, request: &HttpRequest, called: &str) -> Refusal {
    let address = peer::address(request);
    match context.limits.failed_authentication(&address, called) {
        Ok(()) => Refusal::unauthorized(),
        Err(wait) => Refusal::too_many_requests(wait),
    }
}

/// Counts the request, turns it away while the directory is going to be deleted, and links the directory
/// if its provider is heard for the first time.
async fn welcome(
    context: Data<Context>,
    opened: Opened,
    request_id: Option<RequestId>,
) -> Result<Caller, Refusal> {
    let directory_id = opened.directory.id;
    context
        .limits
        .scim(directory_id)
        .map_err(Refusal::too_many_requests)?;
    if let Some(due_at) = opened.directory.deletion_due_at {
        return Err(Denied::Deleting(due_at).into());
    }
    let actor = Actor {
        who: Who::Provider(opened.token_id),
        request_id,
    };
    if State::Validating.is_of(&opened.directory) {
        directory::contact(&context.store, directory_id, actor).await?;
    }
    context
        .activity
        .heard(directory_id, opened.token_id, context.clock.now());
    Ok(Caller {
        base_url: context.scim_base_url(&opened.directory),
        directory: opened.directory,
        context,
        actor,
    })
}

/// What the request calls the directory, by a segment of its path or by its host, and the address that
/// this is if it can be one.
pub(super) fn called(request: &HttpRequest) -> (&str, Option<Address>) {
    match request.match_info().get("directory") {
        Some(segment) if !segment.is_empty() => (segment, Address::of_segment(segment)),
        Some(_) | None => {
            let host = request.headers().get(header::HOST);
            let host = host.and_then(|value| value.to_str().ok()).unwrap_or("");
            (host, Address::of_host(host))
        }
    }
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
