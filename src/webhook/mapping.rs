//! Makes a signal of a delivery's body. Nothing is rounded and nothing is cut: what does not fit
//! is a fault that names the member.

use chrono::{DateTime, Utc};
use ledger_verifier::ColumnType;
use ledger_verifier::chain::SIGNALS;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Delivery;
use super::source::{Field, Mapping};
use crate::body::json::{Member, read_object};
use crate::body::{Fault, Reason};
use crate::chains::signals::{NewSignal, SAME_BYTES, Side};
use crate::decimal::{self, DecimalError};

/// Maps a delivery as its source says.
pub fn map_signal(delivery: &Delivery, correlation_id: Uuid) -> Result<NewSignal, Fault> {
    let mapping = &delivery.source.mapping;
    let members = Members { mapping, found: read_object(&delivery.body, mapping.wanted())? };
    let (signal_id, neighbours) = match members.signal_id(delivery)? {
        Some(id) => (id, Vec::new()),
        None => ids_of_bytes(&delivery.source.name, &delivery.body, delivery.received_at),
    };
    Ok(NewSignal {
        correlation_id,
        signal_id,
        neighbours,
        symbol: members.text(Field::Symbol)?,
        side: members.side()?,
        price: members.money(Field::Price)?,
        quantity: members.money(Field::Quantity)?,
        raw_payload: String::from_utf8_lossy(&delivery.body).into_owned(),
        source_ip: delivery.source_ip,
        hmac_verified: delivery.authenticated.method.checks_an_hmac(),
        auth_method: delivery.authenticated.method.name(),
        recorded_by: delivery.authenticated.recorded_by.clone(),
        received_at: delivery.received_at,
    })
}

/// Whether what a mapping puts where nothing is there would make a signal.
pub fn check_defaults(mapping: &Mapping) -> Result<(), Fault> {
    let members = Members { mapping, found: Vec::new() };
    let is_set = |field| mapping.fallback(field).is_some();
    if is_set(Field::Symbol) {
        members.text(Field::Symbol)?;
    }
    if is_set(Field::Side) {
        members.side()?;
    }
    for field in [Field::Price, Field::Quantity] {
        if is_set(field) {
            members.money(field)?;
        }
    }
    Ok(())
}

/// The id of a delivery that names none, and those that the same bytes have in the minutes before
/// and after: of two that come almost at once, either can be appended first.
fn ids_of_bytes(source: &str, body: &[u8], received_at: DateTime<Utc>) -> (String, Vec<String>) {
    let minute = received_at.timestamp().div_euclid(SAME_BYTES.num_seconds());
    let id = |minute: i64| {
        let mut sha = Sha256::new();
        sha.update(source);
        sha.update([0]);
        sha.update(minute.to_string());
        sha.update([0]);
        sha.update(body);
        hex::encode(sha.finalize())
    };
    (id(minute), vec![id(minute - 1), id(minute + 1)])
}

struct Members<'a> {
    mapping: &'a Mapping,
    found: Vec<(String, Member)>,
}

impl Members<'_> {
    /// The first of the column's members that is there and not null, with its name.
    fn first(&self, field: Field) -> Option<(&str, Member)> {
        let found = self.mapping.pointers(field).iter().find_map(|pointer| {
            let (_, member) = self.found.iter().find(|(found, _)| found == pointer)?;
            (*member != Member::Null).then(|| (shown(pointer), member.clone()))
        });
        let default =
            || Some((field.column(), Member::Text(self.mapping.fallback(field)?.to_owned())));
        found.or_else(default)
    }

    fn required(&self, field: Field) -> Result<(&str, Member), Fault> {
        self.first(field).ok_or_else(|| {
            let names: Vec<_> = self.mapping.pointers(field).iter().map(|p| shown(p)).collect();
            let rule = format!("is missing: none of {} is there", names.join(", "));
            Fault::of_field(Reason::MissingField, field.column(), rule)
        })
    }

    fn signal_id(&self, delivery: &Delivery) -> Result<Option<String>, Fault> {
        match self.first(Field::SignalId) {
            // A number counts by its literal text.
            Some((name, Member::Text(id) | Member::Number(id))) => {
                fits(Field::SignalId, name, &id)?;
                Ok(Some(id))
            }
            Some((name, other)) => Err(wrong_kind(name, "a string", &other)),
            None => {
                let id = delivery.authenticated.webhook_id.as_deref();
                id.map(|id| fits(Field::SignalId, "webhook-id", id)).transpose()?;
                Ok(id.map(str::to_owned))
            }
        }
    }

    fn text(&self, field: Field) -> Result<String, Fault> {
        match self.required(field)? {
            (name, Member::Text(text)) => {
                fits(field, name, &text)?;
                Ok(text)
            }
            (name, other) => Err(wrong_kind(name, "a string", &other)),
        }
    }

    fn side(&self) -> Result<Side, Fault> {
        let (name, member) = self.required(Field::Side)?;
        let Member::Text(side) = member else { return Err(wrong_kind(name, "a string", &member)) };
        match side.to_ascii_lowercase().as_str() {
            "buy" | "long" => Ok(Side::Buy),
            "sell" | "short" => Ok(Side::Sell),
            _ => {
                let rule = "is none of buy, long, sell, short";
                Err(Fault::of_field(Reason::InvalidField, name, rule))
            }
        }
    }

    fn money(&self, field: Field) -> Result<i128, Fault> {
        let (name, member) = self.required(field)?;
        let literal = match member {
            Member::Text(literal) | Member::Number(literal) => literal,
            other => return Err(wrong_kind(name, "a number", &other)),
        };
        let ColumnType::Numeric { precision, scale } = column_type(field) else {
            unreachable!("{} is a number in every chain", field.column());
        };
        match decimal::parse(&literal, precision, scale) {
            Ok(units) if units > 0 => Ok(units),
            Ok(_) => Err(Fault::of_field(Reason::InvalidField, name, "is not above zero")),
            Err(error @ DecimalError::NotANumber) => {
                Err(Fault::of_field(Reason::InvalidField, name, error))
            }
            Err(error @ DecimalError::PrecisionLoss { .. }) => {
                Err(Fault::of_field(Reason::PrecisionLoss, name, error))
            }
        }
    }
}

/// A pointer as people see it: a member of the body itself by its name.
fn shown(pointer: &str) -> &str {
    match pointer.strip_prefix('/') {
        Some(name) if !name.contains('/') => name,
        _ => pointer,
    }
}

fn column_type(field: Field) -> ColumnType {
    let at = SIGNALS.position(field.column()).expect("a column of signals");
    SIGNALS.columns[at].ty
}

/// A text fits its column, and is not empty.
fn fits(field: Field, member: &str, text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::of_field(Reason::InvalidField, member, "is empty"));
    }
    if let ColumnType::Text { max_chars: Some(max) } = column_type(field)
        && text.chars().count() > usize::from(max)
    {
        let rule = format!("is longer than {max} characters");
        return Err(Fault::of_field(Reason::TooLong, member, rule));
    }
    Ok(())
}

fn wrong_kind(name: &str, wanted: &str, found: &Member) -> Fault {
    let found = match found {
        Member::Null => "null",
        Member::Text(_) => "a string",
        Member::Number(_) => "a number",
        Member::Other(kind) => kind,
    };
    Fault::of_field(Reason::InvalidField, name, format!("is {found}, not {wanted}"))
}
