//! Files: the same rows as a list with the same filter, in every format.

use std::io::Read;

use audit_ledger::chains::IN_LEDGER;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ledger_verifier::{ColumnType, RowHash, Value as Cell, row_hash};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Desk, json_lines, mixed};

const FILTERS: [(&str, &str); 6] = [
    ("signal_audit_ledger", ""),
    ("signal_audit_ledger", "&source_module=ema&min_conviction=20"),
    ("signal_audit_ledger", "&ticker=%3D1%2B1&record_type=SIGNAL"),
    ("signal_audit_ledger", "&from_id=10&to_id=31&acted_upon=false"),
    ("order_events", "&event_type=KILL_SWITCH"),
    ("quarantined_deliveries", ""),
];

/// The value of a column that a line of JSON has.
fn cell(column: &ledger_verifier::Column, row: &Value) -> Cell<'static> {
    let name = match column.ty {
        ColumnType::Document => format!("{}_text", column.name),
        ColumnType::Bytes => format!("{}_base64", column.name),
        _ => column.name.to_owned(),
    };
    let value = &row[&name];
    if value.is_null() {
        return Cell::Null;
    }
    let text = || value.as_str().unwrap().to_owned();
    match column.ty {
        ColumnType::BigInt | ColumnType::Integer => Cell::Integer(value.as_i64().unwrap()),
        ColumnType::Boolean => Cell::Boolean(value.as_bool().unwrap()),
        // The ledger's own spelling has every digit of the scale.
        ColumnType::Numeric { .. } => Cell::Decimal(text().replace('.', "").parse().unwrap()),
        ColumnType::Text { .. } => Cell::Text(text().into()),
        ColumnType::Document => Cell::Document(text().into()),
        ColumnType::Uuid => Cell::Uuid(text().parse::<uuid::Uuid>().unwrap().into_bytes()),
        ColumnType::Inet => Cell::Inet(text().parse().unwrap()),
        ColumnType::Timestamp => {
            let time = chrono::DateTime::parse_from_rfc3339(&text()).unwrap();
            Cell::Timestamp(time.timestamp_micros())
        }
        ColumnType::Bytes => Cell::Bytes(STANDARD.decode(text()).unwrap().into()),
    }
}

#[tokio::test]
async fn an_export_has_the_rows_of_the_list_and_each_line_proves_its_hash() {
    let desk = Desk::open().await;
    desk.append(mixed(1, 60)).await;
    for (chain, filter) in FILTERS {
        let listed = desk.listed(chain, filter).await;
        assert!(!listed.is_empty(), "{chain} {filter}");
        let path = format!("/v1/export/{chain}?format=ndjson{filter}");
        let answer = desk.get(&path).send().await.unwrap();
        assert_eq!(answer.headers()["x-total-rows"], listed.len().to_string());
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        let name = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
        assert!(name.starts_with(&format!("attachment; filename=\"{chain}-")), "{name}");
        let exported = json_lines(&answer.text().await.unwrap());
        assert_eq!(exported, listed, "{chain} {filter}");
        let as_array = desk.text(&format!("/v1/export/{chain}?format=json{filter}")).await;
        assert_eq!(serde_json::from_str::<Vec<Value>>(&as_array).unwrap(), listed);
        for row in &exported {
            let chain = IN_LEDGER.into_iter().find(|found| found.name == chain).unwrap();
            let cells: Vec<_> = chain.columns.iter().map(|column| cell(column, row)).collect();
            let prev_hash = RowHash::from_hex(row["prev_hash"].as_str().unwrap().as_bytes());
            let hash = row_hash(chain, prev_hash.unwrap(), &cells).unwrap();
            assert_eq!(row["row_hash"], hash.to_string(), "{row}");
        }
    }
    let nothing = desk.text("/v1/export/signals?format=json&symbol=none").await;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&nothing).unwrap(), Vec::<Value>::new());
    assert_eq!(desk.text("/v1/export/signals?symbol=none").await, "");
    desk.close().await;
}

/// What a cell of CSV stands for: another reader's view, with the `'` taken off again where this
/// service would have put one.
fn undone(cell: &str, is_text: bool) -> String {
    let is_escaped = |rest: &str| rest.starts_with(['=', '+', '-', '@', '\t', '\r']);
    match cell.strip_prefix('\'').filter(|rest| is_text && is_escaped(rest)) {
        Some(rest) => rest.to_owned(),
        None => cell.to_owned(),
    }
}

