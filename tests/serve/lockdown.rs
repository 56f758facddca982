//! A lockdown from outside: over kill -9 and restarts, and by command.

use serde_json::Value;

use crate::program::{Program, send, sql};

/// Changes a row as a superuser who leaves the append trigger as it was.
const TAMPERING: &str = "ALTER EVENT TRIGGER ledger_guard_ddl DISABLE;
    ALTER TABLE signals DISABLE TRIGGER ledger_refuse_statement;
    ALTER TABLE signals DISABLE TRIGGER ledger_refuse_row;
    ALTER TABLE signals DROP CONSTRAINT signals_row_hash_correct;
    UPDATE signals SET price = 70000 WHERE id = 1;";

#[tokio::test]
async fn a_lockdown_outlives_kill_9_and_is_lifted_by_command() {
    let mut program = Program::start().await;
    assert!(program.run(&["lockdown", "status"]).stdout.contains("is not locked down"));
    let nothing = program.run(&["lockdown", "lift", "--reason", "x"]);
    assert_eq!(nothing.code, 1);
    assert!(nothing.stderr.contains("NTF-001: the ledger is not locked down"), "{nothing:?}");

    assert_eq!(send(&program, "before").await.status, 201);
    sql(&program, TAMPERING).await;
    let verified = program.run(&["verify"]);
    assert_eq!(verified.code, 2, "{verified:?}");
    assert!(verified.stdout.contains("The ledger is locked down since"), "{verified:?}");
    program.kill();
    program.start_again().await;
    let refused = send(&program, "meanwhile").await;
    assert_eq!((refused.status, &refused.body["code"]), (423, &"AUD-009".into()), "{refused:?}");

    let status = program.run(&["lockdown", "status"]);
    assert!(status.stdout.starts_with("LOCKED DOWN since "), "{status:?}");
    let status = program.run(&["lockdown", "status", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["locked"], true);
    let finding = status["findings"][0]["finding_id"].as_str().unwrap();
    for wrong in [
        &["lockdown", "lift"][..],
        &["lockdown", "lift", "--reason", "x", "--acknowledge", "8b1d"],
        &["lockdown", "lift", "--reason", "x", "--acknowledge", finding, "--acknowledge-all"],
    ] {
        assert_eq!(program.run(wrong).code, 1, "{wrong:?}");
    }
    let lifted =
        program.run(&["lockdown", "lift", "--reason", "incident 7", "--acknowledge", finding]);
    assert_eq!(lifted.code, 0, "{lifted:?}");
    assert!(lifted.stdout.contains("1 finding acknowledged"), "{lifted:?}");
    assert_eq!(send(&program, "after").await.status, 201);

    // The rows add up but for what is known; the guards are still as the tampering left them.
    let verified = program.run(&["verify"]);
    assert_eq!(verified.code, 5, "{verified:?}");
    assert!(verified.stdout.contains("(acknowledged)"), "{verified:?}");
    let by_owner = "SELECT count(*) FROM security_events
        WHERE event_type = 'LOCKDOWN_LIFTED_BY_OWNER' AND details ->> 'reason' = 'incident 7'";
    assert_eq!(program.query(by_owner).await, 1);
    program.stop();
}
