-- What every chain rests on: the list of chains, their hashes, and the ledger's lock.
-- Runs as ledger_owner. Every name is qualified, since a function here may be called under any
-- search_path; SECURITY DEFINER functions pin theirs to pg_catalog, pg_temp.

-- Only this form, without a schema, takes the default EXECUTE from PUBLIC.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- The chains that exist, in the order in which they are reported. A migration that adds a chain
-- replaces this function.
CREATE FUNCTION public.ledger_chains() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['signals', 'security_events', 'quarantined_deliveries']::text[];

-- The prev_hash of a chain's first row (FORMAT.md section 1).
CREATE FUNCTION public.ledger_genesis(chain text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.encode(
        pg_catalog.sha256(pg_catalog.convert_to('audit-ledger/v1/' || chain, 'UTF8')), 'hex');

-- Row hashes (FORMAT.md section 2): one function for each chain, called <chain>_hash, whose
-- parameters carry the names of prev_hash and of the hashed columns, so that a caller can
-- build the call from the catalog.
--
-- The bodies are SQL-standard, STABLE and without helpers, so that PostgreSQL inlines them into
-- the CHECK. A NULL in a column that is NOT NULL makes the whole hash NULL, which the CHECK
-- refuses by its IS TRUE.

CREATE FUNCTION public.signals_hash(
    prev_hash text, id bigint, correlation_id uuid, signal_id text, symbol text, side text,
    price numeric, quantity numeric, raw_payload_text text, source_ip inet,
    hmac_verified boolean, auth_method text, recorded_by text,
    received_at timestamptz, created_at timestamptz
) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        prev_hash
        || '{"auth_method":' || pg_catalog.to_json(auth_method)::text
        || ',"chain":"signals","correlation_id":"' || correlation_id::text
        || '","created_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","hmac_verified":' || hmac_verified::text
        || ',"id":' || id::text
        || ',"price":"' || price::text
        || '","quantity":"' || quantity::text
        || '","raw_payload_sha256":"' || pg_catalog.encode(
               pg_catalog.sha256(pg_catalog.convert_to(raw_payload_text, 'UTF8')), 'hex')
        || '","received_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', received_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","recorded_by":' || pg_catalog.to_json(recorded_by)::text
        || ',"side":' || pg_catalog.to_json(side)::text
        || ',"signal_id":' || pg_catalog.to_json(signal_id)::text
        || ',"source_ip":"' || pg_catalog.host(source_ip)
        || '","symbol":' || pg_catalog.to_json(symbol)::text
        || ',"v":1}', 'UTF8')), 'hex');

CREATE FUNCTION public.security_events_hash(
    prev_hash text, id bigint, event_type text, actor text, subject text, details_text text,
    source_ip inet, created_at timestamptz
) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        prev_hash
        || '{"actor":' || pg_catalog.to_json(actor)::text
        || ',"chain":"security_events","created_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","details_sha256":"' || pg_catalog.encode(
               pg_catalog.sha256(pg_catalog.convert_to(details_text, 'UTF8')), 'hex')
        || '","event_type":' || pg_catalog.to_json(event_type)::text
        || ',"id":' || id::text
        || ',"source_ip":' || COALESCE('"' || pg_catalog.host(source_ip) || '"', 'null')
        || ',"subject":' || COALESCE(pg_catalog.to_json(subject)::text, 'null')
        || ',"v":1}', 'UTF8')), 'hex');

CREATE FUNCTION public.quarantined_deliveries_hash(
    prev_hash text, id bigint, source text, reason text, detail text, body bytea,
    content_type text, source_ip inet, auth_method text, hmac_verified boolean,
    duplicate_of uuid, received_at timestamptz, created_at timestamptz
) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        prev_hash
        || '{"auth_method":' || pg_catalog.to_json(auth_method)::text
        || ',"body_sha256":"' || pg_catalog.encode(pg_catalog.sha256(body), 'hex')
        || '","chain":"quarantined_deliveries","content_type":'
        || COALESCE(pg_catalog.to_json(content_type)::text, 'null')
        || ',"created_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","detail":' || COALESCE(pg_catalog.to_json(detail)::text, 'null')
        || ',"duplicate_of":' || COALESCE('"' || duplicate_of::text || '"', 'null')
        || ',"hmac_verified":' || hmac_verified::text
        || ',"id":' || id::text
        || ',"reason":' || pg_catalog.to_json(reason)::text
        || ',"received_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', received_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","source":' || pg_catalog.to_json(source)::text
        || ',"source_ip":"' || pg_catalog.host(source_ip)
        || '","v":1}', 'UTF8')), 'hex');

-- The lock under which everything is appended. The table stays empty; what is locked is the
-- table itself, which only the owner's functions may do. An advisory lock could be taken, and
-- the ledger stopped, by any login.
CREATE TABLE public.ledger_lock ();

-- Held by a run of `verify`, so that one runs at a time. Nobody but the owner's function below
-- can take it; see ledger_begin_check() in 0003.
CREATE TABLE public.ledger_check_lock ();
