//! Working on replays: a node claims one, sends page after page, and renews its claim on the way. After a
//! crash another node, or the same one, goes on where the last page ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::record::{Record, Tried};
use super::{Criteria, Kind, current};
use crate::events::log;
use crate::ids::{DirectoryId, ReplayId, random_uuid};
use crate::storage::tables::{events, exceptions, replays};
use crate::storage::{self, Lane, Store};
use crate::webhooks::driver::{self, Target, Tools};
use crate::webhooks::endpoint;
use crate::webhooks::holds;
use crate::webhooks::links::{self, View};
use crate::webhooks::stream::{Offer, Sending};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a claim holds by the database's clock, and how often it is renewed.
const LEASE_MS: i64 = 8_000;
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How long a replay that cannot go on waits before it is looked at again.
const WAIT_MS: i64 = 2_000;
/// How many replays a node works on at once.
const REPLAYS_MAX: usize = 8;
/// How many directories of a replay are sent at once; each in order.
const DIRECTORIES_MAX: usize = 8;
/// How many events are read at once.
const PAGE_ROWS: u64 = 100;
/// How long to wait before each further try of an event.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// A replay that is ours for a while.
#[derive(Clone, Debug)]
struct Claim {
    id: ReplayId,
    token: Uuid,
}

/// Takes up replays until `stop`; what is on its way then is sent again by whoever goes on.
pub async fn work(tools: Tools, stop: CancellationToken) {
    let mut running = JoinSet::new();
    while stop
        .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
        .await
        .is_some()
    {
        while running.try_join_next().is_some() {}
        if running.len() >= REPLAYS_MAX {
            continue;
        }
        match claim(&tools.store).await {
            Ok(Some(claim)) => {
                let (tools, stop) = (tools.clone(), stop.clone());
                running.spawn(async move {
                    let work = go_on(&tools, &claim);
                    if let Some(Err(error)) = stop.run_until_cancelled(work).await {
                        tracing::warn!(replay.id = %claim.id, %error, "a replay waits and goes on later");
                    }
                    if let Err(error) = give_back(&tools.store, &claim).await {
                        tracing::warn!(replay.id = %claim.id, %error, "a replay was not given back");
                    }
                });
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "replays cannot be read"),
        }
    }
    running.join_all().await;
}

/// Claims the oldest replay that nobody works on and whose endpoint takes events.
async fn claim(store: &Store) -> Result<Option<Claim>, DbErr> {
    let dialect = store.dialect();
    let now = dialect.now_ms();
    let free = format!(
        "SELECT r.id FROM replays r JOIN endpoints e ON e.id = r.endpoint_id \
         WHERE r.state IN ('waiting', 'running') AND r.lease_until_ms <= {now} \
         AND e.status = 'enabled' AND e.held_at IS NULL ORDER BY r.id LIMIT 1"
    );
    let found = store
        .dispatch_reader()
        .query_one_raw(dialect.statement(&free, []))
        .await?;
    let Some(found) = found else {
        return Ok(None);
    };
    let id: ReplayId = found.try_get("", "id")?;
    let token = random_uuid();
    let take = format!(
        "UPDATE replays SET state = 'running', lease_token = $2, lease_until_ms = {now} + $3 \
         WHERE id = $1 AND state IN ('waiting', 'running') AND lease_until_ms <= {now}"
    );
    let values = [id.into(), token.into(), LEASE_MS.into()];
    let taken = store
        .statement_connection()
        .execute_raw(dialect.statement(&take, values))
        .await?;
    Ok((taken.rows_affected() == 1).then_some(Claim { id, token }))
}

