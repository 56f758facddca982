//! The replay: the ledger's order, all at once or with the time that there was.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::{Desk, json_lines, mixed, produced};

#[tokio::test]
async fn a_replay_has_the_ledgers_order_however_fast_it_is() {
    let desk = Desk::open().await;
    desk.append(mixed(1, 40)).await;
    desk.append(mixed(40, 80)).await;
    let all = desk.ledger_order().await;
    let middle = all.last().unwrap()["created_at"].as_str().unwrap();
    for speed in ["0", "1000000000"] {
        assert_eq!(desk.lines(&format!("/v1/replay?speed={speed}")).await, all);
        for from_leaf in [0, 1, 57, all.len() - 1, all.len(), all.len() + 5] {
            let path = format!("/v1/replay?speed={speed}&from_leaf={from_leaf}");
            assert_eq!(desk.lines(&path).await, all[from_leaf.min(all.len())..], "{path}");
        }
        let of = |chains: &[&str], row: &&Value| chains.iter().any(|chain| row["chain"] == *chain);
        let two = ["order_events", "signals"];
        let expected: Vec<_> = all.iter().filter(|row| of(&two, row)).cloned().collect();
        let path = format!("/v1/replay?speed={speed}&chains=signals,order_events");
        assert_eq!(desk.lines(&path).await, expected);
        let expected: Vec<_> = all
            .iter()
            .filter(|row| of(&["signal_audit_ledger"], row) && row["ticker"] == "AAPL")
            .filter(|row| row["id"].as_i64() >= Some(20))
            .cloned()
            .collect();
        let path = format!(
            "/v1/replay?speed={speed}&chains=signal_audit_ledger&ticker=AAPL&from_id=20&from_leaf=3"
        );
        assert_eq!(desk.lines(&path).await, expected);
        let (since, before): (Vec<_>, _) =
            all.iter().cloned().partition(|row| row["created_at"].as_str() >= Some(middle));
        assert!(!before.is_empty());
        for (bound, expected) in [("from", since), ("to", before)] {
            let path = format!("/v1/replay?speed={speed}&{bound}={middle}");
            assert_eq!(desk.lines(&path).await, expected, "{path}");
        }
    }
    desk.close().await;
}

#[tokio::test]
async fn a_replay_as_events_has_the_same_rows() {
    let desk = Desk::open().await;
    desk.append(mixed(1, 20)).await;
    let lines = desk.text("/v1/replay").await;
    let answer = desk.get("/v1/replay").header("Accept", "text/event-stream").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let events = answer.text().await.unwrap();
    let of_events: Vec<_> = events.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(of_events, lines.lines().collect::<Vec<_>>());
    assert_eq!(events.matches("\nevent: signal_audit_ledger\n").count(), 23);
    desk.close().await;
}

#[tokio::test]
async fn rows_follow_each_other_as_they_did() {
    let desk = Desk::open().await;
    for n in 1..=3 {
        desk.append(vec![produced(n)]).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let path = "/v1/replay?chains=signal_audit_ledger&speed=";
    let at = |row: &Value| {
        chrono::DateTime::parse_from_rfc3339(row["created_at"].as_str().unwrap()).unwrap()
    };
    let began = Instant::now();
    let rows = desk.lines(&format!("{path}1")).await;
    let took = began.elapsed();
    let distance = (at(&rows[2]) - at(&rows[0])).to_std().unwrap();
    assert!(took >= distance, "{took:?} for {distance:?}");
    let began = Instant::now();
    assert_eq!(desk.lines(&format!("{path}0.5")).await, rows);
    assert!(began.elapsed() >= distance * 2);
    desk.close().await;
}

#[tokio::test]
async fn what_came_later_is_no_part_of_a_replay() {
    let desk = Desk::open().await;
    desk.append((1..=3).map(produced).collect()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    desk.append(vec![produced(4)]).await;
    let path = "/v1/replay?chains=signal_audit_ledger&speed=1";
    let mut answer = desk.get(path).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("s-1") {
        text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
    }
    desk.append(vec![produced(5)]).await;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert_eq!(json_lines(&text).len(), 4);
    desk.close().await;
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused() {
    let desk = Desk::open().await;
    for (query, field) in [
        ("speed=fast", "speed"),
        ("speed=-1", "speed"),
        ("speed=NaN", "speed"),
        ("from_leaf=-1", "from_leaf"),
        ("from_leaf=x", "from_leaf"),
        ("chains=all", "chains"),
        ("ticker=AAPL", "ticker"),
        ("limit=5", "limit"),
    ] {
        let answer = desk.get(&format!("/v1/replay?{query}")).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{query}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["field"]), (&"VAL-003".into(), &field.into()));
    }
    desk.close().await;
}
