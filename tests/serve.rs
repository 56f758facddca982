//! The program as its users run it: started, killed, tampered with and checked from outside.

mod common;
#[path = "serve/history.rs"]
mod history;
#[path = "serve/keys.rs"]
mod keys;
#[path = "serve/lockdown.rs"]
mod lockdown;
#[path = "serve/program.rs"]
mod program;
#[path = "serve/rows.rs"]
mod rows;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use program::{Program, audit_ledger, send, sql};
use serde_json::{Value, json};
use sqlx::ConnectOptions;

/// What a new user does: start, send the printed line, check, change a row, check.
#[tokio::test]
async fn the_first_signal_proves_itself_and_a_changed_row_is_named() {
    let program = Program::start().await;
    let curl = program.printed_curl();
    let first = Command::new("sh").args(["-c", &curl]).output().unwrap();
    let answer: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(answer["status"], "recorded", "{answer}");
    assert_eq!(answer["receipt"]["chain"], "signals");
    assert_eq!(answer["receipt"]["id"], 1);

    let verified = program.run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(verified.stdout.contains("Verified: 5 rows"), "{verified:?}");

    sql(
        &program,
        "ALTER EVENT TRIGGER ledger_guard_ddl DISABLE;
         ALTER TABLE signals DISABLE TRIGGER ALL;
         ALTER TABLE signals DROP CONSTRAINT signals_row_hash_correct;
         UPDATE signals SET price = 70000 WHERE id = 1;",
    )
    .await;
    let verified = program.run(&["verify"]);
    assert_eq!(verified.code, 2, "{verified:?}");
    assert!(verified.stdout.contains("content: signals row 1: "), "{verified:?}");
    let verified = program.run(&["verify", "--json"]);
    assert_eq!(verified.code, 2, "{verified:?}");
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(report["verdict"], "tampered");
    assert_eq!(report["chains"][0]["findings"][0]["id"], 1);
    let recorded = program
        .query(
            "SELECT (SELECT count(*) FROM integrity_checks
                     WHERE chain = 'signals' AND NOT chain_valid)
                  + (SELECT count(*) FROM security_events
                     WHERE event_type = 'INTEGRITY_FAILURE')",
        )
        .await;
    assert_eq!(recorded, 4, "two checks and two events");
    program.stop();
}

/// Changed guards are told at the next start and by every check, and lock nothing.
#[tokio::test]
async fn changed_guards_are_told_and_the_service_records_all_the_same() {
    let mut program = Program::start().await;
    sql(
        &program,
        "ALTER EVENT TRIGGER ledger_guard_ddl DISABLE;
         ALTER TABLE signals DISABLE TRIGGER ledger_refuse_row;",
    )
    .await;
    assert!(program.interrupt().success());
    program.start_again().await;
    assert!(program.stderr().contains("ledger_refuse_row on public.signals"), "it is told");
    // The event trigger, which the start put back, and the row trigger, which it did not.
    let events = "SELECT count(*) FROM security_events WHERE event_type = 'GUARD_DRIFT'";
    assert_eq!(program.query(events).await, 2);
    assert_eq!(send(&program, "drift").await.status, 201);

    let verified = program.run(&["verify"]);
    assert_eq!(verified.code, 5, "{verified:?}");
    let finding = "guard_drift: guards: changed: trigger ledger_refuse_row on public.signals: ";
    assert!(verified.stdout.contains(finding), "{verified:?}");
    let verified = program.run(&["verify", "--json"]);
    assert_eq!(verified.code, 5, "{verified:?}");
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(report["verdict"], "guard_drift");
    assert_eq!(program.query(events).await, 4);
    let recorded =
        "SELECT count(*) FROM integrity_checks WHERE chain = 'guards' AND NOT chain_valid";
    assert_eq!(program.query(recorded).await, 2);
    assert_eq!(program.run(&["verify", "--chain", "signals"]).code, 0, "its rows are right");

    let put_back = "BEGIN; SELECT ledger_guard.begin_migration();
        ALTER TABLE signals ENABLE ALWAYS TRIGGER ledger_refuse_row;
        SELECT ledger_guard.end_migration(); COMMIT";
    sql(&program, put_back).await;
    assert_eq!(program.run(&["verify"]).code, 0);
    program.stop();
}

#[tokio::test]
async fn the_service_refuses_to_run_as_a_superuser_or_as_who_may_become_the_owner() {
    let ledger = common::TestLedger::new().await;
    for role in ["postgres", "ledger_migrator"] {
        let url = ledger.options(role).to_url_lossy().to_string();
        let secret = ("LEDGER_WEBHOOK_SECRET", "a secret of at least sixteen bytes");
        let listen = ("LEDGER_LISTEN", "127.0.0.1:0");
        let ended = audit_ledger(&["serve"], &[("DATABASE_URL", &url), secret, listen]);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains("the guards would not hold"), "{ended:?}");
    }
    assert_eq!(ledger.finish().await, 0, "nothing was recorded");
}

