//! What a check reports: findings by chain, and the verdict over them.

use std::time::Duration;

use ledger_verifier::check::LOG_NAME;
use ledger_verifier::{Finding, FindingKind};
use serde_json::json;
use uuid::Uuid;

use super::guards::GUARDS;
use crate::store::checks::CheckRecord;

/// Findings that a report lists; the others are counted.
pub const LISTED_FINDINGS: usize = 1000;

/// What was found in one chain, in the log, or in the guards.
#[derive(Clone, Debug)]
pub struct ChainReport {
    /// The chain's name, `ledger_log`, or [`GUARDS`].
    pub chain: &'static str,
    /// Rows, or leaves, that stand before what was looked at.
    pub before: i64,
    /// Rows that must be there: behind those, up to the highest id. Of the guards, objects.
    pub expected_rows: i64,
    /// Rows that were read. Of the guards, objects that were compared.
    pub rows: i64,
    /// The first [`LISTED_FINDINGS`] of what does not add up, and as many of what is known.
    pub findings: Vec<ListedFinding>,
    /// All of what does not add up, known or not.
    pub findings_count: u64,
    /// How much of that was acknowledged when a lockdown was lifted.
    pub acknowledged_count: u64,
    /// How much of what is new says only that the database is behind what is held outside it.
    pub rolled_back_count: u64,
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
    /// `full`; `chain` for one chain and what the log says of it; `incremental` from the last checkpoint
    /// on; `rolling` for a slice of what that covers.
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
    /// A row does not add up, or the log is not what was signed, and nobody has acknowledged that.
    Tampered,
    /// All that is there adds up, but the database is behind a checkpoint that is held outside it.
    RolledBack,
    /// The rows do as far as they were looked at, but a guard is not as it was made.
    GuardDrift,
    /// Nothing was found, but not everything was looked at.
    Unfinished,
    /// Every row is what it was when it was appended, but for what was acknowledged.
    Verified,
}

impl Verdict {
    /// Whether it locks the ledger, and nothing is signed.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Tampered | Self::RolledBack)
    }

    /// As printed, and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tampered => "tampered",
            Self::RolledBack => "rolled_back",
            Self::GuardDrift => "guard_drift",
            Self::Unfinished => "unfinished",
            Self::Verified => "verified",
        }
    }
}

impl Report {
    /// What the findings mean.
    pub fn verdict(&self) -> Verdict {
        let of_rows = || self.chains.iter().filter(|chain| chain.chain != GUARDS);
        if of_rows().any(|chain| chain.new_findings() > chain.rolled_back_count) {
            Verdict::Tampered
        } else if of_rows().any(|chain| chain.rolled_back_count > 0) {
            Verdict::RolledBack
        } else if self.guards().is_some_and(|guards| guards.new_findings() > 0) {
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

    /// Whether the log is not what was signed of it, known or not: then it goes on under another name,
    /// or not at all.
    pub fn breaks_with_history(&self) -> bool {
        use FindingKind::{Forked, RolledBack, Truncated};
        let mut findings = self.chains.iter().flat_map(|chain| &chain.findings);
        findings.any(|listed| matches!(listed.finding.kind, Truncated | Forked | RolledBack))
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
                range: (chain.expected_rows > 0 && chain.chain != GUARDS).then(|| {
                    let first = chain.before + first(chain);
                    (first, first + chain.expected_rows - 1)
                }),
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
    /// Behind so many rows, or leaves.
    pub(super) fn behind(chain: &'static str, before: i64) -> Self {
        Self {
            chain,
            before,
            expected_rows: 0,
            rows: 0,
            findings: Vec::new(),
            findings_count: 0,
            acknowledged_count: 0,
            rolled_back_count: 0,
            error: None,
        }
    }

    /// The highest id that must be there.
    pub(super) fn highest(&self) -> i64 {
        self.before + self.expected_rows
    }

    /// Rows up to this id must be there.
    pub(super) fn reach(&mut self, id: i64) {
        self.expected_rows = self.expected_rows.max(id.saturating_sub(self.before));
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
    pub(super) fn add(&mut self, finding: Finding, acknowledged: bool) {
        let is_behind = finding.kind == FindingKind::RolledBack && !acknowledged;
        self.findings_count += 1;
        self.acknowledged_count += u64::from(acknowledged);
        self.rolled_back_count += u64::from(is_behind);
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
