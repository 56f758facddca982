//! The log for whoever watches it (C2SP tlog-tiles): the last checkpoint, and tiles, which never change.

use std::collections::BTreeSet;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use ledger_verifier::tile::{TileId, TileKind, bundle};

use super::Service;
use super::auth::{authorize, bearer};
use super::page::Parameters;
use super::problem::{Code, Problem, RefusedUnderV1};
use super::proofs::not_proved;
use crate::integrity::proofs::{Latest, ProveError};
use crate::keys::Scope;
use crate::store::tiles::leaves;

/// What never changes is kept for a year.
const FOR_EVER: &str = "max-age=31536000, immutable";
/// The last checkpoint is soon another one.
const FOR_NOW: &str = "no-cache";

/// Whoever may read the log: the holder of a key, or everybody where its owner publishes it.
#[derive(Debug)]
pub(super) struct LogReader;

impl FromRequestParts<Service> for LogReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        if !service.checkpoints.log_is_public {
            authorize(service, bearer(&parts.headers), Scope::Read).await?;
        }
        Ok(Self)
    }
}

async fn latest(service: &Service) -> Result<Latest, Problem> {
    let latest = async {
        let mut connection = service.reads.acquire().await?;
        Latest::read(&mut connection, &service.checkpoints.outside).await
    };
    latest.await.map_err(|error: ProveError| not_proved(service, error))
}

fn cached(service: &Service, how: &str) -> String {
    let whose = if service.checkpoints.log_is_public { "public" } else { "private" };
    format!("{whose}, {how}")
}

/// What is soon another text.
fn text(service: &Service, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, cached(service, FOR_NOW)),
    ];
    (headers, text).into_response()
}

/// The last checkpoint: a signed note (C2SP tlog-checkpoint).
#[utoipa::path(get, path = "/log/checkpoint", tag = "log",
    responses(
        (status = 200, description = "The note.", body = String, content_type = "text/plain"),
        (status = 409, description = "There is no checkpoint yet (PRF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn checkpoint(
    _: LogReader,
    State(service): State<Service>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let latest = latest(&service).await?;
    Ok(text(&service, latest.stored.note))
}

/// The verifier keys (`vkey`) of the log, one a line. Whoever verifies takes them from elsewhere, once:
/// a server's word on its own keys proves nothing.
#[utoipa::path(get, path = "/log/vkey", tag = "log",
    responses(
        (status = 200, description = "The keys.", body = String, content_type = "text/plain"),
        (status = 409, description = "There is no checkpoint yet (PRF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn vkeys(
    _: LogReader,
    State(service): State<Service>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let latest = latest(&service).await?;
    let keys = latest.keys.signers_of(&latest.stored.note, &latest.incarnation.origin);
    let mut lines = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    lines.push('\n');
    Ok(text(&service, lines))
}

/// A tile of the tree, or a bundle of entries: `LEVEL/INDEX` or `entries/INDEX`, with `.p/WIDTH` for one
/// that is not full, as of any checkpoint. An entry is the 32 bytes of a row's hash.
#[utoipa::path(get, path = "/log/tile/{*tile}", tag = "log",
    params(("tile" = String, Path, description = "For example `0/x001/067` or `entries/273.p/17`.")),
    responses(
        (status = 200, description = "The tile.", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "No such tile (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn tile(
    _: LogReader,
    State(service): State<Service>,
    path: Result<Path<String>, PathRejection>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let no_tile =
        || Problem::new(Code::NotFound, "there is no such tile in the last checkpoint's tree");
    let tile: TileId = path.ok().and_then(|Path(tile)| tile.parse().ok()).ok_or_else(no_tile)?;
    let latest = latest(&service).await?;
    // Of a tree that is smaller, but has the tile as it is asked for.
    let whole = TileId::in_tree(tile.kind, tile.index, latest.stored.head.size);
    if whole.is_none_or(|whole| whole.width < tile.width) {
        return Err(no_tile());
    }
    let mut connection = service.reads.acquire().await?;
    let bytes = match tile.kind {
        TileKind::Entries => bundle(leaves(&mut connection, tile).await?),
        TileKind::Hashes(_) => {
            let wanted = BTreeSet::from([whole.unwrap_or(tile)]);
            let found = latest.stored.tree().tiles(&mut connection, &wanted).await?;
            let hashes = found.into_values().next().unwrap_or_default();
            let hashes = hashes.get(..tile.width.into()).ok_or_else(|| {
                not_proved(&service, ProveError::Contradiction(format!("tile {tile} is not there")))
            })?;
            hashes.iter().flat_map(|hash| hash.0).collect()
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CACHE_CONTROL, cached(&service, FOR_EVER)),
    ];
    Ok((headers, bytes).into_response())
}
