//! What the service parses. Each target panics exactly where a property is broken, and says whether
//! the input was valid.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use audit_ledger::body::json::{
    Member, Pointers, check_document, holds_text, read_members, read_object, take_token,
};
use audit_ledger::body::{Fault, Reason};
use audit_ledger::chains::{IN_LEDGER, NewRow, WRITTEN_BY_CLIENTS};
use audit_ledger::query::{Filter, add_all};
use audit_ledger::records::{Records, read_record, split_records};
use audit_ledger::store::copy::{CopyDecoder, CopyEncoder, CopyFormatError, decode};
use audit_ledger::webhook::auth::{Authenticated, Method};
use audit_ledger::webhook::mapping::map_signal;
use audit_ledger::webhook::source::{WebhookSecret, parse_sources};
use audit_ledger::webhook::{Delivery, Source};
use audit_ledger::{decimal, fuzzing, rows};
use chrono::DateTime;
use ledger_verifier::chain::{CHAINS, ColumnType};
use ledger_verifier::decimal::bound;
use ledger_verifier::json::read_json;
use ledger_verifier::row::{INTEGER_BOUND, write_json};
use ledger_verifier::{Chain, RowError, RowHash, Value, row_hash};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Hands the name of every target to a macro.
macro_rules! service_targets {
    ($each:ident) => {
        $each! { copy cursor page filter number body record delivery sources timestamp kept }
    };
}

/// What the timestamp in `corpus/timestamp` is of.
const STAMPED: &[u8] = b"note";
const NONCE: [u8; 8] = [0x41, 2, 3, 4, 5, 6, 7, 8];
/// The secret of the sources in `corpus/sources`.
const SECRET: &str = "not-to-be-shown-0123456789";
/// 2026-01-02T03:04:05Z.
const NOW: i64 = 1_767_323_045;

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// A COPY of the database: the chain, the size of the pieces that it comes in, and its bytes. In
/// pieces it is what it is as a whole; what was read was all that there is; each row encodes as
/// itself, and exports as itself where it has a hash.
pub(crate) fn copy(data: &[u8]) -> bool {
    let &[chain, size, ref stream @ ..] = data else { return false };
    let chain = CHAINS[usize::from(chain) % CHAINS.len()];
    let (copied, end) = read_copy([stream]);
    let in_pieces = read_copy(stream.chunks(usize::from(size).max(1)));
    assert_eq!((&copied, end), (&in_pieces.0, in_pieces.1));

    if end == Ok(true) {
        // Its lower half may say what need not be known.
        let flags = &stream[11..15];
        assert_eq!(flags[..2], [0; 2]);
        let mut again = [b"PGCOPY\n\xff\r\n\0", flags, &[0; 4]].concat();
        for row in &copied {
            again.extend(i16::try_from(row.len()).expect("few fields").to_be_bytes());
            for field in row {
                let length = field.as_ref().map_or(-1, |field| field.len().cast_signed());
                again.extend(i32::try_from(length).expect("a short field").to_be_bytes());
                again.extend_from_slice(field.as_deref().unwrap_or_default());
            }
        }
        again.extend([0xff; 2]);
        assert_eq!(stream, again);
    }
    for row in &copied {
        if row.len() == chain.columns.len() + 2 {
            copied_row(chain, row);
        }
    }
    end == Ok(true) && !copied.is_empty()
}

type Fields = Vec<Option<Vec<u8>>>;

/// All rows, and whether the end was read.
fn read_copy<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Fields>, Result<bool, CopyFormatError>) {
    let mut decoder = CopyDecoder::default();
    let mut rows = Vec::new();
    let owned = |row: &[Option<&[u8]>]| row.iter().map(|field| field.map(<[u8]>::to_vec)).collect();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_row(owned) {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => break,
                Err(error) => return (rows, Err(error)),
            }
        }
    }
    (rows, Ok(decoder.finished()))
}

