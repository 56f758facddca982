//! Both checks side by side, the one in Rust and the one in SQL; and what they say of an empty
//! ledger and of one that is being written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit_ledger::chains::IN_LEDGER;
use audit_ledger::clock::Clock;
use audit_ledger::integrity::guards::GUARDS;
use audit_ledger::integrity::outside::Subject;
use audit_ledger::integrity::report::{LISTED_FINDINGS, Report, Verdict};
use audit_ledger::integrity::verify::{Progress, Scope, verify};
use ledger_verifier::Finding;
use ledger_verifier::check::LOG_NAME;
use sqlx::postgres::PgConnection;

use crate::common::builders::{delivery, event, signal};
use crate::common::{TestLedger, fetch, read_back, refused, run, soon};
use crate::{CHAINS, ledger_with};

/// Counts what it is told.
#[derive(Default)]
struct Told {
    findings: usize,
    compared: u64,
}

impl Progress for Told {
    fn compared(&mut self, entries: u64, of: u64) {
        assert!(entries > self.compared || entries == of);
        self.compared = entries;
    }

    fn found(&mut self, _finding: &Finding, _acknowledged: bool) {
        self.findings += 1;
    }
}

/// The check in Rust, as the login that reads.
pub(crate) async fn check(ledger: &TestLedger) -> Report {
    let mut told = Told::default();
    let run_id = Clock::system().new_id();
    let report =
        verify(&Subject::of(ledger.auditor()), Scope::Ledger, run_id, &mut told).await.unwrap();
    assert_eq!(report.run_id, run_id);
    let found: u64 = report.chains.iter().map(|chain| chain.findings_count).sum();
    assert_eq!(told.findings as u64, found, "progress tells every finding");
    report
}

/// A finding as tests spell it: chain, id, kind.
pub(crate) type Spelt = (String, Option<i64>, &'static str);

/// Every finding about rows of a report, sorted. What a test does to guards on its way to the rows
/// is not told here.
pub(crate) fn findings(report: &Report) -> Vec<Spelt> {
    let mut findings: Vec<_> = report
        .chains
        .iter()
        .filter(|chain| chain.chain != GUARDS)
        .flat_map(|chain| &chain.findings)
        .map(|listed| &listed.finding)
        .map(|found| (found.chain.clone(), found.id.map(|id| id.0), found.kind.name()))
        .collect();
    findings.sort();
    findings
}

/// Entries of the log that were read.
fn leaves(report: &Report) -> i64 {
    report.chains.iter().find(|chain| chain.chain == LOG_NAME).unwrap().rows
}

/// A line of `verify_chain_integrity()`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Line {
    pub(crate) checked_chain: String,
    pub(crate) rows_checked: i64,
    pub(crate) valid: Option<bool>,
    pub(crate) first_bad_id: Option<i64>,
    pub(crate) finding: Option<String>,
}

/// The check in SQL.
pub(crate) async fn check_in_sql(connection: &mut PgConnection) -> Vec<Line> {
    sqlx::query_as("SELECT * FROM public.verify_chain_integrity()")
        .fetch_all(connection)
        .await
        .unwrap()
}

/// What it says of one chain, or of the log.
pub(crate) async fn check_one_in_sql(connection: &mut PgConnection, name: &str) -> Line {
    let lines = check_in_sql(connection).await;
    lines.into_iter().find(|line| line.checked_chain == name).expect("a line for each")
}

