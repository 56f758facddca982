//! Making the cluster, and starting and stopping its server.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::binaries::{self, Binaries};
use super::error::PostgresError;
use super::leftovers::{self, SHUTDOWN_PATIENCE};
use super::place::Place;
use super::probe::{self, Answer};
use super::user::{self, OsUser};
use super::{PORT, Role, Settings};

/// The role that reads, for people; nothing in the service logs in as it.
const AUDITOR: &str = "ledger_auditor";

/// How long a started server may be silent. It listens before it begins recovery.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// How long recovery after a crash may take before we give up waiting for it.
const RECOVERY_MAX: Duration = Duration::from_mins(10);

/// How long a start is tried again while processes of a killed server hold its memory, and after
/// how much of that time they are told to go.
const STRAGGLERS_MAX: Duration = Duration::from_secs(30);
const STRAGGLERS_GRACE: Duration = Duration::from_secs(2);

/// How long an initdb without a service may get in the way of removing its result.
const UNFINISHED_MAX: Duration = Duration::from_secs(10);

/// A log larger than this is set aside at the next start; only one such is kept.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// How much of a log goes into a message.
const TAIL_LINES: usize = 10;
const TAIL_BYTES: u64 = 8 << 10;

/// What the server is started with, over whatever postgresql.conf says. Durability is not
/// negotiable; the log must hold no content of rows, so neither details of errors (a violated
/// CHECK prints the row) nor statements.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("max_connections", "100"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("restart_after_crash", "on"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("log_timezone", "UTC"),
    ("log_error_verbosity", "terse"),
    ("log_min_error_statement", "panic"),
    ("log_statement", "none"),
    ("log_checkpoints", "off"),
];

/// A cluster that is ours: we hold its lock as long as this lives.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) place: Place,
    binaries: Binaries,
    /// Runs PostgreSQL.
    server_user: OsUser,
    /// Runs the service.
    service_user: OsUser,
    _lock: File,
}

impl Cluster {
    /// Finds the programs, and makes the cluster if there is none.
    pub(super) async fn prepare(
        place: Place,
        settings: &Settings,
        lock: File,
    ) -> Result<Self, PostgresError> {
        let made_by = made_by(&place.pgdata)?;
        let existing = made_by.map(|major| (place.pgdata.as_path(), major));
        let binaries = binaries::find(settings.bindir.as_deref(), existing)?;
        let (server_user, service_user) = (user::server_user(&place.pgdata)?, user::current());
        let cluster = Self { place, binaries, server_user, service_user, _lock: lock };
        if made_by.is_none() {
            cluster.make().await?;
        } else if user::is_root() {
            adopt(&cluster.place.pgdata, &cluster.server_user)?;
        }
        Ok(cluster)
    }

    pub(super) fn bindir(&self) -> &Path {
        &self.binaries.dir
    }

    pub(super) fn major(&self) -> u32 {
        self.binaries.major
    }

