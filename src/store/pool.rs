//! Connections for short reads, shared by requests or by streams.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection, Executor, Postgres};

use super::filter::{IdRange, id_range};
use super::{Database, InStatement, StoreError};
use crate::query::Filter;

/// How long a request waits for a connection.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(2);
/// How long a stream does, for which nobody waits.
const STREAM_ACQUIRES_WITHIN: Duration = Duration::from_mins(1);
/// A connection that was idle for longer is asked whether it still lives before it is used: after
/// a restart of the server none does.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Connections that read and cannot write, made as they are needed. Clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: PgPool,
}

impl Pool {
    /// Of so many connections at most, for requests. Needs tokio's runtime.
    pub fn of(database: &Database, connections: u32) -> Self {
        Self::within(database, connections, ACQUIRE_WITHIN)
    }

    /// The same for streams, of which there may be many more than connections.
    pub fn of_streams(database: &Database, connections: u32) -> Self {
        Self::within(database, connections, STREAM_ACQUIRES_WITHIN)
    }

    fn within(database: &Database, connections: u32, limit: Duration) -> Self {
        let options = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(limit)
            .test_before_acquire(false)
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    if state.idle_for > TRUSTED_FOR {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async move {
                    let settings = sqlx::raw_sql(
                        "/* pool_connect */ SET statement_timeout = '10s';
                         SET default_transaction_read_only = on;
                         SET search_path = pg_catalog, pg_temp",
                    );
                    connection.execute(settings).await.map(drop)
                })
            });
        Self { pool: options.connect_lazy_with(database.options.clone()) }
    }

    /// The ids of a filter's rows, as far as its bounds of ids and times tell.
    pub(super) async fn id_range(&self, filter: &Filter) -> Result<IdRange, StoreError> {
        let mut connection = self.pool.acquire().await.in_statement("id_range")?;
        id_range(&mut connection, filter).await
    }

    /// A connection for several reads.
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        self.pool.acquire().await.in_statement("acquire")
    }

    pub(super) fn get(&self) -> &PgPool {
        &self.pool
    }
}
