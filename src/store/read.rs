//! Reading whole chains and the log, in constant memory, from one consistent snapshot.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use ledger_verifier::chain::{Chain, Column, ColumnType};
use ledger_verifier::check::{KnownRow, StoredRow};
use ledger_verifier::row::INTEGER_BOUND;
use ledger_verifier::{LeafIndex, LogEntry, RowHash, RowId, Value};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::sync::mpsc;

use super::copy::{CopyDecoder, CopyFormatError, copy_columns, decode};
use super::feed::count_leaves;
use super::filter::{condition, id_range};
use super::lockdown::acknowledged_findings;
use super::rows::columns_in_order;
use super::{Database, InStatement, StoreError};
use crate::query::Filter;

/// A state of the database that several connections read at once.
#[derive(Debug)]
pub struct Snapshot {
    database: Database,
    connection: PgConnection,
    id: String,
    is_replica: bool,
}

/// What rows `t` of a chain name by a column.
struct Reference {
    chain: &'static str,
    column: &'static str,
    /// The chain of the row `o` that is named, and by what it is that one.
    target: &'static str,
    is_named: &'static str,
    /// Which rows name one.
    names_one: &'static str,
}

const REFERENCES: [Reference; 5] = [
    of_signal("ai_debates"),
    of_signal("order_execution"),
    Reference {
        chain: "order_events",
        column: "order_execution_id",
        target: "order_execution",
        is_named: "o.id = t.order_execution_id",
        names_one: "t.order_execution_id IS NOT NULL",
    },
    of_signal("signal_audit_ledger"),
    Reference {
        chain: "signal_audit_ledger",
        column: "signal_id",
        target: "signal_audit_ledger",
        is_named: "o.signal_id = t.signal_id AND o.source_module = t.source_module
                   AND o.record_type::text = 'SIGNAL'",
        names_one: "t.record_type::text = 'OUTCOME'",
    },
];

const fn of_signal(chain: &'static str) -> Reference {
    Reference {
        chain,
        column: "correlation_id",
        target: "signals",
        is_named: "o.correlation_id = t.correlation_id",
        names_one: "t.correlation_id IS NOT NULL",
    }
}

/// Which rows of a chain are read: those behind one id, up to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The last id that is not read; `None` for every row, whatever it has for an id.
    pub after: Option<RowId>,
    /// The last one that is.
    pub last: Option<RowId>,
}

impl Ids {
    fn condition(self) -> String {
        let after = self.after.map(|id| format!("t.id > {id}"));
        let last = self.last.map(|id| format!("t.id <= {id}"));
        let given: Vec<_> = after.into_iter().chain(last).collect();
        if given.is_empty() { "true".to_owned() } else { given.join(" AND ") }
    }
}

/// Which leaves of the log are read: from one on, and before another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaves {
    /// The first; 0 for every entry, whatever it has for a leaf.
    pub from: u64,
    /// One behind the last.
    pub before: Option<u64>,
}

impl Leaves {
    fn condition(self) -> String {
        let from = (self.from > 0).then(|| format!("l.leaf_index >= {}", self.from));
        let before = self.before.map(|leaf| format!("l.leaf_index < {leaf}"));
        let given: Vec<_> = from.into_iter().chain(before).collect();
        if given.is_empty() { "true".to_owned() } else { given.join(" AND ") }
    }
}

/// The right to run a check, held while this lives; one run at a time.
#[derive(Debug)]
pub struct CheckLock {
    connection: PgConnection,
}

impl CheckLock {
    /// Lets the next one run: at once, and not when the server sees that nobody is there any more.
    pub async fn release(mut self) {
        let _ = sqlx::raw_sql("/* release_checks */ COMMIT").execute(&mut self.connection).await;
        let _ = self.connection.close().await;
    }
}

/// Takes the right to run a check. `None` where another run has it.
///
/// A login that may not take it, an auditor's, checks without: it cannot record a run either. So
/// does everybody where somebody took the lock itself away, which must stop no check.
pub async fn try_lock_checks(database: &Database) -> Result<Option<CheckLock>, StoreError> {
    let mut connection = database.connect().await?;
    let taken = sqlx::raw_sql(
        "/* try_lock_checks */ SET idle_in_transaction_session_timeout = 0;
         BEGIN; SELECT public.ledger_begin_check()",
    )
    .execute(&mut connection)
    .await
    .in_statement("try_lock_checks");
    match taken {
        Err(error) if error.is_lock_timeout() => Ok(None),
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(Some(CheckLock { connection })),
    }
}

