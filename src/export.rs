//! Exports: the rows that meet a filter as CSV, JSON, NDJSON or a bundle with proofs, streamed in constant memory from one
//! consistent snapshot. Each is recorded when it begins and when it is complete; one that cannot be
//! finished ends in an error, never cleanly.

mod bundle;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use ledger_verifier::check::StoredRow;
use ledger_verifier::{Chain, LeafIndex, csv};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use zip::result::ZipError;

use crate::appender::{AppendError, Appender};
use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::clock::Clock;
use crate::integrity::checkpointer::Wake;
use crate::integrity::outside::Outside;
use crate::integrity::proofs::ProveError;
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
    /// A zip of a range of ids or times, as NDJSON and CSV, with a signed checkpoint and proofs: whoever
    /// has the log's verifier key sees offline that it is whole and as it was recorded (FORMAT.md
    /// section 6).
    Bundle,
}

impl std::str::FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            "bundle" => Ok(Self::Bundle),
            _ => Err("is none of csv, json, ndjson, bundle"),
        }
    }
}

impl Format {
    /// How names of files end.
    fn extension(self) -> &'static str {
        match self {
            Self::Bundle => "zip",
            format => format.name(),
        }
    }

    /// As parameters have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Bundle => "bundle",
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Bundle => "application/zip",
        }
    }

    fn begin(self, chain: &Chain) -> Vec<u8> {
        match self {
            Self::Csv => {
                let mut header = Vec::new();
                csv::write_header(chain, &mut header);
                header
            }
            Self::Json => b"[".to_vec(),
            Self::Ndjson | Self::Bundle => Vec::new(),
        }
    }

    fn end(self) -> &'static [u8] {
        match self {
            Self::Json => b"\n]\n",
            Self::Csv | Self::Ndjson | Self::Bundle => b"",
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
            Self::Csv => csv::write_row(chain, row, leaf, out),
            Self::Json | Self::Ndjson | Self::Bundle => {
                if self == Self::Json {
                    out.extend_from_slice(if is_first { b"\n" } else { b",\n" });
                }
                row.write_json(chain, leaf, out);
                if self != Self::Json {
                    out.push(b'\n');
                }
            }
        }
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
    /// A bundle is of a range, which is complete or not.
    #[error(
        "{name} filters rows out of a range: a bundle is of a range of ids or times, of which no row \
             is missing; other filters have csv, json and ndjson"
    )]
    NotARange {
        /// What filters otherwise.
        name: &'static str,
    },
    /// What a bundle holds cannot be proved.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The zip around a bundle cannot be written.
    #[error("the bundle cannot be written: {0}")]
    Zip(#[from] ZipError),
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

/// What exports are made of, and recorded by.
#[derive(Clone, Debug)]
pub struct Exporting {
    /// The ledger, with the service's login.
    pub database: Database,
    /// The only writer.
    pub appender: Appender,
    /// The service's clock.
    pub clock: Clock,
    /// Keys whose signatures count.
    pub outside: Outside,
    /// Asks for the checkpoint that a bundle needs.
    pub wake: Wake,
}

/// What is exported, and for whom.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which rows.
    pub filter: Filter,
    /// How they are spelt.
    pub format: Format,
    /// Who wants them.
    pub exporter: Exporter,
}

/// Begins an export of the filter's rows: counts them, and records that it began. It ends where its
/// receiver is dropped.
pub async fn begin(exporting: &Exporting, wanted: Wanted) -> Result<Export, ExportError> {
    let (snapshot, range, total_rows) = if wanted.format == Format::Bundle {
        bundle::require_range(&wanted.filter)?;
        bundle::wait_for_checkpoint(exporting).await?;
        let snapshot = Snapshot::take(&exporting.database).await?;
        let range = bundle::Range::find(&snapshot, &wanted.filter, &exporting.outside).await?;
        let rows = range.rows();
        (snapshot, Some(range), rows)
    } else {
        let snapshot = Snapshot::take(&exporting.database).await?;
        let rows = snapshot.count(&wanted.filter).await?;
        (snapshot, None, rows)
    };
    let started = wanted.event(EventType::ExportStarted, |details| {
        details["rows"] = total_rows.into();
    });
    exporting.appender.append(started, Instant::now() + EVENT_WITHIN).await?;
    let (to, chunks) = mpsc::channel(CHUNKS);
    let work = Work { snapshot, exporting: exporting.clone(), wanted, range, total_rows };
    tokio::spawn(work.run(to));
    Ok(Export { total_rows, chunks })
}

impl Wanted {
    fn event(
        &self,
        event_type: EventType,
        add: impl FnOnce(&mut serde_json::Value),
    ) -> NewSecurityEvent {
        let given: serde_json::Map<_, _> = self
            .filter
            .given()
            .iter()
            .map(|(name, text)| ((*name).to_owned(), json!(text)))
            .collect();
        let mut details = json!({ "format": self.format.name(), "filter": given });
        add(&mut details);
        NewSecurityEvent {
            event_type,
            actor: self.exporter.actor.clone(),
            subject: Some(self.filter.chain.name.to_owned()),
            details,
            source_ip: self.exporter.source_ip,
        }
    }
}

