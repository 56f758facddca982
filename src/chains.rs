//! The rows that the service makes. What a chain consists of stands in `ledger_verifier::chain`;
//! here each chain has a type with a field for each column, and nothing else knows their order.

pub mod ai_debates;
pub mod constraints;
pub mod order_events;
pub mod order_execution;
pub mod quarantined_deliveries;
pub mod security_events;
pub mod signal_audit_ledger;
pub mod signals;

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use ledger_verifier::chain::{
    AI_DEBATES, ORDER_EVENTS, ORDER_EXECUTION, QUARANTINED_DELIVERIES, SECURITY_EVENTS,
    SIGNAL_AUDIT_LEDGER, SIGNALS,
};
use ledger_verifier::{Chain, LeafIndex, RowHash, RowId, Value};
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The chains that the migrations make, in the order of `ledger_chains()` in SQL.
pub static IN_LEDGER: [&Chain; 7] = [
    &SIGNALS,
    &AI_DEBATES,
    &ORDER_EXECUTION,
    &ORDER_EVENTS,
    &SIGNAL_AUDIT_LEDGER,
    &SECURITY_EVENTS,
    &QUARANTINED_DELIVERIES,
];

/// A chain whose rows clients write as they are.
#[derive(Debug)]
pub struct ClientChain {
    /// The chain.
    pub chain: &'static Chain,
    /// The row of another chain that a row names.
    reference: fn(&[Value<'_>]) -> Option<Reference>,
    /// The first constraint of the table that a row violates, as far as its own columns tell.
    violated: fn(&[Value<'_>]) -> Option<&'static str>,
}

/// The chains whose rows clients write as they are.
pub static WRITTEN_BY_CLIENTS: [&ClientChain; 3] =
    [&ai_debates::CLIENT_CHAIN, &order_execution::CLIENT_CHAIN, &order_events::CLIENT_CHAIN];

/// That a row names one of another chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The other row.
    pub target: Target,
    /// The foreign key.
    pub constraint: &'static str,
}

/// A row that others name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The signal with this correlation id.
    Signal(Uuid),
    /// The order with this id.
    Order(RowId),
}

impl ClientChain {
    /// A row of these values, or the name of the constraint that refuses it.
    pub fn new_row(
        &self,
        values: Vec<Value<'static>>,
        identity: Identity,
    ) -> Result<NewRow, &'static str> {
        match (self.violated)(&values) {
            Some(constraint) => Err(constraint),
            None => Ok(NewRow {
                chain: self.chain,
                reference: (self.reference)(&values),
                values,
                identity,
            }),
        }
    }
}

/// A row that is not in the ledger yet: it has no id, time, link or hash.
#[derive(Clone, Debug)]
pub struct NewRow {
    /// Where it is to be appended.
    pub chain: &'static Chain,
    /// One value for each column; those of `id` and `created_at` are NULL until the append.
    pub values: Vec<Value<'static>>,
    /// What makes another row the same one.
    pub identity: Identity,
    /// The row of another chain that it names, which must be there.
    pub reference: Option<Reference>,
}

impl NewRow {
    /// The row's correlation id, where the chain has one.
    pub fn correlation_id(&self) -> Option<Uuid> {
        match self.values[self.chain.position("correlation_id")?] {
            Value::Uuid(bytes) => Some(Uuid::from_bytes(bytes)),
            _ => None,
        }
    }

    /// When a signal was received, or what may become one.
    pub fn received_at(&self) -> Option<DateTime<Utc>> {
        match &self.identity {
            Identity::Signal { received_at, .. } | Identity::Waiting { received_at, .. } => {
                Some(*received_at)
            }
            Identity::Delivery { .. }
            | Identity::Request { .. }
            | Identity::Record { .. }
            | Identity::Unique => None,
        }
    }

    /// Bytes of text and documents, by which a batch is bounded.
    pub fn size_bytes(&self) -> usize {
        let size = |value: &Value<'_>| match value {
            Value::Text(text) | Value::Document(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 16,
        };
        self.values.iter().map(size).sum()
    }
}

/// Whether a chain takes no rows in a lockdown. The others stay open, so that what happens
/// meanwhile is on record.
pub fn stops_in_lockdown(chain: &Chain) -> bool {
    ![SECURITY_EVENTS.name, QUARANTINED_DELIVERIES.name].contains(&chain.name)
}

/// By what a row is recognised when it comes again.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Every row is a new one.
    Unique,
    /// A signal: its key is unique for each recorder; the same content is a duplicate, other
    /// content a conflict.
    Signal {
        /// The source's or key's name.
        recorded_by: String,
        /// The idempotency key.
        signal_id: String,
        /// Keys that name the same delivery if that was received within
        /// [`signals::SAME_BYTES`]: of a delivery without an id, those that it would have had a
        /// minute before and after.
        neighbours: Vec<String>,
        /// When the delivery was received.
        received_at: DateTime<Utc>,
        /// SHA-256 of the payload.
        content: [u8; 32],
    },
    /// A quarantined delivery: the same source, reason and bytes are a duplicate.
    Delivery {
        /// The source's name.
        source: String,
        /// The reason for the quarantine.
        reason: &'static str,
        /// SHA-256 of the body.
        content: [u8; 32],
    },
    /// A delivery kept in a lockdown, a signal in waiting: the same source, detail (which says who
    /// sent it) and bytes are a duplicate where they were received within
    /// [`signals::SAME_BYTES`], as of a signal without an id. It may have none.
    Waiting {
        /// The source's name.
        source: String,
        /// The row's detail.
        detail: Option<String>,
        /// When the delivery was received.
        received_at: DateTime<Utc>,
        /// SHA-256 of the body.
        content: [u8; 32],
    },
    /// A record of a producer. Of a signal the key is unique for each `source_module`: the same content
    /// is a duplicate, other content a conflict. Of an outcome the same content is a duplicate, and
    /// its signal must be there.
    Record {
        /// The producer.
        source_module: String,
        /// The signal's key.
        signal_id: String,
        /// Whether it is an outcome.
        is_outcome: bool,
        /// SHA-256 of what the producer gave.
        content: [u8; 32],
    },
    /// A request with an `Idempotency-Key`: the same body is a duplicate, another one a conflict.
    Request {
        /// The API key's name.
        recorded_by: String,
        /// The idempotency key.
        key: String,
        /// SHA-256 of the body.
        content: [u8; 32],
    },
}

