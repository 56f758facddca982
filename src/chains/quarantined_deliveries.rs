//! Rows of `quarantined_deliveries`.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use ledger_verifier::Value;
use ledger_verifier::chain::QUARANTINED_DELIVERIES;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Identity, NewRow, optional_text, text, timestamp};
use crate::body::Reason;

/// An authenticated delivery that could not become a signal.
#[derive(Clone, Debug)]
pub struct NewQuarantinedDelivery {
    /// The source that it was sent to.
    pub source: String,
    /// Why; one of the reasons that the table knows.
    pub reason: &'static str,
    /// Which member is at fault and how, and who sent it.
    pub detail: Option<String>,
    /// The exact bytes.
    pub body: Vec<u8>,
    /// The `Content-Type` header, where it had one of at most 255 characters.
    pub content_type: Option<String>,
    /// The client's address.
    pub source_ip: IpAddr,
    /// How the delivery was authenticated.
    pub auth_method: &'static str,
    /// Whether an HMAC over the body was checked.
    pub hmac_verified: bool,
    /// The signal that it conflicts with.
    pub duplicate_of: Option<Uuid>,
    /// When the service had it.
    pub received_at: DateTime<Utc>,
}

impl From<NewQuarantinedDelivery> for NewRow {
    fn from(delivery: NewQuarantinedDelivery) -> Self {
        let source = delivery.source.clone();
        let content = Sha256::digest(&delivery.body).into();
        let identity = if delivery.reason == Reason::Lockdown.name() {
            let (detail, received_at) = (delivery.detail.clone(), delivery.received_at);
            Identity::Waiting { source, detail, received_at, content }
        } else {
            Identity::Delivery { source, reason: delivery.reason, content }
        };
        let values = vec![
            Value::Null,
            text(delivery.source),
            text(delivery.reason),
            optional_text(delivery.detail),
            Value::Bytes(delivery.body.into()),
            optional_text(delivery.content_type),
            Value::Inet(delivery.source_ip),
            text(delivery.auth_method),
            Value::Boolean(delivery.hmac_verified),
            delivery.duplicate_of.map_or(Value::Null, |id| Value::Uuid(id.into_bytes())),
            timestamp(delivery.received_at),
            Value::Null,
        ];
        Self { chain: &QUARANTINED_DELIVERIES, values, identity, reference: None }
    }
}
