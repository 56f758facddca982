//! What a new user's service keeps of its history without being told to: a backup that is restored starts
//! locked, goes on once it is accepted, and nobody takes the one for the other.

use std::path::Path;
use std::process::Command;

use crate::program::{Ended, Program, send};

/// A copy of a folder as it is, owners included.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

async fn wait_until(program: &Program, condition: &str) {
    for _ in 0..400 {
        if program.query(&format!("SELECT coalesce({condition}, false)::int::bigint")).await == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {condition}:\n{}", program.stderr());
}

/// The anchor has the newest checkpoint, and that covers everything.
const KEPT: &str = "(SELECT max(checkpoint_id) FROM anchor_receipts) = (SELECT max(id) FROM checkpoints)
    AND (SELECT max(tree_size) FROM checkpoints WHERE incarnation = (SELECT max(id) FROM incarnations))
        = (SELECT max(leaf_index) + 1 FROM ledger_log)";

fn lines(ended: &Ended) -> Vec<String> {
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_restored_backup_starts_locked_and_goes_on_under_another_name() {
    let mut program = Program::start().await;
    program.set("LEDGER_CHECKPOINT_INTERVAL_S", "1");
    assert_eq!(send(&program, "before").await.status, 201);
    assert!(program.interrupt().success());
    let cluster = program.data_dir().join("postgres");
    let backup = program.data_dir().join("backup");
    copy(&cluster, &backup);

    program.start_again().await;
    assert_eq!(send(&program, "after").await.status, 201);
    wait_until(&program, KEPT).await;
    let first = lines(&program.run(&["vkey"]));
    let verified = program.run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(program.interrupt().success());

    // The disk dies; somebody restores last night's backup.
    std::fs::rename(&cluster, program.data_dir().join("lost")).unwrap();
    copy(&backup, &cluster);
    program.start_again().await;
    assert_eq!(send(&program, "after").await.status, 423, "it starts locked");
    let state = program.run(&["lockdown", "status"]);
    assert!(state.stdout.contains("rolled_back"), "{state:?}");
    let verified = program.run(&["verify"]);
    assert_eq!(verified.code, 4, "{verified:?}");
    assert!(verified.stdout.contains("ROLLED BACK"), "{verified:?}");

    // Nobody but the owner's login is there to accept it.
    let lift = ["lockdown", "lift", "--reason", "the disk died", "--acknowledge-all"];
    let lifted = program.run(&lift);
    assert_eq!(lifted.code, 0, "{lifted:?}");
    wait_until(&program, "(SELECT count(*) FROM incarnations) = 2").await;
    wait_until(&program, KEPT).await;
    assert_eq!(send(&program, "after").await.status, 201);
    let both = lines(&program.run(&["vkey"]));
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    assert!(both[1].split('+').next().unwrap().ends_with("/i2"), "{both:?}");
    // The first leaf that is new holds what the old name signed last.
    let told = "SELECT count(*) FROM security_events AS e JOIN incarnations AS i ON i.security_event_id = e.id
        WHERE i.id = 2 AND e.details -> 'previous' ->> 'checkpoint' = i.previous_checkpoint";
    assert_eq!(program.query(told).await, 1);
    for how in [vec!["verify"], vec!["verify", "--incremental"], vec!["verify", "--rolling"]] {
        let verified = program.run(&how);
        assert_eq!(verified.code, 0, "{how:?}: {verified:?}");
    }
    let checkpoint = program.run(&["checkpoint"]);
    assert!(checkpoint.stdout.lines().next().unwrap().ends_with("/i2"), "{checkpoint:?}");

    // And what is exported of it names its incarnation.
    let bundle = program.data_dir().join("signals.zip");
    let path = bundle.to_str().unwrap();
    let exported = program.run(&["export", "signals", "--format", "bundle", "--output", path]);
    assert_eq!(exported.code, 0, "{exported:?}");
    let zip = std::fs::File::open(&bundle).unwrap();
    let keys = [both[1].parse().unwrap()];
    let report = ledger_verifier::bundle::verify_bundle(zip, &keys).unwrap();
    assert_eq!(report.verdict(), ledger_verifier::bundle::Verdict::Verified, "{report:?}");
    assert_eq!(report.manifest.unwrap().incarnation, 2);
    program.stop();
}
