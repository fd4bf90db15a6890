//! Making a token, by itself or in place of another one.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveValue, DbErr, EntityTrait};
use serde_json::json;

use super::{Error, NewToken, append, end, find, is_active, list};
use crate::actor::Actor;
use crate::audit;
use crate::clock;
use crate::directories::gate;
use crate::events::Kind;
use crate::ids::{DirectoryId, ScimTokenId};
use crate::secrets::{Token, TokenKind};
use crate::storage::tables::{directories, scim_tokens};
use crate::storage::{Lane, Store, UseCase, WriteTx, insert_new};

/// What a new token is made from.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it is for, for people.
    pub label: Option<String>,
    /// When it ends; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The token that ends at once, to make room.
    pub replace: Option<ScimTokenId>,
    /// How many tokens the directory may have that open it.
    pub active_max: u32,
}

/// The token that a new one takes over from, and how long both open the directory.
#[derive(Clone, Copy, Debug)]
struct Rotated {
    id: ScimTokenId,
    overlap: TimeDelta,
}

struct Issue {
    actor: Actor,
    directory_id: DirectoryId,
    draft: Draft,
    rotated: Option<Rotated>,
    digest: Vec<u8>,
    suffix: String,
}

/// The new row, and the one that it takes over from as it is now.
type Issued = (scim_tokens::Model, Option<scim_tokens::Model>);

impl UseCase for Issue {
    type Answer = Issued;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Issued, Error> {
        // A deleted directory keeps its row for a while, and must not be opened again.
        let directory = &gate::open(tx)?;
        let rotated = self.find_rotated(tx).await?;
        let ending = self.find_ending(tx, rotated.as_ref()).await?;
        self.check_room(tx, &ending).await?;
        tx.act_as(self.actor);
        let row = self.insert(tx, directory).await?;
        let rotated = match rotated {
            Some(rotated) => Some(self.limit(tx, directory, rotated, &row).await?),
            None => None,
        };
        for token in ending {
            end(tx, self.actor, directory, &token).await?;
        }
        tx.directory_changed(self.directory_id);
        Ok((row, rotated))
    }
}

impl Issue {
    async fn find_rotated(&self, tx: &WriteTx) -> Result<Option<scim_tokens::Model>, Error> {
        let Some(Rotated { id, .. }) = self.rotated else {
            return Ok(None);
        };
        let found = find(tx, self.directory_id, id).await?;
        let found = found.ok_or(Error::NotFound(id))?;
        if is_active(&found, tx.now()) {
            Ok(Some(found))
        } else {
            Err(Error::Ended(Box::new(found)))
        }
    }

    /// The tokens that end at once.
    async fn find_ending(
        &self,
        tx: &WriteTx,
        rotated: Option<&scim_tokens::Model>,
    ) -> Result<Vec<scim_tokens::Model>, Error> {
        let mut ending = Vec::new();
        if self.overlap().is_zero() {
            ending.extend(rotated.cloned());
        }
        if let Some(id) = self.draft.replace
            && rotated.is_none_or(|rotated| rotated.id != id)
        {
            let found = find(tx, self.directory_id, id).await?;
            ending.push(found.ok_or(Error::NotFound(id))?);
        }
        Ok(ending)
    }

    async fn check_room(&self, tx: &WriteTx, ending: &[scim_tokens::Model]) -> Result<(), Error> {
        let mut active = list(tx, self.directory_id).await?;
        active.retain(|token| {
            is_active(token, tx.now()) && ending.iter().all(|ending| ending.id != token.id)
        });
        if u32::try_from(active.len()).is_ok_and(|count| count < self.draft.active_max) {
            Ok(())
        } else {
            Err(Error::TooMany(active))
        }
    }

    async fn insert(
        &self,
        tx: &WriteTx,
        directory: &directories::Model,
    ) -> Result<scim_tokens::Model, Error> {
        let row = scim_tokens::Model {
            id: ScimTokenId::generate(),
            directory_id: self.directory_id,
            label: self.draft.label.clone(),
            digest: self.digest.clone(),
            suffix: self.suffix.clone(),
            created_by: self.actor.who.to_string(),
            created_at: tx.now(),
            last_used_at: None,
            expires_at: self.draft.expires_at,
            revoked_at: None,
        };
        insert_new(tx, scim_tokens::ActiveModel::from(row.clone())).await?;
        append(tx, directory, Kind::TokenCreated, &row);
        let entry = audit::Entry::of_directory(directory, "token.created", &row.id);
        audit::record(tx, self.actor, entry).await?;
        Ok(row)
    }

    /// Gives the token that is taken over from its last time: never later than it had.
    async fn limit(
        &self,
        tx: &WriteTx,
        directory: &directories::Model,
        mut rotated: scim_tokens::Model,
        by: &scim_tokens::Model,
    ) -> Result<scim_tokens::Model, DbErr> {
        let last = tx.now() + self.overlap();
        let last = rotated.expires_at.map_or(last, |own| own.min(last));
        let change = scim_tokens::ActiveModel {
            id: ActiveValue::Unchanged(rotated.id),
            expires_at: ActiveValue::Set(Some(last)),
            ..Default::default()
        };
        scim_tokens::Entity::update(change).exec(tx).await?;
        rotated.expires_at = Some(last);
        let entry = audit::Entry::of_directory(directory, "token.rotated", &rotated.id);
        let details = json!({"by": by.id, "expires_at": clock::text(last)});
        audit::record(tx, self.actor, entry.with(details)).await?;
        Ok(rotated)
    }

    /// How long the token that is taken over from goes on; not at all if it is replaced as well.
    fn overlap(&self) -> TimeDelta {
        self.rotated
            .filter(|rotated| self.draft.replace != Some(rotated.id))
            .map_or(TimeDelta::zero(), |rotated| rotated.overlap)
    }
}

async fn issue(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
    draft: Draft,
    rotated: Option<Rotated>,
) -> Result<NewToken, Error> {
    let token = Token::generate(TokenKind::Scim);
    let issue = Issue {
        actor,
        directory_id,
        draft,
        rotated,
        digest: token.digest().to_vec(),
        suffix: token.suffix().to_owned(),
    };
    let (row, replaces) = store.write(Lane::Directory(directory_id), issue).await?;
    Ok(NewToken {
        row,
        token,
        replaces,
    })
}

/// Makes a token for a directory.
///
/// # Errors
/// There is no such directory, it has as many tokens as it may have, it has not the token to replace, or
/// the database fails; then nothing is changed.
pub async fn create(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
    draft: Draft,
) -> Result<NewToken, Error> {
    issue(store, actor, directory_id, draft, None).await
}

/// Makes a token that takes over from the token `id`: both open the directory for `overlap`, which may
/// be nothing.
///
/// # Errors
/// As for [`create`]; or the directory has no such token, or the token has ended.
pub async fn rotate(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
    id: ScimTokenId,
    overlap: TimeDelta,
    draft: Draft,
) -> Result<NewToken, Error> {
    let rotated = Some(Rotated { id, overlap });
    issue(store, actor, directory_id, draft, rotated).await
}
