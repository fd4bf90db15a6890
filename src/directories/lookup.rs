//! By which ids vendors name people and groups: those that events show, and those of the SCIM resources.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect,
};

use super::membership::ROWS_MAX;
use super::resource::ResourceKind;
use crate::ids::{DirectoryGroupId, DirectoryId, DirectoryUserId, ResourceId};
use crate::storage::tables::{groups, users};

/// The resources of a directory that `texts` name, by their names; who does not exist is not in it.
///
/// # Errors
/// The database fails.
pub async fn resources(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    kind: ResourceKind,
    texts: &[String],
) -> Result<HashMap<String, ResourceId>, DbErr> {
    let mut found = HashMap::new();
    for chunk in texts.chunks(ROWS_MAX) {
        let by_resource: Vec<ResourceId> = chunk
            .iter()
            .filter_map(|text| ResourceId::parse(text))
            .collect();
        let pairs = match kind {
            ResourceKind::User => {
                let shown = chunk.iter().filter_map(|text| DirectoryUserId::parse(text));
                users_named(connection, directory_id, by_resource, shown.collect()).await?
            }
            ResourceKind::Group => {
                let shown = chunk
                    .iter()
                    .filter_map(|text| DirectoryGroupId::parse(text));
                groups_named(connection, directory_id, by_resource, shown.collect()).await?
            }
        };
        for (id, shown) in pairs {
            found.insert(id.to_string(), id);
            found.insert(shown, id);
        }
    }
    Ok(found)
}

async fn users_named(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    ids: Vec<ResourceId>,
    shown: Vec<DirectoryUserId>,
) -> Result<Vec<(ResourceId, String)>, DbErr> {
    let mut pairs = Vec::new();
    // Each is a descent of an index of its own.
    for which in [
        (!ids.is_empty()).then(|| users::Column::Id.is_in(ids)),
        (!shown.is_empty()).then(|| users::Column::DirectoryUserId.is_in(shown)),
    ]
    .into_iter()
    .flatten()
    {
        let rows: Vec<(ResourceId, DirectoryUserId)> = users::Entity::find()
            .select_only()
            .columns([users::Column::Id, users::Column::DirectoryUserId])
            .filter(users::Column::DirectoryId.eq(directory_id))
            .filter(Condition::all().add(which))
            .into_tuple()
            .all(connection)
            .await?;
        pairs.extend(rows.into_iter().map(|(id, shown)| (id, shown.to_string())));
    }
    Ok(pairs)
}

async fn groups_named(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    ids: Vec<ResourceId>,
    shown: Vec<DirectoryGroupId>,
) -> Result<Vec<(ResourceId, String)>, DbErr> {
    let mut pairs = Vec::new();
    for which in [
        (!ids.is_empty()).then(|| groups::Column::Id.is_in(ids)),
        (!shown.is_empty()).then(|| groups::Column::DirectoryGroupId.is_in(shown)),
    ]
    .into_iter()
    .flatten()
    {
        let rows: Vec<(ResourceId, DirectoryGroupId)> = groups::Entity::find()
            .select_only()
            .columns([groups::Column::Id, groups::Column::DirectoryGroupId])
            .filter(groups::Column::DirectoryId.eq(directory_id))
            .filter(Condition::all().add(which))
            .into_tuple()
            .all(connection)
            .await?;
        pairs.extend(rows.into_iter().map(|(id, shown)| (id, shown.to_string())));
    }
    Ok(pairs)
}
