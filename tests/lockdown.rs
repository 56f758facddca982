//! The L6 lockdown as its users meet it: entered by a finding, told on every instance, lifted by
//! two admins, and what was kept meanwhile released.

mod common;

#[path = "lockdown/progress.rs"]
mod progress;
#[path = "lockdown/quarantine.rs"]
mod quarantine;
#[path = "http/server.rs"]
mod server;

use std::time::Duration;

use audit_ledger::clock::Clock;
use audit_ledger::config::CheckMode;
use audit_ledger::integrity::lockdown::LockdownState;
use audit_ledger::integrity::outside::Subject;
use audit_ledger::integrity::report::Verdict;
use audit_ledger::integrity::run::run_check;
use audit_ledger::integrity::verify::Scope as CheckScope;
use audit_ledger::integrity::watch::{Quiet, Watched, watch};
use audit_ledger::keys::Scope;
use common::builders::{api_key, event, one_of_each, signal};
use common::{TestLedger, attempt, fetch, run, soon, sqlstate, wait_until};
use serde_json::{Value, json};
use server::{Answer, Server};
use tokio::task::JoinSet;

const BODY: &str =
    r#"{"signal_id":"l-1","symbol":"BTCUSD","side":"BUY","price":"1.50","quantity":"2"}"#;
const KILL_SWITCH: &[u8] =
    br#"{"event_type":"KILL_SWITCH","zar_equity":"100.00","positions_closed":[]}"#;
const TAMPERING: &str = "UPDATE public.signals SET price = price + 1 WHERE id = 1";

/// A ledger with a few rows, and the keys of two admins.
async fn ledger_with_admins() -> (TestLedger, [String; 2]) {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    for n in 1..=3 {
        appender.append(signal(n), soon()).await.unwrap();
        appender.append(event(n), soon()).await.unwrap();
    }
    let mut keys = Vec::new();
    for name in ["alice", "bob"] {
        keys.push(api_key(&ledger.owner(), name, &Scope::ALL).await.1);
    }
    (ledger, keys.try_into().unwrap())
}

async fn ask(server: &Server, method: &str, path: &str, key: &str, body: &[u8]) -> Answer {
    let headers = [("Authorization", key), ("Content-Type", "application/json")];
    server.request(method, path, body, &headers).await
}

async fn lift(server: &Server, key: &str, body: Value) -> Answer {
    ask(server, "POST", "/v1/lockdown/lift", key, body.to_string().as_bytes()).await
}

/// Both steps, acknowledging all that the lockdown lists.
async fn lift_whole(server: &Server, [alice, bob]: &[String; 2]) {
    let state = ask(server, "GET", "/v1/lockdown", alice, b"").await.body;
    let findings = state["findings"].as_array().unwrap().iter();
    let findings: Vec<_> = findings.map(|finding| &finding["finding_id"]).collect();
    assert!(!findings.is_empty(), "{state}");
    let body = json!({ "reason": "looked at", "findings": findings });
    let pending = lift(server, alice, body).await;
    assert_eq!((pending.status, &pending.body["status"]), (202, &json!("pending")), "{pending:?}");
    assert!(pending.body["expires_at"].is_string());
    let lifted = lift(server, bob, json!({ "confirm": pending.body["request"] })).await;
    assert_eq!((lifted.status, &lifted.body["status"]), (200, &json!("lifted")), "{lifted:?}");
}

async fn check(ledger: &TestLedger) -> Verdict {
    let done = run_check(
        &Subject::of(ledger.app()),
        CheckScope::Ledger,
        Clock::system(),
        &mut Quiet::default(),
    )
    .await;
    done.unwrap().expect("no other check runs").report.verdict()
}

