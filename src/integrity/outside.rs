//! What the database is compared with: keys that are known from elsewhere, and anchors, which keep
//! checkpoints outside it.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures_util::future::join_all;
use ledger_verifier::TreeSize;
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::note::{Note, VerifierKey};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::anchors::Anchor;
use crate::store::Database;
use crate::store::checkpoints::StoredCheckpoint;

/// How long an anchor may take to say what it holds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// Checkpoints of an anchor that are compared: the newest, which commit to all before them.
const COMPARED: usize = 10_000;
/// Notes that may wait to be read.
const NOTES_AHEAD: usize = 64;

/// Keys whose signatures count.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    /// Known from outside the database. Clones share them, and what one learns the others know.
    known: Arc<RwLock<Vec<VerifierKey>>>,
    /// Named by the ledger itself: for what was signed before a key was replaced, and where no key is
    /// known from elsewhere.
    recorded: Vec<VerifierKey>,
}

impl TrustedKeys {
    /// Keys that are known from outside the database.
    pub fn new(known: Vec<VerifierKey>) -> Self {
        Self { known: Arc::new(RwLock::new(known)), recorded: Vec::new() }
    }

    /// Also these, which the service signs with.
    pub fn learn(&self, keys: Vec<VerifierKey>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if !known.contains(&key) {
                known.push(key);
            }
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, Vec<VerifierKey>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no key is known from outside the database.
    pub fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    /// The logs that the keys known from outside the database are of.
    pub fn origins(&self) -> Vec<String> {
        let mut origins: Vec<_> = self.known().iter().map(|key| key.name().to_owned()).collect();
        origins.sort();
        origins.dedup();
        origins
    }

    /// With those that the ledger names. What is no key is none.
    #[must_use]
    pub fn with_recorded(&self, recorded: &[Vec<String>]) -> Self {
        let keys = recorded.iter().flatten().filter_map(|vkey| vkey.parse().ok());
        Self { known: Arc::clone(&self.known), recorded: keys.collect() }
    }

    /// Those of a log that are known from outside the database.
    pub fn known_of(&self, origin: &str) -> Vec<VerifierKey> {
        of(origin, &self.known()).cloned().collect()
    }

    /// Whether any key of a log is known, from wherever.
    pub fn has_any_of(&self, origin: &str) -> bool {
        !self.all_of(origin).is_empty()
    }

    /// Every key of a log that may have signed.
    fn all_of(&self, origin: &str) -> Vec<VerifierKey> {
        of(origin, &self.known()).chain(of(origin, &self.recorded)).cloned().fold(
            Vec::new(),
            |mut keys, key| {
                if !keys.contains(&key) {
                    keys.push(key);
                }
                keys
            },
        )
    }

    /// Which of a log's keys signed a note.
    pub fn signers_of(&self, note: &str, origin: &str) -> Vec<VerifierKey> {
        let keys = self.all_of(origin);
        let signers = Note::parse(note.as_bytes())
            .and_then(|note| Ok(note.verify(&keys)?.into_iter().cloned().collect()));
        signers.unwrap_or_default()
    }

    /// A checkpoint of this log, if one of its keys signed it.
    pub fn open(&self, note: &str, origin: &str) -> Result<Checkpoint, String> {
        let opened = Checkpoint::open(note.as_bytes(), &self.all_of(origin));
        opened.map_err(|error| error.to_string())
    }

    /// Whether a stored checkpoint is one of this log, and its columns say what its note says.
    pub fn open_stored(
        &self,
        stored: &StoredCheckpoint,
        origin: &str,
    ) -> Result<Checkpoint, String> {
        says_the_same(stored, self.open(&stored.note, origin)?)
    }

    /// The same of the last one, which the others are believed by: where a key is known from outside the
    /// database, that one must have signed.
    pub fn open_last(&self, stored: &StoredCheckpoint, origin: &str) -> Result<Checkpoint, String> {
        let known = self.known_of(origin);
        if known.is_empty() {
            return self.open_stored(stored, origin);
        }
        let opened = Checkpoint::open(stored.note.as_bytes(), &known);
        says_the_same(stored, opened.map_err(|error| error.to_string())?)
    }
}

fn of<'a>(origin: &'a str, keys: &'a [VerifierKey]) -> impl Iterator<Item = &'a VerifierKey> {
    keys.iter().filter(move |key| key.name() == origin)
}

fn says_the_same(stored: &StoredCheckpoint, opened: Checkpoint) -> Result<Checkpoint, String> {
    if opened.head() == stored.head {
        Ok(opened)
    } else {
        Err("its note says another size or root".to_owned())
    }
}

/// A checkpoint that an anchor holds, signed by the log.
#[derive(Clone, Debug)]
pub struct Held {
    /// The anchor's name.
    pub anchor: String,
    /// What it holds.
    pub checkpoint: Checkpoint,
    /// The note around it.
    pub note: String,
}

/// Which of an anchor's checkpoints are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The largest.
    Latest,
    /// The newest of those from this size on.
    From(TreeSize),
}

