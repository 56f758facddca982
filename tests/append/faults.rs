//! Broken connections, ended sessions, a database that is away: what is acknowledged is there
//! once, and what is there was not doubled.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit_ledger::appender::{AppendError, Appender, BatchSettings, QUEUE_ROWS};
use audit_ledger::chains::NewRow;
use audit_ledger::clock::Clock;
use audit_ledger::store::Database;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::common::builders::{delivery, event, signal};
use crate::common::{TestLedger, fetch, soon, wait_until};
use crate::proxy::{Fault, Proxy, nobodys_address};
use crate::{assert_stored, duplicate, recorded};

fn writer(database: Database) -> Appender {
    Appender::start(database, BatchSettings::default(), Clock::system()).0
}

/// Nothing recognises an event that comes again, so a doubled append shows as a second row.
const DOUBLED: &str = "SELECT count(*) - count(DISTINCT subject) FROM public.security_events
    WHERE subject LIKE 'run %'";

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_answered_rightly_and_once() {
    let ledger = TestLedger::new().await;
    let proxy = Proxy::start(&ledger).await;
    let appender = writer(proxy.app());
    let mut superuser = ledger.connect_superuser().await;
    recorded(appender.append(event(0), soon()).await);
    let faults = [Fault::BeforeCommit, Fault::AfterCommit, Fault::DuringCommit, Fault::AnswerLost];
    let mut n = 0;
    for fault in [faults, faults].concat() {
        proxy.arm(fault);
        n += 1;
        let rows: [NewRow; 3] = [signal(n).into(), event(n).into(), delivery(n).into()];
        for answer in join_all(rows.map(|row| appender.append(row, soon()))).await {
            let receipt = recorded(answer);
            assert_stored(&mut superuser, &receipt).await;
            assert_eq!(receipt.id.0, i64::from(n) + i64::from(receipt.chain == "security_events"));
        }
        assert!(proxy.has_fired(), "{fault:?}");
        duplicate(appender.append(signal(n), soon()).await);
        assert_eq!(fetch::<i64>(&mut superuser, DOUBLED).await, 0, "{fault:?}");
    }
    drop(appender);
    assert_eq!(ledger.finish().await, 1 + 3 * n as usize);
}

#[tokio::test]
async fn a_connection_cut_at_any_byte_doubles_and_loses_nothing() {
    let ledger = TestLedger::new().await;
    let proxy = Proxy::start(&ledger).await;
    let appender = writer(proxy.app());
    let mut superuser = ledger.connect_superuser().await;
    recorded(appender.append(event(0), soon()).await);
    // A transaction sends about 2 kB and receives about 1 kB; a prime step meets every part.
    let sent = (0..2400).step_by(83).map(Fault::AfterSent);
    let received = (0..1500).step_by(53).map(Fault::AfterReceived);
    let mut n = 0;
    let mut fired = 0;
    for fault in sent.chain(received) {
        n += 1;
        proxy.arm(fault);
        let (one, other) =
            tokio::join!(appender.append(event(n), soon()), appender.append(signal(n), soon()));
        for answer in [one, other] {
            assert_stored(&mut superuser, &recorded(answer)).await;
        }
        fired += u32::from(proxy.has_fired());
        proxy.disarm();
        assert_eq!(fetch::<i64>(&mut superuser, DOUBLED).await, 0, "{fault:?}");
    }
    assert!(fired > n / 2, "{fired} of {n} faults happened");
    drop(appender);
    assert_eq!(ledger.finish().await, 1 + 2 * n as usize);
}

#[tokio::test]
async fn a_network_that_swallows_a_commit_stops_the_ledger_for_seconds_only() {
    let ledger = TestLedger::new().await;
    let proxy = Proxy::start(&ledger).await;
    let appender = writer(proxy.app());
    proxy.arm(Fault::BlackHole);
    let since = Instant::now();
    let deadline = since + Duration::from_millis(2_500);
    let answer = appender.append(event(1), deadline).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    // Its session still holds the lock, and is idle. Senders try again.
    let mut n = 2;
    while appender.append(event(n), Instant::now() + Duration::from_millis(2_500)).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(25), "still not back");
        n += 1;
    }
    let mut superuser = ledger.connect_superuser().await;
    let told = "SELECT EXISTS (SELECT FROM public.security_events
                               WHERE event_type = 'LOCK_HOLDER_ENDED')";
    wait_until(&mut superuser, told).await;
    assert_eq!(fetch::<i64>(&mut superuser, DOUBLED).await, 0);
    drop(appender);
    ledger.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_ended_under_load_lose_nothing_that_was_acknowledged() {
    const CLIENTS: u32 = 32;
    const ENDED: u32 = 25;
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (appender, over) = (appender.clone(), over.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                let mut n = client;
                while !over.load(Ordering::Relaxed) {
                    acknowledged.push(recorded(appender.append(event(n), soon()).await));
                    n += CLIENTS;
                    recorded(appender.append(signal(n), soon()).await);
                }
                acknowledged
            })
        })
        .collect();
    let mut superuser = ledger.connect_superuser().await;
    let mut ended = 0;
    while ended < ENDED {
        let end = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND usename = 'app_trading'";
        ended += u32::try_from(fetch::<i64>(&mut superuser, end).await).unwrap();
        // Another moment of the transaction each time.
        tokio::time::sleep(Duration::from_micros(60_000 + u64::from(ended) * 1_379)).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut rows = 0;
    let mut seen = HashSet::new();
    for client in clients {
        for receipt in client.await.unwrap() {
            assert_stored(&mut superuser, &receipt).await;
            assert!(seen.insert(receipt.leaf_index));
            rows += 1;
        }
    }
    assert!(rows > 0);
    let events = "SELECT count(*) FROM public.security_events";
    assert_eq!(fetch::<i64>(&mut superuser, events).await, rows, "each once");
    drop(appender);
    assert_eq!(ledger.finish().await, usize::try_from(2 * rows).unwrap());
}

