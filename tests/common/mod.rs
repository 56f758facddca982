//! The harness: a database of its own for each test, made from a migrated template on a real
//! PostgreSQL, and a last step that verifies everything in it with `ledger-verifier` only.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod backups;
pub(crate) mod bodies;
pub(crate) mod builders;
pub(crate) mod checkpoints;
pub(crate) mod dump;
pub(crate) mod forger;
pub(crate) mod random;
pub(crate) mod read_back;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::clock::Clock;
use audit_ledger::store::{Database, migrate};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tokio::time::Instant;

/// Names a running server and its superuser.
const SUPERUSER_URL: &str = "LEDGER_TEST_DATABASE_URL";
/// Held, on the server's `postgres` database, while a template is made.
const TEMPLATE_LOCK: i64 = 0x006c_6564_6765_7274;

/// A superuser's statement that lets DDL on the ledger through.
pub(crate) const ALLOW_DDL: &str = "ALTER EVENT TRIGGER ledger_guard_ddl DISABLE";

/// Functions and operators that answer nonsense under the names that the hash uses.
pub(crate) const HOSTILE_SCHEMA: &str = "
    CREATE SCHEMA hostile;
    CREATE FUNCTION hostile.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE RETURN '\\x00'::bytea;
    CREATE FUNCTION hostile.encode(bytea, text) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'x';
    CREATE FUNCTION hostile.convert_to(text, name) RETURNS bytea LANGUAGE sql IMMUTABLE
        RETURN '\\x00'::bytea;
    CREATE FUNCTION hostile.to_char(timestamp, text) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'x';
    CREATE FUNCTION hostile.to_char(timestamptz, text) RETURNS text LANGUAGE sql IMMUTABLE
        RETURN 'x';
    CREATE FUNCTION hostile.timezone(text, timestamptz) RETURNS timestamp LANGUAGE sql IMMUTABLE
        RETURN '2000-01-01'::timestamp;
    CREATE FUNCTION hostile.to_json(text) RETURNS json LANGUAGE sql IMMUTABLE RETURN '0'::json;
    CREATE FUNCTION hostile.host(inet) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'x';
    CREATE FUNCTION hostile.concat(text, text) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'x';
    CREATE OPERATOR hostile.|| (FUNCTION = hostile.concat, LEFTARG = text, RIGHTARG = text);
    CREATE FUNCTION hostile.differ(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN true;
    CREATE OPERATOR hostile.= (FUNCTION = hostile.differ, LEFTARG = text, RIGHTARG = text);
    CREATE FUNCTION hostile.signals_hash(text, bigint, uuid, text, text, text, numeric, numeric,
        text, inet, boolean, text, text, timestamptz, timestamptz)
        RETURNS text LANGUAGE sql IMMUTABLE RETURN 'x';
    CREATE FUNCTION hostile.ledger_genesis(text) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'x';
    CREATE DOMAIN hostile.bigint AS text;
    GRANT USAGE ON SCHEMA hostile TO PUBLIC;";

/// The server that tests run on, as its superuser.
#[expect(clippy::unused_async, reason = "a server that has to be started takes its time")]
async fn superuser_url() -> String {
    std::env::var(SUPERUSER_URL).unwrap_or_else(|_| {
        panic!("{SUPERUSER_URL} must name a PostgreSQL 15 or newer, as its superuser")
    })
}

/// A migrated ledger that only one test knows.
pub(crate) struct TestLedger {
    options: PgConnectOptions,
    name: String,
    dropped: bool,
}

impl TestLedger {
    /// An empty ledger.
    pub(crate) async fn new() -> Self {
        let server = PgConnectOptions::from_str(&superuser_url().await).expect(SUPERUSER_URL);
        // What is captured of telemetry is the service's own.
        let server = server.disable_statement_logging();
        let template = template(&server).await;
        let name = format!("ledger_test_{}", Clock::system().new_id().simple());
        let mut connection = connect_with(&server).await;
        run(&mut connection, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        run(&mut connection, &copy_database_rights(&template, &name)).await;
        Self { options: server.database(&name), name, dropped: false }
    }

    /// The database's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How to reach it as this role, for a test that goes another way.
    pub(crate) fn options(&self, role: &str) -> PgConnectOptions {
        if role == self.options.get_username() {
            return self.options.clone();
        }
        self.options.clone().username(role)
    }

    fn database(&self, role: &str) -> Database {
        database(&self.options(role))
    }

    /// The service's login.
    pub(crate) fn app(&self) -> Database {
        self.database("app_trading")
    }

    /// The login that may become the owner.
    pub(crate) fn migrator(&self) -> Database {
        self.database("ledger_migrator")
    }

    /// The owner of every object.
    pub(crate) fn owner(&self) -> Database {
        self.migrator().as_owner()
    }

    /// The login that reads.
    pub(crate) fn auditor(&self) -> Database {
        self.database("ledger_auditor")
    }

    /// Whoever may do anything.
    pub(crate) fn superuser(&self) -> Database {
        database(&self.options)
    }

    /// A connection of the service's login, not through the store.
    pub(crate) async fn connect_app(&self) -> PgConnection {
        self.connect("app_trading").await
    }

    /// A connection as the owner.
    pub(crate) async fn connect_owner(&self) -> PgConnection {
        let mut connection = self.connect("ledger_migrator").await;
        run(&mut connection, "SET ROLE ledger_owner").await;
        connection
    }

    /// A connection as the superuser.
    pub(crate) async fn connect_superuser(&self) -> PgConnection {
        connect_with(&self.options).await
    }

    /// A superuser's connection, with DDL on the ledger let through.
    pub(crate) async fn connect_superuser_unguarded(&self) -> PgConnection {
        let mut connection = self.connect_superuser().await;
        run(&mut connection, ALLOW_DDL).await;
        connection
    }

    /// Changes guards as a DBA may who means to: the manifest follows.
    pub(crate) async fn change_guards(&self, sql: &str) {
        let mut superuser = self.connect_superuser().await;
        let window = format!(
            "BEGIN; SELECT ledger_guard.begin_migration(); {sql};
             SELECT ledger_guard.end_migration(); COMMIT"
        );
        run(&mut superuser, &window).await;
    }

    /// A connection as any role.
    pub(crate) async fn connect(&self, role: &str) -> PgConnection {
        connect_with(&self.options(role)).await
    }

    /// A writer with the service's rights and the usual batches.
    pub(crate) fn appender(&self) -> Appender {
        self.appender_with(BatchSettings::default(), Clock::system())
    }

    /// A writer with the service's rights.
    pub(crate) fn appender_with(&self, settings: BatchSettings, clock: Clock) -> Appender {
        Appender::start(self.app(), settings, clock).0
    }

    /// Runs statements as a superuser who has put every guard out of the way: no trigger fires,
    /// and no constraint holds. Generated columns stay what they are.
    pub(crate) async fn tamper(&self, sql: &str) {
        let mut connection = self.connect_superuser().await;
        disarm(&mut connection).await;
        run(&mut connection, sql).await;
    }

    /// Runs statements that change one table as a superuser who covers his tracks: every guard that
    /// he put out of the way is put back afterwards, and holds for whatever comes later.
    pub(crate) async fn tamper_and_rearm(&self, table: &str, sql: &str) {
        let mut connection = self.connect_superuser().await;
        let check = format!("{table}_row_hash_correct");
        let definition = format!(
            "SELECT replace(pg_get_constraintdef(oid), ' NOT VALID', '') FROM pg_constraint
             WHERE conname = '{check}'"
        );
        let definition: String = fetch(&mut connection, &definition).await;
        let always = format!(
            "SELECT coalesce(string_agg(format('ALTER TABLE public.{table} ENABLE ALWAYS TRIGGER %I;',
                                               tgname), ' '), '')
             FROM pg_trigger WHERE tgrelid = 'public.{table}'::regclass AND tgenabled = 'A'"
        );
        let always: String = fetch(&mut connection, &always).await;
        let statements = format!(
            "BEGIN;
             ALTER EVENT TRIGGER ledger_guard_ddl DISABLE;
             ALTER TABLE public.{table} DISABLE TRIGGER ALL;
             ALTER TABLE public.{table} DROP CONSTRAINT {check};
             {sql};
             ALTER TABLE public.{table} ADD CONSTRAINT {check} {definition} NOT VALID;
             ALTER TABLE public.{table} ENABLE TRIGGER ALL;
             {always}
             ALTER EVENT TRIGGER ledger_guard_ddl ENABLE ALWAYS;
             COMMIT"
        );
        run(&mut connection, &statements).await;
    }

    /// Runs statements as a superuser while no trigger fires and no foreign key is looked at;
    /// constraints hold. Afterwards every guard is back.
    pub(crate) async fn behind_the_guards(&self, sql: &str) {
        let mut superuser = self.connect_superuser().await;
        let all = |what: &str| {
            format!(
            "DO $$
             DECLARE
                 guard record;
             BEGIN
                 FOR guard IN
                     SELECT tgrelid::regclass AS guarded, tgname FROM pg_trigger
                     WHERE NOT tgisinternal AND tgparentid = 0
                 LOOP
                     EXECUTE format('ALTER TABLE %s {what} TRIGGER %I', guard.guarded, guard.tgname);
                 END LOOP;
             END
             $$"
        )
        };
        let statements = format!(
            "{ALLOW_DDL}; {}; SET session_replication_role = replica; {sql};
         SET session_replication_role = origin; {};
         ALTER EVENT TRIGGER ledger_guard_ddl ENABLE ALWAYS",
            all("DISABLE"),
            all("ENABLE ALWAYS"),
        );
        run(&mut superuser, &statements).await;
    }

    /// The superuser's connection with which a test tampers step by step.
    pub(crate) async fn disarmed(&self) -> PgConnection {
        let mut connection = self.connect_superuser().await;
        disarm(&mut connection).await;
        connection
    }

    /// The last step of every test on an intact ledger: reads it back and verifies all of it.
    /// Returns how many rows there are.
    pub(crate) async fn finish(mut self) -> usize {
        let found = read_back::verify(&mut self.connect_superuser().await).await;
        assert_eq!(found.problems, Vec::<String>::new(), "the ledger is not intact");
        self.drop_database().await;
        found.rows
    }

    /// The last step of every test that tampers: the same reading finds something.
    pub(crate) async fn finish_tampered(mut self) {
        let found = read_back::verify(&mut self.connect_superuser().await).await;
        assert_ne!(found.problems, Vec::<String>::new(), "the tampering went unseen");
        self.drop_database().await;
    }

    /// The last step of a test of which no table may be left to read back: it has looked at the
    /// ledger through the service's own check.
    pub(crate) async fn discard(mut self) {
        self.drop_database().await;
    }

    async fn drop_database(&mut self) {
        let mut server = connect_with(&self.options.clone().database("postgres")).await;
        run(&mut server, &drop_statement(&self.name)).await;
        self.dropped = true;
    }
}

