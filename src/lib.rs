//! A tamper-evident ledger for trading signals, AI decisions and orders, on PostgreSQL.
//!
//! `ARCHITECTURE.md` says how the parts fit together, `FORMAT.md` what is hashed and how.

pub mod appender;
pub mod body;
pub mod chains;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decimal;
pub mod export;
pub mod feed;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod integrity;
pub mod keys;
pub mod open;
pub mod postgres;
pub mod query;
pub mod records;
pub mod replay;
pub mod rows;
pub mod serve;
pub mod sink;
mod stats;
pub mod store;
pub mod webhook;
