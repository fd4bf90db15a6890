//! The configuration: what can be set, where it comes from, and what is wrong with it.
//!
//! Three layers, the later winning: `config/default.toml` (compiled in; it documents every setting
//! and is the reference), the file given by `--config`, and `ROLLCALL_…` in the environment. "" is
//! "not set" for whatever may be left out.
//!
//! A [`ConfigError`] is one line that names the setting, where its value came from and what is
//! allowed. Values of settings that hold secrets are never quoted. Read by the composition root
//! only, which hands each module its part.

mod database;
mod layers;
mod read;
mod span;

pub use database::{Backend, DatabaseUrl};
pub use layers::{ConfigError, Origin};
pub use span::Span;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use crate::secrets::MasterKey;
use crate::telemetry;

const DATABASE_FILE: &str = "rollcall.sqlite3";
const MASTER_KEY_FILE: &str = "master.key";
const AUDIT_HEADS_FILE: &str = "audit-heads.jsonl";
const BODY_BYTES_MIN: usize = 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// What a semaphore can count, and 32 bits.
const BODIES_IN_FLIGHT_BYTES_MAX: usize = 0xffff_ffff;
const TARGET_BYTES_MIN: usize = 1024;
/// Longer ones are refused by the HTTP library, without a word.
const TARGET_BYTES_MAX: usize = 65_534;
const SHUTDOWN_SECONDS_MAX: u32 = 600;
const RETENTION_DAYS_MIN: i64 = 7;
const METRICS_TOKEN_MIN: usize = 16;

/// All settings. `config/default.toml` says what each is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the server listens.
    #[serde(deserialize_with = "read::address")]
    pub listen: SocketAddr,
    /// How the outside reaches the server, if that is not `listen`; see [`Config::public_url`].
    #[serde(deserialize_with = "read::optional_url")]
    pub public_url: Option<Url>,
    /// Where this machine keeps its files.
    #[serde(deserialize_with = "read::path")]
    pub data_dir: PathBuf,
    /// The database, if not `SQLite` in `data_dir`; see [`Config::database_url`].
    #[serde(deserialize_with = "read::optional_database_url")]
    pub database_url: Option<DatabaseUrl>,
    /// The master key itself.
    #[serde(deserialize_with = "read::optional_secret")]
    pub master_key: Option<SecretString>,
    /// The file that holds it, if not in `data_dir`; see [`Config::master_key_file`].
    #[serde(deserialize_with = "read::optional_path")]
    pub master_key_file: Option<PathBuf>,
    /// What holds for the database.
    pub database: Database,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "read::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Does the server migrate the database at its start?
    #[serde(deserialize_with = "read::flag")]
    pub migrate: bool,
    /// How long work under way is given at a stop.
    #[serde(deserialize_with = "read::count")]
    pub shutdown_timeout_seconds: u32,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// How much is too much.
    pub limits: Limits,
    /// Directories.
    pub directories: Directories,
    /// The request log.
    pub requests: Requests,
    /// The audit trail.
    pub audit: Audit,
    /// The event log.
    pub events: Events,
    /// Deliveries of webhooks.
    pub deliveries: Deliveries,
    /// What Prometheus is shown.
    pub metrics: Metrics,
    /// Logs.
    pub log: Log,
    /// What this process does.
    pub node: Node,
}

/// Settings for the database.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// May a promoted standby lack what its predecessor had acknowledged?
    #[serde(deserialize_with = "read::flag")]
    pub lossy_failover: bool,
}

/// Settings for sending webhooks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// Networks exempt from the rules about addresses.
    #[serde(deserialize_with = "read::networks")]
    pub allow_networks: Vec<IpNet>,
    /// The name servers to ask; empty for those of the system.
    #[serde(deserialize_with = "read::name_servers")]
    pub name_servers: Vec<SocketAddr>,
}

/// Rates and counts (0: no limit) and sizes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// SCIM requests of one directory, on average.
    #[serde(deserialize_with = "read::count")]
    pub scim_requests_per_second: u32,
    /// SCIM requests of one directory at once.
    #[serde(deserialize_with = "read::count")]
    pub scim_burst: u32,
    /// API requests of one key, on average.
    #[serde(deserialize_with = "read::count")]
    pub api_requests_per_second: u32,
    /// Failed authentications of one address.
    #[serde(deserialize_with = "read::count")]
    pub failed_auth_per_minute: u32,
    /// SCIM bodies other than groups.
    #[serde(deserialize_with = "read::size")]
    pub scim_user_body_bytes: usize,
    /// SCIM bodies about groups.
    #[serde(deserialize_with = "read::size")]
    pub scim_group_body_bytes: usize,
    /// API bodies.
    #[serde(deserialize_with = "read::size")]
    pub api_body_bytes: usize,
    /// All bodies that are there at once.
    #[serde(deserialize_with = "read::size")]
    pub bodies_in_flight_bytes: usize,
    /// Path and query of a request.
    #[serde(deserialize_with = "read::size")]
    pub request_target_bytes: usize,
    /// Connections of one address.
    #[serde(deserialize_with = "read::count")]
    pub connections_per_address: u32,
}

