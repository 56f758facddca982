//! UPDATE, DELETE and TRUNCATE: whoever tries, however many rows match.

use sqlx::postgres::PgConnection;

use crate::common::{fetch, refused, run};
use crate::{CHAINS, ROWS_EVERYWHERE, TABLES, ledger_with_rows_everywhere};

const NO_RIGHT: &str = "42501";

/// The code with which a change of this table is refused.
fn code(operation: &str, table: &str) -> &'static str {
    match (operation, table) {
        ("UPDATE", "signals") => "AU002",
        ("DELETE", "signals") => "AU003",
        ("UPDATE", "ai_debates") => "AU004",
        ("DELETE", "ai_debates") => "AU005",
        ("UPDATE", "order_execution" | "order_events") => "AU006",
        ("DELETE", "order_execution" | "order_events") => "AU007",
        _ => "AU010",
    }
}

/// A column of each table that an attacker would change, and to what.
fn assignment(table: &str) -> &'static str {
    match table {
        "signals" => "price = price + 1",
        "ai_debates" => "confidence_score = 1",
        "order_execution" => "status = 'FILLED'",
        "order_events" => "event_type = 'EXPIRED'",
        "signal_audit_ledger" => "conviction = 100",
        "idempotency_keys" => "request_sha256 = sha256('')",
        "lockdowns" => "reason = 'none'",
        "acknowledged_findings" => "finding_id = repeat('1', 64)",
        "recorded_refusals" => "code = 'AUD-999'",
        "incarnations" => "origin = 'elsewhere'",
        "checkpoints" => "note = 'none'",
        "log_tiles" => "root = sha256('')",
        "anchor_receipts" => "anchor = 'elsewhere'",
        "security_events" => "actor = 'nobody'",
        "quarantined_deliveries" => "reason = 'lockdown'",
        "ledger_log" => "row_hash = repeat('0', 64)",
        _ => "chain_valid = false",
    }
}

/// A column by which a row of each table is found.
fn key(table: &str) -> &'static str {
    match table {
        "ledger_log" => "leaf_index",
        "acknowledged_findings" => "lifted_by",
        "recorded_refusals" => "total",
        "log_tiles" => "index",
        _ => "id",
    }
}

/// The code with which a superuser's change is refused.
fn code_of(operation: &str, change: &str, table: &str) -> &'static str {
    let is_referenced =
        ["signals", "order_execution", "ledger_log", "lockdowns", "incarnations", "checkpoints"]
            .contains(&table);
    match operation {
        // An INSERT into the log is refused before its conflict is seen.
        "INSERT" => "AU011",
        // As is a TRUNCATE that would leave rows without the ones that they name.
        "TRUNCATE" if is_referenced && !change.ends_with("CASCADE") => "0A000",
        _ => code(operation, table),
    }
}

/// Statements that change a table, each with its operation.
fn changes(table: &str) -> Vec<(&'static str, String)> {
    let set = assignment(table);
    let (column, _) = set.split_once(' ').unwrap();
    let key = key(table);
    let merge =
        format!("MERGE INTO public.{table} AS t USING (SELECT 1 AS n) AS s ON t.{key} = s.n");
    let mut changes = vec![
        ("UPDATE", format!("UPDATE public.{table} SET {set}")),
        ("UPDATE", format!("UPDATE public.{table} SET {set} WHERE false")),
        ("UPDATE", format!("UPDATE public.{table} SET {column} = {column} WHERE {key} = 1")),
        (
            "UPDATE",
            format!("UPDATE ONLY public.{table} AS t SET {set} FROM public.ledger_log AS l"),
        ),
        ("UPDATE", format!("WITH w AS (UPDATE public.{table} SET {set} RETURNING 1) SELECT 1")),
        ("UPDATE", format!("{merge} WHEN MATCHED THEN UPDATE SET {set}")),
        ("UPDATE", format!("{merge} AND false WHEN MATCHED THEN UPDATE SET {set}")),
        ("DELETE", format!("DELETE FROM public.{table}")),
        ("DELETE", format!("DELETE FROM public.{table} WHERE false")),
        ("DELETE", format!("DELETE FROM public.{table} WHERE {key} = 1")),
        ("DELETE", format!("WITH w AS (DELETE FROM public.{table} RETURNING 1) SELECT 1")),
        ("DELETE", format!("{merge} WHEN MATCHED THEN DELETE")),
        ("DELETE", format!("{merge} AND false WHEN MATCHED THEN DELETE")),
        ("TRUNCATE", format!("TRUNCATE public.{table}")),
        ("TRUNCATE", format!("TRUNCATE public.{table} CASCADE")),
        ("TRUNCATE", format!("TRUNCATE ONLY public.{table} RESTART IDENTITY")),
    ];
    if table == "ledger_log" {
        let copy = "INSERT INTO public.ledger_log SELECT * FROM public.ledger_log";
        changes.push(("INSERT", format!("{copy} ON CONFLICT (leaf_index) DO UPDATE SET {set}")));
    }
    changes
}

