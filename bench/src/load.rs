//! A load generator: connections that each send one signed delivery after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use audit_ledger::webhook::auth::sign;
use audit_ledger::webhook::source::WebhookSecret;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::Error;
use crate::client::{Client, Latencies};

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
    let Latencies { count, p50_ms, p99_ms, max_ms, .. } = Latencies::of(latencies)?;
    Ok(Measured { per_second: f64::from(u32::try_from(count)?) / elapsed, p50_ms, p99_ms, max_ms })
}

/// One connection; returns its latencies in milliseconds.
async fn client(target: Arc<Target>, until: Instant) -> Result<Vec<f64>, Error> {
    let mut client = Client::connect(target.address).await?;
    let mut latencies = Vec::new();
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
        client.send(request.as_bytes()).await?.expect(201)?;
        latencies.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}
