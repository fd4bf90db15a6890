//! The discovery endpoints.

use crate::support::TestApp;

on_both! {
    the_discovery_documents_are_there_with_their_places,
    discovery_cannot_be_written_to,
    discovery_ignores_what_is_asked_in_the_query,
}

async fn the_discovery_documents_are_there_with_their_places(app: TestApp) {
    let idp = app.idp().await;

    let config = idp.raw("GET", "/ServiceProviderConfig", &[], None).await;
    let schemas = idp.raw("GET", "/Schemas", &[], None).await;
    let types = idp.raw("GET", "/ResourceTypes", &[], None).await;

    for answer in [&config, &schemas, &types] {
        answer.expect(200);
        assert_eq!(answer.header("Content-Type"), Some("application/scim+json"));
        assert!(!answer.text().contains("null"), "{}", answer.text());
    }
    assert_eq!(config.json()["patch"]["supported"], true);
    for feature in ["bulk", "filter", "sort", "etag"] {
        assert_eq!(config.json()[feature]["supported"], true, "{feature}");
    }
    assert_eq!(config.json()["pagination"]["cursor"], true);
    assert_eq!(schemas.json()["totalResults"], 3);
    assert_eq!(types.json()["totalResults"], 2);
    for list in [schemas.json(), types.json()] {
        for one in list["Resources"].as_array().unwrap() {
            let place = one["meta"]["location"].as_str().unwrap();
            let path = place.strip_prefix(&idp.base_url).unwrap();
            assert_eq!(idp.raw("GET", path, &[], None).await.expect(200), *one);
        }
    }
}

async fn discovery_cannot_be_written_to(app: TestApp) {
    let idp = app.idp().await;

    for path in [
        "/ServiceProviderConfig",
        "/Schemas",
        "/ResourceTypes",
        "/ResourceTypes/User",
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            idp.raw(method, path, &[], Some("{}"))
                .await
                .expect_error(405, "");
        }
    }
}

async fn discovery_ignores_what_is_asked_in_the_query(app: TestApp) {
    let idp = app.idp().await;

    let all = idp
        .get("/Schemas", &[("startIndex", "3"), ("count", "1")])
        .await;

    assert_eq!(all.expect(200)["itemsPerPage"], 3);

    // Whoever sends a filter would take the answer for filtered (RFC 7644 section 4).
    let filtered = idp.get("/Schemas", &[("filter", "id eq \"x\"")]).await;
    filtered.expect_error(403, "");
}
