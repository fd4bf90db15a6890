//! The API and SCIM as their users see them: over HTTP, with patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rollcall::outbound::{ApiClient, ApiResponse};
use serde_json::{Value, json};

use super::receiver::Receiver;
use super::replica::Picture;

/// A server that is killed again and again on a busy machine may leave one request for long without an
/// answer, because it lives for shorter than the request takes.
const PATIENCE: Duration = Duration::from_mins(3);
/// One request that is neither answered nor refused for as long is another matter.
const HANG: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(20);
const PAGE: usize = 200;
const SCIM_JSON: &str = "application/scim+json";

/// The API of an installation, through any of its nodes.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    client: ApiClient,
    bases: Arc<Vec<String>>,
    key: String,
}

impl Admin {
    /// The API at `bases`, one for each node, under `key`.
    pub(crate) fn new(bases: &[&str], key: String) -> Self {
        Self {
            client: ApiClient::new().expect("a client"),
            bases: Arc::new(bases.iter().map(|base| (*base).to_owned()).collect()),
            key,
        }
    }

    /// Registers `receiver` for all events; returns the endpoint's id.
    pub(crate) async fn subscribe(&self, receiver: &Receiver) -> String {
        let (id, secret) = self.subscribe_url(&receiver.url()).await;
        receiver.expect_secret(&secret);
        id
    }

    /// Registers a URL for all events; returns the endpoint's id and secret.
    pub(crate) async fn subscribe_url(&self, url: &str) -> (String, String) {
        let body = json!({"endpoint_url": url});
        let made = self.post("/admin/v1/webhook_endpoints", body).await;
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        (text("id"), text("secret"))
    }

    /// Makes a directory of an organization of its own.
    pub(crate) async fn directory(&self) -> Scim {
        let organization = self
            .post("/organizations", json!({"name": "Example"}))
            .await;
        let body = json!({
            "organization_id": organization["id"], "name": "People", "type": "generic scim v2.0",
        });
        let directory = self.post("/admin/v1/directories", body).await;
        let id = directory["id"].as_str().expect("an id").to_owned();
        let path = format!("/admin/v1/directories/{id}/tokens");
        let token = self.post(&path, json!({"label": "test"})).await;
        let url = directory["scim_base_url"].as_str().expect("a URL");
        let url = url::Url::parse(url).expect("a URL");
        Scim {
            client: self.client.clone(),
            bases: Arc::clone(&self.bases),
            path: url.path().trim_end_matches('/').to_owned(),
            token: token["token"].as_str().expect("a token").to_owned(),
            directory: id,
            turn: Arc::default(),
        }
    }

    /// The sequence of the newest event of a directory.
    pub(crate) async fn sequence(&self, directory: &str) -> i64 {
        let found = self
            .get(&format!("/admin/v1/directories/{directory}"))
            .await;
        found["sequence"].as_i64().expect("a sequence")
    }

    /// How many events an endpoint has yet to receive.
    pub(crate) async fn undelivered(&self, endpoint: &str) -> i64 {
        let found = self
            .get(&format!("/admin/v1/webhook_endpoints/{endpoint}"))
            .await;
        found["undelivered"].as_i64().expect("a count")
    }

    /// The ids of a directory's tokens, oldest first.
    pub(crate) async fn tokens(&self, directory: &str) -> Vec<String> {
        let list = self
            .get(&format!("/admin/v1/directories/{directory}/tokens"))
            .await;
        let tokens = list["data"].as_array().expect("a list").iter();
        let ids = tokens.map(|token| token["id"].as_str().expect("an id").to_owned());
        ids.collect()
    }

    /// Makes a token that takes over from another one; returns it.
    pub(crate) async fn rotate_token(&self, directory: &str, id: &str) -> String {
        let path = format!("/admin/v1/directories/{directory}/tokens/{id}/rotate");
        let made = self.post(&path, json!({"overlap": "1h"})).await;
        made["token"].as_str().expect("a token").to_owned()
    }

    /// Revokes a token.
    pub(crate) async fn revoke_token(&self, directory: &str, id: &str) {
        let path = format!("/admin/v1/directories/{directory}/tokens/{id}");
        self.ask("DELETE", &path, None).await;
    }

    /// What the API shows at `path`.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).await
    }

    /// Posts something.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.ask("POST", path, Some(body.to_string())).await
    }

    /// Asks for something that succeeds.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<String>) -> Value {
        let mut last = String::new();
        for base in self.bases.iter() {
            let url = format!("{base}{path}");
            let key = Some(self.key.as_str());
            let sent = self
                .client
                .send(method, &url, key, "application/json", body.clone(), &[])
                .await;
            match sent {
                Ok(answer) if answer.status == 204 => return Value::Null,
                Ok(answer) if (200..300).contains(&answer.status) => {
                    return serde_json::from_str(&answer.body).expect("JSON");
                }
                other => last = format!("{other:?}"),
            }
        }
        panic!("{method} {path}: {last}");
    }
}

/// An identity provider's connection to one directory.
#[derive(Clone, Debug)]
pub(crate) struct Scim {
    client: ApiClient,
    bases: Arc<Vec<String>>,
    path: String,
    token: String,
    directory: String,
    turn: Arc<AtomicUsize>,
}

