//! Every anchor that is reached by network, against servers that are not there, hang, fail, send
//! rubbish, send without end, or send elsewhere. The errors are told in one line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use audit_ledger::integrity::anchors::{Anchor, AnchorError};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Redirect;
use futures_util::stream;
use tokio::net::TcpListener;

use crate::log::{Log, ORIGIN};
use crate::serve;

const SECRET: &str = "opensesame";
const WITNESS: &str = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";

/// One of each kind.
fn anchors(address: SocketAddr) -> Vec<Anchor> {
    let variables: Vec<_> = [("AWS_ACCESS_KEY_ID", SECRET), ("AWS_SECRET_ACCESS_KEY", SECRET)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let urls = [
        format!("http://user:{SECRET}@{address}/log"),
        format!("tsa+http://user:{SECRET}@{address}/tsa"),
        format!("witness+http://user:{SECRET}@{address}/witness#{WITNESS}"),
        format!("s3://bucket/prefix?region=eu-1&endpoint=http://{address}"),
    ];
    let urls = urls.iter().filter(|url| cfg!(feature = "s3") || !url.starts_with("s3:"));
    urls.map(|url| Anchor::parse(url, &variables).unwrap()).collect()
}

/// Publishes to each of them, and asks those that give back what they hold.
async fn errors(address: SocketAddr) -> Vec<(String, AnchorError)> {
    let anchors = anchors(address);
    let log = Log::new(ORIGIN);
    let of = async |anchor: &Anchor| {
        let (published, latest, (_, all)) = tokio::join!(
            log.publish(anchor, 9),
            anchor.latest(ORIGIN),
            crate::all(anchor, ORIGIN, 0),
        );
        let mut errors = vec![published.unwrap_err()];
        if anchor.keeps_each() {
            errors.extend([latest.unwrap_err(), all.unwrap_err()]);
        }
        errors.into_iter().map(|error| (anchor.name().to_owned(), error)).collect::<Vec<_>>()
    };
    let errors = futures_util::future::join_all(anchors.iter().map(of)).await;
    let errors: Vec<_> = errors.into_iter().flatten().collect();
    for (name, error) in &errors {
        let texts = format!("{name} {error} {error:?}");
        assert!(!texts.contains(SECRET) && !texts.contains("user"), "{texts}");
        assert!(!error.to_string().contains('\n') && error.to_string().len() < 300, "{error}");
    }
    errors
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for (name, error) in errors(address).await {
        assert!(matches!(error, AnchorError::Unavailable(_)), "{name}: {error:?}");
        assert!(error.to_string().contains("Connection refused"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let began = Instant::now();
    // Its backlog takes the connections, and nobody answers.
    for (name, error) in errors(listener.local_addr().unwrap()).await {
        assert!(matches!(error, AnchorError::Unavailable(_)), "{name}: {error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_hangs_up_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    for (name, error) in errors(address).await {
        assert!(matches!(error, AnchorError::Unavailable(_)), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_fails_is_told_with_its_status_and_not_with_its_words() {
    for status in [500, 503, 401, 403] {
        let status = StatusCode::from_u16(status).unwrap();
        // As a server would that echoes what it was sent.
        let fail = async move || (status, format!("<html>user:{SECRET}</html>"));
        let address = serve(Router::new().fallback(fail)).await;
        for (name, error) in errors(address).await {
            assert!(!matches!(error, AnchorError::Conflict { .. }), "{name}: {error:?}");
            assert!(!error.to_string().contains("html"), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn rubbish_is_told() {
    for rubbish in ["", "<html><body>Welcome to the hotel</body></html>", "\u{0}\u{30}"] {
        let address = serve(Router::new().fallback(async move || rubbish)).await;
        for (name, error) in errors(address).await {
            assert!(!matches!(error, AnchorError::Conflict { .. }), "{name}: {error:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let flood = async || {
        let chunk = Bytes::from(vec![b'a'; 1 << 16]);
        let chunks = stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
        // As a listing of a bucket is.
        ([(CONTENT_TYPE, "application/xml")], Body::from_stream(chunks))
    };
    let address = serve(Router::new().fallback(flood)).await;
    for (name, error) in errors(address).await {
        assert!(!matches!(error, AnchorError::Conflict { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains("more than"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = visits.clone();
    let visit = async move || counted.fetch_add(1, Ordering::Relaxed).to_string();
    let elsewhere = serve(Router::new().fallback(visit)).await;
    let lead = async move || Redirect::temporary(&format!("http://{elsewhere}/"));
    let address = serve(Router::new().fallback(lead)).await;
    for (name, error) in errors(address).await {
        assert!(
            error.to_string().contains("redirect") || name.starts_with("s3"),
            "{name}: {error}"
        );
    }
    assert_eq!(visits.load(Ordering::Relaxed), 0);
}