/// Settings for all directories.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directories {
    /// How many SCIM tokens a directory has at once.
    #[serde(deserialize_with = "read::count")]
    pub tokens_max: u32,
    /// How long a deletion can be taken back.
    #[serde(deserialize_with = "read::span")]
    pub deletion_grace: Span,
}

/// Settings for the request log.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// How long requests are kept.
    #[serde(deserialize_with = "read::span")]
    pub retention: Span,
    /// How many requests of a directory are kept.
    #[serde(deserialize_with = "read::count")]
    pub rows_max: u32,
}

/// Settings for the audit trail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// How long entries are kept.
    #[serde(deserialize_with = "read::span")]
    pub retention: Span,
    /// The file for signed heads, if not in `data_dir`; see [`Config::audit_heads_file`].
    #[serde(deserialize_with = "read::optional_path")]
    pub heads_file: Option<PathBuf>,
}

/// Settings for the event log.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// How long events are kept that nobody waits for.
    #[serde(deserialize_with = "read::span")]
    pub retention: Span,
    /// How long events are kept.
    #[serde(deserialize_with = "read::span")]
    pub retention_max: Span,
}

/// Settings for what is written down about deliveries.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliveries {
    /// How long deliveries and their attempts are kept.
    #[serde(deserialize_with = "read::span")]
    pub retention: Span,
}

/// Who may read the metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// What whoever reads them must show, if anything.
    #[serde(deserialize_with = "read::optional_secret")]
    pub token: Option<SecretString>,
    /// From where they may be read without a token, besides this machine.
    #[serde(deserialize_with = "read::networks")]
    pub allow_networks: Vec<IpNet>,
}

/// Settings for logs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Text or JSON.
    #[serde(deserialize_with = "read::log_format")]
    pub format: telemetry::Format,
    /// A level or a filter.
    #[serde(deserialize_with = "read::text")]
    pub level: String,
}

/// What this process does.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Does it answer HTTP requests?
    #[serde(deserialize_with = "read::flag")]
    pub web: bool,
    /// Does it deliver webhooks?
    #[serde(deserialize_with = "read::flag")]
    pub dispatcher: bool,
    /// Does it run scheduled jobs?
    #[serde(deserialize_with = "read::flag")]
    pub scheduler: bool,
}

/// What is wrong with a setting, wherever it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The setting's name, such as `limits.scim_burst`.
    pub setting: &'static str,
    /// What is wrong and what is allowed, in one line.
    pub message: String,
}

impl Config {
    /// Loads the configuration from the defaults, the file and the process's environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        layers::load(file, layers::process_environment()?.into_iter())
    }

    /// Loads the configuration with the given environment.
    pub fn load_from(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        layers::load(file, environment)
    }

    /// Checks what no single value tells: ranges and contradictions.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.validate_public_url()?;
        self.validate_master_key()?;
        self.limits.validate()?;
        self.validate_retention()?;
        self.metrics.validate()?;
        if self.directories.tokens_max == 0 {
            return Err(Invalid {
                setting: "directories.tokens_max",
                message: String::from("0 is not possible; expected at least 1"),
            });
        }
        if !(1..=SHUTDOWN_SECONDS_MAX).contains(&self.shutdown_timeout_seconds) {
            let message = format!(
                "{} is not possible; expected 1 to 600",
                self.shutdown_timeout_seconds
            );
            return Err(Invalid {
                setting: "shutdown_timeout_seconds",
                message,
            });
        }
        if let Err(error) = telemetry::check_level(&self.log.level) {
            return Err(Invalid {
                setting: "log.level",
                message: error.to_string(),
            });
        }
        if !(self.node.web || self.node.dispatcher || self.node.scheduler) {
            let message = "with node.web, node.dispatcher and node.scheduler all false this process \
                           has nothing to do; expected at least one true";
            return Err(Invalid {
                setting: "node.web",
                message: String::from(message),
            });
        }
        Ok(())
    }

    /// The URL under which the server is reached: as set, or `http://` and the listening address.
    pub fn public_url(&self) -> Url {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let host = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        let text = format!("http://{}/", SocketAddr::new(host, self.listen.port()));
        match Url::parse(&text) {
            Ok(url) => url,
            Err(error) => unreachable!("{text} is a URL: {error}"),
        }
    }

    /// The database: as set, or `SQLite` in the data directory.
    pub fn database_url(&self) -> DatabaseUrl {
        self.database_url
            .clone()
            .unwrap_or_else(|| DatabaseUrl::sqlite(&self.data_dir.join(DATABASE_FILE)))
    }

    /// The key file: as set, or in the data directory. Of no interest when `master_key` is set.
    pub fn master_key_file(&self) -> PathBuf {
        self.master_key_file
            .clone()
            .unwrap_or_else(|| self.data_dir.join(MASTER_KEY_FILE))
    }

    /// The file for the signed heads of the audit trail: as set, or in the data directory.
    pub fn audit_heads_file(&self) -> PathBuf {
        self.audit
            .heads_file
            .clone()
            .unwrap_or_else(|| self.data_dir.join(AUDIT_HEADS_FILE))
    }

    fn validate_public_url(&self) -> Result<(), Invalid> {
        let Some(url) = &self.public_url else {
            return Ok(());
        };
        // The WorkOS SDK for Node drops a path prefix, so the API lives at the root of a host.
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let has_user = !url.username().is_empty() || url.password().is_some();
        if matches!(url.scheme(), "http" | "https") && url.has_host() && is_bare && !has_user {
            return Ok(());
        }
        let message = "expected http:// or https:// and a host, without user, path or query, \
                       such as https://directory.example.com";
        Err(Invalid {
            setting: "public_url",
            message: String::from(message),
        })
    }

    fn validate_master_key(&self) -> Result<(), Invalid> {
        let invalid = |message| {
            Err(Invalid {
                setting: "master_key",
                message,
            })
        };
        let Some(key) = &self.master_key else {
            return Ok(());
        };
        if self.master_key_file.is_some() {
            return invalid(String::from(
                "master_key_file is set as well; expected one of the two",
            ));
        }
        MasterKey::parse(key.expose_secret())
            .map(drop)
            .or_else(|error| invalid(error.to_string()))
    }
}

