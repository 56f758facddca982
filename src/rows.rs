//! Rows that internal services send as they are: a JSON object with a member for each column. What
//! the members mean follows the chain's description; `ledger_read_row()` in SQL reads the same.

use ledger_verifier::{Column, ColumnType, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::body::json::{check_document, read_members};
use crate::body::{Fault, Reason, shown};
use crate::chains::constraints::{self, Constraint};
use crate::chains::{ClientChain, Identity, NewRow};
use crate::decimal::{self, DecimalError};

/// Columns that the ledger fills.
const FILLED_BY_LEDGER: [&str; 3] = ["id", "recorded_by", "created_at"];

/// Reads a row of this chain. `key` is the request's `Idempotency-Key`.
pub fn read_row(
    to: &ClientChain,
    body: &[u8],
    recorded_by: &str,
    key: Option<String>,
) -> Result<NewRow, Fault> {
    let members = Members { members: read_members(body)? };
    let mut known = Vec::new();
    let values = to
        .chain
        .columns
        .iter()
        .map(|column| {
            if column.name == "recorded_by" {
                return Ok(Value::Text(recorded_by.to_owned().into()));
            }
            if FILLED_BY_LEDGER.contains(&column.name) {
                return Ok(Value::Null);
            }
            known.push(column.name.to_owned());
            known.push(column.stored_name());
            members.value(column)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if let Some((name, _)) = members.members.iter().find(|(name, _)| !known.contains(name)) {
        let rule = format!("is not a member that {} takes", to.chain.name);
        return Err(Fault::of_field(Reason::InvalidField, &shown(name), rule));
    }
    let identity = match key {
        None => Identity::Unique,
        Some(key) => Identity::Request {
            recorded_by: recorded_by.to_owned(),
            key,
            content: Sha256::digest(body).into(),
        },
    };
    to.new_row(values, identity).map_err(|name| match constraints::by_name(name) {
        Some(constraint) => violation(constraint),
        None => Fault::of_body(Reason::InvalidField, format!("the row violates {name}")),
    })
}

/// A violated constraint in a sender's words.
pub fn violation(constraint: &Constraint) -> Fault {
    Fault::of_field(Reason::InvalidField, constraint.field, constraint.rule)
}

/// The members of a row, each with its text.
struct Members<'a> {
    members: Vec<(String, &'a str)>,
}

impl<'a> Members<'a> {
    /// A member that is there and not null.
    fn get(&self, name: &str) -> Option<&'a str> {
        let (_, text) = self.members.iter().find(|(found, _)| found == name)?;
        (*text != "null").then_some(*text)
    }

    fn value(&self, column: &Column) -> Result<Value<'static>, Fault> {
        let value = if column.ty == ColumnType::Document {
            self.document(column)?
        } else {
            self.get(column.name).map(|text| parse(column, text)).transpose()?
        };
        match value {
            Some(value) => Ok(value),
            None if column.nullable => Ok(Value::Null),
            None => Err(Fault::of_field(Reason::MissingField, column.name, "is missing")),
        }
    }

    /// A document as the member's own bytes, or as the string in `X_text`.
    fn document(&self, column: &Column) -> Result<Option<Value<'static>>, Fault> {
        let stored_name = column.stored_name();
        let text = match (self.get(column.name), self.get(&stored_name)) {
            (Some(_), Some(_)) => {
                let rule = format!("and {stored_name} are both there");
                return Err(Fault::of_field(Reason::InvalidField, column.name, rule));
            }
            (Some(json), None) => json.to_owned(),
            (None, Some(json)) => {
                let text = string(&stored_name, json)?;
                check_document(&text).map_err(|fault| {
                    let rule = format!("is not a JSON text: {}", fault.detail);
                    Fault::of_field(Reason::InvalidField, &stored_name, rule)
                })?;
                text
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Value::Document(text.into())))
    }
}

/// A value of the column from a member's text.
fn parse(column: &Column, json: &str) -> Result<Value<'static>, Fault> {
    let name = column.name;
    let invalid = |rule: &str| Fault::of_field(Reason::InvalidField, name, rule);
    match column.ty {
        ColumnType::Boolean => match json {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            _ => Err(invalid("is not true or false")),
        },
        ColumnType::BigInt => json
            .parse()
            .ok()
            .filter(|number: &i64| number.unsigned_abs() < 1 << 53)
            .map(Value::Integer)
            .ok_or_else(|| invalid("is not a whole number that its column can hold")),
        ColumnType::Integer => json
            .parse::<i32>()
            .map(|number| Value::Integer(number.into()))
            .map_err(|_| invalid("is not a whole number that its column can hold")),
        ColumnType::Numeric { precision, scale } => {
            let literal = if json.starts_with('"') { string(name, json)? } else { json.to_owned() };
            decimal::parse(&literal, precision, scale).map(Value::Decimal).map_err(|error| {
                let reason = match error {
                    DecimalError::NotANumber => Reason::InvalidField,
                    DecimalError::PrecisionLoss { .. } => Reason::PrecisionLoss,
                };
                Fault::of_field(reason, name, error)
            })
        }
        ColumnType::Text { max_chars } => {
            let text = string(name, json)?;
            let max_chars = max_chars.map_or(usize::MAX, usize::from);
            if text.is_empty() {
                return Err(invalid("is empty"));
            }
            if text.chars().count() > max_chars {
                let rule = format!("has more than {max_chars} characters");
                return Err(Fault::of_field(Reason::TooLong, name, rule));
            }
            Ok(Value::Text(text.into()))
        }
        ColumnType::Uuid => {
            let text = string(name, json)?;
            // Only the form that the ledger itself writes: others have braces, or a urn.
            let uuid = Uuid::try_parse(&text).ok().filter(|_| text.len() == 36);
            uuid.map(|uuid| Value::Uuid(uuid.into_bytes())).ok_or_else(|| invalid("is not a UUID"))
        }
        ColumnType::Document | ColumnType::Inet | ColumnType::Timestamp | ColumnType::Bytes => {
            unreachable!("no column of this type is a client's to write: {name}")
        }
    }
}

fn string(name: &str, json: &str) -> Result<String, Fault> {
    let not_a_string = |_| Fault::of_field(Reason::InvalidField, name, "is not a string");
    serde_json::from_str(json).map_err(not_a_string)
}
