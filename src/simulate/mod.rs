//! A simulated identity provider: the traffic of Okta or Entra ID against any SCIM 2.0 URL.
//!
//! [`run`] plays a script (`script`) in the dialect asked for (`okta`, `entra`): people and
//! groups are created, join, are renamed, move, leave, return and are deleted, with the requests,
//! headers and bodies that the real provider sends, and with its expectations of the answers.
//! An [`Observer`] sees each request as it ends, and what it must have changed; `rollcall
//! simulate` draws a progress bar from that ([`progress`]), `rollcall demo` its account.
//!
//! Requests go through the outbound client like all others of the process.

mod answer;
mod entra;
pub mod figures;
mod okta;
mod people;
pub mod progress;
mod roster;
mod script;
mod session;
pub mod terminal;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};

pub use self::{
    figures::Figures,
    people::{Group, Person, World},
    roster::Roster,
    script::{Chapter, Phase},
};
use self::{script::Action, session::Session};
use crate::outbound::SetupError;

/// Whose traffic to imitate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Okta, as an app of its catalogue speaks.
    Okta,
    /// Microsoft Entra ID; with `?aadOptscim062020` in the URL, in the shape that flag asks for.
    Entra,
}

impl Dialect {
    /// The provider's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Okta => "Okta",
            Self::Entra => "Entra ID",
        }
    }

    /// How many requests the provider has under way side by side.
    fn in_flight(self) -> usize {
        match self {
            Self::Okta => 8,
            Self::Entra => 4,
        }
    }

    /// Keeps the providers' worlds apart under one seed.
    fn salt(self) -> u64 {
        match self {
            Self::Okta => 0,
            Self::Entra => 0x0E27_7A00,
        }
    }
}

/// How much traffic to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many people.
    pub users: usize,
    /// How many groups.
    pub groups: usize,
    /// Requests per second at most; as fast as the server answers if `None`.
    pub rate: Option<f64>,
    /// Which people: the same seed makes the same ones.
    pub seed: u64,
}

/// Where to send it.
#[derive(Debug, Clone)]
pub struct Target {
    /// What an administrator types into the provider: the directory's SCIM base URL.
    pub scim_base_url: String,
    /// The directory's bearer token.
    pub token: String,
}

/// Sees a simulation as it happens. Called from several requests at once.
pub trait Observer: Send + Sync {
    /// The script is written; nothing has been sent yet.
    fn planned(&self, _chapters: &[Chapter]) {}
    /// A phase begins.
    fn started(&self, _phase: Phase) {}
    /// A request was answered.
    fn step(&self, step: &Step);
    /// All requests of a phase were answered.
    fn finished(&self, _phase: Phase) {}
}

/// One answered request.
#[derive(Debug, Clone)]
pub struct Step {
    /// The phase that it belongs to.
    pub phase: Phase,
    /// The person or group it is about.
    pub subject: String,
    /// The HTTP method.
    pub method: &'static str,
    /// The path under the SCIM base URL.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// From the first byte sent to the answer read whole.
    pub took: Duration,
    /// When the answer had been read.
    pub finished_at: Instant,
    /// What the provider may now rely on.
    pub changes: Vec<Change>,
}

/// A change that the server has acknowledged, and must tell about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To whom.
    pub subject: Subject,
    /// Whether there must be an event; if not, there may be one.
    pub is_required: bool,
}

/// What a change is about, in the provider's words: its own id of a person, the name of a group
/// (Okta sends no id of a group).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The directory itself.
    Directory,
    /// A person, by `externalId`.
    User(String),
    /// A group, by name.
    Group(String),
    /// A person's membership in a group.
    Membership(String, String),
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => write!(formatter, "the directory"),
            Self::User(id) => write!(formatter, "user {id}"),
            Self::Group(name) => write!(formatter, "group {name}"),
            Self::Membership(id, name) => write!(formatter, "user {id} in group {name}"),
        }
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The directory was heard from for the first time.
    Activated,
    /// A person or group is new.
    Created,
    /// A person's or group's attributes differ.
    Updated,
    /// A person lost access.
    Deactivated,
    /// A person got access back.
    Reactivated,
    /// A person or group is gone.
    Deleted,
    /// A membership is new.
    Added,
    /// A membership is gone.
    Removed,
}

