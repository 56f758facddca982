//! Counts and aggregates over the rows that meet a filter, in groups.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use ledger_verifier::chain::SIGNAL_AUDIT_LEDGER;
use serde_json::Value as Json;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::filter::{IdRange, condition};
use super::pool::Pool;
use super::signals::KEY_OF_RECORD;
use super::trades::spelt;
use super::{InStatement, StoreError};
use crate::chains::rfc3339;
use crate::decimal;
use crate::query::{Filter, GroupBy};
use crate::stats::{FRACTION_DIGITS, Groups, Measure, Sums};

/// Groups of one answer at most.
pub const MAX_GROUPS: usize = 1000;
/// So many pieces' outcomes are looked at in one statement, where there are no more.
const PIECES_OF_OUTCOMES: i64 = 10;
/// Numbers that are kept of all questions together, about 24 bytes each; and of questions.
const KEPT_SIZE: usize = 2_000_000;
const KEPT_QUESTIONS: usize = 64;

/// The groups of an answer.
#[derive(Debug)]
pub struct Stats {
    /// Each as a JSON object.
    pub groups: Vec<Json>,
    /// Whether there are more of them.
    pub truncated: bool,
}

/// What is read at once, and what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Ids in one statement.
    pub piece: i64,
    /// Ids of which nothing is kept.
    pub few: i64,
    /// Groups that are kept of one question; one with more is counted anew each time.
    pub groups: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { piece: 1_000_000, few: 30_000, groups: 10_000 }
    }
}

/// Answers for statistics. Over many rows the sums are kept, and only rows that came since are
/// added: history does not change. Clones share what is kept.
#[derive(Clone, Debug)]
pub struct Statistics {
    pool: Pool,
    limits: Limits,
    kept: Arc<Mutex<HashMap<String, Kept>>>,
}

#[derive(Debug, Default)]
struct Kept {
    sums: Arc<tokio::sync::Mutex<KeptSums>>,
    size: usize,
    asked: u64,
}

/// The sums over a filter's rows below one id, with what the outcomes below another say of them.
#[derive(Debug, Default)]
struct KeptSums {
    groups: Groups,
    rows_before: i64,
    outcomes_before: i64,
    has_too_many: bool,
}

/// A filter and what its rows are grouped by.
#[derive(Clone, Copy)]
struct Question<'a> {
    filter: &'a Filter,
    group_by: Option<GroupBy>,
    measure: Option<&'static Measure>,
}

impl Statistics {
    /// Read over these connections.
    pub fn new(pool: Pool, limits: Limits) -> Self {
        Self { pool, limits, kept: Arc::default() }
    }

    /// The aggregates of the filter's rows, in the groups' order: that of time, or the largest first.
    pub async fn read(
        &self,
        filter: &Filter,
        group_by: Option<GroupBy>,
    ) -> Result<Stats, StoreError> {
        let question = Question { filter, group_by, measure: Measure::on(filter.chain) };
        // The order matters: what is appended in between is beyond this end.
        let end = self.end(filter).await?;
        let mut ids = self.pool.id_range(filter).await?;
        ids.before = ids.before.min(end);
        let are_many = ids.before - ids.from > self.limits.few;
        if are_many {
            let key = format!("{} {:?} {group_by:?}", filter.chain.name, filter.given());
            let sums = self.kept_of(&key);
            let mut sums = sums.lock().await;
            let kept = self.bring_up_to(question, ids, end, &mut sums).await;
            self.keep(&key, sums.groups.size());
            if kept? {
                return self.answer(question, &sums.groups).await;
            }
        }
        let mut groups = self.rows(question, ids, MAX_GROUPS + 1).await?;
        let outcomes = IdRange { from: ids.from, before: end };
        let latest = if are_many { Latest::Joined } else { Latest::Each };
        groups.act(self.outcomes(question, ids, outcomes, latest, &groups).await?);
        self.answer(question, &groups).await
    }

    /// One past the chain's last id.
    async fn end(&self, filter: &Filter) -> Result<i64, StoreError> {
        let statement = format!(
            "/* stats_end */ SELECT coalesce(max(id), 0) + 1 FROM public.{}",
            filter.chain.name
        );
        let end = sqlx::query_scalar(AssertSqlSafe(statement)).persistent(false);
        end.fetch_one(self.pool.get()).await.in_statement("stats_end")
    }

