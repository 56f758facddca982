//! Bundles: a range of a chain's rows, with all that shows them to be whole and in the signed log,
//! as one zip that is checked offline (FORMAT.md section 6).

mod container;
mod manifest;
mod report;
mod verify;

pub use manifest::{Manifest, ManifestError, Range, RangeFilter, incarnation_of};
pub use report::{BundleReport, Completeness, Verdict};
pub use verify::verify_bundle;

/// What a manifest of this format calls it.
pub const FORMAT: &str = "audit-ledger/bundle/v1";
/// What the bundle says it is, and the SHA-256 of every other file.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The rows of the range, one [`write_json`](crate::row::write_json) and a newline each.
pub const RECORDS_FILE: &str = "records.ndjson";
/// The same rows for people, as [`csv`](crate::csv) writes them.
pub const TABLE_FILE: &str = "records.csv";
/// The row before the range, if there is one.
pub const BEFORE_FILE: &str = "before.ndjson";
/// The row behind the range, if there is one.
pub const AFTER_FILE: &str = "after.ndjson";
/// The signed checkpoint that the proofs lead to.
pub const CHECKPOINT_FILE: &str = "checkpoint.txt";
/// The proof of the first of all rows in the bundle, the one before the range included.
pub const FIRST_PROOF_FILE: &str = "proofs/first.tlog-proof";
/// The proof of the last of all rows in the bundle, the one behind the range included.
pub const LAST_PROOF_FILE: &str = "proofs/last.tlog-proof";

/// Every file that a bundle has, the manifest first. The proofs are there if any row is.
pub const FILES: [&str; 8] = [
    MANIFEST_FILE,
    RECORDS_FILE,
    TABLE_FILE,
    BEFORE_FILE,
    AFTER_FILE,
    CHECKPOINT_FILE,
    FIRST_PROOF_FILE,
    LAST_PROOF_FILE,
];

/// The largest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 10;
/// The largest proof that is read, in bytes: a checkpoint, and a line for each level of the tree.
pub const MAX_PROOF_BYTES: u64 = 1_010_000;
