//! The superuser who covers his tracks: he puts every guard out of the way, changes what he likes,
//! hashes everything again to the end, and puts every guard back. What he leaves is a ledger that
//! proves itself; only something kept elsewhere shows that it is another one.

use audit_ledger::chains::IN_LEDGER;
use ledger_verifier::merkle::Subtree;
use ledger_verifier::tile::TILE_HEIGHT;
use ledger_verifier::{Chain, RowHash, Value, row_hash};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::checkpoints::{ORIGIN, Oracle, note};
use super::read_back::read_chain;
use super::{TestLedger, fetch, run};

/// Opens the transaction of a superuser who will leave everything as it was.
pub(crate) const COVER: &str = "BEGIN;
    ALTER EVENT TRIGGER ledger_guard_ddl DISABLE;
    DO $$
    DECLARE
        guarded regclass;
    BEGIN
        FOR guarded IN SELECT DISTINCT t.tgrelid::regclass FROM pg_trigger AS t
            JOIN pg_class AS c ON c.oid = t.tgrelid AND c.relnamespace = 'public'::regnamespace
        LOOP
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', guarded);
        END LOOP;
    END
    $$";
/// And closes it. Every trigger that is not a foreign key's was ENABLE ALWAYS.
pub(crate) const UNCOVER: &str = "DO $$
    DECLARE
        guard record;
    BEGIN
        FOR guard IN SELECT t.tgrelid::regclass AS guarded, t.tgname, t.tgisinternal
            FROM pg_trigger AS t
            JOIN pg_class AS c ON c.oid = t.tgrelid AND c.relnamespace = 'public'::regnamespace
        LOOP
            EXECUTE format('ALTER TABLE %s ENABLE %s TRIGGER %I', guard.guarded,
                CASE WHEN guard.tgisinternal THEN '' ELSE 'ALWAYS' END, guard.tgname);
        END LOOP;
    END
    $$;
    ALTER EVENT TRIGGER ledger_guard_ddl ENABLE ALWAYS;
    COMMIT";

/// Out of the way of every number that a ledger in a test has.
const APART: &str = "1000000";

/// One such superuser at work, in a transaction of his.
pub(crate) struct Forger {
    connection: PgConnection,
    /// What puts back the constraints that prove each row's hash.
    proofs: String,
}

