//! Checks: the whole ledger, one chain, what came since the last checkpoint, or a slice of what that
//! covers. Each compares the rows with the log, and the log with what was signed of it.

use std::sync::Arc;
use std::time::Duration;

use ledger_verifier::merkle::TreeHead;
use ledger_verifier::{Chain, Finding, FindingKind, TreeSize};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::guards::{GUARDS, check_guards};
use super::history::{
    Basis, DATABASE, History, changed_tile, compare_with_stored, finding, forged, is_begin_of,
    send_stored, truncated,
};
use super::outside::{Answers, Held, Subject, TrustedKeys, Wanted};
use super::part::{Acknowledged, Kept, Looked, Part, Start, look};
use super::report::{ChainReport, Report};
use super::tree::FullTile;
use crate::chains::IN_LEDGER;
use crate::store::checkpoints::{current_incarnation, last_checkpoint, recorded_vkeys};
use crate::store::checks::{FULL, INCREMENTAL, ROLLING, last_slice};
use crate::store::read::Snapshot;
use crate::store::tiles::{StoredTree, first_changed_tile};
use crate::store::{Database, StoreError};

/// Checkpoints of the database that may wait to be compared.
const CLAIMS_AHEAD: usize = 1000;
/// Within which time slices come to everything once: a day less than a week, since one may come late.
const ROUND: Duration = Duration::from_hours(6 * 24);
/// Leaves of a slice at least.
const SMALLEST_SLICE: u64 = 10_000;
/// Slices begin where tiles do.
const TILE: u64 = 256;

/// What is told while a check runs.
pub trait Progress: Send {
    /// So many of the log's entries are compared.
    fn compared(&mut self, entries: u64, of: u64);
    /// Something does not add up; known or not.
    fn found(&mut self, finding: &Finding, acknowledged: bool);
}

/// What a check looks at.
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    /// All chains, and the log.
    Ledger,
    /// One, and what the log says of it.
    Chain(&'static Chain),
    /// What came since the last checkpoint; all of it where there is none.
    Incremental,
    /// A slice of what the last checkpoint covers, so that all of it is looked at within a week.
    Rolling,
}

impl Scope {
    fn kind(self) -> &'static str {
        match self {
            Self::Ledger => FULL,
            Self::Chain(_) => "chain",
            Self::Incremental => INCREMENTAL,
            Self::Rolling => ROLLING,
        }
    }
}

/// Checks the ledger. An error means that no chain could be looked at; one that concerns a
/// single chain stands in its report.
pub async fn verify(
    subject: &Subject,
    scope: Scope,
    run_id: Uuid,
    progress: &mut dyn Progress,
) -> Result<Report, StoreError> {
    let started = Instant::now();
    // Asked before the snapshot is taken: what is held then is no newer than what the snapshot shows.
    let answers = ask(subject, scope).await?;
    let snapshot = Snapshot::take(subject.reads()).await?;
    let mut check = Check::new(subject, snapshot, answers, progress).await?;
    let looked = check.look(scope).await;
    let (looked, mut notes, progress) = check.end(looked).await?;
    let Looked { chains: mut reports, log, .. } = looked;
    // Of one chain alone, the log's report says only what is wrong.
    let is_of_chain = matches!(scope, Scope::Chain(_));
    if !is_of_chain || log.findings_count > 0 || log.error.is_some() {
        reports.push(log);
    }
    if !is_of_chain {
        reports.push(report_guards(&subject.database, progress, &mut notes).await);
    }
    Ok(Report { run_id, kind: scope.kind(), chains: reports, notes, duration: started.elapsed() })
}

/// What the next checkpoint is made of.
pub(super) struct Ahead {
    /// What was found, as a check reports it.
    pub report: Report,
    /// Whether all of the part was read.
    pub is_whole: bool,
    /// Size and root behind it.
    pub head: TreeHead,
    /// Where the next part begins.
    pub end: Option<Start>,
    /// Full tiles that the database does not have.
    pub tiles: Vec<FullTile>,
    /// Whether the log goes on behind this part.
    pub is_more: bool,
}

