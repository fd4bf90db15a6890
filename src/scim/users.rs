//! Handlers of `/Users`.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value};

use super::body;
use super::caller::Caller;
use super::error::ScimError;
use super::http::{Refusal, answer, created, missing, no_content, refuse};
use super::patch::{self, operation};
use super::render::{self, GroupRef, Meta, Projection};
use super::schema::{ResourceType, document};
use super::search::{self, Query, Source};
use crate::clock;
use crate::directories::group::Group;
use crate::directories::query::{self, Term, Window};
use crate::directories::user::{self, User};
use crate::directories::{Document, membership};
use crate::ids::ResourceId;
use crate::storage::tables::users;
use crate::web;

const KIND: ResourceType = ResourceType::User;

pub(super) async fn list(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let query = Query::read(request.query_string(), KIND)?;
    let source = Users {
        caller: &caller,
        needs_groups: query.mentions("groups"),
    };
    let found = search::search(&source, &query, KIND).await?;
    let resources = render_all(&caller, found.rows, &query.projection).await?;
    let list = render::list_response(resources, found.total, query.start_index);
    Ok(answer(StatusCode::OK, list))
}

pub(super) async fn create(
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let projection = projection(&request)?;
    let body = read_body(&caller, &request, payload).await?;
    let incoming = document::read(KIND, body)?;
    let user = user::create(
        &caller.context.store,
        caller.directory_id(),
        caller.actor,
        ResourceId::generate(),
        incoming.document,
    )
    .await
    .map_err(|error| refuse(KIND, error))?;
    let location = location(&caller, user.row.id);
    let resource = render_one(&caller, &user, &[], &projection);
    Ok(created(&location, resource))
}

pub(super) async fn read(
    caller: Caller,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    let projection = projection(&request)?;
    let id = id_of(&path.1)?;
    let user = user::find(caller.context.store.reader(), caller.directory_id(), id)
        .await?
        .ok_or_else(|| missing(KIND))?;
    answer_with(&caller, user, &projection).await
}

pub(super) async fn replace(
    caller: Caller,
    request: HttpRequest,
    path: Path<(String, String)>,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let projection = projection(&request)?;
    let id = id_of(&path.1)?;
    let body = read_body(&caller, &request, payload).await?;
    let incoming = document::read(KIND, body)?.document;
    let change: user::Change = Arc::new(move |_| Ok(incoming.clone()));
    modify(&caller, id, change, &projection).await
}

pub(super) async fn patch(
    caller: Caller,
    request: HttpRequest,
    path: Path<(String, String)>,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let projection = projection(&request)?;
    let id = id_of(&path.1)?;
    let body = read_body(&caller, &request, payload).await?;
    let operations = operation::read(body)?;
    let change: user::Change = Arc::new(move |user| {
        let id = user.row.id.to_string();
        let context = patch::Context { id: &id };
        Ok(patch::apply(KIND, &user.document, &operations, &context)?)
    });
    modify(&caller, id, change, &projection).await
}

pub(super) async fn delete(
    caller: Caller,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    let id = id_of(&path.1)?;
    user::delete(
        &caller.context.store,
        caller.directory_id(),
        caller.actor,
        id,
        Arc::new(|_| Ok(())),
    )
    .await
    .map_err(|error| refuse(KIND, error))?;
    Ok(no_content())
}

async fn modify(
    caller: &Caller,
    id: ResourceId,
    change: user::Change,
    projection: &Projection,
) -> Result<HttpResponse, Refusal> {
    let store = &caller.context.store;
    let user = user::modify(store, caller.directory_id(), caller.actor, id, change)
        .await
        .map_err(|error| refuse(KIND, error))?;
    answer_with(caller, user, projection).await
}

async fn answer_with(
    caller: &Caller,
    user: User,
    projection: &Projection,
) -> Result<HttpResponse, Refusal> {
    let groups = if projection.wants("groups") {
        groups_of(caller, &[user.row.id]).await?
    } else {
        HashMap::new()
    };
    let groups = groups.get(&user.row.id).map_or(&[][..], Vec::as_slice);
    let resource = render_one(caller, &user, groups, projection);
    Ok(answer(StatusCode::OK, resource))
}

