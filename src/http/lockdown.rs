//! The L6 lockdown: why and since when, and how it is lifted.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Service;
use super::auth::{Admitted, Authorized, bearer};
use super::deadline::Started;
use super::page::{NoParameters, Parameters};
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use crate::body::shown;
use crate::chains::rfc3339;
use crate::integrity::lockdown::is_finding_id;
use crate::keys::ApiKey;
use crate::keys::scope::{Admin, Read};
use crate::store::StoreError;
use crate::store::lockdown::{AdminProof, LockdownAnswer, confirm_lift, request_lift};

/// Says with every answer under `/v1` to a key's holder that the ledger is locked down, and since
/// when.
const LOCKDOWN: HeaderName = HeaderName::from_static("ledger-lockdown");

/// Why the ledger is locked down, since when, and which findings a lift can acknowledge.
#[utoipa::path(get, path = "/v1/lockdown", tag = "lockdown",
    responses(
        (status = 200, description = "The state.", body = LockdownAnswer),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn state(
    _: Authorized<Read>,
    State(service): State<Service>,
    parameters: Parameters,
) -> Result<Json<LockdownAnswer>, Problem> {
    parameters.finish()?;
    Ok(Json(LockdownAnswer::read(&service.reads).await?))
}

/// The two steps of a lift: a request with a reason, or the confirmation of one.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LiftBody {
    /// Why the lockdown may end. With the first step.
    #[schema(max_length = 1000)]
    reason: Option<String>,
    /// The `finding_id`s that are known from now on. They stay listed for ever and lock no more.
    #[serde(default)]
    findings: Vec<String>,
    /// The `request` that the first step was answered with. With the second step, alone.
    confirm: Option<i64>,
}

/// What a step of a lift came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct LiftAnswer {
    /// `pending` after the first step, `lifted` after the second.
    status: &'static str,
    /// What another admin confirms, or has confirmed.
    request: i64,
    /// Until when; after the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

const MAX_REASON_CHARS: usize = 1000;

/// Lifts the lockdown in two steps. The first, with a reason and the findings to acknowledge, is
/// answered 202. Within 15 minutes another admin confirms just that request with a second key. Both
/// keys must be older than the lockdown.
#[utoipa::path(post, path = "/v1/lockdown/lift", tag = "lockdown",
    request_body(content = LiftBody),
    responses(
        (status = 202, description = "Requested; another admin has to confirm.", body = LiftAnswer),
        (status = 200, description = "Lifted.", body = LiftAnswer),
        (status = 400, description = "The body cannot be read (VAL-001), or there is a parameter (VAL-003).",
         body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key may not lift this lockdown (SEC-006).",
         body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No lockdown, or no such request (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large (LIM-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field is missing or invalid, or the request is too old (VAL-002).",
         body = Problem, content_type = "application/problem+json"),
        RefusedUnderV1),
    security(("api_key" = ["admin"])))]
pub(super) async fn lift(
    _: Authorized<Admin>,
    State(service): State<Service>,
    _: NoParameters,
    headers: HeaderMap,
    started: Started,
    request: Request,
) -> Result<(StatusCode, Json<LiftAnswer>), Problem> {
    let (body, _) = started.read_body(request, service.max_body_bytes).await?;
    let body: LiftBody = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
    // Authorized, so there is one. The database checks it once more, by itself.
    let key = bearer(&headers).and_then(ApiKey::parse);
    let key = key.ok_or_else(|| Problem::new(Code::KeyMissing, "no API key"))?;
    let key_id = key.id().to_string();
    let proof = AdminProof { key_id: &key_id, secret: key.secret_bytes() };
    let invalid = |field: &str, rule: &str| {
        Err(Problem::new(Code::InvalidField, format!("{field} {rule}")).of_field(field))
    };
    if let Some(request) = body.confirm {
        if body.reason.is_some() || !body.findings.is_empty() {
            return invalid("confirm", "stands alone: what is confirmed is the request as it was");
        }
        confirm_lift(&service.database, proof, request).await.map_err(not_lifted)?;
        return Ok((
            StatusCode::OK,
            Json(LiftAnswer { status: "lifted", request, expires_at: None }),
        ));
    }
    let Some(reason) = body.reason.filter(|reason| !reason.trim().is_empty()) else {
        return invalid("reason", "is missing");
    };
    if reason.chars().count() > MAX_REASON_CHARS {
        return invalid("reason", "has more than 1000 characters");
    }
    if !body.findings.iter().all(|id| is_finding_id(id)) {
        return invalid("findings", "holds what is no finding_id of 64 hexadecimal digits");
    }
    let requested = request_lift(&service.database, proof, &reason, &body.findings)
        .await
        .map_err(not_lifted)?;
    let expires_at = Some(rfc3339(requested.expires_at));
    let answer = LiftAnswer { status: "pending", request: requested.id, expires_at };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// What is wrong with the body, and which member, where serde says so.
fn unreadable(error: &serde_json::Error) -> Problem {
    /// What serde says may repeat the body.
    const MAX_DETAIL_CHARS: usize = 200;
    let text = error.to_string();
    let detail: String = text.chars().take(MAX_DETAIL_CHARS).collect();
    let problem = Problem::new(Code::UnreadableBody, detail);
    let named = text.split_once(" field `").and_then(|(_, rest)| rest.split_once('`'));
    problem.of(named.map(|(name, _)| shown(name)))
}

/// What the database refuses starts with the ledger's code.
fn not_lifted(error: StoreError) -> Problem {
    let StoreError::Refused { message, .. } = &error else { return error.into() };
    let code = match message.split_once(": ") {
        Some(("SEC-006", _)) => Code::ScopeMissing,
        Some(("NTF-001", _)) => Code::NotFound,
        Some(("VAL-002", _)) => Code::InvalidField,
        _ => return error.into(),
    };
    let detail = message.split_once(": ").map_or("", |(_, detail)| detail);
    Problem::new(code, detail)
}

/// Says on every answer under `/v1` that there is a lockdown: what is read then may not be what
/// was recorded. Who has no key, or not the scope, is told nothing.
pub(super) async fn tell(
    State(service): State<Service>,
    mut request: Request,
    next: Next,
) -> Response {
    if !request.uri().path().starts_with("/v1/") {
        return next.run(request).await;
    }
    let admitted = Admitted::default();
    request.extensions_mut().insert(admitted.clone());
    // The database is asked while the handler works.
    service.lockdown.refresh();
    let mut response = next.run(request).await;
    if admitted.is_so()
        && let Some(lockdown) = service.lockdown.current().await
        && let Ok(since) = HeaderValue::from_str(&rfc3339(lockdown.since))
    {
        response.headers_mut().insert(LOCKDOWN, since);
    }
    response
}
