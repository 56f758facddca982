//! The description of the API: OpenAPI 3.1, made from the handlers.

use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "audit-ledger",
        description = "A tamper-evident record of trading signals, AI decisions and orders. \
                       Refusals are RFC 9457 problem details with a `code` and a `request_id`. \
                       Money is a string with exact digits, times are RFC 3339 in UTC."
    ),
    tags(
        (name = "webhooks", description = "Deliveries of configured sources."),
        (name = "integrity", description = "Checks of the ledger."),
        (name = "health", description = "For orchestrators and monitoring.")
    ),
    modifiers(&Keys)
)]
struct Base;

/// How API keys are sent.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("lk_<id>_<secret>")
            .description(Some(
                "An API key of `audit-ledger keys create`. A route names the scope that it needs; \
                 no scope holds another. Every key may ask a route that names none.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
    }
}

/// What stands in the document beside the routes.
pub(super) fn base() -> Document {
    Base::openapi()
}

/// The whole document, as served at `/openapi.json` and committed as `openapi.json`.
pub fn document() -> Document {
    super::api_routes().into_openapi()
}
