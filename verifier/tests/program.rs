//! `ledger-verify` as auditors and their scripts meet it: exit codes, text and JSON.

#[path = "common/built.rs"]
#[expect(dead_code, reason = "other test binaries use the rest")]
mod built;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine};
use built::{Bounds, Ledger, consistency, key, make_key};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn run_with(input: &str, args: &[&str]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ledger-verify"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(args: &[&str]) -> Ran {
    run_with("", args)
}

/// The exit code and the JSON.
fn run_json(args: &[&str]) -> (i32, Value) {
    let ran = run(&[args, &["--json"]].concat());
    (ran.code, serde_json::from_str(&ran.out).unwrap())
}

#[test]
fn a_bundle() {
    let (folder, key) = (Folder::new(), key(None));
    let ledger = Ledger::new(9);
    let bundle = ledger.bundle(&Bounds::ids(3, 6), &key);
    let file = folder.file("whole.zip", bundle.zip());
    let ran = run(&["bundle", &file, "--key", &key.vkey]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("VERIFIED\n"), "{}", ran.out);
    assert!(ran.out.contains("ai_debates: 4 rows, 3 to 6, are as they were appended"));
    let (code, json) = run_json(&["--key", &key.vkey, "bundle", &file]);
    assert_eq!((code, &json["verdict"]), (0, &json!("verified")));
    assert_eq!(json["facts"]["rows"], 4);
    assert_eq!(json["facts"]["complete"], true);
    assert_eq!(json["facts"]["checkpoint"]["origin"], key.origin);
    assert_eq!(json["facts"]["checkpoint"]["size"], 28);

    let open = ledger.bundle(&Bounds { from_id: Some(8), ..Bounds::default() }, &key);
    let (code, json) = run_json(&["bundle", &folder.file("o.zip", open.zip()), "--key", &key.vkey]);
    assert_eq!((code, &json["facts"]["complete"]), (0, &json!({ "up_to_id": 9 })));

    let mut changed = bundle.clone();
    let text = String::from_utf8(changed.file("records.ndjson").clone()).unwrap();
    *changed.file("records.ndjson") = text.replace(":44,", ":45,").into_bytes();
    let file = folder.file("changed.zip", changed.zip());
    let ran = run(&["bundle", &file, "--key", &key.vkey]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.out.starts_with("DOES NOT VERIFY\n  content: records.ndjson line 2 row 4: "),
        "{}",
        ran.out
    );
    let (code, json) = run_json(&["bundle", &file, "--key", &key.vkey]);
    assert_eq!((code, &json["verdict"]), (2, &json!("does_not_verify")));
    let finding = &json["findings"][0];
    assert_eq!(
        (&finding["rule"], &finding["line"], &finding["row"]),
        (&json!("content"), &json!(2), &json!(4))
    );
    assert_eq!(json["facts"]["complete"], false);

    let other = make_key(&key.origin, &[9; 32]);
    let whole = folder.file("whole.zip", bundle.zip());
    assert_eq!(run(&["bundle", &whole, "--key", &other.vkey]).code, 2);
    assert_eq!(run(&["bundle", &whole, "--key", &other.vkey, "--key", &key.vkey]).code, 0);
    assert_eq!(
        run(&["bundle", &folder.file("cut.zip", &bundle.zip()[..500]), "--key", &key.vkey]).code,
        2
    );
    assert_eq!(run(&["bundle", &folder.file("none.zip", ""), "--key", &key.vkey]).code, 2);
    let empty = Ledger::new(0).bundle(&Bounds::default(), &key);
    let (code, json) =
        run_json(&["bundle", &folder.file("empty.zip", empty.zip()), "--key", &key.vkey]);
    assert_eq!((code, &json["verdict"]), (3, &json!("not_shown")));
}

