//! From the moment a signal is sent to the answer that it is committed, at a steady rate.
//!
//! Open loop: each signal has its time, however slow those before it were. A connection that is
//! still busy then sends late, and the wait counts (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit_ledger::clock::Clock;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::client::{Client, Latencies};
use crate::records::Producers;
use crate::report::{Figure, Goal};
use crate::service::{Running, command};

/// Enough that none is busy for as long as a signal takes.
const CONNECTIONS: u64 = 128;
const P999_GOAL_MS: f64 = 50.0;
const MAX_GOAL_MS: f64 = 500.0;

/// Arguments of `persistence`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signals a second.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// For so many seconds.
    #[arg(long, default_value_t = 60)]
    duration: u64,
    /// On the seeded ledger, with one full check after another beside it. Adds its rows to it.
    #[arg(long)]
    with_verify: bool,
}

pub(crate) async fn run(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let mut figures = alone(bench, args).await?;
    if args.with_verify {
        figures.extend(beside_checks(bench, args).await?);
    }
    Ok(figures)
}

async fn alone(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.fresh().await?;
    let running = Running::start(bench, &ledger).await?;
    ledger.checkpoint().await?;
    let sent = send(&running, args).await;
    running.stop().await?;
    bench.drop(ledger).await?;
    figures(args, "persistence", sent?, serde_json::json!({}))
}

async fn beside_checks(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let running = Running::start(bench, &ledger).await?;
    ledger.checkpoint().await?;
    let done = AtomicBool::new(false);
    let (sent, checks) = tokio::join!(
        async {
            let sent = send(&running, args).await;
            done.store(true, Ordering::Relaxed);
            sent
        },
        check_until(bench, &ledger, &done)
    );
    running.stop().await?;
    figures(args, "persistence beside checks", sent?, serde_json::json!({ "checks": checks? }))
}

fn figures(
    args: &Args,
    what: &str,
    all: Vec<f64>,
    details: serde_json::Value,
) -> Result<Vec<Figure>, Error> {
    let latencies = Latencies::of(all)?;
    let name = |of: &str| format!("{what} at {}/s for {} s, {of}", args.rate, args.duration);
    let p999 = Figure::alone(name("p99.9"), "ms", latencies.p999_ms);
    let max = Figure::alone(name("max"), "ms", latencies.max_ms);
    let details = match details {
        serde_json::Value::Object(mut all) => {
            all.insert("latencies".to_owned(), serde_json::to_value(latencies)?);
            serde_json::Value::Object(all)
        }
        other => other,
    };
    Ok(vec![
        Figure::alone(name("p50"), "ms", latencies.p50_ms),
        Figure::alone(name("p99"), "ms", latencies.p99_ms),
        p999.with_goal(Goal::Below(P999_GOAL_MS)).with_details(details),
        max.with_goal(Goal::Below(MAX_GOAL_MS)),
    ])
}

/// Sends signals at their times; returns their latencies in milliseconds.
async fn send(running: &Running, args: &Args) -> Result<Vec<f64>, Error> {
    let mut producers =
        Producers::new(Clock::system().now().timestamp().unsigned_abs(), Vec::new());
    let total = args.rate * args.duration;
    let per_connection = total.div_ceil(CONNECTIONS);
    let step = Duration::from_secs_f64(1.0 / f64::from(u32::try_from(args.rate)?));
    let mut clients = JoinSet::new();
    // Connected before the clock starts.
    let start = Instant::now() + Duration::from_secs(1);
    for at in 0..CONNECTIONS {
        let client = running.connect().await?;
        let mut requests = Vec::new();
        for round in 0..per_connection {
            let number = u32::try_from(round * CONNECTIONS + at)?;
            producers.begin_batch();
            let record = producers.record(Clock::system().now().timestamp_micros());
            let body = record.to_json(&producers.tickers);
            let request = running.post("/v1/signal_audit_ledger", "application/json", &body);
            requests.push((start + step * number, request));
        }
        clients.spawn(send_each(client, Arc::new(requests)));
    }
    if Instant::now() > start {
        return Err("the requests were not made in time".into());
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.extend(client??);
    }
    Ok(latencies)
}

async fn send_each(
    mut client: Client,
    requests: Arc<Vec<(Instant, Vec<u8>)>>,
) -> Result<Vec<f64>, Error> {
    let mut latencies = Vec::with_capacity(requests.len());
    for (at, request) in requests.iter() {
        let is_late = Instant::now() > *at;
        sleep_until(*at).await;
        // A timer that fires late is not the service's fault; a connection that is busy is.
        let sent = if is_late { *at } else { Instant::now() };
        client.send(request).await?.expect(201)?;
        latencies.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

/// Runs full checks, one after another; returns how many began.
async fn check_until(bench: &Bench, ledger: &Ledger, done: &AtomicBool) -> Result<u32, Error> {
    let mut checks = 0;
    while !done.load(Ordering::Relaxed) {
        checks += 1;
        let mut check = command(bench, ledger)?;
        let ended = check.arg("verify").stdout(std::process::Stdio::null()).status().await?;
        if !ended.success() {
            return Err(format!("audit-ledger verify ended with {ended}").into());
        }
    }
    Ok(checks)
}
