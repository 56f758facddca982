//! A witness (C2SP tlog-witness) with keys of its own, which verifies what it is shown with
//! `ledger-verifier` and signs with code of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use audit_ledger::clock::Clock;
use audit_ledger::integrity::anchors::{Anchor, AnchorError, Receipt};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{Signer, SigningKey};
use ledger_verifier::TreeSize;
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::cosignature::WitnessKey;
use ledger_verifier::merkle::{TreeHash, TreeHead, verify_consistency};
use ledger_verifier::note::{Note, VerifierKey};
use sha2::{Digest, Sha256};

use crate::log::{Log, ORIGIN};
use crate::{anchor, conflict, serve};

const NAME: &str = "witness.example/w1";

#[derive(Clone)]
struct Witness {
    logs: Arc<HashMap<String, VerifierKey>>,
    state: Arc<Mutex<State_>>,
}

struct State_ {
    newest: HashMap<String, TreeHead>,
    /// The old size of every request.
    asked: Vec<u64>,
    /// Seconds that its clock is ahead.
    ahead: i64,
}

fn secret() -> SigningKey {
    SigningKey::from_bytes(&[0x77; 32])
}

fn key_id() -> [u8; 4] {
    let message = [NAME.as_bytes(), b"\n\x04", secret().verifying_key().as_bytes()].concat();
    *Sha256::digest(message).first_chunk().unwrap()
}

fn vkey() -> String {
    let key = [&[4], &secret().verifying_key().as_bytes()[..]].concat();
    format!("{NAME}+{}+{}", hex::encode(key_id()), BASE64_STANDARD.encode(key))
}

fn cosign(text: &str, time: i64) -> String {
    let signature = secret().sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes());
    let bytes = [&key_id()[..], &time.to_be_bytes(), &signature.to_bytes()].concat();
    format!("\u{2014} {NAME} {}\n", BASE64_STANDARD.encode(bytes))
}

/// C2SP tlog-witness, "add-checkpoint", in its order of checks.
async fn add_checkpoint(State(witness): State<Witness>, body: String) -> Response {
    let (head, note) = body.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let old: u64 = lines.next().unwrap().strip_prefix("old ").unwrap().parse().unwrap();
    let proof: Vec<TreeHash> = lines.map(|line| line.parse().unwrap()).collect();
    assert!(proof.len() <= 63 && (old > 0 || proof.is_empty()));
    let mut state = witness.state.lock().unwrap();
    state.asked.push(old);

    let origin = note.lines().next().unwrap();
    let Some(key) = witness.logs.get(origin) else { return status(404, "") };
    let Ok(checkpoint) = Checkpoint::open(note.as_bytes(), std::slice::from_ref(key)) else {
        return status(403, "");
    };
    if old > checkpoint.size.0 {
        return status(400, "");
    }
    let newest = state.newest.get(origin).copied();
    let newest = newest.unwrap_or(TreeHead { size: TreeSize(0), root: TreeHash::EMPTY });
    if newest.size.0 != old {
        let body = format!("{}\n", newest.size);
        return (axum::http::StatusCode::CONFLICT, [(CONTENT_TYPE, "text/x.tlog.size")], body)
            .into_response();
    }
    if newest.size == checkpoint.size && newest.root != checkpoint.root {
        return status(409, "");
    }
    if verify_consistency(newest, &proof, checkpoint.head()).is_err() {
        return status(422, "");
    }
    state.newest.insert(origin.to_owned(), checkpoint.head());
    let time = Clock::system().now().timestamp() + state.ahead;
    let others = "\u{2014} witness.example/w2 AQIDBAU=\n";
    status(200, &format!("{others}{}", cosign(&checkpoint.to_string(), time)))
}

fn status(status: u16, body: &str) -> Response {
    (axum::http::StatusCode::from_u16(status).unwrap(), body.to_owned()).into_response()
}

impl Witness {
    fn of(log: &Log) -> Self {
        let key = log.key.verifier_key().clone();
        let state = State_ { newest: HashMap::new(), asked: Vec::new(), ahead: 0 };
        let logs = Arc::new(HashMap::from([(key.name().to_owned(), key)]));
        Self { logs, state: Arc::new(Mutex::new(state)) }
    }

    async fn start(&self) -> SocketAddr {
        let route = post(add_checkpoint).with_state(self.clone());
        serve(Router::new().route("/prefix/add-checkpoint", route)).await
    }

    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    fn stands_at(&self, log: &Log, size: usize) {
        let head = log.checkpoint(size).head();
        self.state.lock().unwrap().newest.insert(log.origin().to_owned(), head);
    }
}

fn at(address: SocketAddr) -> Anchor {
    anchor(&format!("witness+http://{address}/prefix/#{}", vkey()))
}

fn line(receipt: Result<Receipt, AnchorError>) -> String {
    match receipt.unwrap() {
        Receipt::Cosignature(line) => line,
        other => panic!("{other:?} is no cosignature"),
    }
}