    /// Runs initdb beside the cluster's place and moves the result there, so that one that was
    /// killed half-way leaves nothing that looks like a cluster.
    async fn make(&self) -> Result<(), PostgresError> {
        let (data_dir, pgdata) = (&self.place.data_dir, &self.place.pgdata);
        self.clear_unfinished().await?;
        // An initdb that lost its service may live on for a moment: it must not write into ours.
        let unfinished = data_dir.join(format!("postgres.new.{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .map_err(PostgresError::io("create", &unfinished))?;
        self.server_user.give(&unfinished)?;
        let mut command = self.command("initdb");
        command
            .args(["--username", Role::Superuser.name(), "--encoding", "UTF8", "--locale", "C"])
            .args(["--auth-local", "peer", "--auth-host", "reject"])
            .args(["--data-checksums", "--no-instructions", "--pgdata"])
            .arg(&unfinished)
            .kill_on_drop(true);
        let output = command.output().await.map_err(|source| self.spawn_error("initdb", source))?;
        if !output.status.success() {
            return Err(PostgresError::Initdb {
                pgdata: pgdata.clone(),
                status: output.status.to_string(),
                tail: last_lines(&String::from_utf8_lossy(&output.stderr)),
            });
        }
        fs::rename(&unfinished, pgdata)
            .map_err(PostgresError::io("move initdb's result to", pgdata))?;
        File::open(data_dir)
            .and_then(|folder| folder.sync_all())
            .map_err(PostgresError::io("flush", data_dir))
    }

    async fn clear_unfinished(&self) -> Result<(), PostgresError> {
        let data_dir = &self.place.data_dir;
        let entries = fs::read_dir(data_dir).map_err(PostgresError::io("list", data_dir))?;
        let begun = Instant::now();
        for entry in entries.flatten() {
            if !entry.file_name().as_encoded_bytes().starts_with(b"postgres.new") {
                continue;
            }
            while let Err(error) = fs::remove_dir_all(entry.path()) {
                match error.kind() {
                    ErrorKind::NotFound => break,
                    // An initdb whose service was killed still writes there, until it misses what
                    // has been removed.
                    ErrorKind::DirectoryNotEmpty if begun.elapsed() < UNFINISHED_MAX => {
                        sleep(Duration::from_millis(50)).await;
                    }
                    _ => return Err(PostgresError::io("remove", entry.path())(error)),
                }
            }
        }
        Ok(())
    }

    /// Deals with what an earlier run left, starts the server, and waits until it accepts us.
    pub(super) async fn start(&self) -> Result<Postmaster, PostgresError> {
        let begun = Instant::now();
        loop {
            self.place.make_socket_dir(&self.server_user)?;
            leftovers::clear(&self.place).await?;
            self.write_access_files()?;
            let error = match self.start_once().await {
                Err(error) if held_by_stragglers(&error) => error,
                result => return result,
            };
            if begun.elapsed() > STRAGGLERS_MAX {
                return Err(error);
            }
            if begun.elapsed() > STRAGGLERS_GRACE {
                leftovers::end_stragglers(&self.place);
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    async fn start_once(&self) -> Result<Postmaster, PostgresError> {
        self.set_large_log_aside();
        let log = self.place.open_log()?;
        let log_start =
            log.metadata().map_err(PostgresError::io("look at", &self.place.log))?.len();
        let stderr = log.try_clone().map_err(PostgresError::io("open", &self.place.log))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.place.pgdata).arg("-k").arg(&self.place.socket_dir);
        command.args(["-p", &PORT.to_string()]);
        for (name, value) in SETTINGS {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.arg("-c").arg(format!("cluster_name={}", self.place.mark()));
        for (name, file) in [("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")] {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(self.place.pgdata.join(file));
            command.arg("-c").arg(setting);
        }
        command.stdout(log).stderr(stderr).kill_on_drop(false);
        let child = command.spawn().map_err(|source| self.spawn_error("postgres", source))?;
        let mut postmaster = Postmaster { child, log: self.place.log.clone(), log_start };
        if let Err(error) = self.wait_until_ready(&mut postmaster).await {
            postmaster.shut_down().await;
            return Err(error);
        }
        Ok(postmaster)
    }

    async fn wait_until_ready(&self, postmaster: &mut Postmaster) -> Result<(), PostgresError> {
        let begun = Instant::now();
        let mut heard = begun;
        let mut told = false;
        let status = loop {
            match postmaster.child.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                Ok(None) => {}
                Err(error) => break error.to_string(),
            }
            match probe::ask(&self.place.socket_dir).await {
                Answer::Ready => return Ok(()),
                Answer::Refused(why) => break why,
                Answer::NotYet(_) if self.place.socket().exists() => heard = Instant::now(),
                Answer::NotYet(_) => {}
            }
            if heard.elapsed() > SILENCE_MAX {
                break format!("no socket after {} s", SILENCE_MAX.as_secs());
            }
            if begun.elapsed() > RECOVERY_MAX {
                break format!("still starting up after {} s", RECOVERY_MAX.as_secs());
            }
            if !told && begun.elapsed() > Duration::from_secs(5) {
                told = true;
                tracing::info!("PostgreSQL is still starting up, perhaps recovering from a crash");
            }
            sleep(Duration::from_millis(20)).await;
        };
        Err(PostgresError::Start {
            pgdata: self.place.pgdata.clone(),
            status,
            log: self.place.log.clone(),
            tail: postmaster.log_tail(),
        })
    }

    /// One of PostgreSQL's programs, as its user, in a process group of its own: a Ctrl-C in the
    /// terminal must reach the service alone, which then drains before it stops the server. The
    /// environment is not passed on: it holds the service's secrets, and PG… variables that would
    /// set options.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.dir.join(program));
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        for kept in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        // The service's own folder may be closed to that user.
        command.current_dir("/").process_group(0).stdin(Stdio::null());
        self.server_user.apply(command.as_std_mut());
        command
    }

    fn spawn_error(&self, program: &str, source: std::io::Error) -> PostgresError {
        let program = self.binaries.dir.join(program);
        PostgresError::Spawn { program, user: self.server_user.label(), source }
    }

    /// Who may log in. Written at each start, as the service may run as another user this time.
    fn write_access_files(&self) -> Result<(), PostgresError> {
        let mut users = vec!["root"];
        for user in [&self.service_user, &self.server_user] {
            users.extend(user.name.as_deref().filter(|name| can_stand_in_pg_ident(name)));
        }
        users.sort_unstable();
        users.dedup();
        self.replace("pg_hba.conf", &pg_hba())?;
        self.replace("pg_ident.conf", &pg_ident(&users))
    }

    /// Replaces a file of the cluster as a whole. The folder belongs to another user than root,
    /// which therefore follows no links there.
    fn replace(&self, name: &str, content: &str) -> Result<(), PostgresError> {
        let path = self.place.pgdata.join(name);
        let new = self.place.pgdata.join(format!("{name}.new"));
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(PostgresError::io("remove", new)(error));
        }
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(content.as_bytes())?;
            if user::is_root() {
                fchown(&file, Some(self.server_user.uid), Some(self.server_user.gid))?;
            }
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(PostgresError::io("write", path.clone()))
    }

    /// Best effort: a large log is no reason not to start.
    fn set_large_log_aside(&self) {
        let log = &self.place.log;
        if fs::symlink_metadata(log).is_ok_and(|data| data.len() > LOG_BYTES_MAX) {
            let _ = fs::rename(log, log.with_extension("log.1"));
        }
    }
}

/// A running server process, and where in the log its own lines begin.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
    log: PathBuf,
    log_start: u64,
}

impl Postmaster {
    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// The last lines that it logged.
    pub(super) fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let from = self.log_start.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(last_lines(&String::from_utf8_lossy(&bytes)))
        };
        read().unwrap_or_default()
    }

    /// Fast shutdown (sessions are ended, everything is flushed); where that takes too long an
    /// immediate one, from which the next start recovers.
    pub(super) async fn shut_down(mut self) {
        for signal in [Signal::INT, Signal::QUIT] {
            self.signal(signal);
            if timeout(SHUTDOWN_PATIENCE, self.child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!(
                "PostgreSQL has not ended {} s after {signal:?}",
                SHUTDOWN_PATIENCE.as_secs(),
            );
        }
    }

    fn signal(&self, signal: Signal) {
        // The id stays the child's until it is waited for, after which there is none here.
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(%error, "cannot send {signal:?} to PostgreSQL");
        }
    }
}

