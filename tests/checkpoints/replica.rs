//! Checks that read from a physical replica: a PostgreSQL of the test's own, and a standby of it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::clock::Clock;
use audit_ledger::integrity::checkpointer::Checkpointer;
use audit_ledger::integrity::outside::{Outside, Subject, TrustedKeys};
use audit_ledger::integrity::publisher::publish_all;
use audit_ledger::integrity::report::Verdict;
use audit_ledger::integrity::verify::Scope;
use audit_ledger::postgres::{Access, DATABASE, PrivatePostgres, Role, Settings};
use audit_ledger::store::Database;
use audit_ledger::store::migrate::{create_database, migrate};
use ledger_verifier::FindingKind;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::common::checkpoints::{ORIGIN, folder, key_lines, keys, seal};
use crate::common::dump::url;
use crate::common::{connect_with, database, fetch, read_back, run, wait_until};
use crate::{assert_verified, check, grow};

/// A program of PostgreSQL, as the user whom the cluster belongs to.
fn program(name: &str, cluster: &Path) -> Command {
    let bindir = std::env::var_os("LEDGER_PG_BINDIR").map(PathBuf::from).unwrap_or_default();
    let mut command = Command::new(bindir.join(name));
    let owner = std::fs::metadata(cluster).unwrap();
    if owner.uid() != rustix::process::geteuid().as_raw() {
        command.gid(owner.gid()).uid(owner.uid());
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// A standby, which ends with this.
struct Standby {
    process: Child,
    options: PgConnectOptions,
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Standby {
    /// Copies the primary and follows it.
    async fn of(primary: &PrivatePostgres, work: &TempDir) -> Self {
        let superuser = PgConnectOptions::from_str(&primary.superuser_url("postgres")).unwrap();
        let mut connection = PgConnection::connect_with(&superuser).await.unwrap();
        let hba: String = fetch(&mut connection, "SHOW hba_file").await;
        OpenOptions::new()
            .append(true)
            .open(hba)
            .unwrap()
            .write_all(b"local replication all trust\nlocal all all trust\n")
            .unwrap();
        let cluster: String = fetch(&mut connection, "SHOW data_directory").await;
        run(&mut connection, "SELECT pg_reload_conf()").await;

        // In a folder that the cluster's user may write to.
        let cluster = PathBuf::from(cluster);
        let place = work.path().join("standby");
        std::fs::create_dir(&place).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
        let data = place.join("data");
        let copied = program("pg_basebackup", &cluster)
            .args(["--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf"])
            .arg(format!("--dbname={}", url(&superuser)))
            .arg(format!("--pgdata={}", data.display()))
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let process = program("postgres", &cluster)
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "hot_standby=on"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", place.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let options = superuser.socket(&place).database(DATABASE);
        let standby = Self { process, options };
        for _ in 0..200 {
            if standby.options.connect().await.is_ok() {
                return standby;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the standby does not answer");
    }

    async fn connect(&self) -> PgConnection {
        connect_with(&self.options).await
    }

    /// Waits until it has everything that the primary has now.
    async fn catch_up(&self, primary: &mut PgConnection) {
        let at: String = fetch(primary, "SELECT pg_current_wal_lsn()::text").await;
        let has = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'::pg_lsn");
        wait_until(&mut self.connect().await, &has).await;
    }
}

#[tokio::test]
async fn a_replica_is_read_and_not_blamed_for_being_behind() {
    let work = tempfile::Builder::new().prefix("replica").tempdir().unwrap();
    std::fs::set_permissions(work.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let settings = Settings {
        data_dir: work.path().join("primary"),
        explicit_data_dir: true,
        bindir: std::env::var_os("LEDGER_PG_BINDIR").map(PathBuf::from),
    };
    let primary = PrivatePostgres::open(&settings, Access::Own).await.unwrap();
    let server = Database::from_url(&primary.url(Role::Superuser)).unwrap();
    create_database(&server, DATABASE).await.unwrap();
    let superuser_url = primary.superuser_url(DATABASE);
    migrate(&Database::from_url(&superuser_url).unwrap()).await.unwrap();
    let mut superuser = connect_with(&PgConnectOptions::from_str(&superuser_url).unwrap()).await;
    let standby = Standby::of(&primary, &work).await;

    let app = Database::from_url(&primary.url(Role::App)).unwrap();
    let lines = key_lines(&[ORIGIN]);
    let anchors = folder(&work.path().join("anchor"));
    let outside =
        Outside { keys: TrustedKeys::new(keys(&lines).vkeys()), anchors: anchors.clone() };
    let replica = Some(database(&standby.options.clone().username("app_trading")));
    let subject = Subject { replica, outside, ..Subject::of(app.clone()) };
    let (appender, _writer) =
        Appender::start(app.clone(), BatchSettings::default(), Clock::system());
    let of_primary = Subject { replica: None, ..subject.clone() };
    let mut checkpointer =
        Checkpointer::new(of_primary, keys(&lines), appender.clone(), Clock::system());
    grow(&appender, 300).await;
    seal(&mut checkpointer).await;
    publish_all(&app, &anchors, Clock::system()).await.unwrap();
    standby.catch_up(&mut superuser).await;
    for scope in [Scope::Ledger, Scope::Incremental, Scope::Rolling] {
        let report = assert_verified(&subject, scope).await;
        let least = if matches!(scope, Scope::Incremental) { 0 } else { 301 };
        assert!(report.rows() >= least, "{report:?}");
    }

    // What it does not have yet is no tail that was removed.
    run(&mut standby.connect().await, "SELECT pg_wal_replay_pause()").await;
    grow(&appender, 20).await;
    seal(&mut checkpointer).await;
    publish_all(&app, &anchors, Clock::system()).await.unwrap();
    for scope in [Scope::Ledger, Scope::Incremental, Scope::Rolling] {
        assert_verified(&subject, scope).await;
    }
    run(&mut standby.connect().await, "SELECT pg_wal_replay_resume()").await;
    standby.catch_up(&mut superuser).await;
    assert_eq!(read_back::verify(&mut superuser).await.problems, Vec::<String>::new());

    // What is changed is found there, and the primary is locked.
    let tampering = "ALTER EVENT TRIGGER ledger_guard_ddl DISABLE;
        ALTER TABLE security_events DISABLE TRIGGER ALL;
        ALTER TABLE security_events DROP CONSTRAINT security_events_row_hash_correct;
        UPDATE security_events SET actor = 'nobody' WHERE id = 7";
    run(&mut superuser, tampering).await;
    standby.catch_up(&mut superuser).await;
    let report = check(&subject, Scope::Ledger).await;
    assert_eq!(report.verdict(), Verdict::Tampered);
    let mut found = report.chains.iter().flat_map(|chain| &chain.findings);
    assert!(found.any(|listed| listed.finding.kind == FindingKind::Content), "{report:?}");
    let locked = "SELECT EXISTS (SELECT FROM ledger_lockdown())";
    assert!(fetch::<bool>(&mut superuser, locked).await);
    superuser.close().await.unwrap();
    drop((standby, appender, checkpointer));
    primary.stop().await;
}
