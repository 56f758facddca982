-- Every signal of every producer, and what became of it; and the indexes that filters need.
-- Runs as ledger_owner.

CREATE FUNCTION public.signal_audit_ledger_hash(
    prev_hash text, id bigint, record_type text, signal_id text, source_module text,
    signal_type text, ticker text, direction text, conviction numeric, confidence numeric,
    price numeric, "timestamp" timestamptz, payload_json_text text, acted_upon boolean,
    execution_id text, latency_ms integer, correlation_id uuid, recorded_by text,
    received_at timestamptz, created_at timestamptz
) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        prev_hash
        || '{"acted_upon":' || acted_upon::text
        || ',"chain":"signal_audit_ledger","confidence":'
        || COALESCE('"' || confidence::text || '"', 'null')
        || ',"conviction":"' || conviction::text
        || '","correlation_id":' || COALESCE('"' || correlation_id::text || '"', 'null')
        || ',"created_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","direction":' || pg_catalog.to_json(direction)::text
        || ',"execution_id":' || COALESCE(pg_catalog.to_json(execution_id)::text, 'null')
        || ',"id":' || id::text
        || ',"latency_ms":' || latency_ms::text
        || ',"payload_json_sha256":"' || pg_catalog.encode(
               pg_catalog.sha256(pg_catalog.convert_to(payload_json_text, 'UTF8')), 'hex')
        || '","price":' || COALESCE('"' || price::text || '"', 'null')
        || ',"received_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', received_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","record_type":' || pg_catalog.to_json(record_type)::text
        || ',"recorded_by":' || pg_catalog.to_json(recorded_by)::text
        || ',"signal_id":' || pg_catalog.to_json(signal_id)::text
        || ',"signal_type":' || COALESCE(pg_catalog.to_json(signal_type)::text, 'null')
        || ',"source_module":' || pg_catalog.to_json(source_module)::text
        || ',"ticker":' || pg_catalog.to_json(ticker)::text
        || ',"timestamp":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', "timestamp"), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","v":1}', 'UTF8')), 'hex');

-- Every signal of every producer (record_type SIGNAL). What becomes known later, that it was acted
-- upon and by which execution, is a further row (OUTCOME) with the same source_module and
-- signal_id, which repeats the signal's ticker, direction and conviction: no row is ever changed.
CREATE TABLE public.signal_audit_ledger (
    id bigint NOT NULL,
    record_type varchar(10) NOT NULL,
    -- The producer's key, unique among the SIGNAL rows of a source_module.
    signal_id varchar(64) NOT NULL,
    -- The producer: ema, social, fusion, agent, …
    source_module varchar(50) NOT NULL,
    signal_type varchar(50),
    ticker varchar(20) NOT NULL,
    direction varchar(10) NOT NULL,
    -- How strong the signal is, from 0 to 100.
    conviction numeric(7,4) NOT NULL,
    -- How sure the producer is, from 0 to 1.
    confidence numeric(5,4),
    -- Price of one unit, in the ticker's quote currency; spreads and energy go below zero.
    price numeric(28,10),
    -- When the producer made the record, by its own clock; received_at where an OUTCOME said nothing.
    "timestamp" timestamptz NOT NULL,
    -- What else the producer said, byte for byte. The JSONB beside it is for filters in SQL only.
    payload_json_text text NOT NULL,
    payload_json jsonb NOT NULL GENERATED ALWAYS AS (payload_json_text::jsonb) STORED,
    acted_upon boolean NOT NULL,
    -- The execution that acted upon the signal, where there is one.
    execution_id varchar(64),
    -- received_at minus timestamp in whole milliseconds, rounded down and clamped to
    -- 2147483647 either way.
    latency_ms integer NOT NULL,
    -- The webhook's signal that this one belongs to.
    correlation_id uuid,
    recorded_by varchar(64) NOT NULL,
    received_at timestamptz NOT NULL,
    prev_hash char(64) NOT NULL,
    row_hash char(64) NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT signal_audit_ledger_pkey PRIMARY KEY (id),
    CONSTRAINT signal_audit_ledger_correlation_id_fkey
        FOREIGN KEY (correlation_id) REFERENCES public.signals (correlation_id),
    CONSTRAINT signal_audit_ledger_record_type_known
        CHECK (record_type::text IN ('SIGNAL', 'OUTCOME')),
    CONSTRAINT signal_audit_ledger_direction_known
        CHECK (direction::text IN ('LONG', 'SHORT', 'NEUTRAL')),
    CONSTRAINT signal_audit_ledger_conviction_range
        CHECK (conviction >= 0 AND conviction <= 100 AND conviction <> 'NaN'),
    CONSTRAINT signal_audit_ledger_confidence_range
        CHECK (confidence >= 0 AND confidence <= 1 AND confidence <> 'NaN'),
    CONSTRAINT signal_audit_ledger_price_number CHECK (price <> 'NaN'),
    CONSTRAINT signal_audit_ledger_payload_json_size
        CHECK (pg_catalog.octet_length(payload_json_text) <= 1048576),
    CONSTRAINT signal_audit_ledger_times_hashable CHECK (
        "timestamp" >= '1970-01-01 00:00:00+00' AND "timestamp" < '10000-01-01 00:00:00+00'
        AND received_at >= '1970-01-01 00:00:00+00' AND received_at < '10000-01-01 00:00:00+00'
        AND created_at >= '1970-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT signal_audit_ledger_row_hash_correct CHECK (
        (row_hash::text = public.signal_audit_ledger_hash(
            prev_hash, id, record_type, signal_id, source_module, signal_type, ticker, direction,
            conviction, confidence, price, "timestamp", payload_json_text, acted_upon,
            execution_id, latency_ms, correlation_id, recorded_by, received_at, created_at))
        IS TRUE)
);

