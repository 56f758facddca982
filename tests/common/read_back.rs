//! The whole ledger, read back by plain queries as text and verified with `ledger-verifier`:
//! no line here is shared with `src/store` or `src/integrity`.

use std::collections::HashMap;
use std::net::IpAddr;

use audit_ledger::chains::IN_LEDGER;
use chrono::NaiveDateTime;
use ledger_verifier::check::{ChainRow, Step, StoredRow, not_in_log};
use ledger_verifier::merkle::Tree;
use ledger_verifier::{
    Chain, ChainChecker, ColumnType, Finding, LogChecker, LogEntry, RowHash, RowId, Value, row_hash,
};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::{attempt, run};

/// What a reading found.
pub(crate) struct Found {
    /// All that does not add up.
    pub(crate) problems: Vec<String>,
    /// Rows of all chains.
    pub(crate) rows: usize,
}

/// A row as it was read.
pub(crate) struct ReadRow {
    pub(crate) values: Vec<Value<'static>>,
    pub(crate) prev_hash: String,
    pub(crate) row_hash: String,
}

impl ReadRow {
    /// What the columns hash to, where they can be hashed.
    pub(crate) fn computed(&self, chain: &Chain) -> Option<RowHash> {
        row_hash(chain, RowHash::from_hex(self.prev_hash.as_bytes())?, &self.values).ok()
    }

    fn chain_row(&self) -> Option<ChainRow> {
        let [Value::Integer(id), ..] = self.values[..] else { return None };
        Some(ChainRow { id: RowId(id), row_hash: self.row_hash.clone().into_bytes() })
    }
}

/// Reads and verifies everything: ids, links, hashes, times, the log against the rows, the root
/// over the log against the root over the rows, and the documents.
pub(crate) async fn verify(connection: &mut PgConnection) -> Found {
    run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await;
    let mut findings = Vec::new();
    let mut problems = Vec::new();
    let mut chains = Vec::new();
    for chain in IN_LEDGER {
        let rows = read_chain(connection, chain).await;
        let mut checker = ChainChecker::new(chain);
        for row in &rows {
            let (prev_hash, row_hash) = (row.prev_hash.as_bytes(), row.row_hash.as_bytes());
            checker.check(&StoredRow { values: &row.values, prev_hash, row_hash }, &mut findings);
        }
        if checker.next_id().0 != i64::try_from(rows.len()).unwrap() + 1 {
            problems.push(format!("{} has {} rows, not ids 1 to that", chain.name, rows.len()));
        }
        chains.push((chain, rows));
    }
    let log = read_log(connection).await;
    compare(&log, &chains, &mut findings);
    compare_roots(&log, &chains, &mut problems);
    problems.extend(findings.iter().map(ToString::to_string));
    for chain in IN_LEDGER {
        compare_documents(connection, chain, &mut problems).await;
    }
    // A comparison that failed has ended it already.
    let _ = attempt(connection, "ROLLBACK").await;
    Found { problems, rows: chains.iter().map(|(_, rows)| rows.len()).sum() }
}

