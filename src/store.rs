//! All SQL of the service. sqlx does not leave this module, but for the connection options that
//! configuration makes and the errors that these functions return.
//!
//! Every statement starts with a comment that names its function, so that the server's log
//! leads back here.

pub mod append;
pub mod checkpoints;
pub mod checks;
pub mod copy;
pub mod feed;
mod filter;
pub mod guards;
pub mod keys;
pub mod lockdown;
pub mod migrate;
pub mod page;
pub mod past_checks;
pub mod pool;
pub mod read;
pub mod retention;
pub mod rows;
pub mod signals;
pub mod stats;
pub mod story;
pub mod tiles;
pub mod trades;

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError};
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

use crate::chains::constraints::ledger_code;

/// How long a connection may take to be made: one that nobody answers must not end a task for ever.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What work that must be short is allowed; `statement` names it in the error.
pub(crate) async fn within<T>(
    limit: Duration,
    statement: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(time_is_up(statement, limit)))
}

pub(crate) fn time_is_up(statement: &'static str, limit: Duration) -> StoreError {
    StoreError::Timeout { statement, limit_ms: limit.as_millis() }
}

/// How to reach the database as one role.
#[derive(Clone)]
pub struct Database {
    options: PgConnectOptions,
}

// The options may hold a password.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("host", &self.options.get_host())
            .field("user", &self.options.get_username())
            .field("database", &self.options.get_database())
            .finish_non_exhaustive()
    }
}

impl Database {
    /// From a `postgresql://` URL.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::from_sqlx("connect", error))?
            .application_name("audit-ledger")
            // Statements may hold what was delivered; telemetry never does.
            .disable_statement_logging();
        Ok(Self { options })
    }

    /// The role that it connects as.
    pub fn user(&self) -> &str {
        self.options.get_username()
    }

    /// A connection of its own, closed when dropped.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        timeout(CONNECT_WITHIN, PgConnection::connect_with(&self.options))
            .await
            .map_err(|_| time_is_up("connect", CONNECT_WITHIN))?
            .map_err(|error| StoreError::from_sqlx("connect", error))
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        sqlx::query("/* ping */ SELECT 1").execute(&mut connection).await.in_statement("ping")?;
        let _ = connection.close().await;
        Ok(())
    }
}

/// The database did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It refused a statement.
    #[error("{statement}: the database answered {sqlstate}: {message}")]
    Refused {
        /// The function whose statement it was.
        statement: &'static str,
        /// PostgreSQL's code for the condition.
        sqlstate: String,
        /// The constraint, where one was violated.
        constraint: Option<String>,
        /// The primary message only: DETAIL may repeat a row.
        message: String,
    },
    /// The connection could not be made, or broke.
    #[error("{statement}: {source}")]
    Connection {
        /// The function whose statement it was.
        statement: &'static str,
        /// What sqlx says.
        source: sqlx::Error,
    },
    /// It took longer than it may.
    #[error("{statement}: no answer from the database within {limit_ms} ms")]
    Timeout {
        /// The function whose statement it was.
        statement: &'static str,
        /// The bound.
        limit_ms: u128,
    },
    /// What was read contradicts what the ledger guarantees.
    #[error("{statement}: the database contradicts itself: {what}")]
    Contradiction {
        /// The function whose statement it was.
        statement: &'static str,
        /// What does not fit.
        what: String,
    },
    /// The database is not the one that this program needs.
    #[error("{0}")]
    Unsuitable(String),
}

impl StoreError {
    fn from_sqlx(statement: &'static str, error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => Self::Refused {
                statement,
                sqlstate: error.code().map(std::borrow::Cow::into_owned).unwrap_or_default(),
                constraint: error.constraint().map(str::to_owned),
                message: error.message().to_owned(),
            },
            // An answer came, and is not what the schema lets stand there: somebody has changed it.
            // To try again would not help.
            error @ (sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::RowNotFound) => {
                Self::Contradiction { statement, what: error.to_string() }
            }
            source => Self::Connection { statement, source },
        }
    }

    /// PostgreSQL's code, where it answered with one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// The ledger's code for what the database refused.
    pub fn ledger_code(&self) -> Option<&'static str> {
        match self {
            Self::Refused { sqlstate, constraint, .. } => {
                ledger_code(sqlstate, constraint.as_deref())
            }
            _ => None,
        }
    }

    /// Whether a row's values are at fault: sent again, it is refused again, and other rows would
    /// not be.
    ///
    /// A key that is taken, or a hash that is not right, is no such fault: see
    /// [`is_contradiction`](Self::is_contradiction).
    pub fn is_fault_of_a_row(&self) -> bool {
        let Self::Refused { sqlstate, constraint, .. } = self else { return false };
        match (sqlstate.get(..2), sqlstate.as_str()) {
            // Data exceptions, and limits of the program (a stack too deep);
            // not_null_violation, foreign_key_violation.
            (Some("22" | "54"), _) | (_, "23502" | "23503") => true,
            // check_violation
            (_, "23514") => {
                !constraint.as_ref().is_some_and(|name| name.ends_with("_row_hash_correct"))
            }
            _ => false,
        }
    }

    /// Whether the database is away, or has no time or means for this now; else something is wrong.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Timeout { .. } => true,
            Self::Refused { sqlstate, .. } => {
                // Connection exceptions, insufficient resources, operator intervention (a
                // statement that took too long, a server that stops); lock_not_available.
                matches!(sqlstate.get(..2), Some("08" | "53" | "57")) || sqlstate == "55P03"
            }
            Self::Contradiction { .. } | Self::Unsuitable(_) => false,
        }
    }

    /// Whether the ledger contradicts itself: ids, links and hashes are made here under its lock, so
    /// a key that is taken, or a link that is refused, is nobody's mistake. Nor is it when the
    /// service may not do what the migrations let it, or when something raises errors of its own:
    /// then rights, triggers or the data itself are not what they were.
    pub fn is_contradiction(&self) -> bool {
        let Self::Refused { sqlstate, constraint, .. } = self else {
            return matches!(self, Self::Contradiction { .. });
        };
        match (sqlstate.get(..2), sqlstate.as_str()) {
            // The ledger's own codes; triggered_data_change_violation; syntax error or access rule
            // violation; what PL/pgSQL raises; internal errors, corrupted data among them.
            (Some("AU" | "27" | "42" | "P0" | "XX"), _) | (_, "23505") => true,
            (_, "23514") => {
                constraint.as_ref().is_some_and(|name| name.ends_with("_row_hash_correct"))
            }
            _ => false,
        }
    }

    /// Whether what the statement names is not there, or not for this login (SQLSTATE class 42).
    pub fn is_missing(&self) -> bool {
        self.sqlstate().is_some_and(|code| code.starts_with("42"))
    }

    /// Whether the lock was not to be had in time (`lock_not_available`).
    pub fn is_lock_timeout(&self) -> bool {
        self.sqlstate() == Some("55P03")
    }
}

/// Turns sqlx's errors into the store's, with the name of the statement.
trait InStatement<T> {
    fn in_statement(self, statement: &'static str) -> Result<T, StoreError>;
}

impl<T> InStatement<T> for Result<T, sqlx::Error> {
    fn in_statement(self, statement: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::from_sqlx(statement, error))
    }
}

/// Whether an error of COMMIT says that the transaction was rolled back. Anything else, a broken
/// connection or a session ended by an administrator, leaves the outcome unknown.
fn says_rolled_back(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| error.severity() == sqlx::postgres::PgSeverity::Error)
}
