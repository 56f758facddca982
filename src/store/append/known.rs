//! What a batch's rows meet in the ledger: rows that they are the same as, and rows that they
//! name. Read under the ledger's lock, so that it holds until the commit.
//!
//! A row that was tampered with is known all the same, and so is one that the log has lost: its key is
//! taken. Whatever cannot be read of it concerns those who send it again, and nobody else.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use ledger_verifier::chain::{QUARANTINED_DELIVERIES, SIGNAL_AUDIT_LEDGER, SIGNALS};
use ledger_verifier::row::write_json;
use ledger_verifier::{Chain, LeafIndex, RowHash, RowId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::super::copy::POSTGRES_EPOCH_MICROS;
use super::super::rows::{columns_in_order, values};
use super::super::signals::KEY_OF_RECORD;
use super::super::{InStatement, StoreError};
use super::plan::{Key, Stored, Waiting, key};
use crate::chains::signal_audit_ledger::{Repeated, content};
use crate::chains::signals::SAME_BYTES;
use crate::chains::{Existing, Identity, NewRow, Receipt, Target};

/// What the ledger says of a batch.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Rows that others are the same as, by what they are recognised by.
    pub(super) stored: HashMap<Key, Stored>,
    /// Rows that others name and that are not there.
    pub(super) missing: HashSet<Target>,
    /// Signals of producers, by producer and key, with what their outcomes repeat.
    pub(super) signals: HashMap<(String, String), Repeated>,
    /// Whether the batch has outcomes.
    pub(super) has_outcomes: bool,
}

impl Known {
    /// Looks for everything that these rows could meet.
    pub(super) async fn find(
        connection: &mut PgConnection,
        rows: &[&NewRow],
    ) -> Result<Self, StoreError> {
        let mut stored = find_signals(connection, rows).await?;
        stored.extend(find_deliveries(connection, rows).await?);
        stored.extend(find_waiting(connection, rows).await?);
        stored.extend(find_requests(connection, rows).await?);
        let mut known = Self { stored, ..Self::default() };
        known.find_records(connection, rows).await?;
        known.missing = find_missing(connection, rows).await?;
        Ok(known)
    }
}

