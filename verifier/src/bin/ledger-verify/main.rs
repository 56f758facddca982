//! `ledger-verify`: what a ledger handed out, checked offline against keys that come from
//! elsewhere.

mod args;
mod commands;
mod outcome;

use std::io::Write as _;
use std::process::ExitCode;

use args::{Command, Invocation};
use outcome::Unfinished;

fn main() -> ExitCode {
    let (text, code) = match args::parse(lexopt::Parser::from_env()) {
        Ok(Invocation::Print(text)) => (text, 0),
        Ok(Invocation::Run(command, is_json)) => run(&command, is_json),
        Err(error) => refuse(&error.to_string()),
    };
    // Whoever reads no answer has none, whatever it was.
    let is_written = std::io::stdout().write_all(text.as_bytes()).is_ok();
    ExitCode::from(if is_written { code } else { outcome::UNFINISHED })
}

fn run(command: &Command, is_json: bool) -> (String, u8) {
    match commands::run(command) {
        Ok(outcome) if is_json => (outcome.to_json(), outcome.exit_code()),
        Ok(outcome) => (outcome.to_string(), outcome.exit_code()),
        Err(Unfinished(why)) => {
            eprintln!("ledger-verify: {why}");
            let text = if is_json { outcome::unfinished_json(&why) } else { String::new() };
            (text, outcome::UNFINISHED)
        }
    }
}

fn refuse(why: &str) -> (String, u8) {
    eprintln!("ledger-verify: {why}\n{}", args::USAGE);
    (String::new(), outcome::USAGE)
}
