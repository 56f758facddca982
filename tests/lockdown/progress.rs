//! A check that is watched while it runs.

use std::time::Duration;

use audit_ledger::keys::Scope;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::common::builders::{api_key, signal};
use crate::common::{fetch, run, soon, wait_until};
use crate::server::Server;
use crate::{TAMPERING, ask, ledger_with_admins, lift_whole};

const CHECKS: &str = "/v1/integrity/checks";
/// A comment comes every 15 seconds.
const PATIENCE: Duration = Duration::from_secs(25);

/// A check, and what was read of it.
struct Watch {
    answer: Response,
    text: String,
}

async fn post(server: &Server, query: &str, key: &str, accept: &str) -> Response {
    let url = format!("http://{}{CHECKS}{query}", server.address);
    let request = reqwest::Client::new().post(url).header("Authorization", key);
    request.header("Accept", accept).send().await.unwrap()
}

impl Watch {
    async fn begin(server: &Server, query: &str, key: &str) -> Self {
        let answer = post(server, query, key, "application/json, Text/Event-Stream;q=0.9").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Self { answer, text: String::new() }
    }

    /// Up to the next empty line; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                return Some(block);
            }
            let chunk = timeout(PATIENCE, self.answer.chunk()).await.expect("a block in time");
            let Some(chunk) = chunk.expect("a clean end") else {
                assert_eq!(self.text, "");
                return None;
            };
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event, as a browser reads it (HTML, section 9.2.6).
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let block = self.block().await?;
            if !block.starts_with(':') {
                let (kind, data) = block.split_once('\n').expect("a type and data");
                let data = data.strip_prefix("data: ").unwrap();
                let kind = kind.strip_prefix("event: ").unwrap().to_owned();
                return Some((kind, serde_json::from_str(data).unwrap()));
            }
        }
    }

    async fn all(mut self) -> Told {
        let mut told = Told::default();
        while let Some((kind, data)) = self.next().await {
            assert_eq!((&told.checked, &told.problem), (&Value::Null, &Value::Null), "the last");
            match kind.as_str() {
                "progress" => told.progress.push(data),
                "finding" => told.findings.push(data),
                "checked" => told.checked = data,
                "problem" => told.problem = data,
                other => panic!("{other} {data}"),
            }
        }
        told
    }
}

/// All the events of a check.
#[derive(Debug, Default)]
struct Told {
    progress: Vec<Value>,
    findings: Vec<Value>,
    checked: Value,
    problem: Value,
}

