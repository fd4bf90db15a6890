//! Answers that are compressed, for those who ask for it.

use serde_json::json;

use crate::support::raw::{RawAnswer, exchange};
use crate::support::{Idp, TestApp};

on_both! {
    answers_are_compressed_for_clients_that_read_gzip_only,
}

/// What `GET` of `url` with `token` gives to a client that accepts `encodings`.
async fn get(app: &TestApp, url: &str, token: &str, encodings: &str) -> RawAnswer {
    let path = url.strip_prefix(app.url()).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         {encodings}Connection: close\r\n\r\n"
    );
    exchange(app.address(), &request).await
}

async fn list(app: &TestApp, idp: &Idp, encodings: &str) -> RawAnswer {
    get(
        app,
        &format!("{}/Users", idp.base_url),
        &idp.token,
        encodings,
    )
    .await
}

async fn answers_are_compressed_for_clients_that_read_gzip_only(app: TestApp) {
    let idp = app.idp().await;
    for number in 0..60 {
        idp.add_user(&format!("user{number}")).await;
    }

    let plain = list(&app, &idp, "").await;
    for encodings in [
        "gzip",
        "gzip,deflate",
        "gzip, deflate, br, zstd",
        "deflate;q=1, gzip;q=0.5",
    ] {
        let zipped = list(&app, &idp, &format!("Accept-Encoding: {encodings}\r\n")).await;
        assert_eq!(
            zipped.header("Content-Encoding"),
            Some("gzip"),
            "{encodings}"
        );
        assert_eq!(zipped.header("Content-Type"), Some("application/scim+json"));
        assert_eq!(zipped.header("Vary"), Some("Accept-Encoding"));
        assert_eq!(zipped.expect(200), plain.expect(200));
        assert!(zipped.length() < plain.length() / 4);
    }
    for encodings in [
        "deflate, br",
        "identity",
        "*",
        "gzip;q=0",
        "identity;q=0, *;q=0",
        "nonsense",
    ] {
        let same = list(&app, &idp, &format!("Accept-Encoding: {encodings}\r\n")).await;
        assert_eq!(same.header("Content-Encoding"), None, "{encodings}");
        assert_eq!(same.header("Vary"), Some("Accept-Encoding"));
        assert_eq!(same.text(), plain.text());
    }

    let refused = list(&app, &idp.with_token("wrong"), "Accept-Encoding: gzip\r\n").await;
    assert_eq!(refused.expect(401)["status"], "401");
    let shown = format!("{}/admin/v1/directories/{}", app.url(), idp.directory_id);
    let key = app.vendor().create_api_key(json!({"name": "x"})).await;
    let key = key.expect(201)["key"].as_str().unwrap().to_owned();
    let zipped = get(&app, &shown, &key, "Accept-Encoding: gzip\r\n").await;
    assert_eq!(zipped.header("Content-Encoding"), Some("gzip"));
    assert_eq!(zipped.header("Content-Type"), Some("application/json"));
    assert_eq!(zipped.expect(200)["id"], idp.directory_id.as_str());
}
