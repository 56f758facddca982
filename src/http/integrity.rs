//! Checks of the ledger, as they were recorded.

use axum::extract::State;

use super::Service;
use super::auth::Authorized;
use super::page::{Page, Parameters};
use super::problem::Problem;
use crate::keys::scope;
use crate::store::checks::{StoredCheck, list_checks};

/// Past checks, the newest first. A run makes a row for each chain and one for the log.
#[utoipa::path(get, path = "/v1/integrity/checks", tag = "integrity",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000,
         description = "Items on a page; 100 if not given."),
        ("cursor" = Option<String>, Query,
         description = "`next_cursor` of the page before; opaque.")),
    responses(
        (status = 200, description = "A page. Where there is another, `Link` names it as `next`.",
         body = Page<StoredCheck>, headers(("Link" = String))),
        (status = 400, description = "An unknown or unreadable parameter (VAL-003).",
         body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No API key in force (SEC-005).",
         body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope (SEC-006).",
         body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests (LIM-002).",
         body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is away or slow (SYS-001).",
         body = Problem, content_type = "application/problem+json")),
    security(("api_key" = ["read"])))]
pub(super) async fn checks(
    _: Authorized<scope::Read>,
    State(service): State<Service>,
    mut parameters: Parameters,
) -> Result<Page<StoredCheck>, Problem> {
    let page = parameters.page_of("integrity_checks")?;
    parameters.finish()?;
    let checks = list_checks(&service.reads, page.after(), page.to_read()).await?;
    Ok(page.make(checks, |check| check.id))
}
