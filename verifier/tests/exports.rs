//! Rows read back from their lines, and plain exports.

mod common;

use std::io::{self, BufReader, Read};

use common::plain_row;
use ledger_verifier::chain::{CHAINS, by_name};
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::csv;
use ledger_verifier::export::{ExportReport, LogCoverage, verify_export};
use ledger_verifier::json::{MAX_LINE_BYTES, ReadRowError, read_json};
use ledger_verifier::lines::MAX_FINDINGS;
use ledger_verifier::merkle::Tree;
use ledger_verifier::row::write_json;
use ledger_verifier::{Chain, ColumnType, LeafIndex, RowHash, RowId, Value, row_hash};
use proptest::prelude::*;
use serde_json::Value as Json;

/// The row as an export has it.
fn line(
    chain: &Chain,
    values: &[Value<'_>],
    prev: RowHash,
    leaf: Option<u64>,
) -> (String, RowHash) {
    let hash = row_hash(chain, prev, values).unwrap();
    let mut line = Vec::new();
    let hashes = (&*prev.to_string(), &*hash.to_string());
    write_json(chain, values, hashes, leaf.map(LeafIndex), &mut line);
    (String::from_utf8(line).unwrap(), hash)
}

/// The lines of a chain's first rows, one at every third leaf.
fn rows_of(chain: &'static Chain, count: i64) -> Vec<String> {
    let mut prev = RowHash::genesis(chain.name);
    let mut lines = Vec::new();
    for id in 1..=count {
        let leaf = u64::try_from(id).unwrap() * 3;
        let (text, hash) = line(chain, &plain_row(chain, id, id), prev, Some(leaf));
        lines.push(text);
        prev = hash;
    }
    lines
}

fn text_of(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

fn report(lines: &[String], checkpoint: Option<&Checkpoint>) -> ExportReport {
    verify_export("rows.ndjson", text_of(lines).as_bytes(), checkpoint).unwrap()
}

fn shown(report: &ExportReport) -> Vec<String> {
    report.findings.kept().iter().map(ToString::to_string).collect()
}

#[test]
fn a_row_of_every_chain_reads_back() {
    for chain in CHAINS {
        let prev = RowHash::genesis(chain.name);
        let mut rows = vec![plain_row(chain, 1, 7)];
        let mut nulls = plain_row(chain, 2, 8);
        for (value, column) in nulls.iter_mut().zip(chain.columns) {
            if column.nullable {
                *value = Value::Null;
            }
            if let (ColumnType::Text { .. }, Value::Text(text)) = (column.ty, &mut *value) {
                text.to_mut().push_str("\"\\\u{8}\u{c}\n\r\t\u{1}\u{7f}\u{e9}\u{1f600}");
            }
        }
        rows.push(nulls);
        for values in rows {
            for leaf in [None, Some(0), Some(u64::MAX)] {
                let (line, hash) = line(chain, &values, prev, leaf);
                let row = read_json(line.as_bytes()).unwrap();
                assert_eq!((row.chain.name, &row.values), (chain.name, &values));
                assert_eq!((row.prev_hash, row.row_hash), (prev, hash));
                assert_eq!(row.leaf_index, leaf.map(LeafIndex));
                assert_eq!(row.computed_hash(), Ok(hash));
                assert_eq!(Value::Integer(row.id.0), values[0]);
                assert_eq!(Some(&Value::Timestamp(row.created_at)), values.last());
            }
        }
    }
}

#[test]
fn addresses_read_back_as_postgresql_prints_them() {
    let signals = by_name("signals").unwrap();
    let at = signals.position("source_ip").unwrap();
    for address in ["::1", "::1:2", "::0.1.0.2", "::ffff:1.2.3.4", "2001:db8::1", "10.0.0.1", "::"]
    {
        let mut values = plain_row(signals, 1, 7);
        values[at] = Value::Inet(address.parse().unwrap());
        let (line, _) = line(signals, &values, RowHash::genesis("signals"), None);
        assert_eq!(read_json(line.as_bytes()).unwrap().values, values, "{address}");
    }
}

#[test]
fn a_row_has_one_spelling() {
    let chain = by_name("ai_debates").unwrap();
    let (line, _) = line(chain, &plain_row(chain, 1, 7), RowHash::genesis(chain.name), Some(5));
    assert!(read_json(line.as_bytes()).is_ok());
    let members: Vec<_> = line[1..line.len() - 1].split(",\"").collect();
    let joined = |members: &[&str]| format!("{{{}}}", members.join(",\""));
    assert_eq!(joined(&members), line);
    for at in 0..members.len() {
        let without = [&members[..at], &members[at + 1..]].concat();
        assert!(read_json(joined(&without).as_bytes()).is_err());
        let twice = [&members[..=at], &members[at..]].concat();
        let error = read_json(joined(&twice).as_bytes()).unwrap_err();
        assert!(at == 0 || error == ReadRowError::Spelling, "{error}");
        if at > 1 {
            let mut swapped = members.clone();
            swapped.swap(at, at - 1);
            assert_eq!(read_json(joined(&swapped).as_bytes()).unwrap_err(), ReadRowError::Spelling);
        }
    }
    for (from, to) in [
        ("\"id\":1,", "\"id\": 1,"),
        ("\"id\":1,", "\"id\":1,\"more\":1,"),
        ("\"id\":", "\"\\u0069d\":"),
        ("\"text\"", "\"t\\u0065xt\""),
        ("07070707-", "0707-0707"),
        ("1970-01-01T00:00:00.000007Z", "1970-01-01T00:00:00.000007+00:00"),
        ("true", "\"true\""),
        ("\"leaf_index\":5", "\"leaf_index\":5.0"),
        ("\"leaf_index\":5", "\"leaf_index\":05"),
        ("\"leaf_index\":5", "\"leaf_index\":-0"),
        ("\"leaf_index\":5", "\"leaf_index\":\"5\""),
        ("\"leaf_index\":5", "\"leaf_index\":18446744073709551616"),
        ("\"elapsed_ms\":7", "\"elapsed_ms\":7.0"),
        ("\"elapsed_ms\":7", "\"elapsed_ms\":7e0"),
        ("\"elapsed_ms\":7", "\"elapsed_ms\":\"7\""),
        ("\"elapsed_ms\":7", "\"elapsed_ms\":[7]"),
        ("\"1.2345\"", "1.2345"),
        ("\"1.2345\"", "\"1.23450\""),
        ("\"1.2345\"", "\"+1.2345\""),
        ("\"1.2345\"", "\"unreadable: a NaN\""),
        ("\"prev_hash\":\"", "\"prev_hash\":\"0"),
        ("ai_debates", "ai_debate"),
        ("\"id\":1", "\"id\":null"),
        ("{", "[{"),
        ("5}", "5}}"),
    ] {
        assert!(line.contains(from), "{from}");
        let changed = line.replacen(from, to, 1);
        assert!(read_json(changed.as_bytes()).is_err(), "{changed}");
    }
    for around in
        [format!(" {line}"), format!("{line} "), format!("{line}\n"), format!("\u{feff}{line}")]
    {
        assert!(read_json(around.as_bytes()).is_err());
    }
    let upper = line.replace("prev_hash\":\"41863a", "prev_hash\":\"41863A");
    assert_ne!(upper, line);
    assert!(read_json(upper.as_bytes()).is_err());
    assert_eq!(read_json(&vec![b'x'; MAX_LINE_BYTES + 1]).unwrap_err(), ReadRowError::TooLong);
    assert_eq!(read_json(b"\xff").unwrap_err(), ReadRowError::NotAnObject);
    assert_eq!(read_json(b"{}").unwrap_err(), ReadRowError::UnknownChain);
}

/// A document of 1 MiB of which every byte is escaped fits a line.
#[test]
fn the_longest_document_fits_a_line() {
    let chain = by_name("signals").unwrap();
    let mut values = plain_row(chain, 1, 7);
    values[chain.position("raw_payload").unwrap()] =
        Value::Document("\u{1}".repeat(1 << 20).into());
    let (line, hash) = line(chain, &values, RowHash::genesis("signals"), Some(0));
    assert!(line.len() > 6 << 20);
    assert_eq!(read_json(line.as_bytes()).unwrap().computed_hash(), Ok(hash));
    assert_eq!(shown(&report(&[line], None)), Vec::<String>::new());
}

#[test]
fn an_export_is_checked_as_far_as_it_goes() {
    let chain = by_name("order_events").unwrap();
    let lines = rows_of(chain, 9);
    let whole = report(&lines, None);
    assert_eq!((whole.rows(), whole.gaps(), shown(&whole)), (9, 0, vec![]));
    assert_eq!((whole.chains[0].first_id, whole.chains[0].last_id), (RowId(1), RowId(9)));
    assert_eq!(whole.log, LogCoverage::NotAsked);

    // From anywhere on, and with what a filter leaves.
    let part = report(&lines[4..], None);
    assert_eq!((part.rows(), part.gaps(), shown(&part)), (5, 0, vec![]));
    let filtered: Vec<_> = [1, 2, 5, 8].map(|at: usize| lines[at].clone()).into();
    let part = report(&filtered, None);
    assert_eq!((part.rows(), part.gaps(), shown(&part)), (4, 2, vec![]));
    let nothing = report(&[], None);
    assert_eq!((nothing.rows(), nothing.gaps(), shown(&nothing)), (0, 0, vec![]));

    // Twice the same row, rows in another order, a row of another chain's hash.
    for (at, by) in [(3, 2), (3, 4), (0, 1), (8, 0)] {
        let mut changed = lines.clone();
        changed.insert(at, lines[by].clone());
        let found = shown(&report(&changed, None));
        assert!(found.iter().any(|found| found.starts_with("gap: ")), "{found:?}");
    }
}

#[test]
fn every_changed_line_of_an_export_is_found() {
    let chain = by_name("order_events").unwrap();
    let lines = rows_of(chain, 4);
    for at in 0..lines.len() {
        let mut changed = lines.clone();
        changed[at] = changed[at].replace("\"recorded_by\":\"text\"", "\"recorded_by\":\"Text\"");
        let found = shown(&report(&changed, None));
        let id = at + 1;
        assert!(
            found[0].starts_with(&format!("content: rows.ndjson line {id} row {id}: ")),
            "{found:?}"
        );

        // Hashed again: the next row still links to what was there.
        let row = read_json(lines[at].as_bytes()).unwrap();
        let mut values = row.values.clone();
        values[chain.position("event_type").unwrap()] = Value::Text("other".into());
        let mut changed = lines.clone();
        changed[at] = line(chain, &values, row.prev_hash, row.leaf_index.map(|leaf| leaf.0)).0;
        let found = shown(&report(&changed, None));
        let is_last = at + 1 == lines.len();
        assert_eq!(found.is_empty(), is_last, "{found:?}");
        assert!(is_last || found[0].starts_with("link: "), "{found:?}");
    }
    let mut times = lines.clone();
    times[2] = times[1].replace("\"id\":2", "\"id\":3");
    assert!(!shown(&report(&times, None)).is_empty());
}

struct Fails;

impl Read for Fails {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk"))
    }
}

#[test]
fn a_cut_export_is_found() {
    let chain = by_name("order_events").unwrap();
    let text = text_of(&rows_of(chain, 3));
    for at in 1..text.len() {
        let report = verify_export("rows.ndjson", &text.as_bytes()[..at], None).unwrap();
        let is_whole = text.as_bytes()[at - 1] == b'\n';
        assert_eq!(report.findings.total() == 0, is_whole, "cut at {at}");
    }
    let noise = "{}\n".repeat(MAX_FINDINGS + 20);
    let report = verify_export("noise", noise.as_bytes(), None).unwrap();
    assert_eq!(report.findings.kept().len(), MAX_FINDINGS);
    assert_eq!(report.findings.total(), MAX_FINDINGS as u64 + 20);
    let endless = BufReader::new(io::repeat(b'x').take(1 << 26));
    let report = verify_export("endless", endless, None).unwrap();
    assert_eq!(report.findings.total(), 1);
    assert!(verify_export("failing", BufReader::new(Fails), None).is_err());
}

/// A replay of all chains has every leaf, so its root is the checkpoint's.
#[test]
fn a_replay_of_everything_leads_to_the_root() {
    let chains = [by_name("order_events").unwrap(), by_name("ai_debates").unwrap()];
    let mut prev = chains.map(|chain| RowHash::genesis(chain.name));
    let mut tree = Tree::new();
    let (mut lines, mut heads) = (Vec::new(), Vec::new());
    for leaf in 0..12_u64 {
        let at = usize::from(leaf % 3 == 0);
        let id = if at == 1 { leaf / 3 + 1 } else { leaf - leaf / 3 };
        let values = plain_row(chains[at], i64::try_from(id).unwrap(), 7);
        let (text, hash) = line(chains[at], &values, prev[at], Some(leaf));
        lines.push(text);
        prev[at] = hash;
        tree.push(hash);
        heads.push(tree.head());
    }
    let checkpoint = |at: usize| Checkpoint {
        origin: "example.com/log".to_owned(),
        size: heads[at].size,
        root: heads[at].root,
        extensions: Vec::new(),
    };
    for at in 0..12 {
        let found = report(&lines, Some(&checkpoint(at)));
        assert_eq!((found.log, shown(&found)), (LogCoverage::Proved, vec![]));
    }
    // Leaves that are not there are neither shown nor wrong.
    for part in [&lines[..11], &lines[1..], &[]] {
        let found = report(part, Some(&checkpoint(11)));
        assert_eq!((found.log, shown(&found)), (LogCoverage::NotShown, vec![]));
    }
    // Another row, hashed and linked as it must be.
    let mut forged = lines.clone();
    let row = read_json(lines[11].as_bytes()).unwrap();
    let mut values = row.values.clone();
    values[2] = Value::Text("other".into());
    forged[11] = line(row.chain, &values, row.prev_hash, Some(11)).0;
    assert_eq!(shown(&report(&forged, None)), Vec::<String>::new());
    let found = report(&forged, Some(&checkpoint(11)));
    assert_eq!(found.log, LogCoverage::OtherRoot);
    assert!(
        shown(&found)[0].starts_with("forked: rows.ndjson line 12 row 8: "),
        "{:?}",
        shown(&found)
    );
    // The log's order.
    let mut moved = lines;
    moved.swap(3, 4);
    let found = report(&moved, Some(&checkpoint(11)));
    assert_eq!(found.log, LogCoverage::NotShown);
    assert!(shown(&found)[0].starts_with("leaf_index: "));
}

#[test]
fn a_table_says_what_the_rows_say() {
    let chain = by_name("security_events").unwrap();
    let mut values = plain_row(chain, 1, 7);
    values[chain.position("actor").unwrap()] = Value::Text("=1+1,\"x\"".into());
    values[chain.position("subject").unwrap()] = Value::Text("".into());
    values[chain.position("source_ip").unwrap()] = Value::Null;
    let (line, hash) = line(chain, &values, RowHash::genesis(chain.name), Some(9));
    let row = read_json(line.as_bytes()).unwrap();
    let mut table = Vec::new();
    csv::write_header(chain, &mut table);
    row.as_stored(|stored| csv::write_row(chain, stored, row.leaf_index, &mut table));
    let expected = format!(
        "id,event_type,actor,subject,details_text,source_ip,created_at,\
         prev_hash,row_hash,leaf_index\r\n\
         1,text,\"'=1+1,\"\"x\"\"\",\"\",{{}},,1970-01-01T00:00:00.000007Z,{},{hash},9\r\n",
        row.prev_hash
    );
    assert_eq!(String::from_utf8(table).unwrap(), expected);
}

proptest! {
    /// Whatever is read is spelt as it would be written, so nothing else can be behind it.
    #[test]
    fn what_is_read_is_written_so(
        at in 0..7_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3, any::<u8>()), 0..3),
    ) {
        let chain = CHAINS[at];
        let (line, _) = line(chain, &plain_row(chain, 1, 7), RowHash::genesis(chain.name), Some(5));
        let mut bytes = line.into_bytes();
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => _ = bytes.remove(at),
            }
        }
        if let Ok(row) = read_json(&bytes) {
            let mut written = Vec::new();
            row.as_stored(|stored| stored.write_json(chain, row.leaf_index, &mut written));
            prop_assert_eq!(written, bytes);
        }
    }

    #[test]
    fn any_text_and_number_reads_back(
        text in ".*", id in 0..(1_i64 << 53), units: i64, json in ".{0,40}",
    ) {
        let chain = by_name("signals").unwrap();
        let mut values = plain_row(chain, id, 7);
        values[chain.position("symbol").unwrap()] = Value::Text(text.into());
        values[chain.position("price").unwrap()] = Value::Decimal(units.into());
        values[chain.position("raw_payload").unwrap()] = Value::Document(json.into());
        let (line, _) = line(chain, &values, RowHash::genesis("signals"), None);
        prop_assert!(serde_json::from_str::<Json>(&line).is_ok());
        prop_assert_eq!(read_json(line.as_bytes()).unwrap().values, values);
    }
}
