//! Counts and aggregates over the rows that meet a filter, in groups.

use ledger_verifier::chain::{AI_DEBATES, SIGNAL_AUDIT_LEDGER};
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Row};

use super::filter::condition;
use super::pool::Pool;
use super::{InStatement, StoreError};
use crate::query::{Filter, GroupBy};

/// Groups of one answer at most.
pub const MAX_GROUPS: usize = 1000;

/// The groups of an answer.
#[derive(Debug)]
pub struct Stats {
    /// Each as a JSON object.
    pub groups: Vec<Json>,
    /// Whether there are more of them.
    pub truncated: bool,
}

/// What is counted of every chain, and of those that have more to tell.
const COUNTS: &str = "
    'count', count(*), 'first_id', min(t.id), 'last_id', max(t.id),
    'first_created_at', pg_catalog.to_char(pg_catalog.timezone('UTC', min(t.created_at)), SPELT),
    'last_created_at', pg_catalog.to_char(pg_catalog.timezone('UTC', max(t.created_at)), SPELT)";
const SPELT: &str = "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'";
/// Of producers' signals: how many were acted upon, by the latest outcome's word, whatever the filter
/// says of outcomes.
const OF_RECORDS: &str = ",
    'signals', count(*) FILTER (WHERE IS_SIGNAL),
    'outcomes', count(*) FILTER (WHERE NOT IS_SIGNAL),
    'acted_upon', count(*) FILTER (WHERE IS_SIGNAL AND coalesce(o.acted_upon, t.acted_upon)),
    'acted_upon_share', round(count(*) FILTER (
         WHERE IS_SIGNAL AND coalesce(o.acted_upon, t.acted_upon))::numeric
         / nullif(count(*) FILTER (WHERE IS_SIGNAL), 0), 4)::text,
    'conviction_avg', round(avg(t.conviction) FILTER (WHERE IS_SIGNAL), 4)::text,
    'latency_ms', LATENCY";
const OF_DEBATES: &str = ",
    'timeouts', count(*) FILTER (WHERE t.is_timeout),
    'confidence_score_avg', round(avg(t.confidence_score) FILTER (WHERE NOT t.is_timeout), 4)::text,
    'elapsed_ms', ELAPSED";
const LATEST_OUTCOMES: &str = "
    LEFT JOIN (
        SELECT DISTINCT ON (u.signal_id, u.source_module) u.signal_id, u.source_module, u.acted_upon
        FROM public.signal_audit_ledger AS u WHERE u.record_type::text = 'OUTCOME'
        ORDER BY u.signal_id DESC, u.source_module DESC, u.id DESC) AS o
    ON IS_SIGNAL AND o.signal_id = t.signal_id AND o.source_module = t.source_module";
const IS_SIGNAL: &str = "t.record_type::text = 'SIGNAL'";

/// The aggregates of the filter's rows, in the groups' order: that of time, or the largest first.
pub async fn stats(
    pool: &Pool,
    filter: &Filter,
    group_by: Option<GroupBy>,
) -> Result<Stats, StoreError> {
    const STATEMENT: &str = "stats";
    let chain = filter.chain;
    let ids = pool.id_range(filter).await?;
    let percentiles = |column: &str, of: &str| {
        let at = |name: &str, share: f64| {
            format!(
                "'{name}', percentile_disc({share}) WITHIN GROUP (ORDER BY t.{column})
                     FILTER (WHERE {of})"
            )
        };
        format!(
            "pg_catalog.json_build_object({}, {}, {}, 'max', max(t.{column}) FILTER (WHERE {of}))",
            at("p50", 0.5),
            at("p95", 0.95),
            at("p99", 0.99)
        )
    };
    let (more, joined) = if std::ptr::eq(chain, &raw const SIGNAL_AUDIT_LEDGER) {
        let latency = percentiles("latency_ms", IS_SIGNAL);
        (OF_RECORDS.replace("LATENCY", &latency), LATEST_OUTCOMES)
    } else if std::ptr::eq(chain, &raw const AI_DEBATES) {
        (OF_DEBATES.replace("ELAPSED", &percentiles("elapsed_ms", "NOT t.is_timeout")), "")
    } else {
        (String::new(), "")
    };
    let (group, shown, order) = match group_by {
        None => ("()".to_owned(), String::new(), "count(*)".to_owned()),
        Some(GroupBy::Column(column)) => {
            let group = format!("t.{}", column.name);
            (group.clone(), format!("'group', {group},"), format!("count(*) DESC, {group}"))
        }
        Some(GroupBy::Time(unit)) => {
            let group = format!(
                "pg_catalog.date_trunc('{unit}', pg_catalog.timezone('UTC', t.created_at))"
            );
            let spelt = format!("'group', pg_catalog.to_char({group}, {SPELT}),");
            (group.clone(), spelt, group)
        }
    };
    let selected = format!("{shown} {COUNTS}{more}");
    let [selected, joined] =
        [&selected, joined].map(|sql| sql.replace("IS_SIGNAL", IS_SIGNAL).replace("SPELT", SPELT));
    let statement = format!(
        "/* stats */ SELECT pg_catalog.json_build_object({selected}) AS group_stats
         FROM public.{name} AS t {joined} WHERE {condition}
         GROUP BY {group} ORDER BY {order} LIMIT {limit}",
        name = chain.name,
        // A value may hold any words: nothing is replaced in it.
        condition = condition(filter, ids),
        limit = MAX_GROUPS + 1,
    );
    let found = sqlx::query(AssertSqlSafe(statement))
        .persistent(false)
        .fetch_all(pool.get())
        .await
        .in_statement(STATEMENT)?;
    let groups = found.iter().take(MAX_GROUPS).map(|row| row.try_get("group_stats"));
    let groups = groups.collect::<Result<_, _>>().in_statement(STATEMENT)?;
    Ok(Stats { groups, truncated: found.len() > MAX_GROUPS })
}
