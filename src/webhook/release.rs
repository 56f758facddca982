//! The way out of quarantine: the kept bytes are mapped again, as their source is set up now and
//! under the name of who sent them.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ledger_verifier::Value;
use ledger_verifier::chain::QUARANTINED_DELIVERIES;
use ledger_verifier::row::row_hash;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::auth::{Authenticated, Method};
use super::mapping::map_signal;
use super::sender::Sender;
use super::{Delivery, Source};
use crate::appender::{AppendError, Appender};
use crate::body::{Fault, Reason};
use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::chains::{Appended, Lockdown, Receipt};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::pool::Pool;
use crate::store::rows::{StoredRow, find_row};

/// A delivery that became a signal.
#[derive(Debug)]
pub struct Released {
    /// Whether the signal was recorded now.
    pub is_new: bool,
    /// Its correlation id.
    pub correlation_id: Uuid,
    /// Where it stands.
    pub receipt: Receipt,
}

/// A delivery stays in quarantine.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is none of this id.
    #[error("there is no such delivery")]
    NoDelivery,
    /// Its source is not set up any more.
    #[error("the source {0} is not set up")]
    NoSource(String),
    /// Its row is not what it was: somebody has changed it.
    #[error("the delivery cannot be read any more")]
    Unreadable,
    /// Still no signal can be made of it.
    #[error("{}", .0.detail)]
    Fault(Fault),
    /// The ledger is locked down.
    #[error("{0}")]
    Locked(Lockdown),
    /// It cannot be recorded now.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It cannot be read now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a signal of a quarantined delivery, and puts on record who did it. Repeating it is
/// harmless, and so is the sender's own resend: the signal's key is that of the delivery.
pub async fn release(
    id: i64,
    actor: &str,
    source: impl FnOnce(&str) -> Option<Arc<Source>>,
    reads: &Pool,
    appender: &Appender,
    clock: Clock,
    deadline: Instant,
) -> Result<Released, ReleaseError> {
    let row = find_row(reads, &QUARANTINED_DELIVERIES, id).await?;
    let row = row.ok_or(ReleaseError::NoDelivery)?;
    let kept = Kept::read(&row).ok_or(ReleaseError::Unreadable)?;
    let sender = kept.sender().map_err(ReleaseError::Fault)?;
    let source = source(&kept.source).ok_or_else(|| ReleaseError::NoSource(kept.source.clone()))?;
    let delivery = kept.into_delivery(source, sender);
    let signal = map_signal(&delivery, clock.new_id()).map_err(ReleaseError::Fault)?;
    let (signal_id, correlation_id) = (signal.signal_id.clone(), signal.correlation_id);
    let released = match appender.append(signal, deadline).await? {
        Appended::Recorded(receipt) => Released { is_new: true, correlation_id, receipt },
        Appended::Duplicate(existing) => Released {
            is_new: false,
            correlation_id: existing.correlation_id.unwrap_or(correlation_id),
            receipt: existing.receipt,
        },
        Appended::Conflict(_) => {
            let rule = "was recorded before with another body";
            let reason = Reason::ConflictingDuplicate;
            return Err(ReleaseError::Fault(Fault::of_field(reason, "signal_id", rule)));
        }
        Appended::Locked(lockdown) => return Err(ReleaseError::Locked(lockdown)),
        Appended::UnknownReference(_) => unreachable!("a signal names no other row"),
    };
    let event = NewSecurityEvent {
        event_type: EventType::QuarantineReleased,
        actor: actor.to_owned(),
        subject: Some(format!("quarantined delivery {id}")),
        details: json!({
            "quarantine_id": id,
            "signal_row_id": released.receipt.id.0,
            "signal_id": signal_id,
            "correlation_id": released.correlation_id,
            "duplicate": !released.is_new,
        }),
        source_ip: None,
    };
    appender.append(event, deadline).await?;
    Ok(released)
}

/// What a quarantined row says of its delivery.
struct Kept {
    source: String,
    detail: Option<String>,
    body: Vec<u8>,
    content_type: Option<String>,
    source_ip: IpAddr,
    method: Method,
    received_at: DateTime<Utc>,
}

impl Kept {
    /// `None` where it is not what was kept: a value cannot be read, or the row is not the one that
    /// its hash was made of.
    fn read(row: &StoredRow) -> Option<Self> {
        let prev_hash = row.prev_hash.parse().ok()?;
        let hash = row_hash(row.chain, prev_hash, &row.values).ok()?;
        if row.row_hash.parse() != Ok(hash) {
            return None;
        }
        let text = |column| match row.value(column) {
            Some(Value::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        let Some(Value::Bytes(body)) = row.value("body") else { return None };
        let Some(&Value::Inet(source_ip)) = row.value("source_ip") else { return None };
        let Some(&Value::Timestamp(received_at)) = row.value("received_at") else { return None };
        Some(Self {
            source: text("source")?,
            detail: text("detail"),
            body: body.to_vec(),
            content_type: text("content_type"),
            source_ip,
            method: Method::by_name(&text("auth_method")?)?,
            received_at: DateTime::from_timestamp_micros(received_at)?,
        })
    }

    /// Who sent it. Rows from before that was kept do not say: of most methods it is the source,
    /// but with an API key, or an id in a header, a guess could record a signal twice.
    fn sender(&self) -> Result<Sender, Fault> {
        if let Some(sender) = self.detail.as_deref().and_then(Sender::read) {
            return Ok(sender);
        }
        match self.method {
            Method::Hmac | Method::PathToken | Method::BodyToken => {
                Ok(Sender { recorded_by: self.source.clone(), webhook_id: None })
            }
            Method::ApiKey | Method::StandardWebhooks => Err(Fault::of_field(
                Reason::InvalidField,
                "detail",
                "does not say who sent this delivery, so it cannot be released without the risk \
                 of recording its signal twice: have it sent again",
            )),
        }
    }

    /// As it came in.
    fn into_delivery(self, source: Arc<Source>, sender: Sender) -> Delivery {
        let Sender { recorded_by, webhook_id } = sender;
        Delivery {
            authenticated: Authenticated { method: self.method, recorded_by, webhook_id },
            source,
            body: self.body.into(),
            content_type: self.content_type,
            source_ip: self.source_ip,
            received_at: self.received_at,
        }
    }
}
