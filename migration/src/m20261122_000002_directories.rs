//! Directories, their SCIM tokens, users, groups and memberships.
//!
//! Keys of rows inside a directory start with `directory_id`, so that a reference from one directory
//! into another cannot be stored.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, binary, boolean, pk_uuid, small_integer, string, string_null, text, text_null,
    timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
};

use crate::{by_bytes, foreign_key, index, primary_key, table_with_times};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            directories(),
            directory_addresses(),
            directory_activity(),
            scim_tokens(),
            users(manager),
            user_emails(manager),
            groups(manager),
            memberships(),
            resource_counts(),
            group_members(),
            refused_writes(manager),
            drift(manager),
        ] {
            manager.create_table(table).await?;
        }
        for unique in [
            index("directories", &["external_key"]),
            index("scim_tokens", &["digest"]),
            index("users", &["directory_user_id"]),
            index("users", &["directory_id", "user_name_key"]),
            index("groups", &["directory_group_id"]),
            index("groups", &["directory_id", "identity_key"]),
            index("refused_writes", &["directory_id", "kind", "subject"]),
            index("drift", &["directory_id", "kind", "resource_id"]),
        ] {
            manager.create_index(unique.clone().unique().take()).await?;
        }
        for plain in [
            index("directories", &["organization_id", "id"]),
            index("directories", &["state"]),
            index("directory_addresses", &["directory_id"]),
            index("scim_tokens", &["directory_id"]),
            index("users", &["directory_id", "external_id", "id"]),
            index("users", &["directory_id", "email_key"]),
            index("users", &["directory_id", "display_name_key", "id"]),
            index("groups", &["directory_id", "external_id", "id"]),
            index("groups", &["directory_id", "display_name_key", "id"]),
            // With the group at the end, they hold all that is asked of them. SQLite, which takes a
            // directory for a few rows, would else rather read the primary key of a whole directory.
            index("memberships", &["directory_id", "user_id", "group_id"]),
            index("group_members", &["directory_id", "member_id", "group_id"]),
            index("drift", &["directory_id", "kind", "subject"]),
        ] {
            manager.create_index(plain).await?;
        }
        // The few directories whose deliveries are held are looked for every second.
        for column in [
            "deliveries_held_at",
            "guard_held_at",
            "deletion_due_at",
            "aligning_since",
        ] {
            let mut set = index("directories", &[column]);
            set.and_where(Expr::col(column).is_not_null());
            manager.create_index(set).await?;
        }
        // Whether a person may sign in is asked without a directory. An expression, so that PostgreSQL
        // does not take these for a provider's question about one directory.
        for table in ["users", "user_emails"] {
            manager
                .get_connection()
                .execute_unprepared(&format!(
                    "CREATE INDEX {table}_email_everywhere ON {table} ((email_key || ''))"
                ))
                .await?;
        }
        manager
            .get_connection()
            .execute_unprepared(
                "CREATE INDEX users_user_name_everywhere ON users ((user_name_key || '')) \
                 WHERE email_key IS NULL",
            )
            .await?;
        // They hold nothing but what is counted.
        let mut inactive = index("users", &["directory_id", "id"]);
        inactive.name("users_directory_id_inactive");
        inactive.and_where(Expr::col("active").not());
        manager.create_index(inactive).await?;
        let mut ended = index("users", &["directory_id", "ended_at"]);
        ended.and_where(Expr::col("ended_at").is_not_null());
        manager.create_index(ended).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "drift",
            "refused_writes",
            "resource_counts",
            "group_members",
            "memberships",
            "groups",
            "user_emails",
            "users",
            "scim_tokens",
            "directory_activity",
            "directory_addresses",
            "directories",
        ] {
            manager
                .drop_table(Table::drop().table(table).if_exists().take())
                .await?;
        }
        Ok(())
    }
}

