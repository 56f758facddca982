//! What no login can reach: the functions of the guards, the locks, the schema, the system.

use sqlx::postgres::PgConnection;

use crate::common::builders::signal;
use crate::common::{TestLedger, attempt, fetch, refused, run, soon};
use crate::{CHAINS, TABLES, ledger_with};

const NO_RIGHT: &str = "42501";

/// Statements by which a login would get around the guards.
fn attacks() -> Vec<String> {
    let mut attacks: Vec<String> = [
        // The functions of the triggers, and the means to attach them elsewhere.
        "SELECT public.ledger_lock_for_insert()",
        "SELECT public.ledger_enter_rows()",
        "SELECT public.ledger_guard_log()",
        "SELECT public.ledger_refuse_change()",
        "CALL public.ledger_guard_table('public.signals')",
        "CALL public.ledger_attach_chain('public.signals')",
        "CALL public.ledger_grant_rights('public.signals', true)",
        "CALL public.ledger_make_append('signals')",
        // A lockdown is lifted by admins' keys, or by the owner; nobody writes its lines alone.
        "SELECT public.ledger_lift_as_owner('mine', '{}')",
        "SELECT public.ledger_add_lockdown_line(1, 'LIFTED', 'x', 'x', 1, 'x', '{}')",
        "SELECT public.ledger_lifting_key('x', 'x', now())",
        "SELECT public.ledger_new_refusals()",
        "INSERT INTO public.lockdowns (id, lockdown_id, action, actor, reason, findings)
             VALUES (1, 1, 'LIFTED', 'x', 'x', '[]')",
        "INSERT INTO public.acknowledged_findings VALUES (repeat('0', 64), 1)",
        "INSERT INTO public.recorded_refusals VALUES ('AUD-002', 1000000, 1)",
        "CREATE TEMP TABLE signals (id bigint, prev_hash char(64), row_hash char(64), created_at timestamptz)",
        "CREATE TABLE public.forged (id bigint)",
        "CREATE TABLE pg_temp.forged (id bigint)",
        "CREATE UNLOGGED TABLE forged (id bigint)",
        "SELECT 1 AS id INTO forged",
        "CREATE VIEW public.forged AS SELECT 1",
        "CREATE FUNCTION public.forged() RETURNS integer LANGUAGE sql RETURN 1",
        "CREATE FUNCTION pg_temp.forged() RETURNS integer LANGUAGE sql RETURN 1",
        "CREATE TYPE public.forged AS (id bigint)",
        "CREATE SEQUENCE public.forged",
        "CREATE SCHEMA forged",
        "CREATE EXTENSION hstore",
        "CREATE PUBLICATION forged FOR TABLE public.signals",
        "CREATE EVENT TRIGGER forged ON ddl_command_end EXECUTE FUNCTION public.ledger_chains()",
        // The guards themselves.
        "CREATE RULE forged AS ON INSERT TO public.signals DO INSTEAD NOTHING",
        "CREATE POLICY forged ON public.signals USING (false)",
        "CREATE INDEX forged ON public.signals (symbol)",
        "CREATE OR REPLACE FUNCTION public.ledger_genesis(chain text) RETURNS text LANGUAGE sql RETURN 'x'",
        "DROP FUNCTION public.ledger_enter_rows() CASCADE",
        "DROP SCHEMA public CASCADE",
        "ALTER SCHEMA public RENAME TO forged",
        "ALTER FUNCTION public.ledger_enter_rows() OWNER TO CURRENT_USER",
        // Other identities, other rules.
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SET session_replication_role = replica",
        "SET log_statement = 'none'",
        "ALTER SYSTEM SET fsync = off",
        "ALTER ROLE ledger_owner LOGIN",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "CREATE ROLE forged",
        "GRANT ledger_owner TO app_trading",
        "REASSIGN OWNED BY ledger_owner TO app_trading",
        "UPDATE pg_catalog.pg_trigger SET tgenabled = 'D'",
        "DELETE FROM pg_catalog.pg_trigger",
        "DELETE FROM public._sqlx_migrations",
        "INSERT INTO public._sqlx_migrations SELECT * FROM public._sqlx_migrations",
        // The counters of refused attempts.
        "SELECT nextval('public.ledger_refused_aud_002')",
        "SELECT setval('public.ledger_refused_aud_002', 1, false)",
        // Locks.
        "LOCK TABLE public.ledger_lock IN EXCLUSIVE MODE",
        "LOCK TABLE public.ledger_lock IN ACCESS SHARE MODE",
        "LOCK TABLE public.ledger_check_lock IN ACCESS SHARE MODE",
        "SELECT FROM public.ledger_lock",
        // Storage outside every guard, other sessions, the server's files.
        "SELECT lo_create(0)",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_put(1, 0, 'x')",
        "SELECT lo_unlink(1)",
        "SELECT lo_import('/etc/hostname')",
        "SELECT lo_export(1, '/tmp/forged')",
        "SELECT lo_open(1, 131072)",
        "SELECT lowrite(0, 'x')",
        "SELECT lo_truncate(0, 0)",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SELECT pg_cancel_backend(pg_backend_pid())",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_switch_wal()",
        "SELECT pg_reload_conf()",
        "COPY public.signals TO PROGRAM 'true'",
        "COPY public.signals TO '/tmp/forged'",
        "COPY public.security_events FROM '/tmp/forged'",
    ]
    .map(str::to_owned)
    .to_vec();
    for table in TABLES {
        attacks.extend([
            format!("ALTER TABLE public.{table} DISABLE TRIGGER ALL"),
            format!("ALTER TABLE public.{table} DISABLE TRIGGER ledger_refuse_row"),
            format!("ALTER TABLE public.{table} ADD COLUMN forged text"),
            format!("ALTER TABLE public.{table} RENAME TO forged"),
            format!("ALTER TABLE public.{table} OWNER TO CURRENT_USER"),
            format!("ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY"),
            format!("DROP TABLE public.{table} CASCADE"),
            format!("DROP TRIGGER ledger_refuse_row ON public.{table}"),
            format!("LOCK TABLE public.{table} IN SHARE MODE"),
            format!("LOCK TABLE public.{table} IN ACCESS EXCLUSIVE MODE"),
            format!("REFRESH MATERIALIZED VIEW public.{table}"),
            format!("COMMENT ON TABLE public.{table} IS 'forged'"),
        ]);
    }
    attacks
}