    fn kept_of(&self, key: &str) -> Arc<tokio::sync::Mutex<KeptSums>> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = all.values().map(|kept| kept.asked).max().unwrap_or(0) + 1;
        let kept = all.entry(key.to_owned()).or_default();
        kept.asked = now;
        Arc::clone(&kept.sums)
    }

    /// Forgets what was asked for the longest time ago, where this makes it too much.
    fn keep(&self, key: &str, size: usize) {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = all.get_mut(key) {
            kept.size = size;
        }
        while all.len() > KEPT_QUESTIONS
            || all.values().map(|kept| kept.size).sum::<usize>() > KEPT_SIZE
        {
            let oldest = all.iter().min_by_key(|(_, kept)| kept.asked);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            all.remove(&oldest);
        }
    }

    /// Adds what came since, piece by piece, and each as a whole: whoever asks may go away at any time.
    /// `false` where there are too many groups to keep.
    async fn bring_up_to(
        &self,
        question: Question<'_>,
        ids: IdRange,
        end: i64,
        kept: &mut KeptSums,
    ) -> Result<bool, StoreError> {
        if kept.has_too_many {
            return Ok(false);
        }
        // None was counted yet, or some that were are gone.
        if kept.rows_before == 0 || kept.rows_before.max(kept.outcomes_before) > end {
            *kept = KeptSums {
                rows_before: ids.from,
                outcomes_before: ids.from,
                ..KeptSums::default()
            };
        }
        while kept.rows_before < ids.before {
            let before = ids.before.min(kept.rows_before + self.limits.piece);
            let piece = IdRange { from: kept.rows_before, before };
            let more = self.rows(question, piece, self.limits.groups + 1).await?;
            kept.groups.add_all(more);
            kept.rows_before = before;
            if kept.groups.len() > self.limits.groups {
                *kept = KeptSums { has_too_many: true, ..KeptSums::default() };
                return Ok(false);
            }
        }
        while kept.outcomes_before < end {
            let from = kept.outcomes_before;
            // At once they cost the least; there is an end to what one statement can do.
            let all_at_once = end - from <= self.limits.piece.saturating_mul(PIECES_OF_OUTCOMES);
            let before = if all_at_once { end } else { from + self.limits.piece };
            let latest = if from == ids.from { Latest::Joined } else { Latest::Changed };
            let outcomes = IdRange { from, before };
            let more = self.outcomes(question, ids, outcomes, latest, &kept.groups).await?;
            kept.groups.act(more);
            kept.outcomes_before = before;
        }
        Ok(true)
    }

    /// The filter's rows of these ids, as they are by themselves.
    async fn rows(
        &self,
        question: Question<'_>,
        ids: IdRange,
        limit: usize,
    ) -> Result<Groups, StoreError> {
        const STATEMENT: &str = "stats";
        let (measured, time, total, acted_upon) = match question.measure {
            Some(measure) => (
                measure.of,
                format!("t.{}", measure.time),
                format!("sum(t.{})", measure.averaged),
                if measure.acts { "count(*) FILTER (WHERE t.acted_upon)" } else { "0" },
            ),
            None => ("false", "NULL::integer".to_owned(), "NULL::numeric".to_owned(), "0"),
        };
        // Rows alike in all that is counted are one before anything is sorted, or sent.
        let statement = format!(
            "/* stats */
             SELECT {name} AS name, sum(rows)::bigint AS count, min(first_id) AS first_id,
                    max(last_id) AS last_id,
                    coalesce(sum(rows) FILTER (WHERE measured), 0)::bigint AS measured,
                    coalesce(sum(total) FILTER (WHERE measured), 0)::text AS total,
                    coalesce(sum(acted_upon) FILTER (WHERE measured), 0)::bigint AS acted_upon,
                    coalesce(array_agg(time) FILTER (WHERE measured), '{{}}') AS times,
                    coalesce(array_agg(rows) FILTER (WHERE measured), '{{}}') AS times_rows
             FROM (SELECT {group} AS grouped, ({measured}) IS TRUE AS measured,
                          CASE WHEN {measured} THEN {time} END AS time, count(*) AS rows,
                          min(t.id) AS first_id, max(t.id) AS last_id, {total} AS total,
                          {acted_upon} AS acted_upon
                   FROM public.{chain} AS t WHERE {condition} GROUP BY 1, 2, 3) AS alike
             GROUP BY grouped ORDER BY {order} LIMIT {limit}",
            name = question.name(),
            group = question.group(),
            chain = question.filter.chain.name,
            order = if question.is_in_time() { "grouped" } else { "count DESC, grouped" },
            condition = condition(question.filter, ids),
        );
        let mut rows =
            sqlx::query(AssertSqlSafe(statement)).persistent(false).fetch(self.pool.get());
        let mut groups = Groups::default();
        while let Some(row) = rows.try_next().await.in_statement(STATEMENT)? {
            let (name, sums) = sums_of(&row).in_statement(STATEMENT)?;
            groups.add(name, sums);
        }
        Ok(groups)
    }

    /// How many more of the filter's signals were acted upon by the word of the outcomes of some ids than
    /// was known before them, in these groups.
    async fn outcomes(
        &self,
        question: Question<'_>,
        ids: IdRange,
        outcomes: IdRange,
        latest: Latest,
        groups: &Groups,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        const STATEMENT: &str = "stats_outcomes";
        let Some(measure) = question.measure.filter(|measure| measure.acts) else {
            return Ok(Vec::new());
        };
        let chain = SIGNAL_AUDIT_LEDGER.name;
        let outcome = |before: i64| {
            format!(
                "SELECT u.acted_upon FROM public.{chain} AS u
                 WHERE u.signal_id = t.signal_id AND u.source_module = t.source_module
                   AND u.record_type::text = 'OUTCOME' AND u.id < {before}
                 ORDER BY u.id DESC LIMIT 1"
            )
        };
        let latest_of_all = format!(
            "(SELECT DISTINCT ON (u.signal_id, u.source_module)
                     u.signal_id, u.source_module, u.acted_upon
              FROM public.{chain} AS u
              WHERE u.record_type::text = 'OUTCOME' AND u.id >= {} AND u.id < {}
              ORDER BY u.signal_id DESC, u.source_module DESC, u.id DESC) AS latest",
            outcomes.from, outcomes.before
        );
        let (joined, known) = match latest {
            Latest::Each => (
                format!(
                    "public.{chain} AS t CROSS JOIN LATERAL ({}) AS latest",
                    outcome(outcomes.before)
                ),
                "t.acted_upon",
            ),
            Latest::Joined => (
                format!(
                    "public.{chain} AS t JOIN {latest_of_all} USING (signal_id, source_module)"
                ),
                "t.acted_upon",
            ),
            Latest::Changed => (
                format!(
                    "{latest_of_all}
                     CROSS JOIN LATERAL (
                         SELECT * FROM public.{chain} AS t
                         WHERE t.signal_id = latest.signal_id
                           AND t.source_module = latest.source_module
                           AND {KEY_OF_RECORD} = ''::bytea LIMIT 1) AS t
                     LEFT JOIN LATERAL ({}) AS earlier ON true",
                    outcome(outcomes.from)
                ),
                "coalesce(earlier.acted_upon, t.acted_upon)",
            ),
        };
        let statement = format!(
            "/* stats_outcomes */
             SELECT {name} AS name, sum(CASE WHEN acted_upon THEN 1 ELSE -1 END) AS more
             FROM (SELECT {group} AS grouped, latest.acted_upon FROM {joined}
                   WHERE {condition} AND {signals}
                     AND latest.acted_upon <> {known}) AS changed
             GROUP BY grouped",
            name = question.name(),
            group = question.group(),
            condition = condition(question.filter, ids),
            signals = measure.of,
        );
        // Where nobody has analyzed the table yet, the planner takes the outcomes for few, and would look
        // for their signals one after the other, by whatever index.
        let mut transaction = self.pool.get().begin().await.in_statement(STATEMENT)?;
        if matches!(latest, Latest::Joined) {
            let setting = sqlx::raw_sql("/* stats_outcomes */ SET LOCAL enable_nestloop = off");
            setting.execute(&mut *transaction).await.in_statement(STATEMENT)?;
        }
        let mut rows = sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(statement))
            .persistent(false)
            .fetch(&mut *transaction);
        let mut changed = Vec::new();
        while let Some((name, more)) = rows.try_next().await.in_statement(STATEMENT)? {
            if groups.has(&name) {
                changed.push((name, more));
            }
        }
        drop(rows);
        transaction.commit().await.in_statement(STATEMENT)?;
        Ok(changed)
    }

    async fn answer(&self, question: Question<'_>, all: &Groups) -> Result<Stats, StoreError> {
        let Question { filter, group_by, measure } = question;
        let mut one = Groups::default();
        let all = if group_by.is_none() && all.len() == 0 {
            // No group is asked for, and an answer is.
            one.add("null".to_owned(), Sums::default());
            &one
        } else {
            all
        };
        let mut groups = Vec::new();
        for (name, mut group) in all.to_json(measure, !question.is_in_time(), MAX_GROUPS) {
            if group_by.is_some() {
                group["group"] = name.parse().unwrap_or(Json::Null);
            }
            groups.push(group);
        }
        // Times follow the ids.
        let ends = [("first_id", "first_created_at"), ("last_id", "last_created_at")];
        let ids = groups.iter().flat_map(|group| ends.map(|(id, _)| group[id].as_i64()));
        let times = self.times_of(filter, ids.flatten().collect()).await?;
        for group in &mut groups {
            for (id, created_at) in ends {
                let time = group[id].as_i64().and_then(|id| times.get(&id));
                group[created_at] = time.map(|time| rfc3339(*time)).into();
            }
        }
        Ok(Stats { truncated: all.len() > MAX_GROUPS, groups })
    }

    async fn times_of(
        &self,
        filter: &Filter,
        ids: Vec<i64>,
    ) -> Result<HashMap<i64, DateTime<Utc>>, StoreError> {
        let statement = format!(
            "/* stats_times */ SELECT id, created_at FROM public.{} WHERE id = ANY ($1)",
            filter.chain.name
        );
        let times = sqlx::query_as(AssertSqlSafe(statement)).bind(ids).fetch_all(self.pool.get());
        Ok(times.await.in_statement("stats_times")?.into_iter().collect())
    }
}

