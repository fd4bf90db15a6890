//! Who talks to the server: a vendor's program with an API key, and an identity provider with a SCIM
//! token. Tests say what is done; the URLs are here.

use rollcall::outbound::{ApiClient, ApiResponse};
use serde_json::{Value, json};

const SCIM_JSON: &str = "application/scim+json";
const JSON: &str = "application/json";

/// What the server answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer(ApiResponse);

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.0.status
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.body
    }

    /// The body; `null` if there is none.
    pub(crate) fn json(&self) -> Value {
        if self.0.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.0.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.0.body))
    }

    /// The body of an answer that has this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.0.status, status, "{}", self.0.body);
        self.json()
    }

    /// The body of a SCIM error that has this status and `scimType` (`""` for none).
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16, scim_type: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(self.header("Content-Type"), Some(SCIM_JSON));
        let schemas = json!(["urn:ietf:params:scim:api:messages:2.0:Error"]);
        assert_eq!(body["schemas"], schemas, "{body}");
        assert_eq!(body["status"], status.to_string(), "{body}");
        assert_eq!(body["scimType"].as_str().unwrap_or(""), scim_type, "{body}");
        assert!(body["detail"].as_str().is_some_and(|text| !text.is_empty()));
        body
    }

    /// The one resource of a list with `status` 200.
    #[track_caller]
    pub(crate) fn expect_one(&self) -> Value {
        let body = self.expect(200);
        assert_eq!(body["totalResults"], 1, "{body}");
        body["Resources"][0].clone()
    }
}

/// A vendor's program.
#[derive(Clone, Debug)]
pub(crate) struct Vendor {
    client: ApiClient,
    url: String,
    key: String,
}

impl Vendor {
    pub(crate) fn new(client: ApiClient, url: &str, key: &str) -> Self {
        Self {
            client,
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    /// Any request, with the key and these headers.
    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let url = format!("{}{path}", self.url);
        let key = Some(self.key.as_str()).filter(|key| !key.is_empty());
        let body = body.map(str::to_owned);
        let sent = self.client.send(method, &url, key, JSON, body, headers);
        Answer(sent.await.unwrap())
    }

    async fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, &[], None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.raw("POST", path, &[], Some(&body.to_string())).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.raw("DELETE", path, &[], None).await
    }

    pub(crate) async fn create_api_key(&self, body: Value) -> Answer {
        self.post("/admin/v1/api_keys", body).await
    }

    /// A page of the audit trail; `query` starts after the question mark.
    pub(crate) async fn audit_entries(&self, query: &str) -> Answer {
        self.get(&format!("/admin/v1/audit_entries?{query}")).await
    }

    pub(crate) async fn create_organization(&self, body: Value) -> Answer {
        self.post("/organizations", body).await
    }

    pub(crate) async fn organization(&self, id: &str) -> Answer {
        self.get(&format!("/organizations/{id}")).await
    }

    pub(crate) async fn create_directory(&self, body: Value) -> Answer {
        self.post("/admin/v1/directories", body).await
    }

    pub(crate) async fn directory(&self, id: &str) -> Answer {
        self.get(&format!("/admin/v1/directories/{id}")).await
    }

    pub(crate) async fn configure_directory(&self, id: &str, settings: Value) -> Answer {
        let path = format!("/admin/v1/directories/{id}");
        self.raw("PATCH", &path, &[], Some(&settings.to_string()))
            .await
    }

    pub(crate) async fn remove_label(&self, id: &str, label: &str) -> Answer {
        let path = format!("/admin/v1/directories/{id}/labels/{label}");
        self.delete(&path).await
    }

    pub(crate) async fn delete_directory(&self, id: &str) -> Answer {
        self.delete(&format!("/admin/v1/directories/{id}")).await
    }

    /// Deletes a directory without time to take it back.
    pub(crate) async fn end_directory(&self, id: &str) -> Answer {
        let path = format!("/admin/v1/directories/{id}?immediately=true");
        self.delete(&path).await
    }

    /// Holds, releases, pauses, resumes or restores a directory.
    pub(crate) async fn turn_directory(&self, id: &str, verb: &str) -> Answer {
        let path = format!("/admin/v1/directories/{id}/{verb}");
        self.post(&path, json!({})).await
    }

    pub(crate) async fn directories(&self, query: &str) -> Answer {
        self.get(&format!("/admin/v1/directories?{query}")).await
    }

    pub(crate) async fn delete_organization(&self, id: &str) -> Answer {
        self.delete(&format!("/organizations/{id}")).await
    }

