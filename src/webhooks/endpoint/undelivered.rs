//! How much an endpoint has yet to receive.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, Value,
};

use uuid::Uuid;

use super::view;
use crate::ids::EndpointId;
use crate::storage::Store;
use crate::storage::tables::{endpoints, exceptions};
use crate::webhooks::view::Reign;

/// How many events an endpoint has not received yet, as far as they are written down: those past its
/// cursors and past its places in directories that are split off, and exceptions that are not parked.
///
/// # Errors
/// The database fails.
pub async fn undelivered(store: &Store, row: &endpoints::Model) -> Result<u64, DbErr> {
    let view = view(store.reader(), row).await?;
    let mut count = 0;
    for reign in view.reigns() {
        for kind in &reign.segment.kinds {
            for places in [SHARDS_PLACES, DIRECTORIES_PLACES] {
                count += past_places(store, row.id, kind, reign, places).await?;
            }
        }
    }
    let exceptions = exceptions::Entity::find()
        .filter(exceptions::Column::EndpointId.eq(row.id))
        .filter(exceptions::Column::State.ne("parked"))
        .count(store.reader())
        .await?;
    Ok(count + exceptions)
}

/// The cursors with the events past them, those of directories that are split off left out.
const SHARDS_PLACES: &str = "endpoint_cursors c \
     JOIN events e ON e.shard = c.shard AND e.position > c.position \
     AND NOT EXISTS (SELECT 1 FROM lagging l WHERE l.endpoint_id = c.endpoint_id \
     AND l.directory_id = e.directory_id)";
/// The places in directories that are split off, with the events past them.
const DIRECTORIES_PLACES: &str = "lagging c \
     JOIN events e ON e.directory_id = c.directory_id AND e.position > c.position";

/// Events of one type past such places, where a filter is in force, that have not been delivered ahead.
async fn past_places(
    store: &Store,
    id: EndpointId,
    kind: &str,
    reign: Reign<'_>,
    places: &str,
) -> Result<u64, DbErr> {
    let mut values: Vec<Value> = vec![
        id.uuid().into(),
        kind.into(),
        reign.after.into(),
        reign.up_to.into(),
    ];
    let organizations = reign.segment.organizations.iter().map(|id| id.uuid());
    let directories = reign.segment.directories.iter().map(|id| id.uuid());
    let reached = [
        among("e.organization_id", organizations, &mut values),
        among("e.directory_id", directories, &mut values),
    ]
    .concat();
    let sql = format!(
        "SELECT count(*) AS waiting FROM {places} WHERE c.endpoint_id = $1 AND e.kind = $2 \
         AND e.position > $3 AND e.position <= $4{reached} \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.endpoint_id = c.endpoint_id \
         AND d.position = e.position) \
         AND NOT EXISTS (SELECT 1 FROM exceptions x WHERE x.endpoint_id = c.endpoint_id \
         AND x.position = e.position)"
    );
    let row = store
        .reader()
        .query_one_raw(store.dialect().statement(&sql, values))
        .await?;
    let waiting: i64 = row.map_or(Ok(0), |row| row.try_get("", "waiting"))?;
    Ok(u64::try_from(waiting).unwrap_or(0))
}

/// ` AND column IN (…)`, or nothing if there is nothing to be in.
fn among(column: &str, ids: impl Iterator<Item = Uuid>, values: &mut Vec<Value>) -> String {
    let mut places = Vec::new();
    for id in ids {
        values.push(id.into());
        places.push(format!("${}", values.len()));
    }
    if places.is_empty() {
        return String::new();
    }
    format!(" AND {column} IN ({})", places.join(", "))
}
