//! Runs a PostgreSQL for the tests until it is told to stop: `test_cluster FOLDER URL_FILE`.
//!
//! The superuser's URL is written to `URL_FILE` once the server accepts connections.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use audit_ledger::postgres::{Access, PrivatePostgres, Settings};
use sqlx::{Connection, PgConnection};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(data_dir), Some(url_file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: test_cluster FOLDER URL_FILE".into());
    };
    let bindir = std::env::var_os("LEDGER_PG_BINDIR").map(PathBuf::from);
    let settings = Settings { data_dir, explicit_data_dir: true, bindir };
    let mut stop = signal(SignalKind::terminate())?;
    let cluster = PrivatePostgres::open(&settings, Access::Own).await?;
    let_anybody_in(&cluster.superuser_url("postgres")).await?;
    std::fs::write(url_file, cluster.superuser_url("postgres"))?;
    stop.recv().await;
    cluster.stop().await;
    Ok(())
}

/// The private PostgreSQL knows the ledger's own logins alone; tests make others. Its socket is in
/// a folder of its own.
async fn let_anybody_in(superuser_url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut superuser = PgConnection::connect(superuser_url).await?;
    let file: String = sqlx::query_scalar("SHOW hba_file").fetch_one(&mut superuser).await?;
    OpenOptions::new().append(true).open(file)?.write_all(b"local all all trust\n")?;
    sqlx::query("SELECT pg_reload_conf()").execute(&mut superuser).await?;
    Ok(())
}
