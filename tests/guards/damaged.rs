//! A lockdown of a ledger that lost rows, or can take none; and the record of refused attempts.

use audit_ledger::chains::{Appended, IN_LEDGER};
use futures_util::future::join_all;

use crate::common::builders::one_of_each;
use crate::common::{TestLedger, fetch, refused, run, soon};
use crate::lockdown::{ENTER, ENTERED, LIFT, LOCKED, NO_RIGHT, append, insert};
use crate::{CHAINS, ledger_with};

/// Runs statements as a superuser who has put the guards aside and then back.
pub(crate) async fn behind_the_guards(ledger: &TestLedger, sql: &str) {
    ledger.behind_the_guards(sql).await;
}

#[tokio::test]
async fn a_ledger_that_lost_its_newest_rows_is_locked_and_goes_on_after_the_lift() {
    let ledger = ledger_with(4).await;
    // Of these two chains the last row is gone, and the log still knows it.
    let lost =
        "DELETE FROM public.signals WHERE id = 4; DELETE FROM public.security_events WHERE id = 4";
    behind_the_guards(&ledger, lost).await;
    let mut app = ledger.connect_app().await;
    assert!(fetch::<bool>(&mut app, ENTERED).await);
    assert_eq!(refused(&mut app, &insert(IN_LEDGER[0])).await, LOCKED);
    let before = "SELECT row_hash::text FROM public.ledger_log
                  WHERE chain = 'security_events' AND id = 4";
    let link = "SELECT prev_hash::text FROM public.security_events WHERE id = 5";
    assert_eq!(fetch::<String>(&mut app, link).await, fetch::<String>(&mut app, before).await);
    run(&mut ledger.connect_owner().await, LIFT).await;
    let appender = ledger.appender();
    let [signal, ..] = one_of_each(5);
    let answer = appender.append(signal, soon()).await.unwrap();
    let Appended::Recorded(receipt) = answer else { panic!("{answer:?}") };
    let before = "SELECT row_hash::text FROM public.ledger_log WHERE chain = 'signals' AND id = 4";
    assert_eq!(receipt.id.0, 5);
    assert_eq!(receipt.prev_hash.to_string(), fetch::<String>(&mut app, before).await);
    run(&mut app, &insert(IN_LEDGER[0])).await;
    // A place before the head cannot be taken, though it is free.
    let again = insert(IN_LEDGER[0]).replace("h.id + 1 AS id", "4::bigint AS id");
    assert_eq!(refused(&mut app, &again).await, "AU011");
    drop((app, appender));
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn a_ledger_that_lost_them_in_the_log_too_is_locked_and_goes_on_as_well() {
    let ledger = ledger_with(3).await;
    let lost = "DELETE FROM public.quarantined_deliveries WHERE id = 3;
                DELETE FROM public.security_events WHERE id = 3;
                DELETE FROM public.ledger_log WHERE id = 3
                    AND chain IN ('security_events', 'quarantined_deliveries')";
    behind_the_guards(&ledger, lost).await;
    let mut app = ledger.connect_app().await;
    run(&mut app, ENTER).await;
    let events: i64 = fetch(&mut app, "SELECT max(id) FROM public.security_events").await;
    assert_eq!(events, 3);
    run(&mut ledger.connect_owner().await, LIFT).await;
    for chain in IN_LEDGER {
        run(&mut app, &insert(chain)).await;
    }
    drop(app);
    // It is consistent by itself: only what is kept outside tells.
    assert_eq!(ledger.finish().await, 3 * CHAINS - 2 + 2 + CHAINS);
}

#[tokio::test]
async fn an_emptied_ledger_is_locked_all_the_same() {
    let ledger = ledger_with(2).await;
    let lost = "TRUNCATE public.security_events; TRUNCATE public.signals CASCADE";
    behind_the_guards(&ledger, lost).await;
    let mut app = ledger.connect_app().await;
    run(&mut app, ENTER).await;
    let event: i64 = fetch(&mut app, "SELECT security_event_id FROM public.lockdowns").await;
    assert_eq!(event, 3, "the log knows how far it was");
    assert_eq!(refused(&mut app, &append(IN_LEDGER[0])).await, LOCKED);
    run(&mut ledger.connect_owner().await, LIFT).await;
    run(&mut app, &append(IN_LEDGER[0])).await;
    let id: i64 = fetch(&mut app, "SELECT id FROM public.signals").await;
    assert_eq!(id, 3);
    drop(app);
    ledger.finish_tampered().await;
}

/// A security chain that cannot take the event: the lockdown stands without it, and is told.
#[tokio::test]
async fn a_ledger_too_damaged_for_the_event_is_locked_without_it() {
    let ledger = ledger_with(1).await;
    let damage = "ALTER TABLE public.security_events ADD CONSTRAINT broken CHECK (false) NOT VALID";
    ledger.change_guards(damage).await;
    let mut app = ledger.connect_app().await;
    run(&mut app, ENTER).await;
    let event: Option<i64> =
        fetch(&mut app, "SELECT security_event_id FROM public.lockdowns").await;
    assert_eq!(event, None);
    assert_eq!(refused(&mut app, &insert(IN_LEDGER[0])).await, LOCKED);
    drop(app);
    assert_eq!(ledger.finish().await, CHAINS);
}

const RECORD: &str = "SELECT public.ledger_record_refusals()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_attempts_are_recorded_once_however_many_look() {
    let ledger = ledger_with(1).await;
    let mut app = ledger.connect_app().await;
    let mut superuser = ledger.connect_superuser().await;
    assert_eq!(fetch::<i32>(&mut app, RECORD).await, 0);
    let attempts = [
        ("UPDATE public.signals SET price = 1", "AU002", 3),
        ("DELETE FROM public.order_events", "AU007", 1),
        ("TRUNCATE public.security_events", "AU010", 2),
    ];
    for (sql, code, times) in attempts {
        for _ in 0..times {
            assert_eq!(refused(&mut superuser, sql).await, code);
        }
    }
    let looks = join_all((0..8).map(async |_| {
        let mut app = ledger.connect_app().await;
        fetch::<i32>(&mut app, RECORD).await
    }));
    assert_eq!(looks.await.into_iter().sum::<i32>(), 3);
    assert_eq!(refused(&mut superuser, "DELETE FROM public.order_execution").await, "AU007");
    for expected in [1, 0, 0] {
        assert_eq!(fetch::<i32>(&mut app, RECORD).await, expected);
    }
    let told = "SELECT string_agg(concat_ws(' ', subject, details ->> 'attempts',
                    details ->> 'total', actor), ', ' ORDER BY e.id)
                FROM public.security_events AS e
                JOIN public.recorded_refusals AS r ON r.security_event_id = e.id
                WHERE event_type = 'CHANGE_REFUSED'";
    assert_eq!(
        fetch::<String>(&mut app, told).await,
        "AUD-002 3 3 system, AUD-007 1 1 system, AUD-010 2 2 system, AUD-007 1 2 system"
    );
    // A look that is rolled back is none.
    assert_eq!(refused(&mut superuser, "DELETE FROM public.signals").await, "AU003");
    run(&mut app, &format!("BEGIN; {RECORD}; ROLLBACK")).await;
    assert_eq!(fetch::<i32>(&mut app, RECORD).await, 1);
    for role in ["ledger_auditor", "ledger_migrator"] {
        assert_eq!(refused(&mut ledger.connect(role).await, RECORD).await, NO_RIGHT, "{role}");
    }
    // In a lockdown, too.
    run(&mut app, ENTER).await;
    assert_eq!(refused(&mut superuser, "DELETE FROM public.lockdowns").await, "AU010");
    assert_eq!(fetch::<i32>(&mut app, RECORD).await, 1);
    drop((app, superuser));
    assert_eq!(ledger.finish().await, CHAINS + 4 + 1 + 2);
}
