//! Hostile and malformed requests: each is refused, or answered harmlessly, and changes nothing that it
//! must not change.
//!
//! One file in `hostile/` is one test on each database. A request begins in the first column:
//!
//! ```text
//! # An attribute that cannot be compared like that.
//! 400:invalidFilter GET /Users?filter={each}
//!   - active gt true
//!   - meta.created co "2026"
//! ```
//!
//! - First comes what may be answered: statuses with `/` between them (`closed` is a connection that
//!   was closed without an answer), then `+` if the directory may change, `~` if the answer comes from
//!   the HTTP library, and the `scimType` behind a colon. Every other error must be one of SCIM.
//! - Then the method and the target, below the directory's base URL, or from the root behind `~`. What
//!   no URL can have is percent-encoded. The method `RAW` means that the body is all that is sent, its
//!   lines ended by CRLF, where `⏎` is an empty line.
//! - Lines set in by two spaces are the body, except `> ` for a header (in place of the usual one, and
//!   none at all if it is empty), `- ` for what stands for `{each}`, a request each, and `! cut` for a
//!   client that sends nothing more.
//!
//! `{user}` and other names stand for what [`Stage`] has made, `⟨C0 AF⟩` for bytes, and
//! `«3 × a#, joined by -»` for `a0-a1-a2`.
//!
//! After each request the server is alive, and the rows of the directory and of its neighbour are what
//! they were, byte by byte.

mod corpus;
mod wire;

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rollcall::ids::DirectoryId;
use rollcall::storage::tables::{
    directories, groups, memberships, scim_tokens, user_emails, users,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::people;
use crate::support::world::events;
use crate::support::{Idp, TestApp};
use corpus::{Case, Names, encode};
use wire::Reply;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What only the neighbour's resources hold.
const NEIGHBOURS_WORD: &str = "zanzibar";
/// How many requests the files hold together, at least.
const REQUESTS_MIN: usize = 300;

/// Makes a test on each database of each file named.
macro_rules! corpora {
    ($($name:ident),* $(,)?) => {
        on_both! { $($name),* }

        const NAMED: &[&str] = &[$(stringify!($name)),*];

        $(
            async fn $name(app: TestApp) {
                play(&app, stringify!($name)).await;
            }
        )*
    };
}

corpora! {
    bodies,
    bulk,
    doors,
    filters,
    framing,
    lists,
    patches,
    paths,
}

#[test]
fn the_corpus_is_large_and_every_file_of_it_is_played() {
    let folder = std::fs::read_dir(folder()).unwrap();
    let mut found: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".requests").map(str::to_owned))
        .collect();
    found.sort();
    let requests: usize = found.iter().map(|name| cases(name).len()).sum();

    assert_eq!(found, NAMED);
    assert!(requests >= REQUESTS_MIN, "{requests}");
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hostile")
}

fn cases(name: &str) -> Vec<Case> {
    let file = folder().join(format!("{name}.requests"));
    corpus::read(&std::fs::read_to_string(file).unwrap())
}

