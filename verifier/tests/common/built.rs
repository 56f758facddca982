//! Bundles built without the code under test: rows, tree, notes, proofs and manifest are made here
//! from the words of FORMAT.md, signatures by `signed_note`, the archive by `zip`.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use signed_note::{Note, StandardSigner};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

pub(crate) const CHAIN: &str = "ai_debates";
/// 2026-01-02T03:04:05Z in microseconds.
pub(crate) const START: i64 = 1_767_323_045_000_000;

pub(crate) struct Key {
    pub(crate) origin: String,
    pub(crate) vkey: String,
    signer: StandardSigner,
}

/// The key of the vectors, under their name or another.
pub(crate) fn key(origin: Option<&str>) -> Key {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/checkpoints.json")).unwrap();
    let seed = hex::decode(vectors["seed_hex"].as_str().unwrap()).unwrap();
    let name = origin.unwrap_or_else(|| vectors["origin"].as_str().unwrap());
    make_key(name, &seed)
}

pub(crate) fn make_key(name: &str, seed: &[u8]) -> Key {
    let secret = ed25519_dalek::SigningKey::from_bytes(seed.try_into().unwrap());
    let public = [&[0x01][..], secret.verifying_key().as_bytes()].concat();
    let id = &Sha256::digest([name.as_bytes(), b"\n", &public].concat())[..4];
    let id = hex::encode(id);
    let private = BASE64_STANDARD.encode([&[0x01][..], seed].concat());
    Key {
        origin: name.to_owned(),
        vkey: format!("{name}+{id}+{}", BASE64_STANDARD.encode(public)),
        signer: StandardSigner::new(&format!("PRIVATE+KEY+{name}+{id}+{private}")).unwrap(),
    }
}

impl Key {
    pub(crate) fn sign(&self, text: &str) -> String {
        let mut note = Note::new(text.as_bytes(), &[]).unwrap();
        note.add_sigs(&[&self.signer]).unwrap();
        String::from_utf8(note.to_bytes()).unwrap()
    }
}

/// A row and what is known of it.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) created_at: i64,
    pub(crate) leaf: usize,
    pub(crate) hash: String,
    members: Vec<(&'static str, Value)>,
}

/// `2026-01-02T03:04:…` for an instant within that hour.
pub(crate) fn time(micros: i64) -> String {
    let since = micros - START + 5_000_000;
    let (minutes, rest) = (4 + since / 60_000_000, since % 60_000_000);
    assert!((0..60).contains(&minutes), "within the hour");
    format!("2026-01-02T03:{minutes:02}:{:02}.{:06}Z", rest / 1_000_000, rest % 1_000_000)
}

impl Row {
    pub(crate) fn new(id: i64, created_at: i64, leaf: usize, prev: &str, reasoning: &str) -> Self {
        let members = vec![
            ("chain", json!(CHAIN)),
            ("id", json!(id)),
            ("correlation_id", json!(format!("01939f3e-7a00-7000-8000-{id:012}"))),
            ("model_name", json!(if id % 3 == 0 { "=model, \"three\"" } else { "model" })),
            ("reasoning_json_text", json!(reasoning)),
            ("confidence_score", json!(format!("0.{:04}", id * 7 % 10_000))),
            ("elapsed_ms", json!(id * 11)),
            ("is_timeout", json!(id % 2 == 0)),
            ("recorded_by", json!("desk \u{e9}\u{1f600}")),
            ("created_at", json!(time(created_at))),
        ];
        let mut canonical: serde_json::Map<_, _> =
            members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        canonical.remove("reasoning_json_text");
        canonical
            .insert("reasoning_json_sha256".into(), json!(hex::encode(Sha256::digest(reasoning))));
        canonical.insert("v".into(), json!(1));
        // `serde_json` sorts the members of a map.
        let canonical = serde_json::to_string(&canonical).unwrap();
        let hash = hex::encode(Sha256::digest(format!("{prev}{canonical}")));
        let mut row = Self { id, created_at, leaf, hash: hash.clone(), members };
        row.members.push(("prev_hash", json!(prev)));
        row.members.push(("row_hash", json!(hash)));
        row.members.push(("leaf_index", json!(leaf)));
        row
    }

    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.members.iter_mut().find(|member| member.0 == name).unwrap().1 = value;
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.members.iter().map(|member| member.0).collect()
    }

    pub(crate) fn line(&self) -> String {
        let members: Vec<_> =
            self.members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}\n", members.join(","))
    }

    fn csv(&self) -> String {
        let cells: Vec<_> = self.members[1..]
            .iter()
            .map(|(_, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let text = if text.starts_with('=') { format!("'{text}") } else { text };
                let is_plain = !text.contains([',', '"', '\n', '\r']);
                if is_plain { text } else { format!("\"{}\"", text.replace('"', "\"\"")) }
            })
            .collect();
        cells.join(",") + "\r\n"
    }
}

/// A chain whose rows stand in a log among others.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) rows: Vec<Row>,
    pub(crate) leaves: Vec<[u8; 32]>,
}

