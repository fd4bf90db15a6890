//! `/admin/v1/sign_in_checks` and `/admin/v1/registration_checks`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rollcall::directories::person::{Known, Scope};
use rollcall::directories::sign_in;
use rollcall::ids::{DirectoryId, DirectoryUserId};
use rollcall::storage::dialect::Dialect;
use rollcall::storage::tables::{directories, users};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::fields;
use super::scene::{entry, now, set};
use crate::support::actors::id_of;
use crate::support::people::{ada, user};
use crate::support::{Idp, TestApp, world};

on_both! {
    a_person_may_sign_in_for_as_long_as_they_are_active,
    a_person_is_found_by_every_name_that_they_have,
    what_a_directory_is_going_through_decides_too,
    one_directory_that_has_them_active_is_enough_and_is_named,
    an_address_among_others_does_not_stand_in_for_whose_own_it_is,
    an_answer_is_exact_at_the_sequence_that_it_names,
    a_question_names_one_person_and_a_place_that_exists,
    an_address_of_a_verified_domain_is_managed,
    an_address_that_a_directory_knows_is_managed,
    what_a_directory_is_going_through_decides_about_registering,
    checks_are_answered_by_indexes,
}

const ADA: &[(&str, &str)] = &[("email", "ada@example.com")];

async fn check(app: &TestApp, query: &[(&str, &str)]) -> Value {
    app.vendor().sign_in_check(query).await.expect(200)
}

async fn set_active(idp: &Idp, id: &str, active: bool) {
    let operations = json!([{"op": "replace", "path": "active", "value": active}]);
    idp.patch_user(id, operations).await.expect(200);
}

async fn a_person_may_sign_in_for_as_long_as_they_are_active(app: TestApp) {
    let idp = app.idp().await;
    let unknown = check(&app, ADA).await;
    assert_eq!(
        (&unknown["allowed"], &unknown["reason"]),
        (&json!(false), &json!("unknown"))
    );
    assert_eq!(unknown["directories"], json!([]));

    let id = id_of(&idp.create_user(ada()).await.expect(201));

    let event = world::last_event(&app, &idp.directory_id).await;
    let allowed = check(&app, ADA).await;
    let organization = app.vendor().directory(&idp.directory_id).await.expect(200);
    let fields = json!({
        "object": "sign_in_check",
        "allowed": true,
        "reason": "active",
        "directory_id": idp.directory_id,
        "organization_id": organization["organization_id"],
        "user_id": event["data"]["id"],
        "state": "active",
        "sequence": 2,
        "stale": false,
    });
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(allowed[name], *value, "{name}");
    }
    set_active(&idp, &id, false).await;
    let refused = check(&app, ADA).await;
    assert_eq!(
        (&refused["allowed"], &refused["reason"]),
        (&json!(false), &json!("inactive"))
    );
    assert_eq!(
        (&refused["state"], &refused["sequence"]),
        (&json!("inactive"), &json!(3))
    );
    set_active(&idp, &id, true).await;
    assert_eq!(check(&app, ADA).await["allowed"], true);
    idp.delete_user(&id).await.expect(204);
    let gone = check(&app, &[ADA[0], ("directory", &idp.directory_id)]).await;
    assert_eq!(
        (&gone["allowed"], &gone["reason"]),
        (&json!(false), &json!("unknown"))
    );
    assert_eq!(
        (&gone["directory_id"], &gone["sequence"]),
        (&json!(idp.directory_id), &json!(5))
    );
}

async fn a_person_is_found_by_every_name_that_they_have(app: TestApp) {
    let idp = app.idp().await;
    idp.create_user(ada()).await.expect(201);
    let bare = id_of(&idp.create_user(user("bare")).await.expect(201));
    let directory = ("directory", idp.directory_id.as_str());
    let user_id = check(&app, ADA).await["user_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let queries: [&[(&str, &str)]; 6] = [
        &[("email", "ADA@Example.com")],
        &[("email", "ada@home.example")],
        &[("idp_id", "00u1"), directory],
        &[("user_name", "Ada@example.com"), directory],
        &[("user", &user_id)],
        &[("user", &user_id), directory],
    ];
    for query in queries {
        let found = check(&app, query).await;
        assert_eq!(found["user_id"], user_id, "{query:?}");
        assert_eq!(found["allowed"], true, "{query:?}");
    }
    let by_resource = check(&app, &[("idp_id", &bare), directory]).await;
    assert_eq!(by_resource["reason"], "active");
    for query in [
        &[("idp_id", "nobody"), directory][..],
        &[("email", "ada@example.org")],
    ] {
        assert_eq!(check(&app, query).await["reason"], "unknown", "{query:?}");
    }
}

