//! What the database's refusals mean: the one place where a SQLSTATE and the name of a constraint
//! become one of the ledger's codes, and for whoever sent a row a field and a rule.

use super::signal_audit_ledger::OUTCOME_OF_SIGNAL;

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

/// The ledger's code for what the database refuses by this SQLSTATE and constraint.
pub fn ledger_code(sqlstate: &str, constraint: Option<&str>) -> Option<&'static str> {
    match (sqlstate, constraint.and_then(by_name).map(|constraint| constraint.kind)) {
        ("AU001", _) => Some("AUD-001"),
        ("AU002", _) => Some("AUD-002"),
        ("AU003", _) => Some("AUD-003"),
        ("AU004", _) => Some("AUD-004"),
        ("AU005", _) => Some("AUD-005"),
        ("AU006", _) => Some("AUD-006"),
        ("AU007", _) => Some("AUD-007"),
        // foreign_key_violation
        (_, Some(Kind::UnknownReference)) | ("23503" | "AU008", _) => Some("AUD-008"),
        ("AU009", _) => Some("AUD-009"),
        // insufficient_privilege: what a role has no right to do, the guards would refuse as well.
        ("AU010" | "42501", _) => Some("AUD-010"),
        ("AU011", _) => Some("AUD-011"),
        // check_violation: the hash is the ledger's own matter, the rest the sender's.
        ("23514", None) if constraint.is_some_and(|name| name.ends_with("_row_hash_correct")) => {
            Some("AUD-011")
        }
        ("23514", _) => Some("VAL-002"),
        // unique_violation
        ("23505", _) => Some("IDP-001"),
        _ => None,
    }
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
pub static CONSTRAINTS: [Constraint; 32] = [
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
    reference("signal_audit_ledger_correlation_id_fkey", "correlation_id", NO_SIGNAL),
    reference(OUTCOME_OF_SIGNAL, "signal_id", "names no recorded signal of this source_module"),
    field("signal_audit_ledger_record_type_known", "record_type", "is none of SIGNAL, OUTCOME"),
    field(
        "signal_audit_ledger_direction_known",
        "direction",
        "is none of LONG, SHORT, NEUTRAL, nor a word for one of them: buy, bullish, sell, bearish, flat",
    ),
    field("signal_audit_ledger_conviction_range", "conviction", "is not from 0 to 100"),
    field("signal_audit_ledger_confidence_range", "confidence", "is not from 0 to 1"),
    field("signal_audit_ledger_payload_json_size", "payload_json", TOO_LARGE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_code() {
        for (sqlstate, constraint, code) in [
            ("AU001", None, Some("AUD-001")),
            ("AU009", None, Some("AUD-009")),
            ("42501", None, Some("AUD-010")),
            ("23503", Some("order_events_order_execution_id_fkey"), Some("AUD-008")),
            ("23514", Some("order_events_event_type_known"), Some("VAL-002")),
            ("23514", Some("signals_row_hash_correct"), Some("AUD-011")),
            ("23505", Some("signals_signal_id_key"), Some("IDP-001")),
            ("57014", None, None),
        ] {
            assert_eq!(ledger_code(sqlstate, constraint), code, "{sqlstate} {constraint:?}");
        }
        let mut names: Vec<_> = CONSTRAINTS.iter().map(|constraint| constraint.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CONSTRAINTS.len(), "a constraint stands once");
    }
}
