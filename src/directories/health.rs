//! How a directory is doing: what its provider asks, who is in it, and one verdict.

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QueryResult,
};
use uuid::Uuid;

use super::directory::{self, State};
use super::gate::Management;
use super::management::{self, Unsettled};
use super::token;
use crate::ids::RequestId;
use crate::storage::Store;
use crate::storage::tables::{directories, events, scim_tokens};

/// How far requests are counted; beyond it, it does not matter how many there are.
pub const REQUESTS_MAX: i64 = 100_000;
/// A token that ends within this time is worth a word.
const EXPIRING_WITHIN: Duration = Duration::days(14);
/// Entra asks every 40 minutes; others when something changes, which hardly takes longer than this.
const SILENT_AFTER: Duration = Duration::days(3);
/// A provider that is refused less often than this in an hour may have sent a single bad record.
const FAILING_FROM: i64 = 3;

/// How a directory is doing. The first that applies is the one that is told, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has been deleted, or will be.
    Deleting,
    /// Its provider has not been heard yet.
    Validating,
    /// Its provider's writes are refused.
    Paused,
    /// Its deliveries are held.
    Held,
    /// Its users and groups are managed by hand.
    Manual,
    /// Most of what its provider asks is refused.
    Failing,
    /// Its provider has not been heard for days.
    Silent,
    /// None of these.
    Ok,
}

impl Verdict {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleting => "deleting",
            Self::Validating => "validating",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Manual => "manual",
            Self::Failing => "failing",
            Self::Silent => "silent",
            Self::Ok => "ok",
        }
    }

    /// What it means, and what can be done.
    pub fn text(self) -> &'static str {
        match self {
            Self::Deleting => {
                "The directory is going to be deleted: nobody can change it any more."
            }
            Self::Validating => {
                "The provider has not been heard yet: give it the base URL and a token."
            }
            Self::Paused => {
                "The provider's writes are refused: what it changes meanwhile does not get through."
            }
            Self::Held => "Changes are taken, and their deliveries are held back.",
            Self::Manual => "The users and groups are managed by hand: the provider may only read.",
            Self::Failing => {
                "Most of what the provider asks is refused: look at its requests for the reasons."
            }
            Self::Silent => {
                "The provider has not been heard for days: its job may be stopped or its token lost."
            }
            Self::Ok => "The provider is heard, and what it asks is done.",
        }
    }
}

/// How many requests a provider made, counted up to [`REQUESTS_MAX`], and how many were refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// All of them.
    pub total: i64,
    /// Those that were answered 400 or above.
    pub errors: i64,
}

/// Who is in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// Users that are active.
    pub active: i64,
    /// Users that were deactivated and are kept.
    pub inactive: i64,
    /// Users that were deactivated and have ended for the vendor.
    pub ended: i64,
    /// Groups.
    pub groups: i64,
}

/// What opens a directory.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// How many work now.
    pub active: usize,
    /// Those of them that end within 14 days.
    pub expiring: Vec<scim_tokens::Model>,
    /// The one that was used last.
    pub last_used: Option<scim_tokens::Model>,
}

/// Everything about a directory but its deliveries.
#[derive(Clone, Debug)]
pub struct Health {
    /// When the provider was heard last.
    pub last_request_at: Option<DateTime<Utc>>,
    /// The newest event.
    pub last_change: Option<events::Model>,
    /// What was asked in the last hour.
    pub last_hour: Requests,
    /// What was asked in the last day.
    pub last_day: Requests,
    /// Who is in it.
    pub people: People,
    /// What opens it.
    pub tokens: Tokens,
    /// What is not settled between its masters.
    pub unsettled: Unsettled,
    /// One word for all of it.
    pub verdict: Verdict,
}

/// Looks at a directory.
///
/// # Errors
/// The database fails.
pub async fn look(
    store: &Store,
    directory: &directories::Model,
    now: DateTime<Utc>,
) -> Result<Health, DbErr> {
    let activity = directory::activity(store.reader(), directory.id).await?;
    let last_request_at = activity.map(|heard| heard.last_request_at);
    let last_hour = requests_since(store, directory, now - Duration::hours(1)).await?;
    Ok(Health {
        last_request_at,
        last_change: newest_event(store.reader(), directory).await?,
        last_hour,
        last_day: requests_since(store, directory, now - Duration::days(1)).await?,
        people: people(store, directory).await?,
        tokens: tokens(store.reader(), directory, now).await?,
        unsettled: management::unsettled(store.reader(), directory.id).await?,
        verdict: judge(directory, last_request_at, last_hour, now),
    })
}

