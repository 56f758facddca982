//! What the API shows of checkpoints: the log for whoever watches it, proofs, writes that wait for theirs,
//! and bundles, each looked at by `ledger-verifier` alone.

use std::io::Cursor;
use std::time::Duration;

use audit_ledger::appender::Appender;
use audit_ledger::clock::Clock;
use audit_ledger::http::Checkpoints;
use audit_ledger::integrity::checkpointer::{Wake, wait_for_checkpoint};
use audit_ledger::integrity::publisher::publish_all;
use audit_ledger::keys::Scope;
use audit_ledger::store::checkpoints::StoredCheckpoint;
use audit_ledger::store::feed::log_size;
use audit_ledger::store::pool::Pool;
use ledger_verifier::bundle::{BundleReport, Completeness, Verdict, verify_bundle};
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::merkle::{
    Tree, TreeHash, TreeHead, leaf_hash, verify_consistency, verify_inclusion,
};
use ledger_verifier::note::VerifierKey;
use ledger_verifier::proof::TlogProof;
use ledger_verifier::{LeafIndex, RowHash, TreeSize};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::common::builders::{api_key, one_of_each};
use crate::common::checkpoints::{Signed, folder, keys};
use crate::common::{TestLedger, soon};
use crate::grow;
use crate::server::Server;

/// A service whose log is signed, and somebody who asks it.
struct Desk {
    ledger: TestLedger,
    server: Server,
    key: String,
    signed: Signed,
    wake: Wake,
    appender: Appender,
    _folder: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Desk {
    /// Checkpoints are made when somebody asks for one, or the test does.
    async fn open(log_is_public: bool) -> Self {
        let ledger = TestLedger::new().await;
        let folder_of_anchor = tempfile::tempdir().unwrap();
        let signed = Signed::with(folder(folder_of_anchor.path()));
        let (_, key) = api_key(&ledger.owner(), "desk", &Scope::ALL).await;
        let (outside, wake) = (signed.subject(&ledger).outside, Wake::default());
        let checkpoints = Checkpoints { outside, wake: wake.clone(), log_is_public };
        let appender = ledger.appender();
        let mut tasks = JoinSet::new();
        let checkpointer = signed.checkpointer(&ledger, &appender);
        tasks.spawn(checkpointer.run(Duration::from_hours(1), wake.clone()));
        let server = Server::signed(&ledger, checkpoints).await;
        Self { ledger, server, key, signed, wake, appender, _folder: folder_of_anchor, tasks }
    }

    /// Waits for a checkpoint of all there is, and gives it to the anchor.
    async fn seal(&self) -> StoredCheckpoint {
        let pool = Pool::of(&self.ledger.app(), 1);
        let last = LeafIndex(u64::try_from(log_size(&pool).await.unwrap()).unwrap() - 1);
        let covered = wait_for_checkpoint(&pool, &self.wake, last, soon()).await.unwrap();
        assert!(covered.is_some());
        publish_all(&self.ledger.app(), &self.signed.anchors, Clock::system()).await.unwrap();
        pool.latest_checkpoint().await.unwrap().unwrap().1
    }

    async fn close(mut self) {
        self.tasks.shutdown().await;
        drop(self.appender);
        self.server.stop().await;
        self.ledger.finish().await;
    }

    fn vkeys(&self) -> Vec<VerifierKey> {
        keys(&self.signed.lines).vkeys()
    }

    async fn bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let answer = self.server.get(path).header("Authorization", &self.key).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.unwrap().to_vec())
    }

    async fn text(&self, path: &str) -> String {
        let (status, bytes) = self.bytes(path).await;
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    /// A refusal's status and code.
    async fn refusal(&self, path: &str) -> (u16, String) {
        let (status, bytes) = self.bytes(path).await;
        let problem: Value = serde_json::from_slice(&bytes).unwrap();
        (status, problem["code"].as_str().unwrap().to_owned())
    }

    async fn checkpoint(&self) -> Checkpoint {
        let note = self.text("/log/checkpoint").await;
        Checkpoint::open(note.as_bytes(), &self.vkeys()).unwrap()
    }
}

