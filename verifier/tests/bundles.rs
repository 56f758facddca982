//! Bundles: honest ones of every range, and everything that can be done to one.

#[path = "common/built.rs"]
#[expect(dead_code, reason = "other test binaries use the rest")]
mod built;
#[path = "common/checked.rs"]
mod checked;

use built::{Bounds, Bundle, FILES, Ledger, Row, START, key, make_key, pack, time};
use checked::{ROWS, bundle, require_finding, require_refused, shown, verify, verify_with};
use ledger_verifier::bundle::{Completeness, Verdict};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn every_range_of_an_honest_ledger_verifies() {
    let key = key(None);
    let ledger = Ledger::new(ROWS);
    let last = i64::try_from(ROWS).unwrap();
    let ids: Vec<_> = [None].into_iter().chain((-1..=last + 2).map(Some)).collect();
    let times: Vec<_> =
        [None].into_iter().chain((0..7).map(|at| Some(START + at * 1_100_000))).collect();
    let ranges = ids.iter().flat_map(|&from_id| ids.iter().map(move |&to_id| (from_id, to_id)));
    let by_id = ranges.map(|(from_id, to_id)| Bounds { from_id, to_id, ..Bounds::default() });
    let ranges = times.iter().flat_map(|&from| times.iter().map(move |&to| (from, to)));
    let by_time = ranges.map(|(from, to)| Bounds { from, to, ..Bounds::default() });
    let mixed = [
        Bounds { from_id: Some(4), to: Some(START + 3_000_000), ..Bounds::default() },
        Bounds { from_id: Some(9), to: Some(START), ..Bounds::default() },
        Bounds { from: Some(START + 1), to_id: Some(5), ..Bounds::default() },
    ];
    for bounds in by_id.chain(by_time).chain(mixed) {
        let bundle = ledger.bundle(&bounds, &key);
        let report = verify(&bundle.zip());
        assert_eq!(shown(&report), Vec::<String>::new(), "{bounds:?}");
        assert_eq!(report.verdict(), Verdict::Verified, "{bounds:?}");
        let in_range: Vec<_> = ledger
            .rows
            .iter()
            .filter(|row| {
                bounds.from_id.is_none_or(|from| row.id >= from)
                    && bounds.to_id.is_none_or(|to| row.id <= to)
                    && bounds.from.is_none_or(|from| row.created_at >= from)
                    && bounds.to.is_none_or(|to| row.created_at < to)
            })
            .collect();
        assert_eq!(report.rows, u64::try_from(in_range.len()).unwrap());
        assert_eq!(report.first_id.map(|id| id.0), in_range.first().map(|row| row.id));
        assert_eq!(report.last_id.map(|id| id.0), in_range.last().map(|row| row.id));
        // Whatever is appended later is in the range exactly if it ends nowhere.
        let newest = &ledger.rows[ROWS - 1];
        let is_open = bounds.to_id.is_none_or(|to| to > newest.id)
            && bounds.to.is_none_or(|to| to > newest.created_at);
        // A range that begins behind the last row, and ends at it, has nothing behind it either.
        let expected = if is_open {
            Completeness::UpTo(ledger_verifier::RowId(last))
        } else {
            Completeness::Whole
        };
        assert_eq!(report.completeness, expected, "{bounds:?}");
        assert_eq!(report.proved().len(), 3);
    }
}

#[test]
fn the_report_says_what_is_proved() {
    let report = verify(&bundle().zip());
    let proved = report.proved();
    assert_eq!(proved[0], "ai_debates: 4 rows, 3 to 6, are as they were appended");
    assert_eq!(proved[1], "the range is complete: no row of it was left out");
    assert!(proved[2].contains("ledger.example.com/desk-1, in its signed checkpoint of 28 leaves"));
    assert!(report.not_proved().iter().any(|said| said.contains("auditor")));

    let open =
        Ledger::new(ROWS).bundle(&Bounds { from_id: Some(8), ..Bounds::default() }, &key(None));
    let report = verify(&open.zip());
    assert!(report.proved()[1].starts_with("the range is complete up to id 9"));
    assert!(report.not_proved()[0].starts_with("that there was no row after 9"));
}

