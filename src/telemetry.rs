//! Logs: one subscriber for the whole process, on standard error.
//!
//! Standard output belongs to the commands' results. Text is for people at a terminal, JSON (one
//! object a line) for everything else. As a last line of defence every line passes a filter that
//! blanks what looks like one of our secrets: code must not log them, but code has bugs.
//! Called once, by `main`.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How our secrets begin, and how many characters must follow: the short prefix of API keys also
/// ends ordinary words (`risk_…`, `task_…`).
const SECRETS: [(&[u8], usize); 5] = [
    (b"rc_scim_", 16),
    (b"rc_link_", 16),
    (b"whsec_", 16),
    (b"rcmk_", 16),
    (b"sk_", 40),
];
/// Libraries that are heard from warnings on.
const QUIET: &str = "actix_server=warn,sea_orm_migration=warn,sqlx=warn";
const BLANK: &[u8] = "…".as_bytes();

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// The text names no [`Format`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("expected \"auto\", \"text\" or \"json\"")]
pub struct UnknownFormat;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is not a filter that tracing understands.
    #[error(
        "{0:?} is not a log level: expected error, warn, info, debug or trace, or a filter such as \"info,rollcall=debug\""
    )]
    NotALevel(String),
    /// A subscriber is set already.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sets up logging for the process. A second call changes nothing and returns an error.
pub fn init(format: Format, level: &str) -> Result<(), TelemetryError> {
    let is_terminal = io::stderr().is_terminal();
    let is_text = match format {
        Format::Auto => is_terminal,
        Format::Text => true,
        Format::Json => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(Redacted(io::stderr));
    let set = if is_text {
        // On a terminal the subscriber decides by itself and heeds NO_COLOR.
        if is_terminal {
            builder.try_init()
        } else {
            builder.with_ansi(false).try_init()
        }
    } else {
        builder.json().flatten_event(true).try_init()
    };
    set.map_err(|_already_set| TelemetryError::AlreadySet)
}

/// Is this a level that [`init`] would take?
pub fn check_level(level: &str) -> Result<(), TelemetryError> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    // A lone word that is no level would be taken for a target's name and enable next to nothing.
    let is_understood = level.split(',').all(|directive| {
        let directive = directive.trim();
        directive.contains(['=', '[', ':']) || is_level(directive)
    });
    if !is_understood {
        return Err(TelemetryError::NotALevel(String::from(level)));
    }
    // What libraries tell about themselves at each start is for their own developers; naming one of them
    // in the setting brings it back.
    let directives = format!("{QUIET},{level}");
    EnvFilter::try_new(directives).or(Err(TelemetryError::NotALevel(String::from(level))))
}

fn is_level(text: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"]
        .iter()
        .any(|level| text.eq_ignore_ascii_case(level))
}

/// Makes writers that blank secrets.
struct Redacted<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Redacted<M> {
    type Writer = RedactedWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactedWriter(self.0.make_writer())
    }
}

/// Blanks secrets in what is written. The subscriber writes each line in one piece.
struct RedactedWriter<W>(W);

impl<W: Write> Write for RedactedWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write_all(&redact(buffer))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W> fmt::Debug for RedactedWriter<W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RedactedWriter")
    }
}

/// The line without what looks like one of our secrets.
pub fn redact(line: &[u8]) -> Vec<u8> {
    let mut redacted = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        if let Some((prefix, after)) = secret_at_start(rest) {
            redacted.extend_from_slice(prefix);
            redacted.extend_from_slice(BLANK);
            rest = after;
        } else {
            redacted.push(*first);
            rest = after;
        }
    }
    redacted
}

/// The secret's prefix and what follows the secret.
fn secret_at_start(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, length_min) = SECRETS
        .iter()
        .find(|(prefix, _)| text.starts_with(prefix))?;
    let body = text.strip_prefix(*prefix)?;
    let is_body = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+/=".contains(byte);
    let length = body.iter().take_while(|byte| is_body(byte)).count();
    (length >= *length_min).then(|| (*prefix, body.get(length..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(line: &str) -> String {
        String::from_utf8(redact(line.as_bytes())).unwrap()
    }

    #[test]
    fn secrets_are_blanked_wherever_they_stand_and_nothing_else_is() {
        let key = "rcmk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(redacted(&format!("key={key} x")), "key=rcmk_… x");
        assert_eq!(
            redacted(
                r#"{"a":"Bearer rc_scim_0123456789abcdefghijklm","b":"whsec_AAECAwQFBgcICQo+/x0="}"#
            ),
            r#"{"a":"Bearer rc_scim_…","b":"whsec_…"}"#
        );
        for line in [
            "risk_0123456789abcdefghij",
            "sk_test",
            "whsec_",
            "task_0123456789abcdefgh é",
        ] {
            assert_eq!(redacted(line), line);
        }
    }

    #[test]
    fn a_writer_reports_what_it_was_given() {
        let mut writer = RedactedWriter(Vec::new());
        let line = b"whsec_0123456789abcdefghijklmn\n";
        assert_eq!(writer.write(line).unwrap(), line.len());
        assert_eq!(writer.0, "whsec_…\n".as_bytes());
    }

    #[test]
    fn levels_and_formats_are_checked() {
        for level in [
            "info",
            "DEBUG",
            "info,rollcall=debug",
            "warn,sqlx::query=off",
        ] {
            assert!(check_level(level).is_ok(), "{level}");
        }
        for level in ["", "loud", "info,loud", "rollcall=loud"] {
            assert!(check_level(level).is_err(), "{level}");
        }
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
        assert!("yaml".parse::<Format>().is_err());
    }

    #[test]
    fn a_second_setup_is_an_error_and_not_a_panic() {
        let _first = init(Format::Json, "off");
        assert!(matches!(
            init(Format::Auto, "off"),
            Err(TelemetryError::AlreadySet)
        ));
    }
}
