//! Signed notes: a text and the signatures of named keys (C2SP signed-note).
//!
//! Of the signature types only Ed25519 (0x01) is known here; signatures of other types and keys
//! are kept and ignored. What is parsed prints as it was: `print(parse(x)) == x`.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signature as Ed25519Signature, Signer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The largest note that is read or signed, in bytes, signatures included. Go's note package
/// has the same bound.
pub const MAX_NOTE_BYTES: usize = 1_000_000;

/// The most signatures on one note. The specification asks for at least 16; Go's note package
/// allows as many as here.
pub const MAX_SIGNATURES: usize = 100;

/// The signature type of Ed25519 (C2SP signed-note, "Signature types").
const ALGORITHM_ED25519: u8 = 0x01;

const KEY_ID_BYTES: usize = 4;

/// Begins a private key's text, as in Go's note package.
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// A private key's text has so many bytes in base64: the algorithm and an RFC 8032 seed.
const PRIVATE_KEY_BYTES: usize = 33;

/// Begins a signature line: an em dash (U+2014) and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Says, with a key's name, which key made a signature. Too short to identify a key alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KEY_ID_BYTES]);

impl KeyId {
    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key) (C2SP signed-note,
    /// "Ed25519 signatures").
    fn of(name: &str, public_key: &ed25519_dalek::VerifyingKey) -> Self {
        let mut sha = Sha256::new();
        sha.update(name.as_bytes());
        sha.update([b'\n', ALGORITHM_ED25519]);
        sha.update(public_key.as_bytes());
        let [a, b, c, d, ..] = <[u8; 32]>::from(sha.finalize());
        Self([a, b, c, d])
    }

    /// Reads exactly eight lowercase hexadecimal digits.
    fn parse(digits: &str) -> Option<Self> {
        let mut bytes = [0; KEY_ID_BYTES];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        let is_lower = !digits.bytes().any(|digit| digit.is_ascii_uppercase());
        is_lower.then_some(Self(bytes))
    }
}

impl fmt::Display for KeyId {
    /// Eight lowercase hexadecimal digits, as in a verifier key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a key cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty or has a Unicode space, a plus or an ASCII control character.
    #[error("a key name is not empty and has no spaces, pluses or control characters")]
    Name,
    /// Not `name+id+key` with eight lowercase hexadecimal digits and canonical base64.
    #[error("a verifier key is name+id+key, the id in lowercase hexadecimal, the key in base64")]
    Format,
    /// Not `PRIVATE+KEY+name+id+seed`, spelt as [`SigningKey::to_text`] does.
    #[error("a private key is PRIVATE+KEY+name+id+seed, its id in hexadecimal, its seed in base64")]
    PrivateFormat,
    /// The key is of another signature type than Ed25519 (0x01).
    #[error("the key's algorithm is not Ed25519")]
    Algorithm,
    /// The bytes are no Ed25519 public key, or one of small order, which fits any signature.
    #[error("not a usable Ed25519 public key")]
    PublicKey,
    /// The id is not that of this name and key.
    #[error("the key's id should be {expected}")]
    Id {
        /// The id of the name and key that were read.
        expected: KeyId,
    },
}

/// C2SP signed-note, "Format": not empty, no Unicode spaces, no plus; and no control character,
/// since no note could contain the name.
fn require_key_name(name: &str) -> Result<(), KeyError> {
    let refused = |c: char| c.is_whitespace() || c == '+' || c < ' ';
    if name.is_empty() || name.contains(refused) { Err(KeyError::Name) } else { Ok(()) }
}

/// A public key and its name: what an auditor holds. Its text is the signed-note `vkey`,
/// `name+id+base64(0x01 ‖ public key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: KeyId,
    public_key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// The key's name; for a log its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The 32 bytes of the Ed25519 public key (RFC 8032).
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key.to_bytes()
    }

    fn made(&self, signature: &NoteSignature) -> bool {
        signature.name == self.name && signature.key_id == self.id
    }

    /// Whether `signature` is this key's over `text`. Strict: `S` and `R` in their canonical
    /// form and no point of small order, so that a signature has one spelling.
    fn verifies(&self, text: &str, signature: &NoteSignature) -> bool {
        Ed25519Signature::from_slice(&signature.bytes)
            .is_ok_and(|bytes| self.public_key.verify_strict(text.as_bytes(), &bytes).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ALGORITHM_ED25519];
        key.extend_from_slice(self.public_key.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.id, BASE64_STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(vkey: &str) -> Result<Self, KeyError> {
        // The base64 may contain pluses, name and id may not.
        let (name, rest) = vkey.split_once('+').ok_or(KeyError::Format)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Format)?;
        require_key_name(name)?;

        let id = KeyId::parse(id).ok_or(KeyError::Format)?;
        let key = BASE64_STANDARD.decode(key).map_err(|_| KeyError::Format)?;
        let (&algorithm, public_key) = key.split_first().ok_or(KeyError::Format)?;
        if algorithm != ALGORITHM_ED25519 {
            return Err(KeyError::Algorithm);
        }
        let public_key = public_key.try_into().map_err(|_| KeyError::PublicKey)?;
        let public_key =
            ed25519_dalek::VerifyingKey::from_bytes(public_key).map_err(|_| KeyError::PublicKey)?;
        if public_key.is_weak() {
            return Err(KeyError::PublicKey);
        }

        let expected = KeyId::of(name, &public_key);
        if id != expected {
            return Err(KeyError::Id { expected });
        }
        Ok(Self { name: name.to_owned(), id, public_key })
    }
}

