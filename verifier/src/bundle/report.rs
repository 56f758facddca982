//! What a bundle was found to be, and what that shows and does not.

use crate::chain::Chain;
use crate::checkpoint::Checkpoint;
use crate::hash::RowId;
use crate::lines::Findings;

use super::Manifest;

/// What was found in a bundle. Only where [`Self::verdict`] says so is any of it shown.
#[derive(Clone, Debug)]
pub struct BundleReport {
    /// What the bundle says of itself, where that can be read.
    pub manifest: Option<Manifest>,
    /// The chain.
    pub chain: Option<&'static Chain>,
    /// Rows of the range that could be read.
    pub rows: u64,
    /// The id of the first of them.
    pub first_id: Option<RowId>,
    /// The id of the last of them.
    pub last_id: Option<RowId>,
    /// How far the range is whole.
    pub completeness: Completeness,
    /// The checkpoint, where one of the keys signed it.
    pub checkpoint: Option<Checkpoint>,
    /// All that is wrong.
    pub findings: Findings,
}

/// How far a bundle has every row of its range, where nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// From end to end: the rows at both edges are there, or there can be none.
    Whole,
    /// Up to the row of this id, the last that there was when the bundle was made. That there was
    /// none behind it, nobody can prove: the log says what was appended, not what was not.
    UpTo(RowId),
    /// The bundle has no row at all, and shows nothing of the chain.
    Nothing,
}

/// What to make of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything adds up.
    Verified,
    /// Nothing is wrong, but there is no row that could show anything.
    NothingShown,
    /// Something does not add up: see the findings.
    DoesNotVerify,
}

impl BundleReport {
    /// What to make of it.
    pub fn verdict(&self) -> Verdict {
        if self.findings.total() > 0 {
            Verdict::DoesNotVerify
        } else if self.completeness == Completeness::Nothing {
            Verdict::NothingShown
        } else {
            Verdict::Verified
        }
    }

    /// What is shown, a sentence each; nothing where the bundle does not verify.
    pub fn proved(&self) -> Vec<String> {
        let (Some(chain), Some(checkpoint), true) =
            (self.chain, &self.checkpoint, self.verdict() == Verdict::Verified)
        else {
            return Vec::new();
        };
        let name = chain.name;
        let rows = match (self.rows, self.first_id, self.last_id) {
            (1, Some(first), _) => format!("{name}: row {first} is as it was appended"),
            (rows, Some(first), Some(last)) => {
                format!("{name}: {rows} rows, {first} to {last}, are as they were appended")
            }
            _ => format!("{name}: no row is in the range"),
        };
        let whole = match self.completeness {
            Completeness::Whole => "the range is complete: no row of it was left out".to_owned(),
            Completeness::UpTo(last) => {
                format!("the range is complete up to id {last}: no row up to it was left out")
            }
            Completeness::Nothing => return Vec::new(),
        };
        let (origin, head) = (checkpoint.origin.escape_debug(), checkpoint.head());
        let log = format!(
            "all rows are in the log {origin}, in its signed checkpoint of {} leaves with root {}",
            head.size, head.root
        );
        vec![rows, whole, log]
    }

    /// What is not shown even where everything adds up, a sentence each.
    pub fn not_proved(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        match self.completeness {
            Completeness::Whole => {}
            Completeness::UpTo(last) => sentences.push(format!(
                "that there was no row after {last} when the bundle was made: a later bundle shows \
                 the rows that came"
            )),
            Completeness::Nothing => {
                sentences.push("anything about the chain: the bundle has no row".to_owned());
            }
        }
        if let Some(manifest) = &self.manifest {
            sentences.push(format!(
                "that {:?} asked for it at {} and {:?} made it: the manifest says so, unsigned",
                manifest.requested_by,
                manifest.made_at.escape_debug(),
                manifest.tool
            ));
        }
        if self.rows > 0 {
            sentences.push(
                "the leaf_index of rows between the first and the last, only that it increases"
                    .to_owned(),
            );
        }
        sentences
    }
}
