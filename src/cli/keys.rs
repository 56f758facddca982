//! `audit-ledger keys`.

use std::io::Write;

use secrecy::ExposeSecret;
use serde_json::json;

use super::{Failure, say};
use crate::chains::rfc3339;
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::{ApiKey, KeyId, KeyIdError, KeyName, Scope};
use crate::open::{OpenAsOwner, OpenToRead};
use crate::store::Database;
use crate::store::keys::{KeyRecord, Revocation, create_key, list_keys, revoke_key};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a key and print it, this once, on stdout alone.
    Create {
        /// Who holds it: `recorded_by` and `actor` of what is done with it.
        #[arg(long)]
        name: KeyName,
        /// What it may be used for: ingest, read, export, verify, admin; several by repeating it.
        #[arg(long = "scope", required = true)]
        scopes: Vec<Scope>,
    },
    /// List every key that was ever made, without secrets.
    List {
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: every instance of the service refuses it within a second.
    Revoke {
        /// The key's id, the part after `lk_`; of a key that leaked, all of it will do.
        #[arg(value_parser = parse_id)]
        id: KeyId,
    },
}

/// The id, also of a whole key.
fn parse_id(text: &str) -> Result<KeyId, KeyIdError> {
    ApiKey::parse(text).map_or_else(|| text.parse(), |key| Ok(key.id()))
}

pub(super) async fn run(command: Command, config: &Config, clock: Clock) -> Result<(), Failure> {
    if let Command::List { json } = command {
        let ledger = OpenToRead::open(config, clock).await?;
        let keys = list_keys(ledger.database()).await;
        ledger.close().await;
        let keys = keys?;
        if json {
            print_json(&keys);
        } else {
            print_table(&keys);
        }
        return Ok(());
    }
    let ledger = OpenAsOwner::open(config).await?;
    let done = match command {
        Command::Create { name, scopes } => create(&ledger.owner, &name, &scopes).await,
        Command::Revoke { id } => revoke(&ledger.owner, id).await,
        Command::List { .. } => unreachable!("handled above"),
    };
    ledger.close().await;
    done
}

async fn create(owner: &Database, name: &KeyName, scopes: &[Scope]) -> Result<(), Failure> {
    let key = ApiKey::random();
    let scopes = scopes.iter().copied().collect();
    create_key(owner, &key, name, scopes).await?;
    // A key that nobody has seen is of no use, and its maker must know.
    writeln!(std::io::stdout(), "{}", key.text().expose_secret())
        .and_then(|()| std::io::stdout().flush())
        .map_err(|error| format!("the key could not be printed ({error}): revoke {}", key.id()))?;
    eprintln!(
        "audit-ledger: made key {} of {} with the scopes {scopes}. It is printed this once; send \
         it as `Authorization: Bearer lk_…`.",
        key.id(),
        name.as_str()
    );
    Ok(())
}

async fn revoke(owner: &Database, id: KeyId) -> Result<(), Failure> {
    match revoke_key(owner, id).await? {
        Revocation::Done => {
            say(format_args!("revoked key {id}"));
            Ok(())
        }
        Revocation::Refused(why) => Err(why.into()),
    }
}

fn print_json(keys: &[KeyRecord]) {
    let shown = |key: &KeyRecord| {
        json!({
            "key_id": key.key_id.to_string(),
            "name": key.name,
            "scopes": key.scopes.names(),
            "created_at": rfc3339(key.created_at),
            "created_by": key.created_by,
            "revoked_at": key.revoked_at.map(rfc3339),
            "revoked_by": key.revoked_by,
        })
    };
    say(format_args!("{:#}", keys.iter().map(shown).collect::<serde_json::Value>()));
}

fn print_table(keys: &[KeyRecord]) {
    say(format_args!("{:<18}{:<24}{:<36}{:<29}revoked", "id", "name", "scopes", "made"));
    for key in keys {
        let (scopes, made) = (key.scopes.to_string(), rfc3339(key.created_at));
        let revoked = key.revoked_at.map(rfc3339).unwrap_or_default();
        say(format_args!("{:<18}{:<24}{scopes:<36}{made:<29}{revoked}", key.key_id, key.name));
    }
}
