//! The live feed: everything once, in order, whoever appended it and however often one connects.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

use crate::common::{attempt, fetch, run, wait_until};
use crate::server::Server;
use crate::{Desk, json_lines, mixed, outcome, produced};

const PATIENCE: Duration = Duration::from_secs(20);

/// An event as a browser reads it (HTML, section 9.2.6).
#[derive(Debug)]
struct Event {
    id: i64,
    kind: String,
    row: Value,
}

/// One connection to the feed.
struct Follower {
    answer: Response,
    text: String,
}

impl Follower {
    async fn open(desk: &Desk, query: &str, after: Option<i64>) -> Self {
        let mut request = desk.get(&format!("/v1/feed{query}"));
        if let Some(leaf) = after {
            request = request.header("Last-Event-ID", leaf);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut follower = Self { answer, text: String::new() };
        // It says that it listens before anything else.
        assert!(follower.block().await.starts_with(": from leaf "));
        follower
    }

    /// Up to the next empty line.
    async fn block(&mut self) -> String {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                return block;
            }
            let chunk = timeout(PATIENCE, self.answer.chunk()).await.expect("a block in time");
            let chunk = chunk.unwrap().expect("the feed has no end");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn next(&mut self) -> Event {
        loop {
            let block = self.block().await;
            let member = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(kind), Some(row)) =
                (member("id: "), member("event: "), member("data: "))
            {
                let row: Value = serde_json::from_str(row).unwrap();
                assert_eq!(
                    (row["leaf_index"].to_string(), &row["chain"]),
                    (id.to_owned(), &kind.into())
                );
                return Event { id: id.parse().unwrap(), kind: kind.to_owned(), row };
            }
        }
    }
}

#[tokio::test]
async fn a_follower_who_connects_again_and_again_has_every_row_once_in_order() {
    let desk = Desk::open().await;
    desk.append(mixed(1, 10)).await;
    let mut steady = Follower::open(&desk, "", Some(0)).await;
    let mut last = 0;
    let appending = async {
        for n in 1..=8 {
            desk.append(mixed(n * 10, n * 10 + 10)).await;
        }
    };
    let following = async {
        // Some events of each connection, then the next one.
        let mut ids = Vec::new();
        for taken in [3, 1, 40, 7, 60, 2] {
            let mut follower = Follower::open(&desk, "", Some(last)).await;
            for _ in 0..taken {
                last = follower.next().await.id;
                ids.push(last);
            }
        }
        ids
    };
    let ((), ids) = tokio::join!(appending, following);
    assert_eq!(ids, (1..=i64::try_from(ids.len()).unwrap()).collect::<Vec<_>>());
    let all = desk.ledger_order().await;
    for expected in &all[1..] {
        assert_eq!(&steady.next().await.row, expected);
    }
    drop(steady);
    desk.close().await;
}

#[tokio::test]
async fn a_feed_has_the_rows_of_its_filter_from_every_instance_and_from_sql() {
    let desk = Desk::open().await;
    let other = Server::start(&desk.ledger).await;
    desk.append(vec![produced(1)]).await;
    // Bounds of times that nobody has reached yet.
    let query = "?chains=signal_audit_ledger&source_module=social&to=2100-01-01T00:00:00Z\
                 &timestamp_from=2026-01-01T00:00:00Z";
    let mut follower = Follower::open(&desk, query, None).await;
    // Of others; of nobody's filter; through another instance; by SQL.
    desk.append(vec![produced(2), produced(4), outcome(4)]).await;
    let body = r#"{"signal_id":"other","source_module":"social","ticker":"AAPL","direction":"LONG",
        "conviction":1,"timestamp":"2026-01-02T03:04:05Z"}"#;
    let headers = [("Authorization", desk.key.as_str())];
    assert_eq!(other.post("/v1/signal_audit_ledger", body.as_bytes(), &headers).await.status, 201);
    other.deliver(b"{}").await;
    let by_sql = body.replace("other", "by-sql");
    run(
        &mut desk.ledger.connect_app().await,
        &format!("SELECT append_signal_audit_ledger('{by_sql}')"),
    )
    .await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let event = follower.next().await;
        assert_eq!(event.kind, "signal_audit_ledger");
        seen.push(format!("{} {}", event.row["record_type"], event.row["signal_id"]));
    }
    let expected =
        [r#""SIGNAL" "s-4""#, r#""OUTCOME" "s-4""#, r#""SIGNAL" "other""#, r#""SIGNAL" "by-sql""#];
    assert_eq!(seen, expected);
    drop(follower);
    other.stop().await;
    desk.close().await;
}

