//! `append_<chain>(jsonb)`: what a client that speaks only SQL appends is what the service would
//! have, and is refused alike.

use std::time::Duration;

use audit_ledger::appender::BatchSettings;
use audit_ledger::chains::{Appended, IN_LEDGER, NewRow};
use audit_ledger::clock::Clock;
use futures_util::future::join_all;
use ledger_verifier::Chain;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::common::builders::signal_of;
use crate::common::{HOSTILE_SCHEMA, TestLedger, fetch, run, soon};
use crate::writes::hash_of;
use crate::{Desk, bodies, debate, fill, kill_switch, order, produced, spelt, with, without};

/// What the function answers: `recorded` or `duplicate`, and the receipt as the service spells it.
async fn append(
    connection: &mut PgConnection,
    chain: &str,
    row: &str,
) -> Result<(String, Value), sqlx::Error> {
    let sql = format!(
        "SELECT r.status, pg_catalog.json_build_object(
             'chain', r.chain, 'id', r.id, 'leaf_index', r.leaf_index, 'row_hash', r.row_hash,
             'prev_hash', r.prev_hash, 'created_at', pg_catalog.to_char(
                 pg_catalog.timezone('UTC', r.created_at), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
         FROM public.append_{chain}($1::pg_catalog.text::pg_catalog.jsonb) AS r"
    );
    let answer = sqlx::query(AssertSqlSafe(sql)).bind(row).fetch_one(connection).await?;
    Ok((answer.get(0), answer.get(1)))
}

/// The id of a row that must be recorded.
async fn recorded(connection: &mut PgConnection, chain: &str, row: &Value) -> i64 {
    let (status, receipt) = append(connection, chain, &row.to_string()).await.unwrap();
    assert_eq!(status, "recorded");
    receipt["id"].as_i64().unwrap()
}

fn signal(n: u32) -> Value {
    json!({
        "signal_id": format!("sql-{n}"),
        "symbol": "BTCUSD",
        "side": "BUY",
        "price": "64250.5",
        "quantity": 0.125,
        "raw_payload_text": format!("{{\"n\" :{n}.0, \"é\":\"\\ud83d\\ude80\"}}"),
        "source_ip": "::ffff:10.1.2.3",
        "hmac_verified": true,
        "auth_method": "hmac",
        "recorded_by": "importer",
        "received_at": "2026-01-02T05:04:05.678901+02:00",
    })
}

fn event() -> Value {
    json!({
        "event_type": "PLAIN",
        "actor": "psql",
        "subject": "a \\ subject",
        "details": { "a": 1.50 },
        "source_ip": "2001:db8::1",
    })
}

/// Bytes that are no text, with a backslash among them.
fn delivery(n: u32) -> Value {
    use base64::Engine;
    let bytes = [&b"\\x00\x00\xff\\\\"[..], &n.to_be_bytes()].concat();
    json!({
        "source": "importer",
        "reason": "malformed_json",
        "detail": "why \\x41",
        "body_base64": base64::engine::general_purpose::STANDARD.encode(bytes),
        "source_ip": "10.0.0.7",
        "auth_method": "path_token",
        "hmac_verified": false,
        "received_at": "2026-01-02T03:04:05Z",
    })
}

/// A row of every chain, in the order of the chains; the debate and what follows belong to `id`.
fn one_of_each(n: u32, id: &str, order_id: i64) -> [(&'static Chain, Value); IN_LEDGER.len()] {
    let rows = [
        signal(n),
        debate(id),
        order(id),
        with(&fill(order_id), "rejection_reason", "C:\\new\\x41"),
        with(&produced(n), "received_at", "2026-01-02T03:04:06Z"),
        event(),
        delivery(n),
    ];
    let mut rows = rows.into_iter();
    IN_LEDGER.map(|chain| (chain, rows.next().unwrap()))
}

#[tokio::test]
async fn the_same_row_by_sql_and_by_the_service_differs_only_in_who_and_when() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let order_id = desk.record("order_execution", &order(&id)).await;
    let mut app = desk.ledger.connect_app().await;
    for (chain, body) in bodies(&id, order_id) {
        // A document by its value goes through jsonb in SQL, so both get its text.
        let as_text = |name: &str, body: &Value| {
            let mut body = body.clone();
            let document = body.as_object_mut().unwrap().remove(name);
            if let Some(document) = document {
                body[format!("{name}_text")] = format!(" {document}\t").into();
            }
            body
        };
        let body = as_text("positions_closed", &as_text("reasoning_json", &body));
        for body in
            [body.to_string(), spelt(&body, "unused", "null").replace(",\"unused\":null", "")]
        {
            let by_service = desk.post(chain.name, body.as_bytes()).await;
            assert_eq!(by_service.status, 201, "{by_service:?}");
            let (status, receipt) = append(&mut app, chain.name, &body).await.unwrap();
            assert_eq!(status, "recorded");
            let path = |id: &Value| format!("/v1/{}/{id}", chain.name);
            let other = desk.read(&path(&by_service.body["receipt"]["id"])).await;
            let read = desk.read(&path(&receipt["id"])).await;
            assert_eq!(read["receipt"], receipt);
            assert_eq!(read["row"]["row_hash"], hash_of(&read["row"]));
            assert_eq!(read["row"]["recorded_by"], "app_trading");
            let (mut row, mut other) = (read["row"].clone(), other["row"].clone());
            let own = ["id", "created_at", "prev_hash", "row_hash", "leaf_index", "recorded_by"];
            for name in own {
                row[name] = Value::Null;
                other[name] = Value::Null;
            }
            assert_eq!(row, other);
        }
    }
    drop(app);
    assert_eq!(desk.close().await, 2 + 3 * 4);
}

#[tokio::test]
async fn rows_of_the_other_chains_are_appended_as_they_are_given() {
    let desk = Desk::open().await;
    let mut app = desk.ledger.connect_app().await;
    let (status, receipt) = append(&mut app, "signals", &signal(1).to_string()).await.unwrap();
    assert_eq!(status, "recorded");
    let row = desk.read("/v1/signals/1").await;
    assert_eq!(row["receipt"], receipt);
    let row = &row["row"];
    for (member, kept) in [
        ("price", "64250.5000000000"),
        ("quantity", "0.1250000000"),
        ("raw_payload_text", "{\"n\" :1.0, \"é\":\"\\ud83d\\ude80\"}"),
        ("source_ip", "10.1.2.3"),
        ("recorded_by", "importer"),
        ("received_at", "2026-01-02T03:04:05.678901Z"),
    ] {
        assert_eq!(row[member], kept, "{member}");
    }
    // Made by the ledger: a UUIDv7 of now.
    let anchor: uuid::Uuid = row["correlation_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(anchor.get_version_num(), 7);
    let (seconds, _) = anchor.get_timestamp().unwrap().to_unix();
    assert!(Clock::system().now().timestamp().abs_diff(seconds.cast_signed()) < 60);

    // The same payload again is the same signal; another one is not.
    let mut again = signal(1);
    again["price"] = "1".into();
    let (status, second) = append(&mut app, "signals", &again.to_string()).await.unwrap();
    assert_eq!((status.as_str(), &second), ("duplicate", &receipt));
    again["raw_payload_text"] = "{}".into();
    let error = append(&mut app, "signals", &again.to_string()).await.unwrap_err();
    let error = error.as_database_error().unwrap();
    assert_eq!(error.code().unwrap(), "23505");
    assert!(error.message().starts_with("IDP-001: "), "{error}");
    // Of another recorder it is another one. What is not given is made up for.
    let least = without(&without(&without(&again, "recorded_by"), "received_at"), "source_ip");
    assert_eq!(recorded(&mut app, "signals", &least).await, 2);
    let row = &desk.read("/v1/signals/2").await["row"];
    assert_eq!(
        (&row["recorded_by"], &row["source_ip"]),
        (&json!("app_trading"), &json!("127.0.0.1"))
    );

    recorded(&mut app, "quarantined_deliveries", &delivery(7)).await;
    let row = &desk.read("/v1/quarantined_deliveries/1").await["row"];
    assert_eq!(
        (&row["body_base64"], &row["detail"]),
        (&delivery(7)["body_base64"], &json!("why \\x41"))
    );
    recorded(&mut app, "security_events", &event()).await;
    let row = &desk.read("/v1/security_events/2").await["row"];
    assert_eq!(
        (&row["details_text"], &row["source_ip"]),
        (&json!("{\"a\": 1.5}"), &json!("2001:db8::1"))
    );
    drop(app);
    assert_eq!(desk.close().await, 4);
}

/// A body that both must refuse, and the code.
type BadRow = (String, &'static str);

const UNKNOWN: &str = "01939f3e-7a00-7000-8000-000000000001";

fn bad_debates(id: &str) -> Vec<BadRow> {
    let debate = debate(id);
    let no_text = without(&debate, "reasoning_json");
    vec![
        ("[]".to_owned(), "VAL-001"),
        ("5".to_owned(), "VAL-001"),
        ("null".to_owned(), "VAL-001"),
        (spelt(&debate, "nonsense", "1"), "VAL-002"),
        (spelt(&debate, "id", "7"), "VAL-002"),
        (spelt(&debate, "created_at", "\"2026-01-02T03:04:05Z\""), "VAL-002"),
        (spelt(&debate, "prev_hash", "\"\""), "VAL-002"),
        (without(&debate, "model_name").to_string(), "VAL-002"),
        (no_text.to_string(), "VAL-002"),
        (spelt(&debate, "is_timeout", "null"), "VAL-002"),
        (spelt(&debate, "is_timeout", "\"true\""), "VAL-002"),
        (spelt(&debate, "is_timeout", "1"), "VAL-002"),
        (spelt(&debate, "model_name", "5"), "VAL-002"),
        (spelt(&debate, "model_name", "\"\""), "VAL-002"),
        (with(&debate, "model_name", "é".repeat(51)).to_string(), "VAL-002"),
        (spelt(&debate, "correlation_id", "5"), "VAL-002"),
        (with(&debate, "correlation_id", id.replace('-', "")).to_string(), "VAL-002"),
        (with(&debate, "correlation_id", format!("{{{id}}}")).to_string(), "VAL-002"),
        (with(&debate, "correlation_id", UNKNOWN).to_string(), "AUD-008"),
        (spelt(&debate, "elapsed_ms", "-1"), "VAL-002"),
        (spelt(&debate, "elapsed_ms", "1.5"), "VAL-002"),
        (spelt(&debate, "elapsed_ms", "1.0"), "VAL-002"),
        (spelt(&debate, "elapsed_ms", "\"1\""), "VAL-002"),
        (spelt(&debate, "elapsed_ms", "2147483648"), "VAL-002"),
        (spelt(&debate, "elapsed_ms", "1e30"), "VAL-002"),
        (spelt(&debate, "confidence_score", "1.0001"), "VAL-002"),
        (spelt(&debate, "confidence_score", "0.81251"), "AUD-001"),
        (spelt(&debate, "confidence_score", "10"), "AUD-001"),
        (spelt(&debate, "confidence_score", "\"0.00001\""), "AUD-001"),
        (spelt(&debate, "confidence_score", "\"1e-20000\""), "AUD-001"),
        (spelt(&debate, "confidence_score", "\"1e200000\""), "AUD-001"),
        (spelt(&debate, "confidence_score", "\"-1e999999999999\""), "AUD-001"),
        (spelt(&debate, "confidence_score", "\"\""), "VAL-002"),
        (spelt(&debate, "confidence_score", "\"NaN\""), "VAL-002"),
        (spelt(&debate, "confidence_score", "\" 1\""), "VAL-002"),
        (spelt(&debate, "confidence_score", "\"1x5\""), "VAL-002"),
        (spelt(&debate, "confidence_score", "\"1\\n\""), "VAL-002"),
        (spelt(&debate, "confidence_score", "true"), "VAL-002"),
        (spelt(&debate, "reasoning_json_text", "\"{}\""), "VAL-002"),
        (with(&no_text, "reasoning_json_text", "{").to_string(), "VAL-002"),
        (with(&no_text, "reasoning_json_text", "").to_string(), "VAL-002"),
        (with(&no_text, "reasoning_json_text", "\"\\u0000\"").to_string(), "VAL-002"),
        (with(&no_text, "reasoning_json_text", "1e999999").to_string(), "VAL-002"),
        (with(&no_text, "reasoning_json_text", json!({})).to_string(), "VAL-002"),
    ]
}

fn bad_orders(id: &str) -> Vec<BadRow> {
    let order = order(id);
    vec![
        (with(&order, "order_type", "MARKET").to_string(), "VAL-002"),
        (without(&order, "price").to_string(), "VAL-002"),
        (with(&order, "side", "buy").to_string(), "VAL-002"),
        (with(&order, "status", "DONE").to_string(), "VAL-002"),
        (spelt(&order, "quantity", "0"), "VAL-002"),
        (spelt(&order, "quantity", "1e18"), "AUD-001"),
        (spelt(&order, "quantity", "0.00000000001"), "AUD-001"),
        (spelt(&order, "exchange_order_id", "\"\""), "VAL-002"),
        (with(&order, "correlation_id", UNKNOWN).to_string(), "AUD-008"),
    ]
}

fn bad_events(order_id: i64) -> Vec<BadRow> {
    let (fill, kill) = (fill(order_id), kill_switch());
    vec![
        (spelt(&fill, "order_execution_id", "99"), "AUD-008"),
        (spelt(&fill, "order_execution_id", "9007199254740992"), "VAL-002"),
        (spelt(&fill, "order_execution_id", "\"1\""), "VAL-002"),
        (without(&fill, "order_execution_id").to_string(), "VAL-002"),
        (without(&fill, "fill_price").to_string(), "VAL-002"),
        (with(&fill, "event_type", "FILLED").to_string(), "VAL-002"),
        (without(&kill, "zar_equity").to_string(), "VAL-002"),
        (without(&kill, "positions_closed").to_string(), "VAL-002"),
        (spelt(&kill, "zar_equity", "0.001"), "AUD-001"),
        (spelt(&kill, "rejection_reason", "\"\""), "VAL-002"),
    ]
}

#[tokio::test]
async fn what_the_service_refuses_is_refused_by_sql_under_the_same_code() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let order_id = desk.record("order_execution", &order(&id)).await;
    let mut app = desk.ledger.connect_app().await;
    let bad_rows = [
        ("ai_debates", bad_debates(&id)),
        ("order_execution", bad_orders(&id)),
        ("order_events", bad_events(order_id)),
    ];
    let bad_rows = bad_rows
        .into_iter()
        .flat_map(|(chain, rows)| rows.into_iter().map(move |(body, code)| (chain, body, code)));
    for (chain, body, code) in bad_rows {
        let answer = desk.post(chain, body.as_bytes()).await;
        assert_eq!(answer.body["code"], code, "{body}: {answer:?}");
        let error = append(&mut app, chain, &body).await.expect_err(&body);
        let error = error.as_database_error().unwrap();
        let (message, sqlstate) = (error.message(), error.code().unwrap());
        let said = match sqlstate.as_ref() {
            // Rules between members are the tables' own.
            "23514" => "VAL-002",
            "23503" => "AUD-008",
            "AU001" => "AUD-001",
            "22023" => &message[..7],
            _ => message,
        };
        assert_eq!(said, code, "{body}: {sqlstate} {message}");
        if ["AU001", "22023"].contains(&sqlstate.as_ref()) {
            assert!(message.starts_with(&format!("{code}: ")), "{message}");
            // The member that the service names is the one that is named here.
            let field = answer.body["field"].as_str().unwrap_or_default();
            assert!(message.contains(field), "{body}: {message}, not {field}");
        }
    }
    drop(app);
    assert_eq!(desk.close().await, 2);
}

#[tokio::test]
async fn the_other_chains_are_read_as_strictly() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    for (chain, body, code) in [
        ("signals", without(&signal(1), "symbol"), "22023"),
        ("signals", with(&signal(1), "hmac_verified", "true"), "22023"),
        ("signals", with(&signal(1), "auth_method", "trust"), "23514"),
        ("signals", with(&signal(1), "source_ip", "nonsense"), "22023"),
        ("signals", with(&signal(1), "source_ip", "10.0.0.0/8"), "22023"),
        ("signals", with(&signal(1), "source_ip", ""), "22023"),
        ("signals", with(&signal(1), "received_at", "now"), "22023"),
        ("signals", with(&signal(1), "received_at", "2026-01-02 03:04:05"), "22023"),
        ("signals", with(&signal(1), "received_at", "2026-01-02T03:04:05.1234567Z"), "22023"),
        ("signals", with(&signal(1), "received_at", "2026-02-30T03:04:05Z"), "22023"),
        ("signals", with(&signal(1), "received_at", "1969-12-31T23:59:59Z"), "23514"),
        ("signals", with(&signal(1), "row_hash", "0"), "22023"),
        ("signals", with(&signal(1), "raw_payload", json!({})), "22023"),
        ("quarantined_deliveries", with(&delivery(1), "reason", "bad_mood"), "23514"),
        ("quarantined_deliveries", with(&delivery(1), "body_base64", "?"), "22023"),
        ("quarantined_deliveries", with(&delivery(1), "body_base64", 5), "22023"),
        ("quarantined_deliveries", without(&delivery(1), "body_base64"), "22023"),
        ("security_events", without(&event(), "actor"), "22023"),
        ("security_events", with(&event(), "event_type", "X".repeat(41)), "22023"),
    ] {
        let error = append(&mut app, chain, &body.to_string()).await.unwrap_err();
        let error = error.as_database_error().unwrap();
        assert_eq!(error.code().unwrap(), code, "{body}: {error}");
    }
    let nothing = "SELECT public.append_signals(NULL)";
    assert_eq!(crate::common::refused(&mut app, nothing).await, "22023");
    for chain in ["pg_authid", "ledger_log"] {
        let unknown = format!("SELECT public.ledger_append_row('{chain}', '{{}}')");
        assert_eq!(crate::common::refused(&mut app, &unknown).await, "22023");
    }
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn only_the_service_has_them() {
    let ledger = TestLedger::new().await;
    for role in ["ledger_auditor", "ledger_migrator"] {
        let mut connection = ledger.connect(role).await;
        for chain in IN_LEDGER {
            let call = format!("SELECT public.append_{}('{{}}')", chain.name);
            assert_eq!(crate::common::refused(&mut connection, &call).await, "42501", "{role}");
        }
        for call in ["ledger_read_row('signals', '{}')", "ledger_append_row('signals', '{}')"] {
            let call = format!("SELECT public.{call}");
            assert_eq!(crate::common::refused(&mut connection, &call).await, "42501", "{role}");
        }
    }
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn no_setting_of_a_session_changes_what_is_appended() {
    let desk = Desk::open().await;
    run(&mut desk.ledger.connect_superuser_unguarded().await, HOSTILE_SCHEMA).await;
    let id = desk.signal(0).await;
    let order_id = desk.record("order_execution", &order(&id)).await;
    let mut expected: Vec<Value> = Vec::new();
    let settings = [
        "RESET ALL",
        "SET TimeZone = 'Pacific/Apia'; SET DateStyle = 'German, DMY'",
        "SET TimeZone = 'America/St_Johns'; SET DateStyle = 'SQL, MDY'",
        "SET standard_conforming_strings = off; SET escape_string_warning = off",
        "SET bytea_output = 'escape'; SET extra_float_digits = -15; SET IntervalStyle = iso_8601",
        "SET search_path = hostile, pg_catalog, public",
        "SET search_path = ''",
        "SET search_path = pg_temp, hostile, pg_catalog",
        "SET quote_all_identifiers = on; SET xmlbinary = hex; SET array_nulls = off",
    ];
    for (n, settings) in (1..).zip(settings) {
        // A session of its own: what a function was planned with stays.
        let mut app = desk.ledger.connect_app().await;
        run(&mut app, settings).await;
        let mut kept = Vec::new();
        for (chain, row) in one_of_each(n, &id, order_id) {
            let (_, receipt) = append(&mut app, chain.name, &row.to_string()).await.unwrap();
            let mut row =
                desk.read(&format!("/v1/{}/{}", chain.name, receipt["id"])).await["row"].clone();
            assert_eq!(row["row_hash"], hash_of(&row), "{settings}");
            let own = ["id", "created_at", "prev_hash", "row_hash", "leaf_index", "correlation_id"];
            for name in own.into_iter().chain(["signal_id", "raw_payload_text"]) {
                row[name] = Value::Null;
            }
            kept.push(row);
        }
        // The last bytes are the number.
        let body = kept.last_mut().unwrap()["body_base64"].take();
        assert_eq!(body, delivery(n)["body_base64"], "{settings}");
        if expected.is_empty() {
            expected = kept;
        } else {
            assert_eq!(kept, expected, "{settings}");
        }
        for bad in ["\"1x5\"", "\"1.00001\""] {
            let body = spelt(&debate(&id), "confidence_score", bad);
            let error = append(&mut app, "ai_debates", &body).await.unwrap_err();
            let code = error.as_database_error().unwrap().code().unwrap().into_owned();
            assert_eq!(code, if bad.contains('x') { "22023" } else { "AU001" }, "{settings}");
        }
    }
    assert_eq!(desk.close().await, 2 + settings.len() * IN_LEDGER.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_sql_and_the_service_take_turns_without_a_gap() {
    const CLIENTS: u32 = 8;
    const ROWS: u32 = 30;
    let ledger = TestLedger::new().await;
    let small = BatchSettings { size: 4, delay: Duration::ZERO };
    let appender = ledger.appender_with(small, Clock::system());
    let clients = (0..CLIENTS).map(async |client| {
        if client % 2 == 0 {
            for n in 0..ROWS {
                let row: NewRow = signal_of(&format!("service-{client}"), n).into();
                let answer = appender.append(row, soon()).await.unwrap();
                assert!(matches!(answer, Appended::Recorded(_)), "{answer:?}");
            }
            return;
        }
        let mut app = ledger.connect_app().await;
        for n in 0..ROWS {
            match n % 3 {
                0 => recorded(&mut app, "signals", &signal(client * 1_000 + n)).await,
                1 => recorded(&mut app, "security_events", &event()).await,
                _ => recorded(&mut app, "order_events", &kill_switch()).await,
            };
        }
    });
    join_all(clients).await;
    drop(appender);
    let mut app = ledger.connect_app().await;
    let leaves: i64 = fetch(&mut app, "SELECT max(leaf_index) FROM public.ledger_log").await;
    assert_eq!(leaves, i64::from(CLIENTS * ROWS) - 1);
    drop(app);
    assert_eq!(ledger.finish().await, (CLIENTS * ROWS) as usize);
}

#[tokio::test]
async fn what_is_rolled_back_leaves_no_gap_and_an_old_snapshot_fails_loudly() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    let mut other = ledger.connect_app().await;
    for n in 0..3 {
        run(&mut app, "BEGIN").await;
        recorded(&mut app, "signals", &signal(100 + n)).await;
        recorded(&mut app, "order_events", &kill_switch()).await;
        run(&mut app, "ROLLBACK").await;
        assert_eq!(recorded(&mut app, "signals", &signal(n)).await, i64::from(n) + 1);
    }
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        run(&mut app, &format!("BEGIN ISOLATION LEVEL {level}")).await;
        fetch::<i64>(&mut app, "SELECT count(*) FROM public.signals").await;
        recorded(&mut other, "security_events", &event()).await;
        let error = append(&mut app, "order_events", &kill_switch().to_string()).await.unwrap_err();
        let code = error.as_database_error().unwrap().code().unwrap().into_owned();
        assert!(["40001", "AU011"].contains(&code.as_str()), "{level}: {error}");
        run(&mut app, "ROLLBACK").await;
    }
    drop((app, other));
    assert_eq!(ledger.finish().await, 5);
}
