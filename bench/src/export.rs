//! Exports of `signal_audit_ledger` over HTTP, beside COPY of the same columns of the same rows.

use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use serde_json::json;
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::Error;
use crate::bench::{Bench, Ledger};
use crate::copy::{Copied, Copy, select};
use crate::drain::Drained;
use crate::report::{Figure, Goal};
use crate::service::Running;

const GOAL: Goal = Goal::RatioAtLeast(0.7);
const MEMORY_GOAL: Goal = Goal::Below(150.0);
/// Each with the lines that it has besides those of rows.
const FORMATS: [(&str, u64); 2] = [("csv", 1), ("ndjson", 0)];

/// Rows that are exported.
struct Part {
    what: &'static str,
    /// Parameters of their export.
    filter: String,
    /// From the first up to the last.
    ids: (i64, i64),
}

/// Everything that the ledger has.
const EVERYTHING: &str = "everything";

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let parts = parts(&mut ledger.superuser().await?).await?;
    let running = Running::start(bench, &ledger).await?;
    let measured = measure(bench, &ledger, &running, &parts).await;
    running.stop().await?;
    measured
}

/// Thirty days in the middle of the seeded year, where none are that other runs appended; and
/// everything, last, since the peak of the service's memory never falls.
async fn parts(connection: &mut PgConnection) -> Result<[Part; 2], Error> {
    // Times follow the ids, and no index has them: the ids are what a COPY by hand would go by.
    let (from, to, first, last, newest): (String, String, i64, i64, i64) = sqlx::query_as(
        r#"WITH days AS (
               SELECT min(created_at) + interval '165 days' AS from_time,
                      min(created_at) + interval '195 days' AS to_time, max(id) AS newest
               FROM public.signal_audit_ledger)
           SELECT to_char(from_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                  to_char(to_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                  min(t.id), max(t.id), newest
           FROM days, public.signal_audit_ledger AS t
           WHERE t.created_at >= date_trunc('second', from_time)
             AND t.created_at < date_trunc('second', to_time)
           GROUP BY from_time, to_time, newest"#,
    )
    .fetch_one(connection)
    .await?;
    Ok([
        Part { what: "30 days", filter: format!("&from={from}&to={to}"), ids: (first, last) },
        Part { what: EVERYTHING, filter: String::new(), ids: (1, newest) },
    ])
}

async fn measure(
    bench: &Bench,
    ledger: &Ledger,
    running: &Running,
    parts: &[Part],
) -> Result<Vec<Figure>, Error> {
    let copy = Copy::of(ledger).await?;
    let mut figures = Vec::new();
    for part in parts {
        let is_compared = part.what != EVERYTHING;
        let mut rows = 0;
        for (format, more_lines) in FORMATS {
            let mut pairs = Vec::new();
            if is_compared {
                // Only brings what the others read into memory.
                pair(running, &copy, part, format, more_lines).await?;
            }
            // Everything once each: that is about the memory.
            for _ in 0..if is_compared { bench.common.pairs } else { 1 } {
                pairs.push(pair(running, &copy, part, format, more_lines).await?);
            }
            rows = pairs.last().map_or(0, |pair| pair.copied.rows);
            let count = f64::from(u32::try_from(rows)?);
            let exports: Vec<_> = pairs.iter().map(|pair| count / pair.seconds).collect();
            let copies: Vec<_> = pairs.iter().map(|pair| count / pair.copied.seconds).collect();
            let bytes = pairs.last().map(|pair| pair.exported.bytes);
            let name = format!("export of {}, {format}", part.what);
            let figure = Figure::paired(name, "rows/s", &exports, copy.name(), &copies)
                .with_details(json!({ "rows": rows, "bytes": bytes }));
            figures.push(figure.with_goal(is_compared.then_some(GOAL)));
        }
        let peak_mb = running.peak_memory_mb().ok_or("the service is gone")?;
        let memory = Figure::alone(format!("export of {}, peak memory", part.what), "MB", peak_mb);
        figures.push(memory.with_goal(MEMORY_GOAL).with_details(json!({ "rows": rows })));
    }
    Ok(figures)
}

/// An export, and the COPY of its rows right after it.
struct Pair {
    exported: Drained,
    seconds: f64,
    copied: Copied,
}

async fn pair(
    running: &Running,
    copy: &Copy<'_>,
    part: &Part,
    format: &str,
    more_lines: u64,
) -> Result<Pair, Error> {
    let chain = &SIGNAL_AUDIT_LEDGER;
    let path = format!("/v1/export/{}?format={format}{}", chain.name, part.filter);
    let started = Instant::now();
    let exported = running.drain(&path).await?;
    let seconds = started.elapsed().as_secs_f64();
    let copied = copy.out(&[select(chain, part.ids)]).await?;
    eprintln!("export of {}, {format}: {seconds:.2} s; COPY: {:.2} s", part.what, copied.seconds);
    if exported.lines != copied.rows + more_lines {
        let (lines, rows) = (exported.lines, copied.rows);
        return Err(format!("{lines} lines of {format} for {rows} rows").into());
    }
    Ok(Pair { exported, seconds, copied })
}
