//! Who is calling: the address of the client behind trusted proxies.

use std::net::IpAddr;

use actix_web::HttpRequest;
use ipnet::IpNet;

/// The networks of proxies whose `X-Forwarded-For` counts.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is one of theirs.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The address of the client: the connection's, or, if that is a trusted proxy's, the last one in
/// `X-Forwarded-For` that is not a trusted proxy.
pub fn address(request: &HttpRequest) -> String {
    let Some(peer) = request.peer_addr() else {
        return String::new();
    };
    let trusted = request.app_data::<actix_web::web::Data<TrustedProxies>>();
    let none = TrustedProxies::default();
    let proxies = trusted.map_or(&none, |trusted| trusted.as_ref());
    let forwarded: Vec<&str> = request
        .headers()
        .get_all("X-Forwarded-For")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    client(peer.ip(), &forwarded, proxies).to_string()
}

fn client(peer: IpAddr, forwarded: &[&str], proxies: &TrustedProxies) -> IpAddr {
    let mut client = peer.to_canonical();
    for hop in forwarded.iter().rev() {
        if !proxies.contains(client) {
            break;
        }
        match hop.parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            Err(_) => break,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, forwarded: &[&str], proxies: &[&str]) -> String {
        let proxies = proxies.iter().map(|text| text.parse().unwrap());
        let proxies = TrustedProxies(proxies.collect());
        client(peer.parse().unwrap(), forwarded, &proxies).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_may_name_the_client() {
        assert_eq!(of("203.0.113.9", &["198.51.100.1"], &[]), "203.0.113.9");
        assert_eq!(
            of("10.0.0.1", &["198.51.100.1"], &["10.0.0.0/8"]),
            "198.51.100.1"
        );
        let chain = ["6.6.6.6", "198.51.100.1", "10.0.0.2"];
        assert_eq!(of("10.0.0.1", &chain, &["10.0.0.0/8"]), "198.51.100.1");
        assert_eq!(of("10.0.0.1", &["nonsense"], &["10.0.0.0/8"]), "10.0.0.1");
    }
}
