//! The drill of RECOVERY.md: a ledger is damaged, looked at elsewhere, unlocked, and made whole by
//! further rows.

mod common;

use std::collections::BTreeSet;

use audit_ledger::clock::Clock;
use audit_ledger::integrity::outside::Subject;
use audit_ledger::integrity::report::Verdict;
use audit_ledger::integrity::run::{CheckDone, run_check};
use audit_ledger::integrity::verify::{Scope, verify};
use audit_ledger::integrity::watch::Quiet;
use audit_ledger::store::Database;
use audit_ledger::store::lockdown::{lift_as_owner, open_findings};
use audit_ledger::store::migrate::create_database;
use audit_ledger::store::pool::Pool;
use common::builders::one_of_each;
use common::dump::{attempt_postgres, postgres, url};
use common::{TestLedger, attempt, connect_with, database, fetch, run, soon, sqlstate};
use sqlx::postgres::PgConnectOptions;

const ROWS: u32 = 6;

/// A database beside the ledger's, for evidence or a backup.
struct Beside {
    options: PgConnectOptions,
}

impl Beside {
    async fn new(ledger: &TestLedger, what: &str) -> Self {
        let superuser = ledger.options("postgres");
        let name = format!("{}_{what}", ledger.name());
        create_database(&database(&superuser), &name).await.unwrap();
        Self { options: superuser.database(&name) }
    }

    fn restore(&self, arguments: &[&str]) -> bool {
        let url = url(&self.options);
        let all = [arguments, &["--dbname", &url]].concat();
        attempt_postgres("pg_restore", &all).status.success()
    }

    async fn fetch<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        fetch(&mut connect_with(&self.options).await, sql).await
    }

    async fn drop(self, ledger: &TestLedger) {
        let name = self.options.get_database().unwrap();
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        run(&mut ledger.connect_superuser().await, &drop).await;
    }
}

async fn check(ledger: &TestLedger) -> CheckDone {
    let done = run_check(
        &Subject::of(ledger.app()),
        Scope::Ledger,
        Clock::system(),
        &mut Quiet::default(),
    )
    .await;
    done.unwrap().expect("no other check runs")
}

fn finding_ids(report: &audit_ledger::integrity::report::Report) -> BTreeSet<String> {
    let chains = report.chains.iter().filter(|chain| chain.chain != "guards");
    chains.flat_map(|chain| &chain.findings).map(|listed| listed.finding.finding_id()).collect()
}

/// A changed signal and a deleted order event, by somebody who makes the constraint look checked.
async fn damage(ledger: &TestLedger) {
    ledger
        .tamper_and_rearm("signals", "UPDATE public.signals SET price = price * 2 WHERE id = 2")
        .await;
    ledger.tamper_and_rearm("order_events", "DELETE FROM public.order_events WHERE id = 6").await;
    run(
        &mut ledger.connect_superuser_unguarded().await,
        "SET allow_system_table_mods = on;
         UPDATE pg_constraint SET convalidated = true WHERE NOT convalidated",
    )
    .await;
}

/// Loads a damaged dump as the guide says, and returns what a check of it finds.
async fn look_elsewhere(ledger: &TestLedger, dump: &str) -> BTreeSet<String> {
    let naive = Beside::new(ledger, "naive").await;
    assert!(!naive.restore(&[dump]), "a restore proves every hash again");
    assert_eq!(naive.fetch::<i64>("SELECT count(*) FROM public.signals").await, 0);
    naive.drop(ledger).await;

    let evidence = Beside::new(ledger, "evidence").await;
    assert!(evidence.restore(&["--section=pre-data", dump]));
    let unchecked = "ALTER TABLE public.signals DROP CONSTRAINT signals_row_hash_correct";
    run(&mut connect_with(&evidence.options).await, unchecked).await;
    assert!(evidence.restore(&["--section=data", dump]));
    evidence.restore(&["--section=post-data", dump]);
    // A dump does not hold who may connect.
    let name = evidence.options.get_database().unwrap().to_owned();
    let connect = format!("GRANT CONNECT ON DATABASE {name} TO ledger_auditor");
    run(&mut connect_with(&evidence.options).await, &connect).await;
    let auditor = database(&evidence.options.clone().username("ledger_auditor"));
    let report = verify(
        &Subject::of(auditor),
        Scope::Ledger,
        Clock::system().new_id(),
        &mut Quiet::default(),
    )
    .await;
    let report = report.unwrap();
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(evidence.fetch::<i64>("SELECT count(*) FROM public.signals").await, i64::from(ROWS));
    evidence.drop(ledger).await;
    finding_ids(&report)
}

