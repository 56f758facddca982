//! Signed notes and checkpoints against their vectors, every small change, and `signed_note`.

use base64::prelude::{BASE64_STANDARD, Engine};
use ledger_verifier::TreeSize;
use ledger_verifier::checkpoint::{Checkpoint, CheckpointError};
use ledger_verifier::merkle::TreeHash;
use ledger_verifier::note::{
    KeyError, MAX_NOTE_BYTES, MAX_SIGNATURES, Note, NoteError, NoteSignature, SigningKey,
    VerifierKey,
};
use proptest::prelude::*;
use serde::Deserialize;
use signed_note::{Note as OracleNote, StandardSigner, StandardVerifier, VerifierList};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "note")]
    _note: String,
    seed_hex: String,
    origin: String,
    vkey: String,
    checkpoints: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    tree_size: u64,
    root: String,
    note: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/checkpoints.json")).unwrap()
}

impl Vectors {
    fn key(&self) -> SigningKey {
        let seed = hex::decode(&self.seed_hex).unwrap().try_into().unwrap();
        SigningKey::from_seed(&self.origin, &seed).unwrap()
    }

    fn vkey(&self) -> VerifierKey {
        self.vkey.parse().unwrap()
    }
}

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
fn checkpoint_vectors() {
    let vectors = vectors();
    let key = vectors.key();
    assert_eq!(key.verifier_key().to_string(), vectors.vkey);
    let vkey = vectors.vkey();
    assert_eq!(vkey.to_string(), vectors.vkey);
    assert_eq!(&vkey, key.verifier_key());
    assert_eq!(vkey.name(), vectors.origin);

    assert_eq!(vectors.checkpoints.len(), 3);
    for vector in &vectors.checkpoints {
        let checkpoint = Checkpoint {
            origin: vectors.origin.clone(),
            size: TreeSize(vector.tree_size),
            root: vector.root.parse().unwrap(),
            extensions: vec![],
        };
        assert_eq!(checkpoint.sign(&[&key]).unwrap().to_string(), vector.note);
        assert_eq!(
            Checkpoint::open(vector.note.as_bytes(), std::slice::from_ref(&vkey)),
            Ok(checkpoint.clone())
        );
        assert_eq!(checkpoint.head().size, checkpoint.size);
        assert_eq!(checkpoint.head().root, checkpoint.root);

        let note = Note::parse(vector.note.as_bytes()).unwrap();
        assert_eq!(note.to_string(), vector.note);
        assert_eq!(note.text(), checkpoint.to_string());
        assert_eq!(note.verify(std::slice::from_ref(&vkey)), Ok(vec![&vkey]));
    }
}

#[test]
fn checkpoint_roots_are_those_of_the_merkle_vectors() {
    let merkle: serde_json::Value =
        serde_json::from_str(include_str!("vectors/merkle.json")).unwrap();
    for vector in vectors().checkpoints {
        let size = usize::try_from(vector.tree_size).unwrap();
        assert_eq!(merkle["roots"][size]["tree_size"], vector.tree_size);
        assert_eq!(merkle["roots"][size]["root"], vector.root);
    }
}

/// The example of Go's golang.org/x/mod/sumdb/note, from which the specification grew.
#[test]
fn the_example_of_the_go_package_verifies() {
    let vkey: VerifierKey =
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
    let text = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n";
    let note = format!(
        "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2\
         pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    );
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(note.text(), text);
    assert_eq!(note.verify(std::slice::from_ref(&vkey)), Ok(vec![&vkey]));
}

#[test]
fn no_changed_note_is_accepted() {
    let vectors = vectors();
    let vkey = vectors.vkey();
    let refused = |note: &[u8]| {
        assert!(
            Checkpoint::open(note, std::slice::from_ref(&vkey)).is_err(),
            "{}",
            String::from_utf8_lossy(note)
        );
    };
    let note = vectors.checkpoints[2].note.as_bytes();
    for at in 0..note.len() {
        let edit = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut copy = note.to_vec();
            change(&mut copy);
            copy
        };
        for other in (0..=255).filter(|&other| other != note[at]) {
            refused(&edit(&|note| note[at] = other));
        }
        refused(&edit(&|note| _ = note.remove(at)));
        refused(&edit(&|note| note.insert(at, note[at])));
        refused(&edit(&|note| note.truncate(at)));
        refused(&edit(&|note| _ = note.drain(..=at)));
        if at > 0 && note[at] != note[at - 1] {
            refused(&edit(&|note| note.swap(at, at - 1)));
        }
    }
    for end in ["\n", "\n\n", " ", "\u{2014} x AAAAAAA=", "\u{2014}\n", "junk\n"] {
        refused(&[note, end.as_bytes()].concat());
    }
}