impl Drop for TestLedger {
    /// A test that failed leaves no database behind, as far as that can be had. PostgreSQL waits
    /// until every session, of whatever database, has heard of the drop. One in the middle of a COPY
    /// hears nothing, and never will where its client is part of this very test, which stands still
    /// here.
    fn drop(&mut self) {
        if self.dropped {
            return;
        }
        let (server, name) = (self.options.clone().database("postgres"), self.name.clone());
        // The test's runtime cannot be waited for from within itself.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut server = connect_with(&server).await;
                run(&mut server, "SET statement_timeout = '10s'").await;
                attempt(&mut server, &drop_statement(&name)).await
            })
        });
        let dropped = dropping.join();
        let is_failing = std::thread::panicking();
        assert!(is_failing, "a test ends with finish, finish_tampered or discard: {dropped:?}");
    }
}

/// The store's view of connection options.
pub(crate) fn database(options: &PgConnectOptions) -> Database {
    Database::from_url(options.to_url_lossy().as_str()).expect("a URL made of options")
}

pub(crate) async fn connect_with(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.expect("PostgreSQL answers")
}

/// Runs statements that must succeed.
pub(crate) async fn run(connection: &mut PgConnection, sql: &str) {
    attempt(connection, sql).await.unwrap_or_else(|error| panic!("{error}\nin {sql}"));
}

