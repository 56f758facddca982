//! Statistics over the rows that meet a filter.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;

use super::Service;
use super::auth::Authorized;
use super::page::{FilterParameters, Parameters, unreadable};
use super::problem::{Problem, RefusedParameter, RefusedUnderV1};
use super::rows::{chain_of, no_such_row};
use crate::keys::scope::Read;
use crate::query::GroupBy;
use crate::store::stats::Stats;

const GROUP_BY: &str = "group_by";

/// Counts and aggregates.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StatsAnswer {
    /// One for each group: `group` (not there without `group_by`), `count`, `first_id`, `last_id`,
    /// `first_created_at`, `last_created_at`. Of `signal_audit_ledger` also `signals`, `outcomes`,
    /// `acted_upon` (signals whose latest outcome says so), `acted_upon_share`, `conviction_avg` and
    /// `latency_ms` (`p50`, `p95`, `p99`, `max`), all over signals; of `ai_debates` also `timeouts`,
    /// `confidence_score_avg` and `elapsed_ms`. Groups of time in their order, others the largest
    /// first.
    #[schema(value_type = Vec<Object>)]
    groups: Vec<serde_json::Value>,
    /// Whether there are more groups than these, at most 1,000.
    truncated: bool,
}

/// Counts and aggregates of the rows that meet a filter.
#[utoipa::path(get, path = "/v1/{chain}/stats", tag = "rows",
    params(
        ("chain" = String, Path, description = "A chain's name, for example `signals`."),
        ("group_by" = Option<String>, Query,
         description = "A column that filters by equality, or `hour` or `day` of `created_at` in UTC."),
        FilterParameters),
    responses(
        (status = 200, description = "The groups.", body = StatsAnswer),
        (status = 404, description = "No such chain (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn get(
    _: Authorized<Read>,
    State(service): State<Service>,
    chain: Result<Path<String>, PathRejection>,
    mut parameters: Parameters,
) -> Result<Json<StatsAnswer>, Problem> {
    let Ok(Path(chain)) = chain else { return Err(no_such_row()) };
    let chain = chain_of(&chain)?;
    let filter = parameters.filter_of(chain)?;
    let group_by = parameters.take::<String>(GROUP_BY)?.map(|name| {
        let rule = format!("is hour, day, or a column of {} that filters by equality", chain.name);
        GroupBy::of(chain, &name).ok_or_else(|| unreadable(GROUP_BY, rule))
    });
    let group_by = group_by.transpose()?;
    parameters.finish()?;
    let Stats { groups, truncated } = service.statistics.read(&filter, group_by).await?;
    Ok(Json(StatsAnswer { groups, truncated }))
}
