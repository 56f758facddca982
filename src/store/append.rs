//! The transaction that appends: the only place that writes to a chain.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_verifier::chain::{QUARANTINED_DELIVERIES, SIGNALS};
use ledger_verifier::row::{RowError, row_hash_in};
use ledger_verifier::{Chain, LeafIndex, RowHash, RowId, Value};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use uuid::Uuid;

use super::copy::{CopyEncoder, copy_columns};
use super::{Database, InStatement, StoreError, says_rolled_back};
use crate::chains::signals::SAME_BYTES;
use crate::chains::{Appended, Existing, Identity, NewRow, Receipt};
use crate::clock::Clock;

/// The most that the service's clock and the database's may differ.
pub const MAX_CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(60);

/// The one connection that appends.
#[derive(Debug)]
pub struct AppendConnection {
    connection: PgConnection,
}

/// A transaction with its rows in it, not committed.
#[derive(Debug)]
pub struct Prepared {
    /// What each row became, if the commit succeeds.
    pub outcomes: Vec<Appended>,
    /// A row by which to see whether the transaction was committed; `None` where nothing is
    /// to be committed.
    pub witness: Option<Receipt>,
}

/// How a commit ended.
#[derive(Debug)]
pub enum Committed {
    /// It is durable.
    Yes,
    /// It was rolled back.
    No(StoreError),
    /// The answer was lost: look with [`AppendConnection::is_committed`].
    Unknown(StoreError),
}

impl AppendConnection {
    /// Connects, and makes sure that what is committed is also on disk.
    pub async fn connect(database: &Database) -> Result<Self, StoreError> {
        let mut connection = database.connect().await?;
        // Whatever the server's files say, now or after a reload: what is acknowledged is flushed
        // here and on a synchronous standby, or even applied there. This session looks up single
        // rows and nothing else: a plan made while the tables were small must not scan them once
        // they are large. For the same reason its queries fix the order of their joins by
        // LATERAL … LIMIT 1.
        sqlx::raw_sql(
            "/* append_connect */
             SELECT set_config('synchronous_commit',
                 CASE current_setting('synchronous_commit')
                     WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false);
             SET enable_seqscan = off",
        )
        .execute(&mut connection)
        .await
        .in_statement("append_connect")?;
        Ok(Self { connection })
    }

    /// Takes the ledger's lock, finds duplicates and conflicts, and writes the new rows.
    ///
    /// An error leaves the transaction open but failed: [`roll_back`](Self::roll_back) next.
    pub async fn prepare(
        &mut self,
        rows: &[&NewRow],
        clock: Clock,
    ) -> Result<Prepared, StoreError> {
        let mut ledger = self.lock_and_read_heads(rows).await?;
        let difference = ledger.clock - clock.now();
        if difference.abs() > MAX_CLOCK_DIFFERENCE {
            return Err(StoreError::Unsuitable(format!(
                "the database's clock and the service's differ by {} s: nothing is appended",
                difference.num_seconds()
            )));
        }
        let mut known = self.find_signals(rows).await?;
        known.extend(self.find_deliveries(rows).await?);

        let plan = plan(rows, known);
        let receipts = ledger.assign(rows, &plan)?;
        for (chain, encoder) in ledger.copies {
            let statement = format!(
                "/* append */ COPY public.{} ({}) FROM STDIN (FORMAT binary)",
                chain.name,
                copy_columns(chain)
            );
            let mut copy = self.connection.copy_in_raw(&statement).await.in_statement("append")?;
            copy.send(encoder.finish()).await.in_statement("append")?;
            copy.finish().await.in_statement("append")?;
        }
        let witness = receipts.iter().flatten().next().cloned();
        Ok(Prepared { outcomes: outcomes(rows, plan, &receipts), witness })
    }

