//! Rows of `security_events`: the audit of the audit.

use std::net::IpAddr;

use ledger_verifier::Value;
use ledger_verifier::chain::SECURITY_EVENTS;

use super::{Identity, NewRow, optional_text, text};

/// What is recorded about the ledger itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// The service began to serve.
    ServiceStarted,
    /// The service was told to stop.
    ServiceStopped,
    /// Migrations were applied.
    MigrationApplied,
    /// A check found something that does not add up.
    IntegrityFailure,
    /// A guard is, or was, not as the migrations made it.
    GuardDrift,
    /// A session that sat idle on the ledger's lock was ended.
    LockHolderEnded,
    /// A quarantined delivery was made a signal.
    QuarantineReleased,
    /// Rows began to be exported.
    ExportStarted,
    /// Rows were exported, to the last one.
    ExportCompleted,
    /// Rows are to be kept for another time than before.
    RetentionChanged,
    /// The log goes on under a name and with keys of its own, for the first time or after another one.
    IncarnationStarted,
    /// Other keys sign checkpoints than before.
    SigningKeysChanged,
}

impl EventType {
    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceStarted => "SERVICE_STARTED",
            Self::ServiceStopped => "SERVICE_STOPPED",
            Self::MigrationApplied => "MIGRATION_APPLIED",
            Self::IntegrityFailure => "INTEGRITY_FAILURE",
            Self::GuardDrift => "GUARD_DRIFT",
            Self::LockHolderEnded => "LOCK_HOLDER_ENDED",
            Self::QuarantineReleased => "QUARANTINE_RELEASED",
            Self::ExportStarted => "EXPORT_STARTED",
            Self::ExportCompleted => "EXPORT_COMPLETED",
            Self::RetentionChanged => "RETENTION_CHANGED",
            Self::IncarnationStarted => "INCARNATION_STARTED",
            Self::SigningKeysChanged => "SIGNING_KEYS_CHANGED",
        }
    }
}

/// One event.
#[derive(Clone, Debug)]
pub struct NewSecurityEvent {
    /// What happened.
    pub event_type: EventType,
    /// Who did it.
    pub actor: String,
    /// What it was done to.
    pub subject: Option<String>,
    /// Anything else, as JSON.
    pub details: serde_json::Value,
    /// Where it came from.
    pub source_ip: Option<IpAddr>,
}

impl From<NewSecurityEvent> for NewRow {
    fn from(event: NewSecurityEvent) -> Self {
        let values = vec![
            Value::Null,
            text(event.event_type.name()),
            text(event.actor),
            optional_text(event.subject),
            Value::Document(event.details.to_string().into()),
            event.source_ip.map_or(Value::Null, Value::Inet),
            Value::Null,
        ];
        Self { chain: &SECURITY_EVENTS, values, identity: Identity::Unique, reference: None }
    }
}
