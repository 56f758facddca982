//! A bundle checked from end to end, in constant memory, going on after every finding.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek};

use sha2::{Digest, Sha256};

use crate::chain::{self, Chain};
use crate::check::ChainChecker;
use crate::checkpoint::Checkpoint;
use crate::csv;
use crate::hash::{LeafIndex, RowHash, RowId};
use crate::json::{ExportedRow, read_json};
use crate::lines::{Findings, Line, Place, Rule, line_fault, read_line};
use crate::note::{MAX_NOTE_BYTES, VerifierKey};
use crate::proof::TlogProof;

use super::container::{Archive, ContainerError, Entry};
use super::{
    AFTER_FILE, BEFORE_FILE, BundleReport, CHECKPOINT_FILE, Completeness, FILES, FIRST_PROOF_FILE,
    LAST_PROOF_FILE, MANIFEST_FILE, MAX_MANIFEST_BYTES, MAX_PROOF_BYTES, Manifest, RECORDS_FILE,
    Range, TABLE_FILE,
};

/// Bytes that are unpacked at once.
const READ_BYTES: usize = 64 << 10;

/// Checks a bundle against the log's keys, which come from elsewhere: nothing in a bundle says whom
/// to trust.
///
/// Memory is bounded whatever the file holds: one row, and the small files. Errors are those of the
/// reader, and then nothing is known; all that is wrong with the bundle is in the report's
/// findings.
pub fn verify_bundle(reader: impl Read + Seek, keys: &[VerifierKey]) -> io::Result<BundleReport> {
    let mut findings = Findings::default();
    let archive = match Archive::open(reader) {
        Ok(archive) => archive,
        Err(ContainerError::Source(error)) => return Err(error),
        Err(ContainerError::Broken(why)) => {
            findings.add(Rule::Container, Place::file("the bundle"), why);
            return Ok(BundleReport {
                manifest: None,
                chain: None,
                rows: 0,
                first_id: None,
                last_id: None,
                completeness: Completeness::Nothing,
                checkpoint: None,
                findings,
            });
        }
    };
    Check { files: Files { archive, hashes: BTreeMap::new(), findings }, keys }.run()
}

/// The files of the bundle, each hashed when it is read.
struct Files<R> {
    archive: Archive<R>,
    hashes: BTreeMap<String, String>,
    findings: Findings,
}

impl<R: Read + Seek> Files<R> {
    fn fault(&mut self, rule: Rule, name: &str, detail: impl Into<String>) {
        self.findings.add(rule, Place::file(name), detail);
    }

    /// Exactly the files of a bundle, none twice. The proofs are looked at with the rows.
    fn check_names(&mut self) {
        let names: Vec<_> = self.archive.entries().iter().map(|entry| entry.name.clone()).collect();
        for (at, name) in names.iter().enumerate() {
            if !FILES.contains(&name.as_str()) {
                self.fault(Rule::Files, name, "no bundle has such a file");
            } else if names[..at].contains(name) {
                self.fault(Rule::Files, name, "the file is there twice");
            }
        }
        for name in FILES {
            let is_proof = [FIRST_PROOF_FILE, LAST_PROOF_FILE].contains(&name);
            if !is_proof && !names.iter().any(|there| there == name) {
                self.fault(Rule::Files, name, "the file is missing");
            }
        }
    }

    /// Hands the file to `read` and the rest of it to its SHA-256; `None` where it is not there or
    /// cannot be unpacked, for which there is a finding.
    fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut dyn Read, &Entry, &mut Findings) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let Some(entry) = self.archive.entry(name) else { return Ok(None) };
        let mut sha = Sha256::new();
        let work = || -> Result<T, ContainerError> {
            let mut reader = Hashed { from: self.archive.read(&entry)?, sha: &mut sha };
            let found = read(&mut reader, &entry, &mut self.findings)?;
            io::copy(&mut reader, &mut io::sink())?;
            Ok(found)
        };
        match work() {
            Ok(found) => {
                self.hashes.insert(name.to_owned(), hex::encode(sha.finalize()));
                Ok(Some(found))
            }
            Err(ContainerError::Source(error)) => Err(error),
            Err(ContainerError::Broken(why)) => {
                self.fault(Rule::Container, name, why);
                Ok(None)
            }
        }
    }

    /// A whole file of at most `limit` bytes.
    fn read_small(&mut self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let read = self.read(name, |reader, entry, findings| {
            if entry.size > limit {
                let detail = format!("the file is larger than {limit} bytes");
                findings.add(Rule::Files, Place::file(name), detail);
                return Ok(None);
            }
            // No entry gives more than its size.
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        });
        read.map(Option::flatten)
    }
}