    /// Commits. Durability point: only after [`Committed::Yes`] may anyone be told.
    pub async fn commit(&mut self) -> Committed {
        match sqlx::raw_sql("COMMIT /* commit */").execute(&mut self.connection).await {
            Ok(_) => Committed::Yes,
            Err(error) => {
                let rolled_back = says_rolled_back(&error);
                let error = StoreError::from_sqlx("commit", error);
                if rolled_back { Committed::No(error) } else { Committed::Unknown(error) }
            }
        }
    }

    /// Ends the transaction without a trace.
    pub async fn roll_back(&mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("ROLLBACK /* roll_back */")
            .execute(&mut self.connection)
            .await
            .in_statement("roll_back")?;
        Ok(())
    }

    /// Whether the transaction that wrote this row was committed. Takes the ledger's lock first:
    /// a commit still under way holds it, so that afterwards the answer is final.
    pub async fn is_committed(&mut self, witness: &Receipt) -> Result<bool, StoreError> {
        const STATEMENT: &str = "is_committed";
        self.begin(&[]).await?;
        let found = sqlx::query_scalar::<_, bool>(
            "/* is_committed */ SELECT EXISTS (
                 SELECT FROM public.ledger_log
                 WHERE chain = $1 AND id = $2 AND row_hash = $3::char(64))",
        )
        .bind(witness.chain.as_ref())
        .bind(witness.id.0)
        .bind(witness.row_hash.to_string())
        .fetch_one(&mut self.connection)
        .await
        .in_statement(STATEMENT)?;
        self.roll_back().await?;
        Ok(found)
    }

    /// Ends sessions that sit idle on the ledger's lock; a line for each one ended.
    pub async fn end_idle_lock_holders(&mut self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "/* end_idle_lock_holders */
             SELECT pg_catalog.format('pid %s, login %s, client %s, application %s', pid, login,
                                      coalesce(host(client), 'local'), application)
             FROM public.ledger_end_idle_lock_holders()",
        )
        .fetch_all(&mut self.connection)
        .await
        .in_statement("end_idle_lock_holders")
    }

    /// Closes the session in good order.
    pub async fn close(self) {
        // The server ends a session whose connection closes in any case.
        let _ = self.connection.close().await;
    }

    /// BEGIN and the lock in one round trip; a row for each chain.
    async fn begin(&mut self, chains: &[&'static Chain]) -> Result<Vec<PgRow>, StoreError> {
        let names: Vec<_> = chains.iter().map(|chain| format!("'{}'", chain.name)).collect();
        // READ COMMITTED whatever the role's default: a snapshot older than the lock cannot
        // see the head.
        let statement = format!(
            "/* begin */ BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
             SELECT chain, id, row_hash, created_at, next_leaf, clock
             FROM public.ledger_begin_append(ARRAY[{}]::text[])",
            names.join(", ")
        );
        sqlx::raw_sql(AssertSqlSafe(statement))
            .fetch_all(&mut self.connection)
            .await
            .in_statement("begin")
    }

    async fn lock_and_read_heads(&mut self, rows: &[&NewRow]) -> Result<Ledger, StoreError> {
        let mut chains: Vec<&'static Chain> = Vec::new();
        for row in rows {
            if !chains.iter().any(|chain| std::ptr::eq(*chain, row.chain)) {
                chains.push(row.chain);
            }
        }
        let heads = self.begin(&chains).await?;
        Ledger::read(&chains, &heads)
    }

    async fn find_signals(&mut self, rows: &[&NewRow]) -> Result<Known, StoreError> {
        let (mut recorders, mut ids) = (Vec::new(), Vec::new());
        for row in rows {
            if let Identity::Signal { recorded_by, signal_id, neighbours, .. } = &row.identity {
                for id in std::iter::once(signal_id).chain(neighbours) {
                    recorders.push(recorded_by.as_str());
                    ids.push(id.as_str());
                }
            }
        }
        if ids.is_empty() {
            return Ok(Known::new());
        }
        let found = sqlx::query(
            "/* find_signals */
             SELECT s.recorded_by, s.signal_id, s.correlation_id, s.received_at,
                    pg_catalog.sha256(pg_catalog.convert_to(s.raw_payload_text, 'UTF8')) AS content,
                    s.id, s.prev_hash::text, s.row_hash::text, s.created_at, l.leaf_index
             FROM unnest($1::text[], $2::text[]) AS k (recorded_by, signal_id)
             CROSS JOIN LATERAL (
                 SELECT * FROM public.signals AS t
                 WHERE t.recorded_by = k.recorded_by AND t.signal_id = k.signal_id LIMIT 1) AS s
             CROSS JOIN LATERAL (
                 SELECT t.leaf_index FROM public.ledger_log AS t
                 WHERE t.chain = 'signals' AND t.id = s.id LIMIT 1) AS l",
        )
        .bind(recorders)
        .bind(ids)
        .fetch_all(&mut self.connection)
        .await
        .in_statement("find_signals")?;
        let key =
            |row: &PgRow| Ok(Key::Signal(row.try_get("recorded_by")?, row.try_get("signal_id")?));
        let correlation_id = |row: &PgRow| row.try_get("correlation_id");
        known(&found, &SIGNALS, key, correlation_id).in_statement("find_signals")
    }

    async fn find_deliveries(&mut self, rows: &[&NewRow]) -> Result<Known, StoreError> {
        let (mut sources, mut reasons, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            if let Identity::Delivery { source, reason, content } = &row.identity {
                sources.push(source.as_str());
                reasons.push(*reason);
                contents.push(content.as_slice());
            }
        }
        if sources.is_empty() {
            return Ok(Known::new());
        }
        let found = sqlx::query(
            "/* find_deliveries */
             SELECT q.source, q.reason, pg_catalog.sha256(q.body) AS content, q.received_at,
                    q.id, q.prev_hash::text, q.row_hash::text, q.created_at, l.leaf_index
             FROM unnest($1::text[], $2::text[], $3::bytea[]) AS k (source, reason, content)
             CROSS JOIN LATERAL (
                 SELECT * FROM public.quarantined_deliveries AS t
                 WHERE t.source = k.source AND t.reason = k.reason
                   AND pg_catalog.sha256(t.body) = k.content LIMIT 1) AS q
             CROSS JOIN LATERAL (
                 SELECT t.leaf_index FROM public.ledger_log AS t
                 WHERE t.chain = 'quarantined_deliveries' AND t.id = q.id LIMIT 1) AS l",
        )
        .bind(sources)
        .bind(reasons)
        .bind(contents)
        .fetch_all(&mut self.connection)
        .await
        .in_statement("find_deliveries")?;
        let key = |row: &PgRow| {
            Ok(Key::Delivery(
                row.try_get("source")?,
                row.try_get("reason")?,
                row.try_get("content")?,
            ))
        };
        known(&found, &QUARANTINED_DELIVERIES, key, |_| Ok(None)).in_statement("find_deliveries")
    }
}

