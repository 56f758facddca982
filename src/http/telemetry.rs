//! One telemetry line and one set of metrics for each request. Neither ever holds a payload, a
//! header, a query or a path, which may carry a token: only the route's pattern.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use metrics::{counter, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::Instant;

use super::problem::{Code, Problem, ProblemCode, REQUEST_ID};
use crate::clock::Clock;

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Bounds of the histograms of durations, in seconds: what is promised is 2.5 s.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Bounds of the histogram of rows in a batch.
const ROWS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0, 1000.0];

/// Makes the process's metrics recorder, once, and returns what prints it.
pub fn install_metrics() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), &ROWS)
            })
            .expect("there are buckets")
            .install_recorder()
            .expect("no other recorder is installed")
    };
    RECORDER.get_or_init(install).clone()
}

/// The address of the client, IPv4 where it came as an IPv4-mapped one.
pub(super) fn client_address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

/// A method's name; anybody can invent others, which would each stay in memory for ever.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// The code for a refusal that a library made, which is no problem+json yet.
fn unexplained(response: &Response) -> Option<Code> {
    if response.extensions().get::<ProblemCode>().is_some() {
        return None;
    }
    match response.status() {
        StatusCode::NOT_FOUND => Some(Code::NotFound),
        StatusCode::METHOD_NOT_ALLOWED => Some(Code::MethodNotAllowed),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Code::TooLarge),
        status if status.is_client_error() => Some(Code::UnreadableBody),
        status if status.is_server_error() => Some(Code::Internal),
        _ => None,
    }
}

/// Gives the request an id, answers a panic, and writes the line.
pub(super) async fn observe(
    State(clock): State<Clock>,
    peer: ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let id = clock.new_id();
    let started = Instant::now();
    let method = method_name(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned());
    let answer = REQUEST_ID.scope(id, async {
        AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            // The panic's message went to stderr with its place.
            tracing::error!(request_id = %id, "a handler panicked");
            Problem::new(Code::Internal, "the request could not be handled").into_response()
        })
    });
    let mut response = answer.await;
    if let Some(code) = unexplained(&response) {
        let refusal = REQUEST_ID.sync_scope(id, || Problem::new(code, "the request is refused"));
        response = refusal.into_response();
    }
    let header = HeaderValue::from_str(&id.to_string()).expect("a UUID is ASCII");
    response.headers_mut().insert(REQUEST_ID_HEADER, header);

    let status = response.status().as_u16();
    let code = response.extensions().get::<ProblemCode>().map(|code| code.0);
    let elapsed = started.elapsed();
    tracing::info!(
        request_id = %id,
        method,
        route,
        status,
        code,
        client = %client_address(peer.0),
        duration_ms = elapsed.as_secs_f64() * 1e3,
        "request"
    );
    let labels =
        [("method", method.to_owned()), ("route", route.clone()), ("status", status.to_string())];
    counter!("http_requests_total", &labels).increment(1);
    histogram!("http_request_seconds", "route" => route).record(elapsed);
    response
}
