//! Reads a body of a delivery or of a row: strict JSON, no member twice, nothing that PostgreSQL's
//! jsonb would refuse, and every number by its literal text.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};
use serde::de::IgnoredAny;

use super::{Fault, Reason, shown};
use crate::decimal::fits_jsonb;

/// Objects and arrays within each other at most.
pub const MAX_DEPTH: usize = 128;

/// JSON pointers (RFC 6901) to members of a body.
pub type Pointers = BTreeSet<String>;
static NOTHING: Pointers = Pointers::new();

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

/// Reads a body, which must be an object, and returns the members that these pointers name, with
/// their pointers.
pub fn read_object(body: &[u8], wanted: &Pointers) -> Result<Vec<(String, Member)>, Fault> {
    Ok(read(body, wanted)?.1.members)
}

/// The text of a body, which must be an object, and what was found in it.
fn read<'a>(body: &'a [u8], wanted: &'a Pointers) -> Result<(&'a str, Reader<'a>), Fault> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the body is not UTF-8 from byte {}", error.valid_up_to());
        Fault::of_body(Reason::InvalidUtf8, detail)
    })?;
    let mut reader = Reader::new(text, wanted);
    let is_object = reader.body().map_err(|fault| {
        // A body that is no JSON at all is called that, whatever else stands in it; half of a
        // surrogate pair ends the reading, so the rest is still to be looked at.
        match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) if fault.reason != Reason::MalformedJson => {
                Fault::of_body(Reason::MalformedJson, error.to_string())
            }
            _ => fault,
        }
    })?;
    match reader.fault.take() {
        Some(fault) => Err(fault),
        None if is_object => Ok((text, reader)),
        None => Err(Fault::of_body(Reason::NotAnObject, "the body is not a JSON object")),
    }
}

/// The members of a body, which must be an object, each with its text as it stands there.
pub fn read_members(body: &[u8]) -> Result<Vec<(String, &str)>, Fault> {
    let (text, reader) = read(body, &NOTHING)?;
    Ok(reader.top.into_iter().map(|(name, place)| (name, &text[place])).collect())
}

/// Whether a text is JSON that PostgreSQL's jsonb takes, no object having a member twice.
pub fn check_document(text: &str) -> Result<(), Fault> {
    let mut reader = Reader::new(text, &NOTHING);
    reader.body()?;
    reader.fault.map_or(Ok(()), Err)
}

/// Takes a token out of a body: returns the text of the top-level member of that name, and the
/// body with this text blanked, all else byte for byte.
///
/// `None` where the body cannot be read as an object, or does not have this member exactly once,
/// as a string.
pub fn take_token(body: &[u8], member: &str) -> Option<(String, Vec<u8>)> {
    let text = std::str::from_utf8(body).ok()?;
    let mut json = Jiter::new(text.as_bytes());
    let mut found = None;
    let mut name = json.next_object().ok()?.map(str::to_owned);
    while let Some(this) = name {
        let peek = json.peek().ok()?;
        let start = json.current_index();
        if this == member {
            if found.is_some() || peek != Peek::String {
                return None;
            }
            let token = json.known_str().ok()?.to_owned();
            found = Some((token, start..json.current_index()));
        } else {
            json.known_skip(peek).ok()?;
        }
        name = json.next_key().ok()?.map(str::to_owned);
    }
    json.finish().ok()?;
    let (token, range) = found.filter(|(token, _)| !token.is_empty())?;
    let blanked = [&body[..range.start], b"\"\"", &body[range.end..]].concat();
    // A body that cannot be read whole could hide the token where it is not looked for.
    Reader::new(std::str::from_utf8(&blanked).ok()?, &NOTHING).body().ok()?;
    Some((token, blanked))
}

/// Whether any of the texts stands in the body: in its bytes, or in a string, name or number once
/// its escapes are resolved.
pub fn holds_text(body: &[u8], texts: &[&str]) -> bool {
    let in_bytes =
        |text: &&str| body.windows(text.len().max(1)).any(|window| window == text.as_bytes());
    if texts.iter().any(in_bytes) {
        return true;
    }
    let Ok(body) = std::str::from_utf8(body) else { return false };
    let mut reader = Reader::new(body, &NOTHING);
    reader.forbidden = texts;
    // Of a body that cannot be read whole, what could be was looked at.
    let _ = reader.body();
    reader.saw_forbidden
}

