//! What the members of a record may be: words for a direction, exact numbers, lengths, times; and
//! which refusal names which member.

use ledger_verifier::ColumnType;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use serde_json::{Value, json};

use crate::common::fetch;
use crate::{Desk, outcome, said, signal, spelt, with, without};

#[tokio::test]
async fn a_direction_may_be_any_of_its_words_in_any_case() {
    let desk = Desk::open().await;
    let words = [
        ("LONG", ["long", "buy", "bullish"].as_slice()),
        ("SHORT", &["short", "sell", "bearish"]),
        ("NEUTRAL", &["neutral", "flat"]),
    ];
    let mut n = 0;
    for (direction, words) in words {
        for word in words {
            let (first, rest) = word.split_at(1);
            let capital = first.to_uppercase() + rest;
            let mixed = first.to_owned() + &rest.to_uppercase();
            for word in [(*word).to_owned(), word.to_uppercase(), capital, mixed] {
                n += 1;
                let receipt = desk.record(&with(&signal(n), "direction", word.as_str())).await;
                assert_eq!(desk.row(&receipt["id"]).await["direction"], direction, "{word}");
            }
        }
    }
    // In SQL, too, whatever the database's language makes of an I.
    let mut app = desk.ledger.connect_app().await;
    let collation = "SELECT coalesce((SELECT quote_ident(collname) FROM pg_collation
                         WHERE collname = 'tr-x-icu' LIMIT 1), '\"C\"')";
    let collation: String = fetch(&mut app, collation).await;
    let read = format!("SELECT public.ledger_direction('BULLISH' COLLATE {collation})");
    assert_eq!(fetch::<String>(&mut app, &read).await, "LONG", "{collation}");
    drop(app);
    assert_eq!(desk.close().await, n as usize);
}

#[tokio::test]
async fn numbers_are_exact_whether_they_come_as_strings_or_as_numbers() {
    let desk = Desk::open().await;
    let mut n = 0;
    for (member, literal, kept) in [
        ("conviction", "82.5", json!("82.5000")),
        ("conviction", "8.25e1", json!("82.5000")),
        ("conviction", "0", json!("0.0000")),
        ("conviction", "-0", json!("0.0000")),
        ("conviction", "0.0001", json!("0.0001")),
        ("conviction", "1E-4", json!("0.0001")),
        ("conviction", "100", json!("100.0000")),
        ("conviction", "100.000000", json!("100.0000")),
        ("conviction", "0.3", json!("0.3000")),
        ("confidence", "1", json!("1.0000")),
        ("confidence", "0.9999", json!("0.9999")),
        ("confidence", "0.00", json!("0.0000")),
        ("price", "-37.63", json!("-37.6300000000")),
        ("price", "0", json!("0.0000000000")),
        ("price", "1e17", json!("100000000000000000.0000000000")),
        ("price", "-0.0000000001", json!("-0.0000000001")),
        ("price", "12345678901234567.8901234567", json!("12345678901234567.8901234567")),
        ("price", "999999999999999999.9999999999", json!("999999999999999999.9999999999")),
    ] {
        for json in [literal.to_owned(), format!("\"{literal}\"")] {
            n += 1;
            let answer = desk.post(spelt(&signal(n), member, &json), &[]).await;
            assert_eq!(answer.status, 201, "{member} {json}: {answer:?}");
            let row = desk.row(&answer.body["receipt"]["id"]).await;
            assert_eq!(row[member], kept, "{member} {json}");
        }
    }
    for member in ["confidence", "price", "signal_type", "execution_id", "correlation_id"] {
        for body in [with(&signal(n + 1), member, Value::Null), without_any(&signal(n + 2), member)]
        {
            let receipt = desk.record(&body).await;
            assert_eq!(desk.row(&receipt["id"]).await[member], Value::Null);
        }
        n += 2;
    }
    assert_eq!(desk.close().await, n as usize);
}

fn without_any(body: &Value, member: &str) -> Value {
    if body.get(member).is_some() { without(body, member) } else { body.clone() }
}