/// `S` and `S` + the group's order (RFC 8032 section 5.1) satisfy one equation; a lenient check
/// would take both.
#[test]
fn a_signature_has_one_spelling() {
    const ORDER: [u64; 4] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 1 << 60];
    let (note, known) = signed_by_a_and_b();
    let line = note.signatures()[0].to_string();
    let mut bytes = BASE64_STANDARD.decode(line.rsplit_once(' ').unwrap().1).unwrap();
    let mut carry = 0;
    for (limb, order) in bytes[36..].chunks_exact_mut(8).zip(ORDER) {
        carry += u128::from(u64::from_le_bytes(limb.try_into().unwrap())) + u128::from(order);
        limb.copy_from_slice(&carry.to_le_bytes()[..8]);
        carry >>= 64;
    }
    let note = format!("{}\n\u{2014} a {}\n", note.text(), BASE64_STANDARD.encode(bytes));
    let verified = Note::parse(note.as_bytes()).unwrap().verify(&known);
    assert!(matches!(verified, Err(NoteError::BadSignature { .. })));
}

/// Each signature on another vector's text.
#[test]
fn a_signature_fits_one_checkpoint() {
    let vectors = vectors();
    let vkey = vectors.vkey();
    for (at, text) in vectors.checkpoints.iter().enumerate() {
        for (from, signature) in vectors.checkpoints.iter().enumerate() {
            let (text, _) = text.note.split_once("\n\n").unwrap();
            let (_, signature) = signature.note.split_once("\n\n").unwrap();
            let opened = Checkpoint::open(
                format!("{text}\n\n{signature}").as_bytes(),
                std::slice::from_ref(&vkey),
            );
            assert_eq!(opened.is_ok(), at == from);
        }
    }
}

#[test]
fn only_the_key_of_the_origin_opens_a_checkpoint() {
    let log = key("example.com/log");
    let opened = |note: &Note, vkey: &VerifierKey| {
        Checkpoint::open(note.to_string().as_bytes(), std::slice::from_ref(vkey))
    };
    let note = checkpoint().sign(&[&log]).unwrap();
    assert_eq!(opened(&note, log.verifier_key()), Ok(checkpoint()));

    let no_signature = Err(CheckpointError::Note(NoteError::NoKnownSignature));
    let same_name = SigningKey::from_seed("example.com/log", &[1; 32]).unwrap();
    let same_bytes = key("example.com/log/i2");
    assert_eq!(opened(&note, same_name.verifier_key()), no_signature);
    assert_eq!(opened(&note, same_bytes.verifier_key()), no_signature);

    // A good signature by a key of another name says nothing about this log.
    let (origin, name) = ("example.com/log".to_owned(), "example.com/log/i2".to_owned());
    let other = Err(CheckpointError::OtherOrigin { origin, key: name });
    let note = Note::sign(&checkpoint().to_string(), &[&same_bytes]).unwrap();
    assert_eq!(opened(&note, same_bytes.verifier_key()), other);
    assert_eq!(checkpoint().sign(&[&same_bytes]).map(|_| checkpoint()), other);
    // Beside the log's own it does no harm.
    let note = Note::sign(&checkpoint().to_string(), &[&same_bytes, &log]).unwrap();
    assert_eq!(opened(&note, log.verifier_key()), Ok(checkpoint()));

    let note = Note::sign("example.com/log\n20\n", &[&log]).unwrap();
    assert_eq!(opened(&note, log.verifier_key()), Err(CheckpointError::Lines));
}

