//! Records in numbers: NDJSON over HTTP, chained and in the log, beside COPY of the same rows into
//! a table that has the same columns and indexes and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use audit_ledger::clock::Clock;
use audit_ledger::store::copy::{CopyEncoder, copy_columns};
use ledger_verifier::RowHash;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use ledger_verifier::row::row_hash_in;
use sqlx::PgConnection;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::records::Producers;
use crate::report::{Figure, Goal};
use crate::service::Running;

/// Records of one request, and rows of one COPY.
pub(crate) const BATCH: usize = 1000;
/// Distinguishes these records from those that are seeded.
const SEED: u64 = 2;
pub(crate) const PATH: &str = "/v1/signal_audit_ledger";
const GOAL: Goal = Goal::RatioAtLeast(0.6);

/// Two tables, so that each grows as the ledger's does.
const TABLES: &str = "
    CREATE SCHEMA baseline;
    CREATE TABLE baseline.in_batches (LIKE public.signal_audit_ledger
        INCLUDING ALL EXCLUDING CONSTRAINTS EXCLUDING COMMENTS);
    CREATE TABLE baseline.in_one_go (LIKE public.signal_audit_ledger
        INCLUDING ALL EXCLUDING CONSTRAINTS EXCLUDING COMMENTS);";

/// Arguments of `sink`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests of 1,000 records in each run.
    #[arg(long, default_value_t = 100)]
    batches: usize,
    /// Connections that send them.
    #[arg(long, default_value_t = 4)]
    senders: usize,
}

/// The same records in three forms.
struct Load {
    /// Whole HTTP requests.
    requests: Arc<Vec<Vec<u8>>>,
    /// A COPY for each of them.
    copies: Vec<Vec<u8>>,
    /// One COPY of all.
    copy: Vec<u8>,
}

/// Makes loads whose rows follow each other.
struct Loads {
    producers: Producers,
    next_id: i64,
    head: RowHash,
}

impl Loads {
    fn next(&mut self, running: &Running, batches: usize) -> Result<Load, Error> {
        let chain = &SIGNAL_AUDIT_LEDGER;
        let mut load = Load { requests: Arc::default(), copies: Vec::new(), copy: Vec::new() };
        let mut requests = Vec::with_capacity(batches);
        let mut all = CopyEncoder::new(chain);
        let mut buffer = Vec::new();
        for _ in 0..batches {
            let mut body = String::with_capacity(BATCH * 512);
            let mut encoder = CopyEncoder::new(chain);
            self.producers.begin_batch();
            for _ in 0..BATCH {
                let now = Clock::system().now().timestamp_micros();
                let record = self.producers.record(now);
                let values = record.values(&self.producers.tickers, self.next_id, now);
                let row_hash = row_hash_in(chain, self.head, &values, &mut buffer)?;
                encoder.push(&values, self.head, row_hash);
                all.push(&values, self.head, row_hash);
                body.push_str(&record.to_json(&self.producers.tickers));
                body.push('\n');
                self.head = row_hash;
                self.next_id += 1;
            }
            requests.push(running.requests.post(PATH, "application/x-ndjson", &body));
            load.copies.push(encoder.finish());
        }
        load.requests = Arc::new(requests);
        load.copy = all.finish();
        Ok(load)
    }
}

pub(crate) async fn run(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.fresh().await?;
    let running = Running::start(bench, &ledger).await?;
    let measured = measure(bench, &ledger, &running, args).await;
    let peak_mb = running.peak_memory_mb();
    running.stop().await?;
    bench.drop(ledger).await?;
    let (first, runs) = measured?;
    let details = serde_json::json!({
        "batches": args.batches, "senders": args.senders, "service_peak_mb": peak_mb,
    });
    Ok(vec![
        compare("sink, NDJSON of 1,000 over HTTP", &runs, 1).with_goal(GOAL).with_details(details),
        compare("sink, beside one COPY in one go", &runs, 2),
        compare("sink, into an empty ledger", &first, 1),
    ])
}

/// Rows a second of each run: the service's, and those of the two baselines.
type Runs = [Vec<f64>; 3];

fn compare(name: &str, runs: &Runs, baseline: usize) -> Figure {
    let beside = match baseline {
        1 => "COPY of 1,000 and COMMIT; no hash, CHECK, trigger, log",
        _ => "COPY of all rows; no hash, CHECK, trigger, log",
    };
    Figure::paired(name, "rows/s", &runs[0], beside, &runs[baseline])
}

/// The first run, into empty tables of which the server has no statistics, and the others, after
/// an ANALYZE as autovacuum does it by and by.
async fn measure(
    bench: &Bench,
    ledger: &Ledger,
    running: &Running,
    args: &Args,
) -> Result<(Runs, Runs), Error> {
    let mut superuser = ledger.superuser().await?;
    sqlx::raw_sql(TABLES).execute(&mut superuser).await?;
    let mut loads = Loads {
        producers: Producers::new(SEED, Vec::new()),
        next_id: 1,
        head: RowHash::genesis(SIGNAL_AUDIT_LEDGER.name),
    };
    let rows = f64::from(u32::try_from(args.batches * BATCH)?);
    let mut first = Runs::default();
    let mut others = Runs::default();
    for pair in 0..=bench.common.pairs {
        let runs = if pair == 0 { &mut first } else { &mut others };
        let load = loads.next(running, args.batches)?;
        ledger.checkpoint().await?;
        let started = Instant::now();
        send_all(running, &load.requests, args.senders).await?;
        runs[0].push(rows / started.elapsed().as_secs_f64());
        for (at, table, copies) in
            [(1, "in_batches", load.copies), (2, "in_one_go", vec![load.copy])]
        {
            ledger.checkpoint().await?;
            let started = Instant::now();
            copy_all(&mut superuser, table, copies).await?;
            runs[at].push(rows / started.elapsed().as_secs_f64());
        }
        eprintln!("sink: {:.0?}", runs.each_ref().map(|runs| runs.last()));
        if pair == 0 {
            sqlx::raw_sql("ANALYZE").execute(&mut superuser).await?;
        }
    }
    Ok((first, others))
}

/// Sends every request once, over so many connections.
pub(crate) async fn send_all(
    running: &Running,
    requests: &Arc<Vec<Vec<u8>>>,
    senders: usize,
) -> Result<(), Error> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..senders {
        let (requests, next) = (Arc::clone(requests), Arc::clone(&next));
        let mut client = running.connect().await?;
        clients.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = client.send(request).await?;
                let body = answer.expect(200)?;
                if !body.starts_with(format!(r#"{{"recorded":{BATCH},"#).as_bytes()) {
                    let shown = String::from_utf8_lossy(&body[..body.len().min(300)]);
                    return Err(format!("not all is recorded: {shown}").into());
                }
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(())
}

/// Each COPY is a transaction of its own.
async fn copy_all(
    connection: &mut PgConnection,
    table: &str,
    copies: Vec<Vec<u8>>,
) -> Result<(), Error> {
    let statement = format!(
        "COPY baseline.{table} ({}) FROM STDIN (FORMAT binary)",
        copy_columns(&SIGNAL_AUDIT_LEDGER)
    );
    for bytes in copies {
        let mut copy = connection.copy_in_raw(&statement).await?;
        copy.send(bytes).await?;
        copy.finish().await?;
    }
    Ok(())
}
