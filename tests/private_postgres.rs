//! The private PostgreSQL, with real processes that are really killed. Runs as root (then the
//! server is another user's) and as anybody else.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use audit_ledger::postgres::{
    Access, PostgresError, PrivatePostgres, Role, Settings, resolve_data_dir,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Names the data folder to the helper process.
const HELPER_DATA_DIR: &str = "LEDGER_TEST_HELPER_DATA_DIR";

/// A parent for data folders that another user's PostgreSQL can reach whatever the umask.
fn parent() -> TempDir {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
    parent
}

fn settings(data_dir: impl Into<PathBuf>) -> Settings {
    Settings { data_dir: data_dir.into(), explicit_data_dir: true, bindir: None }
}

async fn own(data_dir: &Path) -> PrivatePostgres {
    open(data_dir, Access::Own).await.unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

async fn open(data_dir: &Path, access: Access) -> Result<PrivatePostgres, PostgresError> {
    /// Callers spawn it.
    fn sent<T: Send>(future: T) -> T {
        future
    }
    sent(PrivatePostgres::open(&settings(data_dir), access)).await
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn execute(postgres: &PrivatePostgres, sql: &'static str) {
    let mut connection = connect(&postgres.url(Role::Superuser)).await;
    connection.execute(sql).await.unwrap();
    connection.close().await.unwrap();
}

async fn one(url: &str, sql: &'static str) -> String {
    let mut connection = connect(url).await;
    let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

async fn kept(postgres: &PrivatePostgres) -> String {
    one(&postgres.url(Role::Superuser), "SELECT string_agg(v, ',') FROM kept").await
}

fn postmaster_pid(postgres: &PrivatePostgres) -> Pid {
    let text = fs::read_to_string(postgres.data_dir().join("postgres/postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
}

fn lives(pid: Pid) -> bool {
    let zombie = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    };
    test_kill_process(pid).is_ok() && !zombie()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// This test binary once more, as another process that owns the cluster.
fn helper(data_dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_process", "--nocapture"])
        .env(HELPER_DATA_DIR, data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// No test of its own: what [`helper`] runs in the other process.
#[tokio::test]
async fn helper_process() {
    let Some(data_dir) = std::env::var_os(HELPER_DATA_DIR) else {
        return;
    };
    let _postgres = own(Path::new(&data_dir)).await;
    println!("\nREADY");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn keeps_data_and_is_durable() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    let postgres = own(&data_dir).await;
    assert!(!postgres.is_attached());
    assert_eq!(postgres.data_dir(), data_dir.canonicalize().unwrap());
    assert_eq!(postgres.socket_dir(), postgres.data_dir().join("run"));
    execute(&postgres, "CREATE TABLE kept AS SELECT 'one' AS v").await;
    let socket_dir = postgres.socket_dir().to_str().unwrap().to_owned();
    for (sql, expected) in [
        ("SHOW fsync", "on"),
        ("SHOW full_page_writes", "on"),
        ("SHOW synchronous_commit", "on"),
        ("SHOW data_checksums", "on"),
        ("SHOW listen_addresses", ""),
        ("SHOW log_error_verbosity", "terse"),
        ("SHOW logging_collector", "off"),
        ("SHOW max_connections", "100"),
        ("SHOW server_encoding", "UTF8"),
        ("SHOW unix_socket_permissions", "0700"),
        ("SHOW unix_socket_directories", &socket_dir),
    ] {
        assert_eq!(one(&postgres.url(Role::Superuser), sql).await, expected, "{sql}");
    }
    let collation = "SELECT datcollate FROM pg_database WHERE datname = 'template1'";
    assert_eq!(one(&postgres.superuser_url("template1"), collation).await, "C");
    let (pid, socket) = (postmaster_pid(&postgres), postgres.socket_dir().join(".s.PGSQL.5432"));
    postgres.stop().await;
    assert!(!lives(pid));
    assert!(!socket.exists());

    let postgres = own(&data_dir).await;
    assert_eq!(kept(&postgres).await, "one");
    assert_eq!(fs::metadata(postgres.socket_dir()).unwrap().mode() & 0o777, 0o700);
    postgres.stop().await;
}

#[tokio::test]
async fn lets_in_our_roles_only_and_logs_no_rows() {
    let parent = parent();
    let postgres = own(&parent.path().join("ledger")).await;
    execute(&postgres, "CREATE ROLE ledger_migrator LOGIN").await;
    execute(&postgres, "CREATE ROLE app_trading LOGIN").await;
    execute(&postgres, "CREATE ROLE mallory LOGIN").await;
    execute(&postgres, "CREATE DATABASE ledger").await;
    for role in [Role::Migrator, Role::App] {
        let url = postgres.url(role);
        assert_eq!(one(&url, "SELECT current_user::text").await, role.name());
        assert_eq!(one(&url, "SELECT current_database()::text").await, "ledger");
        let psql = Command::new("psql").args(["-XAtc", "SELECT current_user", &url]).output();
        match psql {
            Ok(output) => assert_eq!(output.stdout, format!("{}\n", role.name()).as_bytes()),
            Err(_) => eprintln!("no psql here: its reading of the URL is not tested"),
        }
    }
    let as_mallory = postgres.url(Role::App).replace("app_trading", "mallory");
    let refused = PgConnection::connect(&as_mallory).await.unwrap_err();
    let code = refused.as_database_error().and_then(|error| error.code().map(Into::into));
    assert_eq!(code, Some("28000".to_owned()), "{refused}");

    let log = postgres.data_dir().join("postgres.log");
    execute(&postgres, "CREATE TABLE t (v text CONSTRAINT short CHECK (length(v) < 3))").await;
    let mut connection = connect(&postgres.url(Role::Superuser)).await;
    connection.execute("INSERT INTO t VALUES ('secret-content')").await.unwrap_err();
    let logged = fs::read_to_string(log).unwrap();
    assert!(logged.contains("violates check constraint"), "{logged}");
    assert!(!logged.contains("secret-content"), "{logged}");
    postgres.stop().await;
}

#[tokio::test]
async fn has_one_owner_and_others_attach() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    let owner = own(&data_dir).await;
    execute(&owner, "CREATE TABLE kept AS SELECT 'one' AS v").await;

    let error = open(&data_dir, Access::Own).await.unwrap_err();
    assert!(matches!(error, PostgresError::Owned { .. }), "{error}");
    let expected = format!("another audit-ledger (pid {}) serves", std::process::id());
    assert!(error.to_string().starts_with(&expected), "{error}");

    let attached = open(&data_dir, Access::Attach).await.unwrap();
    assert!(attached.is_attached());
    assert_eq!(attached.url(Role::App), owner.url(Role::App));
    assert_eq!(kept(&attached).await, "one");
    attached.stop().await;
    assert_eq!(kept(&owner).await, "one");
    owner.stop().await;

    let alone = open(&data_dir, Access::Attach).await.unwrap();
    assert!(!alone.is_attached(), "nobody else is there: it owns");
    assert_eq!(kept(&alone).await, "one");
    alone.stop().await;
}

#[tokio::test]
async fn stops_the_orphan_of_a_killed_service() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    let mut helper = helper(&data_dir);
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "READY"));

    let attached = open(&data_dir, Access::Attach).await.unwrap();
    assert!(attached.is_attached());
    execute(&attached, "CREATE TABLE kept AS SELECT 'one' AS v").await;
    let orphan = postmaster_pid(&attached);
    helper.kill().unwrap();
    helper.wait().unwrap();
    assert_eq!(kept(&attached).await, "one", "the server outlives its service");

    let postgres = own(&data_dir).await;
    assert!(!lives(orphan));
    assert_ne!(postmaster_pid(&postgres), orphan);
    assert_eq!(kept(&postgres).await, "one");
    postgres.stop().await;
}

#[tokio::test]
async fn recovers_from_a_killed_postmaster() {
    let parent = parent();
    let postgres = own(&parent.path().join("ledger")).await;
    execute(&postgres, "CREATE TABLE kept AS SELECT 'one' AS v").await;
    // A backend that is too busy to notice, and keeps the shared memory.
    let mut busy = connect(&postgres.url(Role::Superuser)).await;
    let busy =
        tokio::spawn(async move { busy.execute("DO 'BEGIN LOOP END LOOP; END'").await.err() });
    let active = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'DO %LOOP%'";
    let url = postgres.url(Role::Superuser);
    eventually("the backend is busy", async || one(&url, active).await == "1").await;

    let killed = postmaster_pid(&postgres);
    kill_process(killed, Signal::KILL).unwrap();
    eventually("a new server accepts connections", async || {
        PgConnection::connect(&url).await.is_ok() && postmaster_pid(&postgres) != killed
    })
    .await;
    assert_eq!(kept(&postgres).await, "one");
    assert!(busy.await.unwrap().is_some());

    // And again, at once.
    kill_process(postmaster_pid(&postgres), Signal::KILL).unwrap();
    eventually("the next one does", async || PgConnection::connect(&url).await.is_ok()).await;
    assert_eq!(kept(&postgres).await, "one");
    postgres.stop().await;
}

#[tokio::test]
async fn ends_when_dropped() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    let postgres = own(&data_dir).await;
    let pid = postmaster_pid(&postgres);
    drop(postgres);
    eventually("the server ends", async || !lives(pid)).await;
    own(&data_dir).await.stop().await;
}

#[tokio::test]
async fn moves_the_socket_of_a_deep_folder() {
    let parent = parent();
    let data_dir = parent.path().join("deep".repeat(30)).join("ledger");
    let postgres = own(&data_dir).await;
    let socket_dir = postgres.socket_dir().to_owned();
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    execute(&postgres, "CREATE TABLE kept AS SELECT 'one' AS v").await;
    let attached = open(&data_dir, Access::Attach).await.unwrap();
    assert_eq!(attached.socket_dir(), socket_dir);
    assert_eq!(kept(&attached).await, "one");
    postgres.stop().await;

    // Anybody may have made it, had we not.
    fs::set_permissions(&socket_dir, Permissions::from_mode(0o777)).unwrap();
    let error = open(&data_dir, Access::Own).await.unwrap_err();
    assert!(matches!(error, PostgresError::SocketDir { .. }), "{error}");
    fs::remove_dir_all(&socket_dir).unwrap();
    std::os::unix::fs::symlink(parent.path(), &socket_dir).unwrap();
    let error = open(&data_dir, Access::Own).await.unwrap_err();
    assert!(error.to_string().contains("is not a folder"), "{error}");
    fs::remove_file(&socket_dir).unwrap();
}

#[tokio::test]
async fn is_not_kept_out_by_a_reused_process_id() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    own(&data_dir).await.stop().await;
    let pgdata = data_dir.join("postgres");
    let mut sleeper = Command::new("sleep");
    sleeper.arg("300");
    if rustix::process::geteuid().is_root() {
        // PostgreSQL minds processes of its own user only.
        let owner = fs::metadata(&pgdata).unwrap();
        sleeper.uid(owner.uid()).gid(owner.gid());
    }
    let mut sleeper = sleeper.spawn().unwrap();
    for pid in [sleeper.id(), std::process::id(), std::os::unix::process::parent_id(), 1] {
        let stale = format!("{pid}\n{}\n1\n5432\n", pgdata.display());
        fs::write(pgdata.join("postmaster.pid"), &stale).unwrap();
        fs::write(data_dir.join("run/.s.PGSQL.5432.lock"), &stale).unwrap();
        fs::write(data_dir.join("run/.s.PGSQL.5432"), "").unwrap();
        own(&data_dir).await.stop().await;
    }
    assert!(sleeper.try_wait().unwrap().is_none(), "it was none of our business");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[tokio::test]
async fn finds_a_server_whose_pid_file_was_removed() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    let mut helper = helper(&data_dir);
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "READY"));
    helper.kill().unwrap();
    helper.wait().unwrap();
    let pid_file = data_dir.join("postgres/postmaster.pid");
    let orphan = fs::read_to_string(&pid_file).unwrap();
    let orphan = Pid::from_raw(orphan.lines().next().unwrap().parse().unwrap()).unwrap();
    fs::remove_file(&pid_file).unwrap();
    let postgres = own(&data_dir).await;
    assert!(!lives(orphan));
    postgres.stop().await;
}

