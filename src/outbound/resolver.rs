//! Name resolution that hands out only addresses to which something may be sent.
//!
//! The HTTP client dials exactly what this returns, so a name cannot answer harmlessly when it is
//! checked and otherwise when it is dialled (DNS rebinding). One forbidden address rejects all: a
//! name that points inside as well as outside is no receiver.
//!
//! The names are asked for here and not by the C library, whose lookups each hold a thread that no time
//! limit gets back: a few names with a name server that stays silent would stop everybody's deliveries.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;

use super::guard::{AddressPolicy, Forbidden};

const LOOKUP_LIMIT: Duration = Duration::from_secs(2);
/// So that a question lost on its way is asked again within the limit above.
const QUESTION_LIMIT: Duration = Duration::from_millis(900);
/// Whoever moves a receiver to another address does not wait longer for us than this.
const CACHE_LIMIT: Duration = Duration::from_secs(30);
/// The client tries addresses one after the other; more than this only spend the time limit.
const ADDRESSES_MAX: usize = 16;

/// What asks for the addresses of names: `servers`, or those of the system if there are none.
pub(super) fn names(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let (config, mut options) = match servers {
        [] => read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(%error, "the system's name servers cannot be read; asking 127.0.0.1");
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
            (asking(&[local]), ResolverOpts::default())
        }),
        servers => (asking(servers), ResolverOpts::default()),
    };
    options.timeout = QUESTION_LIMIT;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.positive_max_ttl = Some(CACHE_LIMIT);
    options.negative_max_ttl = Some(CACHE_LIMIT);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

fn asking(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.into_iter().map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.collect())
    };
    ResolverConfig::from_name_servers(servers.iter().map(server).collect())
}

/// A resolver behind an [`AddressPolicy`].
pub(super) struct GuardedResolver {
    names: TokioResolver,
    policy: AddressPolicy,
    allowed_networks_only: bool,
}

impl GuardedResolver {
    pub(super) fn new(
        names: TokioResolver,
        policy: AddressPolicy,
        allowed_networks_only: bool,
    ) -> Self {
        Self {
            names,
            policy,
            allowed_networks_only,
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.names.clone();
        let policy = self.policy.clone();
        let allowed_networks_only = self.allowed_networks_only;
        Box::pin(async move {
            let Ok(found) = timeout(LOOKUP_LIMIT, names.lookup_ip(name.as_str())).await else {
                return Err(unknown("the name server did not answer within 2 s").into());
            };
            let addresses: Vec<IpAddr> = found.map_err(|error| explain(&error))?.iter().collect();
            if addresses.is_empty() {
                return Err(unknown("the name has no address").into());
            }
            check_all(&policy, allowed_networks_only, &addresses)?;
            // Port 0 stands for the URL's own.
            let usable = addresses.into_iter().take(ADDRESSES_MAX);
            Ok(Box::new(usable.map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

fn unknown(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, message)
}

fn explain(error: &NetError) -> io::Error {
    if error.is_nx_domain() {
        unknown("there is no such name")
    } else if error.is_no_records_found() {
        unknown("the name has no address")
    } else {
        unknown(&format!("the name servers give no address: {error}"))
    }
}

fn check_all(
    policy: &AddressPolicy,
    allowed_networks_only: bool,
    addresses: &[IpAddr],
) -> Result<(), Forbidden> {
    addresses.iter().try_for_each(|address| {
        if allowed_networks_only {
            policy.check_allowed_ip(*address)
        } else {
            policy.check_ip(*address)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn one_forbidden_address_rejects_all() {
        let policy = AddressPolicy::default();
        assert!(check_all(&policy, false, &addresses(&["8.8.8.8", "1.1.1.1"])).is_ok());
        let refused = check_all(&policy, false, &addresses(&["8.8.8.8", "10.0.0.1"]));
        assert_eq!(refused.unwrap_err().address.to_string(), "10.0.0.1");
    }

    #[test]
    fn for_plain_http_every_address_must_be_in_an_allowed_network() {
        let policy = AddressPolicy {
            allow_networks: vec!["10.0.0.0/8".parse().unwrap()],
        };
        assert!(check_all(&policy, true, &addresses(&["10.0.0.1", "10.0.0.2"])).is_ok());
        assert!(check_all(&policy, true, &addresses(&["10.0.0.1", "8.8.8.8"])).is_err());
        assert!(check_all(&policy, false, &addresses(&["10.0.0.1", "8.8.8.8"])).is_ok());
    }
}
