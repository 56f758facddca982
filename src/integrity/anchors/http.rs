//! An anchor that receives checkpoints by HTTP: `https://[user:password@]host/path`.
//!
//! The protocol, small enough for a receiver of twenty lines:
//!
//! | request | answer |
//! | --- | --- |
//! | `POST path`, the signed note as `text/plain; charset=utf-8` | 2xx: kept, and will be given back. 409 with a signed note: it holds this one of the same origin, which is larger or has another root |
//! | `GET path?origin=…` | 200 with the signed note of the greatest size of that origin; 204 or 404: none |
//!
//! The origin is the note's first line, the tree size its second. A receiver that answers GET
//! with 405 or 501 is only told, never asked. The user and the password are sent as basic
//! authentication. Redirects are not followed.

use ledger_verifier::note::MAX_NOTE_BYTES;

use super::endpoint::{Answer, Endpoint};
use super::{AnchorError, Held, Signed, checkpoint_in, compare};

/// Something that keeps checkpoints and answers HTTP.
pub struct Receiver {
    endpoint: Endpoint,
}

impl Receiver {
    /// The anchor and its name.
    pub(super) fn parse(url: &str) -> Result<(String, Self), String> {
        let endpoint = Endpoint::parse(url)?;
        Ok((endpoint.url().to_string(), Self { endpoint }))
    }

    /// Posts the note, unless it is held already.
    pub(super) async fn publish(&self, signed: &Signed<'_>) -> Result<(), AnchorError> {
        // Asked first, so that the simplest receiver, which appends whatever comes, gets nothing
        // twice and hides no other history.
        if let Some(held) = self.latest(&signed.checkpoint.origin).await?
            && compare(held, signed)? == Held::Same
        {
            return Ok(());
        }
        let note = signed.note.as_bytes().to_vec();
        let content_type = "text/plain; charset=utf-8";
        let answer = self.endpoint.post("", content_type, note, MAX_NOTE_BYTES).await?;
        match answer.status.as_u16() {
            200..=299 => Ok(()),
            // Another instance may have published in between.
            409 => match compare(note_in(answer, &signed.checkpoint.origin)?, signed)? {
                Held::Same => Ok(()),
                Held::Older => Err(AnchorError::Refused(
                    "it answered 409 with a checkpoint that is older than the new one".to_owned(),
                )),
            },
            _ => Err(answer.unexpected()),
        }
    }

    pub(super) async fn latest(&self, origin: &str) -> Result<Option<String>, AnchorError> {
        let answer = self.endpoint.get(("origin", origin), MAX_NOTE_BYTES).await?;
        match answer.status.as_u16() {
            200 => note_in(answer, origin).map(Some),
            204 | 404 | 405 | 501 => Ok(None),
            _ => Err(answer.unexpected()),
        }
    }
}

/// The note of this origin that was answered. Any other body is no sign of what is held: a proxy
/// may have answered.
fn note_in(answer: Answer, origin: &str) -> Result<String, AnchorError> {
    let status = answer.status.as_u16();
    let other = |what| AnchorError::Refused(format!("it answered {status} with {what}"));
    let note = String::from_utf8(answer.body).map_err(|_| other("what is not UTF-8"))?;
    match checkpoint_in(&note, origin) {
        Ok(_) => Ok(note),
        Err(_) => Err(other("what is no checkpoint of this origin")),
    }
}
