//! What is to happen with each row of a batch, and what its sender is told.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::super::StoreError;
use super::known::Known;
use crate::chains::signal_audit_ledger::{OUTCOME_OF_SIGNAL, Repeated};
use crate::chains::signals::SAME_BYTES;
use crate::chains::{
    Appended, Existing, Identity, Lockdown, NewRow, Receipt, Reference, stops_in_lockdown,
};

/// What makes a row the same as another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Signal(String, String),
    Delivery(String, String, Vec<u8>),
    Waiting(Waiting),
    Request(String, &'static str, String),
    /// Producer and key; of an outcome also its content.
    Record(String, String, Option<[u8; 32]>),
}

/// By what a delivery that was kept in a lockdown is recognised. Two of the same minute are the
/// same; of the minutes before and after, the times decide.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) source: String,
    pub(super) detail: Option<String>,
    pub(super) content: Vec<u8>,
    pub(super) minute: i64,
}

impl Waiting {
    pub(super) fn minute(received_at: DateTime<Utc>) -> i64 {
        received_at.timestamp().div_euclid(SAME_BYTES.num_seconds())
    }
}

/// Where the first row of a key is.
#[derive(Debug)]
pub(super) enum Stored {
    /// In the database, but not as the ledger would have it: there is no receipt to answer with.
    Damaged { received_at: Option<DateTime<Utc>>, what: String },
    /// In the database.
    Before { content: Vec<u8>, received_at: DateTime<Utc>, existing: Existing },
    /// In this batch, at this place.
    InBatch { content: [u8; 32], at: usize },
}

/// What is to happen with a row of the batch.
#[derive(Debug)]
pub(super) enum Decision {
    /// An outcome repeats its signal.
    Append(Option<Repeated>),
    /// The ledger is locked down.
    Locked,
    /// The row that it names is not there: by this foreign key.
    Unknown(&'static str),
    /// What it meets contradicts the ledger.
    Contradiction(String),
    /// A row from before this batch.
    Old { existing: Existing, same_content: bool },
    /// The row at this place of the batch.
    SameAs { at: usize, same_content: bool },
}

/// Decides for each row, in order, whether it is new.
pub(super) fn plan(
    rows: &[&NewRow],
    mut known: Known,
    lockdown: Option<&Lockdown>,
    unreadable: &HashMap<&'static str, String>,
) -> Vec<Decision> {
    let mut decide = |(at, row): (usize, &&NewRow)| {
        if lockdown.is_some() && stops_in_lockdown(row.chain) {
            return Decision::Locked;
        }
        if let Some(same) = same_as(row, rows, &known.stored) {
            return same;
        }
        match row.reference {
            Some(Reference { target, constraint }) if known.missing.contains(&target) => {
                Decision::Unknown(constraint)
            }
            _ => {
                if let Some(what) = unreadable.get(row.chain.name) {
                    return Decision::Contradiction(what.clone());
                }
                let repeated = match row.identity {
                    Identity::Record { is_outcome: true, .. } => match known.repeated(row) {
                        Ok(repeated) => Some(repeated),
                        Err(decision) => return decision,
                    },
                    _ => None,
                };
                known.add_signal(row);
                if let Some((key, content)) = key(row) {
                    known.stored.insert(key, Stored::InBatch { content, at });
                }
                Decision::Append(repeated)
            }
        }
    };
    rows.iter().enumerate().map(&mut decide).collect()
}

impl Known {
    /// What an outcome repeats of its signal, which stands before it.
    fn repeated(&self, outcome: &NewRow) -> Result<Repeated, Decision> {
        let Some(signal) = signal_of(outcome) else {
            return Err(Decision::Unknown(OUTCOME_OF_SIGNAL));
        };
        if let Some(repeated) = self.signals.get(&signal) {
            return Ok(repeated.clone());
        }
        match self.stored.get(&Key::Record(signal.0, signal.1, None)) {
            Some(Stored::Damaged { what, .. }) => Err(Decision::Contradiction(what.clone())),
            _ => Err(Decision::Unknown(OUTCOME_OF_SIGNAL)),
        }
    }

