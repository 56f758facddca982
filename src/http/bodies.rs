//! The bodies of the routes that write, for the API's description. What is read follows the chains'
//! own descriptions; a test holds the two together.

use utoipa::ToSchema;

/// What a model thought of a signal.
#[derive(Debug, ToSchema)]
#[schema(as = NewAiDebate)]
#[expect(dead_code, reason = "describes a body")]
pub(super) struct AiDebate {
    /// The signal that was debated.
    correlation_id: uuid::Uuid,
    /// `deepseek-r1`, `llama-3.1`, `phi-4`, `timeout`, …
    #[schema(max_length = 50)]
    model_name: String,
    /// What the model said: any JSON, kept byte for byte as it stands in the body. In its place
    /// `reasoning_json_text` may hold it as a string.
    #[schema(value_type = Object)]
    reasoning_json: serde_json::Value,
    /// From 0 to 1, with up to four digits after the point; a string or a number.
    #[schema(example = "0.8125")]
    confidence_score: String,
    /// How long the model took, in milliseconds.
    #[schema(minimum = 0)]
    elapsed_ms: i32,
    /// Whether it was cut off: then its confidence is no answer.
    is_timeout: bool,
}

/// An order that was made for a signal.
#[derive(Debug, ToSchema)]
#[schema(as = NewOrder)]
#[expect(dead_code, clippy::struct_field_names, reason = "describes a body")]
pub(super) struct Order {
    /// The signal that led to it.
    correlation_id: uuid::Uuid,
    /// `MARKET`, `LIMIT`, `STOP` or `STOP_LIMIT`.
    #[schema(example = "LIMIT")]
    order_type: String,
    #[schema(max_length = 20, example = "BTCUSD")]
    symbol: String,
    /// `BUY` or `SELL`.
    #[schema(example = "BUY")]
    side: String,
    /// Above 0, with up to 18 digits before the point and 10 after it; a string or a number.
    #[schema(example = "0.125")]
    quantity: String,
    /// As `quantity`; a MARKET order has none, every other one does.
    #[schema(example = "64250.5")]
    price: Option<String>,
    /// The exchange's name for the order.
    #[schema(max_length = 64)]
    exchange_order_id: Option<String>,
    /// The status now: `PENDING`, `SUBMITTED`, `FILLED`, `PARTIAL`, `REJECTED` or `CANCELLED`.
    /// What comes later are events.
    #[schema(example = "SUBMITTED")]
    status: String,
}

/// What became of an order, or a kill switch.
#[derive(Debug, ToSchema)]
#[schema(as = NewOrderEvent)]
#[expect(dead_code, reason = "describes a body")]
pub(super) struct OrderEvent {
    /// The order's id; only a `KILL_SWITCH` that stops everything has none.
    order_execution_id: Option<i64>,
    /// `FILL`, `PARTIAL_FILL`, `REJECTED`, `CANCELLED`, `KILL_SWITCH` or `EXPIRED`.
    #[schema(example = "PARTIAL_FILL")]
    event_type: String,
    /// What this event filled; fills have it, nothing else does.
    #[schema(example = "0.1")]
    fill_quantity: Option<String>,
    /// At which price; fills have it, nothing else does.
    #[schema(example = "64250.5")]
    fill_price: Option<String>,
    /// The account's equity in South African rand; a `KILL_SWITCH` has it.
    #[schema(example = "1250000.00")]
    zar_equity: Option<String>,
    /// Which positions a `KILL_SWITCH` closed: any JSON, kept byte for byte as it stands in the body.
    /// In its place `positions_closed_text` may hold it as a string.
    #[schema(value_type = Option<Object>)]
    positions_closed: Option<serde_json::Value>,
    /// Why it was refused.
    rejection_reason: Option<String>,
    /// The exchange's code for that.
    #[schema(max_length = 50)]
    exchange_error_code: Option<String>,
}

/// A signal of a producer, or what became of one.
#[derive(Debug, ToSchema)]
#[schema(as = NewSignalRecord)]
#[expect(dead_code, reason = "describes a body")]
pub(super) struct SignalRecord {
    /// `SIGNAL`, unless it is an `OUTCOME`: what became known later of the signal with the same
    /// `source_module` and `signal_id`.
    #[schema(example = "SIGNAL")]
    record_type: Option<String>,
    /// The producer's key, unique for each `source_module`.
    #[schema(max_length = 64)]
    signal_id: String,
    /// The producer: `ema`, `social`, `fusion`, `agent`, …
    #[schema(max_length = 50, example = "ema")]
    source_module: String,
    /// The producer's name for this kind of signal.
    #[schema(max_length = 50)]
    signal_type: Option<String>,
    /// What the signal is about. A signal has it; an outcome repeats its signal's by itself.
    #[schema(max_length = 20, example = "AAPL")]
    ticker: Option<String>,
    /// `LONG`, `SHORT` or `NEUTRAL`, or a word for one of them in any case: `buy`, `bullish`,
    /// `sell`, `bearish`, `flat`. As `ticker`.
    #[schema(example = "LONG")]
    direction: Option<String>,
    /// How strong the signal is, from 0 to 100, with up to four digits after the point; a string
    /// or a number. As `ticker`.
    #[schema(example = "82.5")]
    conviction: Option<String>,
    /// How sure the producer is, from 0 to 1, with up to four digits after the point.
    #[schema(example = "0.91")]
    confidence: Option<String>,
    /// With up to 18 digits before the point and 10 after it; a string or a number.
    #[schema(example = "189.12")]
    price: Option<String>,
    /// When the producer made the record, by its own clock (RFC 3339). A signal has it; an outcome
    /// without one is of the time of its arrival.
    timestamp: Option<chrono::DateTime<chrono::Utc>>,
    /// What else there is to say: any JSON, kept byte for byte as it stands in the body. In its place
    /// `payload_json_text` may hold it as a string.
    #[schema(value_type = Option<Object>)]
    payload_json: Option<serde_json::Value>,
    /// Whether the signal was acted upon: false, if a signal does not say. An outcome says it.
    acted_upon: Option<bool>,
    /// The execution that acted upon it.
    #[schema(max_length = 64)]
    execution_id: Option<String>,
    /// The webhook's signal that this one belongs to.
    correlation_id: Option<uuid::Uuid>,
}
