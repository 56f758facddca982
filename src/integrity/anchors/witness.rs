//! A witness (C2SP tlog-witness): `witness+https://[user:password@]host/prefix#vkey`.
//!
//! It remembers the newest checkpoint that it signed, and signs another only if that one is
//! consistent with it: its cosignature says that nobody was shown another history, as far as it
//! has seen. The URL is the witness's submission prefix, the fragment its verifier key of type
//! 0x04 (C2SP tlog-cosignature), without which anyone could answer. The witness must know the
//! log's vkey; that is arranged with whoever runs it.
//!
//! It cannot be asked for what it holds. Where it refuses a checkpoint, its history is another.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use ledger_verifier::TreeSize;
use ledger_verifier::cosignature::WitnessKey;
use ledger_verifier::merkle::TreeHash;
use ledger_verifier::note::Note;

use super::endpoint::{Answer, Endpoint};
use super::{AnchorError, ProofFailure, Signed};

/// The largest answer that is read: signature lines of a few hundred bytes each.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// What tlog-witness allows; a proof for any tree below 2^64 leaves fits.
const MAX_PROOF_HASHES: usize = 63;
/// How far a witness's clock may be ahead of ours.
const MAX_AHEAD_S: i64 = 300;

/// A server that signs consistent checkpoints.
pub struct Witness {
    endpoint: Endpoint,
    key: WitnessKey,
    /// The origin and size that it signed last, as far as this process knows: with it most calls
    /// need one request. It is no promise; the witness says where it stands.
    signed_last: Mutex<Option<(String, TreeSize)>>,
}

/// What a witness says to one request.
enum Said {
    Line(String),
    /// Its newest checkpoint is of another size than the request's old one.
    StandsAt(TreeSize),
    /// The new tree does not begin with what it signed at the old size.
    Inconsistent,
}

impl Witness {
    /// The anchor and its name.
    pub(super) fn parse(url: &str) -> Result<(String, Self), String> {
        let url = url.strip_prefix("witness+").unwrap_or(url);
        // Not by the parser of URLs, which would change some characters of the key's name.
        let (url, key) = url
            .split_once('#')
            .ok_or("ends with # and the witness's vkey, as its operator gives it")?;
        let key = key.parse().map_err(|error| match error {
            ledger_verifier::note::KeyError::Algorithm => {
                "has after # a vkey of another type than cosignature/v1 (0x04)".to_owned()
            }
            error => format!("has after # no usable vkey: {error}"),
        })?;
        let endpoint = Endpoint::parse(url)?;
        let name = format!("witness+{}", endpoint.url());
        Ok((name, Self { endpoint, key, signed_last: Mutex::default() }))
    }

    /// The witness's signature line over the checkpoint, verified.
    pub(super) async fn cosign<F, P>(
        &self,
        signed: &Signed<'_>,
        consistency: F,
        now: DateTime<Utc>,
    ) -> Result<String, AnchorError>
    where
        F: Fn(TreeSize) -> P,
        P: Future<Output = Result<Vec<TreeHash>, ProofFailure>>,
    {
        let size = signed.checkpoint.size;
        let mut old = self.known_size(signed);
        let mut said = self.add_checkpoint(signed, old, &consistency, now).await?;
        if let Said::StandsAt(stands_at) = said
            && stands_at != old
            && stands_at <= size
        {
            old = stands_at;
            said = self.add_checkpoint(signed, old, &consistency, now).await?;
        }
        match said {
            Said::Line(line) => {
                let mut last = self.signed_last.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some((signed.checkpoint.origin.clone(), size));
                Ok(line)
            }
            Said::StandsAt(stands_at) if stands_at > size => {
                Err(AnchorError::Conflict { size: stands_at, note: None })
            }
            Said::StandsAt(stands_at) => Err(AnchorError::Refused(format!(
                "it wants a proof from size {stands_at}, and was given one from {old}"
            ))),
            Said::Inconsistent => Err(AnchorError::Conflict { size: old, note: None }),
        }
    }

