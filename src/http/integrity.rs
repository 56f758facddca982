//! Checks of the ledger: as they were recorded, and a new one.

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::Service;
use super::auth::Authorized;
use super::page::{Page, PageParameters, Parameters};
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use super::proofs::not_proved;
use crate::chains::rfc3339;
use crate::integrity::proofs::{Latest, ProveError};
use crate::integrity::run::run_check;
use crate::integrity::verify::Scope;
use crate::integrity::watch::Quiet;
use crate::keys::scope;
use crate::store::checkpoints::last_confirmed;
use crate::store::checks::{FULL, INCREMENTAL, ROLLING, StoredCheck, last_checks};
use crate::store::feed::log_size;
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
    /// What is signed of the log; null where nothing is.
    #[schema(required)]
    checkpoint: Option<CheckpointState>,
    /// Who keeps checkpoints outside the database.
    anchors: Vec<AnchorState>,
}

/// The last checkpoint.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CheckpointState {
    /// Its number.
    id: i64,
    /// The log's name.
    origin: String,
    /// 1, and one more for each time that another history was accepted.
    incarnation: i32,
    /// Leaves that it covers.
    tree_size: u64,
    /// The root over them, base64.
    root_hash: String,
    /// When it was signed.
    signed_at: String,
    /// Leaves that it does not cover yet.
    leaves_behind: u64,
    /// The keys that signed it. Whoever verifies takes them from elsewhere.
    vkeys: Vec<String>,
}

/// An anchor.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AnchorState {
    /// Its URL, without what is secret.
    anchor: String,
    /// Leaves of the last checkpoint that it confirmed; null where there is none.
    #[schema(required)]
    tree_size: Option<i64>,
    /// When that was.
    #[schema(required)]
    confirmed_at: Option<String>,
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
    let (checkpoint, anchors) = signed(&service).await?;
    Ok(Json(Integrity {
        checkpoint,
        anchors,
        locked: lockdown.is_some(),
        locked_since: lockdown.as_ref().map(|lockdown| rfc3339(lockdown.since)),
        lock_reason: lockdown.map(|lockdown| lockdown.reason),
        last_check: last_checks(&service.reads).await?,
    }))
}

async fn signed(service: &Service) -> Result<(Option<CheckpointState>, Vec<AnchorState>), Problem> {
    let outside = &service.checkpoints.outside;
    let mut connection = service.reads.acquire().await?;
    let latest = match Latest::read(&mut connection, outside).await {
        Ok(latest) => latest,
        Err(ProveError::NotCovered(_)) => return Ok((None, Vec::new())),
        Err(error) => return Err(not_proved(service, error)),
    };
    let Latest { incarnation, stored, keys } = latest;
    let log_size = u64::try_from(log_size(&service.reads).await?).unwrap_or(0);
    let mut anchors = Vec::new();
    for anchor in outside.anchors.iter() {
        let confirmed = last_confirmed(&mut *connection, anchor.name(), incarnation.id).await?;
        anchors.push(AnchorState {
            anchor: anchor.name().to_owned(),
            tree_size: confirmed.as_ref().map(|confirmed| confirmed.tree_size),
            confirmed_at: confirmed.map(|confirmed| rfc3339(confirmed.confirmed_at)),
        });
    }
    let signers = keys.signers_of(&stored.note, &incarnation.origin);
    let checkpoint = CheckpointState {
        id: stored.id,
        incarnation: incarnation.id,
        tree_size: stored.head.size.0,
        root_hash: stored.head.root.to_string(),
        signed_at: rfc3339(stored.signed_at),
        leaves_behind: log_size.saturating_sub(stored.head.size.0),
        vkeys: signers.iter().map(ToString::to_string).collect(),
        origin: incarnation.origin,
    };
    Ok((Some(checkpoint), anchors))
}

/// A check that was run.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CheckAnswer {
    /// `verified`, `tampered`, `rolled_back`, `guard_drift` or `unfinished`.
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

/// Which check is run.
#[derive(Clone, Copy, Debug)]
struct Kind(Scope);

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            FULL => Ok(Self(Scope::Ledger)),
            INCREMENTAL => Ok(Self(Scope::Incremental)),
            ROLLING => Ok(Self(Scope::Rolling)),
            _ => Err("is none of full, incremental, rolling"),
        }
    }
}

/// Checks the ledger now, and answers once that is done: where that is all of it, it takes as long as
/// reading every row does. Something that does not add up locks the ledger down.
#[utoipa::path(post, path = "/v1/integrity/checks", tag = "integrity",
    params(("kind" = Option<String>, Query, description = "`full`, which it is if not given; `incremental` \
        from the last checkpoint on; `rolling` for the next slice of what that covers.")),
    responses(
        (status = 201, description = "Checked; what was found is in the list of checks.", body = CheckAnswer),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["verify"])))]
pub(super) async fn check(
    _: Authorized<scope::Verify>,
    State(service): State<Service>,
    mut parameters: Parameters,
) -> Result<(StatusCode, Json<CheckAnswer>), Problem> {
    let Kind(scope) = parameters.take("kind")?.unwrap_or(Kind(Scope::Ledger));
    parameters.finish()?;
    // On a task of its own: who hangs up does not end a check half-way.
    let checked = tokio::spawn(async move {
        run_check(&service.subject(), scope, service.clock, &mut Quiet::default()).await
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
