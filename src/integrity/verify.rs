//! A whole check: every row of every chain is read back from one snapshot and re-hashed in Rust,
//! and compared with the row before it, with the log, and with its documents.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ledger_verifier::check::{
    ChainChecker, ChainRow, LOG_NAME, LogChecker, Step, missing_rows, not_in_log,
};
use ledger_verifier::{Chain, Finding, FindingKind, LogEntry, RowId};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::guards::{GUARDS, check_guards};
use crate::chains::IN_LEDGER;
use crate::store::checks::{CheckRecord, FULL};
use crate::store::read::{Piece, Snapshot};
use crate::store::{Database, StoreError};

/// Findings that a report lists; the others are counted.
pub const LISTED_FINDINGS: usize = 1000;
/// Pieces that may wait between a reader and the comparison with the log.
const PIECES_AHEAD: usize = 8;
/// Findings of the database that may wait until the rows are compared.
const FINDINGS_AHEAD: usize = 1000;

/// What was found in one chain, in the log, or in the guards.
#[derive(Clone, Debug)]
pub struct ChainReport {
    /// The chain's name, `ledger_log`, or [`GUARDS`].
    pub chain: &'static str,
    /// Rows that must be there: up to the highest id. Of the guards, objects.
    pub expected_rows: i64,
    /// Rows that were read. Of the guards, objects that were compared.
    pub rows: i64,
    /// The first [`LISTED_FINDINGS`] of what does not add up, and as many of what is known.
    pub findings: Vec<ListedFinding>,
    /// All of what does not add up, known or not.
    pub findings_count: u64,
    /// How much of that was acknowledged when a lockdown was lifted.
    pub acknowledged_count: u64,
    /// Why the check of this chain could not finish.
    pub error: Option<String>,
}

/// A finding in a report.
#[derive(Clone, Debug)]
pub struct ListedFinding {
    /// What was found.
    pub finding: Finding,
    /// Whether it was acknowledged when a lockdown was lifted: then it locks no more.
    pub acknowledged: bool,
}

/// What was found in the whole ledger.
#[derive(Clone, Debug)]
pub struct Report {
    /// Names the run in `integrity_checks`.
    pub run_id: Uuid,
    /// `full`, or `chain` for one chain and what the log says of it.
    pub kind: &'static str,
    /// A report for each chain checked, one for the log, and one for the guards.
    pub chains: Vec<ChainReport>,
    /// What is known not to be checked, and no finding.
    pub notes: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

/// The verdict over a report, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A row does not add up, and nobody has acknowledged that.
    Tampered,
    /// The rows do as far as they were looked at, but a guard is not as it was made.
    GuardDrift,
    /// Nothing was found, but not everything was looked at.
    Unfinished,
    /// Every row is what it was when it was appended, but for what was acknowledged.
    Verified,
}

impl Verdict {
    /// As printed, and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tampered => "tampered",
            Self::GuardDrift => "guard_drift",
            Self::Unfinished => "unfinished",
            Self::Verified => "verified",
        }
    }
}

/// What is told while a check runs.
pub trait Progress: Send {
    /// So many of the log's entries are compared.
    fn compared(&mut self, entries: u64, of: u64);
    /// Something does not add up; known or not.
    fn found(&mut self, finding: &Finding, acknowledged: bool);
}

/// Which chains a check looks at.
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    /// All of them, and the log.
    Ledger,
    /// One, and what the log says of it.
    Chain(&'static Chain),
}

impl Report {
    /// What the findings mean.
    pub fn verdict(&self) -> Verdict {
        let found = |of_guards: bool| {
            let concerned = |chain: &&ChainReport| (chain.chain == GUARDS) == of_guards;
            self.chains.iter().filter(concerned).any(|chain| chain.new_findings() > 0)
        };
        if found(false) {
            Verdict::Tampered
        } else if found(true) {
            Verdict::GuardDrift
        } else if self.chains.iter().any(|chain| chain.error.is_some()) {
            Verdict::Unfinished
        } else {
            Verdict::Verified
        }
    }

    /// Rows read of all chains; the log's entries and guards are none.
    pub fn rows(&self) -> i64 {
        let is_chain = |chain: &&ChainReport| ![LOG_NAME, GUARDS].contains(&chain.chain);
        self.chains.iter().filter(is_chain).map(|chain| chain.rows).sum()
    }

    /// Findings that were acknowledged when a lockdown was lifted.
    pub fn acknowledged(&self) -> u64 {
        self.chains.iter().map(|chain| chain.acknowledged_count).sum()
    }

