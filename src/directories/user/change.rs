//! Changing a user: the new row, its addresses, and what is told of it.

use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
};
use serde_json::Value;

use super::{User, append};
use crate::directories::inactive::{self, Life};
use crate::directories::nesting::Shift;
use crate::directories::profile::UserProfile;
use crate::directories::resource::Error;
use crate::directories::{Document, turnover};
use crate::events::Kind;
use crate::ids::{DirectoryId, DirectoryUserId};
use crate::storage::WriteTx;
use crate::storage::tables::{directories, user_emails, users};

/// Puts another document in the place of a user's, and makes the events of that.
pub(super) async fn rewrite(
    tx: &WriteTx,
    directory: &directories::Model,
    old: &User,
    document: Document,
) -> Result<User, Error> {
    let profile = UserProfile::of(&document);
    if profile.user_name_key != old.row.user_name_key
        && name_is_taken(tx, directory.id, &profile.user_name_key).await?
    {
        return Err(Error::Taken);
    }
    let had_ended = old.row.ended_at.is_some();
    let life = Life::of(had_ended, inactive::has_ended(directory, profile.is_active));
    if life == Life::Ends {
        turnover::announce(tx, directory, &Shift::UsersGone, &[old.row.id]).await?;
    }
    let row = next_row(tx, life, &old.row, &profile, &document);
    users::Entity::update(row.clone().into_active_model().reset_all())
        .exec(tx)
        .await?;
    replace_other_emails(tx, &row, &UserProfile::of(&old.document), &profile).await?;
    let new = User { row, document };
    tell(tx, directory, life, old, &new).await?;
    Ok(new)
}

fn next_row(
    tx: &WriteTx,
    life: Life,
    old: &users::Model,
    profile: &UserProfile,
    document: &Document,
) -> users::Model {
    users::Model {
        directory_user_id: match life {
            Life::Begins => DirectoryUserId::generate(),
            Life::GoesOn | Life::Ends | Life::Over => old.directory_user_id,
        },
        user_name_key: profile.user_name_key.clone(),
        external_id: profile.external_id.clone(),
        email_key: profile.email_key.clone(),
        display_name_key: profile.display_name_key.clone(),
        active: profile.is_active,
        ended_at: match life {
            Life::Ends => Some(tx.now()),
            Life::Begins => None,
            Life::GoesOn | Life::Over => old.ended_at,
        },
        document: Value::Object(document.clone()).to_string(),
        version: old.version + 1,
        updated_at: tx.now(),
        ..old.clone()
    }
}

/// Appends the events of a change. Who ends has left its groups before.
async fn tell(
    tx: &WriteTx,
    directory: &directories::Model,
    life: Life,
    old: &User,
    new: &User,
) -> Result<(), DbErr> {
    match life {
        Life::GoesOn => append(tx, directory, Kind::UserUpdated, new, Some(old)),
        Life::Ends => append(tx, directory, Kind::UserDeleted, new, Some(old)),
        Life::Begins => {
            append(tx, directory, Kind::UserCreated, new, None);
            turnover::announce(tx, directory, &Shift::UsersCome, &[new.row.id]).await?;
        }
        Life::Over => {}
    }
    Ok(())
}

async fn name_is_taken(
    tx: &WriteTx,
    directory_id: DirectoryId,
    user_name_key: &str,
) -> Result<bool, DbErr> {
    let holder = users::Entity::find()
        .filter(users::Column::DirectoryId.eq(directory_id))
        .filter(users::Column::UserNameKey.eq(user_name_key))
        .one(tx)
        .await?;
    Ok(holder.is_some())
}

/// Writes down a user's addresses beyond the first.
pub(super) async fn insert_other_emails(
    tx: &WriteTx,
    row: &users::Model,
    profile: &UserProfile,
) -> Result<(), DbErr> {
    let rows = profile
        .other_email_keys
        .iter()
        .map(|key| user_emails::ActiveModel {
            directory_id: ActiveValue::Set(row.directory_id),
            email_key: ActiveValue::Set(key.clone()),
            user_id: ActiveValue::Set(row.id),
        });
    user_emails::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

async fn replace_other_emails(
    tx: &WriteTx,
    row: &users::Model,
    old: &UserProfile,
    new: &UserProfile,
) -> Result<(), DbErr> {
    if old.other_email_keys == new.other_email_keys {
        return Ok(());
    }
    user_emails::Entity::delete_many()
        .filter(user_emails::Column::DirectoryId.eq(row.directory_id))
        .filter(user_emails::Column::UserId.eq(row.id))
        .exec(tx)
        .await?;
    insert_other_emails(tx, row, new).await
}
