//! Guards that were changed past the event trigger, and the manifest that tells: what the check
//! finds, who may change the manifest, and how.

use audit_ledger::appender::append_alone;
use audit_ledger::clock::Clock;
use audit_ledger::integrity::guards::{GUARDS, check_guards};
use audit_ledger::integrity::report::Verdict;
use audit_ledger::store::guards::{Guards, compare_guards, ensure_may_serve, remember_drift};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::checks::check;
use crate::common::builders::event;
use crate::common::{ALLOW_DDL, TestLedger, attempt, database, fetch, refused, run};
use crate::{CHAINS, ledger_with};

pub(crate) const REFUSED: &str = "AU010";
const NO_RIGHT: &str = "42501";

/// Differences from the manifest as this session sees them: `changed role app_trading`.
async fn drift(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(
        "SELECT concat_ws(' ', CASE WHEN expected IS NULL THEN 'added' WHEN found IS NULL
                THEN 'missing' ELSE 'changed' END, kind, identity) FROM ledger_guard.drift()",
    ))
    .fetch_all(connection)
    .await
    .unwrap()
}

/// What the check in Rust tells.
pub(crate) async fn told(ledger: &TestLedger) -> Vec<String> {
    let findings = check_guards(&ledger.app()).await.unwrap().findings;
    findings.into_iter().map(|finding| finding.detail).collect()
}

#[tokio::test]
async fn guards_as_the_migrations_made_them_are_no_finding_whatever_a_session_sets() {
    let ledger = ledger_with(1).await;
    for role in ["app_trading", "ledger_auditor", "postgres"] {
        let mut connection = ledger.connect(role).await;
        for settings in [
            "SET TimeZone = 'Pacific/Apia'; SET DateStyle = 'German, DMY'",
            "SET quote_all_identifiers = on; SET extra_float_digits = -15; SET jit_above_cost = 0",
            "SET bytea_output = 'escape'; SET IntervalStyle = iso_8601",
            "SET standard_conforming_strings = off; SET search_path = public, pg_catalog",
            "SET search_path = pg_temp; SET default_transaction_isolation = 'serializable'",
        ] {
            run(&mut connection, settings).await;
            assert_eq!(drift(&mut connection).await, Vec::<String>::new(), "{role}: {settings}");
        }
    }
    let Guards::Compared { objects, drift } = compare_guards(&ledger.auditor()).await.unwrap()
    else {
        panic!("there is a manifest")
    };
    assert!(objects > 300 && drift.is_empty(), "{objects} {drift:?}");
    let report = check(&ledger).await;
    assert_eq!(report.verdict(), Verdict::Verified);
    assert_eq!(report.notes, Vec::<String>::new());
    let guards = report.guards().unwrap();
    assert_eq!((guards.rows, guards.valid()), (objects, Some(true)));
    assert_eq!(ledger.finish().await, CHAINS);
}

