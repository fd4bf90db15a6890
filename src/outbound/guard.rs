//! Where webhooks may go: rules about URLs and addresses. Pure.
//!
//! A webhook's URL comes from a customer, so without rules it could make this server call its own
//! network (server-side request forgery). Two gates:
//!
//! - [`AddressPolicy::check_url`], when a URL is entered and before every request: https on 443 or
//!   8443, no user name, no disguised address;
//! - [`AddressPolicy::check_ip`], for every address that a name resolves to, in the resolver that
//!   the connection itself uses, so that the address checked is the address dialled.
//!
//! An address inside an IPv6 form (mapped, compatible, NAT64, 6to4, Teredo) is checked as well as
//! its wrapping. Networks in `allow_networks` are exempt: there plain http and any port are fine.
//! The tables follow the IANA special-purpose registries (RFC 6890 and its successors).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

const URL_BYTES_MAX: usize = 2_048;
/// RFC 1035, section 2.3.4.
const HOST_BYTES_MAX: usize = 253;
const PORTS: [u16; 2] = [443, 8443];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(start: [u16; 3], prefix: u8) -> Ipv6Net {
    let [a, b, c] = start;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

const FORBIDDEN_V4: [(Ipv4Net, &str); 18] = [
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "a private network"),
    (v4(100, 100, 100, 200, 32), "a cloud's metadata service"),
    (v4(100, 64, 0, 0, 10), "a carrier's shared network"),
    (v4(127, 0, 0, 0, 8), "this machine"),
    (v4(168, 63, 129, 16, 32), "a cloud's metadata service"),
    (
        v4(169, 254, 0, 0, 16),
        "link-local, where clouds keep their metadata service",
    ),
    (v4(172, 16, 0, 0, 12), "a private network"),
    (v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "for documentation"),
    (v4(192, 88, 99, 0, 24), "a retired relay network"),
    (v4(192, 168, 0, 0, 16), "a private network"),
    (v4(198, 18, 0, 0, 15), "for benchmarks"),
    (v4(198, 51, 100, 0, 24), "for documentation"),
    (v4(203, 0, 113, 0, 24), "for documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

const FORBIDDEN_V6: [(Ipv6Net, &str); 15] = [
    (
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
        "unspecified",
    ),
    (
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
        "this machine",
    ),
    (v6([0, 0, 0], 96), "an IPv4-compatible address"),
    (v6([0x64, 0xff9b, 0], 96), "a NAT64 address"),
    (v6([0x64, 0xff9b, 1], 48), "a local NAT64 network"),
    (v6([0x100, 0, 0], 64), "discarded"),
    (v6([0x2001, 0, 0], 23), "reserved for protocols"),
    (v6([0x2001, 0xdb8, 0], 32), "for documentation"),
    (v6([0x2002, 0, 0], 16), "a 6to4 address"),
    (v6([0x3fff, 0, 0], 20), "for documentation"),
    (v6([0x5f00, 0, 0], 16), "reserved for segment routing"),
    (v6([0xfc00, 0, 0], 7), "a private network"),
    (v6([0xfe80, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0], 10), "a private network"),
    (v6([0xff00, 0, 0], 8), "multicast"),
];
/// Everything that may be on the internet at all (RFC 4291, section 2.4 and its IANA registry).
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// An address to which nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is {what}, where no webhooks are sent; \
     if that is intended, add its network to webhooks.allow_networks"
)]
pub struct Forbidden {
    /// The address, as it was dialled.
    pub address: IpAddr,
    /// What it is, for a person.
    pub what: &'static str,
}

/// Why a webhook's URL is refused. Each text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It cannot be parsed.
    #[error("this is not a URL ({0}); expected something like https://example.com/webhooks")]
    NotAUrl(String),
    /// It is too long, or its host is.
    #[error("the {0} is too long: at most {1} characters")]
    TooLong(&'static str, usize),
    /// It is neither https nor, towards an allowed network, http.
    #[error("the URL must begin with https://")]
    Scheme,
    /// Plain http towards the internet.
    #[error(
        "the URL must begin with https://; plain http:// is possible only towards a network \
         in webhooks.allow_networks"
    )]
    PlainHttp,
    /// It contains a user name or a password.
    #[error("the URL must not contain a user name or password; take out what stands before the @")]
    UserInfo,
    /// The port is not one of those allowed.
    #[error(
        "port {0} is not possible: use 443 or 8443; \
         other ports only towards a network in webhooks.allow_networks"
    )]
    Port(u16),
    /// The host is an address in disguise, such as `0x7f.1`.
    #[error("the host is another spelling of {0}; write the address as {0} or use a name")]
    DisguisedAddress(IpAddr),
    /// The host is, or names, an address to which nothing is sent.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The host names this machine.
    #[error(
        "the host names this machine; to send webhooks there, \
         add 127.0.0.0/8 and ::1/128 to webhooks.allow_networks"
    )]
    ThisMachine,
}

/// A URL that may be sent to, with what remains to be checked when its name is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The URL as parsed.
    pub url: Url,
    /// Must every address it resolves to lie in an allowed network? So it is for plain http and
    /// for unusual ports.
    pub allowed_networks_only: bool,
}

