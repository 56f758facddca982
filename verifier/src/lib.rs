//! The audit-ledger format, and nothing else.
//!
//! This crate is the executable form of `FORMAT.md`: canonical rows and their hashes
//! ([`row`]), the description of every chain ([`chain`]), the checks that the service and an
//! auditor run over rows and the log ([`check`]), the RFC 9162 tree ([`merkle`]) and signed
//! checkpoints ([`note`], [`checkpoint`]). It does no input or output, reads no clock, and
//! depends on neither tokio, axum nor sqlx, so that a verdict rests on little code.

pub mod chain;
pub mod check;
pub mod checkpoint;
pub mod decimal;
pub mod hash;
pub mod merkle;
pub mod note;
pub mod row;
mod text;

pub use chain::{Chain, Column, ColumnType};
pub use check::{ChainChecker, Finding, FindingKind, LogChecker, LogEntry};
pub use hash::{LeafIndex, RowHash, RowId, TreeSize};
pub use row::{RowError, Value, row_hash};