#[tokio::test]
async fn what_a_record_leaves_out_has_its_default_and_the_rest_is_kept() {
    let desk = Desk::open().await;
    let receipt = desk.record(&without(&signal(1), "payload_json")).await;
    let row = desk.row(&receipt["id"]).await;
    for (member, kept) in [
        ("record_type", json!("SIGNAL")),
        ("payload_json_text", json!("{}")),
        ("acted_upon", json!(false)),
        ("recorded_by", json!("desk")),
        ("timestamp", json!("2026-01-02T03:04:05.678901Z")),
    ] {
        assert_eq!(row[member], kept, "{member}");
    }
    // Byte for byte, as a value and as a text.
    let odd = "{ \"z\":1.50e1,\t\"é\\u00e9\":\"\\ud83d\\ude80\",\"n\":-0.0,\"\":[null ] }";
    let as_text = serde_json::to_string(odd).unwrap();
    let bodies = [
        spelt(&signal(2), "payload_json", odd),
        spelt(&without(&signal(3), "payload_json"), "payload_json_text", &as_text),
    ];
    for body in bodies {
        let answer = desk.post(body, &[]).await;
        let row = desk.row(&answer.body["receipt"]["id"]).await;
        assert_eq!(row["payload_json_text"], odd);
    }
    let edges = [
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05.000000Z"),
    ];
    for (n, (sent, kept)) in (4..).zip(edges) {
        let receipt = desk.record(&with(&signal(n), "timestamp", sent)).await;
        let row = desk.row(&receipt["id"]).await;
        assert_eq!(row["timestamp"], kept);
        let micros = |name: &str| {
            let time = row[name].as_str().unwrap();
            chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp_micros()
        };
        // Of times far away it is what an integer holds.
        let latency = (micros("received_at") - micros("timestamp")).div_euclid(1_000);
        assert_eq!(row["latency_ms"], latency.clamp(-2_147_483_647, 2_147_483_647), "{sent}");
    }
    let full = [
        ("signal_id", 64),
        ("source_module", 50),
        ("signal_type", 50),
        ("ticker", 20),
        ("execution_id", 64),
    ];
    for (n, (member, max)) in (10..).zip(full) {
        // Characters count, not bytes.
        let text = "é".repeat(max);
        let receipt = desk.record(&with(&signal(n), member, text.as_str())).await;
        assert_eq!(desk.row(&receipt["id"]).await[member], text);
    }
    assert_eq!(desk.close().await, 11);
}

/// A body that must be refused, the code, and the member that is named.
pub(crate) type BadRecord = (String, &'static str, &'static str);

const UNKNOWN: &str = "01939f3e-7a00-7000-8000-000000000001";

fn bad_numbers() -> Vec<BadRecord> {
    let signal = signal(900);
    let mut bad = Vec::new();
    for (member, literals, code) in [
        ("conviction", ["82.50001", "1e-5", "1000", "1e20000"].as_slice(), "AUD-001"),
        ("conviction", &["100.0001", "-0.0001", "999.9999"], "VAL-002"),
        ("confidence", &["0.12345", "10", "1e-20000"], "AUD-001"),
        ("confidence", &["1.0001", "-1"], "VAL-002"),
        ("price", &["1e18", "0.00000000001", "-1000000000000000000", "1e131073"], "AUD-001"),
    ] {
        for literal in literals {
            bad.push((spelt(&signal, member, &format!("\"{literal}\"")), code, member));
            if literal.len() < 7 || !literal.contains('e') {
                bad.push((spelt(&signal, member, literal), code, member));
            }
        }
    }
    for member in ["conviction", "confidence", "price"] {
        for json in [
            "\"\"",
            "\"NaN\"",
            "\"Infinity\"",
            "\" 1\"",
            "\"1 \"",
            "\"+1\"",
            "\".5\"",
            "\"1.\"",
            "\"01\"",
            "\"0x1\"",
            "\"1_0\"",
            "\"1,5\"",
            "\"١\"",
            "\"1\\n\"",
            "true",
            "[1]",
            "{}",
        ] {
            bad.push((spelt(&signal, member, json), "VAL-002", member));
        }
    }
    bad
}

