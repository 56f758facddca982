//! The same record again: known however it is spelt, and answered with the first receipt.

use serde_json::{Value, json};

use crate::{Desk, append, outcome, said, signal, spelt, with, without};

/// A signal and every member that it can have.
fn full(webhook: &str) -> Value {
    let mut signal = signal(1);
    signal["execution_id"] = "x-1".into();
    signal["acted_upon"] = true.into();
    signal["correlation_id"] = webhook.into();
    signal
}

#[tokio::test]
async fn the_same_signal_is_a_duplicate_however_it_is_spelt() {
    let desk = Desk::open().await;
    let webhook = desk.webhook(1).await;
    let signal = full(&webhook);
    let receipt = desk.record(&signal).await;
    let text = without(&signal, "payload_json");
    let payload = serde_json::to_string(&signal["payload_json"]).unwrap();
    let again = [
        signal.to_string(),
        spelt(&signal, "direction", "\"buy\""),
        spelt(&signal, "direction", "\"BullISH\""),
        spelt(&signal, "conviction", "82.50"),
        spelt(&signal, "conviction", "825e-1"),
        spelt(&signal, "confidence", "0.9100"),
        spelt(&signal, "price", "18912E-2"),
        spelt(&signal, "timestamp", "\"2026-01-02T05:04:05.678901+02:00\""),
        with(&signal, "correlation_id", webhook.to_uppercase()).to_string(),
        with(&signal, "record_type", "SIGNAL").to_string(),
        with(&text, "payload_json_text", payload.as_str()).to_string(),
        spelt(&signal, "ticker", "\"\\u0041APL\""),
        serde_json::to_string_pretty(&with(&text, "payload_json_text", payload)).unwrap(),
    ];
    let mut app = desk.ledger.connect_app().await;
    for body in &again {
        let answer = desk.post(body, &[]).await;
        assert_eq!((answer.status, &answer.body["receipt"]), (200, &receipt), "{body}: {answer:?}");
        assert_eq!(answer.body["status"], "duplicate");
        // SQL's jsonb spells a payload anew, so that one is told only as text.
        if body.contains("payload_json_text") {
            let answer = append(&mut app, body).await.unwrap();
            assert_eq!(answer, ("duplicate".to_owned(), receipt.clone()));
        }
    }
    for result in desk.results(&again).await {
        assert_eq!((&result["status"], &result["receipt"]), (&json!("duplicate"), &receipt));
    }
    drop(app);
    assert_eq!(desk.close().await, 2);
}