#[tokio::test]
async fn survives_an_interrupted_initdb() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    let mut helper = helper(&data_dir);
    let unfinished = data_dir.join(format!("postgres.new.{}", helper.id()));
    eventually("initdb is under way", async || unfinished.join("base").exists()).await;
    helper.kill().unwrap();
    helper.wait().unwrap();
    assert!(!data_dir.join("postgres").exists());
    fs::create_dir(data_dir.join("postgres.new")).unwrap();
    fs::write(data_dir.join("postgres.new/PG_VERSION"), "15\n").unwrap();

    let postgres = own(&data_dir).await;
    execute(&postgres, "CREATE TABLE kept AS SELECT 'one' AS v").await;
    postgres.stop().await;
    assert!(!unfinished.exists());
    assert!(!data_dir.join("postgres.new").exists());
}

#[tokio::test]
async fn root_is_told_of_a_folder_in_the_way() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nothing to test");
        return;
    }
    let parent = parent();
    let closed = parent.path().canonicalize().unwrap().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let mut settings = settings(closed.join("a/ledger"));
    let error = PrivatePostgres::open(&settings, Access::Own).await.unwrap_err();
    assert!(matches!(error, PostgresError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&format!("may not enter {},", closed.display())), "{error}");
    assert!(!closed.join("a").exists(), "it is found out beforehand");

    settings.explicit_data_dir = false;
    let instead = resolve_data_dir(&settings).unwrap();
    assert_eq!(instead.parent(), Some(Path::new("/var/lib/audit-ledger")));
    assert_eq!(instead.file_name().unwrap().len(), 16);
    assert_eq!(resolve_data_dir(&settings).unwrap(), instead);
    fs::set_permissions(&closed, Permissions::from_mode(0o711)).unwrap();
    assert_eq!(resolve_data_dir(&settings).unwrap(), settings.data_dir);
}

