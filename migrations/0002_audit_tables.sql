-- The chains of the core, the log over all chains, and the record of checks.
-- Runs as ledger_owner.
--
-- In every chain: `id` is the position 1, 2, 3, … without gaps; it never comes from a sequence,
-- which a rollback would leave a gap in. `created_at` is the database's clock under the ledger's
-- lock and never decreases. `prev_hash` is the row_hash of the row before; `row_hash` covers
-- prev_hash and every other column but the generated ones. No row is ever changed.
--
-- Every constraint is named, since the service maps refusals by that name. `x::text IN (…)` is
-- spelt with its cast because the deparsed form of `varchar IN (…)` changes over a restore.

-- Every verified webhook that became a signal: the root of a trade's story.
CREATE TABLE public.signals (
    id bigint NOT NULL,
    -- Anchor of the trade's story, made by the ledger (UUIDv7).
    correlation_id uuid NOT NULL,
    -- The sender's idempotency key, unique for each recorded_by.
    signal_id varchar(64) NOT NULL,
    symbol varchar(20) NOT NULL,
    side varchar(10) NOT NULL,
    -- Price of one unit, in the symbol's quote currency.
    price numeric(28,10) NOT NULL,
    -- Units of the symbol.
    quantity numeric(28,10) NOT NULL,
    -- The delivery's exact body. The JSONB beside it is for filters in SQL only: it drops key
    -- order, duplicate keys and the spelling of numbers.
    raw_payload_text text NOT NULL,
    raw_payload jsonb NOT NULL GENERATED ALWAYS AS (raw_payload_text::jsonb) STORED,
    -- The client's address: the peer's, or a trusted proxy's word.
    source_ip inet NOT NULL,
    -- True only where an HMAC over the body was checked.
    hmac_verified boolean NOT NULL,
    auth_method varchar(20) NOT NULL,
    -- The source's or API key's name.
    recorded_by varchar(64) NOT NULL,
    -- When the service had the request, by the service's clock.
    received_at timestamptz NOT NULL,
    prev_hash char(64) NOT NULL,
    row_hash char(64) NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT signals_pkey PRIMARY KEY (id),
    CONSTRAINT signals_correlation_id_key UNIQUE (correlation_id),
    CONSTRAINT signals_signal_id_key UNIQUE (recorded_by, signal_id),
    CONSTRAINT signals_side_known CHECK (side::text IN ('BUY', 'SELL')),
    CONSTRAINT signals_price_positive CHECK (price > 0 AND price <> 'NaN'),
    CONSTRAINT signals_quantity_positive CHECK (quantity > 0 AND quantity <> 'NaN'),
    CONSTRAINT signals_raw_payload_size CHECK (pg_catalog.octet_length(raw_payload_text) <= 1048576),
    CONSTRAINT signals_source_ip_host CHECK (
        pg_catalog.masklen(source_ip) = CASE pg_catalog.family(source_ip) WHEN 4 THEN 32 ELSE 128 END),
    CONSTRAINT signals_auth_method_known CHECK (
        auth_method::text IN ('hmac', 'standard_webhooks', 'path_token', 'body_token', 'api_key')),
    CONSTRAINT signals_times_hashable CHECK (
        received_at >= '1970-01-01 00:00:00+00' AND received_at < '10000-01-01 00:00:00+00'
        AND created_at >= '1970-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT signals_row_hash_correct CHECK ((row_hash::text = public.signals_hash(
        prev_hash, id, correlation_id, signal_id, symbol, side, price, quantity,
        raw_payload_text, source_ip, hmac_verified, auth_method, recorded_by, received_at,
        created_at)) IS TRUE)
);

-- The audit of the audit: starts, migrations, keys, exports, integrity failures, lockdowns.
CREATE TABLE public.security_events (
    id bigint NOT NULL,
    -- What happened, in capitals: SERVICE_STARTED, INTEGRITY_FAILURE, …
    event_type varchar(40) NOT NULL,
    -- Who did it: a key's or login's name, or 'system'. A statement of the service.
    actor varchar(64) NOT NULL,
    -- What it was done to.
    subject text,
    details_text text NOT NULL,
    details jsonb NOT NULL GENERATED ALWAYS AS (details_text::jsonb) STORED,
    source_ip inet,
    prev_hash char(64) NOT NULL,
    row_hash char(64) NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT security_events_pkey PRIMARY KEY (id),
    CONSTRAINT security_events_details_size CHECK (pg_catalog.octet_length(details_text) <= 1048576),
    CONSTRAINT security_events_source_ip_host CHECK (
        pg_catalog.masklen(source_ip) = CASE pg_catalog.family(source_ip) WHEN 4 THEN 32 ELSE 128 END),
    CONSTRAINT security_events_times_hashable CHECK (
        created_at >= '1970-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT security_events_row_hash_correct CHECK ((row_hash::text = public.security_events_hash(
        prev_hash, id, event_type, actor, subject, details_text, source_ip, created_at)) IS TRUE)
);

