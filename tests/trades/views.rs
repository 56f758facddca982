//! The story of a trade and the kill switches: what the views make of debates, orders and events.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::common::builders::{self, signal};
use crate::common::{TestLedger, fetch, run, soon};
use crate::{Desk, debate, fill, kill_switch, order, with, without};

/// One trade by its own route; the list shows the same.
async fn trade(desk: &Desk, id: &str) -> Value {
    let story = desk.read(&format!("/v1/trades/{id}")).await;
    let list = desk.read("/v1/trades").await;
    let items = list["items"].as_array().unwrap();
    let listed = items.iter().find(|item| item["correlation_id"] == *id).unwrap();
    assert_eq!(listed, &story["trade"]);
    story["trade"].clone()
}

fn assert_members(trade: &Value, expected: &[(&str, Value)]) {
    for (member, value) in expected {
        assert_eq!(&trade[member], value, "{member} of {trade:#}");
    }
}

fn debate_of(id: &str, model: &str, confidence: &str, reasoning: &str) -> Value {
    let debate = with(&debate(id), "model_name", model);
    let debate = with(&debate, "confidence_score", confidence);
    with(&without(&debate, "reasoning_json"), "reasoning_json_text", reasoning)
}

#[tokio::test]
async fn a_signal_that_nothing_followed() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let story = desk.read(&format!("/v1/trades/{id}")).await;
    assert_members(
        &trade(&desk, &id).await,
        &[
            ("signal_row_id", json!(1)),
            ("signal_id", json!("s-1")),
            ("symbol", json!("BTCUSD")),
            ("side", json!("BUY")),
            ("price", json!("1.5000000000")),
            ("quantity", json!("2.0000000000")),
            ("source_ip", json!("127.0.0.1")),
            ("hmac_verified", json!(true)),
            ("auth_method", json!("hmac")),
            ("recorded_by", json!("tradingview")),
            ("deepseek_rejection_reasoning_text", Value::Null),
            ("llama_sentiment_text", Value::Null),
            ("other_models", json!([])),
            ("combined_confidence", Value::Null),
            ("models_answered", json!(0)),
            ("order_count", json!(0)),
            ("order_id", Value::Null),
            ("order_status", Value::Null),
            ("last_event_type", Value::Null),
            ("filled_quantity", json!("0")),
            ("zar_equity", Value::Null),
            ("order_anomaly", json!(false)),
            ("anomalous_event_ids", json!([])),
        ],
    );
    let [step] = story["steps"].as_array().unwrap().as_slice() else { panic!("{story}") };
    assert_eq!((&step["since_previous_us"], &step["since_signal_us"]), (&Value::Null, &json!(0)));
    let row = &step["row"];
    let hash = json!([{ "chain": "signals", "id": 1, "row_hash": row["row_hash"] }]);
    assert_eq!(story["trade"]["row_hashes"], hash);
    assert_eq!(story["trade"]["raw_payload_text"], row["raw_payload_text"]);
    assert_eq!(story["trade"]["created_at"], row["created_at"]);
    assert_eq!(desk.close().await, 1);
}

