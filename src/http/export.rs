//! Exports over HTTP, and single-use links to them for browsers, whose downloads send no header.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Service;
use super::auth::Authorized;
use super::deadline::Started;
use super::page::{FilterParameters, NoParameters, Parameters};
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use super::proofs::not_proved;
use super::rows::{chain_of, no_such_row};
use super::streamed::{Places, body_of};
use super::telemetry::ClientAddress;
use super::webhook::not_recorded;
use crate::clock::random_bytes;
use crate::export::{self, Export, ExportError, Exporter, Format, begin, file_name};
use crate::keys::scope::Export as ExportScope;
use crate::query::Filter;

const TOTAL_ROWS: HeaderName = HeaderName::from_static("x-total-rows");
const FORMAT: &str = "format";
/// Exports at once, and replays that are not paced: each holds a snapshot, and a connection for each chain
/// that it reads.
const EXPORTS: usize = 4;
/// How long a link is good for.
const LINK_FOR: Duration = Duration::from_mins(1);
/// Links that wait to be used.
const MAX_LINKS: usize = 1000;

/// What exports share.
#[derive(Clone, Debug)]
pub struct Exports {
    pub(super) places: Places,
    links: Arc<Mutex<HashMap<[u8; 32], Link>>>,
}

impl Default for Exports {
    fn default() -> Self {
        let places = Places::new(EXPORTS, "exports and replays at full speed are under way");
        Self { places, links: Arc::default() }
    }
}

/// What a link leads to.
#[derive(Debug)]
struct Link {
    wanted: Wanted,
    actor: String,
    until: Instant,
}

/// An export that is asked for.
#[derive(Clone, Debug)]
struct Wanted {
    filter: Filter,
    format: Format,
}

impl Wanted {
    fn read(chain: &str, mut parameters: Parameters) -> Result<Self, Problem> {
        let filter = parameters.filter_of(chain_of(chain)?)?;
        let format = parameters.take::<Format>(FORMAT)?.unwrap_or(Format::Ndjson);
        parameters.finish()?;
        Ok(Self { filter, format })
    }

    async fn begin(
        self,
        service: &Service,
        actor: String,
        client: ClientAddress,
    ) -> Result<Response, Problem> {
        let place = service.exports.places.take()?;
        let name = file_name(self.filter.chain, self.format, service.clock.now());
        let exporter = Exporter { actor, source_ip: Some(client.nearest) };
        let Self { filter, format } = self;
        let wanted = export::Wanted { filter, format, exporter };
        let begun = begin(&service.exporting(), wanted).await;
        let Export { total_rows, chunks } = begun.map_err(|error| refused(service, error))?;
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(format.media_type())),
            (header::CONTENT_DISPOSITION, disposition(&name)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (TOTAL_ROWS, HeaderValue::from(total_rows)),
        ];
        Ok((headers, body_of(chunks, place)).into_response())
    }
}

fn disposition(name: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
        .unwrap_or(HeaderValue::from_static("attachment"))
}

fn refused(service: &Service, error: ExportError) -> Problem {
    match error {
        ExportError::Store(error) => error.into(),
        ExportError::Record(error) => not_recorded(&error),
        ExportError::Prove(error) => not_proved(service, error),
        ExportError::NotARange { name } => {
            Problem::new(Code::UnreadableParameter, error.to_string()).of_field(name)
        }
        ExportError::Count { .. } | ExportError::Zip(_) | ExportError::Stalled => {
            Problem::new(Code::Internal, error.to_string())
        }
    }
}

