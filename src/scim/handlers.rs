//! Handlers of users, of groups, and of lists over both.

use actix_web::http::header;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde_json::{Map, Value, json};

use super::caller::{Caller, Knock};
use super::content::Content;
use super::error::ScimError;
use super::http::Refusal;
use super::journal;
use super::render::{LIST_URN, Projection};
use super::resources::{self, Resource, id_of};
use super::schema::ResourceType;
use super::search::anchors::Anchors;
use super::search::{self, Found, Plan, Query};
use super::version::Conditions;
use crate::directories::query::{Ask, FirstRows, Order, Term};
use crate::ids::ResourceId;
use crate::json;

/// `GET` of an endpoint, or of the base URL: a list.
pub(super) async fn list(
    kinds: &'static [ResourceType],
    knock: Knock,
    request: HttpRequest,
    anchors: Data<Anchors>,
) -> Result<HttpResponse, Refusal> {
    // What is wrong with a query is nobody's to know but the caller's.
    let query = Query::read(request.query_string(), kinds);
    let plan = query.as_ref().ok().map(Plan::of);
    journal::looked_for(&request, plan.iter().flat_map(Plan::terms));
    let (caller, first) = knock.enter(plan.as_ref().and_then(Plan::ask)).await?;
    let query = query?;
    let plan = plan.unwrap_or_else(|| Plan::of(&query));
    let found = search::search(&caller, &anchors, &query, &plan, first).await?;
    answer_list(caller, &query, found).await
}

/// `POST` of `.search`: a list that is asked for in a body (RFC 7644 section 3.4.3).
pub(super) async fn search(
    kinds: &'static [ResourceType],
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
    anchors: Data<Anchors>,
) -> Result<HttpResponse, Refusal> {
    let body = read_body(&caller, ResourceType::User, &request, payload).await?;
    let query = Query::of_body(body, kinds)?;
    let plan = Plan::of(&query);
    journal::looked_for(&request, plan.terms());
    let found = search::search(&caller, &anchors, &query, &plan, None).await?;
    answer_list(caller, &query, found).await
}

async fn answer_list(caller: Caller, query: &Query, found: Found) -> Result<HttpResponse, Refusal> {
    let mut frame = json::fields(json!({
        "schemas": [LIST_URN],
        "totalResults": found.total,
        "itemsPerPage": found.resources.len(),
    }));
    if let Some(start_index) = found.start_index {
        frame.insert("startIndex".to_owned(), start_index.into());
    }
    if let Some(cursor) = found.next_cursor {
        frame.insert("nextCursor".to_owned(), cursor.into());
    }
    let frame = Value::Object(frame).to_string();
    let mut content = Content::default();
    content.text(frame.strip_suffix('}').unwrap_or(&frame));
    content.text(",\"Resources\":[");
    for (index, resource) in found.resources.iter().enumerate() {
        content.text(if index == 0 { "" } else { "," });
        let projection = query.projection(resource.kind());
        content.push(&caller, resource, &projection).await?;
    }
    content.text("]}");
    Ok(content.answer(caller, HttpResponse::Ok()))
}

/// `POST` of an endpoint: a new resource.
pub(super) async fn create(
    kind: ResourceType,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let projection = search::projection(request.query_string(), kind);
    let body = read_body(&caller, kind, &request, payload).await?;
    let resource = resources::create(&caller, kind, ResourceId::generate(), body).await?;
    journal::made(&request, resource.id());
    let mut answer = HttpResponse::Created();
    answer.insert_header((header::LOCATION, resource.location(&caller)));
    answer_one(caller, &resource, &projection, answer).await
}

/// `GET` of a resource.
pub(super) async fn read(
    kind: ResourceType,
    knock: Knock,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let id = ResourceId::parse(request.match_info().get("id").unwrap_or(""));
    let terms = [id.map_or(Term::Nothing, Term::Id)];
    let ask = Ask {
        kind: kind.into(),
        terms: &terms,
        order: Order::BY_ID,
        take: 1,
        is_narrow: true,
    };
    let (caller, first) = knock.enter(Some(ask)).await?;
    let rows = first.map_or_else(Vec::new, |first: FirstRows| first.rows);
    let mut found = resources::complete(&caller, rows, true).await?;
    let resource = found.pop().ok_or_else(|| super::http::missing(kind))?;
    if !Conditions::of(request.headers()).wants(&resource.tag())? {
        let mut answer = HttpResponse::NotModified();
        return Ok(answer
            .insert_header((header::ETAG, resource.tag()))
            .finish());
    }
    let projection = search::projection(request.query_string(), kind);
    answer_one(caller, &resource, &projection, HttpResponse::Ok()).await
}

/// `PUT` of a resource.
pub(super) async fn replace(
    kind: ResourceType,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let id = id_in(kind, &request)?;
    let body = read_body(&caller, kind, &request, payload).await?;
    let conditions = Conditions::of(request.headers());
    let resource = resources::replace(&caller, kind, id, conditions, body).await?;
    let projection = search::projection(request.query_string(), kind);
    answer_one(caller, &resource, &projection, HttpResponse::Ok()).await
}

/// `PATCH` of a resource. A group answers 204, because a body that lists every member is costly on each
/// change, unless the client asks for attributes (RFC 7644 section 3.5.2).
pub(super) async fn patch(
    kind: ResourceType,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let id = id_in(kind, &request)?;
    let body = read_body(&caller, kind, &request, payload).await?;
    let conditions = Conditions::of(request.headers());
    let resource = resources::patch(&caller, kind, id, conditions, body).await?;
    let projection = search::projection(request.query_string(), kind);
    if kind == ResourceType::Group && projection.is_default() {
        let mut answer = HttpResponse::NoContent();
        return Ok(answer
            .insert_header((header::ETAG, resource.tag()))
            .finish());
    }
    answer_one(caller, &resource, &projection, HttpResponse::Ok()).await
}

/// `DELETE` of a resource.
pub(super) async fn delete(
    kind: ResourceType,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let id = id_in(kind, &request)?;
    let conditions = Conditions::of(request.headers());
    resources::delete(&caller, kind, id, conditions).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `/Me` on behalf of a token, which stands for a provider and is no user (RFC 7644 section 3.11).
pub(super) async fn me(_: Caller) -> Result<HttpResponse, Refusal> {
    Err(ScimError::new(
        501,
        "The token stands for an identity provider, which is no user, so that /Me names nobody. Use \
         /Users/{id}.",
    )
    .into())
}

async fn answer_one(
    caller: Caller,
    resource: &Resource,
    projection: &Projection,
    mut answer: HttpResponseBuilder,
) -> Result<HttpResponse, Refusal> {
    answer.insert_header((header::ETAG, resource.tag()));
    let content = Content::of(&caller, resource, projection).await?;
    Ok(content.answer(caller, answer))
}

async fn read_body(
    caller: &Caller,
    kind: ResourceType,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Map<String, Value>, Refusal> {
    let limits = &caller.context.limits;
    let bytes_max = match kind {
        ResourceType::User => limits.scim_user_body_bytes,
        ResourceType::Group => limits.scim_group_body_bytes,
    };
    journal::read(request, payload, bytes_max).await
}

fn id_in(kind: ResourceType, request: &HttpRequest) -> Result<ResourceId, Refusal> {
    id_of(kind, request.match_info().get("id").unwrap_or(""))
}
