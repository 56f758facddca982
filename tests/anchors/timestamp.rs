//! Timestamps by `openssl ts`: an authority with a CA of its own, and its verification.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use audit_ledger::integrity::anchors::{AnchorError, Receipt};
use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use tempfile::TempDir;

use crate::log::{Log, ORIGIN};
use crate::{anchor, serve};

const CONFIG: &str = "
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical,CA:true
[tsa]
extendedKeyUsage = critical,timeStamping
[authority]
serial = ./serial
signer_cert = ./tsa.pem
signer_key = ./tsa.key
certs = ./ca.pem
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
accuracy = secs:1, millisecs:500
ordering = yes
";

fn openssl(dir: &Path, arguments: &str) -> (bool, String) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split_whitespace()).current_dir(dir).output();
    let output = output.expect("openssl is installed");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A CA and an authority that it has certified.
fn authority() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("openssl.cnf"), CONFIG).unwrap();
    fs::write(dir.path().join("serial"), "01\n").unwrap();
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf";
    for arguments in [
        &format!("req -x509 {ec} -keyout ca.key -out ca.pem -subj /CN=CA -extensions ca"),
        &format!("req {ec} -keyout tsa.key -out tsa.csr -subj /CN=TSA"),
        "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tsa.pem \
         -extfile openssl.cnf -extensions tsa",
    ] {
        let (succeeded, said) = openssl(dir.path(), arguments);
        assert!(succeeded, "openssl {arguments}: {said}");
    }
    dir
}

/// Answers with what `openssl ts -reply` makes of the request.
fn reply(dir: &Path, request: &[u8]) -> Vec<u8> {
    fs::write(dir.join("request.tsq"), request).unwrap();
    let arguments =
        "ts -reply -config openssl.cnf -section authority -queryfile request.tsq -out reply.tsr";
    let (succeeded, said) = openssl(dir, arguments);
    assert!(succeeded, "{said}");
    fs::read(dir.join("reply.tsr")).unwrap()
}

#[tokio::test]
async fn a_token_is_taken_from_openssl_and_verified_by_it() {
    let dir = authority();
    let (path, seen) = (dir.path().to_owned(), Arc::new(Mutex::new(Vec::new())));
    let headers_seen = seen.clone();
    let answer = async move |headers: HeaderMap, request: Bytes| {
        headers_seen.lock().unwrap().push(headers["content-type"].clone());
        reply(&path, &request)
    };
    let address = serve(Router::new().route("/tsr", post(answer))).await;
    let anchor = anchor(&format!("tsa+http://{address}/tsr"));
    assert!(!anchor.keeps_each());

    let log = Log::new(ORIGIN);
    let receipts = [log.publish(&anchor, 9).await, log.publish(&anchor, 9).await];
    let tokens = receipts.map(|receipt| match receipt.unwrap() {
        Receipt::TimestampToken(token) => token,
        other => panic!("{other:?} is no token"),
    });
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(seen.lock().unwrap()[..], ["application/timestamp-query"; 2]);
    assert_eq!(anchor.latest(ORIGIN).await.unwrap(), None);
    assert!(crate::held(&anchor, ORIGIN).await.is_empty());

    // As the documentation says.
    let verify = "ts -verify -data checkpoint.note -in checkpoint.tsr -CAfile ca.pem";
    fs::write(dir.path().join("checkpoint.tsr"), &tokens[0]).unwrap();
    fs::write(dir.path().join("checkpoint.note"), log.note(9)).unwrap();
    let (succeeded, said) = openssl(dir.path(), verify);
    assert!(succeeded && said.contains("Verification: OK"), "{said}");
    fs::write(dir.path().join("checkpoint.note"), log.note(8)).unwrap();
    assert!(!openssl(dir.path(), verify).0);
}

#[tokio::test]
async fn a_token_for_another_request_or_none_is_refused() {
    let dir = authority();
    let log = Log::new(ORIGIN);
    // The first answer, over and over.
    let (path, first) = (dir.path().to_owned(), Arc::new(Mutex::new(None)));
    let replay = async move |request: Bytes| {
        first.lock().unwrap().get_or_insert_with(|| reply(&path, &request)).clone()
    };
    let path = dir.path().to_owned();
    let unknown_hash = async move |request: Bytes| {
        // SHA-512 of 32 bytes, which no authority can sign.
        let at = request.windows(9).position(|oid| oid == b"\x60\x86\x48\x01\x65\x03\x04\x02\x01");
        let mut request = request.to_vec();
        request[at.unwrap() + 8] = 3;
        reply(&path, &request)
    };
    let router = Router::new().route("/replay", post(replay)).route("/hash", post(unknown_hash));
    let address = serve(router).await;

    let replay = anchor(&format!("tsa+http://{address}/replay"));
    assert!(log.publish(&replay, 9).await.is_ok());
    let refused = anchor(&format!("tsa+http://{address}/hash"));
    for (anchor, size, what) in [
        (&replay, 9, "another request"),
        (&replay, 8, "another message"),
        (&refused, 9, "it refused, with status 02"),
    ] {
        let error = log.publish(anchor, size).await.unwrap_err();
        assert!(matches!(error, AnchorError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
}
