//! Any combination of filters, order, limit and cursor gives what a scan of all rows gives.

use audit_ledger::chains::IN_LEDGER;
use ledger_verifier::chain::{SIGNAL_AUDIT_LEDGER, SIGNALS};
use ledger_verifier::{Chain, Value};
use proptest::prelude::*;
use serde_json::json;

use crate::common::TestLedger;
use crate::common::random::sample;
use crate::common::read_back::ReadRow;
use crate::naive::{BOUNDS, Condition, EQUAL, column_of, number_of, parameters_of, value_of};
use crate::rows::ledger_with_variety;
use crate::{Desk, naive};

/// Combinations for each chain.
const COMBINATIONS: usize = 45;

/// By which a choice is made, whatever there is to choose from.
type Choice = (prop::sample::Index, prop::sample::Index, i64);

fn choices() -> impl Strategy<Value = (Vec<Choice>, bool, usize)> {
    let choice = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), -1_i64..=1);
    // One page, pages that the number of rows is a multiple of, and others.
    let limit = prop_oneof![1 => Just(1000_usize), 1 => Just(4), 4 => 2_usize..40];
    (prop::collection::vec(choice, 0..4), any::<bool>(), limit)
}

/// The condition that a choice stands for: mostly a value that a row has, or one beside it.
fn condition(chain: &'static Chain, rows: &[ReadRow], choice: &Choice) -> Option<Condition> {
    let (parameter, row, nudge) = choice;
    let parameters = parameters_of(chain);
    let parameter = parameters[parameter.index(parameters.len())];
    let mut value = value_of(chain, &rows[row.index(rows.len())], column_of(parameter));
    if BOUNDS.iter().any(|bound| bound.0 == parameter) {
        value = match value {
            Value::Integer(number) => Value::Integer(number + nudge),
            Value::Timestamp(micros) => Value::Timestamp(micros + nudge),
            Value::Decimal(units) => Value::Decimal(units + i128::from(*nudge)),
            other => other,
        };
    }
    (value != Value::Null).then(|| Condition::new(chain, parameter, value))
}

#[tokio::test]
async fn any_combination_of_filters_gives_what_a_scan_gives() {
    let desk = Desk::open(ledger_with_variety().await).await;
    let mut some = 0;
    for chain in IN_LEDGER {
        let rows = desk.rows(chain).await;
        for (choices, ascending, limit) in sample(&choices(), COMBINATIONS) {
            let mut conditions: Vec<Condition> = Vec::new();
            for choice in &choices {
                let condition = condition(chain, &rows, choice);
                let is_new =
                    |new: &Condition| conditions.iter().all(|c| c.parameter != new.parameter);
                conditions.extend(condition.filter(is_new));
            }
            let found = desk.compare(chain, &rows, &conditions, ascending, limit).await;
            some += usize::from(found > 0 && found < rows.len());
        }
    }
    assert!(some > COMBINATIONS, "{some} combinations found some rows and not all");
    desk.close().await;
}

#[tokio::test]
async fn every_parameter_by_itself_finds_every_value_that_there_is() {
    let desk = Desk::open(ledger_with_variety().await).await;
    for chain in IN_LEDGER {
        let rows = desk.rows(chain).await;
        for parameter in parameters_of(chain) {
            if ["signal_id", "correlation_id", "row_hash"].contains(&parameter) {
                continue;
            }
            let mut values: Vec<_> =
                rows.iter().map(|row| value_of(chain, row, column_of(parameter))).collect();
            values.retain(|value| *value != Value::Null);
            values.sort_by_key(|value| (number_of(value), format!("{value:?}")));
            values.dedup();
            assert!(!values.is_empty(), "{} {parameter}", chain.name);
            // Of times and ids, the edges and one between.
            let step = (values.len() / 8).max(1);
            let last = values.last().cloned();
            for value in values.into_iter().step_by(step).chain(last) {
                let condition = [Condition::new(chain, parameter, value)];
                desk.compare(chain, &rows, &condition, false, 1000).await;
            }
        }
        for (n, row) in rows.iter().enumerate().step_by(7) {
            for parameter in ["signal_id", "correlation_id", "row_hash"] {
                if !parameters_of(chain).contains(&parameter) {
                    continue;
                }
                let value = value_of(chain, row, parameter);
                if value == Value::Null {
                    continue;
                }
                let condition = [Condition::new(chain, parameter, value)];
                let found = desk.compare(chain, &rows, &condition, true, 1000).await;
                assert!(found > 0, "{} {n} {parameter}", chain.name);
            }
        }
    }
    desk.close().await;
}

/// An instant in microseconds as a condition.
fn time(parameter: &'static str, micros: i64) -> Condition {
    Condition::new(&SIGNALS, parameter, Value::Timestamp(micros))
}

