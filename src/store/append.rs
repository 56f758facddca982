//! The transaction that appends: the only place that writes to a chain.

mod known;
mod plan;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_verifier::row::{RowError, row_hash_in};
use ledger_verifier::{Chain, LeafIndex, RowHash, RowId, Value};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use known::{Known, hash};
use plan::{Decision, outcomes, plan};

use super::copy::{CopyEncoder, copy_columns};
use super::{Database, InStatement, StoreError, says_rolled_back};
use crate::chains::{Appended, Identity, Lockdown, NewRow, Receipt, stops_in_lockdown};
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
    /// What each row became, if the commit succeeds; an error where the ledger contradicts itself in
    /// what this row meets, and the others' do not.
    pub outcomes: Vec<Result<Appended, StoreError>>,
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
        // LATERAL … LIMIT 1. Operators have no schema in these queries, so nobody's may come first.
        sqlx::raw_sql(
            "/* append_connect */
             SELECT set_config('synchronous_commit',
                 CASE current_setting('synchronous_commit')
                     WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false);
             SET enable_seqscan = off; SET search_path = pg_catalog, pg_temp",
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
        let lockdown = ledger.lockdown.take();
        let wanted: Vec<_> = rows
            .iter()
            .copied()
            .filter(|row| lockdown.is_none() || !stops_in_lockdown(row.chain))
            .collect();
        let known = Known::find(&mut self.connection, &wanted).await?;

        let plan = plan(rows, known, lockdown.as_ref(), &ledger.unreadable);
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
        self.keep_requests(rows, &receipts).await?;
        let witness = receipts.iter().flatten().next().cloned();
        Ok(Prepared { outcomes: outcomes(rows, plan, &receipts, lockdown.as_ref()), witness })
    }

    /// Keeps the idempotency keys of the requests whose rows are new.
    async fn keep_requests(
        &mut self,
        rows: &[&NewRow],
        receipts: &[Option<Receipt>],
    ) -> Result<(), StoreError> {
        let (mut recorders, mut chains, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let (mut contents, mut ids) = (Vec::new(), Vec::new());
        for (row, receipt) in rows.iter().zip(receipts) {
            if let (Identity::Request { recorded_by, key, content }, Some(receipt)) =
                (&row.identity, receipt)
            {
                recorders.push(recorded_by.as_str());
                chains.push(row.chain.name);
                keys.push(key.as_str());
                contents.push(content.as_slice());
                ids.push(receipt.id.0);
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "/* keep_requests */
             INSERT INTO public.idempotency_keys (recorded_by, chain, key, request_sha256, id)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[])",
        )
        .bind(recorders)
        .bind(chains)
        .bind(keys)
        .bind(contents)
        .bind(ids)
        .execute(&mut self.connection)
        .await
        .in_statement("keep_requests")?;
        Ok(())
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
             SELECT chain, id, row_hash, created_at, next_leaf, clock, locked_since, lock_reason
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
}

/// The heads of the chains of a batch, read under the lock, and the COPY for each.
#[derive(Debug)]
struct Ledger {
    clock: DateTime<Utc>,
    lockdown: Option<Lockdown>,
    next_leaf: u64,
    /// `None` where nothing can be appended: in a lockdown, or to a chain that is unreadable.
    heads: Vec<Option<Head>>,
    /// Chains whose last row is not one that another could follow, with what is wrong.
    unreadable: HashMap<&'static str, String>,
    copies: Vec<(&'static Chain, CopyEncoder)>,
}

#[derive(Debug)]
struct Head {
    id: RowId,
    row_hash: RowHash,
    created_at: DateTime<Utc>,
}

impl Head {
    fn read(row: &PgRow, clock: DateTime<Utc>) -> Result<Self, sqlx::Error> {
        let created_at: Option<DateTime<Utc>> = row.try_get("created_at")?;
        Ok(Self {
            id: RowId(row.try_get("id")?),
            row_hash: hash(row, "row_hash")?,
            // A clock that stepped back repeats the time of the row before.
            created_at: created_at.map_or(clock, |last| last.max(clock)),
        })
    }
}

impl Ledger {
    fn read(chains: &[&'static Chain], rows: &[PgRow]) -> Result<Self, StoreError> {
        const STATEMENT: &str = "ledger_begin_append";
        let contradiction =
            |what: &str| StoreError::Contradiction { statement: STATEMENT, what: what.to_owned() };
        let first = rows.first().ok_or_else(|| contradiction("no chain"))?;
        let next_leaf: i64 = first.try_get("next_leaf").in_statement(STATEMENT)?;
        let since: Option<DateTime<Utc>> = first.try_get("locked_since").in_statement(STATEMENT)?;
        let reason: Option<String> = first.try_get("lock_reason").in_statement(STATEMENT)?;
        let mut ledger = Self {
            clock: first.try_get("clock").in_statement(STATEMENT)?,
            lockdown: since.map(|since| Lockdown { since, reason: reason.unwrap_or_default() }),
            next_leaf: u64::try_from(next_leaf).map_err(|_| contradiction("a negative leaf"))?,
            heads: Vec::with_capacity(chains.len()),
            unreadable: HashMap::new(),
            copies: chains.iter().map(|&chain| (chain, CopyEncoder::new(chain))).collect(),
        };
        for (&chain, row) in chains.iter().zip(rows) {
            let name: &str = row.try_get("chain").in_statement(STATEMENT)?;
            if name != chain.name {
                return Err(contradiction("chains in another order"));
            }
            let head = ledger.read_head(chain, row);
            ledger.heads.push(head);
        }
        Ok(ledger)
    }

    /// In a lockdown only the chains that stay open are looked at: what was done to the others is
    /// why it was entered, and must not keep deliveries out of quarantine.
    fn read_head(&mut self, chain: &'static Chain, row: &PgRow) -> Option<Head> {
        if self.lockdown.is_some() && stops_in_lockdown(chain) {
            return None;
        }
        match Head::read(row, self.clock) {
            Ok(head) => Some(head),
            Err(error) => {
                let what = format!("no row can follow the last one of {}: {error}", chain.name);
                self.unreadable.insert(chain.name, what);
                None
            }
        }
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
            let Some(head) = head else { continue };
            for (at, row) in rows.iter().enumerate() {
                let appended = matches!(plan[at], Decision::Append(_));
                if !appended || !std::ptr::eq(row.chain, *chain) {
                    continue;
                }
                let prev_hash = head.row_hash;
                head.id = RowId(head.id.0 + 1);
                let mut values: Vec<_> = row.values.iter().map(Value::borrowed).collect();
                if let Decision::Append(Some(repeated)) = &plan[at] {
                    repeated.fill(&mut values);
                }
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