#[test]
fn a_chain_without_rows_shows_nothing() {
    let mut ledger = Ledger::new(0);
    for leaves in [0, 1] {
        ledger.leaves.truncate(leaves);
        let report = verify(&ledger.bundle(&Bounds::default(), &key(None)).zip());
        assert_eq!(report.verdict(), Verdict::NothingShown, "{:?}", shown(&report));
        assert_eq!(report.proved(), Vec::<String>::new());
    }
}

#[test]
fn any_of_the_logs_keys_will_do() {
    let (ours, other) = (key(None), make_key("ledger.example.com/desk-1", &[9; 32]));
    let elsewhere = make_key("elsewhere.example.com", &[8; 32]);
    let zip = bundle().zip();
    for keys in [&[&other, &ours][..], &[&ours, &elsewhere], &[&elsewhere, &other, &ours]] {
        assert_eq!(verify_with(&zip, keys).verdict(), Verdict::Verified);
    }
    for keys in [&[&other][..], &[&elsewhere], &[]] {
        let report = verify_with(&zip, keys);
        assert_eq!(report.verdict(), Verdict::DoesNotVerify);
        assert!(report.checkpoint.is_none());
        // The rows are looked at all the same, and nothing is wrong with them.
        assert!(shown(&report).iter().all(|finding| {
            finding.starts_with("checkpoint: ") || finding.starts_with("proof: ")
        }));
    }
}

#[test]
fn every_member_of_the_manifest_counts() {
    let honest = bundle();
    for (name, values) in [
        ("format", &["\"audit-ledger/bundle/v2\"", "\"\"", "1"][..]),
        ("chain", &["\"signals\"", "\"nothing\"", "\"AI_debates\"", "null"]),
        ("filter", &["{}", "null", "[]"]),
        ("rows", &["0", "3", "5", "-1", "4.0", "\"4\"", "null", "18446744073709551616"]),
        ("first_id", &["null", "2", "4", "3.0", "\"3\""]),
        ("last_id", &["null", "5", "7", "-6"]),
        ("origin", &["\"ledger.example.com/desk-2\"", "\"\"", "\"ledger.example.com/desk-1/i2\""]),
        ("incarnation", &["0", "2", "null", "1.0"]),
        ("tree_size", &["0", "27", "29", "null"]),
        ("requested_by", &["\"\"", "null", "7"]),
        ("made_at", &["\"\"", "\"2026-02-01T00:00:00Z\"", "\"2026-02-30T00:00:00.000000Z\"", "0"]),
        ("tool", &["\"\"", "null"]),
    ] {
        for value in values {
            let mut changed = honest.clone();
            changed.set(name, *value);
            require_refused(&changed.zip(), &format!("{name} {value}"));
        }
    }
    // Bounds that the rows at the edges belie: wider, narrower, of the other kind, malformed.
    let bounds = |json: &str| {
        let mut changed = honest.clone();
        changed.set("filter", json);
        changed.zip()
    };
    for (from_id, to_id) in [(2, 6), (4, 6), (3, 5), (3, 7), (1, 9), (6, 3)] {
        require_finding(&bounds(&Bounds::ids(from_id, to_id).json()), "range: ");
    }
    for wider in [
        Bounds { from_id: Some(3), ..Bounds::default() },
        Bounds { to_id: Some(6), ..Bounds::default() },
        Bounds { from: Some(START), to_id: Some(6), ..Bounds::default() },
        Bounds { from_id: Some(3), to: Some(START + 4_500_001), ..Bounds::default() },
    ] {
        require_finding(&bounds(&wider.json()), "range: ");
    }
    for malformed in [
        "{\n    \"from_id\": 9007199254740992\n  }",
        "{\n    \"from\": \"2026-01-01\"\n  }",
        "{\n    \"from_id\": 3,\n    \"to_id\": 6,\n    \"symbol\": \"X\"\n  }",
        "{\n    \"to_id\": 6,\n    \"from_id\": 3\n  }",
        "{\n    \"from_id\": 3,\n    \"from_id\": 3,\n    \"to_id\": 6\n  }",
        "{\n    \"from_id\": null,\n    \"to_id\": 6\n  }",
    ] {
        require_finding(&bounds(malformed), "manifest: ");
    }
    // What nobody can prove: the report says so.
    for (name, value) in [
        ("requested_by", "\"x\""),
        ("tool", "\"y\""),
        ("made_at", "\"2027-02-01T00:00:00.000000Z\""),
    ] {
        let mut changed = honest.clone();
        changed.set(name, value);
        let report = verify(&changed.zip());
        assert_eq!(report.verdict(), Verdict::Verified);
        assert!(report.not_proved().iter().any(|said| said.contains(value.trim_matches('"'))));
    }
}

