//! The key that asks.

use axum::Json;
use serde::Serialize;

use super::auth::KeyHolder;
use super::page::NoParameters;
use super::problem::{RefusedParameter, RefusedWithoutKey};
use crate::chains::rfc3339;

/// What is known of the key that asks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeyAnswer {
    /// What the key is found by: 16 hexadecimal digits, no secret.
    id: String,
    /// Its holder: `recorded_by` and `actor` of what is done with it.
    name: String,
    /// What it may be used for, in alphabetical order.
    scopes: Vec<&'static str>,
    /// When it was made: only one that is older than a lockdown lifts it.
    #[schema(format = DateTime)]
    created_at: String,
}

/// The key that asks: who holds it, and what it may be used for. For every key.
#[utoipa::path(get, path = "/v1/key", tag = "key",
    responses(
        (status = 200, description = "The key.", body = KeyAnswer),
        RefusedParameter, RefusedWithoutKey),
    security(("api_key" = [])))]
pub(super) async fn who_asks(KeyHolder(caller): KeyHolder, _: NoParameters) -> Json<KeyAnswer> {
    Json(KeyAnswer {
        id: caller.key_id.to_string(),
        name: caller.name.to_string(),
        scopes: caller.scopes.names(),
        created_at: rfc3339(caller.created_at),
    })
}
