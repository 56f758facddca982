//! What the ledger is compared with: the same HTTP server, authentication and mapping, and then
//! one INSERT and its COMMIT for each request.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use audit_ledger::chains::signals::NewSignal;
use audit_ledger::clock::Clock;
use audit_ledger::http;
use audit_ledger::webhook::auth::{Presented, authenticate};
use audit_ledger::webhook::mapping::map_signal;
use audit_ledger::webhook::{Delivery, Source};
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use axum_server::Handle;
use ledger_verifier::decimal;
use sqlx::PgPool;

/// The same columns and indexes as `signals`, with none of the ledger's hashes, links and triggers,
/// and so without the index on the hash.
const PLAIN_TABLE: &str = "
    CREATE SCHEMA baseline;
    CREATE TABLE baseline.plain_signals (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        correlation_id uuid NOT NULL UNIQUE,
        signal_id varchar(64) NOT NULL, symbol varchar(20) NOT NULL, side varchar(10) NOT NULL,
        price numeric(28,10) NOT NULL, quantity numeric(28,10) NOT NULL,
        raw_payload_text text NOT NULL,
        raw_payload jsonb GENERATED ALWAYS AS (raw_payload_text::jsonb) STORED,
        source_ip inet NOT NULL, hmac_verified boolean NOT NULL, auth_method varchar(20) NOT NULL,
        recorded_by varchar(64) NOT NULL, received_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (recorded_by, signal_id));
    CREATE INDEX ON baseline.plain_signals (symbol, id);
    CREATE INDEX ON baseline.plain_signals (side, id);
    CREATE INDEX ON baseline.plain_signals (signal_id, id);
    CREATE INDEX ON baseline.plain_signals (recorded_by, id)";

/// The usual way to chain rows: a row trigger that locks, reads the head and hashes.
const TRIGGER_TABLE: &str = "
    CREATE TABLE baseline.trigger_signals (
        LIKE baseline.plain_signals INCLUDING ALL, prev_hash text, row_hash text);
    CREATE INDEX ON baseline.trigger_signals USING hash (row_hash);
    CREATE FUNCTION baseline.chain_row() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(4711);
        SELECT t.row_hash INTO NEW.prev_hash FROM baseline.trigger_signals t ORDER BY t.id DESC LIMIT 1;
        NEW.id := nextval(pg_get_serial_sequence('baseline.trigger_signals', 'id'));
        NEW.prev_hash := coalesce(NEW.prev_hash, repeat('0', 64));
        NEW.row_hash := encode(sha256(convert_to(concat_ws('|', NEW.prev_hash, NEW.id,
            NEW.correlation_id, NEW.signal_id, NEW.symbol, NEW.side, NEW.price, NEW.quantity,
            NEW.raw_payload_text, NEW.source_ip, NEW.hmac_verified, NEW.auth_method,
            NEW.recorded_by, NEW.received_at, NEW.created_at), 'UTF8')), 'hex');
        RETURN NEW;
    END $$;
    CREATE TRIGGER chain_row BEFORE INSERT ON baseline.trigger_signals
        FOR EACH ROW EXECUTE FUNCTION baseline.chain_row();";

/// Makes both tables, in a schema of their own: the ledger's takes no others.
pub(crate) async fn make_tables(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(PLAIN_TABLE).execute(pool).await?;
    sqlx::raw_sql(TRIGGER_TABLE).execute(pool).await?;
    Ok(())
}

#[derive(Clone, Debug)]
struct Baseline {
    pool: PgPool,
    insert: &'static str,
    source: Arc<Source>,
    clock: Clock,
}

macro_rules! insert_into {
    ($table:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (correlation_id, signal_id, symbol, side, price, quantity, raw_payload_text,
               source_ip, hmac_verified, auth_method, recorded_by, received_at)
             VALUES ($1, $2, $3, $4, $5::text::numeric, $6::text::numeric, $7, $8::text::inet,
                     $9, $10, $11, $12) RETURNING id"
        )
    };
}
/// One unchained row.
pub(crate) const PLAIN: &str = insert_into!("baseline.plain_signals");
/// One row that a trigger chains.
pub(crate) const TRIGGER: &str = insert_into!("baseline.trigger_signals");

/// Serves deliveries that are recorded by this INSERT.
pub(crate) fn serve(
    listener: TcpListener,
    pool: PgPool,
    insert: &'static str,
    source: Arc<Source>,
    handle: Handle<SocketAddr>,
) {
    let state = Baseline { pool, insert, source, clock: Clock::system() };
    let routes = Router::new().route("/webhook/tradingview", post(receive)).with_state(state);
    tokio::spawn(http::serve(listener, routes, handle));
}

async fn receive(
    State(baseline): State<Baseline>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<i64>), (StatusCode, String)> {
    let refuse = |error: String| (StatusCode::BAD_REQUEST, error);
    let received_at = baseline.clock.now();
    let presented = Presented { headers: &headers, path_token: None, address: Some(peer.ip()) };
    let (authenticated, body) = authenticate(&baseline.source, presented, body, received_at)
        .map_err(|error| refuse(error.to_string()))?;
    let delivery = Delivery {
        source: baseline.source.clone(),
        authenticated,
        body,
        content_type: None,
        source_ip: peer.ip(),
        received_at,
    };
    let signal =
        map_signal(&delivery, baseline.clock.new_id()).map_err(|fault| refuse(fault.detail))?;
    let id = insert(&baseline, signal).await.map_err(|error| refuse(error.to_string()))?;
    Ok((StatusCode::CREATED, Json(id)))
}

async fn insert(baseline: &Baseline, signal: NewSignal) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(baseline.insert)
        .bind(signal.correlation_id)
        .bind(signal.signal_id)
        .bind(signal.symbol)
        .bind(signal.side.name())
        .bind(decimal::to_string(signal.price, 10))
        .bind(decimal::to_string(signal.quantity, 10))
        .bind(signal.raw_payload)
        .bind(signal.source_ip.to_string())
        .bind(signal.hmac_verified)
        .bind(signal.auth_method)
        .bind(signal.recorded_by)
        .bind(signal.received_at)
        .fetch_one(&baseline.pool)
        .await
}
