//! The views over trades and kill switches. Numbers and times are spelt by the database as the
//! ledger spells them everywhere, so that no digit passes through another type.

use serde::Serialize;
use serde_json::Value as Json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::page::{List, PageRange, Slice, size_of};
use super::pool::Pool;
use super::{InStatement, StoreError};

/// One signal and what became of it: a row of `vw_trade_audit_full`.
#[derive(Clone, Debug, Serialize, sqlx::FromRow, utoipa::ToSchema)]
pub struct Trade {
    /// The signal's id in its chain.
    pub signal_row_id: i64,
    /// Anchor of the story.
    pub correlation_id: Uuid,
    /// The sender's key.
    pub signal_id: String,
    /// What is traded.
    pub symbol: String,
    /// `BUY` or `SELL`.
    pub side: String,
    /// The signal's price.
    pub price: String,
    /// The signal's quantity.
    pub quantity: String,
    /// The delivery's exact body.
    pub raw_payload_text: String,
    /// Where the signal came from.
    pub source_ip: String,
    /// Whether an HMAC over the body was checked.
    pub hmac_verified: bool,
    /// How the sender was recognised.
    pub auth_method: String,
    /// The source's or key's name.
    pub recorded_by: String,
    /// When the service had the signal.
    pub received_at: String,
    /// When it was recorded.
    pub created_at: String,
    /// What `deepseek-r1` said last, as it came.
    #[schema(required)]
    pub deepseek_rejection_reasoning_text: Option<String>,
    /// What `llama-3.1` said last, as it came.
    #[schema(required)]
    pub llama_sentiment_text: Option<String>,
    /// The latest word of every other model; none where they are more than 8 MiB together.
    #[schema(value_type = Vec<Object>)]
    pub other_models: Json,
    /// The lowest confidence of the models that answered; null if none did.
    #[schema(required)]
    pub combined_confidence: Option<String>,
    /// How many models answered in time.
    pub models_answered: i64,
    /// How many orders were made for the signal.
    pub order_count: i64,
    /// The latest order's id in its chain.
    #[schema(required)]
    pub order_id: Option<i64>,
    /// Its type.
    #[schema(required)]
    pub order_type: Option<String>,
    /// What was ordered.
    #[schema(required)]
    pub order_quantity: Option<String>,
    /// At which price; null for a market order.
    #[schema(required)]
    pub order_price: Option<String>,
    /// The exchange's name for it.
    #[schema(required)]
    pub exchange_order_id: Option<String>,
    /// The status that it was recorded with.
    #[schema(required)]
    pub order_status_recorded: Option<String>,
    /// Its latest event's id in its chain.
    #[schema(required)]
    pub last_event_id: Option<i64>,
    /// That event's type.
    #[schema(required)]
    pub last_event_type: Option<String>,
    /// When that event was recorded.
    #[schema(required)]
    pub last_event_at: Option<String>,
    /// Why the exchange refused.
    #[schema(required)]
    pub rejection_reason: Option<String>,
    /// The exchange's code for that.
    #[schema(required)]
    pub exchange_error_code: Option<String>,
    /// The status now: the latest event's, else the one recorded.
    #[schema(required)]
    pub order_status: Option<String>,
    /// What was filled of the latest order.
    pub filled_quantity: String,
    /// ZAR equity, where the latest event is a kill switch.
    #[schema(required)]
    pub zar_equity: Option<String>,
    /// Whether a fill of any order cannot be: after its end, or beyond what was ordered.
    pub order_anomaly: bool,
    /// The events that say so, the first 10,000 of them.
    pub anomalous_event_ids: Vec<i64>,
    /// Chain, id and hash of every row that takes part, of the first 10,000 of them.
    #[schema(value_type = Vec<Object>)]
    pub row_hashes: Json,
    /// Whether one of the three lists is not whole. `/v1/{chain}` has every row.
    pub truncated: bool,
}

/// A kill switch: a row of `vw_kill_switch_events`. What stopped everything has no order and no
/// signal.
#[derive(Clone, Debug, Serialize, sqlx::FromRow, utoipa::ToSchema)]
pub struct KillSwitchEvent {
    /// The event's id in `order_events`.
    pub id: i64,
    /// When it was recorded.
    pub created_at: String,
    /// The account's equity in South African rand at that moment.
    pub zar_equity: String,
    /// Which positions were closed, as it came.
    pub positions_closed_text: String,
    /// Why, where it was said.
    #[schema(required)]
    pub rejection_reason: Option<String>,
    /// The exchange's code.
    #[schema(required)]
    pub exchange_error_code: Option<String>,
    /// The key's name.
    pub recorded_by: String,
    /// The event's hash.
    pub row_hash: String,
    /// The order that was stopped.
    #[schema(required)]
    pub order_id: Option<i64>,
    /// Its type.
    #[schema(required)]
    pub order_type: Option<String>,
    /// What it traded.
    #[schema(required)]
    pub symbol: Option<String>,
    /// Which way.
    #[schema(required)]
    pub side: Option<String>,
    /// How much.
    #[schema(required)]
    pub quantity: Option<String>,
    /// At which price.
    #[schema(required)]
    pub price: Option<String>,
    /// The exchange's name for it.
    #[schema(required)]
    pub exchange_order_id: Option<String>,
    /// The status that it was recorded with.
    #[schema(required)]
    pub order_status_recorded: Option<String>,
    /// The signal that led to it.
    #[schema(required)]
    pub correlation_id: Option<Uuid>,
    /// That signal's key.
    #[schema(required)]
    pub signal_id: Option<String>,
    /// That signal's id in its chain.
    #[schema(required)]
    pub signal_row_id: Option<i64>,
}

