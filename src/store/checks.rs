//! The record of integrity checks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_verifier::check::LOG_NAME;
use serde::Serialize;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Connection, PgExecutor};
use uuid::Uuid;

use super::pool::Pool;
use super::{Database, InStatement, StoreError};
use crate::chains::as_rfc3339;

/// The kind of a check of the whole ledger.
pub const FULL: &str = "full";
/// Of a check of what came since the last checkpoint.
pub const INCREMENTAL: &str = "incremental";
/// Of a check of a slice of what the last checkpoint covers.
pub const ROLLING: &str = "rolling";
/// A check that could not finish is tried again after this time at the latest.
const TRY_AGAIN: Duration = Duration::from_mins(5);

/// One line of `integrity_checks`.
#[derive(Clone, Debug)]
pub struct CheckRecord {
    /// Shared by the chains of one run.
    pub run_id: Uuid,
    /// A chain's name, or `ledger_log`.
    pub chain: String,
    /// [`FULL`], [`INCREMENTAL`], [`ROLLING`], `checkpoint` or `chain`.
    pub kind: &'static str,
    /// First and last id that the check covers, if there is any.
    pub range: Option<(i64, i64)>,
    /// Rows that the range must hold.
    pub expected_count: i64,
    /// Rows that were read.
    pub actual_count: i64,
    /// Whether everything in the range was looked at.
    pub finished: bool,
    /// The verdict; `None` where there is none.
    pub valid: Option<bool>,
    /// All findings, listed or not.
    pub findings_count: i64,
    /// The findings, the first thousand of them.
    pub findings: Json,
    /// How long it took.
    pub duration_ms: i64,
}