#[tokio::test]
async fn the_latest_word_of_each_model_counts_and_a_timeout_is_no_answer() {
    let desk = Desk::open().await;
    let (id, other) = (desk.signal(1).await, desk.signal(2).await);
    let odd = "{\"b\" :1.50,\"a\":2}";
    for (model, confidence, reasoning) in [
        ("deepseek-r1", "0.1", "{\"first\":1}"),
        ("llama-3.1", "0.9", "\"bullish\""),
        ("phi-4", "0.2", "{}"),
        ("phi-4", "0.7", odd),
        ("deepseek-r1", "0.8125", odd),
    ] {
        desk.record("ai_debates", &debate_of(&id, model, confidence, reasoning)).await;
        desk.record("ai_debates", &debate_of(&other, "phi-4", "0.0001", "{}")).await;
    }
    let found = trade(&desk, &id).await;
    assert_members(
        &found,
        &[
            ("deepseek_rejection_reasoning_text", json!(odd)),
            ("llama_sentiment_text", json!("\"bullish\"")),
            // The least of 0.8125, 0.9 and 0.7: what was said before does not count.
            ("combined_confidence", json!("0.7000")),
            ("models_answered", json!(3)),
            (
                "other_models",
                json!([{
                    "id": 7, "model_name": "phi-4", "confidence_score": "0.7000",
                    "is_timeout": false, "elapsed_ms": 1830, "reasoning_json_text": odd,
                }]),
            ),
        ],
    );
    let timeout = |model: &str| with(&debate_of(&id, model, "0", "null"), "is_timeout", true);
    desk.record("ai_debates", &timeout("phi-4")).await;
    desk.record("ai_debates", &timeout("timeout")).await;
    let found = trade(&desk, &id).await;
    assert_members(
        &found,
        &[("combined_confidence", json!("0.8125")), ("models_answered", json!(2))],
    );
    let others = found["other_models"].as_array().unwrap();
    let others: Vec<_> =
        others.iter().map(|model| (&model["model_name"], &model["is_timeout"])).collect();
    assert_eq!(others, [(&json!("phi-4"), &json!(true)), (&json!("timeout"), &json!(true))]);
    for model in ["deepseek-r1", "llama-3.1"] {
        desk.record("ai_debates", &timeout(model)).await;
    }
    assert_members(
        &trade(&desk, &id).await,
        &[
            ("combined_confidence", Value::Null),
            ("models_answered", json!(0)),
            ("deepseek_rejection_reasoning_text", json!("null")),
        ],
    );
    // An answer after the timeout counts again.
    desk.record("ai_debates", &debate_of(&id, "phi-4", "1", "{}")).await;
    assert_members(&trade(&desk, &id).await, &[("combined_confidence", json!("1.0000"))]);
    assert_eq!(desk.close().await, 2 + 10 + 5);
}

/// An event of this order.
fn event(order: i64, kind: &str) -> Value {
    let mut event = match kind {
        "FILL" | "PARTIAL_FILL" => fill(order),
        "KILL_SWITCH" => kill_switch(),
        _ => json!({ "rejection_reason": "why", "exchange_error_code": "E-1" }),
    };
    event["event_type"] = kind.into();
    event["order_execution_id"] = order.into();
    event
}

#[tokio::test]
async fn the_latest_order_and_its_latest_event_tell_the_status() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let first = desk.record("order_execution", &with(&order(&id), "status", "PENDING")).await;
    assert_members(
        &trade(&desk, &id).await,
        &[
            ("order_count", json!(1)),
            ("order_id", json!(first)),
            ("order_type", json!("LIMIT")),
            ("order_quantity", json!("2.0000000000")),
            ("order_price", json!("64250.5000000000")),
            ("exchange_order_id", json!("x-1")),
            ("order_status_recorded", json!("PENDING")),
            ("order_status", json!("PENDING")),
            ("last_event_id", Value::Null),
            ("last_event_at", Value::Null),
        ],
    );
    for (kind, status, filled) in [
        ("EXPIRED", "EXPIRED", "0"),
        ("REJECTED", "REJECTED", "0"),
        ("CANCELLED", "CANCELLED", "0"),
        ("KILL_SWITCH", "KILL_SWITCH", "0"),
        ("PARTIAL_FILL", "PARTIAL", "2.0000000000"),
        ("FILL", "FILLED", "2.0000000000"),
    ] {
        let order = desk.record("order_execution", &order(&id)).await;
        let recorded = desk.record("order_events", &event(order, kind)).await;
        let is_kill = kind == "KILL_SWITCH";
        let has_reason = ["EXPIRED", "REJECTED", "CANCELLED"].contains(&kind);
        let row = &desk.read(&format!("/v1/order_events/{recorded}")).await["row"];
        assert_members(
            &trade(&desk, &id).await,
            &[
                ("order_count", json!(order)),
                ("order_id", json!(order)),
                ("order_status_recorded", json!("SUBMITTED")),
                ("order_status", json!(status)),
                ("last_event_id", json!(recorded)),
                ("last_event_type", json!(kind)),
                ("last_event_at", row["created_at"].clone()),
                ("filled_quantity", json!(filled)),
                ("zar_equity", if is_kill { json!("-1250.50") } else { Value::Null }),
                ("rejection_reason", if has_reason { json!("why") } else { Value::Null }),
                ("exchange_error_code", if has_reason { json!("E-1") } else { Value::Null }),
                ("order_anomaly", json!(false)),
            ],
        );
    }
    let market = with(&without(&order(&id), "price"), "order_type", "MARKET");
    desk.record("order_execution", &market).await;
    assert_members(
        &trade(&desk, &id).await,
        &[("order_price", Value::Null), ("order_status", json!("SUBMITTED"))],
    );
    assert_eq!(desk.close().await, 1 + 1 + 6 * 2 + 1);
}

