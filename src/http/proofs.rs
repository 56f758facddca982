//! Proofs over HTTP: that a row is in the log, and that the log only grew.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use ledger_verifier::merkle::TreeHash;
use ledger_verifier::{LeafIndex, TreeSize};
use serde::Serialize;
use tokio::time::Instant;

use super::Service;
use super::auth::Authorized;
use super::page::Parameters;
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use super::rows::{chain_of, no_such_row};
use crate::chains::Receipt;
use crate::integrity::checkpointer::wait_for_checkpoint;
use crate::integrity::proofs::{Inclusion, ProveError, prove_consistency, prove_row};
use crate::keys::scope::Read;

/// How long a write waits for its checkpoint.
const COVERED_WITHIN: Duration = Duration::from_secs(10);
/// Seconds until a checkpoint is likely to cover what was appended just now.
const NEXT_CHECKPOINT_S: u32 = 5;

/// A proof that a row is in the log.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct InclusionProof {
    /// The row's chain.
    chain: String,
    /// Its id.
    id: i64,
    /// Its place in the log.
    leaf_index: u64,
    /// Its hash, 64 hexadecimal digits: the leaf's data are these 32 bytes.
    row_hash: String,
    /// Leaves of the checkpoint's tree.
    tree_size: u64,
    /// Its root, base64.
    root_hash: String,
    /// From the leaf towards the root (RFC 9162 section 2.1.3), base64.
    hashes: Vec<String>,
    /// The signed checkpoint (C2SP tlog-checkpoint).
    checkpoint: String,
}

impl InclusionProof {
    pub(super) fn of(chain: &str, id: i64, proof: &Inclusion) -> Self {
        Self {
            chain: chain.to_owned(),
            id,
            leaf_index: proof.leaf_index.0,
            row_hash: proof.row_hash.to_string(),
            tree_size: proof.head.size.0,
            root_hash: proof.head.root.to_string(),
            hashes: texts(&proof.hashes),
            checkpoint: proof.note.clone(),
        }
    }
}

fn texts(hashes: &[TreeHash]) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}

/// How a proof is spelt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Json,
    TlogProof,
}

impl std::str::FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "tlog-proof" => Ok(Self::TlogProof),
            _ => Err("is none of json, tlog-proof"),
        }
    }
}

