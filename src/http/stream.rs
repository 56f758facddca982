//! The live feed and the replay: rows of several chains as events or lines.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Service;
use super::auth::Authorized;
use super::page::{FilterParameters, Parameters, unreadable};
use super::problem::{Problem, RefusedParameter, RefusedUnderV1};
use super::streamed::{
    EVENTS, HEARTBEAT_EVERY, Places, To, answer, send, wants_events, write_event,
};
use crate::export::{CHUNK_BYTES, CHUNKS};
use crate::feed::start_leaf;
use crate::keys::scope::{Export, Read};
use crate::query::Filter;
use crate::replay::{ReplayedRow, Speed, begin};
use crate::store::Database;
use crate::store::feed::{log_size, read_log_page};
use crate::store::pool::Pool;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const NDJSON: &str = "application/x-ndjson";
/// Followers and paced replays at once, and the connections that they share.
const STREAMS: usize = 128;
const CONNECTIONS: u32 = 4;

/// What streams share: however many there are, they leave the connections of requests alone.
#[derive(Clone, Debug)]
pub struct Streams {
    places: Places,
    reads: Pool,
}

impl Streams {
    /// Of this ledger. Needs tokio's runtime.
    pub(super) fn of(database: &Database) -> Self {
        Self {
            places: Places::new(STREAMS, "feeds and replays are open"),
            reads: Pool::of_streams(database, CONNECTIONS),
        }
    }
}

/// An event whose id is the row's leaf index, and whose type is the chain.
fn write_row(row: &ReplayedRow, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("id: {}\n", row.leaf_index).as_bytes());
    write_event(row.chain, &row.json, out);
}

/// Everything that is appended, as it is appended: server-sent events.
///
/// An event's `id` is the row's leaf index, its type the chain, its data the row as JSON. With
/// `Last-Event-ID`, which a browser sends by itself when it connects again, the feed goes on behind
/// that leaf without a gap; else it begins with what is appended from now on. A comment every 15
/// seconds keeps the connection open, and repeats the last leaf that was looked at as an `id`.
#[utoipa::path(get, path = "/v1/feed", tag = "streams",
    params(
        ("chains" = Option<String>, Query, description = "Chains, separated by commas; all of them if not given."),
        ("Last-Event-ID" = Option<i64>, Header, description = "The leaf index of the last event that was received."),
        FilterParameters),
    responses(
        (status = 200, description = "Events, without an end.", content_type = "text/event-stream"),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["read"])))]
pub(super) async fn feed(
    _: Authorized<Read>,
    State(service): State<Service>,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let filters = parameters.filters_of_chains()?;
    parameters.finish()?;
    let after = headers.get(LAST_EVENT_ID).map(|value| {
        let leaf = value.to_str().ok().and_then(|text| text.parse().ok());
        let leaf = leaf.filter(|leaf: &i64| (0..1 << 53).contains(leaf));
        leaf.ok_or_else(|| unreadable("Last-Event-ID", "is the leaf index of an event"))
    });
    let after = after.transpose()?;
    let place = service.streams.places.take()?;
    let (leaf, size) = start_leaf(&service.reads, after).await?;
    if leaf > size {
        return Err(unreadable("Last-Event-ID", "is beyond the end of the log"));
    }
    let (to, chunks) = mpsc::channel(CHUNKS);
    tokio::spawn(follow(service.streams.reads.clone(), filters, leaf, service.feed.size(), to));
    Ok(answer(EVENTS, chunks, place))
}