/// Runs statements and returns how many rows they touched.
pub(crate) async fn attempt(connection: &mut PgConnection, sql: &str) -> Result<u64, sqlx::Error> {
    Ok(connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?.rows_affected())
}

/// The SQLSTATE with which statements are refused; a panic where they are not.
pub(crate) async fn refused(connection: &mut PgConnection, sql: &str) -> String {
    match attempt(connection, sql).await {
        Ok(rows) => panic!("{rows} rows were touched by what must be refused: {sql}"),
        Err(error) => sqlstate(&error).unwrap_or_else(|| panic!("{error}\nin {sql}")),
    }
}

pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// One value of one row.
pub(crate) async fn fetch<T>(connection: &mut PgConnection, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap_or_else(|error| panic!("{error}\nin {sql}"))
}

/// Waits until a query that yields one boolean yields true.
pub(crate) async fn wait_until(connection: &mut PgConnection, sql: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fetch::<bool>(connection, sql).await {
        assert!(Instant::now() < deadline, "waited in vain for {sql}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until no session of the service is there: each tells what it read at its end.
pub(crate) async fn what_was_read_is_counted(connection: &mut PgConnection) {
    let have_ended = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app_trading')";
    wait_until(connection, have_ended).await;
}

/// The deadline of a request, long enough for a slow machine.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// The name of the template for the migrations as they are; makes it where it is missing.
async fn template(server: &PgConnectOptions) -> String {
    let name = format!("ledger_template_{}", hash_of_migrations());
    let exists = format!("SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')");
    let mut connection = connect_with(server).await;
    if fetch::<bool>(&mut connection, &exists).await {
        return name;
    }
    // The lock goes with the connection, also where the making fails.
    run(&mut connection, &format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    if fetch::<bool>(&mut connection, &exists).await {
        return name;
    }
    // It takes its name when it is ready; one that broke off half-way is thrown away.
    let unready = format!("{name}_unready");
    run(&mut connection, &drop_statement(&unready)).await;
    migrate::create_database(&database(server), &unready).await.expect("the template");
    migrate::migrate(&database(&server.clone().database(&unready))).await.expect("migrations");
    run(&mut connection, &format!("ALTER DATABASE {unready} RENAME TO {name}")).await;
    name
}

/// CREATE DATABASE copies everything of a template but the rights on the database itself.
fn copy_database_rights(template: &str, name: &str) -> String {
    format!(
        "DO $$
         DECLARE
             held record;
         BEGIN
             REVOKE ALL ON DATABASE {name} FROM PUBLIC;
             FOR held IN
                 SELECT privilege_type, grantee::regrole AS role
                 FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
                 WHERE datname = '{template}' AND grantee <> 0
             LOOP
                 EXECUTE format('GRANT %s ON DATABASE {name} TO %s', held.privilege_type, held.role);
             END LOOP;
         END
         $$"
    )
}

fn hash_of_migrations() -> String {
    let mut files = Vec::new();
    list_sql(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")), &mut files);
    files.sort();
    let mut sha = Sha256::new();
    for file in files {
        sha.update(file.as_os_str().as_encoded_bytes());
        sha.update(std::fs::read(file).expect("a migration"));
    }
    hex::encode(&sha.finalize()[..6])
}

fn list_sql(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list_sql(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

async fn disarm(connection: &mut PgConnection) {
    run(
        connection,
        "DO $$
         DECLARE
             guard record;
         BEGIN
             FOR guard IN SELECT evtname FROM pg_event_trigger WHERE evtenabled <> 'D' LOOP
                 EXECUTE format('ALTER EVENT TRIGGER %I DISABLE', guard.evtname);
             END LOOP;
             FOR guard IN
                 SELECT c.oid::regclass AS name FROM pg_class AS c
                 WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
             LOOP
                 EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', guard.name);
             END LOOP;
             -- A primary key takes the foreign keys that point to it with it.
             FOR guard IN
                 SELECT conrelid::regclass AS name, conname FROM pg_constraint
                 WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
                   AND contype IN ('c', 'u', 'p', 'f')
                 ORDER BY contype = 'p'
             LOOP
                 EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE',
                                guard.name, guard.conname);
             END LOOP;
             FOR guard IN
                 SELECT indexrelid::regclass AS name FROM pg_index
                 JOIN pg_class ON pg_class.oid = indexrelid
                 WHERE relnamespace = 'public'::regnamespace AND indisunique
             LOOP
                 EXECUTE format('DROP INDEX %s', guard.name);
             END LOOP;
             FOR guard IN
                 SELECT attrelid::regclass AS name, attname FROM pg_attribute
                 JOIN pg_class ON pg_class.oid = attrelid
                 WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                   AND attnum > 0 AND attnotnull AND NOT attisdropped AND attidentity = ''
             LOOP
                 EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL',
                                guard.name, guard.attname);
             END LOOP;
         END
         $$",
    )
    .await;
}