/// Records a run of checks, all of it or nothing.
pub async fn insert_checks(database: &Database, records: &[CheckRecord]) -> Result<(), StoreError> {
    const STATEMENT: &str = "insert_checks";
    let mut connection = database.connect().await?;
    let mut transaction = connection.begin().await.in_statement(STATEMENT)?;
    for record in records {
        sqlx::query(
            "/* insert_checks */
             INSERT INTO public.integrity_checks (run_id, chain, kind, range_start, range_end,
                 expected_count, actual_count, finished, chain_valid, findings_count, findings,
                 duration_ms, checked_with)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(record.run_id)
        .bind(&record.chain)
        .bind(record.kind)
        .bind(record.range.map(|(start, _)| start))
        .bind(record.range.map(|(_, end)| end))
        .bind(record.expected_count)
        .bind(record.actual_count)
        .bind(record.finished)
        .bind(record.valid)
        .bind(record.findings_count)
        .bind(&record.findings)
        .bind(record.duration_ms)
        .bind(concat!("audit-ledger ", env!("CARGO_PKG_VERSION")))
        .execute(&mut *transaction)
        .await
        .in_statement(STATEMENT)?;
    }
    transaction.commit().await.in_statement(STATEMENT)
}

/// A line of `integrity_checks` as it was recorded.
#[derive(Clone, Debug, Serialize, sqlx::FromRow, utoipa::ToSchema)]
pub struct StoredCheck {
    /// Its number.
    pub id: i64,
    /// Shared by the chains of one run.
    pub run_id: Uuid,
    /// A chain's name, or `ledger_log`.
    pub chain: String,
    /// `full`; `chain` for one chain and what the log says of it; `incremental` from the last checkpoint
    /// on; `rolling` for a slice of what that covers; `checkpoint` for what a checkpoint was not made of.
    pub kind: String,
    /// First id (leaf index for the log) that the check covers; null where it had none.
    #[schema(required)]
    pub range_start: Option<i64>,
    /// The last one.
    #[schema(required)]
    pub range_end: Option<i64>,
    /// Rows that the range must hold.
    pub expected_count: i64,
    /// Rows that were read.
    pub actual_count: i64,
    /// Whether everything in the range was looked at.
    pub finished: bool,
    /// The verdict; null where there is none.
    #[schema(required)]
    pub chain_valid: Option<bool>,
    /// How many findings there were.
    pub findings_count: i64,
    /// The first hundred of them.
    #[schema(value_type = Vec<Object>)]
    pub findings: Json,
    /// How long it took.
    pub duration_ms: i64,
    /// Version of the program that checked.
    pub checked_with: String,
    /// The database login that recorded it.
    pub checked_by: String,
    /// When it was recorded, by the database's clock.
    #[serde(serialize_with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub checked_at: DateTime<Utc>,
}

/// The columns of [`StoredCheck`].
const STORED_CHECK: &str = "id, run_id, chain, kind, range_start, range_end, expected_count,
    actual_count, finished, chain_valid, findings_count,
    pg_catalog.jsonb_path_query_array(findings, '$[0 to 99]') AS findings,
    duration_ms, checked_with, checked_by::text, checked_at";

/// Checks with an id below this one, the newest first, and this many at most.
pub async fn list_checks(
    pool: &Pool,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredCheck>, StoreError> {
    let statement = format!(
        "/* list_checks */ SELECT {STORED_CHECK} FROM public.integrity_checks
         WHERE id < coalesce($1, 9223372036854775807) ORDER BY id DESC LIMIT $2"
    );
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(before)
        .bind(limit)
        .fetch_all(pool.get())
        .await
        .in_statement("list_checks")
}

/// What the last check of the whole ledger recorded.
pub async fn last_checks(pool: &Pool) -> Result<Vec<StoredCheck>, StoreError> {
    let statement = format!(
        "/* last_checks */ SELECT {STORED_CHECK} FROM public.integrity_checks
         WHERE run_id = (SELECT last.run_id FROM public.integrity_checks AS last
                         WHERE last.chain = $1 AND last.kind = $2
                         ORDER BY last.id DESC LIMIT 1)
         ORDER BY id"
    );
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(LOG_NAME)
        .bind(FULL)
        .fetch_all(pool.get())
        .await
        .in_statement("last_checks")
}

/// Whether the ledger is to be checked: where its last check of this kind that finished, by whomever, is
/// longer ago than this, or found what should have locked the ledger and did not. One that just
/// ended is not repeated at once, whatever came of it.
pub async fn is_check_due(
    database: &Database,
    every: Duration,
    kind: &str,
) -> Result<bool, StoreError> {
    const STATEMENT: &str = "is_check_due";
    let mut connection = database.connect().await?;
    let due = sqlx::query_scalar(
        "/* is_check_due */
         WITH runs AS (
             SELECT c.run_id, c.checked_at, c.finished FROM public.integrity_checks AS c
             WHERE c.chain = $3 AND c.kind = $4 ORDER BY c.id DESC LIMIT 20),
         last AS (SELECT * FROM runs ORDER BY checked_at DESC LIMIT 1)
         SELECT NOT EXISTS (
                    SELECT FROM runs
                    WHERE finished
                      AND checked_at >= pg_catalog.clock_timestamp() - $1 * interval '1 s')
                AND NOT EXISTS (
                    SELECT FROM last
                    WHERE checked_at >= pg_catalog.clock_timestamp() - $2 * interval '1 s')
             OR NOT EXISTS (SELECT FROM public.ledger_lockdown())
                AND EXISTS (
                    SELECT FROM last
                    JOIN public.integrity_checks AS c ON c.run_id = last.run_id
                    WHERE c.chain <> 'guards'
                      AND c.findings @> '[{\"acknowledged\": false}]')",
    )
    .bind(every.as_secs_f64())
    .bind(every.min(TRY_AGAIN).as_secs_f64())
    .bind(LOG_NAME)
    .bind(kind)
    .fetch_one(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    let _ = connection.close().await;
    Ok(due)
}

/// Where the last slice that was looked at whole ended, as a leaf index, and how long ago that was.
pub async fn last_slice(
    executor: impl PgExecutor<'_>,
) -> Result<Option<(i64, Duration)>, StoreError> {
    let last: Option<(i64, f64)> = sqlx::query_as(
        "/* last_slice */
         SELECT c.range_end, greatest(0, extract(epoch FROM
                    pg_catalog.clock_timestamp() - c.checked_at))::float8
         FROM public.integrity_checks AS c
         WHERE c.chain = $1 AND c.kind = $2 AND c.finished AND c.range_end IS NOT NULL
         ORDER BY c.id DESC LIMIT 1",
    )
    .bind(LOG_NAME)
    .bind(ROLLING)
    .fetch_optional(executor)
    .await
    .in_statement("last_slice")?;
    Ok(last.map(|(end, seconds)| (end, Duration::try_from_secs_f64(seconds).unwrap_or_default())))
}
