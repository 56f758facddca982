//! Where deliveries come from, and how each source proves itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

/// The source that exists from the start.
pub const TRADINGVIEW: &str = "tradingview";
/// A shorter secret can be guessed from one signed delivery.
pub const MIN_SECRET_BYTES: usize = 16;
/// How the Standard Webhooks specification marks a secret that is base64.
const STANDARD_SECRET_PREFIX: &str = "whsec_";

/// A sender that is known to the service.
#[derive(Debug)]
pub struct Source {
    /// Its name in the path, and `recorded_by` of its signals.
    pub name: String,
    /// Any of these is accepted: several during a rotation.
    pub secrets: Vec<WebhookSecret>,
}

/// A secret shared with a sender. Its `Debug` never shows it.
#[derive(Debug)]
pub struct WebhookSecret(SecretString);

/// The secret cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short.
    #[error("a webhook secret has at least {MIN_SECRET_BYTES} bytes")]
    TooShort,
    /// Marked as base64, and is not.
    #[error("a webhook secret that starts with {STANDARD_SECRET_PREFIX} goes on in base64")]
    NotBase64,
}

impl WebhookSecret {
    /// Takes a secret of at least [`MIN_SECRET_BYTES`].
    pub fn new(secret: SecretString) -> Result<Self, SecretError> {
        let secret = Self(secret);
        if secret.try_standard_key()?.len() < MIN_SECRET_BYTES {
            return Err(SecretError::TooShort);
        }
        Ok(secret)
    }

    /// The key for a plain HMAC over the body: the secret's own bytes.
    pub fn hmac_key(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    /// The key for Standard Webhooks: what stands in base64 after `whsec_`, else the bytes.
    pub fn standard_key(&self) -> Vec<u8> {
        self.try_standard_key().expect("checked when the secret was taken")
    }

    fn try_standard_key(&self) -> Result<Vec<u8>, SecretError> {
        match self.0.expose_secret().strip_prefix(STANDARD_SECRET_PREFIX) {
            Some(base64) => STANDARD.decode(base64).map_err(|_| SecretError::NotBase64),
            None => Ok(self.hmac_key().to_vec()),
        }
    }
}