impl Config {
    /// Parked events are tried for seven days, and are to be there then.
    fn validate_retention(&self) -> Result<(), Invalid> {
        let (events, events_max) = (
            self.events.retention.delta(),
            self.events.retention_max.delta(),
        );
        let least = TimeDelta::days(RETENTION_DAYS_MIN);
        let (setting, message) = if events < least {
            (
                "events.retention",
                String::from("that is too short; expected at least 7d"),
            )
        } else if events_max < events {
            (
                "events.retention_max",
                String::from("that is less than events.retention; expected at least that"),
            )
        } else if self.deliveries.retention.delta() < least {
            (
                "deliveries.retention",
                String::from("that is too short; expected at least 7d"),
            )
        } else {
            return Ok(());
        };
        Err(Invalid { setting, message })
    }
}

impl Metrics {
    fn validate(&self) -> Result<(), Invalid> {
        let length = |token: &SecretString| token.expose_secret().len();
        if self.token.as_ref().map_or(METRICS_TOKEN_MIN, length) >= METRICS_TOKEN_MIN {
            return Ok(());
        }
        let message = "that is too short; expected at least 16 characters, or \"\" for none";
        Err(Invalid {
            setting: "metrics.token",
            message: String::from(message),
        })
    }
}

impl Limits {
    fn validate(&self) -> Result<(), Invalid> {
        let body = (BODY_BYTES_MIN, BODY_BYTES_MAX);
        let longest_body = self
            .scim_user_body_bytes
            .max(self.scim_group_body_bytes)
            .max(self.api_body_bytes);
        for (setting, bytes, (min, max)) in [
            (
                "limits.scim_user_body_bytes",
                self.scim_user_body_bytes,
                body,
            ),
            (
                "limits.scim_group_body_bytes",
                self.scim_group_body_bytes,
                body,
            ),
            ("limits.api_body_bytes", self.api_body_bytes, body),
            // With less, the longest body would always be refused.
            (
                "limits.bodies_in_flight_bytes",
                self.bodies_in_flight_bytes,
                (longest_body, BODIES_IN_FLIGHT_BYTES_MAX),
            ),
            (
                "limits.request_target_bytes",
                self.request_target_bytes,
                (TARGET_BYTES_MIN, TARGET_BYTES_MAX),
            ),
        ] {
            if !(min..=max).contains(&bytes) {
                let message = format!("{bytes} is not possible; expected {min} to {max} bytes");
                return Err(Invalid { setting, message });
            }
        }
        // A burst below the rate would quietly lower the rate.
        if self.scim_requests_per_second > 0 && self.scim_burst < self.scim_requests_per_second {
            let message = format!(
                "{} is less than limits.scim_requests_per_second ({}); expected at least that",
                self.scim_burst, self.scim_requests_per_second
            );
            return Err(Invalid {
                setting: "limits.scim_burst",
                message,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