pub(crate) fn genesis() -> String {
    hex::encode(Sha256::digest(format!("audit-ledger/v1/{CHAIN}")))
}

impl Ledger {
    /// Two rows of other chains before each row, and one at the end; always two rows at one time.
    pub(crate) fn new(rows: usize) -> Self {
        let mut ledger = Self { rows: Vec::new(), leaves: Vec::new() };
        let mut prev = genesis();
        for at in 0..rows {
            ledger.others(2);
            let id = i64::try_from(at).unwrap() + 1;
            let created_at = START + i64::try_from(at / 2).unwrap() * 1_500_000;
            let reasoning = format!("{{\"why\": \"row {id}\\n\",\t\"n\": 1.{id}0e+2}}");
            let row = Row::new(id, created_at, ledger.leaves.len(), &prev, &reasoning);
            ledger.leaves.push(hex::decode(&row.hash).unwrap().try_into().unwrap());
            prev.clone_from(&row.hash);
            ledger.rows.push(row);
        }
        ledger.others(1);
        ledger
    }

    fn others(&mut self, count: usize) {
        for _ in 0..count {
            self.leaves.push(Sha256::digest(self.leaves.len().to_be_bytes()).into());
        }
    }

    pub(crate) fn checkpoint(&self, key: &Key) -> String {
        let root = BASE64_STANDARD.encode(root(&self.leaves));
        key.sign(&format!("{}\n{}\n{root}\n", key.origin, self.leaves.len()))
    }

    pub(crate) fn proof(&self, leaf: usize, checkpoint: &str) -> String {
        let mut text = format!("c2sp.org/tlog-proof@v1\nindex {leaf}\n");
        for hash in path(leaf, &self.leaves) {
            writeln!(text, "{}", BASE64_STANDARD.encode(hash)).unwrap();
        }
        text + "\n" + checkpoint
    }

    /// The bundle of the rows within these bounds, as an honest service makes it.
    pub(crate) fn bundle(&self, bounds: &Bounds, key: &Key) -> Bundle {
        let starts = |row: &Row| {
            bounds.from_id.is_none_or(|from| row.id >= from)
                && bounds.from.is_none_or(|from| row.created_at >= from)
        };
        let ends = |row: &Row| {
            bounds.to_id.is_some_and(|to| row.id > to)
                || bounds.to.is_some_and(|to| row.created_at >= to)
        };
        let start = self.rows.iter().position(starts).unwrap_or(self.rows.len());
        let end = self.rows.iter().position(ends).unwrap_or(self.rows.len()).max(start);
        let before = start.checked_sub(1).map_or(&[][..], |at| &self.rows[at..start]);
        let after = &self.rows[end..self.rows.len().min(end + 1)];
        Bundle::new(self, bounds, [before, &self.rows[start..end], after], key)
    }
}

fn sha(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

/// The largest power of two below `n` (RFC 9162 section 2.1.1).
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// MTH of RFC 9162 section 2.1.1.
pub(crate) fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha(&[]),
        [leaf] => sha(&[&[0], leaf]),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            sha(&[&[1], &root(left), &root(right)])
        }
    }
}

/// PATH of RFC 9162 section 2.1.3.1.
fn path(leaf: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut hashes, sibling) = if leaf < left.len() {
        (path(leaf, left), root(right))
    } else {
        (path(leaf - left.len(), right), root(left))
    };
    hashes.push(sibling);
    hashes
}

/// PROOF of RFC 9162 section 2.1.4.1.
pub(crate) fn consistency(from: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    fn subproof(m: usize, leaves: &[[u8; 32]], is_whole: bool) -> Vec<[u8; 32]> {
        if m == leaves.len() {
            return if is_whole { Vec::new() } else { vec![root(leaves)] };
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut hashes, sibling) = if m <= k {
            (subproof(m, left, is_whole), root(right))
        } else {
            (subproof(m - k, right, false), root(left))
        };
        hashes.push(sibling);
        hashes
    }
    subproof(from, leaves, true)
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) from_id: Option<i64>,
    pub(crate) to_id: Option<i64>,
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
}

impl Bounds {
    pub(crate) fn ids(from: i64, to: i64) -> Self {
        Self { from_id: Some(from), to_id: Some(to), ..Self::default() }
    }

    pub(crate) fn json(&self) -> String {
        let number = |id: Option<i64>| id.map(|id| id.to_string());
        let instant = |at: Option<i64>| at.map(|at| format!("\"{}\"", time(at)));
        object(
            1,
            &[
                ("from_id", number(self.from_id)),
                ("to_id", number(self.to_id)),
                ("from", instant(self.from)),
                ("to", instant(self.to)),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect::<Vec<_>>(),
        )
    }
}

/// A JSON object, indented; its values are JSON.
fn object(depth: usize, members: &[(&str, String)]) -> String {
    if members.is_empty() {
        return "{}".to_owned();
    }
    let (outer, inner) = ("  ".repeat(depth), "  ".repeat(depth + 1));
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("{inner}\"{name}\": {value}")).collect();
    format!("{{\n{}\n{outer}}}", members.join(",\n"))
}

