//! Who sent a delivery that is kept. A signal that is made of it later needs to know: under whose
//! name it is recorded, and what stands for an id that its body does not have.
//!
//! It stands at the end of the row's `detail`, which is hashed:
//! `…; sender: {"recorded_by":"ingest-bot","webhook_id":"msg_1"}`.

use serde::{Deserialize, Serialize};

use super::auth::Authenticated;

const MARK: &str = "; sender: ";

/// What a delivery's bytes do not say of its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sender {
    /// The source's name, or the API key's.
    pub(super) recorded_by: String,
    /// The `webhook-id` that a signature covers.
    pub(super) webhook_id: Option<String>,
}

impl From<&Authenticated> for Sender {
    fn from(authenticated: &Authenticated) -> Self {
        Self {
            recorded_by: authenticated.recorded_by.clone(),
            webhook_id: authenticated.webhook_id.clone(),
        }
    }
}

impl Sender {
    /// The detail to keep: what people are told, and then this.
    pub(super) fn end_of(&self, told: &str) -> String {
        let json = serde_json::to_string(self).expect("texts are JSON");
        // A semicolon stands in strings alone. Without any, nothing in them looks like the mark.
        format!("{told}{MARK}{}", json.replace(';', "\\u003b"))
    }

    /// Reads it from the end of a kept detail. What stands before the last mark, or is not exactly
    /// this, is text that may repeat what a delivery said.
    pub(super) fn read(detail: &str) -> Option<Self> {
        let (_, json) = detail.rsplit_once(MARK)?;
        serde_json::from_str(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(recorded_by: &str, webhook_id: Option<&str>) -> Sender {
        let webhook_id = webhook_id.map(str::to_owned);
        Sender { recorded_by: recorded_by.to_owned(), webhook_id }
    }

    #[test]
    fn it_is_one_line_at_the_end() {
        let kept = sender("ingest-bot", Some("msg_1")).end_of("locked down");
        let expected = r#"locked down; sender: {"recorded_by":"ingest-bot","webhook_id":"msg_1"}"#;
        assert_eq!(kept, expected);
        let kept = sender("tradingview", None).end_of("");
        assert_eq!(kept, r#"; sender: {"recorded_by":"tradingview","webhook_id":null}"#);
    }

    #[test]
    fn nothing_that_is_sent_passes_for_it() {
        let forged = sender("boss", Some("x")).end_of("");
        for webhook_id in [None, Some(forged.as_str()), Some("a\";\n sender: {}"), Some(MARK)] {
            let honest = sender("a; sender: {b", webhook_id);
            let kept = honest.end_of(&forged);
            assert_eq!(Sender::read(&kept), Some(honest));
            assert_eq!(kept.matches(MARK).count(), 2);
            assert!(!kept.contains('\n'));
        }
    }

    #[test]
    fn a_row_without_it_has_none() {
        for detail in [
            "",
            "price is missing",
            "; sender: ",
            "; sender: x is no member",
            r#"; sender: {"recorded_by":"a"} is no member"#,
            r#"; sender: {"recorded_by":"a","webhook_id":null,"more":1}"#,
        ] {
            assert_eq!(Sender::read(detail), None, "{detail}");
        }
    }
}
