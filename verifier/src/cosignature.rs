//! Cosignatures: a witness's statement that a checkpoint is consistent with everything it has
//! seen of that log (C2SP tlog-cosignature, Ed25519, `cosignature/v1`).
//!
//! A cosignature stands as one more signature line on the checkpoint's note. Its signature type
//! (0x04) is not that of a log, so [`Note::verify`] ignores it, and what is here ignores the log's.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::note::{KeyError, KeyId, Note, NoteSignature};

/// The signature type of an Ed25519 cosignature (C2SP tlog-cosignature, "Format").
const ALGORITHM_COSIGNATURE: u8 = 0x04;

/// A witness's public key and its name. Its text is the `vkey` of C2SP signed-note,
/// `name+id+base64(0x04 ‖ public key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: KeyId,
    public_key: VerifyingKey,
}

/// A witness's signature over a checkpoint, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// When the witness signed, by its own clock, in seconds since 1970-01-01T00:00:00Z.
    pub timestamp: u64,
    /// The signature line, without its newline: as it stands on the note.
    pub line: String,
}

/// Why a note does not bear a witness's cosignature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// No signature line has the key's name and id.
    #[error("the witness has not signed the note")]
    Missing,
    /// Not eight bytes of a time below 2^63 and 64 of a signature.
    #[error("the witness's signature is not a timestamped Ed25519 signature")]
    Malformed,
    /// The signature is not the key's over this note and time.
    #[error("the witness's signature is wrong")]
    Wrong,
}

impl WitnessKey {
    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The newest cosignature of this witness on a note; signatures of other keys are ignored.
    ///
    /// As in [`Note::verify`], a wrong signature of the key is an error even beside a right one.
    /// Whether the time is plausible is for the caller to say.
    pub fn verify(&self, note: &Note) -> Result<Cosignature, CosignatureError> {
        let is_ours = |line: &&NoteSignature| line.name() == self.name && line.key_id() == self.id;
        let mut newest: Option<Cosignature> = None;
        for line in note.signatures().iter().filter(is_ours) {
            let cosignature = self.verify_line(note.text(), line.to_string())?;
            if newest.as_ref().is_none_or(|other| other.timestamp < cosignature.timestamp) {
                newest = Some(cosignature);
            }
        }
        newest.ok_or(CosignatureError::Missing)
    }

    fn verify_line(&self, text: &str, line: String) -> Result<Cosignature, CosignatureError> {
        let malformed = CosignatureError::Malformed;
        let (_, base64) = line.rsplit_once(' ').ok_or(malformed)?;
        let bytes = BASE64_STANDARD.decode(base64).map_err(|_| malformed)?;
        let signed = bytes.strip_prefix(&self.id.0).ok_or(malformed)?;
        let (timestamp, signature) = signed.split_first_chunk().ok_or(malformed)?;
        let timestamp = u64::from_be_bytes(*timestamp);
        let signature = Signature::from_slice(signature).map_err(|_| malformed)?;
        if i64::try_from(timestamp).is_err() {
            return Err(malformed);
        }
        // C2SP tlog-cosignature, "Ed25519 signed message".
        let message = format!("cosignature/v1\ntime {timestamp}\n{text}");
        // Strict, as for the log's own signatures: one spelling, and no key of small order.
        match self.public_key.verify_strict(message.as_bytes(), &signature) {
            Ok(()) => Ok(Cosignature { timestamp, line }),
            Err(_) => Err(CosignatureError::Wrong),
        }
    }
}

/// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key) (C2SP tlog-cosignature,
/// "Format").
fn key_id(name: &str, public_key: &VerifyingKey) -> KeyId {
    let mut sha = Sha256::new();
    sha.update(name.as_bytes());
    sha.update([b'\n', ALGORITHM_COSIGNATURE]);
    sha.update(public_key.as_bytes());
    let [a, b, c, d, ..] = <[u8; 32]>::from(sha.finalize());
    KeyId([a, b, c, d])
}

impl FromStr for WitnessKey {
    type Err = KeyError;

