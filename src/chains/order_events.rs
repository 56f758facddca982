//! Rows of `order_events`: what became of an order, and kill switches. An event that cannot
//! follow is recorded all the same, since it happened; the audit view flags it.

use ledger_verifier::chain::ORDER_EVENTS;
use ledger_verifier::{RowId, Value};

use super::{ClientChain, Reference, Target, is_none_of, is_not_positive, is_oversized};

/// The chain, to write to.
pub static CLIENT_CHAIN: ClientChain = ClientChain { chain: &ORDER_EVENTS, reference, violated };

/// What can become of an order.
pub(super) const EVENT_TYPES: [&str; 6] =
    ["FILL", "PARTIAL_FILL", "REJECTED", "CANCELLED", "KILL_SWITCH", "EXPIRED"];

fn reference(values: &[Value<'_>]) -> Option<Reference> {
    let constraint = "order_events_order_execution_id_fkey";
    match values[1] {
        Value::Integer(id) => Some(Reference { target: Target::Order(RowId(id)), constraint }),
        _ => None,
    }
}

fn violated(values: &[Value<'_>]) -> Option<&'static str> {
    let [_, order, event_type, quantity, price, equity, positions, reason, ..] = values else {
        return None;
    };
    let is_any_of = |types: &[&str]| !is_none_of(event_type, types);
    let is_fill = is_any_of(&["FILL", "PARTIAL_FILL"]);
    let is_kill_switch = is_any_of(&["KILL_SWITCH"]);
    let is_missing = |value: &Value<'_>| *value == Value::Null;
    // In the order of their names, in which PostgreSQL looks at them.
    [
        (is_none_of(event_type, &EVENT_TYPES), "order_events_event_type_known"),
        (
            is_missing(quantity) == is_fill || is_missing(price) == is_fill,
            "order_events_fill_for_type",
        ),
        (is_not_positive(price), "order_events_fill_price_positive"),
        (is_not_positive(quantity), "order_events_fill_quantity_positive"),
        (is_missing(order) && !is_kill_switch, "order_events_order_execution_id_required"),
        (is_missing(positions) && is_kill_switch, "order_events_positions_closed_required"),
        (is_oversized(positions), "order_events_positions_closed_size"),
        (is_oversized(reason), "order_events_rejection_reason_size"),
        (is_missing(equity) && is_kill_switch, "order_events_zar_equity_required"),
    ]
    .into_iter()
    .find_map(|(is_violated, constraint)| is_violated.then_some(constraint))
}
