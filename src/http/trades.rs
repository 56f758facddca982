//! The story of a trade, and kill switches: the two views, and every row in ledger order.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Service;
use super::auth::Authorized;
use super::page::{Page, PageParameters, Parameters};
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1};
use crate::keys::scope::Read;
use crate::store::story::{TradeStory, story};
use crate::store::trades::{KillSwitchEvent, Trade, list_kill_switch_events, list_trades};

/// The whole story of one signal.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Story {
    /// What became of it, at a glance.
    trade: Trade,
    /// Every row of every chain that belongs to it, in the order in which they were appended: the
    /// first 10,000 of them, or as many as hold 32 MiB.
    steps: Vec<StoryStep>,
    /// Whether there are more rows than these.
    truncated: bool,
    /// Where the rows are listed that are not among the steps, each behind the path of its chain.
    #[schema(example = json!(["/v1/order_events"]))]
    rest: Vec<String>,
}

/// One row of the story.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StoryStep {
    /// Microseconds since the row before; null for the first.
    #[schema(required)]
    since_previous_us: Option<i64>,
    /// Microseconds since the signal was recorded.
    #[schema(required)]
    since_signal_us: Option<i64>,
    /// The row as JSON.
    #[schema(value_type = Object)]
    row: Box<RawValue>,
}

/// Signals with what became of them, the newest first.
#[utoipa::path(get, path = "/v1/trades", tag = "trades",
    params(PageParameters),
    responses(
        (status = 200, description = "A page; `Link` leads to the next.", body = Page<Trade>),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn list(
    _: Authorized<Read>,
    State(service): State<Service>,
    mut parameters: Parameters,
) -> Result<Page<Trade>, Problem> {
    let page = parameters.page_of("trades")?;
    parameters.finish()?;
    let trades = list_trades(&service.reads, page.range()).await?;
    Ok(page.make(trades, |trade| trade.signal_row_id))
}

/// The whole story of one signal: what became of it, and every row in ledger order with the time
/// between them, as far as they go into one answer.
#[utoipa::path(get, path = "/v1/trades/{correlation_id}", tag = "trades",
    params(("correlation_id" = Uuid, Path, description = "The signal's correlation id.")),
    responses(
        (status = 200, description = "The story.", body = Story),
        (status = 404, description = "No such signal (NTF-001).",
         body = Problem, content_type = "application/problem+json"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn get(
    _: Authorized<Read>,
    State(service): State<Service>,
    path: Result<Path<Uuid>, PathRejection>,
    parameters: Parameters,
) -> Result<Json<Story>, Problem> {
    let none = || Problem::new(Code::NotFound, "there is no such signal");
    let Ok(Path(correlation_id)) = path else { return Err(none()) };
    parameters.finish()?;
    let found = story(&service.reads, correlation_id).await?;
    let TradeStory { trade, rows, cut } = found.ok_or_else(none)?;
    let first = rows.first().and_then(crate::store::rows::StoredRow::created_at_micros);
    let mut previous = None;
    let steps = rows
        .iter()
        .map(|row| {
            let at = row.created_at_micros();
            // Who has tampered with a row may have made its time anything.
            let since = |earlier: Option<i64>| at?.checked_sub(earlier?);
            let step = StoryStep {
                since_previous_us: since(previous),
                since_signal_us: since(first),
                row: row.to_json(),
            };
            previous = at;
            step
        })
        .collect();
    let rest: Vec<_> = cut.iter().map(|chain| format!("/v1/{}", chain.name)).collect();
    Ok(Json(Story { trade, steps, truncated: !rest.is_empty(), rest }))
}

/// Kill switches, the newest first.
#[utoipa::path(get, path = "/v1/kill_switch_events", tag = "trades",
    params(PageParameters),
    responses(
        (status = 200, description = "A page; `Link` leads to the next.", body = Page<KillSwitchEvent>),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn kill_switch_events(
    _: Authorized<Read>,
    State(service): State<Service>,
    mut parameters: Parameters,
) -> Result<Page<KillSwitchEvent>, Problem> {
    let page = parameters.page_of("kill_switch_events")?;
    parameters.finish()?;
    let events = list_kill_switch_events(&service.reads, page.range()).await?;
    Ok(page.make(events, |event| event.id))
}
