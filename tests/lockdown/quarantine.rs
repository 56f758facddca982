//! What is kept in a lockdown, and what becomes of it: every signal once, under its sender's name.

use audit_ledger::chains::quarantined_deliveries::NewQuarantinedDelivery;
use audit_ledger::clock::Clock;
use audit_ledger::integrity::report::Verdict;
use audit_ledger::keys::Scope;
use audit_ledger::webhook::source::parse_sources;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::common::builders::{api_key, delivery, signal};
use crate::common::{TestLedger, fetch, soon};
use crate::server::{Answer, SECRET, Server, standard_headers, standard_signature};
use crate::{BODY, TAMPERING, ask, check, ledger_with_admins, lift_whole};

const WITHOUT_ID: &str = r#"{"symbol":"BTCUSD","side":"BUY","price":"1.50","quantity":"2"}"#;

async fn release(server: &Server, id: i64, key: &str) -> Answer {
    ask(server, "POST", &format!("/v1/quarantined_deliveries/{id}/release"), key, b"").await
}

async fn locked(ledger: &TestLedger) {
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    assert_eq!(check(ledger).await, Verdict::Tampered);
}

#[tokio::test]
async fn a_release_after_a_resend_is_a_duplicate_whoever_sent_it() {
    let (ledger, keys) = ledger_with_admins().await;
    let toml = format!(
        "[hooks]\nauth = ['standard_webhooks']\nsecrets = ['{SECRET}']
         [tradingview]\nauth = ['hmac']\nsecrets = ['{SECRET}']"
    );
    let sources = parse_sources(&toml).unwrap();
    let none = std::sync::Arc::default();
    let server = Server::with(&ledger, ledger.app(), sources, none, Clock::system()).await;
    let (_, bot) = api_key(&ledger.owner(), "ingest-bot", &[Scope::Ingest]).await;
    let by_key = async |body: &str| {
        server.post("/webhook/tradingview", body.as_bytes(), &[("Authorization", &bot)]).await
    };
    let standard = async |id: &str| {
        let now = server.clock.now().timestamp();
        let signature = standard_signature(SECRET, id, now, WITHOUT_ID.as_bytes());
        let headers = standard_headers(id, now, &signature);
        server.post_with("/webhook/hooks", WITHOUT_ID.as_bytes(), &headers).await
    };
    locked(&ledger).await;
    let kept = [by_key(BODY).await, standard("msg;1").await, standard("msg_2").await];
    for (id, kept) in (1..).zip(&kept) {
        assert_eq!((kept.status, &kept.body["quarantine_id"]), (423, &json!(id)), "{kept:?}");
        assert!(!kept.body["detail"].as_str().unwrap().contains("sender"), "{kept:?}");
    }
    // Nothing of the sender's own counts as one, and the same again is the same.
    assert_eq!(standard("msg;1").await.body["quarantine_id"], json!(2));
    lift_whole(&server, &keys).await;

    let resent = [by_key(BODY).await, standard("msg;1").await];
    for (id, resent) in (1..).zip(&resent) {
        assert_eq!(resent.status, 201, "{resent:?}");
        let released = release(&server, id, &keys[0]).await;
        assert_eq!((released.status, &released.body["status"]), (200, &json!("duplicate")));
        assert_eq!(released.body["receipt"], resent.body["receipt"]);
    }
    // The other way round.
    let released = release(&server, 3, &keys[0]).await;
    assert_eq!(released.status, 201, "{released:?}");
    let late = standard("msg_2").await;
    assert_eq!((late.status, &late.body["receipt"]), (200, &released.body["receipt"]));
    let rows = "SELECT string_agg(recorded_by || ' ' || signal_id || ' ' || auth_method, ', '
                                  ORDER BY id) FROM signals WHERE id > 3";
    let expected = "ingest-bot l-1 api_key, hooks msg;1 standard_webhooks, \
                    hooks msg_2 standard_webhooks";
    assert_eq!(server.row(rows).await, [expected]);
    server.stop().await;
    ledger.finish_tampered().await;
}

