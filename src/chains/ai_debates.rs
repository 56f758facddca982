//! Rows of `ai_debates`: what a model thought of a signal.

use ledger_verifier::Value;
use ledger_verifier::chain::AI_DEBATES;

use super::{ClientChain, Reference, is_oversized};

/// 1, in units of the confidence's last digit.
const ONE: i128 = 10_000;

/// The chain, to write to.
pub static CLIENT_CHAIN: ClientChain = ClientChain { chain: &AI_DEBATES, reference, violated };

fn reference(values: &[Value<'_>]) -> Option<Reference> {
    super::names_signal(&values[1], "ai_debates_correlation_id_fkey")
}

fn violated(values: &[Value<'_>]) -> Option<&'static str> {
    let [_, _, _, reasoning, confidence, elapsed_ms, ..] = values else { return None };
    match (reasoning, confidence, elapsed_ms) {
        (_, Value::Decimal(confidence), _) if !(0..=ONE).contains(confidence) => {
            Some("ai_debates_confidence_score_range")
        }
        (_, _, Value::Integer(..=-1)) => Some("ai_debates_elapsed_ms_not_negative"),
        (reasoning, ..) if is_oversized(reasoning) => Some("ai_debates_reasoning_json_size"),
        _ => None,
    }
}