/// Statements that no event trigger hears of, or that come while it is off; each with a difference
/// that the check tells.
const UNHEARD: [(&str, &str); 52] = [
    ("ALTER ROLE ledger_owner LOGIN", "changed role ledger_owner"),
    ("ALTER ROLE ledger_migrator INHERIT", "changed role ledger_migrator"),
    ("ALTER ROLE app_trading SUPERUSER", "changed role app_trading"),
    ("ALTER ROLE app_trading CREATEROLE", "changed role app_trading"),
    ("ALTER ROLE app_trading CREATEDB", "changed role app_trading"),
    ("ALTER ROLE app_trading REPLICATION", "changed role app_trading"),
    ("ALTER ROLE ledger_auditor BYPASSRLS", "changed role ledger_auditor"),
    ("ALTER ROLE app_trading NOLOGIN", "changed role app_trading"),
    ("GRANT ledger_owner TO app_trading", "added membership app_trading in ledger_owner"),
    (
        "GRANT ledger_owner TO ledger_migrator WITH ADMIN OPTION",
        "changed membership ledger_migrator in ledger_owner",
    ),
    (
        "REVOKE ledger_owner FROM ledger_migrator",
        "missing membership ledger_migrator in ledger_owner",
    ),
    ("GRANT pg_write_all_data TO app_trading", "added membership app_trading in pg_write_all_data"),
    ("GRANT app_trading TO ledger_auditor", "added membership ledger_auditor in app_trading"),
    (
        "CREATE ROLE drift_one; CREATE ROLE drift_two;
         GRANT ledger_migrator TO drift_one; GRANT drift_one TO drift_two",
        "added membership drift_two in drift_one",
    ),
    ("ALTER ROLE app_trading SET search_path = aside", "added setting search_path of app_trading"),
    (
        "ALTER ROLE app_trading IN DATABASE @ SET session_replication_role = replica",
        "added setting session_replication_role of app_trading in this database",
    ),
    (
        "ALTER DATABASE @ SET session_replication_role = replica",
        "added setting session_replication_role of every role in this database",
    ),
    ("ALTER ROLE ALL SET row_security = off", "added setting row_security of every role"),
    ("ALTER DATABASE @ OWNER TO app_trading", "changed database itself"),
    ("GRANT CREATE ON DATABASE @ TO ledger_owner", "added database rights of ledger_owner"),
    ("GRANT TEMPORARY ON DATABASE @ TO PUBLIC", "added database rights of PUBLIC"),
    ("REVOKE CONNECT ON DATABASE @ FROM app_trading", "missing database rights of app_trading"),
    (
        "GRANT SET ON PARAMETER session_replication_role TO app_trading",
        "added parameter session_replication_role of app_trading",
    ),
    ("REASSIGN OWNED BY ledger_owner TO ledger_migrator", "changed table public.signals"),
    ("REASSIGN OWNED BY ledger_owner TO postgres", "changed schema public"),
    (ALLOW_DDL, "changed event trigger ledger_guard_ddl"),
    ("ALTER EVENT TRIGGER ledger_guard_ddl ENABLE", "changed event trigger ledger_guard_ddl"),
    ("DROP EVENT TRIGGER ledger_guard_ddl", "missing event trigger ledger_guard_ddl"),
    (
        "DROP EVENT TRIGGER ledger_guard_ddl; CREATE EVENT TRIGGER ledger_guard_ddl
         ON ddl_command_end WHEN TAG IN ('COMMENT') EXECUTE FUNCTION ledger_guard.refuse_ddl();
         ALTER EVENT TRIGGER ledger_guard_ddl ENABLE ALWAYS",
        "changed event trigger ledger_guard_ddl",
    ),
    (
        "CREATE OR REPLACE FUNCTION ledger_guard.refuse_ddl() RETURNS event_trigger
             LANGUAGE plpgsql AS 'BEGIN END'",
        "changed function ledger_guard.refuse_ddl()",
    ),
    // The catalog itself.
    (
        "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'ledger_refuse_row'",
        "changed trigger ledger_refuse_row on public.signals",
    ),
    (
        "DELETE FROM pg_trigger WHERE tgname = 'ledger_refuse_row'",
        "missing trigger ledger_refuse_row on public.ledger_log",
    ),
    (
        "UPDATE pg_trigger SET tgfoid = 'suppress_redundant_updates_trigger'::regproc",
        "changed trigger ledger_enter_rows on public.signals",
    ),
    (
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'signals_row_hash_correct'",
        "changed constraint signals_row_hash_correct on public.signals",
    ),
    (
        "UPDATE pg_attribute SET attnotnull = false
         WHERE attrelid = 'public.signals'::regclass AND attname = 'row_hash'",
        "changed column row_hash of public.signals",
    ),
    (
        "UPDATE pg_index SET indisvalid = false
         WHERE indexrelid = 'public.quarantined_deliveries_content_key'::regclass",
        "changed index quarantined_deliveries_content_key on public.quarantined_deliveries",
    ),
    (
        "UPDATE pg_index SET indisunique = false
         WHERE indexrelid = 'public.signals_pkey'::regclass",
        "changed index signals_pkey on public.signals",
    ),
    (
        "UPDATE pg_proc SET prosrc = 'BEGIN RETURN NEW; END' WHERE proname = 'ledger_refuse_change'",
        "changed function public.ledger_refuse_change()",
    ),
    (
        "UPDATE pg_proc SET proacl = NULL WHERE proname = 'ledger_enter_rows'",
        "added grant public.ledger_enter_rows() to PUBLIC",
    ),
    (
        "UPDATE pg_proc SET prosrc = 'bytea_sha512' WHERE oid = 'sha256(bytea)'::regprocedure",
        "changed server functions of pg_catalog",
    ),
    (
        "UPDATE pg_class SET relowner = 'app_trading'::regrole
         WHERE oid = 'public.signals'::regclass",
        "changed table public.signals",
    ),
    (
        "UPDATE pg_class SET relacl = NULL WHERE oid = 'public.signals'::regclass",
        "missing grant public.signals to app_trading",
    ),
    // Behind a switched off event trigger. As after pg_restore --disable-triggers.
    (
        "@off; ALTER TABLE public.signals DISABLE TRIGGER ALL;
         ALTER TABLE public.signals ENABLE TRIGGER ALL",
        "changed trigger ledger_enter_rows on public.signals",
    ),
    (
        "@off; ALTER TABLE public.signals DROP CONSTRAINT signals_side_known;
         ALTER TABLE public.signals ADD CONSTRAINT signals_side_known
             CHECK (side::text IN ('BUY', 'SELL')) NOT VALID",
        "changed constraint signals_side_known on public.signals",
    ),
    (
        "@off; CREATE TABLE aside.child () INHERITS (public.signals)",
        "added inheritance aside.child of public.signals",
    ),
    (
        "@off; CREATE TABLE aside.elsewhere (id bigint REFERENCES public.signals ON DELETE CASCADE)",
        "added trigger \"RI_FKey_cascade_del\" of constraint elsewhere_id_fkey on public.signals",
    ),
    (
        "@off; CREATE RULE forged AS ON INSERT TO public.signals DO INSTEAD NOTHING",
        "added rule forged on public.signals",
    ),
    (
        "@off; CREATE POLICY forged ON public.signals USING (false)",
        "added policy forged on public.signals",
    ),
    (
        "@off; ALTER FUNCTION public.ledger_guard_log() SECURITY INVOKER",
        "changed function public.ledger_guard_log()",
    ),
    (
        "@off; CREATE SUBSCRIPTION forged CONNECTION '' PUBLICATION p WITH (connect = false)",
        "added subscription forged",
    ),
    ("@off; DROP TABLE public.ledger_check_lock", "missing table public.ledger_check_lock"),
    ("DELETE FROM ledger_guard.guard_manifest WHERE kind = 'role'", "added role ledger_owner"),
];

