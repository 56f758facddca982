//! The command line.

use std::ffi::OsString;

use ledger_verifier::note::VerifierKey;
use lexopt::{Arg, Parser, ValueExt as _};

use crate::commands::{Input, read_keys};

pub(crate) const USAGE: &str = "\
usage: ledger-verify bundle FILE --key VKEY
       ledger-verify ndjson FILE [--checkpoint FILE --key VKEY]
       ledger-verify proof FILE --row FILE --key VKEY
       ledger-verify checkpoints OLD NEW [--proof FILE] --key VKEY
see ledger-verify --help";

const HELP: &str = "\
ledger-verify: checks offline what an audit-ledger handed out

usage: ledger-verify bundle FILE --key VKEY
         a bundle: its rows, that none of the range is missing, and that the signed log has them
       ledger-verify ndjson FILE [--checkpoint FILE --key VKEY]
         an export of a row a line: hashes and links; of a replay of all chains also the log's root
       ledger-verify proof FILE --row FILE --key VKEY
         a C2SP tlog-proof: that the signed log has the row
       ledger-verify checkpoints OLD NEW [--proof FILE] --key VKEY
         that the log at NEW begins with the log at OLD; the proof is the service's JSON

options:
  --key VKEY   whom to believe: a verifier key, or a file with one a line; may be given again.
               No other key is believed, whatever a file says.
  --json       one JSON object in place of text
  --help, --version

A FILE may be - for standard input, but not a bundle.

exit codes: 0 verified, 2 does not verify, 3 could not finish or not shown, 1 usage
";

/// What to check, and against what.
pub(crate) enum Command {
    Bundle { file: OsString, keys: Vec<VerifierKey> },
    Export { file: Input, checkpoint: Option<(Input, Vec<VerifierKey>)> },
    Proof { file: Input, row: Input, keys: Vec<VerifierKey> },
    Checkpoints { old: Input, new: Input, proof: Option<Input>, keys: Vec<VerifierKey> },
}

pub(crate) enum Invocation {
    Run(Command, bool),
    Print(String),
}

#[derive(Default)]
struct Given {
    words: Vec<OsString>,
    keys: Vec<OsString>,
    checkpoint: Option<OsString>,
    row: Option<OsString>,
    proof: Option<OsString>,
    is_json: bool,
}

pub(crate) fn parse(mut parser: Parser) -> Result<Invocation, lexopt::Error> {
    let mut given = Given::default();
    while let Some(arg) = parser.next()? {
        let once = |to: &mut Option<OsString>, value| match to.replace(value) {
            None => Ok(()),
            Some(_) => Err("an option is given twice"),
        };
        match arg {
            Arg::Long("key") => given.keys.push(parser.value()?),
            Arg::Long("checkpoint") => once(&mut given.checkpoint, parser.value()?)?,
            Arg::Long("row") => once(&mut given.row, parser.value()?)?,
            Arg::Long("proof") => once(&mut given.proof, parser.value()?)?,
            Arg::Long("json") => given.is_json = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(Invocation::Print(HELP.to_owned())),
            Arg::Long("version") | Arg::Short('V') => {
                return Ok(Invocation::Print(format!(
                    "ledger-verify {}\n",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            Arg::Value(word) => given.words.push(word),
            other => return Err(other.unexpected()),
        }
    }
    let is_json = given.is_json;
    Ok(Invocation::Run(given.command()?, is_json))
}

impl Given {
    fn command(mut self) -> Result<Command, lexopt::Error> {
        let mut words = std::mem::take(&mut self.words).into_iter();
        let name = words.next().ok_or("nothing to check")?.string()?;
        let files: Vec<_> = words.collect();
        let command = match (name.as_str(), files.len()) {
            ("bundle", 1) => {
                let [file] = take(files);
                if file == "-" {
                    return Err("a bundle is read from a file, not from standard input".into());
                }
                Command::Bundle { file, keys: self.keys()? }
            }
            ("ndjson", 1) => {
                let [file] = take(files);
                let checkpoint = match self.checkpoint.take() {
                    Some(checkpoint) => Some((checkpoint.into(), self.keys()?)),
                    None if self.keys.is_empty() => None,
                    None => {
                        return Err(
                            "without --checkpoint there is nothing that --key signed".into()
                        );
                    }
                };
                Command::Export { file: file.into(), checkpoint }
            }
            ("proof", 1) => {
                let [file] = take(files);
                let row = self.row.take().ok_or("--row is missing")?.into();
                Command::Proof { file: file.into(), row, keys: self.keys()? }
            }
            ("checkpoints", 2) => {
                let [old, new] = take(files);
                let proof = self.proof.take().map(Input::from);
                Command::Checkpoints { old: old.into(), new: new.into(), proof, keys: self.keys()? }
            }
            ("bundle" | "ndjson" | "proof", _) => return Err("it takes one FILE".into()),
            ("checkpoints", _) => return Err("it takes two files, OLD and NEW".into()),
            _ => return Err("what to check is one of bundle, ndjson, proof, checkpoints".into()),
        };
        if [self.checkpoint, self.row, self.proof].iter().any(Option::is_some) {
            return Err("an option that this check does not have".into());
        }
        if command.standard_inputs() > 1 {
            return Err("standard input can be only one of the files".into());
        }
        Ok(command)
    }

    fn keys(&self) -> Result<Vec<VerifierKey>, lexopt::Error> {
        if self.keys.is_empty() {
            return Err("--key is missing: no file is believed on its own word".into());
        }
        let mut keys = Vec::new();
        for given in &self.keys {
            keys.extend(read_keys(given)?);
        }
        Ok(keys)
    }
}

fn take<const N: usize>(files: Vec<OsString>) -> [OsString; N] {
    files.try_into().expect("as many files as were counted")
}

impl Command {
    fn standard_inputs(&self) -> usize {
        let inputs: &[Option<&Input>] = match self {
            Self::Bundle { .. } => &[],
            Self::Export { file, checkpoint } => {
                &[Some(file), checkpoint.as_ref().map(|(file, _)| file)]
            }
            Self::Proof { file, row, .. } => &[Some(file), Some(row)],
            Self::Checkpoints { old, new, proof, .. } => &[Some(old), Some(new), proof.as_ref()],
        };
        inputs.iter().flatten().filter(|input| matches!(input, Input::Standard)).count()
    }
}
