//! The HTTP surface over a real database: every delivery of the fixtures, authentication,
//! limits, and answers when the database is away.

mod common;

#[path = "http/deliveries.rs"]
mod deliveries;
#[path = "http/keys.rs"]
mod keys;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/server.rs"]
mod server;
#[path = "http/sources.rs"]
mod sources;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use common::TestLedger;
use serde_json::{Value, json};
use server::{SECRET, Server, hmac_hex, standard_signature};

const BODY: &str =
    r#"{"signal_id":"a-1","symbol":"BTCUSD","side":"BUY","price":"1.50","quantity":"2"}"#;

#[tokio::test]
async fn both_kinds_of_signature_are_taken_from_every_secret_of_the_source() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let signature = hmac_hex(SECRET, BODY.as_bytes());
    for (number, header, value) in [
        (1, "X-TradingView-Signature", signature.clone()),
        (2, "X-TradingView-Signature", format!("sha256={signature}")),
        (3, "X-Hub-Signature-256", format!("sha256={}", signature.to_uppercase())),
        (4, "X-TradingView-Signature", hmac_hex(server::OLD_SECRET, BODY.as_bytes())),
    ] {
        let answer =
            server.post("/webhook/tradingview", BODY.as_bytes(), &[(header, &value)]).await;
        let expected = if number == 1 { 201 } else { 200 };
        assert_eq!(answer.status, expected, "{answer:?}");
        assert_eq!(answer.body["receipt"]["id"], 1);
    }

    let now = server.clock.now().timestamp();
    let body = br#"{"symbol":"BTCUSD","side":"sell","price":2,"quantity":3}"#;
    let signed = standard_signature(SECRET, "msg_1", now, body);
    let headers = server::standard_headers("msg_1", now, &format!("v2,bm9uZQ== v1,AAAA {signed}"));
    let answer = server.post_with("/webhook/tradingview", body, &headers).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let row = server
        .row("SELECT signal_id, auth_method, hmac_verified::text FROM signals WHERE id = 2")
        .await;
    assert_eq!(row, ["msg_1", "standard_webhooks", "true"], "the webhook-id is the signal_id");
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn the_vectors_of_both_signatures_are_accepted() {
    let vector: Value =
        serde_json::from_str(include_str!("../verifier/tests/vectors/hmac.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let standard = &vector["standard_webhooks"];
    let timestamp: i64 = text(&standard["webhook-timestamp"]).parse().unwrap();
    let ledger = TestLedger::new().await;
    let secrets = [text(&vector["secret"]), text(&standard["secret"])];
    let server = Server::start_with(&ledger, &secrets, audit_ledger::clock::Clock::system()).await;
    let body = text(&vector["body"]);
    for (name, status) in [("x_tradingview_signature", 201), ("also_accepted", 200)] {
        let signature = text(&vector[name]);
        let headers = [("X-TradingView-Signature", signature.as_str())];
        let answer = server.post("/webhook/tradingview", body.as_bytes(), &headers).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    server.stop().await;

    // The vector's time is in the past: with a clock that stands there the signature is taken,
    // and nothing is appended, since the database's clock is far away.
    let offset = TimeDelta::seconds(timestamp)
        - TimeDelta::seconds(audit_ledger::clock::Clock::system().now().timestamp());
    let clock = audit_ledger::clock::Clock::wrong_by(offset);
    let server = Server::start_with(&ledger, &secrets, clock).await;
    let (id, signature) = (text(&standard["webhook-id"]), text(&standard["webhook-signature"]));
    let headers = server::standard_headers(&id, timestamp, &signature);
    let answer = server.post_with("/webhook/tradingview", body.as_bytes(), &headers).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("SYS-001")), "{answer:?}");
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn what_is_not_authenticated_is_refused_and_nothing_of_it_is_kept() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let right = hmac_hex(SECRET, BODY.as_bytes());
    let wrong = hmac_hex("another secret entirely", BODY.as_bytes());
    let now = server.clock.now().timestamp();
    let standard = |timestamp: i64| {
        let signature = standard_signature(SECRET, "m", timestamp, BODY.as_bytes());
        server::standard_headers("m", timestamp, &signature)
    };
    let tradingview = |value: &str| vec![("X-TradingView-Signature".to_owned(), value.to_owned())];
    let mut unreadable_time = standard(now);
    unreadable_time[1].1 = "soon".to_owned();
    for (headers, code) in [
        (vec![], "SEC-001"),
        (vec![("Authorization".to_owned(), format!("Bearer {SECRET}"))], "SEC-001"),
        (tradingview(&wrong), "SEC-003"),
        (tradingview(&hmac_hex(SECRET, b"other body")), "SEC-003"),
        (standard(now - 301), "SEC-003"),
        (standard(now + 301), "SEC-003"),
        (server::standard_headers("other", now, &standard(now)[2].1), "SEC-003"),
        (tradingview(""), "SEC-004"),
        (tradingview(&right[1..]), "SEC-004"),
        (tradingview(&format!("{right}00")), "SEC-004"),
        (tradingview("zz"), "SEC-004"),
        (server::standard_headers("m", now, "v1,?"), "SEC-004"),
        (server::standard_headers("", now, &standard(now)[2].1), "SEC-004"),
        (unreadable_time, "SEC-004"),
    ] {
        let answer = server.post_with("/webhook/tradingview", BODY.as_bytes(), &headers).await;
        assert_eq!((answer.status, &answer.body["code"]), (401, &json!(code)), "{headers:?}");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    assert_eq!(server.count("signals").await + server.count("quarantined_deliveries").await, 0);
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_a_code_and_a_request_id() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let large = vec![b' '; (256 << 10) + 1];
    let signature = hmac_hex(SECRET, &large);
    let signed = [("X-TradingView-Signature", signature.as_str())];
    for (method, path, body, status, code) in [
        ("GET", "/nowhere", &[][..], 404, "NTF-001"),
        ("POST", "/webhook/unknown", b"{}", 404, "NTF-001"),
        ("POST", "/webhook", b"{}", 404, "NTF-001"),
        ("GET", "/webhook/tradingview", b"", 405, "MTH-001"),
        ("DELETE", "/healthz", b"", 405, "MTH-001"),
        ("POST", "/webhook/tradingview", &large, 413, "LIM-001"),
    ] {
        let answer = server.request(method, path, body, &signed).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["status"], status);
        let id = answer.body["request_id"].as_str().expect("a request id");
        assert_eq!(answer.headers["x-request-id"], id);
        assert_eq!(answer.headers.contains_key("allow"), status == 405);
    }
    // A body of exactly the limit is taken: it is no JSON, and kept as such.
    let limit = &large[1..];
    let answer = server.deliver(limit).await;
    assert_eq!((answer.status, &answer.body["code"]), (422, &json!("VAL-001")), "{answer:?}");
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn the_same_bytes_without_an_id_are_one_signal_for_a_minute() {
    let ledger = TestLedger::new().await;
    let body = br#"{"symbol":"ETHUSD","side":"BUY","price":"10","quantity":"1"}"#;
    // Three clocks within the minute that the database's may differ by.
    let mut answers = Vec::new();
    for seconds in [-50, 5, 50] {
        let clock = audit_ledger::clock::Clock::wrong_by(TimeDelta::seconds(seconds));
        let server = Server::start_with(&ledger, &[SECRET.to_owned()], clock).await;
        let answer = server.deliver(body).await;
        answers.push((answer.status, answer.body["receipt"]["id"].as_i64()));
        server.stop().await;
    }
    assert_eq!(answers, [(201, Some(1)), (200, Some(1)), (201, Some(2))], "55 s, then 100 s later");
    ledger.finish().await;
}

#[tokio::test]
async fn a_database_that_is_away_or_hangs_is_answered_in_time_and_the_resend_is_recorded_once() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    // Somebody holds the ledger's lock: the database is there and does not answer.
    let mut holder = ledger.connect_superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE ledger_lock IN ACCESS EXCLUSIVE MODE")
        .execute(&mut holder)
        .await
        .unwrap();
    let started = Instant::now();
    let answer = server.deliver(BODY.as_bytes()).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("SYS-001")), "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(started.elapsed() < Duration::from_millis(2_500), "{:?}", started.elapsed());
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    drop(holder);
    let answer = server.deliver(BODY.as_bytes()).await;
    assert!(answer.status == 201 || answer.status == 200, "{answer:?}");
    assert_eq!(server.deliver(BODY.as_bytes()).await.status, 200);
    assert_eq!(server.count("signals").await, 1);
    assert_eq!(server.request("GET", "/readyz", b"", &[]).await.status, 200);
    server.stop().await;

    let nowhere = audit_ledger::store::Database::from_url("postgresql://x@127.0.0.1:1/x").unwrap();
    let secrets = [SECRET.to_owned()];
    let server = Server::on(&ledger, nowhere, &secrets, audit_ledger::clock::Clock::system()).await;
    let started = Instant::now();
    assert_eq!(server.deliver(BODY.as_bytes()).await.status, 503);
    assert!(started.elapsed() < Duration::from_millis(2_500), "{:?}", started.elapsed());
    let ready = server.request("GET", "/readyz", b"", &[]).await;
    assert_eq!((ready.status, &ready.body["code"]), (503, &json!("SYS-001")));
    assert_eq!(server.request("GET", "/healthz", b"", &[]).await.status, 200);
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn the_api_describes_itself_and_counts() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let described = server.request("GET", "/openapi.json", b"", &[]).await.body;
    let committed: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    assert_eq!(described, committed);
    assert_eq!(described["openapi"], "3.1.0");
    server.deliver(BODY.as_bytes()).await;
    server.deliver(b"{").await;
    let metrics = server.text("/metrics").await;
    for line in [
        r#"ledger_deliveries_total{source="tradingview",result="recorded"}"#,
        r#"ledger_deliveries_total{source="tradingview",result="malformed_json"}"#,
        r#"http_requests_total{method="POST",route="/webhook/{source}",status="422"}"#,
        "ledger_append_seconds_bucket",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn what_libraries_refuse_is_a_problem_too_and_invented_methods_leave_no_metric() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    for path in ["/webhook/%ff", "/docs/nothing-here.js"] {
        let answer = server.post(path, b"{}", &[]).await;
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert!(answer.body["code"].is_string() && answer.body["request_id"].is_string());
    }
    let invented = server.request("INVENTED", "/healthz", b"", &[]).await;
    assert_eq!((invented.status, &invented.body["code"]), (405, &json!("MTH-001")));
    let metrics = server.text("/metrics").await;
    assert!(metrics.contains(r#"method="other""#) && !metrics.contains("INVENTED"), "{metrics}");
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "POST /webhook/tradingview HTTP/1.1\r\nHost:"]
    {
        let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
        silent.write_all(beginning.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_mins(1), silent.read_to_end(&mut answer));
        closed.await.expect(beginning).unwrap();
    }
    server.stop().await;
    ledger.finish().await;
}
