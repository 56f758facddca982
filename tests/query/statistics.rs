//! Statistics equal those computed from all rows in Rust.

use std::collections::HashMap;

use audit_ledger::chains::signal_audit_ledger::{Direction, Outcome, ProducedSignal, Record};
use audit_ledger::chains::{Appended, IN_LEDGER, NewRow, rfc3339};
use audit_ledger::clock::Clock;
use audit_ledger::query::{Filter, GroupBy, add_all};
use audit_ledger::store::pool::Pool;
use audit_ledger::store::stats::{Limits, Statistics};
use chrono::{DateTime, Timelike};
use ledger_verifier::chain::{AI_DEBATES, SIGNAL_AUDIT_LEDGER};
use ledger_verifier::decimal::to_string;
use ledger_verifier::{Chain, Value};
use serde_json::{Value as Json, json};

use crate::common::builders::record;
use crate::common::read_back::ReadRow;
use crate::common::{TestLedger, fetch, run, soon, what_was_read_is_counted};
use crate::naive::{Condition, EQUAL, id_of, json_of, number_of, parameters_of, scan, value_of};
use crate::rows::{ROWS, append, ledger_with_variety, records};
use crate::{Desk, query};

/// A whole number of units of 10^-4 over a count, rounded half away from zero to such units.
fn mean(units: i128, count: usize) -> Json {
    let count = i128::try_from(count).unwrap();
    if count == 0 { Json::Null } else { to_string((2 * units + count) / (2 * count), 4).into() }
}

/// The discrete percentiles, and the largest.
fn percentiles(mut numbers: Vec<i128>) -> Json {
    numbers.sort_unstable();
    let at = |share: usize| {
        // The first value at or beyond that share of all.
        let place = (share * numbers.len()).div_ceil(100).max(1) - 1;
        numbers.get(place).map(|number| i64::try_from(*number).unwrap())
    };
    json!({ "p50": at(50), "p95": at(95), "p99": at(99), "max": at(100) })
}

type Key = (String, String);

/// The latest word of the outcomes on each signal, whatever is filtered.
fn latest_outcomes(all: &[ReadRow]) -> HashMap<Key, bool> {
    let chain = &SIGNAL_AUDIT_LEDGER;
    let is_outcome = |row: &&ReadRow| value_of(chain, row, "record_type") == text("OUTCOME");
    let word = |row: &ReadRow| value_of(chain, row, "acted_upon") == Value::Boolean(true);
    all.iter().filter(is_outcome).map(|row| (key_of(row), word(row))).collect()
}

