//! The only writer. It commits what has queued up in one transaction (group commit): many
//! requests, one fsync, and one holder of the ledger's lock in this process.
//!
//! It runs on a task of its own, so that a client that hangs up cannot leave a transaction
//! half-way. A row is answered after its commit and never before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::chains::{Appended, NewRow, Receipt};
use crate::clock::Clock;
use crate::store::append::{AppendConnection, Committed};
use crate::store::{Database, StoreError, time_is_up, within};

/// Rows that may wait; one more is answered at once that the ledger is overloaded.
pub const QUEUE_ROWS: usize = 8192;
/// Bytes of documents that may wait.
const QUEUE_BYTES: u32 = 64 << 20;
/// Bytes of rows that wait and came in numbers. They have a queue's worth of their own, so that they
/// keep nobody out who has one row; each counts as at least this much, which bounds their number.
const BULK_BYTES: u32 = 32 << 20;
const BULK_ROW_BYTES: u32 = 8 << 10;
/// Bytes of documents in one batch, beyond which it is closed.
const BATCH_BYTES: usize = 8 << 20;
/// The longest that a transaction or a commit may take before its connection is given up. Senders
/// are answered after 2.5 s; the lock's own timeout is 2 s.
const STATEMENT_LIMIT: Duration = Duration::from_millis(2_200);
/// Pause before a failed batch is tried again; doubled each time up to the longest.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_RETRY_PAUSE: Duration = Duration::from_millis(400);
/// How long the writer tries to record an event of its own.
const OWN_ROW_LIMIT: Duration = Duration::from_secs(30);

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub struct BatchSettings {
    /// Rows in one transaction at most.
    pub size: usize,
    /// How long a batch waits for more rows once it has its first; zero takes what is there.
    pub delay: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { size: 1000, delay: Duration::ZERO }
    }
}

/// Why a row was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The database is away, slow, or the queue is full. The row may still be recorded where
    /// its commit was under way; sent again it is then a duplicate.
    #[error("the ledger cannot record this now: {0}")]
    Unavailable(String),
    /// What this row meets in the ledger contradicts what the ledger guarantees. Sent again it fares
    /// the same until somebody has looked; a check is asked for, and what it finds locks the ledger.
    #[error("the ledger contradicts itself where this is to be recorded, and is being checked")]
    Contradiction,
    /// The database refuses this row whenever it is sent.
    #[error("the database refuses this row ({sqlstate})")]
    Refused {
        /// PostgreSQL's code for the condition.
        sqlstate: String,
        /// The constraint, where one was violated.
        constraint: Option<String>,
    },
}

type Reply = oneshot::Sender<Result<Appended, AppendError>>;

struct Pending {
    row: NewRow,
    waiting: Waiting,
    /// One of the queue's [`QUEUE_ROWS`] places, until the writer takes the row.
    place: Option<OwnedSemaphorePermit>,
    /// The row's share of the bytes that may wait.
    _share: Option<OwnedSemaphorePermit>,
}

/// Who wants to know what becomes of a row.
enum Waiting {
    /// Whoever appends it, until their deadline.
    Caller(Reply),
    /// The writer itself, until then.
    Writer(Instant),
}

impl Pending {
    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool {
        match &self.waiting {
            Waiting::Caller(reply) => !reply.is_closed(),
            Waiting::Writer(until) => Instant::now() < *until,
        }
    }

    /// Out of the queue, where another one may take its place.
    fn taken(mut self) -> Self {
        self.place = None;
        self
    }

    fn answer(self, answer: Result<Appended, AppendError>) {
        if let Waiting::Caller(reply) = self.waiting {
            // Nobody listens any more where the deadline has passed.
            let _ = reply.send(answer);
        }
    }
}

/// Handle to the writer; clones share it.
#[derive(Clone, Debug)]
pub struct Appender {
    queue: mpsc::Sender<Pending>,
    /// [`QUEUE_ROWS`] and [`QUEUE_BYTES`], as far as nobody has them.
    rows: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bulk_bytes: Arc<Semaphore>,
    alarm: Arc<Notify>,
    commits: watch::Receiver<u64>,
}

impl Appender {
    /// Starts the writer. It ends when the last handle is dropped and the queue is empty, and
    /// then the returned task finishes.
    pub fn start(
        database: Database,
        settings: BatchSettings,
        clock: Clock,
    ) -> (Self, JoinHandle<()>) {
        let (queue, rows) = mpsc::channel(QUEUE_ROWS + (BULK_BYTES / BULK_ROW_BYTES) as usize);
        let alarm = Arc::new(Notify::new());
        let (committed_to, commits) = watch::channel(0);
        let writer = Writer {
            database,
            settings,
            clock,
            connection: None,
            own_rows: VecDeque::new(),
            alarm: Arc::clone(&alarm),
            committed: committed_to,
        };
        let appender = Self {
            queue,
            rows: Arc::new(Semaphore::new(QUEUE_ROWS)),
            bytes: Arc::new(Semaphore::new(QUEUE_BYTES as usize)),
            bulk_bytes: Arc::new(Semaphore::new(BULK_BYTES as usize)),
            alarm,
            commits,
        };
        (appender, writer.start(rows))
    }

