//! Every finding that the checks over rows and over the log can make, and nothing more.

mod common;

use std::net::{IpAddr, Ipv6Addr};

use common::plain_row;
use ledger_verifier::chain::{CHAINS, by_name};
use ledger_verifier::check::{ChainRow, LOG_NAME, Step, StoredRow, not_in_log};
use ledger_verifier::row::write_json;
use ledger_verifier::{
    Chain, ChainChecker, Finding, FindingKind, LeafIndex, LogChecker, LogEntry, RowHash, RowId,
    Value, row_hash,
};

/// A chain with correct hashes, to be spoilt.
struct Spoilt {
    chain: &'static Chain,
    rows: Vec<(Vec<Value<'static>>, Vec<u8>, Vec<u8>)>,
}

impl Spoilt {
    fn new(chain: &'static Chain, rows: i64) -> Self {
        let mut spoilt = Self { chain, rows: Vec::new() };
        for id in 1..=rows {
            spoilt.rows.push((plain_row(chain, id, id * 1000), Vec::new(), Vec::new()));
        }
        spoilt.rehash(0);
        spoilt
    }

    /// Links and hashes the rows from this place on, as somebody would who covers a change.
    fn rehash(&mut self, from: usize) {
        for at in from..self.rows.len() {
            let prev = match at {
                0 => RowHash::genesis(self.chain.name),
                _ => RowHash::from_hex(&self.rows[at - 1].2).unwrap(),
            };
            let row = &mut self.rows[at];
            row.1 = prev.to_hex().to_vec();
            row.2 = row_hash(self.chain, prev, &row.0).unwrap().to_hex().to_vec();
        }
    }

    fn set(&mut self, at: usize, column: &str, value: Value<'static>) -> &mut Self {
        self.rows[at].0[self.chain.position(column).unwrap()] = value;
        self
    }

    fn check_with(&self, mut checker: ChainChecker) -> (Vec<Finding>, RowId) {
        let mut findings = Vec::new();
        for (values, prev_hash, row_hash) in &self.rows {
            checker.check(&StoredRow { values, prev_hash, row_hash }, &mut findings);
        }
        (findings, checker.next_id())
    }

    fn check(&self) -> Vec<Finding> {
        self.check_with(ChainChecker::new(self.chain)).0
    }

    fn finding(&self, kind: FindingKind, id: i64, detail: &str) -> Finding {
        Finding {
            kind,
            chain: self.chain.name.to_owned(),
            id: Some(RowId(id)),
            leaf_index: None,
            detail: detail.to_owned(),
        }
    }

    /// A row that has no hash, and why; named by what it holds.
    fn unhashable(&self, id: i64, why: &str) -> Finding {
        let (values, prev_hash, row_hash) = &self.rows[usize::try_from(id - 1).unwrap()];
        let hashes = [prev_hash, row_hash].map(|hash| String::from_utf8_lossy(hash));
        let mut stored = Vec::new();
        write_json(self.chain, values, (&hashes[0], &hashes[1]), None, &mut stored);
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(stored));
        let detail = format!("{why}; the row as it is stored has the SHA-256 {digest}");
        self.finding(FindingKind::Content, id, &detail)
    }

    /// A link to another hash than that of the row before.
    fn broken_link(&self, id: i64) -> Finding {
        let at = usize::try_from(id - 1).unwrap();
        let stored = String::from_utf8_lossy(&self.rows[at].1);
        let detail = match id {
            1 => format!("prev_hash is {stored}, not the chain's genesis value"),
            _ => format!("prev_hash is {stored}, not the row_hash of row {}", id - 1),
        };
        self.finding(FindingKind::Link, id, &detail)
    }

    fn content(&self, id: usize) -> Finding {
        let (values, prev, stored) = &self.rows[id - 1];
        let hash = row_hash(self.chain, RowHash::from_hex(prev).unwrap(), values).unwrap();
        let stored = String::from_utf8_lossy(stored);
        let detail = format!("row_hash is {stored}, the columns hash to {hash}");
        self.finding(FindingKind::Content, i64::try_from(id).unwrap(), &detail)
    }
}

const REVERSED: &str = "created_at is earlier than that of the row before";

