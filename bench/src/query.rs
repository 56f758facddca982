//! Pages of `signal_audit_ledger` over HTTP, by each filter and the usual combinations: the first
//! page, and one far down.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use sqlx::{PgConnection, Row};
use tokio::time::Instant;

use crate::Error;
use crate::bench::Bench;
use crate::client::{Client, Latencies};
use crate::records::{Random, TICKERS, ticker};
use crate::report::{Figure, Goal};
use crate::service::Running;

const PATH: &str = "/v1/signal_audit_ledger";
/// Rows from which the values of filters are taken, as often as they occur.
const SAMPLE: u64 = 500;
/// A deep page begins at one tenth of the ids, so nine tenths down.
const DEPTH: i64 = 10;
const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// Arguments of `query`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests of each kind.
    #[arg(long, default_value_t = 300)]
    requests: usize,
}

/// What the values of filters are made of.
pub(crate) struct Sample {
    /// Column by column, as text, of rows that were picked at random.
    rows: Vec<Vec<Option<String>>>,
    pub(crate) last_id: i64,
    first_at: i64,
    last_at: i64,
    random: Random,
}

const COLUMNS: [&str; 10] = [
    "source_module",
    "ticker",
    "direction",
    "signal_type",
    "record_type",
    "correlation_id",
    "signal_id",
    "execution_id",
    "recorded_by",
    "row_hash",
];

impl Sample {
    pub(crate) async fn take(connection: &mut PgConnection) -> Result<Self, Error> {
        let ends = sqlx::query(
            "SELECT max(id) AS last_id,
                    (extract(epoch FROM min(created_at)) * 1e6)::bigint AS first_at,
                    (extract(epoch FROM max(created_at)) * 1e6)::bigint AS last_at
             FROM public.signal_audit_ledger",
        )
        .fetch_one(&mut *connection)
        .await?;
        let last_id: i64 = ends.try_get("last_id")?;
        let mut random = Random(7);
        let ids: Vec<_> = (0..SAMPLE)
            .map(|_| i64::try_from(random.below(last_id.unsigned_abs())).map(|id| id + 1))
            .collect::<Result<_, _>>()?;
        let columns = COLUMNS.map(|column| format!("{column}::text")).join(", ");
        let found = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {columns} FROM public.signal_audit_ledger WHERE id = ANY ($1)"
        )))
        .bind(ids)
        .fetch_all(connection)
        .await?;
        let values = |row: &sqlx::postgres::PgRow| {
            (0..COLUMNS.len()).map(|at| row.try_get(at)).collect::<Result<_, _>>()
        };
        let rows = found.iter().map(values).collect::<Result<_, _>>()?;
        let (first_at, last_at) = (ends.try_get("first_at")?, ends.try_get("last_at")?);
        Ok(Self { rows, last_id, first_at, last_at, random })
    }

    /// A parameter that filters by a column, with a value as often as it occurs.
    fn equal(&mut self, column: &str) -> String {
        let at = COLUMNS.iter().position(|name| *name == column).expect("a known column");
        let value = loop {
            if let Some(value) = &self.random.pick(&self.rows)[at] {
                break value;
            }
        };
        format!("{column}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
    }

    /// Any ticker, the rarest as often as the commonest.
    fn any_ticker(&mut self) -> String {
        let place = usize::try_from(self.random.below(TICKERS as u64)).expect("small");
        format!("ticker={}", ticker(place))
    }

    fn conviction(&mut self, from: u64, to: u64) -> u64 {
        from + self.random.below(to - from)
    }

    /// A day within the ledger's year, by these two parameters.
    pub(crate) fn day(&mut self, from: &str, to: &str) -> String {
        let span = (self.last_at - self.first_at - DAY_US).max(1).unsigned_abs();
        let start = self.first_at + i64::try_from(self.random.below(span)).expect("a year");
        let time = |micros| {
            let time = sqlx::types::chrono::DateTime::from_timestamp_micros(micros);
            audit_ledger::chains::rfc3339(time.expect("a time of this year"))
        };
        format!("{from}={}&{to}={}", time(start), time(start + DAY_US))
    }

    fn ids(&mut self) -> String {
        let from = self.random.below(self.last_id.unsigned_abs());
        format!("from_id={}&to_id={}", from + 1, from + 5_000)
    }
}

type Make = fn(&mut Sample) -> String;