pub(crate) const FILES: [&str; 7] = [
    "after.ndjson",
    "before.ndjson",
    "checkpoint.txt",
    "proofs/first.tlog-proof",
    "proofs/last.tlog-proof",
    "records.csv",
    "records.ndjson",
];

/// A bundle before it is packed, to be tampered with.
#[derive(Clone)]
pub(crate) struct Bundle {
    /// Members of the manifest and their JSON, but for `files`.
    pub(crate) manifest: Vec<(String, String)>,
    /// Every other file.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    pub(crate) fn new(
        ledger: &Ledger,
        bounds: &Bounds,
        [before, rows, after]: [&[Row]; 3],
        key: &Key,
    ) -> Self {
        let lines = |rows: &[Row]| rows.iter().map(Row::line).collect::<String>();
        let table: String = rows.iter().map(Row::csv).collect();
        let header = "id,correlation_id,model_name,reasoning_json_text,confidence_score,elapsed_ms,\
                      is_timeout,recorded_by,created_at,prev_hash,row_hash,leaf_index\r\n";
        let checkpoint = ledger.checkpoint(key);
        let mut files = vec![
            ("records.ndjson", lines(rows)),
            ("records.csv", format!("{header}{table}")),
            ("before.ndjson", lines(before)),
            ("after.ndjson", lines(after)),
            ("checkpoint.txt", checkpoint.clone()),
        ];
        let all: Vec<_> = [before, rows, after].concat();
        if let [first, ..] = all.as_slice() {
            files.push(("proofs/first.tlog-proof", ledger.proof(first.leaf, &checkpoint)));
            let last = all.last().unwrap();
            files.push(("proofs/last.tlog-proof", ledger.proof(last.leaf, &checkpoint)));
        }
        let id = |row: Option<&Row>| row.map_or("null".to_owned(), |row| row.id.to_string());
        let manifest = [
            ("format", "\"audit-ledger/bundle/v1\"".to_owned()),
            ("chain", format!("\"{CHAIN}\"")),
            ("filter", bounds.json()),
            ("rows", rows.len().to_string()),
            ("first_id", id(rows.first())),
            ("last_id", id(rows.last())),
            ("origin", format!("\"{}\"", key.origin)),
            ("incarnation", "1".to_owned()),
            ("tree_size", ledger.leaves.len().to_string()),
            ("requested_by", "\"auditor\"".to_owned()),
            ("made_at", "\"2026-02-01T00:00:00.000000Z\"".to_owned()),
            ("tool", "\"audit-ledger 0.1.0\"".to_owned()),
        ];
        Self {
            manifest: manifest.map(|(name, value)| (name.to_owned(), value)).into(),
            files: files
                .into_iter()
                .map(|(name, text)| (name.to_owned(), text.into_bytes()))
                .collect(),
        }
    }

    pub(crate) fn file(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.files.iter_mut().find(|file| file.0 == name).unwrap().1
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.files.retain(|file| file.0 != name);
    }

    pub(crate) fn set(&mut self, name: &str, json: impl Into<String>) {
        self.manifest.iter_mut().find(|member| member.0 == name).unwrap().1 = json.into();
    }

    /// The manifest, with the SHA-256 of every file as it is now.
    pub(crate) fn manifest_json(&self) -> String {
        let mut files: Vec<_> = self
            .files
            .iter()
            .map(|(name, bytes)| {
                (name.as_str(), format!("\"{}\"", hex::encode(Sha256::digest(bytes))))
            })
            .collect();
        files.sort();
        let mut members: Vec<_> =
            self.manifest.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        members.push(("files", object(1, &files)));
        object(0, &members) + "\n"
    }

    /// The archive, with a manifest that fits the files.
    pub(crate) fn zip(&self) -> Vec<u8> {
        self.zip_with(self.manifest_json().as_bytes())
    }

    pub(crate) fn zip_with(&self, manifest: &[u8]) -> Vec<u8> {
        let manifest = ("manifest.json".to_owned(), manifest.to_vec());
        pack([&manifest].into_iter().chain(&self.files))
    }

    pub(crate) fn deflated(&self) -> Vec<u8> {
        let manifest = ("manifest.json".to_owned(), self.manifest_json().into_bytes());
        pack_as(CompressionMethod::Deflated, [&manifest].into_iter().chain(&self.files))
    }
}

/// Stored, since most tests are about what is in the files.
pub(crate) fn pack<'a>(files: impl IntoIterator<Item = &'a (String, Vec<u8>)>) -> Vec<u8> {
    pack_as(CompressionMethod::Stored, files)
}

pub(crate) fn pack_as<'a>(
    method: CompressionMethod,
    files: impl IntoIterator<Item = &'a (String, Vec<u8>)>,
) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in files {
        archive.start_file(name.as_str(), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
