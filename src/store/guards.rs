//! The guards' manifest: what the migrations made, and where the database differs from it.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use super::{Database, InStatement, StoreError, within};

/// Makes `ledger_guard`; see there.
const SCRIPT: &str = include_str!("../../migrations/bootstrap/guards.sql");

/// A guard that is not as the migrations made it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Drift {
    /// What kind of object it is: table, trigger, grant, role, …
    pub kind: String,
    /// Which one.
    pub identity: String,
    /// As the migrations made it; `None` for one that was added.
    pub expected: Option<String>,
    /// As it is; `None` for one that is missing.
    pub found: Option<String>,
}

/// What the database knows of its guards.
#[derive(Debug)]
pub enum Guards {
    /// There is neither event trigger nor manifest.
    Unknown {
        /// Whether the ledger itself says that there were.
        were_made: bool,
    },
    /// They were compared with the manifest.
    Compared {
        /// Objects that the manifest names.
        objects: i64,
        /// Where the two differ.
        drift: Vec<Drift>,
    },
}

/// Whether there is a manifest, for a login that may not look into it.
pub async fn are_guards_made(database: &Database) -> Result<bool, StoreError> {
    has_manifest(&mut database.connect().await?).await
}

/// Compares the guards with the manifest.
pub async fn compare_guards(database: &Database) -> Result<Guards, StoreError> {
    const STATEMENT: &str = "compare_guards";
    let mut connection = database.connect().await?;
    if !has_manifest(&mut connection).await? {
        return Ok(Guards::Unknown { were_made: are_recorded(&mut connection).await? });
    }
    let drift = drift(&mut connection).await?;
    let objects = sqlx::query_scalar(
        "/* compare_guards */ SELECT pg_catalog.count(*) FROM ledger_guard.guard_manifest",
    )
    .fetch_one(&mut connection)
    .await
    .in_statement(STATEMENT)?;
    Ok(Guards::Compared { objects, drift })
}

/// Has the event trigger hold none of the present differences against later DDL, since they were
/// told, and all others. For the service's login.
pub async fn remember_drift(database: &Database) -> Result<(), StoreError> {
    const STATEMENT: &str = "remember_drift";
    let mut connection = database.connect().await?;
    sqlx::query("/* remember_drift */ SELECT ledger_guard.remember_drift()")
        .execute(&mut connection)
        .await
        .in_statement(STATEMENT)?;
    Ok(())
}

/// Fails where the service's login could get around the guards, and says how. The database need
/// not be migrated.
pub async fn ensure_may_serve(database: &Database) -> Result<(), StoreError> {
    const LIMIT: Duration = Duration::from_secs(10);
    match within(LIMIT, "ensure_may_serve", power_over_guards(database)).await? {
        None => Ok(()),
        Some(power) => Err(StoreError::Unsuitable(format!(
            "DATABASE_URL: {} {power}, so the guards would not hold for the service: use \
             app_trading",
            database.user()
        ))),
    }
}

async fn power_over_guards(database: &Database) -> Result<Option<String>, StoreError> {
    let mut connection = database.connect().await?;
    // A superuser is a member of every role.
    sqlx::query_scalar(
        "/* ensure_may_serve */
         SELECT CASE
             WHEN r.rolsuper THEN 'is a superuser'
             WHEN r.rolname = 'ledger_owner' THEN 'owns the ledger'
             WHEN (SELECT pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER')
                   FROM pg_catalog.pg_roles AS o WHERE o.rolname = 'ledger_owner')
                 THEN 'may become ledger_owner'
             WHEN r.rolcreaterole THEN 'has CREATEROLE'
             WHEN r.rolbypassrls THEN 'has BYPASSRLS'
             WHEN r.rolreplication THEN 'has REPLICATION'
             WHEN pg_catalog.pg_has_role(r.oid, 'pg_execute_server_program', 'MEMBER')
                 THEN 'may run programs on the server'
             WHEN pg_catalog.pg_has_role(r.oid, 'pg_write_server_files', 'MEMBER')
                 THEN 'may write files of the server'
         END
         FROM pg_catalog.pg_roles AS r WHERE r.rolname = SESSION_USER",
    )
    .fetch_one(&mut connection)
    .await
    .in_statement("ensure_may_serve")
}

/// Whether the manifest is there. Also for a login that may not look into it.
pub(super) async fn has_manifest(connection: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "/* has_manifest */
         SELECT EXISTS (
             SELECT FROM pg_catalog.pg_class AS c
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname = 'ledger_guard' AND c.relname = 'guard_manifest')",
    )
    .fetch_one(connection)
    .await
    .in_statement("has_manifest")
}

/// Whether a security event says that the guards were made. It cannot be taken back, so guards
/// that are gone are not taken for guards that nobody could make.
pub(super) async fn are_recorded(connection: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "/* are_guards_recorded */
         SELECT EXISTS (
             SELECT FROM public.security_events
             WHERE event_type = 'MIGRATION_APPLIED' AND details @> '{\"guards\": true}')",
    )
    .fetch_one(connection)
    .await
    .in_statement("are_guards_recorded")
}

/// Where the guards differ from the manifest.
pub(super) async fn drift(connection: &mut PgConnection) -> Result<Vec<Drift>, StoreError> {
    sqlx::query_as(
        "/* guard_drift */ SELECT kind, identity, expected, found FROM ledger_guard.drift()",
    )
    .fetch_all(connection)
    .await
    .in_statement("guard_drift")
}

/// Makes the guards, or makes them again, in a superuser's transaction.
pub(super) async fn make_guards(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::raw_sql(SCRIPT).execute(connection).await.in_statement("make_guards")?;
    Ok(())
}

/// Whether the event trigger stands, in whatever state.
pub(super) async fn has_event_trigger(connection: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "/* has_event_trigger */
         SELECT EXISTS (
             SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'ledger_guard_ddl')",
    )
    .fetch_one(connection)
    .await
    .in_statement("has_event_trigger")
}

/// Opens the window in which this transaction alone may change guards. `false` where no guards are
/// made yet. What is there must be a superuser's: its functions run as one.
pub(super) async fn begin_migration(connection: &mut PgConnection) -> Result<bool, StoreError> {
    const STATEMENT: &str = "begin_migration";
    let row = sqlx::query(
        "/* begin_migration */
         SELECT coalesce(pg_catalog.bool_or(p.proname = 'begin_migration'), false) AS made,
                coalesce(pg_catalog.bool_and(r.rolsuper), true) AS ours
         FROM pg_catalog.pg_proc AS p
         JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
         JOIN pg_catalog.pg_roles AS r ON r.oid IN (p.proowner, n.nspowner)
         WHERE n.nspname = 'ledger_guard'",
    )
    .fetch_one(&mut *connection)
    .await
    .in_statement(STATEMENT)?;
    let made: bool = row.try_get("made").in_statement(STATEMENT)?;
    let ours: bool = row.try_get("ours").in_statement(STATEMENT)?;
    if !ours {
        return Err(StoreError::Unsuitable(
            "schema ledger_guard holds what is not a superuser's: drop it first".to_owned(),
        ));
    }
    if made {
        sqlx::query("/* begin_migration */ SELECT ledger_guard.begin_migration()")
            .execute(connection)
            .await
            .in_statement(STATEMENT)?;
    }
    Ok(made)
}

/// Puts what the transaction changed into the manifest, and closes the window.
pub(super) async fn end_migration(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("/* end_migration */ SELECT ledger_guard.end_migration()")
        .execute(connection)
        .await
        .in_statement("end_migration")?;
    Ok(())
}
