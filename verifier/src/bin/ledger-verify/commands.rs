//! The four checks.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use ledger_verifier::FindingKind;
use ledger_verifier::bundle::{Completeness, MAX_PROOF_BYTES, verify_bundle};
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::export::{ExportReport, LogCoverage, verify_export};
use ledger_verifier::json::{MAX_LINE_BYTES, read_json};
use ledger_verifier::lines::{FileFinding, Findings, Place, Rule};
use ledger_verifier::merkle::{TreeHash, verify_consistency};
use ledger_verifier::note::{MAX_NOTE_BYTES, VerifierKey};
use ledger_verifier::proof::TlogProof;
use serde_json::{Map, Value, json};

use crate::args::Command;
use crate::outcome::{Outcome, Unfinished};

/// The largest file of keys that is read, in bytes.
const MAX_KEYS_BYTES: usize = 64 << 10;
/// The largest consistency proof that is read, in bytes.
const MAX_CONSISTENCY_BYTES: usize = 64 << 10;

/// A file that is read once, from its beginning.
pub(crate) enum Input {
    Standard,
    File(OsString),
}

impl From<OsString> for Input {
    fn from(name: OsString) -> Self {
        if name == "-" { Self::Standard } else { Self::File(name) }
    }
}

impl Input {
    /// As it is called in findings.
    fn name(&self) -> String {
        match self {
            Self::Standard => "standard input".to_owned(),
            Self::File(name) => name.to_string_lossy().into_owned(),
        }
    }

    fn open(&self) -> io::Result<Box<dyn BufRead>> {
        Ok(match self {
            Self::Standard => Box::new(io::stdin().lock()),
            Self::File(name) => Box::new(BufReader::new(File::open(name)?)),
        })
    }

    fn unread(&self, error: &io::Error) -> Unfinished {
        Unfinished(format!("{}: {error}", self.name().escape_debug()))
    }

    /// At most one byte more than `limit`, by which whoever parses it refuses it.
    fn read(&self, limit: usize) -> Result<Vec<u8>, Unfinished> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let read = self.open().and_then(|from| from.take(limit).read_to_end(&mut bytes));
        read.map_err(|error| self.unread(&error))?;
        Ok(bytes)
    }
}