    /// Notified when the database refuses what the ledger itself gave: ids, links, hashes; or has
    /// other values than the ledger wrote. Then it does not add up, and wants a check. Once for a
    /// batch, however many of its rows show it.
    pub fn alarm(&self) -> Arc<Notify> {
        Arc::clone(&self.alarm)
    }

    /// Changes with every commit.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Appends a row and returns once it is committed, at the latest at the deadline.
    pub async fn append(
        &self,
        row: impl Into<NewRow>,
        deadline: Instant,
    ) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(row.into(), reply).inspect_err(|_| {
            counter!("ledger_append_rejected_total").increment(1);
        })?;
        answer_of(answer, deadline).await
    }

    /// Appends rows in their order and returns, for each, once it is committed, at the latest at the
    /// deadline. They need not be committed together. Where too many rows wait already, these do, too.
    pub async fn append_all(
        &self,
        rows: Vec<NewRow>,
        deadline: Instant,
    ) -> Vec<Result<Appended, AppendError>> {
        let mut answers = Vec::with_capacity(rows.len());
        let mut refused = None;
        for row in rows {
            if refused.is_none() {
                let (reply, answer) = oneshot::channel();
                match timeout_at(deadline, self.enqueue_bulk(row, reply)).await {
                    Ok(Ok(())) => {
                        answers.push(Ok(answer));
                        continue;
                    }
                    Ok(Err(error)) => refused = Some(error),
                    Err(_) => refused = Some(full("rows")),
                }
            }
            counter!("ledger_append_rejected_total").increment(1);
            answers.push(Err(refused.clone().unwrap_or_else(|| full("rows"))));
        }
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in answers {
            outcomes.push(match answer {
                Ok(answer) => answer_of(answer, deadline).await,
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    async fn enqueue_bulk(&self, row: NewRow, reply: Reply) -> Result<(), AppendError> {
        let bytes = u32::try_from(row.size_bytes()).unwrap_or(u32::MAX);
        let bytes = bytes.clamp(BULK_ROW_BYTES, BULK_BYTES);
        let share = Arc::clone(&self.bulk_bytes).acquire_many_owned(bytes).await;
        let share = share.map_err(|_| full("bytes"))?;
        let waiting = Waiting::Caller(reply);
        let pending = Pending { row, waiting, place: None, _share: Some(share) };
        self.queue.send(pending).await.map_err(|_| stopping())
    }

    fn enqueue(&self, row: NewRow, reply: Reply) -> Result<(), AppendError> {
        let bytes = u32::try_from(row.size_bytes()).unwrap_or(u32::MAX).min(QUEUE_BYTES);
        // Rows that came in numbers have places of their own in the channel.
        let place = Arc::clone(&self.rows).try_acquire_owned().map_err(|_| full("rows"))?;
        let share = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        let share = share.map_err(|_| full("bytes"))?;
        let waiting = Waiting::Caller(reply);
        let pending = Pending { row, waiting, place: Some(place), _share: Some(share) };
        self.queue.try_send(pending).map_err(|error| match error {
            TrySendError::Full(_) => full("rows"),
            TrySendError::Closed(_) => stopping(),
        })
    }
}

fn full(what: &str) -> AppendError {
    AppendError::Unavailable(format!("too many {what} are waiting"))
}

fn stopping() -> AppendError {
    AppendError::Unavailable("the service is stopping".to_owned())
}

async fn answer_of(
    answer: oneshot::Receiver<Result<Appended, AppendError>>,
    deadline: Instant,
) -> Result<Appended, AppendError> {
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(AppendError::Unavailable("the writer has ended".to_owned())),
        Err(_) => {
            counter!("ledger_append_timeouts_total").increment(1);
            Err(AppendError::Unavailable("the database did not answer in time".to_owned()))
        }
    }
}

/// Appends one row through a writer of its own, for a command.
pub async fn append_alone(
    database: &Database,
    row: impl Into<NewRow>,
    clock: Clock,
) -> Result<(), AppendError> {
    let (appender, writer) = Appender::start(database.clone(), BatchSettings::default(), clock);
    let answer = appender.append(row, Instant::now() + OWN_ROW_LIMIT).await;
    drop(appender);
    // It ends once its queue is empty; where it cannot, the command does.
    let _ = timeout(STATEMENT_LIMIT, writer).await;
    answer.map(drop)
}

struct Writer {
    database: Database,
    settings: BatchSettings,
    clock: Clock,
    connection: Option<AppendConnection>,
    /// Rows of the writer's own, for the next batch.
    own_rows: VecDeque<NewRow>,
    /// See [`Appender::alarm`].
    alarm: Arc<Notify>,
    /// See [`Appender::commits`].
    committed: watch::Sender<u64>,
}

/// What became of one row of a transaction that is committed: an error is a contradiction.
type Outcome = Result<Appended, StoreError>;

/// Why a transaction was not committed.
enum Failure {
    /// One of its rows is at fault, or meets what contradicts the ledger. Others may do better on
    /// their own, and must not wait for it.
    Row(StoreError),
    /// Nothing about its rows; to be tried again.
    Passing(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_fault_of_a_row() || error.is_contradiction() {
            Self::Row(error)
        } else {
            Self::Passing(error)
        }
    }
}

/// Rows of a batch that could not be appended because the ledger contradicts itself.
struct Contradictions<'a> {
    alarm: &'a Notify,
    is_raised: bool,
}

impl Contradictions<'_> {
    /// The first of a batch raises the alarm and is logged; the others are mostly more of the same.
    fn tell(&mut self, error: &StoreError) -> AppendError {
        counter!("ledger_append_contradictions_total").increment(1);
        if !std::mem::replace(&mut self.is_raised, true) {
            tracing::error!(%error, "an append contradicts the ledger");
            self.alarm.notify_one();
        }
        AppendError::Contradiction
    }
}

