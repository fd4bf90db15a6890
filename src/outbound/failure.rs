//! What went wrong with a request, in one word and one line.
//!
//! The HTTP client wraps errors several layers deep and tells kinds apart only here and there;
//! [`Failure::of`] walks the whole chain, including what hides inside an I/O error. Messages never
//! contain the URL, which may carry a receiver's secret.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use super::guard::Forbidden;

const MESSAGE_CHARACTERS_MAX: usize = 200;
/// No error of ours is nested this deep; a chain that is has a loop.
const CHAIN_LINKS_MAX: usize = 32;

/// Why there is no (whole) answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The name has no address.
    Dns,
    /// The address is one to which nothing is sent.
    ForbiddenAddress,
    /// No connection was made: refused, unreachable.
    Connect,
    /// The TLS handshake, in a way that has no word of its own.
    Tls,
    /// What answers does not speak TLS.
    NotTls,
    /// What answers speaks no version of TLS that is still safe.
    TlsVersion,
    /// The certificate has expired, or is not valid yet.
    CertificateExpired,
    /// The certificate is for other names.
    CertificateName,
    /// Nobody whom this machine trusts vouches for the certificate.
    CertificateUntrusted,
    /// No connection was made in time, TLS included.
    ConnectTimeout,
    /// The head of the answer did not come in time.
    HeadTimeout,
    /// The head came in time, and the body did not.
    BodyTimeout,
    /// The connection broke, or what came back was not HTTP.
    Protocol,
}

impl FailureKind {
    /// The word that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::ForbiddenAddress => "forbidden_address",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::NotTls => "not_tls",
            Self::TlsVersion => "tls_version",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateName => "certificate_name",
            Self::CertificateUntrusted => "certificate_untrusted",
            Self::ConnectTimeout => "connect_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::Protocol => "protocol",
        }
    }

    /// Whether a stored word says that a time limit passed.
    pub fn is_timeout(word: &str) -> bool {
        [Self::ConnectTimeout, Self::HeadTimeout, Self::BodyTimeout]
            .iter()
            .any(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What went wrong, with one line for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Failure {
    /// In one word.
    pub kind: FailureKind,
    /// In one line of at most 200 characters.
    pub message: String,
}

impl Failure {
    /// A failure of the given kind; the message is cut to one short line.
    pub fn new(kind: FailureKind, message: &str) -> Self {
        Self {
            kind,
            message: one_line(message),
        }
    }

    pub(super) fn forbidden(error: &dyn Error) -> Self {
        Self::new(FailureKind::ForbiddenAddress, &error.to_string())
    }

    pub(super) fn no_head(limit: Duration) -> Self {
        let seconds = limit.as_secs_f64();
        let message = format!("no response within {seconds} s");
        Self::new(FailureKind::HeadTimeout, &message)
    }

    pub(super) fn no_end(limit: Duration) -> Self {
        let seconds = limit.as_secs_f64();
        let message = format!("no end of the response within {seconds} s");
        Self::new(FailureKind::BodyTimeout, &message)
    }

    pub(super) fn of(error: &reqwest::Error) -> Self {
        let links = chain(error);
        if let Some(forbidden) = links
            .iter()
            .find_map(|link| link.downcast_ref::<Forbidden>())
        {
            return Self::forbidden(forbidden);
        }
        Self::new(kind_of(error, &links), &deepest_message(error))
    }
}

fn kind_of(error: &reqwest::Error, links: &[&(dyn Error + 'static)]) -> FailureKind {
    if error.is_dns() {
        FailureKind::Dns
    } else if error.is_timeout() && error.is_connect() {
        FailureKind::ConnectTimeout
    } else if error.is_timeout() {
        FailureKind::HeadTimeout
    } else if !error.is_connect() {
        FailureKind::Protocol
    } else if let Some(error) = links.iter().find_map(|link| link.downcast_ref()) {
        kind_of_tls(error)
    } else if links.iter().any(|link| is_handshake(*link)) {
        FailureKind::Tls
    } else {
        FailureKind::Connect
    }
}

fn kind_of_tls(error: &rustls::Error) -> FailureKind {
    use rustls::{AlertDescription, CertificateError as Certificate, Error as Tls};
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "more ways to fail are added there; they have no word of their own here"
    )]
    match error {
        Tls::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => FailureKind::CertificateExpired,
        Tls::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => FailureKind::CertificateName,
        Tls::InvalidCertificate(_) => FailureKind::CertificateUntrusted,
        Tls::InvalidMessage(_) => FailureKind::NotTls,
        Tls::PeerIncompatible(_) | Tls::AlertReceived(AlertDescription::ProtocolVersion) => {
            FailureKind::TlsVersion
        }
        _ => FailureKind::Tls,
    }
}

/// The TLS connector wraps whatever breaks a handshake into an I/O error of kind `Other` or
/// `InvalidData`; of what the operating system says, only the end of a connection that was there
/// already can happen during a handshake.
fn is_handshake(link: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, Other, UnexpectedEof,
    };
    link.downcast_ref::<io::Error>().is_some_and(|error| {
        let kind = error.kind();
        let is_ours = matches!(kind, InvalidData | Other) && error.raw_os_error().is_none();
        is_ours
            || matches!(
                kind,
                ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof
            )
    })
}

/// The message of the innermost error: the layers above only say "error sending request".
pub(super) fn deepest_message(error: &reqwest::Error) -> String {
    chain(error)
        .last()
        .map_or_else(String::new, |link| one_line(&link.to_string()))
}

/// All errors from the outermost to the innermost.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut links = vec![error];
    while let Some(next) = links.last().copied().and_then(inner)
        && links.len() < CHAIN_LINKS_MAX
    {
        links.push(next);
    }
    links
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // An I/O error's `source` skips the very error that it wraps.
    if let Some(wrapped) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        return Some(wrapped);
    }
    error.source()
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars()
        .filter(|character| !character.is_control())
        .take(MESSAGE_CHARACTERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line() {
        let failure = Failure::new(
            FailureKind::Tls,
            &format!("a\n  b\u{1b}[31m{}", "é".repeat(500)),
        );
        assert!(failure.message.starts_with("a b[31mé"));
        assert_eq!(failure.message.chars().count(), MESSAGE_CHARACTERS_MAX);
        assert_eq!(Failure::new(FailureKind::Dns, "x").to_string(), "dns: x");
    }

    #[test]
    fn the_chain_reaches_into_io_errors() {
        let address = "10.0.0.1".parse().unwrap();
        let forbidden = Forbidden {
            address,
            what: "a private network",
        };
        let wrapped = io::Error::other(io::Error::other(forbidden.clone()));
        let links = chain(&wrapped);
        assert_eq!(
            links.last().unwrap().downcast_ref::<Forbidden>(),
            Some(&forbidden)
        );
    }
}