/// Renews a claim; tells whether it holds and the replay is to go on.
async fn renew(store: &Store, claim: &Claim) -> Result<bool, DbErr> {
    let sql = format!(
        "UPDATE replays SET lease_until_ms = {} + $3 \
         WHERE id = $1 AND lease_token = $2 AND state = 'running'",
        store.dialect().now_ms()
    );
    let values = [claim.id.into(), claim.token.into(), LEASE_MS.into()];
    let renewed = store
        .statement_connection()
        .execute_raw(store.dialect().statement(&sql, values))
        .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Lets others claim what has not ended, after a while, in which those that can go on come first.
async fn give_back(store: &Store, claim: &Claim) -> Result<(), DbErr> {
    let sql = format!(
        "UPDATE replays SET lease_token = NULL, lease_until_ms = {} + $3, \
         state = CASE WHEN state = 'running' THEN 'waiting' ELSE state END \
         WHERE id = $1 AND lease_token = $2",
        store.dialect().now_ms()
    );
    let values = [claim.id.into(), claim.token.into(), WAIT_MS.into()];
    let statement = store.dialect().statement(&sql, values);
    let writer = store.statement_connection();
    writer.execute_raw(statement).await.map(drop)
}

/// Works page by page until the replay or the claim ends.
async fn go_on(tools: &Tools, claim: &Claim) -> Result<(), storage::Error> {
    let store = &tools.store;
    loop {
        let Some(row) = replays::Entity::find_by_id(claim.id)
            .one(store.reader())
            .await?
        else {
            return Ok(());
        };
        let Some(to) = endpoint::find(store.reader(), row.endpoint_id).await? else {
            return Ok(());
        };
        let targets = driver::load_targets(tools, std::slice::from_ref(&to)).await;
        let target = targets.and_then(|mut targets| targets.remove(&to.id));
        let Some(target) = target.filter(|_| endpoint::is_sending(&to)) else {
            return Ok(());
        };
        let sending = send_page(tools, &target, &row);
        let page = tokio::select! {
            page = sending => page?,
            () = lose(store, claim) => return Ok(()),
        };
        let Some(page) = page else {
            return Ok(());
        };
        let record = Record {
            id: row.id,
            endpoint_id: row.endpoint_id,
            token: claim.token,
            lease_ms: LEASE_MS,
            position: page.position,
            is_last: page.is_last,
            tried: page.tried,
        };
        if !store.write(Lane::System, record).await? {
            return Ok(());
        }
        if !renew(store, claim).await? {
            return Ok(());
        }
    }
}

/// Renews the claim for as long as it holds.
async fn lose(store: &Store, claim: &Claim) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        match renew(store, claim).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(replay.id = %claim.id, %error, "a replay's claim could not be renewed yet");
            }
        }
    }
}

/// What was done between two positions.
struct Page {
    position: i64,
    is_last: bool,
    tried: Vec<Tried>,
}

/// An event on its way.
type Outgoing = (i16, Arc<Offer>);

/// Sends the next events; `None` if a directory among them is held, for whose release all wait.
async fn send_page(
    tools: &Tools,
    target: &Target,
    row: &replays::Model,
) -> Result<Option<Page>, DbErr> {
    let store = &tools.store;
    let criteria: Criteria = serde_json::from_str(&row.criteria).unwrap_or_default();
    let kind = Kind::parse(&row.kind).unwrap_or(Kind::Delivery);
    let (rows, position, is_last) = read(store, row, kind, &criteria).await?;
    let is_state = kind == Kind::CurrentState;
    let outgoing = if is_state {
        current::offers(store, &criteria, rows).await?
    } else {
        let wanted = rows
            .into_iter()
            .filter(|event| is_wanted(kind, &criteria, event));
        offers(store, &target.view, wanted.collect()).await?
    };
    let held = holds::list(store).await?;
    let is_held = |(shard, offer): &Outgoing| {
        holds::of(&held, *shard, row.endpoint_id).contains(&offer.directory_id)
    };
    if outgoing.iter().any(is_held) {
        return Ok(None);
    }
    let mut by_directory: BTreeMap<DirectoryId, Vec<Outgoing>> = BTreeMap::new();
    for (shard, offer) in outgoing {
        let queue = by_directory.entry(offer.directory_id).or_default();
        queue.push((shard, offer));
    }
    let mark = if is_state {
        "current-state".to_owned()
    } else {
        row.id.to_string()
    };
    let at_once = DIRECTORIES_MAX.min(target.options.max_in_flight);
    let tried: Vec<Vec<Tried>> = stream::iter(by_directory.into_values())
        .map(|queue| send_in_order(tools, target, row, &mark, queue))
        .buffer_unordered(at_once)
        .collect()
        .await;
    let mut tried: Vec<Tried> = tried.into_iter().flatten().collect();
    for one in &mut tried {
        one.is_logged = !is_state;
    }
    Ok(Some(Page {
        position,
        is_last,
        tried,
    }))
}

