//! The service, from its start to its end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use crate::appender::{AppendError, Appender};
use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::clock::Clock;
use crate::config::{CheckpointSettings, Config, DEFAULT_RETENTION_DAYS};
use crate::http::{self, Checkpoints, DRAIN, RateLimits, Service};
use crate::integrity::checkpointer::{Checkpointer, Wake};
use crate::integrity::guards::check_guards;
use crate::integrity::outside::Subject;
use crate::integrity::publisher::publish;
use crate::integrity::signing::SigningKeys;
use crate::integrity::watch::{Watched, watch};
use crate::open::{OpenError, OpenLedger};
use crate::postgres::Access;
use crate::store::Database;
use crate::store::guards::remember_drift;
use crate::store::retention::recorded_retention_days;
use crate::webhook::Source;
use crate::webhook::auth::Method;
use crate::webhook::source::Mapping;

/// How long the service waits for its first checkpoint.
const FIRST_CHECKPOINT_WITHIN: Duration = Duration::from_secs(15);
/// How long the service waits for an event of its own to be recorded, at its start and end.
const EVENT_WITHIN: Duration = Duration::from_secs(10);

/// The service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {source}; set {variable} to another address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The variable that says so.
        variable: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The server broke.
    #[error("the server ended: {0}")]
    Server(io::Error),
}

/// Runs the service until it is told to stop by SIGINT or SIGTERM. A second one does not wait
/// for what is under way.
pub async fn serve(config: Config, clock: Clock) -> Result<(), ServeError> {
    // Before anything is started: a port that is taken is told at once.
    let listener = listen(config.listen, "LEDGER_LISTEN")?;
    let metrics_listener =
        config.metrics_listen.map(|at| listen(at, "LEDGER_METRICS_LISTEN")).transpose()?;
    let stop = StopSignals::new().map_err(ServeError::Server)?;
    let ledger = tokio::select! {
        ledger = OpenLedger::open(&config, Access::Own, clock) => ledger?,
        () = stop.first() => return Ok(()),
    };
    let served = tokio::select! {
        served = run(&ledger, config, clock, listener, metrics_listener, &stop) => served,
        () = stop.second() => {
            tracing::warn!("told to stop twice: not waiting for what is under way");
            Ok(())
        }
    };
    ledger.close().await;
    served
}

fn listen(address: SocketAddr, variable: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).map_err(|source| ServeError::Listen { address, variable, source })
}

async fn run(
    ledger: &OpenLedger,
    mut config: Config,
    clock: Clock,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
    stop: &StopSignals,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Server)?;
    let sources = ledger.sources(&mut config)?;
    let keys = ledger.signing_keys(&config)?;
    let subject = ledger.subject(&mut config, keys.as_ref())?;
    let admin_key = ledger.admin_key().await?;
    let welcome = welcome(address, &sources, admin_key.as_deref(), keys.as_ref());
    let (appender, writer) = Appender::start(ledger.app.clone(), config.batch, clock);
    let started = record_event(&appender, EventType::ServiceStarted, about_this_process()).await;
    if let Err(error) = started {
        // A ledger too damaged for that is checked, locked down, and keeps deliveries.
        tracing::error!(%error, "the start of the service could not be recorded");
    }
    tell_guard_drift(&ledger.app, &appender).await;
    tell_retention(&ledger.app, &appender, config.retention_days).await;
    let mut watching = JoinSet::new();
    let wake = Wake::default();
    start_checkpoints(&mut watching, &subject, keys, &config.checkpoints, &appender, clock, &wake)
        .await;
    let service = Service {
        checkpoints: Checkpoints {
            outside: subject.outside.clone(),
            wake,
            log_is_public: config.checkpoints.log_is_public,
        },
        replica: subject.replica.clone(),
        sources: Service::by_name(sources),
        trusted_proxies: config.trusted_proxies.into(),
        limits: RateLimits::new(config.rates),
        max_body_bytes: config.max_body_bytes,
        ..Service::new(ledger.app.clone(), appender.clone(), clock)
    };
    watch(
        &mut watching,
        &Watched {
            subject,
            clock,
            check_every: config.check_every,
            check_mode: config.check_mode,
            alarm: appender.alarm(),
            lockdown: service.lockdown.clone(),
        },
    );

    let handle = Handle::new();
    let mut servers = JoinSet::new();
    let has_own_metrics = metrics_listener.is_some();
    if let Some(listener) = metrics_listener {
        let routes = http::metrics_only(&service);
        servers.spawn(http::serve(listener, routes, handle.clone()));
    }
    let routes = http::router(&service, !has_own_metrics);
    servers.spawn(http::serve(listener, routes, handle.clone()));
    let feed = Arc::clone(&service.feed);
    // The writer ends with the last handle to it.
    drop(service);
    crate::cli::say(welcome);

    let mut ended = tokio::select! {
        () = stop.first() => Ok(()),
        Some(server) = servers.join_next() => end_of(server),
    };
    tracing::info!("stopping");
    drop(watching);
    feed.close();
    handle.graceful_shutdown(Some(DRAIN));
    while let Some(server) = servers.join_next().await {
        ended = ended.and(end_of(server));
    }
    let stopped = record_event(&appender, EventType::ServiceStopped, about_this_process()).await;
    if let Err(error) = stopped {
        tracing::error!(%error, "the end of the service could not be recorded");
    }
    drop(appender);
    if timeout(EVENT_WITHIN, writer).await.is_err() {
        tracing::error!("the writer did not come to an end");
    }
    ended
}

