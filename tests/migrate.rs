//! How a database comes to be a ledger: migrated, or restored from a dump, after which it is the
//! same, proves itself, and goes on.

mod common;

use std::path::PathBuf;
use std::process::Command;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::chains::Appended;
use audit_ledger::clock::Clock;
use audit_ledger::open::migrate_and_record;
use audit_ledger::store::migrate::{create_database, migrate};
use common::builders::{one_of_each, signal};
use common::{TestLedger, connect_with, database, fetch, read_back, refused, run, soon};
use sqlx::postgres::PgConnectOptions;

/// Runs one of PostgreSQL's programs.
fn postgres(program: &str, arguments: &[&str]) {
    let folder = std::env::var_os("LEDGER_PG_BINDIR").map(PathBuf::from).unwrap_or_default();
    let output = Command::new(folder.join(program)).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
}

/// The URL as these programs read it.
fn url(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(
        || options.get_host().to_owned(),
        |folder| folder.to_str().unwrap().to_owned(),
    );
    let (user, database) = (options.get_username(), options.get_database().unwrap());
    format!("postgresql://{user}@/{database}?host={host}&port={}", options.get_port())
}

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
    // A dump does not hold the database's own rights.
    migrate(&database(&restored)).await.unwrap();

    let mut connection = connect_with(&restored).await;
    let found = read_back::verify(&mut connection).await;
    assert_eq!((found.rows, found.problems), (120, vec![]));
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
    assert_eq!((receipt.id.0, receipt.leaf_index.0), (21, 120));
    run(&mut connection, "RESET ROLE").await;
    assert_eq!(read_back::verify(&mut connection).await.problems, Vec::<String>::new());
    drop((appender, connection));
    let mut server = ledger.connect_superuser().await;
    run(&mut server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    drop(server);
    ledger.finish().await;
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
    assert_eq!(recorded, [1, 2, 3, 4, 5, 6, 7, 8]);
    let mut connection = connect_with(&fresh).await;
    let events = "SELECT count(*) FROM security_events WHERE event_type = 'MIGRATION_APPLIED'";
    assert_eq!(fetch::<i64>(&mut connection, events).await, 1);
    assert_eq!(migrate_and_record(&superuser, Clock::system()).await.unwrap(), Vec::<i64>::new());
    // A record that was lost is made up for: the database of this test never had one.
    let template = ledger.superuser();
    assert_eq!(
        migrate_and_record(&template, Clock::system()).await.unwrap(),
        [1, 2, 3, 4, 5, 6, 7, 8]
    );
    assert_eq!(read_back::verify(&mut connection).await.problems, Vec::<String>::new());
    drop(connection);
    let mut server = ledger.connect_superuser().await;
    run(&mut server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    drop(server);
    assert_eq!(ledger.finish().await, 1);
}
