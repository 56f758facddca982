//! Deliveries of every kind: those of the fixtures, and random ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::Value;

use crate::common::TestLedger;
use crate::server::{Answer, Server};

#[tokio::test]
async fn every_delivery_of_the_fixtures_is_answered_and_kept_as_stated() {
    let fixtures: Value = serde_json::from_str(include_str!("../fixtures/webhooks.json")).unwrap();
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    for delivery in fixtures["deliveries"].as_array().unwrap() {
        let name = delivery["name"].as_str().unwrap();
        let body = STANDARD.decode(delivery["body_base64"].as_str().unwrap()).unwrap();
        let content_type = delivery["content_type"].as_str().unwrap_or("application/json");
        let answer = server.deliver_as(content_type, &body).await;
        assert_eq!(u64::from(answer.status), delivery["status"], "{name}: {answer:?}");
        match answer.status {
            200 | 201 => check_signal(&server, &answer, delivery, &body).await,
            _ => check_quarantine(&server, &answer, delivery, &body, content_type).await,
        }
    }
    server.stop().await;
    ledger.finish().await;
}

async fn check_signal(server: &Server, answer: &Answer, delivery: &Value, body: &[u8]) {
    let name = &delivery["name"];
    let id = answer.body["receipt"]["id"].as_i64().unwrap();
    let columns = ["signal_id", "symbol", "side", "price", "quantity"];
    let casts = columns.map(|column| format!("{column}::text")).join(", ");
    let row = server
        .row(&format!(
            "SELECT {casts}, correlation_id::text, recorded_by, auth_method, source_ip::text,
                    hmac_verified::text, raw_payload_text
             FROM signals WHERE id = {id}"
        ))
        .await;
    for (column, stored) in columns.iter().zip(&row) {
        if let Some(expected) = delivery["row"].get(column) {
            assert_eq!(expected, stored, "{name}: {column}");
        }
    }
    assert_eq!(answer.body["correlation_id"], row[5].as_str(), "{name}");
    assert_eq!(row[6..10], ["tradingview", "hmac", "127.0.0.1/32", "true"], "{name}");
    assert_eq!(row[10].as_bytes(), body, "{name}: the exact body is kept");
    let known = if answer.status == 201 { "recorded" } else { "duplicate" };
    assert_eq!(answer.body["status"], known, "{name}");
}

async fn check_quarantine(
    server: &Server,
    answer: &Answer,
    delivery: &Value,
    body: &[u8],
    content_type: &str,
) {
    let name = &delivery["name"];
    assert_eq!(answer.body["reason"], delivery["reason"], "{name}: {answer:?}");
    if let Some(code) = delivery.get("code") {
        assert_eq!(answer.body["code"], *code, "{name}");
    }
    let id = answer.body["quarantine_id"].as_i64().expect("the id that it is kept under");
    let from = format!("FROM quarantined_deliveries WHERE id = {id}");
    assert_eq!(server.bytes(&format!("SELECT body {from}")).await, body, "{name}");
    let row = server
        .row(&format!(
            "SELECT source, reason, detail, content_type, auth_method, hmac_verified::text,
                    coalesce((SELECT s.id::text FROM signals s
                              WHERE s.correlation_id = duplicate_of), '') {from}"
        ))
        .await;
    assert_eq!(row[0], "tradingview", "{name}");
    assert_eq!(row[1], *delivery["reason"].as_str().unwrap(), "{name}");
    let sender = r#"; sender: {"recorded_by":"tradingview","webhook_id":null}"#;
    assert_eq!(row[2].strip_suffix(sender), answer.body["detail"].as_str(), "{name}");
    assert_eq!(row[3..6], [content_type, "hmac", "true"], "{name}");
    assert_eq!(row[6], if answer.status == 409 { "1" } else { "" }, "{name}");
}

/// Bodies of random bytes, random JSON, and JSON that is nearly a signal.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        r#""[A-Za-z0-9|:.{}]{0,70}""#,
        Just(r#""\ud800""#.to_owned()),
        Just(r#""a\u0000b""#.to_owned()),
        Just(r#""\uD83D\uDE80""#.to_owned()),
    ];
    let number = prop_oneof![
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,14})?([eE][+-]?[0-9]{1,6})?",
        Just("1e131072".to_owned()),
        Just("1e-16384".to_owned()),
        Just("NaN".to_owned()),
        Just("01".to_owned()),
        Just("-".to_owned()),
    ];
    let scalar = prop_oneof![
        3 => text,
        3 => number,
        1 => Just("null".to_owned()),
        1 => Just("true".to_owned()),
    ];
    let value = scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| {
                let member = |(name, value): &(String, String)| {
                    format!("{}:{value}", serde_json::to_string(name).unwrap())
                };
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }),
        ]
    });
    let name = prop::sample::select(vec![
        "signal_id",
        "id",
        "symbol",
        "ticker",
        "side",
        "action",
        "price",
        "close",
        "quantity",
        "qty",
        "x",
    ]);
    let nearly = prop::collection::vec((name, value.clone()), 0..3).prop_map(|changes| {
        let mut members = vec![
            ("symbol", r#""BTCUSD""#.to_owned()),
            ("side", r#""buy""#.to_owned()),
            ("price", "1".to_owned()),
            ("quantity", "1".to_owned()),
        ];
        for (name, value) in changes {
            match members.iter_mut().find(|(known, _)| *known == name) {
                Some(member) => member.1 = value,
                None => members.push((name, value)),
            }
        }
        let member = |(name, value): &(&str, String)| format!(r#""{name}":{value}"#);
        format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(",")).into_bytes()
    });
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..300),
        2 => value.prop_map(String::into_bytes),
        4 => nearly,
    ]
}

/// For every authenticated body the answer is one of the API's, and the body stands in exactly
/// one of the two tables.
#[tokio::test]
async fn every_random_delivery_is_kept_in_exactly_one_place() {
    const DELIVERIES: usize = 1_500;
    let config = ProptestConfig { rng_seed: RngSeed::Fixed(20_261_121), ..Default::default() };
    let mut runner = TestRunner::new(config);
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let strategy = bodies();
    let mut statuses = std::collections::BTreeMap::new();
    for _ in 0..DELIVERIES {
        let body = strategy.new_tree(&mut runner).unwrap().current();
        let answer = server.deliver(&body).await;
        *statuses.entry(answer.status).or_insert(0) += 1;
        let sha = |column: &str| {
            format!(
                "encode(sha256({column}), 'hex') = encode(sha256('\\x{}'), 'hex')",
                hex::encode(&body)
            )
        };
        let kept = server
            .row(&format!(
                "SELECT (SELECT count(*) FROM signals
                         WHERE {})::text,
                        (SELECT count(*) FROM quarantined_deliveries WHERE {})::text",
                sha("convert_to(raw_payload_text, 'UTF8')"),
                sha("body")
            ))
            .await;
        let expected = match answer.status {
            200 | 201 => ["1", "0"],
            409 | 422 => ["0", "1"],
            _ => panic!("{answer:?} to {}", String::from_utf8_lossy(&body)),
        };
        assert_eq!(kept, expected, "{answer:?} to {}", String::from_utf8_lossy(&body));
    }
    assert!(statuses[&201] > 50 && statuses[&422] > 300, "{statuses:?}");
    server.stop().await;
    ledger.finish().await;
}