#[tokio::test]
async fn root_keeps_to_the_default_folder_that_moved() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nothing to test");
        return;
    }
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let mut settings = settings(closed.path().join(".ledger"));
    settings.explicit_data_dir = false;
    let postgres = PrivatePostgres::open(&settings, Access::Own).await.unwrap();
    let data_dir = postgres.data_dir().to_owned();
    assert!(data_dir.starts_with("/var/lib/audit-ledger"), "{}", data_dir.display());
    let attached = PrivatePostgres::open(&settings, Access::Attach).await.unwrap();
    assert!(attached.is_attached());
    // Opening the way later does not make the ledger disappear.
    fs::set_permissions(closed.path(), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(resolve_data_dir(&settings).unwrap(), data_dir);
    postgres.stop().await;
    fs::remove_dir_all(&data_dir).unwrap();
    // Only if nobody else's ledger is there.
    let _ = fs::remove_dir("/var/lib/audit-ledger");
}

#[tokio::test]
async fn root_adopts_a_restored_cluster() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nothing to test");
        return;
    }
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    let postgres = own(&data_dir).await;
    execute(&postgres, "CREATE TABLE kept AS SELECT 'one' AS v").await;
    postgres.stop().await;
    let restored = parent.path().join("restored");
    let copy = Command::new("cp").arg("-r").args([&data_dir, &restored]).status().unwrap();
    assert!(copy.success());
    fs::set_permissions(&restored, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::metadata(restored.join("postgres/base")).unwrap().uid(), 0);
    let postgres = own(&restored).await;
    assert_eq!(kept(&postgres).await, "one");
    postgres.stop().await;
}

