//! The demo as a client of the server's own API, over real HTTP like anybody else.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{outbound::ApiClient, simulate::Dialect};

/// The API under one key.
pub(super) struct Admin {
    client: ApiClient,
    base: String,
    key: String,
}

/// A directory with a token, as an IT contact would be given it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) dialect: Dialect,
    pub(super) id: String,
    pub(super) scim_base_url: String,
    pub(super) token: String,
}

/// A webhook endpoint.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) id: String,
    pub(super) secret: String,
}

impl Admin {
    pub(super) fn new(base: String, key: String) -> anyhow::Result<Self> {
        Ok(Self {
            client: ApiClient::new()?,
            base,
            key,
        })
    }

    /// Registers a webhook endpoint for all events of directories.
    pub(super) async fn create_endpoint(&self, url: &str) -> anyhow::Result<Endpoint> {
        let made = self
            .post("/admin/v1/webhook_endpoints", json!({"endpoint_url": url}))
            .await?;
        Ok(Endpoint {
            id: text(&made, "id")?,
            secret: text(&made, "secret")?,
        })
    }

    /// Creates an organization.
    pub(super) async fn create_organization(&self, name: &str) -> anyhow::Result<String> {
        text(
            &self.post("/organizations", json!({"name": name})).await?,
            "id",
        )
    }

    /// Creates a directory of an organization, and a token for it.
    pub(super) async fn connect(
        &self,
        organization: &str,
        dialect: Dialect,
    ) -> anyhow::Result<Connection> {
        let kind = match dialect {
            Dialect::Okta => "okta scim v2.0",
            Dialect::Entra => "azure scim v2.0",
        };
        let body = json!({
            "organization_id": organization, "name": dialect.name(), "type": kind,
        });
        let directory = self.post("/admin/v1/directories", body).await?;
        let id = text(&directory, "id")?;
        let path = format!("/admin/v1/directories/{id}/tokens");
        let token = self.post(&path, json!({"label": "demo"})).await?;
        let given = text(&directory, "scim_base_url")?;
        // The server may know itself by another name than this machine can resolve.
        let path = url::Url::parse(&given).map_or(given, |url| url.path().to_owned());
        Ok(Connection {
            dialect,
            id,
            scim_base_url: format!("{}{}", self.base, path.trim_end_matches('/')),
            token: text(&token, "token")?,
        })
    }

    /// The last sequence that a directory has given to an event.
    pub(super) async fn last_sequence(&self, directory: &str) -> anyhow::Result<u64> {
        let found = self
            .get(&format!("/admin/v1/directories/{directory}"))
            .await?;
        found
            .get("sequence")
            .and_then(Value::as_u64)
            .context("the directory has no sequence")
    }

    /// How many events an endpoint has yet to receive.
    pub(super) async fn undelivered(&self, endpoint: &str) -> anyhow::Result<u64> {
        let found = self
            .get(&format!("/admin/v1/webhook_endpoints/{endpoint}"))
            .await?;
        found
            .get("undelivered")
            .and_then(Value::as_u64)
            .context("no count of undelivered events")
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.ask("POST", path, Some(body.to_string())).await
    }

    async fn ask(&self, method: &str, path: &str, body: Option<String>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let answer = self
            .client
            .send(method, &url, Some(&self.key), "application/json", body, &[])
            .await
            .with_context(|| format!("{method} {path}"))?;
        if !(200..300).contains(&answer.status) {
            bail!(
                "{method} {path} answered {}: {}",
                answer.status,
                answer.body
            );
        }
        serde_json::from_str(&answer.body)
            .with_context(|| format!("{method} {path} answered without JSON"))
    }
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    let found = value.get(key).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("the answer has no {key:?}: {value}"))
}
