//! API keys: who may ask what, and how soon a key that is made or revoked is known.

use std::time::{Duration, Instant};

use audit_ledger::clock::Clock;
use audit_ledger::keys::{ApiKey, Scope};
use audit_ledger::store::Database;
use audit_ledger::store::checks::{CheckRecord, insert_checks};
use audit_ledger::store::keys::{Revocation, revoke_key};
use audit_ledger::webhook::source::parse_sources;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::common::TestLedger;
use crate::common::builders::api_key;
use crate::server::{Answer, SECRET, Server, hmac_hex};

const CHECKS: &str = "/v1/integrity/checks";
const KEY: &str = "/v1/key";
const BODY: &str = r#"{"signal_id":"k-1","symbol":"BTCUSD","side":"BUY","price":1,"quantity":2}"#;

async fn ask(server: &Server, method: &str, path: &str, authorization: &str) -> Answer {
    server.request(method, path, b"", &[("Authorization", authorization)]).await
}

async fn get(server: &Server, path: &str, authorization: &str) -> Answer {
    ask(server, "GET", path, authorization).await
}

/// Method, path, and the scope that the description states, if it is not for every key, of every
/// route under `/v1`.
fn routes() -> Vec<(String, String, Option<Scope>)> {
    let document: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if !path.starts_with("/v1/") {
                continue;
            }
            let [needs] = operation["security"].as_array().unwrap().as_slice() else {
                panic!("{method} {path} needs one API key");
            };
            let scope = match needs["api_key"].as_array().unwrap().as_slice() {
                [] => None,
                [scope] => Some(scope.as_str().unwrap().parse().unwrap()),
                _ => panic!("{method} {path} needs one scope"),
            };
            let can_lack_it = operation["responses"].get("403").is_some();
            assert_eq!(can_lack_it, scope.is_some(), "{method} {path}");
            // Any value for what stands in braces.
            let path: Vec<_> = path
                .split('/')
                .map(|part| if part.starts_with('{') { "1" } else { part })
                .collect();
            routes.push((method.to_uppercase(), path.join("/"), scope));
        }
    }
    let for_every_key = routes.iter().filter(|route| route.2.is_none());
    let for_every_key: Vec<_> = for_every_key.map(|route| route.1.as_str()).collect();
    assert_eq!(for_every_key, ["/v1/chains", "/v1/key"]);
    routes
}

