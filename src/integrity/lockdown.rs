//! Whether the ledger is locked down, asked of the database at most once a second.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::chains::Lockdown;
use crate::store::lockdown::current_lockdown;
use crate::store::pool::Pool;

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take: answers say that there is a lockdown, and do not wait for it.
const LIMIT: Duration = Duration::from_millis(500);

/// The lockdown in force, as this process knows it. What is refused, the database refuses: this is
/// for telling people. Clones share it.
#[derive(Clone, Debug)]
pub struct LockdownState {
    pool: Pool,
    last: Arc<Mutex<Last>>,
}

#[derive(Debug, Default)]
struct Last {
    asked: Option<Instant>,
    lockdown: Option<Lockdown>,
}

impl LockdownState {
    /// Of the ledger that this pool reads.
    pub fn of(pool: &Pool) -> Self {
        Self { pool: pool.clone(), last: Arc::default() }
    }

    /// The lockdown in force. Where the database does not answer, what was last known of it.
    pub async fn current(&self) -> Option<Lockdown> {
        let mut last = self.last.lock().await;
        if last.asked.is_some_and(|asked| asked.elapsed() < FRESH) {
            return last.lockdown.clone();
        }
        if let Ok(Ok(lockdown)) = timeout(LIMIT, current_lockdown(&self.pool)).await {
            if lockdown != last.lockdown {
                if let Some(lockdown) = &lockdown {
                    tracing::error!(%lockdown, "AUD-009: writes are refused");
                } else {
                    tracing::warn!("the lockdown was lifted");
                }
            }
            gauge!("ledger_lockdown").set(f64::from(u8::from(lockdown.is_some())));
            last.lockdown = lockdown;
        }
        last.asked = Some(Instant::now());
        last.lockdown.clone()
    }
}
