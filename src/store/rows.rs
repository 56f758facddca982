//! Single rows, and pages of rows.

use chrono::DateTime;
use ledger_verifier::row::write_json;
use ledger_verifier::{Chain, ColumnType, LeafIndex, Value};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row, ValueRef};

use super::copy::decode;
use super::filter::condition;
use super::page::{List, PageRange, Slice, size_of};
use super::pool::Pool;
use super::{InStatement, StoreError};
use crate::chains::rfc3339;
use crate::query::Filter;

/// A row as it was read.
#[derive(Debug)]
pub struct StoredRow {
    /// Its chain.
    pub chain: &'static Chain,
    /// One value for each column.
    pub values: Vec<Value<'static>>,
    /// The stored `prev_hash`.
    pub prev_hash: String,
    /// The stored `row_hash`.
    pub row_hash: String,
    /// Its place in the log; `None` where the log does not have it.
    pub leaf_index: Option<LeafIndex>,
}

impl StoredRow {
    /// The row's id.
    pub fn id(&self) -> i64 {
        match self.values.first() {
            Some(Value::Integer(id)) => *id,
            _ => 0,
        }
    }

    /// When it was appended, in microseconds since 1970.
    pub fn created_at_micros(&self) -> Option<i64> {
        match self.values.last() {
            Some(Value::Timestamp(micros)) => Some(*micros),
            _ => None,
        }
    }

    /// The value of a column.
    pub fn value(&self, column: &str) -> Option<&Value<'static>> {
        self.values.get(self.chain.position(column)?)
    }

    /// Where it stands, as its writer was told.
    pub fn receipt_json(&self) -> Json {
        let created_at = self.created_at_micros().and_then(DateTime::from_timestamp_micros);
        json!({
            "chain": self.chain.name,
            "id": self.id(),
            "leaf_index": self.leaf_index.map(|leaf| leaf.0),
            "row_hash": self.row_hash,
            "prev_hash": self.prev_hash,
            "created_at": created_at.map(rfc3339),
        })
    }

    /// The row as JSON, the same everywhere.
    pub fn to_json(&self) -> Box<RawValue> {
        let mut json = Vec::with_capacity(512);
        let hashes = (self.prev_hash.as_str(), self.row_hash.as_str());
        write_json(self.chain, &self.values, hashes, self.leaf_index, &mut json);
        let json = String::from_utf8(json).expect("a row's JSON is UTF-8");
        RawValue::from_string(json).expect("a row's JSON is JSON")
    }
}

/// The row of this id.
pub async fn find_row(
    pool: &Pool,
    chain: &'static Chain,
    id: i64,
) -> Result<Option<StoredRow>, StoreError> {
    let found = select(pool.get(), chain, "t.id = $1", |query| query.bind(id)).await?;
    Ok(found.into_iter().next())
}

/// Rows that meet a filter.
pub async fn list_rows(
    pool: &Pool,
    filter: &Filter,
    range: PageRange,
) -> Result<Slice<StoredRow>, StoreError> {
    let chain = filter.chain;
    let ids = pool.id_range(filter).await?;
    // The ids come from indexes alone, also where many rows must be passed over to find them.
    let select = format!(
        "SELECT {columns}, {size} AS size FROM public.{name} AS t WHERE t.id = ANY (ARRAY(
             SELECT t.id FROM public.{name} AS t WHERE {condition} {after}))",
        columns = columns(chain),
        size = size(chain),
        name = chain.name,
        condition = condition(filter, ids),
        after = range.after("t.id"),
    );
    let list = List { name: "list_rows", select: &select, id: "id" };
    list.read(pool, range, |row| read(chain, row)).await
}

pub(super) type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

pub(super) async fn select<'c>(
    executor: impl sqlx::PgExecutor<'c>,
    chain: &'static Chain,
    condition: &str,
    bind: impl FnOnce(Query) -> Query,
) -> Result<Vec<StoredRow>, StoreError> {
    const STATEMENT: &str = "select_rows";
    let statement = format!(
        "/* select_rows */ SELECT {columns} FROM public.{name} AS t WHERE {condition}",
        columns = columns(chain),
        name = chain.name,
    );
    let found = bind(sqlx::query(AssertSqlSafe(statement)))
        .fetch_all(executor)
        .await
        .in_statement(STATEMENT)?;
    found.iter().map(|row| read(chain, row)).collect::<Result<_, _>>().in_statement(STATEMENT)
}

/// What [`read`] reads of a row `t`.
fn columns(chain: &Chain) -> String {
    let hashes = "t.prev_hash, t.row_hash";
    format!("{}, {hashes}, {} AS leaf_index", columns_in_order(chain), leaf_index(chain))
}

/// What [`values`] reads of a row `t`; nothing may stand before it.
pub(super) fn columns_in_order(chain: &Chain) -> String {
    let columns: Vec<_> =
        chain.columns.iter().map(|column| format!("t.{}", column.stored_name())).collect();
    columns.join(", ")
}

/// The place in the log of a row `t`.
pub(super) fn leaf_index(chain: &Chain) -> String {
    format!(
        "(SELECT l.leaf_index FROM public.ledger_log AS l
          WHERE l.chain = '{}' AND l.id = t.id ORDER BY l.leaf_index LIMIT 1)",
        chain.name
    )
}

/// The bytes that a row `t` holds.
pub(super) fn size(chain: &Chain) -> String {
    let is_long =
        |ty| matches!(ty, ColumnType::Text { .. } | ColumnType::Document | ColumnType::Bytes);
    let long = chain.columns.iter().filter(|column| is_long(column.ty));
    let names: Vec<_> = long.map(|column| format!("t.{}", column.stored_name())).collect();
    size_of(names.iter().map(String::as_str))
}

/// The values of a row's columns, of a prepared statement's answer.
pub(super) fn values(
    chain: &'static Chain,
    row: &PgRow,
) -> Result<Vec<Value<'static>>, sqlx::Error> {
    chain
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let raw = row.try_get_raw(at)?;
            // Prepared statements answer in the binary form that COPY has, too.
            let field = if raw.is_null() {
                None
            } else {
                Some(raw.as_bytes().map_err(sqlx::Error::Decode)?)
            };
            Ok(decode(column.ty, field).into_owned())
        })
        .collect()
}

fn read(chain: &'static Chain, row: &PgRow) -> Result<StoredRow, sqlx::Error> {
    let values = values(chain, row)?;
    let leaf_index: Option<i64> = row.try_get("leaf_index")?;
    // NULL only where somebody tampered, which is no reason not to show the row.
    let hash = |column: &str| row.try_get(column).map(Option::<String>::unwrap_or_default);
    Ok(StoredRow {
        chain,
        values,
        prev_hash: hash("prev_hash")?,
        row_hash: hash("row_hash")?,
        leaf_index: leaf_index.and_then(|leaf| u64::try_from(leaf).ok()).map(LeafIndex),
    })
}