/// What a simulation came to.
#[derive(Debug)]
pub struct Summary {
    /// Who spoke.
    pub dialect: Dialect,
    /// How long it took.
    pub elapsed: Duration,
    /// Requests by kind, such as `PATCH /Groups`.
    pub kinds: BTreeMap<String, Figures>,
    /// All requests together; `None` if there were none.
    pub all: Option<Figures>,
    /// How often a request was sent again because the server asked for patience.
    pub retries: usize,
    /// How many actions failed.
    pub failed: usize,
    /// The first of the failures, in words.
    pub failures: Vec<Failure>,
    /// What the provider holds to be true now.
    pub roster: Roster,
}

/// An answer that the provider would not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The request, as method and path.
    pub request: String,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// The SCIM `detail`, or what was wrong with the answer.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(formatter, "{}: {status}, {}", self.request, self.detail),
            None => write!(formatter, "{}: {}", self.request, self.detail),
        }
    }
}

/// Why a simulation could not be played at all.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The URL is not one of the web.
    #[error("{url:?} is not an http or https URL")]
    NotAUrl {
        /// What was given.
        url: String,
    },
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The connection test failed, after which a provider sends nothing more.
    #[error("the connection test failed: {0}")]
    Connection(Failure),
}

/// How many failures a summary keeps.
const FAILURES_KEPT: usize = 20;

/// Plays a plan against a SCIM server and tells the observer all along.
pub async fn run(
    dialect: Dialect,
    target: &Target,
    plan: &Plan,
    observer: &dyn Observer,
) -> Result<Summary, SimulateError> {
    let world = World::new(dialect, plan.users, plan.groups, plan.seed);
    let chapters = script::write(dialect, plan, &world);
    let session = Session::new(dialect, target, plan, world, observer)?;
    observer.planned(&chapters);
    let started = Instant::now();
    let mut failures = Vec::new();
    for chapter in &chapters {
        observer.started(chapter.phase);
        let failed = play(&session, chapter).await;
        observer.finished(chapter.phase);
        if let (Phase::Connection, Some(failure)) = (chapter.phase, failed.first()) {
            return Err(SimulateError::Connection(failure.clone()));
        }
        failures.extend(failed);
    }
    let failed = failures.len();
    failures.truncate(FAILURES_KEPT);
    let tally = session.into_tally();
    Ok(Summary {
        dialect,
        elapsed: started.elapsed(),
        all: Figures::of(tally.took.values().flatten().copied().collect()),
        kinds: tally
            .took
            .into_iter()
            .filter_map(|(k, t)| Some((k, Figures::of(t)?)))
            .collect(),
        retries: tally.retries,
        failed,
        failures,
        roster: Roster::of(&tally.world),
    })
}

/// Plays one chapter, several actions side by side, and gives back what failed.
///
/// Deletions go one by one: whether a person or its group goes first decides which events there are,
/// and a simulation always causes the same.
async fn play(session: &Session<'_>, chapter: &Chapter) -> Vec<Failure> {
    let side_by_side = if chapter.phase == Phase::Deletions {
        1
    } else {
        session.dialect.in_flight()
    };
    stream::iter(&chapter.actions)
        .map(|action| perform(session, chapter.phase, action))
        .buffer_unordered(side_by_side)
        .filter_map(|outcome| async { outcome.err() })
        .collect()
        .await
}

async fn perform(session: &Session<'_>, phase: Phase, action: &Action) -> Result<(), Failure> {
    match session.dialect {
        Dialect::Okta => okta::perform(session, phase, action).await,
        Dialect::Entra => entra::perform(session, phase, action).await,
    }
}