#[test]
fn an_intact_chain_has_no_finding() {
    for chain in CHAINS {
        let intact = Spoilt::new(chain, 5);
        assert_eq!(intact.check_with(ChainChecker::new(chain)), (vec![], RowId(6)));
        let empty = Spoilt::new(chain, 0);
        assert_eq!(empty.check_with(ChainChecker::new(chain)), (vec![], RowId(1)));
        let mut rest = Spoilt::new(chain, 5);
        rest.rows.drain(..2);
        let checker = ChainChecker::starting_at(chain, RowId(3));
        assert_eq!(rest.check_with(checker), (vec![], RowId(6)));
    }
}

#[test]
fn changed_content_is_found_in_every_column_but_the_id() {
    for chain in CHAINS {
        for column in &chain.columns[1..] {
            let mut spoilt = Spoilt::new(chain, 3);
            let other = match plain_row(chain, 2, 2000)[chain.position(column.name).unwrap()] {
                Value::Integer(_) => Value::Integer(8),
                Value::Boolean(_) => Value::Boolean(false),
                Value::Decimal(_) => Value::Decimal(12_346),
                Value::Text(_) => Value::Text("text ".into()),
                Value::Uuid(_) => Value::Uuid([8; 16]),
                Value::Inet(_) => Value::Inet(IpAddr::V6(Ipv6Addr::LOCALHOST)),
                // Not so far that time runs backwards.
                Value::Timestamp(micros) => Value::Timestamp(micros + 1),
                Value::Document(_) => Value::Document("{ }".into()),
                Value::Bytes(_) => Value::Bytes(b"{ }".as_slice().into()),
                Value::Null | Value::Unhashable(_) => unreachable!("a plain row has neither"),
            };
            spoilt.set(1, column.name, other);
            assert_eq!(spoilt.check(), [spoilt.content(2)], "{}.{}", chain.name, column.name);
        }
    }
}

#[test]
fn two_changed_rows_are_two_findings() {
    let mut spoilt = Spoilt::new(by_name("signals").unwrap(), 5);
    spoilt.set(1, "price", Value::Decimal(1)).set(3, "price", Value::Decimal(1));
    assert_eq!(spoilt.check(), [spoilt.content(2), spoilt.content(4)]);
}

#[test]
fn a_change_with_a_new_hash_breaks_the_next_link() {
    let mut spoilt = Spoilt::new(by_name("signals").unwrap(), 4);
    spoilt.set(1, "price", Value::Decimal(1));
    let rest = spoilt.rows.split_off(2);
    spoilt.rehash(1);
    spoilt.rows.extend(rest);
    let link = spoilt.broken_link(3);
    assert_eq!(spoilt.check(), [link]);
}

#[test]
fn a_chain_rewritten_from_a_row_on_is_intact_by_itself() {
    let mut spoilt = Spoilt::new(by_name("signals").unwrap(), 4);
    let before = spoilt.rows[3].2.clone();
    spoilt.set(1, "price", Value::Decimal(1)).rehash(1);
    assert_eq!(spoilt.check(), []);
    assert_ne!(spoilt.rows[3].2, before, "only what is kept outside tells");
}

#[test]
fn a_wrong_genesis_and_a_prev_hash_that_is_none_are_found() {
    let chain = by_name("security_events").unwrap();
    let mut other_genesis = Spoilt::new(chain, 2);
    let genesis = RowHash::genesis("signals");
    let first = &mut other_genesis.rows[0];
    first.1 = genesis.to_hex().to_vec();
    first.2 = row_hash(chain, genesis, &first.0).unwrap().to_hex().to_vec();
    other_genesis.rehash(1);
    assert_eq!(other_genesis.check(), [other_genesis.broken_link(1)]);

    for nonsense in [&b""[..], b"zz", &[b'A'; 64], &[0xff; 64]] {
        let mut spoilt = Spoilt::new(chain, 3);
        spoilt.rows[1].1 = nonsense.to_vec();
        assert_eq!(
            spoilt.check(),
            [spoilt.broken_link(2), spoilt.unhashable(2, "prev_hash is no hash"),]
        );
    }
}

#[test]
fn a_changed_row_hash_is_found_at_the_row_and_at_the_next_link() {
    let mut spoilt = Spoilt::new(by_name("order_events").unwrap(), 3);
    spoilt.rows[1].2 = vec![b'0'; 64];
    let link = spoilt.broken_link(3);
    assert_eq!(spoilt.check(), [spoilt.content(2), link]);

    // No other spelling of the same hash.
    let mut spoilt = Spoilt::new(by_name("order_events").unwrap(), 2);
    spoilt.rows[1].2 = spoilt.rows[1].2.to_ascii_uppercase();
    assert_eq!(spoilt.check(), [spoilt.content(2)]);
}

