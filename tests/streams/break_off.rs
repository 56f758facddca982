//! Files and replays that cannot be finished: nobody takes a part for the whole.

use audit_ledger::chains::NewRow;
use audit_ledger::chains::signal_audit_ledger::{Direction, ProducedSignal, Record};
use audit_ledger::clock::Clock;

use serde_json::Value;

use crate::Desk;
use crate::common::{fetch, run, wait_until};

/// Rows that no socket's buffers hold all of.
async fn append_much(desk: &Desk) {
    const ROWS: u32 = 600;
    let row = |n: u32| -> NewRow {
        let signal = ProducedSignal {
            // Nothing that could be compressed away.
            payload_json: format!("\"{}\"", noise(n, 40_000)),
            ..ProducedSignal::new(
                "ema",
                &format!("m-{n}"),
                "AAPL",
                Direction::Long,
                Clock::system().now(),
            )
        };
        Record::Signal(signal).new_row("producer", Clock::system().now()).unwrap()
    };
    for from in (0..ROWS).step_by(100) {
        desk.append((from..from + 100).map(row).collect()).await;
    }
}

/// Letters that follow no pattern which a compressor finds.
fn noise(seed: u32, length: usize) -> String {
    let mut state = u64::from(seed) | 1 << 40;
    let letter = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 58) & 63).unwrap()).to_string().replace('\\', "z")
    };
    std::iter::repeat_with(letter).take(length).collect()
}

const READS: &str = "query LIKE '/* read_rows */%' AND datname = current_database()";

#[tokio::test]
async fn a_file_that_cannot_be_finished_has_no_clean_end() {
    let desk = Desk::open().await;
    append_much(&desk).await;
    let mut superuser = desk.ledger.connect_superuser().await;
    for (path, encoding) in [
        ("/v1/export/signal_audit_ledger?format=csv", "identity"),
        ("/v1/export/signal_audit_ledger?format=json", "gzip"),
        ("/v1/export/signal_audit_ledger", "zstd"),
        ("/v1/replay?chains=signal_audit_ledger", "identity"),
    ] {
        let mut answer = desk.get(path).header("Accept-Encoding", encoding).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.chunk().await.unwrap().is_some(), "it began");
        run(
            &mut superuser,
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {READS}"),
        )
        .await;
        let broke_off = loop {
            match answer.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(broke_off, "{path} with {encoding} looks complete");
    }
    let completed = "SELECT count(*) FROM security_events WHERE event_type = 'EXPORT_COMPLETED'";
    assert_eq!(fetch::<i64>(&mut superuser, completed).await, 0);
    desk.close().await;
}

#[tokio::test]
async fn whoever_hangs_up_leaves_his_place_and_his_snapshot() {
    let desk = Desk::open().await;
    append_much(&desk).await;
    let mut superuser = desk.ledger.connect_superuser().await;
    for _ in 0..2 {
        let mut open = Vec::new();
        for _ in 0..4 {
            let answer = desk.get("/v1/export/signal_audit_ledger").send().await.unwrap();
            assert_eq!(answer.status(), 200);
            open.push(answer);
        }
        // A replay that is not paced holds as many connections.
        for path in ["/v1/export/signal_audit_ledger", "/v1/replay?chains=signals"] {
            let refused = desk.get(path).send().await.unwrap();
            assert_eq!(refused.status(), 503);
            assert_eq!(refused.headers()["retry-after"], "5");
        }
        assert_eq!(desk.lines("/v1/replay?chains=signals&speed=1").await, Vec::<Value>::new());
        drop(open);
        let is_over = format!(
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE {READS} AND state = 'active')"
        );
        wait_until(&mut superuser, &is_over).await;
        let has_place =
            async || desk.get("/v1/export/signals").send().await.unwrap().status() == 200;
        while !has_place().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    let of_others = "SELECT count(*) FROM security_events
        WHERE event_type = 'EXPORT_COMPLETED' AND subject = 'signal_audit_ledger'";
    assert_eq!(fetch::<i64>(&mut superuser, of_others).await, 0);
    desk.close().await;
}