/// The rows that were found, by what they are recognised by.
fn known(
    found: &[PgRow],
    chain: &'static Chain,
    key: impl Fn(&PgRow) -> Result<Key, sqlx::Error>,
    correlation_id: impl Fn(&PgRow) -> Result<Option<Uuid>, sqlx::Error>,
) -> Result<Known, sqlx::Error> {
    found
        .iter()
        .map(|row| {
            let receipt = receipt(chain, row)?;
            let stored = Stored::Before {
                content: row.try_get("content")?,
                received_at: row.try_get("received_at")?,
                existing: Existing { receipt, correlation_id: correlation_id(row)? },
            };
            Ok((key(row)?, stored))
        })
        .collect()
}

fn receipt(chain: &'static Chain, row: &PgRow) -> Result<Receipt, sqlx::Error> {
    Ok(Receipt {
        chain: chain.name.into(),
        id: RowId(row.try_get("id")?),
        leaf_index: LeafIndex(row.try_get::<i64, _>("leaf_index")?.unsigned_abs()),
        row_hash: hash(row, "row_hash")?,
        prev_hash: hash(row, "prev_hash")?,
        created_at: row.try_get("created_at")?,
    })
}

fn hash(row: &PgRow, column: &str) -> Result<RowHash, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}

/// What makes a row the same as another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Signal(String, String),
    Delivery(String, String, Vec<u8>),
}

