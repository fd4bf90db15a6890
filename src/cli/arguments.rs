//! What can be said on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::administer::Request;
use super::audit::AuditVerb;
use super::deliveries::{DeliveryVerb, ReplayVerb};
use super::endpoints::EndpointVerb;
use super::listen::ListenArguments;
use super::snapshots::{GuardSettings, SnapshotVerb};
use super::why::WhyArguments;
use crate::simulate::Dialect;

/// A self-hosted directory-sync broker: SCIM 2.0 in, signed and ordered webhooks out.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(super) struct Arguments {
    /// Settings that differ from the defaults (TOML); see config/default.toml for all of them.
    #[arg(long, global = true, env = "ROLLCALL_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the server (also what `rollcall` alone does)
    Serve(ServeArguments),
    /// Bring the database's schema up to date
    Migrate(MigrateArguments),
    /// Show the whole system at work on this machine, with a simulated Okta and Entra ID
    Demo(DemoArguments),
    /// Send an identity provider's traffic to any SCIM endpoint
    Simulate(SimulateArguments),
    /// Copy the SQLite database into a new file, while the server runs
    Backup(BackupArguments),
    /// Put a backup in the place of the database, and begin a new generation
    Restore(RestoreArguments),
    /// Look for what is wrong with this installation; exit 1 if there is something
    Doctor(DoctorArguments),
    /// Master keys
    #[command(subcommand)]
    Key(KeyVerb),
    /// API keys
    #[command(subcommand)]
    ApiKey(ApiKeyVerb),
    /// Organizations
    #[command(subcommand)]
    Org(OrgVerb),
    /// Directories
    #[command(subcommand)]
    Directory(DirectoryVerb),
    /// SCIM tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Webhook endpoints
    #[command(subcommand)]
    Endpoint(EndpointVerb),
    /// Whole states of directories on their way to endpoints
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// Deliveries to webhook endpoints
    #[command(subcommand)]
    Delivery(DeliveryVerb),
    /// Events sent to a webhook endpoint once more
    #[command(subcommand)]
    Replay(ReplayVerb),
    /// Bring events from now on to an app on this machine, as webhooks
    Listen(ListenArguments),
    /// The audit trail
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Explain why a person is missing in the app
    Why(WhyArguments),
}

#[derive(Debug, Default, Args)]
pub(super) struct ServeArguments {
    /// Refuse to start if the database's schema is not up to date, instead of migrating it
    #[arg(long)]
    pub(super) no_migrate: bool,
}

#[derive(Debug, Args)]
pub(super) struct MigrateArguments {
    /// Only say what would be done; exit 1 if there is something to do
    #[arg(long)]
    pub(super) check: bool,
}

#[derive(Debug, Args)]
pub(super) struct BackupArguments {
    /// The file to make
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// The backup
    #[arg(required_unless_present = "new_generation")]
    pub(super) file: Option<PathBuf>,
    /// Only begin a new generation: the database has been restored by its own tools
    #[arg(long, conflicts_with_all = ["file", "force"])]
    pub(super) new_generation: bool,
    /// Restore although there is a database; it is kept beside the new one
    #[arg(long)]
    pub(super) force: bool,
    /// The highest Rollcall-Generation that receivers have seen, if neither database knows it
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=1_000_000))]
    pub(super) above: i32,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// End when all is told, with 0 only if everything arrived and was verified
    #[arg(long)]
    pub(super) exit: bool,
    /// Send the webhooks to your own receiver
    #[arg(long, value_name = "URL")]
    pub(super) forward_to: Option<String>,
    /// Where the demo's server listens
    #[arg(long, value_name = "IP:PORT")]
    pub(super) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(super) struct SimulateArguments {
    /// Whose traffic
    pub(super) provider: Provider,
    /// The SCIM base URL, such as <http://127.0.0.1:8080/scim/v2/KEY>
    #[arg(long)]
    pub(super) url: String,
    /// The bearer token
    #[arg(long, env = "ROLLCALL_SCIM_TOKEN", hide_env_values = true)]
    pub(super) token: String,
    /// How many people
    #[arg(long, default_value_t = 50)]
    pub(super) users: usize,
    /// How many groups
    #[arg(long, default_value_t = 5)]
    pub(super) groups: usize,
    /// How many requests a second at most
    #[arg(long, value_name = "R")]
    pub(super) rate: Option<f64>,
    /// Which people: the same number gives the same ones
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Provider {
    /// Okta
    Okta,
    /// Microsoft Entra ID
    Entra,
}

impl From<Provider> for Dialect {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Okta => Self::Okta,
            Provider::Entra => Self::Entra,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// Print a new master key
    New,
    /// Seal everything with the newest master key, while servers run
    ///
    /// First put a new key in front of the old one on every node (in the key file a line, in `ROLLCALL_MASTER_KEY`
    /// a space between them) and restart the nodes. Then run this. Then take the old key out.
    Rotate,
}

/// Where to administer, and how to print.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// A server to ask, instead of opening its database here
    #[arg(long, env = "ROLLCALL_URL", value_name = "URL")]
    pub(super) url: Option<String>,
    /// The API key for that server
    #[arg(
        long,
        env = "ROLLCALL_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub(super) api_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ApiKeyVerb {
    /// Make an API key; it is shown once
    Create {
        /// What it is for
        #[arg(long)]
        name: String,
        #[command(flatten)]
        place: Where,
    },
}

