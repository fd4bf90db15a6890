//! `/admin/v1/directories`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fields;
use crate::support::TestApp;

on_both! {
    a_directory_is_made_and_shown,
    what_is_wrong_with_a_directory_is_named,
    a_directory_needs_an_organization,
    a_directory_tells_when_its_provider_was_heard,
    nothing_opens_a_deleted_directory_again,
    settings_are_changed_one_by_one_and_shown,
    what_changes_nothing_is_not_a_change,
    what_is_wrong_with_settings_is_named_and_changes_nothing,
    a_label_or_host_name_is_one_directorys,
    labels_are_so_many_and_no_more,
}

async fn a_directory_is_made_and_shown(app: TestApp) {
    let vendor = app.vendor();
    let organization = vendor
        .create_organization(json!({"name": "Acme"}))
        .await
        .expect(201);

    let directory = vendor
        .create_directory(
            json!({"organization_id": organization["id"], "name": "Okta",
            "type": "okta scim v2.0"}),
        )
        .await
        .expect(201);

    let id = directory["id"].as_str().unwrap();
    assert!(id.starts_with("directory_"), "{id}");
    assert_eq!(directory["object"], "directory");
    assert_eq!(directory["organization_id"], organization["id"]);
    assert_eq!(directory["type"], "okta scim v2.0");
    assert_eq!(directory["state"], "validating");
    assert_eq!(directory["sequence"], 0);
    assert_eq!(directory["first_request_at"], Value::Null);
    let key = directory["external_key"].as_str().unwrap();
    // Okta's form refuses an underscore in a base URL.
    assert!(!key.contains('_'), "{key}");
    let base_url = directory["scim_base_url"].as_str().unwrap();
    assert!(base_url.ends_with(&format!("/scim/v2/{key}")), "{base_url}");
    assert_eq!(vendor.directory(id).await.expect(200), directory);
}

async fn what_is_wrong_with_a_directory_is_named(app: TestApp) {
    let vendor = app.vendor();
    let organization = vendor
        .create_organization(json!({"name": "Acme"}))
        .await
        .expect(201);

    let wrong = vendor
        .create_directory(
            json!({"organization_id": organization["id"], "name": "", "type": "ldap"}),
        )
        .await
        .expect(422);
    let missing = vendor
        .create_directory(json!({"name": "x"}))
        .await
        .expect(422);

    assert_eq!(fields(&wrong), ["name", "type"]);
    assert_eq!(missing["code"], "invalid_request_parameters");
}

async fn a_directory_needs_an_organization(app: TestApp) {
    for id in ["org_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
        let body = json!({"organization_id": id, "name": "x", "type": "generic scim v2.0"});
        let refused = app.vendor().create_directory(body).await.expect(404);
        assert_eq!(refused["code"], "entity_not_found");
        assert!(refused["message"].as_str().unwrap().contains(id));
    }
}

const LATER: &str = "2026-01-15T13:00:00.000Z";

async fn a_directory_tells_when_its_provider_was_heard(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;

    idp.users(&[]).await.expect(200);
    app.advance_seconds(3_600);
    idp.users(&[]).await.expect(200);

    // The server writes it down by itself too, and may be at it.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        app.write_down_activity().await;
        let directory = vendor.directory(&idp.directory_id).await.expect(200);
        let tokens = vendor.tokens(&idp.directory_id).await.expect(200);
        let heard = [
            &directory["first_request_at"],
            &directory["last_request_at"],
            &tokens["data"][0]["last_used_at"],
        ];
        if heard == ["2026-01-15T12:00:00.000Z", LATER, LATER] {
            break;
        }
        assert!(Instant::now() < deadline, "{heard:?}");
    }
}

async fn nothing_opens_a_deleted_directory_again(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    idp.add_user("ada").await;

    vendor.end_directory(&idp.directory_id).await.expect(202);
    let token = vendor.create_token(&idp.directory_id, json!({})).await;

    assert_eq!(token.expect(404)["code"], "entity_not_found");
    idp.users(&[]).await.expect_error(401, "");
}

/// A new directory; returns its id.
async fn directory(app: &TestApp) -> String {
    app.idp().await.directory_id
}

async fn settings_are_changed_one_by_one_and_shown(app: TestApp) {
    let vendor = app.vendor();
    let id = directory(&app).await;
    let mut expected = vendor.directory(&id).await.expect(200);
    assert_eq!(expected["label"], Value::Null);
    assert_eq!(expected["former_labels"], json!([]));
    assert_eq!(expected["host_name"], Value::Null);
    app.advance_seconds(1);

    let url = app.url();
    for (settings, changed) in [
        (json!({"name": "Okta"}), json!({"name": "Okta"})),
        (
            json!({"label": "Acme"}),
            json!({"label": "acme", "scim_base_url": format!("{url}/scim/v2/acme")}),
        ),
        (
            json!({"label": "acme-2", "name": "Okta 2"}),
            json!({
                "label": "acme-2", "former_labels": ["acme"], "name": "Okta 2",
                "scim_base_url": format!("{url}/scim/v2/acme-2"),
            }),
        ),
        (
            json!({"label": "acme"}),
            json!({
                "label": "acme", "former_labels": ["acme-2"],
                "scim_base_url": format!("{url}/scim/v2/acme"),
            }),
        ),
        (
            json!({"label": null}),
            json!({
                "label": null, "former_labels": ["acme", "acme-2"],
                "scim_base_url": format!("{url}/scim/v2/{}", expected["external_key"].as_str().unwrap()),
            }),
        ),
        (
            json!({"host_name": "SCIM.acme.example."}),
            json!({
                "host_name": "scim.acme.example",
                "scim_base_url": format!("http://scim.acme.example:{}/scim/v2", app.address().port()),
            }),
        ),
    ] {
        let shown = vendor.configure_directory(&id, settings).await.expect(200);

        for (name, value) in changed.as_object().unwrap() {
            expected[name] = value.clone();
        }
        expected["updated_at"] = json!("2026-01-15T12:00:01.000Z");
        assert_eq!(shown, expected);
        assert_eq!(vendor.directory(&id).await.expect(200), expected);
    }
}