#[test]
fn checkpoint_texts() {
    const ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    for text in [
        format!("o\n0\n{ROOT}\n"),
        format!("an origin + spaces\n18446744073709551615\n{ROOT}\n"),
        format!("o\n10\n{ROOT}\nextension\n \u{2014} another\n"),
    ] {
        assert_eq!(Checkpoint::parse(&text).unwrap().to_string(), text);
    }
    for size in ["", "00", "01", "+1", "-1", " 1", "1 ", "1.0", "0x1", "1_0", "\u{0661}", "a"]
        .into_iter()
        .chain(["18446744073709551616", "100000000000000000000000"])
    {
        let parsed = Checkpoint::parse(&format!("o\n{size}\n{ROOT}\n"));
        let expected = if size.is_empty() { CheckpointError::Lines } else { CheckpointError::Size };
        assert_eq!(parsed, Err(expected), "{size:?}");
    }
    let bare = ROOT.trim_end_matches('=');
    for root in [bare, "AAAA", &format!("{ROOT} "), &ROOT.replace("U=", "V="), &ROOT.to_lowercase()]
    {
        let parsed = Checkpoint::parse(&format!("o\n1\n{root}\n"));
        assert_eq!(parsed, Err(CheckpointError::Root), "{root:?}");
    }
    for text in [
        "\n".to_owned(),
        "o\n".to_owned(),
        "o\n1\n".to_owned(),
        format!("\n1\n{ROOT}\n"),
        format!("o\n1\n{ROOT}\n\n"),
        format!("o\n1\n{ROOT}\n\nextension\n"),
        format!("o\n\n1\n{ROOT}\n"),
    ] {
        assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::Lines), "{text:?}");
    }
    let note_error = |text: &str| match Checkpoint::parse(text) {
        Err(CheckpointError::Note(error)) => error,
        other => panic!("{text:?}: {other:?}"),
    };
    assert_eq!(note_error(""), NoteError::NoFinalNewline);
    assert_eq!(note_error(&format!("o\n1\n{ROOT}")), NoteError::NoFinalNewline);
    assert_eq!(note_error(&format!("o\r\n1\r\n{ROOT}\r\n")), NoteError::ControlCharacter);
}

#[test]
fn a_checkpoint_that_would_read_otherwise_is_not_signed() {
    let refused = |change: &dyn Fn(&mut Checkpoint), origin: &str| {
        let mut checkpoint = checkpoint();
        change(&mut checkpoint);
        let key = key(origin);
        assert_eq!(checkpoint.sign(&[&key]).unwrap_err(), CheckpointError::Unprintable);
    };
    for line in ["", "\n", "a\n", "a\nb", "\n\n\u{2014} a b", "\t", "\0"] {
        refused(&|checkpoint| checkpoint.extensions.push(line.to_owned()), "example.com/log");
    }
    // Such an origin no key can have.
    for origin in ["", "a\nb", "a b", "a+b", "a\u{a0}b"] {
        assert_eq!(SigningKey::from_seed(origin, &SEED).unwrap_err(), KeyError::Name);
        let mut checkpoint = checkpoint();
        origin.clone_into(&mut checkpoint.origin);
        assert!(checkpoint.sign(&[&key("example.com/log")]).is_err());
    }
    let mut extended = checkpoint();
    extended.extensions = vec!["one".to_owned(), "two words".to_owned()];
    let key = key("example.com/log");
    let note = extended.sign(&[&key]).unwrap().to_string();
    assert_eq!(
        Checkpoint::open(note.as_bytes(), std::slice::from_ref(key.verifier_key())),
        Ok(extended)
    );
}

