//! Anchors, each against a real counterpart on this machine: folders, a receiver of HTTP, a
//! witness, `openssl` as a timestamp authority, and an S3 server.

#[path = "anchors/file.rs"]
mod file;
#[path = "anchors/http.rs"]
mod http;
#[path = "anchors/log.rs"]
mod log;
#[path = "anchors/outages.rs"]
mod outages;
#[cfg(feature = "s3")]
#[path = "anchors/s3.rs"]
mod s3;
#[path = "anchors/secrets.rs"]
mod secrets;
#[path = "anchors/timestamp.rs"]
mod timestamp;
#[path = "anchors/witness.rs"]
mod witness;

use std::net::SocketAddr;

use audit_ledger::integrity::anchors::{Anchor, AnchorError};
use axum::Router;
use ledger_verifier::TreeSize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Serves on loopback for as long as the test runs.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn anchor(url: &str) -> Anchor {
    Anchor::parse(url, &[]).unwrap()
}

/// All that an anchor holds, and how the reading ended.
async fn all(anchor: &Anchor, origin: &str, from: u64) -> (Vec<String>, Result<(), AnchorError>) {
    let (sender, mut receiver) = mpsc::channel(2);
    let collected = async {
        let mut notes = Vec::new();
        while let Some(note) = receiver.recv().await {
            notes.push(note);
        }
        notes
    };
    let (ended, notes) = tokio::join!(anchor.all(origin, TreeSize(from), sender), collected);
    (notes, ended)
}

/// What is held, where everything can be read.
async fn held(anchor: &Anchor, origin: &str) -> Vec<String> {
    let (notes, ended) = all(anchor, origin, 0).await;
    ended.unwrap();
    notes
}

/// The size and the note of a conflict.
#[track_caller]
fn conflict<T: std::fmt::Debug>(result: Result<T, AnchorError>) -> (u64, Option<String>) {
    match result.unwrap_err() {
        AnchorError::Conflict { size, note } => (size.0, note),
        other => panic!("{other:?} is no conflict"),
    }
}
