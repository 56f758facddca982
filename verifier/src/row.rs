//! The canonical row and its hash (FORMAT.md section 2).

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::chain::{Chain, Column, ColumnType, Member};
use crate::hash::{LeafIndex, RowHash};
use crate::{decimal, text};

/// Integers in a canonical row stay below this magnitude, so that any JSON reader has them
/// exactly (RFC 8785 section 3.2.2.3).
pub const INTEGER_BOUND: i64 = 1 << 53;

/// The value of one column. Text, documents and bytes may be borrowed from what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// `BIGINT` or `INTEGER`.
    Integer(i64),
    /// `BOOLEAN`.
    Boolean(bool),
    /// `NUMERIC`, in units of the column's last fraction digit.
    Decimal(i128),
    /// `VARCHAR` or `TEXT`.
    Text(Cow<'a, str>),
    /// `UUID`, big-endian.
    Uuid([u8; 16]),
    /// `INET` without a mask.
    Inet(IpAddr),
    /// `TIMESTAMPTZ`, in microseconds since 1970-01-01 UTC.
    Timestamp(i64),
    /// The exact text of a document.
    Document(Cow<'a, str>),
    /// `BYTEA`.
    Bytes(Cow<'a, [u8]>),
    /// A stored value that has no canonical form, with the reason: a NaN, a network mask.
    Unhashable(&'static str),
}

impl Value<'_> {
    /// The same value, borrowing what it holds.
    pub fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Document(text) => Value::Document(Cow::Borrowed(text)),
            Self::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Boolean(flag) => Value::Boolean(*flag),
            Self::Decimal(units) => Value::Decimal(*units),
            Self::Uuid(bytes) => Value::Uuid(*bytes),
            Self::Inet(address) => Value::Inet(*address),
            Self::Timestamp(micros) => Value::Timestamp(*micros),
            Self::Unhashable(why) => Value::Unhashable(why),
        }
    }

    /// The same value with its own copy of what it borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(number),
            Self::Boolean(flag) => Value::Boolean(flag),
            Self::Decimal(units) => Value::Decimal(units),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Uuid(bytes) => Value::Uuid(bytes),
            Self::Inet(address) => Value::Inet(address),
            Self::Timestamp(micros) => Value::Timestamp(micros),
            Self::Document(text) => Value::Document(Cow::Owned(text.into_owned())),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Unhashable(why) => Value::Unhashable(why),
        }
    }
}

/// The values do not form a row of the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Not one value for each column.
    #[error("{chain} has {expected} hashed columns, got {found} values")]
    Count {
        /// The chain.
        chain: &'static str,
        /// Its columns.
        expected: usize,
        /// The values given.
        found: usize,
    },
    /// The value is of another kind than the column.
    #[error("{column} does not hold such a value")]
    Kind {
        /// The column.
        column: &'static str,
    },
    /// The value cannot be hashed: an integer of 2^53 or more, a decimal beyond the column's
    /// digits, a time before 1970 or after 9999.
    #[error("{column} is out of range")]
    Range {
        /// The column.
        column: &'static str,
    },
    /// The column is never NULL.
    #[error("{column} is NULL")]
    Null {
        /// The column.
        column: &'static str,
    },
    /// The value has no canonical form.
    #[error("{column} holds {why}")]
    Unhashable {
        /// The column.
        column: &'static str,
        /// What it holds.
        why: &'static str,
    },
}

