//! A load generator: connections that each send one signed delivery after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use audit_ledger::webhook::auth::sign;
use audit_ledger::webhook::source::WebhookSecret;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What one run measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Measured {
    /// Deliveries acknowledged a second.
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// A server to send to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) secret: WebhookSecret,
    /// Numbers the deliveries of all runs, so that none is a duplicate.
    pub(crate) next: AtomicU64,
}

/// Sends over so many connections for so long, each waiting for its answer (closed loop). Any
/// answer but 201 is an error.
pub(crate) async fn closed_loop(
    target: &Arc<Target>,
    connections: usize,
    duration: Duration,
) -> Result<Measured, Error> {
    let started = Instant::now();
    let until = started + duration;
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        clients.spawn(client(Arc::clone(target), until));
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.extend(client??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    if latencies.is_empty() {
        return Err("no delivery was answered".into());
    }
    let at =
        |per_mille: usize| latencies[(latencies.len() * per_mille / 1000).min(latencies.len() - 1)];
    Ok(Measured {
        per_second: f64::from(u32::try_from(latencies.len())?) / elapsed,
        p50_ms: at(500),
        p99_ms: at(990),
        max_ms: at(1000),
    })
}

/// One connection; returns its latencies in milliseconds.
async fn client(target: Arc<Target>, until: Instant) -> Result<Vec<f64>, Error> {
    let mut stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(2048);
    while Instant::now() < until {
        let number = target.next.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            r#"{{"signal_id":"bench-{number}","ticker":"BTCUSD","action":"buy","close":64250.5,"contracts":0.125,"time":"2026-01-02T03:04:05Z","comment":"ema cross"}}"#
        );
        let request = format!(
            "POST /webhook/tradingview HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             X-TradingView-Signature: {}\r\nContent-Length: {}\r\n\r\n{body}",
            sign(&target.secret, body.as_bytes()),
            body.len()
        );
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream, &mut answer).await?;
        latencies.push(sent.elapsed().as_secs_f64() * 1e3);
        if !answer.starts_with(b"HTTP/1.1 201") {
            return Err(String::from_utf8_lossy(&answer).into_owned().into());
        }
    }
    Ok(latencies)
}

/// Reads one answer with a Content-Length.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), Error> {
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            return Err("the server closed the connection".into());
        }
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse().ok())
            .ok_or("an answer without content-length")?;
        if answer.len() >= end + 4 + length {
            return Ok(());
        }
    }
}
