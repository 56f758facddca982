//! Whether the ledger is locked down, asked of the database at most once a second.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::chains::Lockdown;
use crate::store::lockdown::current_lockdown;
use crate::store::pool::Pool;
use crate::store::{Database, StoreError, within};

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take.
const LIMIT: Duration = Duration::from_secs(1);
/// How long after a question answers wait for what comes of it: as long as a database takes that is
/// well. Whoever comes later takes what was last known.
const GRACE: Duration = Duration::from_millis(50);

/// Whether a text is a `finding_id`, by its form.
pub fn is_finding_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
}

/// The lockdown in force, as this process knows it. What is refused, the database refuses: this is
/// for telling people. Clones share it.
#[derive(Clone, Debug)]
pub struct LockdownState {
    // A connection of its own: slow reads of others do not hide a lockdown.
    pool: Pool,
    known: Arc<watch::Sender<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Since when the database is being asked.
    asking: Option<Instant>,
    /// When it last was, with or without an answer.
    asked: Option<Instant>,
    lockdown: Option<Lockdown>,
}

impl LockdownState {
    /// Of this ledger.
    pub fn of(database: &Database) -> Self {
        Self { pool: Pool::of(database, 1), known: Arc::default() }
    }

    /// Asks the database, on a task of its own, where what is known is old and nobody asks.
    pub fn refresh(&self) {
        let begins = self.known.send_if_modified(|known| {
            let is_asking = known.asking.is_some_and(|since| since.elapsed() < 2 * LIMIT);
            let is_due = known.asked.is_none_or(|asked| asked.elapsed() >= FRESH);
            if is_due && !is_asking {
                known.asking = Some(Instant::now());
            }
            is_due && !is_asking
        });
        if begins {
            let this = self.clone();
            tokio::spawn(async move {
                let asked = within(LIMIT, "current_lockdown", current_lockdown(&this.pool));
                this.learn(asked.await);
            });
        }
    }

    fn learn(&self, answer: Result<Option<Lockdown>, StoreError>) {
        self.known.send_modify(|known| {
            known.asking = None;
            known.asked = Some(Instant::now());
            match answer {
                Ok(lockdown) => {
                    tell(known.lockdown.as_ref(), lockdown.as_ref());
                    known.lockdown = lockdown;
                }
                Err(error) => tracing::warn!(%error, "cannot see whether there is a lockdown"),
            }
        });
    }

    /// The lockdown in force. Where the database does not answer at once, what was last known.
    pub async fn current(&self) -> Option<Lockdown> {
        self.refresh();
        let mut known = self.known.subscribe();
        let asking = known.borrow().asking;
        if let Some(since) = asking {
            let answered = known.wait_for(|known| known.asking.is_none());
            let _ = timeout_at(since + GRACE, answered).await;
        }
        known.borrow().lockdown.clone()
    }
}

/// For telemetry and metrics.
fn tell(before: Option<&Lockdown>, now: Option<&Lockdown>) {
    if now != before {
        if let Some(lockdown) = now {
            tracing::error!(%lockdown, "AUD-009: writes are refused");
        } else {
            tracing::warn!("the lockdown was lifted");
        }
    }
    gauge!("ledger_lockdown").set(f64::from(u8::from(now.is_some())));
}
