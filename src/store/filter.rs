//! A filter in SQL. Values are written as literals: a statement is planned for the very values that
//! are asked for, and COPY takes no parameters.

use chrono::DateTime;
use ledger_verifier::{Chain, ColumnType, Value};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::{InStatement, StoreError};
use crate::chains::rfc3339;
use crate::query::{Comparison, Condition, Filter, TIMESTAMP};

/// The ids among which a filter's rows are: from the first up to, and without, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdRange {
    pub(super) from: i64,
    pub(super) before: i64,
}

/// A condition on a row `t` that holds for the filter's rows within these ids.
pub(super) fn condition(filter: &Filter, ids: IdRange) -> String {
    let ids = format!("t.id >= {} AND t.id < {}", ids.from, ids.before);
    let all: Vec<_> = std::iter::once(ids).chain(filter.conditions().map(comparison)).collect();
    all.join(" AND ")
}

fn comparison(condition: &Condition) -> String {
    let operator = match condition.comparison {
        Comparison::Equal => "=",
        Comparison::AtLeast => ">=",
        Comparison::AtMost => "<=",
        Comparison::Below => "<",
    };
    let column = condition.column;
    match (&condition.value, condition.ty) {
        // A boolean by itself is what a partial index stands for.
        (Value::Boolean(true), _) => format!("t.{column}"),
        (Value::Boolean(false), _) => format!("NOT t.{column}"),
        (value, ty) => {
            // CHAR(64) compared with a text would not use its index.
            let cast = if column == "row_hash" { "::char(64)" } else { "" };
            format!("t.{column} {operator} {}{cast}", literal(value, ty))
        }
    }
}

/// Rows of a range of producers' times that are looked up by that time, at most.
const FEW: i64 = 30_000;

/// The ids of the filter's rows, as far as its bounds of ids and times tell.
pub(super) async fn id_range(
    connection: &mut PgConnection,
    filter: &Filter,
) -> Result<IdRange, StoreError> {
    let range = range_of_appends(&mut *connection, filter).await?;
    let times: Vec<_> =
        filter.conditions().filter(|condition| condition.column == TIMESTAMP).collect();
    if times.is_empty() {
        return Ok(range);
    }
    // Producers' times nearly follow the ids, and the planner takes them for scattered: it would look
    // for a day of long ago from the newest row on. Where they are few, they say where to look.
    let of_times: Vec<_> = times.into_iter().map(comparison).collect();
    let statement = format!(
        "/* id_range */ SELECT coalesce(min(id), 0), coalesce(max(id), -1) + 1, count(*)
         FROM (SELECT t.id FROM public.{} AS t WHERE {}
               ORDER BY t.{TIMESTAMP} LIMIT {FEW} + 1) AS of_times",
        filter.chain.name,
        of_times.join(" AND ")
    );
    let (first, end, count): (i64, i64, i64) = sqlx::query_as(AssertSqlSafe(statement))
        .persistent(false)
        .fetch_one(connection)
        .await
        .in_statement("id_range")?;
    if count > FEW {
        return Ok(range);
    }
    Ok(IdRange { from: range.from.max(first), before: range.before.min(end) })
}

async fn range_of_appends(
    connection: &mut PgConnection,
    filter: &Filter,
) -> Result<IdRange, StoreError> {
    let (from, before) = filter.ids();
    let (from_time, before_time) = filter.times();
    if from_time.is_none() && before_time.is_none() {
        return Ok(IdRange { from, before });
    }
    let first_at = |time: Option<i64>, otherwise: i64| match time {
        Some(time) => first_id_at(filter.chain, time),
        None => format!("({otherwise}::bigint)"),
    };
    let statement = format!(
        "/* id_range */ SELECT {}, {}",
        first_at(from_time, from),
        first_at(before_time, before)
    );
    let (first, end): (i64, i64) = sqlx::query_as(AssertSqlSafe(statement))
        .persistent(false)
        .fetch_one(connection)
        .await
        .in_statement("id_range")?;
    Ok(IdRange { from: from.max(first), before: before.min(end) })
}

/// The first id of the chain whose row was appended at this time or later; one past the last, where
/// none was. Times follow the ids, so this is a binary search in the primary key: a time needs no
/// index of its own.
fn first_id_at(chain: &Chain, micros: i64) -> String {
    let (name, time) = (chain.name, literal(&Value::Timestamp(micros), ColumnType::Timestamp));
    format!(
        "(WITH RECURSIVE search (low, high) AS (
              SELECT 1::bigint, coalesce((
                  SELECT t.id + 1 FROM public.{name} AS t ORDER BY t.id DESC LIMIT 1), 1)
              UNION ALL
              SELECT CASE WHEN is_before THEN middle + 1 ELSE low END,
                     CASE WHEN is_before THEN high ELSE middle END
              FROM (SELECT low, high, middle, coalesce((
                        SELECT t.created_at < {time} FROM public.{name} AS t
                        WHERE t.id >= middle ORDER BY t.id LIMIT 1), false) AS is_before
                    FROM (SELECT low, high, low + (high - low) / 2 AS middle FROM search
                          WHERE low < high) AS halved) AS looked_at)
          SELECT low FROM search WHERE low >= high LIMIT 1)"
    )
}

/// A value as a constant of its column's type.
fn literal(value: &Value<'_>, ty: ColumnType) -> String {
    match value {
        Value::Null | Value::Unhashable(_) => "NULL".to_owned(),
        Value::Integer(number) => format!("{number}::bigint"),
        Value::Boolean(flag) => flag.to_string(),
        Value::Decimal(units) => {
            let scale = if let ColumnType::Numeric { scale, .. } = ty { scale } else { 0 };
            let mut text = Vec::new();
            ledger_verifier::decimal::write(*units, scale, &mut text);
            format!("{}::numeric", quoted(&String::from_utf8_lossy(&text)))
        }
        Value::Text(text) | Value::Document(text) => format!("{}::text", quoted(text)),
        Value::Uuid(bytes) => format!("'{}'::uuid", Uuid::from_bytes(*bytes)),
        Value::Inet(address) => format!("'{address}'::inet"),
        Value::Timestamp(micros) => match DateTime::from_timestamp_micros(*micros) {
            Some(time) => format!("'{}'::timestamptz", rfc3339(time)),
            None => "NULL".to_owned(),
        },
        Value::Bytes(bytes) => format!("'\\x{}'::bytea", hex::encode(bytes)),
    }
}

/// A string constant that means the same under every setting of the session: with `E`, a backslash
/// escapes, always (PostgreSQL documentation, section 4.1.2.2).
fn quoted(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_quotes() {
        assert_eq!(quoted("a'b"), "E'a''b'");
        assert_eq!(quoted("\\'; DROP TABLE signals; --"), "E'\\\\''; DROP TABLE signals; --'");
    }
}
