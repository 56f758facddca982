//! Proofs that are made of stored tiles, each verified before anybody sees it.

use ledger_verifier::merkle::{
    ProofError, TreeHash, TreeHead, consistency_proof, inclusion_proof, verify_consistency,
    verify_inclusion,
};
use ledger_verifier::proof::TlogProof;
use ledger_verifier::{LeafIndex, RowHash, TreeSize};
use sqlx::PgConnection;

use super::outside::{Outside, TrustedKeys};
use crate::store::StoreError;
use crate::store::checkpoints::{
    Incarnation, StoredCheckpoint, current_incarnation, last_checkpoint, recorded_vkeys,
};
use crate::store::pool::Pool;
use crate::store::tiles::leaf_of_row;

/// Why nothing is proved.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such row, in the log at least.
    #[error("there is no such row")]
    NoRow,
    /// No checkpoint covers the row, or has this size, yet.
    #[error("no checkpoint covers it yet: the last one is of {0} leaves")]
    NotCovered(TreeSize),
    /// The sizes are none that a proof is of.
    #[error(transparent)]
    Sizes(ProofError),
    /// What is stored does not prove what was signed: somebody changed it.
    #[error("what is stored does not prove what was signed: {0}")]
    Contradiction(String),
}

/// The last checkpoint, as somebody who trusts the log's keys has it.
#[derive(Clone, Debug)]
pub struct Latest {
    /// The log's incarnation.
    pub incarnation: Incarnation,
    /// As stored.
    pub stored: StoredCheckpoint,
    /// The keys of the log that are known.
    pub keys: TrustedKeys,
}

impl Latest {
    /// Reads the last checkpoint, and makes sure that the log signed it.
    pub async fn read(
        connection: &mut PgConnection,
        outside: &Outside,
    ) -> Result<Self, ProveError> {
        let none = ProveError::NotCovered(TreeSize(0));
        let Some(incarnation) = current_incarnation(&mut *connection).await? else {
            return Err(none);
        };
        let stored = last_checkpoint(&mut *connection, incarnation.id).await?.ok_or(none)?;
        let mut keys = outside.keys.clone();
        if keys.known_of(&incarnation.origin).is_empty() {
            keys = keys.with_recorded(&recorded_vkeys(connection).await?);
        }
        keys.open_last(&stored, &incarnation.origin)
            .map_err(|why| ProveError::Contradiction(format!("checkpoint {}: {why}", stored.id)))?;
        Ok(Self { incarnation, stored, keys })
    }
}

/// A proof that a row is in the log.
#[derive(Clone, Debug)]
pub struct Inclusion {
    /// The row's place in the log.
    pub leaf_index: LeafIndex,
    /// Its hash.
    pub row_hash: RowHash,
    /// The tree that has it.
    pub head: TreeHead,
    /// From the leaf towards the root (RFC 9162 section 2.1.3).
    pub hashes: Vec<TreeHash>,
    /// The signed note over that tree.
    pub note: String,
}

impl Inclusion {
    /// As a text that is checked offline (C2SP tlog-proof).
    pub fn to_tlog_proof(&self) -> TlogProof {
        TlogProof {
            extra: None,
            index: self.leaf_index,
            hashes: self.hashes.clone(),
            checkpoint: self.note.clone(),
        }
    }
}

/// Proves that a row is in the tree of the last checkpoint.
pub async fn prove_row(
    pool: &Pool,
    outside: &Outside,
    chain: &str,
    id: i64,
) -> Result<Inclusion, ProveError> {
    let mut connection = pool.acquire().await?;
    let (leaf_index, row_hash) =
        leaf_of_row(&mut connection, chain, id).await?.ok_or(ProveError::NoRow)?;
    let latest = Latest::read(&mut connection, outside).await?;
    prove_leaf(&mut connection, &latest, leaf_index, row_hash).await
}

/// Proves that a row's hash stands at this leaf of a checkpoint's tree.
pub async fn prove_leaf(
    connection: &mut PgConnection,
    latest: &Latest,
    leaf_index: LeafIndex,
    row_hash: RowHash,
) -> Result<Inclusion, ProveError> {
    let head = latest.stored.head;
    let Ok(plan) = inclusion_proof(leaf_index, head.size) else {
        return Err(ProveError::NotCovered(head.size));
    };
    let hashes = latest.stored.tree().prove(connection, &plan).await.map_err(contradiction)?;
    verify_inclusion(row_hash, leaf_index, &hashes, head)
        .map_err(|error| ProveError::Contradiction(error.to_string()))?;
    Ok(Inclusion { leaf_index, row_hash, head, hashes, note: latest.stored.note.clone() })
}

/// A proof that a tree begins with a smaller one.
#[derive(Clone, Debug)]
pub struct Consistency {
    /// The smaller one.
    pub from: TreeHead,
    /// The larger one.
    pub to: TreeHead,
    /// RFC 9162 section 2.1.4.
    pub hashes: Vec<TreeHash>,
}

/// Proves that the tree of one size begins with that of another; neither is larger than the last
/// checkpoint.
pub async fn prove_consistency(
    pool: &Pool,
    outside: &Outside,
    from: TreeSize,
    to: Option<TreeSize>,
) -> Result<Consistency, ProveError> {
    let mut connection = pool.acquire().await?;
    let latest = Latest::read(&mut connection, outside).await?;
    let head = latest.stored.head;
    let to = to.unwrap_or(head.size);
    if to > head.size || from > head.size {
        return Err(ProveError::NotCovered(head.size));
    }
    let plan = consistency_proof(from, to).map_err(ProveError::Sizes)?;
    let tree = latest.stored.tree();
    let from = tree.at(from).restore(&mut connection).await.map_err(contradiction)?.head();
    let to = tree.at(to).restore(&mut connection).await.map_err(contradiction)?.head();
    let hashes = tree.at(to.size).prove(&mut connection, &plan).await.map_err(contradiction)?;
    // The larger one is what was signed, or what that begins with.
    let whole = consistency_proof(to.size, head.size).map_err(ProveError::Sizes)?;
    let whole = tree.prove(&mut connection, &whole).await.map_err(contradiction)?;
    verify_consistency(to, &whole, head)
        .and_then(|()| verify_consistency(from, &hashes, to))
        .map_err(|error| ProveError::Contradiction(error.to_string()))?;
    Ok(Consistency { from, to, hashes })
}

/// What the tree lacks was taken away.
fn contradiction(error: StoreError) -> ProveError {
    match error {
        StoreError::Contradiction { what, .. } => ProveError::Contradiction(what),
        error => error.into(),
    }
}
