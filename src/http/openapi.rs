//! The description of the API: OpenAPI 3.1, made from the handlers.

use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;

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
        (name = "health", description = "For orchestrators and monitoring.")
    )
)]
struct Base;

/// What stands in the document beside the routes.
pub(super) fn base() -> Document {
    Base::openapi()
}

/// The whole document, as served at `/openapi.json` and committed as `openapi.json`.
pub fn document() -> Document {
    super::api_routes().into_openapi()
}
