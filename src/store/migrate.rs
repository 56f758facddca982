//! Migrations, and whether a database is the one that this program needs.

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{Connection, PgConnection, Row};

use super::guards::{self, Drift};
use super::{Database, InStatement, StoreError, within};
use crate::chains::security_events::EventType;

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!();
    // The lock is taken here, since it is held longer than the migrations take.
    migrations.set_locking(false);
    migrations
});
const ROLES: &str = include_str!("../../migrations/bootstrap/roles.sql");
const COMMENTS: &str = include_str!("../../migrations/bootstrap/comments.sql");
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
    /// Whether there are guards, and no security event says so yet.
    pub guards_unrecorded: bool,
    /// Where guards differed from the manifest before, and do not any more.
    pub settled: Vec<Drift>,
    /// Holds the lock of migrations, so that one process alone puts them on record.
    _locked: Option<PgConnection>,
}

/// Brings a database to this program's schema.
///
/// A superuser makes the roles and the guards, in the one transaction in which it migrates; the
/// migrations themselves run as `ledger_owner`. Any other login can migrate only where no event
/// trigger stands.
pub async fn migrate(migrator: &Database) -> Result<Migrated, StoreError> {
    let mut connection = migrator.connect().await?;
    let login = Login::of(&mut connection).await?;
    // Whoever waits for a lock here waits for another migration; nobody else's lock is worth more.
    sqlx::raw_sql("/* migrate */ SET lock_timeout = '30s'")
        .execute(&mut connection)
        .await
        .in_statement("migrate")?;
    let settled = match login {
        Login::Superuser => migrate_with_guards(&mut connection).await?,
        Login::WithoutRoles => return Err(no_roles(migrator)),
        Login::Other => {
            connection = migrator.as_owner().connect().await?;
            migrate_without_guards(&mut connection).await?;
            Vec::new()
        }
    };
    let (unrecorded, guards_unrecorded) = unrecorded(&mut connection).await?;
    if unrecorded.is_empty() && !guards_unrecorded {
        return Ok(Migrated { unrecorded, guards_unrecorded, settled, _locked: None });
    }
    // sqlx's lock is an advisory one, which any login could take: it is not waited for long.
    connection.lock().await.map_err(describe)?;
    let (unrecorded, guards_unrecorded) = self::unrecorded(&mut connection).await?;
    Ok(Migrated { unrecorded, guards_unrecorded, settled, _locked: Some(connection) })
}

/// What the login that migrates may do.
enum Login {
    Superuser,
    /// None, and the roles are not there.
    WithoutRoles,
    /// None; it must be a member of the owner.
    Other,
}

impl Login {
    async fn of(connection: &mut PgConnection) -> Result<Self, StoreError> {
        const STATEMENT: &str = "login_of_migration";
        let row = sqlx::query(
            "/* login_of_migration */
             SELECT rolsuper AS is_superuser,
                    EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS has_roles
             FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER",
        )
        .bind(OWNER)
        .fetch_one(connection)
        .await
        .in_statement(STATEMENT)?;
        let is_superuser: bool = row.try_get("is_superuser").in_statement(STATEMENT)?;
        let has_roles: bool = row.try_get("has_roles").in_statement(STATEMENT)?;
        Ok(match (is_superuser, has_roles) {
            (true, _) => Self::Superuser,
            (false, true) => Self::Other,
            (false, false) => Self::WithoutRoles,
        })
    }
}