async fn what_a_directory_is_going_through_decides_too(app: TestApp) {
    let idp = app.idp().await;
    let place = ("directory", idp.directory_id.as_str());
    let validating = check(&app, &[ADA[0], place]).await;
    assert_eq!(
        (&validating["reason"], &validating["sequence"]),
        (&json!("unknown"), &json!(0))
    );
    idp.create_user(ada()).await.expect(201);
    let at = Some(now(&app));
    let normal = directories::ActiveModel {
        deliveries_held_at: Set(None),
        writes_refused_at: Set(None),
        deletion_due_at: Set(None),
        management: Set("provider".to_owned()),
        ..Default::default()
    };
    let held = directories::ActiveModel {
        deliveries_held_at: Set(at),
        ..normal.clone()
    };
    let paused = directories::ActiveModel {
        writes_refused_at: Set(at),
        ..normal.clone()
    };
    let manual = directories::ActiveModel {
        management: Set("manual".to_owned()),
        ..normal.clone()
    };
    let going = directories::ActiveModel {
        deletion_due_at: Set(at),
        ..normal.clone()
    };
    for (row, allowed, reason, is_stale) in [
        (held, true, "active", false),
        (paused, true, "active", true),
        (manual, true, "active", false),
        (going, false, "directory_deleting", true),
        (normal, true, "active", false),
    ] {
        set(&app, &idp.directory_id, row.clone()).await;
        let answer = check(&app, &[ADA[0], place]).await;
        let found = (&answer["allowed"], &answer["reason"], &answer["stale"]);
        assert_eq!(
            found,
            (&json!(allowed), &json!(reason), &json!(is_stale)),
            "{row:?}"
        );
        assert_eq!(answer["sequence"], 2);
    }
    users::Entity::update_many()
        .col_expr(users::Column::EndedAt, Expr::value(at))
        .col_expr(users::Column::Active, Expr::value(false))
        .filter(users::Column::DirectoryId.eq(DirectoryId::parse(&idp.directory_id).unwrap()))
        .exec(app.store().statement_connection())
        .await
        .unwrap();
    assert_eq!(check(&app, ADA).await["reason"], "ended");
    app.vendor().delete_directory(&idp.directory_id).await;
    assert_eq!(check(&app, ADA).await["allowed"], false);
}

async fn one_directory_that_has_them_active_is_enough_and_is_named(app: TestApp) {
    let (first, second) = (app.idp().await, app.idp().await);
    let id = id_of(&first.create_user(ada()).await.expect(201));
    second.create_user(ada()).await.expect(201);
    set_active(&first, &id, false).await;

    let answer = check(&app, ADA).await;

    assert_eq!(answer["allowed"], true);
    assert_eq!(answer["directory_id"], second.directory_id);
    let all = &answer["directories"];
    assert_eq!(all.as_array().unwrap().len(), 2);
    let of_first = entry(all, "directory_id", &json!(first.directory_id));
    assert_eq!(
        (&of_first["allowed"], &of_first["reason"]),
        (&json!(false), &json!("inactive"))
    );
    let organization = of_first["organization_id"].as_str().unwrap();
    let narrowed = check(&app, &[ADA[0], ("organization_id", organization)]).await;
    assert_eq!(
        (&narrowed["allowed"], &narrowed["reason"]),
        (&json!(false), &json!("inactive"))
    );
    assert_eq!(narrowed["directories"].as_array().unwrap().len(), 1);
    let sibling = app.idp_of(&json!(organization)).await;
    let both = check(&app, &[ADA[0], ("organization_id", organization)]).await;
    assert_eq!(both["reason"], "inactive");
    let of_sibling = entry(
        &both["directories"],
        "directory_id",
        &json!(sibling.directory_id),
    );
    assert_eq!(of_sibling["reason"], "unknown");
}

async fn an_address_among_others_does_not_stand_in_for_whose_own_it_is(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&idp.create_user(ada()).await.expect(201));
    let mut other = user("eve@example.com");
    other["emails"] = json!([{"value": "eve@example.com", "primary": true},
        {"value": "ada@example.com"}]);
    idp.create_user(other).await.expect(201);
    set_active(&idp, &id, false).await;

    assert_eq!(check(&app, ADA).await["allowed"], false);

    idp.delete_user(&id).await.expect(204);
    assert_eq!(
        check(&app, ADA).await["allowed"],
        true,
        "now it is hers alone"
    );
}