    pub(crate) async fn restore_organization(&self, id: &str) -> Answer {
        let path = format!("/admin/v1/organizations/{id}/restore");
        self.post(&path, json!({})).await
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        self.get(&format!("{path}?{query}")).await
    }

    pub(crate) async fn sign_in_check(&self, query: &[(&str, &str)]) -> Answer {
        self.ask("/admin/v1/sign_in_checks", query).await
    }

    pub(crate) async fn registration_check(&self, email: &str) -> Answer {
        self.ask("/admin/v1/registration_checks", &[("email", email)])
            .await
    }

    pub(crate) async fn explanation(&self, query: &[(&str, &str)]) -> Answer {
        self.ask("/admin/v1/explanations", query).await
    }

    pub(crate) async fn health(&self, directory_id: &str) -> Answer {
        self.get(&format!("/admin/v1/directories/{directory_id}/health"))
            .await
    }

    pub(crate) async fn erase(&self, body: Value) -> Answer {
        self.post("/admin/v1/erasures", body).await
    }

    pub(crate) async fn create_token(&self, directory_id: &str, body: Value) -> Answer {
        let path = format!("/admin/v1/directories/{directory_id}/tokens");
        self.post(&path, body).await
    }

    pub(crate) async fn tokens(&self, directory_id: &str) -> Answer {
        let path = format!("/admin/v1/directories/{directory_id}/tokens");
        self.get(&path).await
    }

    pub(crate) async fn token(&self, directory_id: &str, id: &str) -> Answer {
        let path = format!("/admin/v1/directories/{directory_id}/tokens/{id}");
        self.get(&path).await
    }

    pub(crate) async fn rotate_token(&self, directory_id: &str, id: &str, body: Value) -> Answer {
        let path = format!("/admin/v1/directories/{directory_id}/tokens/{id}/rotate");
        self.post(&path, body).await
    }

    pub(crate) async fn revoke_token(&self, directory_id: &str, id: &str) -> Answer {
        let path = format!("/admin/v1/directories/{directory_id}/tokens/{id}");
        self.delete(&path).await
    }

    pub(crate) async fn requests(&self, directory_id: &str, query: &[(&str, &str)]) -> Answer {
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        self.get(&format!(
            "/admin/v1/directories/{directory_id}/requests?{query}"
        ))
        .await
    }

    pub(crate) async fn request(&self, directory_id: &str, id: &str) -> Answer {
        self.get(&format!(
            "/admin/v1/directories/{directory_id}/requests/{id}"
        ))
        .await
    }

    /// Any request about a directory: `path` is what follows its id.
    pub(crate) async fn of_directory(
        &self,
        method: &str,
        directory_id: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let path = format!("/admin/v1/directories/{directory_id}{path}");
        let body = body.map(|body| body.to_string());
        self.raw(method, &path, &[], body.as_deref()).await
    }

    /// Makes the provider (`provider`) or the vendor (`manual`) the master of a directory.
    pub(crate) async fn manage(&self, directory_id: &str, mode: &str) -> Answer {
        let body = Some(json!({"mode": mode}));
        self.of_directory("PUT", directory_id, "/management", body)
            .await
    }

    /// Says what becomes of inactive users.
    pub(crate) async fn set_inactive_users(&self, directory_id: &str, policy: &str) -> Answer {
        let body = Some(json!({"policy": policy}));
        self.of_directory("PUT", directory_id, "/inactive_users", body)
            .await
    }

    /// As the wire contract has it, which wants event types.
    pub(crate) async fn create_contract_endpoint(&self, body: Value) -> Answer {
        self.post("/webhook_endpoints", body).await
    }

    pub(crate) async fn create_endpoint(&self, body: Value) -> Answer {
        self.post("/admin/v1/webhook_endpoints", body).await
    }

    /// What follows is a path below that of all endpoints, such as `/we_…/test`.
    pub(crate) async fn at_endpoints(&self, method: &str, path: &str, body: Value) -> Answer {
        let path = format!("/admin/v1/webhook_endpoints{path}");
        let body = (!body.is_null()).then(|| body.to_string());
        self.raw(method, &path, &[], body.as_deref()).await
    }

    pub(crate) async fn configure_endpoint(&self, id: &str, settings: Value) -> Answer {
        self.at_endpoints("PATCH", &format!("/{id}"), settings)
            .await
    }

    pub(crate) async fn endpoint(&self, id: &str) -> Answer {
        self.get(&format!("/admin/v1/webhook_endpoints/{id}")).await
    }

