//! Who asks: API keys in front of every route under `/v1`.
//!
//! A handler takes [`Authorized`] as its first argument, with the scope that it needs as a type, or
//! [`KeyHolder`] where it is for everybody with a key. A test walks every route that the API's
//! description names and proves that the scope it states is the one that is asked for, before
//! anything else of the request is looked at.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::Service;
use super::problem::{Code, Problem};
use crate::keys::scope::Required;
use crate::keys::{ApiKey, Caller, KEY_PREFIX, KeyError, Scope};

/// The holder of a key in force that has the scope `S`, for example
/// [`Read`](crate::keys::scope::Read).
#[derive(Debug)]
pub(super) struct Authorized<S> {
    /// Who asks.
    pub(super) caller: Caller,
    scope: PhantomData<S>,
}

/// The holder of a key in force, whatever its scopes.
#[derive(Debug)]
pub(super) struct KeyHolder(pub(super) Caller);

/// Whether a request's key and scope were found to be right, for layers that stand around its
/// handler and put a clone among the request's extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Admitted(Arc<AtomicBool>);

impl Admitted {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn tell(parts: &Parts) {
        if let Some(admitted) = parts.extensions.get::<Self>() {
            admitted.0.store(true, Ordering::Relaxed);
        }
    }
}

impl<S: Required> FromRequestParts<Service> for Authorized<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let caller = authorize(service, bearer(&parts.headers), S::SCOPE).await?;
        Admitted::tell(parts);
        Ok(Self { caller, scope: PhantomData })
    }
}

impl FromRequestParts<Service> for KeyHolder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let caller = identify(service, bearer(&parts.headers)).await?;
        Admitted::tell(parts);
        Ok(Self(caller))
    }
}

/// What the `Authorization` header holds after `Bearer`. Several of these headers are as good as
/// none.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    // RFC 9110 section 11.1: the scheme's case does not matter.
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_matches(' '))
}

/// The API key of a route where something else may stand in the header.
pub(super) fn api_key(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).filter(|token| token.starts_with(KEY_PREFIX))
}

/// The holder of this key, if that is in force and has the scope, and has not asked too often.
pub(super) async fn authorize(
    service: &Service,
    key: Option<&str>,
    scope: Scope,
) -> Result<Caller, Problem> {
    let caller = identify(service, key).await?;
    if !caller.scopes.contains(scope) {
        let detail = format!("this needs the scope {scope}; the key has {}", caller.scopes);
        return Err(Problem::new(Code::ScopeMissing, detail));
    }
    Ok(caller)
}

/// The holder of this key, if that is in force, and has not asked too often.
async fn identify(service: &Service, key: Option<&str>) -> Result<Caller, Problem> {
    let Some(key) = key else {
        let detail = "no API key: send `Authorization: Bearer lk_…`";
        return Err(Problem::new(Code::KeyMissing, detail));
    };
    let caller = match ApiKey::parse(key) {
        Some(key) => service.keyring.look_up(&key).await,
        None => Err(KeyError::Unknown),
    };
    let caller = caller.map_err(|error| match error {
        KeyError::Unknown => Problem::new(Code::KeyMissing, error.to_string()),
        KeyError::Unavailable => Problem::new(Code::Unavailable, error.to_string()).retry_after(1),
    })?;
    // Only now: a stranger does not use up what a key's holder may ask.
    service.limits.check_key(caller.key_id)?;
    Ok(caller)
}