#[test]
fn the_manifest_has_one_spelling() {
    let honest = bundle();
    let json = honest.manifest_json();
    let lines: Vec<_> = json.split_inclusive('\n').collect();
    for at in 0..lines.len() {
        let without = [&lines[..at], &lines[at + 1..]].concat().concat();
        require_refused(&honest.zip_with(without.as_bytes()), lines[at]);
        let twice = [&lines[..=at], &lines[at..]].concat().concat();
        require_finding(&honest.zip_with(twice.as_bytes()), "manifest");
        if at > 0 {
            let mut swapped = lines.clone();
            swapped.swap(at, at - 1);
            require_finding(&honest.zip_with(swapped.concat().as_bytes()), "manifest");
        }
    }
    for other in [
        json.trim_end().to_owned(),
        format!("{json}\n"),
        format!(" {json}"),
        format!("{json}{json}"),
        json.replace("  ", " "),
        json.replace("ai_debates", "\\u0061i_debates"),
        json.replace("auditor", &"x".repeat(70_000)),
        String::new(),
        "null\n".to_owned(),
    ] {
        require_refused(&honest.zip_with(other.as_bytes()), &other);
    }
    // A hash that is not the file's, or of a file that no bundle has.
    for name in FILES {
        let at = json.find(&format!("\"{name}\"")).unwrap();
        let digit = at + name.len() + 6;
        let other = if &json[digit..=digit] == "0" { "1" } else { "0" };
        let changed = format!("{}{other}{}", &json[..digit], &json[digit + 1..]);
        require_finding(&honest.zip_with(changed.as_bytes()), "SHA-256");
        let upper = json.to_uppercase();
        let end = digit + 64;
        let changed = format!("{}{}{}", &json[..digit], &upper[digit..end], &json[end..]);
        require_finding(&honest.zip_with(changed.as_bytes()), "files: ");
    }
}

#[test]
fn no_changed_byte_of_any_file_is_accepted() {
    let honest = Ledger::new(4).bundle(&Bounds::ids(2, 3), &key(None));
    for name in FILES {
        let bytes = honest.clone().file(name).clone();
        for at in 0..bytes.len() {
            let edit = |change: &dyn Fn(&mut Vec<u8>)| {
                let mut changed = honest.clone();
                change(changed.file(name));
                require_refused(&changed.zip(), &format!("{name} at {at}"));
            };
            edit(&|file| file[at] ^= 1 << (at % 8));
            if at % 7 == 0 {
                edit(&|file| file.truncate(at));
                edit(&|file| file.insert(at, file[at]));
                edit(&|file| _ = file.drain(..=at));
            }
        }
    }
}

#[test]
fn no_cut_doubled_or_moved_line_is_accepted() {
    let honest = bundle();
    for name in FILES {
        let text = String::from_utf8(honest.clone().file(name).clone()).unwrap();
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let with = |lines: &[&str]| {
            let mut changed = honest.clone();
            *changed.file(name) = lines.concat().into_bytes();
            changed.zip()
        };
        for at in 0..lines.len() {
            let what = format!("{name} line {at}");
            require_refused(&with(&[&lines[..at], &lines[at + 1..]].concat()), &what);
            require_refused(&with(&[&lines[..=at], &lines[at..]].concat()), &what);
            require_refused(&with(&[&lines[..at], &["\n"], &lines[at..]].concat()), &what);
            require_refused(&with(&lines[..at]), &what);
            for other in (0..at).filter(|&other| lines[other] != lines[at]) {
                let mut swapped = lines.clone();
                swapped.swap(at, other);
                require_refused(&with(&swapped), &what);
            }
        }
        require_refused(&with(&[&text, "\n"]), name);
        require_refused(&with(&[text.trim_end_matches('\n')]), name);
    }
}

