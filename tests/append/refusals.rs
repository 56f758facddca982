//! A row that the database refuses is refused alone: its batch is not.

use audit_ledger::appender::AppendError;
use audit_ledger::chains::NewRow;
use ledger_verifier::Value;

use crate::common::TestLedger;
use crate::common::builders::{delivery, event, signal};
use crate::{Answer, conflict, duplicate, in_one_batch, recorded};

/// A row with another value in one column.
fn with(row: impl Into<NewRow>, column: &str, value: Value<'static>) -> NewRow {
    let mut row = row.into();
    let at = row.chain.position(column).expect("a column");
    row.values[at] = value;
    row
}

fn text(text: impl Into<String>) -> Value<'static> {
    Value::Text(text.into().into())
}

fn document(text: impl Into<String>) -> Value<'static> {
    Value::Document(text.into().into())
}

fn refused(answer: Answer) -> (String, Option<String>) {
    match answer {
        Err(AppendError::Refused { sqlstate, constraint }) => (sqlstate, constraint),
        other => panic!("not refused: {other:?}"),
    }
}

/// Each kind of row that is at fault, with the code and the constraint that say so.
fn bad_rows() -> Vec<(NewRow, &'static str, Option<&'static str>)> {
    let nested = "[".repeat(200_000) + &"]".repeat(200_000);
    let too_large = format!("\"{}\"", "x".repeat(1 << 20));
    vec![
        (with(signal(900), "raw_payload", document("{\"a\":")), "22P02", None),
        (with(signal(901), "raw_payload", document("")), "22P02", None),
        (with(signal(902), "raw_payload", document("\"\\u0000\"")), "22P05", None),
        (with(signal(903), "raw_payload", document("1e999999")), "22003", None),
        (with(signal(904), "raw_payload", document(nested)), "54001", None),
        (
            with(signal(905), "raw_payload", document(too_large)),
            "23514",
            Some("signals_raw_payload_size"),
        ),
        (with(signal(906), "side", text("HOLD")), "23514", Some("signals_side_known")),
        (with(signal(907), "side", text("buy")), "23514", Some("signals_side_known")),
        (with(signal(908), "price", Value::Decimal(0)), "23514", Some("signals_price_positive")),
        (
            with(signal(909), "quantity", Value::Decimal(-1)),
            "23514",
            Some("signals_quantity_positive"),
        ),
        (
            with(signal(910), "auth_method", text("trust")),
            "23514",
            Some("signals_auth_method_known"),
        ),
        (with(signal(911), "symbol", text("é".repeat(21))), "22001", None),
        (with(signal(912), "symbol", text("BTC\0USD")), "22021", None),
        (with(signal(913), "recorded_by", Value::Null), "23502", None),
        (
            with(delivery(914), "reason", text("bad_mood")),
            "23514",
            Some("quarantined_deliveries_reason_known"),
        ),
        (
            with(delivery(915), "body", Value::Bytes(vec![0; (1 << 20) + 1].into())),
            "23514",
            Some("quarantined_deliveries_body_size"),
        ),
        (with(event(916), "event_type", text("X".repeat(41))), "22001", None),
        // What has no canonical form is refused before it is sent.
        (with(signal(917), "received_at", Value::Timestamp(-1)), "22003", None),
        (with(signal(918), "price", Value::Decimal(10_i128.pow(28))), "22003", None),
        (with(signal(919), "source_ip", text("10.0.0.7")), "22003", None),
        (with(signal(920), "price", Value::Unhashable("no finite number")), "22003", None),
    ]
}

#[tokio::test]
async fn every_kind_of_bad_row_is_refused_by_its_code_and_nothing_else_is() {
    let ledger = TestLedger::new().await;
    let (mut rows, mut expected) = (Vec::new(), Vec::new());
    let mut good = 0;
    for (row, code, constraint) in bad_rows() {
        rows.push(NewRow::from(signal(good)));
        expected.push(None);
        rows.push(row);
        expected.push(Some((code.to_owned(), constraint.map(str::to_owned))));
        good += 1;
    }
    let answers = in_one_batch(&ledger, rows).await;
    let mut ids = Vec::new();
    for (answer, expected) in answers.into_iter().zip(expected) {
        match expected {
            Some(expected) => assert_eq!(refused(answer), expected),
            None => ids.push(recorded(answer).id.0),
        }
    }
    assert!(ids.into_iter().eq(1..=i64::from(good)), "in the order in which they were sent");
    assert_eq!(ledger.finish().await, good as usize);
}

#[tokio::test]
async fn one_several_and_all_bad_rows_at_any_place() {
    let ledger = TestLedger::new().await;
    let mut n = 0;
    let mut good = 0;
    for bad in [vec![0], vec![9], vec![4], vec![0, 9], vec![4, 5], vec![1, 3, 8], (0..10).collect()]
    {
        let rows = (0..10).map(|at| {
            n += 1;
            if bad.contains(&at) { with(signal(n), "side", text("HOLD")) } else { signal(n).into() }
        });
        let rows = rows.collect();
        for (at, answer) in in_one_batch(&ledger, rows).await.into_iter().enumerate() {
            if bad.contains(&at) {
                assert_eq!(refused(answer).0, "23514");
            } else {
                good += 1;
                assert_eq!(recorded(answer).id.0, good);
            }
        }
    }
    assert_eq!(ledger.finish().await, usize::try_from(good).unwrap());
}

#[tokio::test]
async fn a_lone_bad_row_leaves_the_writer_as_it_was() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 0..5 {
        let bad = with(signal(n), "raw_payload", document("{"));
        refused(appender.append(bad, crate::soon()).await);
        recorded(appender.append(signal(n), crate::soon()).await);
    }
    drop(appender);
    assert_eq!(ledger.finish().await, 5);
}

#[tokio::test]
async fn the_good_twin_of_a_bad_row_is_recorded() {
    let ledger = TestLedger::new().await;
    let mut other = signal(1);
    other.raw_payload.push(' ');
    let rows = vec![
        with(signal(1), "side", text("HOLD")),
        signal(1).into(),
        with(signal(1), "price", Value::Decimal(0)),
        other.into(),
        event(1).into(),
    ];
    let mut answers = in_one_batch(&ledger, rows).await.into_iter();
    let mut next = || answers.next().unwrap();
    assert_eq!(refused(next()).0, "23514");
    let receipt = recorded(next());
    // Its content is that of the recorded one, so it is never looked at.
    assert_eq!(duplicate(next()).receipt, receipt);
    assert_eq!(conflict(next()).receipt, receipt);
    recorded(next());
    assert_eq!(ledger.finish().await, 2);
}