fn hashes(json: &Value) -> Vec<TreeHash> {
    json.as_array().unwrap().iter().map(|hash| hash.as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn whoever_watches_the_log_rebuilds_its_tree() {
    let desk = Desk::open(false).await;
    grow(&desk.appender, 700).await;
    desk.seal().await;
    let checkpoint = desk.checkpoint().await;
    let size = usize::try_from(checkpoint.size.0).unwrap();
    let mut tree = Tree::new();
    let mut leaves = Vec::new();
    for index in 0..size.div_ceil(256) {
        let width = (size - index * 256).min(256);
        let partial = if width == 256 { String::new() } else { format!(".p/{width}") };
        let (status, entries) = desk.bytes(&format!("/log/tile/entries/{index:03}{partial}")).await;
        assert_eq!((status, entries.len()), (200, width * 34));
        let (status, tile) = desk.bytes(&format!("/log/tile/0/{index:03}{partial}")).await;
        assert_eq!((status, tile.len()), (200, width * 32));
        for (entry, hash) in entries.chunks_exact(34).zip(tile.chunks_exact(32)) {
            assert_eq!(entry[..2], [0, 32]);
            let row_hash = RowHash(entry[2..].try_into().unwrap());
            assert_eq!(leaf_hash(row_hash).0, hash);
            tree.push(row_hash);
            leaves.push(row_hash);
        }
    }
    assert_eq!(tree.head(), checkpoint.head());
    let full = size / 256;
    let (status, above) = desk.bytes(&format!("/log/tile/1/000.p/{full}")).await;
    assert_eq!((status, above.len()), (200, full * 32));
    // As of an older checkpoint, too.
    assert_eq!(desk.bytes("/log/tile/0/002.p/7").await.1.len(), 7 * 32);
    for none in ["0/002", "0/003.p/1", "0/2", "1/000", "9/000", "entries/003", "0/000.p/0", "x", ""]
    {
        assert_eq!(desk.refusal(&format!("/log/tile/{none}")).await.0, 404, "{none}");
    }
    let vkey = desk.text("/log/vkey").await;
    assert_eq!(vkey.trim_end(), desk.vkeys()[0].to_string());
    // Without a key nobody reads it.
    for path in ["/log/checkpoint", "/log/vkey", "/log/tile/0/000"] {
        assert_eq!(desk.server.get(path).send().await.unwrap().status(), 401, "{path}");
    }
    desk.close().await;
}

#[tokio::test]
async fn a_public_log_is_read_without_a_key_and_kept_by_caches() {
    let desk = Desk::open(true).await;
    grow(&desk.appender, 300).await;
    desk.seal().await;
    for (path, cached) in [
        ("/log/checkpoint", "public, no-cache"),
        ("/log/tile/0/000", "public, max-age=31536000, immutable"),
        ("/log/tile/entries/001.p/5", "public, max-age=31536000, immutable"),
    ] {
        let answer = desk.server.get(path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["cache-control"], cached);
    }
    desk.close().await;
}

#[tokio::test]
async fn a_row_is_proved_as_json_and_as_a_text() {
    let desk = Desk::open(false).await;
    for row in one_of_each(1) {
        desk.appender.append(row, soon()).await.unwrap();
    }
    desk.seal().await;
    let checkpoint = desk.checkpoint().await;
    for chain in audit_ledger::chains::IN_LEDGER {
        let path = format!("/v1/proofs/{}/1", chain.name);
        let proof = desk.json(&path).await;
        let row_hash: RowHash = proof["row_hash"].as_str().unwrap().parse().unwrap();
        let leaf = LeafIndex(proof["leaf_index"].as_u64().unwrap());
        verify_inclusion(row_hash, leaf, &hashes(&proof["hashes"]), checkpoint.head()).unwrap();
        let row = desk.json(&format!("/v1/{}/1", chain.name)).await;
        assert_eq!(row["row"]["row_hash"], proof["row_hash"]);
        let text = desk.text(&format!("{path}?format=tlog-proof")).await;
        let read = TlogProof::parse(&text).unwrap();
        assert_eq!(read.verify(row_hash, &desk.vkeys()).unwrap(), checkpoint);
        assert_eq!(read.to_string(), text);
    }
    for (path, refusal) in [
        ("/v1/proofs/signals/2", (404, "NTF-001")),
        ("/v1/proofs/nothing/1", (404, "NTF-001")),
        ("/v1/proofs/signals/x", (404, "NTF-001")),
        ("/v1/proofs/signals/1?format=pdf", (400, "VAL-003")),
        ("/v1/proofs/signals/1?of=x", (400, "VAL-003")),
    ] {
        assert_eq!(desk.refusal(path).await, (refusal.0, refusal.1.to_owned()), "{path}");
    }
    desk.close().await;
}

#[tokio::test]
async fn that_the_log_only_grew_is_proved() {
    let desk = Desk::open(false).await;
    grow(&desk.appender, 20).await;
    let first = desk.seal().await.head;
    grow(&desk.appender, 400).await;
    let second = desk.seal().await.head;
    let path = format!("/v1/proofs/consistency?from_size={}", first.size);
    let proof = desk.json(&path).await;
    assert_eq!(proof["to_size"].as_u64(), Some(second.size.0));
    verify_consistency(first, &hashes(&proof["hashes"]), second).unwrap();
    let between = desk.json(&format!("{path}&to_size=300")).await;
    let root = between["to_root"].as_str().unwrap().parse().unwrap();
    let to = TreeHead { size: TreeSize(300), root };
    verify_consistency(first, &hashes(&between["hashes"]), to).unwrap();
    for (path, refusal) in [
        ("/v1/proofs/consistency", (400, "VAL-003")),
        ("/v1/proofs/consistency?from_size=-1", (400, "VAL-003")),
        ("/v1/proofs/consistency?from_size=9&to_size=8", (400, "VAL-003")),
        ("/v1/proofs/consistency?from_size=9&to_size=9000", (409, "PRF-001")),
    ] {
        assert_eq!(desk.refusal(path).await, (refusal.0, refusal.1.to_owned()), "{path}");
    }
    desk.close().await;
}

#[tokio::test]
async fn a_write_waits_for_its_checkpoint() {
    let desk = Desk::open(false).await;
    let auth = [("Authorization", desk.key.as_str())];
    let record = r#"{"signal_id":"s-1","source_module":"ema","ticker":"AAPL","direction":"LONG",
        "conviction":"70","timestamp":"2026-01-01T00:00:00Z"}"#;
    let path = "/v1/signal_audit_ledger?wait=checkpoint";
    let answer = desk.server.post(path, record.as_bytes(), &auth).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let proof = &answer.body["proof"];
    let note = proof["checkpoint"].as_str().expect("a checkpoint in time");
    let checkpoint = Checkpoint::open(note.as_bytes(), &desk.vkeys()).unwrap();
    let receipt = &answer.body["receipt"];
    let row_hash: RowHash = receipt["row_hash"].as_str().unwrap().parse().unwrap();
    let leaf = LeafIndex(receipt["leaf_index"].as_u64().unwrap());
    verify_inclusion(row_hash, leaf, &hashes(&proof["hashes"]), checkpoint.head()).unwrap();

    let many = format!("[{},{}]", record.replace("s-1", "s-2"), record.replace("s-1", "s-3"));
    let answer = desk.server.post(path, many.as_bytes(), &auth).await;
    let note = answer.body["checkpoint"].as_str().expect("a checkpoint in time");
    let checkpoint = Checkpoint::open(note.as_bytes(), &desk.vkeys()).unwrap();
    let last = answer.body["results"][1]["receipt"]["leaf_index"].as_u64().unwrap();
    assert!(checkpoint.size.0 > last);
    let answer = desk.server.post("/v1/signal_audit_ledger?wait=long", b"{}", &auth).await;
    assert_eq!(answer.body["code"], "VAL-003");
    desk.close().await;
}

#[tokio::test]
async fn a_bundle_proves_a_range_offline() {
    let desk = Desk::open(false).await;
    for n in 1..=40 {
        for row in one_of_each(n) {
            desk.appender.append(row, soon()).await.unwrap();
        }
    }
    let times = desk.json("/v1/signals?order=asc&limit=40").await;
    let time = |at: usize| times["items"][at]["created_at"].as_str().unwrap().to_owned();
    let (from, to) = (time(9), time(19));
    for (chain, filter, rows, complete_to) in [
        ("signals", String::new(), 40, None),
        ("signals", "&from_id=10&to_id=19".to_owned(), 10, Some(())),
        ("signals", format!("&from={from}&to={to}"), 10, Some(())),
        ("signals", "&from_id=31".to_owned(), 10, None),
        ("signals", "&from_id=50".to_owned(), 0, None),
        ("signals", "&from_id=20&to_id=10".to_owned(), 0, Some(())),
        ("quarantined_deliveries", "&from_id=1&to_id=1".to_owned(), 1, Some(())),
        ("ai_debates", "&to_id=40".to_owned(), 40, Some(())),
    ] {
        let path = format!("/v1/export/{chain}?format=bundle{filter}");
        let (status, zip) = desk.bytes(&path).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&zip));
        let report = verify_bundle(Cursor::new(zip), &desk.vkeys()).unwrap();
        assert_proved(&report, &path);
        assert_eq!(report.rows, rows, "{path}");
        let is_closed = !matches!(report.completeness, Completeness::UpTo(_));
        assert_eq!(is_closed, complete_to.is_some(), "{path}: {:?}", report.completeness);
        // Somebody else's key proves nothing.
        let (_, zip) = desk.bytes(&path).await;
        let strange = Signed::with(std::sync::Arc::new([]));
        let report = verify_bundle(Cursor::new(zip), &keys(&strange.lines).vkeys()).unwrap();
        assert_ne!(report.verdict(), Verdict::Verified, "{path}");
    }
    for (filter, field) in [("symbol=BTCUSD", "symbol"), ("side=BUY&from_id=1", "side")] {
        let (status, problem) =
            desk.bytes(&format!("/v1/export/signals?format=bundle&{filter}")).await;
        let problem: Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!((status, problem["code"].as_str()), (400, Some("VAL-003")));
        assert_eq!(problem["field"], field);
    }
    desk.close().await;
}

