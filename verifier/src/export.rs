//! A plain export checked: one row a line, of one chain or of several in the log's order.
//!
//! Hashes and links are checked as far as the file goes. What a filter left out cannot be told from
//! what somebody took out, so gaps are counted and are no findings.

use std::io::{self, BufRead};

use crate::chain::Chain;
use crate::check::{ChainChecker, FindingKind};
use crate::checkpoint::Checkpoint;
use crate::hash::{LeafIndex, RowId};
use crate::json::{ExportedRow, read_json};
use crate::lines::{Findings, Line, Place, Rule, line_fault, read_line};
use crate::merkle::Tree;

/// What of one chain is in an export.
#[derive(Clone, Debug)]
pub struct ChainSpan {
    /// The chain.
    pub chain: &'static Chain,
    /// Rows that are there.
    pub rows: u64,
    /// The lowest id.
    pub first_id: RowId,
    /// The highest id.
    pub last_id: RowId,
    /// Places between the two where ids are missing.
    pub gaps: u64,
}

/// What the export shows of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogCoverage {
    /// No checkpoint was given.
    NotAsked,
    /// Every leaf of the checkpoint is there, and their root is its root.
    Proved,
    /// The file does not have every leaf of the checkpoint, so its root cannot be computed.
    NotShown,
    /// Every leaf is there, but their root is another one; there is a finding for it.
    OtherRoot,
}

/// What was found in an export.
#[derive(Clone, Debug)]
pub struct ExportReport {
    /// What is there, in the order of each chain's first row.
    pub chains: Vec<ChainSpan>,
    /// What it shows of the log.
    pub log: LogCoverage,
    /// All that is wrong.
    pub findings: Findings,
}

impl ExportReport {
    /// Rows that could be read.
    pub fn rows(&self) -> u64 {
        self.chains.iter().map(|span| span.rows).sum()
    }

    /// Places where ids are missing, over all chains.
    pub fn gaps(&self) -> u64 {
        self.chains.iter().map(|span| span.gaps).sum()
    }
}

/// Reads an export, called `name` in findings, to its end. Where a checkpoint is given and the file
/// has every one of its leaves from the first on, as a replay of all chains does, its root is
/// compared.
///
/// Errors are those of the reader: then nothing is known.
pub fn verify_export(
    name: &str,
    mut from: impl BufRead,
    checkpoint: Option<&Checkpoint>,
) -> io::Result<ExportReport> {
    let mut export = Export {
        name,
        checkpoint,
        checkers: Vec::new(),
        spans: Vec::new(),
        last_leaf: None,
        tree: Some(Tree::new()),
        log: checkpoint.map_or(LogCoverage::NotAsked, |_| LogCoverage::NotShown),
        findings: Findings::default(),
    };
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        let kind = read_line(&mut from, &mut line)?;
        number += 1;
        if let Some(fault) = line_fault(kind) {
            export.findings.add(Rule::Spelling, Place::line(name, number, None), fault);
        }
        match kind {
            Line::End | Line::TooLong => break,
            Line::Whole | Line::Unterminated => match read_json(&line) {
                Ok(row) => export.check(&row, number),
                Err(error) => {
                    // Where the file was cut there is a finding already.
                    if kind == Line::Whole {
                        let place = Place::line(name, number, None);
                        export.findings.add(Rule::Spelling, place, error.to_string());
                    }
                    export.tree = None;
                }
            },
        }
    }
    Ok(ExportReport { chains: export.spans, log: export.log, findings: export.findings })
}

struct Export<'a> {
    name: &'a str,
    checkpoint: Option<&'a Checkpoint>,
    /// One for each span, in the same order.
    checkers: Vec<ChainChecker>,
    spans: Vec<ChainSpan>,
    last_leaf: Option<LeafIndex>,
    /// Over all leaves from the first on, as long as none is left out.
    tree: Option<Tree>,
    log: LogCoverage,
    findings: Findings,
}

impl Export<'_> {
    fn check(&mut self, row: &ExportedRow, number: u64) {
        let place = Place::line(self.name, number, Some(row.id));
        let at = self.spans.iter().position(|span| span.chain.name == row.chain.name);
        let at = at.unwrap_or_else(|| {
            let (chain, id) = (row.chain, row.id);
            self.checkers.push(ChainChecker::starting_at(chain, id));
            self.spans.push(ChainSpan { chain, rows: 0, first_id: id, last_id: id, gaps: 0 });
            self.spans.len() - 1
        });
        let (checker, span) = (&mut self.checkers[at], &mut self.spans[at]);
        let is_behind_gap = row.id > checker.next_id();
        let mut findings = Vec::new();
        row.as_stored(|stored| checker.check(stored, &mut findings));
        if is_behind_gap {
            findings.retain(|finding| finding.kind != FindingKind::Gap);
            span.gaps += 1;
        }
        span.rows += 1;
        span.last_id = span.last_id.max(row.id);
        self.findings.add_rows(&place, findings);
        self.check_leaf(row, place);
    }

    fn check_leaf(&mut self, row: &ExportedRow, place: Place) {
        let Some(leaf) = row.leaf_index else {
            self.tree = None;
            return;
        };
        if self.last_leaf.is_some_and(|last| leaf <= last) {
            let detail = format!("leaf_index is {leaf}, not above that of the row before");
            self.findings.add(Rule::LeafIndex, place.clone(), detail);
        }
        self.last_leaf = Some(leaf);
        self.tree.take_if(|tree| tree.size().0 != leaf.0);
        let Some(tree) = &mut self.tree else { return };
        tree.push(row.row_hash);
        let Some(checkpoint) = self.checkpoint.filter(|known| known.size == tree.size()) else {
            return;
        };
        self.log = if tree.root() == checkpoint.root {
            LogCoverage::Proved
        } else {
            let detail = format!(
                "the rows up to here have the root {}, the checkpoint {}",
                tree.root(),
                checkpoint.root
            );
            self.findings.add(Rule::Row(FindingKind::Forked), place, detail);
            LogCoverage::OtherRoot
        };
    }
}
