//! The private PostgreSQL that `audit-ledger serve` runs when no `DATABASE_URL` is set.
//!
//! One folder, one cluster, one owner: whoever holds the lock on `service.lock` starts, supervises
//! and stops the server; other processes of the command line attach to what runs there. The server
//! listens on a Unix socket in a private folder only, and lets nobody in but the operating system
//! users named in `pg_ident.conf` (peer authentication, no passwords, no TCP).
//!
//! ```text
//! <data dir>/postgres/       PGDATA, owned by the user that runs PostgreSQL
//! <data dir>/run/            the socket (or /tmp/audit-ledger-<hash>, where that path is unfit)
//! <data dir>/postgres.log    what the server says, appended
//! <data dir>/service.lock    locked by the owner, with its process id in it
//! ```

mod binaries;
mod cluster;
mod error;
mod leftovers;
mod place;
mod probe;
mod supervisor;
mod user;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use error::PostgresError;
pub use place::resolve_data_dir;

use cluster::Cluster;
use place::Place;
use probe::Answer;
use supervisor::Supervisor;

/// The database that holds the ledger.
pub const DATABASE: &str = "ledger";

/// PostgreSQL's port: only the end of the socket's file name, as nothing listens on TCP.
const PORT: u16 = 5432;

/// The oldest major version whose features the schema uses.
const OLDEST_MAJOR: u32 = 15;

/// How long somebody who attaches waits for the owner's server (its initdb and recovery included).
const ATTACH_PATIENCE: Duration = Duration::from_secs(30);

/// How long somebody who must own the cluster waits for an owner that is just ending.
const OWN_PATIENCE: Duration = Duration::from_secs(1);

/// Where the private cluster lies and what runs it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `LEDGER_DATA_DIR`; may be relative, need not exist.
    pub data_dir: PathBuf,
    /// Whether somebody chose `data_dir` (then it is used or refused), or it is the default (then
    /// root may be sent to a folder under `/var/lib`, see [`resolve_data_dir`]).
    pub explicit_data_dir: bool,
    /// `LEDGER_PG_BINDIR`: the folder of `postgres` and `initdb`. No other is looked at then.
    pub bindir: Option<PathBuf>,
}

/// What the caller needs the cluster for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To own it (`serve`): somebody else's being there is an error.
    Own,
    /// To use it (the command line): attach where an owner lives, else own it meanwhile.
    Attach,
}

/// The database role that a connection logs in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `postgres`: makes the roles and the database.
    Superuser,
    /// `ledger_migrator`: owns the schema.
    Migrator,
    /// `app_trading`: the service's own.
    App,
}

/// Whether a cluster was made in this folder, which [`resolve_data_dir`] has found.
pub fn has_cluster(data_dir: &Path) -> bool {
    data_dir.join("postgres").join("PG_VERSION").exists()
}

impl Role {
    /// The role's name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Superuser => "postgres",
            Self::Migrator => "ledger_migrator",
            Self::App => "app_trading",
        }
    }
}

/// A running private PostgreSQL, owned or attached to.
///
/// Call [`stop`](Self::stop) when done. Dropped without it, an owned server is told to shut down
/// but not waited for; what is left of it is dealt with at the next start.
#[derive(Debug)]
pub struct PrivatePostgres {
    place: Place,
    /// `None`: attached, another process owns the server.
    supervisor: Option<Supervisor>,
}