#[test]
fn what_cannot_be_read_is_neither_good_nor_bad() {
    let (folder, key) = (Folder::new(), key(None));
    let missing = folder.0.path().join("missing");
    let missing = missing.to_str().unwrap();
    let directory = folder.0.path().to_str().unwrap();
    let row = folder.file("row", "{}");
    for file in [missing, directory] {
        for args in [
            &["bundle", file, "--key", &key.vkey][..],
            &["ndjson", file],
            &["ndjson", &row, "--checkpoint", file, "--key", &key.vkey],
            &["proof", file, "--row", &row, "--key", &key.vkey],
            &["proof", &row, "--row", file, "--key", &key.vkey],
            &["checkpoints", file, &row, "--key", &key.vkey],
            &["checkpoints", &row, file, "--key", &key.vkey],
            &["checkpoints", &row, &row, "--proof", file, "--key", &key.vkey],
        ] {
            let (code, json) = run_json(args);
            assert_eq!((code, &json["verdict"]), (3, &json!("unfinished")), "{args:?}");
            assert!(json["error"].as_str().unwrap().contains(file));
            assert_eq!(run(args).out, "");
        }
    }
}

#[test]
fn usage() {
    let (folder, key) = (Folder::new(), key(None));
    let file = folder.file("file", "");
    let keys = folder.file("keys", format!("\n{}\n", key.vkey));
    for args in [
        &[][..],
        &["bundle"],
        &["bundle", &file],
        &["bundle", "-", "--key", &key.vkey],
        &["bundle", &file, &file, "--key", &key.vkey],
        &["bundle", &file, "--key"],
        &["bundle", &file, "--key", "nonsense"],
        &["bundle", &file, "--key", &file],
        &["bundle", &file, "--key", &key.vkey, "--row", &file],
        &["ndjson", &file, "--checkpoint", &file],
        &["ndjson", &file, "--key", &key.vkey],
        &["proof", &file, "--key", &key.vkey],
        &["proof", "-", "--row", "-", "--key", &key.vkey],
        &["proof", &file, "--row", &file],
        &["proof", &file, "--row", &file, "--row", &file, "--key", &key.vkey],
        &["checkpoints", &file, "--key", &key.vkey],
        &["checkpoints", &file, &file],
        &["verify", &file],
        &["ndjson", &file, "--nonsense"],
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}");
        assert!(ran.err.contains("usage: "), "{}", ran.err);
    }
    // What is given for a key by mistake is not repeated.
    let private = "PRIVATE+KEY+name+00000000+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
    let ran = run(&["bundle", &file, "--key", private]);
    assert_eq!(ran.code, 1);
    assert!(!ran.err.contains("AQcH"), "{}", ran.err);
    let ran = run(&["bundle", &file, "--key", &folder.file("private", private)]);
    assert_eq!(ran.code, 1);
    assert!(!ran.err.contains("AQcH"), "{}", ran.err);

    assert_eq!(run(&["--help"]).code, 0);
    assert!(run(&["--version"]).out.starts_with("ledger-verify "));
    let bundle = Ledger::new(3).bundle(&Bounds::default(), &key);
    let bundle = folder.file("bundle.zip", bundle.zip());
    assert_eq!(run(&["bundle", &bundle, "--key", &keys]).code, 0);
}

fn lines(ledger: &Ledger) -> Vec<String> {
    ledger.rows.iter().map(built::Row::line).collect()
}

#[test]
fn a_plain_export() {
    let (folder, key) = (Folder::new(), key(None));
    let ledger = Ledger::new(6);
    let rows = lines(&ledger);
    let whole = folder.file("rows.ndjson", rows.concat());
    let (code, json) = run_json(&["ndjson", &whole]);
    assert_eq!((code, &json["verdict"]), (0, &json!("verified")));
    assert_eq!(json["facts"]["chains"]["ai_debates"]["last_id"], 6);
    assert!(json["not_proved"].to_string().contains("that a signed log has these rows"));
    let ran = run_with(&rows.concat(), &["ndjson", "-"]);
    assert_eq!(ran.code, 0, "{}", ran.out);

    // What a filter leaves is not whole, and not tampered with either.
    let gaps = folder.file("gaps.ndjson", [&rows[..2], &rows[3..]].concat().concat());
    let (code, json) = run_json(&["ndjson", &gaps]);
    assert_eq!(
        (code, &json["verdict"], &json["facts"]["gaps"]),
        (3, &json!("not_shown"), &json!(1))
    );
    let (code, json) = run_json(&["ndjson", &folder.file("empty.ndjson", "")]);
    assert_eq!((code, &json["verdict"]), (3, &json!("not_shown")));

    let changed = rows.concat().replace(":44,", ":45,");
    let (code, json) = run_json(&["ndjson", &folder.file("changed.ndjson", changed)]);
    assert_eq!((code, &json["findings"][0]["rule"]), (2, &json!("content")));
    let cut = &rows.concat()[..900];
    let (code, json) = run_json(&["ndjson", &folder.file("cut.ndjson", cut)]);
    assert_eq!((code, &json["findings"][0]["rule"]), (2, &json!("spelling")));

    // A checkpoint whose other leaves are not in the file shows nothing of these.
    let checkpoint = folder.file("checkpoint", ledger.checkpoint(&key));
    let with = |rows: &str, key: &str| {
        run_json(&["ndjson", rows, "--checkpoint", &checkpoint, "--key", key])
    };
    assert_eq!(with(&whole, &key.vkey).0, 3);
    let (code, json) = with(&whole, &make_key(&key.origin, &[9; 32]).vkey);
    assert_eq!((code, &json["findings"][0]["rule"]), (2, &json!("checkpoint")));
}

