//! Senders beside each other, broken connections, a lockdown, tampered rows: what is acknowledged is
//! there once, and a record's trouble is its own.

use std::collections::HashMap;

use audit_ledger::appender::{AppendError, Appender, BatchSettings};
use audit_ledger::chains::NewRow;
use audit_ledger::chains::signal_audit_ledger::{Outcome, Record};
use audit_ledger::clock::Clock;
use audit_ledger::sink::{Recorded, SignalSink, SinkError, SinkSettings, record_all};
use serde_json::json;
use sqlx::ConnectOptions;

use crate::common::builders::{produced, record};
use crate::common::{TestLedger, fetch, run, soon, sqlstate};
use crate::proxy::{Fault, Proxy};
use crate::{Desk, append, outcome, said, signal};

fn outcome_of(n: u32, at: u32) -> NewRow {
    let outcome = Outcome {
        execution_id: Some(format!("x-{at}")),
        ..Outcome::new("ema", &format!("ema-{n}"), true)
    };
    Record::Outcome(outcome).new_row("ema", Clock::system().now()).unwrap()
}

async fn send(appender: &Appender, rows: Vec<NewRow>) -> Vec<Recorded> {
    let rows: Vec<Result<NewRow, SinkError>> = rows.into_iter().map(Ok).collect();
    record_all(appender, rows, soon()).await.into_iter().map(Result::unwrap).collect()
}

