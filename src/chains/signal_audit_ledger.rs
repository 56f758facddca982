//! Rows of `signal_audit_ledger`: every signal of every producer, and what became of it.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use ledger_verifier::Value;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Identity, NewRow, is_none_of, is_oversized, names_signal, optional_text, text, timestamp,
};

/// The constraint's name for an outcome without its signal. No foreign key can say it.
pub(crate) const OUTCOME_OF_SIGNAL: &str = "signal_audit_ledger_outcome_of_signal";
/// What a producer says who has nothing more to say.
pub(crate) const NO_PAYLOAD: &str = "{}";
/// Conviction has four digits after the point, and confidence, too.
const ONE: i128 = 10_000;
const MAX_CONVICTION: i128 = 100 * ONE;
/// Either way; `ledger_read_row()` in SQL takes the least integer for too large.
const MAX_LATENCY_MS: i64 = i32::MAX as i64;

pub(crate) const RECORD_TYPES: [&str; 2] = ["SIGNAL", "OUTCOME"];
pub(crate) const DIRECTIONS: [&str; 3] = ["LONG", "SHORT", "NEUTRAL"];

/// Which way a signal points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Up.
    Long,
    /// Down.
    Short,
    /// Neither.
    Neutral,
}

impl Direction {
    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Long => "LONG",
            Self::Short => "SHORT",
            Self::Neutral => "NEUTRAL",
        }
    }

    /// What a producer calls it, in any case; `ledger_direction()` in SQL reads the same.
    pub fn of(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "long" | "buy" | "bullish" => Some(Self::Long),
            "short" | "sell" | "bearish" => Some(Self::Short),
            "neutral" | "flat" => Some(Self::Neutral),
            _ => None,
        }
    }
}

/// A signal as its producer gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedSignal {
    /// The producer.
    pub source_module: String,
    /// The producer's key: unique for each `source_module`.
    pub signal_id: String,
    /// The producer's name for this kind of signal.
    pub signal_type: Option<String>,
    /// What it is about.
    pub ticker: String,
    /// Which way it points.
    pub direction: Direction,
    /// How strong it is, from 0 to 100, in units of 10^-4; see [`crate::decimal::parse`].
    pub conviction: i128,
    /// How sure the producer is, from 0 to 1, in units of 10^-4.
    pub confidence: Option<i128>,
    /// Price, in units of 10^-10.
    pub price: Option<i128>,
    /// When the producer made it, by its own clock.
    pub timestamp: DateTime<Utc>,
    /// What else there is to say: a JSON text, kept byte for byte.
    pub payload_json: String,
    /// Whether it was acted upon already.
    pub acted_upon: bool,
    /// The execution that did.
    pub execution_id: Option<String>,
    /// The webhook's signal that it belongs to.
    pub correlation_id: Option<Uuid>,
}

impl ProducedSignal {
    /// A signal of no conviction that says nothing more; the other members are the caller's to set.
    pub fn new(
        source_module: &str,
        signal_id: &str,
        ticker: &str,
        direction: Direction,
        timestamp: DateTime<Utc>,
    ) -> Self {
        Self {
            source_module: source_module.to_owned(),
            signal_id: signal_id.to_owned(),
            signal_type: None,
            ticker: ticker.to_owned(),
            direction,
            conviction: 0,
            confidence: None,
            price: None,
            timestamp,
            payload_json: NO_PAYLOAD.to_owned(),
            acted_upon: false,
            execution_id: None,
            correlation_id: None,
        }
    }
}

/// What became known of a signal that is recorded: a further record, since no row is ever changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The producer of the signal.
    pub source_module: String,
    /// The signal's key.
    pub signal_id: String,
    /// The producer's name for this kind of outcome.
    pub signal_type: Option<String>,
    /// How sure the producer is by now, from 0 to 1, in units of 10^-4.
    pub confidence: Option<i128>,
    /// Price, in units of 10^-10.
    pub price: Option<i128>,
    /// When it became known; the time of its arrival where nobody says.
    pub timestamp: Option<DateTime<Utc>>,
    /// What else there is to say: a JSON text, kept byte for byte.
    pub payload_json: String,
    /// Whether the signal was acted upon.
    pub acted_upon: bool,
    /// The execution that did.
    pub execution_id: Option<String>,
    /// The webhook's signal that it belongs to.
    pub correlation_id: Option<Uuid>,
}