/// `label` and `host_name` are the ones in use now; `directory_addresses` holds whatever opens.
/// `flatten_groups` says whether events tell of everybody in a group, or only of its direct members.
/// `management` says who is master of its users and groups, `inactive_users` what becomes of those who
/// are deactivated; while those who are inactive already are brought into line with it, `aligning_since`
/// is set. `guard` is a JSON object: what the guard against mass deprovisioning is set to, and when it
/// tripped last. `has_unsettled` says whether `refused_writes` or `drift` has rows of it. `…_by` says in words
/// who did it. `deletion_with_organization` is set if it goes because its organization does;
/// `rows_removed` counts how far the removal of a deleted one is.
fn directories() -> TableCreateStatement {
    table_with_times("directories")
        .col(pk_uuid("id"))
        .col(uuid("organization_id"))
        .col(string("external_key"))
        .col(string_null("label"))
        .col(string_null("host_name"))
        .col(string("name"))
        .col(string("kind"))
        .col(string("state"))
        .col(small_integer("shard"))
        .col(boolean("flatten_groups").default(false))
        .col(string("management").default("provider"))
        .col(string_null("management_changed_by"))
        .col(timestamp_with_time_zone_null("management_changed_at"))
        .col(string("inactive_users").default("retain"))
        .col(timestamp_with_time_zone_null("aligning_since"))
        .col(boolean("has_unsettled").default(false))
        .col(timestamp_with_time_zone_null("deliveries_held_at"))
        .col(string_null("deliveries_held_by"))
        .col(text_null("guard"))
        .col(timestamp_with_time_zone_null("guard_held_at"))
        .col(timestamp_with_time_zone_null("writes_refused_at"))
        .col(string_null("writes_refused_by"))
        .col(timestamp_with_time_zone_null("deletion_due_at"))
        .col(boolean("deletion_with_organization").default(false))
        .col(big_integer("rows_removed").default(0))
        .foreign_key(&mut foreign_key(
            "directories",
            &["organization_id"],
            "organizations",
            &["id"],
        ))
        .take()
}

/// What a directory is called in URLs: its external key, its labels, former ones included, and its host
/// name. Only host names have a dot; one key over all of them makes each name one directory's.
fn directory_addresses() -> TableCreateStatement {
    Table::create()
        .table("directory_addresses")
        .col(string("address"))
        .col(uuid("directory_id"))
        .col(timestamp_with_time_zone("created_at"))
        .primary_key(&mut primary_key(&["address"]))
        .foreign_key(&mut foreign_key(
            "directory_addresses",
            &["directory_id"],
            "directories",
            &["id"],
        ))
        .take()
}

/// When the provider was heard; apart from `directories`, so that no request updates a directory's row.
fn directory_activity() -> TableCreateStatement {
    Table::create()
        .table("directory_activity")
        .col(pk_uuid("directory_id"))
        .col(timestamp_with_time_zone("first_request_at"))
        .col(timestamp_with_time_zone("last_request_at"))
        .col(uuid_null("last_token_id"))
        .take()
}