/// Looks at what came since the last checkpoint, or since the beginning, and at most so many leaves of it.
/// What is held outside is compared with the log where the start is not known, and its larger
/// checkpoints in any case.
pub(super) async fn look_ahead(
    subject: &Subject,
    known: Option<Start>,
    answers: Answers,
    leaves: u64,
    run_id: Uuid,
    progress: &mut dyn Progress,
) -> Result<Ahead, StoreError> {
    let started = Instant::now();
    let snapshot = Snapshot::take(&subject.database).await?;
    let log_size = u64::try_from(snapshot.log_size().await?).unwrap_or(0);
    let mut check = Check::new(subject, snapshot, answers, progress).await?;
    let looked = check.look_ahead(known, leaves, log_size).await;
    let (looked, notes, _) = check.end(looked).await?;
    let Looked { mut chains, log, end, head, is_whole, tiles } = looked;
    chains.push(log);
    let duration = started.elapsed();
    let report = Report { run_id, kind: "checkpoint", chains, notes, duration };
    Ok(Ahead { report, is_whole, head, end, tiles, is_more: head.size.0 < log_size })
}

async fn ask(subject: &Subject, scope: Scope) -> Result<Answers, StoreError> {
    if subject.outside.anchors.is_empty() || matches!(scope, Scope::Chain(_)) {
        return Ok(Answers::default());
    }
    let mut connection = subject.reads().connect().await?;
    let known = async {
        let incarnation = current_incarnation(&mut connection).await?;
        Ok((incarnation, recorded_vkeys(&mut connection).await?))
    };
    let (incarnation, recorded) = unless_missing(known.await)?.unwrap_or_default();
    let keys = subject.outside.keys.with_recorded(&recorded);
    // A database that knows of no log may once have known of those whose keys are known.
    let origins =
        incarnation.map_or_else(|| keys.origins(), |incarnation| vec![incarnation.origin]);
    let wanted = match scope {
        Scope::Ledger | Scope::Chain(_) => Wanted::From(TreeSize(0)),
        Scope::Incremental | Scope::Rolling => Wanted::Latest,
    };
    let mut answers = Answers::default();
    for origin in origins {
        let Answers { held, answered, notes } = subject.outside.ask(&origin, &keys, wanted).await;
        answers.held.extend(held);
        answers.notes.extend(notes);
        answers.answered += answered;
    }
    Ok(answers)
}

/// Nothing, where what is asked for is not there, or not for this login.
fn unless_missing<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// One check under way.
struct Check<'a> {
    snapshot: Arc<Snapshot>,
    keys: TrustedKeys,
    held: Vec<Held>,
    basis: Option<Basis>,
    acknowledged: Acknowledged,
    /// What was found of the log's history before anything was read.
    found: Vec<Finding>,
    /// Why nothing says whose log it is.
    unknown: Option<String>,
    notes: Vec<String>,
    progress: &'a mut dyn Progress,
}

impl<'a> Check<'a> {
    async fn new(
        subject: &Subject,
        snapshot: Arc<Snapshot>,
        answers: Answers,
        progress: &'a mut dyn Progress,
    ) -> Result<Self, StoreError> {
        let mut notes = answers.notes;
        let acknowledged = acknowledged(&snapshot, &mut notes).await?;
        let mut connection = snapshot.reader().await?;
        let basis = async {
            let Some(incarnation) = current_incarnation(&mut connection).await? else {
                return Ok(None);
            };
            let last = last_checkpoint(&mut connection, incarnation.id).await?;
            Ok(Some(Basis { incarnation, last }))
        };
        let basis = unless_missing(basis.await)?;
        if basis.is_none() {
            notes.push("the log is compared with no checkpoint: their tables are gone".to_owned());
        }
        // A transaction that failed reads no more.
        let recorded = unless_missing(recorded_vkeys(&mut snapshot.reader().await?).await)?;
        let recorded = recorded.unwrap_or_default();
        let keys = subject.outside.keys.with_recorded(&recorded);
        let held = answers.held;
        let basis = basis.flatten();
        // Whoever rewrote it may have named it, too, with a key of his own.
        let is_unknown = |basis: &&Basis| {
            let origin = &basis.incarnation.origin;
            let is_elsewhere = !subject.outside.keys.is_empty();
            !keys.has_any_of(origin) || is_elsewhere && keys.known_of(origin).is_empty()
        };
        let unknown = basis.as_ref().filter(is_unknown).map(|basis| {
            format!(
                "the log is {} by the database's word, and no key that is known is of it",
                basis.incarnation.origin
            )
        });
        // Without any key nothing can be said of what is signed; but where the chain names keys, it names
        // those of every log that this was.
        let mut found = Vec::new();
        let has_none = |basis: &&Basis| !keys.has_any_of(&basis.incarnation.origin);
        if let Some(basis) = basis.as_ref().filter(has_none)
            && !recorded.is_empty()
        {
            let origin = &basis.incarnation.origin;
            let detail =
                format!("the database calls the log {origin}, which no security event began");
            found.push(finding(FindingKind::Forked, detail));
        }
        let basis = basis.filter(|basis| keys.has_any_of(&basis.incarnation.origin));
        Ok(Self { snapshot, keys, held, basis, acknowledged, found, unknown, notes, progress })
    }

