//! Receivers of HTTP: one that follows the protocol, and one that appends whatever comes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use audit_ledger::integrity::anchors::{Anchor, AnchorError};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use ledger_verifier::TreeSize;
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::note::Note;

use crate::log::{Log, ORIGIN};
use crate::{anchor, conflict, held, serve};

/// What was posted, by origin, and with which credentials.
#[derive(Clone, Default)]
struct Kept {
    notes: Arc<Mutex<HashMap<String, Vec<String>>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Kept {
    fn last(&self, origin: &str) -> Option<String> {
        self.notes.lock().unwrap().get(origin)?.last().cloned()
    }

    fn keep(&self, note: String) {
        let origin = note.lines().next().unwrap().to_owned();
        self.notes.lock().unwrap().entry(origin).or_default().push(note);
    }

    fn of(&self, origin: &str) -> Vec<String> {
        self.notes.lock().unwrap().get(origin).cloned().unwrap_or_default()
    }
}

async fn give(State(kept): State<Kept>, uri: Uri) -> Result<String, StatusCode> {
    let url = reqwest::Url::parse(&format!("http://localhost{uri}")).unwrap();
    let origin = url.query_pairs().find(|(name, _)| name == "origin").unwrap().1;
    kept.last(&origin).ok_or(StatusCode::NOT_FOUND)
}

/// As the protocol says: what is another history is answered with what is held.
async fn take(
    State(kept): State<Kept>,
    headers: HeaderMap,
    note: String,
) -> Result<StatusCode, (StatusCode, String)> {
    kept.headers.lock().unwrap().push(headers);
    let read =
        |note: &str| Checkpoint::parse(Note::parse(note.as_bytes()).unwrap().text()).unwrap();
    let new = read(&note);
    if let Some(held) = kept.last(&new.origin) {
        let last = read(&held);
        if last.size > new.size || last.size == new.size && last.root != new.root {
            return Err((StatusCode::CONFLICT, held));
        }
    }
    kept.keep(note);
    Ok(StatusCode::CREATED)
}

async fn receiver(kept: &Kept) -> SocketAddr {
    let router = Router::new().route("/log", get(give).post(take)).with_state(kept.clone());
    serve(router).await
}

fn at(address: SocketAddr) -> Anchor {
    anchor(&format!("http://{address}/log"))
}

#[tokio::test]
async fn a_receiver_keeps_every_checkpoint_once_and_gives_the_last() {
    let kept = Kept::default();
    let address = receiver(&kept).await;
    let anchor = anchor(&format!("http://ledger:p%40ss@{address}/log"));
    assert_eq!(anchor.name(), format!("http://{address}/log"));
    assert!(anchor.keeps_each());
    let origin = "example.com/l\u{e9}dger&origin=x";
    let log = Log::new(origin);
    assert_eq!(anchor.latest(origin).await.unwrap(), None);
    assert_eq!(held(&anchor, origin).await, Vec::<String>::new());
    for size in [1, 1, 5, 9, 9] {
        log.keep(&anchor, size).await;
    }
    assert_eq!(kept.of(origin), [1, 5, 9].map(|size| log.note(size)));
    assert_eq!(anchor.latest(origin).await.unwrap(), Some(log.note(9)));
    assert_eq!(held(&anchor, origin).await, [log.note(9)]);
    assert_eq!(crate::all(&anchor, origin, 10).await.0, Vec::<String>::new());
    let headers = kept.headers.lock().unwrap()[0].clone();
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(headers["authorization"], "Basic bGVkZ2VyOnBAc3M=");
}

#[tokio::test]
async fn another_history_is_a_conflict_before_and_after_it_was_posted() {
    let (log, fork) = (Log::new(ORIGIN), Log::forked_at(ORIGIN, 5));
    let last = (9, Some(log.note(9)));
    let kept = Kept::default();
    let asked = at(receiver(&kept).await);
    log.keep(&asked, 9).await;
    assert_eq!(conflict(log.publish(&asked, 8).await), last);
    assert_eq!(conflict(fork.publish(&asked, 9).await), last);

    // It says nothing when asked, or another instance is faster: then the answer tells.
    let router = Router::new().route("/log", post(take)).with_state(kept.clone());
    let told = at(serve(router).await);
    assert_eq!(told.latest(ORIGIN).await.unwrap(), None);
    assert_eq!(conflict(log.publish(&told, 8).await), last);
    assert_eq!(conflict(fork.publish(&told, 9).await), last);
    assert_eq!(kept.of(ORIGIN), [log.note(9)]);
    log.keep(&told, 10).await;
}

#[tokio::test]
async fn a_receiver_that_checks_nothing_is_not_given_another_history() {
    let kept = Kept::default();
    let append = async |State(kept): State<Kept>, note: String| kept.keep(note);
    let router = Router::new().route("/log", get(give).post(append)).with_state(kept.clone());
    let anchor = at(serve(router).await);
    let (log, fork) = (Log::new(ORIGIN), Log::forked_at(ORIGIN, 5));
    for size in [4, 4, 9] {
        log.keep(&anchor, size).await;
    }
    assert_eq!(conflict(fork.publish(&anchor, 9).await), (9, Some(log.note(9))));
    assert_eq!(conflict(log.publish(&anchor, 4).await), (9, Some(log.note(9))));
    assert_eq!(kept.of(ORIGIN), [4, 9].map(|size| log.note(size)));
}

#[tokio::test]
async fn a_conflict_is_believed_only_with_the_checkpoint_that_it_is_with() {
    let log = Log::new(ORIGIN);
    for (body, what) in [
        ("<html>".to_owned(), "409 with what is no checkpoint of this origin"),
        (Log::new("example.org/another").note(9), "409 with what is no checkpoint of this origin"),
        (log.note(3), "409 with a checkpoint that is older"),
    ] {
        let refuse = async || (StatusCode::CONFLICT, body);
        let anchor = at(serve(Router::new().route("/log", post(refuse))).await);
        let error = log.publish(&anchor, 4).await.unwrap_err();
        assert!(matches!(error, AnchorError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
    // What says the same is no other history.
    let body = log.note(4);
    let refuse = async || (StatusCode::CONFLICT, body);
    log.keep(&at(serve(Router::new().route("/log", post(refuse))).await), 4).await;
}

#[tokio::test]
async fn an_answer_that_is_no_checkpoint_of_the_origin_is_refused() {
    let log = Log::new(ORIGIN);
    for body in [b"<html>".to_vec(), b"\xff".to_vec(), Log::new("a").note(9).into_bytes()] {
        let answer = async || body;
        let anchor = at(serve(Router::new().route("/log", get(answer))).await);
        let error = anchor.latest(ORIGIN).await.unwrap_err();
        assert!(matches!(error, AnchorError::Refused(_)), "{error:?}");
        assert!(log.publish(&anchor, 4).await.is_err());
        assert!(anchor_all_fails(&anchor).await);
    }
}

async fn anchor_all_fails(anchor: &Anchor) -> bool {
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    anchor.all(ORIGIN, TreeSize(0), sender).await.is_err()
}
