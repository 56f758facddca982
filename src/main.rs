//! The `audit-ledger` program.

fn main() -> std::process::ExitCode {
    audit_ledger::cli::main()
}