fn copied_row(chain: &'static Chain, row: &[Option<Vec<u8>>]) {
    let values: Vec<_> = chain
        .columns
        .iter()
        .zip(row)
        .map(|(column, field)| decode(column.ty, field.as_deref()))
        .collect();
    if values.iter().any(|value| matches!(value, Value::Unhashable(_))) {
        return;
    }
    let hashes = [RowHash([1; 32]), RowHash([2; 32])];
    let mut encoder = CopyEncoder::new(chain);
    encoder.push(&values, hashes[0], hashes[1]);
    let (again, end) = read_copy([encoder.finish().as_slice()]);
    let ([again], Ok(true)) = (again.as_slice(), end) else { panic!("{end:?}: {again:?}") };
    let columns = chain.columns.iter().zip(again);
    let again: Vec<_> =
        columns.map(|(column, field)| decode(column.ty, field.as_deref())).collect();
    assert_eq!(again, values);
    if row_hash(chain, hashes[0], &values).is_ok() {
        exports_as_itself(chain, &values);
    }
}

fn exports_as_itself(chain: &Chain, values: &[Value<'_>]) {
    let mut line = Vec::new();
    let hashes = [RowHash([1; 32]), RowHash([2; 32])].map(|hash| hash.to_string());
    write_json(chain, values, (&hashes[0], &hashes[1]), None, &mut line);
    let read = read_json(&line).unwrap_or_else(|error| panic!("{error}: {values:?}"));
    assert_eq!(read.values, values);
}

/// A row of a client becomes one that has a hash and exports as itself, once the ledger has filled
/// in what is its own.
fn can_be_appended(row: NewRow) {
    let NewRow { chain, mut values, .. } = row;
    assert_eq!(values.len(), chain.columns.len());
    assert_eq!((&values[0], values.last()), (&Value::Null, Some(&Value::Null)));
    values[0] = Value::Integer(1);
    *values.last_mut().expect("columns") = Value::Timestamp(NOW * 1_000_000);
    match row_hash(chain, RowHash([0; 32]), &values) {
        Ok(_) => exports_as_itself(chain, &values),
        // An outcome has from its signal what it does not say itself.
        Err(RowError::Null { .. }) => {
            assert!(values.contains(&Value::Text("OUTCOME".into())), "{values:?}");
        }
        Err(error) => panic!("{error}: {values:?}"),
    }
}

/// A cursor is read in the one spelling that it has, and by its own list alone.
pub(crate) fn cursor(data: &[u8]) -> bool {
    let Some(cursor) = text(data) else { return false };
    let read = |list: &str| fuzzing::read_cursor(list, cursor);
    let lists = ["signals", "checks", "signal", ""];
    let places: Vec<_> = lists.iter().filter_map(|list| Some((list, read(list)?))).collect();
    assert!(places.len() < 2, "{places:?}");
    for (list, place) in &places {
        assert_eq!(fuzzing::write_cursor(list, *place), cursor);
    }
    !places.is_empty()
}

/// The page behind a page is at one address, whichever page links to it.
pub(crate) fn page(data: &[u8]) -> bool {
    let Some(address) = text(data).filter(|text| text.is_ascii() && text.starts_with('/')) else {
        return false;
    };
    let Some(next) = fuzzing::next_page(address) else { return false };
    assert_eq!(fuzzing::next_page(&next).as_deref(), Some(next.as_str()));
    true
}

/// A filter compares with what a row can hold: the chain, and parameters a line.
pub(crate) fn filter(data: &[u8]) -> bool {
    let Some((&chain, lines)) = data.split_first() else { return false };
    let Some(lines) = text(lines) else { return false };
    let chain = IN_LEDGER[usize::from(chain) % IN_LEDGER.len()];
    let mut filter = Filter::all(chain);
    let given = lines.lines().filter_map(|line| line.split_once('='));
    if add_all(std::slice::from_mut(&mut filter), given).is_err() {
        return false;
    }
    for condition in filter.conditions() {
        match (condition.ty, &condition.value) {
            (_, Value::Integer(number)) => {
                assert!(number.unsigned_abs() < INTEGER_BOUND.unsigned_abs());
            }
            (ColumnType::Numeric { precision, .. }, Value::Decimal(units)) => {
                assert!(units.unsigned_abs() < bound(precision).unsigned_abs());
            }
            (_, Value::Timestamp(micros)) => assert!(*micros >= 0),
            (_, Value::Text(text)) => assert!(!text.is_empty() && !text.contains('\0')),
            (ColumnType::Boolean, Value::Boolean(_)) | (ColumnType::Uuid, Value::Uuid(_)) => {}
            (ty, value) => panic!("{value:?} compared with {ty:?}"),
        }
    }
    assert!(filter.ids().0 >= 1, "{:?}", filter.ids());
    !filter.given().is_empty()
}

/// A number is what its digits say, or is refused: digits of the column, and the text.
pub(crate) fn number(data: &[u8]) -> bool {
    let Some((&scale, literal)) = data.split_first() else { return false };
    let Some(literal) = text(literal) else { return false };
    let [precision, scale] = [[28, 10], [28, 2], [5, 4], [1, 0]][usize::from(scale) % 4];
    let read = decimal::parse(literal, precision, scale).ok();
    assert_eq!(read, plain_number(literal, precision.into(), scale.into()));
    let fits_jsonb = decimal::fits_jsonb(literal);
    assert!(read.is_none() || fits_jsonb || read == Some(0));
    read.is_some()
}

/// Moves the point through the digits, as one does on paper.
fn plain_number(literal: &str, precision: usize, scale: usize) -> Option<i128> {
    serde_json::from_str::<IgnoredAny>(literal).ok()?;
    let unsigned = literal.strip_prefix('-').unwrap_or(literal);
    let is_number = unsigned.starts_with(|c: char| c.is_ascii_digit()) && literal.trim() == literal;
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if !is_number || digits.bytes().all(|digit| digit == b'0') {
        return is_number.then_some(0);
    }
    // A number of more places than these is none that a column holds.
    let exponent: i32 =
        exponent.parse().ok().filter(|places| i32::unsigned_abs(*places) < 100_000)?;
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let length = i32::try_from(digits.len()).ok()?;
    let digits = format!("{}{digits}{}", zeros(-point), zeros(point - length));
    let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.len() > precision - scale || fraction.len() > scale {
        return None;
    }
    let units: i128 = format!("{whole}{fraction:0<scale$}").parse().ok()?;
    Some(if literal.starts_with('-') { -units } else { units })
}

/// The members of an object and their texts, as `serde_json` reads them.
fn members_of(json: &[u8]) -> serde_json::Result<BTreeMap<String, &str>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json)?;
    Ok(members.into_iter().map(|(name, value)| (name, value.get())).collect())
}

