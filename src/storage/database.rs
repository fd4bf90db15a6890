//! A pool of connections on which every query has a time limit.

use std::future::Future;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement,
};

/// How long one statement may take before we give up on it; longer than the database's own limit.
const STATEMENT_SECONDS_MAX: u64 = 8;

/// A pool whose queries end in bounded time, whatever the network does.
#[derive(Clone, Debug)]
pub struct Database(DatabaseConnection);

impl Database {
    /// Puts the limit on `connection`.
    pub(super) fn new(connection: DatabaseConnection) -> Self {
        Self(connection)
    }

    /// The pool without the limit, for migrations and for closing.
    pub(super) fn unlimited(&self) -> &DatabaseConnection {
        &self.0
    }
}

/// Ends `query` with an error once it has taken too long.
pub(super) async fn limited<T>(
    query: impl Future<Output = Result<T, DbErr>> + Send,
) -> Result<T, DbErr> {
    tokio::time::timeout(Duration::from_secs(STATEMENT_SECONDS_MAX), query)
        .await
        .unwrap_or_else(|_| {
            let text = format!("no answer within {STATEMENT_SECONDS_MAX} seconds");
            Err(DbErr::Conn(RuntimeErr::Internal(text)))
        })
}

#[async_trait::async_trait]
impl ConnectionTrait for Database {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        limited(self.0.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        limited(self.0.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        limited(self.0.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        limited(self.0.query_all_raw(statement)).await
    }
}