/// A column of a time as the ledger spells it.
pub(super) fn time(column: &str) -> String {
    format!("{} AS {column}", spelt(column))
}

/// A time as the ledger spells it.
pub(super) fn spelt(time: &str) -> String {
    format!(
        "pg_catalog.to_char(pg_catalog.timezone('UTC', {time}),
                            'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    )
}

/// What one trade repeats of its rows at most.
const MAX_MODELS_BYTES: usize = 8 << 20;
const MAX_LISTED: usize = 10_000;

fn trade_columns() -> String {
    let too_many_models =
        format!("pg_catalog.octet_length(other_models::text) > {MAX_MODELS_BYTES}");
    format!(
        "signal_row_id, correlation_id, signal_id, symbol, side, price::text, quantity::text,
         raw_payload_text, pg_catalog.host(source_ip) AS source_ip, hmac_verified, auth_method,
         recorded_by, {received_at}, {created_at}, deepseek_rejection_reasoning_text,
         llama_sentiment_text,
         CASE WHEN {too_many_models} THEN '[]' ELSE other_models END AS other_models,
         combined_confidence::text, models_answered,
         order_count, order_id, order_type, order_quantity::text, order_price::text,
         exchange_order_id, order_status_recorded, last_event_id, last_event_type, {last_event_at},
         rejection_reason, exchange_error_code, order_status, filled_quantity::text,
         zar_equity::text, order_anomaly,
         anomalous_event_ids[1:{MAX_LISTED}] AS anomalous_event_ids,
         pg_catalog.jsonb_path_query_array(row_hashes, '$[0 to {last}]') AS row_hashes,
         {too_many_models} OR pg_catalog.cardinality(anomalous_event_ids) > {MAX_LISTED}
             OR pg_catalog.jsonb_array_length(row_hashes) > {MAX_LISTED} AS truncated",
        received_at = time("received_at"),
        created_at = time("created_at"),
        last_event_at = time("last_event_at"),
        last = MAX_LISTED - 1,
    )
}

/// Trades, those of the newest signals first.
pub async fn list_trades(pool: &Pool, range: PageRange) -> Result<Slice<Trade>, StoreError> {
    let select = format!(
        "SELECT {columns}, {size} AS size FROM public.vw_trade_audit_full WHERE true",
        columns = trade_columns(),
        size = size_of([
            "raw_payload_text",
            "deepseek_rejection_reasoning_text",
            "llama_sentiment_text",
            "other_models::text",
            "row_hashes::text",
            "rejection_reason",
        ]),
    );
    let list = List { name: "list_trades", select: &select, id: "signal_row_id" };
    list.read(pool, range, |row| Trade::from_row(row)).await
}

/// The trade of this signal.
pub(super) async fn find_trade(
    connection: &mut PgConnection,
    correlation_id: Uuid,
) -> Result<Option<Trade>, StoreError> {
    let statement = format!(
        "/* find_trade */ SELECT {} FROM public.vw_trade_audit_full WHERE correlation_id = $1",
        trade_columns()
    );
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(correlation_id)
        .fetch_optional(connection)
        .await
        .in_statement("find_trade")
}

/// Kill switches, the newest first.
pub async fn list_kill_switch_events(
    pool: &Pool,
    range: PageRange,
) -> Result<Slice<KillSwitchEvent>, StoreError> {
    let select = format!(
        "SELECT id, {created_at}, zar_equity::text, positions_closed_text, rejection_reason,
                exchange_error_code, recorded_by, row_hash::text, order_id, order_type, symbol,
                side, quantity::text, price::text, exchange_order_id, order_status_recorded,
                correlation_id, signal_id, signal_row_id, {size} AS size
         FROM public.vw_kill_switch_events WHERE true",
        created_at = time("created_at"),
        size = size_of(["positions_closed_text", "rejection_reason"]),
    );
    let list = List { name: "list_kill_switch_events", select: &select, id: "id" };
    list.read(pool, range, |row| KillSwitchEvent::from_row(row)).await
}
