//! API keys as their users handle them: the first one in its file, others by command.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use sqlx::ConnectOptions;

use crate::common::TestLedger;
use crate::program::{Program, audit_ledger, sql};

const CHECKS: &str = "/v1/integrity/checks";

fn secret_of(key: &str) -> &str {
    key.trim().rsplit_once('_').expect("a key").1
}

/// The curl line that asks with the admin key, from everything that was printed.
fn printed_questions(program: &Program) -> Vec<String> {
    let printed = program.stdout();
    let lines = printed.split("\n\n").filter(|text| text.starts_with("curl "));
    lines.filter(|line| line.contains("Authorization")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_first_start_makes_an_admin_key_and_tells_the_file_but_not_the_key() {
    let mut program = Program::start().await;
    let path = program.data_dir().join("admin.key");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read_to_string(&path).unwrap();
    let [question] = printed_questions(&program).try_into().unwrap();
    let asked = Command::new("sh").args(["-c", &question]).output().unwrap();
    let answer: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert!(answer["items"].is_array(), "{answer}");

    program.interrupt();
    program.start_again().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), key, "it is made once");
    assert_eq!(program.get(CHECKS, &key).await.status, 200);
    assert_eq!(program.query("SELECT count(*) FROM api_keys").await, 1);
    assert_eq!(printed_questions(&program).len(), 2);

    // A first start that broke off between the file and the row.
    sql(
        &program,
        "ALTER EVENT TRIGGER ledger_guard_ddl DISABLE;
         ALTER TABLE api_keys DISABLE TRIGGER USER;
         DELETE FROM api_keys;
         ALTER TABLE api_keys ENABLE ALWAYS TRIGGER ledger_refuse_statement;
         ALTER TABLE api_keys ENABLE ALWAYS TRIGGER ledger_lock_for_insert;
         ALTER TABLE api_keys ENABLE ALWAYS TRIGGER ledger_refuse_row;
         ALTER TABLE api_keys ENABLE ALWAYS TRIGGER ledger_refuse_row_update;
         ALTER TABLE api_keys ENABLE ALWAYS TRIGGER ledger_stamp_key;
         ALTER TABLE api_keys ENABLE ALWAYS TRIGGER ledger_record_key;
         ALTER EVENT TRIGGER ledger_guard_ddl ENABLE ALWAYS",
    )
    .await;
    program.interrupt();
    program.start_again().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), key);
    assert_eq!(program.get(CHECKS, &key).await.status, 200);

    // Revoked, by all of it: the file stays and is told no more.
    let revoked = program.run(&["keys", "revoke", &key]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    program.interrupt();
    program.start_again().await;
    assert_eq!(program.get(CHECKS, &key).await.status, 401);
    assert_eq!(printed_questions(&program).len(), 3);
    assert!(program.stderr().contains("this key is of no use"));
    let events = "SELECT count(*) FROM security_events WHERE event_type LIKE 'KEY_%'
                    AND actor = 'postgres'";
    assert_eq!(program.query(events).await, 3, "made twice and revoked once");
    for (place, text) in [
        ("stdout", program.stdout()),
        ("stderr", program.stderr() + &revoked.stdout + &revoked.stderr),
        ("the server's log", program.postgres_log()),
    ] {
        assert!(!text.contains(secret_of(&key)), "the secret is in {place}");
    }
    assert_eq!(program.run(&["verify"]).code, 0);
    program.stop();
}

