//! A full check as its own process, beside COPY of the same columns out of the database by one
//! connection, read and dropped.

use std::process::Stdio;

use audit_ledger::store::copy::copy_columns;
use futures_util::TryStreamExt;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::report::{Figure, Goal};
use crate::service::{command, peak_memory_mb};

const GOAL: Goal = Goal::RatioAtLeast(0.9);
const MEMORY_GOAL: Goal = Goal::Below(200.0);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let (mut checks, mut copies, mut peak_mb) = (Vec::new(), Vec::new(), 0.0_f64);
    let mut rows = 0;
    for pair in 0..=bench.common.pairs {
        let started = Instant::now();
        let peak = check(bench, &ledger).await?;
        let checked = started.elapsed().as_secs_f64();
        let started = Instant::now();
        rows = copy_out(&ledger).await?;
        let copy_took = started.elapsed().as_secs_f64();
        // The first pair only brings what the others read into memory.
        if pair == 0 {
            continue;
        }
        let count = f64::from(u32::try_from(rows)?);
        eprintln!("verify: {checked:.2} s, {peak:.0} MB; COPY: {copy_took:.2} s");
        checks.push(count / checked);
        copies.push(count / copy_took);
        peak_mb = peak_mb.max(peak);
    }
    let beside = "COPY … TO STDOUT (FORMAT binary), one connection, dropped";
    let speed = Figure::paired("full check", "rows/s", &checks, beside, &copies);
    let memory = Figure::alone("full check, peak memory", "MB", peak_mb);
    Ok(vec![
        speed.with_goal(GOAL).with_details(json!({ "rows": rows })),
        memory.with_goal(MEMORY_GOAL),
    ])
}

/// Runs a check to its end; returns the most memory that it was seen to have, in MB.
async fn check(bench: &Bench, ledger: &Ledger) -> Result<f64, Error> {
    let mut child = command(bench, ledger)?
        .args(["verify", "--full", "--json"])
        .stdout(Stdio::null())
        .spawn()?;
    let mut peak_mb = 0.0_f64;
    loop {
        if let Some(ended) = child.try_wait()? {
            return if ended.success() {
                Ok(peak_mb)
            } else {
                Err(format!("audit-ledger verify ended with {ended}").into())
            };
        }
        peak_mb = peak_mb.max(peak_memory_mb(&child).unwrap_or(0.0));
        sleep(LOOK_EVERY).await;
    }
}

/// Reads every row and drops it; returns how many there were.
async fn copy_out(ledger: &Ledger) -> Result<usize, Error> {
    let statement = format!(
        "COPY public.{} ({}) TO STDOUT (FORMAT binary)",
        SIGNAL_AUDIT_LEDGER.name,
        copy_columns(&SIGNAL_AUDIT_LEDGER)
    );
    let mut connection = ledger.superuser().await?;
    let mut messages = connection.copy_out_raw(&statement).await?;
    let mut count = 0;
    while messages.try_next().await?.is_some() {
        count += 1;
    }
    // One message for each row, and one for the end mark.
    Ok(count - 1)
}
