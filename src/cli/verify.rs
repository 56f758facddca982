//! `audit-ledger verify`.

use std::io::IsTerminal;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use ledger_verifier::Finding;
use ledger_verifier::check::LOG_NAME;
use serde_json::json;

use super::say;
use crate::appender::append_alone;
use crate::chains::IN_LEDGER;
use crate::chains::security_events::{EventType, NewSecurityEvent};
use crate::clock::Clock;
use crate::config::Config;
use crate::integrity::guards::GUARDS;
use crate::integrity::verify::{
    ChainReport, Progress, Report, Scope, Verdict, finding_json, verify,
};
use crate::open::OpenLedger;
use crate::store::checks::insert_checks;
use crate::store::guards::remember_drift;
use crate::store::read::try_lock_checks;
use crate::store::{Database, StoreError};

const VERIFIED: u8 = 0;
const TAMPERED: u8 = 2;
const COULD_NOT_FINISH: u8 = 3;
const GUARD_DRIFT: u8 = 5;
const ALREADY_RUNNING: u8 = 6;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Check one chain only, and what the log says of it.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(IN_LEDGER.map(|c| c.name)))]
    chain: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Re-read everything, which is what a check does in any case.
    #[arg(long, hide = true)]
    full: bool,
}

pub(super) async fn run(args: Args, config: &Config, clock: Clock) -> ExitCode {
    let ledger = match super::open(config, clock).await {
        Ok(ledger) => ledger,
        Err(error) => return could_not_finish(&args, &error.to_string()),
    };
    let code = check(&args, &ledger, clock)
        .await
        .unwrap_or_else(|error| could_not_finish(&args, &error.to_string()));
    ledger.close().await;
    code
}

fn could_not_finish(args: &Args, error: &str) -> ExitCode {
    if args.json {
        say(format_args!("{:#}", json!({ "verdict": "unfinished", "error": error })));
    } else {
        eprintln!("audit-ledger: the check could not finish: {error}");
    }
    ExitCode::from(COULD_NOT_FINISH)
}

async fn check(args: &Args, ledger: &OpenLedger, clock: Clock) -> Result<ExitCode, StoreError> {
    let Some(_lock) = try_lock_checks(&ledger.app).await? else {
        if args.json {
            say(format_args!("{:#}", json!({ "verdict": "already_running" })));
        } else {
            eprintln!("audit-ledger: another check is running");
        }
        return Ok(ExitCode::from(ALREADY_RUNNING));
    };
    // An unknown name was refused with the arguments.
    let named = |name: &String| IN_LEDGER.into_iter().find(|chain| chain.name == name);
    let scope = args.chain.as_ref().and_then(named).map_or(Scope::Ledger, Scope::Chain);
    let mut shown = Shown::new(!args.json && std::io::stderr().is_terminal(), !args.json);
    let report = verify(&ledger.app, scope, clock.new_id(), &mut shown).await?;
    shown.bar.finish_and_clear();
    let mut notes = report.notes.clone();
    notes.extend(record(&report, &ledger.app, clock).await);

    if args.json {
        say(format_args!("{:#}", as_json(&report, &notes)));
    } else {
        print(&report);
        for note in &notes {
            eprintln!("audit-ledger: {note}");
        }
    }
    Ok(ExitCode::from(match report.verdict() {
        Verdict::Verified => VERIFIED,
        Verdict::Tampered => TAMPERED,
        Verdict::GuardDrift => GUARD_DRIFT,
        Verdict::Unfinished => COULD_NOT_FINISH,
    }))
}