#[test]
fn an_export_of_all_leaves() {
    let (folder, key) = (Folder::new(), key(None));
    let mut ledger = Ledger { rows: Vec::new(), leaves: Vec::new() };
    let mut prev = built::genesis();
    for leaf in 0..5 {
        let row =
            built::Row::new(leaf + 1, built::START, usize::try_from(leaf).unwrap(), &prev, "{}");
        prev.clone_from(&row.hash);
        ledger.leaves.push(hex::decode(&row.hash).unwrap().try_into().unwrap());
        ledger.rows.push(row);
    }
    let rows = folder.file("rows.ndjson", lines(&ledger).concat());
    let with = |checkpoint: String| {
        let checkpoint = folder.file("checkpoint", checkpoint);
        run_json(&["ndjson", &rows, "--checkpoint", &checkpoint, "--key", &key.vkey])
    };
    let (code, json) = with(ledger.checkpoint(&key));
    assert_eq!((code, &json["verdict"]), (0, &json!("verified")));
    assert!(json["proved"].to_string().contains("the first 5 leaves of the log"));
    ledger.leaves[2] = [7; 32];
    let (code, json) = with(ledger.checkpoint(&key));
    assert_eq!((code, &json["findings"][0]["rule"]), (2, &json!("forked")));
}

#[test]
fn a_proof() {
    let (folder, key) = (Folder::new(), key(None));
    let ledger = Ledger::new(6);
    let checkpoint = ledger.checkpoint(&key);
    let row = &ledger.rows[2];
    let proof = folder.file("3.tlog-proof", ledger.proof(row.leaf, &checkpoint));
    let row_file = folder.file("3.json", row.line());
    let (code, json) = run_json(&["proof", &proof, "--row", &row_file, "--key", &key.vkey]);
    assert_eq!((code, &json["verdict"]), (0, &json!("verified")));
    assert_eq!(json["facts"]["leaf_index"], 8);
    let ran = run_with(row.line().trim_end(), &["proof", &proof, "--row", "-", "--key", &key.vkey]);
    assert_eq!(ran.code, 0, "{}", ran.out);

    let refused = |proof: &str, row: &str, rule: &str| {
        let (proof, row) = (folder.file("other.tlog-proof", proof), folder.file("other.json", row));
        let (code, json) = run_json(&["proof", &proof, "--row", &row, "--key", &key.vkey]);
        assert_eq!((code, &json["verdict"]), (2, &json!("does_not_verify")));
        assert_eq!(json["proved"], json!([]));
        assert!(json["findings"].to_string().contains(&format!("\"rule\":\"{rule}\"")), "{json}");
    };
    let text = ledger.proof(row.leaf, &checkpoint);
    refused(&text, &ledger.rows[3].line(), "leaf_index");
    refused(&text, &ledger.rows[3].line(), "proof");
    refused(&text, &row.line().replace(":33,", ":34,"), "content");
    refused(&text, &row.line().replace("\"leaf_index\":8", "\"leaf_index\":7"), "leaf_index");
    refused(&text, "{}", "spelling");
    refused(&text, &format!("{}{}", row.line(), row.line()), "spelling");
    refused(&text[..text.len() - 20], &row.line(), "proof");
    refused("", &row.line(), "proof");
    refused(&ledger.proof(7, &checkpoint), &row.line(), "proof");
    refused(
        &ledger.proof(row.leaf, &ledger.checkpoint(&make_key(&key.origin, &[1; 32]))),
        &row.line(),
        "proof",
    );
    refused(&"x".repeat(2 << 20), &row.line(), "proof");
}

