//! The dashboard in a real browser on the seeded ledger: how soon each tab shows its first content,
//! and how evenly the feed is drawn while signals come.

use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::{Duration, Instant, interval};

use crate::Error;
use crate::bench::Bench;
use crate::checkpoints::requests;
use crate::report::{Figure, Goal};
use crate::service::Running;

/// From the answer with a tab's first data to its first content, 95 of 100 times.
const CONTENT_GOAL: Goal = Goal::Below(200.0);
/// Two frames of a screen with 60 a second, and what a clock may be off.
const FRAME_GOAL: Goal = Goal::Below(34.0);
/// Signals come for so many seconds longer than is measured.
const MARGIN_S: u32 = 6;
const REQUESTS_PER_S: u32 = 20;

/// Arguments of `dashboard`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each tab is opened.
    #[arg(long, default_value_t = 40)]
    opens: usize,
    /// How long the feed is watched, in seconds.
    #[arg(long, default_value_t = 20)]
    watch_s: u32,
    /// Signals a second meanwhile.
    #[arg(long, default_value_t = 1000)]
    signals_per_s: u32,
}

/// What the browser measures of one opening of a tab.
#[derive(Debug, Deserialize)]
struct Opened {
    /// From its request to the answer with its first data, in milliseconds.
    answer: f64,
    /// From there to its first content.
    content: f64,
    /// From the request for the page to its first content.
    total: f64,
}

/// What the browser measures of the feed.
#[derive(Debug, Deserialize)]
struct Drawn {
    intervals: Vec<f64>,
    #[serde(rename = "longTasks")]
    long_tasks: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct Watched {
    quiet: Drawn,
    busy: Drawn,
    says: String,
}

pub(crate) async fn run(bench: &Bench, args: &Args) -> Result<Vec<Figure>, Error> {
    let ledger = bench.seeded().await?;
    let running = Running::start_signing(bench, &ledger).await?;
    let mut figures = tabs(&running, args).await?;
    figures.push(feed(&running, args).await?);
    running.stop().await?;
    Ok(figures)
}

async fn tabs(running: &Running, args: &Args) -> Result<Vec<Figure>, Error> {
    let mut browser = script(running, &["tabs", &args.opens.to_string()])?.spawn()?;
    let mut text = String::new();
    browser.stdout.take().ok_or("no output")?.read_to_string(&mut text).await?;
    if !browser.wait().await?.success() {
        return Err("the browser could not measure the tabs".into());
    }
    // In the order in which they were measured, which is that of the dashboard.
    let mut measured: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text)?;
    let mut figures = Vec::new();
    for tab in ["feed", "ledger", "integrity", "export"] {
        let opened = measured.remove(tab).ok_or("a tab was not measured")?;
        let opened: Vec<Opened> = serde_json::from_value(opened)?;
        let p95_of = |time: fn(&Opened) -> f64| p95(opened.iter().map(time).collect());
        let name = format!("dashboard, {tab}: first content after the answer, p95");
        let details = json!({
            "opens": opened.len(),
            "answer_p95_ms": p95_of(|opened| opened.answer),
            "from_the_first_byte_of_the_page_p95_ms": p95_of(|opened| opened.total),
        });
        let figure = Figure::alone(name, "ms", p95_of(|opened| opened.content));
        eprintln!("{}: {details}", figure.name);
        figures.push(figure.with_goal(CONTENT_GOAL).with_details(details));
    }
    Ok(figures)
}

async fn feed(running: &Running, args: &Args) -> Result<Figure, Error> {
    let mut browser = script(running, &["feed", &args.watch_s.to_string()])?.spawn()?;
    let mut lines = BufReader::new(browser.stdout.take().ok_or("no output")?).lines();
    if lines.next_line().await?.as_deref() != Some("ready") {
        return Err("the browser could not open the feed".into());
    }
    // Made before, and sent 50 in a request: who sends shares the cores with the browser.
    let batches = (args.watch_s + MARGIN_S) * REQUESTS_PER_S;
    let in_each = args.signals_per_s / REQUESTS_PER_S;
    let requests = requests(running, batches as usize, in_each as usize);
    let mut client = running.connect().await?;
    let sent = async {
        let mut input = browser.stdin.take().ok_or("no input")?;
        input.write_all(b"\n").await?;
        let mut ticks = interval(Duration::from_secs(1) / REQUESTS_PER_S);
        for request in requests.iter() {
            ticks.tick().await;
            client.send(request).await?.expect(200)?;
        }
        Ok::<_, Error>(())
    };
    let started = Instant::now();
    let timed = async { sent.await.map(|()| started.elapsed()) };
    let (took, line) = tokio::join!(timed, lines.next_line());
    let (took, line) = (took?, line?.ok_or("the browser could not measure the feed")?);
    browser.wait().await?;
    let Watched { quiet, busy, says } = serde_json::from_str(&line)?;
    eprintln!("the feed says: {says}");
    let per_s = f64::from(batches * in_each) / took.as_secs_f64();
    let details = json!({
        "signals_per_s": per_s, "says": says,
        "frames": busy.intervals.len(), "frames_without_signals": quiet.intervals.len(),
        "long_tasks": busy.long_tasks, "long_tasks_without_signals": quiet.long_tasks,
        "longest_frame_ms": busy.intervals.iter().copied().fold(0.0, f64::max),
    });
    let (busy, quiet) = (p95(busy.intervals), p95(quiet.intervals));
    let name = format!("dashboard, feed at {per_s:.0} signals/s: time between frames, p95");
    let beside = "the same page while no signal comes";
    let figure = Figure::paired(name, "ms", &[busy], beside, &[quiet]);
    Ok(figure.with_goal(FRAME_GOAL).with_details(details))
}

fn p95(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    let last = all.len().saturating_sub(1);
    all.get((all.len() * 95 / 100).min(last)).copied().unwrap_or(f64::NAN)
}

/// The browser, driven by the tests' own tools (`npm ci --prefix tests/dashboard`).
fn script(running: &Running, arguments: &[&str]) -> Result<Command, Error> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/dashboard/measure.mjs");
    if std::env::var_os("CHROMIUM").is_none() {
        return Err("CHROMIUM names no browser".into());
    }
    let mut node = Command::new("node");
    node.arg(file)
        .args(arguments)
        .env("LEDGER_URL", format!("http://{}", running.address))
        .env("LEDGER_KEY", running.requests.key())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    Ok(node)
}
