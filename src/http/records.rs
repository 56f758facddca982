//! Records of producers: one, or many in one body, each with its own answer.

use std::error::Error;
use std::io::Read as _;
use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use http_body_util::LengthLimitError;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use super::auth::Authorized;
use super::deadline::Started;
use super::page::{FilterParameters, Page, PageParameters, Parameters};
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use super::proofs::Wait;
use super::rows::{RowAnswer, page};
use super::webhook::{code_of, not_recorded};
use super::{Service, bodies};
use crate::body::Fault;
use crate::chains::NewRow;
use crate::keys::scope::{Ingest, Read};
use crate::records::{Records, read_record, split_records};
use crate::sink::{MAX_RECORDS, Recorded, SinkError, record_all};
use crate::store::signals::{CurrentSignal, list_current_signals};

/// Bytes of a body with records, as it is sent and as it unfolds.
const MAX_BODY_BYTES: usize = 32 << 20;
/// How long a body with many records may take to arrive, and to be committed.
const BODY_WITHIN: Duration = Duration::from_mins(1);
const MANY_WITHIN: Duration = Duration::from_secs(30);

/// What became of each record of a body.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RecordAnswers {
    /// Records that this request recorded.
    recorded: usize,
    /// Records that were there before.
    duplicates: usize,
    /// Records that were refused.
    refused: usize,
    /// One for each record, in the body's order.
    results: Vec<RecordAnswer>,
    /// With `wait=checkpoint`, the signed checkpoint that covers all of them; absent where none came
    /// within 10 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
}

/// What became of a record.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum RecordAnswer {
    /// It is in the ledger.
    Recorded(RowAnswer),
    /// It is refused.
    Refused(RefusedRecord),
}

/// Why a record is refused.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RefusedRecord {
    /// `refused`.
    status: &'static str,
    /// The refusal, as it would be answered to the record alone.
    problem: Problem,
}

/// Records a signal, or what became of one; or up to 10,000 of them.
///
/// The body is one JSON object, a JSON array of them, or NDJSON (`Content-Type:
/// application/x-ndjson`), perhaps with `Content-Encoding: gzip`. One object is answered as it is;
/// of several each has its answer, in their order, and one that is refused keeps no other out.
/// Nothing is answered before its commit, and the same again is a duplicate.
#[utoipa::path(post, path = "/v1/signal_audit_ledger", tag = "rows",
    params(("wait" = Option<String>, Query,
        description = "`checkpoint`: the answer waits, up to 10 s, for a checkpoint that covers all of it.")),
    request_body(content(
        (bodies::SignalRecord = "application/json"),
        (bodies::SignalRecord = "application/x-ndjson"))),
    responses(
        (status = 201, description = "One object, recorded: committed before this answer.", body = RowAnswer),
        (status = 200, description = "Several records, each with its answer; or one object that was \
            recorded before, with its first receipt.", body = RecordAnswers),
        (status = 400, description = "The body cannot be read (VAL-001), or there is a parameter (VAL-003).",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The signal was recorded before with other content (IDP-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large (LIM-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field is missing or invalid (VAL-002), a number would \
            lose digits (AUD-001), or the signal that is named is not there (AUD-008).",
         body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "The ledger is locked down (AUD-009).",
         body = Problem, content_type = "application/problem+json"),
        RefusedUnderV1),
    security(("api_key" = ["ingest"])))]
pub(super) async fn write(
    authorized: Authorized<Ingest>,
    State(service): State<Service>,
    started: Started,
    wait: Wait,
    request: Request,
) -> Result<Response, Problem> {
    let (caller, received_at) = (authorized.caller.name, service.clock.now());
    let is_ndjson = is_ndjson(request.headers());
    let is_gzip = is_gzip(request.headers())?;
    let asked = Instant::now();
    let body = read_body(request).await?;
    let deadline = started.deadline() + asked.elapsed();
    let read = move || {
        let body = if is_gzip { unfold(&body)? } else { body.into() };
        read_rows(&body, is_ndjson, &caller, received_at)
    };
    // Ten thousand records keep a thread busy for a while.
    let (rows, is_one) = tokio::task::spawn_blocking(read).await.map_err(internal)??;
    let deadline = if is_one { deadline } else { Instant::now() + MANY_WITHIN };
    // On a task of its own: a client that hangs up does not stop what it has sent.
    let appender = service.appender.clone();
    let recorded = tokio::spawn(async move { record_all(&appender, rows, deadline).await });
    let mut answers = recorded.await.map_err(internal)?;
    if is_one && let Some(answer) = answers.pop() {
        let recorded = answer?;
        let status = if recorded.is_duplicate { StatusCode::OK } else { StatusCode::CREATED };
        let answer = RowAnswer::from(recorded).waiting(&service, wait).await;
        return Ok((status, Json(answer)).into_response());
    }
    let last = answers.iter().flatten().map(|recorded| recorded.receipt.leaf_index).max();
    let mut answer = answer_all(answers)?;
    if let Some(last) = last {
        answer.checkpoint = wait.checkpoint_of(&service, last).await;
    }
    Ok(Json(answer).into_response())
}

fn internal(_: tokio::task::JoinError) -> Problem {
    Problem::new(Code::Internal, "the records could not be handled")
}

type Row = Result<NewRow, Problem>;

