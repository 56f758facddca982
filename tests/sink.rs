//! Producers' signals and what became of them, over a real database: by REST, by the Rust sink and
//! by SQL alone; read alike, refused alike, and each recorded once.

mod common;

#[path = "sink/alike.rs"]
mod alike;
#[path = "sink/bodies.rs"]
mod bodies;
#[path = "common/desk.rs"]
mod desk;
#[path = "sink/duplicates.rs"]
mod duplicates;
#[path = "sink/faults.rs"]
mod faults;
#[path = "sink/inserts.rs"]
mod inserts;
#[path = "sink/outcomes.rs"]
mod outcomes;
#[path = "append/proxy.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod proxy;
#[path = "http/server.rs"]
mod server;
#[path = "sink/typed.rs"]
mod typed;
#[path = "sink/values.rs"]
mod values;

use common::bodies::{spelt, with, without};
use desk::Desk;
use serde_json::{Value, json};
use server::Answer;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

const PATH: &str = "/v1/signal_audit_ledger";
const NDJSON: &str = "application/x-ndjson";

impl Desk {
    async fn post(&self, body: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> Answer {
        self.post_to(PATH, body.as_ref(), headers).await
    }

    /// What one record is answered.
    async fn send(&self, record: &Value) -> Answer {
        self.post(record.to_string(), &[]).await
    }

    /// The receipt of one record that must be new.
    async fn record(&self, record: &Value) -> Value {
        let answer = self.send(record).await;
        assert_eq!(
            (answer.status, &answer.body["status"]),
            (201, &json!("recorded")),
            "{answer:?}"
        );
        answer.body["receipt"].clone()
    }

    /// The receipt of one record that must have been there.
    async fn duplicate(&self, record: &Value) -> Value {
        let answer = self.send(record).await;
        assert_eq!(
            (answer.status, &answer.body["status"]),
            (200, &json!("duplicate")),
            "{answer:?}"
        );
        answer.body["receipt"].clone()
    }

    /// The results of several records that are sent as an array.
    async fn results(&self, records: &[String]) -> Vec<Value> {
        let answer = self.post(format!("[{}]", records.join(",")), &[]).await;
        results_of(&answer)
    }

    async fn row(&self, id: &Value) -> Value {
        self.read(&format!("{PATH}/{id}")).await["row"].clone()
    }

    /// The `n`th webhook's correlation id.
    async fn webhook(&self, n: u32) -> String {
        let body = format!(
            r#"{{"signal_id":"w-{n}","symbol":"BTCUSD","side":"BUY","price":"1.5","quantity":"2"}}"#
        );
        let answer = self.server.deliver(body.as_bytes()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["correlation_id"].as_str().unwrap().to_owned()
    }
}

/// The results of an answer to several records, whose counts must be theirs.
fn results_of(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.body["results"].as_array().unwrap().clone();
    for (count, status) in
        [("recorded", "recorded"), ("duplicates", "duplicate"), ("refused", "refused")]
    {
        let counted = results.iter().filter(|result| result["status"] == status).count();
        assert_eq!(answer.body[count], counted, "{status}");
    }
    results
}

/// Status and code of a refusal, and the member at fault.
fn said(answer: &Answer) -> (u16, &str, &str) {
    let text = |name: &str| answer.body[name].as_str().unwrap_or_default();
    (answer.status, text("code"), text("field"))
}

/// The `n`th signal of a producer.
fn signal(n: u32) -> Value {
    json!({
        "signal_id": format!("s-{n}"),
        "source_module": "ema",
        "signal_type": "crossover",
        "ticker": "AAPL",
        "direction": "LONG",
        "conviction": "82.5",
        "confidence": "0.91",
        "price": "189.12",
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "payload_json": {"fast": 8, "slow": 21},
    })
}

/// That the `n`th signal was acted upon.
fn outcome(n: u32) -> Value {
    json!({
        "record_type": "OUTCOME",
        "signal_id": format!("s-{n}"),
        "source_module": "ema",
        "acted_upon": true,
        "execution_id": format!("x-{n}"),
    })
}

/// What `append_signal_audit_ledger()` answers: `recorded` or `duplicate`, and the receipt as the
/// service spells it.
async fn append(app: &mut PgConnection, record: &str) -> Result<(String, Value), sqlx::Error> {
    let sql = "SELECT r.status, pg_catalog.json_build_object(
             'chain', r.chain, 'id', r.id, 'leaf_index', r.leaf_index, 'row_hash', r.row_hash,
             'prev_hash', r.prev_hash, 'created_at', pg_catalog.to_char(
                 pg_catalog.timezone('UTC', r.created_at), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))
         FROM public.append_signal_audit_ledger($1::pg_catalog.text::pg_catalog.jsonb) AS r";
    let answer = sqlx::query(AssertSqlSafe(sql)).bind(record).fetch_one(app).await?;
    Ok((answer.get(0), answer.get(1)))
}
