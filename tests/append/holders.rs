//! Clocks that are wrong, and sessions that sit on the ledger's lock.

use std::time::Duration;

use audit_ledger::appender::{AppendError, BatchSettings};
use audit_ledger::clock::Clock;
use audit_ledger::store::append::AppendConnection;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::common::builders::{event, signal};
use crate::common::{TestLedger, attempt, fetch, run, soon, sqlstate, wait_until};
use crate::{plain, recorded};

#[tokio::test]
async fn nothing_is_appended_while_the_clocks_differ() {
    let ledger = TestLedger::new().await;
    for seconds in [62, -62, 86_400, -86_400] {
        let clock = Clock::wrong_by(TimeDelta::seconds(seconds));
        let appender = ledger.appender_with(BatchSettings::default(), clock);
        let deadline = Instant::now() + Duration::from_millis(200);
        let answer = appender.append(event(1), deadline).await;
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    }
    let mut app = ledger.connect_app().await;
    assert_eq!(fetch::<i64>(&mut app, "SELECT count(*) FROM public.ledger_log").await, 0);
    for seconds in [58, -58] {
        let clock = Clock::wrong_by(TimeDelta::seconds(seconds));
        let appender = ledger.appender_with(BatchSettings::default(), clock);
        let receipt = recorded(appender.append(event(1), soon()).await);
        // The database's clock counts.
        let difference = receipt.created_at - Clock::system().now();
        assert!(difference.abs() < TimeDelta::seconds(20), "{difference}");
    }
    assert_eq!(ledger.finish().await, 2);
}

/// Puts a correctly hashed first signal into the ledger that is dated so many seconds ahead, as
/// it would stand there after the database's clock was set back.
async fn put_row_from_the_future(ledger: &TestLedger, seconds: i64) -> DateTime<Utc> {
    let head = format!(
        "(SELECT id, row_hash, clock + interval '{seconds} s' AS created_at, clock FROM {} AS now)",
        plain::UNLOCKED
    )
    .replace("max(created_at)", "NULL::timestamptz");
    let mut superuser = ledger.connect_superuser_unguarded().await;
    for statement in [
        "BEGIN",
        "ALTER TABLE public.signals DISABLE TRIGGER ledger_enter_rows",
        "ALTER TABLE public.ledger_log DISABLE TRIGGER ledger_guard_log",
        &plain::signal("from the future", &head),
        "INSERT INTO public.ledger_log SELECT 0, 'signals', id, row_hash FROM public.signals",
        "ALTER TABLE public.signals ENABLE ALWAYS TRIGGER ledger_enter_rows",
        "ALTER TABLE public.ledger_log ENABLE ALWAYS TRIGGER ledger_guard_log",
        "COMMIT",
    ] {
        run(&mut superuser, statement).await;
    }
    fetch(&mut superuser, "SELECT created_at FROM public.signals").await
}

#[tokio::test]
async fn where_the_clock_stepped_back_the_last_time_is_repeated() {
    let ledger = TestLedger::new().await;
    let last = put_row_from_the_future(&ledger, 3600).await;
    let appender = ledger.appender();
    for n in 0..3 {
        let receipt = recorded(appender.append(signal(n), soon()).await);
        assert_eq!(receipt.created_at, last);
    }
    // Another chain has its own time.
    let receipt = recorded(appender.append(event(1), soon()).await);
    assert!(receipt.created_at < last);
    run(&mut ledger.connect_app().await, &plain::signal("plain", plain::LOCKED)).await;
    drop(appender);
    assert_eq!(ledger.finish().await, 6);
}

#[tokio::test]
async fn once_the_clock_has_caught_up_time_goes_on() {
    let ledger = TestLedger::new().await;
    let last = put_row_from_the_future(&ledger, 1).await;
    let appender = ledger.appender();
    assert_eq!(recorded(appender.append(signal(1), soon()).await).created_at, last);
    let mut app = ledger.connect_app().await;
    let caught_up = "SELECT clock_timestamp() > max(created_at) FROM public.signals";
    wait_until(&mut app, caught_up).await;
    assert!(recorded(appender.append(signal(2), soon()).await).created_at > last);
    drop(appender);
    assert_eq!(ledger.finish().await, 3);
}

const ADMIN_SHUTDOWN: &str = "57P01";

#[tokio::test]
async fn a_session_idle_on_the_lock_is_ended_and_that_is_recorded() {
    let ledger = TestLedger::new().await;
    let mut idle = ledger.connect_app().await;
    let pid: i32 = fetch(&mut idle, "SELECT pg_backend_pid()").await;
    run(&mut idle, "BEGIN").await;
    run(&mut idle, "SELECT public.ledger_begin_append(ARRAY['signals'])").await;
    let since = Instant::now();

    let appender = ledger.appender();
    recorded(appender.append(signal(1), soon()).await);
    assert!(since.elapsed() >= Duration::from_secs(5), "it has five seconds");
    let error = attempt(&mut idle, "SELECT 1").await.unwrap_err();
    let code = sqlstate(&error);
    assert!(code.is_none() || code.as_deref() == Some(ADMIN_SHUTDOWN), "{error}");

    let mut auditor = ledger.connect("ledger_auditor").await;
    let recorded = format!(
        "SELECT EXISTS (SELECT FROM public.security_events
                        WHERE event_type = 'LOCK_HOLDER_ENDED' AND actor = 'system'
                          AND subject LIKE 'pid {pid}, login app_trading, %')"
    );
    wait_until(&mut auditor, &recorded).await;
    drop(appender);
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn a_session_at_work_on_the_lock_is_not_ended() {
    let ledger = TestLedger::new().await;
    let mut working = ledger.connect_app().await;
    run(&mut working, "BEGIN").await;
    run(&mut working, &plain::signal("slow", plain::LOCKED)).await;
    let work = async {
        run(&mut working, "SELECT pg_sleep(7)").await;
        run(&mut working, "COMMIT").await;
    };
    let appender = ledger.appender();
    let ((), answer) = tokio::join!(work, appender.append(signal(1), soon()));
    assert_eq!(recorded(answer).id.0, 2, "after the one that had the lock");
    drop(appender);
    assert_eq!(ledger.finish().await, 2);
}

#[tokio::test]
async fn who_waits_for_the_lock_or_holds_another_one_is_left_alone() {
    let ledger = TestLedger::new().await;
    let mut reading = ledger.connect_app().await;
    run(&mut reading, "BEGIN").await;
    run(&mut reading, "SELECT count(*) FROM public.signals").await;
    let mut store = AppendConnection::connect(&ledger.app()).await.unwrap();
    let idle_long_enough = "SELECT max(clock_timestamp() - state_change) > interval '5.2 s'
        FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    wait_until(&mut ledger.connect_superuser().await, idle_long_enough).await;
    assert_eq!(store.end_idle_lock_holders().await.unwrap(), Vec::<String>::new());
    run(&mut reading, "COMMIT").await;
    assert_eq!(ledger.finish().await, 0);
}