/// Proves that a row is in the log, as of the last checkpoint. The service has verified the proof; whoever
/// holds the log's verifier key can do so, too: as a `tlog-proof` with `ledger-verify proof`.
#[utoipa::path(get, path = "/v1/proofs/{chain}/{id}", tag = "proofs",
    params(
        ("chain" = String, Path, description = "A chain's name, for example `signals`."),
        ("id" = i64, Path, description = "The row's id."),
        ("format" = Option<String>, Query, description = "`json`, or `tlog-proof` for a text (C2SP).")),
    responses(
        (status = 200, description = "The proof.", content(
            (InclusionProof = "application/json"), (String = "text/plain"))),
        (status = 404, description = "No such row (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No checkpoint covers the row yet (PRF-001); `Retry-After` says when.",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn inclusion(
    _: Authorized<Read>,
    State(service): State<Service>,
    path: Result<Path<(String, i64)>, PathRejection>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let Ok(Path((chain, id))) = path else { return Err(no_such_row()) };
    let format = parameters.take::<Format>("format")?.unwrap_or_default();
    parameters.finish()?;
    let chain = chain_of(&chain)?;
    let proof = prove_row(&service.reads, &service.checkpoints.outside, chain.name, id)
        .await
        .map_err(|error| not_proved(&service, error))?;
    Ok(match format {
        Format::Json => Json(InclusionProof::of(chain.name, id, &proof)).into_response(),
        Format::TlogProof => {
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (plain, proof.to_tlog_proof().to_string()).into_response()
        }
    })
}

/// A proof that the log of one size begins with that of another.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ConsistencyProof {
    /// Leaves of the smaller tree.
    from_size: u64,
    /// Its root, base64.
    from_root: String,
    /// Leaves of the larger tree.
    to_size: u64,
    /// Its root, base64.
    to_root: String,
    /// RFC 9162 section 2.1.4, base64.
    hashes: Vec<String>,
}

/// Proves that the log of `to_size` leaves begins with that of `from_size`: that nothing was changed or
/// removed in between.
#[utoipa::path(get, path = "/v1/proofs/consistency", tag = "proofs",
    params(
        ("from_size" = u64, Query, description = "Leaves of the smaller tree."),
        ("to_size" = Option<u64>, Query, description = "Leaves of the larger one; of the last checkpoint \
            if not given.")),
    responses(
        (status = 200, description = "The proof.", body = ConsistencyProof),
        (status = 409, description = "No checkpoint is of so many leaves yet (PRF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn consistency(
    _: Authorized<Read>,
    State(service): State<Service>,
    mut parameters: Parameters,
) -> Result<Json<ConsistencyProof>, Problem> {
    let size = |size: Option<u64>| size.map(TreeSize);
    let from = size(parameters.take("from_size")?);
    let to = size(parameters.take("to_size")?);
    parameters.finish()?;
    let Some(from) = from else {
        return Err(super::page::unreadable("from_size", "is missing"));
    };
    let proof = prove_consistency(&service.reads, &service.checkpoints.outside, from, to)
        .await
        .map_err(|error| not_proved(&service, error))?;
    Ok(Json(ConsistencyProof {
        from_size: proof.from.size.0,
        from_root: proof.from.root.to_string(),
        to_size: proof.to.size.0,
        to_root: proof.to.root.to_string(),
        hashes: texts(&proof.hashes),
    }))
}

/// Whether a write is answered only when a checkpoint covers it (`wait=checkpoint`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait(bool);

impl<S: Sync> FromRequestParts<S> for Wait {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut parameters = Parameters::of(&parts.uri)?;
        let wait = parameters.take::<String>("wait")?;
        parameters.finish()?;
        match wait.as_deref() {
            None => Ok(Self(false)),
            Some("checkpoint") => Ok(Self(true)),
            Some(_) => Err(super::page::unreadable("wait", "is checkpoint, or not given")),
        }
    }
}

impl Wait {
    /// The last checkpoint, once it covers this leaf. `None` where nobody waits for it, or it takes longer
    /// than people wait: what was recorded is recorded all the same.
    async fn until_covered(self, service: &Service, leaf: LeafIndex) -> bool {
        let until = Instant::now() + COVERED_WITHIN;
        let wake = &service.checkpoints.wake;
        self.0
            && match wait_for_checkpoint(&service.reads, wake, leaf, until).await {
                Ok(covered) => covered.is_some(),
                Err(error) => {
                    tracing::warn!(%error, "what was recorded cannot be seen to be covered");
                    false
                }
            }
    }

    /// The proof of a row, once a checkpoint covers it.
    pub(super) async fn proof_of(
        self,
        service: &Service,
        receipt: &Receipt,
    ) -> Option<InclusionProof> {
        if !self.until_covered(service, receipt.leaf_index).await {
            return None;
        }
        let (chain, id) = (receipt.chain.as_ref(), receipt.id.0);
        match prove_row(&service.reads, &service.checkpoints.outside, chain, id).await {
            Ok(proof) => Some(InclusionProof::of(chain, id, &proof)),
            Err(error) => {
                // For its consequences: the answer is the receipt.
                let _ = not_proved(service, error);
                None
            }
        }
    }

    /// The signed checkpoint, once it covers this leaf.
    pub(super) async fn checkpoint_of(self, service: &Service, leaf: LeafIndex) -> Option<String> {
        if !self.until_covered(service, leaf).await {
            return None;
        }
        let latest = service.reads.latest_checkpoint().await.ok().flatten();
        latest.map(|(_, checkpoint)| checkpoint.note)
    }
}

pub(super) fn not_proved(service: &Service, error: ProveError) -> Problem {
    match error {
        ProveError::Store(error) => error.into(),
        ProveError::NoRow => no_such_row(),
        ProveError::NotCovered(_) => {
            service.checkpoints.wake.ask();
            Problem::new(Code::NotCovered, error.to_string()).retry_after(NEXT_CHECKPOINT_S)
        }
        ProveError::Sizes(error) => super::page::unreadable("from_size", error),
        ProveError::Contradiction(why) => {
            tracing::error!(why, "what is stored does not prove what was signed");
            service.appender.alarm().notify_one();
            let detail =
                "what is stored does not prove what was signed; the ledger is being checked";
            Problem::new(Code::Internal, detail)
        }
    }
}
