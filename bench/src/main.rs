//! Measures audit-ledger beside its baselines, in one run, on one PostgreSQL with fsync on, and
//! prints a table and JSON. A ratio to a baseline holds on any machine; a figure alone does not.

mod baseline;
mod bench;
mod checkpoints;
mod client;
mod copy;
mod dashboard;
mod drain;
mod export;
mod ingest;
mod load;
mod machine;
mod persistence;
mod query;
mod records;
mod replay;
mod report;
mod seed;
mod service;
mod sink;
mod stats;
mod unguarded;
mod verify;

use clap::{Parser, Subcommand};

use bench::{Bench, Common};
use report::Figure;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Measures audit-ledger beside its baselines.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everything below but `dashboard`, in this order.
    All(AllArgs),
    /// Make a ledger of a year with `--rows` rows in `--data-dir`, and check it.
    Seed,
    /// Signed webhooks a second, over HTTP, acknowledged after their commit.
    Ingest(ingest::Args),
    /// Records of producers a second, in requests of 1,000.
    Sink(sink::Args),
    /// Received to committed, at a steady rate.
    Persistence(persistence::Args),
    /// Pages of the seeded ledger, by each filter.
    Query(query::Args),
    /// Statistics of the seeded ledger, by each grouping.
    Stats,
    /// A full check of the seeded ledger.
    Verify,
    /// Exports of thirty days of the seeded ledger, and of all of it.
    Export,
    /// A replay of the seeded ledger.
    Replay,
    /// Proofs and incremental checks of the seeded ledger, and what checkpoints cost the sink.
    Checkpoints(checkpoints::Args),
    /// The dashboard on the seeded ledger, in a real browser; adds rows to that ledger.
    Dashboard(dashboard::Args),
}

#[derive(Debug, clap::Args)]
struct AllArgs {
    #[command(flatten)]
    ingest: ingest::Args,
    #[command(flatten)]
    sink: sink::Args,
    #[command(flatten)]
    query: query::Args,
    #[command(flatten)]
    persistence: persistence::Args,
    #[command(flatten)]
    checkpoints: checkpoints::Args,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let Cli { common, what } = Cli::parse();
    let bench = Bench::open(common).await?;
    let measured = tokio::select! {
        measured = measure(&bench, &what) => measured,
        // The server must not stay behind.
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    if let Some(peak_mb) = service::peak_memory_of(std::process::id()) {
        eprintln!("peak memory of the bench itself: {peak_mb:.0} MB");
    }
    let reported = measured.and_then(|figures| {
        println!("{}", report::table(&bench.machine, &figures));
        match &bench.common.json {
            Some(path) => report::write(path, &bench.machine, &figures),
            None => Ok(()),
        }
    });
    bench.close().await;
    reported
}

async fn measure(bench: &Bench, what: &What) -> Result<Vec<Figure>, Error> {
    match what {
        What::Seed => seed::run(bench).await,
        What::Ingest(args) => ingest::run(bench, args).await,
        What::Sink(args) => sink::run(bench, args).await,
        What::Persistence(args) => persistence::run(bench, args).await,
        What::Query(args) => query::run(bench, args).await,
        What::Stats => stats::run(bench).await,
        What::Verify => verify::run(bench).await,
        What::Export => export::run(bench).await,
        What::Replay => replay::run(bench).await,
        What::Checkpoints(args) => checkpoints::run(bench, args).await,
        What::Dashboard(args) => dashboard::run(bench, args).await,
        What::All(args) => {
            let mut figures = seed::run(bench).await?;
            figures.extend(query::run(bench, &args.query).await?);
            figures.extend(stats::run(bench).await?);
            figures.extend(verify::run(bench).await?);
            figures.extend(export::run(bench).await?);
            figures.extend(replay::run(bench).await?);
            figures.extend(ingest::run(bench, &args.ingest).await?);
            figures.extend(sink::run(bench, &args.sink).await?);
            // Last, since these add rows to the seeded ledger.
            figures.extend(checkpoints::run(bench, &args.checkpoints).await?);
            figures.extend(persistence::run(bench, &args.persistence.with_verify()).await?);
            Ok(figures)
        }
    }
}