/// The refusal of a lone row.
fn refused(error: StoreError) -> AppendError {
    let code = error.ledger_code();
    let (sqlstate, constraint) = match error {
        StoreError::Refused { sqlstate, constraint, .. } => (sqlstate, constraint),
        _ => (String::new(), None),
    };
    tracing::warn!(code, sqlstate, constraint, "the database refused a row");
    AppendError::Refused { sqlstate, constraint }
}

impl Writer {
    /// Runs on a thread of its own: among the tasks of requests it would wait for their turn after each
    /// round trip to the database, and every row of the batch with it.
    fn start(self, queue: mpsc::Receiver<Pending>) -> JoinHandle<()> {
        let (to, ended) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the writer can have a runtime");
        let run = move || {
            runtime.block_on(self.run(queue));
            drop(to);
        };
        std::thread::Builder::new()
            .name("appender".to_owned())
            .spawn(run)
            .expect("the writer can have a thread");
        tokio::spawn(async move {
            // It ends with the thread, however that ends.
            let _ = ended.await;
        })
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Pending>) {
        while let Some(batch) = self.next_batch(&mut queue).await {
            self.append_batch(batch).await;
        }
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// Waits for a row and takes what else is there, up to the batch's bounds.
    async fn next_batch(&mut self, queue: &mut mpsc::Receiver<Pending>) -> Option<Vec<Pending>> {
        let until = Instant::now() + OWN_ROW_LIMIT;
        let waiting = || Waiting::Writer(until);
        let own = |row| Pending { row, waiting: waiting(), place: None, _share: None };
        let mut batch: Vec<_> = self.own_rows.drain(..).map(own).collect();
        if batch.is_empty() {
            batch.push(queue.recv().await?.taken());
        }
        let mut bytes: usize = batch.iter().map(|pending| pending.row.size_bytes()).sum();
        let full_at = Instant::now() + self.settings.delay;
        while batch.len() < self.settings.size && bytes < BATCH_BYTES {
            let next = match queue.try_recv() {
                Ok(next) => next,
                Err(_) if self.settings.delay.is_zero() => break,
                Err(_) => match timeout_at(full_at, queue.recv()).await {
                    Ok(Some(next)) => next,
                    _ => break,
                },
            };
            bytes += next.row.size_bytes();
            batch.push(next.taken());
        }
        gauge!("ledger_append_queue_rows").set(u32::try_from(queue.len()).unwrap_or(u32::MAX));
        Some(batch)
    }

    /// Appends a batch. Where a row is at fault, the halves are appended on their own, down to
    /// the row that is refused alone; where the database is away, the batch is tried again as
    /// long as somebody waits for it.
    async fn append_batch(&mut self, batch: Vec<Pending>) {
        let alarm = Arc::clone(&self.alarm);
        let mut contradictions = Contradictions { alarm: &alarm, is_raised: false };
        let mut parts = vec![batch];
        let mut pause = RETRY_PAUSE;
        while let Some(mut part) = parts.pop() {
            part.retain(Pending::is_wanted);
            if part.is_empty() {
                continue;
            }
            match self.transact(&part).await {
                Ok(outcomes) => {
                    for (pending, outcome) in part.into_iter().zip(outcomes) {
                        let answer = outcome.map_err(|error| contradictions.tell(&error));
                        pending.answer(answer);
                    }
                }
                Err(Failure::Row(_)) if part.len() > 1 => {
                    let second_half = part.split_off(part.len() / 2);
                    parts.push(second_half);
                    parts.push(part);
                }
                Err(Failure::Row(error)) => {
                    let error = if error.is_contradiction() {
                        contradictions.tell(&error)
                    } else {
                        refused(error)
                    };
                    for pending in part {
                        pending.answer(Err(error.clone()));
                    }
                }
                Err(Failure::Passing(error)) => {
                    counter!("ledger_append_failures_total").increment(1);
                    tracing::error!(%error, rows = part.len(), "appending failed");
                    sleep(pause).await;
                    pause = LONGEST_RETRY_PAUSE.min(pause * 2);
                    parts.push(part);
                }
            }
        }
    }

    /// One transaction over all these rows, committed or not at all.
    async fn transact(&mut self, batch: &[Pending]) -> Result<Vec<Outcome>, Failure> {
        let started = Instant::now();
        let rows: Vec<_> = batch.iter().map(|pending| &pending.row).collect();
        let clock = self.clock;
        // What refuses a connection refuses it whatever is to be appended.
        let connection = self.connection().await.map_err(Failure::Passing)?;
        let prepared = match limited("append", connection.prepare(&rows, clock)).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.abandon(error).await),
        };
        let Some(witness) = &prepared.witness else {
            self.roll_back().await;
            return Ok(prepared.outcomes);
        };
        let committed = match timeout(STATEMENT_LIMIT, connection.commit()).await {
            Ok(committed) => committed,
            Err(_) => Committed::Unknown(time_is_up("commit", STATEMENT_LIMIT)),
        };
        match committed {
            Committed::Yes => {}
            Committed::No(error) => return Err(self.abandon(error).await),
            Committed::Unknown(error) => {
                tracing::error!(%error, "the outcome of a commit is unknown: looking");
                counter!("ledger_commit_unknown_total").increment(1);
                self.connection = None;
                if !self.was_committed(witness, batch).await {
                    return Err(Failure::Passing(error));
                }
            }
        }
        self.committed.send_modify(|commits| *commits += 1);
        histogram!("ledger_append_seconds").record(started.elapsed());
        histogram!("ledger_append_batch_rows")
            .record(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        Ok(prepared.outcomes)
    }

