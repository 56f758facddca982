//! Anchors: places outside the database that keep checkpoints, so that a database that was
//! rewritten or restored can be compared with what it once signed.
//!
//! | URL | keeps | details |
//! | --- | --- | --- |
//! | `file:/dir` | every checkpoint, in one append-only file for each origin | [`mod@file`] |
//! | `https://host/path` | what its receiver keeps | [`http`] |
//! | `s3://bucket/prefix` | every checkpoint, in an object of its own (feature `s3`) | `s3` |
//! | `tsa+https://host/path` | nothing, but says when a checkpoint existed (RFC 3161) | [`timestamp`] |
//! | `witness+https://host/path#vkey` | the newest, and signs it (C2SP tlog-witness) | [`witness`] |
//!
//! An anchor has no queue and tries nothing twice: a call is one attempt, bounded in time and
//! size. Whoever calls keeps what is yet to be published, and calls again. Publishing again what
//! is held already is no error and doubles nothing.
//!
//! What an anchor gives back is not believed by it: notes are returned unverified.

mod endpoint;
pub mod file;
pub mod http;
#[cfg(feature = "s3")]
pub mod s3;
pub mod timestamp;
pub mod witness;

use std::fmt::{self, Write as _};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_verifier::TreeSize;
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::merkle::TreeHash;
use ledger_verifier::note::Note;
use tokio::sync::mpsc;

use crate::clock::random_bytes;

/// An anchor whose connection takes longer is given up.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An anchor that takes longer for one answer, or a disk for one write, is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One signed checkpoint to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The whole signed note.
    pub note: &'a str,
    /// What it says.
    pub checkpoint: &'a Checkpoint,
}

/// What an anchor gave for a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It keeps the checkpoint, and gives it back when asked. There is nothing to store.
    Kept,
    /// The DER of an RFC 3161 `TimeStampResp` over the note's bytes. To be stored.
    TimestampToken(Vec<u8>),
    /// The witness's signature line, without its newline, verified. To be stored with the note.
    Cosignature(String),
}

/// What a consistency proof could not be made for.
pub type ProofFailure = Box<dyn std::error::Error + Send + Sync>;

/// Why a checkpoint was not published, or what is held not read. No text has a credential in it.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// No answer in time, or none at all; of a folder, that it cannot be read or written. The
    /// checkpoint may have been kept all the same.
    #[error("{0}")]
    Unavailable(String),
    /// It answered, but not as its protocol says.
    #[error("{0}")]
    Refused(String),
    /// What it holds is not a checkpoint of this origin. Somebody else writes there, or the place
    /// is damaged.
    #[error("{0}")]
    Damaged(String),
    /// It holds a larger checkpoint of this origin, or one of this size with another root.
    ///
    /// Unless it is one of the log's own, that another instance published a moment ago, the
    /// anchor holds another history than the database: a finding.
    #[error("it holds another checkpoint of this origin, of size {size}")]
    Conflict {
        /// How large the log was in it.
        size: TreeSize,
        /// The signed note, unverified, where the anchor gives it.
        note: Option<String>,
    },
    /// The caller could not make the consistency proof that the witness needs.
    #[error("no consistency proof could be made for it")]
    Proof(#[source] ProofFailure),
}

/// A place outside the database that keeps checkpoints.
pub struct Anchor {
    name: String,
    place: Place,
}

enum Place {
    File(file::Folder),
    Http(http::Receiver),
    #[cfg(feature = "s3")]
    S3(s3::Bucket),
    Timestamp(timestamp::Authority),
    Witness(Box<witness::Witness>),
}

