//! What several test binaries of this crate make their rows with.

use std::net::{IpAddr, Ipv4Addr};

use ledger_verifier::{Chain, ColumnType, Value};

/// A row of the chain of which only its place matters.
pub(crate) fn plain_row(chain: &'static Chain, id: i64, created_at: i64) -> Vec<Value<'static>> {
    let mut values: Vec<_> = chain
        .columns
        .iter()
        .map(|column| match column.ty {
            ColumnType::BigInt | ColumnType::Integer => Value::Integer(7),
            ColumnType::Boolean => Value::Boolean(true),
            ColumnType::Numeric { .. } => Value::Decimal(12_345),
            ColumnType::Text { .. } => Value::Text("text".into()),
            ColumnType::Uuid => Value::Uuid([7; 16]),
            ColumnType::Inet => Value::Inet(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ColumnType::Timestamp => Value::Timestamp(7),
            ColumnType::Document => Value::Document("{}".into()),
            ColumnType::Bytes => Value::Bytes(b"{}".as_slice().into()),
        })
        .collect();
    if let [first, .., last] = values.as_mut_slice() {
        *first = Value::Integer(id);
        *last = Value::Timestamp(created_at);
    }
    values
}
