//! Files of one row a line, read in constant memory, and what is wrong in them.

use std::fmt;
use std::io::{self, BufRead, Read};

use crate::check::{Finding, FindingKind};
use crate::hash::RowId;
use crate::json::MAX_LINE_BYTES;

/// Findings that are kept; of more only the number, since a file may have one a line.
pub const MAX_FINDINGS: usize = 1000;

/// What a finding in a file is about (FORMAT.md sections 5 and 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The zip is not one of the kind that a bundle is.
    Container,
    /// A file is missing, there twice, too large or none of a bundle's, or its SHA-256 is another
    /// one.
    Files,
    /// The manifest is malformed, or the rest of the bundle says otherwise.
    Manifest,
    /// A line is not a row in the one spelling that it has.
    Spelling,
    /// As in a check of the ledger.
    Row(FindingKind),
    /// A row is on the wrong side of the range's bounds, or one at its edge is not there.
    Range,
    /// A leaf index is missing, or not above that of the row before.
    LeafIndex,
    /// The checkpoint is malformed or not signed by the log.
    Checkpoint,
    /// A proof is malformed, of another row or checkpoint, or does not lead to the root.
    Proof,
    /// The table for people says other than the rows.
    Table,
}

impl Rule {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Files => "files",
            Self::Manifest => "manifest",
            Self::Spelling => "spelling",
            Self::Row(kind) => kind.name(),
            Self::Range => "range",
            Self::LeafIndex => "leaf_index",
            Self::Checkpoint => "checkpoint",
            Self::Proof => "proof",
            Self::Table => "table",
        }
    }
}

/// Where in a file something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: String,
    /// The line, counted from 1, where one is concerned.
    pub line: Option<u64>,
    /// The row, where one is concerned.
    pub row: Option<RowId>,
}

impl Place {
    /// A file as a whole.
    pub fn file(file: &str) -> Self {
        Self { file: file.to_owned(), line: None, row: None }
    }

    /// A line of a file, and the row on it where it can be read.
    pub fn line(file: &str, line: u64, row: Option<RowId>) -> Self {
        Self { file: file.to_owned(), line: Some(line), row }
    }
}

/// One thing that does not add up in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFinding {
    /// What it is about.
    pub rule: Rule,
    /// Where it is.
    pub place: Place,
    /// What was expected and what was found, for people. Never a column's content.
    pub detail: String,
}

impl fmt::Display for FileFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever made the file chose its names: nothing of them reaches a terminal as it is.
        write!(f, "{}: {}", self.rule.name(), self.place.file.escape_debug())?;
        if let Some(line) = self.place.line {
            write!(f, " line {line}")?;
        }
        if let Some(row) = self.place.row {
            write!(f, " row {row}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// All that is wrong, in the order in which it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    kept: Vec<FileFinding>,
    total: u64,
}

impl Findings {
    /// The first [`MAX_FINDINGS`].
    pub fn kept(&self) -> &[FileFinding] {
        &self.kept
    }

    /// How many there are.
    pub const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn add(&mut self, rule: Rule, place: Place, detail: impl Into<String>) {
        self.total += 1;
        if self.kept.len() < MAX_FINDINGS {
            self.kept.push(FileFinding { rule, place, detail: detail.into() });
        }
    }

    pub(crate) fn add_rows(&mut self, place: &Place, findings: Vec<Finding>) {
        for finding in findings {
            let place = Place { row: finding.id, ..place.clone() };
            self.add(Rule::Row(finding.kind), place, finding.detail);
        }
    }
}

/// What was read as the next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line; its newline was taken off.
    Whole,
    /// What stands behind the last newline.
    Unterminated,
    /// More than [`MAX_LINE_BYTES`]; where the next line begins is not known any more.
    TooLong,
    /// Nothing: the file has ended.
    End,
}

/// Reads the next line into `line`, whose old content is lost.
pub(crate) fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let with_newline = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    from.by_ref().take(with_newline).read_until(b'\n', line)?;
    Ok(if line.is_empty() {
        Line::End
    } else if line.pop_if(|last| *last == b'\n').is_some() {
        Line::Whole
    } else if line.len() > MAX_LINE_BYTES {
        Line::TooLong
    } else {
        Line::Unterminated
    })
}

/// Why a line that is not whole is a finding.
pub(crate) const fn line_fault(line: Line) -> Option<&'static str> {
    match line {
        Line::Whole | Line::End => None,
        Line::Unterminated => Some("the last line has no newline at its end: the file was cut"),
        Line::TooLong => Some("the line is longer than any row's; what follows was not read"),
    }
}
