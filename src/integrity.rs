//! Whether the ledger is what it says it is.

pub mod guards;
pub mod verify;