#[tokio::test]
async fn csv_is_read_by_others_and_runs_no_formula() {
    let desk = Desk::open().await;
    desk.append(mixed(1, 60)).await;
    for (chain, filter) in FILTERS {
        let listed = desk.listed(chain, filter).await;
        let text = desk.text(&format!("/v1/export/{chain}?format=csv{filter}")).await;
        assert!(text.ends_with("\r\n"));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), listed.len());
        let mut escaped = 0;
        for (row, listed) in rows.iter().zip(&listed) {
            for (name, cell) in names.iter().zip(row) {
                let value = &listed[name];
                let is_text = matches!(value, Value::String(text) if text.parse::<f64>().is_err());
                assert!(!is_text || !cell.starts_with(['=', '+', '-', '@']), "{name}: {cell}");
                let expected = match value {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                escaped += usize::from(cell != expected);
                assert_eq!(undone(cell, is_text), expected, "{name}");
            }
        }
        let has_formulas = filter.is_empty() && chain == "signal_audit_ledger";
        assert!(!has_formulas || escaped > 20, "{escaped} cells were escaped");
    }
    let prices = desk.text("/v1/export/signal_audit_ledger?format=csv&from_id=3&to_id=3").await;
    assert!(prices.contains(",-123.4500000"), "a number stays a number: {prices}");
    desk.close().await;
}

#[tokio::test]
async fn every_export_is_on_record_with_the_hash_of_the_file() {
    let desk = Desk::open().await;
    desk.append(mixed(1, 20)).await;
    let file = desk.text("/v1/export/signal_audit_ledger?format=csv&source_module=ema").await;
    let events = desk.listed("security_events", "&actor=desk").await;
    let [started, completed] = &events[..] else { panic!("{events:?}") };
    assert_eq!(started["event_type"], "EXPORT_STARTED");
    assert_eq!(completed["event_type"], "EXPORT_COMPLETED");
    for event in [started, completed] {
        assert_eq!(
            (&event["subject"], &event["source_ip"]),
            (&"signal_audit_ledger".into(), &"127.0.0.1".into())
        );
    }
    let details: Value = serde_json::from_str(completed["details_text"].as_str().unwrap()).unwrap();
    assert_eq!(details["filter"], serde_json::json!({ "source_module": "ema" }));
    assert_eq!(details["format"], "csv");
    assert_eq!(details["rows"], csv::Reader::from_reader(file.as_bytes()).records().count());
    assert_eq!(details["bytes"], file.len());
    assert_eq!(details["sha256"], hex::encode(Sha256::digest(&file)));
    desk.close().await;
}

#[tokio::test]
async fn a_file_is_compressed_where_that_is_asked_for() {
    let desk = Desk::open().await;
    desk.append(mixed(1, 40)).await;
    let path = "/v1/export/signal_audit_ledger?format=ndjson";
    let plain = desk.text(path).await;
    for encoding in ["gzip", "zstd"] {
        let answer = desk.get(path).header("Accept-Encoding", encoding).send().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], encoding);
        let bytes = answer.bytes().await.unwrap();
        assert!(bytes.len() < plain.len() / 2, "{}", bytes.len());
        let mut text = String::new();
        if encoding == "gzip" {
            flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
        } else {
            text = String::from_utf8(zstd::decode_all(&*bytes).unwrap()).unwrap();
        }
        assert_eq!(text, plain);
    }
    desk.close().await;
}

#[tokio::test]
async fn what_cannot_be_exported_is_refused_before_anything_is_recorded() {
    let desk = Desk::open().await;
    for (path, status, code, field) in [
        ("/v1/export/nothing", 404, "NTF-001", None),
        ("/v1/export/signals?format=xlsx", 400, "VAL-003", Some("format")),
        ("/v1/export/signals?ticker=AAPL", 400, "VAL-003", Some("ticker")),
        ("/v1/export/signals?limit=5", 400, "VAL-003", Some("limit")),
        ("/v1/export/signals?from=now", 400, "VAL-003", Some("from")),
    ] {
        let answer = desk.get(path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!((problem["code"].as_str(), problem["field"].as_str()), (Some(code), field));
    }
    assert!(desk.listed("security_events", "&actor=desk").await.is_empty());
    desk.close().await;
}
