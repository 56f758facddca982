//! A signed ledger with a past, and those who look at it.

use std::collections::BTreeSet;
use std::sync::Arc;

use audit_ledger::appender::Appender;
use audit_ledger::chains::{Appended, NewRow};
use audit_ledger::clock::Clock;
use audit_ledger::integrity::checkpointer::{Checkpointer, Round};
use audit_ledger::integrity::publisher::publish_all;
use audit_ledger::integrity::report::Report;
use audit_ledger::integrity::verify::{Scope, verify};
use audit_ledger::integrity::watch::Quiet;
use audit_ledger::store::checkpoints::StoredCheckpoint;
use ledger_verifier::FindingKind;
use ledger_verifier::check::LOG_NAME;
use tempfile::TempDir;

use crate::common::builders::{delivery, event, one_of_each, signal};
use crate::common::checkpoints::{Rounds, Signed, folder, seal};
use crate::common::{TestLedger, fetch, soon};
use crate::grow;

/// What is wrong, by its names.
pub(crate) type Kinds = BTreeSet<&'static str>;

/// A ledger with checkpoints of 1, [`Scene::SIZES`] leaves, which its anchor holds, and who made them.
pub(crate) struct Scene {
    pub(crate) ledger: TestLedger,
    pub(crate) signed: Signed,
    /// Where the anchor keeps checkpoints.
    pub(crate) folder: TempDir,
    pub(crate) appender: Appender,
    /// Remembers the last checkpoint, and goes on from there.
    pub(crate) stays: Checkpointer,
}

impl Scene {
    /// Leaves of the checkpoints behind the first.
    pub(crate) const SIZES: [u64; 3] = [276, 285, 294];

    /// With a past.
    pub(crate) async fn new() -> Self {
        let mut scene = Self::begin().await;
        grow(&scene.appender, 261).await;
        scene.append_all([one_of_each(1), one_of_each(2)].concat()).await;
        for (size, n) in Self::SIZES.into_iter().zip(3..) {
            assert_eq!(scene.seal().await.head.size.0, size);
            if size < Self::SIZES[2] {
                scene.append_all(one_of_each(n).into()).await;
                grow(&scene.appender, 2).await;
            }
        }
        scene
    }

    /// With one leaf, which tells of the log's keys.
    pub(crate) async fn begin() -> Self {
        let (ledger, folder_of_anchor) = (TestLedger::new().await, tempfile::tempdir().unwrap());
        let signed = Signed::with(folder(folder_of_anchor.path()));
        let appender = ledger.appender();
        let stays = signed.checkpointer(&ledger, &appender);
        let mut scene = Self { ledger, signed, folder: folder_of_anchor, appender, stays };
        assert_eq!(scene.seal().await.head.size.0, 1);
        scene
    }

    /// Makes a checkpoint, which the anchor keeps.
    pub(crate) async fn seal(&mut self) -> StoredCheckpoint {
        let sealed = seal(&mut self.stays).await;
        self.publish().await;
        sealed
    }

    pub(crate) async fn publish(&self) {
        publish_all(&self.ledger.app(), &self.signed.anchors, Clock::system()).await.unwrap();
    }

    pub(crate) async fn append_all(&self, rows: Vec<NewRow>) {
        for row in rows {
            let appended = self.appender.append(row, soon()).await.unwrap();
            assert!(matches!(appended, Appended::Recorded(_)), "{appended:?}");
        }
    }

    /// As honest senders go on, whatever became of the ledger.
    pub(crate) async fn go_on(&self, n: u32) {
        self.append_all(vec![signal(n).into(), event(n).into(), delivery(n).into()]).await;
    }

    /// Somebody who was just started.
    pub(crate) fn comes(&self) -> Checkpointer {
        self.signed.checkpointer(&self.ledger, &self.appender)
    }

    /// What a check finds, without what follows from it.
    pub(crate) async fn look(&self, scope: Scope) -> Report {
        let subject = self.signed.subject(&self.ledger);
        verify(&subject, scope, Clock::system().new_id(), &mut Quiet::default()).await.unwrap()
    }

    /// From now on no anchor is asked.
    pub(crate) fn forget_anchors(&mut self) {
        self.signed.anchors = Arc::new([]);
    }

    /// As a test ends on a ledger that proves itself.
    pub(crate) async fn finish(self) {
        drop((self.appender, self.stays));
        self.ledger.finish().await;
    }

    /// Whether the ledger takes rows of its business chains.
    pub(crate) async fn is_locked(&self) -> bool {
        let rows: [NewRow; 2] = [signal(90_000).into(), event(90_000).into()];
        let mut answers = self.appender.append_all(rows.into(), soon()).await;
        assert!(matches!(answers.pop(), Some(Ok(Appended::Recorded(_)))));
        match answers.pop().unwrap() {
            Ok(Appended::Locked(_)) => true,
            Ok(Appended::Recorded(_) | Appended::Duplicate(_)) => false,
            other => panic!("{other:?}"),
        }
    }

    /// Security events of this type.
    pub(crate) async fn events(&self, event_type: &str) -> i64 {
        let count =
            format!("SELECT count(*) FROM security_events WHERE event_type = '{event_type}'");
        fetch(&mut self.ledger.connect_superuser().await, &count).await
    }

    /// Who made the checkpoints refuses to make the next.
    pub(crate) async fn is_refused_by_who_stays(&mut self) {
        let other = self.comes();
        let mut stays = std::mem::replace(&mut self.stays, other);
        self.is_refused_by(&mut stays).await;
        self.stays = stays;
    }

    /// This one refuses to sign, locks the ledger, and says so: not every time, but once more where it
    /// finds something else, since the log has grown, or since it has found its memory to be of no use.
    pub(crate) async fn is_refused_by(&self, checkpointer: &mut Checkpointer) {
        let told = self.events("INTEGRITY_FAILURE").await;
        let mut events = Vec::new();
        for _ in 0..3 {
            let round = checkpointer.next_round().await.unwrap();
            assert!(matches!(round, Round::Refused), "{round:?}");
            assert!(self.is_locked().await);
            events.push(self.events("INTEGRITY_FAILURE").await - told);
        }
        assert!(events[0] == 1 && events[2] <= 2, "{events:?}");
    }
}

/// What a report found: of the log's history, and of nothing else.
pub(crate) fn kinds(report: &Report) -> Kinds {
    let listed = report.chains.iter().flat_map(|chain| &chain.findings);
    let found = listed.map(|listed| &listed.finding);
    let check = |finding: &ledger_verifier::Finding| {
        use FindingKind::{Forked, RolledBack, Truncated};
        assert!(matches!(finding.kind, Truncated | Forked | RolledBack), "{finding}");
        assert_eq!(finding.chain, LOG_NAME);
        finding.kind.name()
    };
    found.map(check).collect()
}
