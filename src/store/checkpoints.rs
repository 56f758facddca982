//! Signed checkpoints, incarnations of the log, and what anchors have confirmed. The tables and their
//! rules are in `migrations/0012_checkpoints.sql`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_verifier::TreeSize;
use ledger_verifier::merkle::{TreeHash, TreeHead};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, PgExecutor, Row};

use super::feed::count_leaves;
use super::pool::Pool;
use super::tiles::{StoredTree, insert_tiles};
use super::{Database, InStatement, StoreError};
use crate::integrity::tree::FullTile;

/// A checkpoint as the database holds it, nothing about it trusted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Its number.
    pub id: i64,
    /// The incarnation that it is of.
    pub incarnation: i32,
    /// Size and root, as the columns say.
    pub head: TreeHead,
    /// The signed note.
    pub note: String,
    /// When it was made, by the database's clock.
    pub signed_at: DateTime<Utc>,
}

/// An incarnation of the log, as the database says.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Incarnation {
    /// 1, 2, 3, …
    pub id: i32,
    /// The name of the log and of its keys.
    pub origin: String,
    /// The last note of the origin before.
    pub previous_checkpoint: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
}

impl StoredCheckpoint {
    /// The tree that it is of, as it is stored.
    pub fn tree(&self) -> StoredTree {
        StoredTree { incarnation: self.incarnation, size: self.head.size }
    }
}

const COLUMNS: &str = "c.id, c.incarnation, c.tree_size, c.root_hash, c.note, c.signed_at";

fn checkpoint(row: &PgRow) -> Result<StoredCheckpoint, sqlx::Error> {
    let of_column = |index: &str, error: &str| sqlx::Error::ColumnDecode {
        index: index.to_owned(),
        source: error.to_owned().into(),
    };
    let size = u64::try_from(row.try_get::<i64, _>("tree_size")?)
        .map_err(|_| of_column("tree_size", "is below 0"))?;
    let root: Vec<u8> = row.try_get("root_hash")?;
    let root = root.try_into().map_err(|_| of_column("root_hash", "has not 32 bytes"))?;
    Ok(StoredCheckpoint {
        id: row.try_get("id")?,
        incarnation: row.try_get("incarnation")?,
        head: TreeHead { size: TreeSize(size), root: TreeHash(root) },
        note: row.try_get("note")?,
        signed_at: row.try_get("signed_at")?,
    })
}

