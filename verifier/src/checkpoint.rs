//! Checkpoints: a signed statement of the log's size and root (C2SP tlog-checkpoint, FORMAT.md
//! section 4).

use std::fmt;

use crate::hash::TreeSize;
use crate::merkle::{TreeHash, TreeHead};
use crate::note::{Note, NoteError, SigningKey, VerifierKey, require_text};

/// What a checkpoint says. Its `Display` is the text that is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log this is; also the name of the key that signs. One line, not empty.
    pub origin: String,
    /// How many leaves the log has.
    pub size: TreeSize,
    /// The root over them.
    pub root: TreeHash,
    /// Further lines, each not empty and without its newline; opaque, and none in our own
    /// checkpoints.
    pub extensions: Vec<String>,
}

/// Why a checkpoint cannot be read, signed or believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The signed note around it is malformed, too large or not signed by the key.
    #[error("the checkpoint is not a note signed by the log")]
    Note(#[from] NoteError),
    /// Fewer than three lines, or an empty one.
    #[error("a checkpoint has at least three lines and none is empty")]
    Lines,
    /// The second line is not a number below 2^64 in its one decimal spelling.
    #[error("the checkpoint's tree size is not a plain decimal number")]
    Size,
    /// The third line is not the canonical base64 of 32 bytes.
    #[error("the checkpoint's root is not the base64 of 32 bytes")]
    Root,
    /// A key that signs, or the one that signed, is not named as the log's origin.
    #[error("the checkpoint is of {origin}, the key of {key}")]
    OtherOrigin {
        /// The checkpoint's origin.
        origin: String,
        /// The key's name.
        key: String,
    },
    /// A field holds what its line cannot, such as a newline; found when signing.
    #[error("the checkpoint's fields do not survive being printed")]
    Unprintable,
}

impl Checkpoint {
    /// Size and root, which proofs are verified against.
    pub const fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root }
    }

    /// Reads a note's text (C2SP tlog-checkpoint, "Note text"). Whoever calls this has verified
    /// the note, or does not believe what it says; see [`Checkpoint::open`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        require_text(text)?;
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        let [origin, size, root, extensions @ ..] = lines.as_slice() else {
            return Err(CheckpointError::Lines);
        };
        if lines.iter().any(|line| line.is_empty()) {
            return Err(CheckpointError::Lines);
        }
        Ok(Self {
            origin: (*origin).to_owned(),
            size: parse_size(size).ok_or(CheckpointError::Size)?,
            root: root.parse().map_err(|_| CheckpointError::Root)?,
            extensions: extensions.iter().map(|&line| line.to_owned()).collect(),
        })
    }

    /// Signs with the log's keys, of which each is named as the origin: one, or while keys are
    /// changed the old and the new one.
    ///
    /// A log signs only what is consistent with everything it has signed before (FORMAT.md
    /// section 4); that is for the caller to prove.
    pub fn sign(&self, keys: &[&SigningKey]) -> Result<Note, CheckpointError> {
        if let Some(other) = keys.iter().find(|key| key.verifier_key().name() != self.origin) {
            return Err(self.other_origin(other.verifier_key()));
        }
        let text = self.to_string();
        // The fields are public: only what reads back as itself may be signed.
        if Self::parse(&text).as_ref() != Ok(self) {
            return Err(CheckpointError::Unprintable);
        }
        Ok(Note::sign(&text, keys)?)
    }

    /// Reads a signed checkpoint, verifying that one of `keys` which bears its origin's name signed
    /// it.
    ///
    /// The keys may be those of several logs. A wrong signature of any of them is an error even
    /// beside a right one; signatures of other keys are ignored. Whether the log grew consistently
    /// is another question: see [`verify_consistency`](crate::merkle::verify_consistency).
    pub fn open(note: &[u8], keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let signers = note.verify(keys)?;
        let checkpoint = Self::parse(note.text())?;
        if signers.iter().any(|key| key.name() == checkpoint.origin) {
            return Ok(checkpoint);
        }
        // A good signature by a key of another name says nothing about this log.
        let error = signers
            .first()
            .map_or(NoteError::NoKnownSignature.into(), |other| checkpoint.other_origin(other));
        Err(error)
    }

    fn other_origin(&self, key: &VerifierKey) -> CheckpointError {
        CheckpointError::OtherOrigin { origin: self.origin.clone(), key: key.name().to_owned() }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// ASCII digits without a sign or leading zeros; `None` also from 2^64.
fn parse_size(text: &str) -> Option<TreeSize> {
    let plain = text == "0" || !text.starts_with('0');
    if !plain || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().map(TreeSize)
}