type Chunks = mpsc::Sender<Result<Option<Bytes>, ExportError>>;

struct Work {
    snapshot: Arc<Snapshot>,
    exporting: Exporting,
    wanted: Wanted,
    /// Of a bundle.
    range: Option<bundle::Range>,
    total_rows: i64,
}

/// What was sent, and to whom.
struct Sent {
    to: Chunks,
    sha: Sha256,
    bytes: usize,
}

/// Whether the receiver is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    Listens,
    Gone,
}

impl Sent {
    async fn send(&mut self, chunk: Vec<u8>) -> Result<Receiver, ExportError> {
        self.sha.update(&chunk);
        self.bytes += chunk.len();
        match timeout(STALLED_AFTER, self.to.send(Ok(Some(chunk.into())))).await {
            Ok(Ok(())) => Ok(Receiver::Listens),
            Ok(Err(_)) => Ok(Receiver::Gone),
            Err(_) => Err(ExportError::Stalled),
        }
    }
}

impl Work {
    async fn run(self, to: Chunks) {
        if let Err(error) = self.export(to.clone()).await {
            tracing::error!(%error, "an export broke off");
            // Whoever does not take it has seen the end of it.
            let _ = timeout(STALLED_AFTER, to.send(Err(error))).await;
        }
    }

    async fn export(mut self, to: Chunks) -> Result<(), ExportError> {
        let mut sent = Sent { to, sha: Sha256::new(), bytes: 0 };
        let written = match self.range.take() {
            Some(range) => bundle::write(&self, range, &mut sent).await?,
            None => self.write_rows(&mut sent).await?,
        };
        let Some(rows) = written else { return Ok(()) };
        if rows != self.total_rows {
            return Err(ExportError::Count { counted: self.total_rows, found: rows });
        }
        let Sent { to, sha, bytes } = sent;
        let completed = self.wanted.event(EventType::ExportCompleted, |details| {
            details["rows"] = rows.into();
            details["bytes"] = bytes.into();
            // Of all bytes, before any compression on the way.
            details["sha256"] = hex::encode(sha.finalize()).into();
        });
        self.exporting.appender.append(completed, Instant::now() + EVENT_WITHIN).await?;
        self.snapshot.close().await;
        let _ = to.send(Ok(None)).await;
        Ok(())
    }

    /// Sends everything that is read, and returns how many rows that was; `None` where the receiver has
    /// gone.
    async fn write_rows(&self, sent: &mut Sent) -> Result<Option<i64>, ExportError> {
        let format = self.wanted.format;
        let mut lines = self.read(self.wanted.filter.clone(), format);
        let mut rows = 0;
        let mut chunk = format.begin(self.wanted.filter.chain);
        loop {
            let piece = lines.next().await?;
            let has_ended = piece.is_none();
            match piece {
                Some(piece) => {
                    rows += i64::try_from(piece.len()).unwrap_or(i64::MAX);
                    for line in piece {
                        chunk.extend_from_slice(&line);
                    }
                }
                None => chunk.extend_from_slice(format.end()),
            }
            let is_full = chunk.len() >= CHUNK_BYTES || has_ended && !chunk.is_empty();
            if is_full && sent.send(std::mem::take(&mut chunk)).await? == Receiver::Gone {
                return Ok(None);
            }
            if has_ended {
                return Ok(Some(rows));
            }
        }
    }

    /// The filter's rows, spelt in this way. They are decoded and written on a task of their own, which
    /// ends with its receiver.
    fn read(&self, filter: Filter, format: Format) -> Lines {
        let (pieces, read) = mpsc::channel(PIECES);
        let snapshot = Arc::clone(&self.snapshot);
        let reading = tokio::spawn(async move {
            let mut is_first = true;
            let line = |row: &StoredRow<'_>, leaf| {
                let mut line = Vec::with_capacity(512);
                format.write(filter.chain, row, leaf, std::mem::take(&mut is_first), &mut line);
                line
            };
            snapshot.read_rows(&filter, 0, pieces, line).await
        });
        Lines { read, reading: Some(reading) }
    }
}

/// Rows on their way.
struct Lines {
    read: mpsc::Receiver<Piece<Vec<u8>>>,
    reading: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Lines {
    /// The next of them; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, ExportError> {
        if let Some(Piece::Rows(lines)) = self.read.recv().await {
            return Ok(Some(lines));
        }
        // The end, or the reading broke off, and says why.
        if let Some(reading) = self.reading.take() {
            reading.await.expect("a reader neither panics nor is aborted")?;
        }
        Ok(None)
    }
}

/// The name of the file.
pub fn file_name(chain: &Chain, format: Format, at: DateTime<chrono::Utc>) -> String {
    format!("{}-{}.{}", chain.name, at.format("%Y%m%dT%H%M%SZ"), format.extension())
}