    /// Outcomes may follow in the same batch.
    fn add_signal(&mut self, row: &NewRow) {
        if let Identity::Record { is_outcome: false, .. } = row.identity
            && self.has_outcomes
            && let Some(signal) = signal_of(row)
        {
            self.signals.insert(signal, Repeated::of(&row.values));
        }
    }
}

/// Producer and key of the signal that a record is, or is about.
fn signal_of(row: &NewRow) -> Option<(String, String)> {
    match &row.identity {
        Identity::Record { source_module, signal_id, .. } => {
            Some((source_module.clone(), signal_id.clone()))
        }
        _ => None,
    }
}

/// What a row is recognised by, with the SHA-256 of its content.
pub(super) fn key(row: &NewRow) -> Option<(Key, [u8; 32])> {
    match &row.identity {
        Identity::Unique => None,
        Identity::Signal { recorded_by, signal_id, content, .. } => {
            Some((Key::Signal(recorded_by.clone(), signal_id.clone()), *content))
        }
        Identity::Delivery { source, reason, content } => {
            let key = Key::Delivery(source.clone(), (*reason).to_owned(), content.to_vec());
            Some((key, *content))
        }
        Identity::Waiting { source, detail, received_at, content } => {
            let waiting = Waiting {
                source: source.clone(),
                detail: detail.clone(),
                content: content.to_vec(),
                minute: Waiting::minute(*received_at),
            };
            Some((Key::Waiting(waiting), *content))
        }
        Identity::Record { source_module, signal_id, is_outcome, content } => {
            let outcome = is_outcome.then_some(*content);
            Some((Key::Record(source_module.clone(), signal_id.clone(), outcome), *content))
        }
        Identity::Request { recorded_by, key, content } => {
            Some((Key::Request(recorded_by.clone(), row.chain.name, key.clone()), *content))
        }
    }
}

/// Other keys under which the same delivery may be, if it was received at nearly the same time: of
/// two that come almost at once, either can be appended first.
fn neighbours(row: &NewRow) -> Vec<Key> {
    match (&row.identity, key(row)) {
        (Identity::Signal { recorded_by, neighbours, .. }, _) => {
            let key = |id: &String| Key::Signal(recorded_by.clone(), id.clone());
            neighbours.iter().map(key).collect()
        }
        (_, Some((Key::Waiting(waiting), _))) => [waiting.minute - 1, waiting.minute + 1]
            .map(|minute| Key::Waiting(Waiting { minute, ..waiting.clone() }))
            .to_vec(),
        _ => Vec::new(),
    }
}

/// The row that this one is the same as, if there is one.
fn same_as(row: &NewRow, rows: &[&NewRow], stored: &HashMap<Key, Stored>) -> Option<Decision> {
    // The keys are made of the same bytes, so only the time decides.
    let received_at = row.received_at();
    let is_near =
        |other: DateTime<Utc>| received_at.is_some_and(|at| (at - other).abs() <= SAME_BYTES);
    for key in neighbours(row) {
        match stored.get(&key) {
            Some(Stored::Before { received_at, existing, .. }) if is_near(*received_at) => {
                let existing = existing.clone();
                return Some(Decision::Old { existing, same_content: true });
            }
            Some(Stored::InBatch { at, .. }) if rows[*at].received_at().is_some_and(is_near) => {
                return Some(Decision::SameAs { at: *at, same_content: true });
            }
            // Where its time is gone too, it may be this one.
            Some(Stored::Damaged { received_at, what }) if received_at.is_none_or(is_near) => {
                return Some(Decision::Contradiction(what.clone()));
            }
            _ => {}
        }
    }
    let (key, content) = key(row)?;
    Some(match stored.get(&key)? {
        Stored::InBatch { content: first, at } => {
            Decision::SameAs { at: *at, same_content: *first == content }
        }
        Stored::Before { content: first, existing, .. } => {
            Decision::Old { existing: existing.clone(), same_content: *first == content }
        }
        Stored::Damaged { what, .. } => Decision::Contradiction(what.clone()),
    })
}

/// The answers, once every new row has its receipt.
pub(super) fn outcomes(
    rows: &[&NewRow],
    plan: Vec<Decision>,
    receipts: &[Option<Receipt>],
    lockdown: Option<&Lockdown>,
) -> Vec<Result<Appended, StoreError>> {
    let answer = |existing, same_content| {
        if same_content { Appended::Duplicate(existing) } else { Appended::Conflict(existing) }
    };
    let receipt_at = |at: usize| receipts[at].clone().expect("an appended row has its receipt");
    let answer_for = |(at, decision)| {
        Ok(match decision {
            Decision::Append(_) => Appended::Recorded(receipt_at(at)),
            Decision::Locked => {
                Appended::Locked(lockdown.cloned().expect("what it was decided by"))
            }
            Decision::Unknown(constraint) => Appended::UnknownReference(constraint),
            Decision::Old { existing, same_content } => answer(existing, same_content),
            Decision::SameAs { at, same_content } => {
                let correlation_id = rows[at].correlation_id();
                answer(Existing { receipt: receipt_at(at), correlation_id }, same_content)
            }
            Decision::Contradiction(what) => {
                return Err(StoreError::Contradiction { statement: "append", what });
            }
        })
    };
    plan.into_iter().enumerate().map(answer_for).collect()
}