struct Hashed<'a, R> {
    from: R,
    sha: &'a mut Sha256,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.sha.update(&into[..count]);
        Ok(count)
    }
}

struct Check<'k, R> {
    files: Files<R>,
    keys: &'k [VerifierKey],
}

impl<R: Read + Seek> Check<'_, R> {
    fn run(mut self) -> io::Result<BundleReport> {
        self.files.check_names();
        let manifest = self.manifest()?;
        let note = self.files.read_small(CHECKPOINT_FILE, MAX_NOTE_BYTES as u64)?;
        let checkpoint = note.as_deref().and_then(|note| self.checkpoint(note));

        let mut rows = Rows::new(manifest.as_ref());
        for part in [Part::Before, Part::Records, Part::After] {
            let name = part.file();
            self.files.read(name, |reader, _, findings| rows.read(part, reader, findings))?;
        }
        rows.check_edges(&mut self.files.findings);
        self.check_table(&rows)?;
        for (name, row) in [(FIRST_PROOF_FILE, &rows.first), (LAST_PROOF_FILE, &rows.last)] {
            self.check_proof(name, row.as_ref(), note.as_deref())?;
        }
        if let Some(manifest) = &manifest {
            self.check_manifest(manifest, &rows, checkpoint.as_ref());
        }
        Ok(BundleReport {
            chain: rows.chain,
            rows: rows.count,
            first_id: rows.first_id,
            last_id: rows.last_id,
            completeness: rows.completeness(),
            manifest,
            checkpoint,
            findings: self.files.findings,
        })
    }

    fn manifest(&mut self) -> io::Result<Option<Manifest>> {
        let json = self.files.read_small(MANIFEST_FILE, MAX_MANIFEST_BYTES)?;
        let manifest = match json.map(|json| Manifest::parse(&json)) {
            Some(Ok(manifest)) => manifest,
            Some(Err(error)) => {
                self.files.fault(Rule::Manifest, MANIFEST_FILE, error.to_string());
                return Ok(None);
            }
            None => return Ok(None),
        };
        for fault in manifest.faults() {
            self.files.fault(Rule::Manifest, MANIFEST_FILE, fault);
        }
        Ok(Some(manifest))
    }

    fn checkpoint(&mut self, note: &[u8]) -> Option<Checkpoint> {
        let opened = Checkpoint::open(note, self.keys);
        opened
            .map_err(|error| self.files.fault(Rule::Checkpoint, CHECKPOINT_FILE, said(&error)))
            .ok()
    }

    /// The table has to be what the rows make; where a row could not be read there is a finding
    /// already.
    fn check_table(&mut self, rows: &Rows) -> io::Result<()> {
        self.files.read(TABLE_FILE, |_, _, _| Ok(()))?;
        let expected = hex::encode(rows.table.clone().finalize());
        let is_other = self.files.hashes.get(TABLE_FILE).is_some_and(|found| *found != expected);
        if is_other && rows.chain.is_some() && rows.is_readable {
            let detail = format!("the table is not that of the rows in {RECORDS_FILE}");
            self.files.fault(Rule::Table, TABLE_FILE, detail);
        }
        Ok(())
    }

    fn check_proof(
        &mut self,
        name: &str,
        row: Option<&Seen>,
        note: Option<&[u8]>,
    ) -> io::Result<()> {
        let bytes = self.files.read_small(name, MAX_PROOF_BYTES)?;
        let is_there = self.files.archive.entry(name).is_some();
        let row = match (row, is_there) {
            (Some(row), true) => row,
            (None, false) => return Ok(()),
            (Some(_), false) => {
                self.files.fault(Rule::Files, name, "the file is missing");
                return Ok(());
            }
            (None, true) => {
                self.files.fault(Rule::Files, name, "there is no row that it could prove");
                return Ok(());
            }
        };
        let Some(bytes) = bytes else { return Ok(()) };
        for fault in proof_faults(&bytes, row, note, self.keys) {
            let place = Place { row: Some(row.id), ..Place::file(name) };
            self.files.findings.add(Rule::Proof, place, fault);
        }
        Ok(())
    }

    /// What the manifest says of the rest.
    fn check_manifest(
        &mut self,
        manifest: &Manifest,
        rows: &Rows,
        checkpoint: Option<&Checkpoint>,
    ) {
        let mut faults = Vec::new();
        if manifest.rows != rows.count {
            faults.push(format!("rows is {}, found {}", manifest.rows, rows.count));
        }
        for (name, said, found) in [
            ("first_id", manifest.first_id, rows.first_id),
            ("last_id", manifest.last_id, rows.last_id),
        ] {
            if said != found.map(|id| id.0) {
                faults.push(format!("{name} is not the id of that row"));
            }
        }
        if let Some(checkpoint) = checkpoint {
            if manifest.origin != checkpoint.origin {
                faults.push("origin is not the checkpoint's".to_owned());
            }
            if manifest.tree_size != checkpoint.size.0 {
                faults.push(format!(
                    "tree_size is {}, the checkpoint's size {}",
                    manifest.tree_size, checkpoint.size
                ));
            }
        }
        for fault in faults {
            self.files.fault(Rule::Manifest, MANIFEST_FILE, fault);
        }
        for name in FILES.into_iter().filter(|name| *name != MANIFEST_FILE) {
            let said = manifest.files.get(name);
            // What could not be unpacked has its finding.
            let is_there = self.files.archive.entry(name).is_some();
            let detail = match (said, self.files.hashes.get(name)) {
                (Some(said), Some(found)) if said != found => {
                    format!("the file's SHA-256 is {found}, not what the manifest says")
                }
                (None, _) if is_there => "the manifest does not name the file".to_owned(),
                (Some(_), None) if !is_there => "the manifest names it, it is not there".to_owned(),
                _ => continue,
            };
            self.files.fault(Rule::Files, name, detail);
        }
    }
}

