//! The guards: what each role may try and how it is refused, what an INSERT may not choose, and
//! that every change a superuser makes behind the guards' backs is found and named.

mod common;

#[path = "guards/changes.rs"]
mod changes;
#[path = "guards/checks.rs"]
mod checks;
#[path = "guards/columns.rs"]
mod columns;
#[path = "guards/comments.rs"]
mod comments;
#[path = "guards/ddl.rs"]
mod ddl;
#[path = "guards/drift.rs"]
mod drift;
#[path = "guards/inserts.rs"]
mod inserts;
#[path = "guards/keys.rs"]
mod keys;
#[path = "guards/rights.rs"]
mod rights;
#[path = "guards/rows.rs"]
mod rows;

use audit_ledger::chains::{IN_LEDGER, NewRow};
use audit_ledger::store::checks::{CheckRecord, insert_checks};
use common::builders::{delivery, event, signal};
use common::{TestLedger, soon};

/// Every table whose rows never change.
const TABLES: [&str; 5] =
    ["signals", "security_events", "quarantined_deliveries", "ledger_log", "integrity_checks"];

/// A ledger with so many rows in every chain, interleaved in the log.
async fn ledger_with(rows: u32) -> TestLedger {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 1..=rows {
        for row in [NewRow::from(signal(n)), event(n).into(), delivery(n).into()] {
            appender.append(row, soon()).await.unwrap();
        }
    }
    assert_eq!(IN_LEDGER.len(), 3, "a new chain gets its rows here");
    ledger
}

/// The record of a check that never was, for tests on the table that keeps them.
fn check_record() -> CheckRecord {
    CheckRecord {
        run_id: audit_ledger::clock::Clock::system().new_id(),
        chain: "signals".to_owned(),
        kind: "full",
        range: Some((1, 2)),
        expected_count: 2,
        actual_count: 2,
        finished: true,
        valid: Some(true),
        findings_count: 0,
        findings: serde_json::json!([]),
        duration_ms: 7,
    }
}

/// A row in every table.
async fn ledger_with_rows_everywhere() -> TestLedger {
    let ledger = ledger_with(2).await;
    insert_checks(&ledger.app(), &[check_record()]).await.unwrap();
    ledger
}