/// A verifier key, or a file with one a line. No error repeats it: it could be a private key.
pub(crate) fn read_keys(given: &OsStr) -> Result<Vec<VerifierKey>, String> {
    let as_key = given.to_str().map(str::parse::<VerifierKey>);
    if let Some(Ok(key)) = as_key {
        return Ok(vec![key]);
    }
    let Ok(bytes) = Input::File(given.to_owned()).read(MAX_KEYS_BYTES) else {
        let why = as_key.and_then(Result::err).map_or_else(String::new, |why| format!(" ({why})"));
        return Err(format!("a --key is neither a verifier key{why} nor a file that can be read"));
    };
    let text = String::from_utf8(bytes).map_err(|_| "a file of keys is not UTF-8")?;
    if text.len() > MAX_KEYS_BYTES {
        return Err("a file of keys is too large".to_owned());
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Result<Vec<_>, _> = lines.map(str::parse::<VerifierKey>).collect();
    match keys {
        Ok(keys) if keys.is_empty() => Err("a file of keys has none".to_owned()),
        keys => keys.map_err(|error| format!("a file of keys has a line that is none: {error}")),
    }
}

pub(crate) fn run(command: &Command) -> Result<Outcome, Unfinished> {
    match command {
        Command::Bundle { file, keys } => bundle(file, keys),
        Command::Export { file, checkpoint } => export(file, checkpoint.as_ref()),
        Command::Proof { file, row, keys } => proof(file, row, keys),
        Command::Checkpoints { old, new, proof, keys } => {
            checkpoints([old, new], proof.as_ref(), keys)
        }
    }
}

impl Outcome {
    fn of(findings: &Findings) -> Self {
        let kept = findings.kept().to_vec();
        let more_findings = findings.total() - u64::try_from(kept.len()).unwrap_or(u64::MAX);
        Self { findings: kept, more_findings, ..Self::default() }
    }

    fn finding(&mut self, rule: Rule, file: &Input, detail: impl Into<String>) {
        let place = Place::file(&file.name());
        self.findings.push(FileFinding { rule, place, detail: detail.into() });
    }
}

/// An error with its cause.
fn said(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn checkpoint_facts(checkpoint: &Checkpoint) -> Value {
    json!({
        "origin": checkpoint.origin,
        "size": checkpoint.size.0,
        "root": checkpoint.root.to_string(),
    })
}

fn bundle(file: &OsStr, keys: &[VerifierKey]) -> Result<Outcome, Unfinished> {
    let input = Input::File(file.to_owned());
    let report = File::open(file).and_then(|file| verify_bundle(file, keys));
    let report = report.map_err(|error| input.unread(&error))?;
    let mut outcome = Outcome::of(&report.findings);
    outcome.proved = report.proved();
    outcome.not_proved = report.not_proved();
    if report.completeness == Completeness::Nothing {
        outcome.missing.push("anything: the bundle has no row".to_owned());
    }
    outcome.fact("chain", report.chain.map(|chain| chain.name));
    outcome.fact("rows", report.rows);
    outcome.fact("first_id", report.first_id.map(|id| id.0));
    outcome.fact("last_id", report.last_id.map(|id| id.0));
    let complete = match report.completeness {
        Completeness::Whole => json!(true),
        Completeness::UpTo(id) => json!({ "up_to_id": id.0 }),
        Completeness::Nothing => json!(false),
    };
    outcome.fact("complete", if outcome.findings.is_empty() { complete } else { json!(false) });
    outcome.fact("checkpoint", report.checkpoint.as_ref().map(checkpoint_facts));
    Ok(outcome)
}

fn export(
    file: &Input,
    checkpoint: Option<&(Input, Vec<VerifierKey>)>,
) -> Result<Outcome, Unfinished> {
    let opened = match checkpoint {
        None => None,
        Some((note, keys)) => {
            Some(Checkpoint::open(&note.read(MAX_NOTE_BYTES)?, keys).map_err(|error| (note, error)))
        }
    };
    let known = opened.as_ref().and_then(|opened| opened.as_ref().ok());
    let report = file.open().and_then(|from| verify_export(&file.name(), from, known));
    let report = report.map_err(|error| file.unread(&error))?;
    let mut outcome = Outcome::of(&report.findings);
    if let Some(Err((note, error))) = &opened {
        outcome.finding(Rule::Checkpoint, note, said(error));
    }
    if outcome.findings.is_empty() {
        say_what_an_export_shows(&report, known, &mut outcome);
    }
    let chains = report.chains.iter().map(|span| {
        let ids = json!({
            "rows": span.rows,
            "first_id": span.first_id.0,
            "last_id": span.last_id.0,
            "gaps": span.gaps,
        });
        (span.chain.name.to_owned(), ids)
    });
    outcome.fact("chains", chains.collect::<Map<_, _>>());
    outcome.fact("rows", report.rows());
    outcome.fact("gaps", report.gaps());
    outcome.fact("checkpoint", known.map(checkpoint_facts));
    Ok(outcome)
}

fn say_what_an_export_shows(
    report: &ExportReport,
    checkpoint: Option<&Checkpoint>,
    outcome: &mut Outcome,
) {
    for span in &report.chains {
        let (name, first, last) = (span.chain.name, span.first_id, span.last_id);
        outcome.proved.push(format!(
            "{name}: {} rows, {first} to {last}, hash to their row_hash and link to the one before",
            span.rows
        ));
        if span.gaps > 0 {
            outcome.missing.push(format!(
                "{name}: what stands in {} gaps between {first} and {last}; was it filtered?",
                span.gaps
            ));
        }
        if first.0 > 1 {
            outcome.not_proved.push(format!("{name}: what stands before row {first}"));
        }
        outcome.not_proved.push(format!("{name}: that no row follows {last}"));
    }
    if report.chains.is_empty() {
        outcome.missing.push("anything: the file has no row".to_owned());
    }
    match (report.log, checkpoint) {
        (LogCoverage::Proved, Some(checkpoint)) => {
            let (size, origin) = (checkpoint.size, checkpoint.origin.escape_debug());
            outcome.proved.push(format!(
                "the first {size} leaves of the log {origin} are here, with the root that it signed"
            ));
            outcome.not_proved.push(format!("that the log has what stands behind leaf {size}"));
        }
        (LogCoverage::NotShown, Some(checkpoint)) => outcome.missing.push(format!(
            "that the checkpoint has these rows: the file has not all of its {} leaves",
            checkpoint.size
        )),
        _ => outcome.not_proved.push(
            "that a signed log has these rows: whoever changes a row can hash all after it again"
                .to_owned(),
        ),
    }
}

fn proof(file: &Input, row_file: &Input, keys: &[VerifierKey]) -> Result<Outcome, Unfinished> {
    let mut outcome = Outcome::default();
    let limit = usize::try_from(MAX_PROOF_BYTES).unwrap_or(usize::MAX);
    let bytes = file.read(limit)?;
    let mut line = row_file.read(MAX_LINE_BYTES + 1)?;
    line.pop_if(|last| *last == b'\n');

    let row = match read_json(&line) {
        Ok(row) => Some(row),
        Err(error) => {
            outcome.finding(Rule::Spelling, row_file, said(&error));
            None
        }
    };
    let parsed = match std::str::from_utf8(&bytes) {
        Ok(_) if bytes.len() > limit => Err("the proof is too large".to_owned()),
        Ok(text) => TlogProof::parse(text).map_err(|error| said(&error)),
        Err(_) => Err("the proof is not UTF-8".to_owned()),
    };
    let proof = parsed.map_err(|detail| outcome.finding(Rule::Proof, file, detail)).ok();
    if let Some(row) = &row {
        match row.computed_hash() {
            Ok(hash) if hash == row.row_hash => {}
            Ok(hash) => {
                let detail = format!("row_hash is {}, the columns hash to {hash}", row.row_hash);
                outcome.finding(Rule::Row(FindingKind::Content), row_file, detail);
            }
            Err(error) => {
                outcome.finding(Rule::Row(FindingKind::Content), row_file, said(&error));
            }
        }
        outcome.fact("chain", row.chain.name);
        outcome.fact("id", row.id.0);
        outcome.fact("row_hash", row.row_hash.to_string());
    }
    let (Some(row), Some(proof)) = (row, proof) else { return Ok(outcome) };
    if row.leaf_index.is_some_and(|leaf| leaf != proof.index) {
        let detail = format!("the proof is of leaf {}, which is not the row's", proof.index);
        outcome.finding(Rule::LeafIndex, file, detail);
    }
    match proof.verify(row.row_hash, keys) {
        Ok(checkpoint) => {
            outcome.fact("leaf_index", proof.index.0);
            outcome.fact("checkpoint", checkpoint_facts(&checkpoint));
            if outcome.findings.is_empty() {
                outcome.proved.push(format!(
                    "{} row {} is as it was appended, leaf {} of the log {} with {} leaves",
                    row.chain.name,
                    row.id,
                    proof.index,
                    checkpoint.origin.escape_debug(),
                    checkpoint.size
                ));
            }
        }
        Err(error) => outcome.finding(Rule::Proof, file, said(&error)),
    }
    if proof.extra.is_some() {
        outcome.not_proved.push("the extra data of the proof".to_owned());
    }
    Ok(outcome)
}

/// The service's JSON of a consistency proof.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Consistency {
    from_size: u64,
    to_size: u64,
    hashes: Vec<String>,
}

impl Consistency {
    fn parse(json: &[u8], sizes: [u64; 2]) -> Result<Vec<TreeHash>, String> {
        let proof: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if [proof.from_size, proof.to_size] != sizes {
            let (from, to) = (proof.from_size, proof.to_size);
            return Err(format!("the proof is of the sizes {from} and {to}"));
        }
        let hashes: Result<_, _> = proof.hashes.iter().map(|hash| hash.parse()).collect();
        hashes.map_err(|error: ledger_verifier::merkle::NotATreeHash| error.to_string())
    }
}

fn checkpoints(
    files: [&Input; 2],
    proof: Option<&Input>,
    keys: &[VerifierKey],
) -> Result<Outcome, Unfinished> {
    let mut outcome = Outcome::default();
    let [old_file, new_file] = files;
    let mut opened = Vec::new();
    for (name, file) in [("old", old_file), ("new", new_file)] {
        match Checkpoint::open(&file.read(MAX_NOTE_BYTES)?, keys) {
            Ok(checkpoint) => {
                outcome.fact(name, checkpoint_facts(&checkpoint));
                opened.push(checkpoint);
            }
            Err(error) => outcome.finding(Rule::Checkpoint, file, said(&error)),
        }
    }
    let proof = proof.map(|file| Ok((file, file.read(MAX_CONSISTENCY_BYTES)?))).transpose()?;
    let [old, new] = opened.as_slice() else { return Ok(outcome) };
    outcome.proved.push("both checkpoints are signed".to_owned());
    let (from, to) = (old.size.0, new.size.0);
    if old.origin != new.origin {
        outcome.missing.push("that one log made both: their origins differ".to_owned());
    } else if from > to {
        let detail = format!("the log of {from} leaves has only {to} here: it was rolled back");
        outcome.finding(Rule::Row(FindingKind::RolledBack), new_file, detail);
    } else if from == to && old.root != new.root {
        let detail = format!("two logs of {from} leaves have different roots: it was forked");
        outcome.finding(Rule::Row(FindingKind::Forked), new_file, detail);
    } else if from > 0 && from < to && proof.is_none() {
        outcome.missing.push(format!(
            "that the log of {to} leaves begins with that of {from}: it takes a consistency proof"
        ));
    } else {
        let (file, hashes) = match &proof {
            Some((file, json)) => (*file, Consistency::parse(json, [from, to])),
            None => (new_file, Ok(Vec::new())),
        };
        let shown = hashes.and_then(|hashes| {
            verify_consistency(old.head(), &hashes, new.head()).map_err(|error| said(&error))
        });
        match shown {
            Ok(()) if from == to => outcome.proved.push("both are of the same log".to_owned()),
            Ok(()) => {
                let said = format!("the log of {to} leaves begins with that of {from}, unchanged");
                outcome.proved.push(said);
            }
            Err(detail) => outcome.finding(Rule::Proof, file, detail),
        }
    }
    Ok(outcome)
}