/// The last checkpoint of this incarnation.
pub async fn last_checkpoint(
    executor: impl PgExecutor<'_>,
    incarnation: i32,
) -> Result<Option<StoredCheckpoint>, StoreError> {
    const STATEMENT: &str = "last_checkpoint";
    let query = format!(
        "/* last_checkpoint */ SELECT {COLUMNS} FROM public.checkpoints AS c
         WHERE c.incarnation = $1 ORDER BY c.id DESC LIMIT 1"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(incarnation);
    let row = row.fetch_optional(executor).await.in_statement(STATEMENT)?;
    row.as_ref().map(checkpoint).transpose().in_statement(STATEMENT)
}

/// Checkpoints of this incarnation behind this one, in their order, and this many at most.
pub async fn checkpoints_after(
    executor: impl PgExecutor<'_>,
    incarnation: i32,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    const STATEMENT: &str = "checkpoints_after";
    let query = format!(
        "/* checkpoints_after */ SELECT {COLUMNS} FROM public.checkpoints AS c
         WHERE c.incarnation = $1 AND c.id > $2 ORDER BY c.id LIMIT $3"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(incarnation).bind(after).bind(limit);
    let rows = rows.fetch_all(executor).await.in_statement(STATEMENT)?;
    rows.iter().map(checkpoint).collect::<Result<_, _>>().in_statement(STATEMENT)
}

/// The incarnation that goes on; `None` where no checkpoint was ever made.
pub async fn current_incarnation(
    executor: impl PgExecutor<'_>,
) -> Result<Option<Incarnation>, StoreError> {
    sqlx::query_as(
        "/* current_incarnation */
         SELECT i.id, i.origin, i.previous_checkpoint, i.started_at
         FROM public.incarnations AS i ORDER BY i.id DESC LIMIT 1",
    )
    .fetch_optional(executor)
    .await
    .in_statement("current_incarnation")
}

/// The verifier keys that security events name, of every incarnation, the newest last. A statement of
/// the service like any other row: a checkpoint that counts is signed with a key that is known from
/// elsewhere.
pub async fn recorded_vkeys(executor: impl PgExecutor<'_>) -> Result<Vec<Vec<String>>, StoreError> {
    sqlx::query_scalar(
        "/* recorded_vkeys */
         SELECT ARRAY(SELECT pg_catalog.jsonb_array_elements_text(e.details -> 'vkeys'))
         FROM public.security_events AS e
         WHERE e.event_type IN ('INCARNATION_STARTED', 'SIGNING_KEYS_CHANGED')
           AND pg_catalog.jsonb_typeof(e.details -> 'vkeys') = 'array'
         ORDER BY e.id",
    )
    .fetch_all(executor)
    .await
    .in_statement("recorded_vkeys")
}

/// How a new incarnation was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Acceptance {
    /// The `LIFTED` line.
    pub lifted_by: i64,
}

/// The last lift since this incarnation began.
pub async fn lift_since_incarnation(
    executor: impl PgExecutor<'_>,
    incarnation: i32,
) -> Result<Option<Acceptance>, StoreError> {
    sqlx::query_as(
        "/* lift_since_incarnation */
         SELECT l.id AS lifted_by FROM public.lockdowns AS l
         WHERE l.action::text = 'LIFTED'
           AND l.at > (SELECT i.started_at FROM public.incarnations AS i WHERE i.id = $1)
         ORDER BY l.id DESC LIMIT 1",
    )
    .bind(incarnation)
    .fetch_optional(executor)
    .await
    .in_statement("lift_since_incarnation")
}

/// The transaction in which a checkpoint is made: while it is open, nobody else makes one.
#[derive(Debug)]
pub struct CheckpointTransaction {
    connection: PgConnection,
}

impl CheckpointTransaction {
    /// Takes the right to make a checkpoint; `None` where another service has it.
    pub async fn begin(database: &Database) -> Result<Option<Self>, StoreError> {
        const STATEMENT: &str = "begin_checkpoint";
        let mut connection = database.connect().await?;
        let taken = sqlx::raw_sql(
            "/* begin_checkpoint */ SET idle_in_transaction_session_timeout = 0;
             SET synchronous_commit = on; SET search_path = pg_catalog, pg_temp;
             BEGIN; SELECT public.ledger_begin_checkpoint()",
        )
        .execute(&mut connection)
        .await
        .in_statement(STATEMENT);
        match taken {
            Ok(_) => Ok(Some(Self { connection })),
            Err(error) if error.is_lock_timeout() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// For reads in this transaction.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Leaves in the log.
    pub async fn log_size(&mut self) -> Result<i64, StoreError> {
        count_leaves(&mut self.connection).await
    }

    /// Begins an incarnation, which the event of this id tells of.
    pub async fn insert_incarnation(
        &mut self,
        origin: &str,
        previous_checkpoint: Option<&str>,
        accepted: Option<Acceptance>,
        security_event_id: i64,
    ) -> Result<Incarnation, StoreError> {
        sqlx::query_as(
            "/* insert_incarnation */
             INSERT INTO public.incarnations AS i
                 (origin, previous_checkpoint, lifted_by, security_event_id)
             VALUES ($1, $2, $3, $4)
             RETURNING i.id, i.origin, i.previous_checkpoint, i.started_at",
        )
        .bind(origin)
        .bind(previous_checkpoint)
        .bind(accepted.map(|accepted| accepted.lifted_by))
        .bind(security_event_id)
        .fetch_one(&mut self.connection)
        .await
        .in_statement("insert_incarnation")
    }

    /// Stores full tiles of the tree.
    pub async fn insert_tiles(
        &mut self,
        incarnation: i32,
        tiles: &[FullTile],
    ) -> Result<(), StoreError> {
        insert_tiles(&mut self.connection, incarnation, tiles).await
    }

    /// Stores a signed checkpoint and ends the transaction: what is returned is durable.
    pub async fn commit(
        mut self,
        incarnation: i32,
        head: TreeHead,
        note: &str,
    ) -> Result<StoredCheckpoint, StoreError> {
        const STATEMENT: &str = "insert_checkpoint";
        let size = i64::try_from(head.size.0).map_err(|_| StoreError::Contradiction {
            statement: STATEMENT,
            what: format!("a tree of {} leaves", head.size),
        })?;
        let query = format!(
            "/* insert_checkpoint */
             INSERT INTO public.checkpoints AS c (incarnation, tree_size, root_hash, note)
             VALUES ($1, $2, $3, $4) RETURNING {COLUMNS}"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(incarnation)
            .bind(size)
            .bind(head.root.0.as_slice())
            .bind(note)
            .fetch_one(&mut self.connection)
            .await
            .in_statement(STATEMENT)?;
        let stored = checkpoint(&row).in_statement(STATEMENT)?;
        self.end().await?;
        Ok(stored)
    }

    /// Ends the transaction: what it did is durable. Where the answer is lost, the next one reads what
    /// became of it.
    pub async fn end(mut self) -> Result<(), StoreError> {
        let committed = sqlx::raw_sql("/* commit_checkpoint */ COMMIT");
        committed.execute(&mut self.connection).await.in_statement("commit_checkpoint")?;
        let _ = self.connection.close().await;
        Ok(())
    }
}

/// What an anchor has confirmed last.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Confirmed {
    /// The checkpoint.
    pub checkpoint_id: i64,
    /// Its leaves.
    pub tree_size: i64,
    /// When that was recorded.
    pub confirmed_at: DateTime<Utc>,
}

/// The last checkpoint that this anchor has confirmed, of this incarnation.
pub async fn last_confirmed(
    executor: impl PgExecutor<'_>,
    anchor: &str,
    incarnation: i32,
) -> Result<Option<Confirmed>, StoreError> {
    sqlx::query_as(
        "/* last_confirmed */
         SELECT r.checkpoint_id, c.tree_size, r.confirmed_at
         FROM public.anchor_receipts AS r JOIN public.checkpoints AS c ON c.id = r.checkpoint_id
         WHERE r.anchor = $1 AND c.incarnation = $2
         ORDER BY r.checkpoint_id DESC, r.id DESC LIMIT 1",
    )
    .bind(anchor)
    .bind(incarnation)
    .fetch_optional(executor)
    .await
    .in_statement("last_confirmed")
}

/// Keeps that an anchor has confirmed a checkpoint.
pub async fn insert_receipt(
    database: &Database,
    anchor: &str,
    checkpoint_id: i64,
    receipt: Option<&[u8]>,
) -> Result<(), StoreError> {
    const STATEMENT: &str = "insert_receipt";
    const WITHIN: Duration = Duration::from_secs(10);
    let mut connection = database.connect().await?;
    let insert = sqlx::query(
        "/* insert_receipt */
         INSERT INTO public.anchor_receipts (anchor, checkpoint_id, receipt) VALUES ($1, $2, $3)",
    )
    .bind(anchor)
    .bind(checkpoint_id)
    .bind(receipt)
    .execute(&mut connection);
    super::within(WITHIN, STATEMENT, async { insert.await.in_statement(STATEMENT) }).await?;
    let _ = connection.close().await;
    Ok(())
}

impl Pool {
    /// The current incarnation and its last checkpoint.
    pub async fn latest_checkpoint(
        &self,
    ) -> Result<Option<(Incarnation, StoredCheckpoint)>, StoreError> {
        let Some(incarnation) = current_incarnation(self.get()).await? else { return Ok(None) };
        let last = last_checkpoint(self.get(), incarnation.id).await?;
        Ok(last.map(|last| (incarnation, last)))
    }
}
