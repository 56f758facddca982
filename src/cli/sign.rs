//! `audit-ledger sign-webhook`.

use std::path::PathBuf;

use super::{Failure, say};
use crate::config::Config;
use crate::open::signing_secrets;
use crate::webhook::auth::sign;
use crate::webhook::source::{TRADINGVIEW, WebhookSecret};

/// Arguments of `sign-webhook`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File with the exact body; `-` reads standard input.
    #[arg(default_value = "-")]
    body: PathBuf,
    /// The source that it is sent to.
    #[arg(long, default_value = TRADINGVIEW)]
    source: String,
    /// The service's address; that of `LEDGER_LISTEN` if not given.
    #[arg(long)]
    url: Option<String>,
    /// Print the signature alone.
    #[arg(long)]
    signature_only: bool,
}

pub(super) fn run(args: &Args, config: Config) -> Result<(), Failure> {
    let body = super::read_input(&args.body)?;
    let url = args.url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
    let secrets = signing_secrets(&args.source, config)?;
    let secret = secrets.first().ok_or("LEDGER_WEBHOOK_SECRET: is not set")?;
    say(sign(secret, &body));
    if args.signature_only {
        return Ok(());
    }
    match std::str::from_utf8(&body) {
        Ok(text) if !text.contains('\0') => {
            say(curl(&url, &args.source, secret, text));
        }
        _ => eprintln!("the body is not text: send it with curl --data-binary @FILE"),
    }
    Ok(())
}

/// A curl line that sends the body with its signature.
pub fn curl(url: &str, source: &str, secret: &WebhookSecret, body: &str) -> String {
    let signature = sign(secret, body.as_bytes());
    // In single quotes the shell takes everything as it is but the quote itself.
    let quoted = body.replace('\'', r"'\''");
    format!(
        "curl -sS {url}/webhook/{source} \\\n  -H 'Content-Type: application/json' \\\n  \
         -H 'X-TradingView-Signature: {signature}' \\\n  --data-binary '{quoted}'"
    )
}
