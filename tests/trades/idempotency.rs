//! `Idempotency-Key`: a request that is sent again is answered with the row that it has.

use audit_ledger::keys::Scope;
use futures_util::future::join_all;
use reqwest::header::HeaderValue;
use serde_json::json;

use crate::common::builders::api_key;
use crate::common::fetch;
use crate::server::{Answer, Server};
use crate::{Desk, bodies, debate, fill, kill_switch, order, with};

async fn send(desk: &Desk, chain: &str, key: &str, body: &str) -> Answer {
    desk.post_with(chain, body.as_bytes(), &[("Idempotency-Key", key)]).await
}

fn assert_conflict(answer: &Answer) {
    let said = (answer.status, &answer.body["code"], &answer.body["field"]);
    assert_eq!(said, (409, &json!("IDP-001"), &json!("Idempotency-Key")), "{answer:?}");
}

#[tokio::test]
async fn the_same_key_and_body_is_the_same_row_and_another_body_a_conflict() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let order_id = desk.record("order_execution", &order(&id)).await;
    for (chain, body) in bodies(&id, order_id) {
        let chain = chain.name;
        let body = body.to_string();
        let first = send(&desk, chain, "k-1", &body).await;
        assert_eq!((first.status, &first.body["status"]), (201, &json!("recorded")), "{first:?}");
        for _ in 0..2 {
            let again = send(&desk, chain, "k-1", &body).await;
            assert_eq!((again.status, &again.body["status"]), (200, &json!("duplicate")));
            assert_eq!(again.body["receipt"], first.body["receipt"]);
        }
        // The bytes count, not what they mean.
        assert_conflict(&send(&desk, chain, "k-1", &format!("{body} ")).await);
        for key in ["K-1", "k-1.", "k"] {
            let other = send(&desk, chain, key, &body).await;
            assert_eq!(other.status, 201, "{other:?}");
            assert_ne!(other.body["receipt"]["id"], first.body["receipt"]["id"]);
        }
        // Without a key every request is a row.
        assert_eq!(desk.post(chain, body.as_bytes()).await.status, 201);
    }
    let mut superuser = desk.ledger.connect_superuser().await;
    let kept = "SELECT string_agg(DISTINCT recorded_by || ' ' || chain || ' ' || id, ', ')
                FROM idempotency_keys WHERE key = 'k-1' AND chain = 'order_execution'";
    assert_eq!(fetch::<String>(&mut superuser, kept).await, "desk order_execution 2");
    drop(superuser);
    assert_eq!(desk.close().await, 2 + 3 * 5);
}

#[tokio::test]
async fn a_key_is_its_holders_and_its_routes_own() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let debate = debate(&id).to_string();
    let first = send(&desk, "ai_debates", "k", &debate).await;
    let order = order(&id).to_string();
    assert_eq!(send(&desk, "order_execution", "k", &order).await.status, 201);
    let kill = kill_switch().to_string();
    assert_eq!(send(&desk, "order_events", "k", &kill).await.status, 201);

    // Another holder; then another key of the same holder, as in a rotation.
    for (name, status) in [("executor", 201), ("desk", 200)] {
        let (_, key) = api_key(&desk.ledger.owner(), name, &[Scope::Ingest]).await;
        let headers = [("Authorization", key.as_str()), ("Idempotency-Key", "k")];
        let answer = desk.server.post("/v1/ai_debates", debate.as_bytes(), &headers).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        let same = answer.body["receipt"] == first.body["receipt"];
        assert_eq!(same, status == 200, "{name}");
    }
    assert_eq!(desk.close().await, 5 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_sent_sixteen_times_at_once_makes_one_row() {
    const TIMES: usize = 16;
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let other = Server::start(&desk.ledger).await;
    let body = order(&id).to_string();
    for round in 0..4 {
        let key = format!("round-{round}");
        // Two services on one database.
        let sends = (0..TIMES).map(async |n| {
            let server = if n % 2 == 0 { &desk.server } else { &other };
            let headers = [("Authorization", desk.key.as_str()), ("Idempotency-Key", &key)];
            server.post("/v1/order_execution", body.as_bytes(), &headers).await
        });
        let answers = join_all(sends).await;
        let new = answers.iter().filter(|answer| answer.status == 201).count();
        let old = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!((new, old), (1, TIMES - 1), "{answers:?}");
        assert!(answers.iter().all(|answer| answer.body["receipt"] == answers[0].body["receipt"]));
    }
    other.stop().await;
    assert_eq!(desk.close().await, 1 + 4);
}

#[tokio::test]
async fn a_key_is_known_after_a_restart_too() {
    let mut desk = Desk::open().await;
    let id = desk.signal(1).await;
    let body = debate(&id).to_string();
    let first = send(&desk, "ai_debates", "k", &body).await;
    let again = Server::start(&desk.ledger).await;
    std::mem::replace(&mut desk.server, again).stop().await;
    let second = send(&desk, "ai_debates", "k", &body).await;
    assert_eq!((second.status, &second.body["receipt"]), (200, &first.body["receipt"]));
    assert_conflict(&send(&desk, "ai_debates", "k", &body.replace("1830", "1831")).await);
    assert_eq!(desk.close().await, 2);
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_key() {
    let desk = Desk::open().await;
    let unknown = "01939f3e-7a00-7000-8000-000000000001";
    let refused = send(&desk, "ai_debates", "k", &debate(unknown).to_string()).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("AUD-008")));
    let refused = send(&desk, "order_events", "k", &fill(1).to_string()).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("AUD-008")));
    let id = desk.signal(1).await;
    let wrong = with(&debate(&id), "elapsed_ms", -1).to_string();
    assert_eq!(send(&desk, "ai_debates", "k", &wrong).await.body["code"], "VAL-002");
    assert_eq!(send(&desk, "ai_debates", "k", &debate(&id).to_string()).await.status, 201);
    desk.record("order_execution", &order(&id)).await;
    assert_eq!(send(&desk, "order_events", "k", &fill(1).to_string()).await.status, 201);
    // Of a refused request nothing is left to be in conflict with, but what was recorded counts.
    assert_conflict(&send(&desk, "ai_debates", "k", &debate(unknown).to_string()).await);
    assert_eq!(desk.close().await, 4);
}

#[tokio::test]
async fn a_header_that_is_no_key_is_refused() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let body = debate(&id).to_string();
    let url = format!("http://{}/v1/ai_debates", desk.server.address);
    let client = reqwest::Client::new();
    let long = "k".repeat(256);
    for values in [
        vec!["".as_bytes()],
        vec![long.as_bytes()],
        vec!["é".as_bytes()],
        vec![b"k\xff"],
        vec![b"k\tk"],
        vec![b"k k"],
        vec![b"k", b"k"],
        vec![b"k", b"other"],
        vec![b"", b"k"],
    ] {
        let mut request = client.post(&url).header("Authorization", &desk.key).body(body.clone());
        for value in &values {
            request = request.header("Idempotency-Key", HeaderValue::from_bytes(value).unwrap());
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 422, "{values:?}");
        let problem: serde_json::Value = answer.json().await.unwrap();
        let said = (&problem["code"], &problem["field"]);
        assert_eq!(said, (&json!("VAL-002"), &json!("Idempotency-Key")), "{values:?}");
    }
    let longest = "~".repeat(255);
    for key in [longest.as_str(), "!", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "a,b"] {
        assert_eq!(send(&desk, "ai_debates", key, &body).await.status, 201, "{key}");
        assert_eq!(send(&desk, "ai_debates", key, &body).await.status, 200, "{key}");
    }
    assert_eq!(desk.close().await, 1 + 4);
}
