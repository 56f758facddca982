//! A replay of all chains over HTTP, merged in the order of the log, as fast as it goes, beside COPY
//! of the same columns of the same rows, chain after chain.

use audit_ledger::chains::IN_LEDGER;
use serde_json::json;
use tokio::time::Instant;

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::copy::{Copy, select};
use crate::report::{Figure, Goal};
use crate::service::Running;

const GOAL: Goal = Goal::RatioAtLeast(0.5);

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let running = Running::start(bench, &ledger).await?;
    let measured = measure(bench, &ledger, &running).await;
    running.stop().await?;
    measured
}

async fn measure(bench: &Bench, ledger: &Ledger, running: &Running) -> Result<Vec<Figure>, Error> {
    let copy = Copy::of(ledger).await?;
    let selects = IN_LEDGER.map(|chain| select(chain, (1, i64::MAX)));
    let (mut replays, mut baselines) = (Vec::new(), Vec::new());
    let (mut rows, mut bytes) = (0, 0);
    for pair in 0..=bench.common.pairs {
        let started = Instant::now();
        let replayed = running.drain("/v1/replay?speed=0").await?;
        let took = started.elapsed().as_secs_f64();
        let copied = copy.out(&selects).await?;
        if replayed.lines != copied.rows {
            return Err(format!("{} of {} rows are replayed", replayed.lines, copied.rows).into());
        }
        // The first pair only brings what the others read into memory.
        if pair == 0 {
            continue;
        }
        eprintln!("replay: {took:.2} s; COPY: {:.2} s", copied.seconds);
        (rows, bytes) = (copied.rows, replayed.bytes);
        let count = f64::from(u32::try_from(rows)?);
        replays.push(count / took);
        baselines.push(count / copied.seconds);
    }
    let peak_mb = running.peak_memory_mb().ok_or("the service is gone")?;
    let speed = Figure::paired("replay, speed 0, all", "rows/s", &replays, copy.name(), &baselines);
    Ok(vec![
        speed.with_goal(GOAL).with_details(json!({ "rows": rows, "bytes": bytes })),
        Figure::alone("replay, peak memory", "MB", peak_mb),
    ])
}
