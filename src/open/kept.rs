//! Secrets that the service makes for itself and keeps beside the private PostgreSQL.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::OpenError;
use crate::clock::random_bytes;
use crate::config::webhook_secrets;
use crate::integrity::anchors::Anchor;
use crate::integrity::signing::{SigningKeys, new_key};
use crate::keys::{ApiKey, KeyName, Scopes};
use crate::store::Database;
use crate::store::keys::{create_key, list_keys};
use crate::webhook::source::WebhookSecret;

const ADMIN: &str = "admin";

pub(super) fn webhook_secret_path(data_dir: &Path) -> PathBuf {
    data_dir.join("webhook.secret")
}

/// The secret in `webhook.secret`, made at the first call.
pub(super) fn webhook_secret(data_dir: &Path) -> Result<WebhookSecret, OpenError> {
    let path = webhook_secret_path(data_dir);
    let make = || hex::encode(random_bytes::<32>()).into();
    let secret = read_or_make(&path, make).map_err(|error| unusable(&path, error))?;
    let mut secrets = webhook_secrets(Some(secret))?;
    secrets.pop().ok_or_else(|| unusable(&path, invalid("the file is empty")))
}

/// The keys in `signing.key`, made at the first call; of a log of this name, or of one that no other has.
pub(super) fn signing_keys(
    data_dir: &Path,
    origin: Option<&str>,
) -> Result<SigningKeys, OpenError> {
    let path = data_dir.join("signing.key");
    let made = format!("audit-ledger.local/{}", hex::encode(random_bytes::<8>()));
    let key = new_key(origin.unwrap_or(&made)).map_err(|rule| unusable(&path, invalid(&rule)))?;
    let keys = read_or_make(&path, || key).map_err(|error| unusable(&path, error))?;
    let keys = SigningKeys::parse(&keys).map_err(|rule| unusable(&path, invalid(&rule)))?;
    Ok(keys.kept_in(path))
}

/// Where the private PostgreSQL's checkpoints are kept, unless configured: outside the database, though
/// on the same machine.
pub(super) fn anchor(data_dir: &Path) -> Result<Anchor, OpenError> {
    let path = data_dir.join("checkpoints");
    let url = Url::from_file_path(&path).map_err(|()| unusable(&path, invalid("is no path")))?;
    Anchor::parse(url.as_str(), &[]).map_err(|rule| unusable(&path, invalid(&rule)))
}

/// The file of the key `admin.key`, if that is in force.
///
/// It is made where there is neither the file nor any key, now or ever. The file comes before the
/// row: a start that broke off between the two leaves a key that the next one records.
pub(super) async fn admin_key(
    data_dir: &Path,
    owner: &Database,
) -> Result<Option<PathBuf>, OpenError> {
    let path = data_dir.join("admin.key");
    let known = list_keys(owner).await?;
    if known.is_empty() {
        let text = read_or_make(&path, || ApiKey::random().text());
        let key = text.and_then(|text| parse(&text)).map_err(|error| unusable(&path, error))?;
        let name: KeyName = ADMIN.parse().expect("a plain name");
        create_key(owner, &key, &name, Scopes::all()).await?;
        return Ok(Some(path));
    }
    let key = match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text.into()).map_err(|error| unusable(&path, error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&path, error)),
    };
    let in_force = known.iter().any(|it| it.key_id == key.id() && it.revoked_at.is_none());
    if !in_force {
        let path = path.display();
        tracing::warn!(%path, "this key is of no use: revoked, or not of this ledger");
    }
    Ok(in_force.then_some(path))
}

fn parse(text: &SecretString) -> io::Result<ApiKey> {
    ApiKey::parse(text.expose_secret().trim_end()).ok_or_else(|| invalid("the file holds no key"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn unusable(path: &Path, source: io::Error) -> OpenError {
    OpenError::SecretFile { path: path.to_owned(), source }
}

fn read_or_make(path: &Path, make: impl FnOnce() -> SecretString) -> io::Result<SecretString> {
    match std::fs::read_to_string(path) {
        Ok(secret) => Ok(secret.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => keep(path, make()),
        Err(error) => Err(error),
    }
}

/// Writes a new secret beside its place and links it there whole: a crash leaves all of it or
/// nothing, and of two that start at once both use the one that was first.
fn keep(path: &Path, secret: SecretString) -> io::Result<SecretString> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(secret.expose_secret().as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Ok(()) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(std::fs::read_to_string(path)?.into())
        }
        Err(error) => Err(error),
    }
}