/// How the outcomes of signals are found.
#[derive(Clone, Copy)]
enum Latest {
    /// One after the other, of a few signals.
    Each,
    /// All of them, where none was known before.
    Joined,
    /// All of them, as against the outcomes before.
    Changed,
}

impl Question<'_> {
    fn is_in_time(&self) -> bool {
        matches!(self.group_by, Some(GroupBy::Time(_)))
    }

    /// What rows `t` are grouped by.
    fn group(&self) -> String {
        match self.group_by {
            None => "NULL::text".to_owned(),
            Some(GroupBy::Column(column)) => format!("t.{}", column.name),
            // Far less to compute than date_trunc(), and the same: UTC has no other hours and days.
            Some(GroupBy::Time(unit)) => {
                format!("date_bin('1 {unit}', t.created_at, '1970-01-01 00:00:00+00')")
            }
        }
    }

    /// A group as JSON.
    fn name(&self) -> String {
        let group = if self.is_in_time() { spelt("grouped") } else { "grouped".to_owned() };
        format!("coalesce(to_json({group})::text, 'null')")
    }
}

fn sums_of(row: &PgRow) -> Result<(String, Sums), sqlx::Error> {
    let times: Vec<i32> = row.try_get("times")?;
    let times_rows: Vec<i64> = row.try_get("times_rows")?;
    let total: &str = row.try_get("total")?;
    let sums = Sums {
        count: row.try_get("count")?,
        first_id: row.try_get("first_id")?,
        last_id: row.try_get("last_id")?,
        measured: row.try_get("measured")?,
        // Only somebody who tampered makes it no number.
        total: decimal::parse(total, 38, FRACTION_DIGITS).unwrap_or_default(),
        acted_upon: row.try_get("acted_upon")?,
        times: times.into_iter().zip(times_rows).collect(),
    };
    Ok((row.try_get("name")?, sums))
}