/// Keys and anchors.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// Whose signatures count.
    pub keys: TrustedKeys,
    /// Where checkpoints are kept.
    pub anchors: Arc<[Anchor]>,
}

/// What anchors said.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// What they hold.
    pub held: Vec<Held>,
    /// Anchors that said what they hold, if anything.
    pub answered: usize,
    /// Who could not be asked, or holds what the log did not sign: for people.
    pub notes: Vec<String>,
}

impl Outside {
    /// Asks every anchor for the checkpoints that it holds of a log.
    pub async fn ask(&self, origin: &str, keys: &TrustedKeys, wanted: Wanted) -> Answers {
        let questions = self.anchors.iter().map(|anchor| async move {
            match timeout(ANSWERS_WITHIN, notes_of(anchor, origin, wanted)).await {
                Ok(Ok(notes)) => Ok((anchor, notes)),
                Ok(Err(error)) => Err(format!("{} could not be asked: {error}", anchor.name())),
                Err(_) => Err(format!(
                    "{} did not say what it holds within {} s",
                    anchor.name(),
                    ANSWERS_WITHIN.as_secs()
                )),
            }
        });
        let mut answers = Answers::default();
        for answer in join_all(questions).await {
            let (anchor, notes) = match answer {
                Ok(answer) => answer,
                Err(note) => {
                    answers.notes.push(note);
                    continue;
                }
            };
            answers.answered += 1;
            let mut of_others = 0;
            for note in notes {
                match keys.open(&note, origin) {
                    Ok(checkpoint) => {
                        let anchor = anchor.name().to_owned();
                        answers.held.push(Held { anchor, checkpoint, note });
                    }
                    Err(_) => of_others += 1,
                }
            }
            if of_others > 0 {
                // Who can write to an anchor must not be able to lock the ledger.
                answers.notes.push(format!(
                    "{} holds {of_others} checkpoints that no known key of {origin} has signed: they \
                     are not compared",
                    anchor.name()
                ));
            }
        }
        answers
    }
}

async fn notes_of(
    anchor: &Anchor,
    origin: &str,
    wanted: Wanted,
) -> Result<VecDeque<String>, super::anchors::AnchorError> {
    let from = match wanted {
        Wanted::Latest => return Ok(anchor.latest(origin).await?.into_iter().collect()),
        Wanted::From(from) => from,
    };
    let (sender, mut sent) = mpsc::channel(NOTES_AHEAD);
    let mut notes = VecDeque::new();
    let (read, ()) = tokio::join!(anchor.all(origin, from, sender), async {
        while let Some(note) = sent.recv().await {
            if notes.len() == COMPARED {
                notes.pop_front();
            }
            notes.push_back(note);
        }
    });
    // What was read before something that cannot be is still held.
    match read {
        Err(error) if notes.is_empty() => Err(error),
        Err(error) => {
            tracing::warn!(%error, anchor = anchor.name(), "an anchor could not be read whole");
            Ok(notes)
        }
        Ok(()) => Ok(notes),
    }
}

/// The ledger that is checked, and what it is compared with.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where it is recorded, and locked.
    pub database: Database,
    /// A physical replica to read from.
    pub replica: Option<Database>,
    /// Keys and anchors.
    pub outside: Outside,
}

impl Subject {
    /// A ledger that is compared with itself alone.
    pub fn of(database: Database) -> Self {
        Self { database, replica: None, outside: Outside::default() }
    }

    /// Where it is read.
    pub fn reads(&self) -> &Database {
        self.replica.as_ref().unwrap_or(&self.database)
    }
}
