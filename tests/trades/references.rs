//! Rows that name one of another chain (AUD-008): refused where it is not there, and only they.

use std::time::Duration;

use audit_ledger::appender::BatchSettings;
use audit_ledger::chains::{Appended, NewRow};
use audit_ledger::clock::Clock;
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::common::builders::{self, kill_switch, signal};
use crate::common::{TestLedger, soon};
use crate::server::Answer;
use crate::{Desk, debate, fill, order, with};

const UNKNOWN: &str = "01939f3e-7a00-7000-8000-000000000001";

fn assert_unknown(answer: &Answer, field: &str) {
    let said = (answer.status, &answer.body["code"], &answer.body["field"]);
    assert_eq!(said, (422, &json!("AUD-008"), &json!(field)), "{answer:?}");
    let rule = match field {
        "correlation_id" => "correlation_id names no signal of this ledger",
        _ => "order_execution_id names no order of this ledger",
    };
    assert_eq!(answer.body["detail"], rule);
}

#[tokio::test]
async fn a_row_that_names_nothing_is_refused() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    desk.record("order_execution", &order(&id)).await;
    let nil = "00000000-0000-0000-0000-000000000000";
    for unknown in [UNKNOWN, nil] {
        for (chain, body) in [("ai_debates", debate(unknown)), ("order_execution", order(unknown))]
        {
            let answer = desk.post(chain, body.to_string().as_bytes()).await;
            assert_unknown(&answer, "correlation_id");
        }
    }
    let largest = (1_i64 << 53) - 1;
    for unknown in [2, 0, -1, largest, -largest] {
        let answer = desk.post("order_events", fill(unknown).to_string().as_bytes()).await;
        assert_unknown(&answer, "order_execution_id");
    }
    // A rule that is broken besides is told first.
    let wrong = with(&debate(UNKNOWN), "elapsed_ms", -1).to_string();
    assert_eq!(desk.post("ai_debates", wrong.as_bytes()).await.body["field"], "elapsed_ms");
    assert_eq!(desk.close().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_and_only_the_bad_ones_are_refused() {
    const REQUESTS: usize = 90;
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let order_id = desk.record("order_execution", &order(&id)).await;
    let sends = (0..REQUESTS).map(async |n| {
        let is_bad = n % 5 == 0;
        let (chain, body, field) = match (n % 3, is_bad) {
            (0, bad) => ("ai_debates", debate(if bad { UNKNOWN } else { &id }), "correlation_id"),
            (1, bad) => {
                ("order_execution", order(if bad { UNKNOWN } else { &id }), "correlation_id")
            }
            (_, bad) => {
                ("order_events", fill(if bad { 1_000 } else { order_id }), "order_execution_id")
            }
        };
        let key = format!("k-{n}");
        let headers = if n % 2 == 0 { vec![("Idempotency-Key", key.as_str())] } else { vec![] };
        (is_bad, field, desk.post_with(chain, body.to_string().as_bytes(), &headers).await)
    });
    for (is_bad, field, answer) in join_all(sends).await {
        if is_bad {
            assert_unknown(&answer, field);
        } else {
            assert_eq!(answer.status, 201, "{answer:?}");
        }
    }
    assert_eq!(desk.server.count("idempotency_keys").await, 45 - 9);
    assert_eq!(desk.close().await, 2 + REQUESTS - REQUESTS / 5);
}

/// The same in what is surely one batch, with bad rows of other kinds among them.
#[tokio::test]
async fn in_one_batch_too() {
    let ledger = TestLedger::new().await;
    let known = signal(1);
    let id = known.correlation_id;
    let appender = ledger.appender();
    for row in [NewRow::from(known), builders::order(1, id)] {
        appender.append(row, soon()).await.unwrap();
    }
    drop(appender);
    let unknown = Uuid::from_u128(7);
    let mut wrong = signal(9);
    wrong.raw_payload = "{".to_owned();
    // The order that another row of the batch makes is not there yet.
    let rows = vec![
        builders::debate(1, unknown),
        builders::debate(2, id),
        builders::order(2, id),
        builders::order_event(1, 2),
        builders::order(3, unknown),
        wrong.into(),
        builders::order_event(2, 1),
        builders::order_event(3, 99),
        kill_switch(1, None),
        builders::debate(3, id),
    ];
    let settings = BatchSettings { size: rows.len(), delay: Duration::from_mins(1) };
    let appender = ledger.appender_with(settings, Clock::system());
    let answers = join_all(rows.into_iter().map(|row| appender.append(row, soon()))).await;
    let became: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Ok(Appended::Recorded(receipt)) => format!("{} {}", receipt.chain, receipt.id),
            Ok(Appended::UnknownReference(constraint)) => (*constraint).to_owned(),
            Err(_) => "refused".to_owned(),
            Ok(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        became,
        [
            "ai_debates_correlation_id_fkey",
            "ai_debates 1",
            "order_execution 2",
            "order_events_order_execution_id_fkey",
            "order_execution_correlation_id_fkey",
            "refused",
            "order_events 1",
            "order_events_order_execution_id_fkey",
            "order_events 2",
            "ai_debates 2",
        ]
    );
    drop(appender);
    assert_eq!(ledger.finish().await, 2 + 5);
}