async fn read_body(
    caller: &Caller,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Map<String, Value>, Refusal> {
    let bytes_max = caller.context.limits.scim_user_body_bytes;
    let bytes = web::body::read(request, payload, bytes_max).await?;
    Ok(body::parse(&bytes, &body::Limits::default())?)
}

fn projection(request: &HttpRequest) -> Result<Projection, ScimError> {
    Ok(Query::read(request.query_string(), KIND)?.projection)
}

/// An id that is none of ours names nobody.
fn id_of(text: &str) -> Result<ResourceId, Refusal> {
    ResourceId::parse(text).ok_or_else(|| missing(KIND))
}

fn location(caller: &Caller, id: ResourceId) -> String {
    format!("{}/Users/{id}", caller.base_url)
}

fn render_whole(caller: &Caller, user: &User, groups: &[GroupRef]) -> Map<String, Value> {
    let row = &user.row;
    let meta = Meta {
        location: &location(caller, row.id),
        created: &clock::text(row.created_at),
        last_modified: &clock::text(row.updated_at),
        version: &format!("W/\"{}\"", row.version),
    };
    render::user(&row.id.to_string(), &user.document, groups, &meta)
}

fn render_one(
    caller: &Caller,
    user: &User,
    groups: &[GroupRef],
    projection: &Projection,
) -> Map<String, Value> {
    let mut resource = render_whole(caller, user, groups);
    projection.apply(&mut resource);
    resource
}

async fn render_all(
    caller: &Caller,
    rows: Vec<users::Model>,
    projection: &Projection,
) -> Result<Vec<Map<String, Value>>, Refusal> {
    let ids: Vec<ResourceId> = rows.iter().map(|row| row.id).collect();
    let groups = if projection.wants("groups") && !ids.is_empty() {
        groups_of(caller, &ids).await?
    } else {
        HashMap::new()
    };
    rows.into_iter()
        .map(|row| {
            let user = User::from_row(row)?;
            let groups = groups.get(&user.row.id).map_or(&[][..], Vec::as_slice);
            Ok(render_one(caller, &user, groups, projection))
        })
        .collect()
}

/// The groups of users, as their read-only attribute shows them.
async fn groups_of(
    caller: &Caller,
    ids: &[ResourceId],
) -> Result<HashMap<ResourceId, Vec<GroupRef>>, Refusal> {
    let store = &caller.context.store;
    let rows = membership::groups_of(store.reader(), caller.directory_id(), ids).await?;
    let mut groups: HashMap<ResourceId, Vec<GroupRef>> = HashMap::new();
    for (user_id, row) in rows {
        let group = Group::from_row(row)?;
        groups.entry(user_id).or_default().push(GroupRef {
            value: group.row.id.to_string(),
            display: group.name().to_owned(),
            location: format!("{}/Groups/{}", caller.base_url, group.row.id),
        });
    }
    Ok(groups)
}

/// The users of the caller's directory.
struct Users<'a> {
    caller: &'a Caller,
    /// Whether the filter speaks of groups.
    needs_groups: bool,
}

impl Source for Users<'_> {
    type Row = users::Model;

    async fn exactly(
        &self,
        terms: &[Term],
        window: Window,
    ) -> Result<(Vec<users::Model>, u64), Refusal> {
        let connection = self.caller.context.store.reader();
        Ok(query::users(connection, self.caller.directory_id(), terms, window).await?)
    }

    async fn after(
        &self,
        terms: &[Term],
        after: Option<ResourceId>,
    ) -> Result<Vec<(ResourceId, users::Model, Document)>, Refusal> {
        let connection = self.caller.context.store.reader();
        let directory_id = self.caller.directory_id();
        let rows =
            query::users_after(connection, directory_id, terms, after, search::PAGE_ROWS).await?;
        let ids: Vec<ResourceId> = rows.iter().map(|row| row.id).collect();
        let groups = if self.needs_groups {
            groups_of(self.caller, &ids).await?
        } else {
            HashMap::new()
        };
        rows.into_iter()
            .map(|row| {
                let user = User::from_row(row)?;
                let groups = groups.get(&user.row.id).map_or(&[][..], Vec::as_slice);
                let resource = render_whole(self.caller, &user, groups);
                Ok((user.row.id, user.row, resource))
            })
            .collect()
    }
}