#[test]
fn malformed_notes() {
    let line = "\u{2014} name AAAAAAA=\n";
    let other = "\u{2014} other AAAAAAA=\n";
    let error = |note: &str| Note::parse(note.as_bytes()).unwrap_err();
    for text in ["text\n", "\n", "two\nlines\n", "blank\n\nline\n", "blank at the end\n\n"] {
        let note = format!("{text}\n{line}{other}");
        let parsed = Note::parse(note.as_bytes()).unwrap();
        assert_eq!((parsed.text(), parsed.signatures().len()), (text, 2));
        assert_eq!(parsed.to_string(), note);
    }
    assert_eq!(error(""), NoteError::NoFinalNewline);
    assert_eq!(error("text\n"), NoteError::NoSignatures);
    assert_eq!(error("text\n\n"), NoteError::NoSignatures);
    assert_eq!(error(line), NoteError::NoSignatures);
    assert_eq!(error(&format!("text\n{line}")), NoteError::NoSignatures);
    assert_eq!(error(&format!("\n{line}")), NoteError::NoSignatures);
    assert_eq!(error(format!("text\n\n{line}").trim_end()), NoteError::NoFinalNewline);
    for control in ["\0", "\t", "\r", "\u{1f}"] {
        assert_eq!(error(&format!("te{control}xt\n\n{line}")), NoteError::ControlCharacter);
        let name = format!("text\n\n{}", line.replace("na", control));
        assert_eq!(error(&name), NoteError::ControlCharacter);
    }
    assert_eq!(Note::parse(b"te\xffxt\n\n"), Err(NoteError::NotUtf8));
    for bad in [
        "\n",
        "- name AAAAAAA=\n",
        "\u{2014}name AAAAAAA=\n",
        "\u{2014}  AAAAAAA=\n",
        "\u{2014} name  AAAAAAA=\n",
        "\u{2014} name AAAAAAA= \n",
        "\u{2014} name AAAAAAA\n",
        "\u{2014} name AAAAAAB=\n",
        "\u{2014} name AAAAAA==\n",
        "\u{2014} name AAA=\n",
        "\u{2014} name \n",
        "\u{2014} name\n",
        "\u{2014} na+me AAAAAAA=\n",
        "\u{2014} na\u{a0}me AAAAAAA=\n",
        "\u{2014} na\u{85}me AAAAAAA=\n",
        "\u{2014} na\u{3000}me AAAAAAA=\n",
        " \u{2014} name AAAAAAA=\n",
    ] {
        let expected = if bad == "\n" {
            NoteError::NoSignatures
        } else {
            NoteError::SignatureLine { line: 2 }
        };
        assert_eq!(error(&format!("text\n\n{line}{bad}")), expected, "{bad:?}");
    }
}

#[test]
fn notes_have_bounds() {
    let line = "\u{2014} name AAAAAAA=\n";
    let many = |count| {
        let lines: Vec<_> = (0..count).map(|at| format!("\u{2014} name{at} AAAAAAA=\n")).collect();
        format!("text\n\n{}", lines.concat())
    };
    assert!(Note::parse(many(MAX_SIGNATURES).as_bytes()).is_ok());
    let error = Note::parse(many(MAX_SIGNATURES + 1).as_bytes());
    assert_eq!(error, Err(NoteError::TooManySignatures));

    let long = |bytes: usize| format!("{}\n\n{line}", "x".repeat(bytes - line.len() - 2));
    assert!(Note::parse(long(MAX_NOTE_BYTES).as_bytes()).is_ok());
    assert_eq!(Note::parse(long(MAX_NOTE_BYTES + 1).as_bytes()), Err(NoteError::TooLarge));

    let key = key("name");
    let sign = |text: &str, keys: &[&SigningKey]| Note::sign(text, keys).map(|_| ());
    let text = |bytes: usize| "x".repeat(bytes - 1) + "\n";
    let overhead = Note::sign("\n", &[&key]).unwrap().to_string().len() - 1;
    assert_eq!(sign(&text(MAX_NOTE_BYTES - overhead), &[&key]), Ok(()));
    assert_eq!(sign(&text(MAX_NOTE_BYTES - overhead + 1), &[&key]), Err(NoteError::TooLarge));
    let keys: Vec<_> = (0..=MAX_SIGNATURES).map(|at| self::key(&format!("name{at}"))).collect();
    let keys: Vec<_> = keys.iter().collect();
    assert_eq!(sign("text\n", &keys[1..]), Ok(()));
    assert_eq!(sign("text\n", &keys), Err(NoteError::TooManySignatures));
    let repeated = Err(NoteError::RepeatedSignature { line: 2 });
    assert_eq!(sign("text\n", &[&key, &key]), repeated);
    assert_eq!(Note::parse(format!("text\n\n{line}{line}").as_bytes()).map(|_| ()), repeated);
    assert_eq!(sign("text\n", &[]), Err(NoteError::NoSignatures));
    assert_eq!(sign("text", &[&key]), Err(NoteError::NoFinalNewline));
    assert_eq!(sign("te\txt\n", &[&key]), Err(NoteError::ControlCharacter));
}