#[tokio::test]
async fn who_reads_nothing_slows_nobody() {
    let desk = Desk::open().await;
    let mut idle = Vec::new();
    for _ in 0..5 {
        idle.push(Follower::open(&desk, "", None).await);
    }
    let mut reading = Follower::open(&desk, "?chains=quarantined_deliveries", None).await;
    // More than the sockets of those who do not read can hold.
    let body = "x".repeat(200_000);
    for n in 0..60 {
        let answer = desk.server.deliver(format!("{n}{body}").as_bytes()).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        assert_eq!(reading.next().await.row["id"], n + 1);
    }
    drop((idle, reading));
    desk.close().await;
}

#[tokio::test]
async fn however_many_follow_lists_and_statistics_are_answered() {
    /// More than the connections of streams and requests together.
    const OF_EACH: usize = 12;
    let desk = Desk::open().await;
    desk.append(mixed(1, 20)).await;
    let events = desk.listed("order_events", "").await;
    let mut superuser = desk.ledger.connect_superuser().await;
    // Whoever reads this chain stands still, and keeps his connection.
    run(&mut superuser, "BEGIN; LOCK TABLE order_events IN ACCESS EXCLUSIVE MODE").await;
    let (mut followers, mut replays) = (Vec::new(), Vec::new());
    for _ in 0..OF_EACH {
        followers.push(Follower::open(&desk, "?chains=order_events", Some(0)).await);
        let path = "/v1/replay?chains=order_events&speed=1000000000";
        replays.push(desk.get(path).send().await.unwrap());
    }
    let stand_still = "SELECT count(*) >= 4 FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until(&mut desk.ledger.connect_superuser().await, stand_still).await;
    for path in ["/v1/signals", "/v1/security_events", "/v1/signals/stats"] {
        timeout(Duration::from_secs(30), desk.read(path)).await.expect(path);
    }
    // And none of them breaks off.
    run(&mut superuser, "ROLLBACK").await;
    for (mut follower, replay) in followers.into_iter().zip(replays) {
        for event in &events {
            assert_eq!(&follower.next().await.row, event);
        }
        assert_eq!(json_lines(&replay.text().await.unwrap()), events);
    }
    desk.close().await;
}

#[tokio::test]
async fn what_no_feed_can_begin_with_is_refused() {
    let desk = Desk::open().await;
    for (query, last, field) in [
        ("", Some("seven"), "Last-Event-ID"),
        ("", Some("-1"), "Last-Event-ID"),
        ("", Some("1000000"), "Last-Event-ID"),
        ("?chains=signals,nothing", None, "chains"),
        ("?chains=signals,signals", None, "chains"),
        ("?chains=", None, "chains"),
        ("?side=BUY", None, "side"),
        ("?order=asc", None, "order"),
    ] {
        let mut request = desk.get(&format!("/v1/feed{query}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 400, "{query} {last:?}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["field"]), (&"VAL-003".into(), &field.into()));
    }
    desk.close().await;
}

#[tokio::test]
async fn a_feed_goes_on_where_the_database_was_away() {
    let desk = Desk::open().await;
    let mut follower = Follower::open(&desk, "", None).await;
    let mut superuser = desk.ledger.connect_superuser().await;
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let _ = attempt(&mut superuser, end_all).await;
    // A follower whose connection broke connects again with the last id that it has.
    let mut appended = 0;
    while appended < 3 {
        let answer = desk.server.deliver(format!("{{ {appended}").as_bytes()).await;
        appended += i64::from(answer.status == 422);
    }
    let last: i64 = fetch(&mut superuser, "SELECT max(leaf_index) FROM ledger_log").await;
    let again = async || {
        let request = desk.get("/v1/feed").header("Last-Event-ID", last - 3);
        request.send().await.unwrap().status() == 200
    };
    while !again().await {}
    let mut follower_2 = Follower::open(&desk, "", Some(last - 3)).await;
    for leaf in last - 2..=last {
        assert_eq!(follower_2.next().await.id, leaf);
    }
    // The first one has either heard them or an error, and never an end.
    let heard = timeout(PATIENCE, follower.answer.chunk()).await.unwrap();
    assert!(!matches!(heard, Ok(None)));
    drop((follower, follower_2));
    desk.close().await;
}