#[tokio::test]
async fn a_fill_that_cannot_be_is_flagged_and_stays_flagged() {
    let desk = Desk::open().await;
    let quantity = |event: &Value, quantity: &str| with(event, "fill_quantity", quantity);
    let (partial, full) = ("PARTIAL_FILL", "FILL");
    let mut n = 0;
    // The status when recorded, events with what they fill, and the places of those that cannot be.
    for (status, events, anomalous) in [
        ("SUBMITTED", vec![(partial, "0.5"), (partial, "1"), (full, "0.5")], vec![]),
        ("SUBMITTED", vec![(partial, "1"), (partial, "1.0000000001")], vec![1]),
        ("SUBMITTED", vec![(full, "2.0000000001")], vec![0]),
        ("SUBMITTED", vec![(partial, "2"), (full, "0.0000000001")], vec![1]),
        ("SUBMITTED", vec![(full, "1"), (partial, "0.5")], vec![1]),
        ("SUBMITTED", vec![(full, "1"), (full, "1")], vec![1]),
        ("SUBMITTED", vec![("CANCELLED", ""), (partial, "1")], vec![1]),
        ("SUBMITTED", vec![("REJECTED", ""), (full, "2")], vec![1]),
        ("SUBMITTED", vec![("EXPIRED", ""), (full, "1"), (partial, "1")], vec![1, 2]),
        ("SUBMITTED", vec![("KILL_SWITCH", ""), (partial, "1")], vec![1]),
        ("SUBMITTED", vec![(partial, "1"), ("CANCELLED", ""), ("EXPIRED", "")], vec![]),
        ("CANCELLED", vec![(full, "2")], vec![0]),
        ("REJECTED", vec![(partial, "1")], vec![0]),
        ("FILLED", vec![(full, "2")], vec![]),
        ("PARTIAL", vec![(partial, "1"), (full, "1")], vec![]),
    ] {
        n += 1;
        let id = desk.signal(n).await;
        let order_id = desk.record("order_execution", &with(&order(&id), "status", status)).await;
        let mut ids = Vec::new();
        for (kind, fills) in &events {
            let event = event(order_id, kind);
            let event = if fills.is_empty() { event } else { quantity(&event, fills) };
            ids.push(desk.record("order_events", &event).await);
        }
        let expected: Vec<_> = anomalous.iter().map(|at: &usize| ids[*at]).collect();
        let flagged = [
            ("order_anomaly", json!(!expected.is_empty())),
            ("anomalous_event_ids", json!(expected)),
        ];
        let found = trade(&desk, &id).await;
        assert_members(&found, &flagged);
        // A later order, with nothing wrong about it, does not hide that.
        let later = desk.record("order_execution", &order(&id)).await;
        desk.record("order_events", &event(later, "FILL")).await;
        let found = trade(&desk, &id).await;
        assert_members(&found, &flagged);
        assert_members(&found, &[("filled_quantity", json!("2.0000000000"))]);
    }
    desk.close().await;
}