type Chains = Vec<(&'static Chain, Vec<ReadRow>)>;

fn compare(log: &[LogEntry], chains: &Chains, findings: &mut Vec<Finding>) {
    let mut rows: HashMap<&str, _> = chains
        .iter()
        .map(|(chain, rows)| {
            (
                chain.name,
                rows.iter()
                    .filter_map(ReadRow::chain_row)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .peekable(),
            )
        })
        .collect();
    let mut checker = LogChecker::new(&IN_LEDGER);
    for entry in log {
        checker.check(entry, findings);
        let Some(rows) = rows.get_mut(entry.chain.as_str()) else { continue };
        loop {
            let step = checker.compare(entry, rows.peek(), findings);
            if step != Step::NextEntry {
                rows.next();
            }
            if step != Step::NextRow {
                break;
            }
        }
    }
    for (chain, rows) in rows {
        findings.extend(rows.map(|row| not_in_log(chain, &row)));
    }
}

/// The tree over what the log says, and over what the rows hash to in the log's order.
fn compare_roots(log: &[LogEntry], chains: &Chains, problems: &mut Vec<String>) {
    let computed: HashMap<(&str, i64), RowHash> = chains
        .iter()
        .flat_map(|(chain, rows)| rows.iter().map(move |row| (chain, row)))
        .filter_map(|(chain, row)| {
            Some(((chain.name, row.chain_row()?.id.0), row.computed(chain)?))
        })
        .collect();
    let (mut over_log, mut over_rows) = (Tree::new(), Tree::new());
    for entry in log {
        if let Some(hash) = RowHash::from_hex(&entry.row_hash) {
            over_log.push(hash);
        }
        if let Some(hash) = computed.get(&(entry.chain.as_str(), entry.id.0)) {
            over_rows.push(*hash);
        }
    }
    if over_log.head() != over_rows.head() {
        problems.push("the log's root is not that of the rows".to_owned());
    }
    let rows: usize = chains.iter().map(|(_, rows)| rows.len()).sum();
    if over_log.size().0 != rows as u64 {
        problems.push(format!("{} leaves for {rows} rows", over_log.size()));
    }
}

async fn compare_documents(
    connection: &mut PgConnection,
    chain: &Chain,
    problems: &mut Vec<String>,
) {
    for column in chain.columns.iter().filter(|column| column.ty == ColumnType::Document) {
        let name = column.name;
        let sql = format!(
            "SELECT id::text FROM public.{} WHERE {name}::text IS DISTINCT FROM {name}_text::jsonb::text",
            chain.name
        );
        let changed = sqlx::query_scalar::<_, Option<String>>(AssertSqlSafe(sql));
        match changed.fetch_all(&mut *connection).await {
            Ok(ids) if ids.is_empty() => {}
            Ok(ids) => problems.push(format!("{}.{name} differs in {ids:?}", chain.name)),
            Err(error) => problems.push(format!("{}.{name}: {error}", chain.name)),
        }
    }
}

/// All rows of a chain in the order of their ids.
pub(crate) async fn read_chain(connection: &mut PgConnection, chain: &Chain) -> Vec<ReadRow> {
    let columns: Vec<_> = chain
        .columns
        .iter()
        .map(|column| match column.ty {
            ColumnType::Bytes => format!("encode({}, 'hex')", column.name),
            ColumnType::Timestamp => format!("timezone('UTC', {})::text", column.name),
            _ => format!("{}::text", column.stored_name()),
        })
        .collect();
    run(connection, "SET DateStyle = 'ISO, YMD'").await;
    let sql = format!(
        "SELECT {}, coalesce(prev_hash::text, ''), coalesce(row_hash::text, '')
         FROM public.{1} ORDER BY {1}.id",
        columns.join(", "),
        chain.name
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| parse_row(chain, row)).collect()
}

fn parse_row(chain: &Chain, row: &PgRow) -> ReadRow {
    let hashes = chain.columns.len();
    let parse =
        |(at, column): (usize, &ledger_verifier::Column)| match row.get::<Option<&str>, _>(at) {
            Some(text) => parse(column.ty, text),
            None => Value::Null,
        };
    ReadRow {
        values: chain.columns.iter().enumerate().map(parse).collect(),
        prev_hash: row.get(hashes),
        row_hash: row.get(hashes + 1),
    }
}

/// A value from PostgreSQL's own text.
pub(crate) fn parse(ty: ColumnType, text: &str) -> Value<'static> {
    let value = match ty {
        ColumnType::BigInt | ColumnType::Integer => text.parse().ok().map(Value::Integer),
        ColumnType::Boolean => Some(Value::Boolean(text == "true")),
        ColumnType::Numeric { scale, .. } => parse_decimal(text, scale).map(Value::Decimal),
        ColumnType::Text { .. } => Some(Value::Text(text.to_owned().into())),
        ColumnType::Uuid => {
            let bytes = hex::decode(text.replace('-', "")).ok();
            bytes.and_then(|bytes| bytes.try_into().ok()).map(Value::Uuid)
        }
        ColumnType::Inet => parse_inet(text).map(Value::Inet),
        ColumnType::Timestamp => NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
            .ok()
            .map(|time| Value::Timestamp(time.and_utc().timestamp_micros())),
        ColumnType::Document => Some(Value::Document(text.to_owned().into())),
        ColumnType::Bytes => hex::decode(text).ok().map(|bytes| Value::Bytes(bytes.into())),
    };
    value.unwrap_or(Value::Unhashable("what cannot be read back"))
}

fn parse_decimal(text: &str, scale: u8) -> Option<i128> {
    let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() != usize::from(scale) {
        return None;
    }
    format!("{integer}{fraction}").parse().ok()
}

/// A host address: `inet` casts to text with its mask.
fn parse_inet(text: &str) -> Option<IpAddr> {
    let (address, mask) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    (mask == if address.is_ipv4() { "32" } else { "128" }).then_some(address)
}

async fn read_log(connection: &mut PgConnection) -> Vec<LogEntry> {
    let rows = sqlx::query_as::<_, (Option<i64>, Option<String>, Option<i64>, Option<String>)>(
        "SELECT leaf_index, chain::text, id, row_hash::text FROM public.ledger_log
         ORDER BY ledger_log.leaf_index",
    );
    rows.fetch_all(connection)
        .await
        .unwrap()
        .into_iter()
        .map(|(leaf_index, chain, id, row_hash)| LogEntry {
            leaf_index: leaf_index.unwrap_or(-1),
            chain: chain.unwrap_or_default(),
            id: RowId(id.unwrap_or(-1)),
            row_hash: row_hash.unwrap_or_default().into_bytes(),
        })
        .collect()
}