#[tokio::test]
async fn every_route_asks_for_the_scope_that_the_description_states_before_anything_else() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    for (method, path, scope) in routes() {
        // What is wrong with a request is nobody's business but a key holder's.
        for path in [path.clone(), format!("{path}?nonsense=%ff&nonsense")] {
            let answer = server.request(&method, &path, b"{", &[]).await;
            assert_eq!((answer.status, &answer.body["code"]), (401, &json!("SEC-005")), "{path}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");

            let Some(scope) = scope else { continue };
            let others: Vec<_> = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
            let (_, key) = api_key(&ledger.owner(), "others", &others).await;
            let answer = ask(&server, &method, &path, &key).await;
            assert_eq!((answer.status, &answer.body["code"]), (403, &json!("SEC-006")), "{path}");
            let detail = answer.body["detail"].as_str().unwrap();
            let needs = format!("this needs the scope {scope}; the key has ");
            assert!(detail.starts_with(&needs) && !detail[needs.len()..].contains(scope.name()));
        }
        for right in scope.map_or(Scope::ALL.to_vec(), |scope| vec![scope]) {
            let (_, key) = api_key(&ledger.owner(), "right", &[right]).await;
            let status = server.status(&method, &path, &key).await;
            assert!(status != 401 && status != 403, "{method} {path}: {status}");
        }
    }
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn a_key_is_told_what_it_is_and_nothing_of_others() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    for scopes in [&[Scope::Ingest][..], &[Scope::Verify, Scope::Read], &Scope::ALL] {
        let (id, key) = api_key(&ledger.owner(), "desk-7.eu", scopes).await;
        let mut names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
        names.sort_unstable();
        let created_at = server
            .row(&format!(
                "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
                 FROM api_keys WHERE key_id = '{id}'"
            ))
            .await;
        let expected = json!({
            "id": id.to_string(),
            "name": "desk-7.eu",
            "scopes": names,
            "created_at": created_at[0],
        });
        let answer = get(&server, KEY, &key).await;
        assert_eq!((answer.status, &answer.body), (200, &expected));
        let refused = get(&server, &format!("{KEY}?id={id}"), &key).await;
        assert_eq!((refused.status, &refused.body["field"]), (400, &json!("id")));
        assert_eq!(revoke_key(&ledger.owner(), id).await.unwrap(), Revocation::Done);
    }
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_key_is_answered_alike_and_never_repeated() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let (id, key) = api_key(&ledger.owner(), "desk", &[Scope::Read]).await;
    let (revoked_id, revoked) = api_key(&ledger.owner(), "desk", &[Scope::Read]).await;
    assert_eq!(revoke_key(&ledger.owner(), revoked_id).await.unwrap(), Revocation::Done);
    let secret = key.rsplit_once('_').unwrap().1;
    let unknown = format!("Bearer {}", ApiKey::random().text().expose_secret());
    let (_, other_secret) = unknown.rsplit_once('_').unwrap();
    let wrong = [
        revoked.clone(),
        unknown.clone(),
        format!("Bearer lk_{id}_{other_secret}"),
        format!("Bearer lk_{id}_{}", secret.to_uppercase()),
        format!("Bearer lk_{id}_{}", &secret[1..]),
        format!("Bearer lk_{id}"),
        format!("Bearer {secret}"),
        "Bearer lk_".to_owned(),
        format!("Bearer {}", "a".repeat(4_000)),
    ];
    for authorization in &wrong {
        let answer = get(&server, CHECKS, authorization).await;
        let known = answer.body["detail"] == "the API key is malformed, unknown or revoked";
        let answered = (answer.status, &answer.body["code"], known);
        assert_eq!(answered, (401, &json!("SEC-005"), true), "{authorization} {answer:?}");
        assert!(!answer.body.to_string().contains(secret));
    }
    // What is no bearer token at all, or one of two.
    let basic = key.replace("Bearer", "Basic");
    let twice = [("Authorization", key.as_str()), ("Authorization", key.as_str())];
    let empty = [("Authorization", "Bearer ")];
    for headers in [&[("Authorization", basic.as_str())][..], &twice, &empty, &[]] {
        let answer = server.request("GET", CHECKS, b"", headers).await;
        assert_eq!((answer.status, &answer.body["code"]), (401, &json!("SEC-005")));
        assert!(answer.body["detail"].as_str().unwrap().starts_with("no API key"), "{answer:?}");
    }
    for right in [key.clone(), key.replace("Bearer", "bearer"), key.replace(' ', "   ")] {
        assert_eq!(get(&server, CHECKS, &right).await.status, 200, "{right}");
    }
    let metrics = server.text("/metrics").await;
    assert!(!metrics.contains(secret) && !metrics.contains(&id.to_string()));
    server.stop().await;
    let mut superuser = ledger.connect_superuser().await;
    for table in ["security_events", "api_keys"] {
        let holds = format!("SELECT count(*) FROM {table} AS t WHERE t::text ~ '{secret}'");
        assert_eq!(crate::common::fetch::<i64>(&mut superuser, &holds).await, 0, "{table}");
    }
    drop(superuser);
    assert_eq!(ledger.finish().await, 3, "two keys made and one revoked");
}

