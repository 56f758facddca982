//! A log that grows: its checkpoints, tiles and proofs, against a tree that the test makes itself.

use std::collections::BTreeSet;

use audit_ledger::integrity::checkpointer::Round;
use audit_ledger::integrity::proofs::{ProveError, prove_consistency, prove_row};
use audit_ledger::integrity::verify::Scope;
use audit_ledger::store::pool::Pool;
use audit_ledger::store::tiles::StoredTree;
use ledger_verifier::TreeSize;
use ledger_verifier::checkpoint::Checkpoint;
use ledger_verifier::merkle::{Subtree, verify_consistency};
use ledger_verifier::proof::TlogProof;
use ledger_verifier::tile::{TileId, TileKind};
use sqlx::postgres::PgConnection;

use crate::common::builders::one_of_each;
use crate::common::checkpoints::{ORIGIN, Oracle, Rounds, Signed, folder, keys};
use crate::common::{TestLedger, fetch, run, soon};
use crate::{assert_verified, grow};

#[tokio::test]
async fn checkpoints_follow_the_log_whoever_makes_them() {
    let (ledger, folder_of_anchor) = (TestLedger::new().await, tempfile::tempdir().unwrap());
    let signed = Signed::with(folder(folder_of_anchor.path()));
    let appender = ledger.appender();
    let mut stays = signed.checkpointer(&ledger, &appender);
    let mut sizes = Vec::new();
    for (n, leaves) in [1, 3, 250, 2, 256, 511, 700].into_iter().enumerate() {
        grow(&appender, leaves).await;
        for row in one_of_each(u32::try_from(n).unwrap()) {
            appender.append(row, soon()).await.unwrap();
        }
        // By the one that remembers, and by one that was just started.
        let mut comes = signed.checkpointer(&ledger, &appender);
        let makes = if n % 2 == 0 { &mut stays } else { &mut comes };
        let Round::Signed(checkpoint, false) = makes.next_round().await.unwrap() else { panic!() };
        sizes.push(checkpoint.head.size);
        for checkpointer in [&mut stays, &mut comes] {
            assert!(matches!(checkpointer.next_round().await.unwrap(), Round::Nothing));
        }
    }
    let mut connection = ledger.connect_superuser().await;
    let oracle = Oracle::read(&mut connection).await;
    let vkeys = keys(&signed.lines).vkeys();
    let notes = "SELECT array_agg(note ORDER BY id) FROM checkpoints";
    let notes: Vec<String> = fetch(&mut connection, notes).await;
    assert_eq!(notes.len(), sizes.len());
    for (note, size) in notes.iter().zip(&sizes) {
        let checkpoint = Checkpoint::open(note.as_bytes(), &vkeys).unwrap();
        assert_eq!(checkpoint.head(), oracle.head(*size));
        assert_eq!(checkpoint.origin, ORIGIN);
    }
    // The first leaf tells of the log's name and keys.
    let told = "SELECT details -> 'vkeys' ->> 0 FROM security_events WHERE event_type = 'INCARNATION_STARTED'";
    assert_eq!(fetch::<String>(&mut connection, told).await, vkeys[0].to_string());

    tiles_are_those_of(&oracle, &mut connection, *sizes.last().unwrap()).await;
    for scope in [Scope::Ledger, Scope::Incremental, Scope::Rolling] {
        assert_verified(&signed.subject(&ledger), scope).await;
    }
    drop((appender, stays));
    ledger.finish().await;
}

async fn tiles_are_those_of(oracle: &Oracle, connection: &mut PgConnection, last: TreeSize) {
    let stored = "SELECT count(*) FROM log_tiles";
    assert_eq!(fetch::<i64>(connection, stored).await, i64::try_from(last.0 / 256).unwrap());
    for size in [1, 2, 255, 256, 257, 512, 1000, last.0] {
        let size = TreeSize(size);
        let tree = StoredTree { incarnation: 1, size };
        assert_eq!(tree.restore(connection).await.unwrap().head(), oracle.head(size));
        for level in 0..3 {
            for index in 0..(size.0 >> (8 * level)).div_ceil(256) {
                let kind = TileKind::Hashes(level);
                let tile = TileId::in_tree(kind, index, size).unwrap();
                let found = tree.tiles(connection, &BTreeSet::from([tile])).await.unwrap();
                let expected: Vec<_> = (0..u64::from(tile.width))
                    .map(|at| Subtree { level: 8 * level, index: 256 * index + at })
                    .map(|subtree| oracle.subtrees[&subtree])
                    .collect();
                assert_eq!(found[&tile], expected, "{tile}");
            }
        }
    }
}

