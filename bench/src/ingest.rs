//! Webhook ingest: the ledger beside one INSERT a request, unchained and chained by a trigger.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::clock::Clock;
use audit_ledger::http::{self, Service};
use audit_ledger::postgres::{Access, DATABASE, PrivatePostgres, Role, Settings};
use audit_ledger::store::Database;
use audit_ledger::store::migrate::{create_database, migrate};
use audit_ledger::webhook::Source;
use audit_ledger::webhook::source::{TRADINGVIEW, WebhookSecret};
use axum_server::Handle;
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;

use crate::baseline;
use crate::load::{Measured, Target, closed_loop};
use crate::machine::{Machine, median};

const SECRET: &str = "a secret for the bench only";
/// Connections of the baselines to the database; more than one for each of 64 clients only
/// makes them wait for each other.
const POOL: u32 = 64;

/// Arguments of `ingest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connections, one run for each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    connections: Vec<usize>,
    /// Length of one run.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Runs of each kind, of which the median counts.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    connections: usize,
    what: &'static str,
    #[serde(flatten)]
    median: Measured,
    /// The median over the paired runs of this figure over `plain`'s.
    ratio_to_plain: f64,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    // The cluster's own user must reach it, also where this runs as root.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode)?;
    let settings = Settings {
        data_dir: folder.path().join("cluster"),
        explicit_data_dir: true,
        bindir: std::env::var_os("LEDGER_PG_BINDIR").map(Into::into),
    };
    let postgres = PrivatePostgres::open(&settings, Access::Own).await?;
    let measured = measure(args, &postgres, folder.path()).await;
    postgres.stop().await;
    let (machine, lines) = measured?;
    if args.json {
        println!("{:#}", serde_json::json!({ "machine": machine, "ingest": lines }));
        return Ok(());
    }
    println!("{machine}\n");
    println!("connections  what       req/s   p50 ms   p99 ms   max ms  x plain");
    for Line { connections, what, median: m, ratio_to_plain } in &lines {
        println!(
            "{connections:>11}  {what:<8}{:>8.0}{:>9.2}{:>9.2}{:>9.1}{ratio_to_plain:>9.2}",
            m.per_second, m.p50_ms, m.p99_ms, m.max_ms
        );
    }
    Ok(())
}

async fn measure(
    args: &Args,
    postgres: &PrivatePostgres,
    folder: &std::path::Path,
) -> Result<(Machine, Vec<Line>), Box<dyn std::error::Error + Send + Sync>> {
    create_database(&Database::from_url(&postgres.superuser_url("postgres"))?, DATABASE).await?;
    let superuser_url = postgres.superuser_url(DATABASE);
    migrate(&Database::from_url(&superuser_url)?).await?;
    let machine = Machine::look(&superuser_url, folder).await?;
    let pool = PgPoolOptions::new().max_connections(POOL).connect(&superuser_url).await?;
    baseline::make_tables(&pool).await?;

    let secret = || WebhookSecret::new(SECRET.into()).expect("long enough");
    let source = Arc::new(Source::signed(TRADINGVIEW, vec![secret()]));
    let handle = Handle::new();
    let target = |address| Arc::new(Target { address, secret: secret(), next: AtomicU64::new(0) });
    let mut targets = Vec::new();
    let (listener, address) = listen()?;
    let service = service(Database::from_url(&postgres.url(Role::App))?, source.clone());
    tokio::spawn(http::serve(listener, http::router(&service, false), handle.clone()));
    targets.push(("ledger", target(address)));
    for (what, insert) in [("plain", baseline::PLAIN), ("trigger", baseline::TRIGGER)] {
        let (listener, address) = listen()?;
        baseline::serve(listener, pool.clone(), insert, source.clone(), handle.clone());
        targets.push((what, target(address)));
    }

    let duration = Duration::from_secs(args.seconds);
    let mut lines = Vec::new();
    for &connections in &args.connections {
        let mut runs: Vec<Vec<Measured>> = vec![Vec::new(); targets.len()];
        for _ in 0..args.pairs {
            for ((what, target), runs) in targets.iter().zip(&mut runs) {
                runs.push(closed_loop(target, connections, duration).await?);
                eprintln!("{connections} connections, {what}: {:?}", runs.last());
            }
        }
        let plain = runs[1].clone();
        for ((what, _), runs) in targets.iter().zip(runs) {
            let ratios =
                runs.iter().zip(&plain).map(|(run, plain)| run.per_second / plain.per_second);
            lines.push(Line {
                connections,
                what,
                median: median_run(&runs),
                ratio_to_plain: median(&mut ratios.collect::<Vec<_>>()),
            });
        }
    }
    handle.shutdown();
    Ok((machine, lines))
}

fn listen() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn service(app: Database, source: Arc<Source>) -> Service {
    let clock = Clock::system();
    let (appender, _writer) = Appender::start(app.clone(), BatchSettings::default(), clock);
    let sources = Arc::new(HashMap::from([(source.name.clone(), source)]));
    Service { sources, ..Service::new(app, appender, clock) }
}

fn median_run(runs: &[Measured]) -> Measured {
    let of = |field: fn(&Measured) -> f64| median(&mut runs.iter().map(field).collect::<Vec<_>>());
    Measured {
        per_second: of(|run| run.per_second),
        p50_ms: of(|run| run.p50_ms),
        p99_ms: of(|run| run.p99_ms),
        max_ms: of(|run| run.max_ms),
    }
}
