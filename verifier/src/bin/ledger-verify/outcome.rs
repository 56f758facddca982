//! What a check came to, as text and as JSON.

use std::fmt;

use ledger_verifier::lines::FileFinding;
use serde_json::{Map, Value, json};

/// Exit codes, as of `audit-ledger verify`.
pub(crate) const USAGE: u8 = 1;
const DOES_NOT_VERIFY: u8 = 2;
pub(crate) const UNFINISHED: u8 = 3;

/// A file could not be read, so there is no outcome.
pub(crate) struct Unfinished(pub(crate) String);

/// What was found.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What is shown, a sentence each.
    pub(crate) proved: Vec<String>,
    /// What was asked for and is not shown: then nothing is verified, and nothing is wrong either.
    pub(crate) missing: Vec<String>,
    /// What such files cannot show, a sentence each.
    pub(crate) not_proved: Vec<String>,
    pub(crate) findings: Vec<FileFinding>,
    /// Findings beyond those that are kept.
    pub(crate) more_findings: u64,
    /// Numbers and names for machines.
    pub(crate) facts: Map<String, Value>,
}

impl Outcome {
    fn verdict(&self) -> (&'static str, u8) {
        if !self.findings.is_empty() {
            ("does_not_verify", DOES_NOT_VERIFY)
        } else if !self.missing.is_empty() {
            ("not_shown", UNFINISHED)
        } else {
            ("verified", 0)
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.verdict().1
    }

    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    pub(crate) fn to_json(&self) -> String {
        let finding = |finding: &FileFinding| {
            json!({
                "rule": finding.rule.name(),
                "file": finding.place.file,
                "line": finding.place.line,
                "row": finding.place.row.map(|row| row.0),
                "detail": finding.detail,
            })
        };
        let outcome = json!({
            "verdict": self.verdict().0,
            "proved": self.proved,
            "not_shown": self.missing,
            "not_proved": self.not_proved,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "more_findings": self.more_findings,
            "facts": self.facts,
        });
        format!("{outcome}\n")
    }
}

/// The JSON of a check that could not finish.
pub(crate) fn unfinished_json(why: &str) -> String {
    format!("{}\n", json!({ "verdict": "unfinished", "error": why }))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.verdict().0 {
            "verified" => "VERIFIED\n",
            "not_shown" => "NOT SHOWN\n",
            _ => "DOES NOT VERIFY\n",
        })?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
        if self.more_findings > 0 {
            writeln!(f, "  and {} more", self.more_findings)?;
        }
        let mut list = |title: &str, sentences: &[String]| -> fmt::Result {
            if sentences.is_empty() {
                return Ok(());
            }
            writeln!(f, "{title}")?;
            sentences.iter().try_for_each(|sentence| writeln!(f, "  {sentence}"))
        };
        list("asked for and not shown", &self.missing)?;
        list("shown", &self.proved)?;
        // Where something is wrong, what else could be is beside the point.
        list(
            "what such files cannot show",
            if self.findings.is_empty() { &self.not_proved } else { &[] },
        )
    }
}
