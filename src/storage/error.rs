//! What can go wrong between us and the database.

use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

/// A failure of the database, sorted by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached or is too busy; the same request may succeed later.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// COMMIT was sent and its answer did not arrive: the write either happened whole or not at all.
    #[error("the outcome of the commit is unknown")]
    OutcomeUnknown(#[source] DbErr),
    /// The server is stopping and takes no more writes.
    #[error("the server is shutting down")]
    Stopping,
    /// A use case panicked; nothing of it was written.
    #[error("the operation panicked")]
    Panicked,
    /// Anything else, which is a defect of ours or a damaged database.
    #[error("the database refused a statement")]
    Database(#[source] DbErr),
}

impl Error {
    /// Whether the same request may succeed later, unchanged.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::OutcomeUnknown(_) | Self::Stopping => true,
            Self::Panicked | Self::Database(_) => false,
        }
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if is_transient(&error) {
            Self::Unavailable(error)
        } else {
            Self::Database(error)
        }
    }
}

/// Whether a unique index refused a row.
pub fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

/// The code by which the database says what is wrong.
pub(super) fn code_of(error: &DbErr) -> Option<String> {
    let (DbErr::Conn(RuntimeErr::SqlxError(cause))
    | DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return None;
    };
    let code = cause.as_database_error()?.code()?;
    Some(code.into_owned())
}

fn is_transient(error: &DbErr) -> bool {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else {
        return matches!(error, DbErr::ConnectionAcquire(_));
    };
    let RuntimeErr::SqlxError(cause) = cause else {
        // What we say ourselves when an answer takes too long.
        return matches!(error, DbErr::Conn(_));
    };
    if let sqlx::Error::Database(refusal) = &**cause {
        return refusal.code().is_some_and(|code| is_transient_code(&code));
    }
    matches!(
        **cause,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    )
}

/// PostgreSQL: connection, resources, intervention, locks, serialization, standby. SQLite: busy, locked,
/// i/o error, full, cannot open, and their extended codes.
fn is_transient_code(code: &str) -> bool {
    const POSTGRES_CLASSES: [&str; 4] = ["08", "53", "57", "40"];
    const POSTGRES_CODES: [&str; 3] = ["55P03", "25006", "25P03"];
    const SQLITE_PRIMARY: [i64; 5] = [5, 6, 10, 13, 14];
    if code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return POSTGRES_CODES.contains(&code)
            || POSTGRES_CLASSES.iter().any(|class| code.starts_with(class));
    }
    code.parse::<i64>()
        .is_ok_and(|number| SQLITE_PRIMARY.contains(&(number & 0xff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passing_faults_are_transient() {
        for code in [
            "57P01", "08006", "55P03", "40001", "53300", "5", "13", "266",
        ] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["23505", "42P01", "1", "19", "2067"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
