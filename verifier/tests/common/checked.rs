//! A built bundle checked, and what the check must say.

use std::io::Cursor;

use ledger_verifier::bundle::{BundleReport, Verdict, verify_bundle};
use ledger_verifier::note::VerifierKey;

use crate::built::{Bounds, Bundle, Key, Ledger, key};

/// Rows of the ledger that [`bundle`] is of.
pub(crate) const ROWS: usize = 9;

pub(crate) fn verify_with(zip: &[u8], keys: &[&Key]) -> BundleReport {
    let keys: Vec<VerifierKey> = keys.iter().map(|key| key.vkey.parse().unwrap()).collect();
    verify_bundle(Cursor::new(zip), &keys).unwrap()
}

pub(crate) fn verify(zip: &[u8]) -> BundleReport {
    verify_with(zip, &[&key(None)])
}

pub(crate) fn shown(report: &BundleReport) -> Vec<String> {
    report.findings.kept().iter().map(ToString::to_string).collect()
}

#[track_caller]
pub(crate) fn require_refused(zip: &[u8], what: &str) -> Vec<String> {
    let report = verify(zip);
    assert_eq!(report.verdict(), Verdict::DoesNotVerify, "{what}");
    assert_eq!(report.proved(), Vec::<String>::new(), "{what}");
    shown(&report)
}

/// Refused, and for this among other things.
#[track_caller]
pub(crate) fn require_finding(zip: &[u8], finding: &str) {
    let findings = require_refused(zip, finding);
    assert!(findings.iter().any(|found| found.contains(finding)), "{finding}: {findings:#?}");
}

/// Rows 3 to 6 of nine.
pub(crate) fn bundle() -> Bundle {
    Ledger::new(ROWS).bundle(&Bounds::ids(3, 6), &key(None))
}