fn bad_texts() -> Vec<BadRecord> {
    let signal = signal(901);
    let mut bad = Vec::new();
    for (member, max) in [
        ("signal_id", 64),
        ("source_module", 50),
        ("signal_type", 50),
        ("ticker", 20),
        ("execution_id", 64),
    ] {
        for json in ["\"\"".to_owned(), format!("\"{}\"", "é".repeat(max + 1)), "5".to_owned()] {
            bad.push((spelt(&signal, member, &json), "VAL-002", member));
        }
    }
    for time in [
        "yesterday",
        "2026-01-02",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05.1234567Z",
        "2026-02-30T03:04:05Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:04:60Z",
        "2026-01-02t03:04:05z",
        "02026-01-02T03:04:05Z",
        "10000-01-01T00:00:00Z",
        "",
    ] {
        bad.push((with(&signal, "timestamp", time).to_string(), "VAL-002", "timestamp"));
    }
    // A dotless i, a long s and their like are no other case of a letter.
    for word in ["BULLİSH", "bullısh", "ſell", "ﬂat", " long", "long ", "longer", "up", "", "+1"]
    {
        bad.push((with(&signal, "direction", word).to_string(), "VAL-002", "direction"));
    }
    for (member, json) in [
        ("timestamp", "1767323045"),
        ("direction", "1"),
        ("record_type", "\"signal\""),
        ("record_type", "\"OTHER\""),
        ("record_type", "5"),
        ("acted_upon", "\"true\""),
        ("acted_upon", "1"),
        ("correlation_id", "\"5\""),
        ("correlation_id", "\"01939f3e7a0070008000000000000001\""),
        ("correlation_id", "\"{01939f3e-7a00-7000-8000-000000000001}\""),
    ] {
        bad.push((spelt(&signal, member, json), "VAL-002", member));
    }
    let unknown = with(&signal, "correlation_id", UNKNOWN).to_string();
    bad.push((unknown, "AUD-008", "correlation_id"));
    bad
}

fn bad_members() -> Vec<BadRecord> {
    let (signal, outcome) = (signal(902), outcome(902));
    let mut bad = Vec::new();
    for member in ["signal_id", "source_module", "ticker", "direction", "conviction", "timestamp"] {
        bad.push((without(&signal, member).to_string(), "VAL-002", member));
        bad.push((with(&signal, member, Value::Null).to_string(), "VAL-002", member));
    }
    for member in
        ["id", "created_at", "prev_hash", "row_hash", "latency_ms", "leaf_index", "Ticker"]
    {
        // Whoever sends them, with a null, too, is in error about what they are.
        for json in ["1", "null"] {
            bad.push((spelt(&signal, member, json), "VAL-002", member));
        }
    }
    for member in ["ticker", "direction", "conviction"] {
        bad.push((with(&outcome, member, "1").to_string(), "VAL-002", member));
        bad.push((with(&outcome, member, Value::Null).to_string(), "VAL-002", member));
    }
    for member in ["signal_id", "source_module", "acted_upon"] {
        bad.push((without(&outcome, member).to_string(), "VAL-002", member));
    }
    let no_payload = without(&signal, "payload_json");
    for text in ["{", "", "\"\\u0000\"", "1e999999", "{} {}"] {
        let body = with(&no_payload, "payload_json_text", text).to_string();
        bad.push((body, "VAL-002", "payload_json_text"));
    }
    let both = with(&signal, "payload_json_text", "{}").to_string();
    bad.push((both, "VAL-002", "payload_json"));
    let large = with(&signal, "payload_json", "x".repeat((1 << 20) - 1)).to_string();
    bad.push((large, "VAL-002", "payload_json"));
    for (body, code) in [("[]", "VAL-001"), ("5", "VAL-001"), ("\"{}\"", "VAL-001")] {
        bad.push((body.to_owned(), code, ""));
    }
    bad
}

/// What everybody refuses who reads a record, in the same words.
pub(crate) fn bad_records() -> Vec<BadRecord> {
    [bad_numbers(), bad_texts(), bad_members()].concat()
}