#[test]
fn missing_rows_are_gaps() {
    let chain = by_name("ai_debates").unwrap();
    let without = |range: std::ops::Range<usize>| {
        let mut spoilt = Spoilt::new(chain, 5);
        spoilt.rows.drain(range);
        spoilt
    };
    let one = without(2..3);
    assert_eq!(one.check(), [one.finding(FindingKind::Gap, 3, "row 3 is missing")]);
    let three = without(1..4);
    assert_eq!(three.check(), [three.finding(FindingKind::Gap, 2, "rows 2 to 4 are missing")]);
    let first = without(0..1);
    assert_eq!(first.check(), [first.finding(FindingKind::Gap, 1, "row 1 is missing")]);
    // The end of a chain is known from the log alone.
    assert_eq!(without(4..5).check(), []);
    assert_eq!(without(0..5).check(), []);
}

#[test]
fn a_row_that_stands_there_twice_or_at_a_wrong_place_is_a_gap() {
    let chain = by_name("signals").unwrap();
    let mut twice = Spoilt::new(chain, 3);
    twice.rows.insert(2, twice.rows[1].clone());
    assert_eq!(twice.check(), [twice.finding(FindingKind::Gap, 2, "expected row 3 here")]);

    let mut early = Spoilt::new(chain, 2);
    let mut extra = early.rows[0].clone();
    extra.0[0] = Value::Integer(-1);
    early.rows.insert(0, extra);
    let findings = early.check();
    assert_eq!(findings[0], early.finding(FindingKind::Gap, -1, "expected row 1 here"));
    let last = &early.rows[0];
    let hash = row_hash(chain, RowHash::from_hex(&last.1).unwrap(), &last.0).unwrap();
    let stored = String::from_utf8_lossy(&last.2);
    let content = format!("row_hash is {stored}, the columns hash to {hash}");
    assert_eq!(findings[1], early.finding(FindingKind::Content, -1, &content));
    let prev_hash = String::from_utf8_lossy(&early.rows[1].1).into_owned();
    let detail = format!("prev_hash is {prev_hash}, not the chain's genesis value");
    assert_eq!(findings[2..], [early.finding(FindingKind::Link, 1, &detail)]);
}

#[test]
fn swapped_contents_are_found_in_both_rows() {
    let mut spoilt = Spoilt::new(by_name("signals").unwrap(), 5);
    let symbol = spoilt.chain.position("symbol").unwrap();
    for (at, text) in ["A", "B", "C", "D", "E"].into_iter().enumerate() {
        spoilt.rows[at].0[symbol] = Value::Text(text.into());
    }
    spoilt.rehash(0);
    assert_eq!(spoilt.check(), []);
    spoilt.set(1, "symbol", Value::Text("D".into())).set(3, "symbol", Value::Text("B".into()));
    assert_eq!(spoilt.check(), [spoilt.content(2), spoilt.content(4)]);
}

#[test]
fn time_that_runs_backwards_is_found_even_with_right_hashes() {
    let mut spoilt = Spoilt::new(by_name("signals").unwrap(), 5);
    spoilt.set(2, "created_at", Value::Timestamp(1999)).rehash(2);
    assert_eq!(spoilt.check(), [spoilt.finding(FindingKind::TimeReversal, 3, REVERSED)]);

    let mut equal = Spoilt::new(by_name("signals").unwrap(), 5);
    equal.set(2, "created_at", Value::Timestamp(2000)).rehash(2);
    assert_eq!(equal.check(), [], "a clock that stepped back repeats the last time");

    let mut twice = Spoilt::new(by_name("signals").unwrap(), 5);
    twice.set(1, "created_at", Value::Timestamp(9000)).rehash(1);
    assert_eq!(twice.check(), [twice.finding(FindingKind::TimeReversal, 3, REVERSED)]);
}

#[test]
fn a_value_without_a_canonical_form_is_a_finding_about_content() {
    let mut spoilt = Spoilt::new(by_name("signals").unwrap(), 4);
    spoilt
        .set(0, "price", Value::Unhashable("no finite number"))
        .set(1, "received_at", Value::Timestamp(-1))
        .set(2, "source_ip", Value::Null);
    let findings = spoilt.check();
    assert_eq!(findings[0], spoilt.unhashable(1, "price holds no finite number"));
    assert_eq!(findings[1], spoilt.unhashable(2, "received_at is out of range"));
    assert_eq!(findings[2..], [spoilt.unhashable(3, "source_ip is NULL")]);
    // A further change of such a row is another finding.
    spoilt.set(0, "symbol", Value::Text("OTHER".into()));
    assert_ne!(spoilt.check()[0].finding_id(), findings[0].finding_id());
}

