//! Webhook ingest: the ledger beside one INSERT a request, unchained and chained by a trigger.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::clock::Clock;
use audit_ledger::http::{self, Service};
use audit_ledger::store::Database;
use audit_ledger::webhook::Source;
use audit_ledger::webhook::source::{TRADINGVIEW, WebhookSecret};
use axum_server::Handle;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::bench::{Bench, Ledger};
use crate::load::{Measured, Target};
use crate::report::{Figure, Goal};
use crate::{Error, baseline};

const SECRET: &str = "a secret for the bench only";
/// Connections of the baselines to the database; more than one for each of 64 clients only
/// makes them wait for each other.
const POOL: u32 = 64;
/// Connections at which the goals hold.
const COMPARED_AT: usize = 64;
/// Share of the closed loop's rate at which the open loop sends.
const OPEN_LOOP_SHARE: f64 = 0.5;

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

/// One of the servers that are compared.
struct Side {
    what: &'static str,
    /// Where its deliveries are, and nothing else.
    table: &'static str,
    /// Whether it is measured in open loop, too.
    has_open_loop: bool,
    target: Arc<Target>,
}

/// What one side measured at one number of connections.
#[derive(Default)]
struct Runs {
    closed: Vec<Measured>,
    open: Vec<Measured>,
}

async fn measure(bench: &Bench, args: &Args, ledger: &Ledger) -> Result<Vec<Figure>, Error> {
    let pool = PgPoolOptions::new().max_connections(POOL).connect(ledger.superuser_url()).await?;
    baseline::make_tables(&pool).await?;

    let handle = Handle::new();
    let sides = serve(ledger, &pool, &handle)?;
    let duration = Duration::from_secs(args.seconds);
    let mut figures = Vec::new();
    for &connections in &args.connections {
        let mut runs: [Runs; 3] = Default::default();
        for _ in 0..bench.common.pairs {
            for (Side { what, target, has_open_loop, .. }, runs) in sides.iter().zip(&mut runs) {
                let closed = target.closed_loop(connections, duration).await?;
                eprintln!("{connections} connections, {what}: {closed:?}");
                runs.closed.push(closed);
                if *has_open_loop {
                    let rate = closed.per_second * OPEN_LOOP_SHARE;
                    let open = target.open_loop(connections, duration, rate).await?;
                    eprintln!("{connections} connections, {what}, open loop: {open:?}");
                    runs.open.push(open);
                }
            }
        }
        for side in &sides {
            compare_committed(side, &pool).await?;
        }
        figures.extend(compare(connections, &runs));
    }
    handle.shutdown();
    pool.close().await;
    Ok(figures)
}

/// The ledger and the two baselines, in this process.
fn serve(ledger: &Ledger, pool: &PgPool, handle: &Handle<SocketAddr>) -> Result<[Side; 3], Error> {
    let secret = || WebhookSecret::new(SECRET.into()).expect("long enough");
    let source = Arc::new(Source::signed(TRADINGVIEW, vec![secret()]));
    let side = |what, table, address| {
        let target = Arc::new(Target { address, secret: secret(), next: AtomicU64::new(0) });
        Side { what, table, has_open_loop: true, target }
    };
    let (listener, address) = listen()?;
    let service = service(ledger.app()?, source.clone());
    tokio::spawn(http::serve(listener, http::router(&service, false), handle.clone()));
    let of_ledger = side("ledger", "public.signals", address);
    let baseline = |what, table, insert| {
        let (listener, address) = listen()?;
        baseline::serve(listener, pool.clone(), insert, source.clone(), handle.clone());
        Ok::<_, std::io::Error>(side(what, table, address))
    };
    let plain = baseline("plain", "baseline.plain_signals", baseline::PLAIN)?;
    let trigger = baseline("trigger", "baseline.trigger_signals", baseline::TRIGGER)?;
    Ok([of_ledger, plain, Side { has_open_loop: false, ..trigger }])
}

/// What was acknowledged is what was sent, since any other answer ends the run. All of it must be
/// there, and nothing else.
async fn compare_committed(side: &Side, pool: &PgPool) -> Result<(), Error> {
    let acknowledged = i64::try_from(side.target.next.load(Ordering::Relaxed))?;
    let count = format!("SELECT count(DISTINCT signal_id) FROM {}", side.table);
    let committed: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(pool).await?;
    if committed != acknowledged {
        let what = side.what;
        return Err(format!("{what}: {committed} of {acknowledged} are committed").into());
    }
    eprintln!("{}: all {acknowledged} that were acknowledged are committed", side.what);
    Ok(())
}

/// The ledger's runs beside those of the two baselines.
fn compare(connections: usize, [ledger, plain, trigger]: &[Runs; 3]) -> Vec<Figure> {
    let of = |runs: &[Measured], field: fn(&Measured) -> f64| -> Vec<f64> {
        runs.iter().map(field).collect()
    };
    let rate = |run: &Measured| run.per_second;
    let name = |what: &str| format!("ingest, {connections} connections, {what}");
    let rates = |beside, runs: &Runs| {
        let (ours, theirs) = (of(&ledger.closed, rate), of(&runs.closed, rate));
        Figure::paired(name("rate"), "req/s", &ours, beside, &theirs)
    };
    let latency = |what, ours: &[Measured], theirs: &[Measured], field| {
        let (ours, theirs) = (of(ours, field), of(theirs, field));
        Figure::paired(name(what), "ms", &ours, "plain INSERT", &theirs)
    };
    let p99 = |run: &Measured| run.latencies.p99_ms;
    let goal = |goal| (connections == COMPARED_AT).then_some(goal);
    let details = |ledger: &[Measured], plain: &[Measured]| serde_json::json!({ "ledger": ledger, "plain": plain });
    vec![
        rates("plain INSERT", plain)
            .with_goal(goal(Goal::RatioAtLeast(1.5)))
            .with_details(details(&ledger.closed, &plain.closed)),
        latency("p99", &ledger.closed, &plain.closed, p99).with_goal(goal(Goal::RatioAtMost(1.0))),
        rates("INSERT, row trigger", trigger).with_goal(goal(Goal::RatioAtLeast(5.0))),
        latency("half rate, p50", &ledger.open, &plain.open, |run| run.latencies.p50_ms),
        latency("half rate, p99", &ledger.open, &plain.open, p99)
            .with_goal(goal(Goal::RatioAtMost(1.0)))
            .with_details(details(&ledger.open, &plain.open)),
        latency("half rate, max", &ledger.open, &plain.open, |run| run.latencies.max_ms),
    ]
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