/// Keeps the result, and a security event where something does not add up. What could not be
/// kept is told; the verdict stands all the same.
async fn record(report: &Report, database: &Database, clock: Clock) -> Vec<String> {
    let mut notes = Vec::new();
    if let Err(error) = insert_checks(database, &report.records()).await {
        notes.push(format!("the check could not be recorded: {error}"));
    }
    let of_rows = |chain: &&ChainReport| chain.chain != GUARDS;
    let rows: Vec<_> = report.chains.iter().filter(of_rows).collect();
    let guards: Vec<_> = report.guards().into_iter().collect();
    for (event_type, reports) in
        [(EventType::IntegrityFailure, rows), (EventType::GuardDrift, guards)]
    {
        let findings: u64 = reports.iter().map(|chain| chain.findings_count).sum();
        if findings == 0 {
            continue;
        }
        let first = reports.iter().flat_map(|chain| &chain.findings).take(10);
        let event = NewSecurityEvent {
            event_type,
            actor: database.user().to_owned(),
            subject: Some(format!("check {}", report.run_id)),
            details: json!({
                "findings": findings,
                "first": first.map(finding_json).collect::<Vec<_>>(),
            }),
            source_ip: None,
        };
        if let Err(error) = append_alone(database, event, clock).await {
            notes.push(format!("the finding could not be recorded as a security event: {error}"));
        } else if event_type == EventType::GuardDrift
            && let Err(error) = remember_drift(database).await
        {
            notes.push(format!("the drift still stands in the way of other DDL: {error}"));
        }
    }
    notes
}

fn as_json(report: &Report, notes: &[String]) -> serde_json::Value {
    let chain = |chain: &ChainReport| {
        json!({
            "chain": chain.chain,
            "rows": chain.rows,
            "expected_rows": chain.expected_rows,
            "valid": chain.valid(),
            "findings_count": chain.findings_count,
            "findings": chain.findings.iter().map(finding_json).collect::<Vec<_>>(),
            "error": chain.error,
        })
    };
    json!({
        "verdict": match report.verdict() {
            Verdict::Verified => "verified",
            Verdict::Tampered => "tampered",
            Verdict::GuardDrift => "guard_drift",
            Verdict::Unfinished => "unfinished",
        },
        "run_id": report.run_id,
        "rows": report.rows(),
        "duration_ms": u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        "chains": report.chains.iter().map(chain).collect::<Vec<_>>(),
        "notes": notes,
    })
}

fn print(report: &Report) {
    say(format_args!("{:<24}{:>14}  verdict", "chain", "rows"));
    for chain in &report.chains {
        let verdict = match (chain.valid(), &chain.error) {
            (Some(true), _) => "ok".to_owned(),
            (Some(false), _) if chain.chain == GUARDS => {
                format!("CHANGED, findings: {}", chain.findings_count)
            }
            (Some(false), _) => format!("TAMPERED, findings: {}", chain.findings_count),
            (None, Some(error)) => format!("could not finish: {error}"),
            (None, None) if chain.chain == GUARDS => "nothing to compare with".to_owned(),
            (None, None) => "nothing to check: 0 rows".to_owned(),
        };
        say(format_args!("{:<24}{:>14}  {verdict}", chain.chain, chain.rows));
    }
    let rows = report.rows();
    let seconds = report.duration.as_secs_f64();
    say(match report.verdict() {
        Verdict::Verified if rows == 0 => "\nThe ledger is empty: 0 rows checked.".to_owned(),
        Verdict::Verified => format!(
            "\nVerified: {rows} rows re-hashed and compared with the {LOG_NAME} in {seconds:.1} s."
        ),
        Verdict::Tampered => format!(
            "\nTAMPERED: the ledger is not what was recorded. Checked {rows} rows in \
             {seconds:.1} s; the findings are in integrity_checks under run {}.",
            report.run_id
        ),
        Verdict::GuardDrift => format!(
            "\nGUARD DRIFT: {rows} rows are what was recorded, but guards are not as the migrations \
             made them; the findings are in integrity_checks under run {}.",
            report.run_id
        ),
        Verdict::Unfinished => {
            "\nNot everything could be looked at: this is neither a yes nor a no.".to_owned()
        }
    });
}

/// The progress bar, and findings as they are found.
struct Shown {
    bar: ProgressBar,
    print_findings: bool,
}

impl Shown {
    fn new(with_bar: bool, print_findings: bool) -> Self {
        let bar = if with_bar { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = "{bar:40} {pos}/{len} rows  {per_sec}  {eta}";
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        Self { bar, print_findings }
    }
}

impl Progress for Shown {
    fn compared(&mut self, entries: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(entries);
    }

    fn found(&mut self, finding: &Finding) {
        if self.print_findings {
            self.bar.suspend(|| say(finding));
        }
    }
}
