//! What was signed of the log's history, compared with the log: the checkpoints that the database holds,
//! and those that are held outside it.

use std::collections::VecDeque;

use ledger_verifier::check::LOG_NAME;
use ledger_verifier::merkle::{TreeHead, consistency_proof, verify_consistency};
use ledger_verifier::{Finding, FindingKind, TreeSize};
use sqlx::PgConnection;
use tokio::sync::mpsc;

use super::outside::{Held, TrustedKeys};
use super::tree::LogTree;
use crate::store::StoreError;
use crate::store::checkpoints::{Incarnation, StoredCheckpoint, checkpoints_after};
use crate::store::tiles::StoredTree;

/// Holds the checkpoints that it made.
pub(super) const DATABASE: &str = "the database";
/// Checkpoints that are read at once.
const PAGE: i64 = 1000;

/// The log's name and last checkpoint, as the database has them.
#[derive(Clone, Debug)]
pub struct Basis {
    /// Whose checkpoints they are.
    pub incarnation: Incarnation,
    /// The last one.
    pub last: Option<StoredCheckpoint>,
}

impl Basis {
    /// The leaves of the last checkpoint.
    pub fn size(&self) -> TreeSize {
        self.last.as_ref().map_or(TreeSize(0), |last| last.head.size)
    }
}

/// Who says that the log had a root.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holder {
    Database,
    Anchor(String),
}

/// A root that the log had at a size, as somebody holds it.
#[derive(Clone, Debug)]
pub struct Claim {
    head: TreeHead,
    holder: Holder,
}

/// What the log is compared with while it is read.
#[derive(Debug)]
pub struct History {
    stored: mpsc::Receiver<Result<Claim, Finding>>,
    next_stored: Option<Claim>,
    /// In the order of their sizes.
    held: VecDeque<Claim>,
    /// Of the database's last checkpoint.
    last_stored: TreeSize,
    /// Whose first contradiction was told: all that comes after it contradicts too.
    told: Vec<Holder>,
    is_of_replica: bool,
}

impl History {
    /// With the database's checkpoints, as they are read, and what is held outside.
    pub fn new(
        stored: mpsc::Receiver<Result<Claim, Finding>>,
        held: &[Held],
        basis: Option<&Basis>,
        is_of_replica: bool,
    ) -> Self {
        let claim = |held: &Held| Claim {
            head: held.checkpoint.head(),
            holder: Holder::Anchor(held.anchor.clone()),
        };
        let mut held: Vec<_> = held.iter().map(claim).collect();
        held.sort_by_key(|claim| claim.head.size);
        Self {
            stored,
            next_stored: None,
            held: held.into(),
            last_stored: basis.map_or(TreeSize(0), Basis::size),
            told: Vec::new(),
            is_of_replica,
        }
    }

    /// With nothing at all.
    pub fn none() -> Self {
        Self::new(mpsc::channel(1).1, &[], None, false)
    }

    /// Compares the tree with what is claimed of its size. To be asked at every size, in their order.
    pub async fn compare(&mut self, tree: &LogTree, findings: &mut Vec<Finding>) {
        let size = tree.size();
        loop {
            if self.next_stored.is_none() {
                match self.stored.recv().await {
                    Some(Ok(claim)) => self.next_stored = Some(claim),
                    Some(Err(finding)) => {
                        findings.push(finding);
                        continue;
                    }
                    None => break,
                }
            }
            match self.next_stored.take() {
                Some(claim) if claim.head.size <= size => self.judge(claim, tree, findings),
                later => {
                    self.next_stored = later;
                    break;
                }
            }
        }
        while let Some(claim) = self.held.pop_front_if(|claim| claim.head.size <= size) {
            self.judge(claim, tree, findings);
        }
    }

    /// The size at which there is something to compare; `None` where there is no more.
    pub fn next_size(&self) -> Option<TreeSize> {
        let stored = self.next_stored.as_ref().map(|claim| claim.head.size);
        let held = self.held.front().map(|claim| claim.head.size);
        stored.into_iter().chain(held).min()
    }

    fn judge(&mut self, claim: Claim, tree: &LogTree, findings: &mut Vec<Finding>) {
        let head = tree.head();
        if claim.head != head {
            let finding = self.finding(&claim, Some(head));
            self.tell(claim.holder, finding, findings);
        }
    }

    /// What is claimed of sizes that the log does not have.
    pub async fn finish(mut self, findings: &mut Vec<Finding>) {
        if self.is_of_replica {
            return;
        }
        let stored = self.next_stored.take();
        let mut beyond: Vec<_> = stored.into_iter().chain(std::mem::take(&mut self.held)).collect();
        while let Some(claim) = self.stored.recv().await {
            match claim {
                Ok(claim) => beyond.push(claim),
                Err(finding) => findings.push(finding),
            }
        }
        for claim in beyond {
            let finding = self.finding(&claim, None);
            self.tell(claim.holder, finding, findings);
        }
    }

