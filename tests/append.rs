//! Appending on the real thing: many writers, duplicates, refused rows, broken connections,
//! wrong clocks. What others paid for is listed in the design as failures 1 to 11.

mod common;

#[path = "append/concurrent.rs"]
mod concurrent;
#[path = "append/contradictions.rs"]
mod contradictions;
#[path = "append/duplicates.rs"]
mod duplicates;
#[path = "append/faults.rs"]
mod faults;
#[path = "append/holders.rs"]
mod holders;
#[path = "append/plain.rs"]
mod plain;
#[path = "append/plans.rs"]
mod plans;
#[path = "append/proxy.rs"]
mod proxy;
#[path = "append/refusals.rs"]
mod refusals;

use std::time::Duration;

use audit_ledger::appender::{AppendError, BatchSettings};
use audit_ledger::chains::{Appended, Existing, NewRow, Receipt};
use audit_ledger::clock::Clock;
use common::{TestLedger, soon};
use futures_util::future::join_all;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

type Answer = Result<Appended, AppendError>;

/// The receipt of a row that must be new.
fn recorded(answer: Answer) -> Receipt {
    match answer {
        Ok(Appended::Recorded(receipt)) => receipt,
        other => panic!("not recorded: {other:?}"),
    }
}

/// The row that another one must be a duplicate of.
fn duplicate(answer: Answer) -> Existing {
    match answer {
        Ok(Appended::Duplicate(existing)) => existing,
        other => panic!("no duplicate: {other:?}"),
    }
}

/// The row that another one must be in conflict with.
fn conflict(answer: Answer) -> Existing {
    match answer {
        Ok(Appended::Conflict(existing)) => existing,
        other => panic!("no conflict: {other:?}"),
    }
}

/// Sends rows so that they make one batch, in this order.
async fn in_one_batch(ledger: &TestLedger, rows: Vec<NewRow>) -> Vec<Answer> {
    let settings = BatchSettings { size: rows.len(), delay: Duration::from_mins(1) };
    let appender = ledger.appender_with(settings, Clock::system());
    join_all(rows.into_iter().map(|row| appender.append(row, soon()))).await
}

/// Every part of a receipt is what the database holds.
async fn assert_stored(connection: &mut PgConnection, receipt: &Receipt) {
    let sql = format!(
        "SELECT t.prev_hash::text, t.row_hash::text, t.created_at, l.leaf_index, l.row_hash::text
         FROM public.{} AS t JOIN public.ledger_log AS l ON l.chain = '{}' AND l.id = t.id
         WHERE t.id = {}",
        receipt.chain, receipt.chain, receipt.id
    );
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(connection).await.expect("the row");
    assert_eq!(row.get::<&str, _>(0), receipt.prev_hash.to_string());
    assert_eq!(row.get::<&str, _>(1), receipt.row_hash.to_string());
    assert_eq!(row.get::<chrono::DateTime<chrono::Utc>, _>(2), receipt.created_at);
    assert_eq!(row.get::<i64, _>(3), i64::try_from(receipt.leaf_index.0).unwrap());
    assert_eq!(row.get::<&str, _>(4), receipt.row_hash.to_string());
}
