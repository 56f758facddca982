//! The HTTP surface: routes, problem+json, telemetry. Thin: no SQL and no rules here.

mod auth;
mod bodies;
mod chains;
mod check;
mod deadline;
mod export;
mod health;
mod integrity;
mod key;
mod limits;
mod lockdown;
mod log;
mod openapi;
pub(crate) mod page;
mod problem;
mod proofs;
mod quarantine;
mod records;
mod rows;
mod stats;
mod stream;
mod streamed;
mod telemetry;
mod trades;
mod ui;
mod webhook;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::compression::CompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use export::Exports;
pub use health::Readiness;
pub use limits::RateLimits;
pub use openapi::document;
pub use problem::{Code, Problem};
pub use stream::Streams;
pub use telemetry::install_metrics;

use crate::appender::Appender;
use crate::clock::Clock;
use crate::config::{DEFAULT_BODY_BYTES, RateSettings};
use crate::export::Exporting;
use crate::feed::Feed;
use crate::integrity::checkpointer::Wake;
use crate::integrity::lockdown::LockdownState;
use crate::integrity::outside::{Outside, Subject};
use crate::keys::Keyring;
use crate::store::Database;
use crate::store::pool::Pool;
use crate::store::stats::{Limits, Statistics};
use crate::webhook::Source;

/// A client that does not finish its request's head in this time is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections for the reads of requests.
const READ_CONNECTIONS: u32 = 8;
/// How long open requests may go on once the service is told to stop.
pub const DRAIN: Duration = Duration::from_secs(5);

/// What the handlers work with.
#[derive(Clone, Debug)]
pub struct Service {
    /// The only writer.
    pub appender: Appender,
    /// The service's clock.
    pub clock: Clock,
    /// Known senders, by name.
    pub sources: Arc<HashMap<String, Arc<Source>>>,
    /// The ledger, with the service's login.
    pub database: Database,
    /// What is known of lockdowns.
    pub lockdown: LockdownState,
    /// For the reads of requests; those of streams have their own.
    pub reads: Pool,
    /// Counts and aggregates.
    pub statistics: Statistics,
    /// The API keys in force.
    pub keyring: Keyring,
    /// How many requests a key and an address may make.
    pub limits: RateLimits,
    /// Whether the database answers.
    pub readiness: Readiness,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// What `/metrics` prints.
    pub metrics: PrometheusHandle,
    /// The largest body of a delivery.
    pub max_body_bytes: usize,
    /// Exports under way, and links to others.
    pub exports: Exports,
    /// Feeds and replays that are open.
    pub streams: Streams,
    /// The end of the log.
    pub feed: Arc<Feed>,
    /// What is signed of the log.
    pub checkpoints: Checkpoints,
    /// A physical replica that checks read from.
    pub replica: Option<Database>,
}

/// What is signed of the log, and who keeps it.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    /// Keys whose signatures count, and anchors.
    pub outside: Outside,
    /// Asks for a checkpoint.
    pub wake: Wake,
    /// Whether the log is read without a key.
    pub log_is_public: bool,
}

impl Service {
    /// On this ledger, with the service's login: no sources, no limits, no proxies.
    pub fn new(database: Database, appender: Appender, clock: Clock) -> Self {
        let reads = Pool::of(&database, READ_CONNECTIONS);
        let feed = Arc::new(Feed::start(&database, appender.commits()));
        Self {
            appender,
            clock,
            sources: Arc::default(),
            lockdown: LockdownState::of(&database),
            statistics: Statistics::new(reads.clone(), Limits::default()),
            reads,
            keyring: Keyring::of(&database),
            limits: RateLimits::new(RateSettings::UNLIMITED),
            readiness: Readiness::of(database.clone()),
            trusted_proxies: Arc::default(),
            metrics: install_metrics(),
            max_body_bytes: DEFAULT_BODY_BYTES,
            exports: Exports::default(),
            streams: Streams::of(&database),
            feed,
            checkpoints: Checkpoints::default(),
            replica: None,
            database,
        }
    }