    /// What was found in the guards.
    pub fn guards(&self) -> Option<&ChainReport> {
        self.chains.iter().find(|chain| chain.chain == GUARDS)
    }

    /// The lines for `integrity_checks`: one for each chain, and for the log and the guards where
    /// these were checked.
    pub fn records(&self) -> Vec<CheckRecord> {
        let duration_ms = i64::try_from(self.duration.as_millis()).unwrap_or(i64::MAX);
        let first = |chain: &ChainReport| i64::from(chain.chain != LOG_NAME);
        self.chains
            .iter()
            .map(|chain| CheckRecord {
                run_id: self.run_id,
                chain: chain.chain.to_owned(),
                kind: self.kind,
                range: (chain.expected_rows > 0 && chain.chain != GUARDS)
                    .then(|| (first(chain), chain.expected_rows - 1 + first(chain))),
                expected_count: chain.expected_rows,
                actual_count: chain.rows,
                finished: chain.error.is_none(),
                valid: chain.valid(),
                findings_count: i64::try_from(chain.findings_count).unwrap_or(i64::MAX),
                findings: chain.findings.iter().map(listed_json).collect(),
                duration_ms,
            })
            .collect()
    }
}

impl ChainReport {
    fn new(chain: &'static str) -> Self {
        Self {
            chain,
            expected_rows: 0,
            rows: 0,
            findings: Vec::new(),
            findings_count: 0,
            acknowledged_count: 0,
            error: None,
        }
    }

    /// The verdict on this chain; `None` where there is none: it could not be looked at whole and
    /// had no finding until then, or there was no row to look at.
    pub fn valid(&self) -> Option<bool> {
        if self.findings_count > 0 {
            Some(false)
        } else {
            (self.error.is_none() && self.rows > 0).then_some(true)
        }
    }

    /// Findings that nobody has acknowledged.
    pub fn new_findings(&self) -> u64 {
        self.findings_count - self.acknowledged_count
    }

    /// The new ones are listed however many known ones there are.
    fn add(&mut self, finding: Finding, acknowledged: bool) {
        self.findings_count += 1;
        self.acknowledged_count += u64::from(acknowledged);
        let so_far = if acknowledged { self.acknowledged_count } else { self.new_findings() };
        if so_far <= LISTED_FINDINGS as u64 {
            self.findings.push(ListedFinding { finding, acknowledged });
        }
    }
}

/// A finding of a report as JSON, in answers and in the database.
pub fn listed_json(listed: &ListedFinding) -> serde_json::Value {
    let mut json = finding_json(&listed.finding);
    json["acknowledged"] = listed.acknowledged.into();
    json
}

/// A finding as JSON.
pub fn finding_json(finding: &Finding) -> serde_json::Value {
    json!({
        "finding_id": finding.finding_id(),
        "kind": finding.kind.name(),
        "chain": finding.chain,
        "id": finding.id.map(|id| id.0),
        "leaf_index": finding.leaf_index.map(|leaf| leaf.0),
        "detail": finding.detail,
    })
}

/// Checks the ledger. An error means that no chain could be looked at; one that concerns a
/// single chain stands in its report.
pub async fn verify(
    database: &Database,
    scope: Scope,
    run_id: Uuid,
    progress: &mut dyn Progress,
) -> Result<Report, StoreError> {
    let started = Instant::now();
    let snapshot = Snapshot::take(database).await?;
    let mut notes = Vec::new();
    let chains = match scope {
        Scope::Ledger => IN_LEDGER.to_vec(),
        Scope::Chain(chain) => vec![chain],
    };
    let mut run = Run {
        chains: chains.iter().map(|chain| ChainReport::new(chain.name)).collect(),
        log: ChainReport::new(LOG_NAME),
        // Where the log is gone, its report says so.
        log_size: snapshot.log_size().await.map_or(0, |size| u64::try_from(size).unwrap_or(0)),
        acknowledged: acknowledged(&snapshot, &mut notes).await?,
        progress,
    };
    // What the database itself compares goes on beside what is read and hashed here; its findings
    // wait until all that concerns the rows is found.
    let (sender, mut found_by_database) = mpsc::channel(FINDINGS_AHEAD);
    let ((), errors) = tokio::join!(
        async {
            run.compare_with_log(&snapshot, &chains).await;
            while let Some(finding) = found_by_database.recv().await {
                run.found(&mut vec![finding]);
            }
        },
        check_in_database(&snapshot, &chains, sender)
    );
    for (at, error) in errors {
        run.chains[at].error.get_or_insert(error.to_string());
    }
    snapshot.close().await;
    let Run { chains: mut reports, log, .. } = run;
    // Of one chain alone, the log's report says only what is wrong.
    if matches!(scope, Scope::Ledger) || log.findings_count > 0 || log.error.is_some() {
        reports.push(log);
    }
    if matches!(scope, Scope::Ledger) {
        reports.push(report_guards(database, progress, &mut notes).await);
    }
    let kind = if matches!(scope, Scope::Ledger) { FULL } else { "chain" };
    Ok(Report { run_id, kind, chains: reports, notes, duration: started.elapsed() })
}