/// An error with its cause.
fn said(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn proof_faults(
    bytes: &[u8],
    row: &Seen,
    note: Option<&[u8]>,
    keys: &[VerifierKey],
) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return vec!["the proof is not UTF-8".to_owned()];
    };
    let proof = match TlogProof::parse(text) {
        Ok(proof) => proof,
        Err(error) => return vec![said(&error)],
    };
    let mut faults = Vec::new();
    if proof.extra.is_some() {
        faults.push("the proof has data that nothing proves".to_owned());
    }
    if row.leaf_index != Some(proof.index) {
        faults.push(format!("the proof is of leaf {}, which is not the row's", proof.index));
    }
    if note != Some(proof.checkpoint.as_bytes()) {
        faults.push(format!("the proof's checkpoint is not that of {CHECKPOINT_FILE}"));
    }
    if let Err(error) = proof.verify(row.row_hash, keys) {
        faults.push(said(&error));
    }
    faults
}

/// The parts of the one sequence of rows that a bundle holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Before,
    Records,
    After,
}

impl Part {
    const fn file(self) -> &'static str {
        match self {
            Self::Before => BEFORE_FILE,
            Self::Records => RECORDS_FILE,
            Self::After => AFTER_FILE,
        }
    }
}

/// What is kept of a row.
struct Seen {
    part: Part,
    line: u64,
    id: RowId,
    created_at: i64,
    row_hash: RowHash,
    leaf_index: Option<LeafIndex>,
}

/// All rows of the bundle, walked through once.
struct Rows {
    /// As the manifest says, else as the first row does.
    chain: Option<&'static Chain>,
    /// `None` where the manifest does not say.
    range: Option<Range>,
    checker: Option<ChainChecker>,
    first: Option<Seen>,
    last: Option<Seen>,
    has_after: bool,
    /// Of the range alone.
    count: u64,
    first_id: Option<RowId>,
    last_id: Option<RowId>,
    /// The table that the rows of the range make.
    table: Sha256,
    /// Whether every row of the range went into the table.
    is_readable: bool,
}

impl Rows {
    fn new(manifest: Option<&Manifest>) -> Self {
        let mut rows = Self {
            chain: None,
            range: manifest.and_then(|manifest| manifest.filter.range()),
            checker: None,
            first: None,
            last: None,
            has_after: false,
            count: 0,
            first_id: None,
            last_id: None,
            table: Sha256::new(),
            is_readable: true,
        };
        if let Some(chain) = manifest.and_then(|manifest| chain::by_name(&manifest.chain)) {
            rows.begin(chain);
        }
        rows
    }