fn scim_tokens() -> TableCreateStatement {
    Table::create()
        .table("scim_tokens")
        .col(pk_uuid("id"))
        .col(uuid("directory_id"))
        .col(string_null("label"))
        .col(binary("digest"))
        .col(string("suffix"))
        .col(string("created_by"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone_null("last_used_at"))
        .col(timestamp_with_time_zone_null("expires_at"))
        .col(timestamp_with_time_zone_null("revoked_at"))
        .foreign_key(&mut foreign_key(
            "scim_tokens",
            &["directory_id"],
            "directories",
            &["id"],
        ))
        .take()
}

/// `id` is the SCIM resource, `directory_user_id` what the vendor sees; `document` is the resource as the
/// provider gave it. `ended_at` is set while the directory user has ended and the resource lives on. The `…_key` columns are folded and are what is compared; see `keys` in the server.
fn users(manager: &SchemaManager<'_>) -> TableCreateStatement {
    table_with_times("users")
        .col(uuid("directory_id"))
        .col(uuid("id"))
        .col(uuid("directory_user_id"))
        .col(by_bytes(string("user_name_key"), manager))
        .col(by_bytes(string_null("external_id"), manager))
        .col(by_bytes(string_null("email_key"), manager))
        .col(by_bytes(string_null("display_name_key"), manager))
        .col(boolean("active"))
        .col(timestamp_with_time_zone_null("ended_at"))
        .col(text("document"))
        .col(big_integer("version"))
        .primary_key(&mut primary_key(&["directory_id", "id"]))
        .foreign_key(&mut foreign_key(
            "users",
            &["directory_id"],
            "directories",
            &["id"],
        ))
        .take()
}

/// The e-mail addresses beyond the one in `users.email_key`, which most people do not have.
fn user_emails(manager: &SchemaManager<'_>) -> TableCreateStatement {
    Table::create()
        .table("user_emails")
        .col(uuid("directory_id"))
        .col(by_bytes(string("email_key"), manager))
        .col(uuid("user_id"))
        .primary_key(&mut primary_key(&["directory_id", "email_key", "user_id"]))
        .foreign_key(&mut foreign_key(
            "user_emails",
            &["directory_id", "user_id"],
            "users",
            &["directory_id", "id"],
        ))
        .take()
}

/// `identity_key` is the external id if there is one, else the folded display name.
fn groups(manager: &SchemaManager<'_>) -> TableCreateStatement {
    table_with_times("groups")
        .col(uuid("directory_id"))
        .col(uuid("id"))
        .col(uuid("directory_group_id"))
        .col(by_bytes(string("display_name_key"), manager))
        .col(by_bytes(string_null("external_id"), manager))
        .col(by_bytes(string("identity_key"), manager))
        .col(text("document"))
        .col(big_integer("version"))
        .primary_key(&mut primary_key(&["directory_id", "id"]))
        .foreign_key(&mut foreign_key(
            "groups",
            &["directory_id"],
            "directories",
            &["id"],
        ))
        .take()
}

/// The users in a group.
fn memberships() -> TableCreateStatement {
    Table::create()
        .table("memberships")
        .col(uuid("directory_id"))
        .col(uuid("group_id"))
        .col(uuid("user_id"))
        .col(string_null("display"))
        .col(timestamp_with_time_zone("created_at"))
        .primary_key(&mut primary_key(&["directory_id", "group_id", "user_id"]))
        .foreign_key(&mut foreign_key(
            "memberships",
            &["directory_id", "group_id"],
            "groups",
            &["directory_id", "id"],
        ))
        .foreign_key(&mut foreign_key(
            "memberships",
            &["directory_id", "user_id"],
            "users",
            &["directory_id", "id"],
        ))
        .take()
}

/// How many users and groups a directory has: the sum of its rows.
fn resource_counts() -> TableCreateStatement {
    Table::create()
        .table("resource_counts")
        .col(uuid("directory_id"))
        .col(uuid("id"))
        .col(big_integer("users"))
        .col(big_integer("groups"))
        .primary_key(&mut primary_key(&["directory_id", "id"]))
        .foreign_key(&mut foreign_key(
            "resource_counts",
            &["directory_id"],
            "directories",
            &["id"],
        ))
        .take()
}

/// The groups in a group; nothing here ever forms a circle.
fn group_members() -> TableCreateStatement {
    Table::create()
        .table("group_members")
        .col(uuid("directory_id"))
        .col(uuid("group_id"))
        .col(uuid("member_id"))
        .col(string_null("display"))
        .col(timestamp_with_time_zone("created_at"))
        .primary_key(&mut primary_key(&["directory_id", "group_id", "member_id"]))
        .foreign_key(&mut foreign_key(
            "group_members",
            &["directory_id", "group_id"],
            "groups",
            &["directory_id", "id"],
        ))
        .foreign_key(&mut foreign_key(
            "group_members",
            &["directory_id", "member_id"],
            "groups",
            &["directory_id", "id"],
        ))
        .take()
}

/// The people and groups about whom writes of the provider were refused and have not been made up for: a
/// row for each, however often the provider tried. `subject` is what they are known by: the id of the
/// resource, or the name by which it was to be created.
fn refused_writes(manager: &SchemaManager<'_>) -> TableCreateStatement {
    Table::create()
        .table("refused_writes")
        .col(uuid("directory_id"))
        .col(uuid("id"))
        .col(string("kind"))
        .col(by_bytes(string("subject"), manager))
        .col(uuid_null("resource_id"))
        .col(string("label"))
        .col(string("operation"))
        .col(string("reason"))
        .col(big_integer("times"))
        .col(timestamp_with_time_zone("first_at"))
        .col(timestamp_with_time_zone("last_at"))
        .col(uuid("token_id"))
        .col(uuid_null("request_id"))
        .primary_key(&mut primary_key(&["directory_id", "id"]))
        .foreign_key(&mut foreign_key(
            "refused_writes",
            &["directory_id"],
            "directories",
            &["id"],
        ))
        .take()
}

/// The people and groups that were changed by hand and that the provider has not written since.
fn drift(manager: &SchemaManager<'_>) -> TableCreateStatement {
    Table::create()
        .table("drift")
        .col(uuid("directory_id"))
        .col(uuid("id"))
        .col(string("kind"))
        .col(uuid("resource_id"))
        .col(by_bytes(string("subject"), manager))
        .col(string("label"))
        .col(string("what"))
        .col(string("changed_by"))
        .col(timestamp_with_time_zone("changed_at"))
        .primary_key(&mut primary_key(&["directory_id", "id"]))
        .foreign_key(&mut foreign_key(
            "drift",
            &["directory_id"],
            "directories",
            &["id"],
        ))
        .take()
}