-- Authenticated deliveries that could not become a signal, byte for byte.
CREATE TABLE public.quarantined_deliveries (
    id bigint NOT NULL,
    -- The configured source that it was sent to.
    source varchar(64) NOT NULL,
    -- Why it is here; a word that programs compare.
    reason varchar(40) NOT NULL,
    -- Which member is at fault and how, for people.
    detail text,
    -- The exact bytes received, which may not be text.
    body bytea NOT NULL,
    content_type varchar(255),
    source_ip inet NOT NULL,
    auth_method varchar(20) NOT NULL,
    hmac_verified boolean NOT NULL,
    -- The signal's correlation_id that it conflicts with.
    duplicate_of uuid,
    received_at timestamptz NOT NULL,
    prev_hash char(64) NOT NULL,
    row_hash char(64) NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT quarantined_deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT quarantined_deliveries_reason_known CHECK (reason::text IN (
        'malformed_json', 'not_an_object', 'duplicate_member', 'invalid_utf8', 'nul_character',
        'missing_field', 'invalid_field', 'too_long', 'precision_loss', 'conflicting_duplicate',
        'lockdown')),
    CONSTRAINT quarantined_deliveries_body_size CHECK (pg_catalog.octet_length(body) <= 1048576),
    CONSTRAINT quarantined_deliveries_source_ip_host CHECK (
        pg_catalog.masklen(source_ip) = CASE pg_catalog.family(source_ip) WHEN 4 THEN 32 ELSE 128 END),
    CONSTRAINT quarantined_deliveries_auth_method_known CHECK (
        auth_method::text IN ('hmac', 'standard_webhooks', 'path_token', 'body_token', 'api_key')),
    CONSTRAINT quarantined_deliveries_times_hashable CHECK (
        received_at >= '1970-01-01 00:00:00+00' AND received_at < '10000-01-01 00:00:00+00'
        AND created_at >= '1970-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT quarantined_deliveries_row_hash_correct CHECK (
        (row_hash::text = public.quarantined_deliveries_hash(
            prev_hash, id, source, reason, detail, body, content_type, source_ip, auth_method,
            hmac_verified, duplicate_of, received_at, created_at)) IS TRUE)
);
-- A delivery that is sent again is answered with the row it already has.
CREATE UNIQUE INDEX quarantined_deliveries_content_key
    ON public.quarantined_deliveries (source, reason, pg_catalog.sha256(body));

-- The total order of everything appended: the leaf list of the Merkle tree. The append trigger
-- fills it, in the transaction of the row, whoever inserts.
CREATE TABLE public.ledger_log (
    -- 0, 1, 2, … without gaps.
    leaf_index bigint NOT NULL,
    chain varchar(40) NOT NULL,
    id bigint NOT NULL,
    row_hash char(64) NOT NULL,
    CONSTRAINT ledger_log_pkey PRIMARY KEY (leaf_index),
    CONSTRAINT ledger_log_chain_id_key UNIQUE (chain, id)
);

-- Every check of a chain or of the log, kept for ever. `id`, `checked_by` and `checked_at` are the
-- database's own word: nobody may insert them.
CREATE TABLE public.integrity_checks (
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- Shared by the chains that one run looked at.
    run_id uuid NOT NULL,
    -- A chain's name, or ledger_log.
    chain varchar(40) NOT NULL,
    -- full, or range.
    kind varchar(20) NOT NULL,
    -- First and last id (leaf index for the log) that the check covers; NULL where it had none.
    range_start bigint,
    range_end bigint,
    -- Rows that the range must hold, and rows that were read.
    expected_count bigint NOT NULL,
    actual_count bigint NOT NULL,
    -- Whether everything in the range was looked at.
    finished boolean NOT NULL,
    -- The verdict; NULL where there is none: no row was there, or the check could not finish and
    -- had found nothing until then.
    chain_valid boolean,
    -- All findings; `findings` lists the first thousand of them.
    findings_count bigint NOT NULL,
    findings jsonb NOT NULL,
    duration_ms bigint NOT NULL,
    -- Version of the program that checked.
    checked_with varchar(40) NOT NULL,
    -- The database login that wrote this row.
    checked_by name NOT NULL DEFAULT SESSION_USER,
    checked_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT integrity_checks_pkey PRIMARY KEY (id),
    CONSTRAINT integrity_checks_verdict CHECK (finished OR chain_valid IS NOT TRUE)
);
