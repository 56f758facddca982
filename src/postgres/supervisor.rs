//! Keeping the server running: somebody's kill -9, or the kernel's when memory runs out, must cost
//! seconds, not a person.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, Postmaster};
use super::leftovers;

/// Pauses between tries to start again: doubled from the first to the last, then for ever so.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A server that ran this long before it ended is started again at once.
const STEADY: Duration = Duration::from_mins(1);

/// The handle of the task that owns the server and the cluster's lock.
#[derive(Debug)]
pub(super) struct Supervisor {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Supervisor {
    pub(super) fn spawn(cluster: Cluster, postmaster: Postmaster) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(supervise(cluster, postmaster, stopped)) }
    }

    /// Returns when the server is gone and the lock is free.
    pub(super) async fn stop(self) {
        // Either can fail only if the task is gone already.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Ends with the server when told to, or when the handle is dropped.
async fn supervise(
    cluster: Cluster,
    mut postmaster: Postmaster,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let started = Instant::now();
        let status = tokio::select! {
            status = postmaster.wait() => status,
            _ = &mut stopped => return postmaster.shut_down().await,
        };
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::error!(
            "PostgreSQL on {} ended unexpectedly ({status}), starting it again; its last lines:\n\
             {}",
            cluster.place.pgdata.display(),
            postmaster.log_tail(),
        );
        if started.elapsed() >= STEADY {
            backoff = BACKOFF_MIN;
        }
        match start_again(&cluster, &mut backoff, &mut stopped).await {
            Some(restarted) => postmaster = restarted,
            None => return,
        }
    }
}

/// `None` when told to stop meanwhile.
async fn start_again(
    cluster: &Cluster,
    backoff: &mut Duration,
    stopped: &mut oneshot::Receiver<()>,
) -> Option<Postmaster> {
    loop {
        let result = tokio::select! {
            result = cluster.start() => result,
            _ = &mut *stopped => {
                // A server in the middle of its start was told to end when `start` was dropped:
                // wait for it, since with us goes the lock.
                if let Err(error) = leftovers::clear(&cluster.place).await {
                    tracing::error!("{error}");
                }
                return None;
            }
        };
        match result {
            Ok(postmaster) => {
                tracing::info!("PostgreSQL runs again on {}", cluster.place.pgdata.display());
                return Some(postmaster);
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "PostgreSQL does not start, trying again in {backoff:?}");
            }
        }
        tokio::select! {
            () = sleep(*backoff) => {}
            _ = &mut *stopped => return None,
        }
        *backoff = (*backoff * 2).min(BACKOFF_MAX);
    }
}
