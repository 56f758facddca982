//! What somebody with every right to the database rewrites, and hashes again to the end: the ledger
//! proves itself, and only what was signed and is held outside shows that it is another one.

use audit_ledger::integrity::checkpointer::{CheckpointerError, Round};
use audit_ledger::integrity::report::Verdict;
use audit_ledger::integrity::verify::Scope;
use futures_util::StreamExt;

use crate::common::builders::signal;
use crate::common::checkpoints::{ORIGIN, Oracle, Rounds, key_lines, keys, note};
use crate::common::forger::Forger;
use crate::scene::{Kinds, Scene, kinds};
use crate::{assert_verified, grow};

/// What is done to the rows, or to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// A row says something else.
    Changed,
    /// A row stands where none was.
    Inserted,
    /// Two rows have changed places.
    Swapped,
    /// Two leaves have: their chains are what they were.
    Reordered,
    /// A chain is gone.
    Chain,
    /// The last leaves are gone, but for two behind the second checkpoint.
    Tail,
}

/// What is done about the tiles and checkpoints in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    /// Nothing.
    None,
    /// Tiles are those of the new log; for all others, too.
    Tiles,
    /// Checkpoints are gone.
    Deleted,
    /// They are those of the new log, under the signatures of the old ones.
    Unsigned,
    /// They are signed, by the attacker.
    Signed,
    /// And an event names his key.
    KeyOnRecord,
}

const COVERS: [Cover; 6] =
    [Cover::None, Cover::Tiles, Cover::Deleted, Cover::Unsigned, Cover::Signed, Cover::KeyOnRecord];

impl Attack {
    async fn run(self, forger: &mut Forger) {
        match self {
            Self::Changed => {
                forger.run("UPDATE signals SET price = price + 1 WHERE id = 1").await;
            }
            Self::Inserted => {
                forger.make_room("security_events", 100).await;
                let insert = "INSERT INTO security_events
                        (id, event_type, actor, subject, details_text, prev_hash, row_hash, created_at)
                    SELECT 100, e.event_type, e.actor, 'nobody', e.details_text, e.prev_hash,
                           e.row_hash, e.created_at FROM security_events AS e WHERE e.id = 99";
                forger.run(insert).await;
            }
            Self::Swapped => {
                let swap = "UPDATE security_events AS e
                    SET subject = o.subject, details_text = o.details_text
                    FROM security_events AS o WHERE e.id IN (50, 51) AND o.id = 101 - e.id";
                forger.run(swap).await;
            }
            Self::Reordered => {
                // A delivery, and the signal behind it.
                let swap = "UPDATE ledger_log SET leaf_index = -l.leaf_index FROM ledger_log AS l
                    WHERE l.leaf_index IN (268, 269) AND ledger_log.leaf_index = 537 - l.leaf_index";
                forger.run(swap).await;
                forger
                    .run("UPDATE ledger_log SET leaf_index = -leaf_index WHERE leaf_index < 0")
                    .await;
            }
            Self::Chain => forger.run("DELETE FROM quarantined_deliveries").await,
            Self::Tail => forger.cut(Scene::SIZES[1] + 2).await,
        }
    }

    /// What a full check calls it.
    fn full(self, cover: Cover) -> Kinds {
        let is_tail = self == Self::Tail;
        match cover {
            Cover::None | Cover::Tiles if is_tail => Kinds::from(["truncated"]),
            Cover::Deleted => Kinds::from(["rolled_back"]),
            // What is left of them is true, and the last one is not there.
            Cover::Unsigned if is_tail => Kinds::from(["rolled_back"]),
            Cover::Signed | Cover::KeyOnRecord if is_tail => Kinds::from(["forked", "rolled_back"]),
            _ => Kinds::from(["forked"]),
        }
    }

    /// What an incremental check calls it, which looks at nothing where its start is not what it was.
    fn incremental(self, cover: Cover) -> Kinds {
        let is_shorter = matches!(self, Self::Tail | Self::Chain);
        match cover {
            Cover::None | Cover::Tiles if is_shorter => Kinds::from(["truncated"]),
            Cover::Deleted => Kinds::from(["rolled_back"]),
            Cover::Unsigned if self == Self::Tail => Kinds::from(["rolled_back"]),
            _ => Kinds::from(["forked"]),
        }
    }
}

