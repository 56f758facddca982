//! From the moment a signal is to be sent to the answer that it is committed, at a steady rate.

use std::sync::atomic::{AtomicBool, Ordering};

use audit_ledger::clock::Clock;
use serde_json::{Value as Json, json};
use tokio::time::Duration;

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::client::{Client, Latencies};
use crate::load::open_loop;
use crate::records::Producers;
use crate::report::{Figure, Goal};
use crate::seed::count;
use crate::service::{Running, command};

/// Enough that none is busy for as long as a signal takes.
const CONNECTIONS: usize = 128;
const P999_GOAL_MS: f64 = 50.0;
/// Within this every signal is to be committed.
const WITHIN_MS: f64 = 500.0;
const ALL: Goal = Goal::AtLeast(100.0);

/// Arguments of `persistence`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Signals a second.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// For so many seconds.
    #[arg(long, default_value_t = 60)]
    duration: u64,
    /// Also on the seeded ledger, with one full check after another and one export of everything after
    /// another beside it. Adds its rows to that ledger. `all` does so anyway.
    #[arg(long)]
    with_verify: bool,
}

impl Args {
    pub(crate) fn with_verify(self) -> Self {
        Self { with_verify: true, ..self }
    }
}

pub(crate) async fn run(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let mut figures = alone(bench, args).await?;
    if args.with_verify {
        figures.extend(beside_work(bench, args).await?);
    }
    Ok(figures)
}

async fn alone(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.fresh().await?;
    let running = Running::start(bench, &ledger).await?;
    ledger.checkpoint().await?;
    let sent = send(&ledger, &running, args).await;
    running.stop().await?;
    bench.drop(ledger).await?;
    figures(args, "persistence", Some(Goal::Below(P999_GOAL_MS)), sent?, json!({}))
}

async fn beside_work(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let running = Running::start(bench, &ledger).await?;
    ledger.checkpoint().await?;
    let done = AtomicBool::new(false);
    let (sent, checks, exports) = tokio::join!(
        async {
            let sent = send(&ledger, &running, args).await;
            done.store(true, Ordering::Relaxed);
            sent
        },
        repeat_until(&done, async || check(bench, &ledger).await),
        repeat_until(&done, async || {
            running.drain("/v1/export/signal_audit_ledger?format=ndjson").await.map(drop)
        })
    );
    let peak_mb = running.peak_memory_mb();
    running.stop().await?;
    let (sent, checks, exports) = (sent?, checks?, exports?);
    eprintln!("{checks} checks and {exports} exports were finished meanwhile");
    let finished = json!({ "checks": checks, "exports": exports, "service_peak_mb": peak_mb });
    let what = "persistence beside work";
    let mut figures = figures(args, what, None, sent, finished)?;
    for (of, count) in [("checks", checks), ("exports", exports)] {
        let name = format!("{what}, {of} finished meanwhile");
        figures.push(Figure::alone(name, "", f64::from(count)));
    }
    Ok(figures)
}

fn figures(
    args: &Args,
    what: &str,
    p999_goal: Option<Goal>,
    all: Vec<f64>,
    more: Json,
) -> Result<Vec<Figure>, Error> {
    let within = all.iter().filter(|millis| **millis <= WITHIN_MS).count();
    let share = f64::from(u32::try_from(within)?) / f64::from(u32::try_from(all.len())?);
    let latencies = Latencies::of(all)?;
    let name = |of: &str| format!("{what} at {}/s for {} s, {of}", args.rate, args.duration);
    Ok(vec![
        Figure::alone(name("within 500 ms"), "%", share * 100.0)
            .with_goal(ALL)
            .with_details(json!({ "latencies": latencies }))
            .with_details(more),
        Figure::alone(name("p50"), "ms", latencies.p50_ms),
        Figure::alone(name("p99"), "ms", latencies.p99_ms),
        Figure::alone(name("p99.9"), "ms", latencies.p999_ms).with_goal(p999_goal),
        Figure::alone(name("max"), "ms", latencies.max_ms),
    ])
}

/// Sends signals at their times; returns their latencies in milliseconds. All of them must be there
/// afterwards.
async fn send(ledger: &Ledger, running: &Running, args: &Args) -> Result<Vec<f64>, Error> {
    let before = count(&mut ledger.superuser().await?).await?;
    let clock = Clock::system();
    let mut producers = Producers::new(clock.now().timestamp().unsigned_abs(), Vec::new());
    let clients = Client::connect_all(running.address, CONNECTIONS).await?;
    let requests = running.requests.clone();
    let next_request = move || {
        producers.begin_batch();
        let record = producers.record(clock.now().timestamp_micros());
        let body = record.to_json(&producers.tickers);
        requests.post("/v1/signal_audit_ledger", "application/json", &body)
    };
    let duration = Duration::from_secs(args.duration);
    let latencies = open_loop(clients, f64::from(args.rate), duration, next_request).await?;
    let committed = count(&mut ledger.superuser().await?).await? - before;
    if committed != latencies.len() as u64 {
        return Err(format!("{committed} of {} are committed", latencies.len()).into());
    }
    Ok(latencies)
}

/// Does it again and again; returns how often it was finished before everything was sent.
async fn repeat_until(
    done: &AtomicBool,
    work: impl AsyncFn() -> Result<(), Error>,
) -> Result<u32, Error> {
    let mut finished = 0;
    while !done.load(Ordering::Relaxed) {
        work().await?;
        finished += u32::from(!done.load(Ordering::Relaxed));
    }
    Ok(finished)
}

async fn check(bench: &Bench, ledger: &Ledger) -> Result<(), Error> {
    let mut check = command(bench, ledger)?;
    let ended = check.arg("verify").stdout(std::process::Stdio::null()).status().await?;
    if ended.success() {
        return Ok(());
    }
    Err(format!("audit-ledger verify ended with {ended}").into())
}
