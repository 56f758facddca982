//! Rows that leave the ledger by command, and what the service's memory does while many leave it.

use std::sync::{Arc, Mutex};

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::chains::signal_audit_ledger::{Direction, ProducedSignal, Record};
use audit_ledger::clock::Clock;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;

use crate::common::soon;
use crate::program::{Ended, Program, send};

type Taken = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver of replayed rows that takes the first so many.
fn receiver(at_most: usize) -> (String, Taken) {
    let taken = Taken::default();
    let take = move |State(taken): State<Taken>, headers: HeaderMap, body: String| async move {
        let mut taken = taken.lock().unwrap();
        if taken.len() == at_most {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let leaf = headers["ledger-leaf-index"].to_str().unwrap().to_owned();
        let row: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(row["chain"], headers["ledger-chain"].to_str().unwrap());
        taken.push((leaf, row));
        StatusCode::NO_CONTENT
    };
    let routes = axum::Router::new().route("/rows", post(take)).with_state(Arc::clone(&taken));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/rows", listener.local_addr().unwrap());
    tokio::spawn(axum_server::from_tcp(listener).unwrap().serve(routes.into_make_service()));
    (url, taken)
}

/// Beside the receiver, which is a task of this test.
async fn run(program: &Arc<Program>, arguments: &[&str]) -> Ended {
    let (program, arguments) = (Arc::clone(program), arguments.join("\n"));
    let run = move || program.run(&arguments.split('\n').collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn rows_are_exported_and_replayed_by_command() {
    let program = Arc::new(Program::start().await);
    for n in 1..=5 {
        assert_eq!(send(&program, &format!("s-{n}")).await.status, 201);
    }
    let file = program.data_dir().join("signals.csv");
    let path = file.to_str().unwrap();
    let arguments =
        ["export", "signals", "--format", "csv", "--filter", "from_id=2", "--output", path];
    let exported = run(&program, &arguments).await;
    assert_eq!(exported.code, 0, "{exported:?}");
    assert!(exported.stderr.contains("4 rows in "), "{exported:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 5);
    let printed = run(&program, &["export", "signals"]).await;
    assert_eq!(printed.stdout.lines().count(), 5, "{printed:?}");
    let recorded = "SELECT count(*) FROM security_events WHERE actor = 'command line'
        AND event_type IN ('EXPORT_STARTED', 'EXPORT_COMPLETED')";
    assert_eq!(program.query(recorded).await, 4);

    let replayed = run(&program, &["replay", "--chains", "signals,security_events"]).await;
    let rows: Vec<Value> =
        replayed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let leaves: Vec<_> = rows.iter().map(|row| row["leaf_index"].as_i64().unwrap()).collect();
    assert!(leaves.is_sorted() && leaves.len() == 13, "{leaves:?}");

    let (url, taken) = receiver(3);
    let broke_off = run(&program, &["replay", "--chains", "signals", "--to", &url]).await;
    assert_eq!(broke_off.code, 1);
    let leaf = rows.iter().filter(|row| row["chain"] == "signals").nth(3).unwrap();
    let go_on = format!("go on with --from-leaf {}", leaf["leaf_index"]);
    let told = format!("503 Service Unavailable; 3 rows were taken: {go_on}");
    assert!(broke_off.stderr.contains(&told), "{broke_off:?}");
    let (url, rest) = receiver(100);
    let from = leaf["leaf_index"].to_string();
    let went_on = ["replay", "--chains", "signals", "--from-leaf", &from, "--to", &url];
    assert_eq!(run(&program, &went_on).await.code, 0);
    let all: Vec<_> =
        taken.lock().unwrap().iter().chain(rest.lock().unwrap().iter()).cloned().collect();
    let expected: Vec<_> = rows
        .iter()
        .filter(|row| row["chain"] == "signals")
        .map(|row| (row["leaf_index"].to_string(), row.clone()))
        .collect();
    assert_eq!(all, expected);

    for wrong in [
        &["export", "nothing"][..],
        &["export", "signals", "--filter", "side=UP"],
        &["export", "signals", "--filter", "colour=red"],
        &["export", "signals", "--filter", "side"],
        &["export", "signals", "--format", "xlsx"],
        &["export", "signals", "--output", "/nowhere/at/all.csv"],
        &["replay", "--speed", "fast"],
        &["replay", "--chains", "nothing"],
        &["replay", "--chains", "signals", "--to", "http://127.0.0.1:1/"],
        &["tail", "--filter", "ticker=AAPL"],
    ] {
        let refused = run(&program, wrong).await;
        assert_eq!(refused.code, 1, "{wrong:?} {refused:?}");
        assert!(!refused.stderr.is_empty());
    }
    Arc::into_inner(program).unwrap().stop();
}

#[tokio::test]
async fn a_change_of_the_retention_is_on_record_and_each_only_once() {
    let changes = "SELECT count(*) FROM security_events WHERE event_type = 'RETENTION_CHANGED'";
    let mut program = Program::start().await;
    assert_eq!(program.query(changes).await, 0);
    for (days, expected) in [("365", 1), ("365", 1), ("2192", 2), ("", 2), ("30", 3)] {
        program.interrupt();
        program.set("LEDGER_RETENTION_DAYS", days);
        program.start_again().await;
        assert_eq!(program.query(changes).await, expected, "{days}");
    }
    let last = "SELECT ((details ->> 'before')::bigint * 1000 + (details ->> 'days')::bigint)
        FROM security_events WHERE event_type = 'RETENTION_CHANGED' ORDER BY id DESC LIMIT 1";
    assert_eq!(program.query(last).await, 2_192_030);
    let shown = program.run(&["config"]);
    assert!(shown.stdout.contains("\"LEDGER_RETENTION_DAYS\": 2192"), "{shown:?}");
    program.stop();
}

/// The most memory that the process ever had, in bytes.
fn peak(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn memory_stays_flat_while_two_hundred_thousand_rows_are_exported_replayed_and_verified() {
    const ROWS: u32 = 200_000;
    const STEP: u32 = 4_000;
    /// What the rows are as NDJSON is four times as much.
    const GROWTH: u64 = 48 << 20;
    let program = Program::start().await;
    let (appender, writer) =
        Appender::start(program.app(), BatchSettings::default(), Clock::system());
    let row = |n: u32| {
        let now = Clock::system().now();
        let signal = ProducedSignal {
            payload_json: format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(300)),
            ..ProducedSignal::new("ema", &format!("s-{n}"), "AAPL", Direction::Long, now)
        };
        Record::Signal(signal).new_row("producer", now).unwrap()
    };
    for from in (0..ROWS).step_by(STEP as usize) {
        for appended in appender.append_all((from..from + STEP).map(row).collect(), soon()).await {
            appended.unwrap();
        }
    }
    drop(appender);
    writer.await.unwrap();
    let key = std::fs::read_to_string(program.data_dir().join("admin.key")).unwrap();
    let before = peak(&program);
    for path in [
        "/v1/export/signal_audit_ledger?format=csv",
        "/v1/export/signal_audit_ledger?format=json",
        "/v1/replay",
    ] {
        let mut answer = program.stream(path, &key).await;
        let mut bytes = 0;
        while let Some(chunk) = answer.chunk().await.unwrap() {
            bytes += chunk.len() as u64;
        }
        assert!(bytes > 4 * GROWTH / 3, "{path}: {bytes}");
        let growth = peak(&program) - before;
        assert!(growth < GROWTH, "{path}: {} MiB more", growth >> 20);
    }
    let check = program.post_with_key("/v1/integrity/checks", &key).await;
    assert_eq!(check.body["verdict"], "verified", "{check:?}");
    let growth = peak(&program) - before;
    assert!(growth < GROWTH, "verifying: {} MiB more", growth >> 20);
    program.stop();
}
