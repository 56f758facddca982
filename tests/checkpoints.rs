//! Checkpoints: what is signed of the log, what is proved by it, and what it shows of a database that
//! somebody rewrote, cut or restored.

mod common;

#[path = "checkpoints/faults.rs"]
mod faults;
#[path = "checkpoints/growth.rs"]
mod growth;
#[path = "checkpoints/http.rs"]
mod http;
#[path = "checkpoints/incarnations.rs"]
mod incarnations;
#[path = "checkpoints/replica.rs"]
mod replica;
#[path = "checkpoints/rewrites.rs"]
mod rewrites;
#[path = "checkpoints/scene.rs"]
mod scene;
#[path = "http/server.rs"]
mod server;

use audit_ledger::appender::Appender;
use audit_ledger::chains::NewRow;
use audit_ledger::clock::Clock;
use audit_ledger::integrity::outside::Subject;
use audit_ledger::integrity::report::{Report, Verdict};
use audit_ledger::integrity::run::run_check;
use audit_ledger::integrity::verify::Scope;
use audit_ledger::integrity::watch::Quiet;
use common::builders::event;
use common::soon;

/// Appends so many events.
async fn grow(appender: &Appender, leaves: u32) {
    let rows: Vec<NewRow> = (0..leaves).map(|n| event(n).into()).collect();
    for appended in appender.append_all(rows, soon()).await {
        appended.unwrap();
    }
}

async fn check(subject: &Subject, scope: Scope) -> Report {
    let done = run_check(subject, scope, Clock::system(), &mut Quiet::default()).await.unwrap();
    done.expect("no other check is running").report
}

async fn assert_verified(subject: &Subject, scope: Scope) -> Report {
    let report = check(subject, scope).await;
    assert_eq!(report.verdict(), Verdict::Verified, "{:?}", report.chains);
    assert_eq!(report.notes, Vec::<String>::new());
    report
}
