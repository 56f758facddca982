//! Rows as honest senders make them.

use std::net::{IpAddr, Ipv4Addr};

use audit_ledger::chains::quarantined_deliveries::NewQuarantinedDelivery;
use audit_ledger::chains::security_events::{EventType, NewSecurityEvent};
use audit_ledger::chains::signal_audit_ledger::{Direction, ProducedSignal, Record};
use audit_ledger::chains::signals::{NewSignal, Side};
use audit_ledger::chains::{
    ClientChain, IN_LEDGER, Identity, NewRow, ai_debates, order_events, order_execution,
};
use audit_ledger::clock::Clock;
use audit_ledger::keys::{ApiKey, KeyId, Scope};
use audit_ledger::store::Database;
use audit_ledger::store::keys::create_key;
use ledger_verifier::Value;
use secrecy::ExposeSecret;
use uuid::Uuid;

/// The `n`th signal of a source; the same `n` is the same delivery with another correlation id.
pub(crate) fn signal_of(recorded_by: &str, n: u32) -> NewSignal {
    let signal_id = format!("tv-{n:05}");
    let side = if n.is_multiple_of(2) { Side::Buy } else { Side::Sell };
    let raw_payload = format!(
        r#"{{"signal_id":"{signal_id}","symbol":"BTCUSD","side":"{}","price":{}.5,"quantity":0.125}}"#,
        side.name(),
        60_000 + n
    );
    NewSignal {
        correlation_id: Clock::system().new_id(),
        signal_id,
        neighbours: Vec::new(),
        symbol: "BTCUSD".to_owned(),
        side,
        price: (60_000 + i128::from(n)) * 10_000_000_000 + 5_000_000_000,
        quantity: 1_250_000_000,
        raw_payload,
        source_ip: IpAddr::V4(Ipv4Addr::new(52, 89, 214, 238)),
        hmac_verified: true,
        auth_method: "hmac",
        recorded_by: recorded_by.to_owned(),
        received_at: Clock::system().now(),
    }
}

/// The `n`th signal of the usual source.
pub(crate) fn signal(n: u32) -> NewSignal {
    signal_of("tradingview", n)
}

