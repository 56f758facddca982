//! What reading rows in bulk is compared with: `COPY (SELECT …) TO STDOUT (FORMAT csv)`, by psql.

use std::path::PathBuf;
use std::process::Stdio;

use audit_ledger::store::copy::copy_columns;
use futures_util::TryStreamExt;
use ledger_verifier::Chain;
use tokio::process::Command;
use tokio::time::Instant;

use crate::Error;
use crate::bench::Ledger;

/// The psql of the server; without one, the same COPY by this process over sqlx.
#[derive(Debug)]
pub(crate) struct Copy<'a> {
    ledger: &'a Ledger,
    psql: Option<PathBuf>,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copied {
    pub(crate) rows: u64,
    pub(crate) seconds: f64,
}

/// The rows of a chain within these ids, as an export has them. The ids of the log's entries follow
/// from those of the rows, but PostgreSQL would not conclude that, and read the whole log.
pub(crate) fn select(chain: &Chain, (first, last): (i64, i64)) -> String {
    let columns: Vec<_> =
        copy_columns(chain).split(", ").map(|column| format!("t.{column}")).collect();
    format!(
        "SELECT {columns}, l.leaf_index FROM public.{chain} AS t \
         LEFT JOIN public.ledger_log AS l ON l.chain = '{chain}' AND l.id = t.id \
         AND l.id BETWEEN {first} AND {last} WHERE t.id BETWEEN {first} AND {last} ORDER BY t.id",
        columns = columns.join(", "),
        chain = chain.name,
    )
}

impl<'a> Copy<'a> {
    pub(crate) async fn of(ledger: &'a Ledger) -> Result<Self, Error> {
        let folder: String =
            sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
                .fetch_one(&mut ledger.superuser().await?)
                .await?;
        let psql = PathBuf::from(folder).join("psql");
        Ok(Self { ledger, psql: psql.exists().then_some(psql) })
    }

    /// How it is called in the table.
    pub(crate) fn name(&self) -> &'static str {
        match self.psql {
            Some(_) => "COPY … TO STDOUT (FORMAT csv), psql, to /dev/null",
            None => "COPY … TO STDOUT (FORMAT csv), sqlx, dropped",
        }
    }

    /// Copies the rows of these statements, one after another over one connection, and drops them.
    pub(crate) async fn out(&self, selects: &[String]) -> Result<Copied, Error> {
        match &self.psql {
            Some(psql) => self.by_psql(psql, selects).await,
            None => self.by_sqlx(selects).await,
        }
    }

    /// The time is psql's own: without its start and its connecting, which is in its favour.
    async fn by_psql(&self, psql: &PathBuf, selects: &[String]) -> Result<Copied, Error> {
        let mut command = Command::new(psql);
        command.env_clear().env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        command.args(["-X", "-v", "ON_ERROR_STOP=1", "-c", r"\timing on"]);
        for select in selects {
            command.arg("-c").arg(format!(r"\copy ({select}) to '/dev/null' (format csv)"));
        }
        let output = command.arg(self.ledger.superuser_url()).output().await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("psql ended with {}: {said}", output.status).into());
        }
        let mut copied = Copied::default();
        // `COPY 1000` and `Time: 12.345 ms` for each of them.
        for line in String::from_utf8(output.stdout)?.lines() {
            if let Some(rows) = line.strip_prefix("COPY ") {
                copied.rows += rows.parse::<u64>()?;
            } else if let Some(time) = line.strip_prefix("Time: ") {
                let millis: f64 = time.split(' ').next().unwrap_or_default().parse()?;
                copied.seconds += millis / 1e3;
            }
        }
        Ok(copied)
    }

    async fn by_sqlx(&self, selects: &[String]) -> Result<Copied, Error> {
        let mut connection = self.ledger.superuser().await?;
        let mut rows = 0;
        let started = Instant::now();
        for select in selects {
            let statement = format!("COPY ({select}) TO STDOUT (FORMAT csv)");
            let mut messages = connection.copy_out_raw(&statement).await?;
            // One message for each row.
            while messages.try_next().await?.is_some() {
                rows += 1;
            }
        }
        Ok(Copied { rows, seconds: started.elapsed().as_secs_f64() })
    }
}
