//! PostgreSQL's own wall between directories: what one directory's transaction can see and write.

use rollcall::actor::Actor;
use rollcall::directories::user;
use rollcall::ids::{DirectoryId, ResourceId};
use rollcall::storage::tables::{directories, events, users};
use rollcall::storage::{self, Lane, Store, UseCase, WriteTx};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
};
use serde_json::json;

use crate::support::app::{self, TestApp};
use crate::support::database::{Backend, Database};
use crate::support::postgres::connect;
use crate::support::store::Fixture;

/// A use case that forgets whose data it may touch.
struct Careless(DirectoryId);

/// How many rows of the other directory it came across.
#[derive(Debug, PartialEq, Eq)]
struct Touched {
    seen: u64,
    directories_seen: u64,
    changed: u64,
    deleted: u64,
}

impl UseCase for Careless {
    type Answer = Touched;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<Touched, storage::Error> {
        let other = users::Column::DirectoryId.eq(self.0);
        let changed = users::Entity::update_many()
            .col_expr(users::Column::Version, 99.into())
            .filter(other.clone())
            .exec(tx)
            .await?;
        let deleted = events::Entity::delete_many()
            .filter(events::Column::DirectoryId.eq(self.0))
            .exec(tx)
            .await?;
        Ok(Touched {
            seen: users::Entity::find().filter(other).count(tx).await?,
            directories_seen: directories::Entity::find().count(tx).await?,
            changed: changed.rows_affected,
            deleted: deleted.rows_affected,
        })
    }
}

/// A use case that writes into another directory.
struct Stray(users::Model);

impl UseCase for Stray {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        users::Entity::insert(users::ActiveModel::from(self.0.clone()))
            .exec_without_returning(tx)
            .await?;
        Ok(())
    }
}

async fn user_of(store: &Store, directory_id: DirectoryId) -> users::Model {
    let document = json!({"userName": "ada@example.com", "active": true});
    let document = document.as_object().unwrap().clone();
    let id = ResourceId::generate();
    let made = user::create(store, directory_id, Actor::SYSTEM, id, document).await;
    made.unwrap().row
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_one_directory_sees_and_writes_nothing_of_another() {
    let Some(fixture) = Fixture::on_postgres(2).await else {
        return;
    };
    let [one, other] = [&fixture.directories[0], &fixture.directories[1]].map(|row| row.id);
    let row = user_of(&fixture.store, other).await;

    let touched = fixture.store.write(Lane::Directory(one), Careless(other));
    let touched = touched.await.unwrap();
    let stray = users::Model {
        id: ResourceId::generate(),
        directory_user_id: rollcall::ids::DirectoryUserId::generate(),
        user_name_key: "eve@example.com".to_owned(),
        ..row.clone()
    };
    let strayed = fixture.store.write(Lane::Directory(one), Stray(stray));
    let strayed = strayed.await.unwrap_err().to_string();

    let nothing = Touched {
        seen: 0,
        directories_seen: 1,
        changed: 0,
        deleted: 0,
    };
    assert_eq!(touched, nothing);
    assert!(!strayed.is_empty());
    let left = users::Entity::find().all(fixture.store.reader()).await;
    assert_eq!(left.unwrap(), [row]);
    // The same use cases in the other directory's own transaction reach all of it: they can fail.
    let touched = fixture.store.write(Lane::Directory(other), Careless(other));
    let touched = touched.await.unwrap();
    assert_eq!((touched.seen, touched.changed, touched.deleted), (1, 1, 2));
}

/// The server works, behind its wall, as a user who owns its database and nothing else.
#[test]
fn a_user_without_special_rights_is_enough() {
    let Some(database) = Database::fresh(Backend::Postgres) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let owner = format!("plain_{}", std::process::id());
    runtime.block_on(give_away(&database, &owner));
    app::run_on(&database.with_user(&owner, "plain"), &[], serves);
}

async fn serves(app: TestApp) {
    let (one, other) = (app.idp().await, app.idp().await);
    for idp in [&one, &other] {
        let user = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": "ada@example.com",
        });
        idp.create_user(user).await.expect(201);
        idp.users(&[]).await.expect_one();
    }
    let [one, other] = [one, other].map(|idp| DirectoryId::parse(&idp.directory_id).unwrap());
    let touched = app.store().write(Lane::Directory(one), Careless(other));
    assert_eq!(touched.await.unwrap().seen, 0);
}

/// Makes the database one of `owner`, who may do nothing else on the server.
async fn give_away(database: &Database, owner: &str) {
    let name = database.url.rsplit('/').next().unwrap();
    let connection = connect(&database.url).await.unwrap();
    for sql in [
        format!("CREATE ROLE {owner} LOGIN PASSWORD 'plain' NOSUPERUSER NOCREATEROLE"),
        "DO $$ BEGIN CREATE ROLE rollcall_tenant NOLOGIN; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            .to_owned(),
        format!("GRANT rollcall_tenant TO {owner}"),
        format!("ALTER DATABASE \"{name}\" OWNER TO {owner}"),
        format!("ALTER SCHEMA public OWNER TO {owner}"),
    ] {
        connection.execute_unprepared(&sql).await.unwrap();
    }
    connection.close().await.unwrap();
}