#[tokio::test]
async fn every_row_and_every_two_sizes_are_proved() {
    let (ledger, folder_of_anchor) = (TestLedger::new().await, tempfile::tempdir().unwrap());
    let signed = Signed::with(folder(folder_of_anchor.path()));
    let appender = ledger.appender();
    let outside = signed.subject(&ledger).outside;
    let pool = Pool::of(&ledger.app(), 2);
    let chain = "security_events";
    let none = prove_row(&pool, &outside, chain, 1).await.unwrap_err();
    assert!(matches!(none, ProveError::NoRow), "{none}");
    grow(&appender, 600).await;
    let none = prove_row(&pool, &outside, chain, 1).await.unwrap_err();
    assert!(matches!(none, ProveError::NotCovered(TreeSize(0))), "{none}");
    let last = signed.seal(&ledger, &appender).await;
    grow(&appender, 1).await;

    let vkeys = keys(&signed.lines).vkeys();
    let mut connection = ledger.connect_superuser().await;
    let oracle = Oracle::read(&mut connection).await;
    for id in 1..=601 {
        let proof = prove_row(&pool, &outside, chain, id).await.unwrap();
        assert_eq!(proof.head, oracle.head(last.head.size));
        let text = proof.to_tlog_proof().to_string();
        let read = TlogProof::parse(&text).unwrap();
        let checkpoint = read.verify(proof.row_hash, &vkeys).unwrap();
        assert_eq!(checkpoint.size, last.head.size);
    }
    let beyond = prove_row(&pool, &outside, chain, 602).await.unwrap_err();
    assert!(matches!(beyond, ProveError::NotCovered(size) if size == last.head.size), "{beyond}");

    let sizes = [0, 1, 2, 255, 256, 257, 300, 511, 512, 513, 600, 601];
    for (at, from) in sizes.into_iter().enumerate() {
        for to in sizes.into_iter().skip(at).map(TreeSize) {
            let proof = prove_consistency(&pool, &outside, TreeSize(from), Some(to)).await.unwrap();
            assert_eq!((proof.from, proof.to), (oracle.head(TreeSize(from)), oracle.head(to)));
            verify_consistency(proof.from, &proof.hashes, proof.to).unwrap();
        }
    }
    let shrinks = prove_consistency(&pool, &outside, TreeSize(2), Some(TreeSize(1))).await;
    assert!(matches!(shrinks, Err(ProveError::Sizes(_))));
    let beyond = prove_consistency(&pool, &outside, TreeSize(2), Some(TreeSize(602))).await;
    assert!(matches!(beyond, Err(ProveError::NotCovered(_))));
    drop((appender, connection));
    ledger.finish().await;
}

#[tokio::test]
async fn a_key_is_replaced_by_another_while_both_sign() {
    let (ledger, folder_of_anchor) = (TestLedger::new().await, tempfile::tempdir().unwrap());
    let anchors = folder(folder_of_anchor.path());
    let old = Signed::with(anchors.clone());
    let new = Signed::with(anchors.clone());
    let both = Signed { lines: format!("{}\n{}", old.lines, new.lines), anchors };
    let appender = ledger.appender();
    let mut connection = ledger.connect_superuser().await;
    for (by, verifies) in [(&old, [true, false]), (&both, [true, true]), (&new, [false, true])] {
        grow(&appender, 5).await;
        let checkpoint = by.seal(&ledger, &appender).await;
        for (signed, verifies) in [&old, &new].into_iter().zip(verifies) {
            let opened = Checkpoint::open(checkpoint.note.as_bytes(), &keys(&signed.lines).vkeys());
            assert_eq!(opened.is_ok(), verifies, "{opened:?}");
        }
        // What the old key alone has signed is still the log's word.
        assert_verified(&by.subject(&ledger), Scope::Ledger).await;
    }
    let changes = "SELECT count(*) FROM security_events WHERE event_type = 'SIGNING_KEYS_CHANGED'";
    assert_eq!(fetch::<i64>(&mut connection, changes).await, 2);
    // Somebody else's key signs nothing of this log.
    let strange = Signed { lines: crate::common::checkpoints::key_lines(&["elsewhere"]), ..new };
    let error = strange.checkpointer(&ledger, &appender).next_round().await.unwrap_err();
    assert!(error.to_string().contains(ORIGIN), "{error}");
    drop((appender, connection));
    ledger.finish().await;
}

#[tokio::test]
async fn one_at_a_time_makes_checkpoints_and_none_waits() {
    let ledger = TestLedger::new().await;
    let signed = Signed::with(std::sync::Arc::new([]));
    let appender = ledger.appender();
    grow(&appender, 3).await;
    let mut app = ledger.connect_app().await;
    run(&mut app, "BEGIN; SELECT public.ledger_begin_checkpoint()").await;
    let mut checkpointer = signed.checkpointer(&ledger, &appender);
    assert!(matches!(checkpointer.round().await.unwrap(), Round::Busy));
    run(&mut app, "ROLLBACK").await;
    assert!(matches!(checkpointer.next_round().await.unwrap(), Round::Signed(_, false)));
    // Eight at once, with rows that come all the time: one history, whoever signs.
    let racing = (0..8).map(|_| {
        let mut checkpointer = signed.checkpointer(&ledger, &appender);
        let appender = appender.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                grow(&appender, 7).await;
                let round = checkpointer.round().await.unwrap();
                assert!(!matches!(round, Round::Refused | Round::Accepted(_)), "{round:?}");
            }
        })
    });
    for raced in racing.collect::<Vec<_>>() {
        raced.await.unwrap();
    }
    assert_verified(&signed.subject(&ledger), Scope::Ledger).await;
    drop((appender, app, checkpointer));
    ledger.finish().await;
}
