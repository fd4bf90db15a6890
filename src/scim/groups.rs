//! Handlers of `/Groups`.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use super::body;
use super::caller::Caller;
use super::error::ScimError;
use super::http::{Refusal, answer, created, missing, no_content, refuse};
use super::patch::{self, MemberChange, members, operation};
use super::render::{self, MemberRef, Meta, Projection};
use super::schema::ResourceType;
use super::schema::document::{self, MemberValue};
use super::search::{self, Query, Source};
use crate::clock;
use crate::directories::Document;
use crate::directories::group::{self, Group};
use crate::directories::membership::{Change, Member, MemberTest, members_after};
use crate::directories::query::{self, Term, Window};
use crate::ids::ResourceId;
use crate::storage::tables::groups;
use crate::web;

const KIND: ResourceType = ResourceType::Group;
/// How many members are read at a time.
const MEMBERS_PAGE: usize = 1_000;

pub(super) async fn list(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let query = Query::read(request.query_string(), KIND)?;
    let source = Groups {
        caller: &caller,
        needs_members: query.mentions("members"),
    };
    let found = search::search(&source, &query, KIND).await?;
    let mut resources = Vec::with_capacity(found.rows.len());
    for row in found.rows {
        resources.push(render_one(&caller, &Group::from_row(row)?, &query.projection).await?);
    }
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
    let members = known(incoming.members.unwrap_or_default());
    let group = group::create(
        &caller.context.store,
        caller.directory_id(),
        caller.actor,
        ResourceId::generate(),
        incoming.document,
        members,
    )
    .await
    .map_err(|error| refuse(KIND, error))?;
    let location = location(&caller, group.row.id);
    let resource = render_one(&caller, &group, &projection).await?;
    Ok(created(&location, resource))
}

pub(super) async fn read(
    caller: Caller,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    let projection = projection(&request)?;
    let id = id_of(&path.1)?;
    let group = group::find(caller.context.store.reader(), caller.directory_id(), id)
        .await?
        .ok_or_else(|| missing(KIND))?;
    let resource = render_one(&caller, &group, &projection).await?;
    Ok(answer(StatusCode::OK, resource))
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
    let incoming = document::read(KIND, body)?;
    let members = Change::Replace(known(incoming.members.unwrap_or_default()));
    let document = incoming.document;
    let change: group::Change = Arc::new(move |_| Ok(document.clone()));
    let group = modify(&caller, id, change, vec![members]).await?;
    let resource = render_one(&caller, &group, &projection).await?;
    Ok(answer(StatusCode::OK, resource))
}

/// Answers 204, because a body that lists every member is costly on each change, unless the client asks
/// for attributes (RFC 7644 section 3.5.2).
pub(super) async fn patch(
    caller: Caller,
    request: HttpRequest,
    path: Path<(String, String)>,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let projection = projection(&request)?;
    let id = id_of(&path.1)?;
    let body = read_body(&caller, &request, payload).await?;
    let patch = members::group(operation::read(body)?)?;
    let members = patch.members.into_iter().map(change_of).collect();
    let operations = patch.document;
    let change: group::Change = Arc::new(move |group| {
        let id = group.row.id.to_string();
        let context = patch::Context { id: &id };
        Ok(patch::apply(KIND, &group.document, &operations, &context)?)
    });
    let group = modify(&caller, id, change, members).await?;
    if projection.is_default() {
        return Ok(no_content());
    }
    let resource = render_one(&caller, &group, &projection).await?;
    Ok(answer(StatusCode::OK, resource))
}

