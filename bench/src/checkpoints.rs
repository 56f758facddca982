//! Checkpoints: proofs out of the seeded ledger's tiles, checks of what came since the last one, and what
//! making them costs the sink.

use std::process::Stdio;
use std::sync::Arc;

use audit_ledger::clock::Clock;
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::client::Latencies;
use crate::records::{Producers, Random};
use crate::report::{Figure, Goal};
use crate::service::{Running, signing_command};
use crate::sink::{BATCH, PATH, send_all};

const PROOF_GOAL: Goal = Goal::Below(5.0);
const INCREMENTAL_GOAL: Goal = Goal::Below(1.0);
const COST_GOAL: Goal = Goal::RatioAtLeast(0.97);
/// New rows of each incremental check: so many batches.
const NEW_BATCHES: usize = 10;
/// Proofs before those that are measured.
const WARM_UP: usize = 200;
const SENDERS: usize = 4;
const COVERED_WITHIN: Duration = Duration::from_mins(10);

/// Arguments of `checkpoints`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Proofs of rows that are picked at random.
    #[arg(long, default_value_t = 3000)]
    proofs: usize,
    /// Requests of 1,000 records in each run with and without checkpoints.
    #[arg(long, default_value_t = 200)]
    run_batches: usize,
}

pub(crate) async fn run(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let started = Instant::now();
    cover(bench, &ledger).await?;
    let took = started.elapsed().as_secs_f64();
    eprintln!("checkpoints of all there is: {took:.1} s");
    let mut figures = vec![Figure::alone("checkpoints of the seeded ledger, once", "s", took)];
    figures.push(proofs(bench, &ledger, args).await?);
    figures.push(incremental(bench, &ledger).await?);
    figures.push(cost(bench, args).await?);
    Ok(figures)
}

/// Makes checkpoints of all there is.
async fn cover(bench: &Bench, ledger: &Ledger) -> Result<(), Error> {
    let mut command = signing_command(bench, ledger)?;
    let ended = command.arg("checkpoint").stdout(Stdio::null()).status().await?;
    if ended.success() { Ok(()) } else { Err(format!("checkpoint ended with {ended}").into()) }
}

