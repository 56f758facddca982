//! What `ledger-verifier` parses. Each target panics exactly where a property is broken, and says
//! whether the input was valid.
//!
//! What is signed here is signed by the key in `corpus/vkey/log`, whose holder signed two
//! checkpoints and made one bundle: nothing else may ever verify.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::str::FromStr;
use std::sync::LazyLock;

use ledger_verifier::bundle::{
    AFTER_FILE, BEFORE_FILE, FILES, MANIFEST_FILE, Manifest, RECORDS_FILE, TABLE_FILE, Verdict,
    verify_bundle,
};
use ledger_verifier::chain::ColumnType;
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::cosignature::WitnessKey;
use ledger_verifier::export::{LogCoverage, verify_export};
use ledger_verifier::json::{ExportedRow, read_json};
use ledger_verifier::merkle::{
    Tree, TreeHash, TreeHead, consistency_proof, inclusion_proof, verify_consistency,
    verify_inclusion,
};
use ledger_verifier::note::{Note, SigningKey, VerifierKey};
use ledger_verifier::proof::TlogProof;
use ledger_verifier::row::write_canonical;
use ledger_verifier::tile::{TileId, TileKind};
use ledger_verifier::{LeafIndex, RowError, RowHash, TreeSize, Value, csv, decimal};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use zip::write::{SimpleFileOptions, ZipWriter};

/// Hands the name of every target to a macro.
macro_rules! verifier_targets {
    ($each:ident) => {
        $each! {
            row export note checkpoint vkey witness proof merkle tile decimal manifest bundle
            forgery
        }
    };
}

/// Stands between the files of a bundle in the input of [`forgery`].
pub(crate) const SEPARATOR: u8 = 0x1c;

/// Every leaf of a log, and its checkpoint.
const REPLAY: &[u8] = include_bytes!("../corpus/export/replay");
const REPLAY_NOTE: &str = include_str!("../corpus/note/replay");
/// Some rows of another log, with its checkpoint, a proof and a bundle.
const ROWS: &str = include_str!("../corpus/export/rows");
const NOTE: &str = include_str!("../corpus/note/log");
const PROOF: &str = include_str!("../corpus/proof/first");
const BUNDLE: &[u8] = include_bytes!("../corpus/bundle/stored");
/// A checkpoint with a cosignature.
const COSIGNED: &str = include_str!("../corpus/witness/cosigned");

static KEYS: LazyLock<[VerifierKey; 1]> =
    LazyLock::new(|| [include_str!("../corpus/vkey/log").parse().expect("the log's key")]);
static WITNESS: LazyLock<WitnessKey> =
    LazyLock::new(|| include_str!("../corpus/vkey/witness").parse().expect("the witness's key"));
static KNOWN_NOTES: LazyLock<[Note; 2]> = LazyLock::new(|| {
    [NOTE, REPLAY_NOTE].map(|note| Note::parse(note.as_bytes()).expect("a note of the log"))
});
static KNOWN_PROOF: LazyLock<TlogProof> =
    LazyLock::new(|| TlogProof::parse(PROOF).expect("a proof of the log"));
static KNOWN_BUNDLE: LazyLock<Manifest> = LazyLock::new(|| {
    let report = verify_bundle(Cursor::new(BUNDLE), &*KEYS).expect("bytes that are there");
    assert_eq!(report.verdict(), Verdict::Verified, "{:?}", report.findings);
    report.manifest.expect("a manifest")
});

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// A value that is read prints as what it was read from.
fn prints_as_itself<T: FromStr + ToString>(text: &str) -> bool {
    let Ok(read) = text.parse::<T>() else { return false };
    assert_eq!(read.to_string(), text);
    true
}

/// A row that is read is written as the same line, and its canonical form is what the recipe of
/// FORMAT.md makes of the line.
pub(crate) fn row(line: &[u8]) -> bool {
    let Ok(row) = read_json(line) else { return false };
    let mut written = Vec::new();
    row.as_stored(|stored| stored.write_json(row.chain, row.leaf_index, &mut written));
    assert_eq!(written, line);

    let mut canonical = Vec::new();
    if let Err(error) = write_canonical(row.chain, &row.values, &mut canonical) {
        assert!(matches!(error, RowError::Null { .. }), "{error}");
        return false;
    }
    let mut members: BTreeMap<String, Json> = serde_json::from_slice(line).expect("an object");
    for name in ["prev_hash", "row_hash", "leaf_index"] {
        members.remove(name);
    }
    members.insert("v".to_owned(), 1.into());
    for (column, value) in row.chain.columns.iter().zip(&row.values) {
        let digest = match value {
            Value::Document(text) => Sha256::digest(text.as_bytes()),
            Value::Bytes(bytes) => Sha256::digest(bytes),
            _ if matches!(column.ty, ColumnType::Document | ColumnType::Bytes) => {
                members.remove(column.json_name().as_ref());
                members.insert(format!("{}_sha256", column.name), Json::Null);
                continue;
            }
            _ => continue,
        };
        members.remove(column.json_name().as_ref());
        members.insert(format!("{}_sha256", column.name), hex::encode(digest).into());
    }
    assert_eq!(canonical, serde_json::to_vec(&members).expect("JSON"));
    let hash = Sha256::digest([row.prev_hash.to_string().as_bytes(), &canonical].concat());
    assert_eq!(row.computed_hash(), Ok(RowHash(hash.into())));
    true
}

