//! PostgreSQL's own programs for dumps.

use std::path::PathBuf;
use std::process::{Command, Output};

use sqlx::postgres::PgConnectOptions;

/// Runs one of PostgreSQL's programs.
pub(crate) fn attempt_postgres(program: &str, arguments: &[&str]) -> Output {
    let folder = std::env::var_os("LEDGER_PG_BINDIR").map(PathBuf::from).unwrap_or_default();
    Command::new(folder.join(program)).args(arguments).output().unwrap()
}

/// Runs one that must succeed.
pub(crate) fn postgres(program: &str, arguments: &[&str]) {
    let output = attempt_postgres(program, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
}

/// The URL as these programs read it.
pub(crate) fn url(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(
        || options.get_host().to_owned(),
        |folder| folder.to_str().unwrap().to_owned(),
    );
    let (user, database) = (options.get_username(), options.get_database().unwrap());
    format!("postgresql://{user}@/{database}?host={host}&port={}", options.get_port())
}
