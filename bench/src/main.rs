//! Measures audit-ledger beside its baselines, in one run, on one PostgreSQL with fsync on, and
//! prints a table and JSON. A ratio to a baseline holds on any machine; a figure alone does not.

mod baseline;
mod ingest;
mod load;
mod machine;

use clap::{Parser, Subcommand};

/// Measures audit-ledger beside its baselines.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Debug, Subcommand)]
enum Figure {
    /// Signed webhooks a second, over HTTP, acknowledged after their commit.
    Ingest(ingest::Args),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match Cli::parse().figure {
        Figure::Ingest(args) => ingest::run(&args).await,
    }
}
