//! How many requests a key and an address may make.

use std::sync::Arc;

use audit_ledger::clock::Clock;
use audit_ledger::config::RateSettings;
use audit_ledger::keys::Scope;
use audit_ledger::webhook::Source;
use audit_ledger::webhook::source::WebhookSecret;
use serde_json::json;

use crate::common::TestLedger;
use crate::common::builders::api_key;
use crate::server::{Answer, SECRET, Server};

const CHECKS: &str = "/v1/integrity/checks";

/// Behind a proxy, so that a test can ask from many addresses.
async fn server(ledger: &TestLedger, rates: RateSettings) -> Server {
    let secret = WebhookSecret::new(SECRET.into()).unwrap();
    let sources = vec![Source::signed("tradingview", vec![secret])];
    let proxies = Arc::new(["127.0.0.1/32".parse().unwrap()]);
    Server::limited(ledger, ledger.app(), sources, proxies, Clock::system(), rates).await
}

fn assert_limited(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["code"]), (429, &json!("LIM-002")), "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let seconds: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn one_key_that_asks_too_often_keeps_no_other_from_asking() {
    let ledger = TestLedger::new().await;
    let server = server(&ledger, RateSettings { key_per_s: 1, address_per_s: 0 }).await;
    let (id, busy) = api_key(&ledger.owner(), "busy", &[Scope::Read]).await;
    let (_, calm) = api_key(&ledger.owner(), "calm", &[Scope::Read]).await;
    let get = async |key: &str| server.request("GET", CHECKS, b"", &[("Authorization", key)]).await;
    // Who does not hold the key does not use up what its holder may ask.
    let forged = format!("Bearer lk_{id}_{}", "0".repeat(64));
    for _ in 0..10 {
        assert_eq!(get(&forged).await.status, 401);
    }
    assert_eq!(get(&busy).await.status, 200);
    let mut last = get(&busy).await;
    for _ in 0..3 {
        last = get(&busy).await;
    }
    assert_limited(&last);
    assert_eq!(get(&calm).await.status, 200);
    let metrics = server.text("/metrics").await;
    assert!(metrics.contains(r#"ledger_rate_limited_total{of="key"}"#), "{metrics}");
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn an_address_that_asks_too_often_waits_whatever_it_asks_and_nothing_is_kept() {
    let ledger = TestLedger::new().await;
    let server = server(&ledger, RateSettings { key_per_s: 0, address_per_s: 2 }).await;
    let from = async |address: &str, method: &str, path: &str| {
        server.request(method, path, b"{}", &[("X-Forwarded-For", address)]).await
    };
    for (n, path) in
        ["/nowhere", CHECKS, "/webhook/unknown", "/webhook/tradingview"].into_iter().enumerate()
    {
        let answer = from("198.51.100.7", "POST", path).await;
        assert_ne!(answer.status, 429, "{n} {path}");
    }
    let signature = crate::server::hmac_hex(SECRET, crate::BODY.as_bytes());
    let headers =
        [("X-Forwarded-For", "198.51.100.7"), ("X-TradingView-Signature", signature.as_str())];
    for (method, path) in [("POST", "/webhook/tradingview"), ("GET", CHECKS), ("GET", "/nowhere")] {
        let answer = server.request(method, path, crate::BODY.as_bytes(), &headers).await;
        assert_limited(&answer);
    }
    // Monitoring and others are not kept from anything.
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(from("198.51.100.7", "GET", path).await.status, 200, "{path}");
    }
    assert_eq!(from("198.51.100.8", "GET", "/nowhere").await.status, 404);
    for host in 1..=4 {
        assert_ne!(from(&format!("2001:db8::{host}"), "GET", "/nowhere").await.status, 429);
    }
    assert_limited(&from("2001:db8::9:1", "GET", "/nowhere").await);
    assert_eq!(from("2001:db8:0:1::1", "GET", "/nowhere").await.status, 404);
    assert_eq!(server.count("signals").await + server.count("quarantined_deliveries").await, 0);
    let metrics = server.text("/metrics").await;
    assert!(metrics.contains(r#"ledger_rate_limited_total{of="address"}"#), "{metrics}");
    server.stop().await;
    ledger.finish().await;
}
