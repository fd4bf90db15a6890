//! What is too much: rates, sizes, numbers and protocols.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::people;
use crate::support::raw::{Connection, RawAnswer, exchange};
use crate::support::{Idp, TestApp};

on_both! {
    a_directory_that_asks_too_often_has_to_wait_and_others_do_not
        with [("limits.scim_requests_per_second", "1"), ("limits.scim_burst", "5")],
    a_key_that_asks_too_often_has_to_wait with [("limits.api_requests_per_second", "3")],
    wrong_tokens_are_limited_and_a_valid_one_is_never_refused
        with [("limits.failed_auth_per_minute", "3")],
    wrong_keys_are_limited_and_a_valid_one_is_never_refused
        with [("limits.failed_auth_per_minute", "3")],
    a_body_that_is_too_large_is_refused
        with [
            ("limits.scim_user_body_bytes", "2048"),
            ("limits.scim_group_body_bytes", "4096"),
            ("limits.api_body_bytes", "1024"),
        ],
    upgrades_are_not_served,
    a_target_that_is_too_long_is_refused with [("limits.request_target_bytes", "1024")],
    a_head_that_is_too_large_is_refused,
    what_breaks_the_framing_is_refused_and_ends_the_connection,
    bodies_wait_for_room
        with [
            ("limits.scim_user_body_bytes", "2048"),
            ("limits.scim_group_body_bytes", "4096"),
            ("limits.api_body_bytes", "1024"),
            ("limits.bodies_in_flight_bytes", "4096"),
        ],
    an_address_has_so_many_connections_and_no_more
        with [
            ("limits.connections_per_address", "3"),
            ("trusted_proxies", "127.0.0.3"),
        ],
    more_operations_than_one_patch_may_carry_are_refused,
}

/// Whole seconds: Okta reads nothing else.
fn seconds(retry_after: Option<&str>) -> u64 {
    retry_after.unwrap().parse().unwrap()
}

async fn a_directory_that_asks_too_often_has_to_wait_and_others_do_not(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;

    let answers = join_all((0..20).map(|_| idp.users(&[]))).await;

    let refused = answers.iter().find(|answer| answer.status() == 429);
    let refused = refused.unwrap();
    refused.expect_error(429, "");
    assert!((1..=20).contains(&seconds(refused.header("Retry-After"))));
    assert!(answers.iter().any(|answer| answer.status() == 200));
    other.users(&[]).await.expect(200);
}

async fn a_key_that_asks_too_often_has_to_wait(app: TestApp) {
    let vendor = app.vendor();
    let made = vendor
        .create_api_key(json!({"name": "another"}))
        .await
        .expect(201);
    let another = app.vendor_with(made["key"].as_str().unwrap());

    let answers = join_all((0..40).map(|_| another.endpoint("we_x"))).await;

    let refused = answers.iter().find(|answer| answer.status() == 429);
    let refused = refused.unwrap();
    assert_eq!(refused.expect(429)["code"], "rate_limit_exceeded");
    assert!(seconds(refused.header("Retry-After")) >= 1);
    assert_ne!(vendor.endpoint("we_x").await.status(), 429);
}

async fn wrong_tokens_are_limited_and_a_valid_one_is_never_refused(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    let stranger = idp.with_token("wrong");

    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(stranger.users(&[]).await.status());
        idp.users(&[]).await.expect(200);
    }

    assert_eq!(statuses, [401, 401, 401, 429, 429, 429]);
    let refused = stranger.create_user(people::user("eve")).await;
    refused.expect_error(429, "");
    assert!(seconds(refused.header("Retry-After")) >= 1);
    // Providers share addresses among their customers.
    other
        .with_token("wrong")
        .users(&[])
        .await
        .expect_error(401, "");
}

async fn wrong_keys_are_limited_and_a_valid_one_is_never_refused(app: TestApp) {
    let stranger = app.vendor_with("sk_wrong");

    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(stranger.endpoint("we_x").await.status());
        app.vendor().endpoint("we_x").await.expect(404);
    }

    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