#[test]
fn no_changed_value_is_accepted() {
    let ledger = Ledger::new(5);
    let key = key(None);
    for at in 0..ledger.rows.len() {
        for name in ledger.rows[at].names() {
            for value in [json!(null), json!(7), json!("x"), json!("0.0000"), json!(false)] {
                // The table and the manifest fit the row again.
                let mut changed = ledger.clone();
                changed.rows[at].set(name, value.clone());
                let zip = changed.bundle(&Bounds::ids(2, 4), &key).zip();
                let is_same = changed.rows[at].line() == ledger.rows[at].line();
                let is_unproved = name == "leaf_index" && value == json!(7) && [1, 2].contains(&at);
                if !is_same && !is_unproved {
                    require_refused(&zip, &format!("{name} = {value} in row {}", at + 1));
                }
            }
        }
    }
}

/// Nothing hashes it but the log, and only the first and the last row are shown to stand in the log
/// where they say. Their order is all that is known of those between.
#[test]
fn the_place_of_a_row_between_is_not_proved() {
    let mut ledger = Ledger::new(5);
    assert_eq!(ledger.rows[2].leaf, 8);
    for (leaf, verdict) in
        [(7, Verdict::Verified), (5, Verdict::DoesNotVerify), (11, Verdict::DoesNotVerify)]
    {
        ledger.rows[2].set("leaf_index", json!(leaf));
        let report = verify(&ledger.bundle(&Bounds::ids(2, 4), &key(None)).zip());
        assert_eq!(report.verdict(), verdict, "{leaf}");
        assert!(report.not_proved().iter().any(|said| said.starts_with("the leaf_index")));
    }
}

/// Whoever holds no key can still hash: rows are left out or changed, and all hashes after them
/// made anew.
#[test]
fn nobody_hashes_a_row_away() {
    let (ledger, key) = (Ledger::new(ROWS), key(None));
    let hashed_again = |from: usize, mut rows: Vec<Row>| {
        for at in from..rows.len() {
            let prev = if at == 0 { built::genesis() } else { rows[at - 1].hash.clone() };
            let id = i64::try_from(at).unwrap() + 1;
            rows[at] = Row::new(id, rows[at].created_at, rows[at].leaf, &prev, "{}");
        }
        rows
    };
    for left_out in 0..ROWS {
        let mut rows = ledger.rows.clone();
        rows.remove(left_out);
        let forged = Ledger { rows: hashed_again(left_out, rows), leaves: ledger.leaves.clone() };
        for bounds in [Bounds::default(), Bounds::ids(1, 5), Bounds::ids(3, 20)] {
            let reaches = bounds.to_id.is_none_or(|to| to >= i64::try_from(left_out).unwrap());
            let zip = forged.bundle(&bounds, &key).zip();
            if left_out < ROWS - 1 && reaches {
                require_finding(&zip, "proof: ");
            }
            // With proofs of the true rows that stand at these leaves, too.
            if left_out < ROWS - 1 {
                require_refused(&forged.bundle(&Bounds::default(), &key).zip(), "true proofs");
            }
        }
        let changed = Ledger {
            rows: hashed_again(left_out, ledger.rows.clone()),
            leaves: ledger.leaves.clone(),
        };
        require_finding(&changed.bundle(&Bounds::default(), &key).zip(), "proof: ");
    }
}

