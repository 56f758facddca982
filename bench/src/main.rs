//! Measures audit-ledger beside its baselines.
fn main() {}