/// Where a row stands in the ledger. Every write answers with one, after the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The chain.
    pub chain: Cow<'static, str>,
    /// The row's position in the chain, from 1.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = i64, minimum = 1)]
    pub id: RowId,
    /// The row's position in the log over all chains, from 0.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u64)]
    pub leaf_index: LeafIndex,
    /// SHA-256 over `prev_hash` and the canonical row.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub row_hash: RowHash,
    /// The row before's `row_hash`, or the chain's genesis value.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub prev_hash: RowHash,
    /// The time of the append by the database's clock.
    #[serde(serialize_with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
}

/// What became of a row that was to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is committed.
    Recorded(Receipt),
    /// It was there already.
    Duplicate(Existing),
    /// Its key is taken by a row of other content; nothing was appended.
    Conflict(Existing),
    /// The ledger is locked down; nothing was appended.
    Locked(Lockdown),
    /// The row that it names is not there; nothing was appended. Holds the constraint's name.
    UnknownReference(&'static str),
}

/// L6 lockdown (AUD-009): the ledger takes no row of the business chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockdown {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Lockdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ledger is locked down since {}: {}", rfc3339(self.since), self.reason)
    }
}

/// A row that was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Where it stands.
    pub receipt: Receipt,
    /// Its correlation id, where the chain has one.
    pub correlation_id: Option<Uuid>,
}

/// An instant as the ledger spells it: RFC 3339, UTC, six digits.
pub fn rfc3339(instant: DateTime<Utc>) -> String {
    instant.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

pub(crate) fn as_rfc3339<S: Serializer>(instant: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339(*instant))
}

fn as_text<S: Serializer>(hash: &RowHash, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(hash)
}

fn as_number<T: Copy + Into<i128>, S: Serializer>(number: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i128((*number).into())
}

fn text(text: impl Into<Cow<'static, str>>) -> Value<'static> {
    Value::Text(text.into())
}

fn optional_text(value: Option<impl Into<Cow<'static, str>>>) -> Value<'static> {
    value.map_or(Value::Null, text)
}

fn timestamp(instant: DateTime<Utc>) -> Value<'static> {
    Value::Timestamp(instant.timestamp_micros())
}

/// The largest document, or text without a bound in characters, that a row holds, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// What a column of a chain can hold, where that is a choice of few.
pub fn known_values(chain: &Chain, column: &str) -> Option<&'static [&'static str]> {
    Some(match (chain.name, column) {
        ("signals" | "order_execution", "side") => &SIDES,
        ("order_execution", "order_type") => &order_execution::ORDER_TYPES,
        ("order_execution", "status") => &order_execution::STATUSES,
        ("order_events", "event_type") => &order_events::EVENT_TYPES,
        ("signal_audit_ledger", "record_type") => &signal_audit_ledger::RECORD_TYPES,
        ("signal_audit_ledger", "direction") => &signal_audit_ledger::DIRECTIONS,
        _ => return None,
    })
}

/// Which way an order goes.
const SIDES: [&str; 2] = ["BUY", "SELL"];

fn is_oversized(value: &Value<'_>) -> bool {
    matches!(value, Value::Document(text) | Value::Text(text) if text.len() > MAX_DOCUMENT_BYTES)
}

fn is_none_of(value: &Value<'_>, known: &[&str]) -> bool {
    matches!(value, Value::Text(text) if !known.contains(&text.as_ref()))
}

fn is_not_positive(value: &Value<'_>) -> bool {
    matches!(value, Value::Decimal(..=0))
}

fn names_signal(correlation_id: &Value<'_>, constraint: &'static str) -> Option<Reference> {
    match correlation_id {
        Value::Uuid(bytes) => {
            Some(Reference { target: Target::Signal(Uuid::from_bytes(*bytes)), constraint })
        }
        _ => None,
    }
}