#[test]
fn checkpoints() {
    let (folder, key) = (Folder::new(), key(None));
    let ledger = Ledger::new(6);
    let size = ledger.leaves.len();
    let at = |leaves: usize| Ledger { rows: Vec::new(), leaves: ledger.leaves[..leaves].to_vec() };
    let note = |leaves: usize| at(leaves).checkpoint(&key);
    let check = |old: String, new: String, proof: Option<Value>| {
        let (old, new) = (folder.file("old", old), folder.file("new", new));
        let proof = proof.map(|proof| folder.file("proof.json", proof.to_string()));
        let mut args = vec!["checkpoints", &old, &new, "--key", &key.vkey];
        if let Some(proof) = &proof {
            args.extend(["--proof", proof]);
        }
        let (code, json) = run_json(&args);
        (code, json["verdict"].as_str().unwrap().to_owned(), json["findings"][0]["rule"].clone())
    };
    let proof = |from: usize, to: usize| {
        let hashes = consistency(from, &ledger.leaves[..to]);
        let hashes: Vec<_> = hashes.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect();
        json!({ "from_size": from, "to_size": to, "hashes": hashes })
    };
    let verified = |code| code == (0, "verified".to_owned(), Value::Null);
    assert!(verified(check(note(7), note(7), None)));
    assert!(verified(check(note(0), note(7), None)));
    for from in 1..size {
        assert!(verified(check(note(from), note(size), Some(proof(from, size)))), "{from}");
    }
    let not_shown = (3, "not_shown".to_owned(), Value::Null);
    assert_eq!(check(note(7), note(size), None), not_shown);

    let refused = |outcome, rule: &str| {
        assert_eq!(outcome, (2, "does_not_verify".to_owned(), json!(rule)));
    };
    refused(check(note(size), note(7), None), "rolled_back");
    let mut other = at(7);
    other.leaves[3] = [7; 32];
    refused(check(note(7), other.checkpoint(&key), None), "forked");
    refused(check(other.checkpoint(&key), note(size), Some(proof(7, size))), "proof");
    refused(check(note(7), note(size), Some(proof(8, size))), "proof");
    let mut changed = proof(7, size);
    changed["hashes"][0] = json!(BASE64_STANDARD.encode([7; 32]));
    refused(check(note(7), note(size), Some(changed)), "proof");
    let mut short = proof(7, size);
    short["hashes"].as_array_mut().unwrap().pop();
    refused(check(note(7), note(size), Some(short)), "proof");
    let mut more = proof(7, size);
    more["more"] = json!(1);
    refused(check(note(7), note(size), Some(more)), "proof");
    refused(check(note(7), note(size), Some(json!([]))), "proof");
    let stranger = make_key(&key.origin, &[1; 32]);
    refused(check(note(7), at(7).checkpoint(&stranger), None), "checkpoint");
    refused(check(String::new(), note(7), None), "checkpoint");

    // Two logs: neither can be held against the other.
    let next = built::key(Some(&format!("{}/i2", key.origin)));
    let (old, new) = (folder.file("old", note(7)), folder.file("new", at(7).checkpoint(&next)));
    let args = ["checkpoints", &old, &new, "--key", &key.vkey, "--key", &next.vkey];
    assert_eq!(run_json(&args).0, 3);
}

#[test]
fn files_are_named_as_they_are() {
    let folder = Folder::new();
    let name: PathBuf = Path::new(folder.0.path()).join("a\u{1b}[2Jb");
    fs::write(&name, "x\n").unwrap();
    let ran = run(&["ndjson", name.to_str().unwrap()]);
    assert_eq!(ran.code, 2);
    assert!(!ran.out.contains('\u{1b}'), "{:?}", ran.out);
}
