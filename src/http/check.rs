//! A new check of the ledger, which can be watched while it runs.

use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ledger_verifier::Finding;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::Service;
use super::auth::Authorized;
use super::page::Parameters;
use super::problem::{Code, Problem, RefusedParameter, RefusedUnderV1, as_part_of_request};
use super::streamed::{EVENTS, HEARTBEAT_EVERY, To, answer, send, wants_events, write_event};
use crate::chains::rfc3339;
use crate::export::CHUNKS;
use crate::integrity::report::{ListedFinding, listed_json};
use crate::integrity::run::{CheckDone, Turn};
use crate::integrity::verify::{Progress, Scope};
use crate::integrity::watch::Quiet;
use crate::keys::scope;
use crate::store::StoreError;
use crate::store::checks::{FULL, INCREMENTAL, ROLLING};

/// How often those who watch a check are told how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(250);
/// Findings that they are told, as many as the list of checks shows; all are on record.
const TOLD_FINDINGS: usize = 100;

/// A check that was run.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CheckAnswer {
    /// `verified`, `tampered`, `rolled_back`, `guard_drift` or `unfinished`.
    verdict: &'static str,
    /// Names the run in the list of checks.
    run_id: Uuid,
    /// Rows that were read.
    rows: i64,
    /// How long it took.
    duration_ms: u64,
    /// Since when the ledger is locked down, where something does not add up.
    #[schema(required)]
    locked_since: Option<String>,
    /// What could not be done, for people.
    notes: Vec<String>,
}

/// Which check is run.
#[derive(Clone, Copy, Debug)]
struct Kind(Scope);

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            FULL => Ok(Self(Scope::Ledger)),
            INCREMENTAL => Ok(Self(Scope::Incremental)),
            ROLLING => Ok(Self(Scope::Rolling)),
            _ => Err("is none of full, incremental, rolling"),
        }
    }
}

/// Checks the ledger now, and answers once that is done: where that is all of it, it takes as long as
/// reading every row does. Something that does not add up locks the ledger down.
///
/// With `Accept: text/event-stream` the answer, 200, begins at once and tells what happens, as
/// server-sent events: `progress` (`{"rows": 5000, "of": 20000}`, of the log's entries that are to
/// be compared) at most four times a second and once at the end, `finding` for each of the first 100
/// that nobody has acknowledged, as the list of checks has it, and as the last one `checked` with
/// what the 201 holds, or `problem` with the problem details where the check could not be run. A
/// comment every 15 seconds without news keeps the connection open. Whoever closes it does not end
/// the check.
#[utoipa::path(post, path = "/v1/integrity/checks", tag = "integrity",
    params(("kind" = Option<String>, Query, description = "`full`, which it is if not given; `incremental` \
        from the last checkpoint on; `rolling` for the next slice of what that covers.")),
    responses(
        (status = 200, description = "The check runs: events until it is done.", content_type = "text/event-stream"),
        (status = 201, description = "Checked; what was found is in the list of checks.", body = CheckAnswer),
        RefusedParameter, RefusedUnderV1),
    security(("api_key" = ["verify"])))]
pub(super) async fn check(
    _: Authorized<scope::Verify>,
    State(service): State<Service>,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let Kind(scope) = parameters.take("kind")?.unwrap_or(Kind(Scope::Ledger));
    parameters.finish()?;
    let Some(turn) = Turn::take(service.subject()).await? else {
        return Err(Problem::new(Code::Unavailable, "another check is running").retry_after(10));
    };
    let (so_far, watched) = watch::channel(SoFar::default());
    let mut told = Told { so_far, log: Quiet::default() };
    // On a task of its own: who hangs up does not end a check half-way.
    let running = tokio::spawn(async move { turn.run(scope, service.clock, &mut told).await });
    if wants_events(&headers) {
        let (to, chunks) = mpsc::channel(CHUNKS);
        tokio::spawn(as_part_of_request(tell(running, watched, to)));
        // It needs none of the places that streams have: one check runs at a time.
        return Ok(answer(EVENTS, chunks, ()));
    }
    let answer = answer_to(running.await)?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

fn answer_to(ended: Ended) -> Result<CheckAnswer, Problem> {
    let internal = |_| Problem::new(Code::Internal, "the check could not be run");
    let CheckDone { report, notes, lockdown } = ended.map_err(internal)??;
    Ok(CheckAnswer {
        verdict: report.verdict().name(),
        run_id: report.run_id,
        rows: report.rows(),
        duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        locked_since: lockdown.map(|lockdown| rfc3339(lockdown.since)),
        notes,
    })
}

/// What came of the task that runs a check.
type Ended = Result<Result<CheckDone, StoreError>, JoinError>;

/// What a check has told until now.
#[derive(Debug, Default)]
struct SoFar {
    rows: u64,
    of: u64,
    /// The first [`TOLD_FINDINGS`] that nobody has acknowledged.
    findings: Vec<Value>,
}

/// Keeps what a check tells for who watches it, who never holds it up, and logs its findings as
/// those of every check.
struct Told {
    so_far: watch::Sender<SoFar>,
    log: Quiet,
}

impl Progress for Told {
    fn compared(&mut self, entries: u64, of: u64) {
        self.so_far.send_modify(|so_far| (so_far.rows, so_far.of) = (entries, of));
    }

    fn found(&mut self, finding: &Finding, acknowledged: bool) {
        self.log.found(finding, acknowledged);
        self.so_far.send_if_modified(|so_far| {
            let is_told = !acknowledged && so_far.findings.len() < TOLD_FINDINGS;
            if is_told {
                let listed = ListedFinding { finding: finding.clone(), acknowledged };
                so_far.findings.push(listed_json(&listed));
            }
            is_told
        });
    }
}

/// Sends what a check tells until it is done, or nobody listens any more.
async fn tell(
    mut running: JoinHandle<Result<CheckDone, StoreError>>,
    watched: watch::Receiver<SoFar>,
    to: To,
) {
    let mut ticks = interval(TOLD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Heard::default();
    let mut last_sent = Instant::now();
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = to.closed() => return,
            // The first comes at once, so that who listens knows that the check runs.
            _ = ticks.tick() => {}
        }
        let mut chunk = heard.news(&watched.borrow());
        if chunk.is_empty() && last_sent.elapsed() >= HEARTBEAT_EVERY {
            chunk.extend_from_slice(b": still running\n\n");
        }
        if !chunk.is_empty() {
            if !send(&to, chunk).await {
                return;
            }
            last_sent = Instant::now();
        }
    };
    let mut chunk = heard.news(&watched.borrow());
    match answer_to(ended) {
        Ok(answer) => write_json("checked", &answer, &mut chunk),
        Err(problem) => write_json("problem", &problem, &mut chunk),
    }
    if send(&to, chunk).await {
        let _ = to.send(Ok(None)).await;
    }
}