    /// What exports are made of.
    pub(crate) fn exporting(&self) -> Exporting {
        Exporting {
            database: self.database.clone(),
            appender: self.appender.clone(),
            clock: self.clock,
            outside: self.checkpoints.outside.clone(),
            wake: self.checkpoints.wake.clone(),
        }
    }

    /// The ledger as checks see it.
    pub fn subject(&self) -> Subject {
        Subject {
            database: self.database.clone(),
            replica: self.replica.clone(),
            outside: self.checkpoints.outside.clone(),
        }
    }

    /// Sources by their names.
    pub fn by_name(sources: Vec<Source>) -> Arc<HashMap<String, Arc<Source>>> {
        let named = |source: Source| (source.name.clone(), Arc::new(source));
        Arc::new(sources.into_iter().map(named).collect())
    }
}

/// Every route that the service has; `/metrics` only where it has no address of its own.
pub fn router(service: &Service, with_metrics: bool) -> Router {
    let max_body_bytes = service.max_body_bytes;
    let (mut routes, api) = api_routes().with_state(service.clone()).split_for_parts();
    routes = routes.route("/openapi.json", get(move || async { axum::Json(api) }));
    routes = routes.merge(ui::routes());
    if with_metrics {
        routes = routes.merge(metrics_router(service));
    }
    #[cfg(feature = "docs-ui")]
    {
        use utoipa_swagger_ui::{Config, SwaggerUi};
        let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
        routes = routes.merge(page);
    }
    finish(routes.layer(DefaultBodyLimit::max(max_body_bytes)), service)
}

/// `/metrics` alone, for an address of its own.
pub fn metrics_only(service: &Service) -> Router {
    finish(metrics_router(service), service)
}

fn metrics_router(service: &Service) -> Router {
    Router::new().route("/metrics", get(health::metrics)).with_state(service.clone())
}

fn finish(routes: Router, service: &Service) -> Router {
    routes
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(service.clone(), lockdown::tell))
        .layer(from_fn_with_state(service.clone(), limits::limit_addresses))
        .layer(from_fn_with_state(service.clone(), telemetry::observe))
}

/// The routes that the OpenAPI document describes.
fn api_routes() -> OpenApiRouter<Service> {
    let compressed = OpenApiRouter::new()
        .routes(routes!(export::export))
        .routes(routes!(export::download))
        .layer(CompressionLayer::new());
    OpenApiRouter::with_openapi(openapi::base())
        .merge(compressed)
        .routes(routes!(webhook::receive))
        .routes(routes!(webhook::receive_with_token))
        .routes(routes!(rows::write_ai_debate, rows::list_ai_debates))
        .routes(routes!(rows::write_order, rows::list_orders))
        .routes(routes!(rows::write_order_event, rows::list_order_events))
        .routes(routes!(records::write, records::list))
        .routes(routes!(records::current))
        .routes(routes!(rows::list))
        .routes(routes!(stats::get))
        .routes(routes!(rows::get))
        .routes(routes!(stream::feed))
        .routes(routes!(stream::replay))
        .routes(routes!(export::new_download))
        .routes(routes!(trades::list))
        .routes(routes!(trades::get))
        .routes(routes!(trades::kill_switch_events))
        .routes(routes!(quarantine::release_delivery))
        .routes(routes!(lockdown::state))
        .routes(routes!(lockdown::lift))
        .routes(routes!(integrity::state))
        .routes(routes!(proofs::consistency))
        .routes(routes!(proofs::inclusion))
        .routes(routes!(log::checkpoint))
        .routes(routes!(log::vkeys))
        .routes(routes!(log::tile))
        .routes(routes!(integrity::checks, check::check))
        .routes(routes!(chains::describe))
        .routes(routes!(key::who_asks))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}

/// Serves until the handle says to stop.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // HTTP/1.1 alone, so that the time for a request's head runs from the first moment: a client
    // that sends nothing is cut off, too.
    let mut server = axum_server::from_tcp(listener)?.http1_only().handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    server.serve(routes.into_make_service_with_connect_info::<SocketAddr>()).await
}
