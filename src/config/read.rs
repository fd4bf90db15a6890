//! From a raw value to a typed one, one function per kind of setting.
//!
//! A value from the environment is always text, one from a file may be text, number, list or
//! boolean; both are understood everywhere. Each error says what was found and what is allowed.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use secrecy::SecretString;
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};
use url::Url;

use super::{DatabaseUrl, Span};
use crate::telemetry::Format;

const NAME_SERVER_PORT: u16 = 53;

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Flag(bool),
    Whole(i64),
    Text(String),
    List(Vec<String>),
    Other(IgnoredAny),
}

impl Raw {
    fn read<'de, D: Deserializer<'de>>(deserializer: D, expected: &str) -> Result<Self, D::Error> {
        match Self::deserialize(deserializer)? {
            Self::Other(IgnoredAny) => Err(unexpected("this kind of value", expected)),
            raw @ (Self::Flag(_) | Self::Whole(_) | Self::Text(_) | Self::List(_)) => Ok(raw),
        }
    }

    /// As it was written, for a message.
    fn shown(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(whole) => whole.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::List(_) | Self::Other(_) => String::from("a list"),
        }
    }
}

fn unexpected<E: Error>(found: impl Display, expected: &str) -> E {
    E::custom(format_args!("{found} is not possible; expected {expected}"))
}

/// Reads text and parses it; the message quotes the text.
fn parsed<'de, D, T>(
    deserializer: D,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    let raw = Raw::read(deserializer, expected)?;
    let value = if let Raw::Text(text) = &raw {
        parse(text.trim())
    } else {
        None
    };
    value.ok_or_else(|| unexpected(raw.shown(), expected))
}

/// As [`parsed`], with "" for nothing.
fn parsed_if_set<'de, D, T>(
    deserializer: D,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
{
    parsed(deserializer, expected, |text| {
        if text.is_empty() {
            Some(None)
        } else {
            parse(text).map(Some)
        }
    })
}

/// Reads text that is never quoted. `None` when it is "".
fn unquoted<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
) -> Result<Option<String>, D::Error> {
    match Raw::read(deserializer, expected)? {
        Raw::Text(text) if text.trim().is_empty() => Ok(None),
        Raw::Text(text) => Ok(Some(String::from(text.trim()))),
        Raw::Flag(_) | Raw::Whole(_) | Raw::List(_) | Raw::Other(_) => {
            Err(unexpected("what is set", expected))
        }
    }
}

pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let expected = "IP:PORT such as 127.0.0.1:8080";
    match Raw::read(deserializer, expected)? {
        Raw::Text(text) => text.trim().parse().map_err(|_not_an_address| {
            D::Error::custom(format_args!(
                "{text:?} is not an address; expected {expected}"
            ))
        }),
        raw @ (Raw::Flag(_) | Raw::Whole(_) | Raw::List(_) | Raw::Other(_)) => {
            Err(unexpected(raw.shown(), expected))
        }
    }
}

pub(super) fn optional_url<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Url>, D::Error> {
    let expected = "a URL such as https://directory.example.com";
    parsed_if_set(deserializer, expected, |text| Url::parse(text).ok())
}

pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    parsed(deserializer, "a path", |text| {
        (!text.is_empty()).then(|| PathBuf::from(text))
    })
}

pub(super) fn optional_path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    parsed_if_set(deserializer, "a path", |text| Some(PathBuf::from(text)))
}

pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    parsed(deserializer, "text", |text| {
        (!text.is_empty()).then(|| String::from(text))
    })
}

pub(super) fn optional_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    Ok(unquoted(deserializer, "a key as printed by `rollcall key new`")?.map(Into::into))
}

pub(super) fn optional_database_url<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DatabaseUrl>, D::Error> {
    unquoted(deserializer, "a URL such as sqlite:PATH")?
        .map(|text| DatabaseUrl::parse(&text).map_err(D::Error::custom))
        .transpose()
}

pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let expected = "true or false";
    match Raw::read(deserializer, expected)? {
        Raw::Flag(flag) => Ok(flag),
        Raw::Text(text) if text.trim().eq_ignore_ascii_case("true") => Ok(true),
        Raw::Text(text) if text.trim().eq_ignore_ascii_case("false") => Ok(false),
        raw @ (Raw::Text(_) | Raw::Whole(_) | Raw::List(_) | Raw::Other(_)) => {
            Err(unexpected(raw.shown(), expected))
        }
    }
}

pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    whole(deserializer, "a whole number from 0 to 4294967295")
}

pub(super) fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    const EXPECTED: &str = "a number with s, m, h or d, such as 72h, or 0";
    let raw = Raw::read(deserializer, EXPECTED)?;
    let text = raw.shown();
    Span::parse(text.trim_matches('"')).ok_or_else(|| unexpected(&text, EXPECTED))
}

pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    whole(deserializer, "a whole number of bytes")
}

fn whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(
    deserializer: D,
    expected: &str,
) -> Result<T, D::Error> {
    let raw = Raw::read(deserializer, expected)?;
    let number = match &raw {
        Raw::Whole(number) => Some(*number),
        Raw::Text(text) => text.trim().parse::<i64>().ok(),
        Raw::Flag(_) | Raw::List(_) | Raw::Other(_) => None,
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| unexpected(raw.shown(), expected))
}

/// A list, or text with commas or spaces in between.
fn parts<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
) -> Result<Vec<String>, D::Error> {
    match Raw::read(deserializer, expected)? {
        Raw::List(parts) => Ok(parts),
        Raw::Text(text) => Ok(text
            .split(|character: char| character == ',' || character.is_whitespace())
            .filter(|part| !part.is_empty())
            .map(String::from)
            .collect()),
        raw @ (Raw::Flag(_) | Raw::Whole(_) | Raw::Other(_)) => {
            Err(unexpected(raw.shown(), expected))
        }
    }
}

pub(super) fn name_servers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let expected = "addresses of name servers such as 10.0.0.53, [::1]:5353";
    let server = |part: &String| {
        part.parse::<SocketAddr>()
            .or_else(|_no_port| {
                part.parse::<IpAddr>()
                    .map(|address| SocketAddr::new(address, NAME_SERVER_PORT))
            })
            .map_err(|_no_address| {
                D::Error::custom(format_args!(
                    "{part:?} is not the address of a name server; expected {expected}"
                ))
            })
    };
    parts(deserializer, expected)?.iter().map(server).collect()
}

pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let expected = "addresses and networks such as 10.0.0.0/8, ::1";
    let parts = parts(deserializer, expected)?;
    let network = |part: &String| {
        part.parse::<IpNet>()
            .map(|network| network.trunc())
            .or_else(|_no_network| part.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_no_address| {
                D::Error::custom(format_args!(
                    "{part:?} is not a network; expected {expected}"
                ))
            })
    };
    parts.iter().map(network).collect()
}

pub(super) fn log_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Format, D::Error> {
    parsed(deserializer, "\"auto\", \"text\" or \"json\"", |text| {
        text.parse().ok()
    })
}
