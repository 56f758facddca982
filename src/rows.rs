//! Rows that internal services send as they are: a JSON object with a member for each column. What
//! the members mean follows the chain's description; `ledger_read_row()` in SQL reads the same.

use chrono::DateTime;
use ledger_verifier::decimal::bound;
use ledger_verifier::{Chain, Column, ColumnType, Value};
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
    let members = Members::read(body)?;
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
            members.required(column)
        })
        .collect::<Result<Vec<_>, _>>()?;
    members.refuse_others(to.chain, &FILLED_BY_LEDGER, to.chain.name)?;
    let identity = match key {
        None => Identity::Unique,
        Some(key) => Identity::Request {
            recorded_by: recorded_by.to_owned(),
            key,
            content: Sha256::digest(body).into(),
        },
    };
    to.new_row(values, identity).map_err(refusal)
}

/// The refusal of a row that violates the constraint of this name.
pub(crate) fn refusal(constraint: &str) -> Fault {
    match constraints::by_name(constraint) {
        Some(constraint) => violation(constraint),
        None => Fault::of_body(Reason::InvalidField, format!("the row violates {constraint}")),
    }
}

/// A violated constraint in a sender's words.
pub fn violation(constraint: &Constraint) -> Fault {
    Fault::of_field(Reason::InvalidField, constraint.field, constraint.rule)
}

/// The members of a row, each with its text.
pub(crate) struct Members<'a> {
    members: Vec<(String, &'a str)>,
}

impl<'a> Members<'a> {
    /// Of a body, which must be an object.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, Fault> {
        Ok(Self { members: read_members(body)? })
    }

    /// Fails where a member is no column of the chain, or one of these; `to` is what takes the others.
    pub(crate) fn refuse_others(
        &self,
        chain: &Chain,
        refused: &[&str],
        to: &str,
    ) -> Result<(), Fault> {
        let is_of = |column: &Column, name: &str| {
            let is_text = || name.strip_suffix("_text") == Some(column.name);
            !refused.contains(&column.name)
                && (name == column.name || column.ty == ColumnType::Document && is_text())
        };
        let is_known = |name: &str| chain.columns.iter().any(|column| is_of(column, name));
        match self.members.iter().find(|(name, _)| !is_known(name)) {
            Some((name, _)) => {
                let rule = format!("is not a member that {to} takes");
                Err(Fault::of_field(Reason::InvalidField, &shown(name), rule))
            }
            None => Ok(()),
        }
    }

    /// A member that is there and not null.
    fn get(&self, name: &str) -> Option<&'a str> {
        let (_, text) = self.members.iter().find(|(found, _)| found == name)?;
        (*text != "null").then_some(*text)
    }

    /// The value of a column, where it is given.
    pub(crate) fn value(&self, column: &Column) -> Result<Option<Value<'static>>, Fault> {
        if column.ty == ColumnType::Document {
            self.document(column)
        } else {
            self.get(column.name).map(|text| parse(column, text)).transpose()
        }
    }

    /// The value of a column; NULL only where the column may be.
    pub(crate) fn required(&self, column: &Column) -> Result<Value<'static>, Fault> {
        match self.value(column)? {
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
            match fault_of_text(&text, max_chars) {
                Some((reason, rule)) => Err(Fault::of_field(reason, name, rule)),
                None => Ok(Value::Text(text.into())),
            }
        }
        ColumnType::Uuid => {
            let text = string(name, json)?;
            // Only the form that the ledger itself writes: others have braces, or a urn.
            let uuid = Uuid::try_parse(&text).ok().filter(|_| text.len() == 36);
            uuid.map(|uuid| Value::Uuid(uuid.into_bytes())).ok_or_else(|| invalid("is not a UUID"))
        }
        ColumnType::Timestamp => {
            let micros = parse_time(&string(name, json)?).map_err(invalid)?;
            Ok(Value::Timestamp(micros))
        }
        ColumnType::Document | ColumnType::Inet | ColumnType::Bytes => {
            unreachable!("no column of this type is a client's to write: {name}")
        }
    }
}

fn fault_of_text(text: &str, max_chars: Option<u16>) -> Option<(Reason, String)> {
    let max_chars = max_chars.map_or(usize::MAX, usize::from);
    if text.is_empty() {
        Some((Reason::InvalidField, "is empty".to_owned()))
    } else if text.contains('\0') {
        Some((Reason::NulCharacter, "holds U+0000, which PostgreSQL cannot store".to_owned()))
    } else if text.chars().count() > max_chars {
        Some((Reason::TooLong, format!("has more than {max_chars} characters")))
    } else {
        None
    }
}

/// The rule of its column that a value breaks which was not read from a text; it goes on from the
/// column's name. What is NULL is the ledger's to fill.
pub(crate) fn broken_rule(ty: ColumnType, value: &Value<'_>) -> Option<String> {
    match (ty, value) {
        (ColumnType::Text { max_chars }, Value::Text(text)) => {
            fault_of_text(text, max_chars).map(|(_, rule)| rule)
        }
        (ColumnType::Numeric { precision, scale }, Value::Decimal(units))
            if units.unsigned_abs() >= bound(precision).unsigned_abs() =>
        {
            let loss = DecimalError::PrecisionLoss { integer: precision - scale, fraction: scale };
            Some(loss.to_string())
        }
        (ColumnType::Timestamp, Value::Timestamp(micros))
            if !(0..END_OF_TIME).contains(&micros.div_euclid(1_000_000)) =>
        {
            Some(OUT_OF_RANGE.to_owned())
        }
        _ => None,
    }
}

/// `+10000-…`, the first second that has no spelling.
const END_OF_TIME: i64 = 253_402_300_800;
const OUT_OF_RANGE: &str = "is not from 1970 to 9999";

/// A time in RFC 3339 that the ledger can hold, in microseconds since 1970; or what is wrong with it.
pub(crate) fn parse_time(text: &str) -> Result<i64, &'static str> {
    const NO_TIME: &str = "is not an RFC 3339 time of at most six digits after the second";
    let fraction = text
        .split_once('.')
        .map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    // Only the separators that the ledger itself writes, and no leap second.
    let is_spelt =
        text.as_bytes().get(10) == Some(&b'T') && text.as_bytes().get(17..19) != Some(b"60");
    let time = DateTime::parse_from_rfc3339(text).ok().filter(|_| is_spelt && fraction <= 6);
    let time = time.ok_or(NO_TIME)?;
    if (0..END_OF_TIME).contains(&time.timestamp()) {
        Ok(time.timestamp_micros())
    } else {
        Err(OUT_OF_RANGE)
    }
}

fn string(name: &str, json: &str) -> Result<String, Fault> {
    let not_a_string = |_| Fault::of_field(Reason::InvalidField, name, "is not a string");
    serde_json::from_str(json).map_err(not_a_string)
}
