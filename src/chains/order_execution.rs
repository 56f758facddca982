//! Rows of `order_execution`: orders made for a signal.

use ledger_verifier::Value;
use ledger_verifier::chain::ORDER_EXECUTION;

use super::{ClientChain, Reference, SIDES, is_none_of, is_not_positive};

/// The chain, to write to.
pub static CLIENT_CHAIN: ClientChain = ClientChain { chain: &ORDER_EXECUTION, reference, violated };

const MARKET: &str = "MARKET";
pub(super) const ORDER_TYPES: [&str; 4] = [MARKET, "LIMIT", "STOP", "STOP_LIMIT"];
pub(super) const STATUSES: [&str; 6] =
    ["PENDING", "SUBMITTED", "FILLED", "PARTIAL", "REJECTED", "CANCELLED"];

fn reference(values: &[Value<'_>]) -> Option<Reference> {
    super::names_signal(&values[1], "order_execution_correlation_id_fkey")
}

fn violated(values: &[Value<'_>]) -> Option<&'static str> {
    let [_, _, order_type, _, side, quantity, price, _, status, ..] = values else { return None };
    let is_market = matches!(order_type, Value::Text(text) if text == MARKET);
    // In the order of their names, in which PostgreSQL looks at them.
    [
        (is_none_of(order_type, &ORDER_TYPES), "order_execution_order_type_known"),
        ((*price == Value::Null) != is_market, "order_execution_price_for_type"),
        (is_not_positive(price), "order_execution_price_positive"),
        (is_not_positive(quantity), "order_execution_quantity_positive"),
        (is_none_of(side, &SIDES), "order_execution_side_known"),
        (is_none_of(status, &STATUSES), "order_execution_status_known"),
    ]
    .into_iter()
    .find_map(|(is_violated, constraint)| is_violated.then_some(constraint))
}
