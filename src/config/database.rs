//! The database's URL, which may hold a password and therefore does not print it.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

const EXPECTED: &str = "expected sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME";

/// Which database is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One file beside the server.
    Sqlite,
    /// A server of its own.
    Postgres,
}

/// A database's URL. `Debug` and `Display` show it without the password.
#[derive(Clone)]
pub struct DatabaseUrl {
    text: SecretString,
    backend: Backend,
    shown: String,
}

impl DatabaseUrl {
    /// Reads a URL. The error says what is allowed and does not quote the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| expect("this is not a database's URL"))?;
        match scheme {
            "sqlite" => {
                if sqlite_path(rest).is_empty() {
                    return Err(expect("the path is missing"));
                }
                let shown = String::from(text);
                Ok(Self {
                    text: text.into(),
                    backend: Backend::Sqlite,
                    shown,
                })
            }
            "postgres" | "postgresql" => Self::parse_postgres(text),
            _ => Err(expect("only SQLite and PostgreSQL are supported")),
        }
    }

    /// The `SQLite` file at a path.
    pub fn sqlite(path: &Path) -> Self {
        let shown = format!("sqlite:{}", path.display());
        Self {
            text: shown.as_str().into(),
            backend: Backend::Sqlite,
            shown,
        }
    }

    fn parse_postgres(text: &str) -> Result<Self, String> {
        // The parser's error quotes nothing of the text.
        let mut url = Url::parse(text)
            .map_err(|error| expect(&format!("this is not a database's URL ({error})")))?;
        if url.path().trim_matches('/').is_empty() {
            return Err(expect("the database's name is missing"));
        }
        if url.password().is_some() && url.set_password(Some("***")).is_err() {
            return Err(expect("the host is missing"));
        }
        // A password may stand in the query as well, which otherwise says nothing of interest.
        if url.query().is_some() {
            url.set_query(Some("***"));
        }
        let shown = String::from(url);
        Ok(Self {
            text: text.into(),
            backend: Backend::Postgres,
            shown,
        })
    }

    /// Which database is meant.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The whole URL, password included.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The `SQLite` file, if it is one.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        let rest = self.expose().strip_prefix("sqlite:")?;
        let path = sqlite_path(rest);
        (path != ":memory:").then(|| PathBuf::from(path))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DatabaseUrl({})", self.shown)
    }
}

/// The path in what follows `sqlite:`: with or without two slashes, and without parameters.
fn sqlite_path(rest: &str) -> &str {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    path.split('?').next().unwrap_or_default()
}

fn expect(what: &str) -> String {
    format!("{what}; {EXPECTED}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_is_understood_with_and_without_slashes() {
        for (text, path) in [
            ("sqlite:rollcall.db", "rollcall.db"),
            ("sqlite://data/rollcall.db?mode=rwc", "data/rollcall.db"),
            ("sqlite:///var/lib/rollcall.db", "/var/lib/rollcall.db"),
            ("sqlite:/var/lib/rollcall.db", "/var/lib/rollcall.db"),
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!(url.backend(), Backend::Sqlite);
            assert_eq!(url.sqlite_file().unwrap(), Path::new(path), "{text}");
            assert_eq!(url.expose(), text);
        }
        assert_eq!(
            DatabaseUrl::parse("sqlite::memory:").unwrap().sqlite_file(),
            None
        );
        let made = DatabaseUrl::sqlite(Path::new("a b/rollcall.sqlite3"));
        assert_eq!(
            made.sqlite_file().unwrap(),
            Path::new("a b/rollcall.sqlite3")
        );
    }

    #[test]
    fn a_password_is_kept_and_not_shown() {
        for text in [
            "postgres://rollcall:s3cret@db.internal:5432/rollcall?sslmode=require",
            "postgresql://rollcall@db.internal/rollcall?password=s3cret",
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!(url.backend(), Backend::Postgres);
            assert_eq!(url.expose(), text);
            let shown = format!("{url} {url:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(shown.contains("db.internal"), "{shown}");
            assert_eq!(url.sqlite_file(), None);
        }
    }

    #[test]
    fn what_is_no_database_is_refused_without_quoting_it() {
        for text in [
            "",
            "s3cret",
            "sqlite:",
            "sqlite://",
            "mysql://u:s3cret@h/d",
            "postgres://u:s3cret@h",
            "postgres://u:s3cret@h:port/d",
        ] {
            let message = DatabaseUrl::parse(text).unwrap_err();
            assert!(
                message.contains("expected sqlite:PATH or postgres://"),
                "{message}"
            );
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
