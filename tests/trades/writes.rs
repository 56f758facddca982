//! What is sent is what is kept: receipts, documents byte for byte, and lines from which anybody
//! computes the hash again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{Desk, bodies, debate, fill, kill_switch, order, spelt, with};

/// The hash of a row as FORMAT.md says, from nothing but its line of JSON.
pub(crate) fn hash_of(line: &Value) -> String {
    let mut canonical = Map::new();
    canonical.insert("v".to_owned(), json!(1));
    for (name, value) in line.as_object().unwrap() {
        let digest = |bytes: Vec<u8>| json!(hex::encode(Sha256::digest(bytes)));
        let text = value.as_str().unwrap_or_default();
        if ["prev_hash", "row_hash", "leaf_index"].contains(&name.as_str()) {
        } else if let Some(document) = name.strip_suffix("_text") {
            let digest = if value.is_null() { Value::Null } else { digest(text.into()) };
            canonical.insert(format!("{document}_sha256"), digest);
        } else if let Some(bytes) = name.strip_suffix("_base64") {
            canonical.insert(format!("{bytes}_sha256"), digest(STANDARD.decode(text).unwrap()));
        } else {
            canonical.insert(name.clone(), value.clone());
        }
    }
    // Names are sorted: serde_json keeps objects in a tree.
    let hashed = format!("{}{}", line["prev_hash"].as_str().unwrap(), Value::from(canonical));
    hex::encode(Sha256::digest(hashed))
}

#[tokio::test]
async fn every_route_answers_with_the_receipt_under_which_the_row_is_read_back() {
    let desk = Desk::open().await;
    let correlation_id = desk.signal(1).await;
    let order_id = desk.record("order_execution", &order(&correlation_id)).await;
    for (chain, body) in bodies(&correlation_id, order_id) {
        let answer = desk.post(chain.name, body.to_string().as_bytes()).await;
        assert_eq!((answer.status, &answer.body["status"]), (201, &json!("recorded")));
        let receipt = &answer.body["receipt"];
        let read = desk.read(&format!("/v1/{}/{}", chain.name, receipt["id"])).await;
        assert_eq!(&read["receipt"], receipt);
        let row = &read["row"];
        for member in ["chain", "id", "leaf_index", "row_hash", "prev_hash", "created_at"] {
            assert_eq!(row[member], receipt[member], "{member}");
        }
        assert_eq!((&row["chain"], &row["recorded_by"]), (&json!(chain.name), &json!("desk")));
        assert_eq!(row["row_hash"], hash_of(row), "{row}");
        for (member, sent) in body.as_object().unwrap() {
            let (kept, expected) = match member.as_str() {
                "reasoning_json" | "positions_closed" => {
                    let text = row[format!("{member}_text")].as_str().unwrap();
                    (serde_json::from_str(text).unwrap(), sent.clone())
                }
                "quantity" => (row[member].clone(), json!("2.0000000000")),
                "price" => (row[member].clone(), json!("64250.5000000000")),
                _ => (row[member].clone(), sent.clone()),
            };
            assert_eq!(kept, expected, "{member}");
        }
    }
    assert_eq!(desk.close().await, 5);
}

#[tokio::test]
async fn every_chain_has_lines_from_which_anybody_computes_the_hash() {
    let desk = Desk::open().await;
    let correlation_id = desk.signal(1).await;
    desk.server.deliver(b"\xff\x00 no JSON").await;
    let order_id = desk.record("order_execution", &order(&correlation_id)).await;
    desk.record("ai_debates", &debate(&correlation_id)).await;
    desk.record("order_events", &kill_switch()).await;
    let odd = with(&fill(order_id), "rejection_reason", "“\u{7f}\u{1f}\n\"\\/\u{1f680}\u{2028}");
    desk.record("order_events", &odd).await;
    let mut lines = 0;
    for chain in audit_ledger::chains::IN_LEDGER {
        let page = desk.read(&format!("/v1/{}", chain.name)).await;
        for line in page["items"].as_array().unwrap() {
            assert_eq!(line["row_hash"], hash_of(line), "{line}");
            lines += 1;
        }
    }
    assert_eq!(lines, 7, "and the key's event");
    assert_eq!(desk.close().await, 6);
}

/// JSON as nobody would write it, and as it must be kept.
const ODD: &str = "{ \"z\":1.50e1,\r\n\t\"a\" : [ ] ,\"é\\u00e9\":\"\\ud83d\\ude80 \\/ “”\",\"A\":-0.0,\
    \"n\":12345678901234567890.1234567890123456789,\"\":null , \"aa\":{\"b\":[1,1.0,1E+0]}}";