/// A body is read as `serde_json` reads it, or refused; a token is taken out of it whole.
pub(crate) fn body(data: &[u8]) -> bool {
    if let Some((token, blanked)) = take_token(data, "token") {
        assert!(holds_text(data, &[&token]));
        let mut before = members_of(data).expect("a token in what is no JSON");
        let mut after = members_of(&blanked).expect("the rest as it was");
        let was = before.remove("token").map(serde_json::from_str::<String>);
        assert_eq!(was.and_then(Result::ok), Some(token));
        assert_eq!(after.remove("token"), Some("\"\""));
        assert_eq!(before, after);
    }
    let read = read_members(data);
    let members = match (&read, members_of(data)) {
        (Ok(members), Ok(theirs)) => {
            assert_eq!(members.len(), theirs.len());
            assert_eq!(members.iter().cloned().collect::<BTreeMap<_, _>>(), theirs);
            members
        }
        (Err(Fault { reason: Reason::MalformedJson, detail, .. }), theirs) => {
            assert!(theirs.is_err() || detail.contains("nested"), "{detail}");
            return false;
        }
        (Err(_), _) => return false,
        (Ok(_), Err(error)) => panic!("it is no JSON: {error}"),
    };
    let document = text(data).expect("what was read is text");
    assert_eq!(check_document(document), Ok(()));

    let pointer = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    let wanted: Pointers = members.iter().map(|(name, _)| pointer(name)).collect();
    let found = read_object(data, &wanted).expect("what was read just now");
    for (name, value) in members {
        let (_, member) = found
            .iter()
            .find(|(found, _)| *found == pointer(name))
            .expect("a member that is there");
        match member {
            Member::Number(literal) => assert_eq!(literal, value),
            Member::Text(text) => {
                assert_eq!(serde_json::from_str::<String>(value).ok().as_ref(), Some(text));
            }
            Member::Null => assert_eq!(*value, "null"),
            Member::Other(_) => assert!(value.starts_with(['{', '[', 't', 'f']), "{value}"),
        }
    }
    true
}

