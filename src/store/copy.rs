//! PostgreSQL's binary COPY format, and the binary form of each column type
//! (PostgreSQL documentation, "COPY", section "Binary Format").

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ledger_verifier::chain::{Chain, ColumnType};
use ledger_verifier::decimal::{bound, one};
use ledger_verifier::{RowHash, Value};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the header extension.
const HEADER_BYTES: usize = 19;
/// The flags from here on have to be known; those below may be ignored.
const CRITICAL_FLAGS_SHIFT: u32 = 16;
/// Fields that a row of any chain has at most.
const MAX_FIELDS: usize = 32;
/// 2000-01-01, PostgreSQL's epoch, in microseconds since 1970.
pub(super) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
const FAMILY_INET: u8 = 2;
const FAMILY_INET6: u8 = 3;
/// A NUMERIC is sent in digits of base 10000.
const NUMERIC_BASE: u128 = 10_000;
const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_POSITIVE: u16 = 0;

/// Rows of one chain in COPY form.
#[derive(Debug)]
pub struct CopyEncoder {
    chain: &'static Chain,
    buffer: Vec<u8>,
}

impl CopyEncoder {
    /// An empty COPY into the chain; the columns are those of [`copy_columns`].
    pub fn new(chain: &'static Chain) -> Self {
        let mut buffer = Vec::with_capacity(1024);
        buffer.extend_from_slice(SIGNATURE);
        buffer.extend_from_slice(&[0; HEADER_BYTES - SIGNATURE.len()]);
        Self { chain, buffer }
    }