/// What of a check was sent.
#[derive(Default)]
struct Heard {
    rows_of: Option<(u64, u64)>,
    findings: usize,
}

impl Heard {
    /// The events of what was not.
    fn news(&mut self, so_far: &SoFar) -> Vec<u8> {
        let mut events = Vec::new();
        for finding in so_far.findings.iter().skip(self.findings) {
            write_json("finding", finding, &mut events);
        }
        self.findings = so_far.findings.len();
        let SoFar { rows, of, .. } = *so_far;
        if self.rows_of.replace((rows, of)) != Some((rows, of)) {
            write_json("progress", &json!({ "rows": rows, "of": of }), &mut events);
        }
        events
    }
}

fn write_json(kind: &str, data: &impl Serialize, out: &mut Vec<u8>) {
    let data = serde_json::to_vec(data).expect("what is answered can be written as JSON");
    write_event(kind, &data, out);
}

#[cfg(test)]
mod tests {
    use ledger_verifier::FindingKind;
    use tokio::time::sleep;

    use super::*;

    fn finding(n: u64) -> Finding {
        Finding {
            kind: FindingKind::Content,
            chain: "signals".to_owned(),
            id: None,
            leaf_index: None,
            detail: n.to_string(),
        }
    }

    #[tokio::test]
    async fn however_much_a_check_tells_who_watches_it_is_told_a_part() {
        let (so_far, watched) = watch::channel(SoFar::default());
        let mut told = Told { so_far, log: Quiet::default() };
        let started = Instant::now();
        let running = tokio::spawn(async move {
            for n in 1..=600 {
                told.compared(n, 600);
                told.found(&finding(n), n % 3 == 0);
                sleep(Duration::from_millis(1)).await;
            }
            let what = "the end".to_owned();
            Err(StoreError::Contradiction { statement: "a_check", what })
        });
        let (to, mut chunks) = mpsc::channel(CHUNKS);
        tokio::spawn(tell(running, watched, to));
        let mut text = String::new();
        while let Some(chunk) = chunks.recv().await.expect("a clean end").unwrap() {
            text.push_str(str::from_utf8(&chunk).unwrap());
        }
        let data_of = |kind: &str| {
            let before = format!("event: {kind}\ndata: ");
            let data = text.split("\n\n").filter_map(|event| event.strip_prefix(&before));
            data.map(|data| serde_json::from_str(data).unwrap()).collect::<Vec<Value>>()
        };
        let (findings, progress) = (data_of("finding"), data_of("progress"));
        let first = (1..).filter(|n| n % 3 > 0).take(TOLD_FINDINGS).map(|n: u64| n.to_string());
        assert!(
            findings.iter().map(|finding| &finding["detail"]).eq(first.collect::<Vec<_>>().iter())
        );
        assert_eq!(progress.last(), Some(&json!({ "rows": 600, "of": 600 })));
        let ticks = started.elapsed().as_millis() / TOLD_EVERY.as_millis();
        assert!((3..=ticks + 2).contains(&(progress.len() as u128)), "{progress:?}");
        assert!(progress.is_sorted_by_key(|progress| progress["rows"].as_u64()));
        assert_eq!(data_of("problem")[0]["code"], "SYS-002", "{text}");
        assert!(text.rfind("event: ") == text.find("event: problem"), "it is the last");
    }
}