impl Outcome {
    /// That the signal of this key was acted upon, or was not; the other members are the caller's to
    /// set.
    pub fn new(source_module: &str, signal_id: &str, acted_upon: bool) -> Self {
        Self {
            source_module: source_module.to_owned(),
            signal_id: signal_id.to_owned(),
            signal_type: None,
            confidence: None,
            price: None,
            timestamp: None,
            payload_json: NO_PAYLOAD.to_owned(),
            acted_upon,
            execution_id: None,
            correlation_id: None,
        }
    }
}

/// What a producer has to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A signal.
    Signal(ProducedSignal),
    /// What became of one.
    Outcome(Outcome),
}

impl Record {
    /// What else the producer says.
    pub fn payload_json(&self) -> &str {
        match self {
            Self::Signal(signal) => &signal.payload_json,
            Self::Outcome(outcome) => &outcome.payload_json,
        }
    }

    /// The row of this record, sent by the key or producer of this name and received then; or the name
    /// of the constraint that refuses it.
    pub fn new_row(
        self,
        recorded_by: &str,
        received_at: DateTime<Utc>,
    ) -> Result<NewRow, &'static str> {
        let decimal = |units: Option<i128>| units.map_or(Value::Null, Value::Decimal);
        let uuid = |id: Option<Uuid>| id.map_or(Value::Null, |id| Value::Uuid(id.into_bytes()));
        let values = match self {
            Self::Signal(signal) => vec![
                Value::Null,
                text("SIGNAL"),
                text(signal.signal_id),
                text(signal.source_module),
                optional_text(signal.signal_type),
                text(signal.ticker),
                text(signal.direction.name()),
                Value::Decimal(signal.conviction),
                decimal(signal.confidence),
                decimal(signal.price),
                timestamp(signal.timestamp),
                Value::Document(signal.payload_json.into()),
                Value::Boolean(signal.acted_upon),
                optional_text(signal.execution_id),
                Value::Null,
                uuid(signal.correlation_id),
                text(recorded_by.to_owned()),
                timestamp(received_at),
                Value::Null,
            ],
            Self::Outcome(outcome) => vec![
                Value::Null,
                text("OUTCOME"),
                text(outcome.signal_id),
                text(outcome.source_module),
                optional_text(outcome.signal_type),
                Value::Null,
                Value::Null,
                Value::Null,
                decimal(outcome.confidence),
                decimal(outcome.price),
                timestamp(outcome.timestamp.unwrap_or(received_at)),
                Value::Document(outcome.payload_json.into()),
                Value::Boolean(outcome.acted_upon),
                optional_text(outcome.execution_id),
                Value::Null,
                uuid(outcome.correlation_id),
                text(recorded_by.to_owned()),
                timestamp(received_at),
                Value::Null,
            ],
        };
        new_row(values)
    }
}

