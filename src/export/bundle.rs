//! Bundles: a range of a chain with the rows before and after it, the signed checkpoint, and the proofs of
//! the first and the last row; the chain proves what is between (FORMAT.md section 6).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use ledger_verifier::bundle::{
    AFTER_FILE, BEFORE_FILE, CHECKPOINT_FILE, FIRST_PROOF_FILE, FORMAT, LAST_PROOF_FILE,
    MANIFEST_FILE, Manifest, RECORDS_FILE, RangeFilter, TABLE_FILE, incarnation_of,
};
use ledger_verifier::{LeafIndex, TreeSize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use super::{CHUNK_BYTES, ExportError, Exporting, Format, Receiver, Sent, Work};
use crate::chains::rfc3339;
use crate::integrity::checkpointer;
use crate::integrity::outside::Outside;
use crate::integrity::proofs::{Inclusion, Latest, ProveError, prove_leaf};
use crate::query::{Filter, add_all};
use crate::store::feed::log_size;
use crate::store::pool::Pool;
use crate::store::read::Snapshot;
use crate::store::tiles::leaf_of_row;

/// How long a bundle waits for a checkpoint that covers what is there. After that, it ends with the last
/// one.
const COVERED_WITHIN: Duration = Duration::from_secs(10);
/// Rows compress well, and the receiver waits.
const COMPRESSION_LEVEL: i64 = 3;
/// The filters of which a range is made.
const OF_A_RANGE: [&str; 4] = ["from_id", "to_id", "from", "to"];

/// Refuses a filter that leaves rows out.
pub(super) fn require_range(filter: &Filter) -> Result<(), ExportError> {
    let other = filter.given().iter().find(|(name, _)| !OF_A_RANGE.contains(name));
    other.map_or(Ok(()), |(name, _)| Err(ExportError::NotARange { name }))
}

/// Waits until a checkpoint covers what is there now.
pub(super) async fn wait_for_checkpoint(exporting: &Exporting) -> Result<(), ExportError> {
    let pool = Pool::of(&exporting.database, 1);
    let last = u64::try_from(log_size(&pool).await? - 1).unwrap_or(0);
    let until = Instant::now() + COVERED_WITHIN;
    let waited =
        checkpointer::wait_for_checkpoint(&pool, &exporting.wake, LeafIndex(last), until).await?;
    if waited.is_none() && pool.latest_checkpoint().await?.is_none() {
        return Err(ProveError::NotCovered(TreeSize(0)).into());
    }
    Ok(())
}

/// What a bundle is of.
pub(super) struct Range {
    /// The first id, and the one behind the last; the same where there is no row.
    ids: (i64, i64),
    has_before: bool,
    has_after: bool,
    latest: Latest,
    /// The proofs of the first and the last of all its rows, unless it has none.
    proofs: Option<(Inclusion, Inclusion)>,
}

impl Range {
    /// The rows of the filter that the last checkpoint covers.
    pub(super) async fn find(
        snapshot: &Snapshot,
        filter: &Filter,
        outside: &Outside,
    ) -> Result<Self, ExportError> {
        let mut connection = snapshot.reader().await?;
        let latest = Latest::read(&mut connection, outside).await?;
        let size = latest.stored.head.size;
        let covered = snapshot.last_ids_before_leaf(&[filter.chain], size.0).await?[0].0;
        let (from, before) = snapshot.ids_of(filter).await?;
        let from = from.clamp(1, covered + 1);
        let before = before.clamp(from, covered + 1);
        let (has_before, has_after) = (from > 1, before <= covered);
        let (first, last) = (from - i64::from(has_before), before - 1 + i64::from(has_after));
        let mut proofs = None;
        if first <= last {
            let mut ends = Vec::new();
            for id in [first, last] {
                let leaf = leaf_of_row(&mut connection, filter.chain.name, id).await?;
                let (leaf, row_hash) = leaf.ok_or(ProveError::NoRow)?;
                ends.push(prove_leaf(&mut connection, &latest, leaf, row_hash).await?);
            }
            proofs = ends.pop().zip(ends.pop()).map(|(last, first)| (first, last));
        }
        Ok(Self { ids: (from, before), has_before, has_after, latest, proofs })
    }

    pub(super) fn rows(&self) -> i64 {
        self.ids.1 - self.ids.0
    }
}

/// The rows of these ids.
fn ids(of: &Filter, from: i64, before: i64) -> Filter {
    let mut filter = Filter::all(of.chain);
    let (from, to) = (from.to_string(), (before - 1).to_string());
    let given = [("from_id", from.as_str()), ("to_id", to.as_str())];
    add_all(std::slice::from_mut(&mut filter), given).expect("bounds of ids filter every chain");
    filter
}

/// Where the zip writes to, and from where it is sent.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_full(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() >= CHUNK_BYTES
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The zip under way.
struct Archive<'a> {
    zip: ZipWriter<StreamWriter<Buffer>>,
    buffer: Buffer,
    sent: &'a mut Sent,
    /// The SHA-256 of each file that is finished.
    files: BTreeMap<String, String>,
}

impl<'a> Archive<'a> {
    fn new(sent: &'a mut Sent) -> Self {
        let buffer = Buffer::default();
        let zip = ZipWriter::new_stream(buffer.clone());
        Self { zip, buffer, sent, files: BTreeMap::new() }
    }