#[tokio::test]
async fn says_what_is_wrong_with_binaries_and_data() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    let mut settings = settings(&data_dir);
    settings.bindir = Some(parent.path().to_owned());
    let error = PrivatePostgres::open(&settings, Access::Own).await.unwrap_err();
    assert!(matches!(error, PostgresError::BadBindir { .. }), "{error}");
    assert!(error.to_string().contains(parent.path().to_str().unwrap()), "{error}");

    let pgdata = data_dir.join("postgres");
    fs::create_dir_all(&pgdata).unwrap();
    fs::write(pgdata.join("PG_VERSION"), "99\n").unwrap();
    let error = open(&data_dir, Access::Own).await.unwrap_err();
    assert!(matches!(error, PostgresError::VersionMismatch { made_by: 99, .. }), "{error}");
    assert!(error.to_string().contains("was made by PostgreSQL 99, found only"), "{error}");

    fs::rename(pgdata.join("PG_VERSION"), pgdata.join("something")).unwrap();
    let error = open(&data_dir, Access::Own).await.unwrap_err();
    assert!(matches!(error, PostgresError::NotACluster { .. }), "{error}");
}

#[tokio::test]
async fn shows_why_the_server_does_not_start() {
    let parent = parent();
    let data_dir = parent.path().join("ledger");
    own(&data_dir).await.stop().await;
    let conf = data_dir.join("postgres/postgresql.conf");
    let good = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{good}\nno_such_setting = 1\n")).unwrap();
    let error = open(&data_dir, Access::Own).await.unwrap_err();
    assert!(matches!(error, PostgresError::Start { .. }), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    fs::write(&conf, good).unwrap();
    own(&data_dir).await.stop().await;
}

#[tokio::test]
async fn gets_no_ctrl_c_no_groups_and_no_environment_of_ours() {
    let parent = parent();
    let postgres = own(&parent.path().join("ledger")).await;
    let pid = postmaster_pid(&postgres);
    let group = rustix::process::getpgid(Some(pid)).unwrap();
    assert_ne!(group, rustix::process::getpgrp());
    assert_eq!(group, pid);
    // Root without CAP_SYS_PTRACE, and other systems, cannot look.
    if let Ok(environment) = fs::read_to_string(format!("/proc/{}/environ", pid.as_raw_pid())) {
        for variable in environment.split_terminator('\0') {
            let (name, _) = variable.split_once('=').unwrap();
            let known = ["LC_ALL", "TZ", "PATH", "LD_LIBRARY_PATH", "PGDATA", "PG_GRANDPARENT_PID"];
            assert!(known.contains(&name), "{name} is none of its business");
        }
    }
    if cfg!(target_os = "linux") && rustix::process::geteuid().is_root() {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("Groups:"), Vec::<String>::new());
        assert!(!line("Uid:").contains(&"0".to_owned()), "{status}");
        assert!(!line("Gid:").contains(&"0".to_owned()), "{status}");
    }
    postgres.stop().await;
}
