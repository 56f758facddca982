//! The sink in Rust: what no column can hold is refused before anything is sent, and disturbs nobody.

use std::time::Duration;

use audit_ledger::chains::signal_audit_ledger::{Outcome, ProducedSignal, Record};
use audit_ledger::clock::Clock;
use audit_ledger::sink::{SignalSink, SinkError, SinkSettings};
use chrono::DateTime;
use ledger_verifier::decimal::bound;
use sqlx::ConnectOptions;

use crate::common::TestLedger;
use crate::common::builders::produced;
use crate::proxy::nobodys_address;

/// A record that must be refused, and the member that is named.
type BadRecord = (Record, &'static str);

fn bad_signals() -> Vec<BadRecord> {
    let mut bad: Vec<BadRecord> = Vec::new();
    let mut with = |field, change: &dyn Fn(&mut ProducedSignal)| {
        let mut signal = produced(900);
        change(&mut signal);
        bad.push((Record::Signal(signal), field));
    };
    for text in [String::new(), "é".repeat(65), "a\0b".to_owned(), "\0".to_owned()] {
        with("signal_id", &|signal| signal.signal_id.clone_from(&text));
        with("source_module", &|signal| signal.source_module.clone_from(&text));
        with("signal_type", &|signal| signal.signal_type = Some(text.clone()));
        with("ticker", &|signal| signal.ticker.clone_from(&text));
        with("execution_id", &|signal| signal.execution_id = Some(text.clone()));
    }
    with("source_module", &|signal| signal.source_module = "x".repeat(51));
    with("signal_type", &|signal| signal.signal_type = Some("x".repeat(51)));
    with("ticker", &|signal| signal.ticker = "x".repeat(21));
    for units in [-1, 1_000_001, bound(7), i128::MAX, i128::MIN] {
        with("conviction", &|signal| signal.conviction = units);
    }
    for units in [-1, 10_001, bound(5), i128::MAX, i128::MIN] {
        with("confidence", &|signal| signal.confidence = Some(units));
    }
    for units in [bound(28), -bound(28), i128::MAX, i128::MIN] {
        with("price", &|signal| signal.price = Some(units));
    }
    for micros in [-1, -62_135_596_800_000_000, 253_402_300_800_000_000] {
        let time = DateTime::from_timestamp_micros(micros).unwrap();
        with("timestamp", &|signal| signal.timestamp = time);
    }
    for time in [DateTime::<chrono::Utc>::MIN_UTC, DateTime::<chrono::Utc>::MAX_UTC] {
        with("timestamp", &|signal| signal.timestamp = time);
    }
    let large = format!("\"{}\"", "x".repeat((1 << 20) - 1));
    for text in [
        "",
        "{",
        "{} {}",
        "{\"a\":01}",
        "\"\\u0000\"",
        "\"\0\"",
        "\"\\ud800\"",
        "1e999999",
        "{\"a\":1,\"a\":1}",
        &large,
    ] {
        with("payload_json", &|signal| text.clone_into(&mut signal.payload_json));
    }
    bad
}

fn bad_outcomes() -> Vec<BadRecord> {
    let mut bad: Vec<BadRecord> = Vec::new();
    let mut with = |field, change: &dyn Fn(&mut Outcome)| {
        let mut outcome = Outcome::new("ema", "ema-0", true);
        change(&mut outcome);
        bad.push((Record::Outcome(outcome), field));
    };
    for text in [String::new(), "x".repeat(65), "a\0b".to_owned()] {
        with("signal_id", &|outcome| outcome.signal_id.clone_from(&text));
        with("source_module", &|outcome| outcome.source_module.clone_from(&text));
        with("signal_type", &|outcome| outcome.signal_type = Some(text.clone()));
        with("execution_id", &|outcome| outcome.execution_id = Some(text.clone()));
    }
    with("confidence", &|outcome| outcome.confidence = Some(10_001));
    with("price", &|outcome| outcome.price = Some(-bound(28)));
    with("timestamp", &|outcome| outcome.timestamp = DateTime::from_timestamp_micros(-1));
    with("payload_json", &|outcome| "nonsense".clone_into(&mut outcome.payload_json));
    bad
}

fn assert_invalid(answer: &Result<impl std::fmt::Debug, SinkError>, field: &str, record: &Record) {
    match answer {
        Err(SinkError::Invalid { field: named, rule }) => {
            assert_eq!(named, field, "{record:.200?}: {rule}");
            assert!(!rule.is_empty() && !rule.contains('\0') && rule.len() < 200, "{rule}");
        }
        other => panic!("{field} {record:?}: {other:?}"),
    }
}

fn sink(ledger: &TestLedger, settings: SinkSettings) -> SignalSink {
    let url = ledger.options("app_trading").to_url_lossy();
    SignalSink::connect(url.as_str(), settings, Clock::system()).unwrap()
}

#[tokio::test]
async fn what_no_column_can_hold_is_refused_by_name_and_the_rest_is_recorded() {
    let ledger = TestLedger::new().await;
    let settings = SinkSettings { within: Duration::from_secs(30), ..SinkSettings::of("ema") };
    let sink = sink(&ledger, settings);
    let bad = [bad_signals(), bad_outcomes()].concat();
    let good = (0..).map(|n| Record::Signal(produced(n)));
    let all = good.zip(&bad).flat_map(|(good, (bad, _))| [good, bad.clone()]);
    let answers = sink.record(all).await;
    assert_eq!(answers.len(), 2 * bad.len());
    for (at, (pair, (record, field))) in answers.chunks(2).zip(&bad).enumerate() {
        let recorded = pair[0].as_ref().unwrap();
        assert_eq!(recorded.receipt.id.0, i64::try_from(at).unwrap() + 1, "in one batch's order");
        assert_invalid(&pair[1], field, record);
    }
    sink.close().await;
    assert_eq!(ledger.finish().await, bad.len());
}

#[tokio::test]
async fn what_is_at_the_edge_of_its_column_is_recorded() {
    let ledger = TestLedger::new().await;
    let sink = sink(&ledger, SinkSettings::of(&"é".repeat(64)));
    let mut edges = vec![produced(0), produced(1), produced(2)];
    edges[0].signal_id = "é".repeat(64);
    edges[0].source_module = "🚀".repeat(50);
    edges[0].signal_type = Some("é".repeat(50));
    edges[0].ticker = "é".repeat(20);
    edges[0].execution_id = Some("é".repeat(64));
    edges[0].payload_json = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    edges[1].conviction = 1_000_000;
    edges[1].confidence = Some(10_000);
    edges[1].price = Some(bound(28) - 1);
    edges[1].timestamp = DateTime::from_timestamp_micros(0).unwrap();
    edges[2].conviction = 0;
    edges[2].confidence = Some(0);
    edges[2].price = Some(1 - bound(28));
    edges[2].timestamp = DateTime::from_timestamp_micros(253_402_300_799_999_999).unwrap();
    for answer in sink.record(edges.into_iter().map(Record::Signal)).await {
        assert!(!answer.unwrap().is_duplicate);
    }
    sink.close().await;
    assert_eq!(ledger.finish().await, 3);
}

#[tokio::test]
async fn what_meets_the_ledger_is_told_by_kind() {
    let ledger = TestLedger::new().await;
    let sink = sink(&ledger, SinkSettings::of("ema"));
    let first = sink.record([Record::Signal(produced(1))]).await.remove(0).unwrap();
    assert!(!first.is_duplicate);
    let mut other = produced(1);
    other.price = None;
    let mut of_nothing = produced(2);
    of_nothing.correlation_id = Some(uuid::Uuid::from_u128(7));
    let answers = sink
        .record([
            Record::Signal(other),
            Record::Signal(of_nothing),
            Record::Outcome(Outcome::new("ema", "ema-2", true)),
            Record::Outcome(Outcome::new("ema", "ema-1", true)),
            Record::Outcome(Outcome::new("ema", "ema-1", true)),
        ])
        .await;
    let conflict = Err(SinkError::Conflict { existing: first.receipt });
    assert_eq!(answers[0], conflict);
    for (answer, named) in [(&answers[1], "correlation_id"), (&answers[2], "signal_id")] {
        let unknown =
            matches!(answer, Err(SinkError::UnknownReference { field, .. }) if *field == named);
        assert!(unknown, "{named}: {answer:?}");
    }
    let [outcome, again] = [&answers[3], &answers[4]].map(|answer| answer.as_ref().unwrap());
    assert_eq!((outcome.is_duplicate, again.is_duplicate), (false, true));
    assert_eq!(outcome.receipt, again.receipt);
    sink.close().await;
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn a_bad_record_needs_no_database_to_be_refused() {
    let address = nobodys_address().await;
    let url = format!("postgresql://app_trading@{address}/ledger");
    let settings = SinkSettings { within: Duration::from_millis(300), ..SinkSettings::of("ema") };
    let sink = SignalSink::connect(&url, settings, Clock::system()).unwrap();
    let bad = [bad_signals(), bad_outcomes()].concat();
    for (answer, (record, field)) in
        sink.record(bad.iter().map(|(record, _)| record.clone())).await.iter().zip(&bad)
    {
        assert_invalid(answer, field, record);
    }
    let answers = sink.record([Record::Signal(produced(1))]).await;
    assert!(matches!(&answers[..], [Err(SinkError::NotRecorded(_))]), "{answers:?}");
    assert!(sink.record([]).await.is_empty());
    sink.close().await;

    for name in ["", "a\0b", &"x".repeat(65)] {
        let sink = SignalSink::connect(&url, SinkSettings::of(name), Clock::system()).unwrap();
        let record = Record::Signal(produced(1));
        assert_invalid(&sink.record([record.clone()]).await[0], "recorded_by", &record);
    }
}