#[tokio::test]
async fn a_witness_signs_what_is_consistent_from_wherever_it_stands() {
    let log = Log::new(ORIGIN);
    let witness = Witness::of(&log);
    let address = witness.start().await;
    let anchor = at(address);
    assert!(!anchor.keeps_each());
    let key: WitnessKey = vkey().parse().unwrap();
    for (size, asked) in [(1, vec![0]), (7, vec![1]), (7, vec![7]), (64, vec![7]), (99, vec![64])] {
        let line = line(log.publish(&anchor, size).await);
        assert_eq!(witness.asked(), asked);
        let note = Note::parse(format!("{}{line}\n", log.note(size)).as_bytes()).unwrap();
        let cosignature = key.verify(&note).unwrap();
        assert_eq!(cosignature.line, line);
        let age = Clock::system().now().timestamp() - i64::try_from(cosignature.timestamp).unwrap();
        assert!((0..60).contains(&age), "{age}");
        assert_eq!(note.verify(&[log.key.verifier_key().clone()]).unwrap().len(), 1);
    }
    assert_eq!(anchor.latest(ORIGIN).await.unwrap(), None);

    // Another process knows nothing of that; and what is known may be out of date.
    witness.stands_at(&log, 50);
    line(log.publish(&at(address), 60).await);
    assert_eq!(witness.asked(), [0, 50]);
    line(log.publish(&anchor, 99).await);
    assert_eq!(witness.asked(), [99, 60]);
    witness.state.lock().unwrap().newest.clear();
    line(log.publish(&anchor, 99).await);
    assert_eq!(witness.asked(), [99, 0]);
}

#[tokio::test]
async fn a_witness_that_has_seen_another_history_is_a_conflict() {
    let (log, fork) = (Log::new(ORIGIN), Log::forked_at(ORIGIN, 30));
    let witness = Witness::of(&log);
    let address = witness.start().await;
    let anchor = at(address);
    line(log.publish(&anchor, 60).await);
    // Grown from other rows, of the same size, and smaller.
    assert_eq!(conflict(fork.publish(&anchor, 70).await), (60, None));
    assert_eq!(conflict(fork.publish(&anchor, 60).await), (60, None));
    assert_eq!(conflict(log.publish(&anchor, 59).await), (60, None));
    assert_eq!(conflict(fork.publish(&at(address), 60).await), (60, None));
    assert_eq!(witness.state.lock().unwrap().newest[ORIGIN], log.checkpoint(60).head());
    line(log.publish(&anchor, 61).await);
}

#[tokio::test]
async fn a_witness_that_does_not_know_the_log_says_so() {
    let log = Log::new(ORIGIN);
    let anchor = at(Witness::of(&log).start().await);
    let unknown = Log::new("example.org/another");
    let error = unknown.publish(&anchor, 4).await.unwrap_err();
    assert!(matches!(&error, AnchorError::Refused(what) if what.contains("origin")), "{error}");

    let other_key = ledger_verifier::note::SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    let mut other = Log::new(ORIGIN);
    other.key = other_key;
    let error = other.publish(&anchor, 4).await.unwrap_err();
    assert!(matches!(&error, AnchorError::Refused(what) if what.contains("key")), "{error}");
}

#[tokio::test]
async fn only_a_right_cosignature_of_a_plausible_time_is_taken() {
    let log = Log::new(ORIGIN);
    let witness = Witness::of(&log);
    let address = witness.start().await;
    for (ahead, is_taken) in [(-100_000, true), (200, true), (1000, false)] {
        witness.state.lock().unwrap().ahead = ahead;
        assert_eq!(log.publish(&at(address), 4).await.is_ok(), is_taken, "{ahead}");
    }

    let text = log.checkpoint(4).to_string();
    let others = log.checkpoint(3).to_string();
    let wrong_name = cosign(&text, 9).replace("w1", "w2");
    for (body, what) in [
        (String::new(), "not signed"),
        (wrong_name, "not signed"),
        (cosign(&others, 9), "is wrong"),
        (format!("{}{}", cosign(&text, 9), cosign(&others, 9)), "is wrong"),
        (cosign(&text, -1), "timestamped"),
        (cosign(&text, 9).trim_end().to_owned(), "newline"),
        (format!("\n{}", cosign(&text, 9)), "more than signature lines"),
        (format!("\n{}", cosign(&log.note(4), 9)), "more than signature lines"),
    ] {
        let answer = async move || body;
        let address = serve(Router::new().fallback(answer)).await;
        let error = log.publish(&at(address), 4).await.unwrap_err();
        assert!(matches!(error, AnchorError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_witness_that_never_agrees_on_a_size_is_asked_twice_at_most() {
    let log = Log::new(ORIGIN);
    let asked = Arc::new(Mutex::new(0));
    let counted = asked.clone();
    let answer = async move || {
        let mut asked = counted.lock().unwrap();
        *asked += 1;
        let body = format!("{asked}\n");
        (axum::http::StatusCode::CONFLICT, [(CONTENT_TYPE, "text/x.tlog.size")], body)
    };
    let address = serve(Router::new().fallback(answer)).await;
    let error = log.publish(&at(address), 50).await.unwrap_err();
    assert!(matches!(error, AnchorError::Refused(_)), "{error:?}");
    assert_eq!(*asked.lock().unwrap(), 2);
}

/// As the service publishes: in a task of its own, which must be able to move between threads.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_published_from_any_thread() {
    let log = Arc::new(Log::new(ORIGIN));
    let anchor = Arc::new(at(Witness::of(&log).start().await));
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (log, anchor) = (log.clone(), anchor.clone());
            tokio::spawn(async move { line(log.publish(&anchor, 5).await) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_proof_that_cannot_be_made_is_the_callers_failure() {
    let log = Log::new(ORIGIN);
    let witness = Witness::of(&log);
    witness.stands_at(&log, 3);
    let anchor = at(witness.start().await);
    let (note, checkpoint) = (log.note(9), log.checkpoint(9));
    let signed = audit_ledger::integrity::anchors::Signed { note: &note, checkpoint: &checkpoint };
    let failing = async |_| Err("the database is away".into());
    let error = anchor.publish(&signed, failing, Clock::system().now()).await.unwrap_err();
    assert!(matches!(error, AnchorError::Proof(_)), "{error:?}");
}
