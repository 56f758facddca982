//! The record of integrity checks.

use serde_json::Value as Json;
use sqlx::Connection;
use uuid::Uuid;

use super::{Database, InStatement, StoreError};

/// One line of `integrity_checks`.
#[derive(Clone, Debug)]
pub struct CheckRecord {
    /// Shared by the chains of one run.
    pub run_id: Uuid,
    /// A chain's name, or `ledger_log`.
    pub chain: String,
    /// `full`, or `range`.
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