#[test]
fn a_row_whose_id_is_no_number_is_reported_without_one() {
    let mut spoilt = Spoilt::new(by_name("signals").unwrap(), 3);
    spoilt.rows[1].0[0] = Value::Unhashable("a value of another type");
    let finding = Finding { id: None, ..spoilt.unhashable(2, "id holds a value of another type") };
    let gap = spoilt.finding(FindingKind::Gap, 2, "row 2 is missing");
    assert_eq!(spoilt.check(), [finding, gap]);
}

#[test]
fn extreme_ids_do_not_stop_a_check() {
    for id in [i64::MAX, i64::MIN, 0] {
        let mut spoilt = Spoilt::new(by_name("signals").unwrap(), 2);
        spoilt.rows[1].0[0] = Value::Integer(id);
        let findings = spoilt.check();
        assert_eq!(findings[0].kind, FindingKind::Gap);
        assert_eq!(findings[0].id, Some(RowId(id.min(2))));
        assert_eq!(findings[1].kind, FindingKind::Content);
        assert_eq!(findings.len(), 2);
    }
}

#[test]
fn the_check_of_a_range_knows_nothing_of_the_row_before_it() {
    let chain = by_name("signals").unwrap();
    let mut spoilt = Spoilt::new(chain, 5);
    spoilt.rows.drain(..2);
    let checker = ChainChecker::starting_at(chain, RowId(2));
    let gap = spoilt.finding(FindingKind::Gap, 2, "row 2 is missing");
    assert_eq!(spoilt.check_with(checker), (vec![gap], RowId(6)));
    // From the first row it is the whole chain.
    let checker = ChainChecker::starting_at(chain, RowId(1));
    let gap = spoilt.finding(FindingKind::Gap, 1, "rows 1 to 2 are missing");
    assert_eq!(spoilt.check_with(checker), (vec![gap], RowId(6)));
}

fn entry(leaf_index: i64, chain: &str, id: i64, hash: u8) -> LogEntry {
    LogEntry { leaf_index, chain: chain.to_owned(), id: RowId(id), row_hash: vec![hash; 64] }
}

fn log_finding(
    kind: FindingKind,
    chain: &str,
    id: i64,
    leaf: Option<u64>,
    detail: &str,
) -> Finding {
    Finding {
        kind,
        chain: chain.to_owned(),
        id: Some(RowId(id)),
        leaf_index: leaf.map(LeafIndex),
        detail: detail.to_owned(),
    }
}

fn check_log(entries: &[LogEntry]) -> (Vec<Finding>, i64) {
    let mut checker = LogChecker::new(&CHAINS);
    let mut findings = Vec::new();
    for entry in entries {
        checker.check(entry, &mut findings);
    }
    (findings, checker.next_leaf())
}

#[test]
fn leaves_that_are_missing_or_stand_twice_are_gaps() {
    let leaf = |leaf| entry(leaf, "signals", leaf + 1, b'a');
    assert_eq!(check_log(&[]), (vec![], 0));
    assert_eq!(check_log(&[leaf(0), leaf(1), leaf(2)]), (vec![], 3));
    let gap = |id, leaf, detail| log_finding(FindingKind::Gap, LOG_NAME, id, Some(leaf), detail);
    assert_eq!(
        check_log(&[leaf(0), leaf(2), leaf(5)]),
        (vec![gap(3, 2, "leaf 1 is missing"), gap(6, 5, "leaves 3 to 4 are missing")], 6)
    );
    assert_eq!(check_log(&[leaf(1)]), (vec![gap(2, 1, "leaf 0 is missing")], 2));
    assert_eq!(
        check_log(&[leaf(0), leaf(1), leaf(1)]),
        (vec![gap(2, 1, "expected leaf 2 here")], 2)
    );
    let negative = log_finding(FindingKind::Gap, LOG_NAME, 0, None, "expected leaf 0 here");
    assert_eq!(check_log(&[leaf(-1), leaf(0)]), (vec![negative], 1));
    let last = entry(i64::MAX, "signals", 1, b'a');
    assert_eq!(check_log(&[last]).1, i64::MAX);
}

