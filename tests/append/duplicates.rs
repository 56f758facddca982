//! The same delivery again is answered with the row it has; another one under its id is not.

use audit_ledger::appender::Appender;
use audit_ledger::chains::signals::NewSignal;
use audit_ledger::chains::{Appended, Identity, NewRow};
use audit_ledger::clock::Clock;
use chrono::TimeDelta;
use futures_util::future::join_all;

use crate::common::builders::{debate, delivery, event, order, signal, signal_of};
use crate::common::{TestLedger, fetch, soon};
use crate::{assert_stored, conflict, duplicate, in_one_batch, recorded};

/// The same id, another price.
fn forged(n: u32) -> NewSignal {
    let mut forged = signal(n);
    forged.raw_payload = forged.raw_payload.replace(".5", ".6");
    forged
}

#[tokio::test]
async fn within_one_batch() {
    let ledger = TestLedger::new().await;
    let first = signal(1);
    let correlation_id = first.correlation_id;
    let rows: Vec<NewRow> = vec![
        first.into(),
        signal(1).into(),
        forged(1).into(),
        delivery(1).into(),
        signal_of("another source", 1).into(),
        delivery(1).into(),
        event(1).into(),
        event(1).into(),
        signal(1).into(),
    ];
    let mut answers = in_one_batch(&ledger, rows).await.into_iter();
    let mut next = || answers.next().unwrap();
    let first = recorded(next());
    for existing in [duplicate(next()), conflict(next())] {
        assert_eq!(existing.receipt, first);
        assert_eq!(existing.correlation_id, Some(correlation_id));
    }
    let kept = recorded(next());
    assert_eq!(recorded(next()).id.0, 2, "an id is its source's own");
    let again = duplicate(next());
    assert_eq!((again.receipt, again.correlation_id), (kept, None));
    let events = [recorded(next()), recorded(next())];
    assert_ne!(events[0], events[1], "every event is a new one");
    assert_eq!(duplicate(next()).receipt, first);
    assert_stored(&mut ledger.connect_app().await, &first).await;
    assert_eq!(ledger.finish().await, 5);
}

#[tokio::test]
async fn requests_within_one_batch() {
    let ledger = TestLedger::new().await;
    let known = signal(1);
    let id = known.correlation_id;
    recorded(ledger.appender().append(known, soon()).await);
    let keyed = |row: NewRow, recorded_by: &str, content: u8| NewRow {
        identity: Identity::Request {
            recorded_by: recorded_by.to_owned(),
            key: "k-1".to_owned(),
            content: [content; 32],
        },
        ..row
    };
    let unknown = uuid::Uuid::from_u128(7);
    let rows = vec![
        // One that is refused leaves its key to the next.
        keyed(debate(1, unknown), "desk", 1),
        keyed(debate(1, id), "desk", 2),
        keyed(debate(1, id), "desk", 2),
        keyed(debate(2, id), "desk", 3),
        keyed(debate(1, unknown), "desk", 1),
        keyed(debate(1, id), "another", 2),
        keyed(order(1, id), "desk", 2),
        debate(1, id),
    ];
    let mut answers = in_one_batch(&ledger, rows.clone()).await.into_iter();
    let mut next = || answers.next().unwrap();
    let refused = next().unwrap();
    assert!(matches!(refused, Appended::UnknownReference("ai_debates_correlation_id_fkey")));
    let first = recorded(next());
    assert_eq!(duplicate(next()).receipt, first);
    assert_eq!(conflict(next()).receipt, first);
    assert_eq!(conflict(next()).receipt, first, "its key is taken by now");
    assert_eq!([recorded(next()).id.0, recorded(next()).id.0, recorded(next()).id.0], [2, 1, 3]);

    // All of it again, of which only the row without a key is a new one.
    let again = in_one_batch(&ledger, rows).await;
    let new = again.iter().filter(|answer| matches!(answer, Ok(Appended::Recorded(_)))).count();
    let conflicts =
        again.iter().filter(|answer| matches!(answer, Ok(Appended::Conflict(_)))).count();
    let old = again.iter().filter(|answer| matches!(answer, Ok(Appended::Duplicate(_)))).count();
    assert_eq!((new, conflicts, old), (1, 3, 4));
    assert_eq!(ledger.finish().await, 1 + 4 + 1);
}

#[tokio::test]
async fn across_batches_and_writers() {
    let ledger = TestLedger::new().await;
    let first = signal(1);
    let correlation_id = first.correlation_id;
    let appender = ledger.appender();
    let receipt = recorded(appender.append(first, soon()).await);
    let kept = recorded(appender.append(delivery(1), soon()).await);
    for appender in [appender, ledger.appender()] {
        let again = duplicate(appender.append(signal(1), soon()).await);
        assert_eq!((again.receipt, again.correlation_id), (receipt.clone(), Some(correlation_id)));
        let other = conflict(appender.append(forged(1), soon()).await);
        assert_eq!((other.receipt, other.correlation_id), (receipt.clone(), Some(correlation_id)));
        assert_eq!(duplicate(appender.append(delivery(1), soon()).await).receipt, kept);
    }
    let mut another_reason = delivery(1);
    another_reason.reason = "not_an_object";
    let mut another_source = delivery(1);
    another_source.source = "another source".to_owned();
    let appender = ledger.appender();
    recorded(appender.append(another_reason, soon()).await);
    recorded(appender.append(another_source, soon()).await);
    recorded(appender.append(signal_of("another source", 1), soon()).await);
    drop(appender);
    assert_eq!(ledger.finish().await, 5);
}