/// Plays a file and fails with every request in it that was answered otherwise or did harm.
async fn play(app: &TestApp, name: &str) {
    let stage = Stage::new(app).await;
    let mut failures = Vec::new();
    let mut before = stage.rows().await;
    for case in cases(name) {
        let reply = stage.send(&case).await;
        let after = stage.rows().await;
        let mut faults = judge(&case, reply.as_ref());
        if before.neighbour != after.neighbour {
            faults.push("the neighbour has changed".to_owned());
        }
        if before.own != after.own && !case.expected.may_write {
            faults.push("the directory has changed".to_owned());
        }
        if !stage.is_alive().await {
            faults.push("the server is not alive".to_owned());
        }
        before = after;
        if !faults.is_empty() {
            failures.push(describe(name, &case, &faults, reply.as_ref()));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn describe(name: &str, case: &Case, faults: &[String], reply: Option<&Reply>) -> String {
    let variant = case.each.as_deref().unwrap_or_default();
    let body: String = reply
        .map_or("", |reply| reply.body.as_str())
        .chars()
        .take(300)
        .collect();
    format!(
        "{name}.requests:{}: {} {} {variant}\n  {}\n  {body}",
        case.line,
        case.method,
        case.target,
        faults.join("\n  ")
    )
}

/// What is wrong with an answer; `None` is one that did not come in time.
fn judge(case: &Case, reply: Option<&Reply>) -> Vec<String> {
    let Some(reply) = reply else {
        return vec![format!("no answer within {PATIENCE:?}")];
    };
    let expected = &case.expected;
    let mut faults = Vec::new();
    if !expected.statuses.contains(&reply.status) {
        faults.push(format!(
            "answered {:?}, expected {expected:?}",
            reply.status
        ));
    }
    if reply.body.to_lowercase().contains(NEIGHBOURS_WORD) {
        faults.push("tells of the neighbour".to_owned());
    }
    let is_error = reply.status.is_some_and(|status| status >= 400);
    if is_error && !expected.is_plain && case.method != "HEAD" {
        faults.extend(judge_error(reply, expected.scim_type.as_deref()));
    }
    faults
}

fn judge_error(reply: &Reply, scim_type: Option<&str>) -> Option<String> {
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let status = reply.status.unwrap_or_default().to_string();
    let is_error = reply.header("content-type") == "application/scim+json"
        && body["schemas"] == json!(["urn:ietf:params:scim:api:messages:2.0:Error"])
        && body["status"] == status
        && body["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty());
    let is_of_type = scim_type.is_none_or(|scim_type| body["scimType"] == scim_type);
    (!is_error || !is_of_type).then(|| format!("is not the SCIM error expected ({scim_type:?})"))
}

/// What two directories hold.
#[derive(PartialEq)]
struct Rows {
    own: String,
    neighbour: String,
}

/// Two directories, one of which is attacked.
struct Stage {
    app: TestApp,
    address: String,
    /// `/scim/v2/` and the key of the directory.
    base: String,
    names: Names,
    own: DirectoryId,
    neighbour: DirectoryId,
}

impl Stage {
    async fn new(app: &TestApp) -> Self {
        let (idp, neighbour) = (app.idp().await, app.idp().await);
        let mut names = Names::from([
            ("token", idp.token.clone()),
            ("neighbours_token", neighbour.token.clone()),
            ("neighbours_base", path_of(&neighbour)),
            ("base", path_of(&idp)),
        ]);
        populate(&idp, &mut names).await;
        let theirs = neighbour.add_user(NEIGHBOURS_WORD).await;
        let group = neighbour.add_group(NEIGHBOURS_WORD, &[&theirs]).await;
        names.insert("neighbours_user", theirs);
        names.insert("neighbours_group", group);
        names.insert("cursor", cursor_of(&idp, "/Users").await);
        names.insert("group_cursor", cursor_of(&idp, "/Groups").await);
        neighbour.add_user("zanzibar 2").await;
        names.insert("neighbours_cursor", cursor_of(&neighbour, "/Users").await);
        names.insert("forged_cursor", forged_cursor(&idp.directory_id));
        add_dead_tokens(app, &idp, &mut names).await;
        let url = url::Url::parse(&idp.base_url).unwrap();
        Self {
            app: app.clone(),
            address: format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()),
            base: path_of(&idp),
            names,
            own: DirectoryId::parse(&idp.directory_id).unwrap(),
            neighbour: DirectoryId::parse(&neighbour.directory_id).unwrap(),
        }
    }

    /// Sends a request; `None` if no answer came in time.
    async fn send(&self, case: &Case) -> Option<Reply> {
        let request = if case.method == "RAW" {
            let text = case.body.clone().unwrap_or_default();
            let text = text.replace('\n', "\r\n").replace('⏎', "");
            case.bytes(&text, &self.names)
        } else {
            self.request(case)
        };
        let is_head = case.method == "HEAD";
        let answer = wire::ask(&self.address, &request, is_head, case.is_cut);
        tokio::time::timeout(PATIENCE, answer).await.ok()
    }

    fn request(&self, case: &Case) -> Vec<u8> {
        let target = match case.target.strip_prefix('~') {
            Some(target) => target.to_owned(),
            None => format!("{}{}", self.base, case.target),
        };
        let body = case.body.as_ref().map(|body| case.bytes(body, &self.names));
        let mut headers = vec![
            "Host: localhost".to_owned(),
            "Authorization: Bearer {token}".to_owned(),
        ];
        if let Some(body) = &body {
            headers.push("Content-Type: application/scim+json".to_owned());
            headers.push(format!("Content-Length: {}", body.len()));
        }
        let name = |header: &str| header.split(':').next().unwrap_or("").to_lowercase();
        let own = case.headers();
        let given: Vec<String> = own.iter().map(|header| name(header)).collect();
        let is_chunked = given.iter().any(|name| name == "transfer-encoding");
        headers.retain(|header| {
            let name = name(header);
            let is_replaced = given.contains(&name) || is_chunked && name == "content-length";
            !is_replaced
        });
        headers.extend(own.into_iter().filter(|header| !header.ends_with(':')));
        let mut request = case.method.clone().into_bytes();
        request.push(b' ');
        request.extend(encode(&case.bytes(&target, &self.names)));
        request.extend_from_slice(b" HTTP/1.1\r\n");
        for header in headers {
            request.extend(case.bytes(&header, &self.names));
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend(body.unwrap_or_default());
        request
    }

    async fn is_alive(&self) -> bool {
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = wire::ask(&self.address, request, false, false);
        let reply = tokio::time::timeout(PATIENCE, answer).await;
        reply.is_ok_and(|reply| reply.status == Some(200))
    }

    async fn rows(&self) -> Rows {
        Rows {
            own: rows_of(&self.app, self.own).await,
            neighbour: rows_of(&self.app, self.neighbour).await,
        }
    }
}

/// All rows of a directory, but for when it was heard.
async fn rows_of(app: &TestApp, id: DirectoryId) -> String {
    let connection = app.store().reader();
    macro_rules! all {
        ($table:ident by $column:ident) => {
            $table::Entity::find()
                .filter($table::Column::DirectoryId.eq(id))
                .order_by_asc($table::Column::$column)
                .all(connection)
                .await
                .unwrap()
        };
    }
    let directory = directories::Entity::find_by_id(id).one(connection).await;
    let tokens: Vec<scim_tokens::Model> = all!(scim_tokens by Id)
        .into_iter()
        .map(|token| scim_tokens::Model {
            last_used_at: None,
            ..token
        })
        .collect();
    let mut members = all!(memberships by UserId);
    members.sort_by_key(|member| (member.group_id, member.user_id));
    format!(
        "{:?}\n{tokens:?}\n{:?}\n{:?}\n{:?}\n{members:?}\n{:?}",
        directory.unwrap(),
        all!(users by Id),
        all!(user_emails by EmailKey),
        all!(groups by Id),
        events(app, &id.to_string()).await,
    )
}

fn path_of(idp: &Idp) -> String {
    url::Url::parse(&idp.base_url).unwrap().path().to_owned()
}

/// Two users and two groups, one of them with a member.
async fn populate(idp: &Idp, names: &mut Names) {
    let ada = idp.create_user(people::ada()).await.expect(201);
    let ada = ada["id"].as_str().unwrap().to_owned();
    let group = idp.add_group("Engineers", &[&ada]).await;
    names.insert("bob", idp.add_user("bob").await);
    names.insert("empty_group", idp.add_group("Nobody", &[]).await);
    names.insert("USER", ada.to_uppercase());
    names.insert("user", ada);
    names.insert("group", group);
}

/// A token that has expired and one that was revoked.
async fn add_dead_tokens(app: &TestApp, idp: &Idp, names: &mut Names) {
    let vendor = app.vendor();
    let revoked = vendor.create_token(&idp.directory_id, json!({})).await;
    let revoked = revoked.expect(201);
    let id = revoked["id"].as_str().unwrap();
    vendor.revoke_token(&idp.directory_id, id).await.expect(204);
    let expiring = json!({"expires_at": "2026-01-15T12:05:00Z"});
    let expiring = vendor.create_token(&idp.directory_id, expiring).await;
    let expiring = expiring.expect(201);
    app.advance_seconds(600);
    names.insert(
        "expired_token",
        expiring["token"].as_str().unwrap().to_owned(),
    );
    names.insert(
        "revoked_token",
        revoked["token"].as_str().unwrap().to_owned(),
    );
}

async fn cursor_of(idp: &Idp, path: &str) -> String {
    let page = idp.get(path, &[("cursor", ""), ("count", "1")]).await;
    page.expect(200)["nextCursor"].as_str().unwrap().to_owned()
}

/// A cursor into the users by name, behind a name that PostgreSQL cannot hold, made by somebody who
/// knows the directory's id and how cursors are checked.
fn forged_cursor(directory_id: &str) -> String {
    let mut list = Sha256::new();
    for text in [directory_id, "User", "", "userName", ""] {
        list.update(text.len().to_be_bytes());
        list.update(text.as_bytes());
    }
    let id = "01912345-0000-7000-8000-000000000000";
    let content = json!([1, false, {"Text": "a\u{0}"}, id]).to_string();
    let mut check = Sha256::new();
    check.update(list.finalize());
    check.update(content.as_bytes());
    let mut bytes = check.finalize()[..8].to_vec();
    bytes.extend_from_slice(content.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}