impl Forger {
    /// Puts every guard out of the way.
    pub(crate) async fn begin(ledger: &TestLedger) -> Self {
        let mut connection = ledger.connect_superuser().await;
        run(&mut connection, COVER).await;
        let proofs = |what: &str| {
            format!(
                "SELECT string_agg(format('ALTER TABLE %s {what};', conrelid::regclass, conname,
                                          pg_get_constraintdef(oid)), ' ')
                 FROM pg_constraint WHERE conname LIKE '%\\_row\\_hash\\_correct'"
            )
        };
        let back = proofs("ADD CONSTRAINT %I %s");
        let back: String = fetch(&mut connection, &back).await;
        let away: String = fetch(&mut connection, &proofs("DROP CONSTRAINT %I")).await;
        run(&mut connection, &away).await;
        Self { connection, proofs: back }
    }

    /// Changes what he likes.
    pub(crate) async fn run(&mut self, sql: &str) {
        run(&mut self.connection, sql).await;
    }

    /// Makes room for a row, and for its leaf behind that of the row before.
    pub(crate) async fn make_room(&mut self, chain: &str, id: i64) {
        let shift = format!(
            "UPDATE {chain} SET id = id + {APART} WHERE id >= {id};
             UPDATE {chain} SET id = id - {APART} + 1 WHERE id >= {APART};
             UPDATE ledger_log SET leaf_index = leaf_index + {APART}
             WHERE leaf_index > (SELECT l.leaf_index FROM ledger_log AS l
                                 WHERE l.chain = '{chain}' AND l.id = {id} - 1);
             UPDATE ledger_log SET leaf_index = leaf_index - {APART} + 1
             WHERE leaf_index >= {APART};
             UPDATE ledger_log SET id = id + {APART} WHERE chain = '{chain}' AND id >= {id};
             UPDATE ledger_log SET id = id - {APART} + 1 WHERE id >= {APART};
             INSERT INTO ledger_log (leaf_index, chain, id, row_hash)
             SELECT l.leaf_index + 1, l.chain, {id}, l.row_hash FROM ledger_log AS l
             WHERE l.chain = '{chain}' AND l.id = {id} - 1"
        );
        self.run(&shift).await;
    }

    /// Cuts the log off behind so many leaves, and the chains with it.
    pub(crate) async fn cut(&mut self, leaves: u64) {
        for chain in IN_LEDGER {
            let name = chain.name;
            let cut = format!(
                "DELETE FROM {name} WHERE id IN (SELECT l.id FROM ledger_log AS l
                     WHERE l.chain = '{name}' AND l.leaf_index >= {leaves})"
            );
            self.run(&cut).await;
        }
        self.run(&format!("DELETE FROM ledger_log WHERE leaf_index >= {leaves}")).await;
    }

    /// Appends an event of his own.
    pub(crate) async fn add_event(&mut self, event_type: &str, details: &str) {
        let add = format!(
            "INSERT INTO security_events
                 (id, event_type, actor, subject, details_text, prev_hash, row_hash, created_at)
             SELECT e.id + 1, '{event_type}', 'system', '{ORIGIN}', '{details}', e.prev_hash,
                    e.row_hash, e.created_at FROM security_events AS e ORDER BY e.id DESC LIMIT 1;
             INSERT INTO ledger_log (leaf_index, chain, id, row_hash)
             SELECT (SELECT max(l.leaf_index) + 1 FROM ledger_log AS l), 'security_events', e.id,
                    e.row_hash FROM security_events AS e ORDER BY e.id DESC LIMIT 1"
        );
        self.run(&add).await;
    }

    /// Hashes every row again, and the log with them: rows that are gone have no leaf any more.
    pub(crate) async fn hash_again(&mut self) {
        for chain in IN_LEDGER {
            self.hash_chain(chain).await;
        }
        let renumber = format!(
            "UPDATE ledger_log SET leaf_index = n.leaf_index + {APART}
             FROM (SELECT l.chain, l.id, row_number() OVER (ORDER BY l.leaf_index) - 1 AS leaf_index
                   FROM ledger_log AS l) AS n
             WHERE n.chain = ledger_log.chain AND n.id = ledger_log.id;
             UPDATE ledger_log SET leaf_index = leaf_index - {APART}"
        );
        self.run(&renumber).await;
    }

    async fn hash_chain(&mut self, chain: &'static Chain) {
        let name = chain.name;
        let (mut ids, mut before, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        let mut prev = RowHash::genesis(name);
        for row in read_chain(&mut self.connection, chain).await {
            let [Value::Integer(id), ..] = row.values[..] else { panic!("a row without an id") };
            let hash = row_hash(chain, prev, &row.values).unwrap();
            ids.push(id);
            before.push(text(prev));
            hashes.push(text(hash));
            prev = hash;
        }
        let update = format!(
            "UPDATE {name} SET prev_hash = n.prev_hash, row_hash = n.row_hash
             FROM unnest($1::bigint[], $2::text[], $3::text[]) AS n (id, prev_hash, row_hash)
             WHERE n.id = {name}.id AND n.row_hash <> {name}.row_hash::text"
        );
        let update = sqlx::query(AssertSqlSafe(update)).bind(ids).bind(before).bind(hashes);
        update.execute(&mut self.connection).await.unwrap();
        let follow = format!(
            "UPDATE ledger_log SET row_hash = r.row_hash FROM {name} AS r
             WHERE ledger_log.chain = '{name}' AND r.id = ledger_log.id;
             DELETE FROM ledger_log WHERE chain = '{name}'
                 AND NOT EXISTS (SELECT FROM {name} AS r WHERE r.id = ledger_log.id)"
        );
        self.run(&follow).await;
    }

    /// The tree over the log as it is now.
    pub(crate) async fn tree(&mut self) -> Oracle {
        Oracle::read(&mut self.connection).await
    }

    /// Replaces every tile by that of the log as it is now.
    pub(crate) async fn make_tiles(&mut self, tree: &Oracle) {
        self.run("DELETE FROM log_tiles").await;
        for (Subtree { level, index }, root) in &tree.subtrees {
            if *level == 0 || !level.is_multiple_of(TILE_HEIGHT) {
                continue;
            }
            let below = level - TILE_HEIGHT;
            let hashes: Vec<u8> = (index << TILE_HEIGHT..(index + 1) << TILE_HEIGHT)
                .flat_map(|index| tree.subtrees[&Subtree { level: below, index }].0)
                .collect();
            let insert = sqlx::query(
                "INSERT INTO log_tiles (incarnation, level, index, hashes, root)
                 VALUES (1, $1, $2, $3, $4)",
            );
            let insert = insert.bind(i16::from(below / TILE_HEIGHT));
            let insert = insert.bind(i64::try_from(*index).unwrap());
            let insert = insert.bind(hashes).bind(root.0.as_slice());
            insert.execute(&mut self.connection).await.unwrap();
        }
    }

    /// Makes every checkpoint one of the log as it is now, signed with this key of his. Those of more
    /// leaves are gone.
    pub(crate) async fn sign_again(&mut self, tree: &Oracle, lines: &str) {
        let sizes = "SELECT array_agg(tree_size ORDER BY id) FROM checkpoints";
        let sizes: Vec<i64> = fetch(&mut self.connection, sizes).await;
        for size in sizes {
            let Some(head) = usize::try_from(size).ok().and_then(|size| tree.heads.get(size))
            else {
                self.run(&format!("DELETE FROM checkpoints WHERE tree_size = {size}")).await;
                continue;
            };
            let sign = sqlx::query(
                "UPDATE checkpoints SET root_hash = $1, note = $2 WHERE tree_size = $3",
            );
            sign.bind(head.root.0.as_slice())
                .bind(note(ORIGIN, *head, lines))
                .bind(size)
                .execute(&mut self.connection)
                .await
                .unwrap();
        }
    }

    /// Removes every checkpoint of more leaves, and what anchors said of it.
    pub(crate) async fn forget_checkpoints(&mut self, leaves: u64) {
        let forget = format!(
            "DELETE FROM anchor_receipts AS r USING checkpoints AS c
             WHERE c.id = r.checkpoint_id AND c.tree_size > {leaves};
             DELETE FROM checkpoints WHERE tree_size > {leaves}"
        );
        self.run(&forget).await;
    }

    /// Puts every guard back.
    pub(crate) async fn end(mut self) {
        let end = format!("{}; {UNCOVER}", self.proofs);
        self.run(&end).await;
    }
}

fn text(hash: RowHash) -> String {
    String::from_utf8(hash.to_hex().to_vec()).unwrap()
}