#[tokio::test]
async fn the_story_has_every_row_in_ledger_order_with_the_time_between() {
    let desk = Desk::open().await;
    let (id, other) = (desk.signal(1).await, desk.signal(2).await);
    let mut expected = vec![("signals".to_owned(), 1)];
    for (chain, body) in [
        ("ai_debates", debate(&id)),
        ("order_execution", order(&id)),
        ("order_events", event(1, "PARTIAL_FILL")),
        ("ai_debates", debate_of(&id, "phi-4", "0.5", "[]")),
        ("order_execution", order(&id)),
        ("order_events", event(2, "REJECTED")),
        ("order_events", event(1, "KILL_SWITCH")),
    ] {
        desk.record("ai_debates", &debate(&other)).await;
        desk.record("order_events", &kill_switch()).await;
        expected.push((chain.to_owned(), desk.record(chain, &body).await));
    }
    let story = desk.read(&format!("/v1/trades/{id}")).await;
    let steps = story["steps"].as_array().unwrap();
    let places: Vec<_> = steps
        .iter()
        .map(|step| {
            (step["row"]["chain"].as_str().unwrap().to_owned(), step["row"]["id"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(places, expected);
    let micros = |step: &Value| {
        let time = step["row"]["created_at"].as_str().unwrap();
        chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp_micros()
    };
    for (at, step) in steps.iter().enumerate() {
        let read = desk.read(&format!("/v1/{}/{}", places[at].0, places[at].1)).await;
        assert_eq!(read["row"], step["row"]);
        assert_eq!(step["since_signal_us"], micros(step) - micros(&steps[0]));
        let previous = at.checked_sub(1).map(|before| micros(step) - micros(&steps[before]));
        assert_eq!(step["since_previous_us"], json!(previous));
    }
    // The view has the hash of each, chain by chain.
    let mut hashes: Vec<_> = steps
        .iter()
        .map(|step| {
            let row = &step["row"];
            json!({ "chain": row["chain"], "id": row["id"], "row_hash": row["row_hash"] })
        })
        .collect();
    let chains = ["signals", "ai_debates", "order_execution", "order_events"];
    hashes.sort_by_key(|hash| {
        let chain = chains.iter().position(|chain| hash["chain"] == *chain);
        (chain, hash["id"].as_i64())
    });
    assert_eq!(story["trade"]["row_hashes"], json!(hashes));
    assert_eq!(desk.close().await, 2 + 7 * 3);
}

#[tokio::test]
async fn kill_switches_stand_beside_what_they_stopped() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let order_id = desk.record("order_execution", &order(&id)).await;
    desk.record("order_events", &event(order_id, "PARTIAL_FILL")).await;
    let odd = "[ {\"symbol\":\"BTCUSD\",\"pnl\":-1.50e1} ]";
    let of_order = with(&without(&kill_switch(), "positions_closed"), "positions_closed_text", odd);
    let of_order = with(&of_order, "rejection_reason", "drawdown");
    desk.record("order_events", &with(&of_order, "order_execution_id", order_id)).await;
    desk.record("order_events", &kill_switch()).await;
    let page = desk.read("/v1/kill_switch_events").await;
    let [global, stopped] = page["items"].as_array().unwrap().as_slice() else { panic!("{page}") };
    let row = &desk.read("/v1/order_events/2").await["row"];
    assert_members(
        stopped,
        &[
            ("id", json!(2)),
            ("created_at", row["created_at"].clone()),
            ("zar_equity", json!("-1250.50")),
            ("positions_closed_text", json!(odd)),
            ("rejection_reason", json!("drawdown")),
            ("exchange_error_code", Value::Null),
            ("recorded_by", json!("desk")),
            ("row_hash", row["row_hash"].clone()),
            ("order_id", json!(order_id)),
            ("order_type", json!("LIMIT")),
            ("symbol", json!("BTCUSD")),
            ("side", json!("BUY")),
            ("quantity", json!("2.0000000000")),
            ("price", json!("64250.5000000000")),
            ("exchange_order_id", json!("x-1")),
            ("order_status_recorded", json!("SUBMITTED")),
            ("correlation_id", json!(id)),
            ("signal_id", json!("s-1")),
            ("signal_row_id", json!(1)),
        ],
    );
    assert_members(global, &[("id", json!(3)), ("zar_equity", json!("-1250.50"))]);
    for member in [
        "order_id",
        "order_type",
        "symbol",
        "side",
        "quantity",
        "price",
        "exchange_order_id",
        "order_status_recorded",
        "correlation_id",
        "signal_id",
        "signal_row_id",
    ] {
        assert_eq!(global[member], Value::Null, "{member}");
    }
    assert_eq!(desk.close().await, 5);
}

#[tokio::test]
async fn the_checks_of_signals_have_exactly_eight_columns() {
    let ledger = TestLedger::new().await;
    let mut auditor = ledger.connect("ledger_auditor").await;
    let sql = "SELECT string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attnum)
               FROM pg_attribute WHERE attrelid = 'public.signal_integrity_checks'::regclass";
    assert_eq!(
        fetch::<String>(&mut auditor, sql).await,
        "check_id bigint, range_start bigint, range_end bigint, expected_count bigint, \
         actual_count bigint, chain_valid boolean, checked_at timestamp with time zone, \
         errors_json jsonb"
    );
    let mut app = ledger.connect_app().await;
    for chain in ["signals", "signal_audit_ledger"] {
        let insert = format!(
            "INSERT INTO integrity_checks (run_id, chain, kind, range_start, range_end,
                 expected_count, actual_count, finished, chain_valid, findings_count, findings,
                 duration_ms, checked_with)
             VALUES (gen_random_uuid(), '{chain}', 'full', 1, 3, 3, 2, true, false, 1,
                     '[{{\"kind\": \"gap\"}}]', 1, 'tests')"
        );
        run(&mut app, &insert).await;
    }
    let sql = "SELECT string_agg(concat_ws(' ', range_start, range_end, expected_count,
                   actual_count, chain_valid, errors_json), ', ') FROM signal_integrity_checks";
    assert_eq!(fetch::<String>(&mut auditor, sql).await, "1 3 3 2 f [{\"kind\": \"gap\"}]");
    drop((auditor, app));
    assert_eq!(ledger.finish().await, 0);
}