impl PrivatePostgres {
    /// Starts the cluster under `settings.data_dir` (made first, if there is none), or attaches to
    /// it, and returns when it accepts connections.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Owned`] where another process owns it and `access` is [`Access::Own`]; else
    /// whatever kept the server from running.
    pub async fn open(settings: &Settings, access: Access) -> Result<Self, PostgresError> {
        let place = Place::at(resolve_data_dir(settings)?);
        // For its errors, which say more than a refused file would.
        user::server_user(&place.pgdata)?;
        place.create_data_dir()?;
        let Some(lock) = own_or_attach(&place, access).await? else {
            tracing::debug!(data_dir = %place.data_dir.display(), "attached to PostgreSQL");
            return Ok(Self { place, supervisor: None });
        };
        if !settings.explicit_data_dir && !place.is_at(&settings.data_dir) {
            tracing::info!(
                data_dir = %place.data_dir.display(),
                "the default data folder {} cannot be reached by the user that runs PostgreSQL, \
                 or an earlier start has put the ledger here: using {}",
                settings.data_dir.display(),
                place.data_dir.display(),
            );
        }
        let cluster = Cluster::prepare(place.clone(), settings, lock).await?;
        let postmaster = cluster.start().await?;
        tracing::info!(
            data_dir = %place.data_dir.display(),
            socket_dir = %place.socket_dir.display(),
            bindir = %cluster.bindir().display(),
            "PostgreSQL {} runs", cluster.major(),
        );
        Ok(Self { place, supervisor: Some(Supervisor::spawn(cluster, postmaster)) })
    }

    /// The folder that holds the cluster: absolute, and not always the one asked for (see
    /// [`resolve_data_dir`]).
    pub fn data_dir(&self) -> &Path {
        &self.place.data_dir
    }

    /// The folder of the server's socket.
    pub fn socket_dir(&self) -> &Path {
        &self.place.socket_dir
    }

    /// Whether another process owns the server.
    pub fn is_attached(&self) -> bool {
        self.supervisor.is_none()
    }

    /// The URL to log in with as `role`, for sqlx and psql alike: to the ledger's database, but
    /// as the superuser to the database `postgres`, as the ledger's may not exist yet.
    pub fn url(&self, role: Role) -> String {
        match role {
            Role::Superuser => self.superuser_url("postgres"),
            Role::Migrator | Role::App => self.url_to(role, DATABASE),
        }
    }

    /// The superuser's URL to `database`.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url_to(Role::Superuser, database)
    }

    /// Shuts an owned server down (fast: sessions are ended, everything is flushed) and lets go of
    /// the data folder. Returns when the server is gone. Leaves an attached one alone.
    pub async fn stop(self) {
        if let Some(supervisor) = self.supervisor {
            supervisor.stop().await;
        }
    }

    fn url_to(&self, role: Role, database: &str) -> String {
        // The port and the sslmode are spelt out because sqlx and libpq would otherwise take them
        // from PGPORT and PGSSLMODE.
        format!(
            "postgresql://{}@localhost:{PORT}/{}?host={}&sslmode=disable",
            role.name(),
            percent_encode(database),
            percent_encode(&self.place.socket_dir.to_string_lossy()),
        )
    }
}

/// The lock of `place`, or `None` where another process holds it and its server accepts us.
async fn own_or_attach(place: &Place, access: Access) -> Result<Option<File>, PostgresError> {
    let patience = match access {
        Access::Own => OWN_PATIENCE,
        Access::Attach => ATTACH_PATIENCE,
    };
    let deadline = Instant::now() + patience;
    let lock = place.open_lock()?;
    loop {
        // Again in each round: the owner may be a command that ends before its server is of use.
        if place.try_lock(&lock)? {
            return Ok(Some(lock));
        }
        let mut last_answer = None;
        if access == Access::Attach && place.check_socket_dir()? {
            match probe::ask(&place.socket_dir).await {
                Answer::Ready => return Ok(None),
                Answer::Refused(why) => {
                    let data_dir = place.data_dir.clone();
                    return Err(PostgresError::Refused { data_dir, why });
                }
                Answer::NotYet(why) => last_answer = Some(why),
            }
        }
        if Instant::now() >= deadline {
            let (data_dir, owner) = (place.data_dir.clone(), place.owner());
            return Err(match access {
                Access::Own => PostgresError::Owned { data_dir, owner },
                Access::Attach => PostgresError::AttachTimeout {
                    data_dir,
                    owner,
                    seconds: ATTACH_PATIENCE.as_secs(),
                    why: last_answer.unwrap_or_else(|| "there is no socket yet".to_owned()),
                },
            });
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// RFC 3986, section 2.1: everything but unreserved characters as `%XX`.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}
