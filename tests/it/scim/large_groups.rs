//! Groups of thousands: what changes is written and told, and nothing else.

use std::collections::BTreeSet;

use rollcall::ids::{DirectoryId, DirectoryUserId, ResourceId};
use rollcall::storage::tables::{memberships, users};
use rollcall::storage::{self, Lane, UseCase, WriteTx};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::json;

use crate::support::actors::id_of;
use crate::support::people;
use crate::support::world::events;
use crate::support::{Idp, TestApp};

on_both! {
    replacing_ten_thousand_members_writes_who_differs,
    parallel_changes_of_a_large_group_lose_nobody,
}

/// Puts users into a directory without asking for each of them.
struct Fill(DirectoryId, Vec<ResourceId>);

impl UseCase for Fill {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        for ids in self.1.chunks(1_000) {
            let rows = ids.iter().map(|id| users::Model {
                directory_id: self.0,
                id: *id,
                directory_user_id: DirectoryUserId::generate(),
                user_name_key: id.to_string(),
                external_id: None,
                email_key: None,
                display_name_key: None,
                active: true,
                ended_at: None,
                document: json!({"userName": id.to_string()}).to_string(),
                version: 1,
                created_at: tx.now(),
                updated_at: tx.now(),
            });
            users::Entity::insert_many(rows.map(users::ActiveModel::from))
                .exec_without_returning(tx)
                .await?;
        }
        Ok(())
    }
}

/// A provider whose directory has so many users, and their ids.
async fn crowd(app: &TestApp, count: usize) -> (Idp, Vec<String>) {
    let idp = app.idp().await;
    let id = DirectoryId::parse(&idp.directory_id).unwrap();
    let ids: Vec<ResourceId> = (0..count).map(|_| ResourceId::generate()).collect();
    app.store()
        .write(Lane::Directory(id), Fill(id, ids.clone()))
        .await
        .unwrap();
    (idp, ids.iter().map(ToString::to_string).collect())
}

fn borrowed(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

async fn replacing_ten_thousand_members_writes_who_differs(app: TestApp) {
    const MEMBERS: usize = 10_000;
    let (idp, ids) = crowd(&app, MEMBERS + 2).await;
    let first = people::group("Everybody", &borrowed(&ids[..MEMBERS]));
    let group = id_of(&idp.create_group(first).await.expect(201));
    let before = events(&app, &idp.directory_id).await.len();
    assert_eq!(before, MEMBERS + 2);
    app.advance_seconds(60);

    let mut others = borrowed(&ids[1..]);
    others.reverse();
    let replaced = idp.replace_group(&group, people::group("Everybody", &others));
    let replaced = replaced.await.expect(200);

    assert_eq!(replaced["members"].as_array().unwrap().len(), MEMBERS + 1);
    assert_eq!(replaced["meta"]["version"], "W/\"2\"");
    let log = events(&app, &idp.directory_id).await;
    let told: Vec<(&str, String)> = log[before..]
        .iter()
        .map(|event| (event.kind.as_str(), event.user_id.unwrap().to_string()))
        .collect();
    assert_eq!(
        told,
        [
            ("dsync.group.user_removed", ids[0].clone()),
            ("dsync.group.user_added", ids[MEMBERS].clone()),
            ("dsync.group.user_added", ids[MEMBERS + 1].clone()),
        ]
    );
    assert_eq!(youngest_rows(&app).await, 2);

    let again = idp.replace_group(&group, people::group("Everybody", &others));
    assert_eq!(again.await.expect(200), replaced);
    assert_eq!(events(&app, &idp.directory_id).await.len(), log.len());
}

/// How many memberships are as young as the youngest.
async fn youngest_rows(app: &TestApp) -> u64 {
    let youngest = memberships::Entity::find()
        .order_by_desc(memberships::Column::CreatedAt)
        .one(app.store().reader())
        .await
        .unwrap()
        .unwrap();
    memberships::Entity::find()
        .filter(memberships::Column::CreatedAt.eq(youngest.created_at))
        .count(app.store().reader())
        .await
        .unwrap()
}

async fn parallel_changes_of_a_large_group_lose_nobody(app: TestApp) {
    const MEMBERS: usize = 2_500;
    const CHANGES: usize = 40;
    let (idp, ids) = crowd(&app, MEMBERS + CHANGES).await;
    let first = people::group("Everybody", &borrowed(&ids[..MEMBERS]));
    let group = id_of(&idp.create_group(first).await.expect(201));
    let before = events(&app, &idp.directory_id).await.len();

    let changes = (0..CHANGES).map(|number| {
        let (joining, leaving) = (&ids[MEMBERS + number], &ids[number]);
        idp.patch_group(
            &group,
            json!([
                {"op": "Add", "path": "members", "value": [{"value": joining}]},
                {"op": "remove", "path": format!("members[value eq \"{leaving}\"]")},
            ]),
        )
    });
    let answers = futures_util::future::join_all(changes).await;

    assert!(answers.iter().all(|answer| answer.status() == 204));
    let members: BTreeSet<String> = idp.members_of(&group).await.into_iter().collect();
    assert_eq!(members, ids[CHANGES..].iter().cloned().collect());
    let log = events(&app, &idp.directory_id).await;
    assert_eq!(log.len(), before + 2 * CHANGES);
    let version = &idp.group(&group).await.expect(200)["meta"]["version"];
    assert_eq!(*version, format!("W/\"{}\"", CHANGES + 1));
}
