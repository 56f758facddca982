//! Buckets on a real S3 server (`s3s-fs`), which checks signatures and honours `If-None-Match`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use audit_ledger::integrity::anchors::{Anchor, AnchorError};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;

use crate::log::{Log, ORIGIN};
use crate::{all, conflict, held, serve};

const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "opensesame";

struct Store {
    dir: TempDir,
    address: SocketAddr,
}

/// What S3 promises and `s3s-fs` does not: that looking whether an object is there and making it
/// are one step.
static PUTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn answer(State(service): State<S3Service>, request: Request) -> Response {
    let _put = if request.method() == "PUT" { Some(PUTS.lock().await) } else { None };
    let request = request.map(s3s::Body::http_body_unsync);
    service.call(request).await.unwrap().map(Body::new).into_response()
}

impl Store {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let address = serve(Router::new().fallback(answer).with_state(builder.build())).await;
        Self { dir, address }
    }

    fn url(&self, bucket: &str) -> String {
        format!("s3://{bucket}?region=eu-central-1&endpoint=http://{}", self.address)
    }

    fn anchor(&self, bucket: &str) -> Anchor {
        Anchor::parse(&self.url(bucket), &variables(SECRET_KEY)).unwrap()
    }

    fn object(&self, size: usize) -> PathBuf {
        self.dir.path().join(format!("bucket/anchors/example.com=2Fledger/{size:020}"))
    }
}