/// The verdict. Pure.
fn judge(
    directory: &directories::Model,
    last_request_at: Option<DateTime<Utc>>,
    last_hour: Requests,
    now: DateTime<Utc>,
) -> Verdict {
    if directory.deletion_due_at.is_some() || !State::is_open(directory) {
        Verdict::Deleting
    } else if State::Validating.is_of(directory) {
        Verdict::Validating
    } else if directory.writes_refused_at.is_some() {
        Verdict::Paused
    } else if directory.deliveries_held_at.is_some() || directory.guard_held_at.is_some() {
        Verdict::Held
    } else if Management::Manual.is_of(directory) {
        Verdict::Manual
    } else if last_hour.errors >= FAILING_FROM && last_hour.errors * 2 > last_hour.total {
        Verdict::Failing
    } else if last_request_at.unwrap_or(directory.created_at) + SILENT_AFTER < now {
        Verdict::Silent
    } else {
        Verdict::Ok
    }
}

async fn newest_event(
    connection: &impl ConnectionTrait,
    directory: &directories::Model,
) -> Result<Option<events::Model>, DbErr> {
    events::Entity::find()
        .filter(events::Column::DirectoryId.eq(directory.id))
        .filter(events::Column::Sequence.is_not_null())
        .order_by_desc(events::Column::Sequence)
        .one(connection)
        .await
}

/// Counts a range of the primary key, and one of the index of what was refused: ids begin with the time.
async fn requests_since(
    store: &Store,
    directory: &directories::Model,
    since: DateTime<Utc>,
) -> Result<Requests, DbErr> {
    const COUNTED: &str = "SELECT 1 FROM scim_requests WHERE directory_id = $1 AND id >= $2";
    let sql = format!(
        "SELECT (SELECT count(*) FROM ({COUNTED} LIMIT $3) t) AS total, \
         (SELECT count(*) FROM ({COUNTED} AND status >= 400 LIMIT $3) f) AS errors"
    );
    let values = [
        directory.id.into(),
        first_id_of(since).into(),
        REQUESTS_MAX.into(),
    ];
    let row = one(store, &sql, values).await?;
    let number = |name: &str| row.as_ref().map_or(Ok(0), |row| row.try_get("", name));
    Ok(Requests {
        total: number("total")?,
        errors: number("errors")?,
    })
}

/// The lowest version 7 id of an instant.
fn first_id_of(time: DateTime<Utc>) -> RequestId {
    let milliseconds = u128::try_from(time.timestamp_millis()).unwrap_or(0);
    RequestId::from(Uuid::from_u128(milliseconds << 80))
}

async fn people(store: &Store, directory: &directories::Model) -> Result<People, DbErr> {
    // Each of them is a sum of few rows, or the length of an index that holds only what it counts.
    let sql = "SELECT CAST(coalesce(sum(users), 0) AS bigint) AS users, \
               CAST(coalesce(sum(groups), 0) AS bigint) AS groups, \
               (SELECT count(*) FROM users WHERE directory_id = $1 AND NOT active) AS inactive, \
               (SELECT count(*) FROM users WHERE directory_id = $1 AND ended_at IS NOT NULL) AS ended \
               FROM resource_counts WHERE directory_id = $1";
    let row = one(store, sql, [directory.id.into()]).await?;
    let number = |name: &str| {
        row.as_ref()
            .map_or(Ok(0), |row| row.try_get::<i64>("", name))
    };
    let (inactive, ended) = (number("inactive")?, number("ended")?);
    Ok(People {
        active: number("users")? - inactive,
        inactive: (inactive - ended).max(0),
        ended,
        groups: number("groups")?,
    })
}

async fn one<const N: usize>(
    store: &Store,
    sql: &str,
    values: [sea_orm::Value; N],
) -> Result<Option<QueryResult>, DbErr> {
    let statement = store.dialect().statement(sql, values);
    store.reader().query_one_raw(statement).await
}

async fn tokens(
    connection: &impl ConnectionTrait,
    directory: &directories::Model,
    now: DateTime<Utc>,
) -> Result<Tokens, DbErr> {
    let rows = token::list(connection, directory.id).await?;
    let last_used = rows
        .iter()
        .filter(|row| row.last_used_at.is_some())
        .max_by_key(|row| row.last_used_at)
        .cloned();
    let (active, _): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| {
        row.revoked_at.is_none() && row.expires_at.is_none_or(|expires_at| expires_at > now)
    });
    let is_expiring = |row: &scim_tokens::Model| {
        row.expires_at
            .is_some_and(|expires_at| expires_at <= now + EXPIRING_WITHIN)
    };
    Ok(Tokens {
        active: active.len(),
        expiring: active.into_iter().filter(is_expiring).collect(),
        last_used,
    })
}