impl Drop for Postmaster {
    /// For a service that ends without stopping it: asks for a fast shutdown, and never waits.
    fn drop(&mut self) {
        self.signal(Signal::INT);
    }
}

/// The major version that made the cluster, or `None` where there is none yet.
fn made_by(pgdata: &Path) -> Result<Option<u32>, PostgresError> {
    let file = pgdata.join("PG_VERSION");
    let not_a_cluster = || PostgresError::NotACluster { pgdata: pgdata.to_owned() };
    match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| not_a_cluster()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match fs::read_dir(pgdata).map(|mut entries| entries.next().is_none()) {
                Ok(false) => Err(not_a_cluster()),
                Ok(true) => Ok(None),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(PostgresError::io("list", pgdata)(error)),
            }
        }
        Err(error) => Err(PostgresError::io("read", file)(error)),
    }
}

/// A cluster that belongs to root was restored from a backup by root: gives it to the user that
/// runs PostgreSQL. The folder itself comes last, so that an interrupted try is made again.
fn adopt(path: &Path, server_user: &OsUser) -> Result<(), PostgresError> {
    let data = fs::metadata(path).map_err(PostgresError::io("look at", path))?;
    if data.uid() != 0 {
        return Ok(());
    }
    let mut folders = vec![path.to_owned()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        let entries = fs::read_dir(&folder).map_err(PostgresError::io("list", &folder))?;
        for entry in entries {
            let entry = entry.map_err(PostgresError::io("list", &folder))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                server_user.give(&entry.path())?;
            }
        }
    }
    folders.iter().rev().try_for_each(|folder| server_user.give(folder))
}

/// PostgreSQL finds the memory of a server that was killed still in use by that server's children.
fn held_by_stragglers(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Start { tail, .. }
        if tail.contains("shared memory block") && tail.contains("still in use"))
}

/// Peer authentication for our roles, nothing for anybody else, no line for TCP.
fn pg_hba() -> String {
    format!(
        "# Written by audit-ledger at each start: changes are lost.\n\
         local all {} peer map=ledger\n",
        login_roles().join(","),
    )
}

/// Each of `users`, names on the operating system, may log in as each of our roles.
fn pg_ident(users: &[&str]) -> String {
    let mut text = "# Written by audit-ledger at each start: changes are lost.\n".to_owned();
    for user in users {
        for role in login_roles() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "ledger \"{user}\" {role}");
        }
    }
    text
}

fn login_roles() -> [&'static str; 4] {
    [Role::Superuser.name(), Role::Migrator.name(), Role::App.name(), AUDITOR]
}

/// Quoted, any name is taken literally but one with a quote or line break, or one that begins with
/// a slash, which PostgreSQL reads as a regular expression.
fn can_stand_in_pg_ident(name: &str) -> bool {
    !name.starts_with('/') && !name.contains(|c: char| c == '"' || c.is_control())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_each_user_to_each_role() {
        let text = pg_ident(&["alice", "root"]);
        assert_eq!(text.lines().count(), 1 + 2 * 4);
        assert!(text.contains("\nledger \"alice\" app_trading\n"), "{text}");
        assert!(pg_hba().lines().skip(1).all(|line| line.starts_with("local ")));
        assert!(!can_stand_in_pg_ident("/.*"));
        assert!(!can_stand_in_pg_ident("a\" postgres\nledger \"b"));
    }

    #[test]
    fn keeps_the_last_lines() {
        let text: Vec<_> = (1..=12).map(|n| n.to_string()).collect();
        assert_eq!(last_lines(&text.join("\n")).lines().next(), Some("3"));
        assert_eq!(last_lines(""), "");
    }
}
