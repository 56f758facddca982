//! What is checked over rows and over the log, and what a check reports (FORMAT.md section 5).
//!
//! The checkers are fed row by row and hold only the row before, so a ledger of any size is
//! checked in constant memory. They go on after a finding, since one bad row must not hide
//! the next.

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::chain::Chain;
use crate::hash::{LeafIndex, RowHash, RowId, TreeSize};
use crate::row::{Value, row_hash_in, write_json};

/// The name that findings about the log as a whole carry in place of a chain's.
pub const LOG_NAME: &str = "ledger_log";

/// The kinds of findings of FORMAT.md section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// A row's hash is not that of its columns.
    Content,
    /// `prev_hash` is not the `row_hash` before it.
    Link,
    /// An id or leaf index is missing, or stands there twice.
    Gap,
    /// A chain and the log disagree.
    LogMismatch,
    /// `created_at` decreases.
    TimeReversal,
    /// The log is shorter than a checkpoint in the database says.
    Truncated,
    /// The log's root at a checkpoint's size is another one.
    Forked,
    /// The database is behind a checkpoint held outside it.
    RolledBack,
    /// A guard is not as the migrations made it.
    GuardDrift,
    /// A generated JSONB column does not equal its text.
    Document,
}

impl FindingKind {
    /// The name in reports, the database and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Link => "link",
            Self::Gap => "gap",
            Self::LogMismatch => "log_mismatch",
            Self::TimeReversal => "time_reversal",
            Self::Truncated => "truncated",
            Self::Forked => "forked",
            Self::RolledBack => "rolled_back",
            Self::GuardDrift => "guard_drift",
            Self::Document => "document",
        }
    }
}

/// One thing that does not add up, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of disagreement it is.
    pub kind: FindingKind,
    /// The chain's name, or [`LOG_NAME`].
    pub chain: String,
    /// The row, where one is concerned.
    pub id: Option<RowId>,
    /// The leaf, where one is concerned.
    pub leaf_index: Option<LeafIndex>,
    /// What was expected and what was found, for people. Never a column's content.
    pub detail: String,
}

impl Finding {
    /// Names the finding for ever: the lowercase hex SHA-256 of the line that [`Display`] makes of
    /// it. What is acknowledged is this; a finding that differs in anything is another one.
    ///
    /// [`Display`]: fmt::Display
    pub fn finding_id(&self) -> String {
        hex::encode(Sha256::digest(self.to_string()))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.chain)?;
        if let Some(id) = self.id {
            write!(f, " row {id}")?;
        }
        if let Some(leaf) = self.leaf_index {
            write!(f, " leaf {leaf}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// A row as the database holds it, nothing about it trusted yet.
#[derive(Clone, Copy, Debug)]
pub struct StoredRow<'a> {
    /// One value for each column of the chain, in its order.
    pub values: &'a [Value<'a>],
    /// The stored `prev_hash`, whatever it holds.
    pub prev_hash: &'a [u8],
    /// The stored `row_hash`, whatever it holds.
    pub row_hash: &'a [u8],
}

impl StoredRow<'_> {
    /// Appends the row as JSON, as [`write_json`] does; what its hashes hold that is no text is replaced.
    pub fn write_json(&self, chain: &Chain, leaf_index: Option<LeafIndex>, out: &mut Vec<u8>) {
        let [prev_hash, row_hash] = [self.prev_hash, self.row_hash].map(String::from_utf8_lossy);
        write_json(chain, self.values, (&prev_hash, &row_hash), leaf_index, out);
    }

    /// The row's id, unless the column is not an integer any more.
    pub fn id(&self) -> Option<RowId> {
        match self.values.first() {
            Some(&Value::Integer(id)) => Some(RowId(id)),
            _ => None,
        }
    }
}

/// A row of a chain that is known to be as it was appended: a check goes on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownRow {
    /// Its id.
    pub id: RowId,
    /// Its hash, to which the next row links.
    pub row_hash: RowHash,
    /// When it was appended, in microseconds since 1970.
    pub created_at: i64,
}

/// Checks one chain's rows in the order of their ids.
#[derive(Debug)]
pub struct ChainChecker {
    chain: &'static Chain,
    next_id: i64,
    /// The stored `row_hash` of the row before, and None where nothing is known of it.
    last_hash: Option<Vec<u8>>,
    /// The same, where it is what that row's columns hash to.
    last_computed: Option<RowHash>,
    last_created_at: Option<i64>,
    buffer: Vec<u8>,
}

impl ChainChecker {
    /// From the chain's first row, whose `prev_hash` must be the genesis value.
    pub fn new(chain: &'static Chain) -> Self {
        let genesis = RowHash::genesis(chain.name);
        Self {
            chain,
            next_id: 1,
            last_hash: Some(genesis.to_hex().to_vec()),
            last_computed: Some(genesis),
            last_created_at: None,
            buffer: Vec::new(),
        }
    }

