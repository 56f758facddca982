//! Rows of `signals`.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_verifier::Value;
use ledger_verifier::chain::SIGNALS;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Identity, NewRow, text, timestamp};

/// How long the same bytes without an id are one signal.
pub const SAME_BYTES: TimeDelta = TimeDelta::seconds(60);

/// Which way a signal trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Buy, or go long.
    Buy,
    /// Sell, or go short.
    Sell,
}

impl Side {
    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buy => "BUY",
            Self::Sell => "SELL",
        }
    }
}

/// A verified webhook that became a signal.
#[derive(Clone, Debug)]
pub struct NewSignal {
    /// Anchor of the trade's story.
    pub correlation_id: Uuid,
    /// The idempotency key.
    pub signal_id: String,
    /// Other keys that the same delivery would have had, received within [`SAME_BYTES`] of this.
    pub neighbours: Vec<String>,
    /// What is traded.
    pub symbol: String,
    /// Which way.
    pub side: Side,
    /// Price, in units of 10^-10.
    pub price: i128,
    /// Quantity, in units of 10^-10.
    pub quantity: i128,
    /// The exact body.
    pub raw_payload: String,
    /// The client's address.
    pub source_ip: IpAddr,
    /// Whether an HMAC over the body was checked.
    pub hmac_verified: bool,
    /// How the delivery was authenticated.
    pub auth_method: &'static str,
    /// The source's or key's name.
    pub recorded_by: String,
    /// When the service had it.
    pub received_at: DateTime<Utc>,
}

impl From<NewSignal> for NewRow {
    fn from(signal: NewSignal) -> Self {
        let identity = Identity::Signal {
            recorded_by: signal.recorded_by.clone(),
            signal_id: signal.signal_id.clone(),
            neighbours: signal.neighbours,
            received_at: signal.received_at,
            content: Sha256::digest(&signal.raw_payload).into(),
        };
        let values = vec![
            Value::Null,
            Value::Uuid(signal.correlation_id.into_bytes()),
            text(signal.signal_id),
            text(signal.symbol),
            text(signal.side.name()),
            Value::Decimal(signal.price),
            Value::Decimal(signal.quantity),
            Value::Document(signal.raw_payload.into()),
            Value::Inet(signal.source_ip),
            Value::Boolean(signal.hmac_verified),
            text(signal.auth_method),
            text(signal.recorded_by),
            timestamp(signal.received_at),
            Value::Null,
        ];
        Self { chain: &SIGNALS, values, identity, reference: None }
    }
}