fn assert_proved(report: &BundleReport, path: &str) {
    assert_eq!(report.verdict(), Verdict::Verified, "{path}: {report:?}");
}

#[tokio::test]
async fn the_state_names_checkpoint_and_anchors() {
    let desk = Desk::open(false).await;
    let before = desk.json("/v1/integrity").await;
    assert_eq!(
        (&before["checkpoint"], before["anchors"].as_array().unwrap().len()),
        (&Value::Null, 0)
    );
    let sealed = desk.seal().await;
    grow(&desk.appender, 3).await;
    let state = desk.json("/v1/integrity").await;
    let checkpoint = &state["checkpoint"];
    assert_eq!(checkpoint["tree_size"].as_u64(), Some(sealed.head.size.0));
    assert_eq!(checkpoint["leaves_behind"].as_u64(), Some(3));
    assert_eq!(checkpoint["vkeys"][0], desk.vkeys()[0].to_string());
    let anchor = &state["anchors"][0];
    assert_eq!(anchor["tree_size"].as_u64(), Some(sealed.head.size.0));
    assert!(anchor["anchor"].as_str().unwrap().starts_with("file:"), "{anchor}");
    for kind in ["full", "incremental", "rolling"] {
        let path = format!("/v1/integrity/checks?kind={kind}");
        let auth = [("Authorization", desk.key.as_str())];
        let answer = desk.server.post(&path, b"", &auth).await;
        assert_eq!((answer.status, answer.body["verdict"].as_str()), (201, Some("verified")));
    }
    let checks = desk.json("/v1/integrity/checks?limit=100").await;
    let kinds: std::collections::BTreeSet<_> = checks["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["full", "incremental", "rolling"].map(str::to_owned).into());
    desk.close().await;
}

#[tokio::test]
async fn before_the_first_checkpoint_nothing_is_proved() {
    let ledger = TestLedger::new().await;
    let signed = Signed::with(std::sync::Arc::new([]));
    let (_, key) = api_key(&ledger.owner(), "desk", &Scope::ALL).await;
    let outside = signed.subject(&ledger).outside;
    let server = Server::signed(&ledger, Checkpoints { outside, ..Checkpoints::default() }).await;
    for path in [
        "/log/checkpoint",
        "/log/vkey",
        "/log/tile/0/000.p/1",
        "/v1/proofs/security_events/1",
        "/v1/proofs/consistency?from_size=0",
    ] {
        let answer = server.get(path).header("Authorization", &key).send().await.unwrap();
        assert_eq!(answer.status(), 409, "{path}");
        assert!(answer.headers().contains_key("retry-after"), "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "PRF-001", "{path}");
    }
    let auth = [("Authorization", key.as_str())];
    let state = server.request("GET", "/v1/integrity", b"", &auth).await.body;
    assert_eq!(state["checkpoint"], Value::Null);
    server.stop().await;
    ledger.finish().await;
}