impl ApiKeyVerb {
    pub(super) fn into_request(self) -> Request {
        let Self::Create { name, place } = self;
        Request::new("/admin/v1/api_keys", json!({"name": name}), place)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum OrgVerb {
    /// Make an organization
    Create {
        /// Its name
        #[arg(long)]
        name: String,
        /// Your own id for it
        #[arg(long, value_name = "ID")]
        external_id: Option<String>,
        /// A domain of its own; may be given several times
        #[arg(long, value_name = "DOMAIN")]
        domain: Vec<String>,
        #[command(flatten)]
        place: Where,
    },
    /// Delete an organization with all its directories, after `directories.deletion_grace`
    Delete(OneOrganization),
    /// Take the deletion of an organization back
    Restore(OneOrganization),
}

#[derive(Debug, Args)]
pub(super) struct OneOrganization {
    /// The organization
    #[arg(value_name = "ORG_ID")]
    id: String,
    #[command(flatten)]
    place: Where,
}

impl OrgVerb {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::Create {
                name,
                external_id,
                domain,
                place,
            } => {
                let body = json!({"name": name, "external_id": external_id, "domains": domain});
                Request::new("/organizations", body, place)
            }
            Self::Delete(OneOrganization { id, place }) => {
                Request::delete(&format!("/organizations/{id}"), place)
            }
            Self::Restore(OneOrganization { id, place }) => {
                let path = format!("/admin/v1/organizations/{id}/restore");
                Request::new(&path, json!({}), place)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum DirectoryVerb {
    /// Make a directory
    Create {
        /// The organization that it belongs to
        #[arg(long, value_name = "ORG_ID")]
        organization: String,
        /// Its name
        #[arg(long)]
        name: String,
        /// Its type, such as "okta scim v2.0" or "azure scim v2.0"
        #[arg(long = "type", default_value = "generic scim v2.0")]
        kind: String,
        #[command(flatten)]
        place: Where,
    },
    /// Show what its identity provider asked, newest first
    Requests {
        /// The directory
        #[arg(value_name = "DIRECTORY_ID")]
        id: String,
        #[command(flatten)]
        wanted: WantedRequests,
        #[command(flatten)]
        place: Where,
    },
    /// Show one request: what was sent, what was answered, and what to do about it
    Request {
        /// The directory
        #[arg(value_name = "DIRECTORY_ID")]
        id: String,
        /// The request, as X-Request-ID names it
        #[arg(value_name = "REQUEST_ID")]
        request: String,
        #[command(flatten)]
        place: Where,
    },
    /// Change a directory's settings; what is not given stays as it is
    Configure {
        /// The directory
        #[arg(value_name = "DIRECTORY_ID")]
        id: String,
        #[command(flatten)]
        settings: DirectorySettings,
        #[command(flatten)]
        place: Where,
    },
    /// Say who is master of its users and groups: its provider, or you by the API; without it, show who is
    Management {
        /// The directory
        #[arg(value_name = "DIRECTORY_ID")]
        id: String,
        /// With manual, its provider's writes are refused and yours are taken
        #[arg(value_parser = ["manual", "provider"])]
        mode: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// Say what becomes of its users who are inactive; without it, show what does
    InactiveUsers {
        /// The directory
        #[arg(value_name = "DIRECTORY_ID")]
        id: String,
        /// With delete, deactivated users are deleted as far as events tell, and new when active again
        #[arg(value_parser = ["retain", "delete"])]
        policy: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// Show who was changed by hand and not written by the provider since
    Drift {
        /// The directory
        #[arg(value_name = "DIRECTORY_ID")]
        id: String,
        #[command(flatten)]
        place: Where,
    },
    /// Show about whom writes of the provider were refused and have not come again
    RefusedWrites {
        /// The directory
        #[arg(value_name = "DIRECTORY_ID")]
        id: String,
        #[command(flatten)]
        place: Where,
    },
    /// Show a directory
    Show(OneDirectory),
    /// Show directories, oldest first
    List(ManyDirectories),
    /// Hold the webhooks about a directory; none is lost
    Hold(OneDirectory),
    /// Let the webhooks about a directory go out again
    Release(OneDirectory),
    /// Refuse what a directory's provider writes, which it will repeat; reading goes on
    Pause(OneDirectory),
    /// Take what a directory's provider writes again
    Resume(OneDirectory),
    /// Delete a directory, after `directories.deletion_grace`
    Delete {
        /// Delete it at once, which cannot be taken back
        #[arg(long)]
        immediately: bool,
        #[command(flatten)]
        directory: OneDirectory,
    },
    /// Take the deletion of a directory back
    Restore(OneDirectory),
    /// Show how much is in it, and a digest to compare a copy with
    Checksum(OneDirectory),
    /// Set the guard against mass deprovisioning; without anything to set, show it
    Guard {
        #[command(flatten)]
        settings: GuardSettings,
        #[command(flatten)]
        directory: OneDirectory,
    },
    /// Let the webhooks go out that the guard holds
    ReleaseGuard(OneDirectory),
}

#[derive(Debug, Args)]
pub(super) struct OneDirectory {
    /// The directory
    #[arg(value_name = "DIRECTORY_ID")]
    id: String,
    #[command(flatten)]
    place: Where,
}

impl OneDirectory {
    fn path(&self) -> String {
        format!("/admin/v1/directories/{}", self.id)
    }

    /// A `POST` below the directory.
    fn turn(self, verb: &str) -> Request {
        let path = format!("{}/{verb}", self.path());
        Request::new(&path, json!({}), self.place)
    }
}

#[derive(Debug, Args)]
pub(super) struct ManyDirectories {
    /// Only those of this organization
    #[arg(long, value_name = "ORG_ID")]
    organization: Option<String>,
    /// Only those after this one
    #[arg(long, value_name = "DIRECTORY_ID")]
    after: Option<String>,
    /// How many at most, up to 100
    #[arg(long, default_value_t = 100)]
    limit: u64,
    #[command(flatten)]
    place: Where,
}

impl ManyDirectories {
    fn into_request(self) -> Request {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &self.limit.to_string());
        let narrowings = [
            ("organization_id", self.organization),
            ("after", self.after),
        ];
        for (name, value) in narrowings {
            query.extend_pairs(value.map(|value| (name, value)));
        }
        let path = format!("/admin/v1/directories?{}", query.finish());
        Request::get(&path, self.place)
    }
}

/// Which requests.
#[derive(Debug, Args)]
pub(super) struct WantedRequests {
    /// About this person: an e-mail address, userName, external id or SCIM id
    #[arg(long, value_name = "NAME", conflicts_with = "group")]
    person: Option<String>,
    /// About this group: a displayName, external id or SCIM id
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Answered so: a status such as 404, a class such as 4xx, or error
    #[arg(long)]
    status: Option<String>,
    /// With this method
    #[arg(long)]
    method: Option<String>,
    /// Whose path and query contain this
    #[arg(long, value_name = "TEXT")]
    path: Option<String>,
    /// From this time on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How many, at most 100
    #[arg(long)]
    limit: Option<u32>,
    /// Older than this request
    #[arg(long, value_name = "REQUEST_ID")]
    after: Option<String>,
}

impl WantedRequests {
    fn into_query(self) -> String {
        let given = [
            ("person", self.person),
            ("group", self.group),
            ("status", self.status),
            ("method", self.method),
            ("path", self.path),
            ("since", self.since),
            ("until", self.until),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("after", self.after),
        ];
        let given = given
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(given)
            .finish()
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct DirectorySettings {
    /// Its name
    #[arg(long)]
    name: Option<String>,
    /// What it is called in its SCIM base URL; former labels keep answering
    #[arg(long)]
    label: Option<String>,
    /// Use its external key in its SCIM base URL again
    #[arg(long, conflicts_with = "label")]
    no_label: bool,
    /// A host name of its own for its SCIM base URL, which leads to this server
    #[arg(long, value_name = "HOST")]
    host_name: Option<String>,
    /// Answer at its own host name no longer
    #[arg(long, conflicts_with = "host_name")]
    no_host_name: bool,
    /// Whether events tell of everybody in a group, also through groups in it
    #[arg(long, value_name = "BOOL")]
    flatten_groups: Option<bool>,
}

impl DirectorySettings {
    /// The settings given; `null` for those to clear.
    fn into_body(self) -> Value {
        let text = |given: Option<String>| given.map(Value::String);
        let cleared = |is_cleared: bool| is_cleared.then_some(Value::Null);
        let settings = [
            ("name", text(self.name)),
            ("label", text(self.label).or(cleared(self.no_label))),
            (
                "host_name",
                text(self.host_name).or(cleared(self.no_host_name)),
            ),
            ("flatten_groups", self.flatten_groups.map(Value::Bool)),
        ];
        let given = settings
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(given.collect())
    }
}

impl DirectoryVerb {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::Create {
                organization,
                name,
                kind,
                place,
            } => {
                let body = json!({"organization_id": organization, "name": name, "type": kind});
                Request::new("/admin/v1/directories", body, place)
            }
            Self::Requests { id, wanted, place } => {
                let query = wanted.into_query();
                let path = format!("/admin/v1/directories/{id}/requests?{query}");
                Request::get(&path, place)
            }
            Self::Request { id, request, place } => {
                let path = format!("/admin/v1/directories/{id}/requests/{request}");
                Request::get(&path, place)
            }
            Self::Configure {
                id,
                settings,
                place,
            } => {
                let path = format!("/admin/v1/directories/{id}");
                Request::patch(&path, settings.into_body(), place)
            }
            Self::Show(directory) => Request::get(&directory.path(), directory.place),
            Self::List(directories) => directories.into_request(),
            Self::Hold(directory) => directory.turn("hold"),
            Self::Release(directory) => directory.turn("release"),
            Self::Pause(directory) => directory.turn("pause"),
            Self::Resume(directory) => directory.turn("resume"),
            Self::Delete {
                immediately,
                directory,
            } => {
                let path = format!("{}?immediately={immediately}", directory.path());
                Request::delete(&path, directory.place)
            }
            Self::Restore(directory) => directory.turn("restore"),
            Self::Checksum(directory) => {
                let path = format!("{}/checksum", directory.path());
                Request::get(&path, directory.place)
            }
            Self::Guard {
                settings,
                directory,
            } => settings.into_request(&directory.id, directory.place),
            Self::ReleaseGuard(directory) => directory.turn("guard/release"),
            Self::Management { id, mode, place } => {
                let body = mode.map(|mode| json!({"mode": mode}));
                Request::show_or_set(
                    &format!("/admin/v1/directories/{id}/management"),
                    body,
                    place,
                )
            }
            Self::InactiveUsers { id, policy, place } => {
                let body = policy.map(|policy| json!({"policy": policy}));
                let path = format!("/admin/v1/directories/{id}/inactive_users");
                Request::show_or_set(&path, body, place)
            }
            Self::Drift { id, place } => {
                Request::show_or_set(&format!("/admin/v1/directories/{id}/drift"), None, place)
            }
            Self::RefusedWrites { id, place } => {
                let path = format!("/admin/v1/directories/{id}/refused_writes");
                Request::show_or_set(&path, None, place)
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Make a SCIM token for a directory; it is shown once
    Create {
        #[command(flatten)]
        new: NewToken,
        #[command(flatten)]
        place: Where,
    },
    /// Show the tokens of a directory, and which one was used last
    List {
        /// The directory
        #[arg(long, value_name = "DIRECTORY_ID")]
        directory: String,
        #[command(flatten)]
        place: Where,
    },
    /// Make a token that takes over from another one, which goes on for a while
    Rotate {
        /// The token to take over from
        #[arg(value_name = "TOKEN_ID")]
        id: String,
        /// How long the old one goes on: a number with s, m, h or d, at most 30d, or 0 to end it now
        #[arg(long, value_name = "TIME", default_value = "24h")]
        overlap: String,
        #[command(flatten)]
        new: NewToken,
        #[command(flatten)]
        place: Where,
    },
    /// End a token: from the next request on it opens nothing
    Revoke {
        /// The token
        #[arg(value_name = "TOKEN_ID")]
        id: String,
        /// Its directory
        #[arg(long, value_name = "DIRECTORY_ID")]
        directory: String,
        #[command(flatten)]
        place: Where,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewToken {
    /// The directory
    #[arg(long, value_name = "DIRECTORY_ID")]
    directory: String,
    /// What it is for
    #[arg(long)]
    label: Option<String>,
    /// When it ends (RFC 3339)
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// A token to end when this one is made, if the directory has as many as it may have
    #[arg(long, value_name = "TOKEN_ID")]
    replace: Option<String>,
}

impl NewToken {
    fn body(&self) -> Value {
        json!({"label": self.label, "expires_at": self.expires_at, "replace": self.replace})
    }
}

impl TokenVerb {
    pub(super) fn into_request(self) -> Request {
        let tokens = |directory: &str| format!("/admin/v1/directories/{directory}/tokens");
        match self {
            Self::Create { new, place } => Request::new(&tokens(&new.directory), new.body(), place),
            Self::List { directory, place } => Request::get(&tokens(&directory), place),
            Self::Rotate {
                id,
                overlap,
                new,
                place,
            } => {
                let path = format!("{}/{id}/rotate", tokens(&new.directory));
                let mut body = new.body();
                if let Some(fields) = body.as_object_mut() {
                    fields.insert("overlap".to_owned(), overlap.into());
                }
                Request::new(&path, body, place)
            }
            Self::Revoke {
                id,
                directory,
                place,
            } => Request::delete(&format!("{}/{id}", tokens(&directory)), place),
        }
    }
}