#[tokio::test]
async fn while_the_database_is_away_rows_fail_by_their_deadline_and_then_it_recovers() {
    const PATIENCE: Duration = Duration::from_millis(400);
    let ledger = TestLedger::new().await;
    let proxy = Proxy::start(&ledger).await;
    proxy.refuse(true);
    let appender = writer(proxy.app());
    for n in 0..3 {
        let since = Instant::now();
        let answer = appender.append(event(n), since + PATIENCE).await;
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
        assert!(since.elapsed() >= PATIENCE && since.elapsed() < 10 * PATIENCE);
    }
    proxy.refuse(false);
    recorded(appender.append(event(3), soon()).await);

    // It goes away again, with a connection open.
    proxy.arm(Fault::AfterSent(0));
    proxy.refuse(true);
    let answer = appender.append(event(4), Instant::now() + PATIENCE).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    let waiting = appender.append(event(5), soon());
    let back = async {
        tokio::time::sleep(PATIENCE).await;
        proxy.refuse(false);
    };
    let (answer, ()) = tokio::join!(waiting, back);
    recorded(answer);
    let mut superuser = ledger.connect_superuser().await;
    let given_up = "SELECT count(*) FROM public.security_events
        WHERE subject IN ('run 0', 'run 1', 'run 2', 'run 4')";
    assert_eq!(fetch::<i64>(&mut superuser, given_up).await, 0, "nobody waited for them");
    drop(appender);
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_by_the_deadline() {
    let address = nobodys_address().await;
    let database =
        Database::from_url(&format!("postgresql://app_trading@{address}/ledger")).unwrap();
    let appender = writer(database);
    let since = Instant::now();
    let answer = appender.append(signal(1), since + Duration::from_millis(300)).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_queue_is_bounded_and_says_so_at_once() {
    const TOO_MANY: usize = 100;
    let ledger = TestLedger::new().await;
    let proxy = Proxy::start(&ledger).await;
    proxy.refuse(true);
    let appender = writer(proxy.app());
    let deadline = Instant::now() + Duration::from_millis(1_500);
    // The writer may have taken a batch of them before the last ones come.
    let may_wait = QUEUE_ROWS + BatchSettings::default().size;
    let rows = (0..may_wait + TOO_MANY).map(|n| event(u32::try_from(n).unwrap()));
    let answers = join_all(rows.map(async |row| {
        let answer = appender.append(row, deadline).await;
        (answer, Instant::now())
    }))
    .await;
    let full = AppendError::Unavailable("too many rows are waiting".to_owned());
    let (refused, waited): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(answer, _)| *answer == Err(full.clone()));
    assert!((QUEUE_ROWS..=may_wait).contains(&waited.len()), "{} waited", waited.len());
    assert!(refused.iter().all(|(_, when)| *when < deadline));
    for (answer, when) in waited {
        assert!(when >= deadline);
        assert!(matches!(answer, Err(AppendError::Unavailable(_))));
    }
    // The rows that nobody waits for any more make room, as soon as the writer sees it.
    proxy.refuse(false);
    let until = soon();
    let answer = loop {
        match appender.append(signal(1), until).await {
            Err(error) if error == full && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answer => break answer,
        }
    };
    recorded(answer);
    drop(appender);
    assert_eq!(ledger.finish().await, 1);
}

#[tokio::test]
async fn the_bytes_that_wait_are_bounded_too() {
    let ledger = TestLedger::new().await;
    let proxy = Proxy::start(&ledger).await;
    proxy.refuse(true);
    let appender = writer(proxy.app());
    let deadline = Instant::now() + Duration::from_secs(1);
    // 64 MiB may wait, and a row has more than its body.
    let rows = (0..64).map(|n| {
        let mut row = delivery(n);
        row.body = vec![b'x'; 1 << 20];
        row
    });
    let mut answers = join_all(rows.map(|row| appender.append(row, deadline))).await;
    let full = AppendError::Unavailable("too many bytes are waiting".to_owned());
    assert_eq!(answers.pop(), Some(Err(full.clone())));
    assert!(answers.iter().all(|answer| answer.is_err() && *answer != Err(full.clone())));
    proxy.refuse(false);
    recorded(appender.append(delivery(1), soon()).await);
    drop(appender);
    assert_eq!(ledger.finish().await, 1);
}

#[tokio::test]
async fn when_its_last_handle_is_gone_the_writer_ends_after_what_was_queued() {
    let ledger = TestLedger::new().await;
    let (appender, ended) =
        Appender::start(ledger.app(), BatchSettings::default(), Clock::system());
    let rows: Vec<_> = (0..200)
        .map(|n| {
            let appender = appender.clone();
            tokio::spawn(async move { appender.append(event(n), soon()).await })
        })
        .collect();
    for row in rows {
        recorded(row.await.unwrap());
    }
    drop(appender);
    ended.await.unwrap();
    let mut superuser = ledger.connect_superuser().await;
    let sessions = "SELECT count(*) = 0 FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app_trading'";
    wait_until(&mut superuser, sessions).await;
    assert_eq!(ledger.finish().await, 200);
}
