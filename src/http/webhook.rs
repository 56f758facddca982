//! `POST /webhook/{source}`.

use axum::Extension;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

use super::deadline::Started;
use super::problem::{Code, Problem, REQUEST_ID};
use super::telemetry::ClientAddress;
use super::{Service, auth};
use crate::appender::AppendError;
use crate::body::{Fault, Reason};
use crate::chains::Receipt;
use crate::keys::Scope;
use crate::webhook::auth::{AuthError, Presented, authenticate, by_api_key};
use crate::webhook::{Delivery, Outcome, Source, record};

/// The longest `Content-Type` that is kept.
const MAX_CONTENT_TYPE_CHARS: usize = 255;

/// What became of a delivery that is a signal.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct WebhookAnswer {
    /// `recorded`, or `duplicate` of a delivery that was recorded before.
    status: &'static str,
    /// Anchor of the trade's story.
    correlation_id: Uuid,
    /// Where the signal stands in the ledger.
    receipt: Receipt,
}

/// Takes a delivery of a configured source, which proves itself by a signature over the body,
/// where one is set up, by a token in it, or by an API key with the scope `ingest`. The holder of a
/// key may send to every source, from anywhere; `recorded_by` is then the key's name.
///
/// What is authenticated is kept: as a signal, or byte for byte in `quarantined_deliveries`.
#[utoipa::path(post, path = "/webhook/{source}", tag = "webhooks",
    params(
        ("source" = String, Path, description = "Name of a configured source, for example `tradingview`."),
        ("X-TradingView-Signature" = Option<String>, Header,
         description = "Hex HMAC-SHA256 of the body; `sha256=` may stand before it. \
                        `X-Hub-Signature-256` is taken too."),
        ("webhook-id" = Option<String>, Header, description = "Standard Webhooks."),
        ("webhook-timestamp" = Option<String>, Header, description = "Standard Webhooks: seconds since 1970, within 5 minutes."),
        ("webhook-signature" = Option<String>, Header, description = "Standard Webhooks.")),
    request_body(content = Object, content_type = "application/json",
        description = "A JSON object; the content type does not matter. signal_id from `signal_id`, `id`; \
                       symbol from `symbol`, `ticker`; side from `side`, `action`, `order_action`; \
                       price from `price`, `close`, `order_price`; \
                       quantity from `quantity`, `qty`, `contracts`, `size`."),
    responses(
        (status = 201, description = "Recorded: committed before this answer.", body = WebhookAnswer),
        (status = 200, description = "Recorded before; with the first receipt.", body = WebhookAnswer),
        (status = 400, description = "The body broke off, or took longer than 10 s (VAL-001); nothing is kept.",
         body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not authenticated (SEC-001, SEC-003, SEC-004, SEC-005); nothing is kept.",
         body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope (SEC-006); nothing is kept.",
         body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such source (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The signal_id was recorded with another body (IDP-001); kept in quarantine.",
         body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large (LIM-001); nothing is kept.",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No signal can be made of the body (AUD-001, VAL-001, VAL-002); kept in quarantine.",
         body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "The ledger is locked down (AUD-009); kept in quarantine, to be released later.",
         body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests (LIM-002); nothing is kept.",
         body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "Something unforeseen (SYS-002).",
         body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is away or slow (SYS-001): send it again.",
         body = Problem, content_type = "application/problem+json")),
    // None, where the delivery is signed.
    security((), ("api_key" = ["ingest"])))]
pub(super) async fn receive(
    State(service): State<Service>,
    source: Result<Path<String>, PathRejection>,
    Extension(client): Extension<ClientAddress>,
    started: Started,
    request: Request,
) -> Result<(StatusCode, Json<WebhookAnswer>), Problem> {
    let Ok(Path(source)) = source else { return Err(no_such_source()) };
    take(&service, &source, None, (client, started), request).await
}

/// Takes a delivery of a source that can neither sign nor send headers and has a secret token in
/// its path. Use it where nothing else is possible, and keep access logs from holding the path.
///
/// The answers are those of `/webhook/{source}`.
#[utoipa::path(post, path = "/webhook/{source}/{token}", tag = "webhooks",
    params(
        ("source" = String, Path, description = "Name of a configured source."),
        ("token" = String, Path, description = "A secret of the source.")),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 201, description = "Recorded: committed before this answer.", body = WebhookAnswer),
        (status = 200, description = "Recorded before; with the first receipt.", body = WebhookAnswer),
        (status = "4XX", description = "As for `/webhook/{source}`.",
         body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "As for `/webhook/{source}`.",
         body = Problem, content_type = "application/problem+json")))]
pub(super) async fn receive_with_token(
    State(service): State<Service>,
    path: Result<Path<(String, String)>, PathRejection>,
    Extension(client): Extension<ClientAddress>,
    started: Started,
    request: Request,
) -> Result<(StatusCode, Json<WebhookAnswer>), Problem> {
    let Ok(Path((source, token))) = path else { return Err(no_such_source()) };
    take(&service, &source, Some(&token), (client, started), request).await
}

