//! Statistics of `signal_audit_ledger` over HTTP: each grouping, over everything and over a day.

use serde_json::json;
use tokio::time::Instant;

use crate::Error;
use crate::bench::Bench;
use crate::client::Latencies;
use crate::machine::median;
use crate::query::Sample;
use crate::report::{Figure, Goal};
use crate::service::Running;

const PATH: &str = "/v1/signal_audit_ledger/stats";
const GROUPINGS: [&str; 14] = [
    "",
    "source_module",
    "ticker",
    "direction",
    "signal_type",
    "record_type",
    "acted_upon",
    "recorded_by",
    "hour",
    "day",
    "correlation_id",
    "execution_id",
    "signal_id",
    "row_hash",
];
/// What the service is asked, in this order: it keeps the sums over everything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    EverythingAtFirst,
    EverythingAgain,
    ADay,
}

const ASKED: [Over; 3] = [Over::EverythingAtFirst, Over::EverythingAgain, Over::ADay];

impl Over {
    const fn name(self) -> &'static str {
        match self {
            Self::EverythingAtFirst => "everything, at first",
            Self::EverythingAgain => "everything, again",
            Self::ADay => "a day",
        }
    }

    /// Requests, for so many runs.
    const fn times(self, runs: usize) -> usize {
        match self {
            Self::EverythingAtFirst => 1,
            Self::EverythingAgain => runs,
            Self::ADay => runs * 5,
        }
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let mut sample = Sample::take(&mut ledger.superuser().await?).await?;
    let running = Running::start(bench, &ledger).await?;
    let measured = measure(&running, &mut sample, bench.common.pairs).await;
    running.stop().await?;
    measured
}

async fn measure(
    running: &Running,
    sample: &mut Sample,
    times: usize,
) -> Result<Vec<Figure>, Error> {
    let mut client = running.connect().await?;
    let mut figures = Vec::new();
    for grouping in GROUPINGS {
        for over in ASKED {
            let mut all = Vec::new();
            let mut failed = None;
            for _ in 0..over.times(times) {
                let day = if over == Over::ADay { sample.day("from", "to") } else { String::new() };
                let group_by = if grouping.is_empty() { "" } else { "&group_by=" };
                let request = running.requests.get(&format!("{PATH}?{day}{group_by}{grouping}"));
                let sent = Instant::now();
                let answer = client.send(&request).await?;
                // One that the service gives up on is a figure, too.
                failed = answer.expect(200).err().map(|error| error.to_string()).or(failed);
                all.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            let by = if grouping.is_empty() { "no group" } else { grouping };
            let details = json!({
                "rows": sample.last_id, "failed": failed, "latencies": Latencies::of(all.clone())?,
            });
            let figure = Figure::alone(
                format!("stats by {by} over {}", over.name()),
                "ms",
                median(&mut all),
            );
            eprintln!("{}: {:.1} ms {}", figure.name, figure.value, failed.unwrap_or_default());
            // Without a goal where there are more: reported.
            let goal = Goal::Below(if over == Over::ADay { 50.0 } else { 300.0 });
            let goal = (sample.last_id <= 2_000_000).then_some(goal);
            figures.push(figure.with_goal(goal).with_details(details));
        }
    }
    Ok(figures)
}
