//! Quarantined deliveries, released once what was in their way is gone.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::Service;
use super::auth::Authorized;
use super::deadline::Started;
use super::page::NoParameters;
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use super::webhook::{code_of, not_recorded};
use crate::chains::Receipt;
use crate::keys::scope::Admin;
use crate::webhook::release::{ReleaseError, Released, release};

/// What a released delivery became.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReleaseAnswer {
    /// `recorded`, or `duplicate` of a signal that was recorded before.
    status: &'static str,
    /// The delivery that was released; it stays where it is.
    quarantine_id: i64,
    /// Anchor of the trade's story.
    correlation_id: Uuid,
    /// Where the signal stands in the ledger.
    receipt: Receipt,
}

/// Maps the kept bytes of a delivery again, as its source is set up now, and records the signal. The
/// delivery stays; a security event names both. After a lockdown release in the order of the ids.
#[utoipa::path(post, path = "/v1/quarantined_deliveries/{id}/release", tag = "webhooks",
    params(("id" = i64, Path, description = "The delivery's id, as in `quarantine_id`.")),
    responses(
        (status = 201, description = "Recorded.", body = ReleaseAnswer),
        (status = 200, description = "Recorded before; with the first receipt.", body = ReleaseAnswer),
        (status = 404, description = "No such delivery, or its source is not set up any more (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Its signal_id was recorded with another body (IDP-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Still no signal can be made of it (AUD-001, VAL-001, VAL-002).",
         body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "The ledger is locked down (AUD-009).",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["admin"])))]
pub(super) async fn release_delivery(
    authorized: Authorized<Admin>,
    State(service): State<Service>,
    id: Result<Path<i64>, PathRejection>,
    _: NoParameters,
    started: Started,
) -> Result<(StatusCode, Json<ReleaseAnswer>), Problem> {
    let none = || Problem::new(Code::NotFound, "there is no such delivery");
    let Ok(Path(id)) = id else { return Err(none()) };
    let deadline = started.deadline();
    let actor = authorized.caller.name.to_string();
    // On a task of its own: a client that hangs up does not leave a signal without its event.
    let released = tokio::spawn(async move {
        let Service { sources, reads, appender, clock, .. } = service;
        let source = |name: &str| sources.get(name).cloned();
        release(id, &actor, source, &reads, &appender, clock, deadline).await
    });
    let internal = |_| Problem::new(Code::Internal, "the delivery could not be handled");
    let Released { is_new, correlation_id, receipt } =
        released.await.map_err(internal)?.map_err(not_released)?;
    let (code, status) =
        if is_new { (StatusCode::CREATED, "recorded") } else { (StatusCode::OK, "duplicate") };
    Ok((code, Json(ReleaseAnswer { status, quarantine_id: id, correlation_id, receipt })))
}

fn not_released(error: ReleaseError) -> Problem {
    match error {
        ReleaseError::NoDelivery | ReleaseError::NoSource(_) | ReleaseError::Unreadable => {
            Problem::new(Code::NotFound, error.to_string())
        }
        ReleaseError::Fault(fault) => {
            let code = code_of(fault.reason);
            let problem = Problem::new(code, fault.detail).of(fault.field);
            // Of a body that was taken before: not the client's, so not a bad request.
            if matches!(code, Code::UnreadableBody) {
                return problem.with_status(StatusCode::UNPROCESSABLE_ENTITY);
            }
            problem
        }
        ReleaseError::Locked(lockdown) => Problem::locked(&lockdown),
        ReleaseError::Append(error) => not_recorded(&error),
        ReleaseError::Store(error) => error.into(),
    }
}
