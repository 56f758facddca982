//! Three ways to hand over the same records: REST, the Rust sink and SQL. What stands in the chain
//! afterwards is the same, and so is what is refused.

use std::time::Duration;

use audit_ledger::chains::signal_audit_ledger::{Direction, Outcome, ProducedSignal, Record};
use audit_ledger::clock::Clock;
use audit_ledger::sink::{SignalSink, SinkSettings};
use chrono::DateTime;
use ledger_verifier::Value as Stored;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use ledger_verifier::decimal::{bound, to_string};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use sqlx::ConnectOptions;

use crate::common::random::{sample, text};
use crate::common::{TestLedger, read_back};
use crate::values::bad_records;
use crate::{Desk, append, results_of};

/// How many signals; every other one has an outcome.
const SIGNALS: usize = 60;

fn name(max_chars: usize) -> impl Strategy<Value = String> {
    text(max_chars).prop_map(|text| if text.is_empty() { "x".to_owned() } else { text })
}

fn price() -> impl Strategy<Value = Option<i128>> {
    let largest = bound(28) - 1;
    prop::option::of(prop_oneof![-largest..=largest, select(vec![0, 1, -1, largest, -largest])])
}

/// What a signal and its outcome say besides their names.
fn said() -> impl Strategy<Value = (Option<i128>, Option<i128>, i64, String, bool, Option<String>)>
{
    let payload = text(20).prop_map(|text| format!("{{ \"é\" :\t{} }}", json!(text)));
    (
        prop::option::of(0..=10_000_i128),
        price(),
        0..253_402_300_800_000_000_i64,
        payload,
        any::<bool>(),
        prop::option::of(name(64)),
    )
}

/// Signals, each perhaps with its outcome behind it.
fn records() -> Vec<Record> {
    let direction = select(vec![Direction::Long, Direction::Short, Direction::Neutral]);
    let conviction = prop_oneof![0..=1_000_000_i128, select(vec![0, 1, 999_999, 1_000_000])];
    let signal = (name(50), name(20), prop::option::of(name(50)), direction, conviction);
    let sampled = sample(&(signal, said(), said()), SIGNALS);
    let mut records = Vec::new();
    for (n, ((source_module, ticker, signal_type, direction, conviction), one, other)) in
        sampled.into_iter().enumerate()
    {
        let time = |micros| DateTime::from_timestamp_micros(micros).unwrap();
        let signal_id = format!("{n}-{ticker}");
        let (confidence, price, made, payload_json, acted_upon, execution_id) = other;
        let outcome = Outcome {
            signal_type: signal_type.clone(),
            confidence,
            price,
            timestamp: (n % 4 == 0).then(|| time(made)),
            payload_json,
            execution_id,
            ..Outcome::new(&source_module, &signal_id, acted_upon)
        };
        let (confidence, price, made, payload_json, acted_upon, execution_id) = one;
        records.push(Record::Signal(ProducedSignal {
            signal_type,
            conviction,
            confidence,
            price,
            payload_json,
            acted_upon,
            execution_id,
            ..ProducedSignal::new(&source_module, &signal_id, &ticker, direction, time(made))
        }));
        if n % 2 == 0 {
            records.push(Record::Outcome(outcome));
        }
    }
    records
}

/// A record as JSON. Numbers are strings and numbers in turn.
fn as_json(record: &Record) -> Value {
    let decimal = |units: Option<i128>, scale| units.map(|units| to_string(units, scale));
    let time = |time: DateTime<_>| audit_ledger::chains::rfc3339(time);
    match record.clone() {
        Record::Signal(signal) => json!({
            "source_module": signal.source_module,
            "signal_id": signal.signal_id,
            "signal_type": signal.signal_type,
            "ticker": signal.ticker,
            "direction": signal.direction.name().to_lowercase(),
            "conviction": decimal(Some(signal.conviction), 4),
            "confidence": decimal(signal.confidence, 4),
            "price": decimal(signal.price, 10),
            "timestamp": time(signal.timestamp),
            "payload_json_text": signal.payload_json,
            "acted_upon": signal.acted_upon,
            "execution_id": signal.execution_id,
        }),
        Record::Outcome(outcome) => json!({
            "record_type": "OUTCOME",
            "source_module": outcome.source_module,
            "signal_id": outcome.signal_id,
            "signal_type": outcome.signal_type,
            "confidence": decimal(outcome.confidence, 4),
            "price": decimal(outcome.price, 10),
            "timestamp": outcome.timestamp.map(time),
            "payload_json_text": outcome.payload_json,
            "acted_upon": outcome.acted_upon,
            "execution_id": outcome.execution_id,
        }),
    }
}