    fn begin(&mut self, chain: &'static Chain) {
        let mut header = Vec::new();
        csv::write_header(chain, &mut header);
        self.table.update(header);
        self.chain = Some(chain);
    }

    fn read(
        &mut self,
        part: Part,
        reader: &mut dyn Read,
        findings: &mut Findings,
    ) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(READ_BYTES, reader);
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            let kind = read_line(&mut reader, &mut line)?;
            number += 1;
            let mut place = Place::line(part.file(), number, None);
            if let Some(fault) = line_fault(kind) {
                findings.add(Rule::Spelling, place.clone(), fault);
            }
            if matches!(kind, Line::End | Line::TooLong) {
                self.is_readable &= kind == Line::End;
                return Ok(());
            }
            if part != Part::Records && number == 2 {
                findings.add(Rule::Range, place, "there is more than one row at the edge");
                return Ok(());
            }
            match read_json(&line) {
                Ok(row) => {
                    place.row = Some(row.id);
                    self.check(part, &row, &place, findings);
                }
                Err(error) => {
                    findings.add(Rule::Spelling, place, error.to_string());
                    self.is_readable &= part != Part::Records;
                }
            }
        }
    }

    fn check(&mut self, part: Part, row: &ExportedRow, place: &Place, findings: &mut Findings) {
        if self.chain.is_none() {
            self.begin(row.chain);
        }
        if self.chain.is_none_or(|chain| chain.name != row.chain.name) {
            let detail = format!("the row is of {}", row.chain.name);
            findings.add(Rule::Range, place.clone(), detail);
            self.is_readable &= part != Part::Records;
            return;
        }
        let checker =
            self.checker.get_or_insert_with(|| ChainChecker::starting_at(row.chain, row.id));
        let mut found = Vec::new();
        row.as_stored(|stored| checker.check(stored, &mut found));
        findings.add_rows(place, found);

        let last_leaf = self.last.as_ref().and_then(|last| last.leaf_index);
        match row.leaf_index {
            None => findings.add(Rule::LeafIndex, place.clone(), "the row has no leaf_index"),
            Some(leaf) if last_leaf.is_some_and(|last| leaf <= last) => {
                let detail = format!("leaf_index is {leaf}, not above that of the row before");
                findings.add(Rule::LeafIndex, place.clone(), detail);
            }
            Some(_) => {}
        }
        self.check_range(part, row, place, findings);
        if part == Part::Records {
            self.count += 1;
            self.first_id.get_or_insert(row.id);
            self.last_id = Some(row.id);
            let mut table = Vec::new();
            row.as_stored(|stored| csv::write_row(row.chain, stored, row.leaf_index, &mut table));
            self.table.update(table);
        }
        self.has_after |= part == Part::After;
        let seen = || Seen {
            part,
            line: place.line.unwrap_or(1),
            id: row.id,
            created_at: row.created_at,
            row_hash: row.row_hash,
            leaf_index: row.leaf_index,
        };
        self.first.get_or_insert_with(seen);
        self.last = Some(seen());
    }

    fn check_range(&self, part: Part, row: &ExportedRow, place: &Place, findings: &mut Findings) {
        let Some(range) = &self.range else { return };
        let (is_right, detail) = match part {
            Part::Before => {
                (range.begins_behind(row.id, row.created_at), "the row is not before the range")
            }
            Part::Records => (range.contains(row), "the row is not in the range"),
            Part::After => {
                (range.ends_before(row.id, row.created_at), "the row is not behind the range")
            }
        };
        if !is_right {
            findings.add(Rule::Range, place.clone(), detail);
        }
    }

    /// Only the first row of a chain has none before it.
    fn check_edges(&self, findings: &mut Findings) {
        let Some(first) = self.first.as_ref().filter(|first| first.part != Part::Before) else {
            return;
        };
        if first.id.0 > 1 {
            let place = Place::line(first.part.file(), first.line, Some(first.id));
            findings.add(Rule::Range, place, format!("the row before it is not in {BEFORE_FILE}"));
        }
    }

    fn completeness(&self) -> Completeness {
        let Some(last) = &self.last else { return Completeness::Nothing };
        let ends = |range: &Range| range.ends_with(last.id, last.created_at);
        if self.has_after || self.range.as_ref().is_some_and(ends) {
            Completeness::Whole
        } else {
            Completeness::UpTo(last.id)
        }
    }
}