async fn assert_refused(connection: &mut PgConnection, who: &str, attack: &str) {
    // LOCK wants a transaction, and none of them may come to an end.
    run(connection, "BEGIN").await;
    let answer = attempt(connection, attack).await;
    run(connection, "ROLLBACK").await;
    let code = match answer {
        Ok(rows) => panic!("{who} was not refused ({rows} rows): {attack}"),
        Err(error) => crate::common::sqlstate(&error).unwrap_or_else(|| panic!("{error}")),
    };
    // A few are refused for what they are before anybody asks for a right.
    let others: &[&str] = match attack {
        a if a.starts_with("REFRESH") => &["42809"],
        a if a.starts_with("CREATE EVENT TRIGGER") => &["42P17"],
        a if a.starts_with("ALTER SYSTEM") => &["25001"],
        // One that may not create in a schema has it searched no further.
        a if a.contains("forged (id bigint)") || a.contains(" INTO forged") => &["3F000"],
        _ => &[],
    };
    assert!(code == NO_RIGHT || others.contains(&code.as_str()), "{who}: {code}: {attack}");
}

#[tokio::test]
async fn no_login_gets_around_the_guards() {
    let ledger = ledger_with(1).await;
    for role in ["app_trading", "ledger_auditor", "ledger_migrator"] {
        let mut connection = ledger.connect(role).await;
        for attack in attacks() {
            assert_refused(&mut connection, role, &attack).await;
        }
        let may = attempt(&mut connection, "SET ROLE ledger_owner").await.is_ok();
        assert_eq!(may, role == "ledger_migrator", "{role}");
    }
    assert_eq!(ledger.finish().await, CHAINS);
}