fn end_of(server: Result<io::Result<()>, JoinError>) -> Result<(), ServeError> {
    match server {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(ServeError::Server(error)),
        Err(panic) => Err(ServeError::Server(io::Error::other(panic))),
    }
}

/// Starts to make checkpoints and to give them to the anchors. The first is made before anything is
/// served, so that a database which is not what anchors hold begins locked; where that takes too long,
/// it goes on beside.
async fn start_checkpoints(
    tasks: &mut JoinSet<()>,
    subject: &Subject,
    keys: Option<SigningKeys>,
    settings: &CheckpointSettings,
    appender: &Appender,
    clock: Clock,
    wake: &Wake,
) {
    let anchors = &subject.outside.anchors;
    let (Some(keys), Some(every)) = (keys, settings.every) else {
        tracing::warn!(
            "no checkpoints are made here: without LEDGER_SIGNING_KEY, or with an interval of 0, nothing \
             outside the database shows what it was"
        );
        return;
    };
    if anchors.is_empty() {
        tracing::warn!("LEDGER_ANCHORS names no place outside the database that keeps checkpoints");
    }
    let mut checkpointer = Checkpointer::new(subject.clone(), keys, appender.clone(), clock);
    match timeout(FIRST_CHECKPOINT_WITHIN, checkpointer.round()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(%error, "no checkpoint could be made"),
        Err(_) => {
            tracing::warn!("the first checkpoint takes its time; the service starts meanwhile");
        }
    }
    tasks.spawn(checkpointer.run(every, wake.clone()));
    for at in 0..anchors.len() {
        let (database, anchors) = (subject.database.clone(), Arc::clone(anchors));
        tasks.spawn(publish(database, anchors, at, clock, appender.alarm()));
    }
}

/// Tells which guards are not as the migrations made them. Drift alone never keeps the service from
/// recording: what it records is still proved, row by row.
async fn tell_guard_drift(app: &Database, appender: &Appender) {
    let check = match timeout(EVENT_WITHIN, check_guards(app)).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => return tracing::error!(%error, "the guards could not be checked"),
        Err(_) => return tracing::error!("the guards could not be checked in time"),
    };
    if let Some(note) = check.note {
        tracing::warn!("{note}");
    }
    for finding in &check.findings {
        tracing::error!("{finding}");
    }
    if !check.findings.is_empty() {
        let told = record_event(appender, EventType::GuardDrift, check.summary()).await;
        if let Err(error) = told {
            tracing::error!(%error, "the drift of the guards could not be recorded");
        }
    }
    if check.objects > 0
        && let Err(error) = remember_drift(app).await
    {
        tracing::warn!(%error, "the drift of the guards could not be kept");
    }
}

