//! Where a directory answers: under its external key, its labels and its host name.

use serde_json::{Value, json};

use crate::support::people;
use crate::support::{Idp, TestApp};

on_both! {
    a_label_answers_beside_the_key_and_former_ones_until_they_are_removed,
    a_host_name_answers_without_a_segment,
    a_segment_goes_before_the_host,
    locations_follow_the_settings
        with [("public_url", "https://directory.example.com")],
    a_token_opens_its_own_directory_only_whatever_it_is_called,
    addresses_of_a_deleted_directory_are_free_again,
    below_scim_everything_is_answered_in_its_form,
}

async fn configure(app: &TestApp, idp: &Idp, settings: Value) -> Value {
    let vendor = app.vendor();
    let answer = vendor
        .configure_directory(&idp.directory_id, settings)
        .await;
    answer.expect(200)
}

/// The status of a list of users at `segment`, `""` for none, of this host.
async fn status(app: &TestApp, idp: &Idp, segment: &str, host: &str) -> u16 {
    let base_url = format!("{}/scim/v2{segment}", app.url());
    let headers = [("Host", host)];
    let answer = idp.at(&base_url).raw("GET", "/Users", &headers, None).await;
    if answer.status() != 200 {
        answer.expect_error(answer.status(), "");
    }
    answer.status()
}

fn key(idp: &Idp) -> String {
    let (_, key) = idp.base_url.rsplit_once('/').unwrap();
    format!("/{key}")
}

async fn a_label_answers_beside_the_key_and_former_ones_until_they_are_removed(app: TestApp) {
    let idp = app.idp().await;
    let vendor = app.vendor();

    configure(&app, &idp, json!({"label": "Acme"})).await;
    configure(&app, &idp, json!({"label": "acme-2"})).await;
    configure(&app, &idp, json!({"label": null})).await;
    let shown = configure(&app, &idp, json!({"label": "acme-3"})).await;

    assert_eq!(shown["former_labels"], json!(["acme", "acme-2"]));
    for segment in [&key(&idp), "/acme", "/ACME", "/acme-2", "/acme-3"] {
        assert_eq!(status(&app, &idp, segment, "x").await, 200, "{segment}");
    }
    for label in ["acme", "acme-3"] {
        let removed = vendor.remove_label(&idp.directory_id, label).await;
        removed.expect(204);
        let segment = format!("/{label}");
        assert_eq!(status(&app, &idp, &segment, "x").await, 401);
    }
    assert_eq!(status(&app, &idp, "/acme-2", "x").await, 200);
    assert_eq!(status(&app, &idp, &key(&idp), "x").await, 200);
    let shown = vendor.directory(&idp.directory_id).await.expect(200);
    assert_eq!(shown["label"], Value::Null);
    assert_eq!(shown["former_labels"], json!(["acme-2"]));
    assert_eq!(shown["scim_base_url"], idp.base_url.as_str());
}

async fn a_host_name_answers_without_a_segment(app: TestApp) {
    let idp = app.idp().await;
    assert_eq!(status(&app, &idp, "", "scim.acme.example").await, 401);

    configure(&app, &idp, json!({"host_name": "SCIM.Acme.Example"})).await;

    for host in [
        "scim.acme.example",
        "scim.acme.example:8443",
        "SCIM.ACME.EXAMPLE",
        "scim.acme.example.",
    ] {
        assert_eq!(status(&app, &idp, "", host).await, 200, "{host}");
    }
    for host in [
        "other.example",
        "acme.example",
        "scim.acme.example.evil",
        "x",
    ] {
        assert_eq!(status(&app, &idp, "", host).await, 401, "{host}");
    }
    let at_host = idp.at(&format!("{}/scim/v2", app.url()));
    let host = [("Host", "scim.acme.example")];
    let body = people::user("ada").to_string();
    let made = at_host.raw("POST", "/Users", &host, Some(&body)).await;
    let id = made.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/Users/{id}");
    let read = at_host.raw("GET", &path, &host, None).await;
    assert_eq!(read.expect(200), idp.user(&id).await.expect(200));
    for path in [
        "",
        "/Schemas",
        "/ResourceTypes/User",
        "/ServiceProviderConfig",
    ] {
        at_host.raw("GET", path, &host, None).await.expect(200);
    }
    for (method, path, status) in [("GET", "/Me", 501), ("PUT", "/Users", 405)] {
        let refused = at_host.raw(method, path, &host, None).await;
        refused.expect_error(status, "");
    }

    configure(&app, &idp, json!({"host_name": "new.acme.example"})).await;
    assert_eq!(status(&app, &idp, "", "scim.acme.example").await, 401);
    assert_eq!(status(&app, &idp, "", "new.acme.example").await, 200);
    configure(&app, &idp, json!({"host_name": null})).await;
    assert_eq!(status(&app, &idp, "", "new.acme.example").await, 401);
}