    /// Ends the snapshot, and adds what was found of the history to the report of the log.
    async fn end(
        self,
        looked: Result<Looked, StoreError>,
    ) -> Result<(Looked, Vec<String>, &'a mut dyn Progress), StoreError> {
        let Self { snapshot, notes, found, unknown, acknowledged, progress, .. } = self;
        snapshot.close().await;
        let mut looked = looked?;
        looked.log.error = looked.log.error.or(unknown);
        for finding in found {
            let known = acknowledged.contains(&finding.finding_id());
            progress.found(&finding, known);
            looked.log.add(finding, known);
        }
        Ok((looked, notes, progress))
    }

    async fn look(&mut self, scope: Scope) -> Result<Looked, StoreError> {
        match scope {
            Scope::Ledger => self.look_at_all().await,
            Scope::Chain(chain) => {
                // Which is compared with nothing that was signed.
                self.unknown = None;
                let part = Part::whole(vec![chain]);
                self.look_at(part, History::none()).await
            }
            Scope::Incremental => match self.basis.clone() {
                Some(Basis { last: None, .. }) | None => {
                    self.notes.push("there is no checkpoint yet: everything is checked".to_owned());
                    self.look_at_all().await
                }
                Some(basis) => self.look_behind(&basis).await,
            },
            Scope::Rolling => match self.basis.clone() {
                Some(Basis { last: None, .. }) | None => {
                    self.notes.push("there is no checkpoint yet: nothing is checked".to_owned());
                    Ok(Looked::nothing())
                }
                Some(basis) => self.look_at_slice(&basis).await,
            },
        }
    }

    async fn look_at(&mut self, part: Part, history: History) -> Result<Looked, StoreError> {
        self.look_and_keep(part, history, Kept::Nothing).await
    }

    async fn look_and_keep(
        &mut self,
        part: Part,
        history: History,
        kept: Kept,
    ) -> Result<Looked, StoreError> {
        look(&self.snapshot, part, history, self.acknowledged.clone(), kept, self.progress).await
    }

    async fn look_at_all(&mut self) -> Result<Looked, StoreError> {
        let (sender, stored) = mpsc::channel(CLAIMS_AHEAD);
        let history =
            History::new(stored, &self.held, self.basis.as_ref(), self.snapshot.is_of_replica());
        if let Some(basis) = &self.basis
            && let Some(last) = &basis.last
            && self.keys.open_stored(last, &basis.incarnation.origin).is_ok()
            && let Err(why) = self.keys.open_last(last, &basis.incarnation.origin)
        {
            self.found.push(forged(last, &why));
        }
        let (snapshot, keys) = (Arc::clone(&self.snapshot), self.keys.clone());
        let incarnation = self.basis.as_ref().map(|basis| basis.incarnation.clone());
        let reading = tokio::spawn(async move {
            let Some(incarnation) = incarnation else { return Ok(()) };
            let mut connection = snapshot.reader().await?;
            send_stored(&mut connection, &incarnation, &keys, sender).await
        });
        let whole = Part::whole(IN_LEDGER.to_vec());
        let mut looked = self.look_and_keep(whole, history, Kept::Roots).await?;
        if let Err(error) = reading.await.expect("a reader neither panics nor is aborted") {
            let error: StoreError = error;
            looked.log.error.get_or_insert(error.to_string());
        }
        self.compare_tiles(&looked).await?;
        Ok(looked)
    }