struct Reader<'a> {
    json: Jiter<'a>,
    /// Pointers of the members to return.
    wanted: &'a Pointers,
    /// Those found.
    members: Vec<(String, Member)>,
    /// The body's own members, and where their values stand in it.
    top: Vec<(String, Range<usize>)>,
    /// The pointer of what is being read.
    pointer: String,
    /// Texts that must not stand in the body, and whether one does.
    forbidden: &'a [&'a str],
    saw_forbidden: bool,
    /// The first thing wrong with what is valid JSON.
    fault: Option<Fault>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, wanted: &'a Pointers) -> Self {
        Self {
            json: Jiter::new(text.as_bytes()),
            wanted,
            members: Vec::new(),
            top: Vec::new(),
            pointer: String::new(),
            forbidden: &[],
            saw_forbidden: false,
            fault: None,
        }
    }

    /// Whether it is an object.
    fn body(&mut self) -> Result<bool, Fault> {
        let peek = self.json.peek().map_err(malformed)?;
        self.value(peek, 0)?;
        self.json.finish().map_err(malformed)?;
        Ok(peek == Peek::Object)
    }

    /// Reads what stands under this name, and keeps it if it is wanted.
    fn member(&mut self, name: &str, peek: Peek, depth: usize) -> Result<(), Fault> {
        let parent = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let member = self.value(peek, depth)?;
        if self.wanted.contains(&self.pointer) {
            self.members.push((self.pointer.clone(), member));
        }
        self.pointer.truncate(parent);
        Ok(())
    }

    fn value(&mut self, peek: Peek, depth: usize) -> Result<Member, Fault> {
        if depth >= MAX_DEPTH && (peek == Peek::Object || peek == Peek::Array) {
            let detail = format!("the body is nested more than {MAX_DEPTH} deep");
            return Err(Fault::of_body(Reason::MalformedJson, detail));
        }
        Ok(match peek {
            Peek::Object => {
                self.object(depth + 1)?;
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

    fn object(&mut self, depth: usize) -> Result<(), Fault> {
        let mut seen = HashSet::new();
        let mut name = self.json.known_object().map_err(malformed)?.map(str::to_owned);
        while let Some(this) = name {
            self.check_text(&this);
            let peek = self.json.peek().map_err(malformed)?;
            let start = self.json.current_index();
            self.member(&this, peek, depth)?;
            if depth == 1 {
                self.top.push((this.clone(), start..self.json.current_index()));
            }
            if seen.contains(&this) {
                let rule = "stands twice in one object";
                self.found(Fault::of_field(Reason::DuplicateMember, &shown(&this), rule));
            }
            seen.insert(this);
            name = self.json.next_key().map_err(malformed)?.map(str::to_owned);
        }
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Fault> {
        let mut peek = self.json.known_array().map_err(malformed)?;
        let mut index = 0_usize;
        while let Some(element) = peek {
            self.member(&index.to_string(), element, depth)?;
            index += 1;
            peek = self.json.array_step().map_err(malformed)?;
        }
        Ok(())
    }

    fn check_text(&mut self, text: &str) {
        self.saw_forbidden |= self.forbidden.iter().any(|forbidden| text.contains(forbidden));
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
    use super::super::MAX_SHOWN_CHARS;
    use super::*;

    fn reason(body: &str) -> Option<Reason> {
        read_object(body.as_bytes(), &Pointers::new()).err().map(|fault| fault.reason)
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
        let body = format!(r#"{{"{name}":1,"{name}":2}}"#);
        let fault = read_object(body.as_bytes(), &Pointers::new()).unwrap_err();
        assert_eq!(fault.reason, Reason::DuplicateMember);
        assert!(fault.detail.len() < 200 && fault.field.unwrap().len() == MAX_SHOWN_CHARS);
    }

    #[test]
    fn pointers_name_members_at_any_depth() {
        let body = br#"{"a":{"b/c":[1,{"~":"x"}],"b/c2":2},"e":3,"":null}"#;
        let wanted = ["/a/b~1c/0", "/a/b~1c/1/~0", "/e", "/", "/a", "/nowhere"];
        let found = read_object(body, &wanted.map(str::to_owned).into()).unwrap();
        let found: Vec<_> = found.iter().map(|(name, member)| (name.as_str(), member)).collect();
        assert_eq!(
            found,
            [
                ("/a/b~1c/0", &Member::Number("1".to_owned())),
                ("/a/b~1c/1/~0", &Member::Text("x".to_owned())),
                ("/a", &Member::Other("an object")),
                ("/e", &Member::Number("3".to_owned())),
                ("/", &Member::Null),
            ]
        );
    }

    #[test]
    fn a_token_is_taken_out_and_all_else_stays() {
        let body =
            b"{ \"a\" : [1.50,\"t\"],\r\n\"token\": \"s3cr\\u0065t\" , \"z\":{\"token\":1} }";
        let (token, blanked) = take_token(body, "token").unwrap();
        assert_eq!(token, "s3cret");
        let expected = "{ \"a\" : [1.50,\"t\"],\r\n\"token\": \"\" , \"z\":{\"token\":1} }";
        assert_eq!(blanked, expected.as_bytes());
        for unreadable in [
            "",
            "[]",
            "{",
            r#"{"token":"s3cret""#,
            r#"{"token":"s3cret"} x"#,
            r#"{"token":"s3cret","token":"s3cret"}"#,
            r#"{"token":["s3cret"]}"#,
            r#"{"token":""}"#,
            r#"{"a":{"token":"s3cret"}}"#,
            r#"{"token":"s3cret","a":"\ud800"}"#,
        ] {
            assert_eq!(take_token(unreadable.as_bytes(), "token"), None, "{unreadable}");
        }
        for (body, holds) in [
            (r#"{"comment":"my s3cret"}"#, true),
            (r#"{"comment":"s3cr\u0065t"}"#, true),
            (r#"{"s3cr\u0065t":1}"#, true),
            (r#"{"a":[{"b":"s3cr\u0065t"}],"#, true),
            (r#"{"account":1234567}"#, true),
            ("no JSON at all, s3cret", true),
            (r#"{"comment":"secret"}"#, false),
            ("", false),
        ] {
            assert_eq!(holds_text(body.as_bytes(), &["s3cret", "1234567"]), holds, "{body}");
        }
    }
}
