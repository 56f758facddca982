//! The way of a delivery: authenticated on its bytes, mapped, and recorded as a signal or kept in
//! quarantine. Nothing authenticated is ever lost, and nothing else is ever stored.

pub mod auth;
pub mod mapping;
pub mod release;
mod sender;
pub mod source;

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use metrics::counter;
use tokio::time::Instant;
use uuid::Uuid;

pub use source::Source;

use crate::appender::{AppendError, Appender};
use crate::body::{Fault, Reason};
use crate::chains::quarantined_deliveries::NewQuarantinedDelivery;
use crate::chains::{Appended, Lockdown, Receipt};
use crate::clock::Clock;
use auth::Authenticated;
use mapping::map_signal;
use sender::Sender;

/// An authenticated delivery.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where it was sent to.
    pub source: std::sync::Arc<Source>,
    /// How its sender was recognised.
    pub authenticated: Authenticated,
    /// The exact bytes.
    pub body: bytes::Bytes,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The client's address.
    pub source_ip: IpAddr,
    /// When the service had it.
    pub received_at: DateTime<Utc>,
}

/// What became of a delivery.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is a signal now.
    Recorded {
        /// The signal's correlation id.
        correlation_id: Uuid,
        /// Where the signal stands.
        receipt: Receipt,
    },
    /// It was a signal before.
    Duplicate {
        /// That signal's correlation id.
        correlation_id: Uuid,
        /// Where that signal stands.
        receipt: Receipt,
    },
    /// It is kept, and no signal.
    Quarantined {
        /// Why.
        fault: Fault,
        /// The signal that it conflicts with.
        duplicate_of: Option<Uuid>,
        /// The lockdown that it waits for.
        lockdown: Option<Lockdown>,
        /// Where the delivery stands.
        receipt: Receipt,
    },
}

impl Outcome {
    fn waiting_for(mut self, waits_for: Lockdown) -> Self {
        if let Self::Quarantined { lockdown, .. } = &mut self {
            *lockdown = Some(waits_for);
        }
        self
    }
}

/// Records a delivery and returns once that is committed, at the latest at the deadline.
pub async fn record(
    delivery: Delivery,
    appender: &Appender,
    clock: Clock,
    deadline: Instant,
) -> Result<Outcome, AppendError> {
    let outcome = record_or_quarantine(&delivery, appender, clock, deadline).await;
    let result = match &outcome {
        Ok(Outcome::Recorded { .. }) => "recorded",
        Ok(Outcome::Duplicate { .. }) => "duplicate",
        Ok(Outcome::Quarantined { fault, .. }) => fault.reason.name(),
        Err(_) => "failed",
    };
    let source = delivery.source.name.clone();
    counter!("ledger_deliveries_total", "source" => source, "result" => result).increment(1);
    outcome
}

async fn record_or_quarantine(
    delivery: &Delivery,
    appender: &Appender,
    clock: Clock,
    deadline: Instant,
) -> Result<Outcome, AppendError> {
    let signal = match map_signal(delivery, clock.new_id()) {
        Ok(signal) => signal,
        Err(fault) => return quarantine(delivery, fault, None, appender, deadline).await,
    };
    let correlation_id = signal.correlation_id;
    match appender.append(signal, deadline).await {
        Ok(Appended::Recorded(receipt)) => Ok(Outcome::Recorded { correlation_id, receipt }),
        Ok(Appended::Duplicate(existing)) => Ok(Outcome::Duplicate {
            correlation_id: existing.correlation_id.unwrap_or(correlation_id),
            receipt: existing.receipt,
        }),
        Ok(Appended::Conflict(existing)) => {
            let fault = Fault::of_field(
                Reason::ConflictingDuplicate,
                "signal_id",
                "was recorded before with another body",
            );
            quarantine(delivery, fault, existing.correlation_id, appender, deadline).await
        }
        Ok(Appended::Locked(lockdown)) => {
            let fault = Fault::of_body(Reason::Lockdown, lockdown.to_string());
            let kept = quarantine(delivery, fault, None, appender, deadline).await?;
            Ok(kept.waiting_for(lockdown))
        }
        Ok(Appended::UnknownReference(_)) => unreachable!("a signal names no other row"),
        // What the mapping did not see and only PostgreSQL finds at fault.
        Err(AppendError::Refused { sqlstate, constraint }) => {
            let rule = constraint.unwrap_or(sqlstate);
            let detail = format!("the database cannot hold this body ({rule})");
            let fault = Fault::of_body(Reason::InvalidField, detail);
            quarantine(delivery, fault, None, appender, deadline).await
        }
        Err(error) => Err(error),
    }
}

async fn quarantine(
    delivery: &Delivery,
    fault: Fault,
    duplicate_of: Option<Uuid>,
    appender: &Appender,
    deadline: Instant,
) -> Result<Outcome, AppendError> {
    let kept = NewQuarantinedDelivery {
        source: delivery.source.name.clone(),
        reason: fault.reason.name(),
        detail: Some(Sender::from(&delivery.authenticated).end_of(&fault.detail)),
        body: delivery.body.to_vec(),
        content_type: delivery.content_type.clone(),
        source_ip: delivery.source_ip,
        auth_method: delivery.authenticated.method.name(),
        hmac_verified: delivery.authenticated.method.checks_an_hmac(),
        duplicate_of,
        received_at: delivery.received_at,
    };
    let receipt = match appender.append(kept, deadline).await? {
        Appended::Recorded(receipt) => receipt,
        Appended::Duplicate(existing) | Appended::Conflict(existing) => existing.receipt,
        Appended::Locked(_) | Appended::UnknownReference(_) => {
            unreachable!("quarantine stays open and names no other row")
        }
    };
    Ok(Outcome::Quarantined { fault, duplicate_of, lockdown: None, receipt })
}
