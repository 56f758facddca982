//! Lockdowns: entered, looked at, lifted. The rules are the database's own, so that they hold for
//! every client; see `migrations/0007_lockdown.sql`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;
use sqlx::{Connection, PgConnection, Row};

use super::pool::Pool;
use super::{Database, InStatement, StoreError, within};
use crate::chains::{Lockdown, as_rfc3339, rfc3339};

/// What a step may take: it waits up to a minute for the ledger's lock.
const STEP_WITHIN: Duration = Duration::from_secs(70);

/// A lockdown that was entered, or in force already.
#[derive(Clone, Debug)]
pub struct Entered {
    /// Names it.
    pub id: i64,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Whether it was entered just now.
    pub is_new: bool,
}

/// Enters a lockdown, for every service on this database at once.
pub async fn enter_lockdown(
    database: &Database,
    reason: &str,
    findings: &Json,
    actor: &str,
) -> Result<Entered, StoreError> {
    const STATEMENT: &str = "enter_lockdown";
    let mut connection = database.connect().await?;
    let query = sqlx::query(
        "/* enter_lockdown */
         SELECT lockdown_id, since, entered FROM public.ledger_enter_lockdown($1, $2, $3)",
    )
    .bind(reason)
    .bind(findings)
    .bind(actor);
    let step = async { query.fetch_one(&mut connection).await.in_statement(STATEMENT) };
    let row = within(STEP_WITHIN, STATEMENT, step).await?;
    let _ = connection.close().await;
    Ok(Entered {
        id: row.try_get("lockdown_id").in_statement(STATEMENT)?,
        since: row.try_get("since").in_statement(STATEMENT)?,
        is_new: row.try_get("entered").in_statement(STATEMENT)?,
    })
}

/// One step of a lockdown.
#[derive(Clone, Debug, Serialize, sqlx::FromRow, utoipa::ToSchema)]
pub struct LockdownLine {
    /// Its number; for `LIFT_REQUESTED` the one to confirm.
    pub id: i64,
    /// The lockdown that it belongs to.
    pub lockdown_id: i64,
    /// `ENTERED`, `LIFT_REQUESTED` or `LIFTED`.
    pub action: String,
    /// The admin key's name, or the login.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was found, for `ENTERED`; the `finding_id`s acknowledged, for the others.
    #[schema(value_type = Vec<Object>)]
    pub findings: Json,
    /// When.
    #[serde(serialize_with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: DateTime<Utc>,
}

/// The lockdown in force.
pub async fn current_lockdown(pool: &Pool) -> Result<Option<Lockdown>, StoreError> {
    const STATEMENT: &str = "current_lockdown";
    let found =
        sqlx::query("/* current_lockdown */ SELECT since, reason FROM public.ledger_lockdown()")
            .fetch_optional(pool.get())
            .await
            .in_statement(STATEMENT)?;
    let lockdown = |row: sqlx::postgres::PgRow| {
        Ok(Lockdown { since: row.try_get("since")?, reason: row.try_get("reason")? })
    };
    found.map(lockdown).transpose().in_statement(STATEMENT)
}

/// Whether a lockdown is in force.
pub async fn is_locked(database: &Database) -> Result<bool, StoreError> {
    const STATEMENT: &str = "is_locked";
    let mut connection = database.connect().await?;
    let query =
        sqlx::query_scalar("/* is_locked */ SELECT EXISTS (SELECT FROM public.ledger_lockdown())");
    let is_locked = query.fetch_one(&mut connection).await.in_statement(STATEMENT)?;
    let _ = connection.close().await;
    Ok(is_locked)
}

/// Whether the ledger is locked down, and all that is known of it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct LockdownAnswer {
    /// Whether writes are refused now.
    pub locked: bool,
    /// Since when.
    #[schema(required)]
    pub since: Option<String>,
    /// Why.
    #[schema(required)]
    pub reason: Option<String>,
    /// Findings that lock the ledger: what a lift can acknowledge, by `finding_id`.
    #[schema(value_type = Vec<Object>)]
    pub findings: Vec<Json>,
    /// Every step of the latest lockdown, in force or not.
    pub steps: Vec<LockdownLine>,
}

impl LockdownAnswer {
    /// As it is now.
    pub async fn read(pool: &Pool) -> Result<Self, StoreError> {
        let steps = latest_lockdown(pool).await?;
        let locked = steps.last().is_some_and(|last| last.action != "LIFTED");
        let entered = steps.first().filter(|_| locked);
        Ok(Self {
            locked,
            since: entered.map(|entered| rfc3339(entered.at)),
            reason: entered.map(|entered| entered.reason.clone()),
            findings: if locked { open_findings(pool).await? } else { Vec::new() },
            steps,
        })
    }
}

/// The steps of the latest lockdown, in force or not, in order.
async fn latest_lockdown(pool: &Pool) -> Result<Vec<LockdownLine>, StoreError> {
    sqlx::query_as(
        "/* latest_lockdown */
         SELECT l.id, l.lockdown_id, l.action, l.actor, l.reason, l.findings, l.at
         FROM public.lockdowns AS l
         WHERE l.lockdown_id = (SELECT max(m.lockdown_id) FROM public.lockdowns AS m)
         ORDER BY l.id",
    )
    .fetch_all(pool.get())
    .await
    .in_statement("latest_lockdown")
}

/// What locks the ledger, as far as it is listed: what was found when the lockdown was entered, and by
/// the last check, and is not acknowledged. The most that is told at once.
const LISTED: i64 = 10_000;