/// The chain, without what depends on when its rows came.
async fn rows(ledger: &TestLedger) -> Vec<Vec<Stored<'static>>> {
    let chain = &SIGNAL_AUDIT_LEDGER;
    let at = |name: &str| chain.position(name).unwrap();
    let mut superuser = ledger.connect_superuser().await;
    let mut rows = Vec::new();
    for row in read_back::read_chain(&mut superuser, chain).await {
        let mut values = row.values;
        let (Stored::Timestamp(received), Stored::Timestamp(made), Stored::Integer(latency)) =
            (&values[at("received_at")], &values[at("timestamp")], &values[at("latency_ms")])
        else {
            panic!("{values:?}")
        };
        let expected = (received - made).div_euclid(1_000);
        assert_eq!(*latency, expected.clamp(-2_147_483_647, 2_147_483_647));
        if made == received {
            values[at("timestamp")] = Stored::Null;
        }
        for name in ["received_at", "latency_ms", "created_at"] {
            values[at(name)] = Stored::Null;
        }
        rows.push(values);
    }
    rows
}

#[tokio::test]
async fn the_same_records_make_the_same_rows_whichever_way_they_come() {
    let records = records();
    let count = records.len();

    let desk = Desk::open().await;
    let bodies: Vec<_> = records.iter().map(|record| as_json(record).to_string()).collect();
    for again in [false, true] {
        let answer = desk.post(format!("[{}]", bodies.join(",")), &[]).await;
        let expected = if again { "duplicate" } else { "recorded" };
        for (body, result) in bodies.iter().zip(results_of(&answer)) {
            assert_eq!(result["status"], expected, "{body}: {result}");
        }
    }
    let by_rest = rows(&desk.ledger).await;
    assert_eq!(by_rest.len(), count);
    assert_eq!(desk.close().await, count);

    let ledger = TestLedger::new().await;
    let url = ledger.options("app_trading").to_url_lossy();
    let settings = SinkSettings { within: Duration::from_secs(30), ..SinkSettings::of("desk") };
    let sink = SignalSink::connect(url.as_str(), settings, Clock::system()).unwrap();
    for again in [false, true] {
        for (record, answer) in records.iter().zip(sink.record(records.clone()).await) {
            assert_eq!(answer.unwrap().is_duplicate, again, "{record:?}");
        }
    }
    sink.close().await;
    assert_eq!(rows(&ledger).await, by_rest);
    assert_eq!(ledger.finish().await, count);

    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    for expected in ["recorded", "duplicate"] {
        for record in &records {
            let mut body = as_json(record);
            body["recorded_by"] = "desk".into();
            let body = body.to_string();
            let (status, _) =
                append(&mut app, &body).await.unwrap_or_else(|e| panic!("{e}: {body}"));
            assert_eq!(status, expected, "{body}");
        }
    }
    drop(app);
    assert_eq!(rows(&ledger).await, by_rest);
    assert_eq!(ledger.finish().await, count);
}

#[tokio::test]
async fn what_the_service_refuses_is_refused_by_sql_under_the_same_code() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    let bad = bad_records();
    assert!(bad.len() > 100);
    for (body, code, field) in bad {
        let shown = body.get(..400).unwrap_or(&body).to_owned();
        let error = append(&mut app, &body).await.expect_err(&shown);
        let error = error.as_database_error().unwrap_or_else(|| panic!("{shown}"));
        let (message, sqlstate) = (error.message(), error.code().unwrap());
        let said = match sqlstate.as_ref() {
            // Rules between members are the tables' own.
            "23514" => "VAL-002",
            "23503" | "AU008" => "AUD-008",
            "AU001" => "AUD-001",
            "22023" => &message[..7],
            _ => message,
        };
        assert_eq!(said, code, "{shown}: {sqlstate} {message}");
        if ["AU001", "22023"].contains(&sqlstate.as_ref()) {
            assert!(message.starts_with(&format!("{code}: {field}")), "{shown}: {message}");
        }
    }
    drop(app);
    assert_eq!(ledger.finish().await, 0);
}