#[tokio::test]
async fn a_new_key_is_known_at_once_and_a_revoked_one_forgotten_within_a_second() {
    let ledger = TestLedger::new().await;
    let servers = [Server::start(&ledger).await, Server::start(&ledger).await];
    let (first, key) = api_key(&ledger.owner(), "first", &[Scope::Read]).await;
    for server in &servers {
        assert_eq!(get(server, CHECKS, &key).await.status, 200);
    }
    let (_, second) = api_key(&ledger.owner(), "second", &[Scope::Read]).await;
    for server in &servers {
        assert_eq!(get(server, CHECKS, &second).await.status, 200, "known at once");
    }
    // As long as it is asked for all the time, too.
    assert_eq!(revoke_key(&ledger.owner(), first).await.unwrap(), Revocation::Done);
    let revoked = Instant::now();
    for server in &servers {
        while get(server, CHECKS, &key).await.status == 200 {
            assert!(revoked.elapsed() < Duration::from_millis(1_500));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(get(server, CHECKS, &key).await.body["code"], "SEC-005");
        assert_eq!(get(server, CHECKS, &second).await.status, 200);
    }
    for server in servers {
        server.stop().await;
    }
    ledger.finish().await;
}

#[tokio::test]
async fn without_its_database_the_service_lets_nobody_in_for_long() {
    let ledger = TestLedger::new().await;
    let (_, key) = api_key(&ledger.owner(), "desk", &[Scope::Read]).await;
    let nowhere = Database::from_url("postgresql://x@127.0.0.1:1/x").unwrap();
    let server = Server::on(&ledger, nowhere, &[SECRET.to_owned()], Clock::system()).await;
    for _ in 0..3 {
        let answer = get(&server, CHECKS, &key).await;
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!("SYS-001")), "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    let nonsense = get(&server, CHECKS, "Bearer lk_1").await;
    assert_eq!(nonsense.status, 401, "what is no key needs no database");
    server.stop().await;

    // One that answered, and does not any more: the table is locked for everybody.
    let server = Server::start(&ledger).await;
    assert_eq!(get(&server, CHECKS, &key).await.status, 200);
    let mut superuser = ledger.connect_superuser().await;
    crate::common::run(&mut superuser, "BEGIN; LOCK TABLE api_keys").await;
    let locked = Instant::now();
    let mut last_let_in = locked.elapsed();
    loop {
        let asked = Instant::now();
        let answer = get(&server, CHECKS, &key).await;
        assert!(asked.elapsed() < Duration::from_millis(2_300), "{:?}", asked.elapsed());
        match answer.status {
            200 => last_let_in = locked.elapsed(),
            503 => break,
            status => panic!("{status}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(last_let_in > Duration::from_secs(1) && last_let_in < Duration::from_secs(6));
    crate::common::run(&mut superuser, "ROLLBACK").await;
    drop(superuser);
    let back = Instant::now();
    while get(&server, CHECKS, &key).await.status != 200 {
        assert!(back.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn a_delivery_with_a_key_is_recorded_under_the_name_of_its_holder() {
    let ledger = TestLedger::new().await;
    let toml = format!(
        "[far]\nauth = ['body_token', 'path_token']\nsecrets = ['{SECRET}']
         allow_from = ['192.0.2.1']"
    );
    let mut sources = parse_sources(&toml).unwrap();
    let secret = audit_ledger::webhook::source::WebhookSecret::new(SECRET.into()).unwrap();
    sources.push(audit_ledger::webhook::Source::signed("tradingview", vec![secret]));
    let no_proxies = std::sync::Arc::default();
    let server = Server::with(&ledger, ledger.app(), sources, no_proxies, Clock::system()).await;
    let (_, desk) = api_key(&ledger.owner(), "desk-7", &[Scope::Ingest]).await;
    let (_, reader) = api_key(&ledger.owner(), "reader", &[Scope::Read]).await;
    let unknown = format!("Bearer {}", ApiKey::random().text().expose_secret());
    let post = async |path: &str, body: &str, authorization: &str| {
        server.post(path, body.as_bytes(), &[("Authorization", authorization)]).await
    };

    assert_eq!(server.deliver(BODY.as_bytes()).await.status, 201);
    // The same delivery of another recorder is another signal.
    let answer = post("/webhook/tradingview", BODY, &desk).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let again = post("/webhook/far", BODY, &desk).await;
    assert_eq!((again.status, &again.body["receipt"]), (200, &answer.body["receipt"]));
    let columns = "recorded_by, auth_method, hmac_verified::text, host(source_ip)";
    let row = server.row(&format!("SELECT {columns} FROM signals WHERE id = 2")).await;
    assert_eq!(row, ["desk-7", "api_key", "false", "127.0.0.1"]);
    let other = BODY.replace("BUY", "HOLD");
    assert_eq!(post("/webhook/far", &other, &desk).await.status, 422);
    let columns = "source, auth_method, hmac_verified::text, reason";
    let row = server.row(&format!("SELECT {columns} FROM quarantined_deliveries")).await;
    assert_eq!(row, ["far", "api_key", "false", "invalid_field"]);

    let signature = hmac_hex(SECRET, BODY.as_bytes());
    let holds_secret = BODY.replace("k-1", SECRET);
    for (path, body, authorization, status, code) in [
        ("/webhook/tradingview", BODY, unknown.as_str(), 401, "SEC-005"),
        ("/webhook/tradingview", BODY, "Bearer lk_nonsense", 401, "SEC-005"),
        ("/webhook/tradingview", BODY, reader.as_str(), 403, "SEC-006"),
        ("/webhook/tradingview", BODY, "Bearer another", 401, "SEC-001"),
        ("/webhook/unknown", BODY, desk.as_str(), 404, "NTF-001"),
        ("/webhook/far", &holds_secret, desk.as_str(), 401, "SEC-004"),
        // Its token is what this route is for.
        ("/webhook/far/another-token-entirely", BODY, desk.as_str(), 401, "SEC-003"),
    ] {
        let answer = post(path, body, authorization).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{path}");
    }
    // A key that is there counts, also where a signature would do.
    let both =
        [("Authorization", unknown.as_str()), ("X-TradingView-Signature", signature.as_str())];
    let answer = server.post("/webhook/tradingview", BODY.as_bytes(), &both).await;
    assert_eq!((answer.status, &answer.body["code"]), (401, &json!("SEC-005")));
    assert_eq!(server.count("signals").await + server.count("quarantined_deliveries").await, 3);
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn a_slow_look_up_of_the_key_is_no_reason_to_answer_late() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let (_, key) = api_key(&ledger.owner(), "desk", &[Scope::Ingest, Scope::Read]).await;
    assert_eq!(get(&server, CHECKS, &key).await.status, 200);
    let mut superuser = ledger.connect_superuser().await;
    crate::common::run(&mut superuser, "BEGIN; LOCK TABLE api_keys; LOCK TABLE ledger_lock").await;
    // The key counts as it was read last, once the database has not answered for a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let kill_switch = r#"{"event_type":"KILL_SWITCH","zar_equity":"100.00","positions_closed":[]}"#;
    let post = async |path: &str, body: &str| {
        let asked = Instant::now();
        let answer = server.post(path, body.as_bytes(), &[("Authorization", &key)]).await;
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!("SYS-001")), "{path}");
        let elapsed = asked.elapsed();
        assert!(elapsed < Duration::from_millis(2_700), "{path}: {elapsed:?}");
        assert!(elapsed > Duration::from_millis(1_500), "{path}: {elapsed:?} in the queue too");
    };
    tokio::join!(post("/webhook/tradingview", BODY), post("/v1/order_events", kill_switch),);
    crate::common::run(&mut superuser, "ROLLBACK").await;
    drop(superuser);
    server.stop().await;
    ledger.finish().await;
}

fn check(n: i64) -> CheckRecord {
    CheckRecord {
        run_id: Clock::system().new_id(),
        chain: "signals".to_owned(),
        kind: "full",
        range: (n > 1).then_some((1, n)),
        expected_count: n,
        actual_count: n,
        finished: true,
        valid: (n > 1).then_some(n > 2),
        findings_count: 150,
        findings: (0..150).map(|at| json!({ "id": at })).collect(),
        duration_ms: 7,
    }
}

#[tokio::test]
async fn past_checks_are_listed_in_pages_that_stay_right_while_others_are_recorded() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let (_, key) = api_key(&ledger.owner(), "desk", &[Scope::Read]).await;
    let empty = get(&server, CHECKS, &key).await;
    assert_eq!(empty.body, json!({ "items": [], "next_cursor": null }));
    for n in 1..=5 {
        insert_checks(&ledger.app(), &[check(n)]).await.unwrap();
    }
    let mut next = format!("{CHECKS}?limit=2");
    let mut pages: Vec<Vec<i64>> = Vec::new();
    loop {
        let page = get(&server, &next, &key).await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.body["items"].as_array().unwrap();
        pages.push(items.iter().map(|item| item["expected_count"].as_i64().unwrap()).collect());
        insert_checks(&ledger.app(), &[check(9)]).await.unwrap();
        let Some(cursor) = page.body["next_cursor"].as_str() else {
            assert!(!page.headers.contains_key("link"));
            break;
        };
        next = format!("{CHECKS}?limit=2&cursor={cursor}");
        assert_eq!(page.headers["link"], format!("<{next}>; rel=\"next\""));
    }
    assert_eq!(pages, [vec![5, 4], vec![3, 2], vec![1]]);

    let all = get(&server, CHECKS, &key).await;
    let oldest = &all.body["items"][7];
    assert_eq!(all.body["items"].as_array().unwrap().len(), 8);
    assert_eq!((&oldest["id"], &oldest["chain_valid"]), (&json!(1), &Value::Null));
    assert_eq!(
        (&oldest["range_start"], &oldest["checked_by"]),
        (&Value::Null, &json!("app_trading"))
    );
    assert_eq!(oldest["findings_count"], 150);
    assert_eq!(oldest["findings"].as_array().unwrap().len(), 100, "the first hundred");
    let checked_at = oldest["checked_at"].as_str().unwrap();
    assert!(checked_at.len() == 27 && checked_at.ends_with('Z'), "{checked_at}");
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=MTI", "cursor"),
        ("symbol=BTCUSD", "symbol"),
    ] {
        let answer = get(&server, &format!("{CHECKS}?{query}"), &key).await;
        assert_eq!((answer.status, &answer.body["code"]), (400, &json!("VAL-003")), "{query}");
        assert_eq!(answer.body["field"], named);
    }
    server.stop().await;
    ledger.finish().await;
}
