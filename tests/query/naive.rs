//! What a filter means, by a scan of all rows. Nothing here is shared with the service.

use audit_ledger::chains::rfc3339;
use chrono::DateTime;
use ledger_verifier::decimal::to_string;
use ledger_verifier::{Chain, ColumnType, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::common::read_back::ReadRow;

/// The parameters that ask for the same value: those of them that are columns of a chain.
pub(crate) const EQUAL: [&str; 23] = [
    "symbol",
    "side",
    "source_module",
    "ticker",
    "direction",
    "signal_type",
    "record_type",
    "acted_upon",
    "model_name",
    "event_type",
    "order_type",
    "status",
    "correlation_id",
    "signal_id",
    "execution_id",
    "order_execution_id",
    "exchange_order_id",
    "recorded_by",
    "actor",
    "source",
    "reason",
    "duplicate_of",
    "row_hash",
];

/// The parameters that are bounds: name, column, and whether a value is within.
pub(crate) type Bound = (&'static str, &'static str, fn(i128, i128) -> bool);
pub(crate) const BOUNDS: [Bound; 8] = [
    ("from", "created_at", |value, bound| value >= bound),
    ("to", "created_at", |value, bound| value < bound),
    ("timestamp_from", "timestamp", |value, bound| value >= bound),
    ("timestamp_to", "timestamp", |value, bound| value < bound),
    ("from_id", "id", |value, bound| value >= bound),
    ("to_id", "id", |value, bound| value <= bound),
    ("min_conviction", "conviction", |value, bound| value >= bound),
    ("max_conviction", "conviction", |value, bound| value <= bound),
];

/// One condition, as it stands in a URL and as it is meant.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) parameter: &'static str,
    pub(crate) text: String,
    pub(crate) value: Value<'static>,
}

impl Condition {
    /// The condition of this parameter that the chain takes, with a value of its column.
    pub(crate) fn new(chain: &Chain, parameter: &'static str, value: Value<'static>) -> Self {
        let column = column_of(parameter);
        let ty = chain.columns.iter().find(|c| c.name == column).map(|c| c.ty);
        let text = text_of(ty.unwrap_or(ColumnType::Text { max_chars: None }), &value);
        Self { parameter, text, value }
    }
}

/// The column that a parameter is about.
pub(crate) fn column_of(parameter: &str) -> &str {
    BOUNDS.iter().find(|bound| bound.0 == parameter).map_or(parameter, |bound| bound.1)
}

/// Every parameter that filters rows of this chain.
pub(crate) fn parameters_of(chain: &Chain) -> Vec<&'static str> {
    let bounds = BOUNDS.iter().map(|bound| bound.0);
    let has = |column: &str| column == "row_hash" || chain.position(column).is_some();
    bounds.chain(EQUAL).filter(|parameter| has(column_of(parameter))).collect()
}

/// A value as the ledger spells it.
fn text_of(ty: ColumnType, value: &Value<'_>) -> String {
    match (ty, value) {
        (_, Value::Integer(number)) => number.to_string(),
        (_, Value::Boolean(flag)) => flag.to_string(),
        (ColumnType::Numeric { scale, .. }, Value::Decimal(units)) => to_string(*units, scale),
        (_, Value::Uuid(bytes)) => Uuid::from_bytes(*bytes).to_string(),
        (_, Value::Timestamp(micros)) => rfc3339(DateTime::from_timestamp_micros(*micros).unwrap()),
        (_, Value::Text(text)) => text.to_string(),
        (_, other) => panic!("{other:?} cannot be filtered by"),
    }
}

/// A value as an answer has it.
pub(crate) fn json_of(value: &Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(number) => (*number).into(),
        Value::Boolean(flag) => (*flag).into(),
        Value::Uuid(bytes) => Uuid::from_bytes(*bytes).to_string().into(),
        Value::Text(text) => text.as_ref().into(),
        other => panic!("no group has {other:?}"),
    }
}

pub(crate) fn value_of(chain: &Chain, row: &ReadRow, column: &str) -> Value<'static> {
    if column == "row_hash" {
        return Value::Text(row.row_hash.clone().into());
    }
    row.values[chain.position(column).expect("a column")].clone()
}

/// A number or a time, to be compared.
pub(crate) fn number_of(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Integer(number) | Value::Timestamp(number) => Some((*number).into()),
        Value::Decimal(units) => Some(*units),
        _ => None,
    }
}

fn is_met(chain: &Chain, row: &ReadRow, condition: &Condition) -> bool {
    let value = value_of(chain, row, column_of(condition.parameter));
    match BOUNDS.iter().find(|bound| bound.0 == condition.parameter) {
        Some((_, _, is_within)) => {
            let bound = number_of(&condition.value).expect("a bound is a number");
            number_of(&value).is_some_and(|number| is_within(number, bound))
        }
        // NULL is nobody's value.
        None => value != Value::Null && value == condition.value,
    }
}

/// The rows that meet every condition.
pub(crate) fn scan<'r>(
    chain: &Chain,
    rows: &'r [ReadRow],
    conditions: &[Condition],
) -> Vec<&'r ReadRow> {
    let meets = |row: &&ReadRow| conditions.iter().all(|one| is_met(chain, row, one));
    rows.iter().filter(meets).collect()
}

pub(crate) fn id_of(row: &ReadRow) -> i64 {
    match row.values[0] {
        Value::Integer(id) => id,
        ref other => panic!("{other:?}"),
    }
}

/// Their ids, the oldest first.
pub(crate) fn ids(chain: &Chain, rows: &[ReadRow], conditions: &[Condition]) -> Vec<i64> {
    scan(chain, rows, conditions).into_iter().map(id_of).collect()
}
