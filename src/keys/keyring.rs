//! The service's view of the keys in force, never much older than a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::{ApiKey, Caller, KeyId, Scopes, SecretDigest};
use crate::store::keys::keys_in_force;
use crate::store::pool::Pool;
use crate::store::{Database, StoreError, within};

/// How long what was read counts: so soon every instance knows of a revocation.
const FRESH: Duration = Duration::from_secs(1);
/// How old it must be to be read again for a key that is not in it: so often at most a stranger
/// makes the service ask, and so long he waits for a no.
const RECENT: Duration = Duration::from_millis(100);
/// How long it counts where the database does not answer.
const STALE: Duration = Duration::from_secs(5);
/// How long the database may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Why a key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is none that is in force: unknown, revoked, or with another secret.
    #[error("the API key is malformed, unknown or revoked")]
    Unknown,
    /// The database does not say which keys are in force.
    #[error("the API keys cannot be read from the database now")]
    Unavailable,
}

/// A key as the service checks it.
#[derive(Clone, Debug)]
pub struct KeyInForce {
    /// What it is found by.
    pub id: KeyId,
    /// Its holder.
    pub name: Arc<str>,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// SHA-256 of its secret.
    pub digest: SecretDigest,
}

/// The keys in force. Clones share one view, which is read when somebody asks, and by one request
/// for all that wait.
#[derive(Clone, Debug)]
pub struct Keyring {
    // A connection of its own: slow reads of others do not keep anybody out.
    pool: Pool,
    view: Arc<Mutex<View>>,
}

#[derive(Debug, Default)]
struct View {
    /// What was read last.
    read: Option<Arc<InForce>>,
    /// When the database last did not answer, if it has not since.
    failed: Option<Instant>,
}

#[derive(Debug)]
struct InForce {
    /// When the database was asked for them.
    asked: Instant,
    keys: HashMap<KeyId, KeyInForce>,
}

impl Keyring {
    /// Of this database.
    pub fn of(database: &Database) -> Self {
        Self { pool: Pool::of(database, 1), view: Arc::default() }
    }

    /// Who holds this key.
    ///
    /// A key that was made a moment ago is known: before one is refused, the keys are read again.
    /// Whatever is wrong with a key takes the same steps and the same time: an id that is not
    /// there, a secret that is another's, a key that was revoked.
    pub async fn look_up(&self, key: &ApiKey) -> Result<Caller, KeyError> {
        let digest = key.digest();
        let known = self.in_force(FRESH).await?;
        if let Some(caller) = known.find(key.id(), &digest) {
            return Ok(caller);
        }
        sleep_until(known.asked + RECENT).await;
        let newer = self.in_force(RECENT).await?;
        if newer.asked == known.asked {
            // The database did not answer: whether there is such a key now nobody knows.
            return Err(KeyError::Unavailable);
        }
        newer.find(key.id(), &digest).ok_or(KeyError::Unknown)
    }

    /// The keys in force as they were read at most this long ago, or, where the database does not
    /// answer, not too long ago.
    async fn in_force(&self, age: Duration) -> Result<Arc<InForce>, KeyError> {
        let mut view = self.view.lock().await;
        let due = match (view.failed, &view.read) {
            // Those that wait behind a question without answer do not each ask it again.
            (Some(failed), _) => failed.elapsed() >= FRESH,
            (None, Some(keys)) => keys.asked.elapsed() >= age,
            (None, None) => true,
        };
        if due {
            match self.read().await {
                Ok(keys) => *view = View { read: Some(Arc::new(keys)), failed: None },
                Err(error) => {
                    tracing::error!(%error, "the API keys cannot be read");
                    view.failed = Some(Instant::now());
                }
            }
        }
        match &view.read {
            Some(keys) if keys.asked.elapsed() < STALE => Ok(Arc::clone(keys)),
            _ => Err(KeyError::Unavailable),
        }
    }

    async fn read(&self) -> Result<InForce, StoreError> {
        // Before the question: what the answer does not hold yet counts from now.
        let asked = Instant::now();
        let keys = within(LIMIT, "keys_in_force", keys_in_force(&self.pool)).await?;
        Ok(InForce { asked, keys: keys.into_iter().map(|key| (key.id, key)).collect() })
    }
}

impl InForce {
    /// Ids are no secrets, and are looked up as such. Where there is none of this id, the digest is
    /// compared all the same.
    fn find(&self, id: KeyId, digest: &SecretDigest) -> Option<Caller> {
        let key = self.keys.get(&id);
        let fits = digest.ct_eq(key.map_or(&[0; 32], |key| &key.digest));
        let key = key.filter(|_| fits.into())?;
        Some(Caller {
            key_id: key.id,
            name: Arc::clone(&key.name),
            scopes: key.scopes,
            created_at: key.created_at,
        })
    }
}
