//! A ledger of a year: rows with times of their own, which the append trigger would refuse, with
//! right hashes and links and their entries in the log.
//!
//! All of it is one transaction of a superuser, with the triggers of the two tables off and the indexes
//! of the rows gone and, before its end, there again as they were: what breaks off leaves nothing
//! behind, no guard that is off either. The CHECK of the hash stays on. In the end the ledger's own
//! check must find nothing.

use audit_ledger::appender::{Appender, BatchSettings};
use audit_ledger::chains::signals::{NewSignal, Side};
use audit_ledger::clock::Clock;
use audit_ledger::integrity::outside::Subject;
use audit_ledger::integrity::report::Verdict;
use audit_ledger::integrity::verify::{Progress, Scope, verify};
use audit_ledger::store::copy::{CopyEncoder, copy_columns};
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use ledger_verifier::row::row_hash_in;
use ledger_verifier::{Finding, RowHash};
use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::records::{Producers, Random};
use crate::report::Figure;
use crate::unguarded::lay_bare;

const SEED: u64 = 1;
const YEAR_US: u64 = 365 * 24 * 3600 * 1_000_000;
/// Webhook signals that records belong to.
const WEBHOOK_SIGNALS: usize = 1000;
/// Rows of one COPY: the server keeps an event for each until its end, for the foreign key.
const ROWS_OF_COPY: u64 = 10_000;
/// Pieces that may wait for the server.
const PIECES_AHEAD: usize = 2;
const TELL_EVERY: u64 = 500_000;

/// Makes the rows where there are none.
pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let started = Instant::now();
    let ledger = bench.seeded().await?;
    let seconds = started.elapsed().as_secs_f64();
    let rows = count(&mut ledger.superuser().await?).await?;
    let bytes: i64 = sqlx::query_scalar(
        "SELECT pg_total_relation_size('public.signal_audit_ledger')
              + pg_total_relation_size('public.ledger_log')",
    )
    .fetch_one(&mut ledger.superuser().await?)
    .await?;
    check(&ledger).await?;
    let details = serde_json::json!({ "rows": rows, "bytes": bytes });
    println!("{rows} rows, {bytes} bytes with indexes and log: everything verifies");
    Ok(vec![Figure::alone("seed, its check included", "s", seconds).with_details(details)])
}

/// Makes so many rows, unless they are there.
pub(crate) async fn ensure(ledger: &Ledger, rows: u64) -> Result<(), Error> {
    let mut connection = ledger.superuser().await?;
    let there = count(&mut connection).await?;
    if there >= rows {
        return Ok(());
    } else if there > 0 {
        return Err(
            format!("the ledger there has {there} rows, not {rows}: use another folder").into()
        );
    }
    eprintln!("making {rows} rows …");
    let started = Instant::now();
    let correlation_ids = append_webhook_signals(ledger).await?;
    fill(&mut connection, rows, correlation_ids).await?;
    eprintln!("{rows} rows in {:.0} s; checking …", started.elapsed().as_secs_f64());
    // What autovacuum would come to in the end: statistics, and pages known to be visible.
    sqlx::raw_sql("VACUUM (FREEZE, ANALYZE)").execute(&mut connection).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
    check(ledger).await
}

/// Rows of the ledger: ids have no gap.
pub(crate) async fn count(connection: &mut PgConnection) -> Result<u64, Error> {
    let last: i64 =
        sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM public.signal_audit_ledger")
            .fetch_one(connection)
            .await?;
    Ok(u64::try_from(last)?)
}