    /// Looks for a row of a transaction whose commit was not answered, until the database says
    /// yes or no, or nobody waits for the batch any more.
    async fn was_committed(&mut self, witness: &Receipt, batch: &[Pending]) -> bool {
        while batch.iter().any(Pending::is_wanted) {
            let found = async {
                let connection = self.connection().await?;
                limited("is_committed", connection.is_committed(witness)).await
            };
            match found.await {
                Ok(found) => return found,
                Err(error) => {
                    tracing::error!(%error, "cannot look for a commit yet");
                    self.abandon(error).await;
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
        false
    }

    async fn connection(&mut self) -> Result<&mut AppendConnection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => limited("connect", AppendConnection::connect(&self.database)).await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Ends a transaction that failed before its commit. Whatever happened, it leaves no trace.
    async fn abandon(&mut self, error: StoreError) -> Failure {
        if error.sqlstate().is_none() && !error.is_contradiction() {
            // The connection broke, or is in the middle of something; the server rolls back.
            self.connection = None;
        }
        self.roll_back().await;
        if error.is_lock_timeout() {
            self.end_idle_lock_holders().await;
        }
        error.into()
    }

    /// Rolls back, or closes the connection, so that the server does it.
    async fn roll_back(&mut self) {
        if let Some(connection) = &mut self.connection
            && limited("roll_back", connection.roll_back()).await.is_err()
        {
            self.connection = None;
        }
    }

    async fn end_idle_lock_holders(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        match limited("end_idle_lock_holders", connection.end_idle_lock_holders()).await {
            Ok(ended) => {
                for holder in ended {
                    tracing::error!(holder, "ended a session that sat idle on the ledger's lock");
                    let event = NewSecurityEvent {
                        event_type: EventType::LockHolderEnded,
                        actor: "system".to_owned(),
                        subject: Some(holder),
                        details: serde_json::json!({}),
                        source_ip: None,
                    };
                    self.own_rows.push_back(event.into());
                }
            }
            Err(error) => tracing::error!(%error, "cannot end who holds the ledger's lock"),
        }
    }
}

async fn limited<T>(
    statement: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(STATEMENT_LIMIT, statement, work).await
}
