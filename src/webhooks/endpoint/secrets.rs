//! What an endpoint's requests are signed with, and its rotation.
//!
//! An endpoint has a current secret, and for a while a second one: the *next* one, which receivers can be
//! taught before it counts, or the *previous* one, which goes on for a while after the next one has been
//! promoted. Which of them signs is judged by the time of signing; nothing has to run for one to end.

use chrono::TimeDelta;

use super::{Error, locked, save};
use crate::actor::Actor;
use crate::audit;
use crate::ids::EndpointId;
use crate::secrets::{MasterKey, SecretError, Signer, WebhookSecret};
use crate::storage::tables::endpoints;
use crate::storage::{Lane, Store, UseCase, WriteTx};

/// What the secrets of an endpoint are sealed for.
pub(super) const SECRET_PURPOSE: &str = "webhook-secret";
pub(super) const SIGNING_KEY_PURPOSE: &str = "webhook-signing-key";

/// What a second secret is to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is going to be the current one.
    Next,
    /// It was the current one.
    Previous,
}

impl Role {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Previous => "previous",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Next, Self::Previous]
            .into_iter()
            .find(|role| role.as_str() == text)
    }

    /// That of an endpoint's second secret, if it has one that still counts.
    pub fn of(row: &endpoints::Model, now_ms: i64) -> Option<Self> {
        let ends_ms = row.second_secret_expires_at.map(|at| at.timestamp_millis());
        row.sealed_second_secret.as_ref()?;
        let role = Self::parse(row.second_secret_role.as_deref()?)?;
        ends_ms.is_none_or(|at| at > now_ms).then_some(role)
    }
}

/// A secret besides the current one.
#[derive(Clone, Debug)]
pub struct Second {
    /// What it is.
    pub role: Role,
    /// The secret.
    pub secret: WebhookSecret,
    /// When it ends, in milliseconds since 1970.
    ends_ms: Option<i64>,
}

/// What an endpoint's requests are signed with.
#[derive(Debug)]
pub struct Keys {
    /// The current secret.
    pub current: WebhookSecret,
    second: Option<Second>,
    /// A key whose signatures receivers check without a secret.
    pub signer: Option<Signer>,
}

impl Keys {
    /// One secret, and no key.
    pub fn of(current: WebhookSecret) -> Self {
        Self {
            current,
            second: None,
            signer: None,
        }
    }

    /// Those of an endpoint.
    pub(super) fn open(
        master_key: &MasterKey,
        row: &endpoints::Model,
    ) -> Result<Self, SecretError> {
        let id = row.id.to_string();
        let open = |sealed: &[u8]| {
            let opened = master_key.open(SECRET_PURPOSE, &id, sealed)?;
            WebhookSecret::from_text(&String::from_utf8_lossy(&opened))
        };
        let role = row.second_secret_role.as_deref().and_then(Role::parse);
        let second = role.zip(row.sealed_second_secret.as_ref());
        let second = second.map(|(role, sealed)| {
            let ends_at = row.second_secret_expires_at;
            open(sealed).map(|secret| Second {
                role,
                secret,
                ends_ms: ends_at.map(|at| at.timestamp_millis()),
            })
        });
        let signer = row.sealed_signing_key.as_ref().map(|sealed| {
            let seed = master_key.open(SIGNING_KEY_PURPOSE, &id, sealed)?;
            Signer::from_seed(&seed).ok_or(SecretError::NotOpened)
        });
        Ok(Self {
            current: open(&row.sealed_secret)?,
            second: second.transpose()?,
            signer: signer.transpose()?,
        })
    }

    /// The second secret, if there is one that has not ended.
    pub fn second_at(&self, now_ms: i64) -> Option<&Second> {
        let second = self.second.as_ref()?;
        second
            .ends_ms
            .is_none_or(|at| at > now_ms)
            .then_some(second)
    }
}

pub(super) fn seal(master_key: &MasterKey, id: EndpointId, secret: &WebhookSecret) -> Vec<u8> {
    master_key.seal(SECRET_PURPOSE, &id.to_string(), secret.expose().as_bytes())
}