/// Where the first row of a key is.
#[derive(Debug)]
enum Stored {
    /// In the database.
    Before { content: Vec<u8>, received_at: DateTime<Utc>, existing: Existing },
    /// In this batch, at this place.
    InBatch { content: [u8; 32], at: usize },
}

type Known = HashMap<Key, Stored>;

/// What is to happen with a row of the batch.
#[derive(Debug)]
enum Decision {
    Append,
    /// A row from before this batch.
    Old {
        existing: Existing,
        same_content: bool,
    },
    /// The row at this place of the batch.
    SameAs {
        at: usize,
        same_content: bool,
    },
}

/// Decides for each row, in order, whether it is new.
fn plan(rows: &[&NewRow], mut known: Known) -> Vec<Decision> {
    rows.iter()
        .enumerate()
        .map(|(at, row)| {
            let (key, content) = match &row.identity {
                Identity::Unique => return Decision::Append,
                Identity::Signal { recorded_by, signal_id, neighbours, received_at, content } => {
                    // Their ids are made of the same bytes, so only the time decides.
                    let is_near = |other: DateTime<Utc>| (*received_at - other).abs() <= SAME_BYTES;
                    for id in neighbours {
                        let key = Key::Signal(recorded_by.clone(), id.clone());
                        match known.get(&key) {
                            Some(Stored::Before { received_at, existing, .. })
                                if is_near(*received_at) =>
                            {
                                let existing = existing.clone();
                                return Decision::Old { existing, same_content: true };
                            }
                            Some(Stored::InBatch { at, .. })
                                if rows[*at].received_at().is_some_and(is_near) =>
                            {
                                return Decision::SameAs { at: *at, same_content: true };
                            }
                            _ => {}
                        }
                    }
                    (Key::Signal(recorded_by.clone(), signal_id.clone()), content)
                }
                Identity::Delivery { source, reason, content } => {
                    let reason = (*reason).to_owned();
                    (Key::Delivery(source.clone(), reason, content.to_vec()), content)
                }
            };
            match known.entry(key) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Stored::InBatch { content: *content, at });
                    Decision::Append
                }
                Entry::Occupied(first) => match first.get() {
                    Stored::InBatch { content: first, at } => {
                        Decision::SameAs { at: *at, same_content: first == content }
                    }
                    Stored::Before { content: first, existing, .. } => {
                        Decision::Old { existing: existing.clone(), same_content: first == content }
                    }
                },
            }
        })
        .collect()
}

/// The answers, once every new row has its receipt.
fn outcomes(rows: &[&NewRow], plan: Vec<Decision>, receipts: &[Option<Receipt>]) -> Vec<Appended> {
    let answer = |existing, same_content| {
        if same_content { Appended::Duplicate(existing) } else { Appended::Conflict(existing) }
    };
    let receipt_at = |at: usize| receipts[at].clone().expect("an appended row has its receipt");
    plan.into_iter()
        .enumerate()
        .map(|(at, decision)| match decision {
            Decision::Append => Appended::Recorded(receipt_at(at)),
            Decision::Old { existing, same_content } => answer(existing, same_content),
            Decision::SameAs { at, same_content } => {
                let correlation_id = rows[at].correlation_id();
                let existing = Existing { receipt: receipt_at(at), correlation_id };
                answer(existing, same_content)
            }
        })
        .collect()
}

