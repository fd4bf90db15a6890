//! What an event was about, as it is now: an event of its own, without a sequence, since it is not in the
//! log.

use std::sync::Arc;

use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Value, json};

use super::Criteria;
use crate::clock;
use crate::directories::{group, user};
use crate::events::Kind;
use crate::json;
use crate::storage::Store;
use crate::storage::tables::events::{Column, Entity, Model};
use crate::webhooks::stream::Offer;

/// The present state of what each event was about.
pub(super) async fn offers(
    store: &Store,
    criteria: &Criteria,
    rows: Vec<Model>,
) -> Result<Vec<(i16, Arc<Offer>)>, DbErr> {
    let mut offers = Vec::new();
    for row in rows {
        if let Some((kind, data)) = state(store, &row).await? {
            let id = criteria.event_id();
            let payload = json::canonical(&json!({
                "object": "event",
                "id": id.to_string(),
                "event": kind.as_str(),
                "data": data,
                "created_at": clock::text(store.clock().now()),
            }));
            let offer = Offer {
                position: row.position,
                ..Offer::outside_the_log(id, row.directory_id, &payload)
            };
            offers.push((row.shard, Arc::new(offer)));
        }
    }
    Ok(offers)
}

async fn state(store: &Store, row: &Model) -> Result<Option<(Kind, Value)>, DbErr> {
    let connection = store.reader();
    let organization_id = row.organization_id;
    let updated = |mut data: serde_json::Map<String, Value>| {
        // Every update says what was before; here nothing is known to have changed.
        data.insert("previous_attributes".to_owned(), json!({}));
        Value::Object(data)
    };
    match (row.user_id, row.group_id) {
        (Some(id), None) => {
            let found = user::find(connection, row.directory_id, id).await?;
            match found.filter(|user| user.row.ended_at.is_none()) {
                Some(user) => Ok(Some((
                    Kind::UserUpdated,
                    updated(user.data(organization_id)),
                ))),
                None => last(store, row, Kind::UserDeleted).await,
            }
        }
        (None, Some(id)) => match group::find(connection, row.directory_id, id).await? {
            Some(group) => Ok(Some((
                Kind::GroupUpdated,
                updated(group.data(organization_id)),
            ))),
            None => last(store, row, Kind::GroupDeleted).await,
        },
        (Some(_), Some(_)) | (None, None) => Ok(None),
    }
}

/// What is gone, as the event about its end had it.
async fn last(store: &Store, row: &Model, kind: Kind) -> Result<Option<(Kind, Value)>, DbErr> {
    let mut query = Entity::find()
        .filter(Column::DirectoryId.eq(row.directory_id))
        .filter(Column::Kind.eq(kind.as_str()));
    if let Some(user_id) = row.user_id {
        query = query.filter(Column::UserId.eq(user_id));
    }
    if let Some(group_id) = row.group_id {
        query = query.filter(Column::GroupId.eq(group_id));
    }
    let end = query
        .order_by_desc(Column::Position)
        .limit(1)
        .one(store.reader())
        .await?;
    let event: Value =
        serde_json::from_str(&end.as_ref().unwrap_or(row).payload).unwrap_or_default();
    Ok(event.get("data").map(|data| (kind, data.clone())))
}
