//! One telemetry line and one set of metrics for each request. Neither ever holds a payload, a
//! header, a query or a path, which may carry a token: only the route's pattern.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use ipnet::IpNet;
use metrics::{counter, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::Service;
use super::deadline::Started;
use super::problem::{Code, Problem, ProblemCode, REQUEST_ID};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
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

/// The address of the client, for handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientAddress {
    /// The best that is known: a proxy's own where it did not name its client.
    pub(super) nearest: IpAddr,
    /// Whether this is the client's.
    pub(super) is_client: bool,
}

/// The client's address: the peer's, or, where the peer is a trusted proxy, the first one from
/// the right in `X-Forwarded-For` that is none. What stands further left the client can make up.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> ClientAddress {
    let mut nearest = peer.to_canonical();
    let hops: Vec<_> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .collect();
    for hop in hops.iter().rev() {
        if !trusted.iter().any(|net| net.contains(&nearest)) {
            break;
        }
        match parse_hop(hop) {
            Some(hop) => nearest = hop,
            None => return ClientAddress { nearest, is_client: false },
        }
    }
    ClientAddress { nearest, is_client: true }
}

/// An address, which some proxies write with the port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    hop.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
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
    State(service): State<Service>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = service.clock.new_id();
    let client = client_address(peer.ip(), request.headers(), &service.trusted_proxies);
    request.extensions_mut().insert(client);
    let started = Started::now();
    request.extensions_mut().insert(started);
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
        client = %client.nearest,
        duration_ms = elapsed.as_secs_f64() * 1e3,
        "request"
    );
    let labels =
        [("method", method.to_owned()), ("route", route.clone()), ("status", status.to_string())];
    counter!("http_requests_total", &labels).increment(1);
    histogram!("http_request_seconds", "route" => route).record(elapsed);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed_and_only_from_the_right() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for (peer, forwarded, client) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("::1", &["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.2.3.4, 198.51.100.1,10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["1.2.3.4", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
            }
            let found = client_address(peer.parse().unwrap(), &headers, &trusted);
            let client = ClientAddress { nearest: client.parse().unwrap(), is_client: true };
            assert_eq!(found, client, "{peer} {forwarded:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("198.51.100.1, unknown"));
        let found = client_address("10.0.0.1".parse().unwrap(), &headers, &trusted);
        assert!(!found.is_client, "a proxy that does not name its client");
    }
}
