//! Replay: rows of several chains in the order of the log, as fast as they can be read, or with the
//! time between them that there was.

use std::collections::VecDeque;
use std::time::Duration;

use ledger_verifier::{Chain, LeafIndex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::query::Filter;
use crate::store::feed::read_log_page;
use crate::store::pool::Pool;
use crate::store::read::{Piece, Snapshot};
use crate::store::rows::StoredRow;
use crate::store::{Database, StoreError};

/// Pieces of a chain's rows that wait to be merged.
const PIECES: usize = 2;
/// Rows that wait for the receiver.
const ROWS: usize = 1024;

/// How fast rows follow each other: 1 is the time that there was between them, 60 a minute of it in a
/// second, 0 none at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed(f64);

impl Speed {
    /// As fast as rows can be read.
    pub const UNBOUNDED: Self = Self(0.0);

    fn pause(self, micros: i64) -> Duration {
        Duration::try_from_secs_f64(
            Duration::from_micros(micros.max(0).unsigned_abs()).as_secs_f64() / self.0,
        )
        .unwrap_or(Duration::MAX)
    }
}

impl std::str::FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let speed = text.parse().ok().filter(|speed: &f64| (0.0..=1e9).contains(speed));
        speed.map(Self).ok_or("is a number from 0 to 1000000000")
    }
}

/// A row that is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedRow {
    /// Its chain.
    pub chain: &'static str,
    /// Its place in the log.
    pub leaf_index: i64,
    /// The row as JSON.
    pub json: Vec<u8>,
}

impl ReplayedRow {
    fn new(chain: &'static Chain, leaf: Option<LeafIndex>, json: Vec<u8>) -> Self {
        // What the log has lost comes last.
        let leaf_index = leaf.and_then(|leaf| i64::try_from(leaf.0).ok()).unwrap_or(i64::MAX);
        Self { chain: chain.name, leaf_index, json }
    }
}

impl From<&StoredRow> for ReplayedRow {
    fn from(row: &StoredRow) -> Self {
        Self::new(row.chain, row.leaf_index, row.to_json().get().as_bytes().to_vec())
    }
}

/// The rows of a replay, and `None` after the last one. An error is the end; so is an end without
/// `None`, which is none.
pub type Rows = mpsc::Receiver<Result<Option<ReplayedRow>, StoreError>>;

/// Begins to replay the rows of these filters, one for each chain that is wanted, from this leaf on. A
/// paced one ends with the log's size, another with the rows that are there now; either where its receiver
/// is dropped.
pub async fn begin(
    database: &Database,
    pool: &Pool,
    filters: Vec<Filter>,
    (from_leaf, log_size): (i64, i64),
    speed: Speed,
) -> Result<Rows, StoreError> {
    let (to, rows) = mpsc::channel(ROWS);
    if speed == Speed::UNBOUNDED {
        let snapshot = Snapshot::take(database).await?;
        tokio::spawn(async move {
            let merged = merge(&snapshot, &filters, from_leaf, &to).await;
            let _ = to.send(merged.map(|()| None)).await;
            snapshot.close().await;
        });
    } else {
        // Over hours, perhaps: no snapshot is held, since rows are never changed.
        let pool = pool.clone();
        tokio::spawn(async move {
            let paced = pace(&pool, &filters, (from_leaf, log_size), speed, &to).await;
            let _ = to.send(paced.map(|()| None)).await;
        });
    }
    Ok(rows)
}

type To = mpsc::Sender<Result<Option<ReplayedRow>, StoreError>>;

/// One chain's rows, as they are read.
struct Source {
    pieces: mpsc::Receiver<Piece<ReplayedRow>>,
    rows: VecDeque<ReplayedRow>,
    has_ended: bool,
}

impl Source {
    /// Whether there is a next row, once it is read.
    async fn fill(&mut self) -> bool {
        while self.rows.is_empty() && !self.has_ended {
            match self.pieces.recv().await {
                Some(Piece::Rows(rows)) => self.rows.extend(rows),
                Some(Piece::End) | None => self.has_ended = true,
            }
        }
        !self.rows.is_empty()
    }
}

/// Reads every chain side by side and merges them by leaf.
async fn merge(
    snapshot: &Snapshot,
    filters: &[Filter],
    from_leaf: i64,
    to: &To,
) -> Result<(), StoreError> {
    let (mut reading, mut sources) = (Vec::new(), Vec::new());
    for filter in filters {
        let (pieces_to, pieces) = mpsc::channel(PIECES);
        reading.push(snapshot.read_rows(filter, from_leaf, pieces_to, |row, leaf| {
            let mut json = Vec::with_capacity(640);
            row.write_json(filter.chain, leaf, &mut json);
            ReplayedRow::new(filter.chain, leaf, json)
        }));
        sources.push(Source { pieces, rows: VecDeque::new(), has_ended: false });
    }
    let merging = async move {
        let mut filled = Vec::with_capacity(sources.len());
        for mut source in sources {
            if source.fill().await {
                filled.push(source);
            }
        }
        while let Some(at) =
            (0..filled.len()).min_by_key(|at| filled[*at].rows.front().map(|row| row.leaf_index))
        {
            let Some(row) = filled[at].rows.pop_front() else { break };
            if to.send(Ok(Some(row))).await.is_err() {
                return;
            }
            if !filled[at].fill().await {
                filled.swap_remove(at);
            }
        }
    };
    let (read, ()) = tokio::join!(futures_util::future::join_all(reading), merging);
    read.into_iter().collect()
}

/// Reads page after page, and sends each row at its time.
async fn pace(
    pool: &Pool,
    filters: &[Filter],
    (mut leaf, end): (i64, i64),
    speed: Speed,
    to: &To,
) -> Result<(), StoreError> {
    let begun = Instant::now();
    let mut first = None;
    while leaf < end {
        let page = read_log_page(pool, filters, leaf, end).await?;
        for row in page.rows {
            if let Some(at) = row.created_at_micros() {
                let since_first = at.saturating_sub(*first.get_or_insert(at));
                let due = begun.checked_add(speed.pause(since_first));
                let gone = match due {
                    Some(due) => tokio::select! {
                        () = sleep_until(due) => false,
                        () = to.closed() => true,
                    },
                    None => return Ok(()),
                };
                if gone {
                    return Ok(());
                }
            }
            if to.send(Ok(Some((&row).into()))).await.is_err() {
                return Ok(());
            }
        }
        if page.next_leaf == leaf {
            break;
        }
        leaf = page.next_leaf;
    }
    Ok(())
}
