//! `/organizations`.

use serde_json::json;

use super::fields;
use crate::support::TestApp;

on_both! {
    an_organization_is_made_and_shown,
    what_is_wrong_with_an_organization_is_named,
    external_ids_and_domains_belong_to_one_organization,
}

async fn an_organization_is_made_and_shown(app: TestApp) {
    let vendor = app.vendor();

    let made = vendor
        .create_organization(json!({
            "name": "Acme",
            "external_id": "customer-1",
            "domain_data": [{"domain": "Acme.Example", "state": "verified"}],
            "metadata": {"tier": "gold"},
            "allow_profiles_outside_organization": true,
            "something_new": 1,
        }))
        .await;

    let organization = made.expect(201);
    assert_eq!(made.header("Content-Type"), Some("application/json"));
    assert!(
        made.header("X-Request-ID")
            .is_some_and(|id| id.starts_with("req_"))
    );
    let id = organization["id"].as_str().unwrap();
    assert!(id.starts_with("org_") && id.len() == 30, "{id}");
    assert_eq!(organization["object"], "organization");
    assert_eq!(organization["name"], "Acme");
    assert_eq!(organization["external_id"], "customer-1");
    assert_eq!(organization["metadata"], json!({"tier": "gold"}));
    assert_eq!(organization["created_at"], "2026-01-15T12:00:00.000Z");
    assert!(organization["allow_profiles_outside_organization"].is_boolean());
    let domain = &organization["domains"][0];
    assert_eq!(domain["object"], "organization_domain");
    assert_eq!(
        (&domain["domain"], &domain["state"]),
        (&json!("acme.example"), &json!("verified"))
    );
    assert_eq!(domain["organization_id"], id);
    assert_eq!(vendor.organization(id).await.expect(200), organization);
}

async fn what_is_wrong_with_an_organization_is_named(app: TestApp) {
    let vendor = app.vendor();

    let wrong = vendor
        .create_organization(json!({"name": " ", "external_id": "é", "domains": ["nonsense"]}))
        .await
        .expect(422);
    let missing = vendor.create_organization(json!({})).await.expect(422);
    let metadata = vendor
        .create_organization(json!({"name": "Acme", "metadata": {"k".repeat(41): "v"}}))
        .await
        .expect(400);

    assert_eq!(fields(&wrong), ["name", "external_id", "domain_data"]);
    assert_eq!(wrong["code"], "invalid_request_parameters");
    assert_eq!(missing["code"], "invalid_request_parameters");
    assert_eq!(metadata["code"], "invalid_metadata");
}

async fn external_ids_and_domains_belong_to_one_organization(app: TestApp) {
    let vendor = app.vendor();
    let first = json!({"name": "Acme", "external_id": "c1", "domains": ["acme.example"]});
    vendor.create_organization(first).await.expect(201);

    let same_id = vendor
        .create_organization(json!({"name": "B", "external_id": "c1"}))
        .await;
    let same_domain = vendor.create_organization(
        json!({"name": "C", "external_id": "c2", "domains": ["ACME.example"]}),
    );

    assert_eq!(same_id.expect(400)["code"], "external_id_already_used");
    assert_eq!(
        same_domain.await.expect(409)["code"],
        "domain_already_exists"
    );
    // The refused one has left nothing behind.
    vendor
        .create_organization(json!({"name": "C", "external_id": "c2"}))
        .await
        .expect(201);
}