impl Scim {
    /// The directory's id.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// The token that it shows.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The same through one node only.
    pub(crate) fn through(&self, base: &str) -> Self {
        Self {
            bases: Arc::new(vec![base.to_owned()]),
            ..self.clone()
        }
    }

    /// The same with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// Sends one request to create a user to the first of its nodes; the status, whatever it is.
    pub(crate) async fn try_to_create_user(&self, user_name: &str) -> u16 {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": user_name, "active": true,
        });
        let url = format!("{}{}/Users", self.bases[0], self.path);
        let (token, body) = (Some(self.token.as_str()), Some(body.to_string()));
        let sent = self.client.send("POST", &url, token, SCIM_JSON, body, &[]);
        sent.await.map_or(0, |answer| answer.status)
    }

    /// Sends a request to the nodes in turn until one answers for good: not with 429 or 5xx.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> ApiResponse {
        let deadline = Instant::now() + PATIENCE;
        let mut tries = 0;
        loop {
            tries += 1;
            let started = Instant::now();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.bases.len();
            let url = format!("{}{}{path}", self.bases[turn], self.path);
            let body = body.map(Value::to_string);
            let token = Some(self.token.as_str());
            let sent = self
                .client
                .send(method, &url, token, SCIM_JSON, body, &[])
                .await;
            match sent {
                Ok(answer) if answer.status < 500 && answer.status != 429 => return answer,
                other => {
                    let is_over = Instant::now() > deadline || started.elapsed() > HANG;
                    assert!(!is_over, "{method} {path}, try {tries}: {other:?}");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Creates a user, or finds the one whose creation was not answered; returns its id.
    pub(crate) async fn create_user(&self, user_name: &str) -> String {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": user_name, "externalId": user_name, "title": "new", "active": true,
        });
        let filter = format!("/Users?filter=userName%20eq%20%22{user_name}%22");
        self.create("/Users", &body, &filter).await
    }

    /// Creates a group, or finds the one whose creation was not answered; returns its id.
    pub(crate) async fn create_group(&self, name: &str) -> String {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
            "displayName": name, "externalId": name,
        });
        let filter = format!("/Groups?filter=displayName%20eq%20%22{name}%22");
        self.create("/Groups", &body, &filter).await
    }

    async fn create(&self, path: &str, body: &Value, filter: &str) -> String {
        let answer = self.send("POST", path, Some(body)).await;
        let made: Value = serde_json::from_str(&answer.body).expect("JSON");
        match answer.status {
            201 => made["id"].as_str().expect("an id").to_owned(),
            409 => {
                let found = self.get(filter).await;
                let id = found["Resources"][0]["id"].as_str();
                id.expect("what is there can be found").to_owned()
            }
            status => panic!("POST {path}: {status} {}", answer.body),
        }
    }

    /// Applies PATCH operations.
    pub(crate) async fn patch(&self, path: &str, operations: Value) {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations,
        });
        let answer = self.send("PATCH", path, Some(&body)).await;
        let status = answer.status;
        assert!((200..300).contains(&status), "{status} {}", answer.body);
    }

    /// Adds users to a group.
    pub(crate) async fn add_members(&self, group: &str, users: &[String]) {
        let members: Vec<Value> = users.iter().map(|user| json!({"value": user})).collect();
        let operation = json!([{"op": "add", "path": "members", "value": members}]);
        self.patch(&format!("/Groups/{group}"), operation).await;
    }

    /// Removes a user from a group.
    pub(crate) async fn remove_member(&self, group: &str, user: &str) {
        let path = format!("members[value eq \"{user}\"]");
        let operation = json!([{"op": "remove", "path": path}]);
        self.patch(&format!("/Groups/{group}"), operation).await;
    }

    /// Deletes a resource; one that is gone already is as good.
    pub(crate) async fn delete(&self, path: &str) {
        let answer = self.send("DELETE", path, None).await;
        assert!([204, 404].contains(&answer.status), "{answer:?}");
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let start = all.len() + 1;
            let page = self
                .get(&format!("{path}?startIndex={start}&count={PAGE}"))
                .await;
            let resources = page["Resources"].as_array().cloned().unwrap_or_default();
            if resources.is_empty() {
                return all;
            }
            all.extend(resources);
        }
    }

    /// The directory as SCIM shows it.
    pub(crate) async fn picture(&self) -> Picture {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut picture = Picture::default();
        let mut names = std::collections::BTreeMap::new();
        for user in self.list("/Users").await {
            let name = text(&user["userName"]);
            names.insert(text(&user["id"]), name.clone());
            let is_active = user["active"] == true;
            picture
                .users
                .insert(name, (text(&user["title"]), is_active));
        }
        for group in self.list("/Groups").await {
            let name = text(&group["displayName"]);
            for member in group["members"].as_array().into_iter().flatten() {
                let user = names[&text(&member["value"])].clone();
                picture.memberships.insert((user, name.clone()));
            }
            picture.groups.insert(name);
        }
        picture
    }
}
