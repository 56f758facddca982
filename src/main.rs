//! audit-ledger
fn main() {}
