//! `audit-ledger lockdown`.

use serde_json::json;

use super::{Failure, say};
use crate::chains::rfc3339;
use crate::clock::Clock;
use crate::config::Config;
use crate::integrity::lockdown::is_finding_id;
use crate::open::{OpenAsOwner, OpenToRead};
use crate::store::lockdown::{LockdownAnswer, LockdownLine, lift_as_owner};
use crate::store::pool::Pool;
use crate::store::{Database, StoreError};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print whether the ledger is locked down, since when, why, and which findings lock it.
    Status {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Lift the lockdown with the owner's login alone; recorded as that. Where there are two
    /// admins, let them lift it with their keys.
    Lift {
        /// Why the lockdown may end.
        #[arg(long)]
        reason: String,
        /// A finding that is known from now on, by its `finding_id`; several by repeating it.
        #[arg(long = "acknowledge", value_name = "FINDING_ID", value_parser = parse_finding_id)]
        acknowledged: Vec<String>,
        /// Acknowledge every finding that `lockdown status` lists.
        #[arg(long, conflicts_with = "acknowledged")]
        acknowledge_all: bool,
    },
}

fn parse_finding_id(text: &str) -> Result<String, String> {
    if is_finding_id(text) {
        Ok(text.to_owned())
    } else {
        Err("a finding_id has 64 hexadecimal digits".to_owned())
    }
}

pub(super) async fn run(command: Command, config: &Config, clock: Clock) -> Result<(), Failure> {
    match command {
        Command::Status { json } => {
            let ledger = OpenToRead::open(config, clock).await?;
            let state = LockdownAnswer::read(&Pool::of(ledger.database(), 1)).await;
            ledger.close().await;
            let state = state?;
            if json {
                say(format_args!("{:#}", json!(state)));
            } else {
                print(&state);
            }
            Ok(())
        }
        Command::Lift { reason, acknowledged, acknowledge_all } => {
            let ledger = OpenAsOwner::open(config).await?;
            let done = lift(&ledger.owner, &reason, acknowledged, acknowledge_all).await;
            ledger.close().await;
            done
        }
    }
}

/// What is acknowledged is read where it is lifted.
async fn lift(
    owner: &Database,
    reason: &str,
    acknowledged: Vec<String>,
    acknowledge_all: bool,
) -> Result<(), Failure> {
    let ids = if acknowledge_all {
        let state = LockdownAnswer::read(&Pool::of(owner, 1)).await?;
        let ids = state.findings.iter().filter_map(|finding| finding["finding_id"].as_str());
        ids.map(str::to_owned).collect()
    } else {
        acknowledged
    };
    let lockdown = lift_as_owner(owner, reason, &ids).await.map_err(|error| match error {
        // It starts with the ledger's code.
        StoreError::Refused { message, .. } => message,
        error => error.to_string(),
    })?;
    let findings = if ids.len() == 1 { "finding" } else { "findings" };
    say(format_args!("lockdown {lockdown} is lifted, {} {findings} acknowledged", ids.len()));
    Ok(())
}

fn print(state: &LockdownAnswer) {
    match (&state.since, &state.reason) {
        (Some(since), Some(reason)) => {
            say(format_args!("LOCKED DOWN since {since} (AUD-009)"));
            say(reason);
        }
        _ => say("The ledger is not locked down."),
    }
    for finding in &state.findings {
        let text = |name: &str| finding[name].as_str().unwrap_or_default();
        let row = finding["id"].as_i64().map_or_else(String::new, |id| format!(" row {id}"));
        let (kind, chain, detail) = (text("kind"), text("chain"), text("detail"));
        say(format_args!("\n{}\n  {kind}: {chain}{row}: {detail}", text("finding_id")));
    }
    if !state.steps.is_empty() {
        say("");
    }
    for step in &state.steps {
        let LockdownLine { lockdown_id, action, actor, reason, .. } = step;
        let at = rfc3339(step.at);
        say(format_args!("{at}  lockdown {lockdown_id}  {action} by {actor}: {reason}"));
    }
}