/// Filters, and whether their rows go so far that a page can be far down.
const KINDS: [(&str, bool, Make); 27] = [
    ("everything", true, |_| String::new()),
    ("source_module", true, |s| s.equal("source_module")),
    ("ticker", true, |s| s.equal("ticker")),
    ("ticker, any alike", true, Sample::any_ticker),
    ("direction", true, |s| s.equal("direction")),
    ("signal_type", true, |s| s.equal("signal_type")),
    ("record_type", true, |s| s.equal("record_type")),
    ("acted_upon=true", true, |_| "acted_upon=true".to_owned()),
    ("acted_upon=false", true, |_| "acted_upon=false".to_owned()),
    ("correlation_id", true, |s| s.equal("correlation_id")),
    ("signal_id", false, |s| s.equal("signal_id")),
    ("execution_id", false, |s| s.equal("execution_id")),
    ("recorded_by", true, |s| s.equal("recorded_by")),
    ("row_hash", false, |s| s.equal("row_hash")),
    ("min_conviction from 50 to 99", true, |s| format!("min_conviction={}", s.conviction(50, 100))),
    ("min_conviction=99.9", true, |_| "min_conviction=99.9".to_owned()),
    ("max_conviction from 1 to 50", true, |s| format!("max_conviction={}", s.conviction(1, 51))),
    ("from_id, to_id of 5,000 rows", false, Sample::ids),
    ("from, to of a day", false, |s| s.day("from", "to")),
    ("timestamp of a day", false, |s| s.day("timestamp_from", "timestamp_to")),
    ("ticker, direction, min_conviction", true, |s| {
        format!(
            "{}&{}&min_conviction={}",
            s.equal("ticker"),
            s.equal("direction"),
            s.conviction(50, 90)
        )
    }),
    ("any ticker, direction, min_conviction", true, |s| {
        format!(
            "{}&{}&min_conviction={}",
            s.any_ticker(),
            s.equal("direction"),
            s.conviction(50, 90)
        )
    }),
    ("source_module, any ticker", true, |s| {
        format!("{}&{}", s.equal("source_module"), s.any_ticker())
    }),
    ("any ticker, acted_upon=true", true, |s| format!("{}&acted_upon=true", s.any_ticker())),
    ("source_module, signal_type, min_conviction", true, |s| {
        let (module, kind) = (s.equal("source_module"), s.equal("signal_type"));
        format!("{module}&{kind}&min_conviction={}", s.conviction(50, 95))
    }),
    ("any ticker, from, to of a day", false, |s| {
        format!("{}&{}", s.any_ticker(), s.day("from", "to"))
    }),
    ("any ticker, timestamp of a day", false, |s| {
        format!("{}&{}", s.any_ticker(), s.day("timestamp_from", "timestamp_to"))
    }),
];

pub(crate) async fn run(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let mut sample = Sample::take(&mut ledger.superuser().await?).await?;
    let running = Running::start(bench, &ledger).await?;
    let measured = measure(&running, &mut sample, args).await;
    running.stop().await?;
    measured
}

async fn measure(
    running: &Running,
    sample: &mut Sample,
    args: &Args,
) -> Result<Vec<Figure>, Error> {
    let goal = Goal::Below(if sample.last_id > 2_000_000 { 50.0 } else { 20.0 });
    let mut client = running.connect().await?;
    let deep = deep_cursor(running, &mut client, sample.last_id / DEPTH).await?;
    let mut figures = Vec::new();
    for (kind, has_deep, make) in KINDS {
        for cursor in [None, has_deep.then_some(&deep)].into_iter().take(1 + usize::from(has_deep))
        {
            let mut latencies = Vec::with_capacity(args.requests);
            let mut slowest = (0.0, String::new());
            for _ in 0..args.requests {
                let mut path = format!("{PATH}?{}", make(sample));
                if let Some(cursor) = cursor {
                    path = format!("{path}&cursor={cursor}");
                }
                let request = running.requests.get(&path);
                let sent = Instant::now();
                client.send(&request).await?.expect(200)?;
                let took = sent.elapsed().as_secs_f64() * 1e3;
                latencies.push(took);
                if took > slowest.0 {
                    slowest = (took, path);
                }
            }
            let latencies = Latencies::of(latencies)?;
            let page = if cursor.is_some() { "deep" } else { "first" };
            let figure = Figure::alone(format!("{kind}, {page}, p99"), "ms", latencies.p99_ms);
            let details =
                json!({ "latencies": latencies, "slowest": slowest.1, "rows": sample.last_id });
            eprintln!("{kind}, {page}: p50 {:.2} p99 {:.2} ms", latencies.p50_ms, latencies.p99_ms);
            figures.push(figure.with_goal(goal).with_details(details));
        }
    }
    Ok(figures)
}

/// The cursor behind the row of about this id, as the service itself gives it.
async fn deep_cursor(running: &Running, client: &mut Client, id: i64) -> Result<String, Error> {
    let request = running.requests.get(&format!("{PATH}?limit=1&to_id={id}"));
    let answer = client.send(&request).await?;
    let page: serde_json::Value = serde_json::from_slice(answer.expect(200)?)?;
    let cursor = page["next_cursor"].as_str().ok_or("there are too few rows for a deep page")?;
    Ok(cursor.to_owned())
}
