//! What can go wrong with the private PostgreSQL, in words for the person who started it.

use std::path::PathBuf;

/// Why the private PostgreSQL does not run. Each message says what happened, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// A file or folder could not be read, made or changed.
    #[error(
        "cannot {action} {}: check that folder's owner, permissions and free space",
        path.display()
    )]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// No server binaries on this machine.
    #[error(
        "no PostgreSQL server (`postgres` and `initdb`) found by pg_config, on PATH or in the \
         usual folders: install one (`apt-get install postgresql`, `dnf install \
         postgresql-server`, `brew install postgresql@17`), set LEDGER_PG_BINDIR to it, or set \
         DATABASE_URL to a running one"
    )]
    NoBinaries,

    /// `LEDGER_PG_BINDIR` is not a folder of server binaries.
    #[error(
        "LEDGER_PG_BINDIR={} has no working `postgres` and `initdb`: set it to the folder that \
         `pg_config --bindir` prints, unset it, or set DATABASE_URL", bindir.display()
    )]
    BadBindir {
        /// The folder.
        bindir: PathBuf,
    },

    /// There are binaries, but all are too old.
    #[error(
        "PostgreSQL {oldest} or newer is needed, found only {found}: install a newer one, set \
         LEDGER_PG_BINDIR to it, or set DATABASE_URL"
    )]
    TooOld {
        /// The oldest major version that will do.
        oldest: u32,
        /// Versions and folders found.
        found: String,
    },

    /// The cluster was made by a major version that is not installed.
    #[error(
        "the data in {} was made by PostgreSQL {made_by}, found only {found}: install PostgreSQL \
         {made_by} again (or set LEDGER_PG_BINDIR to it), or convert the data with pg_upgrade",
        pgdata.display()
    )]
    VersionMismatch {
        /// The cluster.
        pgdata: PathBuf,
        /// The cluster's major version.
        made_by: u32,
        /// Versions and folders found.
        found: String,
    },

    /// A folder in the cluster's place is something else.
    #[error(
        "{} is neither empty nor a PostgreSQL cluster (its PG_VERSION is missing or unreadable): \
         move it away, or restore it from a backup", pgdata.display()
    )]
    NotACluster {
        /// The folder.
        pgdata: PathBuf,
    },

    /// Started as root, and there is nobody to run PostgreSQL as.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor a user \
         `nobody`: add one (`useradd --system postgres`), or start the service as another user"
    )]
    NoUser,

    /// The service's user has no name, which PostgreSQL cannot do with.
    #[error(
        "user id {uid} has no name on this system, and PostgreSQL needs one: add it to \
         /etc/passwd, start the service as another user, or set DATABASE_URL"
    )]
    NamelessUser {
        /// The effective user id.
        uid: u32,
    },

    /// The cluster belongs to somebody else, and we are not root.
    #[error(
        "the data in {} belongs to {owner}: start the service as that user or as root",
        pgdata.display()
    )]
    ForeignData {
        /// The cluster.
        pgdata: PathBuf,
        /// Its owner.
        owner: String,
    },

    /// The user that runs PostgreSQL cannot get to the data folder.
    #[error(
        "PostgreSQL cannot run as root, and the user {user} that would run it may not enter {}, \
         in which the data folder {} lies: choose another LEDGER_DATA_DIR, allow it \
         (`chmod o+x {}`), or start the service as another user than root",
        closed.display(), data_dir.display(), closed.display()
    )]
    Unreachable {
        /// The outermost folder that is closed to the user.
        closed: PathBuf,
        /// The data folder.
        data_dir: PathBuf,
        /// The user that would run PostgreSQL.
        user: String,
    },

    /// Another process owns the cluster.
    #[error(
        "another audit-ledger ({owner}) serves {}: stop it first, or choose another \
         LEDGER_DATA_DIR", data_dir.display()
    )]
    Owned {
        /// The data folder.
        data_dir: PathBuf,
        /// The process that holds the lock, "pid 123".
        owner: String,
    },

    /// The owner's server accepts no connections.
    #[error(
        "another audit-ledger ({owner}) has {} open, but its PostgreSQL has accepted no \
         connection for {seconds} s ({why}): see postgres.log there, or stop that process",
        data_dir.display()
    )]
    AttachTimeout {
        /// The data folder.
        data_dir: PathBuf,
        /// The process that holds the lock, "pid 123".
        owner: String,
        /// How long we waited.
        seconds: u64,
        /// What the last try met.
        why: String,
    },

    /// The server runs, and does not let us in.
    #[error(
        "the PostgreSQL of {} refuses this user ({why}): use the user that started the service, or \
         restart the service", data_dir.display()
    )]
    Refused {
        /// The data folder.
        data_dir: PathBuf,
        /// PostgreSQL's message.
        why: String,
    },

    /// The socket's folder is not ours alone.
    #[error("the socket folder {} {problem}: find out who made it and remove it", path.display())]
    SocketDir {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A program of PostgreSQL's could not be run.
    #[error(
        "cannot run {}: check that it is executable, and in folders that the user {user} may \
         enter", program.display()
    )]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The user it was to run as.
        user: String,
        /// What the system said.
        source: std::io::Error,
    },

    /// The cluster could not be made.
    #[error(
        "initdb could not make a cluster in {} ({status}): mend what it says and start again\n\
         {tail}",
        pgdata.display()
    )]
    Initdb {
        /// Where the cluster was to be.
        pgdata: PathBuf,
        /// How initdb ended.
        status: String,
        /// The last lines it wrote.
        tail: String,
    },

    /// The server ended, or gave no sign of life, before it accepted connections.
    #[error(
        "PostgreSQL did not start on {} ({status}): mend what {} says and start again\n{tail}",
        pgdata.display(), log.display()
    )]
    Start {
        /// The cluster.
        pgdata: PathBuf,
        /// How it ended, or what we waited for.
        status: String,
        /// The server's log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// A server that an earlier run left does not end.
    #[error(
        "a PostgreSQL (pid {pid}) that an earlier run left on {} does not end: end it \
         (`kill -QUIT {pid}`) and start again", pgdata.display()
    )]
    Orphan {
        /// The cluster.
        pgdata: PathBuf,
        /// The server's process id.
        pid: i32,
    },

    /// Somebody works on the cluster by hand.
    #[error(
        "a single-user PostgreSQL (pid {pid}) works on {}: end that session and start again",
        pgdata.display()
    )]
    SingleUser {
        /// The cluster.
        pgdata: PathBuf,
        /// Its process id.
        pid: i32,
    },
}

impl PostgresError {
    /// For `map_err`: an I/O error with what was tried, on what.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