#[tokio::test]
async fn a_key_is_made_listed_used_and_revoked_by_command() {
    let program = Program::start().await;
    let made = program
        .run(&["keys", "create", "--name", "desk-7", "--scope", "read", "--scope", "ingest"]);
    assert_eq!(made.code, 0, "{made:?}");
    let key = made.stdout.strip_suffix('\n').expect("one line");
    assert!(key.starts_with("lk_") && !key.contains('\n'), "the key alone");
    assert!(made.stderr.contains("desk-7 with the scopes ingest, read"), "{}", made.stderr);
    assert!(!made.stderr.contains(secret_of(key)));
    let id = key.split('_').nth(1).unwrap();
    assert_eq!(program.get(CHECKS, key).await.status, 200, "it can be used at once");

    let list = program.run(&["keys", "list"]);
    let line = list.stdout.lines().find(|line| line.contains("desk-7")).expect(&list.stdout);
    assert!(line.starts_with(id) && line.contains("ingest, read"), "{line}");
    let json = program.run(&["keys", "list", "--json"]);
    let keys: Value = serde_json::from_str(&json.stdout).unwrap();
    let listed = &keys.as_array().unwrap()[1];
    assert_eq!((&listed["key_id"], &listed["name"]), (&id.into(), &"desk-7".into()));
    assert_eq!(listed["scopes"], serde_json::json!(["ingest", "read"]));
    assert!(listed["revoked_at"].is_null());
    for shown in [&list.stdout, &json.stdout] {
        assert!(!shown.contains(secret_of(key)) && !shown.contains("sha256"), "{shown}");
    }

    let revoked = program.run(&["keys", "revoke", id]);
    assert_eq!((revoked.code, revoked.stdout.trim()), (0, format!("revoked key {id}").as_str()));
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let answer = program.get(CHECKS, key).await;
    assert_eq!((answer.status, &answer.body["code"]), (401, &"SEC-005".into()));
    for (arguments, told) in [
        (&["keys", "revoke", id][..], "was revoked before"),
        (&["keys", "revoke", "0123456789abcdef"], "there is no key 0123456789abcdef"),
        (&["keys", "revoke", "0123"], "16 hexadecimal digits"),
        (&["keys", "create", "--name", "x"], "--scope"),
        (&["keys", "create", "--name", "x", "--scope", "root"], "one of admin, export"),
        (&["keys", "create", "--name", "a b", "--scope", "read"], "letters, digits"),
    ] {
        let ended = program.run(arguments);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
    assert_eq!(program.query("SELECT count(*) FROM api_keys").await, 2);
    assert_eq!(program.run(&["verify"]).code, 0);
    program.stop();
}

#[tokio::test]
async fn on_a_database_of_ones_own_keys_are_the_migrators_to_make() {
    let ledger = TestLedger::new().await;
    let url = |role: &str| ledger.options(role).to_url_lossy().to_string();
    let (app, migrator) = (url("app_trading"), url("ledger_migrator"));
    let create = ["keys", "create", "--name", "desk", "--scope", "admin"];
    let refused = audit_ledger(&create, &[("DATABASE_URL", &app)]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("LEDGER_MIGRATOR_DATABASE_URL: is not set"), "{refused:?}");

    let both = [("DATABASE_URL", app.as_str()), ("LEDGER_MIGRATOR_DATABASE_URL", &migrator)];
    let made = audit_ledger(&create, &both);
    assert_eq!(made.code, 0, "{made:?}");
    let id = made.stdout.split('_').nth(1).unwrap();
    for reader in [&app, &url("ledger_auditor")] {
        let list = audit_ledger(&["keys", "list", "--json"], &[("DATABASE_URL", reader)]);
        let keys: Value = serde_json::from_str(&list.stdout).unwrap();
        assert_eq!(
            (&keys[0]["key_id"], &keys[0]["created_by"]),
            (&id.into(), &"ledger_migrator".into())
        );
    }
    // The same database for all commands, whichever login is set.
    let only = [("LEDGER_MIGRATOR_DATABASE_URL", migrator.as_str())];
    let list = audit_ledger(&["keys", "list", "--json"], &only);
    let keys: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(keys[0]["key_id"], id, "{list:?}");
    let status = audit_ledger(&["lockdown", "status"], &only);
    assert!(status.stdout.contains("is not locked down"), "{status:?}");
    let lifting = ["lockdown", "lift", "--reason", "x", "--acknowledge-all"];
    let refused = audit_ledger(&lifting, &only);
    assert!(refused.stderr.contains("NTF-001: the ledger is not locked down"), "{refused:?}");
    assert_eq!(audit_ledger(&["keys", "revoke", id], &only).code, 0);

    // A service on such a database makes no key of its own.
    let program = Program::start_on(&app, "a secret that is long enough").await;
    assert!(!program.data_dir().exists());
    assert_eq!(printed_questions(&program).len(), 0);
    assert_eq!(program.get(CHECKS, made.stdout.trim()).await.status, 401);
    program.stop();
    assert_eq!(ledger.finish().await, 4, "made, revoked, started, stopped");
}
