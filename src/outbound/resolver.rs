//! Name resolution that hands out only addresses to which something may be sent.
//!
//! The HTTP client dials exactly what this returns, so a name cannot answer harmlessly when it is
//! checked and otherwise when it is dialled (DNS rebinding). One forbidden address rejects all: a
//! name that points inside as well as outside is no receiver.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::guard::{AddressPolicy, Forbidden};

const LOOKUP_LIMIT: Duration = Duration::from_secs(2);
/// The client tries addresses one after the other; more than this only spend the time limit.
const ADDRESSES_MAX: usize = 16;

/// The system's resolver behind an [`AddressPolicy`].
pub(super) struct GuardedResolver {
    policy: AddressPolicy,
    allowed_networks_only: bool,
}

impl GuardedResolver {
    pub(super) fn new(policy: AddressPolicy, allowed_networks_only: bool) -> Self {
        Self {
            policy,
            allowed_networks_only,
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.policy.clone();
        let allowed_networks_only = self.allowed_networks_only;
        Box::pin(async move {
            // Port 0 stands for the URL's own.
            let lookup = timeout(LOOKUP_LIMIT, lookup_host((name.as_str(), 0))).await;
            let Ok(found) = lookup else {
                let message = "the name server did not answer within 2 s";
                return Err(io::Error::new(io::ErrorKind::NotFound, message).into());
            };
            let addresses: Vec<SocketAddr> = found?.take(ADDRESSES_MAX).collect();
            if addresses.is_empty() {
                let message = "the name has no address";
                return Err(io::Error::new(io::ErrorKind::NotFound, message).into());
            }
            check_all(&policy, allowed_networks_only, &addresses)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn check_all(
    policy: &AddressPolicy,
    allowed_networks_only: bool,
    addresses: &[SocketAddr],
) -> Result<(), Forbidden> {
    addresses.iter().try_for_each(|address| {
        if allowed_networks_only {
            policy.check_allowed_ip(address.ip())
        } else {
            policy.check_ip(address.ip())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts
            .iter()
            .map(|text| SocketAddr::new(text.parse().unwrap(), 0))
            .collect()
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