/// The heads of the chains of a batch, read under the lock, and the COPY for each.
#[derive(Debug)]
struct Ledger {
    clock: DateTime<Utc>,
    next_leaf: u64,
    heads: Vec<Head>,
    copies: Vec<(&'static Chain, CopyEncoder)>,
}

#[derive(Debug)]
struct Head {
    id: RowId,
    row_hash: RowHash,
    created_at: DateTime<Utc>,
}

impl Ledger {
    fn read(chains: &[&'static Chain], rows: &[PgRow]) -> Result<Self, StoreError> {
        let contradiction = |what: &str| StoreError::Contradiction {
            statement: "ledger_begin_append",
            what: what.to_owned(),
        };
        let first = rows.first().ok_or_else(|| contradiction("no chain"))?;
        let clock: DateTime<Utc> = first.try_get("clock").in_statement("ledger_begin_append")?;
        let next_leaf: i64 = first.try_get("next_leaf").in_statement("ledger_begin_append")?;
        let mut ledger = Self {
            clock,
            next_leaf: u64::try_from(next_leaf).map_err(|_| contradiction("a negative leaf"))?,
            heads: Vec::with_capacity(chains.len()),
            copies: Vec::with_capacity(chains.len()),
        };
        for (&chain, row) in chains.iter().zip(rows) {
            let name: &str = row.try_get("chain").in_statement("ledger_begin_append")?;
            if name != chain.name {
                return Err(contradiction("chains in another order"));
            }
            let created_at: Option<DateTime<Utc>> =
                row.try_get("created_at").in_statement("ledger_begin_append")?;
            ledger.heads.push(Head {
                id: RowId(row.try_get("id").in_statement("ledger_begin_append")?),
                row_hash: hash(row, "row_hash").in_statement("ledger_begin_append")?,
                // A clock that stepped back repeats the time of the row before.
                created_at: created_at.map_or(clock, |last| last.max(clock)),
            });
        }
        ledger.copies = chains.iter().map(|&chain| (chain, CopyEncoder::new(chain))).collect();
        Ok(ledger)
    }

    /// Gives each new row its place, link and hash, chain by chain: the order in which the
    /// database will enter them into the log.
    fn assign(
        &mut self,
        rows: &[&NewRow],
        plan: &[Decision],
    ) -> Result<Vec<Option<Receipt>>, StoreError> {
        let mut receipts = vec![None; rows.len()];
        let mut buffer = Vec::with_capacity(1024);
        for ((chain, encoder), head) in self.copies.iter_mut().zip(&mut self.heads) {
            for (at, row) in rows.iter().enumerate() {
                let appended = matches!(plan[at], Decision::Append);
                if !appended || !std::ptr::eq(row.chain, *chain) {
                    continue;
                }
                let prev_hash = head.row_hash;
                head.id = RowId(head.id.0 + 1);
                let mut values = row.values.clone();
                if let [id, .., created_at] = values.as_mut_slice() {
                    *id = Value::Integer(head.id.0);
                    *created_at = Value::Timestamp(head.created_at.timestamp_micros());
                }
                head.row_hash = row_hash_in(chain, prev_hash, &values, &mut buffer)
                    .map_err(|error| unhashable(&error))?;
                encoder.push(&values, prev_hash, head.row_hash);
                receipts[at] = Some(Receipt {
                    chain: chain.name.into(),
                    id: head.id,
                    leaf_index: LeafIndex(self.next_leaf),
                    row_hash: head.row_hash,
                    prev_hash,
                    created_at: head.created_at,
                });
                self.next_leaf += 1;
            }
        }
        // Nothing to COPY where every row of a chain was there before.
        self.copies.retain(|(chain, _)| {
            receipts.iter().flatten().any(|receipt: &Receipt| receipt.chain == chain.name)
        });
        Ok(receipts)
    }
}

/// The refusal of a row that has no canonical form, as PostgreSQL would have put it.
fn unhashable(error: &RowError) -> StoreError {
    let sqlstate = match error {
        RowError::Null { .. } => "23502",
        _ => "22003",
    };
    StoreError::Refused {
        statement: "append",
        sqlstate: sqlstate.to_owned(),
        constraint: None,
        message: error.to_string(),
    }
}
