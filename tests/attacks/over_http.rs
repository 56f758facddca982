//! The attacks over HTTP: no route and no method changes or deletes anything, whatever stands in a
//! body; and no answer and no line of telemetry tells what is nobody's business.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use audit_ledger::clock::Clock;
use audit_ledger::keys::Scope;
use audit_ledger::store::Database;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::ConnectOptions;

use crate::common::builders::api_key;
use crate::common::{ALLOW_DDL, TestLedger, fetch, run};
use crate::driver::{assert_verifies, ledger_with_rows_everywhere, lock};
use crate::server::{Answer, SECRET, Server};
use crate::statements::{Table, contents, tables};
use crate::{Action, Attacker, Cell, cells};

/// What a client might try to set itself.
const NOT_FOR_CLIENTS: [&str; 6] =
    ["recorded_by", "id", "created_at", "prev_hash", "row_hash", "leaf_index"];
/// The chains that clients write.
const WRITTEN: [&str; 4] = ["ai_debates", "order_execution", "order_events", "signal_audit_ledger"];
const METHODS: [&str; 8] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "INVENTED"];
const PASSWORD: &str = "pa55word-of-the-tests";

/// A body that its route takes, of the first signal and the first order.
fn honest_body(chain: &str, correlation_id: &str) -> Value {
    match chain {
        "ai_debates" => json!({
            "correlation_id": correlation_id, "model_name": "phi-4", "reasoning_json": {},
            "confidence_score": "0.5", "elapsed_ms": 1, "is_timeout": false }),
        "order_execution" => json!({
            "correlation_id": correlation_id, "order_type": "MARKET", "symbol": "BTCUSD",
            "side": "BUY", "quantity": "1", "status": "PENDING" }),
        "signal_audit_ledger" => json!({
            "signal_id": "s-1", "source_module": "ema", "ticker": "AAPL", "direction": "LONG",
            "conviction": "82.5", "timestamp": "2026-01-02T03:04:05Z" }),
        _ => json!({ "order_execution_id": 1, "event_type": "EXPIRED" }),
    }
}

async fn first_signal(ledger: &TestLedger) -> String {
    let id = "SELECT correlation_id::text FROM public.signals WHERE id = 1";
    fetch(&mut ledger.connect_superuser().await, id).await
}

/// The requests that stand for an action on a table.
fn requests(
    action: Action,
    table: &str,
    correlation_id: &str,
) -> Vec<(&'static str, String, Value)> {
    let (all, one) = (format!("/v1/{table}"), format!("/v1/{table}/1"));
    let post = |forged: Value| {
        let mut body = honest_body(table, correlation_id);
        body.as_object_mut().unwrap().extend(forged.as_object().unwrap().clone());
        vec![("POST", all.clone(), body)]
    };
    match action {
        Action::Update => vec![("PUT", one.clone(), json!({})), ("PATCH", one, json!({}))],
        Action::DeleteFirst | Action::DeleteLast => vec![("DELETE", one, json!({}))],
        Action::DeleteAll | Action::Truncate => vec![("DELETE", all, json!({}))],
        Action::Insert | Action::InsertWhileLocked => post(json!({})),
        Action::InsertWithId => post(json!({ "id": 7 })),
        Action::InsertWithTime => post(json!({ "created_at": "2001-02-03T04:05:06Z" })),
        Action::InsertWithHash => post(json!({ "row_hash": "0".repeat(64) })),
        Action::InsertWithPrevHash => post(json!({ "prev_hash": "0".repeat(64) })),
        Action::InsertIntoLog => vec![("POST", "/v1/ledger_log".to_owned(), json!({}))],
        other => unreachable!("{other:?} has no request"),
    }
}

async fn send(server: &Server, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let mut headers = vec![("Content-Type", "application/json")];
    if !key.is_empty() {
        headers.push(("Authorization", key));
    }
    server.request(method, path, body.to_string().as_bytes(), &headers).await
}