async fn a_body_that_is_too_large_is_refused(app: TestApp) {
    let idp = app.idp().await;
    let long = |bytes: usize| "x".repeat(bytes);

    let user = idp
        .create_user(json!({"userName": "ada", "title": long(2_048)}))
        .await;
    let smaller = idp
        .create_user(json!({"userName": "ada", "title": long(1_900)}))
        .await;
    let group = idp.create_group(json!({"displayName": "E", "externalId": "e", "x": long(4_096)}));
    let smaller_group = idp.create_group(json!({"displayName": "E", "x": long(3_900)}));
    let vendor = app.vendor();
    let organization = vendor.create_organization(json!({"name": "E", "x": long(1_024)}));

    user.expect_error(413, "");
    smaller.expect(201);
    group.await.expect_error(413, "");
    smaller_group.await.expect(201);
    assert_eq!(organization.await.expect(413)["code"], "invalid_body");
}

async fn upgrades_are_not_served(app: TestApp) {
    let idp = app.idp().await;
    let headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")];

    let body = people::user("ada").to_string();
    let refused = idp.raw("POST", "/Users", &headers, Some(&body)).await;
    let trace = idp.raw("TRACE", "/Users", &[], None).await;
    let path = "/organizations";
    let elsewhere = app.vendor().raw("POST", path, &headers, Some("{}")).await;

    refused.expect_error(501, "");
    trace.expect_error(501, "");
    assert_eq!(elsewhere.expect(501)["code"], "not_implemented");
    assert_eq!(idp.users(&[]).await.expect(200)["totalResults"], 0);
}

async fn more_operations_than_one_patch_may_carry_are_refused(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;
    let operation = json!({"op": "replace", "path": "title", "value": "x"});

    let operations = vec![operation; 1_001];
    let refused = idp.patch_user(&id, json!(operations)).await;

    refused.expect_error(413, "tooMany");
}

/// A `GET` of a path below the base URL whose target has so many bytes.
async fn get_long(app: &TestApp, idp: &Idp, bytes: usize) -> RawAnswer {
    let path = idp.base_url.strip_prefix(app.url()).unwrap();
    let target = format!("{path}/Users?x=");
    let filled = "x".repeat(bytes - target.len());
    let token = &idp.token;
    let request = format!(
        "GET {target}{filled} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    exchange(app.address(), &request).await
}

async fn a_target_that_is_too_long_is_refused(app: TestApp) {
    let idp = app.idp().await;

    get_long(&app, &idp, 1_024).await.expect(200);
    for bytes in [1_025, 60_000] {
        let refused = get_long(&app, &idp, bytes).await;
        assert_eq!(refused.expect(414)["status"], "414");
        let kind = refused.header("Content-Type");
        assert_eq!(kind, Some("application/scim+json"));
    }
    let path = format!("/organizations/{}", "x".repeat(1_024));
    let elsewhere = app.vendor().raw("GET", &path, &[], None).await;
    assert_eq!(elsewhere.expect(414)["code"], "uri_too_long");
    // What actix-web itself does not read is refused without a body.
    assert_eq!(get_long(&app, &idp, 65_535).await.status, 400);
}

/// The status of a request with these header lines besides `Host`.
async fn status_with(app: &TestApp, lines: &str) -> u16 {
    let request = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    exchange(app.address(), &request).await.status
}

async fn a_head_that_is_too_large_is_refused(app: TestApp) {
    let close = "Connection: close\r\n";
    let many = |count: usize| format!("{}{close}", "A: b\r\n".repeat(count));
    let long = |bytes: usize| format!("A: {}\r\n{close}", "x".repeat(bytes));

    // With the two others, 96.
    assert_eq!(status_with(&app, &many(94)).await, 200);
    assert_eq!(status_with(&app, &many(95)).await, 431);
    assert_eq!(status_with(&app, &long(120 * 1_024)).await, 200);
    assert_eq!(status_with(&app, &long(140 * 1_024)).await, 431);
}

async fn what_breaks_the_framing_is_refused_and_ends_the_connection(app: TestApp) {
    let idp = app.idp().await;
    let path = idp.base_url.strip_prefix(app.url()).unwrap();
    let head = format!(
        "POST {path}/Users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n",
        idp.token
    );
    let body = people::user("smuggled").to_string();
    let next = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());

    for broken in [
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: +2\r\n\r\n{}",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Host: y\r\n\r\n",
        "No colon\r\n\r\n",
    ] {
        // What follows must not be taken for a request of its own.
        let answer = exchange(app.address(), &format!("{head}{broken}{next}")).await;
        assert_eq!(answer.status, 400, "{broken}");
    }
    // Here a handler is at work already, and the connection may end without an answer.
    for broken in ["x\r\n{}\r\n0\r\n\r\n", "2\r\n{}0\r\n\r\n", "-1\r\n\r\n"] {
        let mut connection = Connection::to(app.address()).await;
        let request = format!("{head}Transfer-Encoding: chunked\r\n\r\n{broken}{next}");
        connection.send(request.as_bytes()).await;
        let answer = connection.rest().await;
        if !answer.is_empty() {
            assert_eq!(RawAnswer::parse(&answer).status, 400, "{broken}");
        }
    }

    assert_eq!(idp.users(&[]).await.expect(200)["totalResults"], 0);
}