#[test]
fn a_range_cannot_be_cut_short() {
    let (ledger, key) = (Ledger::new(ROWS), key(None));
    let part = |bounds: &Bounds, [before, rows, after]: [std::ops::Range<usize>; 3]| {
        let part = |range| &ledger.rows[range];
        Bundle::new(&ledger, bounds, [part(before), part(rows), part(after)], &key).zip()
    };
    let bounds = Bounds::ids(3, 6);
    assert_eq!(verify(&part(&bounds, [1..2, 2..6, 6..7])).verdict(), Verdict::Verified);
    for (parts, finding) in [
        // The first, the last, one between; rows of the range as those at its edges.
        ([1..2, 3..6, 6..7], "gap: "),
        ([1..2, 2..5, 6..7], "gap: "),
        ([2..3, 3..6, 6..7], "range: before.ndjson"),
        ([1..2, 2..5, 5..6], "range: after.ndjson"),
        // Rows at the edges that are too far away, missing, or too many.
        ([0..1, 2..6, 6..7], "gap: "),
        ([1..2, 2..6, 7..8], "gap: "),
        ([1..1, 2..6, 6..7], "range: records.ndjson"),
        ([0..2, 2..6, 6..7], "more than one row"),
        ([1..2, 2..6, 6..8], "more than one row"),
        // Rows that nobody asked for.
        ([0..1, 1..6, 6..7], "range: records.ndjson"),
        ([1..2, 2..7, 7..8], "range: records.ndjson"),
        // Nothing but the edges.
        ([1..2, 2..2, 6..7], "gap: "),
        ([6..7, 2..6, 1..2], "range: before.ndjson"),
        ([1..1, 2..2, 6..7], "range: after.ndjson"),
    ] {
        require_finding(&part(&bounds, parts), finding);
    }
    // Nothing stands behind the last row, so what was there is not shown: the report says up to
    // where.
    let report = verify(&part(&bounds, [1..2, 2..5, 6..6]));
    assert_eq!(report.verdict(), Verdict::Verified);
    assert_eq!(report.completeness, Completeness::UpTo(ledger_verifier::RowId(5)));
    // The last id of the range is there, so nothing needs to stand behind it.
    let report = verify(&part(&bounds, [1..2, 2..6, 6..6]));
    assert_eq!(report.completeness, Completeness::Whole);

    // Rows 3 to 6 by time: 1,500,000 µs for two rows each.
    let (from, to) = (START + 1_500_000, START + 4_500_000);
    let bounds = Bounds { from: Some(from), to: Some(to), ..Bounds::default() };
    assert_eq!(verify(&part(&bounds, [1..2, 2..6, 6..7])).verdict(), Verdict::Verified);
    for (parts, finding) in [
        ([2..3, 3..6, 6..7], "range: before.ndjson"),
        ([1..2, 2..5, 5..6], "range: after.ndjson"),
        ([0..1, 1..6, 6..7], "range: records.ndjson"),
        ([1..2, 2..7, 7..8], "range: records.ndjson"),
        ([1..2, 2..4, 6..7], "gap: "),
    ] {
        require_finding(&part(&bounds, parts), finding);
    }
}

#[test]
fn files_do_not_stand_for_each_other() {
    let honest = bundle();
    for left in FILES {
        for right in FILES.into_iter().filter(|&right| right != left) {
            let mut swapped = honest.clone();
            let (one, other) = (swapped.file(left).clone(), swapped.file(right).clone());
            *swapped.file(left) = other.clone();
            *swapped.file(right) = one;
            require_refused(&swapped.zip(), &format!("{left} and {right} swapped"));
            let mut copied = honest.clone();
            *copied.file(left) = other;
            require_refused(&copied.zip(), &format!("{right} as {left}"));
        }
        let mut without = honest.clone();
        without.remove(left);
        require_finding(&without.zip(), "the file is missing");
        require_finding(
            &without.zip_with(honest.manifest_json().as_bytes()),
            "the file is missing",
        );
        let mut empty = honest.clone();
        empty.file(left).clear();
        require_refused(&empty.zip(), left);
    }
    let mut more = honest.clone();
    more.files.push(("readme\u{1b}[2J.txt".to_owned(), b"hello".to_vec()));
    require_finding(&more.zip(), "files: readme\\u{1b}[2J.txt: no bundle has such a file");
    require_finding(&pack(&honest.files), "files: manifest.json: the file is missing");
    require_refused(&pack(&[]), "an empty archive");
}