async fn an_answer_is_exact_at_the_sequence_that_it_names(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&idp.create_user(ada()).await.expect(201));
    let is_over = Arc::new(AtomicBool::new(false));
    let changes = {
        let (idp, is_over) = (idp.clone(), Arc::clone(&is_over));
        async move {
            for number in 0..40 {
                set_active(&idp, &id, number % 2 == 1).await;
            }
            is_over.store(true, Ordering::SeqCst);
        }
    };
    let questions = async {
        let mut answers = Vec::new();
        while !is_over.load(Ordering::SeqCst) {
            let answer = check(&app, ADA).await;
            answers.push((
                answer["sequence"].as_i64().unwrap(),
                answer["state"].clone(),
            ));
        }
        answers
    };

    let ((), answers) = tokio::join!(changes, questions);

    assert!(answers.len() > 5, "{}", answers.len());
    let log = world::events(&app, &idp.directory_id).await;
    for (sequence, state) in answers {
        let event = log.iter().find(|event| event.sequence == Some(sequence));
        let event: Value = serde_json::from_str(&event.unwrap().payload).unwrap();
        assert_eq!(event["data"]["state"], state, "at {sequence}");
    }
}

async fn a_question_names_one_person_and_a_place_that_exists(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let stranger = DirectoryUserId::generate().to_string();
    for query in [
        &[][..],
        &[ADA[0], ("user", &stranger)],
        &[("user", "ada")],
        &[("idp_id", "00u1")],
        &[("user_name", "ada")],
        &[ADA[0], ("organisation_id", "org_1")],
    ] {
        let refused = vendor.sign_in_check(query).await.expect(422);
        assert!(
            refused["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{query:?}"
        );
    }
    let refused = vendor
        .sign_in_check(&[("idp_id", "00u1")])
        .await
        .expect(422);
    assert_eq!(fields(&refused), ["directory"]);
    let directory = app.vendor().directory(&idp.directory_id).await.expect(200);
    let other = vendor
        .create_organization(json!({"name": "Other"}))
        .await
        .expect(201);
    let other = other["id"].as_str().unwrap();
    assert_ne!(directory["organization_id"], other);
    for query in [
        &[ADA[0], ("directory", "directory_1")][..],
        &[ADA[0], ("organization_id", "org_1")],
        &[
            ADA[0],
            ("directory", &idp.directory_id),
            ("organization_id", other),
        ],
    ] {
        vendor.sign_in_check(query).await.expect(404);
    }
    assert_eq!(
        check(&app, &[("user", &stranger)]).await["reason"],
        "unknown"
    );
    for email in ["ada", ""] {
        let refused = vendor.registration_check(email).await.expect(422);
        assert_eq!(fields(&refused), ["email"]);
    }
}

/// The provider of a directory of an organization whose domain is verified.
async fn managed(app: &TestApp, domain: &str, state: &str) -> Idp {
    let organization = app
        .vendor()
        .create_organization(
            json!({"name": "Acme", "domain_data": [{"domain": domain, "state": state}]}),
        )
        .await
        .expect(201);
    app.idp_of(&organization["id"]).await
}

async fn reason(app: &TestApp, email: &str) -> String {
    let answer = app.vendor().registration_check(email).await.expect(200);
    let reason = answer["reason"].as_str().unwrap();
    assert_eq!(answer["allowed"], reason == "unmanaged");
    reason.to_owned()
}

async fn an_address_of_a_verified_domain_is_managed(app: TestApp) {
    let idp = managed(&app, "acme.example", "verified").await;
    let pending = managed(&app, "pending.example", "pending").await;
    assert_eq!(
        reason(&app, "new@acme.example").await,
        "unmanaged",
        "nobody manages it yet"
    );
    idp.users(&[]).await.expect(200);
    pending.users(&[]).await.expect(200);

    let answer = app
        .vendor()
        .registration_check("New@ACME.example")
        .await
        .expect(200);

    let directory = app.vendor().directory(&idp.directory_id).await.expect(200);
    let expected = json!({
        "object": "registration_check",
        "allowed": false,
        "reason": "domain_managed",
        "organization_id": directory["organization_id"],
        "directory_id": idp.directory_id,
    });
    assert_eq!(answer, expected);
    for email in [
        "a@pending.example",
        "a@sub.acme.example",
        "acme.example@gmail.example",
    ] {
        assert_eq!(reason(&app, email).await, "unmanaged", "{email}");
    }
}

async fn an_address_that_a_directory_knows_is_managed(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&idp.create_user(ada()).await.expect(201));

    assert_eq!(reason(&app, "Ada@example.com").await, "person_managed");
    assert_eq!(reason(&app, "ada@home.example").await, "person_managed");
    assert_eq!(reason(&app, "bob@example.com").await, "unmanaged");
    set_active(&idp, &id, false).await;
    assert_eq!(
        reason(&app, "ada@example.com").await,
        "person_managed",
        "nobody registers around it"
    );
    idp.delete_user(&id).await.expect(204);
    assert_eq!(reason(&app, "ada@example.com").await, "unmanaged");
}

