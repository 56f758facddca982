//! Makes checkpoints: what came since the last one is read back and re-hashed, the tree extended, its
//! consistency with the last one proved, and size and root are signed. What does not add up is not
//! signed, and locks the ledger.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use ledger_verifier::checkpoint::{Checkpoint, CheckpointError as FormatError};
use ledger_verifier::merkle::TreeHead;
use ledger_verifier::{Finding, FindingKind, LeafIndex, TreeSize};
use metrics::{counter, gauge};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::history::{changed_tile, finding, is_begin_of};
use super::outside::{Answers, Held, Subject, Wanted};
use super::part::Start;
use super::report::Report;
use super::run::conclude;
use super::signing::{SigningKeys, origin_of};
use super::verify::{Ahead, look_ahead};
use super::watch::Quiet;
use crate::appender::{AppendError, Appender};
use crate::chains::Appended;
use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::checkpoints::{
    CheckpointTransaction, Incarnation, StoredCheckpoint, current_incarnation, last_checkpoint,
    lift_since_incarnation, recorded_vkeys,
};
use crate::store::lockdown::is_locked;
use crate::store::pool::Pool;
use crate::store::tiles::{StoredTree, first_changed_tile};

/// Leaves of one checkpoint at most: what is read and kept of it stays small, also of a ledger that has
/// grown large without any.
const LEAVES_AT_ONCE: u64 = 1 << 18;
/// A checkpoint is made anew after this time, also where no row came: who watches an anchor sees that
/// somebody still looks.
const HEARTBEAT: TimeDelta = TimeDelta::minutes(10);
/// How long an event may take to be recorded.
const EVENT_WITHIN: Duration = Duration::from_secs(10);
/// Pause after a round that failed; doubled each time up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How often somebody who waits looks for a checkpoint that another service may have made.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is remembered of the last checkpoint is compared like an anchor's.
const THIS_SERVICE: &str = "this service";

