//! A restored backup that two admins accept as it is: it goes on under another name, with another key,
//! and the old name's last word on record. And what the database itself refuses.

use std::collections::BTreeSet;
use std::path::PathBuf;

use audit_ledger::clock::Clock;
use audit_ledger::integrity::checkpointer::{Checkpointer, CheckpointerError, Round};
use audit_ledger::integrity::report::Verdict;
use audit_ledger::integrity::run::run_check;
use audit_ledger::integrity::verify::Scope;
use audit_ledger::integrity::watch::Quiet;
use audit_ledger::keys;
use audit_ledger::store::checkpoints::StoredCheckpoint;
use audit_ledger::store::lockdown::{AdminProof, confirm_lift, open_findings, request_lift};
use audit_ledger::store::pool::Pool;
use ledger_verifier::checkpoint::Checkpoint;

use crate::common::builders::api_key;
use crate::common::checkpoints::{self, ORIGIN, Rounds, key_lines, seal};
use crate::common::{fetch, refused, run};
use crate::scene::Scene;
use crate::{assert_verified, grow};

/// The name of what comes next.
const NEXT: &str = "ledger.example.com/tests/i2";

/// A ledger that is behind what its anchor holds, and two admins who knew it before.
struct Restored {
    scene: Scene,
    /// Ids of the admins' keys, and their secrets.
    admins: [(String, Vec<u8>); 2],
    /// The last checkpoint, which the backup does not have.
    lost: StoredCheckpoint,
}

impl Restored {
    async fn new() -> Self {
        let mut scene = Scene::begin().await;
        let mut admins = Vec::new();
        for name in ["alice", "bob"] {
            let (id, key) = api_key(&scene.ledger.owner(), name, &keys::Scope::ALL).await;
            let secret = key.rsplit('_').next().unwrap();
            admins.push((id.to_string(), hex::decode(secret).unwrap()));
        }
        scene.go_on(1).await;
        scene.seal().await;
        let backup = scene.ledger.copy().await;
        scene.go_on(2).await;
        let lost = scene.seal().await;
        scene.ledger.restore(backup).await;
        Self { scene, admins: admins.try_into().unwrap(), lost }
    }

    /// Both admins lift the lockdown, and acknowledge these findings.
    async fn lift(&self, findings: &[String]) {
        let [alice, bob] = &self.admins;
        let proof = |(key_id, secret)| AdminProof { key_id, secret };
        let app = self.scene.ledger.app();
        let asked = request_lift(&app, proof((&alice.0, &alice.1)), "a restore", findings).await;
        confirm_lift(&app, proof((&bob.0, &bob.1)), asked.unwrap().id).await.unwrap();
    }

    /// And acknowledge all that is known.
    async fn accept(&self) {
        let open = open_findings(&Pool::of(&self.scene.ledger.app(), 1)).await.unwrap();
        let id = |finding: &serde_json::Value| finding["finding_id"].as_str().unwrap().to_owned();
        let ids: Vec<_> = open.iter().map(id).collect();
        assert!(!ids.is_empty());
        self.lift(&ids).await;
    }

    /// Somebody who makes checkpoints, with keys in a file that he adds to.
    fn with_kept_keys(&self) -> (Checkpointer, PathBuf) {
        let file = self.scene.folder.path().join("signing.key");
        std::fs::write(&file, &self.scene.signed.lines).unwrap();
        let subject = self.scene.signed.subject(&self.scene.ledger);
        let keys = checkpoints::keys(&self.scene.signed.lines).kept_in(file.clone());
        let appender = self.scene.appender.clone();
        (Checkpointer::new(subject, keys, appender, Clock::system()), file)
    }

    async fn number_of_incarnations(&self) -> i64 {
        let count = "SELECT count(*) FROM incarnations";
        fetch(&mut self.scene.ledger.connect_superuser().await, count).await
    }

    /// What the event that tells of the next incarnation says, and that it is this leaf.
    async fn is_told(&self, leaf: i64) {
        let mut superuser = self.scene.ledger.connect_superuser().await;
        let event = "SELECT e.details || jsonb_build_object('leaf', l.leaf_index,
                'kept', i.previous_checkpoint, 'subject', e.subject)
            FROM incarnations AS i JOIN security_events AS e ON e.id = i.security_event_id
            JOIN ledger_log AS l ON l.chain = 'security_events' AND l.id = e.id WHERE i.id = 2";
        let event: serde_json::Value = fetch(&mut superuser, event).await;
        assert_eq!(event["leaf"], leaf);
        assert_eq!((&event["incarnation"], &event["subject"]), (&2.into(), &NEXT.into()));
        assert_eq!(event["previous"]["origin"], ORIGIN);
        assert_eq!(event["previous"]["checkpoint"], self.lost.note);
        assert_eq!(event["kept"], self.lost.note);
        assert!(event["vkeys"][0].as_str().unwrap().starts_with(NEXT));
    }

    async fn log_size(&self) -> i64 {
        let count = "SELECT count(*) FROM ledger_log";
        fetch(&mut self.scene.ledger.connect_superuser().await, count).await
    }
}