#[tokio::test]
async fn what_no_event_tells_is_found_by_the_check() {
    let ledger = ledger_with(1).await;
    let mut superuser = ledger.connect_superuser().await;
    run(&mut superuser, "CREATE SCHEMA aside; GRANT ALL ON SCHEMA aside TO ledger_migrator").await;
    run(&mut superuser, "SET allow_system_table_mods = on").await;
    for (change, expected) in UNHEARD {
        let change = change.replace("@off", ALLOW_DDL).replace('@', ledger.name());
        // Roles are the whole server's: none of this is ever committed.
        run(&mut superuser, "BEGIN").await;
        run(&mut superuser, &change).await;
        let found = drift(&mut superuser).await;
        assert!(found.iter().any(|found| found == expected), "{found:?} after {change}");
        run(&mut superuser, "ROLLBACK").await;
    }
    assert_eq!(told(&ledger).await, Vec::<String>::new());
    assert_eq!(ledger.finish().await, CHAINS);
}

#[tokio::test]
async fn a_switch_that_turns_event_triggers_off_does_not_hide_what_it_lets_through() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    // PostgreSQL 17 has it.
    let can = "SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'event_triggers')";
    let off = if fetch::<bool>(&mut superuser, can).await {
        "SET event_triggers = off"
    } else {
        ALLOW_DDL
    };
    run(&mut superuser, off).await;
    run(&mut superuser, "ALTER TABLE public.signals DISABLE TRIGGER ledger_refuse_row").await;
    let told = told(&ledger).await;
    let expected =
        "changed: trigger ledger_refuse_row on public.signals: \"disabled; CREATE TRIGGER";
    assert!(told.iter().any(|told| told.starts_with(expected)), "{told:?}");
    let report = check(&ledger).await;
    assert_eq!(report.verdict(), Verdict::GuardDrift);
    let record = report.records().into_iter().find(|record| record.chain == GUARDS).unwrap();
    assert_eq!((record.valid, record.range), (Some(false), None));
    assert_eq!(record.findings_count, i64::try_from(told.len()).unwrap());
    assert_eq!(ledger.finish().await, 0);
}