#[tokio::test]
async fn a_role_that_nobody_gave_anything_has_nothing() {
    let ledger = ledger_with(1).await;
    let mut superuser = ledger.connect_superuser().await;
    for right in ["CONNECT", "TEMPORARY", "CREATE"] {
        let name = ledger.name();
        let sql = format!("SELECT has_database_privilege('public', '{name}', '{right}')");
        assert!(!fetch::<bool>(&mut superuser, &sql).await, "{right}");
    }
    // Roles belong to the whole server: this one never comes to be.
    let role = format!("nobody_{}", ledger.name());
    run(&mut superuser, "BEGIN").await;
    run(&mut superuser, &format!("CREATE ROLE {role}")).await;
    run(&mut superuser, &format!("SET LOCAL ROLE {role}")).await;
    let mut attacks = attacks();
    for table in TABLES {
        attacks.push(format!("SELECT FROM public.{table}"));
        attacks.push(format!("INSERT INTO public.{table} DEFAULT VALUES"));
        attacks.push(format!("DELETE FROM public.{table} WHERE false"));
        attacks.push(format!("TRUNCATE public.{table}"));
    }
    attacks.extend(
        [
            "SELECT public.ledger_begin_append(ARRAY['signals'])",
            "SELECT public.ledger_begin_check()",
            "SELECT public.ledger_end_idle_lock_holders()",
            "SELECT public.ledger_read_row('signals', '{}')",
            "SELECT public.ledger_append_row('signals', '{}')",
            "SELECT public.append_security_events('{}')",
            "SELECT public.ledger_lockdown()",
            "SELECT public.ledger_enter_lockdown('x', '[]', 'x')",
            "SELECT public.ledger_request_lift('x', 'x', 'x', '{}')",
            "SELECT public.ledger_confirm_lift('x', 'x', 1)",
            "SELECT public.ledger_record_refusals()",
            "SELECT FROM public.vw_trade_audit_full",
            "SELECT FROM public.vw_kill_switch_events",
            "SELECT FROM public.signal_integrity_checks",
            "SELECT public.verify_chain_integrity()",
            "SELECT public.ledger_genesis('signals')",
            "SELECT last_value FROM public.ledger_refused_aud_002",
            "SELECT FROM public._sqlx_migrations",
        ]
        .map(str::to_owned),
    );
    for attack in attacks {
        // A superuser's session may still be whom it likes.
        if attack.starts_with("SET ") || attack.starts_with("ALTER SYSTEM") {
            continue;
        }
        run(&mut superuser, "SAVEPOINT s").await;
        let code = refused(&mut superuser, &attack).await;
        assert!([NO_RIGHT, "42P17", "42809", "3F000"].contains(&code.as_str()), "{code}: {attack}");
        run(&mut superuser, "ROLLBACK TO s").await;
    }
    run(&mut superuser, "ROLLBACK").await;
    assert_eq!(ledger.finish().await, CHAINS);
}

