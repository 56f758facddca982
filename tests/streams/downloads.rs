//! Links for browsers.

use audit_ledger::keys::Scope;
use serde_json::{Value, json};

use crate::common::builders::api_key;
use crate::{Desk, mixed};

async fn link(desk: &Desk, key: &str, export: &str) -> (u16, Value) {
    let body = json!({ "export": export }).to_string();
    let headers = [("Authorization", key)];
    let answer = desk.server.post("/v1/downloads", body.as_bytes(), &headers).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn a_link_gives_the_file_once_without_a_key() {
    let desk = Desk::open().await;
    desk.append(mixed(1, 30)).await;
    let export = "/v1/export/signal_audit_ledger?format=csv&ticker=AAPL";
    let (status, download) = link(&desk, &desk.key, export).await;
    assert_eq!((status, &download["expires_in_s"]), (201, &60.into()), "{download}");
    let path = download["url"].as_str().unwrap();
    let first = desk.server.get(path).send().await.unwrap();
    assert_eq!(first.status(), 200);
    assert_eq!(first.text().await.unwrap(), desk.text(export).await);
    for path in [path, &format!("/downloads/{}", "0".repeat(64))] {
        assert_eq!(desk.server.get(path).send().await.unwrap().status(), 404);
    }
    let events = desk.listed("security_events", "&event_type=EXPORT_COMPLETED").await;
    assert!(events.len() == 2 && events.iter().all(|event| event["actor"] == "desk"));
    desk.close().await;
}

#[tokio::test]
async fn a_link_to_nothing_is_not_made() {
    let desk = Desk::open().await;
    let (_, reader) = api_key(&desk.ledger.owner(), "reader", &[Scope::Read]).await;
    assert_eq!(link(&desk, &reader, "/v1/export/signals").await.0, 403);
    for (export, status, code) in [
        ("/v1/export/nothing", 404, "NTF-001"),
        ("/v1/signals", 422, "VAL-002"),
        ("https://example.com/v1/export/signals?side=UP", 400, "VAL-003"),
        ("/v1/export/signals?colour=red", 400, "VAL-003"),
        ("not a path", 422, "VAL-002"),
    ] {
        let (found, problem) = link(&desk, &desk.key, export).await;
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{export}: {problem}");
    }
    desk.close().await;
}
