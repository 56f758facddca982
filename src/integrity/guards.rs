//! The check of the guards: whether triggers, constraints, functions, rights and roles are as the
//! migrations made them. What differs is a finding, and locks nothing.

use ledger_verifier::{Finding, FindingKind};
use serde_json::{Value, json};

use super::report::finding_json;
use crate::store::guards::{Drift, Guards, compare_guards};
use crate::store::{Database, StoreError};

/// The name that findings about guards carry in place of a chain's, in reports and in
/// `integrity_checks`.
pub const GUARDS: &str = "guards";
/// What is said of a ledger without event trigger and manifest, when it is migrated and at every
/// check.
pub const UNGUARDED: &str = "the guards cannot be compared with anything: the database has neither the event \
     trigger that refuses DDL on the ledger nor the manifest of its guards, since no superuser has \
     migrated it. Whoever becomes ledger_owner can change guards, and no check will tell";
/// Characters of a definition that a finding shows.
const SHOWN: usize = 120;
/// Characters before the first difference that a finding shows.
const SHOWN_BEFORE: usize = 30;

/// What a check of the guards found.
#[derive(Clone, Debug, Default)]
pub struct GuardCheck {
    /// Objects that were compared; 0 where there is no manifest.
    pub objects: i64,
    /// One finding for each that differs.
    pub findings: Vec<Finding>,
    /// What is known not to be there, and no finding.
    pub note: Option<&'static str>,
}

impl GuardCheck {
    /// For the details of a security event.
    pub fn summary(&self) -> Value {
        json!({
            "findings": self.findings.len(),
            "first": self.findings.iter().take(10).map(finding_json).collect::<Vec<_>>(),
        })
    }
}

/// Compares the guards with what the migrations made.
pub async fn check_guards(database: &Database) -> Result<GuardCheck, StoreError> {
    Ok(match compare_guards(database).await? {
        Guards::Compared { objects, drift } => {
            GuardCheck { objects, findings: drift.iter().map(guard_finding).collect(), note: None }
        }
        Guards::Unknown { were_made: false } => {
            GuardCheck { note: Some(UNGUARDED), ..GuardCheck::default() }
        }
        Guards::Unknown { were_made: true } => GuardCheck {
            findings: vec![finding(
                "missing: the schema ledger_guard, which security_events says was made".to_owned(),
            )],
            ..GuardCheck::default()
        },
    })
}

/// A difference from the manifest as a finding.
pub fn guard_finding(drift: &Drift) -> Finding {
    let Drift { kind, identity, expected, found } = drift;
    finding(match (expected, found) {
        (Some(expected), Some(found)) => {
            let (expected, found) = difference(expected, found);
            format!("changed: {kind} {identity}: {found:?}, was {expected:?}")
        }
        (Some(_), None) => format!("missing: {kind} {identity}"),
        (None, Some(found)) => {
            format!("added: {kind} {identity}: {:?}", excerpt(found, 0))
        }
        (None, None) => format!("unreadable: {kind} {identity}"),
    })
}

fn finding(detail: String) -> Finding {
    Finding {
        kind: FindingKind::GuardDrift,
        chain: GUARDS.to_owned(),
        id: None,
        leaf_index: None,
        detail,
    }
}

/// Both texts from shortly before where they begin to differ.
fn difference(one: &str, other: &str) -> (String, String) {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(SHOWN_BEFORE);
    // Whatever fits is shown from its beginning.
    let fits = one.chars().count().max(other.chars().count()) <= SHOWN;
    let from = if fits { 0 } else { from };
    (excerpt(one, from), excerpt(other, from))
}

fn excerpt(text: &str, from: usize) -> String {
    let mut shown: String = text.chars().skip(from).take(SHOWN).collect();
    if from > 0 {
        shown.insert(0, '…');
    }
    if text.chars().count() > from + SHOWN {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_where_long_definitions_begin_to_differ() {
        let long = |end: &str| format!("{}{end}{}", "x".repeat(500), "z".repeat(500));
        let drift = |expected: Option<String>, found: Option<String>| {
            let (kind, identity) = ("function".to_owned(), "public.f()".to_owned());
            guard_finding(&Drift { kind, identity, expected, found }).detail
        };
        let changed = drift(Some(long("one")), Some(long("tüo")));
        let before = "x".repeat(SHOWN_BEFORE);
        assert!(changed.contains(&format!("\"…{before}tüozzz")), "{changed}");
        assert!(changed.contains(&format!("was \"…{before}onezzz")), "{changed}");
        let short = drift(Some("always; a".to_owned()), Some("disabled; a".to_owned()));
        let expected = "changed: function public.f(): \"disabled; a\", was \"always; a\"";
        assert_eq!(short, expected);
        assert_eq!(drift(Some("a".to_owned()), None), "missing: function public.f()");
        assert_eq!(drift(None, Some("a".to_owned())), "added: function public.f(): \"a\"");
    }
}