/// What is taken for a record, or for a row of a client, can be appended.
pub(crate) fn record(data: &[u8]) -> bool {
    let now = DateTime::from_timestamp(NOW, 0).expect("a time");
    let mut is_one = false;
    for is_ndjson in [false, true] {
        let records = match split_records(data, is_ndjson, 8) {
            Ok(Records::One(record)) => vec![record],
            Ok(Records::Many(records)) => records,
            Err(_) => continue,
        };
        assert!(records.len() <= 8);
        for record in records {
            if let Ok(row) = read_record(record, "desk", now) {
                can_be_appended(row);
                is_one = true;
            }
        }
    }
    for to in WRITTEN_BY_CLIENTS {
        if let Ok(row) = rows::read_row(to, data, "desk", Some("key".to_owned())) {
            can_be_appended(row);
            is_one = true;
        }
    }
    is_one
}

/// A delivery that makes a signal is kept as it is, and its numbers are above zero.
pub(crate) fn delivery(data: &[u8]) -> bool {
    static SOURCE: LazyLock<Arc<Source>> = LazyLock::new(|| {
        let secret = WebhookSecret::new(SECRET.into()).expect("a secret");
        Arc::new(Source::signed("desk", vec![secret]))
    });
    let delivery = Delivery {
        source: SOURCE.clone(),
        authenticated: Authenticated {
            method: Method::Hmac,
            recorded_by: "desk".to_owned(),
            webhook_id: None,
        },
        body: data.to_vec().into(),
        content_type: None,
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: DateTime::from_timestamp(NOW, 0).expect("a time"),
    };
    let Ok(signal) = map_signal(&delivery, uuid::Uuid::from_bytes([7; 16])) else { return false };
    assert_eq!(signal.raw_payload.as_bytes(), data);
    for units in [signal.price, signal.quantity] {
        assert!(0 < units && units < bound(28), "{units}");
    }
    assert!(!signal.symbol.is_empty() && !signal.signal_id.is_empty());
    can_be_appended(signal.into());
    true
}

/// Sources that are read can be used, and no error shows the secret.
pub(crate) fn sources(data: &[u8]) -> bool {
    // Another file would be read.
    let Some(toml) = text(data).filter(|toml| !toml.contains("secrets_file")) else { return false };
    let is_secret = toml.contains(&format!("secrets = [\"{SECRET}\"]"))
        && toml.matches(SECRET).count() == toml.matches("secrets = [").count();
    match parse_sources(toml) {
        Ok(sources) => {
            for source in &sources {
                assert!(!source.secrets.is_empty() && !source.methods.is_empty());
                assert!(!source.uses_tokens() || !source.allow_from.is_empty());
                assert!(!is_secret || !format!("{source:?}").contains(SECRET));
            }
            !sources.is_empty()
        }
        Err(error) => {
            assert!(!is_secret || !error.contains(SECRET), "{error}");
            false
        }
    }
}

/// A timestamp that is taken has the note's hash and the request's nonce in it.
pub(crate) fn timestamp(response: &[u8]) -> bool {
    let is_granted = fuzzing::require_granted(response, STAMPED, NONCE).is_ok();
    let holds = |bytes: &[u8]| response.windows(bytes.len()).any(|window| window == bytes);
    assert!(!is_granted || holds(&Sha256::digest(STAMPED)) && holds(&NONCE));
    is_granted
}

/// Whatever a file of notes holds, one that is appended behind it is read back, and nothing before
/// it is read otherwise.
pub(crate) fn kept(file: &[u8]) -> bool {
    const NOTE: &[u8] = b"text\n\n\xe2\x80\x94 key AAAAAAA=\n";
    let before = fuzzing::kept_notes(file).expect("no note of more than 64 KiB");
    let is_ended = file.is_empty() || file.ends_with(b"\x1e\n") || file.ends_with(b"\x18\n");
    let end: &[u8] = if is_ended { b"" } else { b"\x18\n" };
    let after = fuzzing::kept_notes(&[file, end, NOTE, b"\x1e\n"].concat()).expect("as before");
    let (last, others) = after.split_last().expect("the note");
    assert_eq!(last.as_deref(), Some(NOTE));
    assert_eq!(others, before);
    before.iter().flatten().count() > 0
}
