//! The audit-ledger format, and nothing else.
//!
//! This crate is the executable form of `FORMAT.md`: canonical rows and their hashes ([`row`]), the
//! description of every chain ([`chain`]), the checks that the service and an auditor run over rows
//! and the log ([`check`]), the RFC 9162 tree ([`merkle`]) and signed checkpoints ([`note`],
//! [`checkpoint`]), the log as tiles ([`tile`]) and proofs as text ([`proof`]), exported rows read
//! back ([`json`], [`export`]) and bundles of rows with their proofs ([`bundle`]). It reads what it
//! is handed and nothing else, has no clock, and depends on neither tokio, axum nor sqlx, so that a
//! verdict rests on little code.
//!
//! Without its feature `bundle` it neither unpacks nor writes files; without `cli` it has no
//! program.

#[cfg(feature = "bundle")]
pub mod bundle;
pub mod chain;
pub mod check;
pub mod checkpoint;
pub mod cosignature;
pub mod csv;
pub mod decimal;
pub mod export;
pub mod hash;
pub mod json;
pub mod lines;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod row;
mod text;
pub mod tile;

pub use chain::{Chain, Column, ColumnType};
pub use check::{ChainChecker, Finding, FindingKind, LogChecker, LogEntry};
pub use hash::{LeafIndex, RowHash, RowId, TreeSize};
pub use row::{RowError, Value, row_hash};