/// The `finding_id`s that were acknowledged: none where somebody took away what says so, since a
/// check must not go blind with it.
async fn acknowledged(
    snapshot: &Snapshot,
    notes: &mut Vec<String>,
) -> Result<HashSet<String>, StoreError> {
    match snapshot.acknowledged_findings().await {
        Ok(known) => Ok(known.into_iter().collect()),
        Err(error) if error.is_missing() => {
            notes.push(format!("nothing counts as acknowledged: {error}"));
            Ok(HashSet::new())
        }
        Err(error) => Err(error),
    }
}

async fn report_guards(
    database: &Database,
    progress: &mut dyn Progress,
    notes: &mut Vec<String>,
) -> ChainReport {
    let mut report = ChainReport::new(GUARDS);
    match check_guards(database).await {
        Ok(check) => {
            (report.rows, report.expected_rows) = (check.objects, check.objects);
            notes.extend(check.note.map(str::to_owned));
            for finding in check.findings {
                progress.found(&finding, false);
                report.add(finding, false);
            }
        }
        Err(error) => report.error = Some(error.to_string()),
    }
    report
}

/// A row that was checked against its own hash and the row before it.
struct CheckedRow {
    /// `None` where its id is no number any more.
    row: Option<ChainRow>,
    findings: Vec<Finding>,
}

/// One check under way.
struct Run<'a> {
    chains: Vec<ChainReport>,
    log: ChainReport,
    log_size: u64,
    /// The `finding_id`s that were acknowledged.
    acknowledged: HashSet<String>,
    progress: &'a mut dyn Progress,
}

impl Run<'_> {
    fn found(&mut self, findings: &mut Vec<Finding>) {
        for finding in findings.drain(..) {
            let acknowledged =
                !self.acknowledged.is_empty() && self.acknowledged.contains(&finding.finding_id());
            self.progress.found(&finding, acknowledged);
            // A finding about a chain that is not there is one about the log.
            let report = self.chains.iter_mut().find(|report| report.chain == finding.chain);
            report.unwrap_or(&mut self.log).add(finding, acknowledged);
        }
    }

    /// Reads the log and every chain side by side, so that each entry meets its row.
    async fn compare_with_log(&mut self, snapshot: &Arc<Snapshot>, chains: &[&'static Chain]) {
        let mut rows = Vec::new();
        // Each is decoded and hashed by a task of its own; they end with this future.
        let mut reads = JoinSet::new();
        for (at, &chain) in chains.iter().enumerate() {
            let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
            rows.push(Rows::new(at, pieces));
            let snapshot = Arc::clone(snapshot);
            reads.spawn(async move { (Some(at), read_chain(&snapshot, chain, sender).await) });
        }
        let (sender, log) = mpsc::channel(PIECES_AHEAD);
        let of_log = Arc::clone(snapshot);
        reads.spawn(async move { (None, of_log.read_log(sender).await) });
        self.merge(log, rows).await;
        while let Some(ended) = reads.join_next().await {
            let (at, end) = ended.expect("a reader neither panics nor is aborted");
            let report = at.map_or(&mut self.log, |at| &mut self.chains[at]);
            report.error = end.err().map(|error| error.to_string());
        }
    }

    async fn merge(&mut self, mut log: mpsc::Receiver<Piece<LogEntry>>, mut chains: Vec<Rows>) {
        let mut checker = LogChecker::new(&IN_LEDGER);
        let mut findings = Vec::new();
        let mut log_is_whole = false;
        while let Some(piece) = log.recv().await {
            let Piece::Rows(entries) = piece else {
                log_is_whole = true;
                break;
            };
            for entry in entries {
                checker.check(&entry, &mut findings);
                self.log.rows += 1;
                let of_entry = self.chains.iter().position(|report| report.chain == entry.chain);
                if let Some(at) = of_entry {
                    self.compare(&checker, &entry, &mut chains[at], &mut findings).await;
                }
            }
            self.found(&mut findings);
            self.progress.compared(self.log.rows.unsigned_abs(), self.log_size);
        }
        self.log.expected_rows = checker.next_leaf();
        for rows in &mut chains {
            while let Some(row) = rows.take_next(self).await {
                // What the log does not say is known only where all of it was read.
                if log_is_whole {
                    findings.push(not_in_log(self.chains[rows.at].chain, &row));
                    self.found(&mut findings);
                }
            }
            // The end of a chain is known from the log alone.
            let report = &self.chains[rows.at];
            if rows.is_whole && rows.last_missing > report.expected_rows {
                let first = RowId(report.expected_rows + 1);
                findings.push(missing_rows(report.chain, first, RowId(rows.last_missing)));
                self.chains[rows.at].expected_rows = rows.last_missing;
                self.found(&mut findings);
            }
        }
    }

    async fn compare(
        &mut self,
        checker: &LogChecker,
        entry: &LogEntry,
        rows: &mut Rows,
        findings: &mut Vec<Finding>,
    ) {
        loop {
            rows.fill(self).await;
            // A chain that broke off is not one whose rows are missing.
            if rows.next.is_none() && !rows.is_whole {
                return;
            }
            match checker.compare(entry, rows.next.as_ref(), findings) {
                Step::NextEntry => {
                    rows.last_missing = rows.last_missing.max(entry.id.0);
                    return;
                }
                Step::Both => {
                    rows.next = None;
                    return;
                }
                Step::NextRow => rows.next = None,
            }
        }
    }
}

