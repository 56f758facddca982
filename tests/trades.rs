//! Debates, orders and their events over a real database: written and read over HTTP with API
//! keys, appended by SQL alone, refused alike by both, and told as the story of a trade.

mod common;

#[path = "trades/appended.rs"]
mod appended;
#[path = "trades/bounds.rs"]
mod bounds;
#[path = "trades/constraints.rs"]
mod constraints;
#[path = "common/desk.rs"]
mod desk;
#[path = "trades/idempotency.rs"]
mod idempotency;
#[path = "trades/reads.rs"]
mod reads;
#[path = "trades/references.rs"]
mod references;
#[path = "trades/rules.rs"]
mod rules;
#[path = "http/server.rs"]
mod server;
#[path = "trades/views.rs"]
mod views;
#[path = "trades/writes.rs"]
mod writes;

use common::bodies::{spelt, with, without};
use desk::Desk;
use ledger_verifier::Chain;
use ledger_verifier::chain::{AI_DEBATES, ORDER_EVENTS, ORDER_EXECUTION};
use serde_json::{Value, json};
use server::Answer;

/// The chains that clients write.
static WRITTEN: [&Chain; 3] = [&AI_DEBATES, &ORDER_EXECUTION, &ORDER_EVENTS];

impl Desk {
    /// The `n`th signal's correlation id; the signal comes as a webhook.
    async fn signal(&self, n: u32) -> String {
        let body = format!(
            r#"{{"signal_id":"s-{n}","symbol":"BTCUSD","side":"BUY","price":"{n}.5","quantity":"2"}}"#
        );
        let answer = self.server.deliver(body.as_bytes()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["correlation_id"].as_str().unwrap().to_owned()
    }

    async fn post(&self, chain: &str, body: &[u8]) -> Answer {
        self.post_with(chain, body, &[]).await
    }

    async fn post_with(&self, chain: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        self.post_to(&format!("/v1/{chain}"), body, headers).await
    }

    /// The id of a row that must be recorded.
    async fn record(&self, chain: &str, body: &Value) -> i64 {
        let answer = self.post(chain, body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 201, "{body}: {answer:?}");
        answer.body["receipt"]["id"].as_i64().unwrap()
    }
}

fn debate(correlation_id: &str) -> Value {
    json!({
        "correlation_id": correlation_id,
        "model_name": "deepseek-r1",
        "reasoning_json": {"verdict": "take"},
        "confidence_score": "0.8125",
        "elapsed_ms": 1830,
        "is_timeout": false,
    })
}

fn order(correlation_id: &str) -> Value {
    json!({
        "correlation_id": correlation_id,
        "order_type": "LIMIT",
        "symbol": "BTCUSD",
        "side": "BUY",
        "quantity": "2",
        "price": "64250.5",
        "exchange_order_id": "x-1",
        "status": "SUBMITTED",
    })
}

fn fill(order: i64) -> Value {
    json!({
        "order_execution_id": order,
        "event_type": "FILL",
        "fill_quantity": "2",
        "fill_price": "64250.5",
    })
}

/// One that stops everything.
fn kill_switch() -> Value {
    json!({
        "event_type": "KILL_SWITCH",
        "zar_equity": "-1250.50",
        "positions_closed": [{"symbol": "BTCUSD", "quantity": "0.1"}],
    })
}

/// The `n`th signal of a producer.
fn produced(n: u32) -> Value {
    json!({
        "signal_id": format!("ema-{n}"),
        "source_module": "ema",
        "signal_type": "a \\ crossover",
        "ticker": "AAPL",
        "direction": "bullish",
        "conviction": "82.5",
        "confidence": 0.91,
        "price": "-189.12",
        "timestamp": "2026-01-02T05:04:05.678901+02:00",
        "payload_json": {"fast": 8, "path": "C:\\new\\x41"},
    })
}

/// A body of each chain that clients write, of these rows; every member is there that can be.
fn bodies(correlation_id: &str, order_id: i64) -> [(&'static Chain, Value); 3] {
    let mut event = kill_switch();
    event["order_execution_id"] = order_id.into();
    event["rejection_reason"] = "drawdown".into();
    event["exchange_error_code"] = "E-1".into();
    [
        (&AI_DEBATES, debate(correlation_id)),
        (&ORDER_EXECUTION, order(correlation_id)),
        (&ORDER_EVENTS, event),
    ]
}