#[tokio::test]
async fn ctrl_c_stops_the_service_and_its_postgres_and_the_data_stays() {
    let mut program = Program::start().await;
    for round in 1..=2 {
        let answer = send(&program, &format!("stays-{round}")).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.body["receipt"]["id"], round);
        assert!(program.postmaster().is_some());
        let ended = program.interrupt();
        assert!(ended.success(), "{ended:?}\n{}", program.stderr());
        assert!(program.postmaster().is_none(), "the server is stopped");
        program.start_again().await;
    }
    let events = "SELECT count(*) FROM security_events WHERE event_type = ";
    assert_eq!(program.query(&format!("{events}'SERVICE_STARTED'")).await, 3);
    assert_eq!(program.query(&format!("{events}'SERVICE_STOPPED'")).await, 2);
    assert_eq!(program.run(&["verify"]).code, 0);
    program.stop();
}

/// Deliveries of eight clients at once, while `disturb` does its worst; a client whose delivery
/// was not answered sends it again, as real senders do.
async fn under_load(program: &mut Program, disturb: impl AsyncFnOnce(&mut Program)) {
    const CLIENTS: usize = 8;
    let until = Instant::now() + Duration::from_secs(6);
    let sender = program.sender();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    let signal_id = format!("load-{client}-{number}");
                    loop {
                        match sender.send(&signal_id).await {
                            Ok(answer) if answer.status == 201 || answer.status == 200 => break,
                            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                            Err(_) => {}
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    acknowledged.push(signal_id);
                    if Instant::now() > until {
                        break;
                    }
                }
                acknowledged
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    disturb(program).await;
    let mut acknowledged = BTreeSet::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    assert!(acknowledged.len() > 100, "{} were acknowledged", acknowledged.len());

    let stored = program.signal_ids().await;
    let unique: BTreeSet<_> = stored.iter().cloned().collect();
    assert_eq!(stored.len(), unique.len(), "nothing is doubled");
    let lost: Vec<_> = acknowledged.difference(&unique).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let verified = program.run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_doubled_when_the_service_is_killed() {
    let mut program = Program::start().await;
    under_load(&mut program, async |program| {
        for _ in 0..2 {
            program.kill();
            program.start_again().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    program.stop();
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_doubled_when_postgres_is_killed() {
    let mut program = Program::start().await;
    under_load(&mut program, async |program| {
        for _ in 0..2 {
            let postmaster = program.postmaster().expect("it runs");
            program::kill_process(postmaster);
            program.wait_for(|program| program.postmaster().is_some_and(|pid| pid != postmaster));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    assert!(program.stderr().contains("appending failed"), "the fault was felt");
    program.stop();
}

/// Two processes on one database, 64 clients that send each delivery to both at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_on_one_database_make_one_ledger() {
    const CLIENTS: usize = 64;
    const DELIVERIES: usize = 20;
    let ledger = common::TestLedger::new().await;
    let url = ledger.options("app_trading").to_url_lossy().to_string();
    let secret = "a secret that both services know";
    let programs = [Program::start_on(&url, secret).await, Program::start_on(&url, secret).await];
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let senders = programs.each_ref().map(Program::sender);
            tokio::spawn(async move {
                for number in 0..DELIVERIES {
                    let signal_id = format!("both-{client}-{number}");
                    let (one, other) =
                        tokio::join!(senders[0].send(&signal_id), senders[1].send(&signal_id));
                    let (one, other) = (one.unwrap(), other.unwrap());
                    let mut statuses = [one.status, other.status];
                    statuses.sort_unstable();
                    assert_eq!(statuses, [200, 201], "{one:?} {other:?}");
                    assert_eq!(one.body["receipt"], other.body["receipt"]);
                    assert_eq!(one.body["correlation_id"], other.body["correlation_id"]);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    for program in programs {
        program.stop();
    }
    // Each service recorded its start and its end.
    assert_eq!(ledger.finish().await, CLIENTS * DELIVERIES + 4);
}

#[tokio::test]
async fn a_port_that_is_taken_and_a_folder_in_use_are_told_at_once() {
    let program = Program::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("other");
    let other = audit_ledger(
        &["serve"],
        &[("LEDGER_LISTEN", &address), ("LEDGER_DATA_DIR", data_dir.to_str().unwrap())],
    );
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.stderr.contains(&format!("cannot listen on {address}")), "{other:?}");
    assert!(!data_dir.exists(), "nothing was started");

    let second = program.run(&["serve"]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.stderr.contains(&format!("pid {}", program.pid())), "{second:?}");
    assert_eq!(send(&program, "still-there").await.status, 201);
    program.stop();
}

#[tokio::test]
async fn verify_tells_its_outcomes_apart_by_their_exit_codes() {
    let program = Program::start().await;
    assert_eq!(program.run(&["verify", "--chain", "nonsense"]).code, 1);
    assert_eq!(program.run(&["verify", "--frobnicate"]).code, 1);
    assert_eq!(program.run(&["verify", "--chain", "quarantined_deliveries"]).code, 0);
    let away = [("DATABASE_URL", "postgresql://app_trading@127.0.0.1:1/ledger")];
    let unreachable = audit_ledger(&["verify", "--json"], &away);
    assert_eq!(unreachable.code, 3, "{unreachable:?}");
    let report: Value = serde_json::from_str(&unreachable.stdout).unwrap();
    assert_eq!(report["verdict"], "unfinished");

    let database = program.app();
    let lock = audit_ledger::store::read::try_lock_checks(&database).await.unwrap();
    assert!(lock.is_some());
    assert_eq!(program.run(&["verify"]).code, 6);
    drop(lock);
    program.wait_for(|program| program.run(&["verify"]).code == 0);
    program.stop();
}

#[tokio::test]
async fn telemetry_holds_a_line_for_each_request_and_neither_secret_nor_payload() {
    let program = Program::start().await;
    let answer = send(&program, "confidential-signal").await;
    assert_eq!(answer.status, 201);
    let garbage = program.post("/webhook/tradingview?token=hidden", b"{confidential", None).await;
    assert_eq!(garbage.status, 401);
    assert_eq!(garbage.body["code"], "SEC-001");
    let request_id = garbage.body["request_id"].as_str().unwrap().to_owned();
    program.wait_for(|program| program.stderr().contains(&request_id));

    let telemetry = program.stderr();
    let lines = telemetry.lines().filter(|line| line.contains(&request_id));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{telemetry}");
    assert_eq!(lines[0]["route"], "/webhook/{source}");
    assert_eq!(lines[0]["status"], 401);
    assert_eq!(lines[0]["code"], "SEC-001");
    for hidden in ["confidential", "hidden", &program.secret()] {
        assert!(!telemetry.contains(hidden), "{hidden} in {telemetry}");
        assert!(!program.postgres_log().contains(hidden), "{hidden} in the server's log");
    }
    program.stop();
}

/// A folder that is not mounted must not pass for a ledger that is intact.
#[test]
fn a_command_in_the_wrong_folder_finds_no_ledger_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = [("LEDGER_DATA_DIR", folder.path().to_str().unwrap())];
    for arguments in [&["verify"][..], &["db", "url"], &["sign-webhook", "/dev/null"]] {
        let ended = audit_ledger(arguments, &data_dir);
        assert!(ended.code == 1 || ended.code == 3, "{ended:?}");
        assert!(ended.stderr.contains("there is no ledger in"), "{ended:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
    }
}

#[test]
fn sign_webhook_makes_the_signature_of_the_vector() {
    let vector: Value =
        serde_json::from_str(include_str!("../verifier/tests/vectors/hmac.json")).unwrap();
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), vector["body"].as_str().unwrap()).unwrap();
    let secret = [("LEDGER_WEBHOOK_SECRET", vector["secret"].as_str().unwrap())];
    let path = body.path().to_str().unwrap();
    let signed = audit_ledger(&["sign-webhook", "--signature-only", path], &secret);
    assert_eq!(signed.stdout.trim(), vector["x_tradingview_signature"], "{signed:?}");
    let signed = audit_ledger(&["sign-webhook", path], &secret);
    assert!(signed.stdout.contains("curl -sS http://127.0.0.1:8080/webhook/tradingview"));
    assert!(!signed.stdout.contains(secret[0].1));
}

#[test]
fn the_configuration_is_shown_without_secrets_and_a_misspelt_setting_is_an_error() {
    let secrets = [
        ("LEDGER_WEBHOOK_SECRET", "a secret that nobody sees"),
        ("DATABASE_URL", "postgresql://app_trading:hunter2@localhost/ledger"),
    ];
    let shown = audit_ledger(&["config"], &secrets);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(!shown.stdout.contains("hunter2") && !shown.stdout.contains("nobody sees"));
    let settings: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(settings["LEDGER_LISTEN"], json!("127.0.0.1:8080"));
    assert_eq!(settings["LEDGER_RATE_LIMIT_KEY_PER_S"], 1000);
    assert_eq!(settings["LEDGER_RATE_LIMIT_ADDRESS_PER_S"], 1000);

    let misspelt = audit_ledger(&["config"], &[("LEDGER_LISTNE", "127.0.0.1:1")]);
    assert_eq!(misspelt.code, 1);
    assert!(misspelt.stderr.contains("LEDGER_LISTNE: is not a setting"), "{misspelt:?}");
}