-- What an outcome's producer gave, as one value: the same again is a duplicate. Times by their
-- distance from 1970, since their text depends on the session; one that was not given is
-- received_at, and none.
CREATE FUNCTION public.ledger_outcome_content(
    signal_type text, confidence numeric, price numeric, "timestamp" timestamptz,
    received_at timestamptz, payload_json_text text, acted_upon boolean, execution_id text,
    correlation_id uuid
) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.sha256(pg_catalog.convert_to(
        COALESCE(pg_catalog.to_json(signal_type)::text, 'null')
        || ' ' || COALESCE(confidence::text, 'null')
        || ' ' || COALESCE(price::text, 'null')
        || ' ' || COALESCE(EXTRACT(epoch FROM pg_catalog.timezone(
               'UTC', NULLIF("timestamp", received_at)))::text, 'null')
        || ' ' || acted_upon::text
        || ' ' || COALESCE(pg_catalog.to_json(execution_id)::text, 'null')
        || ' ' || COALESCE(correlation_id::text, 'null')
        || ' ' || payload_json_text, 'UTF8'));
REVOKE ALL ON FUNCTION public.ledger_outcome_content(text, numeric, numeric, timestamptz, timestamptz,
    text, boolean, text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.ledger_outcome_content(text, numeric, numeric, timestamptz,
    timestamptz, text, boolean, text, uuid) TO app_trading, ledger_auditor;

-- One signal of a key, and each of its outcomes once. Finds whether a record is there already, and
-- who uses a signal_id.
CREATE UNIQUE INDEX signal_audit_ledger_record_key ON public.signal_audit_ledger
    (signal_id, source_module, (CASE record_type::text WHEN 'SIGNAL' THEN ''::bytea
        ELSE public.ledger_outcome_content(signal_type, confidence, price, "timestamp", received_at,
            payload_json_text, acted_upon, execution_id, correlation_id) END));
CREATE INDEX signal_audit_ledger_outcome_idx
    ON public.signal_audit_ledger (signal_id, source_module, id) INCLUDE (acted_upon)
    WHERE record_type::text = 'OUTCOME';

-- BEFORE INSERT lets every row through that names a signal; here, AFTER INSERT, an outcome's signal
-- must be there before it, and say what it repeats.
CREATE FUNCTION public.ledger_check_outcomes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong record;
BEGIN
    SELECT n.id, s.id AS id_of_signal INTO wrong
    FROM new_rows AS n
    LEFT JOIN LATERAL (
        SELECT t.id, t.ticker, t.direction, t.conviction FROM public.signal_audit_ledger AS t
        WHERE t.signal_id = n.signal_id AND t.source_module = n.source_module
          -- By the whole unique key, or a plan that was made for an empty table might use another
          -- index, and read all of it later.
          AND (CASE t.record_type::text WHEN 'SIGNAL' THEN ''::bytea
               ELSE public.ledger_outcome_content(t.signal_type, t.confidence, t.price,
                   t."timestamp", t.received_at, t.payload_json_text, t.acted_upon, t.execution_id,
                   t.correlation_id) END) = ''::bytea
        LIMIT 1) AS s ON s.id < n.id
    WHERE n.record_type::text = 'OUTCOME'
      AND (n.ticker = s.ticker AND n.direction = s.direction AND n.conviction = s.conviction)
          IS NOT TRUE
    ORDER BY n.id LIMIT 1;
    IF FOUND AND wrong.id_of_signal IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU008',
            MESSAGE = format('AUD-008: the outcome in row %s names no signal that is recorded before it',
                             wrong.id);
    ELSIF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU011',
            MESSAGE = format('AUD-011: the outcome in row %s does not repeat ticker, direction and '
                             'conviction of its signal, row %s', wrong.id, wrong.id_of_signal);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION public.ledger_chains() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['signals', 'ai_debates', 'order_execution', 'order_events', 'signal_audit_ledger',
                 'security_events', 'quarantined_deliveries']::text[];

CALL public.ledger_attach_chain('public.signal_audit_ledger');
CREATE TRIGGER ledger_check_outcomes AFTER INSERT ON public.signal_audit_ledger
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_check_outcomes();
ALTER TABLE public.signal_audit_ledger ENABLE ALWAYS TRIGGER ledger_check_outcomes;
CALL public.ledger_grant_rights('public.signal_audit_ledger', true);
GRANT EXECUTE ON FUNCTION public.signal_audit_ledger_hash(text, bigint, text, text, text, text, text,
        text, numeric, numeric, numeric, timestamptz, text, boolean, text, integer, uuid, text,
        timestamptz, timestamptz)
    TO app_trading, ledger_auditor;

-- As the service reads one: other words for a direction, in any case.
CREATE FUNCTION public.ledger_direction(word text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- By the letters of ASCII, whatever the database's language makes of an I.
    RETURN CASE pg_catalog.lower(word COLLATE pg_catalog."C")
        WHEN 'long' THEN 'LONG' WHEN 'buy' THEN 'LONG' WHEN 'bullish' THEN 'LONG'
        WHEN 'short' THEN 'SHORT' WHEN 'sell' THEN 'SHORT' WHEN 'bearish' THEN 'SHORT'
        WHEN 'neutral' THEN 'NEUTRAL' WHEN 'flat' THEN 'NEUTRAL'
        ELSE word END;

-- Appends a signal or an outcome, for clients that speak only SQL: ledger_append_row() with what is
-- this chain's own. What may be left out has its default; the ledger computes latency_ms, and an
-- outcome repeats its signal. The same again is a duplicate, answered with its first receipt; of an
-- outcome, any that was there before.
CREATE FUNCTION public.append_signal_audit_ledger(new_row jsonb)
    RETURNS TABLE (status text, chain text, id bigint, leaf_index bigint, row_hash text,
                   prev_hash text, created_at timestamptz)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    this_chain CONSTANT text := 'signal_audit_ledger';
    -- What the ledger fills, and an outcome takes from its signal.
    filled text[] := ARRAY['latency_ms'];
    prepared jsonb;
    is_outcome boolean;
    signal public.signal_audit_ledger;
    stored record;
    -- Read as numeric, uuid and the like.
    given public.signal_audit_ledger;
    member text;
BEGIN
    IF jsonb_typeof(new_row) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'VAL-001: a row is a JSON object'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    prepared := jsonb_strip_nulls(jsonb_build_object(
            'record_type', 'SIGNAL', 'received_at', clock_timestamp(),
            'payload_json_text', CASE WHEN nullif(new_row -> 'payload_json', 'null') IS NULL
                THEN '{}' END))
        -- A null is as good as nothing where there is a default.
        || coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(new_row)
                     WHERE value <> 'null' OR key NOT IN (
                         'record_type', 'received_at', 'payload_json_text', 'timestamp',
                         'acted_upon')), '{}');
    is_outcome := prepared -> 'record_type' = '"OUTCOME"';
    IF is_outcome THEN
        filled := filled || ARRAY['ticker', 'direction', 'conviction'];
        prepared := jsonb_build_object('timestamp', prepared -> 'received_at') || prepared;
    ELSE
        prepared := jsonb_build_object('acted_upon', false) || prepared;
    END IF;
    SELECT f INTO member FROM unnest(filled) AS f WHERE new_row ? f LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'VAL-002: % is not a member that % takes', member,
            CASE WHEN is_outcome THEN 'an OUTCOME' ELSE this_chain END
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(prepared -> 'direction') = 'string' THEN
        prepared := prepared || jsonb_build_object(
            'direction', public.ledger_direction(prepared ->> 'direction'));
    END IF;

    PERFORM FROM public.ledger_begin_append(ARRAY[this_chain]);
    IF is_outcome THEN
        SELECT t.* INTO signal FROM public.signal_audit_ledger AS t
        WHERE t.signal_id = prepared ->> 'signal_id'
          AND t.source_module = prepared ->> 'source_module'
          -- The whole unique key, as in ledger_check_outcomes().
          AND (CASE t.record_type::text WHEN 'SIGNAL' THEN ''::bytea
               ELSE public.ledger_outcome_content(t.signal_type, t.confidence, t.price,
                   t."timestamp", t.received_at, t.payload_json_text, t.acted_upon, t.execution_id,
                   t.correlation_id) END) = ''::bytea;
        -- Where there is none, the other members are looked at first.
        prepared := prepared || jsonb_build_object(
            'ticker', coalesce(signal.ticker, '?'), 'direction', coalesce(signal.direction, 'LONG'),
            'conviction', coalesce(signal.conviction, 0)::text);
    END IF;
    given := jsonb_populate_record(NULL::public.signal_audit_ledger,
        public.ledger_read_row(this_chain, prepared || '{"latency_ms": 0}'));
    IF is_outcome AND signal.id IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU008',
            MESSAGE = 'AUD-008: signal_id names no signal of this source_module';
    END IF;

    SELECT t.id, t.row_hash::text, t.prev_hash::text, t.created_at, l.leaf_index,
           is_outcome OR (t.signal_type, t.ticker, t.direction, t.conviction, t.confidence, t.price,
                          t."timestamp", t.payload_json_text, t.acted_upon, t.execution_id,
                          t.correlation_id)
                         IS NOT DISTINCT FROM
                         (given.signal_type, given.ticker, given.direction, given.conviction,
                          given.confidence, given.price, given."timestamp",
                          given.payload_json_text, given.acted_upon, given.execution_id,
                          given.correlation_id) AS is_same
    INTO stored
    FROM public.signal_audit_ledger AS t
    JOIN public.ledger_log AS l ON l.chain = this_chain AND l.id = t.id
    WHERE t.signal_id = given.signal_id AND t.source_module = given.source_module
      AND (CASE t.record_type::text WHEN 'SIGNAL' THEN ''::bytea
          ELSE public.ledger_outcome_content(t.signal_type, t.confidence, t.price, t."timestamp",
              t.received_at, t.payload_json_text, t.acted_upon, t.execution_id, t.correlation_id)
          END)
        = CASE WHEN is_outcome THEN public.ledger_outcome_content(given.signal_type,
              given.confidence, given.price, given."timestamp", given.received_at,
              given.payload_json_text, given.acted_upon, given.execution_id, given.correlation_id)
          ELSE ''::bytea END;
    IF stored.is_same THEN
        RETURN QUERY SELECT 'duplicate', this_chain, stored.id, stored.leaf_index,
                            stored.row_hash, stored.prev_hash, stored.created_at;
        RETURN;
    ELSIF stored.id IS NOT NULL THEN
        RAISE EXCEPTION 'IDP-001: signal_id was recorded before with other content'
            USING ERRCODE = 'unique_violation';
    END IF;
    RETURN QUERY SELECT * FROM public.ledger_append_row(this_chain, prepared || jsonb_build_object(
        'latency_ms', greatest(-2147483647, least(2147483647,
            floor(extract(epoch FROM given.received_at - given."timestamp") * 1000)))::bigint));