/// The row of these values, or the name of the constraint that refuses it. `latency_ms` is computed
/// here; an outcome's ticker, direction and conviction are NULL, and become its signal's when it is
/// appended.
pub(crate) fn new_row(mut values: Vec<Value<'static>>) -> Result<NewRow, &'static str> {
    if let Some(constraint) = violated(&values) {
        return Err(constraint);
    }
    if let (Value::Timestamp(at), Value::Timestamp(received)) =
        (&values[TIMESTAMP], &values[RECEIVED_AT])
    {
        let latency_ms = (received - at).div_euclid(1000);
        let clamped = latency_ms.clamp(-MAX_LATENCY_MS, MAX_LATENCY_MS);
        values[LATENCY_MS] = Value::Integer(clamped);
    }
    let content = content(&values);
    let text = |at: usize| match &values[at] {
        Value::Text(text) => text.clone().into_owned(),
        _ => String::new(),
    };
    let identity = Identity::Record {
        source_module: text(SOURCE_MODULE),
        signal_id: text(SIGNAL_ID),
        is_outcome: is_outcome(&values),
        content,
    };
    let constraint = "signal_audit_ledger_correlation_id_fkey";
    let reference = names_signal(&values[CORRELATION_ID], constraint);
    Ok(NewRow { chain: &SIGNAL_AUDIT_LEDGER, values, identity, reference })
}

// The places of the columns; a test holds them to the chain's description.
const RECORD_TYPE: usize = 1;
const SIGNAL_ID: usize = 2;
const SOURCE_MODULE: usize = 3;
const TICKER: usize = 5;
const DIRECTION: usize = 6;
const CONVICTION: usize = 7;
const CONFIDENCE: usize = 8;
const TIMESTAMP: usize = 10;
const PAYLOAD_JSON: usize = 11;
const LATENCY_MS: usize = 14;
const CORRELATION_ID: usize = 15;
const RECEIVED_AT: usize = 17;

/// What an outcome repeats of its signal.
#[derive(Clone, Debug)]
pub(crate) struct Repeated([Value<'static>; 3]);

impl Repeated {
    const PLACES: [usize; 3] = [TICKER, DIRECTION, CONVICTION];

    /// Of a signal's row.
    pub(crate) fn of(signal: &[Value<'static>]) -> Self {
        Self(Self::PLACES.map(|at| signal[at].clone()))
    }

    /// Puts it into an outcome's row.
    pub(crate) fn fill<'a>(&'a self, outcome: &mut [Value<'a>]) {
        for (at, value) in Self::PLACES.into_iter().zip(&self.0) {
            outcome[at] = value.borrowed();
        }
    }
}

fn is_outcome(values: &[Value<'_>]) -> bool {
    matches!(&values[RECORD_TYPE], Value::Text(text) if text == "OUTCOME")
}

/// SHA-256 of what the producer gave, by which the same record is known again.
pub(crate) fn content(values: &[Value<'_>]) -> [u8; 32] {
    let is_outcome = is_outcome(values);
    let mut bytes = Vec::with_capacity(256);
    for (at, value) in values.iter().enumerate().take(RECEIVED_AT - 1).skip(RECORD_TYPE) {
        let is_given = match at {
            LATENCY_MS => false,
            TICKER | DIRECTION | CONVICTION => !is_outcome,
            // What an outcome did not say is the time of its arrival.
            TIMESTAMP => !is_outcome || *value != values[RECEIVED_AT],
            _ => true,
        };
        if !is_given {
            bytes.push(b'-');
            continue;
        }
        let text: Cow<'_, [u8]> = match value {
            Value::Text(text) | Value::Document(text) => text.as_bytes().into(),
            Value::Integer(number) | Value::Timestamp(number) => {
                number.to_be_bytes().to_vec().into()
            }
            Value::Decimal(units) => units.to_be_bytes().to_vec().into(),
            Value::Boolean(flag) => vec![u8::from(*flag)].into(),
            Value::Uuid(id) => id.to_vec().into(),
            _ => {
                bytes.push(b'0');
                continue;
            }
        };
        bytes.push(b'=');
        bytes.extend_from_slice(&text.len().to_be_bytes());
        bytes.extend_from_slice(&text);
    }
    Sha256::digest(&bytes).into()
}

fn violated(values: &[Value<'_>]) -> Option<&'static str> {
    let is_beyond = |value: &Value<'_>, max: i128| matches!(value, Value::Decimal(units) if !(0..=max).contains(units));
    // In the order of their names, in which PostgreSQL looks at them.
    [
        (is_beyond(&values[CONFIDENCE], ONE), "signal_audit_ledger_confidence_range"),
        (is_beyond(&values[CONVICTION], MAX_CONVICTION), "signal_audit_ledger_conviction_range"),
        (is_none_of(&values[DIRECTION], &DIRECTIONS), "signal_audit_ledger_direction_known"),
        (is_oversized(&values[PAYLOAD_JSON]), "signal_audit_ledger_payload_json_size"),
        (is_none_of(&values[RECORD_TYPE], &RECORD_TYPES), "signal_audit_ledger_record_type_known"),
    ]
    .into_iter()
    .find_map(|(is_violated, constraint)| is_violated.then_some(constraint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_are_those_of_the_columns() {
        for (name, at) in [
            ("record_type", RECORD_TYPE),
            ("signal_id", SIGNAL_ID),
            ("source_module", SOURCE_MODULE),
            ("ticker", TICKER),
            ("direction", DIRECTION),
            ("conviction", CONVICTION),
            ("confidence", CONFIDENCE),
            ("timestamp", TIMESTAMP),
            ("payload_json", PAYLOAD_JSON),
            ("latency_ms", LATENCY_MS),
            ("correlation_id", CORRELATION_ID),
            ("received_at", RECEIVED_AT),
        ] {
            assert_eq!(SIGNAL_AUDIT_LEDGER.position(name), Some(at), "{name}");
        }
        assert_eq!(SIGNAL_AUDIT_LEDGER.columns[RECEIVED_AT - 1].name, "recorded_by");
    }
}
