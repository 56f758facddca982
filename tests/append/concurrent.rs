//! Many writers at once: no gap, no fork, no lost row, no deadlock.

use std::collections::BTreeSet;
use std::time::Duration;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::chains::{IN_LEDGER, Receipt};
use audit_ledger::clock::Clock;
use futures_util::future::join_all;

use crate::common::builders::{one_of_each, order_event, signal_of};
use crate::common::{TestLedger, attempt, fetch, run, soon, sqlstate};
use crate::{assert_stored, plain, recorded};

/// Appends a row to every chain, one after the other; the event is that of the order before it.
async fn append_one_of_each(appender: &Appender, n: u32) -> Vec<Receipt> {
    let mut receipts: Vec<Receipt> = Vec::new();
    for mut row in one_of_each(n) {
        if row.chain.name == "order_events" {
            row = order_event(n, receipts.last().expect("the order").id.0);
        }
        receipts.push(recorded(appender.append(row, soon()).await));
    }
    receipts
}

/// Rows that [`append_one_of_each`] appends.
const OF_EACH: u32 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_share_one_writer() {
    const CLIENTS: u32 = 64;
    const ROWS: u32 = 3;
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let clients = (0..CLIENTS).map(|client| {
        let appender = appender.clone();
        tokio::spawn(async move {
            let mut receipts = Vec::new();
            for n in client * ROWS..(client + 1) * ROWS {
                receipts.extend(append_one_of_each(&appender, n).await);
            }
            receipts
        })
    });
    let receipts: Vec<Receipt> =
        join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
    drop(appender);

    let leaves: BTreeSet<_> = receipts.iter().map(|receipt| receipt.leaf_index.0).collect();
    assert!(leaves.into_iter().eq(0..u64::from(CLIENTS * ROWS * OF_EACH)));
    for chain in IN_LEDGER {
        let of_chain = receipts.iter().filter(|receipt| receipt.chain == chain.name);
        let ids: BTreeSet<_> = of_chain.map(|receipt| receipt.id.0).collect();
        assert!(ids.into_iter().eq(1..=i64::from(CLIENTS * ROWS)));
    }
    let mut app = ledger.connect_app().await;
    for receipt in &receipts {
        assert_stored(&mut app, receipt).await;
    }
    assert_eq!(ledger.finish().await, (CLIENTS * ROWS * OF_EACH) as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_and_plain_sql_take_turns() {
    const CLIENTS: u32 = 12;
    const ROWS: u32 = 4;
    const PLAIN_ROWS: u32 = 60;
    let ledger = TestLedger::new().await;
    let small = BatchSettings { size: 5, delay: Duration::ZERO };
    let writers = [ledger.appender(), ledger.appender_with(small, Clock::system())];
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let appender = writers[client as usize % 2].clone();
        tasks.push(tokio::spawn(async move {
            for n in client * ROWS..(client + 1) * ROWS {
                append_one_of_each(&appender, n).await;
            }
        }));
    }
    for client in 0..2 {
        let mut app = ledger.connect_app().await;
        tasks.push(tokio::spawn(async move {
            for n in 0..PLAIN_ROWS {
                let signal = plain::signal(&format!("plain-{client}-{n}"), plain::LOCKED);
                if n % 2 == 0 {
                    run(&mut app, &signal).await;
                } else {
                    let event = plain::event("after a signal", plain::LOCKED);
                    let statements = [signal, event];
                    plain::transact(&mut app, "READ COMMITTED", &statements).await.unwrap();
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    drop(writers);
    assert_eq!(ledger.finish().await, (CLIENTS * ROWS * OF_EACH + 3 * PLAIN_ROWS) as usize);
}

const CANNOT_SERIALIZE: &str = "40001";
const UNIQUE_VIOLATION: &str = "23505";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_isolation_level_forks_a_chain() {
    const CLIENTS: u32 = 6;
    const ROWS: u32 = 10;
    let ledger = TestLedger::new().await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut app = ledger.connect_app().await;
        let signal = plain::signal("too old", plain::LOCKED);
        let error = plain::transact(&mut app, level, &[signal]).await.unwrap_err();
        assert_eq!(sqlstate(&error).unwrap(), "AU011", "{level} may not see a lockdown");
    }
    let levels = ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
    for (at, level) in levels.into_iter().enumerate() {
        let clients = (0..CLIENTS).map(async |client| {
            let mut app = ledger.connect_app().await;
            let (mut done, mut failed) = (0, 0);
            while done < ROWS {
                let event = plain::event("and", plain::LOCKED);
                let mut rows = vec![event];
                if at < 2 {
                    let name = format!("{at}-{client}-{done}");
                    rows.push(plain::signal(&name, plain::LOCKED));
                }
                match plain::transact(&mut app, level, &rows).await {
                    Ok(()) => done += 1,
                    Err(error) => {
                        let code = sqlstate(&error).expect("an answer");
                        let loud = [CANNOT_SERIALIZE, UNIQUE_VIOLATION, "AU011"];
                        assert!(loud.contains(&code.as_str()), "{level}: {error}");
                        failed += 1;
                    }
                }
            }
            failed
        });
        let failed: u32 = join_all(clients).await.into_iter().sum();
        if at < 2 {
            assert_eq!(failed, 0, "{level} always sees the head");
        }
    }
    assert_eq!(ledger.finish().await, (2 * CLIENTS * ROWS * 3) as usize);
}

#[tokio::test]
async fn a_snapshot_older_than_the_lock_fails_loudly() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    let mut other = ledger.connect_app().await;
    let mut n = 0;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        // What happens meanwhile: a row of the same chain; a row of another one, which shares
        // only the log.
        for same_chain in [true, false] {
            n += 1;
            run(&mut app, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            fetch::<i64>(&mut app, "SELECT count(*) FROM public.signals").await;
            let meanwhile = if same_chain {
                plain::signal(&format!("meanwhile-{n}"), plain::LOCKED)
            } else {
                plain::event("meanwhile", plain::LOCKED)
            };
            run(&mut other, &meanwhile).await;
            let signal = plain::signal(&format!("late-{n}"), plain::LOCKED);
            let code = sqlstate(&attempt(&mut app, &signal).await.unwrap_err()).unwrap();
            let loud = [CANNOT_SERIALIZE, UNIQUE_VIOLATION, "AU011"];
            assert!(loud.contains(&code.as_str()), "{code}");
            run(&mut app, "ROLLBACK").await;
        }
    }
    assert_eq!(ledger.finish().await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_chains_in_opposite_order_do_not_deadlock() {
    const ROWS: u32 = 30;
    let ledger = TestLedger::new().await;
    let clients = (0..4).map(async |client| {
        let mut app = ledger.connect_app().await;
        let mut done = 0;
        while done < ROWS {
            // The lock is taken by the BEFORE trigger alone, so the head may be an old one.
            let mut statements = [
                plain::signal(&format!("{client}-{done}"), plain::UNLOCKED),
                plain::event("opposite", plain::UNLOCKED),
            ];
            if client % 2 == 0 {
                statements.reverse();
            }
            match plain::transact(&mut app, "READ COMMITTED", &statements).await {
                Ok(()) => done += 1,
                Err(error) => {
                    let code = sqlstate(&error).expect("an answer");
                    assert!([UNIQUE_VIOLATION, "AU011"].contains(&code.as_str()), "{error}");
                }
            }
        }
    });
    join_all(clients).await;
    assert_eq!(ledger.finish().await, 8 * ROWS as usize);
}

#[tokio::test]
async fn a_roll_back_leaves_no_gap() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    let appender = ledger.appender();
    for n in 0..3 {
        run(&mut app, "BEGIN").await;
        run(&mut app, &plain::signal("rolled back", plain::LOCKED)).await;
        run(&mut app, "ROLLBACK").await;
        run(&mut app, "BEGIN").await;
        run(&mut app, "SAVEPOINT before").await;
        run(&mut app, &plain::signal("taken back", plain::LOCKED)).await;
        run(&mut app, "ROLLBACK TO before").await;
        run(&mut app, &plain::signal(&format!("kept-{n}"), plain::LOCKED)).await;
        run(&mut app, "COMMIT").await;
        let receipt = recorded(appender.append(signal_of("appender", n), soon()).await);
        assert_eq!(receipt.id.0, i64::from(2 * n + 2));
    }
    drop(appender);
    assert_eq!(ledger.finish().await, 6);
}
