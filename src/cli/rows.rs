//! `audit-ledger export`, `replay` and `tail`: rows for files, other programs and people.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::Failure;
use crate::appender::{Appender, BatchSettings};
use crate::chains::IN_LEDGER;
use crate::clock::Clock;
use crate::config::Config;
use crate::export::{self, Exporter, Exporting, Format, Wanted};
use crate::feed::{Feed, start_leaf};
use crate::integrity::checkpointer::Wake;
use crate::query::{Filter, add_all, filters_of};
use crate::replay::{self, ReplayedRow, Speed};
use crate::store::Database;
use crate::store::feed::{log_size, read_log_page};
use crate::store::pool::Pool;

/// Connections for reading pages.
const CONNECTIONS: u32 = 2;
/// A receiver of replayed rows that takes longer for one is given up.
const POST_WITHIN: Duration = Duration::from_secs(30);

/// Which rows.
#[derive(Debug, clap::Args)]
pub(super) struct Filters {
    /// A filter as the API has it, for example `ticker=AAPL` or `from=2026-01-01T00:00:00Z`; may be
    /// given several times.
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<String>,
}

impl Filters {
    /// For each of these chains, or for every one.
    fn of(&self, chains: &[String]) -> Result<Vec<Filter>, Failure> {
        let names = chains.iter().map(String::as_str);
        let mut filters = filters_of(names).map_err(|rule| format!("--chains: {rule}"))?;
        let given = self.filters.iter().map(|given| given.split_once('='));
        let given: Vec<_> = given.collect::<Option<_>>().ok_or("--filter: is NAME=VALUE")?;
        add_all(&mut filters, given).map_err(|(name, rule)| format!("--filter {name}: {rule}"))?;
        Ok(filters)
    }
}

fn chain_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(IN_LEDGER.map(|chain| chain.name))
}

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Which chain.
    #[arg(value_parser = chain_names())]
    chain: String,
    /// csv, json, ndjson, or bundle: a zip of a range of ids or times that proves itself.
    #[arg(long, default_value = "ndjson")]
    format: Format,
    #[command(flatten)]
    filters: Filters,
    /// Where to; standard output if not given. The file is there once it is complete.
    #[arg(long)]
    output: Option<PathBuf>,
}

pub(super) async fn export(args: Export, mut config: Config, clock: Clock) -> Result<(), Failure> {
    let filter = args.filters.of(std::slice::from_ref(&args.chain))?.pop().ok_or("no chain")?;
    let ledger = super::open(&config, clock).await?;
    // Only a bundle asks whose signatures count.
    let keys = ledger.signing_keys(&config).unwrap_or_default();
    let outside = ledger.subject(&mut config, keys.as_ref())?.outside;
    let (appender, writer) = Appender::start(ledger.app.clone(), BatchSettings::default(), clock);
    let exporter = Exporter { actor: "command line".to_owned(), source_ip: None };
    let work = async {
        let exporting = Exporting {
            database: ledger.app.clone(),
            appender: appender.clone(),
            clock,
            outside,
            wake: Wake::default(),
        };
        let wanted = Wanted { filter, format: args.format, exporter };
        let export = export::begin(&exporting, wanted).await?;
        write_export(export, args.output.as_deref()).await
    };
    let outcome = work.await;
    drop(appender);
    let _ = writer.await;
    ledger.close().await;
    outcome
}

async fn write_export(mut export: export::Export, output: Option<&Path>) -> Result<(), Failure> {
    let unfinished = output.map(|path| path.with_added_extension("unfinished"));
    let to: Box<dyn Write + Send> = match &unfinished {
        Some(path) => Box::new(
            std::fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))?,
        ),
        None => Box::new(std::io::stdout()),
    };
    let is_shown = output.is_some() && std::io::stderr().is_terminal();
    let bar = if is_shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let style = format!("{{bytes}} of {} rows  {{bytes_per_sec}}", export.total_rows);
    bar.set_style(ProgressStyle::with_template(&style)?);
    let mut to = bar.wrap_write(to);
    loop {
        match export.chunks.recv().await {
            Some(Ok(Some(chunk))) => to.write_all(&chunk)?,
            Some(Ok(None)) => break,
            Some(Err(error)) => return Err(error.into()),
            None => return Err("the export broke off".into()),
        }
    }
    to.flush()?;
    bar.finish_and_clear();
    if let (Some(path), Some(unfinished)) = (output, unfinished) {
        std::fs::File::open(&unfinished)?.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        eprintln!("{} rows in {}", export.total_rows, path.display());
    }
    Ok(())
}

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// Which chains, separated by commas; all of them if not given.
    #[arg(long, value_delimiter = ',', value_parser = chain_names())]
    chains: Vec<String>,
    /// 0 as fast as rows can be read, 1 with the time that there was between them, 60 sixty times as
    /// fast.
    #[arg(long, default_value = "0")]
    speed: Speed,
    /// The leaf with which to begin.
    #[arg(long, default_value_t = 0)]
    from_leaf: u32,
    #[command(flatten)]
    filters: Filters,
    /// Post each row to this URL, as JSON, instead of printing it. The first answer that is no
    /// success ends the replay, and is told with the leaf to go on from.
    #[arg(long, value_name = "URL")]
    to: Option<reqwest::Url>,
}

