//! A tamper-evident ledger for trading signals, AI decisions and orders, on PostgreSQL.
//!
//! `ARCHITECTURE.md` says how the parts fit together, `FORMAT.md` what is hashed and how.

pub mod appender;
pub mod chains;
pub mod clock;
pub mod decimal;
pub mod integrity;
pub mod store;
pub mod webhook;
