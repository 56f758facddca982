//! Bodies of requests, and what can be wrong with them.

pub mod json;

/// Characters of a name that an answer repeats.
pub const MAX_SHOWN_CHARS: usize = 64;

/// A name that a sender chose, no longer than a person reads.
pub fn shown(name: &str) -> String {
    name.chars().take(MAX_SHOWN_CHARS).collect()
}

/// Why no row can be made of a body; of a delivery that is kept, why it is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The body is no JSON.
    MalformedJson,
    /// The body is JSON, but not an object.
    NotAnObject,
    /// An object has a member twice.
    DuplicateMember,
    /// The body is not UTF-8.
    InvalidUtf8,
    /// A string holds U+0000, which PostgreSQL cannot store.
    NulCharacter,
    /// A member that a signal needs is not there.
    MissingField,
    /// A member has no valid value.
    InvalidField,
    /// A member is longer than its column.
    TooLong,
    /// A number would lose digits.
    PrecisionLoss,
    /// Another delivery with other content has the same `signal_id`.
    ConflictingDuplicate,
    /// The ledger was locked down.
    Lockdown,
}

impl Reason {
    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::NotAnObject => "not_an_object",
            Self::DuplicateMember => "duplicate_member",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::NulCharacter => "nul_character",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::TooLong => "too_long",
            Self::PrecisionLoss => "precision_loss",
            Self::ConflictingDuplicate => "conflicting_duplicate",
            Self::Lockdown => "lockdown",
        }
    }
}

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule that it breaks.
    pub reason: Reason,
    /// The member at fault, where it is one.
    pub field: Option<String>,
    /// What is wrong, for people.
    pub detail: String,
}

impl Fault {
    pub(crate) fn of_body(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, field: None, detail: detail.into() }
    }

    pub(crate) fn of_field(reason: Reason, field: &str, rule: impl std::fmt::Display) -> Self {
        Self { reason, field: Some(field.to_owned()), detail: format!("{field} {rule}") }
    }
}