#[test]
fn known_keys_decide() {
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let [a_key, b_key, c_key] = [&a, &b, &c].map(|key| key.verifier_key().clone());
    let note = Note::sign("text\n", &[&b, &a]).unwrap();
    let known = [a_key.clone(), c_key.clone(), b_key.clone(), a_key.clone()];
    // In the order of the signatures, each once, however often it was given.
    assert_eq!(note.verify(&known), Ok(vec![&b_key, &a_key]));
    assert_eq!(note.verify(&known[..1]), Ok(vec![&a_key]));
    assert_eq!(note.verify(&known[1..2]), Err(NoteError::NoKnownSignature));
    assert_eq!(note.verify(&[]), Err(NoteError::NoKnownSignature));

    // The right signature of `a` and the wrong one of `b`, also after a right one of `b`.
    let other = Note::sign("other\n", &[&b]).unwrap().to_string();
    let (_, wrong) = other.split_once("\n\n").unwrap();
    let note = Note::parse(format!("{note}{wrong}").as_bytes()).unwrap();
    let bad = NoteError::BadSignature { name: "b".to_owned(), key_id: b_key.id() };
    assert_eq!(note.verify(&known), Err(bad));
    assert_eq!(note.verify(std::slice::from_ref(&a_key)), Ok(vec![&a_key]));

    // A signature of another length under a known key's name and id is wrong, not unknown.
    let short = BASE64_STANDARD.encode([&a_key.id().0[..], &[0; 63]].concat());
    let note = format!("text\n\n\u{2014} a {short}\n");
    let bad = NoteError::BadSignature { name: "a".to_owned(), key_id: a_key.id() };
    assert_eq!(Note::parse(note.as_bytes()).unwrap().verify(&known), Err(bad));

    // Same name or same id alone is another key.
    let id = BASE64_STANDARD.encode([&a_key.id().0[..], &[0; 64]].concat());
    let other_id = BASE64_STANDARD.encode([0; 68]);
    let lines = format!("\u{2014} b {id}\n\u{2014} a {other_id}\n");
    let note = format!("{}{lines}", Note::sign("text\n", &[&a]).unwrap());
    assert_eq!(Note::parse(note.as_bytes()).unwrap().verify(&known), Ok(vec![&a_key]));
}

/// Two seeds whose keys share an id under the name "a": found within 115,000 tries, since four
/// bytes identify nothing.
const COLLISION: [u32; 2] = [69_101, 114_672];

#[test]
fn colliding_keys_are_ambiguous() {
    let seed = |number: u32| {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        seed
    };
    let [first, second] = COLLISION.map(|number| SigningKey::from_seed("a", &seed(number)));
    let (first, second) = (first.unwrap(), second.unwrap());
    let keys = [first.verifier_key().clone(), second.verifier_key().clone()];
    assert_eq!(keys[0].id(), keys[1].id());
    assert_ne!(keys[0], keys[1]);
    let note = Note::sign("text\n", &[&first]).unwrap();
    let ambiguous = NoteError::AmbiguousKey { name: "a".to_owned(), key_id: keys[0].id() };
    assert_eq!(note.verify(&keys), Err(ambiguous));
    assert_eq!(note.verify(&keys[..1]), Ok(vec![&keys[0]]));
    assert!(matches!(note.verify(&keys[1..]), Err(NoteError::BadSignature { .. })));
}

