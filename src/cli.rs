//! The command line.

mod checkpoints;
mod keys;
mod lockdown;
mod rows;
pub mod sign;
mod verify;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

use crate::clock::Clock;
use crate::config::Config;
use crate::integrity::guards::UNGUARDED;
use crate::open::{OpenError, OpenLedger, migrate_and_record, open_private};
use crate::postgres::{self, Access};
use crate::store::Database;
use crate::store::guards::are_guards_made;

/// Exit code of a command that was called wrongly, or could not do what it was asked.
const FAILED: u8 = 1;

/// A tamper-evident ledger for trading signals, AI decisions and orders, on PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "audit-ledger", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve HTTP; without `DATABASE_URL` on a private PostgreSQL.
    Serve,
    /// Bring the database to this program's schema.
    Migrate,
    /// Read every row back, re-hash it, and compare it with its neighbours and the log.
    ///
    /// Exit code: 0 verified, 2 tampered, 4 rolled back, 5 guards changed, 3 could not finish, 6 already
    /// running, 1 usage.
    Verify(verify::Args),
    /// Make a checkpoint of what came since the last one, and print it.
    Checkpoint,
    /// Print the log's verifier keys, by which everybody can verify its checkpoints.
    Vkey,
    /// Make a signing key for a log of this name, and print it: keep it outside the database.
    SigningKey {
        /// Name of the log, for example `example.com/desk-1`.
        #[arg(long)]
        origin: String,
    },
    /// Write the rows of a chain as CSV, JSON, NDJSON or a bundle with proofs; on record as an export.
    Export(rows::Export),
    /// Print rows again in the order in which they were appended, or post them to a URL.
    Replay(rows::Replay),
    /// Print what is appended, as it is appended.
    Tail(rows::Tail),
    /// Make, list and revoke API keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Look at a lockdown (AUD-009), or lift it.
    #[command(subcommand)]
    Lockdown(lockdown::Command),
    /// Sign a delivery; prints the signature and a curl line that sends it.
    SignWebhook(sign::Args),
    /// Print how to reach the database.
    #[command(subcommand)]
    Db(DbCommand),
    /// Print the effective configuration, secrets redacted.
    Config,
    /// Print the API's description (OpenAPI 3.1).
    Openapi,
}

#[derive(Debug, Subcommand)]
enum DbCommand {
    /// Print the URL of a role, for psql.
    Url {
        /// Whose; `superuser` on the private PostgreSQL only.
        #[arg(long, default_value = "app")]
        role: DbRole,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DbRole {
    App,
    Migrator,
    Superuser,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the program with the process's arguments and environment.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure; clap's own code for usage, 2, means tampering here.
            let failed = error.use_stderr();
            let _ = error.print();
            return if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("audit-ledger: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match dotenvy::dotenv() {
        Ok(_) => {}
        Err(error) if error.not_found() => {}
        Err(error) => return Err(format!(".env: {error}").into()),
    }
    // A variable that is not Unicode is none of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = Config::from_variables(variables)?;
    start_telemetry(&config.log, matches!(command, Command::Serve))?;
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve => crate::serve::serve(config, clock).await?,
            Command::Migrate => migrate_database(&config, clock).await?,
            Command::Verify(args) => return Ok(verify::run(args, config, clock).await),
            Command::Checkpoint => checkpoints::make(config, clock).await?,
            Command::Vkey => checkpoints::print_vkeys(&config, clock).await?,
            Command::SigningKey { origin } => checkpoints::print_new_key(&origin)?,
            Command::Export(args) => rows::export(args, config, clock).await?,
            Command::Replay(args) => rows::replay(args, &config, clock).await?,
            Command::Tail(args) => rows::tail(args, &config, clock).await?,
            Command::Keys(command) => keys::run(command, &config, clock).await?,
            Command::Lockdown(command) => lockdown::run(command, &config, clock).await?,
            Command::SignWebhook(args) => sign::run(&args, config)?,
            Command::Db(DbCommand::Url { role }) => {
                say(database_url(&config, role).await?);
            }
            Command::Config => say(format_args!("{:#}", config.redacted())),
            Command::Openapi => say(crate::http::document().to_pretty_json()?),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Telemetry goes to stderr: for people on a terminal, else a JSON object a line.
fn start_telemetry(filter: &str, is_service: bool) -> Result<(), Failure> {
    let filter = if is_service { EnvFilter::try_new(filter)? } else { EnvFilter::new("warn") };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_ansi(false).init();
    }
    Ok(())
}

async fn migrate_database(config: &Config, clock: Clock) -> Result<(), Failure> {
    let Some(url) = &config.migrator_database_url else {
        if config.database_url.is_some() {
            return Err("LEDGER_MIGRATOR_DATABASE_URL: is not set; the service's own login may \
                        not change the schema"
                .into());
        }
        // Opening the private PostgreSQL migrates it.
        OpenLedger::open(config, Access::Own, clock).await?.close().await;
        say("the private PostgreSQL is up to date");
        return Ok(());
    };
    let migrator = Database::from_url(url.expose_secret())?;
    let applied = migrate_and_record(&migrator, clock).await?;
    if applied.is_empty() {
        say("the database is up to date");
    } else {
        say(format_args!("applied migrations {applied:?}"));
    }
    if !are_guards_made(&migrator).await? {
        eprintln!("audit-ledger: {UNGUARDED}");
    }
    Ok(())
}

async fn database_url(config: &Config, role: DbRole) -> Result<String, Failure> {
    let configured = |url: &Option<secrecy::SecretString>, variable: &str| match url {
        Some(url) => Ok(url.expose_secret().to_owned()),
        None => Err(format!("{variable}: is not set")),
    };
    if config.database_url.is_some() {
        return Ok(match role {
            DbRole::App => configured(&config.database_url, "DATABASE_URL")?,
            DbRole::Migrator => {
                configured(&config.migrator_database_url, "LEDGER_MIGRATOR_DATABASE_URL")?
            }
            DbRole::Superuser => {
                return Err("the superuser of a database of your own is yours to know".into());
            }
        });
    }
    let private = open_private(config, Access::Attach).await?;
    let url = match role {
        DbRole::App => private.url(postgres::Role::App),
        DbRole::Migrator => private.url(postgres::Role::Migrator),
        DbRole::Superuser => private.superuser_url(postgres::DATABASE),
    };
    let running = private.is_attached();
    private.stop().await;
    if !running {
        eprintln!("audit-ledger: nobody serves this folder now; start `audit-ledger serve` first");
    }
    Ok(url)
}

/// Prints a line. Where nobody reads it any more, the command goes on with its work.
pub fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A path, or `-` for standard input.
fn read_input(path: &PathBuf) -> std::io::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut body)?;
        Ok(body)
    } else {
        std::fs::read(path)
    }
}

/// Opens the ledger for a command.
async fn open(config: &Config, clock: Clock) -> Result<OpenLedger, OpenError> {
    OpenLedger::open(config, Access::Attach, clock).await
}