async fn proofs(bench: &Bench, ledger: &Ledger, args: &Args) -> Result<Figure, Error> {
    let last = "SELECT max(id) FROM public.signal_audit_ledger";
    let last: i64 = sqlx::query_scalar(last).fetch_one(&mut ledger.superuser().await?).await?;
    let running = Running::start_signing(bench, ledger).await?;
    let mut client = running.connect().await?;
    let mut random = Random(11);
    let mut latencies = Vec::with_capacity(args.proofs);
    for at in 0..WARM_UP + args.proofs {
        let id = random.below(last.unsigned_abs()) + 1;
        let request = running.requests.get(&format!("/v1/proofs/signal_audit_ledger/{id}"));
        let started = Instant::now();
        client.send(&request).await?.expect(200)?;
        if at >= WARM_UP {
            latencies.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    let peak_mb = running.peak_memory_mb();
    running.stop().await?;
    let latencies = Latencies::of(latencies)?;
    let details = json!({ "latencies": latencies, "rows": last, "service_peak_mb": peak_mb });
    let figure = Figure::alone("inclusion proofs over HTTP, p99", "ms", latencies.p99_ms);
    Ok(figure.with_goal(PROOF_GOAL).with_details(details))
}

/// So many requests, each with so many records that no other run has.
pub(crate) fn requests(running: &Running, batches: usize, records: usize) -> Arc<Vec<Vec<u8>>> {
    let clock = Clock::system();
    let mut producers =
        Producers::new(clock.now().timestamp_micros().unsigned_abs() >> 8, Vec::new());
    let request = |_| {
        let mut body = String::with_capacity(records * 512);
        producers.begin_batch();
        for _ in 0..records {
            let record = producers.record(clock.now().timestamp_micros());
            body.push_str(&record.to_json(&producers.tickers));
            body.push('\n');
        }
        running.requests.post(PATH, "application/x-ndjson", &body)
    };
    Arc::new((0..batches).map(request).collect())
}

/// The time of a check as a process of its own, from its start to its end.
async fn incremental(bench: &Bench, ledger: &Ledger) -> Result<Figure, Error> {
    let mut runs = Vec::new();
    for _ in 0..bench.common.pairs {
        let running = Running::start(bench, ledger).await?;
        send_all(&running, &requests(&running, NEW_BATCHES, BATCH), SENDERS).await?;
        running.stop().await?;
        let mut command = signing_command(bench, ledger)?;
        let started = Instant::now();
        let checked = command.args(["verify", "--incremental", "--json"]).output().await?;
        let took = started.elapsed().as_secs_f64();
        let report: serde_json::Value = serde_json::from_slice(&checked.stdout)?;
        let rows = report["rows"].as_u64().unwrap_or(0);
        if !checked.status.success() || rows < (NEW_BATCHES * BATCH) as u64 {
            return Err(format!("an incremental check that is none: {report}").into());
        }
        eprintln!("incremental check: {took:.3} s, {rows} rows");
        runs.push(took);
        cover(bench, ledger).await?;
    }
    let details = json!({ "runs": runs });
    let median = crate::machine::median(&mut runs);
    let figure = Figure::alone("incremental check after 10,000 rows", "s", median);
    Ok(figure.with_goal(INCREMENTAL_GOAL).with_details(details))
}

/// The sink with and without checkpoints, on the same ledger, in turns.
async fn cost(bench: &Bench, args: &Args) -> Result<Figure, Error> {
    let ledger = bench.fresh().await?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let rows = f64::from(u32::try_from(args.run_batches * BATCH)?);
    for pair in 0..=bench.common.pairs {
        // Whoever comes second writes into a larger table.
        let order = if pair % 2 == 0 { [true, false] } else { [false, true] };
        for signs in order {
            let running = if signs {
                Running::start_signing(bench, &ledger).await?
            } else {
                Running::start(bench, &ledger).await?
            };
            let requests = requests(&running, args.run_batches, BATCH);
            if signs {
                wait_until_covered(&ledger).await?;
            }
            ledger.checkpoint().await?;
            let started = Instant::now();
            send_all(&running, &requests, SENDERS).await?;
            let speed = rows / started.elapsed().as_secs_f64();
            running.stop().await?;
            if pair > 0 {
                let runs = if signs { &mut with } else { &mut without };
                runs.push(speed);
            }
            eprintln!("sink, checkpoints {signs}: {speed:.0} rows/s");
        }
        if pair == 0 {
            sqlx::raw_sql("ANALYZE").execute(&mut ledger.superuser().await?).await?;
        }
    }
    let made = "SELECT count(*) FROM public.checkpoints";
    let made: i64 = sqlx::query_scalar(made).fetch_one(&mut ledger.superuser().await?).await?;
    bench.drop(ledger).await?;
    let beside = "the same without checkpoints";
    let figure = Figure::paired("sink, with checkpoints", "rows/s", &with, beside, &without);
    Ok(figure.with_goal(COST_GOAL).with_details(json!({ "checkpoints": made })))
}

async fn wait_until_covered(ledger: &Ledger) -> Result<(), Error> {
    let mut connection = ledger.superuser().await?;
    let until = Instant::now() + COVERED_WITHIN;
    loop {
        let is_covered = "SELECT (SELECT max(tree_size) FROM public.checkpoints)
            = (SELECT max(leaf_index) + 1 FROM public.ledger_log)";
        let is_covered: Option<bool> =
            sqlx::query_scalar(is_covered).fetch_one(&mut connection).await?;
        if is_covered == Some(true) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err("no checkpoint covered the ledger in time".into());
        }
        sleep(Duration::from_millis(50)).await;
    }
}
