//! The whole story of one signal, from one snapshot and with an end.

use ledger_verifier::Chain;
use ledger_verifier::chain::{AI_DEBATES, ORDER_EVENTS, ORDER_EXECUTION, SIGNALS};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::pool::Pool;
use super::rows::{StoredRow, leaf_index, select, size};
use super::trades::{Trade, find_trade};
use super::{InStatement, StoreError};

/// Rows of a story at most.
const MAX_ROWS: usize = 10_000;
/// What they hold at most, in bytes, but for the last.
const MAX_BYTES: usize = 32 << 20;

/// What became of a signal, and the rows that say so.
#[derive(Debug)]
pub struct TradeStory {
    /// At a glance.
    pub trade: Trade,
    /// The signal, debates, orders and their events, in the ledger's order.
    pub rows: Vec<StoredRow>,
    /// The chains that have more rows than these, which come later.
    pub cut: Vec<&'static Chain>,
}

const OF_SIGNAL: &str = "t.correlation_id = $1";
const OF_ITS_ORDERS: &str = "t.order_execution_id IN (
    SELECT o.id FROM public.order_execution AS o WHERE o.correlation_id = $1)";
const CHAINS: [(&Chain, &str); 4] = [
    (&SIGNALS, OF_SIGNAL),
    (&AI_DEBATES, OF_SIGNAL),
    (&ORDER_EXECUTION, OF_SIGNAL),
    (&ORDER_EVENTS, OF_ITS_ORDERS),
];

/// The story of this signal.
pub async fn story(pool: &Pool, correlation_id: Uuid) -> Result<Option<TradeStory>, StoreError> {
    let mut transaction = pool
        .get()
        .begin_with("/* story */ BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .in_statement("story")?;
    let Some(trade) = find_trade(&mut transaction, correlation_id).await? else { return Ok(None) };
    let mut story = TradeStory { trade, rows: Vec::new(), cut: Vec::new() };
    for part in parts(&mut transaction, correlation_id).await? {
        let of_chain = CHAINS.into_iter().find(|(chain, _)| chain.name == part.chain);
        let Some((chain, _)) = of_chain else { continue };
        if !part.is_whole {
            story.cut.push(chain);
        }
        let bind = |query: sqlx::query::Query<'static, _, _>| query.bind(part.places);
        let condition = "t.ctid = ANY ($1::text[]::tid[])";
        story.rows.extend(select(&mut *transaction, chain, condition, bind).await?);
    }
    transaction.rollback().await.in_statement("story")?;
    // What the log does not have comes last.
    story.rows.sort_by_key(|row| (row.leaf_index.map_or(u64::MAX, |leaf| leaf.0), row.id()));
    Ok(Some(story))
}

/// The rows of one chain that belong to a story.
struct Part {
    chain: String,
    /// Where they stand in their table: what somebody has tampered with may have no id, or that of
    /// another row. A place holds for as long as the snapshot does.
    places: Vec<String>,
    /// Whether these are all.
    is_whole: bool,
}

/// Which rows make a story: the first ones in the ledger's order, up to the limits.
async fn parts(
    connection: &mut PgConnection,
    correlation_id: Uuid,
) -> Result<Vec<Part>, StoreError> {
    const STATEMENT: &str = "story_parts";
    let of_chains = CHAINS.map(|(chain, condition)| {
        format!(
            "SELECT '{name}' AS chain, t.ctid::text AS place, {leaf} AS leaf_index, {size} AS size
             FROM public.{name} AS t WHERE {condition}",
            name = chain.name,
            leaf = leaf_index(chain),
            size = size(chain),
        )
    });
    let statement = format!(
        "/* story_parts */
         SELECT chain, pg_catalog.array_agg(place) FILTER (WHERE fits) AS places,
                pg_catalog.bool_and(fits) AS is_whole
         FROM (
             SELECT chain, place,
                    pg_catalog.row_number() OVER in_order <= {MAX_ROWS}
                    AND pg_catalog.sum(size) OVER in_order - size < {MAX_BYTES} AS fits
             FROM ({}) AS of_story
             WINDOW in_order AS (ORDER BY leaf_index, chain, place ROWS UNBOUNDED PRECEDING)
         ) AS placed
         GROUP BY chain ORDER BY chain",
        of_chains.join(" UNION ALL ")
    );
    let found = sqlx::query(AssertSqlSafe(statement))
        .bind(correlation_id)
        .fetch_all(connection)
        .await
        .in_statement(STATEMENT)?;
    let part = |row: &sqlx::postgres::PgRow| {
        Ok(Part {
            chain: row.try_get("chain")?,
            places: row.try_get::<Option<_>, _>("places")?.unwrap_or_default(),
            is_whole: row.try_get("is_whole")?,
        })
    };
    found.iter().map(part).collect::<Result<_, _>>().in_statement(STATEMENT)
}
