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
#[path = "guards/damaged.rs"]
mod damaged;
#[path = "guards/ddl.rs"]
mod ddl;
#[path = "guards/drift.rs"]
mod drift;
#[path = "guards/inserts.rs"]
mod inserts;
#[path = "guards/keys.rs"]
mod keys;
#[path = "guards/lockdown.rs"]
mod lockdown;
#[path = "guards/rights.rs"]
mod rights;
#[path = "guards/rows.rs"]
mod rows;

use audit_ledger::chains::{IN_LEDGER, Identity, NewRow};
use audit_ledger::store::checks::{CheckRecord, insert_checks};
use common::builders::{one_of_each, order, signal};
use common::checkpoints::rows_of_checkpoints;
use common::{TestLedger, refused, run, soon};

/// Every table whose rows never change.
const TABLES: [&str; 17] = [
    "signals",
    "ai_debates",
    "order_execution",
    "order_events",
    "signal_audit_ledger",
    "security_events",
    "quarantined_deliveries",
    "ledger_log",
    "integrity_checks",
    "idempotency_keys",
    "lockdowns",
    "acknowledged_findings",
    "recorded_refusals",
    "incarnations",
    "checkpoints",
    "log_tiles",
    "anchor_receipts",
];

/// The number of chains.
const CHAINS: usize = IN_LEDGER.len();

/// A ledger with so many rows in every chain, interleaved in the log.
async fn ledger_with(rows: u32) -> TestLedger {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 1..=rows {
        for row in one_of_each(n) {
            appender.append(row, soon()).await.unwrap();
        }
    }
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

/// How many rows the chains of [`ledger_with_rows_everywhere`] have.
const ROWS_EVERYWHERE: usize = 2 * CHAINS + 6;

/// A row in every table: beside those of the chains and of a check, an order that was sent with a
/// key, a checkpoint, a lockdown that was entered and lifted, and an attempt that was refused and
/// recorded.
async fn ledger_with_rows_everywhere() -> TestLedger {
    let ledger = ledger_with(2).await;
    insert_checks(&ledger.app(), &[check_record()]).await.unwrap();
    let signal = signal(3);
    let mut keyed = order(3, signal.correlation_id);
    keyed.identity = Identity::Request {
        recorded_by: "executor".to_owned(),
        key: "k-1".to_owned(),
        content: [7; 32],
    };
    let appender = ledger.appender();
    for row in [NewRow::from(signal), keyed] {
        appender.append(row, soon()).await.unwrap();
    }
    rows_of_checkpoints(&ledger, &appender).await;
    let mut app = ledger.connect_app().await;
    run(&mut app, "SELECT public.ledger_enter_lockdown('a test', '[]', 'tests')").await;
    let lift = "SELECT public.ledger_lift_as_owner('over', ARRAY[repeat('0', 64)])";
    run(&mut ledger.connect_owner().await, lift).await;
    let attempt = "DELETE FROM public.ledger_log";
    assert_eq!(refused(&mut ledger.connect_superuser().await, attempt).await, "AU010");
    run(&mut app, "SELECT public.ledger_record_refusals()").await;
    ledger
}
