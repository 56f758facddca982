//! Records of producers as JSON: a signal, or what became of one. `append_signal_audit_ledger()` in
//! SQL reads the same.

use std::fmt;

use chrono::{DateTime, Utc};
use ledger_verifier::Value;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use serde::Deserializer as _;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::body::{Fault, Reason};
use crate::chains::NewRow;
use crate::chains::signal_audit_ledger::{Direction, NO_PAYLOAD, new_row};
use crate::rows::{Members, refusal};

/// Columns that the ledger fills, of every record.
const FILLED_BY_LEDGER: [&str; 8] = [
    "id",
    "recorded_by",
    "created_at",
    "received_at",
    "latency_ms",
    // Of an outcome: its signal's.
    "ticker",
    "direction",
    "conviction",
];
const OF_EVERY_RECORD: usize = 5;

/// Reads one record, sent by the key of this name and received then.
pub fn read_record(
    body: &[u8],
    recorded_by: &str,
    received_at: DateTime<Utc>,
) -> Result<NewRow, Fault> {
    let chain = &SIGNAL_AUDIT_LEDGER;
    let members = Members::read(body)?;
    let record_type = match members.value(&chain.columns[1])? {
        Some(given) => given,
        None => Value::Text("SIGNAL".into()),
    };
    let is_outcome = record_type == Value::Text("OUTCOME".into());
    let (filled, taker) = if is_outcome {
        (FILLED_BY_LEDGER.as_slice(), "an OUTCOME")
    } else {
        (&FILLED_BY_LEDGER[..OF_EVERY_RECORD], chain.name)
    };
    let received = Value::Timestamp(received_at.timestamp_micros());
    let mut values = Vec::with_capacity(chain.columns.len());
    for column in chain.columns {
        let default = match column.name {
            "payload_json" => Some(Value::Document(NO_PAYLOAD.into())),
            "acted_upon" if !is_outcome => Some(Value::Boolean(false)),
            "timestamp" if is_outcome => Some(received.clone()),
            _ => None,
        };
        values.push(match (column.name, default) {
            ("record_type", _) => record_type.clone(),
            ("recorded_by", _) => Value::Text(recorded_by.to_owned().into()),
            ("received_at", _) => received.clone(),
            (name, _) if filled.contains(&name) => Value::Null,
            ("direction", _) => direction(members.required(column)?),
            (_, Some(default)) => members.value(column)?.unwrap_or(default),
            (_, None) => members.required(column)?,
        });
    }
    members.refuse_others(chain, filled, taker)?;
    new_row(values).map_err(refusal)
}

/// LONG, SHORT or NEUTRAL for a word that stands for it.
fn direction(given: Value<'static>) -> Value<'static> {
    match &given {
        Value::Text(word) => match Direction::of(word) {
            Some(direction) => Value::Text(direction.name().into()),
            None => given,
        },
        _ => given,
    }
}

/// The records of a body: one object, an array of objects, or one object a line (NDJSON). Each as it
/// stands there, to be read by [`read_record`].
pub fn split_records(body: &[u8], is_ndjson: bool, max: usize) -> Result<Records<'_>, Fault> {
    let too_many = || {
        let detail = format!("the body has more than {max} records");
        Fault::of_body(Reason::MalformedJson, detail)
    };
    let text = std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the body is not UTF-8 from byte {}", error.valid_up_to());
        Fault::of_body(Reason::InvalidUtf8, detail)
    })?;
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
    if is_ndjson {
        // Each line for itself: one that is no JSON is refused alone.
        let lines = trimmed.split('\n').map(str::trim_ascii).filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.map(str::as_bytes).take(max + 1).collect();
        return if lines.len() > max { Err(too_many()) } else { Ok(Records::Many(lines)) };
    }
    if trimmed.starts_with('[') {
        let mut json = serde_json::Deserializer::from_str(trimmed);
        let items = json.deserialize_seq(Items { max }).and_then(|items| {
            json.end()?;
            Ok(items)
        });
        return match items {
            Ok(items) if items.len() > max => Err(too_many()),
            Ok(items) => Ok(Records::Many(items)),
            Err(error) => Err(Fault::of_body(Reason::MalformedJson, error.to_string())),
        };
    }
    // An object may be spread over lines; of several, each has its own.
    let stream = serde_json::Deserializer::from_str(trimmed).into_iter::<&RawValue>();
    let mut lines = Vec::new();
    for item in stream {
        match item {
            Ok(item) => lines.push(item.get().as_bytes()),
            Err(error) => return Err(Fault::of_body(Reason::MalformedJson, error.to_string())),
        }
        if lines.len() > max {
            return Err(too_many());
        }
    }
    match lines.as_slice() {
        [one] => Ok(Records::One(one)),
        [] => Err(Fault::of_body(Reason::MalformedJson, "the body is empty")),
        _ => Ok(Records::Many(lines)),
    }
}

/// Reads the items of an array, up to one more than there may be; the others are not kept.
struct Items {
    max: usize,
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = array.next_element::<&RawValue>()? {
            if items.len() <= self.max {
                items.push(item.get().as_bytes());
            }
        }
        Ok(items)
    }
}

/// The records of a body.
#[derive(Debug)]
pub enum Records<'a> {
    /// One object, answered as one.
    One(&'a [u8]),
    /// Several, answered one by one.
    Many(Vec<&'a [u8]>),
}