/// What records can belong to, by the usual way.
async fn append_webhook_signals(ledger: &Ledger) -> Result<Vec<Uuid>, Error> {
    let clock = Clock::system();
    let (appender, writer) = Appender::start(ledger.app()?, BatchSettings::default(), clock);
    let ids: Vec<_> = (0..WEBHOOK_SIGNALS).map(|_| clock.new_id()).collect();
    let signal = |(number, &correlation_id): (usize, &Uuid)| NewSignal {
        correlation_id,
        signal_id: format!("webhook-{number}"),
        neighbours: Vec::new(),
        symbol: "BTCUSD".to_owned(),
        side: Side::Buy,
        price: 642_505_000_000_000,
        quantity: 1_250_000_000,
        raw_payload: format!(r#"{{"signal_id":"webhook-{number}","comment":"ema cross"}}"#),
        source_ip: std::net::Ipv4Addr::LOCALHOST.into(),
        hmac_verified: true,
        auth_method: "hmac",
        recorded_by: "tradingview".to_owned(),
        received_at: clock.now(),
    };
    let signals = ids.iter().enumerate().map(signal).map(Into::into).collect();
    for appended in appender.append_all(signals, Instant::now() + Duration::from_secs(30)).await {
        appended?;
    }
    drop(appender);
    writer.await?;
    Ok(ids)
}

/// The COPY of some rows, and that of their entries in the log.
struct Chunk {
    rows: Vec<u8>,
    entries: Vec<u8>,
}

async fn fill(
    connection: &mut PgConnection,
    rows: u64,
    correlation_ids: Vec<Uuid>,
) -> Result<(), Error> {
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
    let restore = lay_bare(connection).await?;
    let first_leaf: i64 =
        sqlx::query_scalar("SELECT coalesce(max(leaf_index) + 1, 0) FROM public.ledger_log")
            .fetch_one(&mut *connection)
            .await?;
    let into_rows = format!(
        "COPY public.signal_audit_ledger ({}) FROM STDIN (FORMAT binary)",
        copy_columns(&SIGNAL_AUDIT_LEDGER)
    );
    let into_log =
        "COPY public.ledger_log (leaf_index, chain, id, row_hash) FROM STDIN (FORMAT binary)";
    let (sender, mut chunks) = mpsc::channel(PIECES_AHEAD);
    // Made on one core while the server takes it on another.
    let maker =
        tokio::task::spawn_blocking(move || make(rows, first_leaf, correlation_ids, &sender));
    let mut done = 0;
    while let Some(Chunk { rows: values, entries }) = chunks.recv().await {
        copy_in(connection, &into_rows, values).await?;
        copy_in(connection, into_log, entries).await?;
        done += ROWS_OF_COPY;
        if done % TELL_EVERY == 0 {
            eprintln!("{done} rows …");
        }
    }
    maker.await??;
    eprintln!("{rows} rows; making their indexes …");
    for statement in restore {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    sqlx::raw_sql("COMMIT").execute(connection).await?;
    Ok(())
}

async fn copy_in(
    connection: &mut PgConnection,
    statement: &str,
    bytes: Vec<u8>,
) -> Result<(), Error> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(bytes).await?;
    copy.finish().await?;
    Ok(())
}

/// Makes the rows of a year that ends now, and sends them.
fn make(
    rows: u64,
    first_leaf: i64,
    correlation_ids: Vec<Uuid>,
    to: &mpsc::Sender<Chunk>,
) -> Result<(), Error> {
    let chain = &SIGNAL_AUDIT_LEDGER;
    let mut producers = Producers::new(SEED, correlation_ids);
    let mut random = Random(SEED);
    let start = u64::try_from(Clock::system().now().timestamp_micros())? - YEAR_US - 60_000_000;
    let step = (YEAR_US / rows).max(2);
    let mut head = RowHash::genesis(chain.name);
    let mut buffer = Vec::new();
    let mut number = 0;
    while number < rows {
        let end = rows.min(number + ROWS_OF_COPY);
        let mut encoder = CopyEncoder::new(chain);
        let mut entries = log_header();
        while number < end {
            let id = i64::try_from(number)? + 1;
            // Times follow the ids: each row has a span of the year for itself.
            let created_at = i64::try_from(start + number * step + random.below(step))?;
            let received_at = created_at - 300 - i64::try_from(random.below(20_000))?;
            let record = producers.record(received_at);
            let values = record.values(&producers.tickers, id, created_at);
            let row_hash = row_hash_in(chain, head, &values, &mut buffer)?;
            encoder.push(&values, head, row_hash);
            push_entry(&mut entries, first_leaf + id - 1, id, row_hash);
            head = row_hash;
            number += 1;
        }
        entries.extend_from_slice(&(-1_i16).to_be_bytes());
        if to.blocking_send(Chunk { rows: encoder.finish(), entries }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// PostgreSQL documentation, "COPY", section "Binary Format".
fn log_header() -> Vec<u8> {
    let mut header = b"PGCOPY\n\xff\r\n\0".to_vec();
    header.extend_from_slice(&[0; 8]);
    header
}

fn push_entry(entries: &mut Vec<u8>, leaf_index: i64, id: i64, row_hash: RowHash) {
    let chain = SIGNAL_AUDIT_LEDGER.name.as_bytes();
    let (leaf_index, id) = (leaf_index.to_be_bytes(), id.to_be_bytes());
    entries.extend_from_slice(&4_i16.to_be_bytes());
    for field in [leaf_index.as_slice(), chain, &id, &row_hash.to_hex()] {
        let length = i32::try_from(field.len()).expect("short");
        entries.extend_from_slice(&length.to_be_bytes());
        entries.extend_from_slice(field);
    }
}

struct Silent;

impl Progress for Silent {
    fn compared(&mut self, _: u64, _: u64) {}

    fn found(&mut self, finding: &Finding, _: bool) {
        eprintln!("{finding}");
    }
}

/// The ledger's own check of everything, its guards included.
async fn check(ledger: &Ledger) -> Result<(), Error> {
    let run_id = Clock::system().new_id();
    let report = verify(&Subject::of(ledger.app()?), Scope::Ledger, run_id, &mut Silent).await?;
    let guards = report.guards().map_or(0, |guards| guards.rows);
    if report.verdict() != Verdict::Verified || guards == 0 {
        let errors: Vec<_> =
            report.chains.iter().filter_map(|chain| chain.error.as_ref()).collect();
        return Err(format!("the ledger does not verify: {:?} {errors:?}", report.verdict()).into());
    }
    Ok(())
}