#[tokio::test]
async fn other_content_under_the_same_key_is_a_conflict() {
    let desk = Desk::open().await;
    let (webhook, other_webhook) = (desk.webhook(1).await, desk.webhook(2).await);
    let signal = full(&webhook);
    desk.record(&signal).await;
    let others = [
        with(&signal, "signal_type", "breakout"),
        without(&signal, "signal_type"),
        with(&signal, "ticker", "aapl"),
        with(&signal, "direction", "SHORT"),
        with(&signal, "conviction", "82.5001"),
        with(&signal, "confidence", "0.9101"),
        without(&signal, "confidence"),
        with(&signal, "price", "-189.12"),
        without(&signal, "price"),
        with(&signal, "timestamp", "2026-01-02T03:04:05.678902Z"),
        with(&signal, "payload_json", json!({"fast": 8})),
        without(&signal, "payload_json"),
        with(&signal, "acted_upon", false),
        with(&signal, "execution_id", "x-2"),
        with(&signal, "correlation_id", other_webhook),
        without(&signal, "correlation_id"),
    ];
    let mut app = desk.ledger.connect_app().await;
    for other in &others {
        let answer = desk.send(other).await;
        assert_eq!(said(&answer), (409, "IDP-001", "signal_id"), "{other}: {answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().ends_with("in row 1"), "{answer:?}");
        let error = append(&mut app, &other.to_string()).await.unwrap_err();
        let error = error.as_database_error().unwrap();
        assert_eq!(error.code().unwrap(), "23505", "{other}");
        assert!(error.message().starts_with("IDP-001: signal_id was recorded before"), "{error}");
    }
    let all: Vec<_> = others.iter().map(ToString::to_string).collect();
    for result in desk.results(&all).await {
        assert_eq!(result["problem"]["code"], "IDP-001", "{result}");
    }
    // In one body the first of a key is taken.
    let first = with(&signal, "signal_id", "new").to_string();
    let second = with(&others[0], "signal_id", "new").to_string();
    let results = desk.results(&[first.clone(), second, first]).await;
    let statuses: Vec<_> = results.iter().map(|result| result["status"].clone()).collect();
    assert_eq!(statuses, ["recorded", "refused", "duplicate"]);
    assert_eq!(results[1]["problem"]["code"], "IDP-001");
    // The key is the producer's, and every producer has its own.
    for (n, producer) in (3..).zip(["EMA", "social", "ema "]) {
        let receipt = desk.record(&with(&others[0], "source_module", producer)).await;
        assert_eq!(receipt["id"], n);
    }
    desk.record(&with(&others[0], "signal_id", "S-1")).await;
    drop(app);
    assert_eq!(desk.close().await, 2 + 6);
}

#[tokio::test]
async fn the_same_outcome_is_a_duplicate_also_without_a_time() {
    let desk = Desk::open().await;
    let webhook = desk.webhook(1).await;
    desk.record(&signal(1)).await;
    let timed = with(&outcome(1), "timestamp", "2026-01-02T03:05:00Z");
    let mut everything = timed.clone();
    for (member, value) in [
        ("confidence", "0.5"),
        ("price", "1.25"),
        ("signal_type", "fill"),
        ("payload_json_text", "{\"n\": 1.50}"),
        ("correlation_id", webhook.as_str()),
    ] {
        everything[member] = value.into();
    }
    let mut app = desk.ledger.connect_app().await;
    for (id, outcome) in (2..).zip([outcome(1), timed, everything]) {
        let receipt = desk.record(&outcome).await;
        assert_eq!(receipt["id"], id);
        for _ in 0..2 {
            assert_eq!(desk.duplicate(&outcome).await, receipt);
            let answer = append(&mut app, &outcome.to_string()).await.unwrap();
            assert_eq!(answer, ("duplicate".to_owned(), receipt.clone()));
        }
        let body = outcome.to_string();
        for result in desk.results(&[body.clone(), body]).await {
            assert_eq!((&result["status"], &result["receipt"]), (&json!("duplicate"), &receipt));
        }
    }
    let spelt_anew = [
        ("confidence", json!(0.50)),
        ("price", json!("125e-2")),
        ("timestamp", json!("2026-01-02T05:05:00.000000+02:00")),
        ("correlation_id", json!(webhook.to_uppercase())),
    ];
    let mut again = with(&outcome(1), "timestamp", "2026-01-02T03:05:00Z");
    again["signal_type"] = "fill".into();
    again["payload_json_text"] = "{\"n\": 1.50}".into();
    for (member, value) in spelt_anew {
        again[member] = value;
    }
    assert_eq!(desk.duplicate(&again).await["id"], 4);

    // What differs in anything is another outcome, also one with a time from one without.
    let others = [
        with(&outcome(1), "timestamp", "2026-01-02T03:05:00.000001Z"),
        with(&outcome(1), "acted_upon", false),
        with(&outcome(1), "execution_id", "x-2"),
        without(&outcome(1), "execution_id"),
        with(&outcome(1), "confidence", "0"),
        with(&outcome(1), "price", "0"),
        with(&outcome(1), "signal_type", "null"),
        with(&outcome(1), "payload_json", json!({"a": 1})),
        with(&outcome(1), "payload_json_text", "{ }"),
        with(&outcome(1), "correlation_id", webhook),
    ];
    for (id, other) in (5..).zip(&others) {
        assert_eq!(desk.record(other).await["id"], id, "{other}");
    }
    for other in &others {
        desk.duplicate(other).await;
    }
    drop(app);
    assert_eq!(desk.close().await, 1 + 4 + others.len());
}
