//! Hashes and positions, each a type of its own so that none is taken for another.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Position of a row in its chain: 1, 2, 3, … without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub i64);

/// Position of a row in the log over all chains, counted from 0 (RFC 9162 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafIndex(pub u64);

/// Number of leaves in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeSize(pub u64);

macro_rules! is_a_number {
    ($($name:ident),*) => {$(
        impl From<$name> for i128 {
            fn from(number: $name) -> Self {
                number.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
is_a_number!(RowId, LeafIndex, TreeSize);

/// A SHA-256 row hash, or the genesis value that stands before a chain's first row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowHash(pub [u8; 32]);

impl RowHash {
    /// The `prev_hash` of a chain's first row: SHA-256 of `audit-ledger/v1/` and the chain's
    /// name (FORMAT.md section 1).
    pub fn genesis(chain_name: &str) -> Self {
        let mut sha = Sha256::new();
        sha.update(b"audit-ledger/v1/");
        sha.update(chain_name.as_bytes());
        Self(sha.finalize().into())
    }

    /// The 64 lowercase hexadecimal digits, as stored and as hashed.
    pub fn to_hex(self) -> [u8; 64] {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).expect("64 digits for 32 bytes");
        digits
    }

    /// Reads exactly 64 lowercase hexadecimal digits; `None` for anything else, upper case
    /// included, since there is one spelling of a hash.
    pub fn from_hex(digits: &[u8]) -> Option<Self> {
        if digits.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_hex()).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row hash is 64 lowercase hexadecimal digits")]
pub struct NotARowHash;

impl FromStr for RowHash {
    type Err = NotARowHash;

    fn from_str(text: &str) -> Result<Self, NotARowHash> {
        Self::from_hex(text.as_bytes()).ok_or(NotARowHash)
    }
}
