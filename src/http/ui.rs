//! The dashboard: files that are part of the binary (`src/ui`), served as they are. They hold no
//! data and need no key; what they show they ask of the API, with the key of who looks at it.

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};
use tower_http::compression::CompressionLayer;

use super::problem::{Code, Problem};

#[derive(RustEmbed)]
#[folder = "src/ui"]
struct Files;

const PAGE: &str = "index.html";

/// What the page may do: run its own scripts and ask this service, and nothing else. No script or
/// style stands in the page itself, and no text can become markup (trusted types with no policy).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Of every file.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    // Asked for each time, and answered 304 where nothing changed: a new version shows at once.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// `/` and the files under `/ui`.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(page))
        .route("/ui/{*file}", get(file))
        .layer(CompressionLayer::new())
}

async fn page(headers: HeaderMap) -> Response {
    serve(PAGE, &headers)
}

async fn file(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    path.map_or_else(|_| none(), |Path(name)| serve(&name, &headers))
}

fn none() -> Response {
    Problem::new(Code::NotFound, "there is no such file").into_response()
}

fn serve(name: &str, asked: &HeaderMap) -> Response {
    let Some(EmbeddedFile { data, metadata }) = Files::get(name) else { return none() };
    // A weak one: it stands for the file however it is compressed (RFC 9110 section 8.8.1).
    let tag = format!("W/\"{}\"", hex::encode(metadata.sha256_hash()));
    let has_it = asked.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        let mut tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.any(|had| had == tag || had == "*")
    });
    let tag = [(header::ETAG, tag)];
    if has_it {
        return (StatusCode::NOT_MODIFIED, HEADERS, tag).into_response();
    }
    let kind = [(header::CONTENT_TYPE, metadata.mimetype().to_owned())];
    (HEADERS, tag, kind, data).into_response()
}