#[tokio::test]
async fn the_service_and_the_auditor_read_the_views_and_nobody_writes_them() {
    let ledger = TestLedger::new().await;
    for role in ["app_trading", "ledger_auditor"] {
        let mut connection = ledger.connect(role).await;
        for view in ["vw_trade_audit_full", "vw_kill_switch_events", "signal_integrity_checks"] {
            run(&mut connection, &format!("SELECT * FROM public.{view}")).await;
            for write in [format!("DELETE FROM public.{view}"), format!("DROP VIEW public.{view}")]
            {
                let code = crate::common::refused(&mut connection, &write).await;
                assert!(["42501", "55000"].contains(&code.as_str()), "{role}: {code}: {write}");
            }
        }
    }
    assert_eq!(ledger.finish().await, 0);
}

/// What PostgreSQL plans for a query, as it would for any value of its parameter.
async fn plan(connection: &mut sqlx::PgConnection, query: &str, parameter: &str) -> String {
    let prepare = format!("SET plan_cache_mode = force_generic_plan; PREPARE asked AS {query}");
    run(connection, &prepare).await;
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE asked ({parameter})");
    let lines: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *connection).await.unwrap();
    run(connection, "DEALLOCATE asked").await;
    lines.join("\n")
}

#[tokio::test]
async fn one_trade_is_found_by_indexes() {
    const SIGNALS: u32 = 1_500;
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let signals: Vec<_> = (0..SIGNALS).map(signal).collect();
    let ids: Vec<_> = signals.iter().map(|signal| signal.correlation_id).collect();
    let rows = signals.into_iter().map(|signal| appender.append(signal, soon()));
    futures_util::future::join_all(rows).await;
    let rows = (1..=SIGNALS).zip(&ids).flat_map(|(n, id)| {
        [builders::debate(n, *id), builders::debate(n, *id), builders::order(n, *id)]
    });
    let rows = rows.map(|row| appender.append(row, soon()));
    futures_util::future::join_all(rows).await;
    let rows =
        (1..=SIGNALS).flat_map(|n| [1, 2, 4].map(|kind| builders::order_event(kind, n.into())));
    let rows = rows.map(|row| appender.append(row, soon()));
    futures_util::future::join_all(rows).await;
    drop(appender);
    let mut superuser = ledger.connect_superuser().await;
    run(&mut superuser, "ANALYZE").await;
    let story = "SELECT * FROM order_events AS t WHERE t.order_execution_id IN (
        SELECT o.id FROM order_execution AS o WHERE o.correlation_id = $1) ORDER BY t.id";
    let id = format!("'{}'", ids[700]);
    for (query, parameter) in [
        ("SELECT * FROM vw_trade_audit_full WHERE correlation_id = $1", id.as_str()),
        (
            "SELECT * FROM vw_trade_audit_full WHERE signal_row_id < $1
             ORDER BY signal_row_id DESC LIMIT 101",
            "900",
        ),
        ("SELECT * FROM vw_kill_switch_events WHERE id < $1 ORDER BY id DESC LIMIT 101", "900"),
        (story, id.as_str()),
    ] {
        let plan = plan(&mut superuser, query, parameter).await;
        assert!(plan.contains("Index"), "{plan}");
        assert!(!plan.contains("Seq Scan"), "{query}\n{plan}");
    }
    drop(superuser);
    assert_eq!(ledger.finish().await, 7 * SIGNALS as usize);
}
