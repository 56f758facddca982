//! Rows as honest senders make them.

use std::net::{IpAddr, Ipv4Addr};

use audit_ledger::chains::quarantined_deliveries::NewQuarantinedDelivery;
use audit_ledger::chains::security_events::{EventType, NewSecurityEvent};
use audit_ledger::chains::signals::{NewSignal, Side};
use audit_ledger::clock::Clock;
use audit_ledger::keys::{ApiKey, KeyId, Scope};
use audit_ledger::store::Database;
use audit_ledger::store::keys::create_key;
use secrecy::ExposeSecret;

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
