//! Migrations, and whether a database is the one that this program needs.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, Row};

use super::{Database, InStatement, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!();
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

/// Brings the database to this program's schema and returns the versions that were applied.
///
/// A login that may make roles makes them first; everything else runs as `ledger_owner`.
pub async fn migrate(migrator: &Database) -> Result<Vec<i64>, StoreError> {
    make_roles(migrator).await?;
    let mut connection = migrator.as_owner().connect().await?;
    sqlx::raw_sql("/* migrate */ SET search_path = public")
        .execute(&mut connection)
        .await
        .in_statement("migrate")?;
    let before = applied_versions(&mut connection).await?;
    MIGRATIONS.run(&mut connection).await.map_err(describe)?;
    let after = applied_versions(&mut connection).await?;
    let _ = connection.close().await;
    Ok(after.into_iter().filter(|version| !before.contains(version)).collect())
}

async fn make_roles(migrator: &Database) -> Result<(), StoreError> {
    const STATEMENT: &str = "make_roles";
    let mut connection = migrator.connect().await?;
    let row = sqlx::query(
        "/* make_roles */
         SELECT rolsuper OR rolcreaterole AS may_make_roles,
                EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS made
         FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER",
    )
    .bind(OWNER)
    .fetch_one(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    let may_make_roles: bool = row.try_get("may_make_roles").in_statement(STATEMENT)?;
    let made: bool = row.try_get("made").in_statement(STATEMENT)?;
    if may_make_roles {
        sqlx::raw_sql(ROLES).execute(&mut connection).await.in_statement(STATEMENT)?;
    } else if !made {
        return Err(StoreError::Unsuitable(format!(
            "the roles of the ledger do not exist, and {} may not make them: run \
             `audit-ledger migrate` once with LEDGER_MIGRATOR_DATABASE_URL of a superuser",
            migrator.user()
        )));
    }
    Ok(())
}

async fn applied_versions(connection: &mut sqlx::PgConnection) -> Result<Vec<i64>, StoreError> {
    const STATEMENT: &str = "applied_versions";
    let known: bool = sqlx::query_scalar(
        "/* applied_versions */ SELECT to_regclass('public._sqlx_migrations') IS NOT NULL",
    )
    .fetch_one(&mut *connection)
    .await
    .in_statement(STATEMENT)?;
    if !known {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        "/* applied_versions */ SELECT version FROM public._sqlx_migrations ORDER BY version",
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
    const STATEMENT: &str = "ensure_suitable";
    let mut connection = database.connect().await?;
    let row = sqlx::query(
        "/* ensure_suitable */
         SELECT current_setting('server_version_num')::int AS version,
                current_setting('server_version') AS version_text,
                current_setting('server_encoding') AS encoding,
                current_setting('fsync') AS fsync,
                to_regclass('public._sqlx_migrations') IS NOT NULL AS migrated",
    )
    .fetch_one(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    let version: i32 = row.try_get("version").in_statement(STATEMENT)?;
    let version_text: &str = row.try_get("version_text").in_statement(STATEMENT)?;
    let encoding: &str = row.try_get("encoding").in_statement(STATEMENT)?;
    let fsync: &str = row.try_get("fsync").in_statement(STATEMENT)?;
    let migrated: bool = row.try_get("migrated").in_statement(STATEMENT)?;
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
    if !migrated {
        return Err(StoreError::Unsuitable(
            "the database has no ledger yet: run `audit-ledger migrate`".to_owned(),
        ));
    }
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "/* ensure_suitable */
         SELECT version, checksum FROM public._sqlx_migrations WHERE success ORDER BY version",
    )
    .fetch_all(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    for migration in MIGRATIONS.iter() {
        let found = applied.iter().find(|(version, _)| *version == migration.version);
        match found {
            None => {
                return Err(StoreError::Unsuitable(format!(
                    "migration {} is missing: run `audit-ledger migrate`",
                    migration.version
                )));
            }
            Some((_, checksum)) if Cow::Borrowed(checksum.as_slice()) != migration.checksum => {
                return Err(StoreError::Unsuitable(format!(
                    "migration {} of the database is not this program's",
                    migration.version
                )));
            }
            Some(_) => {}
        }
    }
    if applied.len() > MIGRATIONS.iter().count() {
        return Err(StoreError::Unsuitable(
            "the database is newer than this program: upgrade audit-ledger".to_owned(),
        ));
    }
    Ok(())
}

/// Whether the database answers.
pub async fn ping(database: &Database) -> Result<(), StoreError> {
    let mut connection = database.connect().await?;
    sqlx::query("/* ping */ SELECT 1").execute(&mut connection).await.in_statement("ping")?;
    let _ = connection.close().await;
    Ok(())
}