/// A row for each record of the body, or its refusal; and whether the body is one object.
fn read_rows(
    body: &[u8],
    is_ndjson: bool,
    recorded_by: &str,
    received_at: DateTime<Utc>,
) -> Result<(Vec<Row>, bool), Problem> {
    let records = split_records(body, is_ndjson, MAX_RECORDS).map_err(refused)?;
    let read = |record: &[u8]| read_record(record, recorded_by, received_at).map_err(refused);
    Ok(match records {
        Records::One(record) => (vec![read(record)], true),
        Records::Many(records) => (records.into_iter().map(read).collect(), false),
    })
}

fn refused(fault: Fault) -> Problem {
    Problem::new(code_of(fault.reason), fault.detail).of(fault.field)
}

/// The answer to several records; a refusal of all of them where none can be recorded now, or it is
/// not known which are: sent again, those are duplicates.
fn answer_all(answers: Vec<Result<Recorded, Problem>>) -> Result<RecordAnswers, Problem> {
    let mut all = RecordAnswers {
        recorded: 0,
        duplicates: 0,
        refused: 0,
        results: Vec::with_capacity(answers.len()),
        checkpoint: None,
    };
    for answer in answers {
        all.results.push(match answer {
            Ok(recorded) => {
                *if recorded.is_duplicate { &mut all.duplicates } else { &mut all.recorded } += 1;
                RecordAnswer::Recorded(recorded.into())
            }
            Err(problem) if problem.is_of_everything() => return Err(problem),
            Err(problem) => {
                all.refused += 1;
                RecordAnswer::Refused(RefusedRecord { status: "refused", problem })
            }
        });
    }
    Ok(all)
}

impl From<SinkError> for Problem {
    fn from(error: SinkError) -> Self {
        let detail = error.to_string();
        match error {
            SinkError::Invalid { field, .. } => {
                Self::new(Code::InvalidField, detail).of_field(field)
            }
            SinkError::UnknownReference { field, .. } => {
                Self::new(Code::UnknownReference, detail).of_field(field)
            }
            SinkError::Conflict { .. } => Self::new(Code::Conflict, detail).of_field("signal_id"),
            SinkError::Locked(lockdown) => Self::locked(&lockdown),
            SinkError::NotRecorded(error) => not_recorded(&error),
        }
    }
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"]
        .iter()
        .any(|ndjson| kind.eq_ignore_ascii_case(ndjson))
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => Ok(false),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"identity") => Ok(false),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"gzip") => Ok(true),
        Some(_) => {
            let detail = "Content-Encoding is none of gzip, identity";
            Err(Problem::new(Code::UnreadableBody, detail).of_field("Content-Encoding"))
        }
    }
}

fn too_large() -> Problem {
    Problem::new(Code::TooLarge, format!("the body has more than {MAX_BODY_BYTES} bytes"))
}

async fn read_body(request: Request) -> Result<axum::body::Bytes, Problem> {
    match timeout(BODY_WITHIN, to_bytes(request.into_body(), MAX_BODY_BYTES)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => {
            let source = error.source();
            let is_limit = source.is_some_and(<dyn Error>::is::<LengthLimitError>);
            Err(if is_limit {
                too_large()
            } else {
                Problem::new(Code::UnreadableBody, "the body broke off")
            })
        }
        Err(_) => {
            let detail = format!("the body took longer than {} s", BODY_WITHIN.as_secs());
            Err(Problem::new(Code::UnreadableBody, detail))
        }
    }
}

/// What gzip holds: no more of it than a body may have.
fn unfold(body: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut unfolded = Vec::new();
    let limit = MAX_BODY_BYTES as u64 + 1;
    let read = MultiGzDecoder::new(body).take(limit).read_to_end(&mut unfolded);
    read.map_err(|_| Problem::new(Code::UnreadableBody, "the body is not gzip"))?;
    if unfolded.len() > MAX_BODY_BYTES { Err(too_large()) } else { Ok(unfolded) }
}

/// Signals of producers and what became of them, the newest first.
#[utoipa::path(get, path = "/v1/signal_audit_ledger", tag = "rows",
    params(FilterParameters, PageParameters),
    responses(
        (status = 200, description = "A page; `Link` leads to the next.", body = Page<Object>),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn list(
    _: Authorized<Read>,
    State(service): State<Service>,
    parameters: Parameters,
) -> Result<Page<Box<RawValue>>, Problem> {
    page(&service, &SIGNAL_AUDIT_LEDGER, parameters).await
}

/// Producers' signals with their latest outcomes, the newest first: what is known of them now.
///
/// The filters are those of `signal_audit_ledger`, but `acted_upon` and `execution_id` mean the
/// signal as it stands now.
#[utoipa::path(get, path = "/v1/signal_current", tag = "rows",
    params(FilterParameters, PageParameters),
    responses(
        (status = 200, description = "A page; `Link` leads to the next.", body = Page<CurrentSignal>),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn current(
    _: Authorized<Read>,
    State(service): State<Service>,
    mut parameters: Parameters,
) -> Result<Page<CurrentSignal>, Problem> {
    let filter = parameters.filter_without(&SIGNAL_AUDIT_LEDGER, "record_type")?;
    let order = parameters.order()?.unwrap_or_default();
    let page = parameters.page_of("signal_current")?.in_order(order);
    parameters.finish()?;
    let signals = list_current_signals(&service.reads, &filter, page.range()).await?;
    Ok(page.make(signals, |signal| signal.id))
}
