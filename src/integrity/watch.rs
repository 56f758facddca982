//! What the service does by itself: checks the ledger from time to time, and at once when an append
//! shows that something does not add up; records refused attempts; and looks for lockdowns that
//! others enter.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ledger_verifier::{Finding, FindingKind};
use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep};

use super::lockdown::LockdownState;
use super::outside::Subject;
use super::report::Verdict;
use super::run::run_check;
use super::verify::{Progress, Scope};
use crate::clock::Clock;
use crate::config::CheckMode;
use crate::store::StoreError;
use crate::store::checks::{FULL, ROLLING, is_check_due};
use crate::store::lockdown::record_refusals;

/// How often is looked whether a check is due: another service may have made it.
const LOOK_FOR_CHECKS: Duration = Duration::from_secs(10);
/// The least time between two checks that appends ask for.
const BETWEEN_ALARMS: Duration = Duration::from_mins(1);
/// Pause before a task that ended starts again.
const START_AGAIN_AFTER: Duration = Duration::from_secs(5);
const LOOK_FOR_REFUSALS: Duration = Duration::from_secs(5);
const LOOK_FOR_LOCKDOWNS: Duration = Duration::from_secs(1);

/// What is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The ledger, with the service's login, and what it is compared with.
    pub subject: Subject,
    /// The service's clock.
    pub clock: Clock,
    /// How often the ledger is checked, by whichever service; `None` for never.
    pub check_every: Option<Duration>,
    /// What a check looks at.
    pub check_mode: CheckMode,
    /// Told when an append shows that the ledger contradicts itself.
    pub alarm: Arc<Notify>,
    /// What is known of lockdowns.
    pub lockdown: LockdownState,
}

/// Starts to watch, on tasks of this set.
pub fn watch(tasks: &mut JoinSet<()>, watched: &Watched) {
    if watched.check_every.is_some() {
        tasks.spawn(keep_on(watched.clone(), check_on_schedule));
    }
    tasks.spawn(keep_on(watched.clone(), check_on_alarm));
    tasks.spawn(keep_on(watched.clone(), look_for_refusals));
    tasks.spawn(keep_on(watched.clone(), look_for_lockdowns));
}

/// Runs a task that never ends, and starts it again should it ever.
async fn keep_on<F: Future<Output = ()>>(watched: Watched, task: fn(Watched) -> F) {
    loop {
        if AssertUnwindSafe(task(watched.clone())).catch_unwind().await.is_err() {
            // The panic's message went to stderr with its place.
            tracing::error!("a task that watches the ledger panicked; it starts again");
        }
        sleep(START_AGAIN_AFTER).await;
    }
}

async fn check_on_schedule(watched: Watched) {
    let Some(every) = watched.check_every else { return };
    // Not at the very start: whoever has just started the service may want to check by hand.
    let between = LOOK_FOR_CHECKS.min(every);
    let mut ticks = interval_at(Instant::now() + between, between);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match is_check_due(&watched.subject.database, every, watched.kind()).await {
            Ok(true) => watched.check_by_mode().await,
            Ok(false) => {}
            Err(error) => cannot("see whether a check is due", &error),
        }
    }
}

async fn check_on_alarm(watched: Watched) {
    loop {
        watched.alarm.notified().await;
        let started = Instant::now();
        tracing::error!("an append contradicts the ledger: checking it");
        check(&watched, Scope::Ledger).await;
        // However many appends fail meanwhile, they ask for one check.
        sleep(BETWEEN_ALARMS.saturating_sub(started.elapsed())).await;
    }
}

/// Findings of a check that the service logs; all are on record.
const LOGGED_FINDINGS: u32 = 20;

/// Nobody watches a check of the service's own.
#[derive(Debug, Default)]
pub struct Quiet {
    logged: u32,
}

impl Progress for Quiet {
    fn compared(&mut self, _: u64, _: u64) {}
    fn found(&mut self, finding: &Finding, acknowledged: bool) {
        if acknowledged || self.logged == LOGGED_FINDINGS {
            return;
        }
        self.logged += 1;
        // Which guard it is; how it was and is, is SQL, and stands in the check's record.
        let mut finding = finding.clone();
        if finding.kind == FindingKind::GuardDrift
            && let Some(end) = finding.detail.find(": \"")
        {
            finding.detail.truncate(end);
        }
        tracing::error!(%finding, "the ledger does not add up");
    }
}

impl Watched {
    /// By which a check of this mode is known to have been made.
    fn kind(&self) -> &'static str {
        match self.check_mode {
            CheckMode::Full => FULL,
            CheckMode::Rolling => ROLLING,
        }
    }

    async fn check_by_mode(&self) {
        match self.check_mode {
            CheckMode::Full => check(self, Scope::Ledger).await,
            CheckMode::Rolling => {
                check(self, Scope::Incremental).await;
                check(self, Scope::Rolling).await;
            }
        }
    }
}

async fn check(watched: &Watched, scope: Scope) {
    let checked = run_check(&watched.subject, scope, watched.clock, &mut Quiet::default()).await;
    let verdict = match checked {
        Ok(None) => return,
        Ok(Some(done)) => {
            for note in &done.notes {
                tracing::warn!("{note}");
            }
            let (rows, verdict) = (done.report.rows(), done.report.verdict());
            let duration_ms = done.report.duration.as_secs_f64() * 1e3;
            tracing::info!(rows, duration_ms, verdict = verdict.name(), "checked the ledger");
            gauge!("ledger_check_seconds").set(done.report.duration.as_secs_f64());
            if verdict != Verdict::Unfinished {
                let now = watched.clock.now().timestamp();
                gauge!("ledger_last_check_timestamp_seconds").set(as_f64(now));
            }
            verdict.name()
        }
        Err(error) => {
            cannot("check the ledger", &error);
            Verdict::Unfinished.name()
        }
    };
    counter!("ledger_checks_total", "verdict" => verdict).increment(1);
}

/// Seconds since 1970 are exact in a double for many millions of years.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn as_f64(seconds: i64) -> f64 {
    seconds as f64
}

async fn look_for_refusals(Watched { subject: Subject { database, .. }, .. }: Watched) {
    let mut ticks = interval(LOOK_FOR_REFUSALS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match record_refusals(&database).await {
            Ok(0) => {}
            Ok(events) => {
                tracing::error!(events, "somebody tried to change the ledger and was refused");
                counter!("ledger_refused_changes_total").increment(events.unsigned_abs().into());
            }
            Err(error) => cannot("record refused attempts", &error),
        }
    }
}

async fn look_for_lockdowns(Watched { lockdown, .. }: Watched) {
    loop {
        lockdown.current().await;
        sleep(LOOK_FOR_LOCKDOWNS).await;
    }
}

fn cannot(what: &str, error: &StoreError) {
    tracing::warn!(%error, "cannot {what} now");
}
