//! An exported row, read back from its line (FORMAT.md section 2, "A row as JSON").

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value as Json};

use crate::chain::{self, Chain, Column, ColumnType};
use crate::check::StoredRow;
use crate::hash::{LeafIndex, RowHash, RowId};
use crate::row::{RowError, Value, row_hash, write_json};
use crate::{decimal, text};

/// The longest line that is read, in bytes without its newline: a document of 1 MiB of which every
/// byte is escaped to six, and room for the other columns.
pub const MAX_LINE_BYTES: usize = 8 << 20;

/// A row as an export holds it. What it says of itself is not checked yet.
#[derive(Clone, Debug)]
pub struct ExportedRow {
    /// Its chain.
    pub chain: &'static Chain,
    /// Its place in the chain; also the first of the values.
    pub id: RowId,
    /// When it was appended, in microseconds since 1970; also the last of the values.
    pub created_at: i64,
    /// One value for each column of the chain, in its order.
    pub values: Vec<Value<'static>>,
    /// The hash that it says the row before has.
    pub prev_hash: RowHash,
    /// The hash that it says it has.
    pub row_hash: RowHash,
    /// The leaf that it says it is. No part of what is hashed.
    pub leaf_index: Option<LeafIndex>,
}

impl ExportedRow {
    /// The hash of its values behind its `prev_hash`; the row is unchanged where it is `row_hash`.
    pub fn computed_hash(&self) -> Result<RowHash, RowError> {
        row_hash(self.chain, self.prev_hash, &self.values)
    }

    /// Hands the row to `check` in the form in which a [`ChainChecker`] takes it.
    ///
    /// [`ChainChecker`]: crate::check::ChainChecker
    pub fn as_stored<T>(&self, check: impl FnOnce(&StoredRow<'_>) -> T) -> T {
        let [prev_hash, row_hash] = [self.prev_hash, self.row_hash].map(RowHash::to_hex);
        check(&StoredRow { values: &self.values, prev_hash: &prev_hash, row_hash: &row_hash })
    }
}

/// The line is not a row in the one spelling that it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadRowError {
    /// More bytes than [`MAX_LINE_BYTES`].
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Not one JSON object.
    #[error("the line is not one JSON object")]
    NotAnObject,
    /// `chain` is missing or names none of [`chain::CHAINS`].
    #[error("the row's chain is unknown")]
    UnknownChain,
    /// A member is missing, or holds what its column cannot.
    #[error("the row's {0} is missing or unreadable")]
    Member(String),
    /// What was read would be written otherwise: a member too many, twice or in another place,
    /// white space, another spelling of a number or text.
    #[error("the row is not spelt as this format spells it")]
    Spelling,
}

/// Reads one line, without its newline: exactly what [`write_json`] makes of the row.
pub fn read_json(line: &[u8]) -> Result<ExportedRow, ReadRowError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(ReadRowError::TooLong);
    }
    let mut members: Map<String, Json> =
        serde_json::from_slice(line).map_err(|_| ReadRowError::NotAnObject)?;
    let name = members.get("chain").and_then(Json::as_str);
    let chain = name.and_then(chain::by_name).ok_or(ReadRowError::UnknownChain)?;

    let mut values = Vec::with_capacity(chain.columns.len());
    for column in chain.columns {
        let name = column.json_name();
        let value = members.remove(name.as_ref()).and_then(|json| read_value(column, json));
        values.push(value.ok_or_else(|| ReadRowError::Member(name.into_owned()))?);
    }
    let unreadable = |name: &str| ReadRowError::Member(name.to_owned());
    let (Some(&Value::Integer(id)), Some(&Value::Timestamp(created_at))) =
        (values.first(), values.last())
    else {
        return Err(unreadable("id or created_at"));
    };
    let hash = |name| {
        let digits = members.get(name).and_then(Json::as_str);
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| unreadable(name))
    };
    let leaf_index = match members.get("leaf_index") {
        Some(Json::Null) => None,
        Some(Json::Number(index)) if index.is_u64() => index.as_u64().map(LeafIndex),
        _ => return Err(unreadable("leaf_index")),
    };
    let (prev_hash, row_hash) = (hash("prev_hash")?, hash("row_hash")?);
    let id = RowId(id);
    let row = ExportedRow { chain, id, created_at, values, prev_hash, row_hash, leaf_index };

    let mut written = Vec::with_capacity(line.len());
    let hashes = (&*row.prev_hash.to_string(), &*row.row_hash.to_string());
    write_json(chain, &row.values, hashes, leaf_index, &mut written);
    if written == line { Ok(row) } else { Err(ReadRowError::Spelling) }
}

/// The column's value. Spellings that say the same are not told apart here.
fn read_value(column: &Column, json: Json) -> Option<Value<'static>> {
    let text = match json {
        Json::Null => return Some(Value::Null),
        Json::Bool(flag) => {
            return (column.ty == ColumnType::Boolean).then_some(Value::Boolean(flag));
        }
        Json::Number(number) => {
            let is_integer = matches!(column.ty, ColumnType::BigInt | ColumnType::Integer);
            return number.as_i64().filter(|_| is_integer).map(Value::Integer);
        }
        Json::String(text) => text,
        Json::Array(_) | Json::Object(_) => return None,
    };
    match column.ty {
        ColumnType::BigInt | ColumnType::Integer | ColumnType::Boolean => None,
        ColumnType::Numeric { scale, .. } => decimal::parse(&text, scale).map(Value::Decimal),
        ColumnType::Text { .. } => Some(Value::Text(Cow::Owned(text))),
        ColumnType::Uuid => {
            let mut bytes = [0; 16];
            hex::decode_to_slice(text.replace('-', ""), &mut bytes).ok()?;
            Some(Value::Uuid(bytes))
        }
        ColumnType::Inet => text.parse().ok().map(Value::Inet),
        ColumnType::Timestamp => text::parse_timestamp(&text).map(Value::Timestamp),
        ColumnType::Document => Some(Value::Document(Cow::Owned(text))),
        ColumnType::Bytes => {
            BASE64_STANDARD.decode(text).ok().map(|bytes| Value::Bytes(Cow::Owned(bytes)))
        }
    }
}