/// An Ed25519 private key and its name. Its `Debug` does not give the seed away, and only
/// [`SigningKey::to_text`] does.
pub struct SigningKey {
    // Clears its memory when dropped, if ed25519-dalek has its feature `zeroize`.
    secret: ed25519_dalek::SigningKey,
    verifier_key: VerifierKey,
}

impl SigningKey {
    /// The key made from an RFC 8032 seed of 32 random bytes; refuses only a bad name.
    ///
    /// The caller clears its copy of the seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        require_key_name(name)?;
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public_key = secret.verifying_key();
        let id = KeyId::of(name, &public_key);
        Ok(Self { secret, verifier_key: VerifierKey { name: name.to_owned(), id, public_key } })
    }

    /// The key as Go's note package spells one: `PRIVATE+KEY+name+id+base64(0x01 ‖ seed)`. Reading
    /// it back with [`str::parse`] gives this key.
    ///
    /// The text is the secret; its memory is cleared when it is dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut key = Zeroizing::new([ALGORITHM_ED25519; PRIVATE_KEY_BYTES]);
        key[1..].copy_from_slice(self.secret.as_bytes());
        let key = Zeroizing::new(BASE64_STANDARD.encode(&key[..]));
        let VerifierKey { name, id, .. } = &self.verifier_key;
        Zeroizing::new(format!("{PRIVATE_PREFIX}{name}+{id}+{}", key.as_str()))
    }

    /// The public half.
    pub const fn verifier_key(&self) -> &VerifierKey {
        &self.verifier_key
    }

    fn sign(&self, text: &str) -> NoteSignature {
        NoteSignature {
            name: self.verifier_key.name.clone(),
            key_id: self.verifier_key.id,
            bytes: self.secret.sign(text.as_bytes()).to_bytes().to_vec(),
        }
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    /// Reads the one spelling that [`SigningKey::to_text`] writes. No error repeats any of it but
    /// its name's key id; the caller clears the text.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError::PrivateFormat)?;
        let (name, rest) = rest.split_once('+').ok_or(KeyError::PrivateFormat)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::PrivateFormat)?;
        require_key_name(name)?;
        let id = KeyId::parse(id).ok_or(KeyError::PrivateFormat)?;

        let bytes =
            Zeroizing::new(BASE64_STANDARD.decode(key).map_err(|_| KeyError::PrivateFormat)?);
        let (&algorithm, seed) = bytes.split_first().ok_or(KeyError::PrivateFormat)?;
        if algorithm != ALGORITHM_ED25519 {
            return Err(KeyError::Algorithm);
        }
        let seed = seed.try_into().map_err(|_| KeyError::PrivateFormat)?;
        let key = Self::from_seed(name, seed)?;
        let expected = key.verifier_key.id;
        if id == expected { Ok(key) } else { Err(KeyError::Id { expected }) }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("verifier_key", &self.verifier_key)
            .finish_non_exhaustive()
    }
}

/// Why a note cannot be read, signed or believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The note exceeds [`MAX_NOTE_BYTES`].
    #[error("the note is larger than {MAX_NOTE_BYTES} bytes")]
    TooLarge,
    /// The note has more than [`MAX_SIGNATURES`].
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// The bytes are not UTF-8.
    #[error("the note is not UTF-8")]
    NotUtf8,
    /// A character below U+0020 that is not a newline.
    #[error("the note has a control character")]
    ControlCharacter,
    /// The text or the whole note does not end with a newline.
    #[error("the note does not end with a newline")]
    NoFinalNewline,
    /// No blank line, or no signature line after the last one.
    #[error("the note has no signatures")]
    NoSignatures,
    /// A line after the last blank line is not `— name base64(key id ‖ signature)`.
    #[error("line {line} of the signatures is malformed")]
    SignatureLine {
        /// Counted from 1, after the blank line.
        line: usize,
    },
    /// A signature line stands there twice; nobody signs so, and a note has one spelling.
    #[error("line {line} of the signatures repeats one before it")]
    RepeatedSignature {
        /// Counted from 1, after the blank line.
        line: usize,
    },
    /// A signature by a known key does not fit the text.
    #[error("the signature of {name} with key id {key_id} is wrong")]
    BadSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        key_id: KeyId,
    },
    /// Two different known keys share a name and an id.
    #[error("two known keys are both {name} with key id {key_id}")]
    AmbiguousKey {
        /// Their name.
        name: String,
        /// Their id.
        key_id: KeyId,
    },
    /// No known key signed the note.
    #[error("no known key signed the note")]
    NoKnownSignature,
}