    /// Compares what is stored of the last checkpoint's tree with the log, of which nothing else was
    /// found.
    async fn compare_tiles(&mut self, looked: &Looked) -> Result<(), StoreError> {
        let Some(Basis { incarnation, last: Some(last) }) = &self.basis else { return Ok(()) };
        if looked.log.findings_count > 0 || !self.found.is_empty() {
            return Ok(());
        }
        let is_covered = |tile: &&FullTile| {
            let leaves = 1_u64.checked_shl(8 * (u32::from(tile.level) + 1));
            let end = leaves.and_then(|leaves| leaves.checked_mul(tile.index + 1));
            end.is_some_and(|end| end <= last.head.size.0)
        };
        let tiles: Vec<_> = looked.tiles.iter().filter(is_covered).cloned().collect();
        let mut connection = self.snapshot.reader().await?;
        let changed = first_changed_tile(&mut connection, incarnation.id, &tiles).await?;
        self.found.extend(changed.map(|(level, index)| changed_tile(level, index)));
        Ok(())
    }

    /// Whether the last checkpoint is one of the log, and the log has what it is of: what goes on behind
    /// it needs both.
    async fn start_behind(&mut self, basis: &Basis) -> Result<Option<Start>, StoreError> {
        let Some(last) = &basis.last else { return Ok(None) };
        if let Err(why) = self.keys.open_last(last, &basis.incarnation.origin) {
            self.found.push(forged(last, &why));
            return Ok(None);
        }
        let size = self.snapshot.log_size().await?;
        if u64::try_from(size).unwrap_or(0) < last.head.size.0 {
            if !self.snapshot.is_of_replica() {
                self.found.push(truncated(DATABASE, last.head));
            }
            return Ok(None);
        }
        let Some(start) = self.start_of(last.tree()).await? else { return Ok(None) };
        if start.tree.head() != last.head {
            self.found.push(other_tree(last.head, start.tree.head()));
            return Ok(None);
        }
        Ok(Some(start))
    }

