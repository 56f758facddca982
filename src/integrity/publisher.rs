//! Gives every anchor the checkpoints that it is to keep. The database is the queue: what an anchor has
//! not confirmed is given to it again, however long it was away.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use ledger_verifier::TreeSize;
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::merkle::{TreeHash, consistency_proof};
use ledger_verifier::note::Note;
use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::anchors::{Anchor, AnchorError, ProofFailure, Receipt, Signed};
use super::history::is_begin_of;
use crate::clock::Clock;
use crate::store::checkpoints::{
    StoredCheckpoint, checkpoints_after, current_incarnation, insert_receipt, last_checkpoint,
    last_confirmed,
};
use crate::store::pool::Pool;
use crate::store::{Database, StoreError};

/// How often is looked for checkpoints that an anchor has not.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Checkpoints that are given to an anchor before what it confirms is recorded.
const AT_ONCE: i64 = 100;
/// The pause after an anchor failed, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Who is asked to sign, a time stamping authority or a witness, is asked this often.
const BETWEEN_SIGNATURES: TimeDelta = TimeDelta::minutes(10);

/// Why an anchor was given nothing.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The anchor.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The checkpoint in the database is none.
    #[error("checkpoint {id} cannot be read: {why}")]
    Unreadable {
        /// Its number.
        id: i64,
        /// Why.
        why: String,
    },
}

/// Gives every anchor what it is to have now.
pub async fn publish_all(
    database: &Database,
    anchors: &[Anchor],
    clock: Clock,
) -> Result<(), PublishError> {
    let reads = Pool::of(database, 1);
    for anchor in anchors {
        while publish_next(database, &reads, anchor, clock).await? {}
    }
    Ok(())
}

/// Gives one of the anchors its checkpoints, for ever. `alarm` is told where the anchor holds another
/// history: then the ledger wants a check.
pub async fn publish(
    database: Database,
    anchors: Arc<[Anchor]>,
    at: usize,
    clock: Clock,
    alarm: Arc<Notify>,
) {
    let anchor = &anchors[at];
    let name = anchor.name().to_owned();
    // Which is kept: it looks every second, and there is seldom anything to give.
    let reads = Pool::of(&database, 1);
    let mut pause = PAUSE;
    loop {
        match publish_next(&database, &reads, anchor, clock).await {
            // There may be more.
            Ok(true) => {
                pause = PAUSE;
                continue;
            }
            Ok(false) => {
                pause = PAUSE;
                sleep(LOOK_EVERY).await;
                continue;
            }
            Err(PublishError::Anchor(error @ AnchorError::Conflict { .. })) => {
                tracing::error!(anchor = name, %error, "an anchor holds another history");
                alarm.notify_one();
            }
            Err(error) => {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(anchor = name, %error, cause, "an anchor was given nothing");
            }
        }
        counter!("ledger_anchor_errors_total", "anchor" => name.clone()).increment(1);
        sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// Gives the anchor what it has not confirmed, at most so much at once. Answers whether there may be more.
async fn publish_next(
    database: &Database,
    reads: &Pool,
    anchor: &Anchor,
    clock: Clock,
) -> Result<bool, PublishError> {
    let mut connection = reads.acquire().await?;
    let Some(incarnation) = current_incarnation(&mut *connection).await? else { return Ok(false) };
    let confirmed = last_confirmed(&mut *connection, anchor.name(), incarnation.id).await?;
    let after = confirmed.as_ref().map_or(0, |confirmed| confirmed.checkpoint_id);
    let age = confirmed.as_ref().map(|confirmed| clock.now() - confirmed.confirmed_at);
    if let Some(age) = age {
        let seconds = age.as_seconds_f64().max(0.0);
        gauge!("ledger_anchor_age_seconds", "anchor" => anchor.name().to_owned()).set(seconds);
    }
    let pending = if anchor.keeps_each() {
        checkpoints_after(&mut *connection, incarnation.id, after, AT_ONCE).await?
    } else {
        let newest = last_checkpoint(&mut *connection, incarnation.id).await?;
        let is_due = age.is_none_or(|age| age >= BETWEEN_SIGNATURES);
        newest.into_iter().filter(|newest| newest.id > after && is_due).collect()
    };
    drop(connection);
    // One that has never confirmed any is as old as what waits for it.
    if let (None, Some(first)) = (age, pending.first()) {
        let seconds = (clock.now() - first.signed_at).as_seconds_f64().max(0.0);
        gauge!("ledger_anchor_age_seconds", "anchor" => anchor.name().to_owned()).set(seconds);
    }
    let pending_gauge =
        gauge!("ledger_anchor_pending_checkpoints", "anchor" => anchor.name().to_owned());
    #[expect(clippy::cast_precision_loss, reason = "at most a hundred")]
    pending_gauge.set(pending.len() as f64);
    let is_more = i64::try_from(pending.len()).unwrap_or(0) == AT_ONCE;
    let mut last = None;
    let mut ended = Ok(());
    for stored in pending {
        match give(database, anchor, &stored, clock).await {
            Ok(receipt) => last = Some((stored.id, receipt)),
            Err(PublishError::Anchor(AnchorError::Conflict { note: Some(note), .. }))
                if is_of_this_log(database, &stored, &note).await? =>
            {
                last = Some((stored.id, Receipt::Kept));
            }
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    // What was confirmed before something went wrong is confirmed.
    if let Some((id, receipt)) = last {
        let receipt = match receipt {
            Receipt::Kept => None,
            Receipt::TimestampToken(token) => Some(token),
            Receipt::Cosignature(line) => Some(line.into_bytes()),
        };
        insert_receipt(database, anchor.name(), id, receipt.as_deref()).await?;
        gauge!("ledger_anchor_age_seconds", "anchor" => anchor.name().to_owned()).set(0.0);
    }
    ended.map(|()| is_more)
}

/// Whether what an anchor holds in place of a checkpoint is a larger one of this very log, which another
/// service has given it: it commits to all before it.
async fn is_of_this_log(
    database: &Database,
    stored: &StoredCheckpoint,
    note: &str,
) -> Result<bool, StoreError> {
    let checkpoint = Note::parse(note.as_bytes()).ok();
    let checkpoint = checkpoint.and_then(|note| Checkpoint::parse(note.text()).ok());
    let mut connection = database.connect().await?;
    let last = last_checkpoint(&mut connection, stored.incarnation).await?;
    let (Some(checkpoint), Some(last)) = (checkpoint, last) else { return Ok(false) };
    Ok(checkpoint.size >= stored.head.size
        && is_begin_of(&mut connection, checkpoint.head(), last.tree(), last.head).await?.is_ok())
}

async fn give(
    database: &Database,
    anchor: &Anchor,
    stored: &StoredCheckpoint,
    clock: Clock,
) -> Result<Receipt, PublishError> {
    let unreadable = |why: String| PublishError::Unreadable { id: stored.id, why };
    let note =
        Note::parse(stored.note.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let checkpoint =
        Checkpoint::parse(note.text()).map_err(|error| unreadable(error.to_string()))?;
    let signed = Signed { note: &stored.note, checkpoint: &checkpoint };
    let proof = |from: TreeSize| async move {
        let plan = consistency_proof(from, stored.head.size)?;
        let mut connection = database.connect().await?;
        let proof: Result<Vec<TreeHash>, ProofFailure> =
            stored.tree().prove(&mut connection, &plan).await.map_err(Into::into);
        proof
    };
    Ok(anchor.publish(&signed, proof, clock.now()).await?)
}
