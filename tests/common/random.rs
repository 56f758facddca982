//! Random values of every column type, the same ones in every run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ledger_verifier::decimal::bound;
use ledger_verifier::{Chain, ColumnType, Value};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

/// 10000-01-01, the first instant that cannot be hashed, in microseconds.
const END_OF_TIME: i64 = 253_402_300_800_000_000;

/// So many cases, always the same.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(20_261_121),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// So many values of a strategy.
pub(crate) fn sample<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::new(config(1));
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

/// All of Unicode but NUL, which PostgreSQL's text cannot hold.
pub(crate) fn text(max_chars: usize) -> impl Strategy<Value = String> {
    let edges = vec![
        '"',
        '\\',
        '/',
        '\'',
        '$',
        '|',
        '\u{1}',
        '\u{8}',
        '\t',
        '\n',
        '\u{b}',
        '\u{c}',
        '\r',
        '\u{1f}',
        ' ',
        '\u{7f}',
        '\u{80}',
        '\u{9f}',
        '\u{a0}',
        '\u{ad}',
        '\u{301}',
        '\u{7ff}',
        '\u{800}',
        '\u{200b}',
        '\u{2028}',
        '\u{2029}',
        '\u{202e}',
        '\u{d7ff}',
        '\u{e000}',
        '\u{fdd0}',
        '\u{feff}',
        '\u{fffd}',
        '\u{fffe}',
        '\u{ffff}',
        '\u{10000}',
        '\u{1f680}',
        '\u{10fffe}',
        '\u{10ffff}',
    ];
    let character = prop_oneof![
        3 => any::<char>().prop_map(|c| if c == '\0' { '\u{1}' } else { c }),
        3 => (1_u8..0x80).prop_map(char::from),
        2 => select(edges),
    ];
    prop::collection::vec(character, 0..=max_chars).prop_map(String::from_iter)
}

fn inet() -> impl Strategy<Value = IpAddr> {
    let v6 = |words: [u16; 8]| IpAddr::V6(Ipv6Addr::from(words));
    let word = prop_oneof![3 => Just(0_u16), 1 => any::<u16>(), 1 => select(vec![1, 0xffff])];
    let edges = [
        "::",
        "::1",
        "::2",
        "::1:2",
        "::1:0",
        "::ffff:1.2.3.4",
        "::ffff:0:1.2.3.4",
        "::1.2.3.4",
        "1:0:0:2:0:0:3:4",
        "0:0:1:2:3:4:0:0",
        "1:2:3:4:5:6:0:0",
        "0:1::",
        "1::",
        "0:1:0:1:0:1:0:1",
        "64:ff9b::1.2.3.4",
        "fe80::1",
        "::ffff",
        "::ffff:0",
        "0.0.0.0",
        "255.255.255.255",
    ];
    prop_oneof![
        2 => any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        1 => any::<[u16; 8]>().prop_map(v6),
        // Zeros in runs of any length, at any place, ties among them.
        3 => prop::array::uniform8(word).prop_map(v6),
        1 => any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from(bits).to_ipv6_mapped())),
        1 => select(edges.map(|text| text.parse().expect("an address")).to_vec()),
    ]
}

/// JSON of any spelling that PostgreSQL's `jsonb` takes.
fn document() -> impl Strategy<Value = String> {
    (text(12), any::<i32>(), 0_usize..4, any::<bool>()).prop_map(|(text, number, spaces, twice)| {
        let space = " ".repeat(spaces);
        let text = serde_json::to_string(&text).expect("a string");
        let twice = if twice { r#","a":1e2,"a":1.10"# } else { "" };
        format!("{{{space}{text}{space}:\r\n{number}{twice}}}")
    })
}

fn value(ty: ColumnType) -> BoxedStrategy<Value<'static>> {
    match ty {
        ColumnType::BigInt => (1..1_i64 << 53).prop_map(Value::Integer).boxed(),
        ColumnType::Integer => any::<i32>().prop_map(|n| Value::Integer(n.into())).boxed(),
        ColumnType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        ColumnType::Numeric { precision, .. } => {
            let largest = bound(precision) - 1;
            let powers = (0..precision).map(bound);
            let edges: Vec<i128> =
                powers.flat_map(|n| [n, -n, n - 1]).chain([largest, -largest]).collect();
            prop_oneof![2 => -largest..=largest, 1 => -20_000..20_000_i128, 1 => select(edges)]
                .prop_map(Value::Decimal)
                .boxed()
        }
        ColumnType::Text { max_chars } => {
            let max_chars = max_chars.map_or(60, usize::from).min(60);
            text(max_chars).prop_map(|text| Value::Text(text.into())).boxed()
        }
        ColumnType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        ColumnType::Inet => inet().prop_map(Value::Inet).boxed(),
        ColumnType::Timestamp => prop_oneof![
            6 => 0..END_OF_TIME,
            1 => select(vec![0, 1, 999_999, 1_000_000, END_OF_TIME - 1, 951_782_399_999_999,
                             951_782_400_000_000, 4_107_542_400_000_000, 946_684_800_000_000,
                             946_684_799_999_999]),
        ]
        .prop_map(Value::Timestamp)
        .boxed(),
        ColumnType::Document => document().prop_map(|text| Value::Document(text.into())).boxed(),
        ColumnType::Bytes => {
            prop::collection::vec(any::<u8>(), 0..60).prop_map(|b| Value::Bytes(b.into())).boxed()
        }
    }
}

/// One value for each column, NULLs where they are allowed.
pub(crate) fn row(chain: &'static Chain) -> Vec<BoxedStrategy<Value<'static>>> {
    chain
        .columns
        .iter()
        .map(|column| {
            let value = value(column.ty);
            if column.nullable {
                prop_oneof![1 => Just(Value::Null), 3 => value].boxed()
            } else {
                value
            }
        })
        .collect()
}
