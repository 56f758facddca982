//! Anchors that are away, services that are killed, and connections that break, in the middle of it.

use std::path::Path;
use std::time::{Duration, Instant};

use audit_ledger::clock::Clock;
use audit_ledger::integrity::checkpointer::{CheckpointerError, Round};
use audit_ledger::integrity::publisher::{PublishError, publish_all};
use audit_ledger::integrity::verify::Scope;
use ledger_verifier::TreeSize;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::common::checkpoints::{ORIGIN, Oracle, Rounds, seal};
use crate::common::fetch;
use crate::scene::Scene;
use crate::{assert_verified, grow};

/// Puts a file in the folder's place.
fn take_away(folder: &Path) {
    std::fs::rename(folder, folder.with_extension("away")).unwrap();
    std::fs::write(folder, "").unwrap();
}

fn bring_back(folder: &Path) {
    std::fs::remove_file(folder).unwrap();
    std::fs::rename(folder.with_extension("away"), folder).unwrap();
}

/// The notes that the anchor holds, and those of the database, in their order.
async fn held_and_signed(scene: &Scene) -> [Vec<String>; 2] {
    let (sender, mut sent) = mpsc::channel(1000);
    scene.signed.anchors[0].all(ORIGIN, TreeSize(0), sender).await.unwrap();
    let mut held = Vec::new();
    while let Some(note) = sent.recv().await {
        held.push(note);
    }
    let notes = "SELECT array_agg(note ORDER BY id) FROM checkpoints";
    [held, fetch(&mut scene.ledger.connect_superuser().await, notes).await]
}

async fn anchor_holds_all(scene: &Scene) {
    let [held, signed] = held_and_signed(scene).await;
    assert_eq!(held, signed);
}

#[tokio::test]
async fn an_anchor_that_was_away_gets_all_in_their_order() {
    let mut scene = Scene::begin().await;
    let path = scene.folder.path().to_owned();
    take_away(&path);
    for _ in 0..4 {
        grow(&scene.appender, 3).await;
        // Who goes on with its own last checkpoint asks nobody.
        seal(&mut scene.stays).await;
        let anchors = &scene.signed.anchors;
        let away = publish_all(&scene.ledger.app(), anchors, Clock::system()).await.unwrap_err();
        assert!(matches!(away, PublishError::Anchor(_)), "{away}");
    }
    // Who was just started does not know what was signed before.
    grow(&scene.appender, 3).await;
    let mut comes = scene.comes();
    for _ in 0..2 {
        let error = comes.next_round().await.unwrap_err();
        assert!(matches!(error, CheckpointerError::Unanswered(_)), "{error}");
    }
    // A check says so, and compares with the database's own checkpoints.
    let report = scene.look(Scope::Ledger).await;
    assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
    bring_back(&path);
    let [held, signed] = held_and_signed(&scene).await;
    assert_eq!((held.len(), signed.len()), (1, 5));
    scene.publish().await;
    anchor_holds_all(&scene).await;
    assert!(matches!(comes.next_round().await.unwrap(), Round::Signed(_, false)));
    scene.publish().await;
    anchor_holds_all(&scene).await;
    assert_verified(&scene.signed.subject(&scene.ledger), Scope::Ledger).await;
    scene.finish().await;
}

/// Killed after a checkpoint was committed, before anybody was given it.
#[tokio::test]
async fn what_was_signed_and_not_yet_published_is_published_by_the_next() {
    let mut scene = Scene::begin().await;
    for _ in 0..3 {
        grow(&scene.appender, 3).await;
        let mut killed = scene.comes();
        seal(&mut killed).await;
    }
    let [held, signed] = held_and_signed(&scene).await;
    assert_eq!((held.len(), signed.len()), (1, 4));
    // Two publishers at once, as two services have.
    tokio::join!(scene.publish(), scene.publish());
    anchor_holds_all(&scene).await;
    grow(&scene.appender, 3).await;
    // Who stays finds another's checkpoints in place of its own last, and goes on with those.
    scene.seal().await;
    anchor_holds_all(&scene).await;
    assert_verified(&scene.signed.subject(&scene.ledger), Scope::Incremental).await;
    scene.finish().await;
}

#[tokio::test]
async fn rounds_that_break_off_anywhere_leave_one_history() {
    let mut scene = Scene::begin().await;
    let mut superuser = scene.ledger.connect_superuser().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app_trading'";
    let (mut broken, mut signed) = (0, 0);
    grow(&scene.appender, 7).await;
    let began = Instant::now();
    scene.seal().await;
    let round = began.elapsed();
    for n in 0..32_u32 {
        grow(&scene.appender, 7).await;
        // Sooner and later than a round takes.
        let after = round * (n / 2) / 3;
        let mut comes = scene.comes();
        let makes = if n % 4 < 2 { &mut scene.stays } else { &mut comes };
        let ended = if n % 2 == 0 {
            // The service is killed.
            timeout(after, makes.round()).await.ok()
        } else {
            // Its connections are.
            let ending = async {
                sleep(after).await;
                fetch::<i64>(&mut superuser, end).await;
            };
            Some(tokio::join!(makes.round(), ending).0)
        };
        match ended {
            Some(Ok(round)) => {
                assert!(!matches!(round, Round::Refused | Round::Accepted(_)), "{round:?}");
                signed += i32::from(matches!(round, Round::Signed(..)));
            }
            Some(Err(_)) | None => broken += 1,
        }
    }
    assert!(broken > 0 && signed > 0, "{broken} {signed}");
    // A session whose client is gone may still be about to end.
    let last = loop {
        match scene.stays.round().await {
            Ok(Round::Signed(last, false)) => break last,
            Ok(Round::Nothing) => grow(&scene.appender, 1).await,
            Ok(Round::Busy | Round::Signed(_, true)) | Err(_) => {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(other) => panic!("{other:?}"),
        }
    };
    scene.publish().await;
    anchor_holds_all(&scene).await;
    let oracle = Oracle::read(&mut superuser).await;
    assert_eq!(last.head, oracle.head(last.head.size));
    for scope in [Scope::Ledger, Scope::Incremental] {
        assert_verified(&scene.signed.subject(&scene.ledger), scope).await;
    }
    drop(superuser);
    scene.finish().await;
}
