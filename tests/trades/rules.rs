//! Every rule of a row: what breaks it is refused by its code, with the member's name, and leaves
//! nothing behind.

use audit_ledger::chains::WRITTEN_BY_CLIENTS;
use ledger_verifier::ColumnType;
use serde_json::{Value, json};

use crate::{Desk, WRITTEN, bodies, debate, fill, kill_switch, order, spelt, with, without};

const INVALID: (u16, &str) = (422, "VAL-002");
const UNREADABLE: (u16, &str) = (400, "VAL-001");
const LOSES_DIGITS: (u16, &str) = (422, "AUD-001");

/// A body, the code that it must be refused by, the member at fault, and what is said of it.
type Fault = (String, (u16, &'static str), &'static str, String);

async fn assert_refused(desk: &Desk, chain: &str, faults: Vec<Fault>) {
    for (body, (status, code), field, rule) in faults {
        let answer = desk.post(chain, body.as_bytes()).await;
        let said = (answer.status, &answer.body["code"], &answer.body["field"]);
        assert_eq!(said, (status, &json!(code), &json!(field)), "{body}: {answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert_eq!(detail, format!("{field} {rule}"), "{body}");
    }
}

/// What is not of the kind that a column of this type takes, and what is said of it.
fn of_other_kinds(ty: ColumnType) -> Vec<(&'static str, &'static str)> {
    let (kinds, rule): (&[_], _) = match ty {
        ColumnType::Boolean => (&["0", "1", "\"true\"", "[]", "{}"], "is not true or false"),
        ColumnType::BigInt | ColumnType::Integer => (
            &[
                "\"1\"",
                "true",
                "1.0",
                "1e0",
                "-0.5",
                "[]",
                "{\"a\":1}",
                "9007199254740992",
                "-9007199254740992",
                "99999999999999999999999",
            ],
            "is not a whole number that its column can hold",
        ),
        ColumnType::Numeric { .. } => (
            &[
                "true",
                "[]",
                "{}",
                "\"\"",
                "\" 1\"",
                "\"1 \"",
                "\"+1\"",
                "\"01\"",
                "\".5\"",
                "\"1.\"",
                "\"0x1\"",
                "\"NaN\"",
                "\"Infinity\"",
                "\"1e\"",
                "\"1,5\"",
                "\"1_000\"",
                "\"١\"",
            ],
            "is not a JSON number",
        ),
        ColumnType::Text { .. } => (&["1", "true", "[]", "{}", "[\"BUY\"]"], "is not a string"),
        ColumnType::Uuid => (
            &[
                "\"\"",
                "\"nonsense\"",
                "\"01939f3e7a0070008000000000000001\"",
                "\"{01939f3e-7a00-7000-8000-000000000001}\"",
                "\"urn:uuid:01939f3e-7a00-7000-8000-000000000001\"",
                "\"01939f3e-7a00-7000-8000-00000000000g\"",
                "\" 1939f3e-7a00-7000-8000-000000000001\"",
                "\"01939f3e-7a00-7000-8000-0000000000012\"",
            ],
            "is not a UUID",
        ),
        // Any JSON will do.
        ColumnType::Document => (&[], ""),
        ColumnType::Inet | ColumnType::Timestamp | ColumnType::Bytes => unreachable!(),
    };
    kinds.iter().map(|kind| (*kind, rule)).collect()
}

/// What every chain refuses, column by column.
fn faults_of(chain: &ledger_verifier::Chain, good: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    for column in chain.columns {
        let name = column.name;
        if ["id", "recorded_by", "created_at"].contains(&name) {
            let rule = format!("is not a member that {} takes", chain.name);
            faults.push((spelt(good, name, "1"), INVALID, name, rule.clone()));
            faults.push((spelt(good, name, "null"), INVALID, name, rule));
            continue;
        }
        if !column.nullable {
            let missing = "is missing".to_owned();
            faults.push((without(good, name).to_string(), INVALID, name, missing.clone()));
            faults.push((spelt(good, name, "null"), INVALID, name, missing));
        }
        for (other, rule) in of_other_kinds(column.ty) {
            faults.push((spelt(good, name, other), INVALID, name, rule.to_owned()));
        }
        if let ColumnType::Text { max_chars } = column.ty {
            faults.push((spelt(good, name, "\"\""), INVALID, name, "is empty".to_owned()));
            if let Some(max_chars) = max_chars {
                let long = format!("\"{}\"", "é".repeat(usize::from(max_chars) + 1));
                let rule = format!("has more than {max_chars} characters");
                faults.push((spelt(good, name, &long), INVALID, name, rule));
            }
        }
        if let ColumnType::Numeric { precision, scale } = column.ty {
            let before = precision - scale;
            let rule = format!(
                "has more digits than the ledger keeps exactly ({before} before the point, {scale} \
                 after)"
            );
            for literal in [
                format!("0.{}1", "0".repeat(usize::from(scale))),
                format!("1{}", "0".repeat(usize::from(before))),
                format!("-1{}", "0".repeat(usize::from(before))),
                format!("1e{before}"),
                format!("1E-{}", scale + 1),
                format!("1.5e-{scale}"),
                "1e400".to_owned(),
                "1e-400".to_owned(),
            ] {
                let string = format!("\"{literal}\"");
                faults.push((spelt(good, name, &literal), LOSES_DIGITS, name, rule.clone()));
                faults.push((spelt(good, name, &string), LOSES_DIGITS, name, rule.clone()));
            }
            for huge in ["\"1e999999999999\"", "\"1e-99999\"", "\"-1e-20000\""] {
                faults.push((spelt(good, name, huge), LOSES_DIGITS, name, rule.clone()));
            }
        }
        if column.ty == ColumnType::Document {
            faults.extend(faults_of_document(good, name));
        }
    }
    for unknown in ["nonsense", "Symbol", "correlation-id", "chain", "row_hash", "v", ""] {
        let rule = format!("is not a member that {} takes", chain.name);
        faults.push((spelt(good, unknown, "null"), INVALID, unknown, rule));
    }
    faults
}

fn faults_of_document(good: &Value, name: &'static str) -> Vec<Fault> {
    let as_text: &'static str = match name {
        "reasoning_json" => "reasoning_json_text",
        _ => "positions_closed_text",
    };
    let absent = without(good, name);
    let mut faults = vec![
        (spelt(good, as_text, "\"1\""), INVALID, name, format!("and {as_text} are both there")),
        (spelt(&absent, as_text, "{}"), INVALID, as_text, "is not a string".to_owned()),
    ];
    for (text, why) in [
        ("{", "EOF while parsing an object at byte 1"),
        ("", "EOF while parsing a value at byte 0"),
        ("{} {}", "trailing characters at byte 3"),
        ("1e999999", "a number has more digits than PostgreSQL can hold"),
        (r#"{"a":1,"a":1}"#, "a stands twice in one object"),
        (r#""\u0000""#, "a string holds U+0000, which PostgreSQL cannot store"),
        (r#""\ud800""#, "a string holds half of a surrogate pair at byte 7"),
    ] {
        let body = with(&absent, as_text, text).to_string();
        faults.push((body, INVALID, as_text, format!("is not a JSON text: {why}")));
    }
    faults
}

#[tokio::test]
async fn every_member_of_every_chain_is_held_to_its_column() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let order_id = desk.record("order_execution", &order(&id)).await;
    let mut refused = 0;
    for (chain, good) in bodies(&id, order_id) {
        let mut faults = faults_of(chain, &good);
        if chain.name == "order_events" {
            // What a kill switch has not.
            faults.retain(|(.., field, _)| !field.starts_with("fill_"));
            faults.extend(
                faults_of(chain, &with(&fill(order_id), "positions_closed", json!([])))
                    .into_iter()
                    .filter(|(.., field, _)| field.starts_with("fill_")),
            );
        }
        refused += faults.len();
        assert_refused(&desk, chain.name, faults).await;
        desk.record(chain.name, &good).await;
    }
    assert!(refused > 250, "{refused}");
    assert_eq!(desk.close().await, 2 + 3);
}

const POSITIVE: &str = "is not above 0";

#[tokio::test]
async fn every_rule_of_debates_and_orders_is_told_in_the_senders_words() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let market = with(&without(&order(&id), "price"), "order_type", "MARKET");
    let (debate, order) = (debate(&id), order(&id));
    let types = "is none of MARKET, LIMIT, STOP, STOP_LIMIT";
    let statuses = "is none of PENDING, SUBMITTED, FILLED, PARTIAL, REJECTED, CANCELLED";
    let for_type = "belongs to every order but a MARKET order, which has none";
    let confidence = "is not from 0 to 1";
    for (body, field, rule) in [
        (spelt(&debate, "confidence_score", "1.0001"), "confidence_score", confidence),
        (spelt(&debate, "confidence_score", "-0.0001"), "confidence_score", confidence),
        (spelt(&debate, "elapsed_ms", "-1"), "elapsed_ms", "is below 0"),
    ] {
        assert_refused(&desk, "ai_debates", vec![(body, INVALID, field, rule.to_owned())]).await;
    }
    for (body, field, rule) in [
        (with(&order, "order_type", "market").to_string(), "order_type", types),
        (with(&order, "side", "LONG").to_string(), "side", "is none of BUY, SELL"),
        (with(&order, "status", "EXPIRED").to_string(), "status", statuses),
        (spelt(&order, "quantity", "0"), "quantity", POSITIVE),
        (spelt(&order, "quantity", "-1"), "quantity", POSITIVE),
        (spelt(&order, "price", "0.0"), "price", POSITIVE),
        (spelt(&order, "price", "-1"), "price", POSITIVE),
        (without(&order, "price").to_string(), "price", for_type),
        (spelt(&market, "price", "1"), "price", for_type),
    ] {
        let fault = (body, INVALID, field, rule.to_owned());
        assert_refused(&desk, "order_execution", vec![fault]).await;
    }
    desk.record("order_execution", &market).await;
    assert_eq!(desk.close().await, 1 + 1);
}

#[tokio::test]
async fn every_rule_of_events_is_told_in_the_senders_words() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let order_id = desk.record("order_execution", &order(&id)).await;
    let (fill, kill) = (fill(order_id), kill_switch());
    let event = |kind: &str| json!({ "order_execution_id": order_id, "event_type": kind });
    let types = "is none of FILL, PARTIAL_FILL, REJECTED, CANCELLED, KILL_SWITCH, EXPIRED";
    let fills = "and fill_price belong to FILL and PARTIAL_FILL, and to nothing else";
    let of_kill_switch = "is missing: a KILL_SWITCH has it";
    let missing = "is missing: only a KILL_SWITCH that stops everything has none";
    for (body, field, rule) in [
        (event("FILLED").to_string(), "event_type", types),
        (without(&fill, "order_execution_id").to_string(), "order_execution_id", missing),
        (without(&fill, "fill_price").to_string(), "fill_quantity", fills),
        (without(&fill, "fill_quantity").to_string(), "fill_quantity", fills),
        (with(&event("CANCELLED"), "fill_price", "1").to_string(), "fill_quantity", fills),
        (spelt(&fill, "fill_quantity", "0"), "fill_quantity", POSITIVE),
        (spelt(&fill, "fill_price", "-1"), "fill_price", POSITIVE),
        (without(&kill, "zar_equity").to_string(), "zar_equity", of_kill_switch),
        (without(&kill, "positions_closed").to_string(), "positions_closed", of_kill_switch),
    ] {
        assert_refused(&desk, "order_events", vec![(body, INVALID, field, rule.to_owned())]).await;
    }
    for kind in ["REJECTED", "CANCELLED", "EXPIRED"] {
        desk.record("order_events", &event(kind)).await;
    }
    desk.record("order_events", &with(&kill, "order_execution_id", order_id)).await;
    assert_eq!(desk.close().await, 2 + 4);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_told_so() {
    let desk = Desk::open().await;
    let id = desk.signal(1).await;
    let good = debate(&id).to_string();
    let twice = good.replace("{\"confidence", "{\"is_timeout\":false,\"confidence");
    let nested = spelt(&debate(&id), "reasoning_json", &("[".repeat(200) + &"]".repeat(200)));
    let mut not_utf8 = good.clone().into_bytes();
    let at = good.find("deepseek").unwrap();
    not_utf8[at] = 0xff;
    for chain in WRITTEN {
        for body in [
            b"".as_slice(),
            b" ",
            b"nonsense",
            b"null",
            b"5",
            b"\"text\"",
            b"[]",
            format!("[{good}]").as_bytes(),
            format!("{good}{good}").as_bytes(),
            &good.as_bytes()[1..],
            &good.as_bytes()[..good.len() - 1],
            &not_utf8,
            nested.as_bytes(),
            "\u{feff}{}".as_bytes(),
        ] {
            let answer = desk.post(chain.name, body).await;
            let said = (answer.status, &answer.body["code"]);
            assert_eq!(said, (UNREADABLE.0, &json!(UNREADABLE.1)), "{body:?} {answer:?}");
        }
        let answer = desk.post(chain.name, twice.as_bytes()).await;
        let said = (answer.status, &answer.body["code"], &answer.body["field"]);
        assert_eq!(said, (400, &json!("VAL-001"), &json!("is_timeout")));
        // It can be read, and not stored.
        for json in [r#""\u0000""#, r#""\ud800""#, "1e999999", "0e999999999999"] {
            let body = spelt(&debate(&id), "reasoning_json", json);
            let answer = desk.post(chain.name, body.as_bytes()).await;
            let said = (answer.status, &answer.body["code"]);
            assert_eq!(said, (INVALID.0, &json!(INVALID.1)), "{json}: {answer:?}");
        }
        let large = vec![b' '; (256 << 10) + 1];
        let answer = desk.post(chain.name, &large).await;
        assert_eq!((answer.status, &answer.body["code"]), (413, &json!("LIM-001")));
    }
    // The content type does not matter.
    let as_text = [("Content-Type", "text/plain")];
    assert_eq!(desk.post_with("ai_debates", good.as_bytes(), &as_text).await.status, 201);
    assert_eq!(desk.close().await, 2);
}

#[test]
fn the_description_of_the_api_has_the_members_that_are_read() {
    let api: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    for (written, schema) in
        WRITTEN_BY_CLIENTS.iter().zip(["NewAiDebate", "NewOrder", "NewOrderEvent"])
    {
        let chain = written.chain;
        let path = format!("/v1/{}", chain.name);
        let body = &api["paths"][path]["post"]["requestBody"]["content"]["application/json"];
        assert_eq!(body["schema"]["$ref"], format!("#/components/schemas/{schema}"));
        let schema = &api["components"]["schemas"][schema];
        let read = || {
            chain
                .columns
                .iter()
                .filter(|column| !["id", "recorded_by", "created_at"].contains(&column.name))
        };
        let mut members: Vec<_> = read().map(|column| column.name).collect();
        members.sort_unstable();
        let described: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(described, members);
        let required: Vec<_> =
            read().filter(|column| !column.nullable).map(|column| column.name).collect();
        let described = schema["required"].as_array().cloned().unwrap_or_default();
        assert_eq!(described, required);
        for column in read() {
            let property = &schema["properties"][column.name];
            let kind = match column.ty {
                ColumnType::Boolean => "boolean",
                ColumnType::BigInt | ColumnType::Integer => "integer",
                ColumnType::Document => "object",
                _ => "string",
            };
            let kinds = if column.nullable { json!([kind, "null"]) } else { json!(kind) };
            assert_eq!(property["type"], kinds, "{}", column.name);
            if let ColumnType::Text { max_chars: Some(max_chars) } = column.ty
                && !property["maxLength"].is_null()
            {
                assert_eq!(property["maxLength"], max_chars, "{}", column.name);
            }
        }
    }
}
