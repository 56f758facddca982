//! Refusals: RFC 9457 problem details with the ledger's codes.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::IntoResponses;
use utoipa::openapi::RefOr;
use uuid::Uuid;

use crate::chains::{Lockdown, rfc3339};
use crate::store::StoreError;

tokio::task_local! {
    /// The id of the request that this task answers; the telemetry layer sets it.
    pub(super) static REQUEST_ID: Uuid;
}

/// What goes on, on a task of its own, as part of the request that this task answers.
pub(super) fn as_part_of_request<F: Future>(going_on: F) -> impl Future<Output = F::Output> {
    let id = REQUEST_ID.try_with(|id| *id).ok();
    async move {
        match id {
            Some(id) => REQUEST_ID.scope(id, going_on).await,
            None => going_on.await,
        }
    }
}

/// The codes of the ledger's refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// AUD-001: a number would lose digits.
    PrecisionLoss,
    /// AUD-008: the row that is named is not there.
    UnknownReference,
    /// AUD-009: the ledger is locked down.
    Lockdown,
    /// SEC-001: no signature.
    SignatureMissing,
    /// SEC-003: a signature that does not fit.
    SignatureWrong,
    /// SEC-004: a signature that cannot be read.
    SignatureMalformed,
    /// SEC-005: no key, or none that is in force.
    KeyMissing,
    /// SEC-006: the key lacks the scope.
    ScopeMissing,
    /// VAL-001: the body cannot be read.
    UnreadableBody,
    /// VAL-002: a field is missing or invalid.
    InvalidField,
    /// VAL-003: an unknown or unreadable parameter.
    UnreadableParameter,
    /// IDP-001: the same idempotency key, other content.
    Conflict,
    /// NTF-001: no such route or row.
    NotFound,
    /// MTH-001: the route does not have this method.
    MethodNotAllowed,
    /// LIM-001: the body is too large.
    TooLarge,
    /// LIM-002: too many requests.
    TooManyRequests,
    /// PRF-001: no checkpoint covers the row yet.
    NotCovered,
    /// SYS-001: the database is away or slow.
    Unavailable,
    /// SYS-002: anything unforeseen.
    Internal,
}

impl Code {
    /// The code's name.
    pub fn name(self) -> &'static str {
        self.parts().0
    }

    /// The status of a refusal that is not of a delivery's body, and what the code means.
    fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::PrecisionLoss => {
                ("AUD-001", StatusCode::UNPROCESSABLE_ENTITY, "A number would lose digits")
            }
            Self::UnknownReference => {
                ("AUD-008", StatusCode::UNPROCESSABLE_ENTITY, "The row that is named is not there")
            }
            Self::Lockdown => ("AUD-009", StatusCode::LOCKED, "The ledger is locked down"),
            Self::SignatureMissing => {
                ("SEC-001", StatusCode::UNAUTHORIZED, "The signature is missing")
            }
            Self::SignatureWrong => ("SEC-003", StatusCode::UNAUTHORIZED, "The signature is wrong"),
            Self::SignatureMalformed => {
                ("SEC-004", StatusCode::UNAUTHORIZED, "The signature cannot be read")
            }
            Self::KeyMissing => {
                ("SEC-005", StatusCode::UNAUTHORIZED, "The API key is missing or unknown")
            }
            Self::ScopeMissing => ("SEC-006", StatusCode::FORBIDDEN, "The API key lacks the scope"),
            Self::UnreadableBody => ("VAL-001", StatusCode::BAD_REQUEST, "The body cannot be read"),
            Self::InvalidField => {
                ("VAL-002", StatusCode::UNPROCESSABLE_ENTITY, "A field is missing or invalid")
            }
            Self::UnreadableParameter => {
                ("VAL-003", StatusCode::BAD_REQUEST, "A parameter is unknown or unreadable")
            }
            Self::Conflict => {
                ("IDP-001", StatusCode::CONFLICT, "The key is taken by other content")
            }
            Self::NotFound => ("NTF-001", StatusCode::NOT_FOUND, "There is nothing here"),
            Self::MethodNotAllowed => {
                ("MTH-001", StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed here")
            }
            Self::TooLarge => ("LIM-001", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::TooManyRequests => {
                ("LIM-002", StatusCode::TOO_MANY_REQUESTS, "Too many requests")
            }
            Self::NotCovered => ("PRF-001", StatusCode::CONFLICT, "No checkpoint covers it yet"),
            Self::Unavailable => {
                ("SYS-001", StatusCode::SERVICE_UNAVAILABLE, "The ledger cannot answer this now")
            }
            Self::Internal => {
                ("SYS-002", StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong")
            }
        }
    }
}

