//! Canonical rows and their hashes, against the vectors and against a naive implementation.

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine;
use common::plain_row;
use ledger_verifier::chain::{CHAINS, by_name};
use ledger_verifier::check::StoredRow;
use ledger_verifier::decimal::bound;
use ledger_verifier::row::{INTEGER_BOUND, write_canonical};
use ledger_verifier::{Chain, ChainChecker, ColumnType, RowError, RowHash, Value, row_hash};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

/// 10000-01-01, the first instant that cannot be hashed, in microseconds.
const END_OF_TIME: i64 = 253_402_300_800_000_000;

/// FORMAT.md section 2 with a sorted map, a JSON library and loops: shares no code with the crate
/// but the list of columns.
mod naive {
    use std::fmt::Write;

    use super::{BTreeMap, Chain, ColumnType, Digest, IpAddr, Ipv6Addr, Json, Sha256, Value, json};

    pub(super) fn canonical(chain: &Chain, values: &[Value<'_>]) -> String {
        let mut members =
            BTreeMap::from([("chain".to_owned(), json!(chain.name)), ("v".to_owned(), json!(1))]);
        for (column, value) in chain.columns.iter().zip(values) {
            let digested = matches!(column.ty, ColumnType::Document | ColumnType::Bytes);
            let name = format!("{}{}", column.name, if digested { "_sha256" } else { "" });
            members.insert(name, member(column.ty, value));
        }
        serde_json::to_string(&members).unwrap()
    }

    pub(super) fn row_hash(chain: &Chain, prev_hash: &str, values: &[Value<'_>]) -> String {
        sha256_hex(format!("{prev_hash}{}", canonical(chain, values)).as_bytes())
    }

    fn hex(bytes: &[u8]) -> String {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    fn sha256_hex(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    fn member(ty: ColumnType, value: &Value<'_>) -> Json {
        match value {
            Value::Null => Json::Null,
            Value::Integer(number) => json!(number),
            Value::Boolean(flag) => json!(flag),
            Value::Decimal(units) => {
                let ColumnType::Numeric { scale, .. } = ty else { panic!("no decimal column") };
                json!(decimal(*units, scale))
            }
            Value::Text(text) => json!(text),
            Value::Uuid(bytes) => {
                let digits = hex(bytes);
                let groups =
                    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
                json!(groups.join("-"))
            }
            Value::Inet(IpAddr::V4(v4)) => {
                let octets: Vec<String> = v4.octets().iter().map(u8::to_string).collect();
                json!(octets.join("."))
            }
            Value::Inet(IpAddr::V6(v6)) => json!(host_v6(*v6)),
            Value::Timestamp(micros) => json!(time(*micros)),
            Value::Document(text) => json!(sha256_hex(text.as_bytes())),
            Value::Bytes(bytes) => json!(sha256_hex(bytes)),
            Value::Unhashable(why) => panic!("{why}"),
        }
    }

    fn decimal(units: i128, scale: u8) -> String {
        let scale = usize::from(scale);
        let digits = format!("{:0>width$}", units.unsigned_abs().to_string(), width = scale + 1);
        let (integer, fraction) = digits.split_at(digits.len() - scale);
        let sign = if units < 0 { "-" } else { "" };
        if scale == 0 { format!("{sign}{integer}") } else { format!("{sign}{integer}.{fraction}") }
    }

    fn time(micros: i64) -> String {
        let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut month, mut day) = (1970, 1, micros / 86_400_000_000);
        while day >= 365 + i64::from(leap(year)) {
            day -= 365 + i64::from(leap(year));
            year += 1;
        }
        for days in [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if day < days {
                break;
            }
            day -= days;
            month += 1;
        }
        let seconds = micros % 86_400_000_000 / 1_000_000;
        format!(
            "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            day + 1,
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            micros % 1_000_000
        )
    }

    /// PostgreSQL's `pg_inet_net_ntop` (`src/port/inet_net_ntop.c`) for a whole address.
    fn host_v6(address: Ipv6Addr) -> String {
        let words = address.segments();
        let (mut best, mut at) = ((0, 0), 0);
        while at < 8 {
            let run = words[at..].iter().take_while(|&&word| word == 0).count();
            if run > best.1 {
                best = (at, run);
            }
            at += run.max(1);
        }
        let (base, length) = if best.1 < 2 { (8, 0) } else { best };
        let mut text = String::new();
        for (at, word) in words.iter().enumerate() {
            if (base..base + length).contains(&at) {
                if at == base {
                    text.push(':');
                }
                continue;
            }
            if at > 0 {
                text.push(':');
            }
            let encapsulated = length == 6 || (length == 5 && words[5] == 0xffff);
            if at == 6 && base == 0 && encapsulated {
                let octets: Vec<String> =
                    address.octets()[12..].iter().map(u8::to_string).collect();
                return text + &octets.join(".");
            }
            write!(text, "{word:x}").unwrap();
        }
        if length > 0 && base + length == 8 {
            text.push(':');
        }
        text
    }
}

fn vectors() -> Json {
    serde_json::from_str(include_str!("vectors/rows.json")).unwrap()
}

/// A value of the vectors; they spell numbers and times with what zeros they please.
fn from_vector(ty: ColumnType, value: &Json) -> Value<'static> {
    if value.is_null() {
        return Value::Null;
    }
    let text = || value.as_str().unwrap().to_owned();
    match ty {
        ColumnType::BigInt | ColumnType::Integer => Value::Integer(value.as_i64().unwrap()),
        ColumnType::Boolean => Value::Boolean(value.as_bool().unwrap()),
        ColumnType::Numeric { scale, .. } => {
            let text = text();
            let (integer, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let fraction = format!("{fraction:0<width$}", width = usize::from(scale));
            Value::Decimal(format!("{integer}{fraction}").parse().unwrap())
        }
        ColumnType::Text { .. } => Value::Text(text().into()),
        ColumnType::Uuid => {
            let digits = text().replace('-', "");
            Value::Uuid(hex::decode(digits).unwrap().try_into().unwrap())
        }
        ColumnType::Inet => Value::Inet(text().parse().unwrap()),
        ColumnType::Timestamp => Value::Timestamp(micros(&text())),
        ColumnType::Document => Value::Document(text().into()),
        ColumnType::Bytes => {
            let engine = base64::engine::general_purpose::STANDARD;
            let bytes = engine.decode(text().strip_prefix("base64:").unwrap()).unwrap();
            Value::Bytes(bytes.into())
        }
    }
}

/// `2026-01-02T03:04:06.1Z` by counting days one year and one month at a time.
fn micros(text: &str) -> i64 {
    let (date, time) = text.strip_suffix('Z').unwrap().split_once('T').unwrap();
    let numbers = |text: &str, by: char| -> Vec<i64> {
        text.split(by).map(|part| part.parse().unwrap()).collect()
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [year, month, day] = numbers(date, '-')[..] else { panic!("{date}") };
    let [hours, minutes, seconds] = numbers(clock, ':')[..] else { panic!("{clock}") };
    let leap = |year: i64| i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let months = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month - 1).unwrap();
    let days = (1970..year).map(|year| 365 + leap(year)).sum::<i64>()
        + months[..month].iter().sum::<i64>()
        + day
        - 1;
    let fraction: i64 = format!("{fraction:0<6}").parse().unwrap();
    (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction
}

#[test]
fn every_vector_has_its_canonical_text_and_hash() {
    let vectors = vectors();
    for chain in CHAINS {
        let mut checker = ChainChecker::new(chain);
        let mut findings = Vec::new();
        let mut rows = 0;
        for row in vectors["rows"].as_array().unwrap() {
            if row["chain"] != chain.name {
                continue;
            }
            let columns = row["columns"].as_object().unwrap();
            assert_eq!(columns.len(), chain.columns.len(), "{}", chain.name);
            let values: Vec<_> = chain
                .columns
                .iter()
                .map(|column| from_vector(column.ty, &columns[column.name]))
                .collect();
            let prev_hash = row["prev_hash"].as_str().unwrap();
            let hash = row["row_hash"].as_str().unwrap();

            let mut canonical = Vec::new();
            write_canonical(chain, &values, &mut canonical).unwrap();
            assert_eq!(String::from_utf8(canonical).unwrap(), row["canonical"].as_str().unwrap());
            assert_eq!(naive::canonical(chain, &values), row["canonical"].as_str().unwrap());
            let computed = row_hash(chain, prev_hash.parse().unwrap(), &values).unwrap();
            assert_eq!(computed.to_string(), hash);
            checker.check(
                &StoredRow {
                    values: &values,
                    prev_hash: prev_hash.as_bytes(),
                    row_hash: hash.as_bytes(),
                },
                &mut findings,
            );
            rows += 1;
        }
        assert!(rows > 0, "{} has vectors", chain.name);
        assert_eq!(findings, [], "the vectors of {} form a chain", chain.name);
    }
}

#[test]
fn every_genesis_value_is_that_of_the_vectors() {
    let vectors = vectors();
    let genesis = vectors["genesis"].as_object().unwrap();
    assert_eq!(genesis.len(), CHAINS.len());
    for chain in CHAINS {
        assert_eq!(RowHash::genesis(chain.name).to_string(), genesis[chain.name]);
        assert!(std::ptr::eq(by_name(chain.name).unwrap(), chain));
    }
    assert!(by_name("ledger_log").is_none());
}

fn any_text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        3 => any::<char>(),
        2 => (0_u8..0x80).prop_map(char::from),
        1 => select(vec!['"', '\\', '/', '\u{7f}', '\u{80}', '\u{2028}', '\u{d7ff}', '\u{e000}',
                         '\u{ffff}', '\u{10000}', '\u{10ffff}', '\u{feff}', 'e', '\u{301}']),
    ];
    prop::collection::vec(character, 0..24).prop_map(String::from_iter)
}

fn any_inet() -> impl Strategy<Value = IpAddr> {
    let word = prop_oneof![3 => Just(0_u16), 1 => any::<u16>(), 1 => select(vec![1, 0xffff])];
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        // Zeros in runs of any length, at any place.
        any::<[u16; 8]>().prop_map(|words| IpAddr::V6(Ipv6Addr::from(words))),
        prop::array::uniform8(word).prop_map(|words| IpAddr::V6(Ipv6Addr::from(words))),
    ]
}

fn any_value(ty: ColumnType) -> BoxedStrategy<Value<'static>> {
    match ty {
        ColumnType::BigInt => (1 - INTEGER_BOUND..INTEGER_BOUND).prop_map(Value::Integer).boxed(),
        ColumnType::Integer => any::<i32>().prop_map(|n| Value::Integer(n.into())).boxed(),
        ColumnType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        ColumnType::Numeric { precision, .. } => {
            let largest = bound(precision) - 1;
            let edges = vec![0, 1, -1, 9, 10, largest, -largest, bound(precision / 2)];
            prop_oneof![-largest..=largest, select(edges)].prop_map(Value::Decimal).boxed()
        }
        ColumnType::Text { .. } => any_text().prop_map(|text| Value::Text(text.into())).boxed(),
        ColumnType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        ColumnType::Inet => any_inet().prop_map(Value::Inet).boxed(),
        ColumnType::Timestamp => prop_oneof![
            8 => 0..END_OF_TIME,
            1 => select(vec![0, 1, 999_999, END_OF_TIME - 1, 951_782_399_999_999]),
        ]
        .prop_map(Value::Timestamp)
        .boxed(),
        ColumnType::Document => any_text().prop_map(|t| Value::Document(t.into())).boxed(),
        ColumnType::Bytes => {
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|b| Value::Bytes(b.into())).boxed()
        }
    }
}

