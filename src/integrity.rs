//! Whether the ledger is what it says it is.

pub mod anchors;
pub mod checkpointer;
pub mod guards;
pub mod history;
pub mod lockdown;
pub mod outside;
pub mod part;
pub mod proofs;
pub mod publisher;
pub mod report;
pub mod run;
pub mod signing;
pub mod tree;
pub mod verify;
pub mod watch;