async fn send_in_order(
    tools: &Tools,
    target: &Target,
    row: &replays::Model,
    mark: &str,
    queue: Vec<Outgoing>,
) -> Vec<Tried> {
    let mut tried = Vec::with_capacity(queue.len());
    for (shard, offer) in queue {
        let mut attempts = Vec::new();
        let mut waits = RETRY_AFTER.into_iter();
        for number in 1.. {
            let sending = Sending {
                offer: Arc::clone(&offer),
                attempt: number,
                is_late: false,
            };
            let sent = driver::attempt(tools, target, row.endpoint_id, &sending, Some(mark));
            let attempted = sent.await;
            let is_success = attempted.is_success;
            attempts.push((attempted, tools.clock.now_ms()));
            match waits.next() {
                Some(wait) if !is_success => tokio::time::sleep(wait).await,
                Some(_) | None => break,
            }
        }
        tried.push(Tried {
            offer,
            shard,
            attempts,
            is_logged: true,
        });
    }
    tried
}

/// The next events of a replay, how far they go, and whether they are the last.
async fn read(
    store: &Store,
    row: &replays::Model,
    kind: Kind,
    criteria: &Criteria,
) -> Result<(Vec<events::Model>, i64, bool), DbErr> {
    let connection = store.dispatch_reader();
    if kind == Kind::Recover {
        let since = criteria.since.map_or(0, |since| since.timestamp_millis());
        let parked: Vec<i64> = exceptions::Entity::find()
            .select_only()
            .column(exceptions::Column::Position)
            .filter(exceptions::Column::EndpointId.eq(row.endpoint_id))
            .filter(exceptions::Column::State.eq("parked"))
            .filter(exceptions::Column::Position.gt(row.position))
            .filter(exceptions::Column::Position.lte(row.up_to))
            .filter(exceptions::Column::FirstFailedAtMs.gte(since))
            .order_by_asc(exceptions::Column::Position)
            .limit(PAGE_ROWS)
            .into_tuple()
            .all(connection)
            .await?;
        let rows = log::read_positions(connection, &parked).await?;
        return Ok(page(rows, parked.last().copied(), parked.len(), row.up_to));
    }
    let rows = match criteria.directory_id() {
        Some(id) => log::read_directory(connection, id, row.position, row.up_to, PAGE_ROWS).await?,
        None => log::read_all(connection, row.position, row.up_to, PAGE_ROWS).await?,
    };
    let (last, count) = (rows.last().map(|row| row.position), rows.len());
    Ok(page(rows, last, count, row.up_to))
}

fn page(
    rows: Vec<events::Model>,
    last: Option<i64>,
    count: usize,
    up_to: i64,
) -> (Vec<events::Model>, i64, bool) {
    let is_last = u64::try_from(count).is_ok_and(|count| count < PAGE_ROWS);
    let position = last.filter(|_| !is_last).unwrap_or(up_to);
    (rows, position, is_last)
}

fn is_wanted(kind: Kind, criteria: &Criteria, event: &events::Model) -> bool {
    if kind == Kind::Recover {
        return true;
    }
    let sequence = event.sequence.unwrap_or(0);
    criteria.since.is_none_or(|since| event.created_at >= since)
        && criteria.until.is_none_or(|until| event.created_at < until)
        && (criteria.types.is_empty() || criteria.types.contains(&event.kind))
        && criteria.from_sequence.is_none_or(|from| sequence >= from)
        && criteria.to_sequence.is_none_or(|to| sequence <= to)
}

/// The events as the endpoint was, or would have been, offered them. Those from before it began are tied to
/// those before them.
async fn offers(
    store: &Store,
    view: &View,
    rows: Vec<events::Model>,
) -> Result<Vec<Outgoing>, DbErr> {
    let whole = view.from_the_beginning();
    let mut groups: BTreeMap<(i16, bool), Vec<events::Model>> = BTreeMap::new();
    for row in rows {
        let start = view.start(row.shard);
        let group = groups.entry((row.shard, row.position <= start));
        group.or_default().push(row);
    }
    let mut outgoing = Vec::new();
    for ((shard, is_before), rows) in groups {
        let view = if is_before { &whole } else { view };
        let offers = links::offers(store, view, shard, rows).await?;
        outgoing.extend(offers.into_iter().map(|offer| (shard, Arc::new(offer))));
    }
    outgoing.sort_by_key(|(_, offer)| offer.position);
    Ok(outgoing)
}
