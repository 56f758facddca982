//! Where everything is measured: one private PostgreSQL with fsync on, and ledgers in it.

use std::path::PathBuf;

use audit_ledger::postgres::{Access, DATABASE, PrivatePostgres, Role, Settings};
use audit_ledger::store::Database;
use audit_ledger::store::migrate::{create_database, migrate};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::machine::Machine;
use crate::{Error, seed};

/// Arguments of every figure.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Folder of the private PostgreSQL, kept and used again; else a temporary one.
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    /// Rows of the seeded ledger, which is made where the folder has none.
    #[arg(long, global = true, default_value_t = 1_000_000)]
    pub(crate) rows: u64,
    /// Paired runs of each figure, of which the median counts.
    #[arg(long, global = true, default_value_t = 5)]
    pub(crate) pairs: usize,
    /// Also write everything as JSON to this file.
    #[arg(long, global = true)]
    pub(crate) json: Option<PathBuf>,
    /// The service's binary; else the one beside this.
    #[arg(long, global = true)]
    service: Option<PathBuf>,
    /// SQL that a superuser runs on each empty ledger before it is measured, to try a change
    /// before it is a migration. Such figures are the change's.
    #[arg(long = "try", global = true)]
    attempt: Option<PathBuf>,
}

/// A private PostgreSQL, and what is measured on it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) common: Common,
    pub(crate) machine: Machine,
    postgres: PrivatePostgres,
    folder: PathBuf,
    /// Removed when this is dropped.
    _temporary: Option<tempfile::TempDir>,
}

/// A ledger: a database of its own on that PostgreSQL.
#[derive(Debug)]
pub(crate) struct Ledger {
    name: String,
    superuser_url: String,
    pub(crate) app_url: String,
}

impl Bench {
    pub(crate) async fn open(common: Common) -> Result<Self, Error> {
        let (folder, temporary) = if let Some(folder) = &common.data_dir {
            std::fs::create_dir_all(folder)?;
            (std::path::absolute(folder)?, None)
        } else {
            let folder = tempfile::tempdir()?;
            (folder.path().to_owned(), Some(folder))
        };
        // The cluster's own user must reach it, also where this runs as root.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&folder, mode)?;
        let settings = Settings {
            data_dir: folder.join("cluster"),
            explicit_data_dir: true,
            bindir: std::env::var_os("LEDGER_PG_BINDIR").map(Into::into),
        };
        let postgres = PrivatePostgres::open(&settings, Access::Own).await?;
        let machine = Machine::look(&postgres.url(Role::Superuser), &folder).await?;
        Ok(Self { common, machine, postgres, folder, _temporary: temporary })
    }

    pub(crate) async fn close(self) {
        self.postgres.stop().await;
    }

    /// The folder that everything is in.
    pub(crate) fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// The folder that keeps the checkpoints of the ledger of this name.
    pub(crate) fn anchor(&self, ledger: &str) -> PathBuf {
        self.folder.join("checkpoints").join(ledger)
    }

    /// The ledger that is kept, with at least as many rows as are asked for.
    pub(crate) async fn seeded(&self) -> Result<Ledger, Error> {
        let ledger = self.make(DATABASE).await?;
        seed::ensure(&ledger, self.common.rows).await?;
        Ok(ledger)
    }

    /// An empty ledger, to be dropped with [`drop`](Self::drop).
    pub(crate) async fn fresh(&self) -> Result<Ledger, Error> {
        const NAME: &str = "ledger_bench_writes";
        self.execute(&format!("DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")).await?;
        // What is kept of the one before would lock this one.
        match std::fs::remove_dir_all(self.anchor(NAME)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let ledger = self.make(NAME).await?;
        if let Some(attempt) = &self.common.attempt {
            let sql = std::fs::read_to_string(attempt)?;
            sqlx::raw_sql("ALTER EVENT TRIGGER ledger_guard_ddl DISABLE")
                .execute(&mut ledger.superuser().await?)
                .await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut ledger.superuser().await?).await?;
        }
        Ok(ledger)
    }

    pub(crate) async fn drop(&self, ledger: Ledger) -> Result<(), Error> {
        self.execute(&format!("DROP DATABASE {} WITH (FORCE)", ledger.name)).await
    }

    async fn execute(&self, statement: &str) -> Result<(), Error> {
        let mut connection = PgConnection::connect(&self.postgres.url(Role::Superuser)).await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
        Ok(())
    }

    async fn make(&self, name: &str) -> Result<Ledger, Error> {
        let superuser_url = self.postgres.superuser_url(name);
        let server = Database::from_url(&self.postgres.url(Role::Superuser))?;
        create_database(&server, name).await?;
        migrate(&Database::from_url(&superuser_url)?).await?;
        let app_url = superuser_url.replacen(
            &format!("//{}@", Role::Superuser.name()),
            &format!("//{}@", Role::App.name()),
            1,
        );
        Ok(Ledger { name: name.to_owned(), superuser_url, app_url })
    }

    /// The service's binary.
    pub(crate) fn service(&self) -> Result<PathBuf, Error> {
        let beside =
            || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("audit-ledger"));
        let service = self.common.service.clone().map_or_else(beside, Ok)?;
        if service.exists() {
            return Ok(service);
        }
        let service = service.display();
        Err(format!("{service} is not there: cargo build --release, or --service").into())
    }
}

impl Ledger {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn superuser(&self) -> Result<PgConnection, Error> {
        Ok(PgConnection::connect(&self.superuser_url).await?)
    }

    pub(crate) fn superuser_url(&self) -> &str {
        &self.superuser_url
    }

    pub(crate) fn app(&self) -> Result<Database, Error> {
        Ok(Database::from_url(&self.app_url)?)
    }

    pub(crate) fn owner(&self) -> Result<Database, Error> {
        Ok(Database::from_url(&self.superuser_url)?.as_owner())
    }

    /// A checkpoint before each run, so that none pays for another's.
    pub(crate) async fn checkpoint(&self) -> Result<(), Error> {
        sqlx::raw_sql("CHECKPOINT").execute(&mut self.superuser().await?).await?;
        Ok(())
    }
}
