//! Verbs that administer: one request, run here on the database or sent to a server.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::arguments::Where;
use super::{endpoints, print_line, snapshots};
use crate::api::requests::ListRequests;
use crate::api::{
    self, Caller, Problem, api_keys, audit, deliveries, directories, directory_states,
    explanations, management, organizations, replays, requests, tokens,
};
use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::outbound::ApiClient;
use crate::storage::Opener;

/// What a request does, as HTTP says it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One request, as the API takes it; `null` stands for no body.
#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    path: String,
    body: Value,
    place: Where,
}

impl Request {
    /// A `POST` of `body` to `path`.
    pub(super) fn new(path: &str, body: Value, place: Where) -> Self {
        Self {
            method: Method::Post,
            path: path.to_owned(),
            body,
            place,
        }
    }

    /// A `GET` of `path`, which may have a query.
    pub(super) fn get(path: &str, place: Where) -> Self {
        Self {
            method: Method::Get,
            ..Self::new(path, Value::Null, place)
        }
    }

    /// A `GET` of `path` with the fields of `query`, which are texts and numbers.
    pub(super) fn search(path: &str, query: &Value, place: Where) -> Self {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        for (name, value) in query.as_object().into_iter().flatten() {
            pairs.append_pair(name, &text(value));
        }
        Self::get(&format!("{path}?{}", pairs.finish()), place)
    }

    /// A `DELETE` of `path`, which may have a query.
    pub(super) fn delete(path: &str, place: Where) -> Self {
        Self {
            method: Method::Delete,
            ..Self::new(path, Value::Null, place)
        }
    }

    /// A `PUT` of `body` at `path`, or without one a `GET`.
    pub(super) fn show_or_set(path: &str, body: Option<Value>, place: Where) -> Self {
        Self {
            method: body.as_ref().map_or(Method::Get, |_| Method::Put),
            ..Self::new(path, body.unwrap_or_default(), place)
        }
    }

    /// A `PATCH` of `path` with `body`.
    pub(super) fn patch(path: &str, body: Value, place: Where) -> Self {
        Self {
            method: Method::Patch,
            ..Self::new(path, body, place)
        }
    }
}

/// Runs the request and prints what it gives.
pub(super) async fn run(file: Option<&Path>, request: Request) -> anyhow::Result<bool> {
    let view = ask(file, &request).await?;
    if request.place.json {
        print_line(&view.to_string())?;
    } else {
        print_view(&view)?;
    }
    Ok(true)
}

/// Runs the request, here or at a server.
pub(super) async fn ask(file: Option<&Path>, request: &Request) -> anyhow::Result<Value> {
    match &request.place.url {
        Some(url) => send(url, request).await,
        None => run_here(file, request).await,
    }
}

async fn send(url: &str, request: &Request) -> anyhow::Result<Value> {
    let Some(key) = &request.place.api_key else {
        bail!("--url needs an API key: give --api-key or set ROLLCALL_API_KEY");
    };
    let url = format!("{}{}", url.trim_end_matches('/'), request.path);
    let body = (!request.body.is_null()).then(|| request.body.to_string());
    let answer = ApiClient::new()?
        .send(
            request.method.as_str(),
            &url,
            Some(key),
            "application/json",
            body,
            &[],
        )
        .await?;
    if answer.status == 204 {
        return Ok(json!({}));
    }
    let view: Value = serde_json::from_str(&answer.body)
        .with_context(|| format!("{url} answered {} and not in JSON", answer.status))?;
    if !(200..300).contains(&answer.status) {
        let message = view
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("no reason");
        let errors = view
            .get("errors")
            .map(|errors| format!(" {errors}"))
            .unwrap_or_default();
        bail!("{url} answered {}: {message}{errors}", answer.status);
    }
    Ok(view)
}

async fn run_here(file: Option<&Path>, request: &Request) -> anyhow::Result<Value> {
    let config = Config::load(file)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (store, master_key) = app::open(&config, Opener::Command, Arc::clone(&clock)).await?;
    let caller = Caller::command(app::context(&config, store, master_key, clock));
    let view = operate(&caller, request).await;
    caller.context.store.close().await;
    view.map_err(|problem| anyhow!(problem))
}