/// What a reader sends.
#[derive(Debug)]
pub enum Piece<T> {
    /// Some rows.
    Rows(Vec<T>),
    /// There are no more. A reader that ends without it broke off.
    End,
}

impl Snapshot {
    /// Takes a snapshot of the database as it is now, for as many tasks as read it.
    pub async fn take(database: &Database) -> Result<Arc<Self>, StoreError> {
        const STATEMENT: &str = "take_snapshot";
        let mut connection = database.connect().await?;
        let row = sqlx::raw_sql(
            "/* take_snapshot */ SET idle_in_transaction_session_timeout = 0;
             BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
             SELECT pg_catalog.pg_export_snapshot() AS snapshot,
                    pg_catalog.pg_is_in_recovery() AS is_replica",
        )
        .fetch_one(&mut connection)
        .await
        .in_statement(STATEMENT)?;
        Ok(Arc::new(Self {
            database: database.clone(),
            id: row.try_get("snapshot").in_statement(STATEMENT)?,
            is_replica: row.try_get("is_replica").in_statement(STATEMENT)?,
            connection,
        }))
    }

    /// Whether it is one of a replica, which may be behind.
    pub fn is_of_replica(&self) -> bool {
        self.is_replica
    }

    /// A connection that reads this snapshot.
    pub(crate) async fn reader(&self) -> Result<PgConnection, StoreError> {
        let mut connection = self.database.connect().await?;
        let begin = format!(
            "/* read_snapshot */ BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
             SET TRANSACTION SNAPSHOT '{}'",
            self.id
        );
        sqlx::raw_sql(AssertSqlSafe(begin))
            .execute(&mut connection)
            .await
            .in_statement("read_snapshot")?;
        Ok(connection)
    }

    /// Reads rows of a chain in the order of their ids and sends what `map` makes of them, in pieces.
    /// Ends early, without error, where nobody receives any more.
    pub async fn read_chain<T: Send>(
        &self,
        chain: &'static Chain,
        ids: Ids,
        to: mpsc::Sender<Piece<T>>,
        mut map: impl FnMut(&StoredRow<'_>) -> T + Send,
    ) -> Result<(), StoreError> {
        let query = format!(
            "/* read_chain */ COPY (
                 SELECT {} FROM public.{} AS t WHERE {} ORDER BY t.id
             ) TO STDOUT (FORMAT binary)",
            copy_columns(chain),
            chain.name,
            ids.condition()
        );
        copy_out("read_chain", self.reader().await?, &query, to, |fields| {
            with_row(chain, fields, &mut map)
        })
        .await
    }

