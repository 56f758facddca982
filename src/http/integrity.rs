//! The state of the ledger, and its checks as they were recorded.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Service;
use super::auth::Authorized;
use super::page::{Page, PageParameters, Parameters};
use super::problem::{Problem, RefusedParameter, RefusedUnderV1};
use super::proofs::not_proved;
use crate::chains::rfc3339;
use crate::integrity::proofs::{Latest, ProveError};
use crate::keys::scope;
use crate::store::checkpoints::last_confirmed;
use crate::store::checks::{StoredCheck, last_checks};
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