/// A refusal. It never repeats a secret, a payload or SQL.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(title = "Problem", description = "Why a request was refused (RFC 9457).")]
pub struct Problem {
    /// Identifies the kind of problem.
    #[serde(rename = "type")]
    kind: String,
    /// What the code means.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The ledger's code, for example `VAL-002`.
    code: &'static str,
    /// What is wrong with this request.
    detail: String,
    /// Names the request in the service's telemetry.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<Uuid>,
    /// The member or parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Why a delivery is in quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The id in `quarantined_deliveries` under which the delivery is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine_id: Option<i64>,
    /// The signal that a delivery conflicts with.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate_of: Option<Uuid>,
    /// Since when the ledger is locked down.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_since: Option<String>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A refusal with the code's own status.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (name, status, title) = code.parts();
        Self {
            kind: format!("urn:audit-ledger:problem:{name}"),
            title,
            status: status.as_u16(),
            code: name,
            detail: detail.into(),
            request_id: REQUEST_ID.try_with(|id| *id).ok(),
            field: None,
            reason: None,
            quarantine_id: None,
            duplicate_of: None,
            locked_since: None,
            retry_after_s: None,
        }
    }

    /// Whether not one row is to blame but the ledger, or its database: other rows fare the same.
    pub(super) fn is_of_everything(&self) -> bool {
        let is = |code: Code| self.code == code.name();
        is(Code::Unavailable) || is(Code::Internal) || is(Code::Lockdown)
    }

    /// With another status than the code's own.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status.as_u16();
        self
    }

    /// With the member or parameter at fault.
    #[must_use]
    pub fn of_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// With the member at fault, if it is one.
    #[must_use]
    pub(super) fn of(mut self, field: Option<String>) -> Self {
        self.field = field;
        self
    }

    /// That the ledger takes no rows.
    pub(super) fn locked(lockdown: &Lockdown) -> Self {
        let locked_since = Some(rfc3339(lockdown.since));
        Self { locked_since, ..Self::new(Code::Lockdown, lockdown.to_string()) }
    }

    /// With the delivery that was kept.
    #[must_use]
    pub fn kept_as(
        mut self,
        quarantine_id: i64,
        reason: &'static str,
        field: Option<String>,
        duplicate_of: Option<Uuid>,
    ) -> Self {
        self.quarantine_id = Some(quarantine_id);
        self.reason = Some(reason);
        self.field = field;
        self.duplicate_of = duplicate_of;
        self
    }

    /// With the seconds after which it is worth to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

/// What a route that takes parameters may be answered with, for the API's description.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "describes answers")]
pub(super) enum RefusedParameter {
    /// A parameter is unknown or unreadable (VAL-003).
    #[response(status = 400, content_type = "application/problem+json")]
    Unreadable(Problem),
}

/// What every route under `/v1` may be answered with, for the API's description.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "describes answers")]
pub(super) enum RefusedUnderV1 {
    /// No API key in force (SEC-005).
    #[response(status = 401, content_type = "application/problem+json")]
    NoKey(Problem),
    /// The key lacks the scope (SEC-006).
    #[response(status = 403, content_type = "application/problem+json")]
    NoScope(Problem),
    /// Too many requests (LIM-002).
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// Something unforeseen (SYS-002).
    #[response(status = 500, content_type = "application/problem+json")]
    Unforeseen(Problem),
    /// The database is away or slow (SYS-001): try again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// The same of a route that is for every key.
pub(super) struct RefusedWithoutKey;

impl IntoResponses for RefusedWithoutKey {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut responses = RefusedUnderV1::responses();
        responses.remove(StatusCode::FORBIDDEN.as_str());
        responses
    }
}

impl From<StoreError> for Problem {
    /// The refusal of a request for which the database did not do what it was asked. What the
    /// database said is for the telemetry alone.
    fn from(error: StoreError) -> Self {
        let request_id = REQUEST_ID.try_with(ToString::to_string).unwrap_or_default();
        if error.is_passing() {
            tracing::warn!(request_id, %error, "the database is away or slow");
            return Self::new(Code::Unavailable, "the database is away or slow").retry_after(1);
        }
        let code = error.ledger_code();
        tracing::error!(request_id, code, %error, "a request cannot be answered");
        Self::new(Code::Internal, "the request could not be handled")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after_s;
        let code = self.code;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2 wants a challenge with every 401.
            let wants_key = code == Code::KeyMissing.name();
            let challenge = if wants_key { "Bearer" } else { "HMAC-SHA256" };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.extensions_mut().insert(ProblemCode(code));
        response
    }
}

/// The code of a refusal, for the telemetry line.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProblemCode(pub(super) &'static str);

pub(super) async fn no_such_route() -> Problem {
    Problem::new(Code::NotFound, "no such route")
}

pub(super) async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{method} is not allowed on this route"))
}