fn text(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

fn key_of(row: &ReadRow) -> Key {
    let of = |column| match value_of(&SIGNAL_AUDIT_LEDGER, row, column) {
        Value::Text(text) => text.into_owned(),
        other => panic!("{other:?}"),
    };
    (of("source_module"), of("signal_id"))
}

fn numbers(chain: &Chain, rows: &[&ReadRow], column: &str) -> Vec<i128> {
    rows.iter().filter_map(|row| number_of(&value_of(chain, row, column))).collect()
}

/// One group's aggregates.
fn aggregates(chain: &Chain, all: &[ReadRow], rows: &[&ReadRow]) -> serde_json::Map<String, Json> {
    let time = |row: &&&ReadRow| match row.values.last() {
        Some(Value::Timestamp(micros)) => *micros,
        other => panic!("{other:?}"),
    };
    let spelt = |row: Option<i64>| {
        row.map(|micros| rfc3339(DateTime::from_timestamp_micros(micros).unwrap()))
    };
    let mut group = json!({
        "count": rows.len(),
        "first_id": rows.iter().map(|row| id_of(row)).min(),
        "last_id": rows.iter().map(|row| id_of(row)).max(),
        "first_created_at": spelt(rows.iter().map(|row| time(&row)).min()),
        "last_created_at": spelt(rows.iter().map(|row| time(&row)).max()),
    });
    if chain.name == SIGNAL_AUDIT_LEDGER.name {
        let is_signal = |row: &ReadRow| value_of(chain, row, "record_type") == text("SIGNAL");
        let signals: Vec<_> = rows.iter().copied().filter(|row| is_signal(row)).collect();
        let latest = latest_outcomes(all);
        let own = |row: &ReadRow| value_of(chain, row, "acted_upon") == Value::Boolean(true);
        let is_acted = |row: &&&ReadRow| latest.get(&key_of(row)).copied().unwrap_or(own(row));
        let acted = signals.iter().filter(is_acted).count();
        let convictions: i128 = numbers(chain, &signals, "conviction").iter().sum();
        group["signals"] = signals.len().into();
        group["outcomes"] = (rows.len() - signals.len()).into();
        group["acted_upon"] = acted.into();
        group["acted_upon_share"] = mean(10_000 * acted as i128, signals.len());
        group["conviction_avg"] = mean(convictions, signals.len());
        group["latency_ms"] = percentiles(numbers(chain, &signals, "latency_ms"));
    }
    if chain.name == AI_DEBATES.name {
        let is_timeout = |row: &ReadRow| value_of(chain, row, "is_timeout") == Value::Boolean(true);
        let answers: Vec<_> = rows.iter().copied().filter(|row| !is_timeout(row)).collect();
        let scores: i128 = numbers(chain, &answers, "confidence_score").iter().sum();
        group["timeouts"] = (rows.len() - answers.len()).into();
        group["confidence_score_avg"] = mean(scores, answers.len());
        group["elapsed_ms"] = percentiles(numbers(chain, &answers, "elapsed_ms"));
    }
    group.as_object().unwrap().clone()
}

/// What a row is grouped by.
fn group_of(chain: &Chain, row: &ReadRow, group_by: &str) -> Json {
    let Some(Value::Timestamp(micros)) = row.values.last() else { panic!("no time") };
    let time = DateTime::from_timestamp_micros(*micros).unwrap();
    let hour = time.with_minute(0).and_then(|time| time.with_second(0)).unwrap();
    let hour = hour.with_nanosecond(0).unwrap();
    match group_by {
        "hour" => rfc3339(hour).into(),
        "day" => rfc3339(hour.with_hour(0).unwrap()).into(),
        column => json_of(&value_of(chain, row, column)),
    }
}

/// Every group, by its spelling.
fn expected(
    chain: &Chain,
    all: &[ReadRow],
    conditions: &[Condition],
    group_by: Option<&str>,
) -> HashMap<String, Json> {
    let rows = scan(chain, all, conditions);
    let Some(group_by) = group_by else {
        let group = aggregates(chain, all, &rows);
        return HashMap::from([("null".to_owned(), Json::Object(group))]);
    };
    let mut groups: HashMap<String, (Json, Vec<&ReadRow>)> = HashMap::new();
    for row in rows {
        let group = group_of(chain, row, group_by);
        groups.entry(group.to_string()).or_insert((group, Vec::new())).1.push(row);
    }
    let made = groups.into_iter().map(|(key, (group, rows))| {
        let mut made = aggregates(chain, all, &rows);
        made.insert("group".to_owned(), group);
        (key, Json::Object(made))
    });
    made.collect()
}

async fn compare(
    desk: &Desk,
    chain: &Chain,
    rows: &[ReadRow],
    conditions: &[Condition],
    group_by: Option<&str>,
) {
    let asked = group_by.map(|group_by| format!("&group_by={group_by}")).unwrap_or_default();
    let path = format!("/v1/{}/stats?{}{asked}", chain.name, query(conditions));
    let body = desk.read(&path).await;
    assert_eq!(body["truncated"], false, "{path}");
    let found = body["groups"].as_array().unwrap();
    assert_same(&path, found, expected(chain, rows, conditions, group_by), group_by);
}

fn assert_same(
    asked: &str,
    found: &[Json],
    mut expected: HashMap<String, Json>,
    group_by: Option<&str>,
) {
    assert_eq!(found.len(), expected.len(), "{asked}: {found:?}");
    for group in found {
        let key = group.get("group").unwrap_or(&Json::Null).to_string();
        assert_eq!(Some(group), expected.remove(&key).as_ref(), "{asked} {key}");
    }
    // Times in their order, others the largest first.
    let is_time = group_by.is_some_and(|group_by| ["hour", "day"].contains(&group_by));
    let is_sorted = if is_time {
        found.is_sorted_by_key(|group| group["group"].as_str().unwrap().to_owned())
    } else {
        found.is_sorted_by_key(|group| std::cmp::Reverse(group["count"].as_i64().unwrap()))
    };
    assert!(is_sorted, "{asked}: {found:?}");
}

/// By what a chain's rows can be grouped.
fn groupings(chain: &Chain) -> Vec<&'static str> {
    let equal = EQUAL.into_iter().filter(|name| parameters_of(chain).contains(name));
    equal.chain(["hour", "day"]).collect()
}