/// A row of any chain, NULLs where they are allowed.
fn any_row() -> impl Strategy<Value = (&'static Chain, Vec<Value<'static>>)> {
    select(CHAINS.to_vec()).prop_flat_map(|chain| {
        let values: Vec<_> = chain
            .columns
            .iter()
            .map(|column| {
                let value = any_value(column.ty);
                if column.nullable {
                    prop_oneof![1 => Just(Value::Null), 2 => value].boxed()
                } else {
                    value
                }
            })
            .collect();
        (Just(chain), values)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        rng_seed: RngSeed::Fixed(20_261_121),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_row_is_canonical_as_the_naive_implementation_has_it(
        (chain, values) in any_row(),
        prev in any::<[u8; 32]>(),
    ) {
        let mut canonical = Vec::new();
        write_canonical(chain, &values, &mut canonical).unwrap();
        let canonical = String::from_utf8(canonical).unwrap();
        prop_assert_eq!(&canonical, &naive::canonical(chain, &values));
        let read: BTreeMap<String, Json> = serde_json::from_str(&canonical).unwrap();
        prop_assert_eq!(read.len(), chain.columns.len() + 2);

        let hash = row_hash(chain, RowHash(prev), &values).unwrap();
        let expected = naive::row_hash(chain, &hex::encode(prev), &values);
        prop_assert_eq!(hash.to_string(), expected);
        // Nothing of what the row borrowed is needed any more.
        let owned: Vec<_> = values.iter().cloned().map(Value::into_owned).collect();
        prop_assert_eq!(row_hash(chain, RowHash(prev), &owned).unwrap(), hash);
    }

    #[test]
    fn another_value_in_any_column_makes_another_hash(
        (chain, values, column, other) in any_row().prop_flat_map(|(chain, values)| {
            (0..chain.columns.len()).prop_flat_map(move |column| {
                let other = any_value(chain.columns[column].ty);
                (Just(chain), Just(values.clone()), Just(column), other)
            })
        }),
    ) {
        let genesis = RowHash::genesis(chain.name);
        let mut changed = values.clone();
        prop_assume!(changed[column] != other);
        changed[column] = other;
        prop_assert_ne!(row_hash(chain, genesis, &values), row_hash(chain, genesis, &changed));
    }

    #[test]
    fn text_is_read_as_a_hash_only_in_its_one_spelling(text in "\\PC{0,70}", bytes in any::<[u8; 32]>()) {
        let digits = hex::encode(bytes);
        prop_assert_eq!(RowHash::from_hex(digits.as_bytes()), Some(RowHash(bytes)));
        prop_assert_eq!(RowHash(bytes).to_hex().to_vec(), digits.clone().into_bytes());
        if digits.bytes().any(|byte| byte.is_ascii_lowercase()) {
            prop_assert_eq!(RowHash::from_hex(digits.to_uppercase().as_bytes()), None);
        }
        prop_assert_eq!(RowHash::from_hex(&digits.as_bytes()[..63]), None);
        prop_assert_eq!(RowHash::from_hex(format!("{digits}0").as_bytes()), None);
        prop_assert_eq!(text.parse::<RowHash>().is_ok(), RowHash::from_hex(text.as_bytes()).is_some());
    }
}

#[test]
fn values_that_cannot_be_hashed_are_refused_by_name() {
    let chain = by_name("signal_audit_ledger").unwrap();
    let genesis = RowHash::genesis(chain.name);
    let with = |column: &str, value: Value<'static>| {
        let mut values = plain_row(chain, 1, 1);
        values[chain.position(column).unwrap()] = value;
        row_hash(chain, genesis, &values)
    };
    for (column, value) in [
        ("id", Value::Integer(INTEGER_BOUND)),
        ("id", Value::Integer(-INTEGER_BOUND)),
        ("conviction", Value::Decimal(bound(7))),
        ("conviction", Value::Decimal(-bound(7))),
        ("confidence", Value::Decimal(bound(5))),
        ("price", Value::Decimal(bound(28))),
        ("price", Value::Decimal(i128::MIN)),
        ("timestamp", Value::Timestamp(-1)),
        ("timestamp", Value::Timestamp(END_OF_TIME)),
        ("created_at", Value::Timestamp(i64::MIN)),
    ] {
        let expected = chain.columns[chain.position(column).unwrap()].name;
        assert_eq!(with(column, value), Err(RowError::Range { column: expected }));
    }
    for (column, value) in [
        ("id", Value::Integer(INTEGER_BOUND - 1)),
        ("id", Value::Integer(1 - INTEGER_BOUND)),
        ("conviction", Value::Decimal(bound(7) - 1)),
        ("price", Value::Decimal(1 - bound(28))),
        ("timestamp", Value::Timestamp(0)),
        ("timestamp", Value::Timestamp(END_OF_TIME - 1)),
    ] {
        with(column, value).unwrap();
    }
    assert_eq!(
        with("price", Value::Unhashable("no finite number")),
        Err(RowError::Unhashable { column: "price", why: "no finite number" })
    );
    for (column, value) in [
        ("id", Value::Text("1".into())),
        ("price", Value::Integer(1)),
        ("acted_upon", Value::Integer(1)),
        ("payload_json", Value::Text("{}".into())),
        ("ticker", Value::Document("x".into())),
        ("timestamp", Value::Integer(1)),
    ] {
        assert_eq!(with(column, value), Err(RowError::Kind { column }));
    }
    assert_eq!(with("ticker", Value::Null), Err(RowError::Null { column: "ticker" }));
    with("price", Value::Null).unwrap();
    let mut short = plain_row(chain, 1, 1);
    short.pop();
    assert_eq!(
        row_hash(chain, genesis, &short),
        Err(RowError::Count { chain: chain.name, expected: 19, found: 18 })
    );
}