impl Known {
    /// What is there of producers' records: the signals of their keys, and the same outcomes.
    async fn find_records(
        &mut self,
        connection: &mut PgConnection,
        rows: &[&NewRow],
    ) -> Result<(), StoreError> {
        let (mut sources, mut ids) = (Vec::new(), Vec::new());
        let mut outcomes = Vec::new();
        for row in rows {
            if let Identity::Record { source_module, signal_id, is_outcome, .. } = &row.identity {
                sources.push(source_module.as_str());
                ids.push(signal_id.as_str());
                if *is_outcome {
                    outcomes.push(*row);
                }
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let statement = format!(
            "/* find_records */
             SELECT {columns}, t.prev_hash::text, t.row_hash::text, l.leaf_index,
                    k.source_module AS of_source, k.signal_id AS of_signal
             FROM unnest($1::text[], $2::text[]) AS k (source_module, signal_id)
             CROSS JOIN LATERAL (
                 SELECT * FROM public.signal_audit_ledger AS t
                 WHERE t.signal_id = k.signal_id AND t.source_module = k.source_module
                   AND {KEY_OF_RECORD} = ''::bytea LIMIT 1) AS t
             LEFT JOIN LATERAL (
                 SELECT g.leaf_index FROM public.ledger_log AS g
                 WHERE g.chain = 'signal_audit_ledger' AND g.id = t.id LIMIT 1) AS l ON true",
            columns = columns_in_order(&SIGNAL_AUDIT_LEDGER)
        );
        let found = sqlx::query(AssertSqlSafe(statement))
            .bind(sources)
            .bind(ids)
            .fetch_all(&mut *connection)
            .await
            .in_statement("find_records")?;
        for row in &found {
            let of = |column| row.try_get::<String, _>(column).in_statement("find_records");
            let signal = (of("of_source")?, of("of_signal")?);
            let key = Key::Record(signal.0.clone(), signal.1.clone(), None);
            let values = values(&SIGNAL_AUDIT_LEDGER, row).in_statement("find_records")?;
            let read = stored_record(row, content(&values));
            if matches!(read, Stored::Before { .. }) {
                self.signals.insert(signal, Repeated::of(&values));
            }
            self.stored.insert(key, read);
        }
        self.has_outcomes = !outcomes.is_empty();
        if self.has_outcomes {
            self.stored.extend(find_outcomes(connection, &outcomes).await?);
        }
        Ok(())
    }
}

/// The row as JSON, as it stands before it is appended.
fn members(row: &NewRow) -> String {
    let mut json = Vec::with_capacity(512);
    write_json(row.chain, &row.values, ("", ""), None, &mut json);
    String::from_utf8(json).expect("a row's JSON is UTF-8")
}

/// Outcomes of the same content.
async fn find_outcomes(
    connection: &mut PgConnection,
    outcomes: &[&NewRow],
) -> Result<HashMap<Key, Stored>, StoreError> {
    const STATEMENT: &str = "find_outcomes";
    // The values travel as JSON, in the spelling of the ledger.
    let given: Vec<_> = outcomes.iter().map(|row| members(row)).collect();
    let statement = format!(
        "/* find_outcomes */
         SELECT k.place::int, t.received_at, t.id, t.prev_hash::text, t.row_hash::text, t.created_at,
                l.leaf_index
         FROM unnest($1::text[]) WITH ORDINALITY AS g (members, place)
         CROSS JOIN LATERAL (
             SELECT g.place, r.* FROM pg_catalog.jsonb_populate_record(
                 NULL::public.signal_audit_ledger, g.members::jsonb) AS r OFFSET 0) AS k
         CROSS JOIN LATERAL (
             SELECT * FROM public.signal_audit_ledger AS t
             WHERE t.signal_id = k.signal_id AND t.source_module = k.source_module
               AND {KEY_OF_RECORD} = public.ledger_outcome_content(
                   k.signal_type, k.confidence, k.price, k.\"timestamp\", k.received_at,
                   k.payload_json_text, k.acted_upon, k.execution_id, k.correlation_id)
             LIMIT 1) AS t
         LEFT JOIN LATERAL (
             SELECT g.leaf_index FROM public.ledger_log AS g
             WHERE g.chain = 'signal_audit_ledger' AND g.id = t.id LIMIT 1) AS l ON true"
    );
    let found = sqlx::query(AssertSqlSafe(statement))
        .bind(given)
        .fetch_all(connection)
        .await
        .in_statement(STATEMENT)?;
    let mut stored_outcomes = HashMap::new();
    for row in &found {
        let place: i32 = row.try_get("place").in_statement(STATEMENT)?;
        let outcome = usize::try_from(place - 1).ok().and_then(|at| outcomes.get(at));
        if let Some((key, content)) = outcome.and_then(|outcome| key(outcome)) {
            let read = stored_record(row, content);
            stored_outcomes.insert(key, read);
        }
    }
    Ok(stored_outcomes)
}

async fn find_signals(
    connection: &mut PgConnection,
    rows: &[&NewRow],
) -> Result<HashMap<Key, Stored>, StoreError> {
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
        return Ok(HashMap::new());
    }
    let found = sqlx::query(
        "/* find_signals */
         SELECT k.recorded_by, k.signal_id, s.correlation_id, s.received_at,
                pg_catalog.sha256(pg_catalog.convert_to(s.raw_payload_text, 'UTF8')) AS content,
                s.id, s.prev_hash::text, s.row_hash::text, s.created_at, l.leaf_index
         FROM unnest($1::text[], $2::text[]) AS k (recorded_by, signal_id)
         CROSS JOIN LATERAL (
             SELECT * FROM public.signals AS t
             WHERE t.recorded_by = k.recorded_by AND t.signal_id = k.signal_id LIMIT 1) AS s
         LEFT JOIN LATERAL (
             SELECT t.leaf_index FROM public.ledger_log AS t
             WHERE t.chain = 'signals' AND t.id = s.id LIMIT 1) AS l ON true",
    )
    .bind(recorders)
    .bind(ids)
    .fetch_all(connection)
    .await
    .in_statement("find_signals")?;
    let key = |row: &PgRow| Ok(Key::Signal(row.try_get("recorded_by")?, row.try_get("signal_id")?));
    let correlation_id = |row: &PgRow| row.try_get("correlation_id");
    known(&found, &SIGNALS, key, correlation_id).in_statement("find_signals")
}

async fn find_deliveries(
    connection: &mut PgConnection,
    rows: &[&NewRow],
) -> Result<HashMap<Key, Stored>, StoreError> {
    let (mut sources, mut reasons, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if let Identity::Delivery { source, reason, content } = &row.identity {
            sources.push(source.as_str());
            reasons.push(*reason);
            contents.push(content.as_slice());
        }
    }
    if sources.is_empty() {
        return Ok(HashMap::new());
    }
    let found = sqlx::query(
        "/* find_deliveries */
         SELECT k.source, k.reason, k.content, q.received_at,
                q.id, q.prev_hash::text, q.row_hash::text, q.created_at, l.leaf_index
         FROM unnest($1::text[], $2::text[], $3::bytea[]) AS k (source, reason, content)
         CROSS JOIN LATERAL (
             SELECT * FROM public.quarantined_deliveries AS t
             WHERE t.source = k.source AND t.reason = k.reason AND t.reason::text <> 'lockdown'
               AND pg_catalog.sha256(t.body) = k.content LIMIT 1) AS q
         LEFT JOIN LATERAL (
             SELECT t.leaf_index FROM public.ledger_log AS t
             WHERE t.chain = 'quarantined_deliveries' AND t.id = q.id LIMIT 1) AS l ON true",
    )
    .bind(sources)
    .bind(reasons)
    .bind(contents)
    .fetch_all(connection)
    .await
    .in_statement("find_deliveries")?;
    let key = |row: &PgRow| {
        Ok(Key::Delivery(row.try_get("source")?, row.try_get("reason")?, row.try_get("content")?))
    };
    known(&found, &QUARANTINED_DELIVERIES, key, |_| Ok(None)).in_statement("find_deliveries")
}

/// What was kept in a lockdown, at most [`SAME_BYTES`] before or after.
async fn find_waiting(
    connection: &mut PgConnection,
    rows: &[&NewRow],
) -> Result<HashMap<Key, Stored>, StoreError> {
    let (mut sources, mut details) = (Vec::new(), Vec::new());
    let (mut contents, mut times) = (Vec::new(), Vec::new());
    for row in rows {
        if let Identity::Waiting { source, detail, received_at, content } = &row.identity {
            sources.push(source.as_str());
            details.push(detail.as_deref());
            contents.push(content.as_slice());
            times.push(*received_at);
        }
    }
    if sources.is_empty() {
        return Ok(HashMap::new());
    }
    let found = sqlx::query(
        "/* find_waiting */
         SELECT k.source, k.detail, k.content, q.received_at,
                q.id, q.prev_hash::text, q.row_hash::text, q.created_at, l.leaf_index
         FROM unnest($1::text[], $2::text[], $3::bytea[], $4::timestamptz[])
             AS k (source, detail, content, received_at)
         CROSS JOIN LATERAL (
             SELECT * FROM public.quarantined_deliveries AS t
             WHERE t.source = k.source AND t.reason::text = 'lockdown'
               AND pg_catalog.sha256(t.body) = k.content
               AND t.received_at BETWEEN k.received_at - pg_catalog.make_interval(secs => $5)
                                     AND k.received_at + pg_catalog.make_interval(secs => $5)
               AND t.detail IS NOT DISTINCT FROM k.detail LIMIT 1) AS q
         LEFT JOIN LATERAL (
             SELECT t.leaf_index FROM public.ledger_log AS t
             WHERE t.chain = 'quarantined_deliveries' AND t.id = q.id LIMIT 1) AS l ON true",
    )
    .bind(sources)
    .bind(details)
    .bind(contents)
    .bind(times)
    .bind(SAME_BYTES.as_seconds_f64())
    .fetch_all(connection)
    .await
    .in_statement("find_waiting")?;
    let key = |row: &PgRow| {
        Ok(Key::Waiting(Waiting {
            source: row.try_get("source")?,
            detail: row.try_get("detail")?,
            content: row.try_get("content")?,
            minute: Waiting::minute(time(row, "received_at")?),
        }))
    };
    known(&found, &QUARANTINED_DELIVERIES, key, |_| Ok(None)).in_statement("find_waiting")
}

/// Rows that requests with the same idempotency keys made.
async fn find_requests(
    connection: &mut PgConnection,
    rows: &[&NewRow],
) -> Result<HashMap<Key, Stored>, StoreError> {
    const STATEMENT: &str = "find_requests";
    let mut by_chain: Vec<(&'static Chain, Vec<&str>, Vec<&str>)> = Vec::new();
    for row in rows {
        if let Identity::Request { recorded_by, key, .. } = &row.identity {
            let at = by_chain.iter().position(|(chain, ..)| std::ptr::eq(*chain, row.chain));
            let at = at.unwrap_or_else(|| {
                by_chain.push((row.chain, Vec::new(), Vec::new()));
                by_chain.len() - 1
            });
            by_chain[at].1.push(recorded_by);
            by_chain[at].2.push(key);
        }
    }
    let mut stored = HashMap::new();
    for (chain, recorders, keys) in by_chain {
        let statement = format!(
            "/* find_requests */
             SELECT k.recorded_by, k.key, i.request_sha256 AS content,
                    r.created_at AS received_at, i.id, r.prev_hash::text, r.row_hash::text,
                    r.created_at, l.leaf_index
             FROM unnest($1::text[], $2::text[]) AS k (recorded_by, key)
             CROSS JOIN LATERAL (
                 SELECT * FROM public.idempotency_keys AS t
                 WHERE t.recorded_by = k.recorded_by AND t.chain = '{name}' AND t.key = k.key
                 LIMIT 1) AS i
             LEFT JOIN LATERAL (
                 SELECT * FROM public.{name} AS t WHERE t.id = i.id LIMIT 1) AS r ON true
             LEFT JOIN LATERAL (
                 SELECT t.leaf_index FROM public.ledger_log AS t
                 WHERE t.chain = '{name}' AND t.id = i.id LIMIT 1) AS l ON true",
            name = chain.name
        );
        let found = sqlx::query(AssertSqlSafe(statement))
            .bind(recorders)
            .bind(keys)
            .fetch_all(&mut *connection)
            .await
            .in_statement(STATEMENT)?;
        let key = |row: &PgRow| {
            Ok(Key::Request(row.try_get("recorded_by")?, chain.name, row.try_get("key")?))
        };
        stored.extend(known(&found, chain, key, |_| Ok(None)).in_statement(STATEMENT)?);
    }
    Ok(stored)
}

/// The rows that others name and that are not there. A foreign key would refuse the whole batch.
async fn find_missing(
    connection: &mut PgConnection,
    rows: &[&NewRow],
) -> Result<HashSet<Target>, StoreError> {
    const STATEMENT: &str = "find_missing";
    let (mut signals, mut orders) = (Vec::new(), Vec::new());
    for row in rows {
        match row.reference.map(|reference| reference.target) {
            Some(Target::Signal(correlation_id)) => signals.push(correlation_id),
            Some(Target::Order(id)) => orders.push(id.0),
            None => {}
        }
    }
    if signals.is_empty() && orders.is_empty() {
        return Ok(HashSet::new());
    }
    let found = sqlx::query(
        "/* find_missing */
         SELECT k.correlation_id, NULL::bigint AS id FROM unnest($1::uuid[]) AS k (correlation_id)
         WHERE NOT EXISTS (
             SELECT FROM public.signals AS t WHERE t.correlation_id = k.correlation_id)
         UNION ALL
         SELECT NULL, k.id FROM unnest($2::bigint[]) AS k (id)
         WHERE NOT EXISTS (SELECT FROM public.order_execution AS t WHERE t.id = k.id)",
    )
    .bind(signals)
    .bind(orders)
    .fetch_all(connection)
    .await
    .in_statement(STATEMENT)?;
    let missing = |row: &PgRow| {
        let correlation_id: Option<Uuid> = row.try_get("correlation_id")?;
        Ok(match correlation_id {
            Some(correlation_id) => Target::Signal(correlation_id),
            None => Target::Order(RowId(row.try_get("id")?)),
        })
    };
    found.iter().map(missing).collect::<Result<_, sqlx::Error>>().in_statement(STATEMENT)
}

/// The rows that were found, by what they are recognised by.
fn known(
    found: &[PgRow],
    chain: &'static Chain,
    key: impl Fn(&PgRow) -> Result<Key, sqlx::Error>,
    correlation_id: impl Fn(&PgRow) -> Result<Option<Uuid>, sqlx::Error>,
) -> Result<HashMap<Key, Stored>, sqlx::Error> {
    let stored = |row: &PgRow| {
        let before = || {
            Ok(Stored::Before {
                content: row.try_get("content")?,
                received_at: time(row, "received_at")?,
                existing: existing(chain, row, correlation_id(row)?)?,
            })
        };
        Ok((key(row)?, before().unwrap_or_else(|error| damaged(chain, row, &error))))
    };
    found.iter().map(stored).collect()
}

/// A record that was found; its content has been compared by the database, or is this.
fn stored_record(row: &PgRow, content: [u8; 32]) -> Stored {
    let before = || {
        Ok(Stored::Before {
            content: content.to_vec(),
            received_at: time(row, "received_at")?,
            existing: existing(&SIGNAL_AUDIT_LEDGER, row, None)?,
        })
    };
    before().unwrap_or_else(|error| damaged(&SIGNAL_AUDIT_LEDGER, row, &error))
}

fn existing(
    chain: &'static Chain,
    row: &PgRow,
    correlation_id: Option<Uuid>,
) -> Result<Existing, sqlx::Error> {
    Ok(Existing { receipt: receipt(chain, row)?, correlation_id })
}

fn damaged(chain: &'static Chain, row: &PgRow, error: &sqlx::Error) -> Stored {
    let id = row.try_get::<i64, _>("id").unwrap_or_default();
    Stored::Damaged {
        received_at: time(row, "received_at").ok(),
        what: format!("row {id} of {} is known and not whole: {error}", chain.name),
    }
}

fn receipt(chain: &'static Chain, row: &PgRow) -> Result<Receipt, sqlx::Error> {
    let leaf_index: Option<i64> = row.try_get("leaf_index")?;
    let leaf_index = leaf_index.and_then(|leaf| u64::try_from(leaf).ok());
    let leaf_index = leaf_index.ok_or_else(|| sqlx::Error::Decode("the log has lost it".into()))?;
    Ok(Receipt {
        chain: chain.name.into(),
        id: RowId(row.try_get("id")?),
        leaf_index: LeafIndex(leaf_index),
        row_hash: hash(row, "row_hash")?,
        prev_hash: hash(row, "prev_hash")?,
        created_at: time(row, "created_at")?,
    })
}

/// A time of a prepared statement's answer, in the binary form: microseconds since 2000. sqlx would
/// panic at one that only PostgreSQL can hold, such as infinity.
fn time(row: &PgRow, column: &str) -> Result<DateTime<Utc>, sqlx::Error> {
    let micros: i64 = row.try_get_unchecked(column)?;
    let time = micros.checked_add(POSTGRES_EPOCH_MICROS).and_then(DateTime::from_timestamp_micros);
    time.ok_or_else(|| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: "no time that the ledger knows".into(),
    })
}

pub(super) fn hash(row: &PgRow, column: &str) -> Result<RowHash, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}