    fn tell(&mut self, holder: Holder, finding: Finding, findings: &mut Vec<Finding>) {
        if !self.told.contains(&holder) {
            self.told.push(holder);
            findings.push(finding);
        }
    }

    /// `log` is what the log has in place of what is claimed, where it is long enough.
    fn finding(&self, claim: &Claim, log: Option<TreeHead>) -> Finding {
        let TreeHead { size, root } = claim.head;
        match &claim.holder {
            Holder::Anchor(anchor) if size > self.last_stored => {
                // Not what the log has there, which changes as it goes on.
                finding(FindingKind::RolledBack, behind(anchor, claim.head))
            }
            holder => {
                let held = match holder {
                    Holder::Database => DATABASE,
                    Holder::Anchor(anchor) => anchor,
                };
                match log {
                    Some(log) => {
                        let has = if log.size == size {
                            format!("the log has the root {} there", log.root)
                        } else {
                            "the log was never of that size".to_owned()
                        };
                        let detail = format!(
                            "{held} holds a checkpoint of {size} leaves with the root {root}; {has}"
                        );
                        finding(FindingKind::Forked, detail)
                    }
                    None => truncated(held, claim.head),
                }
            }
        }
    }
}

/// The finding for a stored tile that has other hashes than the log makes.
pub(super) fn changed_tile(level: u8, index: u64) -> Finding {
    finding(FindingKind::Forked, format!("tile {index} of level {level} is not that of the log"))
}

/// The finding for a checkpoint of more leaves than the log has.
pub(super) fn truncated(holder: &str, head: TreeHead) -> Finding {
    let detail = format!(
        "{holder} holds a checkpoint of {} leaves with the root {}; the log is shorter",
        head.size, head.root
    );
    finding(FindingKind::Truncated, detail)
}

fn behind(anchor: &str, head: TreeHead) -> String {
    format!(
        "{anchor} holds a checkpoint of {} leaves with the root {}, which this database never came to",
        head.size, head.root
    )
}

pub(super) fn finding(kind: FindingKind, detail: String) -> Finding {
    Finding { kind, chain: LOG_NAME.to_owned(), id: None, leaf_index: None, detail }
}

/// Reads the database's checkpoints, and sends what they claim: of those whose note says the same, signed
/// by the log.
pub async fn send_stored(
    connection: &mut PgConnection,
    incarnation: &Incarnation,
    keys: &TrustedKeys,
    to: mpsc::Sender<Result<Claim, Finding>>,
) -> Result<(), StoreError> {
    let mut after = 0;
    loop {
        let page = checkpoints_after(&mut *connection, incarnation.id, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        for stored in page {
            let claim = match keys.open_stored(&stored, &incarnation.origin) {
                Ok(_) => Ok(Claim { head: stored.head, holder: Holder::Database }),
                Err(why) => Err(forged(&stored, &why)),
            };
            if to.send(claim).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The finding for a checkpoint in the database that the log did not sign.
pub(super) fn forged(stored: &StoredCheckpoint, why: &str) -> Finding {
    let detail = format!(
        "checkpoint {} of {} leaves with the root {} is none of this log: {why}",
        stored.id, stored.head.size, stored.head.root
    );
    finding(FindingKind::Forked, detail)
}

/// Compares checkpoints that are held outside with the tree of the last one, from the tiles: those that
/// are not larger.
pub async fn compare_with_stored(
    connection: &mut PgConnection,
    held: &[Held],
    basis: &Basis,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let Some(last) = &basis.last else { return Ok(()) };
    let mut told: Vec<&str> = Vec::new();
    for Held { anchor, checkpoint, .. } in held {
        let smaller = checkpoint.head();
        if smaller.size > last.head.size || told.contains(&anchor.as_str()) {
            continue;
        }
        if let Err(why) = is_begin_of(connection, smaller, last.tree(), last.head).await? {
            let detail = format!(
                "{anchor} holds a checkpoint of {} leaves with the root {}, with which checkpoint {} does \
                 not begin: {why}",
                smaller.size, smaller.root, last.id
            );
            findings.push(finding(FindingKind::Forked, detail));
            told.push(anchor);
        }
    }
    Ok(())
}

/// Whether a tree begins with a smaller one, by a proof made of what is stored.
pub async fn is_begin_of(
    connection: &mut PgConnection,
    smaller: TreeHead,
    tree: StoredTree,
    head: TreeHead,
) -> Result<Result<(), String>, StoreError> {
    let plan = match consistency_proof(smaller.size, head.size) {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(error.to_string())),
    };
    match tree.prove(connection, &plan).await {
        Ok(proof) => {
            Ok(verify_consistency(smaller, &proof, head).map_err(|error| error.to_string()))
        }
        Err(StoreError::Contradiction { what, .. }) => Ok(Err(what)),
        Err(error) => Err(error),
    }
}