/// The findings that lock the ledger.
pub async fn open_findings(pool: &Pool) -> Result<Vec<Json>, StoreError> {
    sqlx::query_scalar(
        "/* open_findings */
         SELECT DISTINCT ON (listed.finding ->> 'finding_id') listed.finding - 'acknowledged'
         FROM (
             SELECT f.finding FROM public.ledger_lockdown() AS l
             JOIN public.lockdowns AS e ON e.id = l.lockdown_id
             CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(e.findings) AS f (finding)
             UNION ALL
             SELECT f.finding FROM public.integrity_checks AS c
             CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(c.findings) AS f (finding)
             WHERE c.chain <> 'guards' AND c.run_id = (
                 SELECT last.run_id FROM public.integrity_checks AS last
                 ORDER BY last.id DESC LIMIT 1)) AS listed
         WHERE listed.finding ? 'finding_id' AND NOT EXISTS (
             SELECT FROM public.acknowledged_findings AS a
             WHERE a.finding_id = (listed.finding ->> 'finding_id')::char(64))
         ORDER BY listed.finding ->> 'finding_id' LIMIT $1",
    )
    .bind(LISTED)
    .fetch_all(pool.get())
    .await
    .in_statement("open_findings")
}

/// A request to lift, to be confirmed by another admin.
#[derive(Clone, Debug)]
pub struct LiftRequest {
    /// What the other admin confirms.
    pub id: i64,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// The proof of an admin that the database checks itself.
#[derive(Clone, Copy)]
pub struct AdminProof<'a> {
    /// Which key.
    pub key_id: &'a str,
    /// Its secret.
    pub secret: &'a [u8],
}

/// Requests that the lockdown in force be lifted.
pub async fn request_lift(
    database: &Database,
    proof: AdminProof<'_>,
    reason: &str,
    finding_ids: &[String],
) -> Result<LiftRequest, StoreError> {
    const STATEMENT: &str = "request_lift";
    let mut connection = database.connect().await?;
    let query = sqlx::query(
        "/* request_lift */
         SELECT request_id, expires_at FROM public.ledger_request_lift($1, $2, $3, $4)",
    )
    .bind(proof.key_id)
    .bind(proof.secret)
    .bind(reason)
    .bind(finding_ids);
    let step = async { query.fetch_one(&mut connection).await.in_statement(STATEMENT) };
    let row = within(STEP_WITHIN, STATEMENT, step).await?;
    let _ = connection.close().await;
    Ok(LiftRequest {
        id: row.try_get("request_id").in_statement(STATEMENT)?,
        expires_at: row.try_get("expires_at").in_statement(STATEMENT)?,
    })
}

/// Confirms a request of another admin: the lockdown is lifted.
pub async fn confirm_lift(
    database: &Database,
    proof: AdminProof<'_>,
    request_id: i64,
) -> Result<i64, StoreError> {
    const STATEMENT: &str = "confirm_lift";
    let mut connection = database.connect().await?;
    let query =
        sqlx::query_scalar("/* confirm_lift */ SELECT public.ledger_confirm_lift($1, $2, $3)")
            .bind(proof.key_id)
            .bind(proof.secret)
            .bind(request_id);
    let step = async { query.fetch_one(&mut connection).await.in_statement(STATEMENT) };
    let id = within(STEP_WITHIN, STATEMENT, step).await?;
    let _ = connection.close().await;
    Ok(id)
}

/// Lifts the lockdown in force with the owner's rights alone.
pub async fn lift_as_owner(
    owner: &Database,
    reason: &str,
    finding_ids: &[String],
) -> Result<i64, StoreError> {
    const STATEMENT: &str = "lift_as_owner";
    let mut connection = owner.connect().await?;
    let query =
        sqlx::query_scalar("/* lift_as_owner */ SELECT public.ledger_lift_as_owner($1, $2)")
            .bind(reason)
            .bind(finding_ids);
    let step = async { query.fetch_one(&mut connection).await.in_statement(STATEMENT) };
    let id = within(STEP_WITHIN, STATEMENT, step).await?;
    let _ = connection.close().await;
    Ok(id)
}

/// The `finding_id`s that were acknowledged: those that the event of a lift names, so that what the
/// table alone says, which no hash covers, silences nothing.
pub async fn acknowledged_findings(
    connection: &mut PgConnection,
) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "/* acknowledged_findings */
         SELECT a.finding_id::text
         FROM public.acknowledged_findings AS a
         JOIN public.lockdowns AS l ON l.id = a.lifted_by
         JOIN public.security_events AS e ON e.id = l.security_event_id
         WHERE e.event_type IN ('LOCKDOWN_LIFTED', 'LOCKDOWN_LIFTED_BY_OWNER')
           AND e.details -> 'acknowledged' ? a.finding_id::text",
    )
    .fetch_all(connection)
    .await
    .in_statement("acknowledged_findings")
}

/// Records refused attempts that no event tells yet; how many events that made.
pub async fn record_refusals(database: &Database) -> Result<i32, StoreError> {
    const STATEMENT: &str = "record_refusals";
    let mut connection = database.connect().await?;
    let query = sqlx::query_scalar("/* record_refusals */ SELECT public.ledger_record_refusals()");
    let step = async { query.fetch_one(&mut connection).await.in_statement(STATEMENT) };
    let events = within(STEP_WITHIN, STATEMENT, step).await?;
    let _ = connection.close().await;
    Ok(events)
}