/// Why no checkpoint could be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointerError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is to be told could not be recorded.
    #[error("an event cannot be recorded: {0}")]
    Append(#[from] AppendError),
    /// No key is of this log.
    #[error("no signing key is of the log {0}: set LEDGER_SIGNING_KEY to one that is")]
    NoKey(String),
    /// A key cannot be kept.
    #[error("the key of the log {origin} cannot be kept: {source}")]
    Keep {
        /// Whose key it is.
        origin: String,
        /// Why.
        source: io::Error,
    },
    /// A checkpoint cannot be signed.
    #[error("the checkpoint cannot be signed: {0}")]
    Sign(#[from] FormatError),
    /// Not everything could be read.
    #[error("what came could not be read whole: {0}")]
    Unread(String),
    /// Nobody outside says what was signed before: it could be signed another time.
    #[error("no anchor says what it holds, and nothing is signed until one does: {0}")]
    Unanswered(String),
}

/// What a round came to.
#[derive(Clone, Debug)]
pub enum Round {
    /// Another service makes a checkpoint just now.
    Busy,
    /// There is nothing to sign.
    Nothing,
    /// A checkpoint; and whether the log goes on behind it.
    Signed(StoredCheckpoint, bool),
    /// Something does not add up: nothing is signed.
    Refused,
    /// The log goes on as another incarnation.
    Accepted(Incarnation),
}

/// Wakes whoever makes checkpoints. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Asks for a checkpoint soon.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// Waits until a checkpoint covers a leaf, and returns its size; `None` where that takes longer.
pub async fn wait_for_checkpoint(
    pool: &Pool,
    wake: &Wake,
    leaf: LeafIndex,
    until: Instant,
) -> Result<Option<TreeSize>, StoreError> {
    loop {
        let size = pool.latest_checkpoint().await?.map(|(_, checkpoint)| checkpoint.head.size);
        if let Some(size) = size.filter(|size| size.0 > leaf.0) {
            return Ok(Some(size));
        }
        if Instant::now() + LOOK_EVERY > until {
            return Ok(None);
        }
        wake.ask();
        sleep(LOOK_EVERY).await;
    }
}

/// What is known of the last checkpoint, so that the next one goes on from there.
struct Known {
    checkpoint: StoredCheckpoint,
    start: Option<Start>,
    /// What is held outside of sizes that are still to come.
    held: Vec<Held>,
}

/// Makes checkpoints of one ledger.
pub struct Checkpointer {
    subject: Subject,
    keys: SigningKeys,
    appender: Appender,
    clock: Clock,
    known: Option<Known>,
    /// The last checkpoint that it knew, whatever came after: what it signed once stands, also where the
    /// database says otherwise and no anchor says anything.
    remembered: Option<StoredCheckpoint>,
    /// The log whose keys are on record.
    recorded: Option<String>,
    /// What was found when it last refused.
    refused: BTreeSet<String>,
}

impl Checkpointer {
    /// Of this ledger, with these keys.
    pub fn new(subject: Subject, keys: SigningKeys, appender: Appender, clock: Clock) -> Self {
        subject.outside.keys.learn(keys.vkeys());
        let (known, remembered, recorded, refused) = (None, None, None, BTreeSet::new());
        Self { subject, keys, appender, clock, known, remembered, recorded, refused }
    }

    /// Makes checkpoints for ever: this often where rows came, and when it is woken.
    pub async fn run(mut self, every: Duration, wake: Wake) {
        let mut pause = PAUSE;
        loop {
            match self.round().await {
                Ok(Round::Signed(_, true) | Round::Accepted(_)) => continue,
                Ok(_) => pause = PAUSE,
                Err(error) => {
                    counter!("ledger_checkpoint_errors_total").increment(1);
                    tracing::error!(%error, "no checkpoint could be made");
                    sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
            // Who asks for a checkpoint is not alone: the others are in it.
            let _ = timeout(every, wake.0.notified()).await;
        }
    }

    /// Makes a checkpoint, if there is something to sign.
    pub async fn round(&mut self) -> Result<Round, CheckpointerError> {
        let Some(mut transaction) = CheckpointTransaction::begin(&self.subject.database).await?
        else {
            return Ok(Round::Busy);
        };
        let Some(incarnation) = current_incarnation(transaction.connection()).await? else {
            self.begin_first(transaction).await?;
            return Box::pin(self.round()).await;
        };
        if self.keys.of(&incarnation.origin).is_empty() {
            return Err(CheckpointerError::NoKey(incarnation.origin));
        }
        self.record_keys(&mut transaction, &incarnation).await?;
        let last = last_checkpoint(transaction.connection(), incarnation.id).await?;
        self.tell(last.as_ref());
        let log_size = u64::try_from(transaction.log_size().await?).unwrap_or(0);
        // Where the log has become shorter, what is known of its end is of no use.
        let known = self.known.take().filter(|known| {
            Some(&known.checkpoint) == last.as_ref() && known.checkpoint.head.size.0 <= log_size
        });
        if let Some(Known { checkpoint, .. }) = &known
            && !self.is_due(checkpoint)
            && checkpoint.head.size.0 == log_size
        {
            self.known = known;
            transaction.end().await?;
            return Ok(Round::Nothing);
        }
        let (start, answers) = match known {
            Some(Known { start: Some(start), held, .. }) => {
                (Some(start), Answers { held, ..Answers::default() })
            }
            _ => (None, self.ask(&incarnation, &mut transaction).await?),
        };
        let held = answers.held.clone();
        let run_id = self.clock.new_id();
        let mut quiet = Quiet::default();
        let ahead =
            look_ahead(&self.subject, start, answers, LEAVES_AT_ONCE, run_id, &mut quiet).await?;
        if ahead.report.verdict().is_refusal() {
            transaction.end().await?;
            self.refuse(ahead.report).await;
            return Ok(Round::Refused);
        }
        if ahead.report.breaks_with_history() {
            // All of it acknowledged, or it would have been refused.
            return self.accept(transaction, &incarnation, last, &held).await;
        }
        if let Some(error) = ahead.report.chains.iter().find_map(|chain| chain.error.clone()) {
            return Err(CheckpointerError::Unread(error));
        }
        if !ahead.is_whole {
            return Err(CheckpointerError::Unread("a leaf stands far behind the others".into()));
        }
        self.seal(transaction, &incarnation, last, ahead, held).await
    }

    /// Signs what was looked at.
    async fn seal(
        &mut self,
        mut transaction: CheckpointTransaction,
        incarnation: &Incarnation,
        last: Option<StoredCheckpoint>,
        ahead: Ahead,
        held: Vec<Held>,
    ) -> Result<Round, CheckpointerError> {
        let is_new = |last: &StoredCheckpoint| last.head != ahead.head || self.is_due(last);
        let is_new = last.as_ref().is_none_or(is_new);
        if !is_new {
            let checkpoint = last.expect("what is not new is the last");
            transaction.end().await?;
            self.remembered = Some(checkpoint.clone());
            self.known = Some(Known { checkpoint, start: ahead.end, held });
            return Ok(Round::Nothing);
        }
        transaction.insert_tiles(incarnation.id, &ahead.tiles).await?;
        if let Some((level, index)) =
            first_changed_tile(transaction.connection(), incarnation.id, &ahead.tiles).await?
        {
            return self
                .refuse_history(transaction, ahead.report, changed_tile(level, index))
                .await;
        }
        if let Some(last) = &last {
            let tree = StoredTree { incarnation: incarnation.id, size: ahead.head.size };
            let begins = is_begin_of(transaction.connection(), last.head, tree, ahead.head);
            if let Err(why) = begins.await? {
                let detail =
                    format!("checkpoint {} does not begin what came after it: {why}", last.id);
                let found = finding(FindingKind::Forked, detail);
                return self.refuse_history(transaction, ahead.report, found).await;
            }
        }
        let note = self.sign(&incarnation.origin, ahead.head)?;
        let stored = transaction.commit(incarnation.id, ahead.head, &note).await?;
        self.refused.clear();
        self.tell(Some(&stored));
        counter!("ledger_checkpoints_total").increment(1);
        let held = held.into_iter().filter(|held| held.checkpoint.size > stored.head.size);
        let held = held.collect();
        self.remembered = Some(stored.clone());
        self.known = Some(Known { checkpoint: stored.clone(), start: ahead.end, held });
        Ok(Round::Signed(stored, ahead.is_more))
    }

    async fn refuse_history(
        &mut self,
        transaction: CheckpointTransaction,
        mut report: Report,
        found: Finding,
    ) -> Result<Round, CheckpointerError> {
        if let Some(log) = report.chains.last_mut() {
            log.add(found, false);
        }
        // What it stored is not to stay.
        drop(transaction);
        self.refuse(report).await;
        Ok(Round::Refused)
    }

    fn is_due(&self, last: &StoredCheckpoint) -> bool {
        self.clock.now() - last.signed_at >= HEARTBEAT
    }

    fn sign(&self, origin: &str, head: TreeHead) -> Result<String, CheckpointerError> {
        let TreeHead { size, root } = head;
        let checkpoint =
            Checkpoint { origin: origin.to_owned(), size, root, extensions: Vec::new() };
        let note = checkpoint.sign(&self.keys.of(origin))?.to_string();
        // As everybody reads it.
        Checkpoint::open(note.as_bytes(), &self.keys.vkeys())?;
        Ok(note)
    }

    fn tell(&self, last: Option<&StoredCheckpoint>) {
        if let Some(last) = last {
            let age = (self.clock.now() - last.signed_at).as_seconds_f64().max(0.0);
            gauge!("ledger_checkpoint_age_seconds").set(age);
            #[expect(clippy::cast_precision_loss, reason = "a metric")]
            gauge!("ledger_checkpoint_size").set(last.head.size.0 as f64);
        }
    }

    /// What is held outside, asked where this service does not go on with its own last checkpoint: what
    /// it remembers of that is compared with what the database says now.
    async fn ask(
        &self,
        incarnation: &Incarnation,
        transaction: &mut CheckpointTransaction,
    ) -> Result<Answers, CheckpointerError> {
        let outside = &self.subject.outside;
        let recorded = recorded_vkeys(transaction.connection()).await?;
        let keys = outside.keys.with_recorded(&recorded);
        let mut answers = outside.ask(&incarnation.origin, &keys, Wanted::Latest).await;
        let is_asked = outside.anchors.iter().any(super::anchors::Anchor::keeps_each);
        if is_asked && answers.answered == 0 {
            return Err(CheckpointerError::Unanswered(answers.notes.join("; ")));
        }
        for note in &answers.notes {
            tracing::warn!("{note}");
        }
        if let Some(StoredCheckpoint { note, .. }) = &self.remembered
            && let Ok(checkpoint) = keys.open(note, &incarnation.origin)
        {
            let (anchor, note) = (THIS_SERVICE.to_owned(), note.clone());
            answers.held.push(Held { anchor, checkpoint, note });
        }
        Ok(answers)
    }

    /// Does not sign, and does what follows from what was found: once for as long as it stays the same,
    /// and nobody lifts the lockdown without saying that it is known.
    async fn refuse(&mut self, report: Report) {
        let ids = |report: &Report| -> BTreeSet<String> {
            let listed = report.chains.iter().flat_map(|chain| &chain.findings);
            let new = listed.filter(|listed| !listed.acknowledged);
            new.map(|listed| listed.finding.finding_id()).collect()
        };
        let found = ids(&report);
        counter!("ledger_checkpoints_refused_total").increment(1);
        let is_told = found == self.refused;
        if is_told && is_locked(&self.subject.database).await.unwrap_or(true) {
            return;
        }
        let done = conclude(report, &self.subject.database, self.clock).await;
        for note in &done.notes {
            tracing::error!("{note}");
        }
        // Where the ledger could not be locked, it is tried again.
        if done.lockdown.is_some() {
            self.refused = found;
        }
    }

    /// Begins the first incarnation.
    async fn begin_first(
        &mut self,
        mut transaction: CheckpointTransaction,
    ) -> Result<(), CheckpointerError> {
        let origin = self.keys.origin().to_owned();
        let event = self.tell_incarnation(1, &origin, None).await?;
        transaction.insert_incarnation(&origin, None, None, event).await?;
        Ok(transaction.end().await?)
    }

    /// Begins another incarnation, where what the log is not was acknowledged when a lockdown was lifted.
    async fn accept(
        &mut self,
        mut transaction: CheckpointTransaction,
        incarnation: &Incarnation,
        last: Option<StoredCheckpoint>,
        held: &[Held],
    ) -> Result<Round, CheckpointerError> {
        let lift = lift_since_incarnation(transaction.connection(), incarnation.id).await?;
        let Some(lift) = lift else {
            return Err(CheckpointerError::Unread(
                "the log is not what was signed, and no lift has accepted it as it is".into(),
            ));
        };
        let number = incarnation.id + 1;
        let origin = origin_of(&incarnation.origin, number);
        let is_kept = self.keys.ensure(&origin);
        match is_kept {
            Ok(true) => self.subject.outside.keys.learn(self.keys.vkeys()),
            Ok(false) => return Err(CheckpointerError::NoKey(origin)),
            Err(source) => return Err(CheckpointerError::Keep { origin, source }),
        }
        // The largest that anybody holds.
        let outside = held.iter().max_by_key(|held| held.checkpoint.size);
        let outside = outside.map(|held| (held.checkpoint.size, held.note.clone()));
        let stored = last.map(|last| (last.head.size, last.note));
        let previous = outside.into_iter().chain(stored).max_by_key(|(size, _)| *size);
        let previous = previous.map(|(_, note)| note);
        let told = previous.as_deref().map(|note| (incarnation.origin.as_str(), note));
        let event = self.tell_incarnation(number, &origin, told).await?;
        let begun =
            transaction.insert_incarnation(&origin, previous.as_deref(), Some(lift), event).await?;
        transaction.end().await?;
        tracing::warn!(origin, "the log goes on as another incarnation");
        (self.known, self.remembered, self.recorded) = (None, None, None);
        self.refused.clear();
        Ok(Round::Accepted(begun))
    }

    async fn tell_incarnation(
        &mut self,
        number: i32,
        origin: &str,
        previous: Option<(&str, &str)>,
    ) -> Result<i64, CheckpointerError> {
        let previous =
            previous.map(|(origin, note)| json!({ "origin": origin, "checkpoint": note }));
        let details = json!({
            "incarnation": number,
            "vkeys": self.vkeys_of(origin),
            "previous": previous,
        });
        let id = self.record(EventType::IncarnationStarted, origin, details).await?;
        self.recorded = Some(origin.to_owned());
        Ok(id)
    }

    fn vkeys_of(&self, origin: &str) -> Vec<String> {
        self.keys.of(origin).iter().map(|key| key.verifier_key().to_string()).collect()
    }

    /// Records that other keys sign than before.
    async fn record_keys(
        &mut self,
        transaction: &mut CheckpointTransaction,
        incarnation: &Incarnation,
    ) -> Result<(), CheckpointerError> {
        let origin = &incarnation.origin;
        if self.recorded.as_ref() == Some(origin) {
            return Ok(());
        }
        let vkeys = self.vkeys_of(origin);
        let recorded = recorded_vkeys(transaction.connection()).await?;
        let before = recorded.last().cloned().unwrap_or_default();
        if before != vkeys {
            let details = json!({ "vkeys": vkeys, "before": before });
            self.record(EventType::SigningKeysChanged, origin, details).await?;
            tracing::warn!(origin, "other keys sign than before");
        }
        self.recorded = Some(origin.clone());
        Ok(())
    }

    async fn record(
        &self,
        event_type: EventType,
        origin: &str,
        details: serde_json::Value,
    ) -> Result<i64, CheckpointerError> {
        let event = NewSecurityEvent {
            event_type,
            actor: "system".to_owned(),
            subject: Some(origin.to_owned()),
            details,
            source_ip: None,
        };
        match self.appender.append(event, Instant::now() + EVENT_WITHIN).await? {
            Appended::Recorded(receipt) => Ok(receipt.id.0),
            other => Err(AppendError::Unavailable(format!("{other:?}")).into()),
        }
    }
}