/// A new key for signing, sealed.
pub(super) fn new_signing_key(master_key: &MasterKey, id: EndpointId) -> Vec<u8> {
    let seed = Signer::new_seed();
    master_key.seal(SIGNING_KEY_PURPOSE, &id.to_string(), seed.as_slice())
}

/// What is done to the secrets.
enum Step {
    /// Take this, which is sealed, for the next one.
    Add(Vec<u8>),
    /// Make the next one the current one, and let the current one go on for so long.
    Promote(TimeDelta),
    /// End one.
    End(Role),
}

struct Rotate(Actor, EndpointId, Step);

impl UseCase for Rotate {
    type Answer = endpoints::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<endpoints::Model, Error> {
        let Self(actor, id, step) = self;
        let mut row = locked(tx, *id).await?;
        let role = Role::of(&row, tx.now().timestamp_millis());
        let (action, details) = match step {
            Step::Add(sealed) => {
                if let Some(role) = role {
                    return Err(Error::SecondSecret(role));
                }
                set_second(&mut row, Some((Role::Next, sealed.clone())));
                ("webhook_endpoint.secret_created", Role::Next)
            }
            Step::Promote(overlap) => {
                let next = row.sealed_second_secret.take();
                let (Some(next), Some(Role::Next)) = (next, role) else {
                    return Err(Error::NoSecret(Role::Next));
                };
                let former = std::mem::replace(&mut row.sealed_secret, next);
                let goes_on = *overlap > TimeDelta::zero();
                set_second(&mut row, goes_on.then_some((Role::Previous, former)));
                row.second_secret_expires_at = goes_on.then(|| tx.now() + *overlap);
                ("webhook_endpoint.secret_promoted", Role::Next)
            }
            Step::End(ended) => {
                if role != Some(*ended) {
                    return Err(Error::NoSecret(*ended));
                }
                set_second(&mut row, None);
                ("webhook_endpoint.secret_ended", *ended)
            }
        };
        let entry = audit::Entry::of_installation(action, id);
        let entry = entry.with(serde_json::json!({"secret": details.as_str()}));
        audit::record(tx, *actor, entry).await?;
        save(tx, row).await
    }
}

fn set_second(row: &mut endpoints::Model, second: Option<(Role, Vec<u8>)>) {
    let (role, sealed) = second.unzip();
    row.second_secret_role = role.map(|role| role.as_str().to_owned());
    row.sealed_second_secret = sealed;
    row.second_secret_expires_at = None;
}

async fn rotate(
    store: &Store,
    actor: Actor,
    id: EndpointId,
    step: Step,
) -> Result<endpoints::Model, Error> {
    let row = store.write(Lane::System, Rotate(actor, id, step)).await?;
    store.wake().endpoints_changed();
    Ok(row)
}

/// Makes the next secret: requests are signed with both from now on.
///
/// # Errors
/// There is no such endpoint, it has a second secret already, or the database fails.
pub async fn add(
    store: &Store,
    actor: Actor,
    master_key: &MasterKey,
    id: EndpointId,
) -> Result<WebhookSecret, Error> {
    let secret = WebhookSecret::generate();
    let step = Step::Add(seal(master_key, id, &secret));
    rotate(store, actor, id, step).await?;
    Ok(secret)
}

/// Makes the next secret the current one; the one before goes on as the previous one for `overlap`.
///
/// # Errors
/// There is no such endpoint, it has no next secret, or the database fails.
pub async fn promote(
    store: &Store,
    actor: Actor,
    id: EndpointId,
    overlap: TimeDelta,
) -> Result<endpoints::Model, Error> {
    rotate(store, actor, id, Step::Promote(overlap)).await
}

/// Ends a second secret: nothing is signed with it any more.
///
/// # Errors
/// There is no such endpoint, it has no such secret, or the database fails.
pub async fn end(store: &Store, actor: Actor, id: EndpointId, role: Role) -> Result<(), Error> {
    rotate(store, actor, id, Step::End(role)).await?;
    Ok(())
}
