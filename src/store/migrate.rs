//! Migrations, and whether a database is the one that this program needs.

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{PgConnection, Row};
use tokio::time::timeout;

use super::{Database, InStatement, StoreError};
use crate::chains::security_events::EventType;

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!();
    // The lock is taken here, since it is held longer than the migrations take.
    migrations.set_locking(false);
    migrations
});
const ROLES: &str = include_str!("../../migrations/bootstrap/roles.sql");
const OWNER: &str = "ledger_owner";
/// PostgreSQL 15.
const OLDEST_SERVER: i32 = 150_000;

impl Database {
    /// The same login, acting as the owner of the ledger's objects from the first statement on.
    #[must_use]
    pub fn as_owner(&self) -> Self {
        Self { options: self.options.clone().options([("role", OWNER)]) }
    }
}

/// Creates the database called `name` on the server of `superuser`, if it is not there yet.
pub async fn create_database(superuser: &Database, name: &str) -> Result<(), StoreError> {
    const STATEMENT: &str = "create_database";
    let mut connection = superuser.connect().await?;
    let exists: bool = sqlx::query_scalar(
        "/* create_database */ SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)",
    )
    .bind(name)
    .fetch_one(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    if !exists {
        let statement = format!(
            "/* create_database */ CREATE DATABASE \"{}\" ENCODING 'UTF8' TEMPLATE template0",
            name.replace('"', "\"\"")
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .in_statement(STATEMENT)?;
    }
    Ok(())
}

/// A database that has this program's schema.
#[derive(Debug)]
pub struct Migrated {
    /// Versions that are applied, and that no security event names yet.
    pub unrecorded: Vec<i64>,
    /// Holds the lock of migrations, so that one process alone puts them on record.
    _locked: Option<PgConnection>,
}

/// Brings a database to this program's schema.
///
/// A superuser makes the roles first; everything else runs as `ledger_owner`.
pub async fn migrate(migrator: &Database) -> Result<Migrated, StoreError> {
    const STATEMENT: &str = "migrate";
    make_roles(migrator).await?;
    let mut connection = migrator.as_owner().connect().await?;
    if missing_migrations(&applied(&mut connection).await?)?.is_empty()
        && unrecorded(&mut connection).await?.is_empty()
    {
        return Ok(Migrated { unrecorded: Vec::new(), _locked: None });
    }
    // sqlx's lock is an advisory one, which any login could take: it is not waited for long.
    sqlx::raw_sql("/* migrate */ SET search_path = public; SET lock_timeout = '30s'")
        .execute(&mut connection)
        .await
        .in_statement(STATEMENT)?;
    connection.lock().await.map_err(describe)?;
    MIGRATIONS.run(&mut connection).await.map_err(describe)?;
    let unrecorded = unrecorded(&mut connection).await?;
    Ok(Migrated { unrecorded, _locked: Some(connection) })
}

/// The versions that are applied, but that no `MIGRATION_APPLIED` event names.
async fn unrecorded(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    sqlx::query_scalar(
        "/* unrecorded_migrations */
         SELECT m.version FROM public._sqlx_migrations AS m
         WHERE NOT EXISTS (
             SELECT FROM public.security_events AS e
             WHERE e.event_type = $1 AND e.details -> 'versions' @> pg_catalog.to_jsonb(m.version))
         ORDER BY m.version",
    )
    .bind(EventType::MigrationApplied.name())
    .fetch_all(connection)
    .await
    .in_statement("unrecorded_migrations")
}

/// Applied migrations with their checksums.
type Applied = Vec<(i64, Vec<u8>)>;

/// The versions that a database lacks; an error where it has others than this program's.
fn missing_migrations(applied: &Applied) -> Result<Vec<i64>, StoreError> {
    let mut missing = Vec::new();
    for migration in MIGRATIONS.iter() {
        match applied.iter().find(|(version, _)| *version == migration.version) {
            None => missing.push(migration.version),
            Some((_, checksum)) if *checksum != *migration.checksum => {
                return Err(StoreError::Unsuitable(format!(
                    "migration {} of the database is not this program's",
                    migration.version
                )));
            }
            Some(_) => {}
        }
    }
    if applied.len() + missing.len() > MIGRATIONS.iter().count() {
        return Err(StoreError::Unsuitable(
            "the database is newer than this program: upgrade audit-ledger".to_owned(),
        ));
    }
    Ok(missing)
}

async fn make_roles(migrator: &Database) -> Result<(), StoreError> {
    const STATEMENT: &str = "make_roles";
    /// Two that make the same role or grant the same right at once: the one that was later tries
    /// again. An internal error of a tuple concurrently updated, a violated key, a duplicate object.
    const CONCURRENTLY_CHANGED: [&str; 3] = ["XX000", "23505", "42710"];
    const TRIES: u32 = 20;
    let mut connection = migrator.connect().await?;
    let row = sqlx::query(
        "/* make_roles */
         SELECT rolsuper AS may_make_roles,
                EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS made
         FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER",
    )
    .bind(OWNER)
    .fetch_one(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    let may_make_roles: bool = row.try_get("may_make_roles").in_statement(STATEMENT)?;
    let made: bool = row.try_get("made").in_statement(STATEMENT)?;
    if !may_make_roles {
        return if made { Ok(()) } else { Err(no_roles(migrator)) };
    }
    let mut tries = 0;
    loop {
        let made = sqlx::raw_sql(ROLES).execute(&mut connection).await.in_statement(STATEMENT);
        tries += 1;
        match made {
            Err(error)
                if tries < TRIES
                    && error
                        .sqlstate()
                        .is_some_and(|code| CONCURRENTLY_CHANGED.contains(&code)) =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            made => return made.map(drop),
        }
    }
}

fn no_roles(migrator: &Database) -> StoreError {
    StoreError::Unsuitable(format!(
        "the roles of the ledger do not exist, and {} may not make them: run `audit-ledger \
         migrate` once with LEDGER_MIGRATOR_DATABASE_URL of a superuser",
        migrator.user()
    ))
}

async fn applied(connection: &mut PgConnection) -> Result<Applied, StoreError> {
    const STATEMENT: &str = "applied_migrations";
    let known: bool = sqlx::query_scalar(
        "/* applied_migrations */ SELECT to_regclass('public._sqlx_migrations') IS NOT NULL",
    )
    .fetch_one(&mut *connection)
    .await
    .in_statement(STATEMENT)?;
    if !known {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        "/* applied_migrations */
         SELECT version, checksum FROM public._sqlx_migrations WHERE success ORDER BY version",
    )
    .fetch_all(connection)
    .await
    .in_statement(STATEMENT)
}

fn describe(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            StoreError::from_sqlx("migrate", error)
        }
        error => StoreError::Unsuitable(format!("migrations do not fit the database: {error}")),
    }
}

/// Fails unless the server, the database's encoding and its schema are those that this program
/// was made for, and says what to do.
pub async fn ensure_suitable(database: &Database) -> Result<(), StoreError> {
    const LIMIT: Duration = Duration::from_secs(10);
    let slow = StoreError::Timeout { statement: "ensure_suitable", limit_ms: LIMIT.as_millis() };
    timeout(LIMIT, check_suitable(database)).await.unwrap_or(Err(slow))
}

async fn check_suitable(database: &Database) -> Result<(), StoreError> {
    const STATEMENT: &str = "ensure_suitable";
    let mut connection = database.connect().await?;
    let row = sqlx::query(
        "/* ensure_suitable */
         SELECT current_setting('server_version_num')::int AS version,
                current_setting('server_version') AS version_text,
                current_setting('server_encoding') AS encoding,
                current_setting('fsync') AS fsync",
    )
    .fetch_one(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    let version: i32 = row.try_get("version").in_statement(STATEMENT)?;
    let version_text: &str = row.try_get("version_text").in_statement(STATEMENT)?;
    let encoding: &str = row.try_get("encoding").in_statement(STATEMENT)?;
    let fsync: &str = row.try_get("fsync").in_statement(STATEMENT)?;
    if version < OLDEST_SERVER {
        return Err(StoreError::Unsuitable(format!(
            "the server is PostgreSQL {version_text}; the ledger needs 15 or newer"
        )));
    }
    if encoding != "UTF8" {
        return Err(StoreError::Unsuitable(format!(
            "the database's encoding is {encoding}; the ledger needs UTF8"
        )));
    }
    if fsync != "on" {
        tracing::warn!("fsync is {fsync}: what is acknowledged can be lost in a power cut");
    }
    match missing_migrations(&applied(&mut connection).await?)?.first() {
        Some(version) => Err(StoreError::Unsuitable(format!(
            "the database lacks migration {version}: run `audit-ledger migrate`"
        ))),
        None => Ok(()),
    }
}
