//! Checkpoints in tests: keys, anchors, and whoever makes checkpoints.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit_ledger::appender::Appender;
use audit_ledger::clock::Clock;
use audit_ledger::integrity::anchors::Anchor;
use audit_ledger::integrity::checkpointer::{Checkpointer, CheckpointerError, Round};
use audit_ledger::integrity::outside::{Outside, Subject, TrustedKeys};
use audit_ledger::integrity::publisher::publish_all;
use audit_ledger::integrity::signing::{SigningKeys, new_key};
use audit_ledger::store::checkpoints::StoredCheckpoint;
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::merkle::{Subtree, Tree, TreeHash, TreeHead};
use ledger_verifier::{RowHash, TreeSize};
use secrecy::ExposeSecret;
use sqlx::postgres::PgConnection;

use super::{TestLedger, fetch, run};

/// The log's name in tests.
pub(crate) const ORIGIN: &str = "ledger.example.com/tests";

/// New keys of these names, one a line.
pub(crate) fn key_lines(origins: &[&str]) -> String {
    let line = |origin: &&str| new_key(origin).unwrap().expose_secret().to_owned();
    origins.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn keys(lines: &str) -> SigningKeys {
    SigningKeys::parse(&lines.to_owned().into()).unwrap()
}

/// A checkpoint, signed with those of these keys that are of its log.
pub(crate) fn note(origin: &str, head: TreeHead, lines: &str) -> String {
    let TreeHead { size, root } = head;
    let checkpoint = Checkpoint { origin: origin.to_owned(), size, root, extensions: Vec::new() };
    checkpoint.sign(&keys(lines).of(origin)).unwrap().to_string()
}

/// An anchor in a folder.
pub(crate) fn folder(path: &Path) -> Arc<[Anchor]> {
    let path = path.to_str().unwrap();
    Arc::new([Anchor::parse(&format!("file:{path}"), &[]).unwrap()])
}

/// A ledger whose log is signed: with its keys, and anchors that keep its checkpoints.
pub(crate) struct Signed {
    pub(crate) lines: String,
    pub(crate) anchors: Arc<[Anchor]>,
}

impl Signed {
    /// With a new key, and these anchors.
    pub(crate) fn with(anchors: Arc<[Anchor]>) -> Self {
        Self { lines: key_lines(&[ORIGIN]), anchors }
    }

    /// The ledger as checks see it.
    pub(crate) fn subject(&self, ledger: &TestLedger) -> Subject {
        let outside = Outside {
            keys: TrustedKeys::new(keys(&self.lines).vkeys()),
            anchors: self.anchors.clone(),
        };
        Subject { outside, ..Subject::of(ledger.app()) }
    }

    /// Somebody who makes checkpoints, and remembers none.
    pub(crate) fn checkpointer(&self, ledger: &TestLedger, appender: &Appender) -> Checkpointer {
        Checkpointer::new(
            self.subject(ledger),
            keys(&self.lines),
            appender.clone(),
            Clock::system(),
        )
    }

    /// Makes checkpoints of all there is, and gives them to the anchors.
    pub(crate) async fn seal(&self, ledger: &TestLedger, appender: &Appender) -> StoredCheckpoint {
        let sealed = seal(&mut self.checkpointer(ledger, appender)).await;
        publish_all(&ledger.app(), &self.anchors, Clock::system()).await.unwrap();
        sealed
    }
}

/// Rounds of somebody who is alone.
pub(crate) trait Rounds {
    /// A round, once the server has seen that the one before is over: one that failed ends with its
    /// connection.
    async fn next_round(&mut self) -> Result<Round, CheckpointerError>;
}

impl Rounds for Checkpointer {
    async fn next_round(&mut self) -> Result<Round, CheckpointerError> {
        loop {
            match self.round().await {
                Ok(Round::Busy) => tokio::time::sleep(Duration::from_millis(5)).await,
                ended => return ended,
            }
        }
    }
}

/// Makes checkpoints of all there is.
pub(crate) async fn seal(checkpointer: &mut Checkpointer) -> StoredCheckpoint {
    loop {
        match checkpointer.next_round().await.unwrap() {
            Round::Signed(checkpoint, false) => return checkpoint,
            Round::Signed(_, true) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Rows in every table of checkpoints: one that an anchor keeps, and a tile as a longer log has it.
pub(crate) async fn rows_of_checkpoints(ledger: &TestLedger, appender: &Appender) {
    let folder_of_anchor = tempfile::tempdir().unwrap();
    Signed::with(folder(folder_of_anchor.path())).seal(ledger, appender).await;
    let tile = "INSERT INTO public.log_tiles (incarnation, level, index, hashes, root)
        VALUES (1, 7, 0, decode(repeat('00', 8192), 'hex'), decode(repeat('00', 32), 'hex'))";
    run(&mut ledger.connect_app().await, tile).await;
}

/// The tree over the log, read by a plain query: every complete subtree, and the root at every size.
pub(crate) struct Oracle {
    pub(crate) subtrees: HashMap<Subtree, TreeHash>,
    pub(crate) heads: Vec<TreeHead>,
}

impl Oracle {
    pub(crate) async fn read(connection: &mut PgConnection) -> Self {
        let hashes = "SELECT array_agg(row_hash::text ORDER BY leaf_index) FROM ledger_log";
        let hashes: Vec<String> = fetch(connection, hashes).await;
        let mut tree = Tree::new();
        let mut oracle = Self { subtrees: HashMap::new(), heads: vec![tree.head()] };
        for hash in hashes {
            let hash = RowHash::from_hex(hash.as_bytes()).unwrap();
            tree.push_and_keep(hash, |subtree, hash| {
                oracle.subtrees.insert(subtree, hash);
            });
            oracle.heads.push(tree.head());
        }
        oracle
    }

    pub(crate) fn head(&self, size: TreeSize) -> TreeHead {
        self.heads[usize::try_from(size.0).unwrap()]
    }
}
