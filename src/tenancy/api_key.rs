//! API keys: what a vendor's programs and commands authenticate with.
//!
//! A key is shown once, when it is made; the database holds a digest of it.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::actor::Actor;
use crate::audit;
use crate::ids::ApiKeyId;
use crate::secrets::{Token, TokenKind};
use crate::storage::tables::api_keys;
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};

/// A new key, the only time that it can be seen.
#[derive(Debug)]
pub struct NewApiKey {
    /// The row.
    pub row: api_keys::Model,
    /// The key itself.
    pub key: Token,
}

struct Create {
    actor: Actor,
    name: String,
    digest: Vec<u8>,
    suffix: String,
}

impl UseCase for Create {
    type Answer = api_keys::Model;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<api_keys::Model, storage::Error> {
        let row = api_keys::Model {
            id: ApiKeyId::generate(),
            name: self.name.clone(),
            digest: self.digest.clone(),
            suffix: self.suffix.clone(),
            created_at: tx.now(),
            last_used_at: None,
            revoked_at: None,
        };
        insert_new(tx, api_keys::ActiveModel::from(row.clone())).await?;
        let entry = audit::Entry::of_installation("api_key.created", &row.id);
        audit::record(tx, self.actor, entry).await?;
        Ok(row)
    }
}

/// Makes a key called `name`.
///
/// # Errors
/// The database fails.
pub async fn create(
    store: &Store,
    actor: Actor,
    name: String,
) -> Result<NewApiKey, storage::Error> {
    let key = Token::generate(TokenKind::ApiKey);
    let row = store
        .write(
            Lane::System,
            Create {
                actor,
                name,
                digest: key.digest().to_vec(),
                suffix: key.suffix().to_owned(),
            },
        )
        .await?;
    Ok(NewApiKey { row, key })
}

/// Finds the key that `text` is, unless it is revoked.
///
/// # Errors
/// The database fails.
pub async fn authenticate(
    store: &Store,
    text: &str,
) -> Result<Option<api_keys::Model>, storage::Error> {
    let Some(key) = Token::parse(TokenKind::ApiKey, text) else {
        return Ok(None);
    };
    let digest = key.digest();
    let found = api_keys::Entity::find()
        .filter(api_keys::Column::Digest.eq(digest.to_vec()))
        .filter(api_keys::Column::RevokedAt.is_null())
        .one(store.reader())
        .await?;
    Ok(found.filter(|row| digest.matches(&row.digest)))
}
