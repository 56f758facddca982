//! How a database comes to be a ledger: migrated, or restored from a dump, after which it is the
//! same, proves itself, and goes on.

mod common;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::chains::Appended;
use audit_ledger::clock::Clock;
use audit_ledger::open::migrate_and_record;
use audit_ledger::store::Database;
use audit_ledger::store::guards::{Drift, Guards, compare_guards};
use audit_ledger::store::migrate::{create_database, migrate};
use common::builders::{one_of_each, signal};
use common::dump::{postgres, url};
use common::{TestLedger, connect_with, database, fetch, read_back, refused, run, soon};

/// The migrations, in their order.
const VERSIONS: [i64; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
const CHAINS: usize = audit_ledger::chains::IN_LEDGER.len();

#[tokio::test]
async fn a_restored_ledger_is_the_same_and_goes_on() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 1..=20 {
        for row in one_of_each(n) {
            appender.append(row, soon()).await.unwrap();
        }
    }
    drop(appender);

    let superuser = ledger.options("postgres");
    let name = format!("{}_restored", ledger.name());
    let restored = superuser.clone().database(&name);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    let file = file.to_str().unwrap();
    postgres("pg_dump", &["--format=custom", "--file", file, "--dbname", &url(&superuser)]);
    create_database(&database(&superuser), &name).await.unwrap();
    postgres("pg_restore", &["--exit-on-error", "--dbname", &url(&restored), file]);
    // A dump does not hold the database's own rights. Of all guards, these alone differ.
    let Guards::Compared { drift, .. } = compare_guards(&database(&restored)).await.unwrap() else {
        panic!("the manifest is restored")
    };
    assert_eq!(drift.len(), 4, "{drift:?}");
    assert!(drift.iter().all(|drift| drift.kind == "database"), "{drift:?}");
    let migrated = migrate(&database(&restored)).await.unwrap();
    assert_eq!(migrated.settled, drift);
    assert_eq!(drift_of(&database(&restored)).await, []);

    let mut connection = connect_with(&restored).await;
    assert_eq!(refused(&mut connection, "DROP TABLE signals CASCADE").await, "AU010");
    let found = read_back::verify(&mut connection).await;
    assert_eq!((found.rows, found.problems), (20 * CHAINS, vec![]));
    let verdict = "SELECT bool_and(valid) FROM verify_chain_integrity()";
    assert!(fetch::<bool>(&mut connection, verdict).await);
    let always = "SELECT bool_and(tgenabled = 'A') FROM pg_trigger WHERE NOT tgisinternal";
    assert!(fetch::<bool>(&mut connection, always).await);
    assert_eq!(refused(&mut connection, "UPDATE signals SET price = 1").await, "AU002");
    run(&mut connection, "SET ROLE ledger_auditor").await;
    assert_eq!(refused(&mut connection, "CREATE TEMPORARY TABLE mine ()").await, "42501");

    let app = database(&restored.clone().username("app_trading"));
    let (appender, _writer) = Appender::start(app, BatchSettings::default(), Clock::system());
    let again = appender.append(signal(7), soon()).await.unwrap();
    assert!(matches!(again, Appended::Duplicate(_)), "{again:?}");
    let next = appender.append(signal(21), soon()).await.unwrap();
    let Appended::Recorded(receipt) = next else { panic!("{next:?}") };
    assert_eq!((receipt.id.0, receipt.leaf_index.0), (21, 20 * CHAINS as u64));
    run(&mut connection, "RESET ROLE").await;
    assert_eq!(read_back::verify(&mut connection).await.problems, Vec::<String>::new());
    drop((appender, connection));
    let mut server = ledger.connect_superuser().await;
    run(&mut server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    drop(server);
    ledger.finish().await;
}

async fn drift_of(database: &Database) -> Vec<Drift> {
    match compare_guards(database).await.unwrap() {
        Guards::Compared { drift, .. } => drift,
        Guards::Unknown { .. } => panic!("there is no manifest"),
    }
}

/// Drift is not made right by the next migration: what it puts back is recorded, what it does
/// not touch stays told.
#[tokio::test]
async fn migrating_repairs_some_drift_and_accepts_none() {
    const EVENTS: &str = "SELECT string_agg(event_type, ' ' ORDER BY id) FROM security_events";
    let ledger = TestLedger::new().await;
    let superuser = ledger.superuser();
    migrate_and_record(&superuser, Clock::system()).await.unwrap();
    let mut connection = ledger.connect_superuser_unguarded().await;
    run(&mut connection, "GRANT INSERT ON ledger_log TO app_trading").await;
    run(&mut connection, "ALTER TABLE signals DISABLE TRIGGER ledger_refuse_row").await;
    run(&mut connection, "GRANT USAGE ON SCHEMA public TO PUBLIC").await;
    let before = drift_of(&superuser).await;
    assert_eq!(before.len(), 4, "{before:?}");
    migrate_and_record(&superuser, Clock::system()).await.unwrap();
    let after = drift_of(&superuser).await;
    let kinds: Vec<_> = after.iter().map(|drift| drift.kind.as_str()).collect();
    assert_eq!(kinds, ["grant", "trigger"], "the event trigger and the schema are as they were");
    let refusal = refused(&mut connection, "GRANT INSERT ON signals TO PUBLIC").await;
    assert_eq!(refusal, "AU010");
    let events: String = fetch(&mut connection, EVENTS).await;
    assert_eq!(events, "MIGRATION_APPLIED GUARD_DRIFT");
    let settled = "SELECT (details -> 'settled')::int FROM security_events WHERE id = 2";
    assert_eq!(fetch::<i32>(&mut connection, settled).await, 2);
    migrate_and_record(&superuser, Clock::system()).await.unwrap();
    assert_eq!(drift_of(&superuser).await, after);
    assert_eq!(ledger.finish().await, 2);
}

/// Where there is an event trigger, migrations are a superuser's; where there is none, nobody can
/// make one but a superuser, and the ledger does without.
#[tokio::test]
async fn a_login_without_power_migrates_only_where_no_event_trigger_stands() {
    let ledger = TestLedger::new().await;
    let migrator = ledger.migrator();
    assert_eq!(migrate_and_record(&migrator, Clock::system()).await.unwrap(), VERSIONS);
    let mut superuser = ledger.connect_superuser().await;
    run(&mut superuser, "DELETE FROM _sqlx_migrations WHERE version = 4").await;
    let error = migrate(&migrator).await.unwrap_err().to_string();
    assert!(error.contains("lacks migration 4") && error.contains("superuser"), "{error}");

    // A managed service: nothing but the roles is there.
    let without = ledger.options("ledger_migrator").database(&format!("{}_bare", ledger.name()));
    let name = without.get_database().unwrap();
    create_database(&ledger.superuser(), name).await.unwrap();
    let schema = "ALTER SCHEMA public OWNER TO ledger_owner;
                  GRANT USAGE ON SCHEMA public TO app_trading, ledger_auditor, ledger_migrator";
    let bare_superuser = ledger.options("postgres").database(name);
    run(&mut connect_with(&bare_superuser).await, schema).await;
    let bare = database(&without);
    assert_eq!(migrate_and_record(&bare, Clock::system()).await.unwrap(), VERSIONS);
    let guards = compare_guards(&database(&without.clone().username("app_trading"))).await;
    assert!(matches!(guards.unwrap(), Guards::Unknown { were_made: false }));
    // A superuser who comes later makes the guards, and that is recorded.
    let superuser_of_bare = database(&bare_superuser);
    let versions = migrate_and_record(&superuser_of_bare, Clock::system()).await.unwrap();
    assert_eq!(versions, Vec::<i64>::new());
    assert_eq!(drift_of(&superuser_of_bare).await, []);
    let mut connection = connect_with(&bare_superuser).await;
    let recorded = "SELECT string_agg(details ->> 'guards', ' ' ORDER BY id) FROM security_events";
    assert_eq!(fetch::<String>(&mut connection, recorded).await, "false true");
    drop(connection);
    run(&mut superuser, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    assert_eq!(ledger.finish().await, 1);
}

/// What stands in `ledger_guard` runs as the superuser who migrates.
#[tokio::test]
async fn a_schema_that_somebody_else_made_is_not_run_by_a_superuser() {
    let ledger = TestLedger::new().await;
    let name = format!("{}_trap", ledger.name());
    create_database(&ledger.superuser(), &name).await.unwrap();
    let options = ledger.options("postgres").database(&name);
    let mut connection = connect_with(&options).await;
    for trap in [
        "CREATE SCHEMA ledger_guard AUTHORIZATION ledger_migrator",
        "CREATE SCHEMA ledger_guard;
         CREATE FUNCTION ledger_guard.begin_migration() RETURNS void
             LANGUAGE plpgsql AS 'BEGIN RAISE ''sprung''; END';
         ALTER FUNCTION ledger_guard.begin_migration() OWNER TO ledger_migrator",
    ] {
        run(&mut connection, trap).await;
        let error = migrate(&database(&options)).await.unwrap_err().to_string();
        assert!(error.contains("not a superuser's"), "{error}");
        run(&mut connection, "DROP SCHEMA ledger_guard CASCADE").await;
    }
    drop(connection);
    let mut server = ledger.connect_superuser().await;
    run(&mut server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    assert_eq!(ledger.finish().await, 0);
}

/// Replicas of a service that start together all migrate; one of them does, and says so once.
#[tokio::test]
async fn migrations_that_start_together_are_applied_and_recorded_once() {
    const TOGETHER: usize = 4;
    let ledger = TestLedger::new().await;
    let name = format!("{}_together", ledger.name());
    let fresh = ledger.options("postgres").database(&name);
    create_database(&ledger.superuser(), &name).await.unwrap();
    let superuser = database(&fresh);
    let migrations = (0..TOGETHER).map(|_| migrate_and_record(&superuser, Clock::system()));
    let mut recorded = Vec::new();
    for versions in futures_util::future::join_all(migrations).await {
        recorded.extend(versions.unwrap());
    }
    assert_eq!(recorded, VERSIONS);
    let mut connection = connect_with(&fresh).await;
    let events = "SELECT count(*) FROM security_events WHERE event_type = 'MIGRATION_APPLIED'";
    assert_eq!(fetch::<i64>(&mut connection, events).await, 1);
    assert_eq!(migrate_and_record(&superuser, Clock::system()).await.unwrap(), Vec::<i64>::new());
    // A record that was lost is made up for: the database of this test never had one.
    let template = ledger.superuser();
    assert_eq!(migrate_and_record(&template, Clock::system()).await.unwrap(), VERSIONS);
    assert_eq!(read_back::verify(&mut connection).await.problems, Vec::<String>::new());
    drop(connection);
    let mut server = ledger.connect_superuser().await;
    run(&mut server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    drop(server);
    assert_eq!(ledger.finish().await, 1);
}