    /// Adds a row.
    pub fn push(&mut self, values: &[Value<'_>], prev_hash: RowHash, row_hash: RowHash) {
        let fields = i16::try_from(values.len() + 2).expect("a table has few columns");
        self.buffer.extend_from_slice(&fields.to_be_bytes());
        for (column, value) in self.chain.columns.iter().zip(values) {
            self.field(column.ty, value);
        }
        self.bytes_field(&prev_hash.to_hex());
        self.bytes_field(&row_hash.to_hex());
    }

    /// The whole COPY.
    pub fn finish(mut self) -> Vec<u8> {
        self.buffer.extend_from_slice(&(-1_i16).to_be_bytes());
        self.buffer
    }

    fn bytes_field(&mut self, bytes: &[u8]) {
        let length = i32::try_from(bytes.len()).expect("a document is at most 1 MiB");
        self.buffer.extend_from_slice(&length.to_be_bytes());
        self.buffer.extend_from_slice(bytes);
    }

    fn field(&mut self, ty: ColumnType, value: &Value<'_>) {
        match (ty, value) {
            (_, Value::Null | Value::Unhashable(_)) => {
                self.buffer.extend_from_slice(&(-1_i32).to_be_bytes());
            }
            (ColumnType::Integer, &Value::Integer(number)) => {
                let number = i32::try_from(number).expect("an INTEGER's value fits it");
                self.bytes_field(&number.to_be_bytes());
            }
            (_, Value::Integer(number)) => self.bytes_field(&number.to_be_bytes()),
            (_, &Value::Boolean(flag)) => self.bytes_field(&[u8::from(flag)]),
            (ColumnType::Numeric { scale, .. }, &Value::Decimal(units)) => {
                self.numeric(units, scale);
            }
            (_, Value::Decimal(_)) => unreachable!("row_hash refuses a decimal here"),
            (_, Value::Text(text) | Value::Document(text)) => self.bytes_field(text.as_bytes()),
            (_, Value::Uuid(bytes)) => self.bytes_field(bytes),
            (_, &Value::Inet(address)) => match address {
                IpAddr::V4(v4) => self.inet(FAMILY_INET, 32, &v4.octets()),
                IpAddr::V6(v6) => self.inet(FAMILY_INET6, 128, &v6.octets()),
            },
            (_, &Value::Timestamp(micros)) => {
                self.bytes_field(&(micros - POSTGRES_EPOCH_MICROS).to_be_bytes());
            }
            (_, Value::Bytes(bytes)) => self.bytes_field(bytes),
        }
    }

    fn inet(&mut self, family: u8, mask: u8, octets: &[u8]) {
        let is_cidr = 0;
        let length = u8::try_from(octets.len()).expect("at most 16 octets");
        self.bytes_field(&[&[family, mask, is_cidr, length], octets].concat());
    }

    fn numeric(&mut self, units: i128, scale: u8) {
        // Digits of base 10000 are counted from the point, so the fraction is filled up to
        // whole ones.
        let fraction_digits = scale.div_ceil(4);
        let mut rest = units.unsigned_abs() * one(fraction_digits * 4 - scale).unsigned_abs();
        let mut digits = Vec::with_capacity(12);
        while rest > 0 {
            digits.push(u16::try_from(rest % NUMERIC_BASE).expect("below 10000"));
            rest /= NUMERIC_BASE;
        }
        digits.reverse();
        let count = |n: usize| i16::try_from(n).expect("at most 12 digits");
        let weight = count(digits.len()) - i16::from(fraction_digits) - 1;
        let sign = if units < 0 { NUMERIC_NEGATIVE } else { NUMERIC_POSITIVE };

        let mut field = Vec::with_capacity(8 + 2 * digits.len());
        field.extend_from_slice(&count(digits.len()).to_be_bytes());
        field.extend_from_slice(&weight.to_be_bytes());
        field.extend_from_slice(&sign.to_be_bytes());
        field.extend_from_slice(&i16::from(scale).to_be_bytes());
        for digit in digits {
            field.extend_from_slice(&digit.to_be_bytes());
        }
        self.bytes_field(&field);
    }
}

/// The stored columns that COPY transfers, in order: the hashed ones, `prev_hash`, `row_hash`.
pub fn copy_columns(chain: &Chain) -> String {
    let mut names: Vec<String> =
        chain.columns.iter().map(ledger_verifier::Column::stored_name).collect();
    names.extend(["prev_hash".to_owned(), "row_hash".to_owned()]);
    names.join(", ")
}

/// The bytes that came are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database sent a COPY stream that cannot be read: {0}")]
pub struct CopyFormatError(pub &'static str);

/// Splits a binary COPY stream, which arrives in pieces of any size, into rows.
#[derive(Debug, Default)]
pub struct CopyDecoder {
    buffer: Vec<u8>,
    at: usize,
    header_read: bool,
    finished: bool,
}

impl CopyDecoder {
    /// Adds the next piece of the stream.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(piece);
    }

    /// Runs `each` over the fields of the next row; `None` until more was fed.
    pub fn next_row<T>(
        &mut self,
        each: impl FnOnce(&[Option<&[u8]>]) -> T,
    ) -> Result<Option<T>, CopyFormatError> {
        if !self.header_read {
            if self.buffer.len() < HEADER_BYTES {
                return Ok(None);
            }
            if !self.buffer.starts_with(SIGNATURE) {
                return Err(CopyFormatError("no signature"));
            }
            if be_i32(&self.buffer[SIGNATURE.len()..]) >> CRITICAL_FLAGS_SHIFT != 0 {
                return Err(CopyFormatError("a flag that changes the format"));
            }
            if be_i32(&self.buffer[HEADER_BYTES - 4..]) != 0 {
                return Err(CopyFormatError("a header extension"));
            }
            self.at = HEADER_BYTES;
            self.header_read = true;
        }
        let Some(end) = self.row_end()? else { return Ok(None) };
        let mut rest = &self.buffer[self.at + 2..end];
        self.at = end;
        // No chain has more columns; where a table has, it does not fit its chain anyway.
        let mut fields = [None; MAX_FIELDS];
        let mut count = 0;
        while !rest.is_empty() {
            let slot = fields.get_mut(count).ok_or(CopyFormatError("too many columns"))?;
            let (length, after) = rest.split_at(4);
            rest = after;
            if let Ok(length) = usize::try_from(be_i32(length)) {
                let (field, after) = rest.split_at(length);
                *slot = Some(field);
                rest = after;
            }
            count += 1;
        }
        Ok(Some(each(&fields[..count])))
    }

    /// Whether the stream's end mark was read. Without it the stream broke off.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Where the next row ends, if all of it is here.
    fn row_end(&mut self) -> Result<Option<usize>, CopyFormatError> {
        let mut at = self.at;
        if self.finished {
            return self.require_end();
        }
        let Some(count) = self.buffer.get(at..at + 2) else { return Ok(None) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            self.finished = true;
            self.at += 2;
            return self.require_end();
        }
        if count < 0 {
            return Err(CopyFormatError("a negative number of columns"));
        }
        at += 2;
        for _ in 0..count {
            let Some(length) = self.buffer.get(at..at + 4) else { return Ok(None) };
            let length = be_i32(length);
            if length < -1 {
                return Err(CopyFormatError("a negative length"));
            }
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
        Ok((at <= self.buffer.len()).then_some(at))
    }

    /// No row follows the end mark, and nothing else.
    fn require_end(&self) -> Result<Option<usize>, CopyFormatError> {
        let is_end = self.at == self.buffer.len();
        if is_end { Ok(None) } else { Err(CopyFormatError("bytes after the end")) }
    }
}

fn be_i32(bytes: &[u8]) -> i32 {
    i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The value in a field that was read. What has no canonical form becomes
/// [`Value::Unhashable`], since nothing that is stored may stop a check.
pub fn decode(ty: ColumnType, field: Option<&[u8]>) -> Value<'_> {
    let Some(field) = field else { return Value::Null };
    decode_field(ty, field).unwrap_or(Value::Unhashable("a value of another type"))
}

fn decode_field(ty: ColumnType, field: &[u8]) -> Option<Value<'_>> {
    Some(match ty {
        ColumnType::BigInt => Value::Integer(i64::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Integer => Value::Integer(i32::from_be_bytes(field.try_into().ok()?).into()),
        ColumnType::Boolean => Value::Boolean(*field.first()? != 0),
        ColumnType::Numeric { precision, scale } => decode_numeric(field, precision, scale)?,
        ColumnType::Text { .. } => Value::Text(Cow::Borrowed(std::str::from_utf8(field).ok()?)),
        ColumnType::Uuid => Value::Uuid(field.try_into().ok()?),
        ColumnType::Inet => decode_inet(field)?,
        ColumnType::Timestamp => {
            let micros = i64::from_be_bytes(field.try_into().ok()?);
            micros
                .checked_add(POSTGRES_EPOCH_MICROS)
                .map_or(Value::Unhashable("an infinite time"), Value::Timestamp)
        }
        ColumnType::Document => Value::Document(Cow::Borrowed(std::str::from_utf8(field).ok()?)),
        ColumnType::Bytes => Value::Bytes(Cow::Borrowed(field)),
    })
}

fn decode_inet(field: &[u8]) -> Option<Value<'static>> {
    let [family, mask, _is_cidr, _length, octets @ ..] = field else { return None };
    let (address, full_mask) = match *family {
        FAMILY_INET => (IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)), 32),
        FAMILY_INET6 => (IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)), 128),
        _ => return None,
    };
    if *mask == full_mask {
        Some(Value::Inet(address))
    } else {
        Some(Value::Unhashable("a network in place of a host address"))
    }
}

