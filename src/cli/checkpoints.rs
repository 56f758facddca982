//! `audit-ledger checkpoint`, `vkey` and `signing-key`.

use secrecy::ExposeSecret;

use super::{Failure, say};
use crate::appender::Appender;
use crate::clock::Clock;
use crate::config::Config;
use crate::integrity::checkpointer::{Checkpointer, Round};
use crate::integrity::outside::Outside;
use crate::integrity::proofs::Latest;
use crate::integrity::publisher::publish_all;
use crate::open::OpenLedger;

/// Makes checkpoints until everything is covered, and prints the last one.
pub(super) async fn make(mut config: Config, clock: Clock) -> Result<(), Failure> {
    let ledger = super::open(&config, clock).await?;
    let made = make_on(&ledger, &mut config, clock).await;
    ledger.close().await;
    say(made?.trim_end());
    Ok(())
}

async fn make_on(
    ledger: &OpenLedger,
    config: &mut Config,
    clock: Clock,
) -> Result<String, Failure> {
    let keys = ledger.signing_keys(config)?;
    let subject = ledger.subject(config, keys.as_ref())?;
    let keys =
        keys.ok_or("LEDGER_SIGNING_KEY: is not set; `audit-ledger signing-key` makes one")?;
    let outside = subject.outside.clone();
    let (appender, writer) = Appender::start(ledger.app.clone(), config.batch, clock);
    let mut checkpointer = Checkpointer::new(subject, keys, appender, clock);
    let ended = loop {
        match checkpointer.round().await {
            Ok(Round::Signed(_, true) | Round::Accepted(_)) => {}
            Ok(Round::Refused) => break Err("what came does not add up: nothing is signed".into()),
            Ok(Round::Signed(_, false) | Round::Nothing | Round::Busy) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    drop(checkpointer);
    let _ = writer.await;
    // What an anchor does not take now, the service gives it later.
    if let Err(error) = publish_all(&ledger.app, &outside.anchors, clock).await {
        eprintln!("audit-ledger: not every anchor has it: {error}");
    }
    ended.and(Ok(latest(ledger, &outside).await?.stored.note))
}

async fn latest(ledger: &OpenLedger, outside: &Outside) -> Result<Latest, Failure> {
    let mut connection = ledger.app.connect().await?;
    Ok(Latest::read(&mut connection, outside).await?)
}

/// Prints the verifier keys of the keys that sign here.
pub(super) async fn print_vkeys(config: &Config, clock: Clock) -> Result<(), Failure> {
    let ledger = super::open(config, clock).await?;
    let keys = ledger.signing_keys(config);
    ledger.close().await;
    let keys =
        keys?.ok_or("LEDGER_SIGNING_KEY: is not set; `audit-ledger signing-key` makes one")?;
    for key in keys.vkeys() {
        say(key);
    }
    Ok(())
}

/// Prints a new signing key.
pub(super) fn print_new_key(origin: &str) -> Result<(), Failure> {
    let key = crate::integrity::signing::new_key(origin)?;
    say(key.expose_secret());
    Ok(())
}
