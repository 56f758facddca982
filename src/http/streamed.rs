//! Answers that come in pieces: files, lines and server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::problem::{Code, Problem};
use crate::export::STALLED_AFTER;
use crate::store::StoreError;

/// The content type of server-sent events.
pub(super) const EVENTS: &str = "text/event-stream";
/// Events say so this often where there is nothing to tell, so that no proxy takes them for dead.
pub(super) const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

/// How many bodies of a kind may be under way, each of which holds a place.
#[derive(Clone, Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    all: usize,
    kind: &'static str,
}

impl Places {
    /// So many; `kind` goes on from their number where all are taken.
    pub(super) fn new(all: usize, kind: &'static str) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all, kind }
    }

    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let detail = format!("{} {}", self.all, self.kind);
            Problem::new(Code::Unavailable, detail).retry_after(5)
        })
    }
}

/// Whether the client asks for server-sent events.
pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(EVENTS))
}

/// An event (HTML, section 9.2.6) of this type. `data` is JSON on one line.
pub(super) fn write_event(kind: &str, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("event: {kind}\ndata: ").as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

/// A body of these chunks, whose end is clean only where it is said (`None`): else the connection
/// breaks off. It holds its place until then.
pub(super) fn body_of<E: std::error::Error + Send + Sync + 'static>(
    chunks: mpsc::Receiver<Result<Option<Bytes>, E>>,
    place: impl Send + 'static,
) -> Body {
    let next = async |state: Option<(mpsc::Receiver<_>, _)>| {
        let (mut chunks, place) = state?;
        match chunks.recv().await {
            Some(Ok(Some(chunk))) => Some((Ok(chunk), Some((chunks, place)))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some((Err(axum::BoxError::from(error)), None)),
            None => Some((Err("it broke off".into()), None)),
        }
    };
    // Compression asks once more after the end.
    Body::from_stream(stream::unfold(Some((chunks, place)), next).fuse())
}

/// An answer of this content type that comes as it is made.
pub(super) fn answer(
    kind: &'static str,
    chunks: mpsc::Receiver<Result<Option<Bytes>, StoreError>>,
    place: impl Send + 'static,
) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies that buffer would hold events back.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body_of(chunks, place)).into_response()
}

/// Where the chunks of an answer are sent.
pub(super) type To = mpsc::Sender<Result<Option<Bytes>, StoreError>>;

/// Whether the chunk was taken.
pub(super) async fn send(to: &To, chunk: Vec<u8>) -> bool {
    matches!(timeout(STALLED_AFTER, to.send(Ok(Some(chunk.into())))).await, Ok(Ok(())))
}
