//! Producers' signals as they stand now: each with its latest outcome.

use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::StoreError;
use super::filter::condition;
use super::page::{List, PageRange, Slice, size_of};
use super::pool::Pool;
use super::trades::time;
use crate::query::Filter;

/// What tells apart the records `t` of one signal, as their unique index has it; of the signal itself it is
/// empty.
pub(super) const KEY_OF_RECORD: &str = "(CASE t.record_type::text WHEN 'SIGNAL' THEN ''::bytea
    ELSE public.ledger_outcome_content(t.signal_type, t.confidence, t.price, t.\"timestamp\",
        t.received_at, t.payload_json_text, t.acted_upon, t.execution_id, t.correlation_id) END)";

/// One signal and what is known of it now: a row of `vw_signal_current`.
#[derive(Clone, Debug, Serialize, sqlx::FromRow, utoipa::ToSchema)]
pub struct CurrentSignal {
    /// The signal's id in `signal_audit_ledger`.
    pub id: i64,
    /// The producer's key.
    pub signal_id: String,
    /// The producer.
    pub source_module: String,
    /// The producer's name for this kind of signal.
    #[schema(required)]
    pub signal_type: Option<String>,
    /// What it is about.
    pub ticker: String,
    /// `LONG`, `SHORT` or `NEUTRAL`.
    pub direction: String,
    /// How strong it is, from 0 to 100.
    pub conviction: String,
    /// How sure the producer was, from 0 to 1.
    #[schema(required)]
    pub confidence: Option<String>,
    /// Its price.
    #[schema(required)]
    pub price: Option<String>,
    /// When the producer made it.
    pub timestamp: String,
    /// What else the producer said, as it came.
    pub payload_json_text: String,
    /// Whether it was acted upon: the latest outcome's word, else its own.
    pub acted_upon: bool,
    /// The execution that did: the latest outcome's word, else its own.
    #[schema(required)]
    pub execution_id: Option<String>,
    /// How long it took to arrive, in milliseconds.
    pub latency_ms: i32,
    /// The webhook's signal that it belongs to.
    #[schema(required)]
    pub correlation_id: Option<Uuid>,
    /// Who recorded it.
    pub recorded_by: String,
    /// When the service had it.
    pub received_at: String,
    /// When it was recorded.
    pub created_at: String,
    /// The hash of its row.
    pub row_hash: String,
    /// The latest outcome's id in `signal_audit_ledger`.
    #[schema(required)]
    pub outcome_id: Option<i64>,
    /// When the producer made that.
    #[schema(required)]
    pub outcome_timestamp: Option<String>,
    /// What else the producer said then.
    #[schema(required)]
    pub outcome_payload_json_text: Option<String>,
    /// Who recorded it.
    #[schema(required)]
    pub outcome_recorded_by: Option<String>,
    /// When it was recorded.
    #[schema(required)]
    pub outcome_created_at: Option<String>,
    /// The hash of its row.
    #[schema(required)]
    pub outcome_row_hash: Option<String>,
}

/// The signals that meet a filter of `signal_audit_ledger`, in which `acted_upon` and `execution_id` are
/// what is known now.
pub async fn list_current_signals(
    pool: &Pool,
    filter: &Filter,
    range: PageRange,
) -> Result<Slice<CurrentSignal>, StoreError> {
    let ids = pool.id_range(filter).await?;
    let select = format!(
        "SELECT t.id, t.signal_id, t.source_module, t.signal_type, t.ticker, t.direction,
                t.conviction::text, t.confidence::text, t.price::text, {timestamp},
                t.payload_json_text, t.acted_upon, t.execution_id, t.latency_ms, t.correlation_id,
                t.recorded_by, {received_at}, {created_at}, t.row_hash::text, t.outcome_id,
                {outcome_timestamp}, t.outcome_payload_json_text, t.outcome_recorded_by,
                {outcome_created_at}, t.outcome_row_hash::text, {size} AS size
         FROM public.vw_signal_current AS t WHERE {condition}",
        timestamp = time("timestamp"),
        received_at = time("received_at"),
        created_at = time("created_at"),
        outcome_timestamp = time("outcome_timestamp"),
        outcome_created_at = time("outcome_created_at"),
        size = size_of(["t.payload_json_text", "t.outcome_payload_json_text"]),
        condition = condition(filter, ids),
    );
    let list = List { name: "list_current_signals", select: &select, id: "id" };
    list.read(pool, range, |row| CurrentSignal::from_row(row)).await
}
