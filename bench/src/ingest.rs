//! Webhook ingest: the ledger beside one INSERT a request, unchained and chained by a trigger.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::clock::Clock;
use audit_ledger::http::{self, Service};
use audit_ledger::store::Database;
use audit_ledger::webhook::Source;
use audit_ledger::webhook::source::{TRADINGVIEW, WebhookSecret};
use axum_server::Handle;
use sqlx::postgres::PgPoolOptions;

use crate::bench::{Bench, Ledger};
use crate::load::{Measured, Target, closed_loop};
use crate::report::{Figure, Goal};
use crate::{Error, baseline};

const SECRET: &str = "a secret for the bench only";
/// Connections of the baselines to the database; more than one for each of 64 clients only
/// makes them wait for each other.
const POOL: u32 = 64;
/// Connections at which the goals hold.
const COMPARED_AT: usize = 64;

/// Arguments of `ingest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connections, one run for each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    connections: Vec<usize>,
    /// Length of one run.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

pub(crate) async fn run(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.fresh().await?;
    let figures = measure(bench, args, &ledger).await;
    bench.drop(ledger).await?;
    figures
}

async fn measure(bench: &Bench, args: &Args, ledger: &Ledger) -> Result<Vec<Figure>, Error> {
    let pool = PgPoolOptions::new().max_connections(POOL).connect(ledger.superuser_url()).await?;
    baseline::make_tables(&pool).await?;

    let secret = || WebhookSecret::new(SECRET.into()).expect("long enough");
    let source = Arc::new(Source::signed(TRADINGVIEW, vec![secret()]));
    let handle = Handle::new();
    let target = |address| Arc::new(Target { address, secret: secret(), next: AtomicU64::new(0) });
    let mut targets = Vec::new();
    let (listener, address) = listen()?;
    let service = service(ledger.app()?, source.clone());
    tokio::spawn(http::serve(listener, http::router(&service, false), handle.clone()));
    targets.push(("ledger", target(address)));
    for (what, insert) in [("plain", baseline::PLAIN), ("trigger", baseline::TRIGGER)] {
        let (listener, address) = listen()?;
        baseline::serve(listener, pool.clone(), insert, source.clone(), handle.clone());
        targets.push((what, target(address)));
    }

    let duration = Duration::from_secs(args.seconds);
    let mut figures = Vec::new();
    for &connections in &args.connections {
        let mut runs = [const { Vec::new() }; 3];
        for _ in 0..bench.common.pairs {
            for ((what, target), runs) in targets.iter().zip(&mut runs) {
                runs.push(closed_loop(target, connections, duration).await?);
                eprintln!("{connections} connections, {what}: {:?}", runs.last());
            }
        }
        figures.extend(compare(connections, &runs));
    }
    handle.shutdown();
    pool.close().await;
    Ok(figures)
}

/// The ledger's runs beside those of the two baselines.
fn compare(connections: usize, [ledger, plain, trigger]: &[Vec<Measured>; 3]) -> [Figure; 3] {
    let of = |runs: &[Measured], field: fn(&Measured) -> f64| -> Vec<f64> {
        runs.iter().map(field).collect()
    };
    let rate = |run: &Measured| run.per_second;
    let p99 = |run: &Measured| run.p99_ms;
    let name = |what: &str| format!("ingest, {connections} connections, {what}");
    let rates = of(ledger, rate);
    let plain_rate =
        Figure::paired(name("rate"), "req/s", &rates, "plain INSERT", &of(plain, rate));
    let plain_p99 =
        Figure::paired(name("p99"), "ms", &of(ledger, p99), "plain INSERT", &of(plain, p99));
    let trigger =
        Figure::paired(name("rate"), "req/s", &rates, "INSERT, row trigger", &of(trigger, rate));
    let details = serde_json::json!({ "ledger": ledger, "plain": plain });
    if connections == COMPARED_AT {
        [
            plain_rate.with_goal(Goal::RatioAtLeast(1.5)).with_details(details),
            plain_p99.with_goal(Goal::RatioAtMost(1.0)),
            trigger.with_goal(Goal::RatioAtLeast(5.0)),
        ]
    } else {
        [plain_rate.with_details(details), plain_p99, trigger]
    }
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