async fn what_a_directory_is_going_through_decides_about_registering(app: TestApp) {
    let idp = managed(&app, "acme.example", "verified").await;
    idp.create_user(ada()).await.expect(201);
    let at = Some(now(&app));
    for row in [
        directories::ActiveModel {
            deliveries_held_at: Set(at),
            ..Default::default()
        },
        directories::ActiveModel {
            writes_refused_at: Set(at),
            ..Default::default()
        },
        directories::ActiveModel {
            management: Set("manual".to_owned()),
            ..Default::default()
        },
        directories::ActiveModel {
            deletion_due_at: Set(at),
            ..Default::default()
        },
    ] {
        set(&app, &idp.directory_id, row.clone()).await;
        assert_eq!(
            reason(&app, "new@acme.example").await,
            "domain_managed",
            "{row:?}"
        );
        assert_eq!(
            reason(&app, "ada@example.com").await,
            "person_managed",
            "{row:?}"
        );
    }
    let deleting = directories::ActiveModel {
        state: Set("deleting".to_owned()),
        ..Default::default()
    };
    set(&app, &idp.directory_id, deleting).await;
    assert_eq!(reason(&app, "new@acme.example").await, "unmanaged");
    assert_eq!(reason(&app, "ada@example.com").await, "unmanaged");
}

async fn checks_are_answered_by_indexes(app: TestApp) {
    let store = app.store();
    let (first, second) = (app.idp().await, app.idp().await);
    for idp in [&first, &second] {
        fill(&app, &idp.directory_id).await;
    }
    store
        .statement_connection()
        .execute_unprepared("ANALYZE")
        .await
        .unwrap();
    let directory = DirectoryId::parse(&first.directory_id).unwrap();
    let row = app
        .vendor()
        .directory(&first.directory_id)
        .await
        .expect(200);
    let organization = row["organization_id"].as_str().unwrap();
    let organization = rollcall::ids::OrganizationId::parse(organization).unwrap();
    let email = Known::Email("user-7@example.com".to_owned());
    for (known, scope) in [
        (email.clone(), Scope::Everywhere),
        (email.clone(), Scope::Organization(organization)),
        (email, Scope::Directory(directory)),
        (
            Known::IdpId("external-7".to_owned()),
            Scope::Directory(directory),
        ),
        (
            Known::UserName("user-7@example.com".to_owned()),
            Scope::Directory(directory),
        ),
        (Known::User(DirectoryUserId::generate()), Scope::Everywhere),
    ] {
        let mut statement = sign_in::statement(store.dialect(), &known, scope);
        let prefix = match store.dialect() {
            Dialect::Sqlite => "EXPLAIN QUERY PLAN ",
            Dialect::Postgres => "EXPLAIN ",
        };
        statement.sql.insert_str(0, prefix);
        let rows = store.reader().query_all_raw(statement).await.unwrap();
        let lines = rows.iter().map(|row| match store.dialect() {
            Dialect::Sqlite => row.try_get::<String>("", "detail").unwrap(),
            Dialect::Postgres => row.try_get_by_index::<String>(0).unwrap(),
        });
        let plan: Vec<String> = lines.collect();
        let walks = plan.iter().any(|line| {
            ["SCAN users", "SCAN u", "Seq Scan on users"]
                .iter()
                .any(|walk| line.contains(walk))
                && !line.contains("INDEX")
        });
        assert!(!walks, "{known:?} {scope:?}:\n{}", plan.join("\n"));
    }
}

/// Puts people into a directory, all at once.
async fn fill(app: &TestApp, directory_id: &str) {
    let directory_id = DirectoryId::parse(directory_id).unwrap();
    for chunk in 0..6 {
        let rows = (0..500).map(|number| {
            let number = chunk * 500 + number;
            users::ActiveModel::from(users::Model {
                directory_id,
                id: rollcall::ids::ResourceId::generate(),
                directory_user_id: DirectoryUserId::generate(),
                user_name_key: format!("user-{number}@example.com"),
                external_id: Some(format!("external-{number}")),
                email_key: Some(format!("user-{number}@example.com")),
                display_name_key: None,
                active: true,
                ended_at: None,
                document: "{}".to_owned(),
                version: 1,
                created_at: now(app),
                updated_at: now(app),
            })
        });
        let connection = app.store().statement_connection();
        users::Entity::insert_many(rows)
            .exec_without_returning(connection)
            .await
            .unwrap();
    }
}