/// Appends what the backup holds of the damaged rows, as further rows.
async fn restore_as_further_rows(ledger: &TestLedger, backup: &Beside, true_hash: &str) {
    let true_row = format!(
        "SELECT jsonb_build_object(
             'signal_id', signal_id || '~restored', 'symbol', symbol, 'side', side,
             'price', price::text, 'quantity', quantity::text,
             'raw_payload_text', raw_payload_text, 'source_ip', host(source_ip),
             'recorded_by', 'recovery', 'auth_method', auth_method, 'hmac_verified', hmac_verified)
         FROM public.signals WHERE row_hash = '{true_hash}'"
    );
    let signal: serde_json::Value = backup.fetch(&true_row).await;
    let event: serde_json::Value = backup
        .fetch(
            "SELECT jsonb_strip_nulls(jsonb_build_object(
                 'order_execution_id', order_execution_id, 'event_type', event_type,
                 'fill_quantity', fill_quantity::text, 'fill_price', fill_price::text,
                 'zar_equity', zar_equity::text, 'positions_closed_text', positions_closed_text,
                 'rejection_reason', rejection_reason, 'exchange_error_code', exchange_error_code,
                 'recorded_by', 'recovery'))
             FROM public.order_events WHERE id = 6",
        )
        .await;
    let mut app = ledger.connect_app().await;
    for (chain, row, id) in [("signals", &signal, ROWS + 1), ("order_events", &event, ROWS + 1)] {
        let append = format!("SELECT id FROM append_{chain}($json${row}$json$)");
        assert_eq!(fetch::<i64>(&mut app, &append).await, i64::from(id), "{chain}");
        let told = format!(
            "SELECT id FROM append_security_events(jsonb_build_object(
                 'event_type', 'ROW_RESTORED', 'actor', 'carol', 'subject', '{chain}',
                 'details', jsonb_build_object('restored_as', {id})))"
        );
        fetch::<i64>(&mut app, &told).await;
    }
    let restored = "SELECT price::text FROM public.signals WHERE signal_id LIKE '%~restored'";
    let price: String = fetch(&mut app, restored).await;
    let truth = "SELECT price::text FROM public.signals WHERE id = 2";
    assert_eq!(price, backup.fetch::<String>(truth).await);
}

fn dump(ledger: &TestLedger, file: &std::path::Path) -> String {
    let file = file.to_str().unwrap().to_owned();
    let url = url(&ledger.options("postgres"));
    postgres("pg_dump", &["--format=custom", "--file", &file, "--dbname", &url]);
    file
}

async fn unlock(ledger: &TestLedger) {
    let owner: Database = ledger.owner();
    let findings = open_findings(&Pool::of(&ledger.app(), 1)).await.unwrap();
    let ids: Vec<_> =
        findings.iter().map(|f| f["finding_id"].as_str().unwrap().to_owned()).collect();
    lift_as_owner(&owner, "incident 7", &ids).await.unwrap();
}

#[tokio::test]
async fn a_damaged_ledger_is_looked_at_elsewhere_unlocked_and_made_whole_by_further_rows() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 1..=ROWS {
        for row in one_of_each(n) {
            appender.append(row, soon()).await.unwrap();
        }
    }
    drop(appender);
    let folder = tempfile::tempdir().unwrap();
    let good = dump(&ledger, &folder.path().join("good.dump"));
    damage(&ledger).await;
    let found = check(&ledger).await;
    assert_eq!(found.report.verdict(), Verdict::Tampered);
    assert!(found.lockdown.is_some());

    // Evidence first.
    let damaged = dump(&ledger, &folder.path().join("damaged.dump"));
    assert_eq!(look_elsewhere(&ledger, &damaged).await, finding_ids(&found.report));
    let backup = Beside::new(&ledger, "backup").await;
    assert!(backup.restore(&["--exit-on-error", &good]));
    // The log still says which row was the true one.
    let logged = "SELECT row_hash::text FROM public.ledger_log WHERE chain = 'signals' AND id = 2";
    let true_hash: String = fetch(&mut ledger.connect_superuser().await, logged).await;

    let mut app = ledger.connect_app().await;
    let too_early = "SELECT append_order_events('{\"event_type\":\"KILL_SWITCH\",
        \"zar_equity\":1,\"positions_closed\":[]}')";
    let error = attempt(&mut app, too_early).await.unwrap_err();
    assert_eq!(sqlstate(&error).unwrap(), "AU009");
    unlock(&ledger).await;
    restore_as_further_rows(&ledger, &backup, &true_hash).await;
    backup.drop(&ledger).await;

    let done = check(&ledger).await;
    assert_eq!(finding_ids(&done.report), finding_ids(&found.report), "listed for ever");
    assert!(done.report.acknowledged() > 0 && done.lockdown.is_none());
    assert_ne!(done.report.verdict(), Verdict::Tampered);
    ledger.finish_tampered().await;
}
