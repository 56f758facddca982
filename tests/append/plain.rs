//! A client that appends with SQL alone, as `app_trading`.

use sqlx::postgres::PgConnection;

use crate::common::attempt;

/// The heads, read under the lock.
pub(crate) const LOCKED: &str = "public.ledger_begin_append(ARRAY['{chain}'])";
/// The heads, read with no lock: right only where nobody else writes.
pub(crate) const UNLOCKED: &str = "(SELECT coalesce(max(id), 0) AS id,
        coalesce((array_agg(row_hash::text ORDER BY id DESC))[1], public.ledger_genesis('{chain}'))
            AS row_hash,
        max(created_at) AS created_at, clock_timestamp() AS clock
    FROM public.{chain})";

/// The statement that appends one signal after the head that `head` reads.
pub(crate) fn signal(signal_id: &str, head: &str) -> String {
    format!(
        "INSERT INTO public.signals (id, correlation_id, signal_id, symbol, side, price, quantity,
             raw_payload_text, source_ip, hmac_verified, auth_method, recorded_by, received_at,
             created_at, prev_hash, row_hash)
         SELECT r.*, public.signals_hash(prev_hash, id, correlation_id, signal_id, symbol, side,
             price, quantity, raw_payload_text, source_ip, hmac_verified, auth_method,
             recorded_by, received_at, created_at)
         FROM (SELECT h.id + 1 AS id, gen_random_uuid() AS correlation_id,
                      '{signal_id}'::text AS signal_id, 'BTCUSD'::text AS symbol,
                      'BUY'::text AS side, 1.5::numeric(28,10) AS price,
                      2::numeric(28,10) AS quantity, '{{\"plain\": true}}'::text AS raw_payload_text,
                      '10.0.0.7'::inet AS source_ip, false AS hmac_verified,
                      'api_key'::text AS auth_method, 'plain'::text AS recorded_by,
                      h.clock AS received_at, greatest(h.created_at, h.clock) AS created_at,
                      h.row_hash::text AS prev_hash
               FROM {} AS h) AS r",
        head.replace("{chain}", "signals")
    )
}

/// The statement that appends one security event after the head that `head` reads.
pub(crate) fn event(subject: &str, head: &str) -> String {
    format!(
        "INSERT INTO public.security_events (id, event_type, actor, subject, details_text,
             source_ip, created_at, prev_hash, row_hash)
         SELECT r.*, public.security_events_hash(prev_hash, id, event_type, actor, subject,
             details_text, source_ip, created_at)
         FROM (SELECT h.id + 1 AS id, 'PLAIN'::text AS event_type, 'psql'::text AS actor,
                      '{subject}'::text AS subject, '{{}}'::text AS details_text,
                      NULL::inet AS source_ip, greatest(h.created_at, h.clock) AS created_at,
                      h.row_hash::text AS prev_hash
               FROM {} AS h) AS r",
        head.replace("{chain}", "security_events")
    )
}

/// Runs statements in a transaction of this level; an error rolls it back.
pub(crate) async fn transact(
    connection: &mut PgConnection,
    level: &str,
    statements: &[String],
) -> Result<(), sqlx::Error> {
    attempt(connection, &format!("BEGIN ISOLATION LEVEL {level}")).await?;
    for statement in statements {
        if let Err(error) = attempt(connection, statement).await {
            attempt(connection, "ROLLBACK").await?;
            return Err(error);
        }
    }
    let committed = attempt(connection, "COMMIT").await;
    if committed.is_err() {
        // SERIALIZABLE may refuse as late as this.
        let _ = attempt(connection, "ROLLBACK").await;
    }
    committed.map(drop)
}