/// SHA-256 over the previous row's hash, as 64 ASCII characters, and the canonical row.
pub fn row_hash(
    chain: &Chain,
    prev_hash: RowHash,
    values: &[Value<'_>],
) -> Result<RowHash, RowError> {
    let mut buffer = Vec::with_capacity(640);
    row_hash_in(chain, prev_hash, values, &mut buffer)
}

/// [`row_hash`] with a buffer to reuse over many rows; what it held before is lost.
pub fn row_hash_in(
    chain: &Chain,
    prev_hash: RowHash,
    values: &[Value<'_>],
    buffer: &mut Vec<u8>,
) -> Result<RowHash, RowError> {
    buffer.clear();
    buffer.extend_from_slice(&prev_hash.to_hex());
    write_canonical(chain, values, buffer)?;
    Ok(RowHash(Sha256::digest(&*buffer).into()))
}

/// Appends the canonical row: one JSON object in RFC 8785 form, whose members are `chain`,
/// `v` and every hashed column, sorted by name.
pub fn write_canonical(
    chain: &Chain,
    values: &[Value<'_>],
    out: &mut Vec<u8>,
) -> Result<(), RowError> {
    if values.len() != chain.columns.len() {
        return Err(RowError::Count {
            chain: chain.name,
            expected: chain.columns.len(),
            found: values.len(),
        });
    }
    let mut separator = b'{';
    for &member in chain.members() {
        out.push(separator);
        separator = b',';
        match member {
            Member::ChainName => {
                out.extend_from_slice(b"\"chain\":");
                text::write_json_string(chain.name, out);
            }
            Member::Version => out.extend_from_slice(b"\"v\":1"),
            Member::Column(at) => {
                let column = &chain.columns[at];
                out.push(b'"');
                out.extend_from_slice(column.name.as_bytes());
                out.extend_from_slice(column.ty.member_suffix().as_bytes());
                out.extend_from_slice(b"\":");
                write_value(column, &values[at], out)?;
            }
        }
    }
    out.push(b'}');
    Ok(())
}

/// Appends a row as JSON, as the API, exports, the feed and replay show it (FORMAT.md section 2):
/// the canonical members without `v`, with `X_text` (or `X_base64` for bytes) in place of
/// `X_sha256`, and `prev_hash`, `row_hash` and `leaf_index`. One such line is enough to compute the
/// row's hash again.
///
/// What the database holds is shown as it is. A value that has no canonical form any more, since
/// somebody changed it, is shown as a string that says so.
pub fn write_json(
    chain: &Chain,
    values: &[Value<'_>],
    hashes: (&str, &str),
    leaf_index: Option<LeafIndex>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"chain\":");
    text::write_json_string(chain.name, out);
    for (column, value) in chain.columns.iter().zip(values) {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(column.name.as_bytes());
        out.extend_from_slice(match column.ty {
            ColumnType::Document => b"_text\":".as_slice(),
            ColumnType::Bytes => b"_base64\":",
            _ => b"\":",
        });
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Document(text) => text::write_json_string(text, out),
            Value::Bytes(bytes) => text::write_json_string(&STANDARD.encode(bytes), out),
            value => {
                let start = out.len();
                if let Err(error) = write_value(column, value, out) {
                    out.truncate(start);
                    text::write_json_string(&format!("unreadable: {error}"), out);
                }
            }
        }
    }
    let (prev_hash, row_hash) = hashes;
    for (name, hash) in [("prev_hash", prev_hash), ("row_hash", row_hash)] {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        text::write_json_string(hash, out);
    }
    let leaf = leaf_index.map_or_else(|| "null".to_owned(), |leaf| leaf.to_string());
    out.extend_from_slice(format!(",\"leaf_index\":{leaf}}}").as_bytes());
}

/// Appends a value as plain text, as a table shows it: what a row's JSON has for it, without quotes and
/// escapes. NULL is nothing at all.
pub fn write_plain(column: &Column, value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Text(text) | Value::Document(text) => out.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => out.extend_from_slice(STANDARD.encode(bytes).as_bytes()),
        value => {
            let start = out.len();
            match write_value(column, value, out) {
                // Of these types, nothing between the quotes is escaped.
                Ok(()) if out.get(start) == Some(&b'"') => {
                    out.remove(start);
                    out.pop();
                }
                Ok(()) => {}
                Err(error) => {
                    out.truncate(start);
                    out.extend_from_slice(format!("unreadable: {error}").as_bytes());
                }
            }
        }
    }
}

fn write_value(column: &Column, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), RowError> {
    let out_of_range = RowError::Range { column: column.name };
    match (column.ty, value) {
        (_, Value::Null) if column.nullable => out.extend_from_slice(b"null"),
        (_, Value::Null) => return Err(RowError::Null { column: column.name }),
        (ColumnType::BigInt | ColumnType::Integer, &Value::Integer(number)) => {
            if !(-INTEGER_BOUND < number && number < INTEGER_BOUND) {
                return Err(out_of_range);
            }
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
        (ColumnType::Boolean, &Value::Boolean(flag)) => {
            out.extend_from_slice(if flag { b"true" } else { b"false" });
        }
        (ColumnType::Numeric { precision, scale }, &Value::Decimal(units)) => {
            if units.unsigned_abs() >= decimal::bound(precision).unsigned_abs() {
                return Err(out_of_range);
            }
            out.push(b'"');
            decimal::write(units, scale, out);
            out.push(b'"');
        }
        (ColumnType::Text { .. }, Value::Text(text)) => text::write_json_string(text, out),
        (ColumnType::Uuid, Value::Uuid(bytes)) => write_uuid(bytes, out),
        (ColumnType::Inet, &Value::Inet(address)) => {
            out.push(b'"');
            text::write_host(address, out);
            out.push(b'"');
        }
        (ColumnType::Timestamp, &Value::Timestamp(micros)) => {
            if !(0..text::END_OF_TIME_MICROS).contains(&micros) {
                return Err(out_of_range);
            }
            out.push(b'"');
            text::write_timestamp(micros, out);
            out.push(b'"');
        }
        (ColumnType::Document, Value::Document(text)) => write_digest(text.as_bytes(), out),
        (ColumnType::Bytes, Value::Bytes(bytes)) => write_digest(bytes, out),
        (_, &Value::Unhashable(why)) => {
            return Err(RowError::Unhashable { column: column.name, why });
        }
        _ => return Err(RowError::Kind { column: column.name }),
    }
    Ok(())
}

fn write_uuid(bytes: &[u8; 16], out: &mut Vec<u8>) {
    let mut digits = [0; 32];
    hex::encode_to_slice(bytes, &mut digits).expect("32 digits for 16 bytes");
    out.push(b'"');
    out.extend_from_slice(&digits[..8]);
    for group in [8..12, 12..16, 16..20, 20..32] {
        out.push(b'-');
        out.extend_from_slice(&digits[group]);
    }
    out.push(b'"');
}

fn write_digest(bytes: &[u8], out: &mut Vec<u8>) {
    let mut digits = [0; 64];
    hex::encode_to_slice(Sha256::digest(bytes), &mut digits).expect("64 digits for 32 bytes");
    out.push(b'"');
    out.extend_from_slice(&digits);
    out.push(b'"');
}