/// How often a code was refused by a guard.
async fn refusals(connection: &mut PgConnection, code: &str) -> i64 {
    let number = code.strip_prefix("AU").unwrap();
    let sql = format!(
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.ledger_refused_aud_{number}"
    );
    fetch(connection, &sql).await
}

#[tokio::test]
async fn logins_have_no_right_to_change_anything() {
    let ledger = ledger_with_rows_everywhere().await;
    for role in ["app_trading", "ledger_auditor", "ledger_migrator"] {
        let mut connection = ledger.connect(role).await;
        for table in TABLES {
            for (_, change) in changes(table) {
                assert_eq!(refused(&mut connection, &change).await, NO_RIGHT, "{role}: {change}");
            }
            for lock in ["FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE", "FOR KEY SHARE"] {
                let select = format!("SELECT FROM public.{table} {lock}");
                assert_eq!(refused(&mut connection, &select).await, NO_RIGHT, "{role}: {select}");
            }
        }
        let all = format!("TRUNCATE {}", TABLES.join(", "));
        assert_eq!(refused(&mut connection, &all).await, NO_RIGHT);
    }
    assert_eq!(ledger.finish().await, ROWS_EVERYWHERE);
}

#[tokio::test]
async fn a_superuser_is_refused_by_the_guards_and_each_attempt_is_counted() {
    let ledger = ledger_with_rows_everywhere().await;
    let mut superuser = ledger.connect_superuser().await;
    for replication_role in ["origin", "local", "replica"] {
        run(&mut superuser, &format!("SET session_replication_role = {replication_role}")).await;
        for table in TABLES {
            for (operation, change) in changes(table) {
                let code = code_of(operation, &change, table);
                if ["AU011", "0A000"].contains(&code) {
                    assert_eq!(refused(&mut superuser, &change).await, code, "{change}");
                    continue;
                }
                let before = refusals(&mut superuser, code).await;
                assert_eq!(refused(&mut superuser, &change).await, code, "{change}");
                assert_eq!(refusals(&mut superuser, code).await, before + 1, "{change}");
            }
        }
        let all = format!("TRUNCATE {} CASCADE", TABLES.join(", "));
        assert_eq!(refused(&mut superuser, &all).await, "AU010");
    }
    // What was rolled back is counted all the same.
    let before = refusals(&mut superuser, "AU003").await;
    run(&mut superuser, "BEGIN").await;
    assert_eq!(refused(&mut superuser, "DELETE FROM public.signals").await, "AU003");
    run(&mut superuser, "ROLLBACK").await;
    assert_eq!(refusals(&mut superuser, "AU003").await, before + 1);
    assert_eq!(ledger.finish().await, ROWS_EVERYWHERE);
}

#[tokio::test]
async fn the_owner_has_few_rights_and_is_refused_by_the_guards_with_all_of_them() {
    let ledger = ledger_with_rows_everywhere().await;
    let mut owner = ledger.connect_owner().await;
    for table in TABLES {
        for (_, change) in changes(table) {
            assert_eq!(refused(&mut owner, &change).await, NO_RIGHT, "{change}");
        }
        // The one column that foreign keys need, where one points here.
        if key(table) == "id" {
            let keyless = format!("UPDATE public.{table} SET id = DEFAULT WHERE false");
            let code = code("UPDATE", table);
            assert_eq!(refused(&mut owner, &keyless).await, code, "{keyless}");
        }
    }
    ledger.connect_superuser_unguarded().await;
    let all = format!("GRANT ALL ON {} TO ledger_owner", TABLES.join(", "));
    run(&mut owner, &all).await;
    for table in TABLES {
        for (operation, change) in changes(table) {
            let code = code_of(operation, &change, table);
            assert_eq!(refused(&mut owner, &change).await, code, "{change}");
        }
    }
    assert_eq!(ledger.finish().await, ROWS_EVERYWHERE);
}

