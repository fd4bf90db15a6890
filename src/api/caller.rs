//! Who is asking: a vendor's program, known by an API key, or somebody at a command line.
//!
//! Handlers that take a [`Caller`] cannot run unauthenticated. It is resolved before the body is read.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use futures_util::future::LocalBoxFuture;

use super::Problem;
use crate::actor::{Actor, Who};
use crate::context::Context;
use crate::tenancy::api_key;
use crate::web::{front, peer};

/// Somebody who may use the API.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the server has at hand.
    pub context: Arc<Context>,
    /// Who it is.
    pub actor: Actor,
    /// Who it is, in words that follow "by".
    pub described: String,
}

impl Caller {
    /// Somebody at a command line, who has the database.
    pub fn command(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            actor: Actor::COMMAND,
            described: "somebody at the command line".to_owned(),
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { resolve(&request).await })
    }
}

async fn resolve(request: &HttpRequest) -> Result<Caller, Problem> {
    let known = request.extensions().get::<Caller>().cloned();
    if let Some(known) = known {
        return Ok(known);
    }
    let Some(context) = request.app_data::<Data<Context>>().cloned() else {
        return Err(Problem::unauthorized());
    };
    let key = match bearer(request) {
        Some(text) => api_key::authenticate(&context.store, text).await?,
        None => None,
    };
    let Some(key) = key else {
        let address = peer::address(request);
        return Err(match context.limits.failed_authentication(&address, "") {
            Ok(()) => Problem::unauthorized(),
            Err(wait) => Problem::too_many_requests(wait),
        });
    };
    context
        .limits
        .api(key.id)
        .map_err(Problem::too_many_requests)?;
    Ok(Caller {
        context: context.into_inner(),
        actor: Actor {
            who: Who::Api(key.id),
            request_id: front::current(request),
        },
        described: format!("the API key {:?}", key.name),
    })
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let value = values.next()?.to_str().ok()?.trim();
    if values.next().is_some() {
        return None;
    }
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