#[test]
fn an_entry_of_a_chain_that_does_not_exist_is_found() {
    let detail = "the log names a chain that is not there";
    let finding = log_finding(FindingKind::LogMismatch, LOG_NAME, 1, Some(0), detail);
    assert_eq!(check_log(&[entry(0, "signal", 1, b'a')]), (vec![finding], 1));
}

#[test]
fn a_row_and_its_entry_are_compared() {
    let compare = |entry: &LogEntry, row: Option<(i64, u8)>| {
        let row = row.map(|(id, hash)| ChainRow { id: RowId(id), row_hash: vec![hash; 64] });
        let mut findings = Vec::new();
        let step = LogChecker::new(&CHAINS).compare(entry, row.as_ref(), &mut findings);
        (step, findings)
    };
    let mismatch =
        |id, leaf, detail: &str| log_finding(FindingKind::LogMismatch, "signals", id, leaf, detail);
    let third = entry(7, "signals", 3, b'a');
    assert_eq!(compare(&third, Some((3, b'a'))), (Step::Both, vec![]));
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let other = mismatch(3, Some(7), &format!("the log holds {a}, the row {b}"));
    assert_eq!(compare(&third, Some((3, b'b'))), (Step::Both, vec![other]));
    let no_entry = mismatch(2, None, &format!("the row, of hash {b}, is not in the log"));
    assert_eq!(compare(&third, Some((2, b'b'))), (Step::NextRow, vec![no_entry.clone()]));
    let detail = format!("the log has a row of hash {a} that is not in the chain");
    let no_row = mismatch(3, Some(7), &detail);
    assert_eq!(compare(&third, Some((4, b'b'))), (Step::NextEntry, vec![no_row.clone()]));
    for id in [2, 4] {
        let moved = mismatch(id, Some(7), "the log has this row under id 3");
        assert_eq!(compare(&third, Some((id, b'a'))), (Step::Both, vec![moved]));
    }
    assert_eq!(compare(&third, None), (Step::NextEntry, vec![no_row]));
    let row = ChainRow { id: RowId(2), row_hash: vec![b'b'; 64] };
    assert_eq!(not_in_log("signals", &row), no_entry);
}

#[test]
fn findings_are_told_by_name_and_place() {
    let kinds = [
        (FindingKind::Content, "content"),
        (FindingKind::Link, "link"),
        (FindingKind::Gap, "gap"),
        (FindingKind::LogMismatch, "log_mismatch"),
        (FindingKind::TimeReversal, "time_reversal"),
        (FindingKind::Truncated, "truncated"),
        (FindingKind::Forked, "forked"),
        (FindingKind::RolledBack, "rolled_back"),
        (FindingKind::GuardDrift, "guard_drift"),
        (FindingKind::Document, "document"),
    ];
    for (kind, name) in kinds {
        assert_eq!(kind.name(), name);
    }
    let finding = log_finding(FindingKind::LogMismatch, "signals", 3, Some(7), "why");
    assert_eq!(finding.to_string(), "log_mismatch: signals row 3 leaf 7: why");
    let of_the_log = Finding { id: None, leaf_index: None, chain: LOG_NAME.to_owned(), ..finding };
    assert_eq!(of_the_log.to_string(), "log_mismatch: ledger_log: why");
}

/// What was acknowledged must stay so over releases: the line of a finding, and with it its id, is
/// part of the format.
#[test]
fn a_finding_has_an_id_that_every_part_of_it_changes() {
    let finding = log_finding(FindingKind::Content, "signals", 3, Some(7), "detail");
    assert_eq!(finding.to_string(), "content: signals row 3 leaf 7: detail");
    assert_eq!(
        finding.finding_id(),
        hex::encode(<sha2::Sha256 as sha2::Digest>::digest(
            "content: signals row 3 leaf 7: detail"
        ))
    );
    let others = [
        log_finding(FindingKind::Link, "signals", 3, Some(7), "detail"),
        log_finding(FindingKind::Content, "ai_debates", 3, Some(7), "detail"),
        log_finding(FindingKind::Content, "signals", 4, Some(7), "detail"),
        log_finding(FindingKind::Content, "signals", 3, None, "detail"),
        log_finding(FindingKind::Content, "signals", 3, Some(7), "other"),
    ];
    for other in others {
        assert_ne!(finding.finding_id(), other.finding_id(), "{other}");
    }
}