#[tokio::test]
async fn every_grouping_of_every_chain_is_what_a_scan_counts() {
    let desk = Desk::open(ledger_with_variety().await).await;
    for chain in IN_LEDGER {
        let rows = desk.rows(chain).await;
        let id = |parameter, id| Condition::new(chain, parameter, Value::Integer(id));
        let middle = &rows[rows.len() / 2];
        let mut filters = vec![vec![], vec![id("from_id", 5), id("to_id", 31)]];
        for parameter in
            ["recorded_by", "actor", "source", "side", "direction", "record_type", "from"]
        {
            if parameters_of(chain).contains(&parameter) {
                let column = if parameter == "from" { "created_at" } else { parameter };
                filters.push(vec![Condition::new(
                    chain,
                    parameter,
                    value_of(chain, middle, column),
                )]);
            }
        }
        // None at all.
        filters.push(vec![id("from_id", 9), id("to_id", 8)]);
        for conditions in &filters {
            compare(&desk, chain, &rows, conditions, None).await;
            for group_by in groupings(chain) {
                compare(&desk, chain, &rows, conditions, Some(group_by)).await;
            }
        }
    }
    desk.close().await;
}

/// Signals with their outcomes, and other words on every third signal from before.
fn more_records(round: u32, rows: &[ReadRow]) -> Vec<NewRow> {
    let now = Clock::system().now();
    let first = ROWS + 1 + round * 10;
    let new = (first..first + 10).flat_map(records);
    let signals = rows
        .iter()
        .filter(|row| value_of(&SIGNAL_AUDIT_LEDGER, row, "record_type") == text("SIGNAL"));
    let again = signals.step_by(3).zip(0_u32..).map(|(row, n)| {
        let (module, signal_id) = key_of(row);
        let mut outcome = Outcome::new(&module, &signal_id, (n + round).is_multiple_of(2));
        outcome.execution_id = Some(format!("round {round}"));
        Record::Outcome(outcome).new_row("desk", now).unwrap()
    });
    new.chain(again).collect()
}

#[tokio::test]
async fn sums_that_are_kept_are_those_of_a_scan_whatever_comes() {
    let desk = Desk::open(ledger_with_variety().await).await;
    let chain = &SIGNAL_AUDIT_LEDGER;
    // Everything is kept, in small pieces; or all but the questions with several groups.
    let kept = |groups| {
        let limits = Limits { piece: 7, few: 0, groups };
        Statistics::new(Pool::of(&desk.ledger.app(), 2), limits)
    };
    let kept = [kept(10_000), kept(2)];
    let appender = desk.ledger.appender();
    for round in 0..4 {
        let rows = desk.rows(chain).await;
        let id = |parameter, id| Condition::new(chain, parameter, Value::Integer(id));
        let of = |parameter, value| Condition::new(chain, parameter, value);
        let filters = [
            vec![],
            vec![id("from_id", 5), id("to_id", 31)],
            vec![id("from_id", 20), of("direction", text("LONG"))],
            vec![of("acted_upon", Value::Boolean(false)), of("recorded_by", text("desk"))],
            vec![of("from", rows[15].values.last().unwrap().clone())],
            vec![of("timestamp_from", value_of(chain, &rows[20], "timestamp"))],
        ];
        for conditions in &filters {
            let mut filter = [Filter::all(chain)];
            let given = conditions.iter().map(|c| (c.parameter, c.text.as_str()));
            add_all(&mut filter, given).unwrap();
            let [filter] = filter;
            let by = groupings(chain).into_iter().map(Some).chain([None]);
            for (group_by, kept) in by.flat_map(|by| kept.iter().map(move |kept| (by, kept))) {
                let grouping = group_by.map(|name| GroupBy::of(chain, name).unwrap());
                let found = kept.read(&filter, grouping).await.unwrap();
                let asked = format!("round {round}, {conditions:?} by {group_by:?}");
                let expected = expected(chain, &rows, conditions, group_by);
                assert_same(&asked, &found.groups, expected, group_by);
            }
        }
        append(&appender, more_records(round, &rows)).await;
    }
    drop(appender);
    desk.close().await;
}

