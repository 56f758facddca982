//! Checks of the ledger: as they were recorded, and a new one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::Service;
use super::auth::Authorized;
use super::page::{NoParameters, Page, PageParameters, Parameters};
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use crate::chains::rfc3339;
use crate::integrity::run::run_check;
use crate::integrity::verify::Scope;
use crate::integrity::watch::Quiet;
use crate::keys::scope;
use crate::store::checks::{StoredCheck, last_checks};
use crate::store::lockdown::current_lockdown;
use crate::store::past_checks::past_checks;

/// Past checks, the newest first. A run makes a row for each chain and one for the log.
#[utoipa::path(get, path = "/v1/integrity/checks", tag = "integrity",
    params(PageParameters),
    responses(
        (status = 200, description = "A page. Where there is another, `Link` names it as `next`.",
         body = Page<StoredCheck>, headers(("Link" = String))),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn checks(
    _: Authorized<scope::Read>,
    State(service): State<Service>,
    mut parameters: Parameters,
) -> Result<Page<StoredCheck>, Problem> {
    let page = parameters.page_of("integrity_checks")?;
    parameters.finish()?;
    let checks = past_checks(&service.reads, page.range()).await?;
    Ok(page.make(checks, |check| check.id))
}

/// The state of the ledger at a glance.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Integrity {
    /// Whether writes are refused (AUD-009).
    locked: bool,
    /// Since when.
    #[schema(required)]
    locked_since: Option<String>,
    /// Why.
    #[schema(required)]
    lock_reason: Option<String>,
    /// What the last check said of each chain, of the log and of the guards.
    last_check: Vec<StoredCheck>,
}

/// What the last check said, and whether the ledger is locked down.
#[utoipa::path(get, path = "/v1/integrity", tag = "integrity",
    responses(
        (status = 200, description = "The state.", body = Integrity),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn state(
    _: Authorized<scope::Read>,
    State(service): State<Service>,
    parameters: Parameters,
) -> Result<Json<Integrity>, Problem> {
    parameters.finish()?;
    let lockdown = current_lockdown(&service.reads).await?;
    Ok(Json(Integrity {
        locked: lockdown.is_some(),
        locked_since: lockdown.as_ref().map(|lockdown| rfc3339(lockdown.since)),
        lock_reason: lockdown.map(|lockdown| lockdown.reason),
        last_check: last_checks(&service.reads).await?,
    }))
}

/// A check that was run.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CheckAnswer {
    /// `verified`, `tampered`, `guard_drift` or `unfinished`.
    verdict: &'static str,
    /// Names the run in the list of checks.
    run_id: Uuid,
    /// Rows that were read.
    rows: i64,
    /// How long it took.
    duration_ms: u64,
    /// Since when the ledger is locked down, where something does not add up.
    #[schema(required)]
    locked_since: Option<String>,
    /// What could not be done, for people.
    notes: Vec<String>,
}

/// Checks the whole ledger now, and answers once that is done: it takes as long as reading every
/// row does. Something that does not add up locks the ledger down.
#[utoipa::path(post, path = "/v1/integrity/checks", tag = "integrity",
    responses(
        (status = 201, description = "Checked; what was found is in the list of checks.", body = CheckAnswer),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["verify"])))]
pub(super) async fn check(
    _: Authorized<scope::Verify>,
    State(service): State<Service>,
    _: NoParameters,
) -> Result<(StatusCode, Json<CheckAnswer>), Problem> {
    // On a task of its own: who hangs up does not end a check half-way.
    let checked = tokio::spawn(async move {
        run_check(&service.database, Scope::Ledger, service.clock, &mut Quiet::default()).await
    });
    let internal = |_| Problem::new(Code::Internal, "the check could not be run");
    let Some(done) = checked.await.map_err(internal)?? else {
        return Err(Problem::new(Code::Unavailable, "another check is running").retry_after(10));
    };
    let report = done.report;
    let answer = CheckAnswer {
        verdict: report.verdict().name(),
        run_id: report.run_id,
        rows: report.rows(),
        duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        locked_since: done.lockdown.map(|lockdown| rfc3339(lockdown.since)),
        notes: done.notes,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}
