//! What the tables' constraints mean to whoever sent a row: the one place where a name that
//! PostgreSQL, or the service before it, refuses a row by becomes a field and a rule.

/// Why a constraint refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value breaks a rule.
    InvalidField,
    /// The row that a value names is not there.
    UnknownReference,
}

/// A constraint in a sender's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Its name in the database.
    pub name: &'static str,
    /// Why it refuses.
    pub kind: Kind,
    /// The member at fault.
    pub field: &'static str,
    /// What is wrong with it; goes on from the field's name.
    pub rule: &'static str,
}

/// The constraint of this name, where a sender's row can violate it.
pub fn by_name(name: &str) -> Option<&'static Constraint> {
    CONSTRAINTS.iter().find(|constraint| constraint.name == name)
}

const fn field(name: &'static str, field: &'static str, rule: &'static str) -> Constraint {
    Constraint { name, kind: Kind::InvalidField, field, rule }
}

const fn reference(name: &'static str, field: &'static str, rule: &'static str) -> Constraint {
    Constraint { name, kind: Kind::UnknownReference, field, rule }
}

const SIDES: &str = "is none of BUY, SELL";
const POSITIVE: &str = "is not above 0";
const TOO_LARGE: &str = "is larger than 1 MiB";
const NO_SIGNAL: &str = "names no signal of this ledger";
const FILLS: &str = "and fill_price belong to FILL and PARTIAL_FILL, and to nothing else";
const KILL_SWITCH: &str = "is missing: a KILL_SWITCH has it";

/// Every constraint that a row which a client writes can violate.
pub static CONSTRAINTS: [Constraint; 25] = [
    field("signals_side_known", "side", SIDES),
    field("signals_price_positive", "price", POSITIVE),
    field("signals_quantity_positive", "quantity", POSITIVE),
    field("signals_raw_payload_size", "raw_payload", TOO_LARGE),
    reference("ai_debates_correlation_id_fkey", "correlation_id", NO_SIGNAL),
    field("ai_debates_confidence_score_range", "confidence_score", "is not from 0 to 1"),
    field("ai_debates_elapsed_ms_not_negative", "elapsed_ms", "is below 0"),
    field("ai_debates_reasoning_json_size", "reasoning_json", TOO_LARGE),
    reference("order_execution_correlation_id_fkey", "correlation_id", NO_SIGNAL),
    field(
        "order_execution_order_type_known",
        "order_type",
        "is none of MARKET, LIMIT, STOP, STOP_LIMIT",
    ),
    field("order_execution_side_known", "side", SIDES),
    field("order_execution_quantity_positive", "quantity", POSITIVE),
    field(
        "order_execution_price_for_type",
        "price",
        "belongs to every order but a MARKET order, which has none",
    ),
    field("order_execution_price_positive", "price", POSITIVE),
    field(
        "order_execution_status_known",
        "status",
        "is none of PENDING, SUBMITTED, FILLED, PARTIAL, REJECTED, CANCELLED",
    ),
    reference(
        "order_events_order_execution_id_fkey",
        "order_execution_id",
        "names no order of this ledger",
    ),
    field(
        "order_events_order_execution_id_required",
        "order_execution_id",
        "is missing: only a KILL_SWITCH that stops everything has none",
    ),
    field(
        "order_events_event_type_known",
        "event_type",
        "is none of FILL, PARTIAL_FILL, REJECTED, CANCELLED, KILL_SWITCH, EXPIRED",
    ),
    field("order_events_fill_for_type", "fill_quantity", FILLS),
    field("order_events_fill_quantity_positive", "fill_quantity", POSITIVE),
    field("order_events_fill_price_positive", "fill_price", POSITIVE),
    field("order_events_zar_equity_required", "zar_equity", KILL_SWITCH),
    field("order_events_positions_closed_required", "positions_closed", KILL_SWITCH),
    field("order_events_positions_closed_size", "positions_closed", TOO_LARGE),
    field("order_events_rejection_reason_size", "rejection_reason", TOO_LARGE),
];