pub(super) async fn delete(
    caller: Caller,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    let id = id_of(&path.1)?;
    group::delete(
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
    change: group::Change,
    members: Vec<Change>,
) -> Result<Group, Refusal> {
    let store = &caller.context.store;
    group::modify(
        store,
        caller.directory_id(),
        caller.actor,
        id,
        change,
        members,
    )
    .await
    .map_err(|error| refuse(KIND, error))
}

/// The members that could be ours; an id that is none of ours names nobody and is left out.
fn known(members: Vec<MemberValue>) -> Vec<Member> {
    members
        .into_iter()
        .filter_map(|member| {
            Some(Member {
                user_id: ResourceId::parse(&member.value)?,
                display: member.display,
            })
        })
        .collect()
}

fn change_of(change: MemberChange) -> Change {
    match change {
        MemberChange::Add(members) => Change::Add(known(members)),
        MemberChange::Remove(ids) => {
            Change::Remove(ids.iter().filter_map(|id| ResourceId::parse(id)).collect())
        }
        MemberChange::RemoveAll => Change::Replace(Vec::new()),
        MemberChange::Replace(members) => Change::Replace(known(members)),
        MemberChange::RemoveMatching(filter) => {
            let test: MemberTest = Arc::new(move |member| {
                let element = json!({
                    "value": member.user_id.to_string(),
                    "type": "User",
                    "display": member.display,
                });
                members::matches(&filter, &element)
            });
            Change::RemoveMatching(test)
        }
    }
}

async fn read_body(
    caller: &Caller,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Map<String, Value>, Refusal> {
    let bytes_max = caller.context.limits.scim_group_body_bytes;
    let bytes = web::body::read(request, payload, bytes_max).await?;
    Ok(body::parse(&bytes, &body::Limits::default())?)
}

fn projection(request: &HttpRequest) -> Result<Projection, ScimError> {
    Ok(Query::read(request.query_string(), KIND)?.projection)
}

/// An id that is none of ours names no group.
fn id_of(text: &str) -> Result<ResourceId, Refusal> {
    ResourceId::parse(text).ok_or_else(|| missing(KIND))
}

fn location(caller: &Caller, id: ResourceId) -> String {
    format!("{}/Groups/{id}", caller.base_url)
}

async fn render_one(
    caller: &Caller,
    group: &Group,
    projection: &Projection,
) -> Result<Map<String, Value>, Refusal> {
    let members = if projection.wants("members") {
        Some(members_of(caller, group.row.id).await?)
    } else {
        None
    };
    let mut resource = render_whole(caller, group, members.as_deref());
    projection.apply(&mut resource);
    Ok(resource)
}

fn render_whole(
    caller: &Caller,
    group: &Group,
    members: Option<&[MemberRef]>,
) -> Map<String, Value> {
    let row = &group.row;
    let meta = Meta {
        location: &location(caller, row.id),
        created: &clock::text(row.created_at),
        last_modified: &clock::text(row.updated_at),
        version: &format!("W/\"{}\"", row.version),
    };
    render::group(&row.id.to_string(), &group.document, members, &meta)
}

async fn members_of(caller: &Caller, group_id: ResourceId) -> Result<Vec<MemberRef>, Refusal> {
    let connection = caller.context.store.reader();
    let mut members = Vec::new();
    let mut after = None;
    loop {
        let page = members_after(
            connection,
            caller.directory_id(),
            group_id,
            after,
            MEMBERS_PAGE,
        )
        .await?;
        after = page.last().map(|row| row.user_id);
        let is_last = page.len() < MEMBERS_PAGE;
        members.extend(page.into_iter().map(|row| MemberRef {
            value: row.user_id.to_string(),
            kind: ResourceType::User,
            location: format!("{}/Users/{}", caller.base_url, row.user_id),
            display: row.display,
        }));
        if is_last {
            return Ok(members);
        }
    }
}

/// The groups of the caller's directory.
struct Groups<'a> {
    caller: &'a Caller,
    /// Whether the filter speaks of members.
    needs_members: bool,
}

impl Source for Groups<'_> {
    type Row = groups::Model;

    async fn exactly(
        &self,
        terms: &[Term],
        window: Window,
    ) -> Result<(Vec<groups::Model>, u64), Refusal> {
        let connection = self.caller.context.store.reader();
        Ok(query::groups(connection, self.caller.directory_id(), terms, window).await?)
    }

    async fn after(
        &self,
        terms: &[Term],
        after: Option<ResourceId>,
    ) -> Result<Vec<(ResourceId, groups::Model, Document)>, Refusal> {
        let connection = self.caller.context.store.reader();
        let directory_id = self.caller.directory_id();
        let rows =
            query::groups_after(connection, directory_id, terms, after, search::PAGE_ROWS).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let group = Group::from_row(row)?;
            let members = if self.needs_members {
                Some(members_of(self.caller, group.row.id).await?)
            } else {
                None
            };
            let resource = render_whole(self.caller, &group, members.as_deref());
            found.push((group.row.id, group.row, resource));
        }
        Ok(found)
    }
}