/// Records that rows are to be kept for another time than before. Before the first such record it was
/// the default.
async fn tell_retention(app: &Database, appender: &Appender, days: u32) {
    let before = match timeout(EVENT_WITHIN, recorded_retention_days(app)).await {
        Ok(Ok(before)) => before.unwrap_or(DEFAULT_RETENTION_DAYS.into()),
        Ok(Err(error)) => return tracing::error!(%error, "the retention cannot be compared"),
        Err(_) => return tracing::error!("the retention could not be compared in time"),
    };
    if before == i64::from(days) {
        return;
    }
    tracing::info!(days, before, "rows are to be kept for another time");
    let details = json!({ "days": days, "before": before });
    if let Err(error) = record_event(appender, EventType::RetentionChanged, details).await {
        tracing::error!(%error, "the change of the retention could not be recorded");
    }
}

fn about_this_process() -> serde_json::Value {
    json!({ "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id() })
}

async fn record_event(
    appender: &Appender,
    event_type: EventType,
    details: serde_json::Value,
) -> Result<(), AppendError> {
    let event = NewSecurityEvent {
        event_type,
        actor: "system".to_owned(),
        subject: None,
        details,
        source_ip: None,
    };
    appender.append(event, Instant::now() + EVENT_WITHIN).await.map(drop)
}

/// What a new user sees: where the service is, a line that records a first signal, and one that
/// asks with the first key, which is read from its file.
fn welcome(
    address: SocketAddr,
    sources: &[Source],
    admin_key: Option<&Path>,
    keys: Option<&SigningKeys>,
) -> String {
    let signs = |source: &&Source| {
        let takes_it = source.methods.contains(&Method::Hmac) && source.allow_from.is_empty();
        takes_it && source.mapping == Mapping::default()
    };
    let signed = sources.iter().find(signs).and_then(|s| Some((&s.name, s.secrets.first()?)));
    let first_signal = signed.map_or_else(String::new, |(name, secret)| {
        let body = r#"{"signal_id":"first-1","symbol":"BTCUSD","side":"BUY","price":"64250.5","quantity":"0.125"}"#;
        let curl = crate::cli::sign::curl(&format!("http://{address}"), name, secret, body);
        format!("Record a first signal:\n\n{curl}\n\n")
    });
    let first_question = admin_key.map_or_else(String::new, |path| {
        let path = path.display().to_string();
        let quoted = path.replace('\'', r"'\''");
        format!(
            "Ask with the admin key, which is in {path}:\n\n\
             curl -sS http://{address}/v1/integrity/checks \\\n  \
             -H \"Authorization: Bearer $(cat '{quoted}')\"\n\n"
        )
    });
    let vkeys = keys.map_or_else(String::new, |keys| {
        let lines: Vec<_> = keys.vkeys().iter().map(|vkey| format!("  {vkey}\n")).collect();
        format!(
            "Whoever verifies the log's checkpoints needs its verifier key:\n\n{}\n",
            lines.concat()
        )
    });
    format!(
        "audit-ledger {version} serves http://{address}  (API: http://{address}/docs)\n\n\
         Dashboard:  http://{address}/\n\n\
         {first_signal}{first_question}{vkeys}Check every row of the ledger:  audit-ledger verify\n\
         Ctrl-C stops the service.",
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// SIGINT and SIGTERM.
struct StopSignals {
    received: tokio::sync::watch::Receiver<u32>,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (count, received) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { received })
    }

    async fn first(&self) {
        Self::wait(self.received.clone(), 1).await;
    }

    async fn second(&self) {
        Self::wait(self.received.clone(), 2).await;
    }

    async fn wait(mut received: tokio::sync::watch::Receiver<u32>, count: u32) {
        // The sender lives as long as the runtime.
        let _ = received.wait_for(|received| *received >= count).await;
    }
}