/// The `n`th delivery that could not be read.
pub(crate) fn delivery(n: u32) -> NewQuarantinedDelivery {
    NewQuarantinedDelivery {
        source: "tradingview".to_owned(),
        reason: "malformed_json",
        detail: Some("expected `,` at line 1 column 9".to_owned()),
        body: format!(r#"{{"n":{n} "price":NaN}}"#).into_bytes(),
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        source_ip: IpAddr::V4(Ipv4Addr::new(34, 212, 75, 30)),
        auth_method: "path_token",
        hmac_verified: false,
        duplicate_of: None,
        received_at: Clock::system().now(),
    }
}

/// The `n`th debate, of this signal.
pub(crate) fn debate(n: u32, correlation_id: Uuid) -> NewRow {
    let reasoning = format!(r#"{{"verdict":"take","price":{n}.5,"quantity":0.125}}"#);
    row_of(
        &ai_debates::CLIENT_CHAIN,
        vec![
            Value::Null,
            Value::Uuid(correlation_id.into_bytes()),
            text("deepseek-r1"),
            Value::Document(reasoning.into()),
            Value::Decimal(8_000 + i128::from(n % 1_000)),
            Value::Integer(1_200 + i64::from(n)),
            Value::Boolean(false),
            text("council"),
            Value::Null,
        ],
    )
}

/// The `n`th order, made for this signal: a limit order where `n` is odd, else a market order.
pub(crate) fn order(n: u32, correlation_id: Uuid) -> NewRow {
    let is_limit = !n.is_multiple_of(2);
    let unless_market = |value: Value<'static>| if is_limit { value } else { Value::Null };
    row_of(
        &order_execution::CLIENT_CHAIN,
        vec![
            Value::Null,
            Value::Uuid(correlation_id.into_bytes()),
            text(if is_limit { "LIMIT" } else { "MARKET" }),
            text("BTCUSD"),
            text("BUY"),
            Value::Decimal(1_250_000_000),
            unless_market(Value::Decimal(600_000_000_000_000 + i128::from(n))),
            unless_market(text(format!("x-{n}"))),
            text("SUBMITTED"),
            text("executor"),
            Value::Null,
        ],
    )
}

/// The `n`th event of this order: kill switches, partial fills and refusals in turn.
pub(crate) fn order_event(n: u32, order: i64) -> NewRow {
    let mut values = vec![Value::Null; 11];
    values[1] = Value::Integer(order);
    values[9] = text("executor");
    match n % 3 {
        0 => return kill_switch(n, Some(order)),
        1 => {
            values[2] = text("PARTIAL_FILL");
            values[3] = Value::Decimal(1_000_000);
            values[4] = Value::Decimal(600_000_000_000_000 + i128::from(n));
        }
        _ => {
            values[2] = text("REJECTED");
            values[7] = text("Insufficient “margin”");
            values[8] = text(format!("E-{n}"));
        }
    }
    row_of(&order_events::CLIENT_CHAIN, values)
}

/// The `n`th kill switch: of this order, or of everything.
pub(crate) fn kill_switch(n: u32, order: Option<i64>) -> NewRow {
    let positions =
        format!(r#"{{"symbol":"BTCUSD","price":{n}.5,"quantity":0.125,"pnl":"-10.00"}}"#);
    row_of(
        &order_events::CLIENT_CHAIN,
        vec![
            Value::Null,
            order.map_or(Value::Null, Value::Integer),
            text("KILL_SWITCH"),
            Value::Null,
            Value::Null,
            Value::Decimal(-125_050 - i128::from(n)),
            Value::Document(positions.into()),
            Value::Null,
            Value::Null,
            text("guardian"),
            Value::Null,
        ],
    )
}

/// The `n`th signal of a producer, as it is handed to a sink.
pub(crate) fn produced(n: u32) -> ProducedSignal {
    let direction = if n.is_multiple_of(2) { Direction::Long } else { Direction::Short };
    ProducedSignal {
        signal_type: Some("crossover".to_owned()),
        conviction: 825_000 - i128::from(n % 1_000),
        confidence: Some(9_100),
        price: Some(1_891_200_000_000 + i128::from(n)),
        payload_json: format!(r#"{{"fast":8,"slow":21,"price":{n}.5,"quantity":0.125,"n":{n}}}"#),
        ..ProducedSignal::new("ema", &format!("ema-{n}"), "AAPL", direction, Clock::system().now())
    }
}

/// The `n`th record of a producer: a signal.
pub(crate) fn record(n: u32) -> NewRow {
    Record::Signal(produced(n)).new_row("ema", Clock::system().now()).expect("an honest row")
}

/// The `n`th row of every chain, in the order of the chains, to be appended one after the other:
/// a debate and an order of the signal, and an event of the order with the id `n`.
pub(crate) fn one_of_each(n: u32) -> [NewRow; IN_LEDGER.len()] {
    let signal = signal(n);
    let correlation_id = signal.correlation_id;
    [
        signal.into(),
        debate(n, correlation_id),
        order(n, correlation_id),
        order_event(n, n.into()),
        record(n),
        event(n).into(),
        delivery(n).into(),
    ]
}

fn row_of(to: &ClientChain, values: Vec<Value<'static>>) -> NewRow {
    to.new_row(values, Identity::Unique).expect("an honest row")
}

fn text(text: impl Into<String>) -> Value<'static> {
    Value::Text(text.into().into())
}

/// The `n`th event.
pub(crate) fn event(n: u32) -> NewSecurityEvent {
    NewSecurityEvent {
        event_type: EventType::ServiceStarted,
        actor: "system".to_owned(),
        subject: Some(format!("run {n}")),
        details: serde_json::json!({ "n": n }),
        source_ip: None,
    }
}

/// A new API key: its id, and how its holder sends it.
pub(crate) async fn api_key(owner: &Database, name: &str, scopes: &[Scope]) -> (KeyId, String) {
    let key = ApiKey::random();
    let scopes = scopes.iter().copied().collect();
    create_key(owner, &key, &name.parse().unwrap(), scopes).await.unwrap();
    (key.id(), format!("Bearer {}", key.text().expose_secret()))
}
