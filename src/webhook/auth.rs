//! Who sent a delivery: checked on its raw bytes, in constant time, before anything is parsed.

use std::net::IpAddr;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::source::{Source, WebhookSecret};
use crate::body::json::{holds_text, take_token};

/// How far a Standard Webhooks timestamp may be from now.
pub const TIMESTAMP_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Headers that may carry the hex HMAC of the body; the first one present counts.
const SIGNATURE_HEADERS: [&str; 2] = ["x-tradingview-signature", "x-hub-signature-256"];
const STANDARD_ID: &str = "webhook-id";
const STANDARD_TIMESTAMP: &str = "webhook-timestamp";
const STANDARD_SIGNATURE: &str = "webhook-signature";

/// How a sender is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Hex HMAC-SHA256 of the body in a header.
    Hmac,
    /// The Standard Webhooks specification.
    StandardWebhooks,
    /// A secret in the path, for senders that cannot sign.
    PathToken,
    /// A secret in a member of the body, for senders that cannot sign.
    BodyToken,
    /// An API key with the scope to ingest, which every source takes.
    #[serde(skip)]
    ApiKey,
}

impl Method {
    const ALL: [Self; 5] =
        [Self::Hmac, Self::StandardWebhooks, Self::PathToken, Self::BodyToken, Self::ApiKey];

    /// The method that is stored under this name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// As stored in `auth_method`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::StandardWebhooks => "standard_webhooks",
            Self::PathToken => "path_token",
            Self::BodyToken => "body_token",
            Self::ApiKey => "api_key",
        }
    }

    /// Whether an HMAC over the body was checked: `hmac_verified`.
    pub fn checks_an_hmac(self) -> bool {
        match self {
            Self::Hmac | Self::StandardWebhooks => true,
            Self::PathToken | Self::BodyToken | Self::ApiKey => false,
        }
    }
}

/// A sender that proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// How.
    pub method: Method,
    /// Who it is, as `recorded_by` says it: the source's name, or the API key's.
    pub recorded_by: String,
    /// The `webhook-id` that the signature covers.
    pub webhook_id: Option<String>,
}

/// What a request has to prove its sender with.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// What stands in the path after the source's name.
    pub path_token: Option<&'a str>,
    /// The client's address; `None` where a proxy did not name it.
    pub address: Option<IpAddr>,
}

/// A sender that did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It comes from an address that this source does not send from.
    #[error("this address may not send to this source")]
    Address,
    /// Nothing carries a signature or token that this source uses.
    #[error(
        "no signature that this source uses: send X-TradingView-Signature or \
         X-Hub-Signature-256 with the hex HMAC-SHA256 of the body, the three webhook-* headers \
         of Standard Webhooks, or the token where one is set up"
    )]
    Missing,
    /// It is none that any secret of the source makes over these bytes now.
    #[error("the signature or token does not fit the body and any secret of this source")]
    Wrong,
    /// The timestamp is too old, or in the future.
    #[error("webhook-timestamp is more than 5 minutes from now")]
    Stale,
    /// It cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Checks what a delivery is proved with against every secret of its source, and returns the
/// bytes to keep: those received, but for a body token's text. Where a source uses tokens, none
/// of its secrets may stand in what is kept, however the delivery is proved.
pub fn authenticate(
    source: &Source,
    presented: Presented<'_>,
    body: Bytes,
    now: DateTime<Utc>,
) -> Result<(Authenticated, Bytes), AuthError> {
    if !source.allows(presented.address) {
        return Err(AuthError::Address);
    }
    let (method, webhook_id, body) = recognise(source, presented, body, now)?;
    refuse_secrets(source, &body)?;
    Ok((Authenticated { method, recorded_by: source.name.clone(), webhook_id }, body))
}

/// A delivery of the holder of an API key, which was checked before the body was read. The key
/// stands for its holder wherever that sends from: a source's addresses are those of senders
/// whose tokens travel in bodies and paths.
pub fn by_api_key(source: &Source, holder: &str, body: &[u8]) -> Result<Authenticated, AuthError> {
    refuse_secrets(source, body)?;
    let recorded_by = holder.to_owned();
    Ok(Authenticated { method: Method::ApiKey, recorded_by, webhook_id: None })
}

fn refuse_secrets(source: &Source, body: &[u8]) -> Result<(), AuthError> {
    if source.uses_tokens() && holds_text(body, &source.secret_texts()) {
        return Err(AuthError::Malformed("the body holds a secret of this source"));
    }
    Ok(())
}

fn recognise(
    source: &Source,
    Presented { headers, path_token, .. }: Presented<'_>,
    body: Bytes,
    now: DateTime<Utc>,
) -> Result<(Method, Option<String>, Bytes), AuthError> {
    let uses = |method| source.methods.contains(&method);
    if let Some(token) = path_token {
        if !uses(Method::PathToken) {
            return Err(AuthError::Missing);
        }
        verify_token(source, token)?;
        return Ok((Method::PathToken, None, body));
    }
    let signature = SIGNATURE_HEADERS.iter().find_map(|name| headers.get(*name));
    if let Some(value) = signature.filter(|_| uses(Method::Hmac)) {
        let signature = parse_hex(value.as_bytes())?;
        verify(source, |secret| secret.bytes().to_vec(), &[&body], &[signature])?;
        return Ok((Method::Hmac, None, body));
    }
    if uses(Method::StandardWebhooks) && headers.contains_key(STANDARD_SIGNATURE) {
        let webhook_id = standard_webhooks(source, headers, &body, now)?;
        return Ok((Method::StandardWebhooks, Some(webhook_id), body));
    }
    if uses(Method::BodyToken) {
        let (token, blanked) = take_token(&body, &source.token_member)
            .ok_or(AuthError::Malformed("the body has no token that can be taken out of it"))?;
        verify_token(source, &token)?;
        return Ok((Method::BodyToken, None, blanked.into()));
    }
    Err(AuthError::Missing)
}

/// Whether the token is any secret of the source, in the same time whichever it is.
fn verify_token(source: &Source, token: &str) -> Result<(), AuthError> {
    let digest = Sha256::digest(token);
    let mut fits = Choice::from(0);
    for secret in &source.secrets {
        fits |= digest.ct_eq(&Sha256::digest(secret.bytes()));
    }
    if fits.into() { Ok(()) } else { Err(AuthError::Wrong) }
}

fn parse_hex(value: &[u8]) -> Result<Vec<u8>, AuthError> {
    let digits = value.strip_prefix(b"sha256=").unwrap_or(value);
    let mut signature = vec![0; 32];
    hex::decode_to_slice(digits, &mut signature)
        .map_err(|_| AuthError::Malformed("the signature is not 64 hexadecimal digits"))?;
    Ok(signature)
}

/// Standard Webhooks: base64 HMAC-SHA256 over `id.timestamp.body`, several after one another.
/// Returns the id.
fn standard_webhooks(
    source: &Source,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<String, AuthError> {
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
    Ok(id.to_owned())
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
    let mut mac = mac(secret.bytes());
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}