/// The operation behind a method and a path of the API.
async fn operate(caller: &Caller, request: &Request) -> Result<Value, Problem> {
    let body = request.body.clone();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if let ["admin", "v1", below @ ..] = segments.as_slice()
        && let Some(view) = snapshots::operate(caller, request.method, below, query, &body).await
    {
        return view;
    }
    match (request.method, segments.as_slice()) {
        (Method::Get, ["admin", "v1", "audit_entries"]) => {
            audit::list(caller, api::query(query)?).await
        }
        (Method::Post, ["organizations"]) => organizations::create(caller, read(body)?).await,
        (Method::Post, ["admin", "v1", "api_keys"]) => {
            let name = body.get("name").and_then(Value::as_str).unwrap_or("");
            api_keys::create(caller, name.to_owned()).await
        }
        (Method::Post, ["admin", "v1", "directories"]) => {
            directories::create(caller, read(body)?).await
        }
        (Method::Delete, ["organizations", id]) => organizations::delete(caller, id).await,
        (Method::Post, ["admin", "v1", "organizations", id, "restore"]) => {
            organizations::restore(caller, id).await
        }
        (Method::Get, ["admin", "v1", "directories"]) => {
            directories::list(caller, api::query(query)?).await
        }
        (Method::Get, ["admin", "v1", "directories", id]) => directories::show(caller, id).await,
        (Method::Delete, ["admin", "v1", "directories", id]) => {
            directory_states::delete(caller, id, &api::query(query)?).await
        }
        (Method::Patch, ["admin", "v1", "directories", id]) => {
            directories::configure(caller, id, read(body)?).await
        }
        (
            _,
            [
                "admin",
                "v1",
                "directories",
                id,
                "management" | "inactive_users" | "drift" | "refused_writes",
            ],
        ) => operate_on_management(caller, id, request).await,
        (Method::Post, ["admin", "v1", "directories", id, "tokens"]) => {
            tokens::create(caller, id, read(body)?).await
        }
        (Method::Get, ["admin", "v1", "explanations"]) => {
            explanations::explain(caller, &api::query(query)?).await
        }
        (Method::Get, ["admin", "v1", "directories", id, "requests"]) => {
            requests::list(caller, id, ListRequests::parse(query)?).await
        }
        (Method::Get, ["admin", "v1", "directories", id, "requests", request]) => {
            requests::show(caller, id, request).await
        }
        (Method::Get, ["admin", "v1", "directories", id, "tokens"]) => {
            tokens::list(caller, id).await
        }
        (Method::Post, ["admin", "v1", "directories", id, "tokens", token, "rotate"]) => {
            tokens::rotate(caller, id, token, read(body)?).await
        }
        (Method::Delete, ["admin", "v1", "directories", id, "tokens", token]) => {
            tokens::revoke(caller, id, token).await.map(|()| json!({}))
        }
        (Method::Post, ["admin", "v1", "directories", id, verb]) => {
            directory_states::turn(caller, id, verb).await
        }
        (Method::Get, ["admin", "v1", "log"]) => deliveries::log(caller, api::query(query)?).await,
        (Method::Get, ["admin", "v1", "deliveries"]) => {
            deliveries::list(caller, api::query(query)?).await
        }
        (_, ["admin", "v1", "webhook_endpoints", id, rest @ ..])
            if matches!(rest, ["backlog" | "deliveries" | "replays", ..]) =>
        {
            operate_on_deliveries(caller, id, rest, request).await
        }
        (method, ["admin", "v1", "webhook_endpoints", rest @ ..]) => {
            endpoints::operate(caller, method, rest, query, body).await
        }
        _ => Err(Problem::not_found("Operation", &request.path)),
    }
}

/// What an endpoint got and did not get, and sending it once more.
async fn operate_on_deliveries(
    caller: &Caller,
    id: &str,
    rest: &[&str],
    request: &Request,
) -> Result<Value, Problem> {
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    match (request.method, rest) {
        (Method::Get, ["backlog"]) => deliveries::backlog(caller, id).await,
        (Method::Get, ["deliveries", delivery]) => deliveries::show(caller, id, delivery).await,
        (Method::Post, ["replays"]) => {
            replays::create(caller, id, read(request.body.clone())?).await
        }
        (Method::Get, ["replays"]) => replays::list(caller, id, api::query(query)?).await,
        (Method::Get, ["replays", replay]) => replays::show(caller, id, replay).await,
        (Method::Delete, ["replays", replay]) => replays::cancel(caller, id, replay).await,
        _ => Err(Problem::not_found("Operation", &request.path)),
    }
}

/// Text without quotation marks, anything else as JSON.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Who is master of a directory's users and groups, and what becomes of them.
async fn operate_on_management(
    caller: &Caller,
    id: &str,
    request: &Request,
) -> Result<Value, Problem> {
    let body = request.body.clone();
    let page = management::Page::default();
    let about = request.path.rsplit('/').next().unwrap_or("");
    match (request.method, about) {
        (Method::Get, "management") => management::show(caller, id).await,
        (Method::Put, "management") => management::switch(caller, id, read(body)?).await,
        (Method::Get, "inactive_users") => management::show_inactive_users(caller, id).await,
        (Method::Put, "inactive_users") => {
            management::set_inactive_users(caller, id, read(body)?).await
        }
        (Method::Get, "drift") => management::drift(caller, id, page).await,
        (Method::Get, "refused_writes") => management::refused_writes(caller, id, page).await,
        _ => Err(Problem::not_found("Operation", &request.path)),
    }
}

pub(super) fn read<T: DeserializeOwned>(body: Value) -> Result<T, Problem> {
    serde_json::from_value(body).map_err(|error| {
        Problem::new(
            422,
            "invalid_request_parameters",
            format!("The request does not fit: {error}."),
        )
    })
}

/// Prints what is in a list, set apart by empty lines, how much there is of it, and where it goes on; or
/// the fields of an object.
fn print_view(view: &Value) -> anyhow::Result<()> {
    let Some(items) = view.get("data").and_then(Value::as_array) else {
        return print_fields(view);
    };
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            print_line("")?;
        }
        print_fields(item)?;
    }
    if let Some(total) = view.get("total") {
        let gap = if items.is_empty() { "" } else { "\n" };
        print_line(&format!("{gap}total  {total}"))?;
    }
    match view.pointer("/list_metadata/after").and_then(Value::as_str) {
        Some(after) => print_line(&format!("\nThere may be more: --after {after}")),
        None => Ok(()),
    }
}

/// Prints the fields of an object, a line each; nested ones as JSON.
fn print_fields(view: &Value) -> anyhow::Result<()> {
    let Some(fields) = view.as_object() else {
        return print_line(&view.to_string());
    };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields {
        print_line(&format!("{name:width$}  {}", text(value)))?;
    }
    Ok(())
}
