//! What an append reads, on a ledger that is new: nobody has counted its rows yet, so every plan is a
//! guess, and a wrong one reads more the longer the ledger is.

use audit_ledger::chains::signal_audit_ledger::{Outcome, Record};
use audit_ledger::chains::{Identity, NewRow};
use audit_ledger::clock::Clock;
use sqlx::Row;

use crate::common::builders::{delivery, kill_switch, record, signal};
use crate::common::{TestLedger, run, soon, what_was_read_is_counted};

const ROUNDS: u32 = 300;
/// Entries of one index that the rows of a round may read.
const PER_ROUND: i64 = 12;

fn outcome(n: u32) -> NewRow {
    let outcome = Outcome::new("ema", &format!("ema-{n}"), true);
    Record::Outcome(outcome).new_row("ema", Clock::system().now()).unwrap()
}

fn keyed(n: u32) -> NewRow {
    let mut row = kill_switch(n, None);
    let (recorded_by, key) = ("guardian".to_owned(), format!("k-{n}"));
    row.identity = Identity::Request { recorded_by, key, content: [7; 32] };
    row
}

#[tokio::test]
async fn what_an_append_reads_does_not_grow_with_a_ledger_that_nobody_has_analyzed() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    // Else autovacuum would come to the rescue on a slow machine.
    run(&mut superuser, "SELECT pg_stat_reset()").await;
    let appender = ledger.appender();
    for n in 1..=ROUNDS {
        let rows = vec![signal(n).into(), record(n), outcome(n), keyed(n), delivery(n).into()];
        for appended in appender.append_all(rows, soon()).await {
            appended.unwrap();
        }
    }
    drop(appender);
    what_was_read_is_counted(&mut superuser).await;
    let read = sqlx::query(
        "SELECT relname::text || '.' || indexrelname::text, idx_tup_read FROM pg_stat_user_indexes
         UNION ALL SELECT relname::text, seq_tup_read FROM pg_stat_user_tables",
    );
    let mut total = 0;
    for row in read.fetch_all(&mut superuser).await.unwrap() {
        let (name, entries): (String, i64) = (row.get(0), row.get(1));
        assert!(entries <= PER_ROUND * i64::from(ROUNDS), "{entries} entries of {name} were read");
        total += entries;
    }
    assert!(total > i64::from(ROUNDS), "what was read is counted: {total}");
    ledger.finish().await;
}