#[tokio::test]
async fn bounds_of_time_hold_at_their_edges() {
    let desk = Desk::open(ledger_with_variety().await).await;
    for chain in [&SIGNALS, &SIGNAL_AUDIT_LEDGER] {
        let rows = desk.rows(chain).await;
        let at = |row: &ReadRow| match row.values.last() {
            Some(Value::Timestamp(micros)) => *micros,
            other => panic!("{other:?}"),
        };
        let mut times: Vec<_> = rows.iter().map(at).collect();
        times.dedup();
        assert!(times.len() > 1 && times.len() < rows.len() / 2, "many rows have the same time");
        let (first, last) = (times[0], times[times.len() - 1]);
        let (begin, end) = (0, 253_402_300_799_999_999);
        let edges: Vec<i64> = [begin, first - 1, end]
            .into_iter()
            .chain(times.iter().flat_map(|time| [*time, time + 1]))
            .collect();
        for edge in &edges {
            desk.compare(chain, &rows, &[time("from", *edge)], true, 1000).await;
            desk.compare(chain, &rows, &[time("to", *edge)], false, 5).await;
        }
        for (from, to) in
            [(first, last), (first, first), (last, first), (first, first + 1), (begin, end)]
        {
            let both = [time("from", from), time("to", to)];
            desk.compare(chain, &rows, &both, true, 3).await;
            let id = |parameter, id| Condition::new(chain, parameter, Value::Integer(id));
            let narrowed = [both.as_slice(), &[id("from_id", 3), id("to_id", 11)]].concat();
            desk.compare(chain, &rows, &narrowed, false, 4).await;
        }
        assert_eq!(naive::ids(chain, &rows, &[time("to", first)]), Vec::<i64>::new());
    }
    desk.close().await;
}

#[tokio::test]
async fn an_empty_chain_has_no_rows_at_any_time() {
    let desk = Desk::open(TestLedger::new().await).await;
    for chain in IN_LEDGER {
        let rows = desk.rows(chain).await;
        for micros in [0, 1_767_323_045_000_000, 253_402_300_799_999_999] {
            for parameter in ["from", "to"] {
                desk.compare(chain, &rows, &[time(parameter, micros)], true, 10).await;
            }
        }
        let both = [time("from", 0), time("to", 253_402_300_799_999_999)];
        desk.compare(chain, &rows, &both, false, 10).await;
    }
    assert_eq!(desk.close().await, 1);
}

#[tokio::test]
async fn what_cannot_be_read_or_is_not_the_chains_is_named() {
    let desk = Desk::open(ledger_with_variety().await).await;
    let refused = async |path: String, named: &str| {
        let answer = desk.get(&path).await;
        let said = (answer.status, &answer.body["code"], &answer.body["field"]);
        assert_eq!(said, (400, &json!("VAL-003"), &json!(named)), "{path}: {answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().starts_with(named), "{answer:?}");
    };
    let all: Vec<_> = BOUNDS.iter().map(|bound| bound.0).chain(EQUAL).collect();
    for chain in IN_LEDGER {
        let own = parameters_of(chain);
        for parameter in all.iter().filter(|parameter| !own.contains(parameter)) {
            refused(format!("/v1/{}?{parameter}=1", chain.name), parameter).await;
            refused(format!("/v1/{}/stats?{parameter}=1", chain.name), parameter).await;
        }
        for unknown in ["nonsense", "id", "created_at", "Order", "prev_hash"] {
            refused(format!("/v1/{}?limit=1&{unknown}=1", chain.name), unknown).await;
        }
        for parameter in ["limit", "cursor", "order"] {
            refused(format!("/v1/{}/stats?{parameter}=1", chain.name), parameter).await;
        }
        for group in ["", "price", "id", "created_at", "Hour", "payload_json", "minute", "t.id"] {
            refused(format!("/v1/{}/stats?group_by={group}", chain.name), "group_by").await;
        }
    }
    let long = "1".repeat(100);
    for (parameter, values) in [
        (
            "from",
            ["", "now", "2026-01-01", "2026-01-01T00:00:00", "1969-12-31T23:59:59Z"].as_slice(),
        ),
        ("to", &["2026-01-01T00:00:00.1234567Z", "2026-02-30T00:00:00Z", "0", "infinity"]),
        ("timestamp_from", &["2026-01-01T00:00:00+01:00", "10000-01-01T00:00:00Z"]),
        ("from_id", &["", "1.5", "x", "0x1", &long, "9007199254740993", "%201"]),
        ("to_id", &["1e3", "1_000", "-9223372036854775809"]),
        ("min_conviction", &["", "high", "1.23456", "NaN", "1e9", "Infinity", "1,5"]),
        ("max_conviction", &["0.00001", "%2B1"]),
        ("direction", &["", "long", "UP"]),
        ("record_type", &["signal", "SIGNAL%20"]),
        ("acted_upon", &["", "1", "TRUE", "yes"]),
        ("correlation_id", &["", "1", "01939f3e7a0070008000000000000001"]),
        ("ticker", &["", "A%00", "%ff"]),
        ("row_hash", &["", "0", &long]),
        ("order", &["", "up", "ASC", "desc%20"]),
        ("limit", &["0", "1001", "x"]),
        ("cursor", &["", "x", "c2lnbmFsczox"]),
    ] {
        for value in values {
            refused(format!("/v1/signal_audit_ledger?{parameter}={value}"), parameter).await;
        }
    }
    refused("/v1/signals?symbol=A&symbol=A".to_owned(), "symbol").await;
    desk.close().await;
}