async fn a_segment_goes_before_the_host(app: TestApp) {
    let (idp, other) = (app.idp().await, app.idp().await);
    configure(
        &app,
        &idp,
        json!({"label": "acme", "host_name": "acme.example"}),
    )
    .await;
    configure(
        &app,
        &other,
        json!({"label": "other", "host_name": "other.example"}),
    )
    .await;

    assert_eq!(status(&app, &idp, "/acme", "other.example").await, 200);
    assert_eq!(status(&app, &idp, &key(&idp), "other.example").await, 200);
    assert_eq!(status(&app, &idp, "/other", "acme.example").await, 401);
    // A host name is not a segment, and a label not a host.
    assert_eq!(status(&app, &idp, "/acme.example", "x").await, 401);
    assert_eq!(status(&app, &idp, "", "acme").await, 401);
}

async fn locations_follow_the_settings(app: TestApp) {
    let idp = app.idp().await;
    let idp = idp.at(&format!("{}/scim/v2{}", app.url(), key(&idp)));
    let id = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&id]).await;

    for (settings, base_url) in [
        (
            json!({"label": "acme"}),
            "https://directory.example.com/scim/v2/acme",
        ),
        (
            json!({"host_name": "acme.example"}),
            "https://acme.example/scim/v2",
        ),
        (json!({"label": "acme-2"}), "https://acme.example/scim/v2"),
        (
            json!({"host_name": null}),
            "https://directory.example.com/scim/v2/acme-2",
        ),
    ] {
        let name = settings.to_string();
        let shown = configure(&app, &idp, settings).await;

        assert_eq!(shown["scim_base_url"], base_url);
        let group = idp.group(&group).await.expect(200);
        let location = group["meta"]["location"].as_str().unwrap();
        assert!(
            location.starts_with(&format!("{base_url}/Groups/")),
            "{location}"
        );
        let member = group["members"][0]["$ref"].as_str().unwrap();
        assert_eq!(member, format!("{base_url}/Users/{id}"));
        let evil = [("Host", "evil.example")];
        let made = idp.create_user(people::user(&name)).await;
        let location = made.header("Location").unwrap();
        assert!(
            location.starts_with(&format!("{base_url}/Users/")),
            "{location}"
        );
        let read = idp.raw("GET", "/Users", &evil, None).await;
        read.expect(200);
        assert!(!read.text().contains("evil"));
    }
}

async fn a_token_opens_its_own_directory_only_whatever_it_is_called(app: TestApp) {
    let (idp, other) = (app.idp().await, app.idp().await);
    configure(
        &app,
        &idp,
        json!({"label": "acme", "host_name": "acme.example"}),
    )
    .await;
    let places = [
        (key(&idp), "x"),
        ("/acme".to_owned(), "x"),
        (String::new(), "acme.example"),
    ];
    let nowhere = [
        ("/nobody".to_owned(), "x"),
        (String::new(), "nobody.example"),
    ];
    let mut answers = Vec::new();

    for (segment, host) in places.iter().chain(&nowhere) {
        for token in [other.token.as_str(), "wrong", ""] {
            let stranger = other.with_token(token);
            let stranger = stranger.at(&format!("{}/scim/v2{segment}", app.url()));
            let body = people::user("eve").to_string();
            for (method, body) in [("GET", None), ("POST", Some(body.as_str()))] {
                let refused = stranger
                    .raw(method, "/Users", &[("Host", host)], body)
                    .await;
                answers.push(refused.expect_error(401, ""));
            }
        }
    }

    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(idp.users(&[]).await.expect(200)["totalResults"], 0);
    for (segment, host) in &places {
        assert_eq!(status(&app, &idp, segment, host).await, 200);
    }
}

async fn addresses_of_a_deleted_directory_are_free_again(app: TestApp) {
    let (idp, other) = (app.idp().await, app.idp().await);
    let vendor = app.vendor();
    let addresses = json!({"label": "acme", "host_name": "acme.example"});
    configure(&app, &idp, json!({"label": "former"})).await;
    configure(&app, &idp, addresses.clone()).await;

    vendor.end_directory(&idp.directory_id).await.expect(202);
    let gone = vendor
        .configure_directory(&idp.directory_id, addresses.clone())
        .await;
    while rollcall::directories::directory::remove_deleted(app.store(), 1_000)
        .await
        .unwrap()
        > 0
    {}

    assert_eq!(gone.expect(404)["code"], "entity_not_found");
    configure(&app, &other, json!({"label": "former"})).await;
    configure(&app, &other, addresses).await;
    assert_eq!(status(&app, &other, "/acme", "x").await, 200);
    assert_eq!(status(&app, &other, "", "acme.example").await, 200);
    assert_eq!(status(&app, &idp, "/acme", "x").await, 401);
}

async fn below_scim_everything_is_answered_in_its_form(app: TestApp) {
    let idp = app.idp().await.at(app.url());

    for path in ["/scim", "/scim/v1/Users", "/scim/v22"] {
        idp.raw("GET", path, &[], None).await.expect_error(404, "");
    }
    for path in ["/scim/v2", "/scim/v2/", "/scim/v2/x", "/scim/v2/Users"] {
        idp.raw("GET", path, &[], None).await.expect_error(401, "");
    }
}
