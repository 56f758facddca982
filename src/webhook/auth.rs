//! Who sent a delivery: checked on its raw bytes, in constant time, before anything is parsed.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::source::{Source, WebhookSecret};

/// How far a Standard Webhooks timestamp may be from now.
pub const TIMESTAMP_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Headers that may carry the hex HMAC of the body; the first one present counts.
const SIGNATURE_HEADERS: [&str; 2] = ["x-tradingview-signature", "x-hub-signature-256"];
const STANDARD_ID: &str = "webhook-id";
const STANDARD_TIMESTAMP: &str = "webhook-timestamp";
const STANDARD_SIGNATURE: &str = "webhook-signature";

/// How a sender was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Hex HMAC-SHA256 of the body in a header.
    Hmac,
    /// The Standard Webhooks specification.
    StandardWebhooks,
}

impl Method {
    /// As stored in `auth_method`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::StandardWebhooks => "standard_webhooks",
        }
    }

    /// Whether an HMAC over the body was checked: `hmac_verified`.
    pub fn checks_an_hmac(self) -> bool {
        match self {
            Self::Hmac | Self::StandardWebhooks => true,
        }
    }
}

/// A sender that proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// How.
    pub method: Method,
    /// The `webhook-id` that the signature covers.
    pub webhook_id: Option<String>,
}

/// A sender that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No header carries a signature.
    #[error(
        "no signature: send X-TradingView-Signature or X-Hub-Signature-256 with the hex \
         HMAC-SHA256 of the body, or the three webhook-* headers of Standard Webhooks"
    )]
    Missing,
    /// It is none that any secret of the source makes over these bytes now.
    #[error("the signature does not fit the body and any secret of this source")]
    Wrong,
    /// The timestamp is too old, or in the future.
    #[error("webhook-timestamp is more than 5 minutes from now")]
    Stale,
    /// It cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Checks a delivery's signature against every secret of its source.
pub fn authenticate(
    source: &Source,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Authenticated, AuthError> {
    if let Some(value) = SIGNATURE_HEADERS.iter().find_map(|name| headers.get(*name)) {
        let signature = parse_hex(value.as_bytes())?;
        let key = WebhookSecret::hmac_key;
        verify(source, |secret| key(secret).to_vec(), &[body], &[signature])?;
        return Ok(Authenticated { method: Method::Hmac, webhook_id: None });
    }
    if headers.contains_key(STANDARD_SIGNATURE) {
        return standard_webhooks(source, headers, body, now);
    }
    Err(AuthError::Missing)
}

fn parse_hex(value: &[u8]) -> Result<Vec<u8>, AuthError> {
    let digits = value.strip_prefix(b"sha256=").unwrap_or(value);
    let mut signature = vec![0; 32];
    hex::decode_to_slice(digits, &mut signature)
        .map_err(|_| AuthError::Malformed("the signature is not 64 hexadecimal digits"))?;
    Ok(signature)
}

/// Standard Webhooks: base64 HMAC-SHA256 over `id.timestamp.body`, several after one another.
fn standard_webhooks(
    source: &Source,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Authenticated, AuthError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let id = text(STANDARD_ID)
        .filter(|id| !id.is_empty())
        .ok_or(AuthError::Malformed("webhook-signature without a readable webhook-id"))?;
    let timestamp = text(STANDARD_TIMESTAMP)
        .ok_or(AuthError::Malformed("webhook-signature without a readable webhook-timestamp"))?;
    let sent_at =
        timestamp
            .parse()
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .ok_or(AuthError::Malformed("webhook-timestamp is not in whole seconds since 1970"))?;
    let signatures: Vec<_> = text(STANDARD_SIGNATURE)
        .unwrap_or_default()
        .split(' ')
        // Other versions are for other verifiers, as the specification says.
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    if signatures.is_empty() {
        return Err(AuthError::Malformed("webhook-signature has no base64 signature after `v1,`"));
    }
    let signed: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    verify(source, WebhookSecret::standard_key, &signed, &signatures)?;
    // After the signature: a stranger learns nothing of the clock.
    if (now - sent_at).abs() > TIMESTAMP_TOLERANCE {
        return Err(AuthError::Stale);
    }
    Ok(Authenticated { method: Method::StandardWebhooks, webhook_id: Some(id.to_owned()) })
}

/// Whether any secret makes any of the signatures. All are tried, whichever fits.
fn verify(
    source: &Source,
    key: impl Fn(&WebhookSecret) -> Vec<u8>,
    signed: &[&[u8]],
    signatures: &[Vec<u8>],
) -> Result<(), AuthError> {
    let mut fits = false;
    for secret in &source.secrets {
        let mut mac = mac(&key(secret));
        for part in signed {
            mac.update(part);
        }
        for signature in signatures {
            fits |= mac.clone().verify_slice(signature).is_ok();
        }
    }
    if fits { Ok(()) } else { Err(AuthError::Wrong) }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The signature that `X-TradingView-Signature` carries: 64 lowercase hexadecimal digits.
pub fn sign(secret: &WebhookSecret, body: &[u8]) -> String {
    let mut mac = mac(secret.hmac_key());
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}
