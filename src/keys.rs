//! API keys: how they are spelt, what each may be used for, and who asks with one.
//!
//! A key is `lk_<id>_<secret>`. The id, 16 hexadecimal digits, finds the key and is no secret; the
//! secret is 256 random bits in 64 hexadecimal digits, of which the ledger has the SHA-256 only.

mod keyring;
pub mod scope;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};

pub use keyring::{KeyError, KeyInForce, Keyring};
pub use scope::{Scope, Scopes};

use crate::clock::random_bytes;

/// How every key starts, for people and for scanners that look for leaked secrets.
pub const KEY_PREFIX: &str = "lk_";
/// A name stands in `recorded_by` and `actor`.
const MAX_NAME_CHARS: usize = 64;
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// What a key is found by. No secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId([u8; ID_BYTES]);

/// A key's id cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's id has 16 hexadecimal digits")]
pub struct KeyIdError;

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        parse_hex(text).map(Self).ok_or(KeyIdError)
    }
}

/// Who holds a key: `recorded_by` and `actor` of what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

/// A name cannot be a key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has up to 64 letters, digits, - _ .")]
pub struct KeyNameError;

impl KeyName {
    /// As stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=MAX_NAME_CHARS).contains(&text.len()) && text.chars().all(is_plain);
        if fits { Ok(Self(text.to_owned())) } else { Err(KeyNameError) }
    }
}

/// A key with its secret. Its `Debug` never shows that.
#[derive(Debug)]
pub struct ApiKey {
    id: KeyId,
    secret: SecretBox<[u8; SECRET_BYTES]>,
}

/// SHA-256 of a key's secret.
pub type SecretDigest = [u8; 32];

impl ApiKey {
    /// A new one, which nobody can guess.
    pub fn random() -> Self {
        Self { id: KeyId(random_bytes()), secret: SecretBox::new(Box::new(random_bytes())) }
    }

    /// Reads the one spelling that a key has. `None` for anything else: what is wrong with a key
    /// is nobody's business.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(KEY_PREFIX)?.split_once('_')?;
        let secret = SecretBox::new(Box::new(parse_hex(secret)?));
        Some(Self { id: id.parse().ok()?, secret })
    }

    /// What it is found by.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// As its holder sends it.
    pub fn text(&self) -> SecretString {
        format!("{KEY_PREFIX}{}_{}", self.id, hex::encode(self.secret.expose_secret())).into()
    }

    /// The secret, for the database, which checks an admin's by itself.
    pub(crate) fn secret_bytes(&self) -> &[u8] {
        self.secret.expose_secret()
    }

    /// What the ledger knows of the secret.
    pub fn digest(&self) -> SecretDigest {
        Sha256::digest(self.secret.expose_secret()).into()
    }
}

/// Lowercase hexadecimal digits, exactly as many as there is room for.
fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lowercase = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_lowercase && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// Who asks: the holder of a key in force.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key.
    pub key_id: KeyId,
    /// Its holder: `recorded_by` and `actor`.
    pub name: Arc<str>,
    /// What the key may be used for.
    pub scopes: Scopes,
    /// When the key was made.
    pub created_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling_and_its_secret_is_never_shown() {
        let key = ApiKey::random();
        let text = key.text();
        let text = text.expose_secret();
        assert_eq!(text.len(), 3 + 16 + 1 + 64);
        let parsed = ApiKey::parse(text).unwrap();
        assert_eq!((parsed.id(), parsed.digest()), (key.id(), key.digest()));
        let secret = text.rsplit_once('_').unwrap().1;
        assert!(!format!("{key:?}").contains(secret));
        assert_eq!(
            hex::encode(key.digest()),
            hex::encode(Sha256::digest(hex::decode(secret).unwrap()))
        );
        for wrong in [
            "",
            "lk_",
            "lk__",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &format!("{text} "),
            &text.to_uppercase(),
            &text.replace("lk_", "sk_"),
            &text.replacen(secret, &secret.replacen(&secret[..1], "G", 1), 1),
            &format!("lk_{secret}_{secret}"),
        ] {
            assert!(ApiKey::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn names_and_ids_are_plain() {
        for name in ["a", "Desk-1_eu.west", &"n".repeat(64)] {
            assert_eq!(name.parse::<KeyName>().unwrap().as_str(), name);
        }
        for name in ["", "a b", "ü", "a\n", "a'", &"n".repeat(65)] {
            assert_eq!(name.parse::<KeyName>(), Err(KeyNameError), "{name}");
        }
        assert_eq!("00ff00ff00ff00ff".parse::<KeyId>().unwrap().to_string(), "00ff00ff00ff00ff");
        for id in ["", "00ff", "00FF00FF00FF00FF", "00ff00ff00ff00fg", "00ff00ff00ff00ff0"] {
            assert_eq!(id.parse::<KeyId>(), Err(KeyIdError), "{id}");
        }
    }
}