#[test]
fn malformed_verifier_keys() {
    let good = vectors().vkey;
    let error = |vkey: &str| vkey.parse::<VerifierKey>().unwrap_err();
    let [name, id, bytes] = good.splitn(3, '+').collect::<Vec<_>>().try_into().unwrap();
    let key = BASE64_STANDARD.decode(bytes).unwrap();
    let with_key = |key: &[u8]| format!("{name}+{id}+{}", BASE64_STANDARD.encode(key));
    assert_eq!(with_key(&key), good);

    for name in ["", "a b", "a\u{2003}b", "a\nb", "a\0b"] {
        assert_eq!(error(&format!("{name}+{id}+{bytes}")), KeyError::Name, "{name:?}");
    }
    for vkey in [
        String::new(),
        name.to_owned(),
        format!("{name}+{id}"),
        format!("{name}+{}+{bytes}", id.to_uppercase()),
        format!("{name}+{}+{bytes}", &id[1..]),
        format!("{name}+0{id}+{bytes}"),
        format!("{name}+zzzzzzzz+{bytes}"),
        format!("{name}+{id}+"),
        format!("{name}+{id}+{bytes}="),
        format!("{good}\n"),
        format!("{name}+x+{id}+{bytes}"),
    ] {
        assert_eq!(error(&vkey), KeyError::Format, "{vkey:?}");
    }
    let expected = vectors().vkey().id();
    assert_eq!(error(&format!("{name}+00000000+{bytes}")), KeyError::Id { expected });
    assert!(matches!(error(&format!("x{good}")), KeyError::Id { .. }));
    assert_eq!(error(&with_key(&[&[0x04], &key[1..]].concat())), KeyError::Algorithm);
    assert_eq!(error(&with_key(&key[..32])), KeyError::PublicKey);
    assert_eq!(error(&with_key(&[&key[..], &[0]].concat())), KeyError::PublicKey);
    // The point of order one, under which a signature can be made without a private key.
    let neutral: [u8; 33] = std::array::from_fn(|at| u8::from(at < 2));
    assert_eq!(error(&with_key(&neutral)), KeyError::PublicKey);
    // 2 is no y coordinate of the curve.
    let no_point: [u8; 33] = std::array::from_fn(|at| [1, 2].get(at).copied().unwrap_or(0));
    assert_eq!(error(&with_key(&no_point)), KeyError::PublicKey);
}

fn oracle_verifiers(keys: &[VerifierKey]) -> VerifierList {
    let verifier = |key: &VerifierKey| StandardVerifier::new(&key.to_string()).unwrap();
    VerifierList::new(keys.iter().map(|key| Box::new(verifier(key)) as _).collect())
}

#[test]
fn signed_note_agrees_on_signing() {
    for (name, text) in [("example.com/log", "text\n"), ("\u{e9}", "\n"), ("-", "a\n\nb\n\n")] {
        let ours = key(name);
        let secret = BASE64_STANDARD.encode([&[0x01][..], &SEED].concat());
        let theirs = format!("PRIVATE+KEY+{name}+{}+{secret}", ours.verifier_key().id());
        let theirs = StandardSigner::new(&theirs).unwrap();
        let mut note = OracleNote::new(text.as_bytes(), &[]).unwrap();
        note.add_sigs(&[&theirs]).unwrap();
        let signed = Note::sign(text, &[&ours]).unwrap();
        assert_eq!(note.to_bytes(), signed.to_string().as_bytes());
        let keys = [ours.verifier_key().clone()];
        assert_eq!(note.verify(&oracle_verifiers(&keys)).unwrap().0.len(), 1);
        assert_eq!(signed.verify(&keys), Ok(vec![&keys[0]]));
    }
}

/// Both accept or both refuse `bytes`, but for a wrong signature after a right one by the same
/// key: `signed_note` looks at a key's first signature only, here all of them are checked. A line
/// that stands twice is refused here alone.
fn require_agreement(bytes: &[u8], known: &[VerifierKey]) {
    let shown = String::from_utf8_lossy(bytes);
    let (ours, theirs) = match (Note::parse(bytes), OracleNote::from_bytes(bytes)) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(NoteError::RepeatedSignature { line }), _) => {
            let lines: Vec<_> = shown.rsplit_once("\n\n").unwrap().1.lines().collect();
            assert!(lines[..line - 1].contains(&lines[line - 1]), "{shown:?}");
            return;
        }
        (ours, theirs) => {
            assert!(ours.is_err() && theirs.is_err(), "{shown:?}: {ours:?} {theirs:?}");
            return;
        }
    };
    assert_eq!(ours.to_string().as_bytes(), bytes);
    assert_eq!(theirs.to_bytes(), bytes);
    assert_eq!(ours.text().as_bytes(), theirs.text());

    let theirs = theirs.verify(&oracle_verifiers(known));
    match (ours.verify(known), theirs) {
        (Ok(keys), Ok((signatures, _))) => {
            let keys: Vec<_> = keys.iter().map(|key| (key.name(), key.id().0)).collect();
            let signatures: Vec<_> =
                signatures.iter().map(|by| (by.name(), by.id().to_be_bytes())).collect();
            assert_eq!(keys, signatures);
        }
        (Err(NoteError::BadSignature { name, key_id }), Ok(_)) => {
            let by_key = |by: &&NoteSignature| by.name() == name && by.key_id() == key_id;
            assert!(ours.signatures().iter().filter(by_key).count() > 1, "{shown:?}");
        }
        (ours, theirs) => assert!(ours.is_err() && theirs.is_err(), "{shown:?}: {ours:?}"),
    }
}