/// One signature line, not verified by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: KeyId,
    /// In the form of the signature type, never empty; 64 bytes for Ed25519.
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// The name of the key that is said to have signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key that is said to have signed.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Reads a line without its newline; `None` if it is malformed.
    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        require_key_name(name).ok()?;
        let signature = BASE64_STANDARD.decode(signature).ok()?;
        let (key_id, bytes) = signature.split_first_chunk()?;
        if bytes.is_empty() {
            return None;
        }
        Some(Self { name: name.to_owned(), key_id: KeyId(*key_id), bytes: bytes.to_vec() })
    }
}

impl fmt::Display for NoteSignature {
    /// The line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = [&self.key_id.0, self.bytes.as_slice()].concat();
        write!(f, "{SIGNATURE_PREFIX}{} {}", self.name, BASE64_STANDARD.encode(signature))
    }
}

/// A well-formed signed note. Its `Display` is the note's bytes.
///
/// Nothing in it may be believed before [`Note::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Signs `text`, one line per key in the order given.
    ///
    /// Refuses a text that no note can have: with a control character other than newline,
    /// without a newline at its end, or such that the note breaks a bound. Refuses an empty or
    /// too long list of keys, and one with the same key twice.
    pub fn sign(text: &str, keys: &[&SigningKey]) -> Result<Self, NoteError> {
        if keys.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        if keys.len() > MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        require_text(text)?;
        let mut signatures = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            add_signature(&mut signatures, key.sign(text), at + 1)?;
        }
        let note = Self { text: text.to_owned(), signatures };
        if note.to_string().len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge);
        }
        Ok(note)
    }

    /// Reads a note (C2SP signed-note, "Format"), signatures unverified.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
        require_text(note)?;
        // The text may have blank lines; the last one separates it from the signatures.
        let blank = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&note[..=blank], &note[blank + 2..]);

        let mut signatures = Vec::new();
        for (at, text_line) in lines.split_terminator('\n').enumerate() {
            if at == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            let line = at + 1;
            let signature =
                NoteSignature::parse(text_line).ok_or(NoteError::SignatureLine { line })?;
            add_signature(&mut signatures, signature, line)?;
        }
        if signatures.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// What is signed: all lines before the separating blank one, the final newline included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All signature lines in their order, known or not.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Which of the `known` keys signed the note, each once, in the order of their signatures
    /// (C2SP signed-note, "Signatures").
    ///
    /// Signatures of other keys are ignored, also those that share a known key's name or id but
    /// not both. A wrong signature of a known key is an error even beside a right one, and so
    /// is a note that no known key signed.
    pub fn verify<'a>(&self, known: &'a [VerifierKey]) -> Result<Vec<&'a VerifierKey>, NoteError> {
        let mut verified: Vec<&VerifierKey> = Vec::new();
        for signature in &self.signatures {
            let mut candidates = known.iter().filter(|key| key.made(signature));
            let Some(key) = candidates.next() else {
                continue;
            };
            let (name, key_id) = (&key.name, key.id);
            if candidates.any(|other| other != key) {
                return Err(NoteError::AmbiguousKey { name: name.clone(), key_id });
            }
            if !key.verifies(&self.text, signature) {
                return Err(NoteError::BadSignature { name: name.clone(), key_id });
            }
            if !verified.contains(&key) {
                verified.push(key);
            }
        }
        if verified.is_empty() { Err(NoteError::NoKnownSignature) } else { Ok(verified) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

fn add_signature(
    signatures: &mut Vec<NoteSignature>,
    signature: NoteSignature,
    line: usize,
) -> Result<(), NoteError> {
    if signatures.contains(&signature) {
        return Err(NoteError::RepeatedSignature { line });
    }
    signatures.push(signature);
    Ok(())
}

/// What holds for a note's text and for a whole note alike.
pub(crate) fn require_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLarge);
    }
    if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::ControlCharacter);
    }
    if text.ends_with('\n') { Ok(()) } else { Err(NoteError::NoFinalNewline) }
}
