//! The keys that sign checkpoints: Ed25519, each with the name of the log whose checkpoints it signs.
//! Several of one name sign side by side, while one replaces the other.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ledger_verifier::note::{SigningKey, VerifierKey};
use secrecy::{ExposeSecret, SecretString};

use crate::clock::random_bytes;

/// What the origin of a further incarnation has behind that of the first.
const INCARNATION: &str = "/i";

/// Keys, at least one.
#[derive(Debug)]
pub struct SigningKeys {
    keys: Vec<SigningKey>,
    /// Where the service keeps keys that it makes for itself.
    file: Option<PathBuf>,
}

/// A new key of this name, as its text.
pub fn new_key(origin: &str) -> Result<SecretString, String> {
    let key = SigningKey::from_seed(origin, &random_bytes());
    Ok(key.map_err(|error| error.to_string())?.to_text().as_str().into())
}

impl SigningKeys {
    /// Reads keys, one a line: `PRIVATE+KEY+name+id+key`.
    pub fn parse(lines: &SecretString) -> Result<Self, String> {
        let mut keys = Vec::new();
        for line in lines.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty()) {
            let key: SigningKey = line.parse().map_err(|error| format!("{error}"))?;
            if key.verifier_key().name().len() > MAX_ORIGIN_BYTES {
                return Err(format!("a key's name has at most {MAX_ORIGIN_BYTES} bytes"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err("there is no key".to_owned());
        }
        Ok(Self { keys, file: None })
    }

    /// The same, kept in a file of the service's own, to which it adds keys.
    #[must_use]
    pub fn kept_in(self, file: PathBuf) -> Self {
        Self { file: Some(file), ..self }
    }

    /// The keys of a log.
    pub fn of(&self, origin: &str) -> Vec<&SigningKey> {
        self.keys.iter().filter(|key| key.verifier_key().name() == origin).collect()
    }

    /// The public halves of all of them.
    pub fn vkeys(&self) -> Vec<VerifierKey> {
        self.keys.iter().map(|key| key.verifier_key().clone()).collect()
    }

    /// The log that the first key is of.
    pub fn origin(&self) -> &str {
        self.keys[0].verifier_key().name()
    }

    /// Makes sure that there is a key of this log: makes one, where the service keeps its keys itself.
    /// Answers whether there is one.
    pub fn ensure(&mut self, origin: &str) -> io::Result<bool> {
        if !self.of(origin).is_empty() {
            return Ok(true);
        }
        let Some(file) = &self.file else { return Ok(false) };
        let text = new_key(origin).map_err(io::Error::other)?;
        let key = text.expose_secret().parse().map_err(io::Error::other)?;
        // Whole or not at all: beside its place, and then over it.
        let draft = file.with_extension(format!("draft-{}", std::process::id()));
        let mut kept = std::fs::read_to_string(file)?;
        if !kept.ends_with('\n') {
            kept.push('\n');
        }
        kept.push_str(text.expose_secret());
        kept.push('\n');
        let mut written =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        written.write_all(kept.as_bytes())?;
        written.sync_all()?;
        std::fs::rename(&draft, file)?;
        self.keys.push(key);
        Ok(true)
    }
}

/// Bytes of a log's name.
const MAX_ORIGIN_BYTES: usize = 200;

/// The name of this log's incarnation of this number.
pub fn origin_of(origin: &str, incarnation: i32) -> String {
    let base = match origin.rsplit_once(INCARNATION) {
        Some((base, number)) if number.parse::<u32>().is_ok_and(|number| number > 1) => base,
        _ => origin,
    };
    if incarnation <= 1 { base.to_owned() } else { format!("{base}{INCARNATION}{incarnation}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_has_a_name_of_its_own() {
        for (origin, number, name) in [
            ("example.com/desk", 1, "example.com/desk"),
            ("example.com/desk", 2, "example.com/desk/i2"),
            ("example.com/desk/i2", 3, "example.com/desk/i3"),
            ("example.com/desk/i2", 1, "example.com/desk"),
            ("example.com/i1", 2, "example.com/i1/i2"),
            ("example.com/ix", 12, "example.com/ix/i12"),
        ] {
            assert_eq!(origin_of(origin, number), name);
        }
    }

    #[test]
    fn keys_are_read_a_line_each_and_made_for_a_new_name() {
        let lines = ["a.example/x", "a.example/x", "b.example"].map(|name| new_key(name).unwrap());
        let text = lines.map(|line| line.expose_secret().to_owned()).join("\n\n");
        let keys = SigningKeys::parse(&text.clone().into()).unwrap();
        assert_eq!((keys.of("a.example/x").len(), keys.of("b.example").len()), (2, 1));
        assert_eq!(keys.origin(), "a.example/x");
        for wrong in ["", "\n", "PRIVATE+KEY+a", "secret"] {
            let error = SigningKeys::parse(&wrong.to_owned().into()).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signing.key");
        std::fs::write(&file, &text).unwrap();
        let mut keys = keys.kept_in(file.clone());
        assert!(keys.ensure("a.example/x/i2").unwrap());
        assert!(keys.ensure("b.example").unwrap());
        let again = SigningKeys::parse(&std::fs::read_to_string(&file).unwrap().into()).unwrap();
        assert_eq!(again.vkeys(), keys.vkeys());
        assert_eq!(again.vkeys().len(), 4);
        let mut fixed = SigningKeys::parse(&text.into()).unwrap();
        assert!(!fixed.ensure("c.example").unwrap());
    }
}