    /// Reads entries of the log in leaf order and sends them in pieces.
    pub async fn read_log(
        &self,
        leaves: Leaves,
        to: mpsc::Sender<Piece<LogEntry>>,
    ) -> Result<(), StoreError> {
        let query = format!(
            "/* read_log */ COPY (
                 SELECT l.leaf_index, l.chain, l.id, l.row_hash FROM public.ledger_log AS l
                 WHERE {} ORDER BY l.leaf_index
             ) TO STDOUT (FORMAT binary)",
            leaves.condition()
        );
        copy_out("read_log", self.reader().await?, &query, to, |fields| {
            let [leaf_index, chain, id, row_hash] = fields else {
                return Err(CopyFormatError("a log entry of another shape"));
            };
            // Where a number is none any more, it is none that a row or leaf has.
            let number = |field| match decode(ColumnType::BigInt, field) {
                Value::Integer(number) => number,
                _ => -1,
            };
            Ok(LogEntry {
                leaf_index: number(*leaf_index),
                chain: String::from_utf8_lossy(chain.unwrap_or_default()).into_owned(),
                id: RowId(number(*id)),
                row_hash: row_hash.unwrap_or_default().to_vec(),
            })
        })
        .await
    }

    /// Sends what `found` makes of each row whose generated document does not equal its text: of the
    /// column's name and a hash that stands for what the column holds. Ends early, without error, where
    /// nobody receives any more, as do all these.
    pub async fn find_changed_documents<T: Send>(
        &self,
        chain: &'static Chain,
        ids: Ids,
        to: &mpsc::Sender<T>,
        found: impl Fn(RowId, &'static str, &str) -> T + Send + Sync,
    ) -> Result<(), StoreError> {
        for column in chain.columns.iter().filter(|column| column.ty == ColumnType::Document) {
            if !self.may_have_changed(chain, column, ids).await? {
                continue;
            }
            let query = format!(
                "/* find_changed_documents */
                 SELECT coalesce(id, 0),
                        coalesce(pg_catalog.jsonb_hash_extended(t.{1}, 0)::text, 'NULL')
                 FROM public.{0} AS t
                 WHERE {3} AND NOT public.ledger_document_matches(t.{2}, t.{1}) ORDER BY id",
                chain.name,
                column.name,
                column.stored_name(),
                ids.condition()
            );
            let found = |id, holds: String| found(id, column.name, &holds);
            self.send_each("find_changed_documents", query, to, found).await?;
        }
        Ok(())
    }

    /// Whether any of a column's documents is stored in other bytes than its text makes, or has a text
    /// that is no JSON any more. To find out which takes several times as long: each of those errors
    /// has to be caught.
    async fn may_have_changed(
        &self,
        chain: &'static Chain,
        column: &Column,
        ids: Ids,
    ) -> Result<bool, StoreError> {
        let query = format!(
            "/* may_have_changed */ SELECT EXISTS (
                 SELECT FROM public.{} AS t
                 WHERE {} AND pg_catalog.record_image_ne(ROW(t.{}), ROW(t.{}::jsonb)))",
            chain.name,
            ids.condition(),
            column.name,
            column.stored_name()
        );
        let found = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut self.reader().await?)
            .await
            .in_statement("may_have_changed");
        match found {
            Err(error) if error.is_fault_of_a_row() => Ok(true),
            found => found,
        }
    }

    /// Sends what `found` makes of each row that names one that is not there: of the column, its value,
    /// and the chain that it names.
    pub async fn find_orphans<T: Send>(
        &self,
        chain: &'static Chain,
        ids: Ids,
        to: &mpsc::Sender<T>,
        found: impl Fn(RowId, &'static str, &str, &'static str) -> T + Send + Sync,
    ) -> Result<(), StoreError> {
        for reference in REFERENCES.iter().filter(|reference| reference.chain == chain.name) {
            let Reference { chain, column, target, is_named, names_one } = reference;
            let query = format!(
                "/* find_orphans */ SELECT coalesce(t.id, 0), t.{column}::text FROM public.{chain} AS t
                 WHERE {ids} AND {names_one}
                   AND NOT EXISTS (SELECT FROM public.{target} AS o WHERE {is_named})
                 ORDER BY t.id",
                ids = ids.condition()
            );
            let found = |id, value: String| found(id, column, &value, target);
            self.send_each("find_orphans", query, to, found).await?;
        }
        Ok(())
    }

    /// Sends what `found` makes of the id and the text that each row of a query has.
    async fn send_each<T: Send>(
        &self,
        statement: &'static str,
        query: String,
        to: &mpsc::Sender<T>,
        found: impl Fn(RowId, String) -> T + Send,
    ) -> Result<(), StoreError> {
        let mut connection = self.reader().await?;
        let mut rows =
            sqlx::query_as::<_, (i64, String)>(AssertSqlSafe(query)).fetch(&mut connection);
        while let Some((id, text)) = rows.try_next().await.in_statement(statement)? {
            if to.send(found(RowId(id), text)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// How many rows meet the filter.
    pub async fn count(&self, filter: &Filter) -> Result<i64, StoreError> {
        let mut connection = self.reader().await?;
        let ids = id_range(&mut connection, filter).await?;
        let query = format!(
            "/* count */ SELECT pg_catalog.count(*) FROM public.{} AS t WHERE {}",
            filter.chain.name,
            condition(filter, ids)
        );
        let count = sqlx::query_scalar(AssertSqlSafe(query)).persistent(false);
        count.fetch_one(&mut connection).await.in_statement("count")
    }

    /// The ids of a filter's rows, as far as its bounds of ids and times tell: from the first up to, and
    /// without, the second.
    pub async fn ids_of(&self, filter: &Filter) -> Result<(i64, i64), StoreError> {
        let ids = id_range(&mut self.reader().await?, filter).await?;
        Ok((ids.from, ids.before))
    }

    /// Reads the filter's rows from this leaf on, in the order of their ids, and sends what `map` makes
    /// of them in pieces. Ends early, without error, where nobody receives any more.
    pub async fn read_rows<T: Send>(
        &self,
        filter: &Filter,
        from_leaf: i64,
        to: mpsc::Sender<Piece<T>>,
        mut map: impl FnMut(&StoredRow<'_>, Option<LeafIndex>) -> T + Send,
    ) -> Result<(), StoreError> {
        let chain = filter.chain;
        let mut connection = self.reader().await?;
        let mut ids = id_range(&mut connection, filter).await?;
        if from_leaf > 0 {
            let before = last_id_before_leaf(&mut connection, chain, from_leaf).await?;
            ids.from = ids.from.max(before + 1);
        }
        let query = format!(
            "/* read_rows */ COPY (
                 SELECT {columns}, t.prev_hash, t.row_hash, l.leaf_index
                 FROM public.{chain} AS t
                 LEFT JOIN public.ledger_log AS l ON l.chain = '{chain}' AND l.id = t.id
                     AND l.id >= {from} AND l.id < {before}
                 WHERE {condition} ORDER BY t.id
             ) TO STDOUT (FORMAT binary)",
            columns = columns_in_order(chain),
            chain = chain.name,
            // Said again, or all of the log is read to be joined.
            from = ids.from,
            before = ids.before,
            condition = condition(filter, ids)
        );
        copy_out("read_rows", connection, &query, to, |fields| {
            let [row @ .., leaf_index] = fields else {
                return Err(CopyFormatError("a row without columns"));
            };
            let leaf_index = match decode(ColumnType::BigInt, *leaf_index) {
                Value::Integer(leaf) => u64::try_from(leaf).ok().map(LeafIndex),
                _ => None,
            };
            with_row(chain, row, |row| map(row, leaf_index))
        })
        .await
    }

    /// Leaves in the log. On a connection of its own, as everything that may fail: the snapshot
    /// goes on without it.
    pub async fn log_size(&self) -> Result<i64, StoreError> {
        count_leaves(&mut self.reader().await?).await
    }

    /// The last row of each chain whose leaf comes before this one, as the database holds it; in the order
    /// of the chains, `None` where a chain has none.
    pub async fn rows_before_leaf(
        &self,
        chains: &[&'static Chain],
        leaf: u64,
    ) -> Result<Vec<Option<KnownRow>>, StoreError> {
        const STATEMENT: &str = "rows_before_leaf";
        let mut connection = self.reader().await?;
        let leaf = i64::try_from(leaf).unwrap_or(i64::MAX);
        let mut rows = Vec::new();
        for chain in chains {
            let id = last_id_before_leaf(&mut connection, chain, leaf).await?;
            let query = format!(
                "/* rows_before_leaf */ SELECT t.row_hash::text, t.created_at FROM public.{} AS t
                 WHERE t.id = $1",
                chain.name
            );
            let row: Option<(String, DateTime<Utc>)> = sqlx::query_as(AssertSqlSafe(query))
                .bind(id)
                .fetch_optional(&mut connection)
                .await
                .in_statement(STATEMENT)?;
            let known = |(row_hash, created_at): (String, DateTime<Utc>)| {
                Some(KnownRow {
                    id: RowId(id),
                    row_hash: RowHash::from_hex(row_hash.as_bytes())?,
                    created_at: created_at.timestamp_micros(),
                })
            };
            match row.map(known) {
                None if id == 0 => rows.push(None),
                Some(Some(known)) => rows.push(Some(known)),
                _ => {
                    let what = format!("row {id} of {} is not there, or has no hash", chain.name);
                    return Err(StoreError::Contradiction { statement: STATEMENT, what });
                }
            }
        }
        Ok(rows)
    }

    /// The last id of each chain whose leaf comes before this one, in the order of the chains.
    pub async fn last_ids_before_leaf(
        &self,
        chains: &[&'static Chain],
        leaf: u64,
    ) -> Result<Vec<RowId>, StoreError> {
        let mut connection = self.reader().await?;
        let leaf = i64::try_from(leaf).unwrap_or(i64::MAX);
        let mut ids = Vec::new();
        for chain in chains {
            ids.push(RowId(last_id_before_leaf(&mut connection, chain, leaf).await?));
        }
        Ok(ids)
    }

    /// The `finding_id`s that were acknowledged.
    pub async fn acknowledged_findings(&self) -> Result<Vec<String>, StoreError> {
        acknowledged_findings(&mut self.reader().await?).await
    }

    /// Ends the snapshot, where nobody else reads it.
    pub async fn close(self: Arc<Self>) {
        if let Some(snapshot) = Arc::into_inner(self) {
            let _ = snapshot.connection.close().await;
        }
    }
}

/// Runs `map` on the row that has these fields: the chain's columns and the two hashes.
fn with_row<T>(
    chain: &Chain,
    fields: &[Option<&[u8]>],
    map: impl FnOnce(&StoredRow<'_>) -> T,
) -> Result<T, CopyFormatError> {
    let [columns @ .., prev_hash, row_hash] = fields else {
        return Err(CopyFormatError("a row without columns"));
    };
    let pairs = chain.columns.iter().zip(columns);
    let values: Vec<_> = pairs.map(|(column, field)| decode(column.ty, *field)).collect();
    Ok(map(&StoredRow {
        values: &values,
        prev_hash: prev_hash.unwrap_or_default(),
        row_hash: row_hash.unwrap_or_default(),
    }))
}

/// The chain's last id whose leaf comes before this one; 0 where none does. Ids and leaves grow together,
/// so it is found by halving, in a log of any size and a chain of any share in it.
async fn last_id_before_leaf(
    connection: &mut PgConnection,
    chain: &Chain,
    leaf: i64,
) -> Result<i64, StoreError> {
    // What is sought is the last entry of those behind `low` and before `high`, if there is one.
    let (mut found, mut low, mut high) = (0, 0, INTEGER_BOUND);
    while high - low > 1 {
        // The first question is for the last entry of all: often the answer.
        let middle = if high == INTEGER_BOUND { high - 1 } else { low + (high - low) / 2 };
        let entry: Option<(i64, i64)> = sqlx::query_as(
            "/* last_id_before_leaf */ SELECT l.id, l.leaf_index FROM public.ledger_log AS l
             WHERE l.chain = $1 AND l.id > $2 AND l.id <= $3
             ORDER BY l.chain DESC, l.id DESC LIMIT 1",
        )
        .bind(chain.name)
        .bind(low)
        .bind(middle)
        .fetch_optional(&mut *connection)
        .await
        .in_statement("last_id_before_leaf")?;
        match entry {
            None => low = middle,
            Some((id, its_leaf)) if its_leaf < leaf => (found, low) = (id, middle),
            Some((id, _)) => high = id,
        }
    }
    Ok(found)
}

/// Runs a COPY … TO STDOUT and sends what `map` makes of its rows, in the pieces in which they
/// come. The connection is used for this alone: a COPY that ends early leaves it out of step.
async fn copy_out<T: Send>(
    statement: &'static str,
    mut connection: PgConnection,
    query: &str,
    to: mpsc::Sender<Piece<T>>,
    mut map: impl FnMut(&[Option<&[u8]>]) -> Result<T, CopyFormatError> + Send,
) -> Result<(), StoreError> {
    /// PostgreSQL sends a message for each row; what is there already makes a piece, up to these.
    const ROWS_IN_PIECE: usize = 256;
    const BYTES_IN_PIECE: usize = 1 << 20;
    let unreadable = |CopyFormatError(what)| StoreError::Contradiction {
        statement,
        what: format!("COPY sent {what}"),
    };
    let mut decoder = CopyDecoder::default();
    let mut messages = connection.copy_out_raw(query).await.in_statement(statement)?;
    let mut next = messages.next().await;
    let mut ended = false;
    while let Some(message) = next.take() {
        let mut piece = Vec::new();
        let mut bytes = 0;
        let mut message = message.in_statement(statement)?;
        loop {
            bytes += message.len();
            decoder.feed(&message);
            while let Some(row) = decoder.next_row(&mut map).map_err(unreadable)? {
                piece.push(row.map_err(unreadable)?);
            }
            if piece.len() >= ROWS_IN_PIECE || bytes >= BYTES_IN_PIECE {
                break;
            }
            match messages.next().now_or_never() {
                Some(Some(more)) => message = more.in_statement(statement)?,
                Some(None) => {
                    ended = true;
                    break;
                }
                None => break,
            }
        }
        if !piece.is_empty() && to.send(Piece::Rows(piece)).await.is_err() {
            return Ok(());
        }
        if !ended {
            next = messages.next().await;
        }
    }
    if !decoder.finished() {
        return Err(unreadable(CopyFormatError("no end")));
    }
    // Whoever does not listen any more needs no end either.
    let _ = to.send(Piece::End).await;
    Ok(())
}