#[tokio::test]
async fn a_document_is_kept_byte_for_byte_however_it_comes() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let as_string = serde_json::to_string(ODD).unwrap();
    for document in [ODD, "\"\"", "[]", "0", "-1.50e-1", "true", "\"null\"", "{}", "[null ]"] {
        let string = serde_json::to_string(document).unwrap();
        for member in [
            format!("\"reasoning_json\" :\t{document}\n"),
            format!("\"reasoning_json_text\": {string}"),
            // The member's own name may be spelt oddly, too.
            format!("\"reasoning\\u005fjson\":{document}"),
            format!("\"reasoning_json\":null,\"reasoning_json_text\":{string}"),
        ] {
            let body = format!(
                "\u{20}{{\"is_timeout\":false,\r\n{member}, \"elapsed_ms\" : 0 ,\
                 \"confidence_score\":1.50e-1,\"model_name\":\"phi-4\",\"correlation_id\":\"{}\"}}\n",
                id.to_uppercase()
            );
            let answer = desk.post("ai_debates", body.as_bytes()).await;
            assert_eq!(answer.status, 201, "{body}: {answer:?}");
            let path = format!("/v1/ai_debates/{}", answer.body["receipt"]["id"]);
            let row = &desk.read(&path).await["row"];
            assert_eq!(row["reasoning_json_text"], document);
            assert_eq!(
                (&row["correlation_id"], &row["confidence_score"]),
                (&json!(id), &json!("0.1500"))
            );
        }
    }
    // Of an event it may be missing, null, or there.
    for (member, kept) in [
        ("\"positions_closed\":null".to_owned(), Value::Null),
        ("\"positions_closed_text\":null".to_owned(), Value::Null),
        ("\"zar_equity\":null".to_owned(), Value::Null),
        (format!("\"positions_closed_text\":{as_string}"), json!(ODD)),
        (format!("\"positions_closed\":{ODD}"), json!(ODD)),
    ] {
        let order_id = desk.record("order_execution", &order(&id)).await;
        let body =
            format!("{{\"order_execution_id\":{order_id},\"event_type\":\"EXPIRED\",{member}}}");
        let answer = desk.post("order_events", body.as_bytes()).await;
        assert_eq!(answer.status, 201, "{body}: {answer:?}");
        let path = format!("/v1/order_events/{}", answer.body["receipt"]["id"]);
        assert_eq!(desk.read(&path).await["row"]["positions_closed_text"], kept);
    }
    assert_eq!(desk.close().await, 1 + 9 * 4 + 5 * 2);
}

/// Sends a row with a member as it is spelt here, and returns what is kept of it.
async fn kept_of(desk: &Desk, chain: &str, body: &Value, member: &str, sent: &str) -> Value {
    let body = spelt(body, member, sent);
    let answer = desk.post(chain, body.as_bytes()).await;
    assert_eq!(answer.status, 201, "{body}: {answer:?}");
    let path = format!("/v1/{chain}/{}", answer.body["receipt"]["id"]);
    desk.read(&path).await["row"][member].clone()
}

#[tokio::test]
async fn numbers_and_texts_up_to_their_bounds_are_kept_exactly() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let long = format!("\"{}\"", "é".repeat(20));
    let pairs = format!("\"{}\"", "\\ud83d\\ude80".repeat(20));
    for (member, sent, kept) in [
        ("quantity", "1", "1.0000000000"),
        ("quantity", "\"1\"", "1.0000000000"),
        ("quantity", "1e-10", "0.0000000001"),
        ("quantity", "0.00000000010", "0.0000000001"),
        ("quantity", "999999999999999999.9999999999", "999999999999999999.9999999999"),
        ("quantity", "\"999999999999999999.9999999999\"", "999999999999999999.9999999999"),
        ("price", "1.50E+17", "150000000000000000.0000000000"),
        ("price", "9.007199254740993e15", "9007199254740993.0000000000"),
        ("symbol", &long, &"é".repeat(20)),
        ("symbol", &pairs, &"\u{1f680}".repeat(20)),
        ("exchange_order_id", "\" \"", " "),
    ] {
        let found = kept_of(&desk, "order_execution", &order(&id), member, sent).await;
        assert_eq!(found, kept, "{member}: {sent}");
    }
    for (member, sent, kept) in [
        ("confidence_score", "-0", json!("0.0000")),
        ("confidence_score", "-0.0e5", json!("0.0000")),
        ("confidence_score", "\"0e999999999999\"", json!("0.0000")),
        ("confidence_score", "1", json!("1.0000")),
        ("confidence_score", "1000e-3", json!("1.0000")),
        ("confidence_score", "0.81250000000000000000000000000", json!("0.8125")),
        ("elapsed_ms", "2147483647", json!(2_147_483_647)),
        ("elapsed_ms", "-0", json!(0)),
    ] {
        let found = kept_of(&desk, "ai_debates", &debate(&id), member, sent).await;
        assert_eq!(found, kept, "{member}: {sent}");
    }
    let equity = "-99999999999999999999999999.99";
    let found = kept_of(&desk, "order_events", &kill_switch(), "zar_equity", equity).await;
    assert_eq!(found, equity);
    assert_eq!(desk.close().await, 1 + 11 + 8 + 1);
}
