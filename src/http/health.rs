//! Whether the service lives, whether it can record, and what it counts.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Service;
use super::problem::{Code, Problem};
use crate::store::Database;

/// How long an answer of the database counts: probes of many clients make one question.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Whether the database answers, asked at most once a second.
#[derive(Clone, Debug)]
pub struct Readiness {
    database: Database,
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Readiness {
    /// Of this database.
    pub fn of(database: Database) -> Self {
        Self { database, last: Arc::default() }
    }

    async fn is_ready(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((asked, ready)) = *last
            && asked.elapsed() < FRESH
        {
            return ready;
        }
        let ready = matches!(timeout(LIMIT, self.database.ping()).await, Ok(Ok(())));
        *last = Some((Instant::now(), ready));
        ready
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
    /// Version of the service.
    version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Whether the service runs, whatever its database does.
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "It runs.", body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(OK)
}

/// Whether the service can record: its database answers.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "It can record.", body = Health),
    (status = 503, description = "The database does not answer (SYS-001).", body = Problem,
     content_type = "application/problem+json")))]
pub(super) async fn readyz(State(service): State<Service>) -> Result<Json<Health>, Problem> {
    if service.readiness.is_ready().await {
        Ok(Json(OK))
    } else {
        Err(Problem::new(Code::Unavailable, "the database does not answer").retry_after(1))
    }
}

/// Counts and durations in the text format of Prometheus.
pub(super) async fn metrics(State(service): State<Service>) -> impl IntoResponse {
    service.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], service.metrics.render())
}
