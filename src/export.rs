//! Exports: the rows that meet a filter as CSV, JSON or NDJSON, streamed in constant memory from one
//! consistent snapshot. Each is recorded when it begins and when it is complete; one that cannot be
//! finished ends in an error, never cleanly.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use ledger_verifier::check::StoredRow;
use ledger_verifier::row::write_plain;
use ledger_verifier::{Chain, ColumnType, LeafIndex, Value};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::appender::{AppendError, Appender};
use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::query::Filter;
use crate::store::read::{Piece, Snapshot};
use crate::store::{Database, StoreError};

/// Bytes that are sent at once, about.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for the receiver; the reading waits behind them.
pub(crate) const CHUNKS: usize = 4;
/// Pieces of rows that wait to be put together.
const PIECES: usize = 4;
/// A receiver that takes nothing for so long is given up: a snapshot is held meanwhile.
pub(crate) const STALLED_AFTER: Duration = Duration::from_mins(1);
/// How long the record of an export may take.
const EVENT_WITHIN: Duration = Duration::from_secs(10);

/// How rows are spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180 with a header. A text that a spreadsheet would run as a formula has `'` before it.
    Csv,
    /// One array.
    Json,
    /// An object a line, with every column and document: its hash can be computed from it.
    Ndjson,
}

impl std::str::FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            _ => Err("is none of csv, json, ndjson"),
        }
    }
}

impl Format {
    /// As parameters have it, and names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    fn begin(self, chain: &Chain) -> Vec<u8> {
        match self {
            Self::Csv => {
                let names = chain.columns.iter().map(|column| match column.ty {
                    ColumnType::Bytes => format!("{}_base64", column.name),
                    _ => column.stored_name(),
                });
                let more = ["prev_hash", "row_hash", "leaf_index"].map(str::to_owned);
                let names: Vec<_> = names.chain(more).collect();
                format!("{}\r\n", names.join(",")).into_bytes()
            }
            Self::Json => b"[".to_vec(),
            Self::Ndjson => Vec::new(),
        }
    }

    fn end(self) -> &'static [u8] {
        match self {
            Self::Json => b"\n]\n",
            Self::Csv | Self::Ndjson => b"",
        }
    }

    /// Appends a row with what stands between it and the one before.
    fn write(
        self,
        chain: &Chain,
        row: &StoredRow<'_>,
        leaf: Option<LeafIndex>,
        is_first: bool,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Csv => {
                for (column, value) in chain.columns.iter().zip(row.values) {
                    let start = out.len();
                    write_plain(column, value, out);
                    let is_text =
                        matches!(value, Value::Text(_) | Value::Document(_) | Value::Bytes(_));
                    finish_cell(out, start, is_text);
                    out.push(b',');
                }
                for hash in [row.prev_hash, row.row_hash] {
                    out.extend_from_slice(String::from_utf8_lossy(hash).as_bytes());
                    out.push(b',');
                }
                if let Some(leaf) = leaf {
                    out.extend_from_slice(leaf.to_string().as_bytes());
                }
                out.extend_from_slice(b"\r\n");
            }
            Self::Json | Self::Ndjson => {
                if self == Self::Json {
                    out.extend_from_slice(if is_first { b"\n" } else { b",\n" });
                }
                row.write_json(chain, leaf, out);
                if self == Self::Ndjson {
                    out.push(b'\n');
                }
            }
        }
    }
}

/// Makes what was written since `start` a cell (RFC 4180 section 2). A spreadsheet takes a text that
/// begins with one of `= + - @`, tab or carriage return for a formula: such a text gets `'` before it,
/// numbers do not. A text of no characters is quoted, so that it is not NULL.
fn finish_cell(out: &mut Vec<u8>, start: usize, is_text: bool) {
    let cell = &out[start..];
    let is_formula =
        is_text && matches!(cell.first(), Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r'));
    let is_quoted = cell.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'))
        || is_text && cell.is_empty();
    if !is_formula && !is_quoted {
        return;
    }
    let cell = out.split_off(start);
    if is_quoted {
        out.push(b'"');
    }
    if is_formula {
        out.push(b'\'');
    }
    for byte in cell {
        if byte == b'"' && is_quoted {
            out.push(b'"');
        }
        out.push(byte);
    }
    if is_quoted {
        out.push(b'"');
    }
}

/// Who exports, for the record.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// The key's name, or whose command it is.
    pub actor: String,
    /// Where they are.
    pub source_ip: Option<IpAddr>,
}

/// Why an export cannot begin, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be recorded.
    #[error("the export cannot be recorded: {0}")]
    Record(#[from] AppendError),
    /// Its rows are not those that were counted in the same snapshot.
    #[error("{found} rows were read where {counted} were counted")]
    Count {
        /// Rows that were counted.
        counted: i64,
        /// Rows that were read.
        found: i64,
    },
    /// The receiver took nothing any more.
    #[error("the receiver took nothing for {} s", STALLED_AFTER.as_secs())]
    Stalled,
}

/// An export that has begun, and is recorded as that.
#[derive(Debug)]
pub struct Export {
    /// Its rows.
    pub total_rows: i64,
    /// Its bytes, and `None` once it is complete and recorded as that. An error is the end; so is an
    /// end without `None`, which is none.
    pub chunks: mpsc::Receiver<Result<Option<Bytes>, ExportError>>,
}