fn no_such_source() -> Problem {
    Problem::new(Code::NotFound, "no such source")
}

async fn take(
    service: &Service,
    source: &str,
    path_token: Option<&str>,
    (client, started): (ClientAddress, Started),
    request: Request,
) -> Result<(StatusCode, Json<WebhookAnswer>), Problem> {
    let source = service.sources.get(source).cloned().ok_or_else(no_such_source)?;
    // Before the body is read. A token in the path is what its route is for.
    let holder = match auth::api_key(request.headers()).filter(|_| path_token.is_none()) {
        Some(key) => Some(auth::authorize(service, Some(key), Scope::Ingest).await?.name),
        None => None,
    };
    let headers = request.headers().clone();
    let (body, deadline) = started.read_body(request, service.max_body_bytes).await?;
    let received_at = service.clock.now();
    let address = client.is_client.then_some(client.nearest);
    let presented = Presented { headers: &headers, path_token, address };
    let authenticated = match holder {
        Some(holder) => by_api_key(&source, &holder, &body).map(|by_key| (by_key, body)),
        None => authenticate(&source, presented, body, received_at),
    };
    let (authenticated, body) = authenticated.map_err(not_authenticated)?;
    let content_type = content_type(&headers, &source);
    let delivery = Delivery {
        source,
        authenticated,
        body,
        content_type,
        source_ip: client.nearest,
        received_at,
    };
    // On a task of its own: a sender that hangs up does not stop what it has sent.
    let (appender, clock) = (service.appender.clone(), service.clock);
    let recorded = tokio::spawn(async move { record(delivery, &appender, clock, deadline).await });
    match recorded.await {
        Ok(Ok(outcome)) => answer(outcome),
        Ok(Err(error)) => Err(not_recorded(&error)),
        Err(_) => Err(Problem::new(Code::Internal, "the delivery could not be handled")),
    }
}

/// The header, unless it is too long, or holds what must not be kept.
fn content_type(headers: &HeaderMap, source: &Source) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let holds_secret = source.secret_texts().iter().any(|secret| value.contains(secret));
    (value.len() <= MAX_CONTENT_TYPE_CHARS && !holds_secret).then(|| value.to_owned())
}

fn not_authenticated(error: AuthError) -> Problem {
    let code = match error {
        AuthError::Missing => Code::SignatureMissing,
        AuthError::Wrong | AuthError::Stale | AuthError::Address => Code::SignatureWrong,
        AuthError::Malformed(_) => Code::SignatureMalformed,
    };
    Problem::new(code, error.to_string())
}

/// The answer where a delivery or a row is neither recorded nor refused for what it says.
pub(super) fn not_recorded(error: &AppendError) -> Problem {
    match error {
        AppendError::Unavailable(why) => {
            Problem::new(Code::Unavailable, why.clone()).retry_after(1)
        }
        // Who sends it again will mostly meet the lockdown that follows, and is kept then.
        AppendError::Contradiction => Problem::new(Code::Internal, error.to_string()),
        AppendError::Refused { sqlstate, constraint } => {
            let id = REQUEST_ID.try_with(ToString::to_string).unwrap_or_default();
            tracing::error!(request_id = id, sqlstate, constraint, "what was sent cannot be kept");
            Problem::new(Code::Internal, "what was sent could not be kept")
        }
    }
}

fn answer(outcome: Outcome) -> Result<(StatusCode, Json<WebhookAnswer>), Problem> {
    match outcome {
        Outcome::Recorded { correlation_id, receipt } => {
            let answer = WebhookAnswer { status: "recorded", correlation_id, receipt };
            Ok((StatusCode::CREATED, Json(answer)))
        }
        Outcome::Duplicate { correlation_id, receipt } => {
            let answer = WebhookAnswer { status: "duplicate", correlation_id, receipt };
            Ok((StatusCode::OK, Json(answer)))
        }
        Outcome::Quarantined { fault, duplicate_of, lockdown, receipt } => {
            let Fault { reason, field, detail } = fault;
            let problem = lockdown.as_ref().map_or_else(
                || Problem::new(code_of(reason), detail).with_status(status_of(reason)),
                Problem::locked,
            );
            Err(problem.kept_as(receipt.id.0, reason.name(), field, duplicate_of))
        }
    }
}

/// The status of a delivery that is in quarantine.
fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::ConflictingDuplicate => StatusCode::CONFLICT,
        Reason::Lockdown => StatusCode::LOCKED,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// The code for what is wrong with a body.
pub(super) fn code_of(reason: Reason) -> Code {
    match reason {
        Reason::MalformedJson
        | Reason::NotAnObject
        | Reason::DuplicateMember
        | Reason::InvalidUtf8 => Code::UnreadableBody,
        Reason::NulCharacter | Reason::MissingField | Reason::InvalidField | Reason::TooLong => {
            Code::InvalidField
        }
        Reason::PrecisionLoss => Code::PrecisionLoss,
        Reason::ConflictingDuplicate => Code::Conflict,
        Reason::Lockdown => Code::Lockdown,
    }
}