fn decode_numeric(field: &[u8], precision: u8, scale: u8) -> Option<Value<'static>> {
    const TOO_LONG: Value<'static> = Value::Unhashable("a number beyond the column's digits");
    let (head, digits) = field.split_at_checked(8)?;
    let head = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let negative = match head(4) {
        NUMERIC_POSITIVE => false,
        NUMERIC_NEGATIVE => true,
        _ => return Some(Value::Unhashable("no finite number")),
    };
    // The place of a digit's last decimal: units = digit * 10^place.
    let weight = i32::from(i16::from_be_bytes(head(2).to_be_bytes()));
    let mut place = weight * 4 + i32::from(scale);
    let mut units: i128 = 0;
    for digit in digits.chunks_exact(2) {
        let digit = i128::from(u16::from_be_bytes([digit[0], digit[1]]));
        let power = 10_i128.checked_pow(place.unsigned_abs());
        let part = if place >= 0 {
            power.and_then(|power| digit.checked_mul(power))
        } else {
            power.filter(|power| digit % power == 0).map(|power| digit / power)
        };
        match part.and_then(|part| units.checked_add(part)) {
            Some(sum) if sum < bound(precision) => units = sum,
            _ if digit == 0 => {}
            _ => return Some(TOO_LONG),
        }
        place -= 4;
    }
    Some(Value::Decimal(if negative { -units } else { units }))
}
