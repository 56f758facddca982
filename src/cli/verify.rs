//! `audit-ledger verify`.

use std::io::IsTerminal;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use ledger_verifier::Finding;
use ledger_verifier::check::LOG_NAME;
use serde_json::json;

use super::say;
use crate::chains::{IN_LEDGER, rfc3339};
use crate::clock::Clock;
use crate::config::Config;
use crate::integrity::guards::GUARDS;
use crate::integrity::outside::Subject;
use crate::integrity::report::{ChainReport, Report, Verdict, listed_json};
use crate::integrity::run::{CheckDone, run_check};
use crate::integrity::verify::{Progress, Scope};
use crate::open::{OpenError, OpenLedger};
use crate::store::checks::{FULL, INCREMENTAL, ROLLING};

const VERIFIED: u8 = 0;
const TAMPERED: u8 = 2;
const COULD_NOT_FINISH: u8 = 3;
const ROLLED_BACK: u8 = 4;
const GUARD_DRIFT: u8 = 5;
const ALREADY_RUNNING: u8 = 6;
/// Of several checks, the first of these that one ended with.
const BY_WEIGHT: [u8; 6] =
    [TAMPERED, ROLLED_BACK, GUARD_DRIFT, COULD_NOT_FINISH, ALREADY_RUNNING, VERIFIED];

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct Args {
    /// Check one chain only, and what the log says of it.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(IN_LEDGER.map(|c| c.name)))]
    chain: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Re-read everything, which is what a check does unless told otherwise.
    #[arg(long, conflicts_with_all = ["incremental", "rolling"])]
    full: bool,
    /// Check what came since the last checkpoint.
    #[arg(long, conflicts_with_all = ["rolling", "chain"])]
    incremental: bool,
    /// Check what came since the last checkpoint, and the next slice of what that covers: by and by, all
    /// of it is re-read within a week.
    #[arg(long, conflicts_with = "chain")]
    rolling: bool,
}

impl Args {
    fn scopes(&self) -> Vec<Scope> {
        // An unknown name was refused with the arguments.
        let named = |name: &String| IN_LEDGER.into_iter().find(|chain| chain.name == name);
        if let Some(chain) = self.chain.as_ref().and_then(named) {
            return vec![Scope::Chain(chain)];
        }
        match (self.incremental, self.rolling) {
            (true, _) => vec![Scope::Incremental],
            (_, true) => vec![Scope::Incremental, Scope::Rolling],
            _ => vec![Scope::Ledger],
        }
    }
}

pub(super) async fn run(args: Args, mut config: Config, clock: Clock) -> ExitCode {
    let ledger = match super::open(&config, clock).await {
        Ok(ledger) => ledger,
        Err(error) => return could_not_finish(&args, &error.to_string()),
    };
    let code = check(&args, &ledger, &mut config, clock)
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

async fn check(
    args: &Args,
    ledger: &OpenLedger,
    config: &mut Config,
    clock: Clock,
) -> Result<ExitCode, OpenError> {
    // Who checks need not be able to read the key: then those count that the ledger names.
    let keys = ledger.signing_keys(config).unwrap_or_else(|error| {
        eprintln!("audit-ledger: the signing key is not known here: {error}");
        None
    });
    let subject = ledger.subject(config, keys.as_ref())?;
    let mut codes = Vec::new();
    for scope in args.scopes() {
        codes.push(check_scope(args, &subject, scope, clock).await?);
    }
    let worst = BY_WEIGHT.into_iter().find(|code| codes.contains(code));
    Ok(ExitCode::from(worst.unwrap_or(COULD_NOT_FINISH)))
}

async fn check_scope(
    args: &Args,
    subject: &Subject,
    scope: Scope,
    clock: Clock,
) -> Result<u8, OpenError> {
    let mut shown = Shown::new(!args.json && std::io::stderr().is_terminal(), !args.json);
    let Some(done) = run_check(subject, scope, clock, &mut shown).await? else {
        if args.json {
            say(format_args!("{:#}", json!({ "verdict": "already_running" })));
        } else {
            eprintln!("audit-ledger: another check is running");
        }
        return Ok(ALREADY_RUNNING);
    };
    shown.bar.finish_and_clear();
    if args.json {
        say(format_args!("{:#}", as_json(&done)));
    } else {
        print(&done.report);
        if let Some(lockdown) = &done.lockdown {
            let since = rfc3339(lockdown.since);
            say(format_args!("The ledger is locked down since {since} (AUD-009)."));
        }
        for note in &done.notes {
            eprintln!("audit-ledger: {note}");
        }
    }
    Ok(match done.report.verdict() {
        Verdict::Verified => VERIFIED,
        Verdict::Tampered => TAMPERED,
        Verdict::RolledBack => ROLLED_BACK,
        Verdict::GuardDrift => GUARD_DRIFT,
        Verdict::Unfinished => COULD_NOT_FINISH,
    })
}

fn as_json(done: &CheckDone) -> serde_json::Value {
    let report = &done.report;
    let chain = |chain: &ChainReport| {
        json!({
            "chain": chain.chain,
            "rows": chain.rows,
            "expected_rows": chain.expected_rows,
            "valid": chain.valid(),
            "findings_count": chain.findings_count,
            "acknowledged_count": chain.acknowledged_count,
            "findings": chain.findings.iter().map(listed_json).collect::<Vec<_>>(),
            "error": chain.error,
        })
    };
    json!({
        "verdict": report.verdict().name(),
        "run_id": report.run_id,
        "kind": report.kind,
        "rows": report.rows(),
        "duration_ms": u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        "chains": report.chains.iter().map(chain).collect::<Vec<_>>(),
        "locked_since": done.lockdown.as_ref().map(|lockdown| rfc3339(lockdown.since)),
        "notes": done.notes,
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
            (Some(false), _) if chain.new_findings() == 0 => {
                format!("acknowledged findings: {}", chain.findings_count)
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
        Verdict::Verified if rows == 0 && report.kind == FULL => {
            "\nThe ledger is empty: 0 rows checked.".to_owned()
        }
        Verdict::Verified if report.acknowledged() > 0 => format!(
            "\nVerified: {rows} rows in {seconds:.1} s; of what does not add up, all is acknowledged: \
             {} findings.",
            report.acknowledged()
        ),
        Verdict::Verified => format!(
            "\nVerified{}: {rows} rows re-hashed and compared with the {LOG_NAME} in {seconds:.1} s.",
            match report.kind {
                INCREMENTAL => ", from the last checkpoint on",
                ROLLING => ", a slice",
                _ => "",
            }
        ),
        Verdict::RolledBack => format!(
            "\nROLLED BACK: {rows} rows are what was recorded, but the database is behind a checkpoint \
             that is held outside it; see integrity_checks under run {}.",
            report.run_id
        ),
        Verdict::Tampered => format!(
            "\nTAMPERED: the ledger is not what was recorded. Checked {rows} rows in \
             {seconds:.1} s; the findings are in integrity_checks under run {}.",
            report.run_id
        ),
        Verdict::GuardDrift => format!(
            "\nGUARD DRIFT: {rows} rows are what was recorded{}, but guards are not as the migrations \
             made them; the findings are in integrity_checks under run {}.",
            if report.acknowledged() > 0 { " but for what is acknowledged" } else { "" },
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

    fn found(&mut self, finding: &Finding, acknowledged: bool) {
        if self.print_findings {
            let known = if acknowledged { " (acknowledged)" } else { "" };
            self.bar.suspend(|| say(format_args!("{finding}{known}")));
        }
    }
}
