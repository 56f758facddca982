//! A log's keys: their text, who may sign, and how one follows another.

use base64::prelude::{BASE64_STANDARD, Engine};
use ledger_verifier::TreeSize;
use ledger_verifier::checkpoint::{Checkpoint, CheckpointError};
use ledger_verifier::merkle::TreeHash;
use ledger_verifier::note::{KeyError, Note, NoteError, SigningKey, VerifierKey};

const SEED: [u8; 32] = [0x5a; 32];

fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(name, &SEED).unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: "example.com/log".to_owned(),
        size: TreeSize(20),
        root: TreeHash([3; 32]),
        extensions: vec![],
    }
}

#[test]
fn a_private_key_has_one_text() {
    let ours = key("example.com/log");
    let id = ours.verifier_key().id();
    let secret = BASE64_STANDARD.encode([&[0x01][..], &SEED].concat());
    let text = format!("PRIVATE+KEY+example.com/log+{id}+{secret}");
    assert_eq!(*ours.to_text(), text);
    let read: SigningKey = text.parse().unwrap();
    assert_eq!(read.verifier_key(), ours.verifier_key());
    let signed = |key: &SigningKey| Note::sign("text\n", &[key]).unwrap();
    assert_eq!(signed(&read), signed(&ours));

    let error = |text: &str| text.parse::<SigningKey>().unwrap_err();
    for at in 0..text.len() {
        assert!(text[..at].parse::<SigningKey>().is_err());
        let twice = format!("{}{}", &text[..=at], &text[at..]);
        assert!(twice.parse::<SigningKey>().is_err(), "doubled at {at}");
        for put in ["a", "A", "0", "+", " ", "="].into_iter().filter(|&put| put != &text[at..=at]) {
            let changed = format!("{}{put}{}", &text[..at], &text[at + 1..]);
            let shown = match changed.parse::<SigningKey>() {
                Err(error) => format!("{error} {error:?}"),
                Ok(other) => panic!("{other:?} at {at}"),
            };
            assert!(!shown.contains(&secret[4..12]), "{shown}");
        }
    }
    assert_eq!(error(&ours.verifier_key().to_string()), KeyError::PrivateFormat);
    assert_eq!(error(&format!("PRIVATE+KEY++{id}+{secret}")), KeyError::Name);
    assert_eq!(error(&text.replace(&id.to_string(), "00000000")), KeyError::Id { expected: id });
    let with = |bytes: &[u8]| {
        error(&format!("PRIVATE+KEY+example.com/log+{id}+{}", BASE64_STANDARD.encode(bytes)))
    };
    assert_eq!(with(&[&[0x02][..], &SEED].concat()), KeyError::Algorithm);
    assert_eq!(with(&[&[0x01][..], &SEED[..31]].concat()), KeyError::PrivateFormat);
    assert_eq!(with(&[]), KeyError::PrivateFormat);
}

#[test]
fn a_log_changes_its_key() {
    let origin = "example.com/log";
    let seeds = [[1; 32], [2; 32], [3; 32]];
    let [old, new, other] = seeds.map(|seed| SigningKey::from_seed(origin, &seed).unwrap());
    let [old_key, new_key, other_key] = [&old, &new, &other].map(|key| key.verifier_key().clone());
    let note = checkpoint().sign(&[&old, &new]).unwrap().to_string();
    let opened = |note: &str, keys: &[VerifierKey]| Checkpoint::open(note.as_bytes(), keys);
    for keys in [
        std::slice::from_ref(&old_key),
        std::slice::from_ref(&new_key),
        &[new_key.clone(), old_key.clone(), other_key.clone()],
    ] {
        assert_eq!(opened(&note, keys), Ok(checkpoint()));
    }
    let unknown = Err(CheckpointError::Note(NoteError::NoKnownSignature));
    assert_eq!(opened(&note, &[other_key]), unknown);
    assert_eq!(opened(&note, &[]), unknown);

    // A wrong signature of a known key, beside a right one.
    let mut other_size = checkpoint();
    other_size.size = TreeSize(21);
    let elsewhere = other_size.sign(&[&new]).unwrap().to_string();
    let (text, lines) = note.split_once("\n\n").unwrap();
    let (_, wrong) = elsewhere.split_once("\n\n").unwrap();
    let right = lines.split_inclusive('\n').next().unwrap();
    let mixed = format!("{text}\n\n{right}{wrong}");
    assert_eq!(opened(&mixed, std::slice::from_ref(&old_key)), Ok(checkpoint()));
    assert!(opened(&mixed, &[old_key.clone(), new_key]).is_err());

    // No key signs twice, no key of another name signs along, and nobody is not enough.
    let twice = CheckpointError::Note(NoteError::RepeatedSignature { line: 2 });
    assert_eq!(checkpoint().sign(&[&old, &old]).unwrap_err(), twice);
    assert_eq!(opened(&format!("{text}\n\n{right}{right}"), &[old_key]).unwrap_err(), twice);
    let stranger = key("example.com/log/i2");
    let refused = checkpoint().sign(&[&old, &stranger]).unwrap_err();
    assert!(matches!(refused, CheckpointError::OtherOrigin { .. }));
    let nobody = CheckpointError::Note(NoteError::NoSignatures);
    assert_eq!(checkpoint().sign(&[]).unwrap_err(), nobody);

    // Keys of several logs may be known at once.
    let known = [stranger.verifier_key().clone(), old.verifier_key().clone()];
    assert_eq!(opened(&note, &known), Ok(checkpoint()));
    let both = Note::sign(&checkpoint().to_string(), &[&stranger, &old]).unwrap().to_string();
    assert_eq!(opened(&both, &known), Ok(checkpoint()));
}

#[test]
fn debug_does_not_show_the_seed() {
    let shown = format!("{:?} {:#?}", key("name"), key("name"));
    assert!(shown.contains("name+"));
    for secret in [hex::encode(SEED), BASE64_STANDARD.encode(SEED), "90, 90".to_owned()] {
        assert!(!shown.contains(&secret), "{shown}");
    }
}