/// The rows that meet a filter, oldest first, as a file.
///
/// The answer is streamed from one consistent snapshot. Its end is clean only where it is complete;
/// else the connection breaks off. In CSV (RFC 4180) a text that begins with `=`, `+`, `-`, `@`, tab
/// or carriage return has `'` before it, so that no spreadsheet runs it; numbers are as they are,
/// and NULL is an empty cell without quotes. A line of NDJSON holds every column and document: its
/// row's hash can be computed from it alone. `Accept-Encoding` may ask for gzip or zstd.
/// A `bundle` is a zip of a range of ids or times, as NDJSON and CSV, with the row before and the one after
/// it, the signed checkpoint and the proofs that lead to it: `ledger-verify bundle` sees offline that it is
/// whole and as it was recorded. It waits up to 10 s for a checkpoint that covers all there is.
/// `security_events` tells who exported what: `EXPORT_STARTED`, and `EXPORT_COMPLETED` with rows,
/// bytes and the SHA-256 of the file before compression.
#[utoipa::path(get, path = "/v1/export/{chain}", tag = "exports",
    params(
        ("chain" = String, Path, description = "A chain's name, for example `signals`."),
        ("format" = Option<String>, Query, description = "`csv`, `json`, `ndjson`, which is the default, or `bundle`."),
        FilterParameters),
    responses(
        (status = 200, description = "The file.",
         headers(("X-Total-Rows" = i64, description = "How many rows it has."))),
        (status = 404, description = "No such chain (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No checkpoint covers any row of a bundle yet (PRF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["export"])))]
pub(super) async fn export(
    authorized: Authorized<ExportScope>,
    State(service): State<Service>,
    Extension(client): Extension<ClientAddress>,
    chain: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let Ok(Path(chain)) = chain else { return Err(no_such_row()) };
    Wanted::read(&chain, parameters)?
        .begin(&service, authorized.caller.name.to_string(), client)
        .await
}

/// An export for which a link is wanted.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDownload {
    /// The export's path and query.
    #[schema(example = "/v1/export/signal_audit_ledger?format=csv&ticker=AAPL")]
    export: String,
}

/// A link to an export.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Download {
    /// Where the file is, once: relative to this service.
    url: String,
    /// For how long, in seconds.
    expires_in_s: u64,
}

/// Makes a link to one export: good once, for 60 seconds, on this instance of the service, and
/// without a key, since a browser's download cannot send one.
#[utoipa::path(post, path = "/v1/downloads", tag = "exports",
    request_body(content = NewDownload, content_type = "application/json"),
    responses(
        (status = 201, description = "The link.", body = Download),
        (status = 400, description = "The body cannot be read (VAL-001), or the export's parameters (VAL-003).",
         body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such chain (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid (VAL-002).",
         body = Problem, content_type = "application/problem+json"),
        RefusedUnderV1),
    security(("api_key" = ["export"])))]
pub(super) async fn new_download(
    authorized: Authorized<ExportScope>,
    State(service): State<Service>,
    started: Started,
    _: NoParameters,
    request: Request,
) -> Result<(StatusCode, Json<Download>), Problem> {
    let (body, _) = started.read_body(request, service.max_body_bytes).await?;
    let wanted: NewDownload = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Code::UnreadableBody, error.to_string()))?;
    let no_export = || {
        let detail = "export is the path and query of an export: /v1/export/{chain}?…";
        Problem::new(Code::InvalidField, detail).of_field("export")
    };
    let uri: Uri = wanted.export.parse().map_err(|_| no_export())?;
    let chain = uri.path().strip_prefix("/v1/export/").ok_or_else(no_export)?;
    let parameters = Parameters::of(&uri)?;
    let wanted = Wanted::read(chain, parameters)?;
    let token = hex::encode(random_bytes::<32>());
    let link = Link {
        wanted,
        actor: authorized.caller.name.to_string(),
        until: Instant::now() + LINK_FOR,
    };
    let mut links = service.exports.links.lock().unwrap_or_else(PoisonError::into_inner);
    links.retain(|_, link| Instant::now() < link.until);
    if links.len() >= MAX_LINKS {
        let detail = "too many links wait to be used";
        return Err(Problem::new(Code::TooManyRequests, detail).retry_after(60));
    }
    links.insert(Sha256::digest(token.as_bytes()).into(), link);
    let url = format!("/downloads/{token}");
    Ok((StatusCode::CREATED, Json(Download { url, expires_in_s: LINK_FOR.as_secs() })))
}

/// The export that a link leads to, once.
#[utoipa::path(get, path = "/downloads/{token}", tag = "exports",
    params(("token" = String, Path, description = "The link's secret.")),
    responses(
        (status = 200, description = "The file.",
         headers(("X-Total-Rows" = i64, description = "How many rows it has."))),
        (status = 404, description = "No such link, or not any more (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter))]
pub(super) async fn download(
    State(service): State<Service>,
    Extension(client): Extension<ClientAddress>,
    token: Result<Path<String>, PathRejection>,
    _: NoParameters,
) -> Result<Response, Problem> {
    let none = || Problem::new(Code::NotFound, "there is no such link, or not any more");
    let Ok(Path(token)) = token else { return Err(none()) };
    let found = {
        let mut links = service.exports.links.lock().unwrap_or_else(PoisonError::into_inner);
        let token: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        links.remove(&token)
    };
    let link = found.filter(|link| Instant::now() < link.until).ok_or_else(none)?;
    link.wanted.begin(&service, link.actor, client).await
}