/// Status, headers and text of an answer that need not be JSON.
async fn ask(
    server: &Server,
    method: &str,
    path: &str,
    authorization: &str,
    body: &str,
) -> (u16, HeaderMap, String) {
    let url = format!("http://{}{path}", server.address);
    let request = reqwest::Client::new().request(method.parse().unwrap(), url);
    let mut request = request.header("Content-Type", "application/json").body(body.to_owned());
    if !authorization.is_empty() {
        request = request.header("Authorization", authorization);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (status, headers, answer.text().await.unwrap())
}

/// Runs the cells of those who attack over HTTP.
pub(crate) async fn run_table() {
    let (open, locked) = (ledger_with_rows_everywhere().await, ledger_with_rows_everywhere().await);
    for ledger in [&open, &locked] {
        let (_, key) = api_key(&ledger.owner(), "executor", &[Scope::Ingest]).await;
        let is_locked = ledger.name() == locked.name();
        if is_locked {
            lock(ledger).await;
        }
        let server = Server::start(ledger).await;
        let mut superuser = ledger.connect_superuser().await;
        let all = tables(&mut superuser).await;
        let before = contents(&mut superuser, &all).await;
        let correlation_id = first_signal(ledger).await;
        for (attacker, key) in [(Attacker::Anonymous, ""), (Attacker::IngestKey, key.as_str())] {
            for (action, on, cell) in cells(attacker) {
                if is_locked != (action == Action::InsertWhileLocked) {
                    continue;
                }
                for table in all.iter().filter(|table| table.is_on(on)) {
                    run_cell(&server, key, action, table, cell, &correlation_id).await;
                }
            }
        }
        server.stop().await;
        assert_eq!(contents(&mut superuser, &all).await, before, "locked: {is_locked}");
        assert_verifies(ledger, "after HTTP").await;
    }
    open.finish().await;
    locked.finish().await;
}

async fn run_cell(
    server: &Server,
    key: &str,
    action: Action,
    table: &Table,
    cell: Cell,
    correlation_id: &str,
) {
    let Cell::Http(status, code) = cell else { panic!("{action:?}: {cell:?} is not for HTTP") };
    let has_route = WRITTEN.contains(&table.name.as_str());
    for (method, path, body) in requests(action, &table.name, correlation_id) {
        let expected = match method {
            "POST" if !has_route => (405, "MTH-001"),
            _ => (status, code),
        };
        let answer = send(server, key, method, &path, &body).await;
        let answered = (answer.status, answer.body["code"].as_str().unwrap_or_default());
        assert_eq!(answered, expected, "{action:?} {method} {path}: {answer:?}");
        if status == 423 && has_route {
            assert!(answer.body["detail"].as_str().unwrap().contains("locked down"), "{answer:?}");
        }
    }
}

/// Every path of the API's description, with something in the place of its parameters.
fn paths() -> Vec<String> {
    let document: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let mut paths: BTreeSet<String> = ["/", "/metrics", "/openapi.json", "/docs/"]
        .map(str::to_owned)
        .into_iter()
        .chain(document["paths"].as_object().unwrap().keys().cloned())
        .collect();
    for (parameter, value) in
        [("{chain}", "signals"), ("{id}", "1"), ("{source}", "tradingview"), ("{token}", "guessed")]
    {
        paths = paths.into_iter().map(|path| path.replace(parameter, value)).collect();
    }
    paths.into_iter().map(|path| path.replace("{correlation_id}", "1")).collect()
}

/// Whether every row is there that was there, and what else there is only in tables that take rows.
fn is_appended_to(before: &[Vec<String>], after: &[Vec<String>]) -> bool {
    before.iter().zip(after).all(|(before, after)| before.iter().all(|row| after.contains(row)))
}

#[tokio::test]
async fn no_route_and_no_method_changes_what_is_there() {
    let ledger = ledger_with_rows_everywhere().await;
    let (_, key) = api_key(&ledger.owner(), "executor", &[Scope::Ingest]).await;
    let server = Server::start(&ledger).await;
    let mut superuser = ledger.connect_superuser().await;
    let all = tables(&mut superuser).await;
    let before = contents(&mut superuser, &all).await;
    let body = json!({ "id": 1, "reason": "forged", "row_hash": "", "request_id": 1 });
    for method in METHODS {
        for path in paths() {
            let answer = ask(&server, method, &path, "", &body.to_string()).await;
            let may = ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs/"];
            let is_open = may.contains(&path.as_str()) || method == "OPTIONS";
            assert!(answer.0 >= 400 || is_open, "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(contents(&mut superuser, &all).await, before, "who has no key leaves nothing");
    for method in METHODS {
        for path in paths() {
            let (status, _, text) = ask(&server, method, &path, &key, &body.to_string()).await;
            assert!(status < 500, "{method} {path}: {status} {text}");
            if status == 403 && !text.is_empty() {
                let problem: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(problem["code"], "SEC-006", "{method} {path}");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.starts_with("this needs the scope "), "{method} {path}: {detail}");
            }
        }
    }
    server.stop().await;
    assert!(is_appended_to(&before, &contents(&mut superuser, &all).await));
    assert_verifies(&ledger, "every route and method").await;
    ledger.finish().await;
}

#[tokio::test]
async fn nobody_sets_by_rest_what_the_ledger_says_itself() {
    let ledger = ledger_with_rows_everywhere().await;
    let (_, key) = api_key(&ledger.owner(), "executor", &[Scope::Ingest]).await;
    let correlation_id = first_signal(&ledger).await;
    let server = Server::start(&ledger).await;
    let mut superuser = ledger.connect_superuser().await;
    for chain in WRITTEN {
        let path = format!("/v1/{chain}");
        let honest = honest_body(chain, &correlation_id);
        for member in NOT_FOR_CLIENTS {
            for value in [json!("executor"), json!(1), Value::Null] {
                let mut body = honest.clone();
                body[member] = value;
                let answer = send(&server, &key, "POST", &path, &body).await;
                let answered = (answer.status, answer.body["code"].as_str().unwrap());
                assert_eq!(answered, (422, "VAL-002"), "{body}: {answer:?}");
                assert_eq!(answer.body["field"], member, "{answer:?}");
            }
        }
        // Else nothing of the above would mean anything.
        let answer = send(&server, &key, "POST", &path, &honest).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let by = format!("SELECT recorded_by FROM public.{chain} ORDER BY id DESC LIMIT 1");
        assert_eq!(fetch::<String>(&mut superuser, &by).await, "executor");
    }
    server.stop().await;
    assert_verifies(&ledger, "forged members").await;
    ledger.finish().await;
}

/// Everything that the program writes as telemetry, at the finest grain.
#[derive(Clone, Default)]
struct Telemetry(Arc<Mutex<Vec<u8>>>);

impl Telemetry {
    /// Of the whole process: tests that run beside each other share it.
    fn capture() -> Self {
        static ALL: OnceLock<Telemetry> = OnceLock::new();
        let start = || {
            let all = Self::default();
            let writer = all.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .init();
            all
        };
        ALL.get_or_init(start).clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Telemetry {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(written);
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The service's login with a password, which the tests' server does not ask for.
fn with_password(ledger: &TestLedger) -> Database {
    // Options with a socket do not print their password, so it is put into the URL.
    let url = ledger.options("app_trading").to_url_lossy();
    let with_password = url.as_str().replacen("app_trading", &format!("app_trading:{PASSWORD}"), 1);
    Database::from_url(&with_password).unwrap()
}

#[tokio::test]
async fn no_answer_and_no_telemetry_tells_sql_or_a_secret() {
    let telemetry = Telemetry::capture();
    let ledger = ledger_with_rows_everywhere().await;
    let (_, ingest) = api_key(&ledger.owner(), "executor", &[Scope::Ingest]).await;
    let (_, all_scopes) = api_key(&ledger.owner(), "desk", &Scope::ALL).await;
    let secrets = [SECRET.to_owned()];
    let server = Server::on(&ledger, with_password(&ledger), &secrets, Clock::system()).await;
    let bodies = [
        honest_body("ai_debates", &first_signal(&ledger).await).to_string(),
        json!({ "correlation_id": "'; DROP TABLE signals; --" }).to_string(),
    ];
    let keys = ["", "Bearer lk_0123456789abcdef_guessed", &ingest, &all_scopes];
    let mut answers = everything(&server, &keys, &bodies).await;
    // With some of what the service reads and writes gone, its own errors must tell as little.
    let rename = "ALTER VIEW vw_trade_audit_full RENAME TO gone;
                  ALTER TABLE lockdowns RENAME TO gone_too;
                  ALTER FUNCTION ledger_begin_append RENAME TO gone_as_well";
    let mut superuser = ledger.connect_superuser().await;
    run(&mut superuser, &format!("{ALLOW_DDL}; {rename}")).await;
    answers += &everything(&server, &keys[3..], &bodies[..1]).await;
    server.deliver(b"{}").await;
    assert!(answers.contains("SYS-00") && answers.contains("SEC-006"), "all kinds of answers");
    server.stop().await;
    let told = telemetry.text();
    assert!(told.contains("SYS-00") && told.contains("request_id"), "telemetry was captured");
    let hashes = [&ingest, &all_scopes].map(|key| secret_and_hash(key));
    for (where_, text) in [("answers", &answers), ("telemetry", &told)] {
        let of_sql =
            ["SELECT ", "INSERT ", "UPDATE ", " FROM ", "DROP TABLE", "/* ", "pg_catalog."];
        let others = [SECRET, PASSWORD, "guessed"];
        let forbidden = of_sql.into_iter().chain(others).map(str::to_owned);
        for forbidden in forbidden.chain(hashes.iter().flatten().cloned()) {
            let at = text.find(&forbidden);
            let around = at.map(|at| text.get(at.saturating_sub(200)..at + 200));
            assert_eq!(around, None, "{forbidden} stands in the {where_}");
        }
    }
    ledger.finish().await;
}

/// The answers of every route to these keys and bodies, and to SQL in a parameter.
async fn everything(server: &Server, keys: &[&str], bodies: &[String]) -> String {
    let mut answers = String::new();
    for key in keys {
        for path in paths() {
            for method in ["GET", "POST", "DELETE"] {
                for body in bodies {
                    let path = format!("{path}?cursor=%27%20OR%201%3D1");
                    let answer = ask(server, method, &path, key, body).await;
                    writeln!(answers, "{answer:?}").unwrap();
                }
            }
        }
    }
    answers
}

/// What must not be told of a key: its secret, and the hash that the database has.
fn secret_and_hash(authorization: &str) -> [String; 2] {
    let secret = authorization.rsplit_once('_').unwrap().1;
    [secret.to_owned(), hex::encode(Sha256::digest(hex::decode(secret).unwrap()))]
}
