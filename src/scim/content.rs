//! The bodies of answers that show resources.
//!
//! A group of 100,000 members is not held in memory: its members are read a page at a time while the
//! answer is being sent, each page by a statement of its own, so that no read stays open while bytes go
//! to a client. What fits on one page is sent as one body with a length.

use std::collections::VecDeque;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};
use futures_util::stream;
use serde_json::Value;

use super::caller::Caller;
use super::http::{CONTENT_TYPE, Refusal};
use super::render::{self, MemberRef, Projection};
use super::resources::{Resource, location};
use super::schema::ResourceType;
use crate::directories::membership::{ListedMember, MemberPlace, members_after};
use crate::ids::ResourceId;
use crate::storage;

/// How many members are read at a time.
pub(super) const MEMBERS_PAGE: usize = 1_000;

/// A part of a body.
enum Piece {
    /// What is known.
    Text(String),
    /// The members of a group behind one, not read yet.
    Members(Remaining),
}

struct Remaining {
    group: ResourceId,
    after: Option<MemberPlace>,
    projection: Projection,
    /// Whether a member has been written, which the next one is set apart from by a comma.
    has_begun: bool,
}

/// A body in the making.
#[derive(Default)]
pub(super) struct Content(VecDeque<Piece>);

impl Content {
    /// One resource.
    pub(super) async fn of(
        caller: &Caller,
        resource: &Resource,
        projection: &Projection,
    ) -> Result<Self, Refusal> {
        let mut content = Self::default();
        content.push(caller, resource, projection).await?;
        Ok(content)
    }

    /// Appends a text.
    pub(super) fn text(&mut self, text: &str) {
        if let Some(Piece::Text(last)) = self.0.back_mut() {
            last.push_str(text);
        } else {
            self.0.push_back(Piece::Text(text.to_owned()));
        }
    }

    /// Appends a resource.
    pub(super) async fn push(
        &mut self,
        caller: &Caller,
        resource: &Resource,
        projection: &Projection,
    ) -> Result<(), Refusal> {
        let mut whole = resource.whole(caller);
        projection.apply(&mut whole);
        let text = Value::Object(whole).to_string();
        let has_members = resource.kind() == ResourceType::Group && projection.wants("members");
        let (Some(open), true) = (text.strip_suffix('}'), has_members) else {
            self.text(&text);
            return Ok(());
        };
        let mut remaining = Remaining {
            group: resource.id(),
            after: None,
            projection: projection.clone(),
            has_begun: false,
        };
        let (first, is_last) = remaining.next(caller).await?;
        if first.is_empty() && is_last {
            self.text(&text);
            return Ok(());
        }
        // `schemas` and `id` are in every answer, so that something stands before the comma.
        self.text(open);
        self.text(",\"members\":[");
        self.text(&first);
        if !is_last {
            self.0.push_back(Piece::Members(remaining));
        }
        self.text("]}");
        Ok(())
    }

    /// The answer with this body.
    pub(super) fn answer(
        mut self,
        caller: Caller,
        mut answer: HttpResponseBuilder,
    ) -> HttpResponse {
        answer.insert_header((header::CONTENT_TYPE, CONTENT_TYPE));
        if let ([Piece::Text(text)], []) = self.0.as_mut_slices() {
            return answer.body(std::mem::take(text));
        }
        let body = stream::try_unfold((caller, self.0), |(caller, mut pieces)| async move {
            let chunk = next_chunk(&caller, &mut pieces).await?;
            Ok::<_, Broken>(chunk.map(|chunk| (chunk, (caller, pieces))))
        });
        answer.streaming(body)
    }
}

/// The next part of a body to send, which is never empty: an empty chunk would end it.
async fn next_chunk(
    caller: &Caller,
    pieces: &mut VecDeque<Piece>,
) -> Result<Option<Bytes>, Broken> {
    while let Some(piece) = pieces.pop_front() {
        let text = match piece {
            Piece::Text(text) => text,
            Piece::Members(mut remaining) => {
                let (text, is_last) = remaining.next(caller).await.map_err(broken)?;
                if !is_last {
                    pieces.push_front(Piece::Members(remaining));
                }
                text
            }
        };
        if !text.is_empty() {
            return Ok(Some(Bytes::from(text)));
        }
    }
    Ok(None)
}

/// Why a body broke off: the client sees that it is not whole.
#[derive(Debug, thiserror::Error)]
#[error("the members of a group could not be read")]
struct Broken(#[source] storage::Error);

fn broken(cause: storage::Error) -> Broken {
    let broken = Broken(cause);
    tracing::warn!(
        error = &broken as &dyn std::error::Error,
        "an answer broke off"
    );
    broken
}

impl Remaining {
    /// The next page of members, set apart by commas, and whether it is the last.
    async fn next(&mut self, caller: &Caller) -> Result<(String, bool), storage::Error> {
        let page = members_after(
            caller.context.store.reader(),
            caller.directory_id(),
            self.group,
            self.after,
            MEMBERS_PAGE,
        )
        .await?;
        self.after = page.last().map(ListedMember::place);
        let is_last = page.len() < MEMBERS_PAGE;
        let mut text = String::new();
        for member in page {
            let member = member_of(caller, member);
            if let Some(member) = self.projection.member(member) {
                if std::mem::replace(&mut self.has_begun, true) {
                    text.push(',');
                }
                text.push_str(&member.to_string());
            }
        }
        Ok((text, is_last))
    }
}

/// A member as it is shown.
fn member_of(caller: &Caller, member: ListedMember) -> Value {
    let kind = member.kind.into();
    render::member(&MemberRef {
        value: member.id.to_string(),
        kind,
        location: location(caller, kind, member.id),
        display: member.display,
    })
}

/// The whole members of a group, for a filter that looks at more than who they are.
pub(super) async fn all_members(
    caller: &Caller,
    group: ResourceId,
    members_max: usize,
) -> Result<Option<Vec<Value>>, Refusal> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let connection = caller.context.store.reader();
        let directory_id = caller.directory_id();
        let page = members_after(connection, directory_id, group, after, MEMBERS_PAGE).await?;
        after = page.last().map(ListedMember::place);
        let is_last = page.len() < MEMBERS_PAGE;
        all.extend(page.into_iter().map(|member| member_of(caller, member)));
        if all.len() > members_max {
            return Ok(None);
        }
        if is_last {
            return Ok(Some(all));
        }
    }
}