/// Sends each of `count` rows through both writers at once, and returns the answers in pairs.
async fn race(
    writers: &[Appender; 2],
    count: u32,
    rows: impl Fn(u32) -> [NewRow; 2],
) -> Vec<[crate::Answer; 2]> {
    join_all((0..count).map(async |n| {
        let [one, other] = rows(n);
        let (one, other) =
            tokio::join!(writers[0].append(one, soon()), writers[1].append(other, soon()));
        [one, other]
    }))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_at_the_same_time_record_a_delivery_once() {
    let ledger = TestLedger::new().await;
    let writers = [ledger.appender(), ledger.appender()];
    for mut pair in race(&writers, 60, |n| [signal(n).into(), signal(n).into()]).await {
        pair.sort_by_key(|answer| !format!("{answer:?}").contains("Recorded"));
        let [first, second] = pair;
        assert_eq!(duplicate(second).receipt, recorded(first));
    }
    for mut pair in race(&writers, 60, |n| [signal(100 + n).into(), forged(100 + n).into()]).await {
        pair.sort_by_key(|answer| !format!("{answer:?}").contains("Recorded"));
        let [first, second] = pair;
        assert_eq!(conflict(second).receipt, recorded(first));
    }
    for mut pair in race(&writers, 60, |n| [delivery(n).into(), delivery(n).into()]).await {
        pair.sort_by_key(|answer| !format!("{answer:?}").contains("Recorded"));
        let [first, second] = pair;
        assert_eq!(duplicate(second).receipt, recorded(first));
    }
    drop(writers);
    assert_eq!(ledger.finish().await, 180);
}

/// A delivery without an id of its own, received so many seconds after a full minute, by the
/// rule that the same bytes within 60 s are the same delivery.
fn without_id(seconds: i64) -> NewSignal {
    let start = chrono::DateTime::from_timestamp(1_767_323_040, 0).unwrap();
    let mut signal = signal(0);
    signal.received_at = start + TimeDelta::seconds(seconds);
    let minute = seconds.div_euclid(60);
    signal.signal_id = format!("bytes in minute {minute}");
    signal.neighbours =
        [minute - 1, minute + 1].map(|minute| format!("bytes in minute {minute}")).to_vec();
    signal
}

#[tokio::test]
async fn without_an_id_the_same_bytes_within_a_minute_are_one_delivery() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let send = async |seconds| appender.append(without_id(seconds), soon()).await;
    let first = recorded(send(50).await);
    assert_eq!(duplicate(send(59).await).receipt, first, "in the same minute");
    assert_eq!(duplicate(send(60).await).receipt, first, "in the next one");
    assert_eq!(duplicate(send(110).await).receipt, first, "60 s later");
    let second = recorded(send(111).await);
    assert_eq!(duplicate(send(171).await).receipt, second);
    let third = recorded(send(240).await);
    assert_eq!(duplicate(send(299).await).receipt, third);
    assert_eq!(duplicate(send(239).await).receipt, third, "received before, appended after");
    assert_eq!(duplicate(send(180).await).receipt, third);
    drop(appender);
    assert_eq!(ledger.finish().await, 3);
}

#[tokio::test]
async fn without_an_id_the_rule_holds_within_one_batch_too() {
    let ledger = TestLedger::new().await;
    let rows = [60, 50, 59, 61, 110].map(|seconds| without_id(seconds).into());
    let mut answers = in_one_batch(&ledger, rows.into()).await.into_iter();
    let mut next = || answers.next().unwrap();
    let first = recorded(next());
    for _ in 0..4 {
        assert_eq!(duplicate(next()).receipt, first);
    }
    assert_eq!(ledger.finish().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_and_asks_again_gets_the_row_it_has() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 0..60 {
        let hanging = {
            let appender = appender.clone();
            tokio::spawn(async move { appender.append(signal(n), soon()).await })
        };
        // Gives up somewhere between before it is sent and after it is answered.
        tokio::time::sleep(std::time::Duration::from_micros(u64::from(n) * 100)).await;
        hanging.abort();
        appender.append(signal(n), soon()).await.unwrap();
    }
    drop(appender);
    let mut app = ledger.connect_app().await;
    assert_eq!(fetch::<i64>(&mut app, "SELECT count(*) FROM public.signals").await, 60);
    assert_eq!(ledger.finish().await, 60);
}

#[tokio::test]
async fn a_duplicate_is_answered_without_a_new_row_in_any_chain() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    recorded(appender.append(signal(1), soon()).await);
    let before = Clock::system().now();
    for _ in 0..20 {
        duplicate(appender.append(signal(1), soon()).await);
    }
    let receipt = recorded(appender.append(signal(2), soon()).await);
    assert_eq!((receipt.id.0, receipt.leaf_index.0), (2, 1));
    assert!(receipt.created_at >= before - TimeDelta::seconds(1));
    drop(appender);
    assert_eq!(ledger.finish().await, 2);
}
