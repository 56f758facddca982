//! Whether the ledger is what it says it is.

pub mod guards;
pub mod lockdown;
pub mod run;
pub mod verify;
pub mod watch;
