//! A check from its start to its consequences: one at a time, put on record, and a lockdown where
//! something does not add up. The same for the service, its API and the command line.

use serde_json::{Value as Json, json};

use super::guards::GUARDS;
use super::outside::Subject;
use super::report::{ChainReport, Report, listed_json};
use super::verify::{Progress, Scope, verify};
use crate::appender::append_alone;
use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::clock::Clock;
use crate::store::append::AppendConnection;
use crate::store::checks::insert_checks;
use crate::store::guards::remember_drift;
use crate::store::lockdown::{Entered, enter_lockdown};
use crate::store::read::{CheckLock, try_lock_checks};
use crate::store::{Database, StoreError};

/// A check that was run.
#[derive(Clone, Debug)]
pub struct CheckDone {
    /// What it found.
    pub report: Report,
    /// What could not be done about it, for people.
    pub notes: Vec<String>,
    /// The lockdown that it entered, or found in force.
    pub lockdown: Option<Entered>,
}

/// Runs a check and does what follows from it; `None` where another one is running. Its errors are
/// those of [`Turn`].
pub async fn run_check(
    subject: &Subject,
    scope: Scope,
    clock: Clock,
    progress: &mut dyn Progress,
) -> Result<Option<CheckDone>, StoreError> {
    match Turn::take(subject.clone()).await? {
        Some(turn) => turn.run(scope, clock, progress).await.map(Some),
        None => Ok(None),
    }
}

/// A check that may run: while this lives no other one does.
#[derive(Debug)]
pub struct Turn {
    subject: Subject,
    lock: CheckLock,
}

impl Turn {
    /// Of this ledger; `None` where another check is running. An error means that the database does
    /// not say.
    pub async fn take(subject: Subject) -> Result<Option<Self>, StoreError> {
        let lock = try_lock_checks(&subject.database).await?;
        Ok(lock.map(|lock| Self { subject, lock }))
    }

    /// Runs the check and does what follows from it.
    ///
    /// An error means that no chain could be looked at. What could not be recorded is a note: the
    /// verdict stands all the same.
    pub async fn run(
        self,
        scope: Scope,
        clock: Clock,
        progress: &mut dyn Progress,
    ) -> Result<CheckDone, StoreError> {
        let report = verify(&self.subject, scope, clock.new_id(), progress).await?;
        let done = conclude(report, &self.subject.database, clock).await;
        self.lock.release().await;
        Ok(done)
    }
}

/// What follows from a report: a lockdown where something does not add up, and the record.
pub(super) async fn conclude(report: Report, database: &Database, clock: Clock) -> CheckDone {
    let mut notes = report.notes.clone();
    // Before anything else: nothing more is sealed on top of what does not add up.
    let lockdown = if report.verdict().is_refusal() {
        lock_down(&report, database, &mut notes).await
    } else {
        None
    };
    record(&report, database, clock, &mut notes).await;
    CheckDone { report, notes, lockdown }
}

async fn lock_down(
    report: &Report,
    database: &Database,
    notes: &mut Vec<String>,
) -> Option<Entered> {
    let new: Vec<Json> = of_rows(report)
        .flat_map(|chain| &chain.findings)
        .filter(|listed| !listed.acknowledged)
        .map(listed_json)
        .collect();
    let count: u64 = of_rows(report).map(ChainReport::new_findings).sum();
    let first = new.first().map_or_else(String::new, |first| {
        let text = |name: &str| first[name].as_str().unwrap_or_default().to_owned();
        format!(", the first: {} in {}, {}", text("kind"), text("chain"), text("detail"))
    });
    let findings = if count == 1 { "finding" } else { "findings" };
    let reason = format!("check {}: {count} {findings}{first}", report.run_id);
    match enter_at_last(database, &reason, &new.into()).await {
        Ok(entered) => {
            if entered.is_new {
                tracing::error!(lockdown = entered.id, reason, "AUD-009: L6 lockdown");
            }
            Some(entered)
        }
        Err(error) => {
            notes.push(format!("the ledger could not be locked down: {error}"));
            None
        }
    }
}

/// Enters the lockdown, also where somebody holds the ledger's lock for as long as he can.
async fn enter_at_last(
    database: &Database,
    reason: &str,
    findings: &Json,
) -> Result<Entered, StoreError> {
    const TRIES: u32 = 3;
    let mut tries = 0;
    loop {
        tries += 1;
        match enter_lockdown(database, reason, findings, database.user()).await {
            Err(error) if error.is_lock_timeout() && tries < TRIES => {
                tracing::error!(%error, "the ledger's lock is held: ending who holds it");
                let mut connection = AppendConnection::connect(database).await?;
                for holder in connection.end_idle_lock_holders().await? {
                    tracing::error!(holder, "ended a session that held the ledger's lock");
                }
                connection.close().await;
            }
            entered => return entered,
        }
    }
}

fn of_rows(report: &Report) -> impl Iterator<Item = &ChainReport> {
    report.chains.iter().filter(|chain| chain.chain != GUARDS)
}

/// Keeps the result, and a security event where something new does not add up.
async fn record(report: &Report, database: &Database, clock: Clock, notes: &mut Vec<String>) {
    if let Err(error) = insert_checks(database, &report.records()).await {
        notes.push(format!("the check could not be recorded: {error}"));
    }
    let guards: Vec<_> = report.guards().into_iter().collect();
    for (event_type, reports) in
        [(EventType::IntegrityFailure, of_rows(report).collect()), (EventType::GuardDrift, guards)]
    {
        let findings: u64 = reports.iter().map(|chain| chain.new_findings()).sum();
        if findings == 0 {
            continue;
        }
        let listed = reports.iter().flat_map(|chain| &chain.findings);
        let first = listed.filter(|listed| !listed.acknowledged).take(10);
        let event = NewSecurityEvent {
            event_type,
            actor: database.user().to_owned(),
            subject: Some(format!("check {}", report.run_id)),
            details: json!({
                "findings": findings,
                "first": first.map(listed_json).collect::<Vec<_>>(),
            }),
            source_ip: None,
        };
        if let Err(error) = append_alone(database, event, clock).await {
            notes.push(format!("the finding could not be recorded as a security event: {error}"));
        }
    }
    if report.guards().is_some_and(|guards| guards.rows > 0)
        && let Err(error) = remember_drift(database).await
    {
        notes.push(format!("the drift of guards could not be kept: {error}"));
    }
}
