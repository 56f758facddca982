//! Finds the ledger that the configuration means: a database that somebody runs, or the private
//! PostgreSQL, which is made, started and migrated as needed.

mod kept;

use std::io;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use serde_json::json;

use crate::appender::{AppendError, append_alone};
use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::integrity::guards::guard_finding;
use crate::integrity::outside::{Outside, Subject, TrustedKeys};
use crate::integrity::report::finding_json;
use crate::integrity::signing::SigningKeys;
use crate::postgres::{self, Access, PostgresError, PrivatePostgres};
use crate::store::guards::ensure_may_serve;
use crate::store::migrate::{create_database, ensure_suitable, migrate};
use crate::store::{Database, StoreError};
use crate::webhook::auth::Method;
use crate::webhook::source::{Source, TRADINGVIEW, WebhookSecret};

/// The ledger's database, open for use.
#[derive(Debug)]
pub struct OpenLedger {
    /// As the service's own role.
    pub app: Database,
    private: Option<PrivatePostgres>,
}

/// The ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The private PostgreSQL does not run.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The database does not do what it is asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was done to it could not be put on record.
    #[error("the migration could not be recorded: {0}")]
    Append(#[from] AppendError),
    /// A command has nothing to work on.
    #[error(
        "there is no ledger in {}: start `audit-ledger serve`, or set LEDGER_DATA_DIR or \
         DATABASE_URL", .0.display()
    )]
    NoLedger(PathBuf),
    /// A secret of the service's own cannot be kept.
    #[error("{path}: {source}", path = path.display())]
    SecretFile {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Opens the private PostgreSQL. A command that only attaches must find one: in the wrong folder,
/// or one that is not mounted, it would else find a ledger that is empty, and intact.
pub async fn open_private(config: &Config, access: Access) -> Result<PrivatePostgres, OpenError> {
    let settings = postgres_settings(config);
    let data_dir = postgres::resolve_data_dir(&settings)?;
    if access == Access::Attach && !postgres::has_cluster(&data_dir) {
        return Err(OpenError::NoLedger(data_dir));
    }
    Ok(PrivatePostgres::open(&settings, access).await?)
}

/// Brings a database to this program's schema, puts that on record, and returns the versions that
/// were recorded: those applied now, and any whose record an earlier run did not come to make.
/// Drift of the guards that it ended is recorded too.
pub async fn migrate_and_record(migrator: &Database, clock: Clock) -> Result<Vec<i64>, OpenError> {
    let migrated = migrate(migrator).await?;
    let versions = &migrated.unrecorded;
    let event = |event_type, details| NewSecurityEvent {
        event_type,
        actor: migrator.user().to_owned(),
        subject: None,
        details,
        source_ip: None,
    };
    if !versions.is_empty() || migrated.guards_unrecorded {
        tracing::info!(?versions, "migrations applied");
        let details = json!({
            "versions": versions,
            "guards": migrated.guards_unrecorded,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let event = event(EventType::MigrationApplied, details);
        append_alone(&migrator.as_owner(), event, clock).await?;
    }
    if !migrated.settled.is_empty() {
        let settled: Vec<_> = migrated.settled.iter().map(guard_finding).collect();
        for finding in &settled {
            tracing::warn!("no more: {finding}");
        }
        let details = json!({
            "settled": settled.len(),
            "first": settled.iter().take(10).map(finding_json).collect::<Vec<_>>(),
        });
        append_alone(&migrator.as_owner(), event(EventType::GuardDrift, details), clock).await?;
    }
    Ok(migrated.unrecorded)
}

/// The settings of the private PostgreSQL.
fn postgres_settings(config: &Config) -> postgres::Settings {
    postgres::Settings {
        data_dir: config.data_dir.clone(),
        explicit_data_dir: config.data_dir_is_set,
        bindir: config.pg_bindir.clone(),
    }
}

impl OpenLedger {
    /// Opens the ledger and makes sure that its schema is this program's. The private
    /// PostgreSQL is migrated where this process owns it; with any other, who owns the ledger
    /// serves, and must be a login that the guards hold for.
    pub async fn open(config: &Config, access: Access, clock: Clock) -> Result<Self, OpenError> {
        if let Some(url) = &config.database_url {
            let app = Database::from_url(url.expose_secret())?;
            if access == Access::Own {
                ensure_may_serve(&app).await?;
            }
            ensure_suitable(&app).await?;
            return Ok(Self { app, private: None });
        }
        let private = open_private(config, access).await?;
        match Self::prepare(&private, access, clock).await {
            Ok(app) => Ok(Self { app, private: Some(private) }),
            Err(error) => {
                private.stop().await;
                Err(error)
            }
        }
    }

    async fn prepare(
        private: &PrivatePostgres,
        access: Access,
        clock: Clock,
    ) -> Result<Database, OpenError> {
        if access == Access::Own {
            create_database(
                &Database::from_url(&private.superuser_url("postgres"))?,
                postgres::DATABASE,
            )
            .await?;
            let superuser = Database::from_url(&private.superuser_url(postgres::DATABASE))?;
            migrate_and_record(&superuser, clock).await?;
        }
        let app = Database::from_url(&private.url(postgres::Role::App))?;
        ensure_suitable(&app).await?;
        Ok(app)
    }

    /// Every source, `tradingview` among them: as the file of sources says, else signed with the
    /// secrets configured, else, with the private PostgreSQL, with one that is made once and
    /// kept beside it.
    pub fn sources(&self, config: &mut Config) -> Result<Vec<Source>, OpenError> {
        let mut sources = std::mem::take(&mut config.sources);
        let is_named = sources.iter().any(|source| source.name == TRADINGVIEW);
        let mut secrets = std::mem::take(&mut config.webhook_secrets);
        if secrets.is_empty()
            && !is_named
            && let Some(private) = &self.private
        {
            secrets.push(kept::webhook_secret(private.data_dir())?);
        }
        if is_named && !secrets.is_empty() {
            let rule = "is set, and LEDGER_SOURCES names tradingview too".to_owned();
            return Err(ConfigError { variable: "LEDGER_WEBHOOK_SECRET".to_owned(), rule }.into());
        }
        if !secrets.is_empty() {
            sources.push(Source::signed(TRADINGVIEW, secrets));
        }
        if sources.is_empty() { Err(no_secret().into()) } else { Ok(sources) }
    }

    /// The keys that sign checkpoints: as configured; else, with the private PostgreSQL, one that is made
    /// once and kept beside it. `None` where there are none.
    pub fn signing_keys(&self, config: &Config) -> Result<Option<SigningKeys>, OpenError> {
        if let Some(keys) = &config.checkpoints.signing_keys {
            let wrong = |rule| ConfigError { variable: "LEDGER_SIGNING_KEY".to_owned(), rule };
            return Ok(Some(SigningKeys::parse(keys).map_err(wrong)?));
        }
        let Some(private) = &self.private else { return Ok(None) };
        let origin = config.checkpoints.origin.as_deref();
        kept::signing_keys(private.data_dir(), origin).map(Some)
    }

    /// What checks read, and what they compare it with: the keys that are known outside the database, and
    /// the anchors; with the private PostgreSQL a folder beside it, unless others are configured.
    pub fn subject(
        &self,
        config: &mut Config,
        keys: Option<&SigningKeys>,
    ) -> Result<Subject, OpenError> {
        let replica = config.read_database_url.as_ref();
        let replica = replica.map(|url| Database::from_url(url.expose_secret())).transpose()?;
        let anchors = match (config.checkpoints.anchors.take(), &self.private) {
            (Some(anchors), _) => anchors,
            (None, Some(private)) => vec![kept::anchor(private.data_dir())?],
            (None, None) => Vec::new(),
        };
        let mut known = keys.map_or_else(Vec::new, SigningKeys::vkeys);
        known.append(&mut config.checkpoints.verifier_keys);
        let outside = Outside { keys: TrustedKeys::new(known), anchors: anchors.into() };
        Ok(Subject { database: self.app.clone(), replica, outside })
    }

    /// The file with the first admin key of a private PostgreSQL, which is made where the ledger
    /// has had no key yet. `None` where that key is of no use any more, or there never was one.
    pub async fn admin_key(&self) -> Result<Option<PathBuf>, OpenError> {
        let Some(private) = &self.private else { return Ok(None) };
        let superuser = Database::from_url(&private.superuser_url(postgres::DATABASE))?;
        kept::admin_key(private.data_dir(), &superuser.as_owner()).await
    }

    /// Lets go of the ledger; a private PostgreSQL of this process is shut down.
    pub async fn close(self) {
        if let Some(private) = self.private {
            private.stop().await;
        }
    }
}

/// The ledger's database, open as the owner of its objects, for commands that make and
/// revoke keys, and that lift a lockdown.
#[derive(Debug)]
pub struct OpenAsOwner {
    /// As `ledger_owner`.
    pub owner: Database,
    private: Option<PrivatePostgres>,
}

impl OpenAsOwner {
    /// With the migrator's login, or on the private PostgreSQL, which is not migrated here.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        if let Some(url) = &config.migrator_database_url {
            let owner = Database::from_url(url.expose_secret())?.as_owner();
            ensure_suitable(&owner).await?;
            return Ok(Self { owner, private: None });
        }
        if config.database_url.is_some() {
            return Err(ConfigError {
                variable: "LEDGER_MIGRATOR_DATABASE_URL".to_owned(),
                rule: "is not set; the service's own login may not do this".to_owned(),
            }
            .into());
        }
        let private = open_private(config, Access::Attach).await?;
        let owner = async {
            let owner = Database::from_url(&private.superuser_url(postgres::DATABASE))?.as_owner();
            ensure_suitable(&owner).await.map(|()| owner)
        };
        match owner.await {
            Ok(owner) => Ok(Self { owner, private: Some(private) }),
            Err(error) => {
                private.stop().await;
                Err(error.into())
            }
        }
    }

    /// Lets go of it; a private PostgreSQL of this process is shut down.
    pub async fn close(self) {
        if let Some(private) = self.private {
            private.stop().await;
        }
    }
}

/// The ledger's database, open for commands that only look: as the service where that has a login,
/// or the ledger is private; where only the migrator's login is set, as the owner, so that it is
/// the one that [`OpenAsOwner`] opens.
#[derive(Debug)]
pub enum OpenToRead {
    /// As the service's own role.
    AsService(OpenLedger),
    /// As `ledger_owner`.
    AsOwner(OpenAsOwner),
}

impl OpenToRead {
    /// As the configuration says.
    pub async fn open(config: &Config, clock: Clock) -> Result<Self, OpenError> {
        if config.database_url.is_none() && config.migrator_database_url.is_some() {
            return OpenAsOwner::open(config).await.map(Self::AsOwner);
        }
        OpenLedger::open(config, Access::Attach, clock).await.map(Self::AsService)
    }

    /// What to read from.
    pub fn database(&self) -> &Database {
        match self {
            Self::AsService(ledger) => &ledger.app,
            Self::AsOwner(ledger) => &ledger.owner,
        }
    }

    /// Lets go of it.
    pub async fn close(self) {
        match self {
            Self::AsService(ledger) => ledger.close().await,
            Self::AsOwner(ledger) => ledger.close().await,
        }
    }
}

fn no_secret() -> ConfigError {
    ConfigError {
        variable: "LEDGER_WEBHOOK_SECRET".to_owned(),
        rule: "is not set: without one no delivery can be authenticated".to_owned(),
    }
}

/// The secrets that a delivery to a source may be signed with, without a database at hand.
pub fn signing_secrets(source: &str, mut config: Config) -> Result<Vec<WebhookSecret>, OpenError> {
    if let Some(at) = config.sources.iter().position(|known| known.name == source) {
        let known = config.sources.swap_remove(at);
        if !known.methods.contains(&Method::Hmac) {
            return Err(ConfigError {
                variable: "LEDGER_SOURCES".to_owned(),
                rule: format!("source {source} does not sign its deliveries"),
            }
            .into());
        }
        return Ok(known.secrets);
    }
    if source != TRADINGVIEW {
        return Err(ConfigError {
            variable: "LEDGER_SOURCES".to_owned(),
            rule: format!("names no source {source}"),
        }
        .into());
    }
    if !config.webhook_secrets.is_empty() {
        return Ok(config.webhook_secrets);
    }
    if config.database_url.is_some() {
        return Err(no_secret().into());
    }
    let data_dir = postgres::resolve_data_dir(&postgres_settings(&config))?;
    if !kept::webhook_secret_path(&data_dir).exists() {
        return Err(OpenError::NoLedger(data_dir));
    }
    Ok(vec![kept::webhook_secret(&data_dir)?])
}