/// Such a command commits half of its work before the event trigger sees it.
#[tokio::test]
async fn an_index_dropped_concurrently_is_refused_too_late_and_found() {
    let ledger = TestLedger::new().await;
    let mut owner = ledger.connect_owner().await;
    let drop = "DROP INDEX CONCURRENTLY public.quarantined_deliveries_content_key";
    assert_eq!(refused(&mut owner, drop).await, REFUSED);
    let told = told(&ledger).await;
    let expected = "changed: index quarantined_deliveries_content_key on";
    assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
    assert!(told[0].contains("not valid"), "{told:?}");
    run(&mut owner, "REINDEX INDEX public.quarantined_deliveries_content_key").await;
    assert_eq!(self::told(&ledger).await, Vec::<String>::new());
    // One that a constraint needs is not for dropping.
    let drop = "DROP INDEX CONCURRENTLY public.signals_signal_id_key";
    assert_eq!(refused(&mut owner, drop).await, "2BP01");
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn changed_rows_weigh_more_than_changed_guards() {
    let ledger = ledger_with(2).await;
    ledger.tamper("UPDATE public.signals SET price = price + 1 WHERE id = 1").await;
    let report = check(&ledger).await;
    assert!(report.guards().unwrap().findings_count > 0);
    assert_eq!(report.verdict(), Verdict::Tampered);
    ledger.finish_tampered().await;
}

/// Old drift must not keep a DBA from working elsewhere, nor open a way for more of it.
#[tokio::test]
async fn drift_that_a_check_has_told_is_not_held_against_other_ddl() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser_unguarded().await;
    run(&mut superuser, "GRANT UPDATE ON public.signals TO app_trading").await;
    run(&mut superuser, "ALTER EVENT TRIGGER ledger_guard_ddl ENABLE ALWAYS").await;
    assert_eq!(refused(&mut superuser, "CREATE SCHEMA aside").await, REFUSED);
    for login in [ledger.auditor(), ledger.migrator(), ledger.owner()] {
        let error = remember_drift(&login).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some(NO_RIGHT));
    }
    remember_drift(&ledger.app()).await.unwrap();
    run(&mut superuser, "CREATE SCHEMA aside").await;
    for more in [
        "GRANT DELETE ON public.signals TO app_trading",
        "GRANT UPDATE ON public.ledger_log TO app_trading",
    ] {
        assert_eq!(refused(&mut superuser, more).await, REFUSED, "{more}");
    }
    assert_eq!(told(&ledger).await.len(), 1, "it is told for as long as it is there");
    run(&mut superuser, "REVOKE UPDATE ON public.signals FROM app_trading").await;
    assert_eq!(told(&ledger).await, Vec::<String>::new());
    let again = "GRANT UPDATE ON public.signals TO app_trading";
    assert_eq!(refused(&mut superuser, again).await, REFUSED, "what was put right stays right");
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn the_window_is_one_superusers_for_one_transaction() {
    const GRANT: &str = "GRANT SELECT ON public.signals TO PUBLIC";
    let ledger = TestLedger::new().await;
    let (mut one, mut other) = (ledger.connect_superuser().await, ledger.connect_superuser().await);
    run(&mut one, "BEGIN; SELECT ledger_guard.begin_migration()").await;
    assert_eq!(refused(&mut other, GRANT).await, REFUSED, "another session");
    run(&mut one, GRANT).await;
    run(&mut one, "ROLLBACK").await;
    assert_eq!(refused(&mut one, GRANT).await, REFUSED, "a window that was rolled back");
    run(&mut one, "SELECT ledger_guard.begin_migration()").await;
    assert_eq!(refused(&mut one, GRANT).await, REFUSED, "a window that was left behind");
    assert_eq!(refused(&mut one, "SELECT ledger_guard.end_migration()").await, "55000");

    ledger.change_guards(GRANT).await;
    assert_eq!(told(&ledger).await, Vec::<String>::new(), "the manifest follows");
    let back = "REVOKE SELECT ON public.signals FROM PUBLIC";
    assert_eq!(refused(&mut one, back).await, REFUSED);
    ledger.change_guards(back).await;
    assert_eq!(told(&ledger).await, Vec::<String>::new());
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn a_window_accepts_what_it_changes_and_no_older_drift() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser_unguarded().await;
    run(&mut superuser, "GRANT UPDATE ON public.signals TO app_trading").await;
    run(&mut superuser, "DROP TABLE public.ledger_check_lock").await;
    run(&mut superuser, "ALTER EVENT TRIGGER ledger_guard_ddl ENABLE ALWAYS").await;
    let before = told(&ledger).await;
    ledger.change_guards("GRANT SELECT ON public.signals TO PUBLIC").await;
    assert_eq!(told(&ledger).await, before);
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn only_a_superuser_touches_what_keeps_the_guards() {
    let ledger = TestLedger::new().await;
    for (role, may_read) in [
        ("app_trading", true),
        ("ledger_auditor", true),
        ("ledger_migrator", false),
        ("ledger_owner", false),
    ] {
        let mut connection = match role {
            "ledger_owner" => ledger.connect_owner().await,
            role => ledger.connect(role).await,
        };
        for attack in [
            "INSERT INTO ledger_guard.guard_manifest VALUES ('role', 'x', '')",
            "UPDATE ledger_guard.guard_manifest SET definition = ''",
            "DELETE FROM ledger_guard.guard_manifest",
            "TRUNCATE ledger_guard.guard_manifest",
            "DELETE FROM ledger_guard.known_drift",
            "INSERT INTO ledger_guard.known_drift SELECT kind, identity FROM ledger_guard.drift()",
            "INSERT INTO ledger_guard.migration_window VALUES (pg_current_xact_id(), '[]')",
            "SELECT FROM ledger_guard.migration_window",
            "SELECT ledger_guard.begin_migration()",
            "SELECT ledger_guard.end_migration()",
            "CREATE TABLE ledger_guard.forged ()",
            "DROP TABLE ledger_guard.guard_manifest",
            "DROP FUNCTION ledger_guard.refuse_ddl() CASCADE",
            "DROP SCHEMA ledger_guard CASCADE",
            "ALTER EVENT TRIGGER ledger_guard_ddl DISABLE",
            "DROP EVENT TRIGGER ledger_guard_ddl",
        ] {
            assert_eq!(refused(&mut connection, attack).await, NO_RIGHT, "{role}: {attack}");
        }
        let read = "SELECT FROM ledger_guard.guard_manifest";
        assert_eq!(attempt(&mut connection, read).await.is_ok(), may_read, "{role}");
    }
    assert_eq!(ledger.finish().await, 0);
}

/// A manifest that is gone is told apart from one that nobody could make.
#[tokio::test]
async fn guards_that_were_never_made_are_a_note_and_those_that_are_gone_a_finding() {
    let ledger = TestLedger::new().await;
    let drop = "DROP SCHEMA ledger_guard CASCADE";
    run(&mut ledger.connect_superuser().await, drop).await;
    let report = check(&ledger).await;
    assert_eq!(report.guards().unwrap().valid(), None);
    assert_eq!(report.guards().unwrap().error, None);
    assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
    append_alone(&ledger.app(), event(1), Clock::system()).await.unwrap();
    assert_eq!(check(&ledger).await.verdict(), Verdict::Verified);

    let superuser = ledger.superuser();
    audit_ledger::open::migrate_and_record(&superuser, Clock::system()).await.unwrap();
    assert_eq!(check(&ledger).await.notes, Vec::<String>::new());
    assert_eq!(told(&ledger).await, Vec::<String>::new());
    run(&mut ledger.connect_superuser().await, drop).await;
    let told = told(&ledger).await;
    assert!(told[0].starts_with("missing: the schema ledger_guard"), "{told:?}");
    assert_eq!(check(&ledger).await.verdict(), Verdict::GuardDrift);
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn the_service_refuses_a_login_that_gets_around_the_guards() {
    let ledger = TestLedger::new().await;
    ensure_may_serve(&ledger.app()).await.unwrap();
    ensure_may_serve(&ledger.auditor()).await.unwrap();
    // Of no use to anybody but this test, and gone with it. In none of the ledger's roles, which
    // other tests compare meanwhile.
    let role = format!("login_{}", ledger.name());
    let login = database(&ledger.options(&role));
    let mut superuser = ledger.connect_superuser().await;
    let grant = format!("CREATE ROLE {role} LOGIN; GRANT CONNECT ON DATABASE @ TO {role}");
    run(&mut superuser, &grant.replace('@', ledger.name())).await;
    ensure_may_serve(&login).await.unwrap();
    let mut answers = Vec::new();
    for (give, take) in [
        ("ALTER ROLE @ CREATEROLE", "ALTER ROLE @ NOCREATEROLE"),
        ("ALTER ROLE @ BYPASSRLS", "ALTER ROLE @ NOBYPASSRLS"),
        ("ALTER ROLE @ REPLICATION", "ALTER ROLE @ NOREPLICATION"),
        ("GRANT pg_execute_server_program TO @", "REVOKE pg_execute_server_program FROM @"),
        ("GRANT pg_write_server_files TO @", "REVOKE pg_write_server_files FROM @"),
        ("ALTER ROLE @ SUPERUSER", "ALTER ROLE @ NOSUPERUSER"),
    ] {
        run(&mut superuser, &give.replace('@', &role)).await;
        answers.push((give, ensure_may_serve(&login).await.map_err(|error| error.to_string())));
        run(&mut superuser, &take.replace('@', &role)).await;
    }
    let revoke = format!("REVOKE ALL ON DATABASE @ FROM {role}; DROP ROLE {role}");
    run(&mut superuser, &revoke.replace('@', ledger.name())).await;
    for (power, answer) in answers {
        let error = answer.expect_err(power);
        assert!(error.starts_with(&format!("DATABASE_URL: {role} ")), "{power}: {error}");
    }
    let error = ensure_may_serve(&ledger.superuser()).await.unwrap_err().to_string();
    assert!(error.contains("is a superuser"), "{error}");
    let error = ensure_may_serve(&ledger.migrator()).await.unwrap_err().to_string();
    assert!(error.contains("may become ledger_owner"), "{error}");
    assert_eq!(ledger.finish().await, 0);
}
