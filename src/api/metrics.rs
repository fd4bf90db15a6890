//! `/metrics`, for Prometheus.
//!
//! Whoever knows the configured token may read it; without a token only this machine and the networks
//! that the configuration names.

use std::net::IpAddr;

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::Problem;
use crate::config;
use crate::context::Context;
use crate::web::peer;
use crate::webhooks::figures;

/// The version of the text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// By these a proxy says that it asks for somebody else.
const FORWARDED: [&str; 2] = ["X-Forwarded-For", "Forwarded"];

/// Shows what this process counts and how the endpoints fare.
///
/// # Errors
/// The caller may not read it, or the database fails.
pub async fn show(
    request: HttpRequest,
    context: Data<Context>,
    access: Data<config::Metrics>,
) -> Result<HttpResponse, Problem> {
    match &access.token {
        Some(token) if !shows(&request, token) => return Err(Problem::unauthorized()),
        None if !is_near(&request, &access) => return Err(forbidden()),
        Some(_) | None => {}
    }
    let look = async || figures::all(&context.store).await;
    context.metrics.sample(context.clock.now_ms(), look).await?;
    Ok(HttpResponse::Ok()
        .content_type(CONTENT_TYPE)
        .body(context.metrics.render()))
}

fn shows(request: &HttpRequest, token: &SecretString) -> bool {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let token = token.expose_secret().as_bytes();
    token.ct_eq(given.as_bytes()).into()
}

/// Whether the client is on this machine or in an allowed network. Whatever comes through a proxy that is
/// not known as one may be from anywhere.
fn is_near(request: &HttpRequest, access: &config::Metrics) -> bool {
    let Ok(client) = peer::address(request).parse::<IpAddr>() else {
        return false;
    };
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    let is_forwarded = FORWARDED
        .iter()
        .any(|name| request.headers().contains_key(*name));
    let networks = &access.allow_networks;
    !(is_forwarded && peer == Some(client))
        && (client.is_loopback() || networks.iter().any(|network| network.contains(&client)))
}

fn forbidden() -> Problem {
    Problem::new(
        403,
        "forbidden",
        "Metrics are read from this machine only. Set metrics.token, or metrics.allow_networks to the \
         network of your Prometheus.",
    )
}