/// Begins an export of the filter's rows: counts them, and records that it began. It ends where its
/// receiver is dropped.
pub async fn begin(
    database: &Database,
    appender: &Appender,
    filter: Filter,
    format: Format,
    exporter: Exporter,
) -> Result<Export, ExportError> {
    let snapshot = Snapshot::take(database).await?;
    let total_rows = snapshot.count(&filter).await?;
    let started = event(&filter, format, &exporter, EventType::ExportStarted, |details| {
        details["rows"] = total_rows.into();
    });
    appender.append(started, Instant::now() + EVENT_WITHIN).await?;
    let (to, chunks) = mpsc::channel(CHUNKS);
    let work =
        Work { snapshot, appender: appender.clone(), filter, format, exporter, total_rows, to };
    tokio::spawn(work.run());
    Ok(Export { total_rows, chunks })
}

fn event(
    filter: &Filter,
    format: Format,
    exporter: &Exporter,
    event_type: EventType,
    add: impl FnOnce(&mut serde_json::Value),
) -> NewSecurityEvent {
    let given: serde_json::Map<_, _> =
        filter.given().iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    let mut details = json!({ "format": format.name(), "filter": given });
    add(&mut details);
    NewSecurityEvent {
        event_type,
        actor: exporter.actor.clone(),
        subject: Some(filter.chain.name.to_owned()),
        details,
        source_ip: exporter.source_ip,
    }
}

struct Work {
    snapshot: Arc<Snapshot>,
    appender: Appender,
    filter: Filter,
    format: Format,
    exporter: Exporter,
    total_rows: i64,
    to: mpsc::Sender<Result<Option<Bytes>, ExportError>>,
}

/// Whether the receiver is still there.
#[derive(PartialEq, Eq)]
enum Receiver {
    Listens,
    Gone,
}

impl Work {
    async fn run(self) {
        let to = self.to.clone();
        if let Err(error) = self.export().await {
            tracing::error!(%error, "an export broke off");
            // Whoever does not take it has seen the end of it.
            let _ = timeout(STALLED_AFTER, to.send(Err(error))).await;
        }
    }

    async fn export(self) -> Result<(), ExportError> {
        let (filter, format) = (&self.filter, self.format);
        let (pieces, read) = mpsc::channel(PIECES);
        // Rows are decoded and written on a task of their own, which ends with its receiver.
        let (snapshot, of) = (Arc::clone(&self.snapshot), filter.clone());
        let reading = tokio::spawn(async move {
            let mut is_first = true;
            let line = |row: &StoredRow<'_>, leaf| {
                let mut line = Vec::with_capacity(512);
                format.write(of.chain, row, leaf, std::mem::take(&mut is_first), &mut line);
                line
            };
            snapshot.read_rows(&of, 0, pieces, line).await
        });
        let Some(written) = self.write(read).await? else { return Ok(()) };
        reading.await.expect("a reader neither panics nor is aborted")?;
        if written.rows != self.total_rows {
            return Err(ExportError::Count { counted: self.total_rows, found: written.rows });
        }
        let completed =
            event(filter, format, &self.exporter, EventType::ExportCompleted, |details| {
                details["rows"] = written.rows.into();
                details["bytes"] = written.bytes.into();
                details["sha256"] = hex::encode(written.sha256).into();
            });
        self.appender.append(completed, Instant::now() + EVENT_WITHIN).await?;
        self.snapshot.close().await;
        let _ = self.to.send(Ok(None)).await;
        Ok(())
    }

    /// Sends everything that is read; `None` where the receiver has gone.
    async fn write(
        &self,
        mut read: mpsc::Receiver<Piece<Vec<u8>>>,
    ) -> Result<Option<Written>, ExportError> {
        let mut sha = Sha256::new();
        let mut written = Written { rows: 0, bytes: 0, sha256: [0; 32] };
        let mut chunk = self.format.begin(self.filter.chain);
        let mut has_ended = false;
        while !has_ended {
            match read.recv().await {
                Some(Piece::Rows(lines)) => {
                    written.rows += i64::try_from(lines.len()).unwrap_or(i64::MAX);
                    for line in lines {
                        chunk.extend_from_slice(&line);
                    }
                }
                Some(Piece::End) => {
                    chunk.extend_from_slice(self.format.end());
                    has_ended = true;
                }
                // The reading broke off, and says why.
                None => break,
            }
            if chunk.len() >= CHUNK_BYTES || has_ended && !chunk.is_empty() {
                sha.update(&chunk);
                written.bytes += chunk.len();
                if self.send(std::mem::take(&mut chunk)).await? == Receiver::Gone {
                    return Ok(None);
                }
            }
        }
        written.sha256 = sha.finalize().into();
        Ok(Some(written))
    }

    async fn send(&self, chunk: Vec<u8>) -> Result<Receiver, ExportError> {
        match timeout(STALLED_AFTER, self.to.send(Ok(Some(chunk.into())))).await {
            Ok(Ok(())) => Ok(Receiver::Listens),
            Ok(Err(_)) => Ok(Receiver::Gone),
            Err(_) => Err(ExportError::Stalled),
        }
    }
}

struct Written {
    rows: i64,
    bytes: usize,
    /// Of all bytes, before any compression.
    sha256: [u8; 32],
}

/// The name of the file.
pub fn file_name(chain: &Chain, format: Format, at: DateTime<chrono::Utc>) -> String {
    format!("{}-{}.{}", chain.name, at.format("%Y%m%dT%H%M%SZ"), format.name())
}