/// Roles, guards, migrations and manifest, all or nothing. Returns the drift that this ended.
async fn migrate_with_guards(connection: &mut PgConnection) -> Result<Vec<Drift>, StoreError> {
    const STATEMENT: &str = "migrate_with_guards";
    let mut transaction = connection.begin().await.in_statement(STATEMENT)?;
    // One migration at a time, by a lock that no other login can take.
    sqlx::raw_sql(
        "/* migrate_with_guards */ SET LOCAL search_path = pg_catalog, pg_temp;
         LOCK TABLE pg_catalog.pg_event_trigger IN SHARE ROW EXCLUSIVE MODE",
    )
    .execute(&mut *transaction)
    .await
    .in_statement(STATEMENT)?;
    let began = guards::begin_migration(&mut transaction).await?;
    let before = if began { guards::drift(&mut transaction).await? } else { Vec::new() };
    make_roles(&mut transaction).await?;
    guards::make_guards(&mut transaction).await?;
    if !began {
        guards::begin_migration(&mut transaction).await?;
    }
    missing_migrations(&applied(&mut transaction).await?)?;
    set_for_migrations(
        &mut transaction,
        "/* set_for_migrations */ SET LOCAL ROLE ledger_owner; SET LOCAL search_path = public",
    )
    .await?;
    MIGRATIONS.run(&mut *transaction).await.map_err(describe)?;
    set_for_migrations(
        &mut transaction,
        "/* set_for_migrations */ SET LOCAL ROLE NONE; SET LOCAL search_path = pg_catalog, pg_temp",
    )
    .await?;
    // Late, since the locks on what is commented on are held until the commit.
    sqlx::raw_sql(COMMENTS).execute(&mut *transaction).await.in_statement("comment")?;
    guards::end_migration(&mut transaction).await?;
    let after = guards::drift(&mut transaction).await?;
    transaction.commit().await.in_statement(STATEMENT)?;
    Ok(before.into_iter().filter(|drift| !after.contains(drift)).collect())
}

async fn set_for_migrations(
    connection: &mut PgConnection,
    settings: &'static str,
) -> Result<(), StoreError> {
    sqlx::raw_sql(settings).execute(connection).await.in_statement("set_for_migrations")?;
    Ok(())
}

/// The migrations alone, as the owner, where nobody could make an event trigger.
async fn migrate_without_guards(connection: &mut PgConnection) -> Result<(), StoreError> {
    let missing = missing_migrations(&applied(&mut *connection).await?)?;
    let Some(first) = missing.first() else { return Ok(()) };
    if guards::has_event_trigger(&mut *connection).await? {
        return Err(StoreError::Unsuitable(format!(
            "the database lacks migration {first}, and its guards let only a superuser change \
             them: run `audit-ledger migrate` with LEDGER_MIGRATOR_DATABASE_URL of a superuser"
        )));
    }
    sqlx::raw_sql(
        "/* migrate_without_guards */ SET search_path = public; SET lock_timeout = '30s'",
    )
    .execute(&mut *connection)
    .await
    .in_statement("migrate_without_guards")?;
    connection.lock().await.map_err(describe)?;
    MIGRATIONS.run(&mut *connection).await.map_err(describe)
}

/// The versions that are applied, but that no `MIGRATION_APPLIED` event names; and whether none
/// names the guards that are there.
async fn unrecorded(connection: &mut PgConnection) -> Result<(Vec<i64>, bool), StoreError> {
    let versions = sqlx::query_scalar(
        "/* unrecorded_migrations */
         SELECT m.version FROM public._sqlx_migrations AS m
         WHERE NOT EXISTS (
             SELECT FROM public.security_events AS e
             WHERE e.event_type = $1 AND e.details -> 'versions' @> pg_catalog.to_jsonb(m.version))
         ORDER BY m.version",
    )
    .bind(EventType::MigrationApplied.name())
    .fetch_all(&mut *connection)
    .await
    .in_statement("unrecorded_migrations")?;
    let guards =
        guards::has_manifest(&mut *connection).await? && !guards::are_recorded(connection).await?;
    Ok((versions, guards))
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

/// Makes the roles, or their rights again.
async fn make_roles(connection: &mut PgConnection) -> Result<(), StoreError> {
    const STATEMENT: &str = "make_roles";
    /// Two that make the same role or grant the same right at once, in two databases of a server:
    /// the one that was later tries again. An internal error of a tuple concurrently updated, a
    /// violated key, a duplicate object.
    const CONCURRENTLY_CHANGED: [&str; 3] = ["XX000", "23505", "42710"];
    const TRIES: u32 = 20;
    let mut tries = 0;
    loop {
        let mut attempt = connection.begin().await.in_statement(STATEMENT)?;
        let made = sqlx::raw_sql(ROLES).execute(&mut *attempt).await.in_statement(STATEMENT);
        tries += 1;
        match made {
            Ok(_) => return attempt.commit().await.in_statement(STATEMENT),
            Err(error)
                if tries < TRIES
                    && error
                        .sqlstate()
                        .is_some_and(|code| CONCURRENTLY_CHANGED.contains(&code)) =>
            {
                attempt.rollback().await.in_statement(STATEMENT)?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
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
    within(LIMIT, "ensure_suitable", check_suitable(database)).await
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
