//! Rows as they are: written by services, read by everybody with a key.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use ledger_verifier::Chain;
use serde::Serialize;
use serde_json::value::RawValue;

use super::auth::Authorized;
use super::deadline::Started;
use super::page::{FilterParameters, Page, PageParameters, Parameters};
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use super::proofs::{InclusionProof, Wait};
use super::webhook::{code_of, not_recorded};
use super::{Service, bodies};
use crate::appender::AppendError;
use crate::chains::constraints::{self, Kind};
use crate::chains::{Appended, ClientChain, IN_LEDGER, Receipt};
use crate::chains::{ai_debates, order_events, order_execution};
use crate::keys::Caller;
use crate::keys::scope::{Ingest, Read};
use crate::rows::{read_row, violation};
use crate::sink::Recorded;
use crate::store::rows::{find_row, list_rows};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Characters of an idempotency key.
const MAX_KEY_CHARS: usize = 255;

/// What became of a row that was sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RowAnswer {
    /// `recorded`, or `duplicate` of a request that was recorded before.
    status: &'static str,
    /// Where the row stands in the ledger.
    receipt: Receipt,
    /// With `wait=checkpoint`, the proof that a checkpoint covers it; absent where none came within 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<InclusionProof>,
}

impl RowAnswer {
    /// With the proof, where that is waited for.
    pub(super) async fn waiting(mut self, service: &Service, wait: Wait) -> Self {
        self.proof = wait.proof_of(service, &self.receipt).await;
        self
    }
}

impl From<Recorded> for RowAnswer {
    fn from(recorded: Recorded) -> Self {
        let status = if recorded.is_duplicate { "duplicate" } else { "recorded" };
        Self { status, receipt: recorded.receipt, proof: None }
    }
}

/// A row with its receipt.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RowWithReceipt {
    /// The row as JSON: every hashed column, documents as `…_text`, `prev_hash`, `row_hash` and
    /// `leaf_index`. Enough to compute its hash again.
    #[schema(value_type = Object)]
    row: Box<RawValue>,
    /// Where it stands, as its writer was told.
    #[schema(value_type = Object)]
    receipt: serde_json::Value,
}

/// The two routes of a chain that clients write. A path that is spelt out wins over
/// `/v1/{chain}`, so the list of such a chain stands beside what writes it.
macro_rules! routes_of {
    (
        $name:ident, $list:ident, $path:literal, $body:ty, $chain:expr, $what:literal,
        $rows:literal
    ) => {
        #[doc = $what]
        ///
        /// With an `Idempotency-Key` the same request can be sent again: the same body is answered
        /// with the first receipt, another body under the same key is refused.
        #[utoipa::path(post, path = $path, tag = "rows",
            params(("Idempotency-Key" = Option<String>, Header,
                description = "Up to 255 visible ASCII characters, unique for this key's holder and route."),
                ("wait" = Option<String>, Query,
                description = "`checkpoint`: the answer waits, up to 10 s, for the proof that a checkpoint \
                    covers the row.")),
            request_body(content = $body, content_type = "application/json"),
            responses(
                (status = 201, description = "Recorded: committed before this answer.", body = RowAnswer),
                (status = 200, description = "Recorded before; with the first receipt.", body = RowAnswer),
                (status = 400, description = "The body cannot be read (VAL-001), or there is a parameter (VAL-003).",
                 body = Problem, content_type = "application/problem+json"),
                (status = 409, description = "The idempotency key was used with another body (IDP-001).",
                 body = Problem, content_type = "application/problem+json"),
                (status = 413, description = "The body is too large (LIM-001).",
                 body = Problem, content_type = "application/problem+json"),
                (status = 422, description = "A field is missing or invalid (VAL-002), a number would \
                    lose digits (AUD-001), or the row that is named is not there (AUD-008).",
                 body = Problem, content_type = "application/problem+json"),
                (status = 423, description = "The ledger is locked down (AUD-009).",
                 body = Problem, content_type = "application/problem+json"),
                RefusedUnderV1),
            security(("api_key" = ["ingest"])))]
        pub(super) async fn $name(
            authorized: Authorized<Ingest>,
            State(service): State<Service>,
            wait: Wait,
            started: Started,
            request: Request,
        ) -> Result<(StatusCode, Json<RowAnswer>), Problem> {
            write(&service, &authorized.caller, $chain, (started, wait), request).await
        }

        #[doc = $rows]
        #[utoipa::path(get, path = $path, tag = "rows",
            params(FilterParameters, PageParameters),
            responses(
                (status = 200, description = "A page; `Link` leads to the next.", body = Page<Object>),
                RefusedParameter, RefusedUnderV1),
            security(("api_key" = ["read"])))]
        pub(super) async fn $list(
            _: Authorized<Read>,
            State(service): State<Service>,
            parameters: Parameters,
        ) -> Result<Page<Box<RawValue>>, Problem> {
            page(&service, $chain.chain, parameters).await
        }
    };
}

routes_of!(
    write_ai_debate,
    list_ai_debates,
    "/v1/ai_debates",
    bodies::AiDebate,
    &ai_debates::CLIENT_CHAIN,
    "Records what a model thought of a signal.",
    "What models thought of signals, the newest first."
);
routes_of!(
    write_order,
    list_orders,
    "/v1/order_execution",
    bodies::Order,
    &order_execution::CLIENT_CHAIN,
    "Records an order that was made for a signal.",
    "Orders, the newest first."
);
routes_of!(
    write_order_event,
    list_order_events,
    "/v1/order_events",
    bodies::OrderEvent,
    &order_events::CLIENT_CHAIN,
    "Records what became of an order, or a kill switch.",
    "What became of orders, and kill switches, the newest first."
);