/// The same time for everybody, or they would be other signals.
fn same_record(n: u32) -> NewRow {
    let mut signal = produced(n);
    signal.timestamp = chrono::DateTime::from_timestamp_micros(1_767_323_045_678_901).unwrap();
    Record::Signal(signal).new_row("ema", Clock::system().now()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_of_the_same_records_on_two_writers_record_each_once() {
    const SENDERS: u32 = 8;
    const SIGNALS: u32 = 60;
    let ledger = TestLedger::new().await;
    let small = BatchSettings { size: 7, ..BatchSettings::default() };
    let writers = [ledger.appender(), ledger.appender_with(small, Clock::system())];
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let appender = writers[sender as usize % 2].clone();
            tokio::spawn(async move {
                // Everybody begins somewhere else. Outcomes follow their signals, in the same call.
                let order = (0..SIGNALS).map(|n| (n + sender * 11) % SIGNALS);
                let rows = order.flat_map(|n| [same_record(n), outcome_of(n, 1), outcome_of(n, 2)]);
                let keys: Vec<_> = rows.clone().map(|row| format!("{:?}", row.identity)).collect();
                keys.into_iter().zip(send(&appender, rows.collect()).await).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut receipts = HashMap::new();
    let mut new = 0;
    for sender in senders {
        for (key, recorded) in sender.await.unwrap() {
            new += usize::from(!recorded.is_duplicate);
            let first = receipts.entry(key).or_insert_with(|| recorded.receipt.clone());
            assert_eq!(*first, recorded.receipt, "everybody has the same receipt");
        }
    }
    drop(writers);
    assert_eq!((new, receipts.len()), (3 * SIGNALS as usize, 3 * SIGNALS as usize));
    assert_eq!(ledger.finish().await, new);
}

#[tokio::test]
async fn a_lost_answer_loses_nothing_and_doubles_nothing() {
    let ledger = TestLedger::new().await;
    let proxy = Proxy::start(&ledger).await;
    let appender = Appender::start(proxy.app(), BatchSettings::default(), Clock::system()).0;
    send(&appender, vec![same_record(0)]).await;
    let commits = [Fault::BeforeCommit, Fault::AfterCommit, Fault::DuringCommit, Fault::AnswerLost];
    let sent = (0..4_000).step_by(331).map(Fault::AfterSent);
    let received = (0..3_000).step_by(307).map(Fault::AfterReceived);
    let (mut n, mut fired) = (0, 0);
    for fault in commits.into_iter().chain(sent).chain(received) {
        n += 1;
        let rows = || vec![same_record(n), outcome_of(n, 1), same_record(n), outcome_of(n - 1, 7)];
        proxy.arm(fault);
        let first = send(&appender, rows()).await;
        fired += u32::from(proxy.has_fired());
        proxy.disarm();
        let again = send(&appender, rows()).await;
        assert!(again.iter().all(|recorded| recorded.is_duplicate), "{fault:?}");
        let receipts = |all: &[Recorded]| -> Vec<_> {
            all.iter().map(|recorded| recorded.receipt.clone()).collect()
        };
        assert_eq!(receipts(&first), receipts(&again), "{fault:?}");
        assert!(first[2].is_duplicate && first[2].receipt == first[0].receipt);
    }
    assert!(fired > n / 2, "{fired} of {n} faults happened");
    drop(appender);
    assert_eq!(ledger.finish().await, 1 + 3 * n as usize);
}

#[tokio::test]
async fn a_lockdown_is_told_to_all_and_over_it_is_as_if_nothing_was() {
    let desk = Desk::open().await;
    desk.record(&signal(1)).await;
    let mut app = desk.ledger.connect_app().await;
    let url = desk.ledger.options("app_trading").to_url_lossy();
    let sink = SignalSink::connect(url.as_str(), SinkSettings::of("ema"), Clock::system()).unwrap();
    run(&mut app, "SELECT public.ledger_enter_lockdown('a test', '[]', 'tests')").await;
    let both = format!("[{},{}]", signal(2), outcome(1));
    for body in [signal(2).to_string(), outcome(1).to_string(), both.clone(), signal(1).to_string()]
    {
        let answer = desk.post(&body, &[]).await;
        assert_eq!(said(&answer), (423, "AUD-009", ""), "{body}: {answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().ends_with(": a test"));
        assert!(answer.body["locked_since"].is_string());
    }
    let records =
        || [Record::Signal(produced(1)), Record::Outcome(Outcome::new("ema", "s-1", true))];
    for answer in sink.record(records()).await {
        assert!(matches!(&answer, Err(SinkError::Locked(lockdown)) if lockdown.reason == "a test"));
    }
    let refused = append(&mut app, &signal(3).to_string()).await.unwrap_err();
    assert_eq!(sqlstate(&refused).as_deref(), Some("AU009"));
    // What cannot be read is told as such, lockdown or not.
    assert_eq!(said(&desk.post("{", &[]).await), (400, "VAL-001", ""));

    let lift = "SELECT public.ledger_lift_as_owner('over', '{}')";
    run(&mut desk.ledger.connect_owner().await, lift).await;
    let results = desk.post(&both, &[]).await.body["results"].clone();
    assert_eq!(
        (&results[0]["receipt"]["id"], &results[1]["receipt"]["id"]),
        (&json!(2), &json!(3))
    );
    for answer in sink.record(records()).await {
        assert!(!answer.unwrap().is_duplicate);
    }
    sink.close().await;
    drop(app);
    // And the lockdown's two events.
    assert_eq!(desk.close().await, 5 + 2);
}

#[tokio::test]
async fn a_damaged_record_is_the_trouble_of_those_who_send_it_again() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let first = send(&appender, (0..5).map(same_record).collect()).await;
    send(&appender, vec![outcome_of(2, 1), outcome_of(3, 1), same_record(5)]).await;
    let lost = "DELETE FROM public.ledger_log
                WHERE chain = 'signal_audit_ledger' AND id IN (1, 6)";
    ledger.behind_the_guards(lost).await;
    let damage = "UPDATE public.signal_audit_ledger SET row_hash = repeat('z', 64) WHERE id = 2";
    ledger.tamper_and_rearm("signal_audit_ledger", damage).await;
    let rows = vec![
        record(10),
        same_record(0),
        same_record(1),
        outcome_of(0, 1),
        outcome_of(1, 1),
        outcome_of(2, 1),
        same_record(3),
        outcome_of(3, 2),
        outcome_of(10, 1),
        outcome_of(3, 1),
    ];
    let rows: Vec<Result<NewRow, SinkError>> = rows.into_iter().map(Ok).collect();
    let answers = record_all(&appender, rows, soon()).await;
    let contradicts = |at: usize| {
        let contradiction = SinkError::NotRecorded(AppendError::Contradiction);
        assert_eq!(answers[at], Err(contradiction), "{at}");
    };
    let is_duplicate = |at: usize| answers[at].as_ref().unwrap().is_duplicate;
    // The log has lost the first signal and the first outcome, and the second signal has no hash.
    [1, 2, 3, 4, 5].into_iter().for_each(contradicts);
    assert_eq!([0, 6, 7, 8, 9].map(is_duplicate), [false, true, false, false, true]);
    assert_eq!(answers[6].as_ref().unwrap().receipt, first[3].receipt);
    let mut superuser = ledger.connect_superuser().await;
    let count = "SELECT count(*) FROM public.signal_audit_ledger";
    assert_eq!(fetch::<i64>(&mut superuser, count).await, 8 + 3);
    drop((appender, superuser));
    ledger.finish_tampered().await;
}