/// An export that has the whole log, and nothing wrong in it, is the one that was made.
pub(crate) fn export(lines: &[u8]) -> bool {
    let checkpoint = Checkpoint::open(REPLAY_NOTE.as_bytes(), &*KEYS).expect("a checkpoint");
    let report = verify_export("rows.ndjson", lines, Some(&checkpoint)).expect("bytes");
    if report.findings.total() > 0 {
        return false;
    }
    if report.log == LogCoverage::Proved {
        assert!(lines.starts_with(REPLAY), "what is proved was never exported");
    }
    report.rows() > 0
}

/// A note prints as itself, and the key verifies no text that its holder did not sign.
pub(crate) fn note(data: &[u8]) -> bool {
    let Ok(note) = Note::parse(data) else { return false };
    assert_eq!(note.to_string().as_bytes(), data);
    let is_signed = note.verify(&*KEYS).is_ok();
    if is_signed {
        assert!(KNOWN_NOTES.iter().any(|known| known.text() == note.text()), "a forged note");
    }
    let opened = Checkpoint::open(data, &*KEYS);
    assert_eq!(opened.is_ok(), is_signed, "both were signed as checkpoints: {opened:?}");
    opened.is_ok_and(|checkpoint| checkpoint.to_string() == note.text())
}

/// A checkpoint prints as itself; signed, it opens as itself, and not if one byte is another one.
pub(crate) fn checkpoint(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    let Ok(checkpoint) = Checkpoint::parse(text) else { return false };
    assert_eq!(checkpoint.to_string(), text);
    let Ok(key) = SigningKey::from_seed(&checkpoint.origin, &[7; 32]) else { return false };
    let keys = [key.verifier_key().clone()];
    let Ok(note) = checkpoint.sign(&[&key]) else { return false };
    let mut note = note.to_string().into_bytes();
    assert_eq!(Checkpoint::open(&note, &keys), Ok(checkpoint));
    // Any byte, but the same one for the same input.
    let at = data.iter().fold(0, |sum, &byte| sum * 31 % note.len() + usize::from(byte));
    let at = at % note.len();
    note[at] ^= 1;
    assert!(Checkpoint::open(&note, &keys).is_err(), "byte {at} does not count");
    true
}

/// A key of any kind prints as itself.
pub(crate) fn vkey(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    let private = text.parse::<SigningKey>();
    if let Ok(key) = &private {
        assert_eq!(key.to_text().as_str(), text);
    }
    let kinds = [
        private.is_ok(),
        prints_as_itself::<VerifierKey>(text),
        prints_as_itself::<WitnessKey>(text),
    ];
    let kinds = kinds.into_iter().filter(|is_one| *is_one).count();
    assert!(kinds < 2, "one text is two keys");
    kinds == 1
}

/// A witness's key verifies nothing that it did not cosign.
pub(crate) fn witness(data: &[u8]) -> bool {
    let Ok(note) = Note::parse(data) else { return false };
    let Ok(cosignature) = WITNESS.verify(&note) else { return false };
    let known = Note::parse(COSIGNED.as_bytes()).expect("a cosigned note");
    assert_eq!(note.text(), known.text(), "a forged cosignature");
    assert!(COSIGNED.lines().any(|line| line == cosignature.line), "{cosignature:?}");
    true
}

/// A proof prints as itself, and proves its row by the one way to the root that there is.
pub(crate) fn proof(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    let Ok(proof) = TlogProof::parse(text) else { return false };
    assert_eq!(proof.to_string(), text);
    let first = ROWS.lines().find_map(|line| {
        read_json(line.as_bytes()).ok().filter(|row| row.leaf_index == Some(KNOWN_PROOF.index))
    });
    let row_hash = first.expect("the row of the proof").row_hash;
    let Ok(checkpoint) = proof.verify(row_hash, &*KEYS) else { return false };
    assert_eq!((proof.index, &proof.hashes), (KNOWN_PROOF.index, &KNOWN_PROOF.hashes));
    assert_eq!(checkpoint.to_string(), KNOWN_NOTES[0].text());
    true
}

