//! Bodies that differ from another one in a member.

use serde_json::Value;

/// The same with another value for a member.
pub(crate) fn with(body: &Value, member: &str, value: impl Into<Value>) -> Value {
    let mut body = body.clone();
    body[member] = value.into();
    body
}

/// The text of a body with a member spelt as it stands here.
pub(crate) fn spelt(body: &Value, member: &str, json: &str) -> String {
    const PLACE: &str = "here stands a member";
    with(body, member, PLACE).to_string().replace(&format!("\"{PLACE}\""), json)
}

/// The same without a member.
pub(crate) fn without(body: &Value, member: &str) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().remove(member).expect("a member to leave out");
    body
}