#[test]
fn a_checkpoint_of_another_log_or_time_is_refused() {
    let (ledger, ours) = (Ledger::new(ROWS), key(None));
    let bounds = Bounds::ids(3, 6);
    // Of another key, another origin, and both at once.
    for other in [
        make_key("ledger.example.com/desk-1", &[9; 32]),
        key(Some("ledger.example.com/desk-1/i2")),
        make_key("elsewhere.example.com", &[7; 32]),
    ] {
        require_finding(&ledger.bundle(&bounds, &other).zip(), "checkpoint: ");
        let report = verify_with(&ledger.bundle(&bounds, &other).zip(), &[&ours, &other]);
        let is_fine = other.origin != "ledger.example.com/desk-1/i2";
        assert_eq!(report.verdict() == Verdict::Verified, is_fine, "{:?}", shown(&report));
    }
    // A checkpoint that is the log's own, but older or newer than the proofs and the manifest.
    for rows in [5, ROWS - 1, ROWS + 1] {
        let mut changed = ledger.bundle(&bounds, &ours);
        let other = Ledger::new(rows);
        *changed.file("checkpoint.txt") = other.checkpoint(&ours).into_bytes();
        require_finding(&changed.zip(), "proof: ");
        require_finding(&changed.zip(), "tree_size");
        // Proofs of the true rows with that checkpoint below.
        for (name, row) in [("proofs/first.tlog-proof", 1), ("proofs/last.tlog-proof", 6)] {
            let proof = ledger.proof(ledger.rows[row].leaf, &other.checkpoint(&ours));
            *changed.file(name) = proof.into_bytes();
        }
        changed.set("tree_size", other.leaves.len().to_string());
        require_finding(&changed.zip(), "proof: ");
    }
    // One that never had the last row.
    let short = Ledger { rows: ledger.rows.clone(), leaves: ledger.leaves[..14].to_vec() };
    require_finding(&short.bundle(&Bounds::ids(2, 4), &ours).zip(), "proof: ");
}

#[test]
fn proofs_are_of_the_rows_at_the_ends() {
    let (ledger, key) = (Ledger::new(ROWS), key(None));
    let honest = ledger.bundle(&Bounds::ids(3, 6), &key);
    let checkpoint = ledger.checkpoint(&key);
    for (name, row) in [("proofs/first.tlog-proof", 1), ("proofs/last.tlog-proof", 6)] {
        for leaf in (0..ledger.leaves.len()).filter(|&leaf| leaf != ledger.rows[row].leaf) {
            let mut changed = honest.clone();
            *changed.file(name) = ledger.proof(leaf, &checkpoint).into_bytes();
            require_finding(&changed.zip(), "proof: ");
        }
        let mut extra = honest.clone();
        let text = String::from_utf8(extra.file(name).clone()).unwrap();
        *extra.file(name) = text.replacen("\nindex", "\nextra YQ==\nindex", 1).into_bytes();
        require_finding(&extra.zip(), "nothing proves");
        let mut without = honest.clone();
        without.remove(name);
        require_finding(&without.zip(), "the file is missing");
    }
    // Where there is no row there is nothing to prove.
    let mut empty = Ledger::new(0).bundle(&Bounds::default(), &key);
    let proof = honest.clone().file("proofs/first.tlog-proof").clone();
    empty.files.push(("proofs/first.tlog-proof".to_owned(), proof));
    require_finding(&empty.zip(), "no row that it could prove");
}

#[test]
fn every_finding_is_told() {
    let mut ledger = Ledger::new(ROWS);
    ledger.rows[3].set("elapsed_ms", json!(1));
    ledger.rows[4].set("model_name", json!("other"));
    ledger.rows[5].set("created_at", json!(time(START)));
    let mut bundle = ledger.bundle(&Bounds::ids(3, 6), &key(None));
    bundle.set("rows", "5");
    bundle.set("tool", "\"\"");
    let findings = require_refused(&bundle.zip(), "several");
    for expected in [
        "manifest: manifest.json: tool is empty",
        "manifest: manifest.json: rows is 5, found 4",
        "content: records.ndjson line 2 row 4: ",
        "content: records.ndjson line 3 row 5: ",
        "content: records.ndjson line 4 row 6: ",
        "time_reversal: records.ndjson line 4 row 6: ",
    ] {
        assert!(
            findings.iter().any(|found| found.starts_with(expected)),
            "{expected} {findings:#?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Behind the SHA-256: the manifest is made to fit what was changed.
    #[test]
    fn no_edited_file_is_accepted(
        name in 0..FILES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4, any::<u8>()), 1..4),
    ) {
        let mut changed = bundle();
        let file = changed.file(FILES[name]);
        let before = file.clone();
        for (at, kind, byte) in edits {
            let at = at.index(file.len().max(1));
            match kind {
                _ if file.is_empty() => file.push(byte),
                0 => file[at] = byte,
                1 => _ = file.remove(at),
                2 => file.insert(at, byte),
                _ => {
                    let other = usize::from(byte) % file.len();
                    file.swap(at, other);
                }
            }
        }
        if *file != before {
            require_refused(&changed.zip(), FILES[name]);
        }
    }
}
