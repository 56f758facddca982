//! A proof that a row is in the log, as a text that can be checked offline (C2SP tlog-proof).

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::{LeafIndex, RowHash};
use crate::merkle::{ProofError, TreeHash, verify_inclusion};
use crate::note::VerifierKey;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Hashes of a proof at most: one for each level of the tree.
const MAX_HASHES: usize = 64;
/// Bytes of what an application adds, at most.
const MAX_EXTRA: usize = 1 << 16;

/// A leaf's place and the way from it to the root of a checkpoint. Its `Display` is the proof's
/// text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// What an application adds; opaque, and no part of what is proved.
    pub extra: Option<Vec<u8>>,
    /// The leaf's place.
    pub index: LeafIndex,
    /// From the leaf towards the root.
    pub hashes: Vec<TreeHash>,
    /// The signed checkpoint, as its note is spelt.
    pub checkpoint: String,
}

/// Why a proof cannot be read, or shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// It does not begin as version 1 does.
    #[error("a proof begins with {HEADER}")]
    Header,
    /// A line is not spelt as it must be, or missing.
    #[error("the proof's {0} is missing or malformed")]
    Line(&'static str),
    /// More hashes than any tree needs, or more extra data than is read.
    #[error("the proof has too much {0}")]
    TooMuch(&'static str),
    /// The checkpoint is not one that the key signed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The row is not in the checkpoint's tree, as far as the proof goes.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl TlogProof {
    /// Reads a proof. Nothing of it is believed by that: see [`Self::verify`].
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        let rest = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n'));
        let (head, checkpoint) = rest
            .ok_or(TlogProofError::Header)?
            .split_once("\n\n")
            .ok_or(TlogProofError::Line("checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        let extra = lines.peek().and_then(|line| line.strip_prefix("extra "));
        let extra = extra.map(|text| decode(text, MAX_EXTRA)).transpose()?;
        if extra.is_some() {
            lines.next();
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index: u64 = index
            .and_then(|text| text.parse().ok().filter(|index: &u64| index.to_string() == text))
            .ok_or(TlogProofError::Line("index"))?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MAX_HASHES {
                return Err(TlogProofError::TooMuch("hashes"));
            }
            hashes.push(line.parse().map_err(|_| TlogProofError::Line("hash"))?);
        }
        Ok(Self { extra, index: LeafIndex(index), hashes, checkpoint: checkpoint.to_owned() })
    }

    /// The checkpoint, if it opens with `keys` ([`Checkpoint::open`]) and the row of this hash
    /// stands at the proof's place in its log.
    pub fn verify(
        &self,
        row_hash: RowHash,
        keys: &[VerifierKey],
    ) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), keys)?;
        verify_inclusion(row_hash, self.index, &self.hashes, checkpoint.head())?;
        Ok(checkpoint)
    }
}

fn decode(text: &str, limit: usize) -> Result<Vec<u8>, TlogProofError> {
    if text.len() > limit.div_ceil(3) * 4 {
        return Err(TlogProofError::TooMuch("extra data"));
    }
    // The decoder takes the one spelling only: padded, and no bits that carry no data.
    BASE64_STANDARD.decode(text).map_err(|_| TlogProofError::Line("extra data"))
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64_STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{Subtree, Tree, inclusion_proof};
    use crate::note::SigningKey;

    const LEAVES: u8 = 21;

    fn row_hash(leaf: u8) -> RowHash {
        RowHash([leaf; 32])
    }

    fn proof_of(leaf: u8, leaves: u8, key: &SigningKey) -> TlogProof {
        let mut kept = std::collections::HashMap::new();
        let mut tree = Tree::new();
        for leaf in 0..leaves {
            tree.push_and_keep(row_hash(leaf), |subtree: Subtree, hash| {
                kept.insert(subtree, hash);
            });
        }
        let index = LeafIndex(leaf.into());
        let plan = inclusion_proof(index, tree.size()).unwrap();
        let hashes = plan.prove(|subtree| kept.get(&subtree).copied().ok_or(())).unwrap();
        let checkpoint = Checkpoint {
            origin: key.verifier_key().name().to_owned(),
            size: tree.size(),
            root: tree.root(),
            extensions: Vec::new(),
        };
        let checkpoint = checkpoint.sign(&[key]).unwrap().to_string();
        TlogProof { extra: None, index, hashes, checkpoint }
    }

    fn key() -> SigningKey {
        SigningKey::from_seed("example.com/ledger", &[7; 32]).unwrap()
    }

    #[test]
    fn a_proof_reads_back_as_itself_and_proves_its_row_alone() {
        let key = key();
        for (leaf, leaves) in (0..LEAVES).map(|leaf| (leaf, LEAVES)).chain([(0, 1)]) {
            for extra in [None, Some(Vec::new()), Some(b"row 7".to_vec())] {
                let proof = TlogProof { extra, ..proof_of(leaf, leaves, &key) };
                let read = TlogProof::parse(&proof.to_string()).unwrap();
                assert_eq!(read, proof);
                let checkpoint =
                    read.verify(row_hash(leaf), &[key.verifier_key().clone()]).unwrap();
                assert_eq!(checkpoint.size.0, u64::from(leaves));
                assert!(read.verify(row_hash(leaf + 1), &[key.verifier_key().clone()]).is_err());
            }
        }
        let other = SigningKey::from_seed("example.com/ledger", &[8; 32]).unwrap();
        assert!(
            proof_of(3, LEAVES, &key).verify(row_hash(3), &[other.verifier_key().clone()]).is_err()
        );
    }

    #[test]
    fn no_changed_proof_is_accepted() {
        let key = key();
        let text = proof_of(5, LEAVES, &key).to_string();
        let accepted = |text: &str| {
            TlogProof::parse(text)
                .is_ok_and(|proof| proof.verify(row_hash(5), &[key.verifier_key().clone()]).is_ok())
        };
        assert!(accepted(&text));
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        for at in 0..lines.len() {
            let without = [&lines[..at], &lines[at + 1..]].concat().concat();
            assert!(!accepted(&without), "{without}");
            let twice = [&lines[..=at], &lines[at..]].concat().concat();
            assert!(!accepted(&twice), "{twice}");
            for with in 0..at {
                let mut swapped = lines.clone();
                swapped.swap(at, with);
                assert!(lines[at] == lines[with] || !accepted(&swapped.concat()), "{at} {with}");
            }
        }
        for (at, _) in text.char_indices() {
            assert!(!accepted(&text[..at]), "cut at {at}");
            for put in ["0", "A", "\n", " ", "="] {
                let changed = format!(
                    "{}{put}{}",
                    &text[..at],
                    text[at..].chars().skip(1).collect::<String>()
                );
                assert!(changed == text || !accepted(&changed), "{put:?} at {at}");
            }
        }
    }
}