pub(super) async fn replay(args: Replay, config: &Config, clock: Clock) -> Result<(), Failure> {
    let filters = args.filters.of(&args.chains)?;
    let ledger = super::open(config, clock).await?;
    let replayed = replay_rows(&ledger.app, filters, &args).await;
    ledger.close().await;
    replayed
}

async fn replay_rows(app: &Database, filters: Vec<Filter>, args: &Replay) -> Result<(), Failure> {
    let pool = Pool::of(app, CONNECTIONS);
    let log_size = log_size(&pool).await?;
    let leaves = (args.from_leaf.into(), log_size);
    let mut replayed = replay::begin(app, &pool, filters, leaves, args.speed).await?;
    let client = reqwest::Client::builder().timeout(POST_WITHIN).build()?;
    let is_shown = args.to.is_some() && std::io::stderr().is_terminal();
    let bar = if is_shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:40} leaf {pos}/{len}  {per_sec}  {eta}")?);
    bar.set_length(u64::try_from(log_size).unwrap_or(0));
    let mut stdout = std::io::BufWriter::new(std::io::stdout());
    let mut rows: u64 = 0;
    loop {
        if replayed.is_empty() {
            stdout.flush()?;
        }
        let row = match replayed.recv().await {
            Some(Ok(Some(row))) => row,
            Some(Ok(None)) => break,
            Some(Err(error)) => return Err(error.into()),
            None => return Err("the replay broke off".into()),
        };
        let leaf = row.leaf_index;
        match &args.to {
            None => write_line(&mut stdout, &row)?,
            Some(url) => post(&client, url, row).await.map_err(|error| {
                format!("{error}; {rows} rows were taken: go on with --from-leaf {leaf}")
            })?,
        }
        rows += 1;
        bar.set_position(u64::try_from(leaf).unwrap_or(0) + 1);
    }
    stdout.flush()?;
    bar.finish_and_clear();
    if args.to.is_some() {
        eprintln!("{rows} rows were taken");
    }
    Ok(())
}

fn write_line(to: &mut impl Write, row: &ReplayedRow) -> std::io::Result<()> {
    to.write_all(&row.json)?;
    to.write_all(b"\n")
}

async fn post(
    client: &reqwest::Client,
    url: &reqwest::Url,
    row: ReplayedRow,
) -> Result<(), String> {
    let request = client
        .post(url.clone())
        .header("content-type", "application/json")
        .header("ledger-chain", row.chain)
        .header("ledger-leaf-index", row.leaf_index)
        .body(row.json);
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("{url} answered {}", answer.status())),
        Err(error) => Err(format!("{url}: {}", error.without_url())),
    }
}

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub(super) struct Tail {
    /// Which chains, separated by commas; all of them if not given.
    #[arg(long, value_delimiter = ',', value_parser = chain_names())]
    chains: Vec<String>,
    /// The leaf after which to begin; the end of the log if not given.
    #[arg(long)]
    after_leaf: Option<u32>,
    #[command(flatten)]
    filters: Filters,
}

/// Prints what is appended, until it is ended or nobody reads it.
pub(super) async fn tail(args: Tail, config: &Config, clock: Clock) -> Result<(), Failure> {
    let filters = args.filters.of(&args.chains)?;
    let ledger = super::open(config, clock).await?;
    let pool = Pool::of(&ledger.app, CONNECTIONS);
    // No commits of its own.
    let (_commits, committed) = watch::channel(0);
    let feed = Feed::start(&ledger.app, committed);
    let (mut leaf, _) = start_leaf(&pool, args.after_leaf.map(i64::from)).await?;
    let mut size = feed.size();
    let mut stdout = std::io::stdout();
    loop {
        let page = read_log_page(&pool, &filters, leaf, i64::MAX).await?;
        leaf = page.next_leaf;
        for row in &page.rows {
            write_line(&mut stdout, &row.into())?;
        }
        stdout.flush()?;
        if page.is_last {
            size.wait_for(|size| *size > leaf).await?;
        }
    }
}