async fn accepted_by(checkpointer: &mut Checkpointer) {
    let round = checkpointer.next_round().await.unwrap();
    let Round::Accepted(incarnation) = round else { panic!("{round:?}") };
    assert_eq!((incarnation.id, incarnation.origin.as_str()), (2, NEXT));
}

#[tokio::test]
async fn a_backup_that_is_accepted_goes_on_under_another_name() {
    let mut restored = Restored::new().await;
    let (mut comes, file) = restored.with_kept_keys();
    restored.scene.is_refused_by(&mut comes).await;
    restored.accept().await;
    assert!(!restored.scene.is_locked().await);
    let leaf = restored.log_size().await;
    accepted_by(&mut comes).await;
    restored.is_told(leaf).await;
    let first = seal(&mut comes).await;
    assert_eq!(i64::try_from(first.head.size.0).unwrap(), leaf + 1);

    // Signed by the new key, and by no other.
    let old = checkpoints::keys(&restored.scene.signed.lines).vkeys();
    assert!(Checkpoint::open(first.note.as_bytes(), &old).is_err());
    let lines = std::fs::read_to_string(file).unwrap();
    assert!(lines.starts_with(&restored.scene.signed.lines));
    let scene = &mut restored.scene;
    scene.signed.lines = lines;
    let both = checkpoints::keys(&scene.signed.lines).vkeys();
    assert_eq!(Checkpoint::open(first.note.as_bytes(), &both).unwrap().origin, NEXT);
    scene.publish().await;
    let anchor = &scene.signed.anchors[0];
    for (origin, note) in [(ORIGIN, &restored.lost.note), (NEXT, &first.note)] {
        assert_eq!(anchor.latest(origin).await.unwrap().as_ref(), Some(note));
    }
    for scope in [Scope::Ledger, Scope::Incremental, Scope::Rolling] {
        assert_verified(&scene.signed.subject(&scene.ledger), scope).await;
    }
    // Who has only the old key signs nothing; who has both goes on.
    let error = scene.stays.next_round().await.unwrap_err();
    assert!(matches!(&error, CheckpointerError::NoKey(origin) if origin == NEXT), "{error}");
    scene.stays = comes;
    for n in 3..5 {
        scene.go_on(n).await;
        assert_eq!(scene.seal().await.incarnation, 2);
    }
    assert!(matches!(scene.comes().next_round().await.unwrap(), Round::Nothing));
    assert_verified(&scene.signed.subject(&scene.ledger), Scope::Ledger).await;

    // The lift has accepted one, and no more.
    let again = "INSERT INTO public.incarnations (origin, lifted_by, security_event_id)
        SELECT 'x', i.lifted_by, 1 FROM public.incarnations AS i WHERE i.id = 2";
    assert_eq!(refused(&mut scene.ledger.connect_app().await, again).await, "AU011");
    restored.scene.finish().await;
}

