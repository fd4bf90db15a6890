//! What the API refuses, always as a JSON object that the contract's SDKs read.

use serde_json::json;

use crate::support::{Answer, TestApp};

on_both! {
    without_a_valid_key_everything_is_401,
    what_does_not_exist_is_404,
    methods_that_an_endpoint_lacks_are_405,
    bodies_that_are_not_json_are_refused,
    another_key_works_and_is_shown_once,
    health_needs_no_key,
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    let body = answer.expect(status);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert!(answer.header("X-Request-ID").is_some());
    assert_eq!(body["code"], code, "{body}");
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    // The SDK for Node would take it for an OAuth error.
    assert!(body.get("error").is_none(), "{body}");
}

const ROUTES: [(&str, &str); 15] = [
    ("POST", "/organizations"),
    ("GET", "/organizations/x"),
    ("POST", "/webhook_endpoints"),
    ("DELETE", "/webhook_endpoints/x"),
    ("POST", "/admin/v1/api_keys"),
    ("POST", "/admin/v1/directories"),
    ("GET", "/admin/v1/directories/x"),
    ("PATCH", "/admin/v1/directories/x"),
    ("DELETE", "/admin/v1/directories/x"),
    ("DELETE", "/admin/v1/directories/x/labels/y"),
    ("GET", "/admin/v1/directories/x/tokens"),
    ("POST", "/admin/v1/directories/x/tokens"),
    ("DELETE", "/admin/v1/directories/x/tokens/y"),
    ("POST", "/admin/v1/webhook_endpoints"),
    ("GET", "/admin/v1/webhook_endpoints/x"),
];

async fn without_a_valid_key_everything_is_401(app: TestApp) {
    let idp = app.idp().await;

    for key in ["", "sk_wrong", idp.token.as_str()] {
        let stranger = app.vendor_with(key);
        for (method, path) in ROUTES {
            let body = ["POST", "PATCH"].contains(&method).then_some("{}");
            let refused = stranger.raw(method, path, &[], body).await;
            assert_problem(&refused, 401, "unauthorized");
        }
    }
}

async fn what_does_not_exist_is_404(app: TestApp) {
    let vendor = app.vendor();

    for path in ["/", "/nothing", "/admin/v1/nothing", "/organizations/x/y"] {
        let missing = vendor.raw("GET", path, &[], None).await;
        assert_problem(&missing, 404, "not_found");
    }
    for (method, path) in ROUTES {
        if method != "POST" {
            let body = (method == "PATCH").then_some("{}");
            let missing = vendor.raw(method, path, &[], body).await;
            assert_problem(&missing, 404, "entity_not_found");
        }
    }
}

async fn methods_that_an_endpoint_lacks_are_405(app: TestApp) {
    let vendor = app.vendor();

    for (_, path) in ROUTES {
        let refused = vendor.raw("PUT", path, &[], Some("{}")).await;
        assert_problem(&refused, 405, "method_not_allowed");
    }
}

async fn bodies_that_are_not_json_are_refused(app: TestApp) {
    let vendor = app.vendor();

    for (body, status, code) in [
        ("", 400, "invalid_json"),
        ("{", 400, "invalid_json"),
        (r#"{"name": "Acme"} {}"#, 400, "invalid_json"),
        ("[]", 422, "invalid_request_parameters"),
        (r#"{"name": 1}"#, 422, "invalid_request_parameters"),
    ] {
        let refused = vendor.raw("POST", "/organizations", &[], Some(body)).await;
        assert_problem(&refused, status, code);
    }
    let zipped = [("Content-Encoding", "gzip")];
    let refused = vendor
        .raw("POST", "/organizations", &zipped, Some("{}"))
        .await;
    assert_problem(&refused, 415, "invalid_body");
}

async fn another_key_works_and_is_shown_once(app: TestApp) {
    let made = app
        .vendor()
        .create_api_key(json!({"name": "ci"}))
        .await
        .expect(201);
    let nameless = app.vendor().create_api_key(json!({"name": ""})).await;

    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("sk_"));
    let made = app
        .vendor_with(key)
        .create_organization(json!({"name": "Acme"}))
        .await;
    made.expect(201);
    assert_problem(&nameless, 422, "invalid_request_parameters");
}

async fn health_needs_no_key(app: TestApp) {
    let nobody = app.vendor_with("");

    nobody.raw("GET", "/livez", &[], None).await.expect(200);
    nobody.raw("GET", "/readyz", &[], None).await.expect(200);
}