async fn write(
    service: &Service,
    caller: &Caller,
    chain: &'static ClientChain,
    (started, wait): (Started, Wait),
    request: Request,
) -> Result<(StatusCode, Json<RowAnswer>), Problem> {
    let key = idempotency_key(request.headers())?;
    let (body, deadline) = started.read_body(request, service.max_body_bytes).await?;
    let row = read_row(chain, &body, &caller.name, key)
        .map_err(|fault| Problem::new(code_of(fault.reason), fault.detail).of(fault.field))?;
    // On a task of its own: a client that hangs up does not stop what it has sent.
    let appender = service.appender.clone();
    let answered = tokio::spawn(async move { appender.append(row, deadline).await });
    let internal = |_| Problem::new(Code::Internal, "the row could not be handled");
    match answered.await.map_err(internal)? {
        Ok(row) => {
            let (status, answer) = answer(row)?;
            Ok((status, Json(answer.waiting(service, wait).await)))
        }
        Err(error) => Err(refused(&error)),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let invalid = || {
        let detail =
            format!("Idempotency-Key has from 1 to {MAX_KEY_CHARS} visible ASCII characters, once");
        Problem::new(Code::InvalidField, detail).of_field("Idempotency-Key")
    };
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| invalid())?;
    // to_str() lets spaces and tabs through.
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
    let fits = (1..=MAX_KEY_CHARS).contains(&key.len()) && is_plain && values.next().is_none();
    if fits { Ok(Some(key.to_owned())) } else { Err(invalid()) }
}

fn answer(appended: Appended) -> Result<(StatusCode, RowAnswer), Problem> {
    match appended {
        Appended::Recorded(receipt) => {
            Ok((StatusCode::CREATED, RowAnswer { status: "recorded", receipt, proof: None }))
        }
        Appended::Duplicate(existing) => {
            let receipt = existing.receipt;
            Ok((StatusCode::OK, RowAnswer { status: "duplicate", receipt, proof: None }))
        }
        Appended::Conflict(_) => {
            let detail = "Idempotency-Key was used before with another body";
            Err(Problem::new(Code::Conflict, detail).of_field("Idempotency-Key"))
        }
        Appended::Locked(lockdown) => Err(Problem::locked(&lockdown)),
        Appended::UnknownReference(constraint) => Err(violated(constraint)),
    }
}

/// The refusal of a row that violates a constraint of its table.
fn violated(name: &str) -> Problem {
    let Some(constraint) = constraints::by_name(name) else {
        return Problem::new(Code::InvalidField, "the row cannot be recorded");
    };
    let fault = violation(constraint);
    let code = match constraint.kind {
        Kind::InvalidField => Code::InvalidField,
        Kind::UnknownReference => Code::UnknownReference,
    };
    Problem::new(code, fault.detail).of(fault.field)
}

fn refused(error: &AppendError) -> Problem {
    match error {
        AppendError::Refused { constraint: Some(name), .. } => violated(name),
        error => not_recorded(error),
    }
}

pub(super) fn chain_of(name: &str) -> Result<&'static Chain, Problem> {
    let found = IN_LEDGER.into_iter().find(|chain| chain.name == name);
    found.ok_or_else(|| Problem::new(Code::NotFound, "there is no such chain"))
}

pub(super) fn no_such_row() -> Problem {
    Problem::new(Code::NotFound, "there is no such row")
}

/// Rows of a chain, the newest first.
#[utoipa::path(get, path = "/v1/{chain}", tag = "rows",
    params(
        ("chain" = String, Path, description = "A chain's name, for example `signals`."),
        FilterParameters, PageParameters),
    responses(
        (status = 200, description = "A page; `Link` leads to the next.", body = Page<Object>),
        (status = 404, description = "No such chain (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn list(
    _: Authorized<Read>,
    State(service): State<Service>,
    chain: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Result<Page<Box<RawValue>>, Problem> {
    let Ok(Path(chain)) = chain else { return Err(no_such_row()) };
    page(&service, chain_of(&chain)?, parameters).await
}

pub(super) async fn page(
    service: &Service,
    chain: &'static Chain,
    mut parameters: Parameters,
) -> Result<Page<Box<RawValue>>, Problem> {
    let filter = parameters.filter_of(chain)?;
    let order = parameters.order()?.unwrap_or_default();
    let page = parameters.page_of(chain.name)?.in_order(order);
    parameters.finish()?;
    let rows = list_rows(&service.reads, &filter, page.range()).await?;
    Ok(page.make(rows, crate::store::rows::StoredRow::id).map(|row| row.to_json()))
}

/// One row, with its receipt.
#[utoipa::path(get, path = "/v1/{chain}/{id}", tag = "rows",
    params(
        ("chain" = String, Path, description = "A chain's name, for example `signals`."),
        ("id" = i64, Path, description = "The row's id.")),
    responses(
        (status = 200, description = "The row.", body = RowWithReceipt),
        (status = 404, description = "No such row (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn get(
    _: Authorized<Read>,
    State(service): State<Service>,
    path: Result<Path<(String, i64)>, PathRejection>,
    parameters: Parameters,
) -> Result<Json<RowWithReceipt>, Problem> {
    let Ok(Path((chain, id))) = path else { return Err(no_such_row()) };
    parameters.finish()?;
    let row = find_row(&service.reads, chain_of(&chain)?, id).await?.ok_or_else(no_such_row)?;
    let receipt = row.receipt_json();
    Ok(Json(RowWithReceipt { row: row.to_json(), receipt }))
}