#[tokio::test]
async fn who_watches_a_check_is_told_how_far_it_is_and_what_came_of_it() {
    let (ledger, [key, _]) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    for (query, accept) in [("?kind=some", "text/event-stream"), ("?kind=some", "*/*")] {
        let refused = post(&server, query, &key, accept).await;
        assert_eq!(refused.status(), 400, "{query}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
    }
    let leaves: i64 =
        fetch(&mut ledger.connect_superuser().await, "SELECT count(*) FROM ledger_log").await;
    for (query, rows) in [("", leaves), ("?kind=incremental", leaves), ("?kind=rolling", 0)] {
        let told = Watch::begin(&server, query, &key).await.all().await;
        assert_eq!(told.progress.last(), Some(&json!({ "rows": rows, "of": rows })), "{query}");
        assert!(told.findings.is_empty() && told.problem.is_null(), "{told:?}");
        assert_eq!(
            (&told.checked["verdict"], &told.checked["rows"]),
            (&"verified".into(), &rows.into())
        );

        let path = format!("{CHECKS}{query}");
        let unwatched = ask(&server, "POST", &path, &key, b"").await;
        let members =
            |answer: &Value| answer.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!((unwatched.status, members(&unwatched.body)), (201, members(&told.checked)));
        assert_eq!(unwatched.body["notes"], told.checked["notes"], "{query}");
        // The one before.
        let recorded = ask(&server, "GET", CHECKS, &key, b"").await.body;
        let is_one = |check: &&Value| check["run_id"] == told.checked["run_id"];
        assert!(recorded["items"].as_array().unwrap().iter().find(is_one).is_some(), "{query}");
    }
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn who_watches_a_check_is_told_a_hundred_findings_and_none_that_is_acknowledged() {
    let (ledger, keys) = ledger_with_admins().await;
    let (_, checker) = api_key(&ledger.owner(), "checker", &[Scope::Verify]).await;
    let appender = ledger.appender();
    for appended in appender.append_all((4..=130).map(|n| signal(n).into()).collect(), soon()).await
    {
        appended.unwrap();
    }
    drop(appender);
    let server = Server::start(&ledger).await;
    ledger.tamper_and_rearm("signals", "UPDATE public.signals SET price = price + 1").await;
    let told = Watch::begin(&server, "", &checker).await.all().await;
    assert_eq!(told.checked["verdict"], "tampered", "{told:?}");
    assert!(told.checked["locked_since"].is_string() && told.problem.is_null());
    let checks = ask(&server, "GET", CHECKS, &keys[0], b"").await.body;
    let mut checks = checks["items"].as_array().unwrap().iter();
    let of_signals = checks.find(|check| check["chain"] == "signals").unwrap();
    assert_eq!(
        (&of_signals["run_id"], &of_signals["findings_count"]),
        (&told.checked["run_id"], &130.into())
    );
    assert_eq!(json!(told.findings), of_signals["findings"]);
    assert_eq!((told.findings.len(), &told.findings[0]["acknowledged"]), (100, &json!(false)));

    lift_whole(&server, &keys).await;
    // What covers its tracks leaves a guard that is not as it was made, which locks nothing.
    let of_rows = async || {
        let told = Watch::begin(&server, "", &checker).await.all().await;
        let findings = told.findings.into_iter().filter(|finding| finding["chain"] != "guards");
        (findings.map(|finding| finding["id"].clone()).collect::<Vec<_>>(), told.checked)
    };
    let (findings, answer) = of_rows().await;
    assert_eq!((findings, &answer["verdict"]), (vec![], &json!("guard_drift")));
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    let (findings, answer) = of_rows().await;
    assert_eq!((findings, &answer["verdict"]), (vec![json!(1)], &json!("tampered")));
    server.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn a_check_goes_on_when_nobody_watches_it_any_more() {
    let (ledger, [key, _]) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    let mut superuser = ledger.connect_superuser().await;
    // It comes no further than this for a while.
    run(&mut superuser, "BEGIN; LOCK TABLE ledger_log").await;
    let mut watch = Watch::begin(&server, "", &key).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first, ("progress".to_owned(), json!({ "rows": 0, "of": 0 })));
    for accept in ["text/event-stream", "application/json"] {
        let another = post(&server, "", &key, accept).await;
        assert_eq!(
            (another.status().as_u16(), &another.headers()["retry-after"]),
            (503, &"10".parse().unwrap())
        );
        let problem: Value = another.json().await.unwrap();
        assert_eq!(problem["detail"], "another check is running");
    }
    assert_eq!(watch.block().await.unwrap(), ": still running");
    drop(watch);
    tokio::time::sleep(Duration::from_millis(300)).await;
    run(&mut superuser, "ROLLBACK").await;
    let is_done = "SELECT count(*) = 9 AND bool_and(finished) FROM integrity_checks";
    wait_until(&mut superuser, is_done).await;
    drop(superuser);
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn who_watches_a_check_that_cannot_be_run_is_told_why() {
    let (ledger, [key, _]) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    let mut superuser = ledger.connect_superuser().await;
    run(&mut superuser, "BEGIN; LOCK TABLE lockdowns").await;
    let watch = Watch::begin(&server, "", &key).await;
    let request_id = watch.answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let mut ender = ledger.connect_superuser().await;
    let end = "SELECT bool_or(pg_terminate_backend(pid)) IS TRUE FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '/* acknowledged_findings */%'";
    wait_until(&mut ender, end).await;
    let told = watch.all().await;
    assert!(told.checked.is_null() && told.findings.is_empty(), "{told:?}");
    assert_eq!((&told.problem["status"], &told.problem["code"]), (&503.into(), &"SYS-001".into()));
    assert_eq!(told.problem["request_id"], request_id);
    run(&mut superuser, "ROLLBACK").await;
    drop((superuser, ender));
    // Nothing of it keeps the next one from running.
    let told = Watch::begin(&server, "", &key).await.all().await;
    assert_eq!(told.checked["verdict"], "verified", "{told:?}");
    server.stop().await;
    ledger.finish().await;
}
