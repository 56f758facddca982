//! A part of the ledger: its rows are read back from one snapshot and re-hashed in Rust, and compared
//! with the row before, with the log, with their documents, and the log's tree with what was signed. A
//! check looks at one part or at all; so does whoever makes a checkpoint.

use std::collections::HashSet;
use std::sync::Arc;

use ledger_verifier::check::{
    ChainChecker, ChainRow, KnownRow, LOG_NAME, LogChecker, Step, missing_rows, not_in_log,
};
use ledger_verifier::merkle::TreeHead;
use ledger_verifier::{Chain, Finding, FindingKind, LogEntry, RowId, TreeSize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::history::History;
use super::report::ChainReport;
use super::tree::{FullTile, LogTree};
use super::verify::Progress;
use crate::chains::IN_LEDGER;
use crate::store::StoreError;
use crate::store::read::{Ids, Leaves, Piece, Snapshot};
use crate::store::tiles::StoredTree;

/// Pieces that may wait between a reader and the comparison with the log.
const PIECES_AHEAD: usize = 8;
/// Findings of the database that may wait until the rows are compared.
const FINDINGS_AHEAD: usize = 1000;

/// The `finding_id`s that were acknowledged.
pub type Acknowledged = HashSet<String>;

/// Where a part begins: behind rows that are known, or at the beginning.
#[derive(Clone, Debug)]
pub struct Start {
    /// The tree of the leaves before.
    pub tree: LogTree,
    /// The last row of each chain, in the order of the chains.
    pub known: Vec<Option<KnownRow>>,
}

impl Start {
    /// Before the first leaf.
    pub fn at_the_beginning(chains: usize) -> Self {
        Self { tree: LogTree::default(), known: vec![None; chains] }
    }

    /// Behind the tree of this size, from what is stored of it. Whether that is the tree that was signed
    /// is for the caller to see, by its root.
    pub async fn behind(
        snapshot: &Snapshot,
        tree: StoredTree,
        chains: &[&'static Chain],
    ) -> Result<Self, StoreError> {
        let tree = tree.restore(&mut snapshot.reader().await?).await?;
        let known = snapshot.rows_before_leaf(chains, tree.size().0).await?;
        Ok(Self { tree, known })
    }
}

/// What is kept of the tiles that are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Their roots, to be compared with what is stored.
    Roots,
    /// All of them, to be stored.
    Whole,
}

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Part {
    /// Of these chains, and the log's entries for them.
    pub chains: Vec<&'static Chain>,
    /// From here on.
    pub start: Start,
    /// Up to the leaf before this one; `None` for the end.
    pub before: Option<TreeSize>,
    /// Whether documents and references are compared, too.
    pub with_documents: bool,
}

impl Part {
    /// All of these chains.
    pub fn whole(chains: Vec<&'static Chain>) -> Self {
        let start = Start::at_the_beginning(chains.len());
        Self { chains, start, before: None, with_documents: true }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Looked {
    /// A report for each chain.
    pub chains: Vec<ChainReport>,
    /// And for the log.
    pub log: ChainReport,
    /// Where the next part begins: `None` where a chain's last row has no hash.
    pub end: Option<Start>,
    /// Size and root of the tree at the end.
    pub head: TreeHead,
    /// Whether the tree has all that the log holds.
    pub is_whole: bool,
    /// The tiles that were filled, as far as they were wanted: of [`Kept::Roots`] without their hashes.
    pub tiles: Vec<FullTile>,
}

impl Looked {
    /// Where nothing can be looked at.
    pub(super) fn nothing() -> Self {
        let tree = LogTree::default();
        Self {
            chains: Vec::new(),
            log: ChainReport::behind(LOG_NAME, 0),
            end: None,
            head: tree.head(),
            is_whole: false,
            tiles: Vec::new(),
        }
    }
}

/// Looks at a part.
pub async fn look(
    snapshot: &Arc<Snapshot>,
    part: Part,
    history: History,
    acknowledged: Acknowledged,
    kept: Kept,
    progress: &mut dyn Progress,
) -> Result<Looked, StoreError> {
    let Part { chains, start, before, with_documents } = part;
    let last_ids = match before {
        Some(before) => Some(snapshot.last_ids_before_leaf(&chains, before.0).await?),
        None => None,
    };
    let ids: Vec<_> = (0..chains.len())
        .map(|at| Ids {
            after: start.known[at].map(|known| known.id),
            last: last_ids.as_ref().map(|last| last[at]),
        })
        .collect();
    let from = start.tree.size();
    // Where the log is gone, its report says so.
    let log_size = snapshot.log_size().await.map_or(0, |size| u64::try_from(size).unwrap_or(0));
    let log_before = i64::try_from(from.0).unwrap_or(i64::MAX);
    let known_id = |at: usize| start.known[at].map_or(0, |known: KnownRow| known.id.0);
    let mut run = Run {
        chains: (0..chains.len())
            .map(|at| ChainReport::behind(chains[at].name, known_id(at)))
            .collect(),
        log: ChainReport::behind(LOG_NAME, log_before),
        leaves: Leaves { from: from.0, before: before.map(|before| before.0) },
        entries: before.map_or(log_size, |before| before.0).saturating_sub(from.0),
        tree: start.tree,
        history,
        kept,
        tiles: Vec::new(),
        acknowledged,
        progress,
    };
    // What the database itself compares goes on beside what is read and hashed here; its findings
    // wait until all that concerns the rows is found.
    let (sender, mut found_by_database) = mpsc::channel(FINDINGS_AHEAD);
    let in_database = async {
        if with_documents {
            check_in_database(snapshot, &chains, &ids, sender).await
        } else {
            Vec::new()
        }
    };
    let (heads, errors) = tokio::join!(
        async {
            let heads = run.compare_with_log(snapshot, &chains, &start.known, &ids).await;
            while let Some(finding) = found_by_database.recv().await {
                run.found(&mut vec![finding]);
            }
            heads
        },
        in_database
    );
    for (at, error) in errors {
        run.chains[at].error.get_or_insert(error.to_string());
    }
    Ok(run.end(heads, &start.known))
}

/// A row that was checked against its own hash and the row before it.
struct CheckedRow {
    /// `None` where its id is no number any more.
    row: Option<ChainRow>,
    findings: Vec<Finding>,
}

/// One part that is looked at.
struct Run<'a> {
    chains: Vec<ChainReport>,
    log: ChainReport,
    leaves: Leaves,
    /// Entries that are to be compared, about.
    entries: u64,
    tree: LogTree,
    history: History,
    kept: Kept,
    tiles: Vec<FullTile>,
    acknowledged: Acknowledged,
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

    /// Reads the log and every chain side by side, so that each entry meets its row. Answers with the
    /// last row of each chain that was read.
    async fn compare_with_log(
        &mut self,
        snapshot: &Arc<Snapshot>,
        chains: &[&'static Chain],
        known: &[Option<KnownRow>],
        ids: &[Ids],
    ) -> Vec<Option<KnownRow>> {
        let mut rows = Vec::new();
        // Each is decoded and hashed by a task of its own; they end with this future.
        let mut reads = JoinSet::new();
        for (at, &chain) in chains.iter().enumerate() {
            let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
            rows.push(Rows::new(at, pieces));
            let snapshot = Arc::clone(snapshot);
            let checker = known[at].map_or_else(
                || ChainChecker::new(chain),
                |known| ChainChecker::after(chain, known),
            );
            let ids = ids[at];
            reads.spawn(async move {
                (Some(at), read_chain(&snapshot, chain, checker, ids, sender).await)
            });
        }
        let (sender, log) = mpsc::channel(PIECES_AHEAD);
        let (of_log, leaves) = (Arc::clone(snapshot), self.leaves);
        reads.spawn(async move { (None, of_log.read_log(leaves, sender).await.map(|()| None)) });
        self.merge(log, rows).await;
        let mut heads = vec![None; chains.len()];
        while let Some(ended) = reads.join_next().await {
            let (at, end) = ended.expect("a reader neither panics nor is aborted");
            let report = at.map_or(&mut self.log, |at| &mut self.chains[at]);
            match (at, end) {
                (Some(at), Ok(head)) => heads[at] = head,
                (None, Ok(_)) => {}
                (_, Err(error)) => report.error = Some(error.to_string()),
            }
        }
        heads
    }

    async fn merge(&mut self, mut log: mpsc::Receiver<Piece<LogEntry>>, mut chains: Vec<Rows>) {
        let mut checker = LogChecker::behind(&IN_LEDGER, self.tree.size());
        let mut findings = Vec::new();
        let mut log_is_whole = false;
        self.history.compare(&self.tree, &mut findings).await;
        while let Some(piece) = log.recv().await {
            let Piece::Rows(entries) = piece else {
                log_is_whole = true;
                break;
            };
            for entry in entries {
                checker.check(&entry, &mut findings);
                self.grow(&entry, &mut findings).await;
                self.log.rows += 1;
                let of_entry = self.chains.iter().position(|report| report.chain == entry.chain);
                if let Some(at) = of_entry {
                    self.compare(&checker, &entry, &mut chains[at], &mut findings).await;
                }
            }
            self.found(&mut findings);
            self.progress.compared(self.log.rows.unsigned_abs(), self.entries);
        }
        self.log.reach(checker.next_leaf());
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
            if rows.is_whole && rows.last_missing > report.highest() {
                let first = RowId(report.highest() + 1);
                findings.push(missing_rows(report.chain, first, RowId(rows.last_missing)));
                self.chains[rows.at].reach(rows.last_missing);
                self.found(&mut findings);
            }
        }
        if log_is_whole && self.leaves.before.is_none() {
            std::mem::replace(&mut self.history, History::none()).finish(&mut findings).await;
            self.found(&mut findings);
        } else if !log_is_whole {
            self.log.error.get_or_insert_with(|| "the log was not read to its end".to_owned());
        }
    }

    /// Appends the entry to the tree, and compares the tree with what was signed of its size.
    async fn grow(&mut self, entry: &LogEntry, findings: &mut Vec<Finding>) {
        self.tree.enter(entry.leaf_index, &entry.row_hash, &mut self.tiles);
        match self.kept {
            Kept::Nothing => self.tiles.clear(),
            Kept::Roots => {
                let filled = self.tiles.iter_mut().rev().take_while(|tile| !tile.hashes.is_empty());
                filled.for_each(|tile| tile.hashes = Vec::new());
            }
            Kept::Whole => {}
        }
        if self.history.next_size().is_some_and(|size| size <= self.tree.size()) {
            self.history.compare(&self.tree, findings).await;
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

    fn end(self, heads: Vec<Option<KnownRow>>, known: &[Option<KnownRow>]) -> Looked {
        let Self { chains, log, tree, tiles, .. } = self;
        // A chain without a row behind the known one ends with that.
        let pairs = heads.into_iter().zip(known).zip(&chains);
        let rows: Vec<_> = pairs.map(|((head, known), report)| (head.or(*known), report)).collect();
        let is_known = |(head, report): &(Option<KnownRow>, &ChainReport)| {
            head.map_or(0, |head| head.id.0) == report.highest()
        };
        let is_whole = log.error.is_none() && !tree.is_torn();
        let end = rows.iter().all(is_known).then(|| Start {
            tree: tree.clone(),
            known: rows.iter().map(|(head, _)| *head).collect(),
        });
        Looked { head: tree.head(), is_whole, end, tiles, chains, log }
    }
}

/// What the database compares by itself: documents with their texts, and references with what they
/// name. Foreign keys do not hold for whoever switches them off. Answers with what could not be
/// compared, by the chain's place.
async fn check_in_database(
    snapshot: &Snapshot,
    chains: &[&'static Chain],
    ids: &[Ids],
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
        let documents = snapshot.find_changed_documents(chain, ids[at], &findings, document).await;
        let references = snapshot.find_orphans(chain, ids[at], &findings, reference).await;
        errors.extend(documents.err().into_iter().chain(references.err()).map(|e| (at, e)));
    }
    errors
}

async fn read_chain(
    snapshot: &Snapshot,
    chain: &'static Chain,
    mut checker: ChainChecker,
    ids: Ids,
    to: mpsc::Sender<Piece<CheckedRow>>,
) -> Result<Option<KnownRow>, StoreError> {
    snapshot
        .read_chain(chain, ids, to, |stored| {
            let mut findings = Vec::new();
            checker.check(stored, &mut findings);
            let row = stored.id().map(|id| ChainRow { id, row_hash: stored.row_hash.to_vec() });
            CheckedRow { row, findings }
        })
        .await?;
    Ok(checker.head())
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
                report.reach(row.id.0);
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
