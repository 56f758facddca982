//! A log whose checkpoints, proofs and other histories a test can have at every size.

use std::collections::HashMap;

use audit_ledger::clock::Clock;
use audit_ledger::integrity::anchors::{Anchor, AnchorError, ProofFailure, Receipt, Signed};
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::merkle::{Subtree, Tree, TreeHash, TreeHead, consistency_proof};
use ledger_verifier::note::SigningKey;
use ledger_verifier::{RowHash, TreeSize};

pub(crate) const ORIGIN: &str = "example.com/ledger";
const LEAVES: u8 = 100;

pub(crate) struct Log {
    pub(crate) key: SigningKey,
    kept: HashMap<Subtree, TreeHash>,
    /// By size.
    heads: Vec<TreeHead>,
}

impl Log {
    pub(crate) fn new(origin: &str) -> Self {
        Self::forked_at(origin, LEAVES)
    }

    /// The log whose leaves are others from this one on. Its key is the same.
    pub(crate) fn forked_at(origin: &str, fork: u8) -> Self {
        let (mut tree, mut kept) = (Tree::new(), HashMap::new());
        let mut heads = vec![tree.head()];
        for leaf in 0..LEAVES {
            let hash = RowHash([if leaf < fork { leaf } else { 0xff - leaf }; 32]);
            tree.push_and_keep(hash, |subtree, hash| {
                kept.insert(subtree, hash);
            });
            heads.push(tree.head());
        }
        let key = SigningKey::from_seed(origin, &[7; 32]).unwrap();
        Self { key, kept, heads }
    }

    pub(crate) fn origin(&self) -> &str {
        self.key.verifier_key().name()
    }

    pub(crate) fn checkpoint(&self, size: usize) -> Checkpoint {
        let TreeHead { size, root } = self.heads[size];
        Checkpoint { origin: self.origin().to_owned(), size, root, extensions: vec![] }
    }

    pub(crate) fn note(&self, size: usize) -> String {
        self.checkpoint(size).sign(&[&self.key]).unwrap().to_string()
    }

    pub(crate) fn proof(&self, from: TreeSize, to: usize) -> Result<Vec<TreeHash>, ProofFailure> {
        let plan = consistency_proof(from, TreeSize(to as u64))?;
        Ok(plan.prove(|subtree| self.kept.get(&subtree).copied().ok_or("no such subtree"))?)
    }

    pub(crate) async fn publish(
        &self,
        anchor: &Anchor,
        size: usize,
    ) -> Result<Receipt, AnchorError> {
        let (note, checkpoint) = (self.note(size), self.checkpoint(size));
        let signed = Signed { note: &note, checkpoint: &checkpoint };
        let proof = |from| std::future::ready(self.proof(from, size));
        anchor.publish(&signed, proof, Clock::system().now()).await
    }

    /// Publishes where nothing is given but that it is kept.
    pub(crate) async fn keep(&self, anchor: &Anchor, size: usize) {
        assert_eq!(self.publish(anchor, size).await.unwrap(), Receipt::Kept);
    }
}
