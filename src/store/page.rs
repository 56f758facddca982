//! Lists in pages that are bounded in rows and in bytes, by the database itself: what does not go
//! on a page is neither detoasted nor sent.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::pool::Pool;
use super::{InStatement, StoreError};
use crate::query::Order;

/// What the rows of a page hold, in bytes: the first row that goes beyond this is the last one.
/// As JSON it is more, where quotes are escaped.
pub(super) const PAGE_BYTES: usize = 8 << 20;

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// Only what comes after the item of this id.
    pub after: Option<i64>,
    /// In which order of ids.
    pub order: Order,
    /// So many items at most.
    pub limit: u32,
}

impl PageRange {
    /// What ends a query whose rows have this id, so that it has those of the range and one more.
    pub(super) fn after(&self, id: &str) -> String {
        let comparison = if self.order == Order::Ascending { '>' } else { '<' };
        let after = self.after.map(|after| format!("AND {id} {comparison} {after} "));
        format!(
            "{}ORDER BY {id} {} LIMIT {}",
            after.unwrap_or_default(),
            self.direction(),
            i64::from(self.limit) + 1
        )
    }

    fn direction(&self) -> &'static str {
        if self.order == Order::Ascending { "ASC" } else { "DESC" }
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<T> {
    /// Its items; at least one, if there is any.
    pub items: Vec<T>,
    /// Whether there are others behind the last of them.
    pub has_more: bool,
}

/// A list that can be read in pages.
pub(super) struct List<'a> {
    /// The function whose statement it is.
    pub(super) name: &'static str,
    /// What the items have in common, with ` WHERE …` at its end. Among the columns is `size`, the
    /// bytes of what has no bound.
    pub(super) select: &'a str,
    /// The column with the id.
    pub(super) id: &'static str,
}

impl List<'_> {
    pub(super) async fn read<T>(
        &self,
        pool: &Pool,
        range: PageRange,
        read: impl Fn(&PgRow) -> Result<T, sqlx::Error>,
    ) -> Result<Slice<T>, StoreError> {
        let Self { name, select, id } = self;
        // The sum runs over lengths alone, which stand beside what is stored out of line.
        let (direction, limit) = (range.direction(), range.limit);
        let after = range.after(id);
        let statement = format!(
            "/* {name} */
             SELECT * FROM (
                 SELECT listed.*,
                        pg_catalog.lead(true) OVER in_order IS NOT NULL AS has_more,
                        pg_catalog.sum(size) OVER in_order - size AS bytes_before
                 FROM ({select} {after}) AS listed
                 WINDOW in_order AS (ORDER BY {id} {direction} ROWS UNBOUNDED PRECEDING)) AS page
             WHERE bytes_before < {PAGE_BYTES} ORDER BY {id} {direction} LIMIT {limit}"
        );
        let found = sqlx::query(AssertSqlSafe(statement))
            .persistent(false)
            .fetch_all(pool.get())
            .await
            .in_statement(name)?;
        let has_more = found.last().map(|last| last.try_get("has_more")).transpose();
        let items: Result<_, _> = found.iter().map(read).collect();
        Ok(Slice {
            items: items.in_statement(name)?,
            has_more: has_more.in_statement(name)?.unwrap_or(false),
        })
    }
}

/// The bytes of what these columns hold.
pub(super) fn size_of<'a>(columns: impl IntoIterator<Item = &'a str>) -> String {
    /// Numbers, times, hashes and the names of all.
    const BESIDE: &str = "512::bigint";
    let length = |column| format!(" + coalesce(pg_catalog.octet_length({column}), 0)");
    std::iter::once(BESIDE.to_owned()).chain(columns.into_iter().map(length)).collect()
}