#[tokio::test]
async fn a_message_tells_the_code_and_the_table_and_no_content() {
    let ledger = ledger_with_rows_everywhere().await;
    let mut superuser = ledger.connect_superuser().await;
    for (change, message) in [
        (
            "UPDATE public.signals SET symbol = 'X'",
            "AUD-002: UPDATE on signals is refused: rows of the ledger are never changed",
        ),
        (
            "DELETE FROM public.signals",
            "AUD-003: DELETE on signals is refused: rows of the ledger are never changed",
        ),
        (
            "UPDATE public.ai_debates SET is_timeout = true",
            "AUD-004: UPDATE on ai_debates is refused: rows of the ledger are never changed",
        ),
        (
            "DELETE FROM public.ai_debates",
            "AUD-005: DELETE on ai_debates is refused: rows of the ledger are never changed",
        ),
        (
            "UPDATE public.order_execution SET price = 1",
            "AUD-006: UPDATE on order_execution is refused: rows of the ledger are never changed",
        ),
        (
            "DELETE FROM public.order_events",
            "AUD-007: DELETE on order_events is refused: rows of the ledger are never changed",
        ),
        (
            "TRUNCATE public.signals CASCADE",
            "AUD-010: TRUNCATE on signals is refused: rows of the ledger are never changed",
        ),
        (
            "DELETE FROM public.security_events",
            "AUD-010: DELETE on security_events is refused: rows of the ledger are never changed",
        ),
        (
            "INSERT INTO public.ledger_log VALUES (0, 'signals', 1, '')",
            "AUD-011: ledger_log is filled by the database itself",
        ),
    ] {
        let error = crate::common::attempt(&mut superuser, change).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().message(), message);
    }
    assert_eq!(ledger.finish().await, ROWS_EVERYWHERE);
}

#[tokio::test]
async fn a_row_trigger_stands_behind_the_statement_trigger() {
    // Logical replication fires row triggers only.
    let ledger = ledger_with_rows_everywhere().await;
    let mut superuser = ledger.connect_superuser_unguarded().await;
    for table in TABLES {
        run(&mut superuser, "BEGIN").await;
        let disable = format!("ALTER TABLE public.{table} DISABLE TRIGGER ledger_refuse_statement");
        run(&mut superuser, &disable).await;
        run(&mut superuser, "SET LOCAL session_replication_role = replica").await;
        for (operation, change) in [
            ("UPDATE", format!("UPDATE public.{table} SET {}", assignment(table))),
            ("DELETE", format!("DELETE FROM public.{table}")),
        ] {
            run(&mut superuser, "SAVEPOINT s").await;
            assert_eq!(refused(&mut superuser, &change).await, code(operation, table), "{change}");
            run(&mut superuser, "ROLLBACK TO s").await;
        }
        run(&mut superuser, "ROLLBACK").await;
    }
    assert_eq!(ledger.finish().await, ROWS_EVERYWHERE);
}

#[tokio::test]
async fn every_guard_fires_always() {
    let ledger = ledger_with_rows_everywhere().await;
    let mut superuser = ledger.connect_superuser().await;
    let sql = "SELECT count(*) FROM pg_trigger
        WHERE tgrelid::regclass::text = ANY (string_to_array('TABLES', ','))
          AND NOT tgisinternal AND tgenabled = 'A'"
        .replace("TABLES", &TABLES.join(","));
    // Two guards for each table and two more for each chain; one more for the log, idempotency keys,
    // acknowledged findings, recorded refusals, producers' outcomes, incarnations and checkpoints,
    // and three for lockdowns.
    let guards = TABLES.len() * 2 + CHAINS * 2 + 7 + 3;
    assert_eq!(fetch::<i64>(&mut superuser, &sql).await, i64::try_from(guards).unwrap());
    let others = sql.replace("= 'A'", "<> 'A'");
    assert_eq!(fetch::<i64>(&mut superuser, &others).await, 0);
    assert_eq!(ledger.finish().await, ROWS_EVERYWHERE);
}