#[tokio::test]
async fn a_configured_key_of_the_new_name_is_waited_for() {
    let mut restored = Restored::new().await;
    let mut comes = restored.scene.comes();
    restored.scene.is_refused_by(&mut comes).await;
    restored.accept().await;
    for _ in 0..2 {
        let error = comes.next_round().await.unwrap_err();
        assert!(matches!(&error, CheckpointerError::NoKey(origin) if origin == NEXT), "{error}");
    }
    assert_eq!(restored.number_of_incarnations().await, 1);
    assert_eq!(restored.scene.events("INCARNATION_STARTED").await, 1);
    let lines = &mut restored.scene.signed.lines;
    *lines = format!("{lines}\n{}", key_lines(&[NEXT]));
    let leaf = restored.log_size().await;
    let mut comes = restored.scene.comes();
    accepted_by(&mut comes).await;
    restored.is_told(leaf).await;
    restored.scene.stays = comes;
    restored.scene.seal().await;
    let scene = restored.scene;
    for scope in [Scope::Ledger, Scope::Incremental] {
        assert_verified(&scene.signed.subject(&scene.ledger), scope).await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn a_lift_that_acknowledges_nothing_accepts_nothing() {
    let mut restored = Restored::new().await;
    let mut comes = restored.scene.comes();
    restored.scene.is_refused_by(&mut comes).await;
    for by_check in [true, false, true] {
        restored.lift(&[]).await;
        if by_check {
            let subject = restored.scene.signed.subject(&restored.scene.ledger);
            let mut quiet = Quiet::default();
            let done = run_check(&subject, Scope::Ledger, Clock::system(), &mut quiet).await;
            let done = done.unwrap().unwrap();
            assert_eq!(done.report.verdict(), Verdict::RolledBack);
            assert!(done.lockdown.unwrap().is_new);
        } else {
            // Also the one who has said so before.
            assert!(matches!(comes.next_round().await.unwrap(), Round::Refused));
        }
        assert!(restored.scene.is_locked().await);
    }
    restored.scene.is_refused_by_who_stays().await;
    assert_eq!(restored.number_of_incarnations().await, 1);
    restored.scene.finish().await;
}

#[tokio::test]
async fn the_service_alone_begins_no_incarnation() {
    let scene = Scene::begin().await;
    let mut app = scene.ledger.connect_app().await;
    let insert = |lifted_by: &str| {
        format!(
            "INSERT INTO public.incarnations (origin, lifted_by, security_event_id)
             VALUES ('{NEXT}', {lifted_by}, 1)"
        )
    };
    assert_eq!(refused(&mut app, &insert("NULL")).await, "23514");
    assert_eq!(refused(&mut app, &insert("1")).await, "AU011");
    // Not by the line that entered a lockdown, either.
    run(&mut app, "SELECT public.ledger_enter_lockdown('a test', '[]', 'tests')").await;
    assert_eq!(refused(&mut app, &insert("1")).await, "AU011");
    let chosen =
        "INSERT INTO public.incarnations (id, origin, security_event_id) VALUES (1, 'x', 1)";
    assert_eq!(refused(&mut app, chosen).await, "42501");
    drop(app);
    scene.finish().await;
}

#[tokio::test]
async fn the_database_takes_no_checkpoint_that_does_not_go_on() {
    let mut scene = Scene::begin().await;
    grow(&scene.appender, 9).await;
    let last = scene.seal().await;
    let mut app = scene.ledger.connect_app().await;
    let insert = |incarnation: i32, size: u64, root: &str| {
        format!(
            "INSERT INTO public.checkpoints (incarnation, tree_size, root_hash, note)
             VALUES ({incarnation}, {size}, {root}, 'x')"
        )
    };
    let (size, root) = (last.head.size.0, format!("'\\x{}'::bytea", hex::encode(last.head.root.0)));
    let other = format!("sha256({root})");
    for wrong in [
        insert(1, size - 1, &root),
        insert(1, size + 1, &other),
        insert(1, size, &other),
        insert(2, size, &root),
        insert(0, size, &root),
    ] {
        assert_eq!(refused(&mut app, &wrong).await, "AU011", "{wrong}");
    }
    run(&mut app, &format!("BEGIN; {}; ROLLBACK", insert(1, size, &root))).await;
    let chosen = "INSERT INTO public.checkpoints (id, incarnation, tree_size, root_hash, note)
        VALUES (9, 1, 1, '', '')";
    assert_eq!(refused(&mut app, chosen).await, "42501");
    drop(app);
    scene.finish().await;
}

#[tokio::test]
async fn nobody_changes_what_was_signed() {
    let mut scene = Scene::begin().await;
    grow(&scene.appender, 300).await;
    scene.seal().await;
    let mut codes = BTreeSet::new();
    let mut by = Vec::new();
    for role in ["app_trading", "ledger_auditor", "ledger_migrator"] {
        by.push(scene.ledger.connect(role).await);
    }
    by.push(scene.ledger.connect_owner().await);
    by.push(scene.ledger.connect_superuser().await);
    for (table, column) in [
        ("incarnations", "origin"),
        ("checkpoints", "note"),
        ("log_tiles", "root"),
        ("anchor_receipts", "receipt"),
    ] {
        for connection in &mut by {
            for statement in [
                format!("UPDATE public.{table} SET {column} = {column}"),
                format!("DELETE FROM public.{table}"),
                format!("TRUNCATE public.{table} CASCADE"),
                format!("DROP TABLE public.{table} CASCADE"),
            ] {
                codes.insert(refused(connection, &statement).await);
            }
        }
    }
    assert!(codes.iter().all(|code| code == "42501" || code.starts_with("AU")), "{codes:?}");
    drop(by);
    assert_verified(&scene.signed.subject(&scene.ledger), Scope::Ledger).await;
    scene.finish().await;
}