/// What only the service sees: SQL's jsonb has lost it, cannot hold it, or takes it from the
/// service's login.
fn bad_for_the_service() -> Vec<BadRecord> {
    let signal = signal(903);
    let text = signal.to_string();
    let twice = text.replacen('{', "{\"ticker\":\"MSFT\",", 1);
    let twice_inside = spelt(&signal, "payload_json", "{\"a\":1,\"a\":1}");
    vec![
        (twice, "VAL-001", "ticker"),
        (twice_inside, "VAL-001", "a"),
        (spelt(&signal, "ticker", "\"A\\u0000\""), "VAL-002", ""),
        (spelt(&signal, "payload_json", "\"\\u0000\""), "VAL-002", ""),
        (spelt(&signal, "ticker", "\"\\ud800\""), "VAL-002", ""),
        (spelt(&signal, "payload_json", "1e999999"), "VAL-002", ""),
        (spelt(&signal, "price", "1e999999"), "VAL-002", ""),
        (spelt(&signal, "recorded_by", "\"mallory\""), "VAL-002", "recorded_by"),
        (spelt(&signal, "received_at", "\"2026-01-02T03:04:05Z\""), "VAL-002", "received_at"),
        (spelt(&signal, "recorded_by", "null"), "VAL-002", "recorded_by"),
        (
            with(&signal, "timestamp", "1969-12-31T23:59:59.999999Z").to_string(),
            "VAL-002",
            "timestamp",
        ),
        (
            with(&signal, "timestamp", "9999-12-31T23:59:59-00:01").to_string(),
            "VAL-002",
            "timestamp",
        ),
    ]
}

#[tokio::test]
async fn a_bad_record_is_refused_by_name_and_keeps_no_other_out() {
    let desk = Desk::open().await;
    let bad = [bad_records(), bad_for_the_service()].concat();
    let mut all = Vec::new();
    for (n, (body, ..)) in (0..).zip(&bad) {
        all.push(body.clone());
        all.push(signal(n).to_string());
    }
    let results = desk.results(&all).await;
    assert_eq!(results.len(), all.len());
    for (pair, (body, code, field)) in results.chunks(2).zip(&bad) {
        let shown = &body[..body.len().min(400)];
        let problem = &pair[0]["problem"];
        assert_eq!(pair[0]["status"], "refused", "{shown}");
        let named = problem["field"].as_str().unwrap_or_default();
        assert_eq!(
            (problem["code"].as_str().unwrap(), named),
            (*code, *field),
            "{shown}: {problem}"
        );
        let status = if *code == "VAL-001" { 400 } else { 422 };
        assert_eq!(problem["status"], status, "{shown}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(field) && detail.len() > field.len(), "{shown}: {detail}");
        assert_eq!(pair[1]["status"], "recorded", "{pair:?}");
    }
    // Alone each is answered the same.
    for (at, (body, code, field)) in bad.iter().enumerate() {
        let answer = desk.post(body, &[]).await;
        // An array is the body of several.
        if body == "[]" {
            assert_eq!(answer.body["results"], json!([]));
            continue;
        }
        assert_eq!((said(&answer).1, said(&answer).2), (*code, *field), "{answer:?}");
        let detail = &results[2 * at]["problem"]["detail"];
        assert_eq!(
            (&answer.body["status"], &answer.body["detail"]),
            (&json!(answer.status), detail)
        );
    }
    assert_eq!(desk.close().await, bad.len());
}

#[test]
fn the_description_of_the_api_has_the_members_that_are_read() {
    let api: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let content = &api["paths"][crate::PATH]["post"]["requestBody"]["content"];
    for kind in ["application/json", crate::NDJSON] {
        let schema = &content[kind]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/NewSignalRecord", "{kind}");
    }
    let schema = &api["components"]["schemas"]["NewSignalRecord"];
    let filled = ["id", "latency_ms", "recorded_by", "received_at", "created_at"];
    let columns = SIGNAL_AUDIT_LEDGER.columns.iter();
    let read: Vec<_> = columns.filter(|column| !filled.contains(&column.name)).collect();
    let mut members: Vec<_> = read.iter().map(|column| column.name).collect();
    members.sort_unstable();
    let described: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(described, members);
    // What else a signal must have, an outcome has not.
    assert_eq!(schema["required"], json!(["signal_id", "source_module"]));
    for column in read {
        let property = &schema["properties"][column.name];
        let kind = match column.ty {
            ColumnType::Boolean => "boolean",
            ColumnType::Document => "object",
            _ => "string",
        };
        let is_required = ["signal_id", "source_module"].contains(&column.name);
        let kinds = if is_required { json!(kind) } else { json!([kind, "null"]) };
        assert_eq!(property["type"], kinds, "{}", column.name);
        if let (ColumnType::Text { max_chars: Some(max) }, Some(described)) =
            (column.ty, property.get("maxLength"))
        {
            assert_eq!(described, max, "{}", column.name);
        }
    }
}