    /// From the row with this id on; the first link and time are then not checked.
    pub fn starting_at(chain: &'static Chain, first: RowId) -> Self {
        if first.0 <= 1 {
            return Self::new(chain);
        }
        Self { next_id: first.0, last_hash: None, last_computed: None, ..Self::new(chain) }
    }

    /// From the row behind one that is known.
    pub fn after(chain: &'static Chain, known: KnownRow) -> Self {
        Self {
            next_id: known.id.0.saturating_add(1),
            last_hash: Some(known.row_hash.to_hex().to_vec()),
            last_computed: Some(known.row_hash),
            last_created_at: Some(known.created_at),
            ..Self::new(chain)
        }
    }

    /// The last row, for a check that goes on behind it; `None` where there is none, or its hash is no
    /// hash any more.
    pub fn head(&self) -> Option<KnownRow> {
        Some(KnownRow {
            id: RowId(self.next_id - 1),
            row_hash: RowHash::from_hex(self.last_hash.as_deref()?)?,
            created_at: self.last_created_at?,
        })
    }

    /// The id that the next row must have; one above the highest seen.
    pub fn next_id(&self) -> RowId {
        RowId(self.next_id)
    }

    /// Checks the next row and adds what is wrong with it to `findings`.
    pub fn check(&mut self, row: &StoredRow<'_>, findings: &mut Vec<Finding>) {
        let chain = self.chain.name;
        let first = findings.len();
        let mut report = |kind, detail| {
            findings.push(Finding {
                kind,
                chain: chain.to_owned(),
                id: row.id(),
                leaf_index: None,
                detail,
            });
        };
        let expected = self.next_id;
        // A row without an id has its finding from its hash, and no place among the others.
        let id = row.id().map_or(expected, |id| id.0);
        if id < expected {
            report(FindingKind::Gap, format!("expected row {expected} here"));
        }

        // After a gap the row that this one links to is unknown: the gap says it already.
        let link_known = self.last_hash.as_deref().filter(|_| id == expected);
        let is_linked = link_known.map(|last| last == row.prev_hash);
        if is_linked == Some(false) {
            report(
                FindingKind::Link,
                match id {
                    1 => format!(
                        "prev_hash is {}, not the chain's genesis value",
                        shown(row.prev_hash)
                    ),
                    _ => format!(
                        "prev_hash is {}, not the row_hash of row {}",
                        shown(row.prev_hash),
                        id - 1
                    ),
                },
            );
        }

        // What was computed for the row before needs no decoding.
        let known = self.last_computed.take().filter(|_| is_linked == Some(true));
        match known.or_else(|| RowHash::from_hex(row.prev_hash)) {
            None => report(
                FindingKind::Content,
                format!("prev_hash is no hash; {}", stored_state(self.chain, row)),
            ),
            Some(prev) => match row_hash_in(self.chain, prev, row.values, &mut self.buffer) {
                Ok(hash) if hash.to_hex() == *row.row_hash => self.last_computed = Some(hash),
                Ok(hash) => report(
                    FindingKind::Content,
                    format!("row_hash is {}, the columns hash to {hash}", shown(row.row_hash)),
                ),
                Err(error) => report(
                    FindingKind::Content,
                    format!("{error}; {}", stored_state(self.chain, row)),
                ),
            },
        }

        if let Some(&Value::Timestamp(created_at)) = row.values.last() {
            if self.last_created_at.is_some_and(|last| created_at < last) {
                report(
                    FindingKind::TimeReversal,
                    "created_at is earlier than that of the row before".to_owned(),
                );
            }
            self.last_created_at = Some(created_at);
        }
        if row.id().is_some() {
            self.next_id = self.next_id.max(id.saturating_add(1));
        }
        let last_hash = self.last_hash.get_or_insert_default();
        last_hash.clear();
        last_hash.extend_from_slice(row.row_hash);
        if id > expected {
            findings.insert(first, missing_rows(chain, RowId(expected), RowId(id - 1)));
        }
    }
}

/// The finding for rows that are missing from a chain. It carries the first one's id, so that it is
/// the same finding when rows come after the gap.
pub fn missing_rows(chain: &str, first: RowId, last: RowId) -> Finding {
    let detail = if first == last {
        format!("row {first} is missing")
    } else {
        format!("rows {first} to {last} are missing")
    };
    Finding {
        kind: FindingKind::Gap,
        chain: chain.to_owned(),
        id: Some(first),
        leaf_index: None,
        detail,
    }
}

/// One row of `ledger_log`, nothing about it trusted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the order of everything appended.
    pub leaf_index: i64,
    /// The chain it points to.
    pub chain: String,
    /// The row it points to.
    pub id: RowId,
    /// The hash of that row, whatever the column holds.
    pub row_hash: Vec<u8>,
}