/// Sends what is appended until the follower goes, or the service ends.
async fn follow(
    pool: Pool,
    filters: Vec<Filter>,
    mut leaf: i64,
    mut size: watch::Receiver<i64>,
    to: To,
) {
    // So that the follower knows at once that it is heard.
    let mut chunk = format!(": from leaf {leaf}\n\n").into_bytes();
    loop {
        if !chunk.is_empty() && !send(&to, std::mem::take(&mut chunk)).await {
            return;
        }
        let page = match read_log_page(&pool, &filters, leaf, i64::MAX).await {
            Ok(page) => page,
            Err(error) => {
                // It connects again, and goes on where it was.
                let _ = to.send(Err(error)).await;
                return;
            }
        };
        leaf = page.next_leaf;
        for row in &page.rows {
            write_row(&row.into(), &mut chunk);
        }
        if !page.is_last || !chunk.is_empty() {
            continue;
        }
        let changed = tokio::select! {
            changed = timeout(HEARTBEAT_EVERY, size.wait_for(|size| *size > leaf)) => changed.map(|size| size.is_ok()),
            () = to.closed() => return,
        };
        match changed {
            Ok(true) => {}
            Ok(false) => {
                let _ = to.send(Ok(None)).await;
                return;
            }
            Err(_) if leaf == 0 => chunk.extend_from_slice(b": nothing yet\n\n"),
            Err(_) => {
                chunk.extend_from_slice(format!(": nothing new\nid: {}\n\n", leaf - 1).as_bytes());
            }
        }
    }
}

/// Rows of several chains in the order in which they were appended, again.
///
/// As server-sent events, as in the feed, or as NDJSON, by `Accept`. With `speed=1` rows follow each
/// other as they were appended, with 60 sixty times as fast, with 0 as fast as they can be read.
/// To pause, close the connection; `from_leaf` goes on. It ends with the last row that was there when
/// it began; where it breaks off, so does the connection.
#[utoipa::path(get, path = "/v1/replay", tag = "streams",
    params(
        ("chains" = Option<String>, Query, description = "Chains, separated by commas; all of them if not given."),
        ("speed" = Option<f64>, Query, description = "How fast; 0 if not given.", minimum = 0),
        ("from_leaf" = Option<i64>, Query, description = "The first leaf; 0 if not given.", minimum = 0),
        FilterParameters),
    responses(
        (status = 200, description = "The rows.", content(
            (String = "application/x-ndjson"), (String = "text/event-stream"))),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["export"])))]
pub(super) async fn replay(
    _: Authorized<Export>,
    State(service): State<Service>,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let filters = parameters.filters_of_chains()?;
    let speed = parameters.take::<Speed>("speed")?.unwrap_or(Speed::UNBOUNDED);
    let from_leaf = parameters.take::<i64>("from_leaf")?.unwrap_or(0);
    if !(0..1 << 53).contains(&from_leaf) {
        return Err(unreadable("from_leaf", "is no leaf index"));
    }
    parameters.finish()?;
    let is_events = wants_events(&headers);
    // One that is not paced holds a snapshot, as an export does.
    let Service { database, reads, streams, exports, .. } = &service;
    let places = if speed == Speed::UNBOUNDED { &exports.places } else { &streams.places };
    let place = places.take()?;
    let leaves = (from_leaf, log_size(reads).await?);
    let mut rows = begin(database, &streams.reads, filters, leaves, speed).await?;
    let (to, chunks) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        let mut chunk = Vec::new();
        while let Some(row) = rows.recv().await {
            match row {
                Ok(Some(row)) if is_events => write_row(&row, &mut chunk),
                Ok(Some(row)) => {
                    chunk.extend_from_slice(&row.json);
                    chunk.push(b'\n');
                }
                Ok(None) => {
                    if send(&to, std::mem::take(&mut chunk)).await {
                        let _ = to.send(Ok(None)).await;
                    }
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "a replay broke off");
                    let _ = to.send(Err(error)).await;
                    return;
                }
            }
            // A row is not held back for one that comes later.
            let is_due = chunk.len() >= CHUNK_BYTES || rows.is_empty();
            if is_due && !send(&to, std::mem::take(&mut chunk)).await {
                return;
            }
        }
    });
    Ok(answer(if is_events { EVENTS } else { NDJSON }, chunks, place))
}