#[tokio::test]
async fn only_the_service_takes_the_locks() {
    let ledger = TestLedger::new().await;
    for role in ["ledger_auditor", "ledger_migrator"] {
        let mut connection = ledger.connect(role).await;
        for call in [
            "SELECT public.ledger_begin_append(ARRAY['signals'])",
            "SELECT public.ledger_begin_append(ARRAY[]::text[])",
            "SELECT public.ledger_begin_check()",
            "SELECT public.ledger_end_idle_lock_holders()",
            "SELECT public.append_security_events('{}')",
            "SELECT public.ledger_enter_lockdown('x', '[]', 'x')",
            "SELECT public.ledger_record_refusals()",
        ] {
            assert_eq!(refused(&mut connection, call).await, NO_RIGHT, "{role}: {call}");
        }
    }
    let mut app = ledger.connect_app().await;
    let unknown = "SELECT public.ledger_begin_append(ARRAY['pg_authid'])";
    assert_eq!(refused(&mut app, unknown).await, "22023");
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn whoever_reads_or_holds_advisory_locks_does_not_stop_the_ledger() {
    let ledger = TestLedger::new().await;
    let mut auditor = ledger.connect("ledger_auditor").await;
    run(&mut auditor, "BEGIN ISOLATION LEVEL SERIALIZABLE").await;
    for table in TABLES {
        run(&mut auditor, &format!("LOCK TABLE public.{table} IN ACCESS SHARE MODE")).await;
        fetch::<i64>(&mut auditor, &format!("SELECT count(*) FROM public.{table}")).await;
    }
    // Of advisory locks one session could take all that the server has room for.
    let mut other = ledger.connect("ledger_auditor").await;
    for lock in ["pg_advisory_lock(1)", "pg_try_advisory_xact_lock_shared(1, 1)"] {
        assert_eq!(refused(&mut other, &format!("SELECT {lock}")).await, NO_RIGHT, "{lock}");
    }
    let mut superuser = ledger.connect_superuser().await;
    run(&mut superuser, "SELECT pg_advisory_lock(oid::bigint) FROM pg_class").await;
    let appender = ledger.appender();
    // Its transaction stays open, so whatever it stops would be stopped for good.
    for n in 0..5 {
        appender.append(signal(n), soon()).await.unwrap();
    }
    drop((appender, auditor, other, superuser));
    assert_eq!(ledger.finish().await, 5);
}

#[tokio::test]
async fn nothing_of_the_ledger_is_public_and_every_definer_has_its_search_path() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    for (what, sql) in [
        (
            "functions that PUBLIC may execute",
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
               AND (proacl IS NULL OR EXISTS (
                    SELECT FROM aclexplode(proacl) WHERE grantee = 0))",
        ),
        (
            "tables and sequences with a right of PUBLIC",
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace
               AND EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = 0)",
        ),
        (
            "SECURITY DEFINER functions without a pinned search_path",
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
               AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)",
        ),
        (
            "objects that are not the owner's",
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace
               AND relowner <> 'ledger_owner'::regrole",
        ),
        (
            "functions that are not the owner's",
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
               AND proowner <> 'ledger_owner'::regrole",
        ),
        (
            "constraints that are not valid",
            "SELECT count(*) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
               AND NOT convalidated",
        ),
        (
            "columns of signals that no constraint keeps from NULL",
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.signals'::regclass
               AND attnum > 0 AND NOT attnotnull",
        ),
    ] {
        assert_eq!(fetch::<i64>(&mut superuser, sql).await, 0, "{what}");
    }
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn columns_and_their_order_are_those_of_the_description() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    for chain in audit_ledger::chains::IN_LEDGER {
        let sql = format!(
            "SELECT array_agg(attname || CASE WHEN attnotnull THEN '' ELSE '?' END ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = 'public.{}'::regclass AND attnum > 0
               AND NOT attisdropped AND attgenerated = ''
               AND attname NOT IN ('prev_hash', 'row_hash')",
            chain.name
        );
        let in_sql: Vec<String> = fetch(&mut superuser, &sql).await;
        let described: Vec<_> = chain
            .columns
            .iter()
            .map(|column| {
                format!("{}{}", column.stored_name(), if column.nullable { "?" } else { "" })
            })
            .collect();
        assert_eq!(in_sql, described, "{}", chain.name);
    }
    let chains: Vec<String> = fetch(&mut superuser, "SELECT public.ledger_chains()").await;
    let described: Vec<_> =
        audit_ledger::chains::IN_LEDGER.iter().map(|chain| chain.name).collect();
    assert_eq!(chains, described);
    assert_eq!(ledger.finish().await, 0);
}