/// An inclusion and a consistency proof in a tree of a few leaves verify exactly until a byte of
/// their hashes, their roots or their leaf is changed: two sizes, a leaf, and pairs of a place and
/// what is added there.
pub(crate) fn merkle(data: &[u8]) -> bool {
    let &[from, to, leaf, ref edits @ ..] = data else { return false };
    let (from, to) = (u64::from(from.min(to)), u64::from(to.max(from)).max(1));
    let leaf = LeafIndex(u64::from(leaf) % to);
    let row_hash = |leaf: u64| RowHash(Sha256::digest(leaf.to_be_bytes()).into());
    let mut kept = BTreeMap::new();
    let mut tree = Tree::new();
    let mut older = tree.head();
    for at in 0..to {
        tree.push_and_keep(row_hash(at), |subtree, hash| {
            kept.insert((subtree.level, subtree.index), hash);
        });
        if tree.size().0 == from {
            older = tree.head();
        }
    }
    let prove = |plan: ledger_verifier::merkle::ProofPlan| {
        plan.prove(|at| kept.get(&(at.level, at.index)).copied().ok_or(())).expect("every subtree")
    };
    let inclusion = prove(inclusion_proof(leaf, tree.size()).expect("a leaf of the tree"));
    let consistency = prove(consistency_proof(older.size, tree.size()).expect("it grew"));

    let roots = [tree.root(), TreeHash(row_hash(leaf.0).0), older.root];
    let honest: Vec<TreeHash> = roots.into_iter().chain(inclusion.iter().copied()).collect();
    let honest: Vec<TreeHash> = honest.into_iter().chain(consistency).collect();
    let mut changed: Vec<u8> = honest.iter().flat_map(|hash| hash.0).collect();
    for pair in edits.chunks_exact(2) {
        let at = usize::from(pair[0]) * 7 % changed.len();
        changed[at] = changed[at].wrapping_add(pair[1]);
    }
    let changed: Vec<TreeHash> =
        changed.chunks_exact(32).map(|hash| TreeHash(hash.try_into().expect("32 bytes"))).collect();
    let [root, row, older_root, hashes @ ..] = changed.as_slice() else { return false };
    let (inclusion, consistency) = hashes.split_at(inclusion.len());
    let is_same = |from: usize, to: usize| changed[from..to] == honest[from..to];
    let behind = 3 + inclusion.len();

    let head = TreeHead { size: tree.size(), root: *root };
    let included = verify_inclusion(RowHash(row.0), leaf, inclusion, head);
    assert_eq!(included.is_ok(), is_same(0, 2) && is_same(3, behind), "{included:?}");
    let older = TreeHead { size: older.size, root: *older_root };
    let grown = verify_consistency(older, consistency, head);
    let is_same = is_same(2, 3) && is_same(behind, changed.len()) && (from == 0 || is_same(0, 1));
    // Equal trees need only be equal to each other.
    assert_eq!(grown.is_ok(), is_same || from == to && root == older_root, "{grown:?}");
    included.is_ok() && grown.is_ok()
}

/// A tile's path prints as itself, and no tree has the tile that has not all leaves before it.
pub(crate) fn tile(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    if !prints_as_itself::<TileId>(text) {
        return false;
    }
    let tile: TileId = text.parse().expect("as just now");
    let first = tile.first_leaf();
    assert_eq!(TileId::in_tree(tile.kind, tile.index, TreeSize(first)).filter(|_| first > 0), None);
    if tile.kind == TileKind::Entries && first < u64::MAX - 256 {
        let size = TreeSize(first + u64::from(tile.width));
        assert_eq!(TileId::in_tree(tile.kind, tile.index, size), Some(tile));
    }
    true
}

/// A decimal is read as its digits say, and printed as it was: the scale, and the text.
pub(crate) fn decimal(data: &[u8]) -> bool {
    let Some((&scale, digits)) = data.split_first() else { return false };
    let Some(text) = text(digits) else { return false };
    let scale = scale % 39;
    let read = decimal::parse(text, scale);
    assert_eq!(read, plain_decimal(text, scale.into()));
    if let Some(units) = read {
        assert_eq!(decimal::to_string(units, scale), text);
    }
    read.is_some()
}