/// What the database compares by itself: documents with their texts, and references with what they
/// name. Foreign keys do not hold for whoever switches them off. Answers with what could not be
/// compared, by the chain's place.
async fn check_in_database(
    snapshot: &Snapshot,
    chains: &[&'static Chain],
    findings: mpsc::Sender<Finding>,
) -> Vec<(usize, StoreError)> {
    let mut errors = Vec::new();
    for (at, chain) in chains.iter().enumerate() {
        let finding = |kind, id, detail| Finding {
            kind,
            chain: chain.name.to_owned(),
            id: Some(id),
            leaf_index: None,
            detail,
        };
        let document = |id, column, holds: &str| {
            let detail = format!("{column} does not equal {column}_text (it hashes to {holds})");
            finding(FindingKind::Document, id, detail)
        };
        let reference = |id, column, value: &str, target| {
            let detail = format!("{column} {value} names no row of {target}");
            finding(FindingKind::Content, id, detail)
        };
        let documents = snapshot.find_changed_documents(chain, &findings, document).await;
        let references = snapshot.find_orphans(chain, &findings, reference).await;
        errors.extend(documents.err().into_iter().chain(references.err()).map(|e| (at, e)));
    }
    errors
}

async fn read_chain(
    snapshot: &Snapshot,
    chain: &'static Chain,
    to: mpsc::Sender<Piece<CheckedRow>>,
) -> Result<(), StoreError> {
    let mut checker = ChainChecker::new(chain);
    snapshot
        .read_chain(chain, to, |stored| {
            let mut findings = Vec::new();
            checker.check(stored, &mut findings);
            let row = stored.id().map(|id| ChainRow { id, row_hash: stored.row_hash.to_vec() });
            CheckedRow { row, findings }
        })
        .await
}

/// A chain's rows on their way to the comparison.
struct Rows {
    /// The chain's place in [`Run::chains`].
    at: usize,
    pieces: mpsc::Receiver<Piece<CheckedRow>>,
    piece: std::vec::IntoIter<CheckedRow>,
    /// The row that no entry has stood for yet.
    next: Option<ChainRow>,
    /// Whether the last row was read.
    is_whole: bool,
    /// The highest id that the log has and the chain has not.
    last_missing: i64,
}

impl Rows {
    fn new(at: usize, pieces: mpsc::Receiver<Piece<CheckedRow>>) -> Self {
        Self {
            at,
            pieces,
            piece: Vec::new().into_iter(),
            next: None,
            is_whole: false,
            last_missing: 0,
        }
    }

    /// Reads the next row into `next`, unless there is one, or no more.
    async fn fill(&mut self, run: &mut Run<'_>) {
        while self.next.is_none() {
            let Some(mut checked) = self.piece.next() else {
                match self.pieces.recv().await {
                    Some(Piece::Rows(piece)) => self.piece = piece.into_iter(),
                    Some(Piece::End) => self.is_whole = true,
                    None => return,
                }
                continue;
            };
            let report = &mut run.chains[self.at];
            report.rows += 1;
            if let Some(row) = &checked.row {
                report.expected_rows = report.expected_rows.max(row.id.0);
            }
            run.found(&mut checked.findings);
            self.next = checked.row;
        }
    }

    async fn take_next(&mut self, run: &mut Run<'_>) -> Option<ChainRow> {
        self.fill(run).await;
        self.next.take()
    }
}