    /// Behind a tree that is stored; what is stored may make none.
    async fn start_of(&mut self, tree: StoredTree) -> Result<Option<Start>, StoreError> {
        match Start::behind(&self.snapshot, tree, &IN_LEDGER).await {
            Ok(start) => Ok(Some(start)),
            Err(StoreError::Contradiction { what, .. }) => {
                self.found.push(finding(FindingKind::Forked, what));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn look_behind(&mut self, basis: &Basis) -> Result<Looked, StoreError> {
        let Some(start) = self.start_behind(basis).await? else { return Ok(Looked::nothing()) };
        self.compare_held(basis).await?;
        let history = self.history_behind(basis);
        let part = Part { start, ..Part::whole(IN_LEDGER.to_vec()) };
        self.look_at(part, history).await
    }

    async fn compare_held(&mut self, basis: &Basis) -> Result<(), StoreError> {
        let mut connection = self.snapshot.reader().await?;
        compare_with_stored(&mut connection, &self.held, basis, &mut self.found).await
    }

    /// What is held outside of sizes that no checkpoint of the database has come to.
    fn history_behind(&self, basis: &Basis) -> History {
        let later = |held: &&Held| held.checkpoint.size > basis.size();
        let later: Vec<_> = self.held.iter().filter(later).cloned().collect();
        let (_, none) = mpsc::channel(1);
        History::new(none, &later, Some(basis), self.snapshot.is_of_replica())
    }

    async fn look_ahead(
        &mut self,
        known: Option<Start>,
        leaves: u64,
        log_size: u64,
    ) -> Result<Looked, StoreError> {
        let Some(basis) = self.basis.clone() else { return Ok(Looked::nothing()) };
        let start = match known {
            Some(start) => start,
            None if basis.last.is_none() => Start::at_the_beginning(IN_LEDGER.len()),
            None => {
                self.compare_held(&basis).await?;
                match self.start_behind(&basis).await? {
                    Some(start) => start,
                    None => return Ok(Looked::nothing()),
                }
            }
        };
        let before = start.tree.size().0.saturating_add(leaves);
        let before = (before < log_size).then_some(TreeSize(before));
        let part = Part { start, before, with_documents: false, ..Part::whole(IN_LEDGER.to_vec()) };
        let history = self.history_behind(&basis);
        self.look_and_keep(part, history, Kept::Whole).await
    }

    async fn look_at_slice(&mut self, basis: &Basis) -> Result<Looked, StoreError> {
        let Some(last) = &basis.last else { return Ok(Looked::nothing()) };
        if self.start_behind(basis).await?.is_none() {
            return Ok(Looked::nothing());
        }
        let mut connection = self.snapshot.reader().await?;
        let (from, before) = slice(last_slice(&mut connection).await?, last.head.size);
        let Some(start) = self.start_of(last.tree().at(from)).await? else {
            return Ok(Looked::nothing());
        };
        let part = Part { start, before: Some(before), ..Part::whole(IN_LEDGER.to_vec()) };
        let looked = self.look_at(part, History::none()).await?;
        let begins = is_begin_of(&mut connection, looked.head, last.tree(), last.head).await?;
        if let Err(why) = begins {
            let detail = format!(
                "leaves {from} to {} are not those of checkpoint {}: {why}",
                before.0.saturating_sub(1),
                last.id
            );
            self.found.push(finding(FindingKind::Forked, detail));
        }
        Ok(looked)
    }
}

/// The next slice behind the last one: where that ended, and how long ago. Together they come to all
/// leaves within a week, however often they are made.
fn slice(last: Option<(i64, Duration)>, size: TreeSize) -> (TreeSize, TreeSize) {
    const FIRST: Duration = Duration::from_hours(1);
    let (end, since) = last.unwrap_or((-1, FIRST));
    let next = u64::try_from(end.saturating_add(1)).unwrap_or(0);
    let from = if next >= size.0 { 0 } else { next / TILE * TILE };
    let share = since.min(ROUND).as_secs_f64() / ROUND.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a share of the leaves, about")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the size")]
    let leaves = ((size.0 as f64 * share) as u64).max(SMALLEST_SLICE);
    let before = (from.saturating_add(leaves)).div_ceil(TILE).saturating_mul(TILE).min(size.0);
    (TreeSize(from), TreeSize(before))
}

fn other_tree(head: TreeHead, stored: TreeHead) -> Finding {
    let detail = format!(
        "the last checkpoint, of {} leaves, has the root {}; tiles and log make {}",
        head.size, head.root, stored.root
    );
    finding(FindingKind::Forked, detail)
}

/// The `finding_id`s that were acknowledged: none where somebody took away what says so, since a
/// check must not go blind with it.
async fn acknowledged(
    snapshot: &Snapshot,
    notes: &mut Vec<String>,
) -> Result<Acknowledged, StoreError> {
    match snapshot.acknowledged_findings().await {
        Ok(known) => Ok(known.into_iter().collect()),
        Err(error) if error.is_missing() => {
            notes.push(format!("nothing counts as acknowledged: {error}"));
            Ok(Acknowledged::new())
        }
        Err(error) => Err(error),
    }
}

async fn report_guards(
    database: &Database,
    progress: &mut dyn Progress,
    notes: &mut Vec<String>,
) -> ChainReport {
    let mut report = ChainReport::behind(GUARDS, 0);
    match check_guards(database).await {
        Ok(check) => {
            (report.rows, report.expected_rows) = (check.objects, check.objects);
            notes.extend(check.note.map(str::to_owned));
            for finding in check.findings {
                progress.found(&finding, false);
                report.add(finding, false);
            }
        }
        Err(error) => report.error = Some(error.to_string()),
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_come_to_everything_within_a_week() {
        const HOUR: Duration = Duration::from_hours(1);
        for (size, every) in [(1, HOUR), (300, HOUR), (10_000_000, HOUR), (10_000_000, 23 * HOUR)] {
            let size = TreeSize(size);
            let (mut next, mut last, mut hours) = (0, None, Duration::ZERO);
            loop {
                let (from, before) = slice(last, size);
                assert_eq!(from.0, next / TILE * TILE);
                assert!(from < before && before <= size);
                next = before.0;
                if before == size {
                    break;
                }
                hours += every;
                last = Some((i64::try_from(before.0).unwrap() - 1, every));
            }
            assert!(hours <= Duration::from_hours(7 * 24), "{hours:?}");
            let again = slice(Some((i64::try_from(size.0).unwrap() - 1, HOUR)), size);
            assert_eq!(again.0, TreeSize(0));
        }
        // However late.
        let late = Some((-1, Duration::from_hours(1000)));
        assert_eq!(slice(late, TreeSize(5_000_000)).1, TreeSize(5_000_000));
    }
}