/// Which networks are exempt from the rules.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    /// The exempt networks; empty for a server that sends to the internet only.
    pub allow_networks: Vec<IpNet>,
}

impl AddressPolicy {
    /// May something be sent to this address?
    pub fn check_ip(&self, address: IpAddr) -> Result<(), Forbidden> {
        let forbidden = |what| Err(Forbidden { address, what });
        if let Some(what) = embedded_v4(address).and_then(|inner| self.objection(inner.into())) {
            return forbidden(what);
        }
        self.objection(address.to_canonical())
            .map_or(Ok(()), forbidden)
    }

    /// May something be sent to this address over plain http or to any port?
    pub fn check_allowed_ip(&self, address: IpAddr) -> Result<(), Forbidden> {
        self.check_ip(address)?;
        if self.is_allowed(address.to_canonical()) {
            return Ok(());
        }
        let what =
            "on the internet, and this URL's plain http or port is for allowed networks only";
        Err(Forbidden { address, what })
    }

    /// May a webhook have this URL, as far as can be told without resolving its name?
    pub fn check_url(&self, text: &str) -> Result<Target, UrlError> {
        let text = text.trim();
        if text.len() > URL_BYTES_MAX {
            return Err(UrlError::TooLong("URL", URL_BYTES_MAX));
        }
        // The parser drops these or takes them for slashes; nobody writes them in good faith.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(UrlError::NotAUrl(String::from(
                "it contains a space or a backslash",
            )));
        }
        let url = Url::parse(text).map_err(|error| UrlError::NotAUrl(error.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(UrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::UserInfo);
        }
        let allowed_networks_only = match url.host() {
            None | Some(Host::Domain("")) => {
                return Err(UrlError::NotAUrl(String::from("it has no host")));
            }
            Some(Host::Domain(name)) => self.check_name(name, &url)?,
            Some(Host::Ipv4(address)) => self.check_literal(address.into(), text, &url)?,
            Some(Host::Ipv6(address)) => self.check_literal(address.into(), text, &url)?,
        };
        Ok(Target {
            url,
            allowed_networks_only,
        })
    }

    fn check_name(&self, name: &str, url: &Url) -> Result<bool, UrlError> {
        if name.len() > HOST_BYTES_MAX {
            return Err(UrlError::TooLong("host name", HOST_BYTES_MAX));
        }
        let may_be_allowed = !self.allow_networks.is_empty();
        // RFC 6761, section 6.3. The resolver would refuse it too, but only at the first delivery.
        let bare = name.strip_suffix('.').unwrap_or(name);
        if !may_be_allowed && (bare == "localhost" || bare.ends_with(".localhost")) {
            return Err(UrlError::ThisMachine);
        }
        match check_usual(url) {
            Ok(()) => Ok(false),
            Err(_unusual) if may_be_allowed => Ok(true),
            Err(unusual) => Err(unusual),
        }
    }

    fn check_literal(&self, address: IpAddr, text: &str, url: &Url) -> Result<bool, UrlError> {
        self.check_ip(address)?;
        if self.is_allowed(address.to_canonical()) {
            return Ok(true);
        }
        if !is_written_as(text, address) {
            return Err(UrlError::DisguisedAddress(address));
        }
        check_usual(url).map(|()| false)
    }

    /// What speaks against an address, taken by itself.
    fn objection(&self, address: IpAddr) -> Option<&'static str> {
        if self.is_allowed(address) {
            None
        } else {
            forbidden(address)
        }
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        self.allow_networks
            .iter()
            .any(|network| network.contains(&address))
    }
}

fn check_usual(url: &Url) -> Result<(), UrlError> {
    if url.scheme() != "https" {
        return Err(UrlError::PlainHttp);
    }
    let port = url.port_or_known_default().unwrap_or_default();
    if PORTS.contains(&port) {
        Ok(())
    } else {
        Err(UrlError::Port(port))
    }
}

fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => FORBIDDEN_V4
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, what)| *what),
        IpAddr::V6(address) => FORBIDDEN_V6
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, what)| *what)
            .or_else(|| (!GLOBAL_V6.contains(&address)).then_some("not on the internet")),
    }
}

/// The IPv4 address that an IPv6 address carries, other than a mapped one (which simply *is* that
/// IPv4 address).
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible (RFC 4291) and IPv4-translated (RFC 2765); NAT64 (RFC 6052); local NAT64
        // with a /96 (RFC 8215); 6to4 (RFC 3056).
        [0, 0, 0, 0, 0 | 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(from(high, low)),
        // Teredo (RFC 4380) hides the client's address by inverting it.
        [0x2001, 0, _, _, _, _, high, low] => Some(from(!high, !low)),
        _ => None,
    }
}

/// Does the URL's text spell the address in the usual way? The parser also takes octal,
/// hexadecimal and shortened spellings, which serve to slip past filters.
fn is_written_as(text: &str, address: IpAddr) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match address {
        IpAddr::V4(address) => authority
            .split(':')
            .next()
            .is_some_and(|host| host == address.to_string()),
        IpAddr::V6(address) => authority
            .strip_prefix('[')
            .and_then(|inner| inner.split(']').next())
            .and_then(|host| host.parse::<Ipv6Addr>().ok())
            .is_some_and(|written| written == address),
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
