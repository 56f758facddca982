//! What is appended, as it is appended: the end of the log, for whoever follows it.
//!
//! Each follower reads the database at its own pace, so a slow one slows nobody. What wakes it is only a
//! hint: this instance's own commits, NOTIFY from other instances, and a look once a second, for rows
//! that came by SQL. Leaf indexes are the truth.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::store::feed::{Appends, log_size, notify_appended};
use crate::store::pool::Pool;
use crate::store::{Database, StoreError};

/// How often the end of the log is looked at, whatever anybody tells.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Connections for looking and telling.
const CONNECTIONS: u32 = 2;

/// Follows the end of the log. It ends with its last handle.
#[derive(Debug)]
pub struct Feed {
    size: watch::Receiver<i64>,
    tasks: [JoinHandle<()>; 3],
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

impl Feed {
    /// On this ledger; `committed` changes with each of this instance's own commits. Needs tokio's
    /// runtime.
    pub fn start(database: &Database, committed: watch::Receiver<u64>) -> Self {
        let pool = Pool::of(database, CONNECTIONS);
        let (to, size) = watch::channel(0);
        let woken = Arc::new(Notify::new());
        let tasks = [
            tokio::spawn(tell(pool.clone(), committed.clone())),
            tokio::spawn(listen(database.clone(), Arc::clone(&woken))),
            tokio::spawn(look(pool, committed, woken, to)),
        ];
        Self { size, tasks }
    }

    /// Ends it, and with it whoever follows.
    pub fn close(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// How many leaves the log has, as far as is known: it changes when there are more. It is closed
    /// when the service ends.
    pub fn size(&self) -> watch::Receiver<i64> {
        self.size.clone()
    }
}

/// Tells other instances; what is committed meanwhile is told at once.
async fn tell(pool: Pool, mut committed: watch::Receiver<u64>) {
    while committed.changed().await.is_ok() {
        if let Err(error) = notify_appended(&pool).await {
            // They look for themselves.
            tracing::debug!(%error, "other instances could not be told of an append");
        }
    }
}

/// Hears what other instances tell, as long as it can; the log is looked at in any case.
async fn listen(database: Database, woken: Arc<Notify>) {
    loop {
        if let Ok(mut appends) = Appends::listen(&database).await {
            while appends.next().await.is_ok() {
                woken.notify_one();
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn look(
    pool: Pool,
    mut committed: watch::Receiver<u64>,
    woken: Arc<Notify>,
    to: watch::Sender<i64>,
) {
    loop {
        match log_size(&pool).await {
            Ok(size) => {
                to.send_if_modified(|known| std::mem::replace(known, size) != size);
            }
            Err(error) => tracing::debug!(%error, "the end of the log cannot be looked at"),
        }
        let own = async {
            // The writer has ended: others may still append.
            if committed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _ = timeout(LOOK_EVERY, async {
            tokio::select! {
                () = own => {}
                () = woken.notified() => {}
            }
        })
        .await;
    }
}

/// Where a follower who asks for everything after a leaf begins.
pub async fn start_leaf(pool: &Pool, after: Option<i64>) -> Result<(i64, i64), StoreError> {
    let size = log_size(pool).await?;
    Ok((after.map_or(size, |leaf| leaf + 1), size))
}
