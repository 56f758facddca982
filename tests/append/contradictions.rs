//! What was done to the ledger concerns those who meet it, and nobody else: a row that cannot be
//! appended because of it is answered at once, an alarm is raised, and the queue goes on.

use std::time::{Duration, Instant};

use audit_ledger::appender::{AppendError, BatchSettings};
use audit_ledger::chains::{Appended, Identity, NewRow};
use audit_ledger::clock::Clock;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::common::builders::{debate, delivery, event, signal};
use crate::common::{TestLedger, fetch, run, soon};
use crate::{Answer, conflict, duplicate, recorded};

fn contradicts(answer: &Answer) {
    assert_eq!(*answer, Err(AppendError::Contradiction));
}

/// Sends rows as one batch, with the time that the answers took, and whether there was an alarm.
async fn in_one_batch(ledger: &TestLedger, rows: Vec<NewRow>) -> (Vec<Answer>, bool) {
    let settings = BatchSettings { size: rows.len(), delay: Duration::from_mins(1) };
    let appender = ledger.appender_with(settings, Clock::system());
    let alarm = appender.alarm();
    let since = Instant::now();
    let answers = join_all(rows.into_iter().map(|row| appender.append(row, soon()))).await;
    assert!(since.elapsed() < Duration::from_secs(15), "nothing is tried again and again");
    let is_raised = timeout(Duration::ZERO, alarm.notified()).await.is_ok();
    let again = timeout(Duration::ZERO, alarm.notified()).await.is_ok();
    assert!(!again, "one alarm for a batch");
    (answers, is_raised)
}

fn keyed(row: NewRow, key: &str) -> NewRow {
    let (recorded_by, key) = ("desk".to_owned(), key.to_owned());
    NewRow { identity: Identity::Request { recorded_by, key, content: [1; 32] }, ..row }
}

#[tokio::test]
async fn a_known_row_that_the_log_has_lost_is_neither_doubled_nor_in_the_way() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let first = signal(1);
    let id = first.correlation_id;
    recorded(appender.append(first, soon()).await);
    recorded(appender.append(keyed(debate(1, id), "lost row"), soon()).await);
    recorded(appender.append(keyed(debate(2, id), "lost entry"), soon()).await);
    recorded(appender.append(delivery(1), soon()).await);
    let second = recorded(appender.append(signal(2), soon()).await);
    let lost = "DELETE FROM public.ledger_log WHERE (chain, id) IN
                    (('signals', 1), ('ai_debates', 2), ('quarantined_deliveries', 1));
                DELETE FROM public.ai_debates WHERE id = 1";
    ledger.behind_the_guards(lost).await;

    let mut other = signal(2);
    other.raw_payload.push(' ');
    let rows: Vec<NewRow> = vec![
        event(1).into(),
        signal(1).into(),
        signal(2).into(),
        keyed(debate(1, id), "lost row"),
        keyed(debate(2, id), "lost entry"),
        keyed(debate(3, id), "new"),
        delivery(1).into(),
        delivery(2).into(),
        other.into(),
        signal(3).into(),
    ];
    let (answers, is_raised) = in_one_batch(&ledger, rows).await;
    assert!(is_raised);
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap();
    recorded(next());
    contradicts(&next());
    assert_eq!(duplicate(next()).receipt, second);
    contradicts(&next());
    contradicts(&next());
    recorded(next());
    contradicts(&next());
    recorded(next());
    assert_eq!(conflict(next()).receipt, second);
    assert_eq!(recorded(next()).id.0, 3);
    drop(appender);
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn a_known_row_of_values_that_cannot_be_is_in_nobody_elses_way() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 1..=4 {
        recorded(appender.append(signal(n), soon()).await);
    }
    let changed = "UPDATE public.signals SET row_hash = 'not a hash' WHERE id = 1;
                   UPDATE public.signals SET received_at = 'infinity' WHERE id = 2;
                   UPDATE public.signals SET created_at = '294000-01-01' WHERE id = 3";
    ledger.tamper(changed).await;
    let rows = (1..=5).map(|n| signal(n).into()).collect();
    let (mut answers, is_raised) = in_one_batch(&ledger, rows).await;
    assert!(is_raised);
    recorded(answers.pop().unwrap());
    duplicate(answers.pop().unwrap());
    answers.iter().for_each(contradicts);
    drop(appender);
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn rows_that_the_database_refuses_against_all_reason_are_found_one_by_one() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let known = signal(1);
    let id = known.correlation_id;
    recorded(appender.append(known, soon()).await);
    // Its anchor is taken, which nothing that the service makes can do.
    let clash = |n| audit_ledger::chains::signals::NewSignal { correlation_id: id, ..signal(n) };
    let rows = (2..40).map(|n| if n % 13 == 0 { clash(n) } else { signal(n) }.into()).collect();
    let (answers, is_raised) = in_one_batch(&ledger, rows).await;
    assert!(is_raised);
    for (n, answer) in (2..40).zip(answers) {
        if n % 13 == 0 {
            contradicts(&answer);
        } else {
            recorded(answer);
        }
    }
    // Nothing was wrong with the ledger, so there is no alarm.
    let (answers, is_raised) = in_one_batch(&ledger, vec![signal(2).into(), event(1).into()]).await;
    assert!(answers.iter().all(Result::is_ok) && !is_raised);
    drop(appender);
    assert_eq!(ledger.finish().await, 37);
}

#[tokio::test]
async fn a_right_that_was_taken_stops_one_chain_only() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser_unguarded().await;
    run(&mut superuser, "REVOKE INSERT ON public.security_events FROM app_trading").await;
    let rows = vec![signal(1).into(), event(1).into(), delivery(1).into(), event(2).into()];
    let (answers, is_raised) = in_one_batch(&ledger, rows).await;
    assert!(is_raised);
    let [signal, event, delivery, other_event] = answers.try_into().unwrap();
    recorded(signal);
    contradicts(&event);
    recorded(delivery);
    contradicts(&other_event);
    drop(superuser);
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn nothing_follows_a_head_that_is_no_hash_and_other_chains_go_on() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let first = recorded(appender.append(signal(1), soon()).await);
    recorded(appender.append(signal(2), soon()).await);
    let changed = "UPDATE public.signals SET row_hash = 'not a hash' WHERE id = 2";
    ledger.tamper_and_rearm("signals", changed).await;
    let rows = vec![signal(1).into(), signal(3).into(), event(1).into(), delivery(1).into()];
    let (answers, is_raised) = in_one_batch(&ledger, rows.clone()).await;
    assert!(is_raised);
    let [known, new, event, delivery] = answers.try_into().unwrap();
    assert_eq!(duplicate(known).receipt, first);
    contradicts(&new);
    recorded(event);
    recorded(delivery);

    // In a lockdown it does not matter any more.
    let mut app = ledger.connect_app().await;
    run(&mut app, "SELECT public.ledger_enter_lockdown('a test', '[]', 'test')").await;
    let (answers, is_raised) = in_one_batch(&ledger, rows).await;
    assert!(!is_raised);
    let [known, new, event, delivery] = answers.try_into().unwrap();
    for locked in [known, new] {
        assert!(matches!(locked, Ok(Appended::Locked(_))), "{locked:?}");
    }
    recorded(event);
    duplicate(delivery);
    assert_eq!(fetch::<i64>(&mut app, "SELECT count(*) FROM public.signals").await, 2);
    drop((app, appender));
    ledger.finish_tampered().await;
}
