//! What every request handler has at hand; cheap to clone.

use std::net::SocketAddr;
use std::sync::Arc;

use url::Url;

use crate::activity::Activity;
use crate::clock::Clock;
use crate::config;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::outbound::AddressPolicy;
use crate::requests;
use crate::secrets::MasterKey;
use crate::storage::Store;
use crate::storage::tables::directories;

/// What every request handler has at hand.
#[derive(Clone)]
pub struct Context {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What secrets are sealed with.
    pub master_key: Arc<MasterKey>,
    /// Where this server is reached from outside; never taken from a request.
    pub public_url: Arc<Url>,
    /// Which addresses webhooks may go to.
    pub address_policy: Arc<AddressPolicy>,
    /// Who is asked where receivers are; nobody stands for the system's name servers.
    pub name_servers: Arc<[SocketAddr]>,
    /// How much anybody may ask for.
    pub limits: Arc<Limits>,
    /// What holds for all directories.
    pub directories: config::Directories,
    /// How long requests of providers are kept.
    pub requests: config::Requests,
    /// How long the audit trail is kept.
    pub audit: config::Audit,
    /// How long events are kept.
    pub events: config::Events,
    /// How long it is kept what was delivered.
    pub deliveries: config::Deliveries,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who was heard when.
    pub activity: Arc<Activity>,
    /// Requests of providers that are not written down yet.
    pub request_log: Arc<requests::Queue>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").finish_non_exhaustive()
    }
}

impl Context {
    /// The base URL of a directory's SCIM endpoint, without a slash at its end.
    ///
    /// Of the addresses at which the directory answers, its host name goes first, then its label. A host
    /// name leads to the same front door as the public URL: by the same scheme and port.
    pub fn scim_base_url(&self, directory: &directories::Model) -> String {
        if let Some(host_name) = &directory.host_name {
            let scheme = self.public_url.scheme();
            let port = self.public_url.port();
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            return format!("{scheme}://{host_name}{port}/scim/v2");
        }
        let root = self.public_url.as_str().trim_end_matches('/');
        let segment = directory.label.as_ref().unwrap_or(&directory.external_key);
        format!("{root}/scim/v2/{segment}")
    }
}