#[tokio::test]
async fn a_finding_locks_every_instance_and_keeps_what_comes_meanwhile() {
    let (ledger, keys) = ledger_with_admins().await;
    let (one, other) = (Server::start(&ledger).await, Server::start(&ledger).await);
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    let checked = ask(&one, "POST", "/v1/integrity/checks", &keys[0], b"").await;
    assert_eq!((checked.status, &checked.body["verdict"]), (201, &json!("tampered")));
    let since = checked.body["locked_since"].clone();
    assert!(since.is_string(), "{checked:?}");

    for server in [&one, &other] {
        let refused = ask(server, "POST", "/v1/order_events", &keys[0], KILL_SWITCH).await;
        assert_eq!((refused.status, &refused.body["code"]), (423, &json!("AUD-009")));
        assert_eq!(refused.body["locked_since"], since);
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("1 finding") && detail.contains("signals"), "{detail}");

        let kept = server.deliver(BODY.as_bytes()).await;
        assert_eq!((kept.status, &kept.body["code"]), (423, &json!("AUD-009")), "{kept:?}");
        assert_eq!(
            (&kept.body["reason"], &kept.body["quarantine_id"]),
            (&json!("lockdown"), &json!(1))
        );
        assert_eq!(kept.body["locked_since"], since);
        // What was recorded before is in doubt too.
        let known = signal(1);
        let again = server.deliver(known.raw_payload.as_bytes()).await;
        assert_eq!((again.status, &again.body["quarantine_id"]), (423, &json!(2)));
    }
    for path in ["/v1/signals", "/v1/signals/1", "/v1/trades", "/v1/integrity", "/v1/lockdown"] {
        let read = ask(&other, "GET", path, &keys[1], b"").await;
        assert_eq!(read.status, 200, "{path}: {read:?}");
        assert_eq!(read.headers["ledger-lockdown"], since.as_str().unwrap(), "{path}");
    }
    assert_eq!(other.request("GET", "/readyz", b"", &[]).await.status, 200);
    let again = ask(&other, "POST", "/v1/integrity/checks", &keys[1], b"").await;
    assert_eq!((again.status, &again.body["locked_since"]), (201, &since));
    one.stop().await;
    other.stop().await;

    // Over a restart, and for who speaks only SQL.
    let server = Server::start(&ledger).await;
    assert_eq!(server.deliver(BODY.as_bytes()).await.status, 423);
    let mut app = ledger.connect_app().await;
    let append = "SELECT * FROM append_order_events('{\"event_type\":\"KILL_SWITCH\",
        \"zar_equity\":1,\"positions_closed\":[]}')";
    let error = attempt(&mut app, append).await.unwrap_err();
    assert_eq!(sqlstate(&error).unwrap(), "AU009");
    assert_eq!(server.count("quarantined_deliveries").await, 2);
    let events = "SELECT count(*)::text FROM security_events WHERE event_type = 'LOCKDOWN_ENTERED'";
    assert_eq!(server.row(events).await, ["1"]);
    server.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn two_admins_lift_it_and_deliveries_are_released_in_order() {
    let (ledger, keys) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    assert_eq!(check(&ledger).await, Verdict::Tampered);
    let bodies: Vec<_> = (1..=3).map(|n| BODY.replace("l-1", &format!("l-{n}"))).collect();
    for body in &bodies {
        assert_eq!(server.deliver(body.as_bytes()).await.status, 423);
    }
    let release = |id: i64| format!("/v1/quarantined_deliveries/{id}/release");
    let early = ask(&server, "POST", &release(1), &keys[0], b"").await;
    assert_eq!((early.status, &early.body["code"]), (423, &json!("AUD-009")));
    lift_whole(&server, &keys).await;

    for id in 1..=3 {
        let released = ask(&server, "POST", &release(id), &keys[0], b"").await;
        assert_eq!((released.status, &released.body["receipt"]["id"]), (201, &json!(id + 3)));
        assert_eq!(released.body["quarantine_id"], json!(id));
        let again = ask(&server, "POST", &release(id), &keys[1], b"").await;
        assert_eq!((again.status, &again.body["status"]), (200, &json!("duplicate")));
        assert_eq!(again.body["receipt"], released.body["receipt"]);
    }
    let row = "SELECT s.signal_id, s.auth_method, s.recorded_by,
                      (s.received_at = q.received_at)::text,
                      (s.raw_payload_text = convert_from(q.body, 'UTF8'))::text
               FROM signals AS s, quarantined_deliveries AS q WHERE s.id = 5 AND q.id = 2";
    assert_eq!(server.row(row).await, ["l-2", "hmac", "tradingview", "true", "true"]);
    let event = "SELECT actor, subject, details ->> 'signal_row_id', details ->> 'duplicate'
                 FROM security_events WHERE event_type = 'QUARANTINE_RELEASED' ORDER BY id LIMIT 1";
    assert_eq!(server.row(event).await, ["alice", "quarantined delivery 1", "4", "false"]);
    // The sender tries once more, as it was told to.
    assert_eq!(server.deliver(bodies[0].as_bytes()).await.status, 200);
    let none = ask(&server, "POST", &release(9), &keys[0], b"").await;
    assert_eq!((none.status, &none.body["code"]), (404, &json!("NTF-001")));
    server.deliver(b"{").await;
    let never = ask(&server, "POST", &release(4), &keys[0], b"").await;
    assert_eq!((never.status, &never.body["code"]), (422, &json!("VAL-001")), "{never:?}");
    assert_eq!(server.count("quarantined_deliveries").await, 4, "what cannot be is kept once");
    server.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn what_is_acknowledged_stays_listed_and_a_new_finding_locks_again() {
    let (ledger, keys) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    assert_eq!(check(&ledger).await, Verdict::Tampered);
    lift_whole(&server, &keys).await;
    assert_eq!(server.deliver(BODY.as_bytes()).await.status, 201);

    let done = run_check(
        &Subject::of(ledger.app()),
        CheckScope::Ledger,
        Clock::system(),
        &mut Quiet::default(),
    )
    .await;
    let done = done.unwrap().unwrap();
    assert!(done.lockdown.is_none());
    let signals = &done.report.chains[0];
    assert_eq!((signals.findings_count, signals.acknowledged_count), (1, 1));
    assert!(signals.findings[0].acknowledged);
    assert_eq!(signals.valid(), Some(false), "it is still not what was recorded");
    let state = ask(&server, "GET", "/v1/lockdown", &keys[0], b"").await.body;
    assert_eq!((&state["locked"], &state["findings"]), (&json!(false), &json!([])));
    assert_eq!(state["steps"].as_array().unwrap().len(), 3);

    // The same row, changed once more, is another finding.
    for (table, again) in [
        ("signals", TAMPERING),
        ("security_events", "DELETE FROM public.security_events WHERE id = 2"),
    ] {
        ledger.tamper_and_rearm(table, again).await;
        assert_eq!(check(&ledger).await, Verdict::Tampered, "{again}");
        assert_eq!(server.deliver(b"{}").await.status, 422, "no signal, so not for the lockdown");
        let refused = ask(&server, "POST", "/v1/order_events", &keys[0], KILL_SWITCH).await;
        assert_eq!(refused.status, 423, "{again}");
        lift_whole(&server, &keys).await;
    }
    let recorded = ask(&server, "POST", "/v1/order_events", &keys[0], KILL_SWITCH).await;
    assert_eq!(recorded.status, 201);
    server.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn who_may_not_lift_is_told_why() {
    let (ledger, [alice, bob]) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    let none = lift(&server, &alice, json!({ "reason": "x" })).await;
    assert_eq!((none.status, &none.body["code"]), (404, &json!("NTF-001")));
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    assert_eq!(check(&ledger).await, Verdict::Tampered);

    let (_, young) = api_key(&ledger.owner(), "carol", &[Scope::Admin]).await;
    let (_, reader) = api_key(&ledger.owner(), "dave", &[Scope::Read]).await;
    for (key, body, status, code) in [
        (&alice, json!({}), 422, "VAL-002"),
        (&alice, json!({ "reason": " " }), 422, "VAL-002"),
        (&alice, json!({ "reason": "x".repeat(1001) }), 422, "VAL-002"),
        (&alice, json!({ "reason": "x", "findings": ["y"] }), 422, "VAL-002"),
        (&alice, json!({ "reason": "x", "confirm": 2 }), 422, "VAL-002"),
        (&alice, json!({ "reason": "x", "force": true }), 400, "VAL-001"),
        (&alice, json!({ "reason": "x", "confirm": "2" }), 400, "VAL-001"),
        (&alice, json!([]), 400, "VAL-001"),
        (&alice, json!({ "confirm": 77 }), 404, "NTF-001"),
        (&young, json!({ "reason": "x" }), 403, "SEC-006"),
        (&reader, json!({ "reason": "x" }), 403, "SEC-006"),
    ] {
        let answer = lift(&server, key, body.clone()).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{body}");
    }
    let post = async |path: &str, body: &[u8]| {
        server.request("POST", path, body, &[("Authorization", &alice)]).await
    };
    let unknown = post("/v1/lockdown/lift", br#"{"force":true}"#).await;
    assert_eq!(
        (&unknown.body["code"], &unknown.body["field"]),
        (&json!("VAL-001"), &json!("force"))
    );
    let large = post("/v1/lockdown/lift", &vec![b' '; (256 << 10) + 1]).await;
    assert_eq!((large.status, &large.body["code"]), (413, &json!("LIM-001")), "{large:?}");
    for path in
        ["/v1/lockdown/lift", "/v1/integrity/checks", "/v1/quarantined_deliveries/1/release"]
    {
        let refused = post(&format!("{path}?force=1"), b"{}").await;
        let said = (refused.status, &refused.body["code"], &refused.body["field"]);
        assert_eq!(said, (400, &json!("VAL-003"), &json!("force")), "{path}");
    }
    // Whatever its content type.
    let pending = post("/v1/lockdown/lift", br#"{"reason":"x"}"#).await;
    let confirm = json!({ "confirm": pending.body["request"] });
    for key in [&alice, &young] {
        assert_eq!(lift(&server, key, confirm.clone()).await.status, 403);
    }
    assert_eq!(lift(&server, &bob, confirm.clone()).await.status, 200);
    assert_eq!(lift(&server, &bob, confirm).await.status, 404, "it is over");
    // Nothing was acknowledged: the next check locks again.
    assert_eq!(check(&ledger).await, Verdict::Tampered);
    assert_eq!(server.deliver(BODY.as_bytes()).await.status, 423);
    server.stop().await;
    ledger.finish_tampered().await;
}

/// Reads that wait for a lock take every connection that reads have.
#[tokio::test]
async fn slow_reads_do_not_hide_a_lockdown_and_it_slows_no_answer() {
    const AT_ONCE: Duration = Duration::from_millis(700);
    let (ledger, [alice, _]) = ledger_with_admins().await;
    let (_, writer) = api_key(&ledger.owner(), "writer", &[Scope::Ingest]).await;
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    assert_eq!(check(&ledger).await, Verdict::Tampered);
    let server = Server::start(&ledger).await;
    let mut superuser = ledger.connect_superuser().await;
    run(&mut superuser, "BEGIN; LOCK TABLE signals").await;
    let slow = || ask(&server, "GET", "/v1/signals", &alice, b"");
    let blocked =
        async { tokio::join!(slow(), slow(), slow(), slow(), slow(), slow(), slow(), slow()) };
    let told = async |key: &str, path: &str, status: u16| {
        let asked = std::time::Instant::now();
        let answer = ask(&server, "GET", path, key, b"").await;
        assert!(asked.elapsed() < AT_ONCE, "{path}: {:?}", asked.elapsed());
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        answer.headers.contains_key("ledger-lockdown")
    };
    let meanwhile = async {
        let waiting = "SELECT count(*) = 8 FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let mut watcher = ledger.connect_superuser().await;
        wait_until(&mut watcher, waiting).await;
        assert!(told(&alice, "/v1/nonsense", 404).await);
        // Strangers are told nothing.
        assert!(!told("Bearer lk_nonsense", "/v1/signals", 401).await);
        assert!(!told(&writer, "/v1/signals", 403).await);
        assert!(!told("", "/v1/no/such/route", 404).await);
        // Also where the database does not say whether there still is one.
        run(&mut watcher, "BEGIN; LOCK TABLE lockdowns").await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert!(told(&alice, "/v1/nonsense", 404).await);
        }
        run(&mut watcher, "ROLLBACK").await;
        run(&mut superuser, "ROLLBACK").await;
    };
    let (answers, ()) = tokio::join!(blocked, meanwhile);
    assert_eq!(answers.0.status, 200, "{answers:?}");
    assert!(answers.7.headers.contains_key("ledger-lockdown"));
    server.stop().await;
    drop(superuser);
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn changed_guards_alone_lock_nothing() {
    let (ledger, _) = ledger_with_admins().await;
    let server = Server::start(&ledger).await;
    let mut superuser = ledger.connect_superuser_unguarded().await;
    run(&mut superuser, "ALTER TABLE public.signals DISABLE TRIGGER ledger_refuse_row").await;
    assert_eq!(check(&ledger).await, Verdict::GuardDrift);
    assert_eq!(server.deliver(BODY.as_bytes()).await.status, 201);
    server.stop().await;
    ledger.finish().await;
}

#[tokio::test]
async fn the_service_checks_by_itself_one_instance_at_a_time() {
    let (ledger, _) = ledger_with_admins().await;
    let appender = ledger.appender();
    let watched = Watched {
        subject: Subject::of(ledger.app()),
        clock: Clock::system(),
        check_every: Some(Duration::from_secs(2)),
        check_mode: CheckMode::Full,
        alarm: appender.alarm(),
        lockdown: LockdownState::of(&ledger.app()),
    };
    let mut instances = JoinSet::new();
    for _ in 0..3 {
        watch(&mut instances, &watched);
    }
    let mut superuser = ledger.connect_superuser().await;
    wait_until(&mut superuser, "SELECT count(DISTINCT run_id) >= 3 FROM integrity_checks").await;
    let spread = "SELECT bool_and(gap > interval '1.9 s') FROM (
        SELECT min(checked_at) - lag(min(checked_at)) OVER (ORDER BY min(checked_at)) AS gap
        FROM integrity_checks GROUP BY run_id) AS gaps WHERE gap IS NOT NULL";
    assert!(fetch::<bool>(&mut superuser, spread).await, "each interval has one check");
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    wait_until(&mut superuser, "SELECT EXISTS (SELECT FROM ledger_lockdown())").await;
    while watched.lockdown.current().await.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Refused attempts come to be on record by themselves, too.
    attempt(&mut superuser, "TRUNCATE public.ledger_log CASCADE").await.unwrap_err();
    let told = "SELECT EXISTS (SELECT FROM security_events
        WHERE event_type = 'CHANGE_REFUSED' AND subject = 'AUD-010')";
    wait_until(&mut superuser, told).await;
    drop((appender, superuser));
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn an_append_that_contradicts_the_ledger_asks_for_a_check() {
    let ledger = TestLedger::new().await;
    let appender = ledger.appender();
    let rows = one_of_each(1);
    // The CHECK calls a function that does not hash any more.
    ledger
        .change_guards(
            "CREATE OR REPLACE FUNCTION public.security_events_hash(
                 prev_hash text, id bigint, event_type text, actor text, subject text,
                 details_text text, source_ip inet, created_at timestamptz
             ) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE RETURN 'x'",
        )
        .await;
    let alarm = appender.alarm();
    let failing = appender.append(event(1), tokio::time::Instant::now() + Duration::from_secs(2));
    let (failed, ()) = tokio::join!(failing, async {
        tokio::time::timeout(Duration::from_secs(20), alarm.notified()).await.expect("an alarm");
    });
    failed.unwrap_err();
    drop((appender, rows));
    ledger.finish().await;
}

/// Nine bytes can print as 131 kB: what PostgreSQL cannot compare is no finding.
#[tokio::test]
async fn documents_that_print_without_end_are_no_findings() {
    let ledger = TestLedger::new().await;
    let server = Server::start(&ledger).await;
    let numbers = vec!["1e131071"; 9000].join(",");
    let body = BODY.replace("\"signal_id\"", &format!("\"n\":[{numbers}],\"signal_id\""));
    let answer = server.deliver(body.as_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(check(&ledger).await, Verdict::Verified);
    let changed = "UPDATE public.signals SET raw_payload_text = replace(raw_payload_text, 'e131071', 'e131070')";
    ledger.tamper_and_rearm("signals", changed).await;
    assert_eq!(check(&ledger).await, Verdict::Tampered);
    server.stop().await;
    ledger.finish_tampered().await;
}

#[tokio::test]
async fn whoever_holds_the_ledgers_lock_does_not_keep_a_lockdown_away() {
    let (ledger, _) = ledger_with_admins().await;
    ledger.tamper_and_rearm("signals", TAMPERING).await;
    let mut holder = ledger.connect_app().await;
    run(&mut holder, "BEGIN; SELECT FROM public.ledger_begin_append('{}')").await;
    // At work, and not idle, for longer than a writer waits.
    let holding = tokio::spawn(async move { attempt(&mut holder, "SELECT pg_sleep(5)").await });
    let mut quiet = Quiet::default();
    let done =
        run_check(&Subject::of(ledger.app()), CheckScope::Ledger, Clock::system(), &mut quiet)
            .await;
    let done = done.unwrap().unwrap();
    assert!(done.lockdown.is_some(), "{:?}", done.notes);
    // The lock went with the holder's session.
    let _ = holding.await;
    ledger.finish_tampered().await;
}
