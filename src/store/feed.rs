//! Rows of several chains in the order of the log, a page at a time.

use chrono::DateTime;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgExecutor, Row};

use super::filter::{IdRange, condition};
use super::pool::Pool;
use super::rows::{Query, StoredRow, select};
use super::{Database, InStatement, StoreError};
use crate::query::Filter;

/// The channel on which instances tell each other that something was appended.
const CHANNEL: &str = "ledger_appended";
/// Leaves that one page looks at, at most.
const PAGE_LEAVES: i64 = 512;

/// A part of the log.
#[derive(Debug)]
pub struct LogPage {
    /// Its rows that meet the filters, in the order of their leaves.
    pub rows: Vec<StoredRow>,
    /// The leaf with which the next page begins.
    pub next_leaf: i64,
    /// Whether this page reached the log's end.
    pub is_last: bool,
}

/// Leaves in the log.
pub async fn log_size(pool: &Pool) -> Result<i64, StoreError> {
    count_leaves(pool.get()).await
}

pub(super) async fn count_leaves(executor: impl PgExecutor<'_>) -> Result<i64, StoreError> {
    sqlx::query_scalar(
        "/* log_size */ SELECT coalesce(pg_catalog.max(leaf_index) + 1, 0) FROM public.ledger_log",
    )
    .fetch_one(executor)
    .await
    .in_statement("log_size")
}

/// The rows from this leaf on, and before that one, which meet the filters: one for each chain that is
/// wanted.
pub async fn read_log_page(
    pool: &Pool,
    filters: &[Filter],
    from_leaf: i64,
    before_leaf: i64,
) -> Result<LogPage, StoreError> {
    const STATEMENT: &str = "read_log_page";
    let entries = sqlx::query(
        "/* read_log_page */
         SELECT chain::text, pg_catalog.array_agg(id) AS ids, pg_catalog.max(leaf_index) AS last_leaf,
                pg_catalog.count(*) AS leaves
         FROM (SELECT leaf_index, chain, id FROM public.ledger_log
               WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index LIMIT $3) AS page
         GROUP BY chain",
    )
    .bind(from_leaf)
    .bind(before_leaf)
    .bind(PAGE_LEAVES)
    .fetch_all(pool.get())
    .await
    .in_statement(STATEMENT)?;
    let mut page = LogPage { rows: Vec::new(), next_leaf: from_leaf, is_last: true };
    let mut leaves = 0;
    for entry in &entries {
        let chain: String = entry.try_get("chain").in_statement(STATEMENT)?;
        let last_leaf: i64 = entry.try_get("last_leaf").in_statement(STATEMENT)?;
        leaves += entry.try_get::<i64, _>("leaves").in_statement(STATEMENT)?;
        page.next_leaf = page.next_leaf.max(last_leaf + 1);
        let Some(filter) = filters.iter().find(|filter| filter.chain.name == chain) else {
            continue;
        };
        let ids: Vec<i64> = entry.try_get("ids").in_statement(STATEMENT)?;
        // The page has its ids: times are compared as they stand, and need no range of ids, which
        // for a feed would be another with every page.
        let ((from, before), (from_time, before_time)) = (filter.ids(), filter.times());
        let wanted = format!(
            "t.id = ANY ($1) AND ($2::timestamptz IS NULL OR t.created_at >= $2)
             AND ($3::timestamptz IS NULL OR t.created_at < $3) AND {}",
            condition(filter, IdRange { from, before })
        );
        let time = |micros: Option<i64>| micros.and_then(DateTime::from_timestamp_micros);
        let bind = |query: Query| query.bind(ids).bind(time(from_time)).bind(time(before_time));
        page.rows.extend(select(pool.get(), filter.chain, &wanted, bind).await?);
    }
    page.is_last = leaves < PAGE_LEAVES;
    page.rows.sort_by_key(|row| row.leaf_index.map_or(u64::MAX, |leaf| leaf.0));
    Ok(page)
}

/// Tells every instance that something was appended.
pub async fn notify_appended(pool: &Pool) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(format!("/* notify_appended */ NOTIFY {CHANNEL}")))
        .execute(pool.get())
        .await
        .in_statement("notify_appended")?;
    Ok(())
}

/// What other instances tell.
#[derive(Debug)]
pub struct Appends {
    listener: PgListener,
}

impl Appends {
    /// Listens on a connection of its own.
    pub async fn listen(database: &Database) -> Result<Self, StoreError> {
        const STATEMENT: &str = "listen";
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect_lazy_with(database.options.clone());
        let mut listener = PgListener::connect_with(&pool).await.in_statement(STATEMENT)?;
        listener.listen(CHANNEL).await.in_statement(STATEMENT)?;
        Ok(Self { listener })
    }

    /// Waits for the next word.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        self.listener.recv().await.map(drop).in_statement("listen")
    }
}