impl Cover {
    async fn run(self, forger: &mut Forger) {
        let own = key_lines(&[ORIGIN]);
        if self == Self::KeyOnRecord {
            let vkey = keys(&own).vkeys()[0].to_string();
            forger.add_event("SIGNING_KEYS_CHANGED", &format!(r#"{{"vkeys":["{vkey}"]}}"#)).await;
        }
        forger.hash_again().await;
        if self == Self::None {
            return;
        }
        let tree = forger.tree().await;
        forger.make_tiles(&tree).await;
        match self {
            Self::None | Self::Tiles => {}
            Self::Deleted => forger.forget_checkpoints(0).await,
            Self::Unsigned => sign_nothing(forger, &tree).await,
            Self::Signed | Self::KeyOnRecord => forger.sign_again(&tree, &own).await,
        }
    }
}

/// A signature of the log's own key under a text that it never signed.
async fn sign_nothing(forger: &mut Forger, tree: &Oracle) {
    forger.run("CREATE TEMP TABLE old ON COMMIT DROP AS SELECT * FROM checkpoints").await;
    forger.sign_again(tree, &key_lines(&[ORIGIN])).await;
    let move_signatures = "UPDATE checkpoints SET note =
            split_part(checkpoints.note, E'\\n\\n', 1) || E'\\n\\n'
                || split_part(o.note, E'\\n\\n', 2)
        FROM old AS o WHERE o.id = checkpoints.id";
    forger.run(move_signatures).await;
}

async fn is_found_under_every_cover(attack: Attack) {
    let each = COVERS.into_iter().enumerate().map(async |(n, cover)| {
        let scene = Scene::new().await;
        let mut forger = Forger::begin(&scene.ledger).await;
        attack.run(&mut forger).await;
        cover.run(&mut forger).await;
        forger.end().await;
        println!("{attack:?} {cover:?} of {}", scene.ledger.name());
        finds(&scene, Scope::Ledger, attack.full(cover)).await;
        finds(&scene, Scope::Incremental, attack.incremental(cover)).await;
        scene.go_on(100).await;
        refuse_both(scene, n % 2 == 0).await;
    });
    at_once(each).await;
}

/// Each on a ledger of its own, most of whose time goes into waiting for the disk.
async fn at_once(each: impl Iterator<Item: Future<Output = ()>>) {
    futures_util::stream::iter(each).buffer_unordered(COVERS.len()).collect::<()>().await;
}

async fn finds(scene: &Scene, scope: Scope, expected: Kinds) {
    let report = scene.look(scope).await;
    assert_eq!(kinds(&report), expected, "{scope:?} {}: {:?}", scene.ledger.name(), report.chains);
    let verdict = match kinds(&report) {
        none if none.is_empty() => Verdict::Verified,
        behind if behind == Kinds::from(["rolled_back"]) => Verdict::RolledBack,
        _ => Verdict::Tampered,
    };
    assert_eq!(report.verdict(), verdict);
}

/// Neither who remembers nor who comes signs anything; and the ledger proves itself to the last row.
async fn refuse_both(mut scene: Scene, comes_first: bool) {
    let mut comes = scene.comes();
    if comes_first {
        scene.is_refused_by(&mut comes).await;
    }
    scene.is_refused_by_who_stays().await;
    if !comes_first {
        scene.is_refused_by(&mut comes).await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn a_changed_row_is_found() {
    is_found_under_every_cover(Attack::Changed).await;
}

#[tokio::test]
async fn an_inserted_row_is_found() {
    is_found_under_every_cover(Attack::Inserted).await;
}

#[tokio::test]
async fn rows_that_changed_places_are_found() {
    is_found_under_every_cover(Attack::Swapped).await;
}

#[tokio::test]
async fn leaves_that_changed_places_are_found() {
    is_found_under_every_cover(Attack::Reordered).await;
}

#[tokio::test]
async fn a_chain_that_is_gone_is_found() {
    is_found_under_every_cover(Attack::Chain).await;
}

#[tokio::test]
async fn rows_that_are_gone_from_the_end_are_found() {
    is_found_under_every_cover(Attack::Tail).await;
}

/// Behind the second checkpoint, so that what went before is as it was.
const CHANGE_AT_THE_END: &str = "UPDATE security_events SET subject = 'nobody'
    WHERE id = (SELECT max(e.id) FROM security_events AS e)";

#[tokio::test]
async fn a_restored_backup_is_behind_and_told_so() {
    let is_behind = || Kinds::from(["rolled_back"]);
    for (is_dump, goes_on) in [(false, 0), (false, 3), (true, 1)] {
        let mut scene = Scene::new().await;
        let backup = if is_dump {
            scene.ledger.dump(&scene.folder.path().join("dump"));
            None
        } else {
            Some(scene.ledger.copy().await)
        };
        scene.go_on(50).await;
        scene.seal().await;
        match backup {
            Some(backup) => scene.ledger.restore(backup).await,
            None => scene.ledger.restore_dump(&scene.folder.path().join("dump")).await,
        }
        // Past the size of what the anchor holds.
        for n in 0..goes_on {
            scene.go_on(60 + n).await;
        }
        finds(&scene, Scope::Ledger, is_behind()).await;
        finds(&scene, Scope::Incremental, is_behind()).await;
        refuse_both(scene, goes_on > 0).await;
    }
}

#[tokio::test]
async fn checkpoints_that_are_gone_are_made_again_where_the_log_is_the_same() {
    let mut scene = Scene::new().await;
    let mut forger = Forger::begin(&scene.ledger).await;
    forger.forget_checkpoints(Scene::SIZES[1]).await;
    forger.end().await;
    for scope in [Scope::Ledger, Scope::Incremental] {
        finds(&scene, scope, Kinds::new()).await;
    }
    // The same root of the same size, and so the same note.
    assert_eq!(scene.seal().await.head.size.0, Scene::SIZES[2]);
    scene.go_on(100).await;
    scene.seal().await;
    assert_verified(&scene.signed.subject(&scene.ledger), Scope::Ledger).await;
    scene.finish().await;
}

#[tokio::test]
async fn checkpoints_are_deleted_back_to_one_before_the_change() {
    for is_first in [true, false] {
        let scene = Scene::new().await;
        let mut forger = Forger::begin(&scene.ledger).await;
        forger.run(CHANGE_AT_THE_END).await;
        forger.hash_again().await;
        forger.forget_checkpoints(Scene::SIZES[1]).await;
        forger.end().await;
        for scope in [Scope::Ledger, Scope::Incremental] {
            finds(&scene, scope, Kinds::from(["rolled_back"])).await;
        }
        refuse_both(scene, is_first).await;
    }
}

#[tokio::test]
async fn a_checkpoint_that_says_something_else_is_found() {
    let each = [
        ("root_hash = sha256(root_hash)", true),
        ("root_hash = sha256(root_hash)", false),
        ("tree_size = tree_size - 1", true),
        ("tree_size = tree_size + 1000", true),
        ("tree_size = tree_size - 1", false),
        ("note = (SELECT c.note FROM checkpoints AS c WHERE c.id = 1)", true),
        ("note = overlay(note PLACING 'x' FROM 1 FOR 1)", false),
        ("note = ''", true),
    ];
    let each = each.into_iter().map(async |(falsified, is_last)| {
        println!("{falsified} {is_last}");
        let scene = Scene::new().await;
        let mut forger = Forger::begin(&scene.ledger).await;
        let which = if is_last { "(SELECT max(c.id) FROM checkpoints AS c)" } else { "2" };
        forger.run(&format!("UPDATE checkpoints SET {falsified} WHERE id = {which}")).await;
        forger.end().await;
        finds(&scene, Scope::Ledger, Kinds::from(["forked"])).await;
        if is_last {
            finds(&scene, Scope::Incremental, Kinds::from(["forked"])).await;
            refuse_both(scene, falsified.starts_with("note")).await;
        } else {
            // The last one commits to all before it.
            finds(&scene, Scope::Incremental, Kinds::new()).await;
            scene.finish().await;
        }
    });
    at_once(each).await;
}

#[tokio::test]
async fn without_an_anchor_the_services_own_key_and_memory_show_it() {
    for cover in [Cover::Signed, Cover::KeyOnRecord, Cover::Deleted] {
        let mut scene = Scene::new().await;
        // What the anchor holds is not looked at.
        scene.forget_anchors();
        let mut comes = scene.comes();
        assert!(matches!(comes.next_round().await.unwrap(), Round::Nothing));
        scene.stays = comes;
        let mut forger = Forger::begin(&scene.ledger).await;
        Attack::Changed.run(&mut forger).await;
        cover.run(&mut forger).await;
        forger.end().await;
        scene.go_on(100).await;
        if cover == Cover::Deleted {
            // Nothing is left that says otherwise, but for who remembers.
            finds(&scene, Scope::Ledger, Kinds::new()).await;
            scene.is_refused_by_who_stays().await;
            scene.finish().await;
            continue;
        }
        finds(&scene, Scope::Ledger, Kinds::from(["forked"])).await;
        finds(&scene, Scope::Incremental, Kinds::from(["forked"])).await;
        refuse_both(scene, cover == Cover::Signed).await;
    }
}

/// Whoever goes on reads what came since, and of what was before the tree's right edge and each chain's
/// last row. A change farther back is found by who reads it again.
#[tokio::test]
async fn a_change_far_back_is_found_by_checks_of_what_was_before() {
    let mut scene = Scene::begin().await;
    scene.append_all(vec![signal(1).into(), signal(2).into()]).await;
    grow(&scene.appender, 300).await;
    scene.seal().await;
    let mut forger = Forger::begin(&scene.ledger).await;
    Attack::Changed.run(&mut forger).await;
    forger.hash_again().await;
    forger.end().await;
    finds(&scene, Scope::Incremental, Kinds::new()).await;
    grow(&scene.appender, 1).await;
    let round = scene.comes().next_round().await.unwrap();
    assert!(matches!(round, Round::Signed(_, false)), "{round:?}");
    for scope in [Scope::Ledger, Scope::Rolling] {
        finds(&scene, scope, Kinds::from(["forked"])).await;
    }
    scene.finish().await;
}

/// What no checkpoint covered, nobody has signed.
#[tokio::test]
async fn rows_that_come_and_go_between_two_checkpoints_are_not_missed() {
    let mut scene = Scene::new().await;
    scene.go_on(100).await;
    let mut forger = Forger::begin(&scene.ledger).await;
    forger.cut(Scene::SIZES[2] + 1).await;
    forger.hash_again().await;
    forger.end().await;
    for scope in [Scope::Ledger, Scope::Incremental] {
        finds(&scene, scope, Kinds::new()).await;
    }
    scene.go_on(101).await;
    scene.seal().await;
    assert!(matches!(scene.comes().next_round().await.unwrap(), Round::Nothing));
    scene.finish().await;
}

#[tokio::test]
async fn who_begins_the_log_anew_is_behind_what_the_anchor_holds() {
    for is_first in [true, false] {
        let scene = Scene::new().await;
        let mut forger = Forger::begin(&scene.ledger).await;
        Attack::Changed.run(&mut forger).await;
        forger.forget_checkpoints(0).await;
        forger.run("DELETE FROM log_tiles; DELETE FROM incarnations").await;
        forger.hash_again().await;
        forger.end().await;
        for scope in [Scope::Ledger, Scope::Incremental] {
            finds(&scene, scope, Kinds::from(["rolled_back"])).await;
        }
        refuse_both(scene, is_first).await;
    }
}

/// An incarnation that the service never began, with a key that it does not have.
#[tokio::test]
async fn a_log_of_another_name_is_not_verified_by_its_own_word() {
    let mut scene = Scene::new().await;
    let origin = format!("{ORIGIN}/i2");
    let own = key_lines(&[&origin]);
    let mut forger = Forger::begin(&scene.ledger).await;
    Attack::Changed.run(&mut forger).await;
    let vkey = keys(&own).vkeys()[0].to_string();
    forger.add_event("INCARNATION_STARTED", &format!(r#"{{"vkeys":["{vkey}"]}}"#)).await;
    forger.hash_again().await;
    let tree = forger.tree().await;
    forger.make_tiles(&tree).await;
    let head = *tree.heads.last().unwrap();
    let (size, root, note) = (head.size, head.root, note(&origin, head, &own));
    let begin = format!(
        "UPDATE log_tiles SET incarnation = 2;
         INSERT INTO incarnations (id, origin, lifted_by, security_event_id)
         SELECT 2, '{origin}', 1, max(e.id) FROM security_events AS e;
         INSERT INTO checkpoints (id, incarnation, tree_size, root_hash, note)
         SELECT max(c.id) + 1, 2, {size}, decode('{}', 'hex'), '{note}' FROM checkpoints AS c",
        hex::encode(root.0)
    );
    forger.run(&begin).await;
    forger.end().await;
    for scope in [Scope::Ledger, Scope::Incremental, Scope::Rolling] {
        let report = scene.look(scope).await;
        assert_eq!(report.verdict(), Verdict::Unfinished, "{:?}", report.chains);
        assert!(
            report
                .chains
                .iter()
                .any(|chain| { chain.error.as_ref().is_some_and(|error| error.contains(&origin)) })
        );
    }
    let mut comes = scene.comes();
    for checkpointer in [&mut scene.stays, &mut comes] {
        let error = checkpointer.next_round().await.unwrap_err();
        assert!(matches!(&error, CheckpointerError::NoKey(of) if *of == origin), "{error}");
    }
    scene.finish().await;
}

#[tokio::test]
async fn tiles_that_are_not_those_of_the_log_are_found() {
    for (falsified, is_of_edge) in [
        ("UPDATE log_tiles SET root = sha256(root)", true),
        ("UPDATE log_tiles SET hashes = overlay(hashes PLACING '\\x00' FROM 100)", false),
        ("DELETE FROM log_tiles", true),
    ] {
        let mut scene = Scene::new().await;
        let mut forger = Forger::begin(&scene.ledger).await;
        forger.run(falsified).await;
        forger.end().await;
        finds(&scene, Scope::Ledger, Kinds::from(["forked"])).await;
        // Whoever goes on needs the tree's right edge alone.
        if is_of_edge {
            scene.go_on(100).await;
            finds(&scene, Scope::Incremental, Kinds::from(["forked"])).await;
            refuse_both(scene, falsified.starts_with("DELETE")).await;
            continue;
        }
        finds(&scene, Scope::Incremental, Kinds::new()).await;
        scene.go_on(100).await;
        scene.seal().await;
        scene.finish().await;
    }
}