/// A plan that looks for each outcome's signal among all of one producer reads a million entries here.
#[tokio::test]
async fn what_statistics_read_of_a_ledger_that_nobody_has_analyzed_is_in_proportion() {
    const SIGNALS: u32 = 2_000;
    const ROUNDS: u32 = 3;
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.connect_superuser().await;
    // Else autovacuum would come to the rescue on a slow machine.
    run(&mut superuser, "SELECT pg_stat_reset()").await;
    let appender = ledger.appender();
    append(&appender, (1..=SIGNALS).map(record).collect()).await;
    let kept = [0, i64::MAX].map(|few| {
        let limits = Limits { few, ..Limits::default() };
        Statistics::new(Pool::of(&ledger.app(), 1), limits)
    });
    let filter = Filter::all(&SIGNAL_AUDIT_LEDGER);
    let grouping = GroupBy::of(&SIGNAL_AUDIT_LEDGER, "ticker");
    for round in 1..=ROUNDS {
        let outcome = |n: u32| {
            let mut outcome = Outcome::new("ema", &format!("ema-{}", n * 4), round % 2 == 1);
            outcome.execution_id = Some(round.to_string());
            Record::Outcome(outcome).new_row("ema", Clock::system().now()).unwrap()
        };
        append(&appender, (1..=SIGNALS / 4).map(outcome).collect()).await;
        for kept in &kept {
            let stats = kept.read(&filter, grouping).await.unwrap();
            let acted = stats.groups.iter().map(|group| group["acted_upon"].as_i64().unwrap());
            assert_eq!(acted.sum::<i64>(), i64::from(round % 2 * SIGNALS / 4), "round {round}");
        }
    }
    drop((appender, kept));
    what_was_read_is_counted(&mut superuser).await;
    let read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes
        WHERE relname = 'signal_audit_ledger'";
    let entries: i64 = fetch(&mut superuser, read).await;
    let rows = i64::from(SIGNALS + SIGNALS / 4 * ROUNDS);
    assert!((rows..rows * 40).contains(&entries), "{entries} entries were read for {rows} rows");
    ledger.finish().await;
}

#[tokio::test]
async fn an_empty_chain_has_counts_of_nothing() {
    let desk = Desk::open(TestLedger::new().await).await;
    for chain in IN_LEDGER {
        let rows = desk.rows(chain).await;
        compare(&desk, chain, &rows, &[], None).await;
        compare(&desk, chain, &rows, &[], Some("hour")).await;
    }
    assert_eq!(desk.close().await, 1);
}

#[tokio::test]
async fn hours_and_days_are_those_of_utc_and_in_their_order() {
    let desk = Desk::open(ledger_with_variety().await).await;
    // Rows of the past can only be made behind the guards' backs.
    let (name, ledger) = (desk.ledger.name(), &desk.ledger);
    ledger
        .tamper(&format!(
            "ALTER DATABASE {name} SET TimeZone = 'Asia/Kathmandu';
             UPDATE public.signal_audit_ledger
                 SET created_at = created_at - (1000 - id) * interval '97 minutes'"
        ))
        .await;
    let Desk { ledger, server, key } = desk;
    server.stop().await;
    let desk = Desk { server: crate::server::Server::start(&ledger).await, ledger, key };
    let chain = &SIGNAL_AUDIT_LEDGER;
    let rows = desk.rows(chain).await;
    let time = |row: &ReadRow| row.values.last().unwrap().clone();
    let (from, to) = (time(&rows[10]), time(&rows[50]));
    let some = [Condition::new(chain, "from", from), Condition::new(chain, "to", to)];
    for conditions in [[].as_slice(), &some] {
        for group_by in ["hour", "day", "ticker"] {
            compare(&desk, chain, &rows, conditions, Some(group_by)).await;
        }
    }
    desk.server.stop().await;
    desk.ledger.finish_tampered().await;
}

#[tokio::test]
async fn a_thousand_groups_are_shown_and_it_is_said_that_there_are_more() {
    const GROUPS: i64 = 1_000;
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let now = Clock::system().now();
    let rows = (0..=GROUPS).map(|n| {
        let signal = ProducedSignal::new("ema", &n.to_string(), "A", Direction::Long, now);
        Record::Signal(signal).new_row("ema", now).unwrap()
    });
    for answer in appender.append_all(rows.collect(), soon()).await {
        assert!(matches!(answer, Ok(Appended::Recorded(_))), "{answer:?}");
    }
    drop(appender);
    let desk = Desk::open(ledger).await;
    let stats = |query: &str| format!("/v1/signal_audit_ledger/stats?group_by=signal_id{query}");
    for (query, truncated) in [("", true), ("&to_id=1000", false), ("&from_id=2", false)] {
        let body = desk.read(&stats(query)).await;
        assert_eq!(body["groups"].as_array().unwrap().len(), 1_000, "{query}");
        assert_eq!(body["truncated"], truncated, "{query}");
    }
    let one = desk.read("/v1/signal_audit_ledger/stats").await;
    assert_eq!(
        (&one["groups"][0]["count"], &one["truncated"]),
        (&json!(GROUPS + 1), &json!(false))
    );
    desk.close().await;
}