#[tokio::test]
async fn an_empty_ledger_is_not_said_to_be_right() {
    let ledger = TestLedger::new().await;
    let report = check(&ledger).await;
    assert_eq!(report.rows(), 0);
    assert_eq!(report.chains.len(), IN_LEDGER.len() + 2);
    let of_rows = || report.chains.iter().filter(|chain| chain.chain != GUARDS);
    assert!(of_rows().all(|chain| chain.rows == 0 && chain.expected_rows == 0));
    assert!(of_rows().all(|chain| chain.valid().is_none()), "nothing is not right");
    for record in report.records().into_iter().filter(|record| record.chain != GUARDS) {
        assert_eq!((record.finished, record.valid), (true, None));
        assert_eq!((record.range, record.expected_count, record.actual_count), (None, 0, 0));
    }
    let mut auditor = ledger.connect("ledger_auditor").await;
    let names = IN_LEDGER.iter().map(|chain| chain.name).chain(["ledger_log"]);
    for (line, name) in check_in_sql(&mut auditor).await.into_iter().zip(names) {
        let nothing = Line {
            checked_chain: name.to_owned(),
            rows_checked: 0,
            valid: None,
            first_bad_id: None,
            finding: None,
        };
        assert_eq!(line, nothing);
    }
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn an_intact_ledger_is_said_to_be_right_by_both_checks() {
    let ledger = ledger_with(5).await;
    let report = check(&ledger).await;
    assert_eq!(report.verdict(), Verdict::Verified);
    let rows = 5 * i64::try_from(CHAINS).unwrap();
    assert_eq!(report.rows(), rows);
    assert_eq!(leaves(&report), rows);
    for chain in &report.chains[..CHAINS] {
        assert_eq!((chain.rows, chain.expected_rows, chain.valid()), (5, 5, Some(true)));
    }
    for role in ["app_trading", "ledger_auditor"] {
        let mut connection = ledger.connect(role).await;
        for line in check_in_sql(&mut connection).await {
            let rows = if line.checked_chain == "ledger_log" { rows } else { 5 };
            assert_eq!((line.rows_checked, line.valid, line.finding), (rows, Some(true), None));
        }
    }
    assert_eq!(ledger.finish().await, 5 * CHAINS);
}

#[tokio::test]
async fn a_range_is_checked_in_sql_with_its_first_link() {
    let ledger = ledger_with(6).await;
    let mut superuser = ledger.disarmed().await;
    let range = |from: i64, to: &str| {
        format!(
            "SELECT rows_checked || ' ' || coalesce(valid::text, 'NULL') || ' '
                        || coalesce(first_bad_id::text, '-') || ' ' || coalesce(finding, '-')
                 FROM public.verify_chain_integrity('signals', {from}, {to})"
        )
    };
    for (from, to, line) in [
        (1, "NULL", "6 true - -"),
        (3, "NULL", "4 true - -"),
        (2, "4", "3 true - -"),
        (6, "6", "1 true - -"),
        (7, "NULL", "0 NULL - -"),
        (5, "4", "0 NULL - -"),
    ] {
        assert_eq!(fetch::<String>(&mut superuser, &range(from, to)).await, line);
    }
    run(&mut superuser, "UPDATE public.signals SET price = price + 1 WHERE id = 3").await;
    run(&mut superuser, "UPDATE public.signals SET row_hash = repeat('0', 64) WHERE id = 5").await;
    for (from, to, line) in [
        (1, "2", "2 true - -"),
        (1, "NULL", "6 false 3 content"),
        (4, "4", "1 true - -"),
        (4, "NULL", "3 false 5 content"),
        (6, "6", "1 false 6 link"),
    ] {
        assert_eq!(fetch::<String>(&mut superuser, &range(from, to)).await, line, "{from} {to}");
    }
    let unknown = "SELECT public.verify_chain_integrity('pg_authid')";
    assert_eq!(refused(&mut superuser, unknown).await, "22023");
    assert_eq!(refused(&mut superuser, &unknown.replace("'pg_authid'", "NULL")).await, "22023");
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn one_chain_is_checked_alone() {
    let ledger = ledger_with(4).await;
    ledger.tamper("UPDATE public.security_events SET actor = 'x' WHERE id = 2").await;
    let mut told = Told::default();
    for chain in IN_LEDGER {
        let run_id = Clock::system().new_id();
        let report = verify(&Subject::of(ledger.auditor()), Scope::Chain(chain), run_id, &mut told)
            .await
            .unwrap();
        assert_eq!(report.rows(), 4);
        let expected = match chain.name {
            "security_events" => vec![("security_events".to_owned(), Some(2), "content")],
            _ => vec![],
        };
        assert_eq!(findings(&report), expected);
    }
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn every_finding_is_counted_and_the_first_thousand_are_listed() {
    const ROWS: u32 = 1100;
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let rows = (0..ROWS).map(|n| appender.append(event(n), soon()));
    for answer in futures_util::future::join_all(rows).await {
        answer.unwrap();
    }
    ledger.tamper("UPDATE public.security_events SET actor = 'x' WHERE id <> 7").await;
    let report = check(&ledger).await;
    let chain = report.chains.iter().find(|chain| chain.chain == "security_events").unwrap();
    assert_eq!(chain.findings_count, u64::from(ROWS) - 1);
    assert_eq!(chain.findings.len(), LISTED_FINDINGS);
    assert_eq!(report.verdict(), Verdict::Tampered);
    let found = read_back::verify(&mut ledger.connect_superuser().await).await;
    assert!(found.problems.len() > ROWS as usize - 1);
    ledger.finish_tampered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_while_appends_go_on_finds_nothing() {
    const CHECKS: usize = 25;
    let ledger = ledger_with(10).await;
    let appender = ledger.appender();
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|client| {
            let (appender, over) = (appender.clone(), over.clone());
            tokio::spawn(async move {
                let mut n = 1_000 * (client + 1);
                while !over.load(Ordering::Relaxed) {
                    appender.append(signal(n), soon()).await.unwrap();
                    appender.append(event(n), soon()).await.unwrap();
                    appender.append(delivery(n), soon()).await.unwrap();
                    n += 1;
                }
            })
        })
        .collect();
    let mut auditor = ledger.connect("ledger_auditor").await;
    let mut rows = 0;
    for _ in 0..CHECKS {
        let report = check(&ledger).await;
        assert_eq!(findings(&report), []);
        assert_eq!(report.verdict(), Verdict::Verified);
        assert_eq!(report.rows(), leaves(&report), "rows and leaves");
        assert!(report.rows() >= rows);
        rows = report.rows();
        for line in check_in_sql(&mut auditor).await {
            assert_eq!((line.valid, line.finding), (Some(true), None));
        }
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(rows > 10 * i64::try_from(CHAINS).unwrap(), "rows were appended meanwhile");
    drop(appender);
    ledger.finish().await;
}

/// What could not be read is not missing: neither the log's entries where a chain breaks off, nor
/// a chain's rows where the log does.
#[tokio::test]
async fn what_breaks_off_is_unfinished_and_not_tampered() {
    let ledger = ledger_with(5).await;
    for (broken, revoke, grant) in [
        (
            "signals",
            "REVOKE SELECT ON signals FROM ledger_auditor",
            "GRANT SELECT ON signals TO ledger_auditor",
        ),
        (
            "ledger_log",
            "REVOKE SELECT ON ledger_log FROM ledger_auditor;
             GRANT SELECT (leaf_index) ON ledger_log TO ledger_auditor",
            "GRANT SELECT ON ledger_log TO ledger_auditor",
        ),
    ] {
        ledger.change_guards(revoke).await;
        let report = check(&ledger).await;
        assert_eq!(findings(&report), [], "{broken}");
        assert_eq!(report.verdict(), Verdict::Unfinished, "{broken}");
        for chain in &report.chains {
            // Of what names a signal nobody can tell whether that is there.
            let naming = ["ai_debates", "order_execution", "signal_audit_ledger"];
            let names_signals = naming.contains(&chain.chain);
            let is_broken = chain.chain == broken || (broken == "signals" && names_signals);
            assert_eq!(chain.error.is_some(), is_broken, "{chain:?}");
            assert_eq!(chain.valid(), (!is_broken).then_some(true), "{chain:?}");
        }
        ledger.change_guards(grant).await;
    }
    assert_eq!(check(&ledger).await.verdict(), Verdict::Verified);
    ledger.finish().await;
}