    fn begin(&mut self, name: &str) -> Result<(), ExportError> {
        // Nothing of a bundle but the rows tells when it was made.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(COMPRESSION_LEVEL))
            .last_modified_time(zip::DateTime::default())
            .large_file(true);
        Ok(self.zip.start_file(name, options)?)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<Receiver, ExportError> {
        self.zip.write_all(bytes).map_err(zip::result::ZipError::from)?;
        if self.buffer.is_full() {
            return self.sent.send(self.buffer.take()).await;
        }
        Ok(Receiver::Listens)
    }

    /// A whole file.
    async fn file(&mut self, name: &str, bytes: &[u8]) -> Result<Receiver, ExportError> {
        self.begin(name)?;
        self.files.insert(name.to_owned(), hex::encode(Sha256::digest(bytes)));
        self.write(bytes).await
    }

    /// A file of rows, and how many they were; `None` where the receiver has gone.
    async fn rows(
        &mut self,
        name: &str,
        work: &Work,
        filter: Option<Filter>,
        format: Format,
    ) -> Result<Option<i64>, ExportError> {
        let mut sha = Sha256::new();
        let mut rows = 0;
        self.begin(name)?;
        let header = format.begin(work.wanted.filter.chain);
        sha.update(&header);
        if self.write(&header).await? == Receiver::Gone {
            return Ok(None);
        }
        let mut lines = filter.map(|filter| work.read(filter, format));
        while let Some(lines) = &mut lines
            && let Some(piece) = lines.next().await?
        {
            for line in piece {
                sha.update(&line);
                rows += 1;
                if self.write(&line).await? == Receiver::Gone {
                    return Ok(None);
                }
            }
        }
        self.files.insert(name.to_owned(), hex::encode(sha.finalize()));
        Ok(Some(rows))
    }
}

/// Sends a bundle, and returns how many rows its range has; `None` where the receiver has gone.
pub(super) async fn write(
    work: &Work,
    range: Range,
    sent: &mut Sent,
) -> Result<Option<i64>, ExportError> {
    let filter = &work.wanted.filter;
    let (from, before) = range.ids;
    let mut archive = Archive::new(sent);
    let of_range = (from < before).then(|| ids(filter, from, before));
    let row_before = range.has_before.then(|| ids(filter, from - 1, from));
    let row_after = range.has_after.then(|| ids(filter, before, before + 1));
    let mut counts = Vec::new();
    for (name, rows, format) in [
        (RECORDS_FILE, of_range.clone(), Format::Ndjson),
        (TABLE_FILE, of_range, Format::Csv),
        (BEFORE_FILE, row_before, Format::Ndjson),
        (AFTER_FILE, row_after, Format::Ndjson),
    ] {
        let Some(count) = archive.rows(name, work, rows, format).await? else { return Ok(None) };
        counts.push(count);
    }
    let rows = counts[0];
    for (found, counted) in counts.into_iter().zip([
        range.rows(),
        range.rows(),
        i64::from(range.has_before),
        i64::from(range.has_after),
    ]) {
        if found != counted {
            return Err(ExportError::Count { counted, found });
        }
    }
    let note = range.latest.stored.note.as_bytes();
    let mut receiver = archive.file(CHECKPOINT_FILE, note).await?;
    if let Some((first, last)) = &range.proofs {
        for (name, proof) in [(FIRST_PROOF_FILE, first), (LAST_PROOF_FILE, last)] {
            receiver = archive.file(name, proof.to_tlog_proof().to_string().as_bytes()).await?;
        }
    }
    let manifest = manifest(work, &range, rows, archive.files.clone()).to_json();
    if receiver == Receiver::Listens {
        receiver = archive.file(MANIFEST_FILE, manifest.as_bytes()).await?;
    }
    let Archive { zip, buffer, sent, .. } = archive;
    zip.finish()?;
    if receiver == Receiver::Gone || sent.send(buffer.take()).await? == Receiver::Gone {
        return Ok(None);
    }
    Ok(Some(rows))
}

fn manifest(work: &Work, range: &Range, rows: i64, files: BTreeMap<String, String>) -> Manifest {
    let Filter { chain, .. } = &work.wanted.filter;
    let given = |name: &str| work.wanted.filter.given().iter().any(|(given, _)| *given == name);
    let (from_id, before_id) = work.wanted.filter.ids();
    let (from, to) = work.wanted.filter.times();
    let time = |micros| DateTime::from_timestamp_micros(micros).map(rfc3339);
    let origin = range.latest.incarnation.origin.clone();
    Manifest {
        format: FORMAT.to_owned(),
        chain: chain.name.to_owned(),
        filter: RangeFilter {
            from_id: given("from_id").then_some(from_id),
            to_id: given("to_id").then_some(before_id - 1),
            from: from.and_then(time),
            to: to.and_then(time),
        },
        rows: rows.unsigned_abs(),
        first_id: (rows > 0).then_some(range.ids.0),
        last_id: (rows > 0).then_some(range.ids.1 - 1),
        incarnation: incarnation_of(&origin),
        origin,
        tree_size: range.latest.stored.head.size.0,
        requested_by: work.wanted.exporter.actor.clone(),
        made_at: rfc3339(work.exporting.clock.now()),
        tool: concat!("audit-ledger ", env!("CARGO_PKG_VERSION")).to_owned(),
        files,
    }
}