async fn what_changes_nothing_is_not_a_change(app: TestApp) {
    let vendor = app.vendor();
    let id = directory(&app).await;
    let settings = json!({"name": "Okta", "label": "acme", "host_name": "acme.example"});
    let before = vendor.configure_directory(&id, settings.clone()).await;
    app.advance_seconds(60);

    for settings in [json!({}), settings] {
        let after = vendor.configure_directory(&id, settings).await;
        assert_eq!(after.expect(200), before.expect(200));
    }
}

async fn what_is_wrong_with_settings_is_named_and_changes_nothing(app: TestApp) {
    let vendor = app.vendor();
    let id = directory(&app).await;
    let before = vendor.directory(&id).await.expect(200);
    let long = "x".repeat(64);

    for (field, settings) in [
        ("name", json!({"name": "", "label": "acme"})),
        ("name", json!({"name": null})),
        ("label", json!({"label": "", "name": "x"})),
        ("label", json!({"label": "ab"})),
        ("label", json!({"label": "-acme"})),
        ("label", json!({"label": "a_b_c"})),
        ("label", json!({"label": "acme.example"})),
        ("label", json!({"label": long})),
        ("label", json!({"label": "Users"})),
        ("host_name", json!({"host_name": "", "label": "acme"})),
        ("host_name", json!({"host_name": "localhost"})),
        ("host_name", json!({"host_name": "127.0.0.1"})),
        ("host_name", json!({"host_name": "acme.example:8443"})),
        ("host_name", json!({"host_name": "https://acme.example"})),
    ] {
        let refused = vendor.configure_directory(&id, settings.clone()).await;
        assert_eq!(fields(&refused.expect(422)), [field], "{settings}");
    }
    for settings in [json!({"lable": "acme"}), json!({"label": 1}), json!([])] {
        let refused = vendor.configure_directory(&id, settings).await;
        assert_eq!(refused.expect(422)["code"], "invalid_request_parameters");
    }
    let nowhere = "directory_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let missing = vendor.configure_directory(nowhere, json!({})).await;
    assert_eq!(missing.expect(404)["code"], "entity_not_found");
    for label in [
        "acme",
        "acme.example",
        before["external_key"].as_str().unwrap(),
    ] {
        let missing = vendor.remove_label(&id, label).await;
        assert_eq!(missing.expect(404)["code"], "entity_not_found");
    }

    assert_eq!(vendor.directory(&id).await.expect(200), before);
}

async fn a_label_or_host_name_is_one_directorys(app: TestApp) {
    let vendor = app.vendor();
    let (one, other) = (directory(&app).await, directory(&app).await);
    for label in ["former", "acme"] {
        let settings = json!({"label": label, "host_name": "acme.example"});
        vendor.configure_directory(&one, settings).await.expect(200);
    }
    let before = vendor.directory(&other).await.expect(200);
    let key = vendor.directory(&one).await.expect(200)["external_key"].clone();

    for (settings, code, named) in [
        (json!({"label": "acme"}), "label_already_exists", "acme"),
        (json!({"label": "FORMER"}), "label_already_exists", "former"),
        (
            json!({"label": key}),
            "label_already_exists",
            key.as_str().unwrap(),
        ),
        // Its own key is no label either.
        (
            json!({"label": before["external_key"]}),
            "label_already_exists",
            before["external_key"].as_str().unwrap(),
        ),
        (
            json!({"name": "x", "label": "free", "host_name": "ACME.example"}),
            "host_name_already_exists",
            "acme.example",
        ),
    ] {
        let refused = vendor
            .configure_directory(&other, settings)
            .await
            .expect(409);
        assert_eq!(refused["code"], code);
        assert!(
            refused["message"].as_str().unwrap().contains(named),
            "{refused}"
        );
    }
    assert_eq!(vendor.directory(&other).await.expect(200), before);
    assert_eq!(vendor.remove_label(&other, "acme").await.status(), 404);

    vendor.remove_label(&one, "former").await.expect(204);
    let settings = json!({"label": "former"});
    vendor
        .configure_directory(&other, settings)
        .await
        .expect(200);
}

async fn labels_are_so_many_and_no_more(app: TestApp) {
    let vendor = app.vendor();
    let id = directory(&app).await;
    let relabel = |number: usize| {
        let settings = json!({"label": format!("label-{number}")});
        let (vendor, id) = (&vendor, &id);
        async move { vendor.configure_directory(id, settings).await }
    };
    for number in 0..20 {
        relabel(number).await.expect(200);
    }

    let refused = relabel(20).await.expect(409);

    assert_eq!(refused["code"], "too_many_labels");
    relabel(0).await.expect(200);
    vendor.remove_label(&id, "label-7").await.expect(204);
    relabel(20).await.expect(200);
}