/// What notes are made of, and what comes close to it.
const PIECES: [&str; 19] = [
    "\u{2014} a AAAAAAA=\n",
    "\u{2014} b AAAAAAA=\n",
    "\n",
    "\n\n",
    "\u{2014} ",
    "\u{2014} a ",
    "\u{2014} b ",
    " ",
    "+",
    "a",
    "text\n",
    "\t",
    "\0",
    "\u{85}",
    "\u{a0}",
    "\u{e9}",
    "AAAAAAA=",
    "AAAAAAA=\n",
    "AB==",
];

/// The same for a checkpoint's text.
const LINES: [&str; 12] = [
    "o\n",
    "1\n",
    "0\n",
    "20\n",
    "01\n",
    "+1\n",
    " 1\n",
    "\n",
    "1",
    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n",
];

fn signed_by_a_and_b() -> (Note, [VerifierKey; 2]) {
    let (a, b) = (key("a"), key("b"));
    let note = Note::sign("text\n\nmore\n", &[&a, &b]).unwrap();
    (note, [a.verifier_key().clone(), b.verifier_key().clone()])
}

proptest! {
    #[test]
    fn signed_note_agrees_on_pieces(pieces in prop::collection::vec(0..PIECES.len(), 0..16)) {
        let note: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        let (_, known) = signed_by_a_and_b();
        require_agreement(note.as_bytes(), &known);
        require_agreement(format!("text\n\n{note}").as_bytes(), &known);
    }

    #[test]
    fn signed_note_agrees_on_changed_notes(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4, any::<u8>()), 0..3),
        again in 0..3_usize,
    ) {
        let (note, known) = signed_by_a_and_b();
        // Some notes carry their signatures twice, so that duplicates are changed too.
        let mut bytes = note.to_string().into_bytes();
        for signature in &note.signatures()[..again] {
            bytes.extend(format!("{signature}\n").bytes());
        }
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len());
            let piece = PIECES[usize::from(byte) % PIECES.len()].bytes();
            match kind {
                0 => bytes[at] = byte,
                1 => _ = bytes.remove(at),
                2 => _ = bytes.splice(at..at, piece),
                _ => _ = bytes.splice(at..=at, piece),
            }
        }
        require_agreement(&bytes, &known);
    }

    #[test]
    fn any_checkpoint_returns(
        origin in "[^\\s+\\x00-\\x1f]{1,20}", size: u64, root: [u8; 32],
        extensions in prop::collection::vec("[^\\x00-\\x1f]{1,20}", 0..3), seed: [u8; 32],
    ) {
        let checkpoint =
            Checkpoint { origin, size: TreeSize(size), root: TreeHash(root), extensions };
        let key = SigningKey::from_seed(&checkpoint.origin, &seed).unwrap();
        let vkey: VerifierKey = key.verifier_key().to_string().parse().unwrap();
        prop_assert_eq!(&vkey, key.verifier_key());
        let note = checkpoint.sign(&[&key]).unwrap().to_string();
        let known = [vkey];
        prop_assert_eq!(Checkpoint::open(note.as_bytes(), &known), Ok(checkpoint));
        require_agreement(note.as_bytes(), &known);
    }

    #[test]
    fn what_parses_prints_as_it_was(pieces in prop::collection::vec(0..LINES.len(), 0..6)) {
        let lines: String = pieces.into_iter().map(|piece| LINES[piece]).collect();
        let text = format!("o\n{lines}");
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert_eq!(checkpoint.to_string(), text);
        }
    }
}