END
$$;
REVOKE ALL ON FUNCTION public.ledger_direction(text),
    public.append_signal_audit_ledger(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.ledger_direction(text),
    public.append_signal_audit_ledger(jsonb) TO app_trading;

-- Each signal with its latest outcome: what is known of it now.
CREATE VIEW public.vw_signal_current AS
SELECT
    s.id,
    s.signal_id,
    s.source_module,
    s.signal_type,
    s.ticker,
    s.direction,
    s.conviction,
    s.confidence,
    s.price,
    s."timestamp",
    s.payload_json_text,
    s.payload_json,
    coalesce(o.acted_upon, s.acted_upon) AS acted_upon,
    coalesce(o.execution_id, s.execution_id) AS execution_id,
    s.latency_ms,
    s.correlation_id,
    s.recorded_by,
    s.received_at,
    s.created_at,
    s.row_hash,
    o.id AS outcome_id,
    o."timestamp" AS outcome_timestamp,
    o.payload_json_text AS outcome_payload_json_text,
    o.recorded_by AS outcome_recorded_by,
    o.created_at AS outcome_created_at,
    o.row_hash AS outcome_row_hash
FROM public.signal_audit_ledger AS s
LEFT JOIN LATERAL (
    SELECT * FROM public.signal_audit_ledger AS t
    WHERE t.signal_id = s.signal_id AND t.source_module = s.source_module
      AND t.record_type::text = 'OUTCOME'
    ORDER BY t.id DESC LIMIT 1
) AS o ON true
WHERE s.record_type::text = 'SIGNAL';
GRANT SELECT ON public.vw_signal_current TO app_trading, ledger_auditor;

-- A filter by a column goes with an order by id, so each index has the id behind the column: a page
-- is one range of it, however deep. Times of the append need none, since created_at follows the id. And
-- none on what a unique key begins with: on a table without statistics the planner may take the
-- index of a filter for the look-up of a key, and read all that was recorded by one.
CREATE INDEX signal_audit_ledger_source_module_idx
    ON public.signal_audit_ledger (source_module, id);
CREATE INDEX signal_audit_ledger_ticker_idx ON public.signal_audit_ledger (ticker, id);
CREATE INDEX signal_audit_ledger_direction_idx ON public.signal_audit_ledger (direction, id);
CREATE INDEX signal_audit_ledger_signal_type_idx ON public.signal_audit_ledger (signal_type, id);
CREATE INDEX signal_audit_ledger_recorded_by_idx ON public.signal_audit_ledger (recorded_by, id);
CREATE INDEX signal_audit_ledger_conviction_idx ON public.signal_audit_ledger (conviction, id);
CREATE INDEX signal_audit_ledger_timestamp_idx ON public.signal_audit_ledger ("timestamp", id);
CREATE INDEX signal_audit_ledger_acted_upon_idx
    ON public.signal_audit_ledger (id) WHERE acted_upon;
CREATE INDEX signal_audit_ledger_record_type_idx
    ON public.signal_audit_ledger (id) WHERE record_type::text = 'OUTCOME';
CREATE INDEX signal_audit_ledger_execution_id_idx
    ON public.signal_audit_ledger (execution_id, id) WHERE execution_id IS NOT NULL;
CREATE INDEX signal_audit_ledger_correlation_id_idx
    ON public.signal_audit_ledger (correlation_id, id) WHERE correlation_id IS NOT NULL;
CREATE INDEX signal_audit_ledger_row_hash_idx ON public.signal_audit_ledger USING hash (row_hash);

CREATE INDEX signals_symbol_idx ON public.signals (symbol, id);
CREATE INDEX signals_side_idx ON public.signals (side, id);
CREATE INDEX signals_signal_id_idx ON public.signals (signal_id, id);
CREATE INDEX signals_row_hash_idx ON public.signals USING hash (row_hash);
CREATE INDEX ai_debates_model_name_idx ON public.ai_debates (model_name, id);
CREATE INDEX ai_debates_recorded_by_idx ON public.ai_debates (recorded_by, id);
CREATE INDEX ai_debates_row_hash_idx ON public.ai_debates USING hash (row_hash);
CREATE INDEX order_execution_symbol_idx ON public.order_execution (symbol, id);
CREATE INDEX order_execution_side_idx ON public.order_execution (side, id);
CREATE INDEX order_execution_order_type_idx ON public.order_execution (order_type, id);
CREATE INDEX order_execution_status_idx ON public.order_execution (status, id);
CREATE INDEX order_execution_exchange_order_id_idx
    ON public.order_execution (exchange_order_id, id) WHERE exchange_order_id IS NOT NULL;
CREATE INDEX order_execution_recorded_by_idx ON public.order_execution (recorded_by, id);
CREATE INDEX order_execution_row_hash_idx ON public.order_execution USING hash (row_hash);
CREATE INDEX order_events_event_type_idx ON public.order_events (event_type, id);
CREATE INDEX order_events_recorded_by_idx ON public.order_events (recorded_by, id);
CREATE INDEX order_events_row_hash_idx ON public.order_events USING hash (row_hash);
CREATE INDEX security_events_event_type_idx ON public.security_events (event_type, id);
CREATE INDEX security_events_actor_idx ON public.security_events (actor, id);
CREATE INDEX security_events_row_hash_idx ON public.security_events USING hash (row_hash);
CREATE INDEX quarantined_deliveries_row_hash_idx
    ON public.quarantined_deliveries USING hash (row_hash);

-- What all of it is.
CALL public.ledger_describe_table('public.signal_audit_ledger');
DO $$
DECLARE
    filter record;
BEGIN
    FOR filter IN
        SELECT i.indexrelid::regclass AS name, a.attname AS key_column
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relnamespace = 'public'::regnamespace
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE c.relname LIKE '%\_idx' AND obj_description(i.indexrelid, 'pg_class') IS NULL
    LOOP
        EXECUTE format('COMMENT ON INDEX %s IS %L', filter.name,
                       format('Finds rows by %s, in the order of their ids.', filter.key_column));
    END LOOP;
END
$$;
COMMENT ON INDEX public.signal_audit_ledger_record_type_idx IS
    'Finds outcomes among all records, in the order of their ids.';
COMMENT ON INDEX public.signal_audit_ledger_acted_upon_idx IS
    'Finds records that say that a signal was acted upon, in the order of their ids.';
COMMENT ON INDEX public.signal_audit_ledger_outcome_idx IS
    'Finds the outcomes of a signal, in their order.';
COMMENT ON INDEX public.signal_audit_ledger_record_key IS
    'Lets a signal_id stand once among the SIGNAL rows of a source_module (IDP-001), and the same '
    'outcome once; finds whoever uses a signal_id.';
COMMENT ON FUNCTION public.ledger_outcome_content(text, numeric, numeric, timestamptz, timestamptz,
    text, boolean, text, uuid) IS
    'What the producer of an OUTCOME gave, as one value: the same again is a duplicate.';
COMMENT ON TABLE public.signal_audit_ledger IS
    'Chain: every signal of every producer, and what became of it. Written by the service for its '
    'clients; no row is ever changed: what becomes known later is a further row.';
COMMENT ON COLUMN public.signal_audit_ledger.record_type IS
    'SIGNAL, or OUTCOME: what became known later of the signal with the same source_module and '
    'signal_id.';
COMMENT ON COLUMN public.signal_audit_ledger.signal_id IS
    'The producer''s key, unique among the SIGNAL rows of a source_module.';
COMMENT ON COLUMN public.signal_audit_ledger.source_module IS
    'The producer: ema, social, fusion, agent, …. Any name is taken.';
COMMENT ON COLUMN public.signal_audit_ledger.signal_type IS
    'The producer''s name for this kind of signal.';
COMMENT ON COLUMN public.signal_audit_ledger.ticker IS
    'What the signal is about, as the producer spells it; an OUTCOME repeats its signal''s.';
COMMENT ON COLUMN public.signal_audit_ledger.direction IS
    'LONG, SHORT or NEUTRAL; an OUTCOME repeats its signal''s.';
COMMENT ON COLUMN public.signal_audit_ledger.conviction IS
    'How strong the signal is, from 0 to 100. Exact; an OUTCOME repeats its signal''s.';
COMMENT ON COLUMN public.signal_audit_ledger.confidence IS
    'How sure the producer is, from 0 to 1. Exact.';
COMMENT ON COLUMN public.signal_audit_ledger.price IS
    'Price of one unit, in the ticker''s quote currency. Exact; it may be below zero.';
COMMENT ON COLUMN public.signal_audit_ledger."timestamp" IS
    'When the producer made the record, by its own clock; received_at where an OUTCOME gave none.';
COMMENT ON COLUMN public.signal_audit_ledger.payload_json_text IS
    'What else the producer said, as JSON, byte for byte. Its SHA-256 is what row_hash covers.';
COMMENT ON COLUMN public.signal_audit_ledger.payload_json IS
    'Generated from payload_json_text, for filters in SQL only: it drops the order of members, '
    'duplicate ones and the spelling of numbers.';
COMMENT ON COLUMN public.signal_audit_ledger.acted_upon IS
    'Whether the signal was acted upon, as far as was known when the row was recorded.';
COMMENT ON COLUMN public.signal_audit_ledger.execution_id IS
    'The execution that acted upon the signal, by its own name.';
COMMENT ON COLUMN public.signal_audit_ledger.latency_ms IS
    'received_at minus timestamp, in whole milliseconds, rounded down; below zero where the '
    'producer''s clock is ahead. Clamped to 2147483647 either way.';
COMMENT ON CONSTRAINT signal_audit_ledger_record_type_known ON public.signal_audit_ledger IS
    'record_type is SIGNAL or OUTCOME (VAL-002).';
COMMENT ON CONSTRAINT signal_audit_ledger_direction_known ON public.signal_audit_ledger IS
    'direction is LONG, SHORT or NEUTRAL; the service takes other words for them (VAL-002).';
COMMENT ON CONSTRAINT signal_audit_ledger_conviction_range ON public.signal_audit_ledger IS
    'conviction is from 0 to 100 (VAL-002).';
COMMENT ON CONSTRAINT signal_audit_ledger_confidence_range ON public.signal_audit_ledger IS
    'confidence is from 0 to 1, where there is one (VAL-002).';
COMMENT ON CONSTRAINT signal_audit_ledger_price_number ON public.signal_audit_ledger IS
    'price is a number, where there is one. The service writes no other.';
COMMENT ON CONSTRAINT signal_audit_ledger_payload_json_size ON public.signal_audit_ledger IS
    'payload_json has at most 1 MiB (VAL-002).';
COMMENT ON TRIGGER ledger_check_outcomes ON public.signal_audit_ledger IS
    'After an INSERT: refuses an OUTCOME whose signal is not recorded before it (AUD-008), or whose '
    'ticker, direction and conviction are not its signal''s (AUD-011).';
COMMENT ON FUNCTION public.ledger_check_outcomes() IS
    'Trigger function: an OUTCOME follows its signal and repeats it (AUD-008, AUD-011).';
COMMENT ON FUNCTION public.ledger_direction(text) IS
    'LONG, SHORT or NEUTRAL for the words that stand for them, in any case: long, buy, bullish; '
    'short, sell, bearish; neutral, flat. Any other word as it is.';
COMMENT ON FUNCTION public.append_signal_audit_ledger(jsonb) IS
    'Appends a signal or an outcome, with the rights of whoever calls it, and returns its receipt: '
    'see ledger_append_row(). The same again is a duplicate, and answered with the first receipt.';
COMMENT ON VIEW public.vw_signal_current IS
    'Every signal of signal_audit_ledger with its latest outcome: what is known of it now.';
DO $$
DECLARE
    shown record;
BEGIN
    FOR shown IN
        SELECT v.attname AS name,
               coalesce(w.words, col_description('public.signal_audit_ledger'::regclass, t.attnum),
                        col_description('public.signal_audit_ledger'::regclass, o.attnum)) AS words
        FROM pg_attribute AS v
        LEFT JOIN (VALUES
            ('id', 'The signal''s id in signal_audit_ledger.'),
            ('acted_upon', 'Whether the signal was acted upon: the latest outcome''s word, else the '
                           'signal''s own.'),
            ('execution_id', 'The execution that acted upon it: the latest outcome''s word, else the '
                             'signal''s own.'),
            ('row_hash', 'The signal''s row_hash.'),
            ('outcome_id', 'The latest outcome''s id in signal_audit_ledger; NULL where there is none.'),
            ('outcome_timestamp', 'When the producer made the latest outcome, by its own clock.'),
            ('outcome_payload_json_text', 'What else the producer said with the latest outcome.'),
            ('outcome_recorded_by', 'Who recorded the latest outcome.'),
            ('outcome_created_at', 'When the latest outcome was appended.'),
            ('outcome_row_hash', 'The latest outcome''s row_hash.')
        ) AS w (name, words) ON w.name = v.attname
        LEFT JOIN pg_attribute AS t ON t.attrelid = 'public.signal_audit_ledger'::regclass
            AND t.attname = v.attname
        LEFT JOIN pg_attribute AS o ON o.attrelid = 'public.signal_audit_ledger'::regclass
            AND 'outcome_' || o.attname = v.attname
        WHERE v.attrelid = 'public.vw_signal_current'::regclass AND v.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN public.vw_signal_current.%I IS %L', shown.name, shown.words);
    END LOOP;
END
$$;