    /// From which size a proof is tried first. From 0 none is needed, and the witness answers
    /// where it stands.
    fn known_size(&self, signed: &Signed<'_>) -> TreeSize {
        let last = self.signed_last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((origin, size))
                if *origin == signed.checkpoint.origin && *size <= signed.checkpoint.size =>
            {
                *size
            }
            _ => TreeSize(0),
        }
    }

    /// One request (C2SP tlog-witness, "add-checkpoint").
    async fn add_checkpoint<F, P>(
        &self,
        signed: &Signed<'_>,
        old: TreeSize,
        consistency: &F,
        now: DateTime<Utc>,
    ) -> Result<Said, AnchorError>
    where
        F: Fn(TreeSize) -> P,
        P: Future<Output = Result<Vec<TreeHash>, ProofFailure>>,
    {
        let size = signed.checkpoint.size;
        // Empty for these by definition, so that nobody has to know.
        let proof = if old.0 == 0 || old == size {
            Vec::new()
        } else {
            consistency(old).await.map_err(AnchorError::Proof)?
        };
        if proof.len() > MAX_PROOF_HASHES {
            return Err(AnchorError::Proof("the proof has more hashes than any tree needs".into()));
        }
        let mut body = format!("old {old}\n");
        for hash in proof {
            writeln!(body, "{hash}").expect("a string takes what is written");
        }
        body = format!("{body}\n{}", signed.note);
        let content_type = "text/plain; charset=utf-8";
        let answer = self
            .endpoint
            .post("add-checkpoint", content_type, body.into_bytes(), MAX_ANSWER_BYTES)
            .await?;
        match answer.status.as_u16() {
            200 => self.verified(&answer, signed, now).map(Said::Line),
            409 => match size_in(&answer) {
                Some(stands_at) if stands_at != old => Ok(Said::StandsAt(stands_at)),
                // The sizes agree, so the roots do not.
                _ if old == size => Ok(Said::Inconsistent),
                _ => Err(answer.unexpected()),
            },
            422 if old.0 > 0 => Ok(Said::Inconsistent),
            404 => Err(AnchorError::Refused("it does not know this log's origin".to_owned())),
            403 => Err(AnchorError::Refused("it does not know this log's key".to_owned())),
            _ => Err(answer.unexpected()),
        }
    }

    /// The line of our witness among those that were answered, if it is right and not of a time
    /// that is yet to come.
    fn verified(
        &self,
        answer: &Answer,
        signed: &Signed<'_>,
        now: DateTime<Utc>,
    ) -> Result<String, AnchorError> {
        let refused = |what: String| AnchorError::Refused(format!("it answered 200, but {what}"));
        let note = [signed.note.as_bytes(), &answer.body].concat();
        let note = Note::parse(&note).map_err(|error| refused(error.to_string()))?;
        // A blank line in the answer would make part of it the text that is signed.
        if note.text() != signed.checkpoint.to_string() {
            return Err(refused("with more than signature lines".to_owned()));
        }
        let cosignature = self.key.verify(&note).map_err(|error| refused(error.to_string()))?;
        let ahead = i64::try_from(cosignature.timestamp).map(|time| time - now.timestamp());
        match ahead {
            Ok(ahead) if ahead <= MAX_AHEAD_S => Ok(cosignature.line),
            _ => Err(refused("signed for a time that is yet to come".to_owned())),
        }
    }
}

/// The size of a conflict's body, which is a decimal number and a newline.
fn size_in(answer: &Answer) -> Option<TreeSize> {
    let text = std::str::from_utf8(&answer.body).ok()?.strip_suffix('\n')?;
    let size: u64 = text.parse().ok()?;
    (answer.is_of("text/x.tlog.size") && size.to_string() == text).then_some(TreeSize(size))
}