/// As it was kept before the sender was.
fn old(auth_method: &'static str, detail: Option<&str>) -> NewQuarantinedDelivery {
    NewQuarantinedDelivery {
        reason: "lockdown",
        detail: detail.map(str::to_owned),
        body: BODY.replace("l-1", auth_method).into_bytes(),
        auth_method,
        ..delivery(1)
    }
}

#[tokio::test]
async fn a_row_that_does_not_say_who_sent_it_is_released_only_where_that_is_certain() {
    let (ledger, keys) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    let appender = ledger.appender();
    for row in [
        old("hmac", None),
        old("body_token", Some("locked down")),
        old("api_key", Some(r#"x; sender: {"recorded_by":"boss"} is no member"#)),
        old("standard_webhooks", None),
    ] {
        appender.append(row, soon()).await.unwrap();
    }
    for (id, status) in [(1, 201), (2, 201), (3, 422), (4, 422)] {
        let released = release(&server, id, &keys[0]).await;
        assert_eq!(released.status, status, "{released:?}");
        if status == 422 {
            let detail = released.body["detail"].as_str().unwrap();
            assert!(detail.contains("who sent") && detail.contains("sent again"), "{detail}");
        }
    }
    let recorders = "SELECT string_agg(DISTINCT recorded_by, ' ') FROM signals";
    assert_eq!(server.row(recorders).await, ["tradingview"]);
    drop(appender);
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn a_row_that_was_changed_is_not_released() {
    let (ledger, keys) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    let appender = ledger.appender();
    for n in 1..=4 {
        let body = BODY.replace("l-1", &format!("l-{n}")).into_bytes();
        let row = NewQuarantinedDelivery { body, ..old("hmac", None) };
        appender.append(row, soon()).await.unwrap();
    }
    let changed = "UPDATE public.quarantined_deliveries SET body = 'x' WHERE id = 1;
        UPDATE public.quarantined_deliveries SET prev_hash = 'none' WHERE id = 2;
        UPDATE public.quarantined_deliveries SET detail =
            '; sender: {\"recorded_by\":\"boss\",\"webhook_id\":null}' WHERE id = 3";
    ledger.tamper_and_rearm("quarantined_deliveries", changed).await;
    for (id, status) in [(1, 404), (2, 404), (3, 404), (4, 201)] {
        let released = release(&server, id, &keys[0]).await;
        assert_eq!(released.status, status, "{released:?}");
    }
    drop(appender);
    server.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn the_same_bytes_without_an_id_are_kept_again_after_a_minute() {
    let (ledger, keys) = ledger_with_admins().await;
    let at = async |seconds| {
        let clock = Clock::wrong_by(TimeDelta::seconds(seconds));
        Server::start_with(&ledger, &[SECRET.to_owned()], clock).await
    };
    let (early, late) = (at(-50).await, at(50).await);
    locked(&ledger).await;
    let (mut kept, mut ids) = (Vec::new(), Vec::new());
    for body in [WITHOUT_ID, BODY] {
        for server in [&early, &early, &late, &late, &early] {
            let answer = server.deliver(body.as_bytes()).await;
            assert_eq!(answer.status, 423, "{answer:?}");
            ids.push(answer.body["quarantine_id"].as_i64().unwrap());
            kept.push(answer);
        }
    }
    assert_eq!(ids, [1, 1, 2, 2, 1, 3, 3, 4, 4, 3]);
    // Another sender's, in the same minute.
    let (_, bot) = api_key(&ledger.owner(), "ingest-bot", &[Scope::Ingest]).await;
    let headers = [("Authorization", bot.as_str())];
    let other = late.post("/webhook/tradingview", WITHOUT_ID.as_bytes(), &headers).await;
    assert_eq!(other.body["quarantine_id"], json!(5));
    lift_whole(&early, &keys).await;
    for (id, status, row) in [(1, 201, 4), (2, 201, 5), (3, 201, 6), (4, 200, 6), (5, 201, 7)] {
        let released = release(&late, id, &keys[0]).await;
        assert_eq!((released.status, &released.body["receipt"]["id"]), (status, &json!(row)));
    }
    early.stop().await;
    late.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn the_same_bytes_in_the_next_lockdown_are_kept_again() {
    let (ledger, keys) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    for id in [1, 3] {
        locked(&ledger).await;
        for _ in 0..2 {
            let kept = server.deliver(WITHOUT_ID.as_bytes()).await;
            assert_eq!((kept.status, &kept.body["quarantine_id"]), (423, &json!(id)));
        }
        // What is no signal is kept once.
        let no_signal = server.deliver(b"{").await;
        assert_eq!((no_signal.status, &no_signal.body["quarantine_id"]), (422, &json!(2)));
        lift_whole(&server, &keys).await;
        // Both lockdowns fall into one minute, in which the same bytes are one signal.
        let status = if id == 1 { 201 } else { 200 };
        assert_eq!(release(&server, id, &keys[0]).await.status, status);
    }
    assert_eq!(server.count("quarantined_deliveries").await, 3);
    server.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn a_head_that_is_no_hash_locks_the_ledger_and_keeps_deliveries() {
    let (ledger, keys) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    let changed = "UPDATE public.signals SET row_hash = 'not a hash' WHERE id = 3";
    ledger.tamper_and_rearm("signals", changed).await;
    let answer = server.deliver(BODY.as_bytes()).await;
    assert_eq!((answer.status, &answer.body["code"]), (500, &json!("SYS-002")), "{answer:?}");
    assert_eq!(check(&ledger).await, Verdict::Tampered);
    let kept = server.deliver(BODY.as_bytes()).await;
    assert_eq!((kept.status, &kept.body["quarantine_id"]), (423, &json!(1)), "{kept:?}");
    lift_whole(&server, &keys).await;
    // It is still no hash: nothing can follow it, and nothing waits for it.
    let refused = release(&server, 1, &keys[0]).await;
    assert_eq!(refused.status, 500, "{refused:?}");
    let known = signal(1).raw_payload;
    assert_eq!(server.deliver(known.as_bytes()).await.status, 200);
    server.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn sql_clients_are_answered_by_the_same_rule() {
    let ledger = TestLedger::new().await;
    let mut app = ledger.connect_app().await;
    let row = |received_at: &str, detail: &str| {
        json!({
            "source": "tv", "reason": "lockdown", "detail": detail, "body_base64": "e30=",
            "auth_method": "hmac", "hmac_verified": true, "received_at": received_at,
            "source_ip": "10.0.0.1",
        })
    };
    let mut append = async |row: Value| {
        let sql = format!("SELECT status || ' ' || id FROM append_quarantined_deliveries('{row}')");
        fetch::<String>(&mut app, &sql).await
    };
    for (received_at, detail, expected) in [
        ("2026-01-02T03:04:05Z", "a", "recorded 1"),
        ("2026-01-02T03:05:05Z", "a", "duplicate 1"),
        ("2026-01-02T03:03:05Z", "a", "duplicate 1"),
        ("2026-01-02T03:05:05.000001Z", "a", "recorded 2"),
        ("2026-01-02T03:05:00Z", "b", "recorded 3"),
    ] {
        assert_eq!(append(row(received_at, detail)).await, expected, "{received_at} {detail}");
    }
    let mut other = row("2026-01-02T03:04:05Z", "a");
    other["reason"] = "malformed_json".into();
    assert_eq!(append(other.clone()).await, "recorded 4");
    other["received_at"] = "2026-02-02T03:04:05Z".into();
    other["detail"] = "b".into();
    assert_eq!(append(other).await, "duplicate 4");
    drop(app);
    assert_eq!(ledger.finish().await, 4);
}