/// FORMAT.md section 2: an optional minus, digits without leading zeros, exactly `scale` after the
/// point; zero has no minus.
fn plain_decimal(text: &str, scale: usize) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = if scale == 0 { (digits, "") } else { digits.split_once('.')? };
    let is_plain = (whole == "0" || !whole.is_empty() && !whole.starts_with('0'))
        && fraction.len() == scale
        && [whole, fraction].concat().bytes().all(|digit| digit.is_ascii_digit());
    let units = text.replace('.', "").parse().ok().filter(|_| is_plain)?;
    (units != 0 || digits.len() == text.len()).then_some(units)
}

/// A manifest prints as itself, and its range can be asked about any row.
pub(crate) fn manifest(json: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(json) else { return false };
    assert_eq!(manifest.to_json().as_bytes(), json);
    let Some(range) = manifest.filter.range() else { return false };
    for line in ROWS.lines() {
        let row = read_json(line.as_bytes()).expect("a row of the log");
        let is_outside = range.begins_behind(row.id, row.created_at)
            || range.ends_before(row.id, row.created_at);
        assert_eq!(range.contains(&row), !is_outside);
    }
    true
}

/// No bytes verify but those that have the files of the one bundle that there is.
pub(crate) fn bundle(zip: &[u8]) -> bool {
    let report = verify_bundle(Cursor::new(zip), &*KEYS).expect("bytes that are there");
    let verifies = report.verdict() == Verdict::Verified;
    if verifies {
        let manifest = report.manifest.expect("a manifest that was verified");
        assert_eq!(manifest.files, KNOWN_BUNDLE.files, "a forged bundle");
    }
    verifies
}

/// A bundle made of other files by somebody who knows the format, but not the key, holds no row
/// that was never in the log: the files in the order of [`FILES`], a [`SEPARATOR`] between each.
pub(crate) fn forgery(data: &[u8]) -> bool {
    let mut files: BTreeMap<&str, Vec<u8>> =
        FILES.into_iter().zip(data.split(|byte| *byte == SEPARATOR).map(<[u8]>::to_vec)).collect();
    let as_it_is = seal(&files);
    chain_anew(&mut files);
    let mut verifies = false;
    for zip in [as_it_is, seal(&files)] {
        let report = verify_bundle(Cursor::new(zip), &*KEYS).expect("bytes that are there");
        if report.verdict() != Verdict::Verified {
            continue;
        }
        verifies = true;
        for name in [RECORDS_FILE, BEFORE_FILE, AFTER_FILE] {
            for line in text(&files[name]).expect("rows that were read").lines() {
                assert!(ROWS.lines().any(|known| known == line), "a forged row: {line}");
            }
        }
    }
    verifies
}

/// The archive of these files, whose manifest has their hashes.
fn seal(files: &BTreeMap<&str, Vec<u8>>) -> Vec<u8> {
    let mut files = files.clone();
    let manifest = files.get(MANIFEST_FILE).and_then(|json| Manifest::parse(json).ok());
    if let Some(mut manifest) = manifest {
        let others = files.iter().filter(|(name, _)| **name != MANIFEST_FILE);
        let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        manifest.files = others.map(|(name, bytes)| ((*name).to_owned(), hash(bytes))).collect();
        files.insert(MANIFEST_FILE, manifest.to_json().into_bytes());
    }
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        archive.start_file(name, options).expect("a file");
        archive.write_all(&bytes).expect("memory");
    }
    archive.finish().expect("an archive").into_inner()
}

/// Gives each row that can be read the hashes that it has behind the one before it, and the table
/// what the rows say.
fn chain_anew(files: &mut BTreeMap<&str, Vec<u8>>) {
    let mut before: Option<RowHash> = None;
    let mut table = Vec::new();
    for name in [BEFORE_FILE, RECORDS_FILE, AFTER_FILE] {
        let Some(file) = files.get_mut(name) else { continue };
        let mut lines = Vec::new();
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            let Ok(mut row) = read_json(line.strip_suffix(b"\n").unwrap_or(line)) else {
                lines.extend_from_slice(line);
                continue;
            };
            row.prev_hash = before.unwrap_or(row.prev_hash);
            row.row_hash = row.computed_hash().unwrap_or(row.row_hash);
            before = Some(row.row_hash);
            row.as_stored(|stored| stored.write_json(row.chain, row.leaf_index, &mut lines));
            lines.push(b'\n');
            if name == RECORDS_FILE {
                add_to_table(&row, &mut table);
            }
        }
        *file = lines;
    }
    files.insert(TABLE_FILE, table);
}

fn add_to_table(row: &ExportedRow, table: &mut Vec<u8>) {
    if table.is_empty() {
        csv::write_header(row.chain, table);
    }
    row.as_stored(|stored| csv::write_row(row.chain, stored, row.leaf_index, table));
}
