//! Where producers put their signals, and what became of them: one interface for one record or
//! many, in this process or over HTTP, over the one writer.
//!
//! ```no_run
//! use audit_ledger::chains::signal_audit_ledger::{Direction, ProducedSignal, Record};
//! use audit_ledger::clock::Clock;
//! use audit_ledger::decimal;
//! use audit_ledger::sink::{SignalSink, SinkSettings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = Clock::system();
//! let sink = SignalSink::connect("postgresql://app_trading@localhost/ledger", SinkSettings::of("ema"), clock)?;
//! let signal = ProducedSignal {
//!     conviction: decimal::parse("82.5", 7, 4)?,
//!     price: Some(decimal::parse("189.12", 28, 10)?),
//!     payload_json: r#"{"fast":8,"slow":21}"#.to_owned(),
//!     ..ProducedSignal::new("ema", "ema-1", "AAPL", Direction::Long, clock.now())
//! };
//! for recorded in sink.record([Record::Signal(signal)]).await {
//!     println!("{:?}", recorded?.receipt);
//! }
//! sink.close().await;
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::appender::{AppendError, Appender, BatchSettings};
use crate::body::json::check_document;
use crate::chains::constraints;
use crate::chains::signal_audit_ledger::Record;
use crate::chains::{Appended, Lockdown, NewRow, Receipt};
use crate::clock::Clock;
use crate::rows::broken_rule;
use crate::store::{Database, StoreError};

/// Records that one call over HTTP takes.
pub const MAX_RECORDS: usize = 10_000;

/// How a sink records.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// Who records: the rows' `recorded_by`.
    pub recorded_by: String,
    /// How many records are committed together, and how long one waits for others.
    pub batch: BatchSettings,
    /// How long a call waits for its commits.
    pub within: Duration,
}

impl SinkSettings {
    /// The usual settings, for a producer of this name: batches of what is there, up to a thousand,
    /// and ten seconds for a call.
    pub fn of(recorded_by: &str) -> Self {
        let batch = BatchSettings::default();
        Self { recorded_by: recorded_by.to_owned(), batch, within: Duration::from_secs(10) }
    }
}

/// A record that is in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Where it stands.
    pub receipt: Receipt,
    /// Whether it was there before this call.
    pub is_duplicate: bool,
}

/// Why a record is not in the ledger, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// It breaks a rule: sent again it is refused again.
    #[error("{field} {rule}")]
    Invalid {
        /// The member at fault.
        field: String,
        /// What is wrong with it.
        rule: String,
    },
    /// It names a row that is not there (AUD-008).
    #[error("{field} {rule}")]
    UnknownReference {
        /// The member that names it.
        field: &'static str,
        /// Which row it would be.
        rule: &'static str,
    },
    /// Its key is taken by other content (IDP-001).
    #[error("signal_id was recorded before with other content, in row {}", existing.id)]
    Conflict {
        /// The row that has it.
        existing: Receipt,
    },
    /// The ledger is locked down (AUD-009).
    #[error("{0}")]
    Locked(Lockdown),
    /// The database is away or slow, or contradicts itself. The record may be in the ledger; sent
    /// again it is then a duplicate.
    #[error(transparent)]
    NotRecorded(AppendError),
}

/// Where producers put their records. Clones of its [`Appender`] share its one writer.
#[derive(Debug)]
pub struct SignalSink {
    appender: Appender,
    writer: JoinHandle<()>,
    settings: SinkSettings,
    clock: Clock,
}

impl SignalSink {
    /// A sink of its own on this database: a `postgresql://` URL with the login `app_trading`. It
    /// connects with the first record, and needs tokio's runtime.
    pub fn connect(url: &str, settings: SinkSettings, clock: Clock) -> Result<Self, StoreError> {
        let database = Database::from_url(url)?;
        let (appender, writer) = Appender::start(database, settings.batch, clock);
        Ok(Self { appender, writer, settings, clock })
    }

    /// Records one signal or outcome, or many in their order. Each has its answer, in the same order,
    /// and none before its commit. One that is refused keeps no other out.
    pub async fn record(
        &self,
        records: impl IntoIterator<Item = Record>,
    ) -> Vec<Result<Recorded, SinkError>> {
        let received_at = self.clock.now();
        let rows = records.into_iter().map(|record| {
            check_document(record.payload_json()).map_err(|fault| SinkError::Invalid {
                field: "payload_json".to_owned(),
                rule: format!("is not a JSON text: {}", fault.detail),
            })?;
            let row = record.new_row(&self.settings.recorded_by, received_at);
            row.map_err(violated).and_then(checked)
        });
        record_all(&self.appender, rows.collect(), Instant::now() + self.settings.within).await
    }

    /// Waits until everything that was recorded is committed, and ends.
    pub async fn close(self) {
        drop(self.appender);
        // Its calls have been answered; it has only its connection to close.
        let _ = timeout(self.settings.within, self.writer).await;
    }
}

/// The row, where its columns can hold its values. The database would find out, too, but refuse or
/// misread the whole batch.
fn checked(row: NewRow) -> Result<NewRow, SinkError> {
    let mut columns = row.chain.columns.iter().zip(&row.values);
    let broken =
        columns.find_map(|(column, value)| Some((column.name, broken_rule(column.ty, value)?)));
    match broken {
        Some((field, rule)) => Err(SinkError::Invalid { field: field.to_owned(), rule }),
        None => Ok(row),
    }
}

/// Appends the rows that there are, and answers for all.
pub async fn record_all<E: From<SinkError>>(
    appender: &Appender,
    rows: Vec<Result<NewRow, E>>,
    deadline: Instant,
) -> Vec<Result<Recorded, E>> {
    let mut wanted = Vec::with_capacity(rows.len());
    let refused: Vec<Option<E>> =
        rows.into_iter().map(|row| row.map(|row| wanted.push(row)).err()).collect();
    let mut answers = appender.append_all(wanted, deadline).await.into_iter();
    let answer = |refused: Option<E>| match refused {
        Some(error) => Err(error),
        None => match answers.next() {
            Some(Ok(done)) => outcome(done).map_err(E::from),
            Some(Err(error)) => Err(not_recorded(error).into()),
            None => unreachable!("every row has its answer"),
        },
    };
    refused.into_iter().map(answer).collect()
}

fn outcome(appended: Appended) -> Result<Recorded, SinkError> {
    match appended {
        Appended::Recorded(receipt) => Ok(Recorded { receipt, is_duplicate: false }),
        Appended::Duplicate(existing) => {
            Ok(Recorded { receipt: existing.receipt, is_duplicate: true })
        }
        Appended::Conflict(existing) => Err(SinkError::Conflict { existing: existing.receipt }),
        Appended::Locked(lockdown) => Err(SinkError::Locked(lockdown)),
        Appended::UnknownReference(constraint) => Err(violated(constraint)),
    }
}

fn not_recorded(error: AppendError) -> SinkError {
    match error {
        AppendError::Refused { constraint: Some(ref name), .. }
            if constraints::by_name(name).is_some() =>
        {
            violated(name)
        }
        error => SinkError::NotRecorded(error),
    }
}

fn violated(name: &str) -> SinkError {
    match constraints::by_name(name) {
        Some(constraint) if constraint.kind == constraints::Kind::UnknownReference => {
            SinkError::UnknownReference { field: constraint.field, rule: constraint.rule }
        }
        Some(constraint) => SinkError::Invalid {
            field: constraint.field.to_owned(),
            rule: constraint.rule.to_owned(),
        },
        None => {
            SinkError::Invalid { field: "the record".to_owned(), rule: format!("violates {name}") }
        }
    }
}
