//! Load generators: connections that each send one request after another, in closed loop or at times
//! of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use audit_ledger::webhook::auth::sign;
use audit_ledger::webhook::source::WebhookSecret;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Error;
use crate::client::{Client, Latencies};

/// What one run measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Measured {
    /// Deliveries acknowledged a second.
    pub(crate) per_second: f64,
    #[serde(flatten)]
    pub(crate) latencies: Latencies,
}

impl Measured {
    fn of(latencies: Vec<f64>, elapsed: Duration) -> Result<Self, Error> {
        let latencies = Latencies::of(latencies)?;
        let per_second = f64::from(u32::try_from(latencies.count)?) / elapsed.as_secs_f64();
        Ok(Self { per_second, latencies })
    }
}

/// A server to send signed deliveries to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) secret: WebhookSecret,
    /// Numbers the deliveries of all runs, so that none is a duplicate.
    pub(crate) next: AtomicU64,
}

impl Target {
    /// A whole request with the next delivery.
    fn request(&self) -> Vec<u8> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            r#"{{"signal_id":"bench-{number}","ticker":"BTCUSD","action":"buy","close":64250.5,"contracts":0.125,"time":"2026-01-02T03:04:05Z","comment":"ema cross"}}"#
        );
        format!(
            "POST /webhook/tradingview HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             X-TradingView-Signature: {}\r\nContent-Length: {}\r\n\r\n{body}",
            sign(&self.secret, body.as_bytes()),
            body.len()
        )
        .into_bytes()
    }

    /// Sends over so many connections for so long, each waiting for its answer.
    pub(crate) async fn closed_loop(
        self: &Arc<Self>,
        connections: usize,
        duration: Duration,
    ) -> Result<Measured, Error> {
        let clients = Client::connect_all(self.address, connections).await?;
        let started = Instant::now();
        let mut running = JoinSet::new();
        for client in clients {
            running.spawn(Arc::clone(self).send_until(client, started + duration));
        }
        let latencies = joined(running).await?;
        Measured::of(latencies, started.elapsed())
    }

    /// Sends over so many connections for so long, so many a second, whatever the answers do.
    pub(crate) async fn open_loop(
        self: &Arc<Self>,
        connections: usize,
        duration: Duration,
        per_second: f64,
    ) -> Result<Measured, Error> {
        let clients = Client::connect_all(self.address, connections).await?;
        let target = Arc::clone(self);
        let started = Instant::now();
        let latencies = open_loop(clients, per_second, duration, move || target.request()).await?;
        Measured::of(latencies, started.elapsed())
    }

    /// One connection; returns its latencies in milliseconds.
    async fn send_until(
        self: Arc<Self>,
        mut client: Client,
        until: Instant,
    ) -> Result<Vec<f64>, Error> {
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let request = self.request();
            let sent = Instant::now();
            client.send(&request).await?.expect(201)?;
            latencies.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        Ok(latencies)
    }
}

/// A request, and when it is to be sent.
type Due = (Instant, Vec<u8>);

/// Sends each request at its time, over the connections in turn; returns latencies in milliseconds.
///
/// They count from the time at which a request was to be sent: one that waits for the answer to
/// another, or for a busy machine, has that wait in its latency (no coordinated omission). Any
/// answer but 201 is an error.
pub(crate) async fn open_loop(
    clients: Vec<Client>,
    per_second: f64,
    duration: Duration,
    next_request: impl FnMut() -> Vec<u8> + Send + 'static,
) -> Result<Vec<f64>, Error> {
    let mut queues = Vec::with_capacity(clients.len());
    let mut running = JoinSet::new();
    for client in clients {
        let (queue, due) = mpsc::unbounded_channel();
        queues.push(queue);
        running.spawn(send_each(client, due));
    }
    // On a thread of its own: tokio's timers fire up to a millisecond late.
    let pacing =
        tokio::task::spawn_blocking(move || pace(&queues, per_second, duration, next_request));
    let latencies = joined(running).await;
    pacing.await?;
    latencies
}

/// Hands each request over at its time. Makes it before that, so that memory holds what waits only.
fn pace(
    queues: &[mpsc::UnboundedSender<Due>],
    per_second: f64,
    duration: Duration,
    mut next_request: impl FnMut() -> Vec<u8>,
) {
    let step = Duration::from_secs_f64(1.0 / per_second);
    let start = Instant::now();
    let mut since_start = Duration::ZERO;
    for queue in queues.iter().cycle() {
        if since_start >= duration {
            return;
        }
        let request = next_request();
        let at = start + since_start;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        // Who does not take it any more has an error to tell.
        if queue.send((at, request)).is_err() {
            return;
        }
        since_start += step;
    }
}

async fn send_each(
    mut client: Client,
    mut due: mpsc::UnboundedReceiver<Due>,
) -> Result<Vec<f64>, Error> {
    let mut latencies = Vec::new();
    while let Some((at, request)) = due.recv().await {
        client.send(&request).await?.expect(201)?;
        latencies.push(at.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

/// The latencies of all connections; the first error of any.
async fn joined(mut running: JoinSet<Result<Vec<f64>, Error>>) -> Result<Vec<f64>, Error> {
    let mut latencies = Vec::new();
    while let Some(client) = running.join_next().await {
        latencies.extend(client??);
    }
    Ok(latencies)
}