fn variables(secret: &str) -> Vec<(String, String)> {
    [
        ("PATH", "/bin"),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_REGION", "nowhere"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[tokio::test]
async fn every_checkpoint_is_an_object_that_is_written_once() {
    let store = Store::start().await;
    let anchor = store.anchor("bucket/anchors");
    assert!(anchor.keeps_each());
    assert_eq!(anchor.name(), store.url("bucket/anchors"));
    let log = Log::new(ORIGIN);
    assert_eq!(anchor.latest(ORIGIN).await.unwrap(), None);
    assert_eq!(held(&anchor, ORIGIN).await, Vec::<String>::new());
    for size in [0, 1, 1, 9, 10, 99, 10] {
        log.keep(&anchor, size).await;
    }
    assert_eq!(fs::read_to_string(store.object(9)).unwrap(), log.note(9));
    let notes = [0, 1, 9, 10, 99].map(|size| log.note(size));
    assert_eq!(held(&anchor, ORIGIN).await, notes);
    assert_eq!(all(&anchor, ORIGIN, 9).await.0, notes[2..]);
    assert_eq!(anchor.latest(ORIGIN).await.unwrap().as_ref(), Some(&notes[4]));

    // Neither other origins nor other files in the folder are seen.
    let others = ["example.com", "example.com/ledger/i2", ".."].map(Log::new);
    for other in &others {
        other.keep(&anchor, 50).await;
    }
    for foreign in ["README", "00000000000000000009x", "00000000000000000010/0"] {
        let path = store.object(0).with_file_name("").join(foreign);
        if path.parent().is_some_and(std::path::Path::is_dir) {
            fs::write(path, "hello").unwrap();
        }
    }
    assert_eq!(held(&anchor, ORIGIN).await, notes);
    assert_eq!(held(&anchor, "..").await, [others[2].note(50)]);
    // Without a prefix the bucket is another place.
    assert_eq!(store.anchor("bucket").latest(ORIGIN).await.unwrap(), None);
    others[0].keep(&store.anchor("bucket"), 3).await;
}

#[tokio::test]
async fn another_history_is_a_conflict_and_overwrites_nothing() {
    let store = Store::start().await;
    let anchor = store.anchor("bucket/anchors");
    let (log, fork) = (Log::new(ORIGIN), Log::forked_at(ORIGIN, 30));
    for size in [20, 40, 60] {
        log.keep(&anchor, size).await;
    }
    assert_eq!(conflict(fork.publish(&anchor, 40).await), (40, Some(log.note(40))));
    assert_eq!(conflict(fork.publish(&anchor, 60).await), (60, Some(log.note(60))));
    assert_eq!(conflict(log.publish(&anchor, 50).await), (60, Some(log.note(60))));
    assert!(!store.object(50).exists());
    fork.keep(&anchor, 20).await;
    assert_eq!(held(&anchor, ORIGIN).await, [20, 40, 60].map(|size| log.note(size)));
}

/// Two instances that publish at once: both look, and the store lets one of them write.
#[tokio::test]
async fn of_two_writers_one_makes_the_object() {
    let store = Store::start().await;
    let (log, fork) = (Log::new(ORIGIN), Log::forked_at(ORIGIN, 30));
    for size in 31..60 {
        let anchor = store.anchor("bucket/anchors");
        let (first, second) = tokio::join!(log.publish(&anchor, size), fork.publish(&anchor, size));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let held = fs::read_to_string(store.object(size)).unwrap();
        let (winner, other) = if first.is_ok() { (&log, second) } else { (&fork, first) };
        assert_eq!(held, winner.note(size));
        assert_eq!(conflict(other), (size as u64, Some(held)));
    }
}

#[tokio::test]
async fn the_largest_of_many_pages_is_found() {
    let store = Store::start().await;
    let anchor = store.anchor("bucket/anchors");
    let log = Log::new(ORIGIN);
    log.keep(&anchor, 7).await;
    let at = |size: u64| store.object(0).with_file_name(format!("{size:020}"));
    let mut newest = String::new();
    // Dense, then ever further apart, then far away.
    for size in (8..2500).chain((12..60).map(|power| 1 << power)).chain([u64::MAX]) {
        newest = log.note(7).replacen("\n7\n", &format!("\n{size}\n"), 1);
        fs::write(at(size), &newest).unwrap();
    }
    assert_eq!(anchor.latest(ORIGIN).await.unwrap(), Some(newest));
    let (notes, ended) = all(&anchor, ORIGIN, 2000).await;
    ended.unwrap();
    assert_eq!(notes.len(), 500 + 48 + 1);
    fs::remove_file(at(u64::MAX)).unwrap();
    for power in (12..60).rev() {
        let latest = anchor.latest(ORIGIN).await.unwrap().unwrap();
        assert!(latest.contains(&format!("\n{}\n", 1_u64 << power)), "{latest}");
        fs::remove_file(at(1 << power)).unwrap();
    }
    assert!(anchor.latest(ORIGIN).await.unwrap().unwrap().contains("\n2499\n"));
}

#[tokio::test]
async fn what_somebody_else_put_is_named_and_hides_nothing() {
    let store = Store::start().await;
    let anchor = store.anchor("bucket/anchors");
    let log = Log::new(ORIGIN);
    for size in [20, 40, 60] {
        log.keep(&anchor, size).await;
    }
    fs::write(store.object(40), "hello").unwrap();
    let (notes, ended) = all(&anchor, ORIGIN, 0).await;
    assert_eq!(notes, [20, 60].map(|size| log.note(size)));
    let error = ended.unwrap_err();
    assert!(matches!(error, AnchorError::Damaged(_)), "{error:?}");
    assert!(error.to_string().contains("=2Fledger/00000000000000000040"), "{error}");
    fs::write(store.object(60), vec![b'a'; 1_000_001]).unwrap();
    let error = anchor.latest(ORIGIN).await.unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[tokio::test]
async fn what_the_store_refuses_is_told_without_the_credentials() {
    let store = Store::start().await;
    let log = Log::new(ORIGIN);
    let wrong = Anchor::parse(&store.url("bucket"), &variables("anothersecret")).unwrap();
    let missing = store.anchor("bucket-of-others");
    for (anchor, what) in [(wrong, "SignatureDoesNotMatch"), (missing, "NoSuchBucket")] {
        let errors =
            [log.publish(&anchor, 3).await.unwrap_err(), anchor.latest(ORIGIN).await.unwrap_err()];
        for error in errors {
            let texts = format!("{error} {error:?} {anchor:?}");
            assert!(error.to_string().contains(what), "{texts}");
            for secret in [ACCESS_KEY, SECRET_KEY, "anothersecret"] {
                assert!(!texts.contains(secret), "{texts}");
            }
        }
    }
}

#[test]
fn what_is_no_bucket_is_refused_and_not_repeated() {
    for wrong in [
        "s3:opensesame",
        "s3:///opensesame",
        "s3://me:opensesame@bucket/prefix",
        "s3://bucket/prefix#opensesame",
        "s3://bucket/prefix?key=opensesame",
        "s3://bucket/prefix?endpoint=http://me:opensesame@example.com",
        "s3://bucket/prefix?endpoint=opensesame",
    ] {
        let error = Anchor::parse(wrong, &variables(SECRET_KEY)).unwrap_err();
        assert!(!error.contains("sesame"), "{error}");
    }
}