    fn from_str(vkey: &str) -> Result<Self, KeyError> {
        // The base64 may contain pluses, name and id may not.
        let (name, rest) = vkey.split_once('+').ok_or(KeyError::Format)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Format)?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c < ' ') {
            return Err(KeyError::Name);
        }
        let key = BASE64_STANDARD.decode(key).map_err(|_| KeyError::Format)?;
        let (&algorithm, public_key) = key.split_first().ok_or(KeyError::Format)?;
        if algorithm != ALGORITHM_COSIGNATURE {
            return Err(KeyError::Algorithm);
        }
        let public_key = public_key.try_into().map_err(|_| KeyError::PublicKey)?;
        let public_key = VerifyingKey::from_bytes(public_key).map_err(|_| KeyError::PublicKey)?;
        if public_key.is_weak() {
            return Err(KeyError::PublicKey);
        }
        let expected = key_id(name, &public_key);
        if id.len() != 8 || !id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(KeyError::Format);
        }
        // Its one lowercase spelling is compared, so nothing is left to decode.
        if id != expected.to_string() {
            return Err(KeyError::Id { expected });
        }
        Ok(Self { name: name.to_owned(), id: expected, public_key })
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ALGORITHM_COSIGNATURE];
        key.extend_from_slice(self.public_key.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.id, BASE64_STANDARD.encode(key))
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Signer;

    // Made with openssl (`pkeyutl -sign -rawin`) from the seed 0x20, 0x21, … 0x3f.
    const VKEY: &str = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";
    const TEXT: &str =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    /// At 1679315147 and a second later.
    const LINES: [&str; 2] = [
        "\u{2014} witness.example/w1 IDJKvgAAAABkGFDL6ade/xdmW0GepsICyPher/bBsso0aCocxkD4MgnQ2J3N\
         /61CxrucC0uO4wzUWe3K7XvjkEYtewKXIfP/U7l4Cw==",
        "\u{2014} witness.example/w1 IDJKvgAAAABkGFDMyFoZYZGmJiKg4LCT/Ek8U5xqaA61t19kP+y8v9PsPVby\
         vj2dJStIWTgeTzHmg0D30Z5Z7N13DY1o4dVTnckMAA==",
    ];
    const LOG_LINE: &str = "\u{2014} example.com/behind-the-sofa AQIDBAU=";

    fn key() -> WitnessKey {
        VKEY.parse().unwrap()
    }

    fn note(text: &str, lines: &[&str]) -> Note {
        Note::parse(format!("{text}\n{}\n", lines.join("\n")).as_bytes()).unwrap()
    }

    /// A line as this witness would sign it, with another key or time.
    fn line_with(seed: u8, timestamp: u64, text: &str) -> String {
        let mut bytes = key().id.0.to_vec();
        let message = format!("cosignature/v1\ntime {timestamp}\n{text}");
        let secret = ed25519_dalek::SigningKey::from_bytes(&std::array::from_fn(|at| {
            seed + u8::try_from(at).unwrap()
        }));
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(secret.sign(message.as_bytes()).to_bytes());
        format!("\u{2014} {} {}", key().name, BASE64_STANDARD.encode(bytes))
    }

    #[test]
    fn the_vector_is_verified_and_the_newest_time_counts() {
        assert_eq!(line_with(0x20, 1_679_315_147, TEXT), LINES[0]);
        let cosignature = key().verify(&note(TEXT, &[LOG_LINE, LINES[0]])).unwrap();
        let expected = Cosignature { timestamp: 1_679_315_147, line: LINES[0].to_owned() };
        assert_eq!(cosignature, expected);
        for lines in [LINES, [LINES[1], LINES[0]]] {
            assert_eq!(key().verify(&note(TEXT, &lines)).unwrap().timestamp, 1_679_315_148);
        }
    }

    #[test]
    fn what_the_witness_did_not_sign_is_refused() {
        let verify = |text: &str, lines: &[&str]| key().verify(&note(text, lines)).unwrap_err();
        assert_eq!(verify(TEXT, &[LOG_LINE]), CosignatureError::Missing);
        let renamed = LINES[0].replace("w1", "w2");
        assert_eq!(verify(TEXT, &[&renamed]), CosignatureError::Missing);
        let smaller = TEXT.replace("20852163", "20852162");
        assert_eq!(verify(&smaller, &LINES[..1]), CosignatureError::Wrong);
        let other_key = line_with(0x21, 1_679_315_147, TEXT);
        assert_eq!(verify(TEXT, &[LINES[0], &other_key]), CosignatureError::Wrong);
        let no_time = line_with(0x20, 1 << 63, TEXT);
        assert_eq!(verify(TEXT, &[&no_time]), CosignatureError::Malformed);
        let (name, base64) = LINES[0].rsplit_once(' ').unwrap();
        let mut bytes = BASE64_STANDARD.decode(base64).unwrap();
        for at in 4..bytes.len() {
            bytes[at] ^= 1;
            let changed = format!("{name} {}", BASE64_STANDARD.encode(&bytes));
            assert_eq!(verify(TEXT, &[&changed]), CosignatureError::Wrong, "byte {at}");
            bytes[at] ^= 1;
            let cut = format!("{name} {}", BASE64_STANDARD.encode(&bytes[..=at]));
            let is_whole = at + 1 == bytes.len();
            assert!(is_whole || verify(TEXT, &[&cut]) == CosignatureError::Malformed, "cut {at}");
        }
    }

    #[test]
    fn a_key_reads_back_as_itself_and_a_wrong_one_is_refused() {
        assert_eq!((key().to_string().as_str(), key().name()), (VKEY, "witness.example/w1"));
        let log = "example.com/log+9a5dfc2d+AZVuiVSdESLUPG83yWI9B1TnFbZGYFqEyTUdNUnqIN6l";
        for (wrong, error) in [
            (log, KeyError::Algorithm),
            ("witness.example/w1", KeyError::Format),
            (&VKEY.replace("w1+", " +"), KeyError::Name),
            (&VKEY.replace("20324abe", "20324ABE"), KeyError::Format),
            (&VKEY.replace("20324abe", "20324abf"), KeyError::Id { expected: key().id() }),
            (&VKEY.replace("BCms", "BCm"), KeyError::Format),
            (&VKEY.replace("BCms", "BCmsAAAA"), KeyError::PublicKey),
        ] {
            assert_eq!(wrong.parse::<WitnessKey>(), Err(error), "{wrong}");
        }
    }
}