/// What the comparison of a chain with the log needs of a chain's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRow {
    /// Its id.
    pub id: RowId,
    /// Its stored `row_hash`, whatever it holds.
    pub row_hash: Vec<u8>,
}

/// How the comparison of a chain with the log goes on; see [`LogChecker::compare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The chain's row is dealt with; compare the entry with the chain's next row.
    NextRow,
    /// The entry is dealt with; the chain's row stays for a later entry.
    NextEntry,
    /// Both are dealt with.
    Both,
}

/// Checks the log in leaf order, and each entry against the row that it stands for.
#[derive(Debug)]
pub struct LogChecker {
    chains: Vec<&'static Chain>,
    next_leaf: i64,
}

impl LogChecker {
    /// From the first leaf of the log over these chains; an entry of any other is a finding.
    pub fn new(chains: &[&'static Chain]) -> Self {
        Self::behind(chains, TreeSize(0))
    }

    /// From the leaf behind a tree whose leaves are known.
    pub fn behind(chains: &[&'static Chain], known: TreeSize) -> Self {
        let next_leaf = i64::try_from(known.0).unwrap_or(i64::MAX);
        Self { chains: chains.to_vec(), next_leaf }
    }

    /// The number of leaves up to the highest seen.
    pub fn next_leaf(&self) -> i64 {
        self.next_leaf
    }

    /// Checks that the entry follows the one before, and names a chain.
    pub fn check(&mut self, entry: &LogEntry, findings: &mut Vec<Finding>) {
        let expected = self.next_leaf;
        if entry.leaf_index != expected {
            let detail = if entry.leaf_index > expected + 1 {
                format!("leaves {expected} to {} are missing", entry.leaf_index - 1)
            } else if entry.leaf_index > expected {
                format!("leaf {expected} is missing")
            } else {
                format!("expected leaf {expected} here")
            };
            findings.push(entry.finding(FindingKind::Gap, LOG_NAME, detail));
        }
        self.next_leaf = expected.max(entry.leaf_index.saturating_add(1));
        if !self.chains.iter().any(|chain| chain.name == entry.chain) {
            let detail = "the log names a chain that is not there".to_owned();
            findings.push(entry.finding(FindingKind::LogMismatch, LOG_NAME, detail));
        }
    }

    /// Compares an entry with the next row of its chain that no entry has stood for yet.
    pub fn compare(
        &self,
        entry: &LogEntry,
        row: Option<&ChainRow>,
        findings: &mut Vec<Finding>,
    ) -> Step {
        match row {
            // An id that was changed in the log alone: taken by its word it would leave every row
            // up to it without an entry.
            Some(row) if row.id != entry.id && row.row_hash == entry.row_hash => {
                let detail = format!("the log has this row under id {}", entry.id);
                let finding = entry.finding(FindingKind::LogMismatch, &entry.chain, detail);
                findings.push(Finding { id: Some(row.id), ..finding });
                Step::Both
            }
            Some(row) if row.id < entry.id => {
                findings.push(not_in_log(&entry.chain, row));
                Step::NextRow
            }
            Some(row) if row.id == entry.id => {
                if row.row_hash != entry.row_hash {
                    let detail = format!(
                        "the log holds {}, the row {}",
                        shown(&entry.row_hash),
                        shown(&row.row_hash)
                    );
                    findings.push(entry.finding(FindingKind::LogMismatch, &entry.chain, detail));
                }
                Step::Both
            }
            _ => {
                let hash = shown(&entry.row_hash);
                let detail = format!("the log has a row of hash {hash} that is not in the chain");
                findings.push(entry.finding(FindingKind::LogMismatch, &entry.chain, detail));
                Step::NextEntry
            }
        }
    }
}

impl LogEntry {
    fn finding(&self, kind: FindingKind, chain: &str, detail: String) -> Finding {
        Finding {
            kind,
            chain: chain.to_owned(),
            id: Some(self.id),
            leaf_index: u64::try_from(self.leaf_index).ok().map(LeafIndex),
            detail,
        }
    }
}

/// Stands for all that a row holds which has no hash of its own: a further change of it is another
/// finding.
fn stored_state(chain: &Chain, row: &StoredRow<'_>) -> String {
    let mut state = Vec::new();
    row.write_json(chain, None, &mut state);
    format!("the row as it is stored has the SHA-256 {}", hex::encode(Sha256::digest(state)))
}

/// A stored hash as people see it, whatever the column holds. A finding names what it found, so that
/// a further change of the same row is another finding.
fn shown(hash: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(hash)
}

/// The finding for a row that the log has no entry for.
pub fn not_in_log(chain_name: &str, row: &ChainRow) -> Finding {
    Finding {
        kind: FindingKind::LogMismatch,
        chain: chain_name.to_owned(),
        id: Some(row.id),
        leaf_index: None,
        detail: format!("the row, of hash {}, is not in the log", shown(&row.row_hash)),
    }
}
