//! Reads a delivery's body: strict JSON, no member twice, nothing that PostgreSQL's jsonb would
//! refuse, and every number by its literal text.

use std::collections::HashSet;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};
use serde::de::IgnoredAny;

use super::{Fault, Reason};
use crate::decimal::fits_jsonb;

/// Objects and arrays within each other at most.
pub const MAX_DEPTH: usize = 128;

/// Characters of a member's name that an answer repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// The value of a member of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// `null`: as if it was not there.
    Null,
    /// A string, its escapes resolved.
    Text(String),
    /// A number's literal text.
    Number(String),
    /// Anything else, by its name.
    Other(&'static str),
}

/// The body's members in their order.
pub fn read_object(body: &[u8]) -> Result<Vec<(String, Member)>, Fault> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the body is not UTF-8 from byte {}", error.valid_up_to());
        Fault::of_body(Reason::InvalidUtf8, detail)
    })?;
    let mut reader = Reader { json: Jiter::new(text.as_bytes()), fault: None };
    let members = reader.body().map_err(|fault| {
        // A body that is no JSON at all is called that, whatever else stands in it; half of a
        // surrogate pair ends the reading, so the rest is still to be looked at.
        match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) if fault.reason != Reason::MalformedJson => {
                Fault::of_body(Reason::MalformedJson, error.to_string())
            }
            _ => fault,
        }
    })?;
    if let Some(fault) = reader.fault {
        return Err(fault);
    }
    members.ok_or_else(|| Fault::of_body(Reason::NotAnObject, "the body is not a JSON object"))
}

struct Reader<'a> {
    json: Jiter<'a>,
    /// The first thing wrong with what is valid JSON.
    fault: Option<Fault>,
}

impl Reader<'_> {
    fn body(&mut self) -> Result<Option<Vec<(String, Member)>>, Fault> {
        let peek = self.json.peek().map_err(malformed)?;
        let members = if peek == Peek::Object {
            let mut members = Vec::new();
            self.object(1, |name, member| members.push((name, member)))?;
            Some(members)
        } else {
            self.value(peek, 0)?;
            None
        };
        self.json.finish().map_err(malformed)?;
        Ok(members)
    }

    fn value(&mut self, peek: Peek, depth: usize) -> Result<Member, Fault> {
        if depth >= MAX_DEPTH && (peek == Peek::Object || peek == Peek::Array) {
            let detail = format!("the body is nested more than {MAX_DEPTH} deep");
            return Err(Fault::of_body(Reason::MalformedJson, detail));
        }
        Ok(match peek {
            Peek::Object => {
                self.object(depth + 1, |_, _| {})?;
                Member::Other("an object")
            }
            Peek::Array => {
                self.array(depth + 1)?;
                Member::Other("an array")
            }
            Peek::String => {
                let text = self.json.known_str().map_err(malformed)?.to_owned();
                self.check_text(&text);
                Member::Text(text)
            }
            Peek::Null => {
                self.json.known_null().map_err(malformed)?;
                Member::Null
            }
            Peek::True | Peek::False => {
                self.json.known_bool(peek).map_err(malformed)?;
                Member::Other("a boolean")
            }
            number => {
                let literal = self.json.known_number_bytes(number).map_err(malformed)?;
                let literal = String::from_utf8_lossy(literal).into_owned();
                if !fits_jsonb(&literal) {
                    let detail = "a number has more digits than PostgreSQL can hold";
                    self.found(Fault::of_body(Reason::InvalidField, detail));
                }
                Member::Number(literal)
            }
        })
    }

    fn object(&mut self, depth: usize, mut each: impl FnMut(String, Member)) -> Result<(), Fault> {
        let mut seen = HashSet::new();
        let mut name = self.json.known_object().map_err(malformed)?.map(str::to_owned);
        while let Some(this) = name {
            self.check_text(&this);
            let peek = self.json.peek().map_err(malformed)?;
            let member = self.value(peek, depth)?;
            if seen.insert(this.clone()) {
                each(this, member);
            } else {
                // The name is the sender's: no longer than a person reads.
                let name: String = this.chars().take(MAX_SHOWN_CHARS).collect();
                let rule = "stands twice in one object";
                self.found(Fault::of_field(Reason::DuplicateMember, &name, rule));
            }
            name = self.json.next_key().map_err(malformed)?.map(str::to_owned);
        }
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        let mut peek = self.json.known_array().map_err(malformed)?;
        while let Some(element) = peek {
            self.value(element, depth)?;
            peek = self.json.array_step().map_err(malformed)?;
        }
        Ok(())
    }

    fn check_text(&mut self, text: &str) {
        if text.contains('\0') {
            let detail = "a string holds U+0000, which PostgreSQL cannot store";
            self.found(Fault::of_body(Reason::NulCharacter, detail));
        }
    }

    fn found(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

fn malformed(error: JiterError) -> Fault {
    let at = error.index;
    match error.error_type {
        // JSON's grammar allows half of a surrogate pair, jsonb does not.
        JiterErrorType::JsonError(
            JsonErrorType::LoneLeadingSurrogateInHexEscape
            | JsonErrorType::UnexpectedEndOfHexEscape,
        ) => {
            let detail = format!("a string holds half of a surrogate pair at byte {at}");
            Fault::of_body(Reason::InvalidField, detail)
        }
        error => Fault::of_body(Reason::MalformedJson, format!("{error} at byte {at}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(body: &str) -> Option<Reason> {
        read_object(body.as_bytes()).err().map(|fault| fault.reason)
    }

    #[test]
    fn a_fault_of_the_grammar_is_told_before_any_other() {
        for (body, expected) in [
            (r#"{"a":1}"#, None),
            (r#"{"a":"\ud83d\ude80"}"#, None),
            (r#"{"a":{"b":1,"b":2}}"#, Some(Reason::DuplicateMember)),
            (r#"{"a":[{"b":1,"b":2}],"#, Some(Reason::MalformedJson)),
            (r#"{"a":"\ud800"}"#, Some(Reason::InvalidField)),
            (r#"{"a":"\ud800x"}"#, Some(Reason::InvalidField)),
            (r#"{"a":"\udc00"}"#, Some(Reason::InvalidField)),
            (r#"{"a":"\ud800" garbage"#, Some(Reason::MalformedJson)),
            (r#"{"a":"\u0000"}"#, Some(Reason::NulCharacter)),
            (r#"{"a\u0000":1}"#, Some(Reason::NulCharacter)),
            (r#"{"a":1e131072}"#, Some(Reason::InvalidField)),
            (r#"{"a":0e131072}"#, None),
            (r#""a""#, Some(Reason::NotAnObject)),
            (r#"{"a":01}"#, Some(Reason::MalformedJson)),
            (r#"{"a":Infinity}"#, Some(Reason::MalformedJson)),
            ("{\"a\":\"\t\"}", Some(Reason::MalformedJson)),
            (" {} ", None),
            ("{} {}", Some(Reason::MalformedJson)),
        ] {
            assert_eq!(reason(body), expected, "{body}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_a_long_name_is_not_repeated() {
        let nested =
            |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(reason(&nested(MAX_DEPTH)), None);
        assert_eq!(reason(&nested(MAX_DEPTH + 1)), Some(Reason::MalformedJson));
        let name = "x".repeat(100_000);
        let fault = read_object(format!(r#"{{"{name}":1,"{name}":2}}"#).as_bytes()).unwrap_err();
        assert_eq!(fault.reason, Reason::DuplicateMember);
        assert!(fault.detail.len() < 200 && fault.field.unwrap().len() == MAX_SHOWN_CHARS);
    }
}