/// How long the server may take to notice what a connection does.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends what is no user until the answer has this status.
async fn wait_for(idp: &Idp, status: u16) -> crate::support::Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = idp.raw("POST", "/Users", &[], Some("[]")).await;
        if answer.status() == status {
            return answer;
        }
        assert!(Instant::now() < deadline, "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn bodies_wait_for_room(app: TestApp) {
    let idp = app.idp().await;
    let path = idp.base_url.strip_prefix(app.url()).unwrap();
    let head = |kind: &str, framing: &str| {
        format!(
            "POST {path}/{kind} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Connection: close\r\n{framing}\r\n\r\n",
            idp.token
        )
    };
    let user = |name: &str| format!("{:2048}", people::user(name).to_string());
    let mut first = Connection::to(app.address()).await;
    let mut second = Connection::to(app.address()).await;

    // Two bodies of 2048 bytes fill the room.
    for connection in [&mut first, &mut second] {
        let head = head("Users", "Content-Length: 2048");
        connection.send(head.as_bytes()).await;
    }

    let refused = wait_for(&idp, 503).await;
    refused.expect_error(503, "");
    assert!(seconds(refused.header("Retry-After")) >= 1);
    let vendor = app.vendor();
    let elsewhere = vendor.create_organization(json!({"name": "Acme"})).await;
    assert_eq!(elsewhere.expect(503)["code"], "unavailable");
    assert!(elsewhere.header("Retry-After").is_some());
    idp.users(&[]).await.expect(200);
    for (name, mut connection) in [("ada", first), ("bob", second)] {
        connection.send(user(name).as_bytes()).await;
        let made = RawAnswer::parse(&connection.rest().await);
        assert_eq!(made.expect(201)["userName"], name);
    }
    wait_for(&idp, 400).await;

    // One without a length may be as long as any, and a client that leaves frees its room.
    let mut third = Connection::to(app.address()).await;
    let framing = "Transfer-Encoding: chunked";
    third.send(head("Groups", framing).as_bytes()).await;
    wait_for(&idp, 503).await;
    drop(third);
    wait_for(&idp, 400).await;
}

async fn an_address_has_so_many_connections_and_no_more(app: TestApp) {
    let client: IpAddr = "127.0.0.2".parse().unwrap();
    let proxy: IpAddr = "127.0.0.3".parse().unwrap();
    let mut open = Vec::new();

    for _ in 0..3 {
        let mut connection = Connection::from(client, app.address()).await;
        assert!(connection.is_served().await);
        open.push(connection);
    }
    let mut fourth = Connection::from(client, app.address()).await;
    assert!(!fourth.is_served().await);
    let mut behind = Vec::new();
    for _ in 0..5 {
        let mut connection = Connection::from(proxy, app.address()).await;
        assert!(connection.is_served().await);
        behind.push(connection);
    }
    app.idp().await.users(&[]).await.expect(200);

    open.pop();
    let deadline = Instant::now() + PATIENCE;
    while !Connection::from(client, app.address())
        .await
        .is_served()
        .await
    {
        assert!(Instant::now() < deadline, "it was not counted out");
    }
}