    pub(crate) async fn delete_endpoint(&self, id: &str) -> Answer {
        self.delete(&format!("/webhook_endpoints/{id}")).await
    }
}

/// An identity provider that has the base URL and a token of one directory.
#[derive(Clone, Debug)]
pub(crate) struct Idp {
    client: ApiClient,
    pub(crate) base_url: String,
    pub(crate) token: String,
    pub(crate) directory_id: String,
}

impl Idp {
    /// The end of its token, by which people tell tokens apart.
    pub(crate) fn token_suffix(&self) -> &str {
        let start = self.token.len() - 4;
        self.token.get(start..).unwrap()
    }

    pub(crate) fn new(client: ApiClient, base_url: &str, token: &str, directory_id: &str) -> Self {
        Self {
            client,
            base_url: base_url.to_owned(),
            token: token.to_owned(),
            directory_id: directory_id.to_owned(),
        }
    }

    /// The same provider with another token; `""` for none.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// The same provider with another base URL.
    pub(crate) fn at(&self, base_url: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            ..self.clone()
        }
    }

    /// Any request below the base URL, with the token and these headers.
    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let url = format!("{}{path}", self.base_url);
        let token = Some(self.token.as_str()).filter(|token| !token.is_empty());
        let body = body.map(str::to_owned);
        let sent = self
            .client
            .send(method, &url, token, SCIM_JSON, body, headers);
        Answer(sent.await.unwrap())
    }

    /// A `GET` below the base URL with this query.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        self.raw("GET", &format!("{path}?{query}"), &[], None).await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.raw(method, path, &[], Some(&body.to_string())).await
    }

    pub(crate) async fn create_user(&self, user: Value) -> Answer {
        self.send("POST", "/Users", user).await
    }

    pub(crate) async fn user(&self, id: &str) -> Answer {
        self.raw("GET", &format!("/Users/{id}"), &[], None).await
    }

    pub(crate) async fn users(&self, query: &[(&str, &str)]) -> Answer {
        self.get("/Users", query).await
    }

    pub(crate) async fn replace_user(&self, id: &str, user: Value) -> Answer {
        self.send("PUT", &format!("/Users/{id}"), user).await
    }

    pub(crate) async fn patch_user(&self, id: &str, operations: Value) -> Answer {
        self.send("PATCH", &format!("/Users/{id}"), patch(&operations))
            .await
    }

    pub(crate) async fn delete_user(&self, id: &str) -> Answer {
        self.raw("DELETE", &format!("/Users/{id}"), &[], None).await
    }

    pub(crate) async fn create_group(&self, group: Value) -> Answer {
        self.send("POST", "/Groups", group).await
    }

    pub(crate) async fn group(&self, id: &str) -> Answer {
        self.raw("GET", &format!("/Groups/{id}"), &[], None).await
    }

    pub(crate) async fn groups(&self, query: &[(&str, &str)]) -> Answer {
        self.get("/Groups", query).await
    }

    pub(crate) async fn replace_group(&self, id: &str, group: Value) -> Answer {
        self.send("PUT", &format!("/Groups/{id}"), group).await
    }

    pub(crate) async fn patch_group(&self, id: &str, operations: Value) -> Answer {
        self.send("PATCH", &format!("/Groups/{id}"), patch(&operations))
            .await
    }

    pub(crate) async fn delete_group(&self, id: &str) -> Answer {
        self.raw("DELETE", &format!("/Groups/{id}"), &[], None)
            .await
    }

    /// A new user called `user_name`; returns its id.
    pub(crate) async fn add_user(&self, user_name: &str) -> String {
        let user = self.create_user(super::people::user(user_name)).await;
        id_of(&user.expect(201))
    }

    /// A new group with these members; returns its id.
    pub(crate) async fn add_group(&self, name: &str, members: &[&str]) -> String {
        let group = self.create_group(super::people::group(name, members)).await;
        id_of(&group.expect(201))
    }

    /// The ids of a group's members, sorted.
    pub(crate) async fn members_of(&self, group_id: &str) -> Vec<String> {
        let group = self.group(group_id).await.expect(200);
        let members = group["members"].as_array().cloned().unwrap_or_default();
        let mut ids: Vec<String> = members
            .iter()
            .map(|member| text(&member["value"]))
            .collect();
        ids.sort();
        ids
    }
}

/// The `id` of a resource.
pub(crate) fn id_of(resource: &Value) -> String {
    text(&resource["id"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn patch(operations: &Value) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": operations,
    })
}