impl Anchor {
    /// Reads an anchor's URL. `variables` are those of the process: a bucket takes its
    /// credentials (`AWS_…`) from them.
    ///
    /// # Errors
    /// The rule that the URL breaks. It repeats nothing of the URL, which may hold a password.
    pub fn parse(url: &str, variables: &[(String, String)]) -> Result<Self, String> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let (name, place) =
            match scheme {
                "file" => file::Folder::parse(url).map(|(name, it)| (name, Place::File(it))),
                "http" | "https" => {
                    http::Receiver::parse(url).map(|(name, it)| (name, Place::Http(it)))
                }
                #[cfg(feature = "s3")]
                "s3" => s3::Bucket::parse(url, variables).map(|(name, it)| (name, Place::S3(it))),
                #[cfg(not(feature = "s3"))]
                "s3" => {
                    let _ = variables;
                    Err("this build has no s3: build it with the cargo feature s3".to_owned())
                }
                "tsa+http" | "tsa+https" => {
                    timestamp::Authority::parse(url).map(|(name, it)| (name, Place::Timestamp(it)))
                }
                "witness+http" | "witness+https" => witness::Witness::parse(url)
                    .map(|(name, it)| (name, Place::Witness(Box::new(it)))),
                _ => Err("an anchor begins with file:, https:, s3:, tsa+https: or witness+https:"
                    .to_owned()),
            }?;
        Ok(Self { name, place })
    }

    /// The URL without credentials and fragment: for metrics, receipts and findings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is to be given every checkpoint, in their order, and gives them back. Others
    /// are asked to sign the newest now and then.
    pub fn keeps_each(&self) -> bool {
        match self.place {
            Place::File(_) | Place::Http(_) => true,
            #[cfg(feature = "s3")]
            Place::S3(_) => true,
            Place::Timestamp(_) | Place::Witness(_) => false,
        }
    }

    /// Gives it a checkpoint, and takes its receipt.
    ///
    /// `consistency` proves that the tree of the size it is called with begins the checkpoint's
    /// (RFC 9162 section 2.1.4.1). Only a witness needs it; it may be called twice.
    pub async fn publish<F, P>(
        &self,
        signed: &Signed<'_>,
        consistency: F,
        now: DateTime<Utc>,
    ) -> Result<Receipt, AnchorError>
    where
        F: Fn(TreeSize) -> P,
        P: Future<Output = Result<Vec<TreeHash>, ProofFailure>>,
    {
        match &self.place {
            Place::File(folder) => folder.publish(signed).await.map(|()| Receipt::Kept),
            Place::Http(receiver) => receiver.publish(signed).await.map(|()| Receipt::Kept),
            #[cfg(feature = "s3")]
            Place::S3(bucket) => bucket.publish(signed).await.map(|()| Receipt::Kept),
            Place::Timestamp(authority) => {
                authority.stamp(signed.note, random_bytes()).await.map(Receipt::TimestampToken)
            }
            Place::Witness(witness) => {
                witness.cosign(signed, consistency, now).await.map(Receipt::Cosignature)
            }
        }
    }

    /// The checkpoint of the greatest size that it holds of this origin, as a signed note,
    /// unverified. `None` where it holds none, or cannot be asked.
    pub async fn latest(&self, origin: &str) -> Result<Option<String>, AnchorError> {
        match &self.place {
            Place::File(folder) => folder.latest(origin).await,
            Place::Http(receiver) => receiver.latest(origin).await,
            #[cfg(feature = "s3")]
            Place::S3(bucket) => bucket.latest(origin).await,
            Place::Timestamp(_) | Place::Witness(_) => Ok(None),
        }
    }

    /// Sends all that it holds of this origin from size `from` on, as signed notes, unverified,
    /// in the order in which they were kept; of a receiver only the latest.
    ///
    /// Ends early, without an error, when nobody receives any more. The channel's size bounds
    /// what is read ahead. What cannot be read is left out, and the first of it is the error at
    /// the end.
    pub async fn all(
        &self,
        origin: &str,
        from: TreeSize,
        notes: mpsc::Sender<String>,
    ) -> Result<(), AnchorError> {
        match &self.place {
            Place::File(folder) => folder.all(origin, from, notes).await,
            Place::Http(receiver) => {
                if let Some(note) = receiver.latest(origin).await?
                    && checkpoint_in(&note, origin)?.size >= from
                {
                    // Nobody who receives any more is no error.
                    let _ = notes.send(note).await;
                }
                Ok(())
            }
            #[cfg(feature = "s3")]
            Place::S3(bucket) => bucket.all(origin, from, notes).await,
            Place::Timestamp(_) | Place::Witness(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Anchor").field(&self.name).finish()
    }
}

/// How what an anchor holds stands to a checkpoint that it is to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// It is smaller. Whether it is consistent cannot be seen from the two alone.
    Older,
    /// It says the same.
    Same,
}

/// Compares what an anchor holds, as a signed note, with what it is to keep.
fn compare(held: String, signed: &Signed<'_>) -> Result<Held, AnchorError> {
    let checkpoint = checkpoint_in(&held, &signed.checkpoint.origin)?;
    if checkpoint.size < signed.checkpoint.size {
        Ok(Held::Older)
    } else if checkpoint.head() == signed.checkpoint.head() {
        Ok(Held::Same)
    } else {
        Err(AnchorError::Conflict { size: checkpoint.size, note: Some(held) })
    }
}

/// What a note that an anchor holds of this origin says, signatures unverified.
fn checkpoint_in(note: &str, origin: &str) -> Result<Checkpoint, AnchorError> {
    let checkpoint = Note::parse(note.as_bytes())
        .map_err(|error| AnchorError::Damaged(format!("it holds no signed note: {error}")))
        .and_then(|note| {
            Checkpoint::parse(note.text())
                .map_err(|error| AnchorError::Damaged(format!("it holds no checkpoint: {error}")))
        })?;
    if checkpoint.origin == origin {
        return Ok(checkpoint);
    }
    Err(AnchorError::Damaged("it holds a checkpoint of another origin in this one's place".into()))
}

/// The largest name that an origin is given; file systems allow 255 bytes.
const MAX_ESCAPED_BYTES: usize = 200;

/// A name for an origin that is safe in a file name and in an object's key, and its own: all but
/// ASCII letters, digits, `-`, `_` and inner dots is written `=` and two hexadecimal digits. A
/// name that gets too long ends with `=` and a hash of the origin instead.
fn escaped(origin: &str) -> String {
    let mut name = String::new();
    for (at, byte) in origin.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            // Not the first: such files are hidden, and two names of dots mean folders.
            b'.' if at > 0 => name.push('.'),
            _ => write!(name, "={byte:02X}").expect("a string takes what is written"),
        }
    }
    if name.len() > MAX_ESCAPED_BYTES {
        use sha2::Digest as _;
        name.truncate(MAX_ESCAPED_BYTES - 66);
        // Two signs of equality follow each other in no other name.
        name = format!("{name}=={}", hex::encode(sha2::Sha256::digest(origin)));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_safe_name_of_its_own() {
        assert_eq!(escaped("example.com/ledger/i2"), "example.com=2Fledger=2Fi2");
        assert_eq!(escaped(".."), "=2E.");
        assert_eq!(escaped("../a=b\\\u{e9}"), "=2E.=2Fa=3Db=5C=C3=A9");
        let long = [0, 1].map(|tail| escaped(&format!("{}{tail}", "/".repeat(300))));
        assert_ne!(long[0], long[1]);
        assert_eq!(long[0].len(), MAX_ESCAPED_BYTES);
    }
}
