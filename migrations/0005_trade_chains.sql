-- What follows a signal: the debate of the models, the order, and what became of it. And the way
-- to append for a client that speaks only SQL.
-- Runs as ledger_owner.

CREATE FUNCTION public.ai_debates_hash(
    prev_hash text, id bigint, correlation_id uuid, model_name text, reasoning_json_text text,
    confidence_score numeric, elapsed_ms integer, is_timeout boolean, recorded_by text,
    created_at timestamptz
) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        prev_hash
        || '{"chain":"ai_debates","confidence_score":"' || confidence_score::text
        || '","correlation_id":"' || correlation_id::text
        || '","created_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","elapsed_ms":' || elapsed_ms::text
        || ',"id":' || id::text
        || ',"is_timeout":' || is_timeout::text
        || ',"model_name":' || pg_catalog.to_json(model_name)::text
        || ',"reasoning_json_sha256":"' || pg_catalog.encode(
               pg_catalog.sha256(pg_catalog.convert_to(reasoning_json_text, 'UTF8')), 'hex')
        || '","recorded_by":' || pg_catalog.to_json(recorded_by)::text
        || ',"v":1}', 'UTF8')), 'hex');

CREATE FUNCTION public.order_execution_hash(
    prev_hash text, id bigint, correlation_id uuid, order_type text, symbol text, side text,
    quantity numeric, price numeric, exchange_order_id text, status text, recorded_by text,
    created_at timestamptz
) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        prev_hash
        || '{"chain":"order_execution","correlation_id":"' || correlation_id::text
        || '","created_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","exchange_order_id":'
        || COALESCE(pg_catalog.to_json(exchange_order_id)::text, 'null')
        || ',"id":' || id::text
        || ',"order_type":' || pg_catalog.to_json(order_type)::text
        || ',"price":' || COALESCE('"' || price::text || '"', 'null')
        || ',"quantity":"' || quantity::text
        || '","recorded_by":' || pg_catalog.to_json(recorded_by)::text
        || ',"side":' || pg_catalog.to_json(side)::text
        || ',"status":' || pg_catalog.to_json(status)::text
        || ',"symbol":' || pg_catalog.to_json(symbol)::text
        || ',"v":1}', 'UTF8')), 'hex');

CREATE FUNCTION public.order_events_hash(
    prev_hash text, id bigint, order_execution_id bigint, event_type text, fill_quantity numeric,
    fill_price numeric, zar_equity numeric, positions_closed_text text, rejection_reason text,
    exchange_error_code text, recorded_by text, created_at timestamptz
) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        prev_hash
        || '{"chain":"order_events","created_at":"' || pg_catalog.to_char(
               pg_catalog.timezone('UTC', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","event_type":' || pg_catalog.to_json(event_type)::text
        || ',"exchange_error_code":'
        || COALESCE(pg_catalog.to_json(exchange_error_code)::text, 'null')
        || ',"fill_price":' || COALESCE('"' || fill_price::text || '"', 'null')
        || ',"fill_quantity":' || COALESCE('"' || fill_quantity::text || '"', 'null')
        || ',"id":' || id::text
        || ',"order_execution_id":' || COALESCE(order_execution_id::text, 'null')
        || ',"positions_closed_sha256":' || COALESCE('"' || pg_catalog.encode(
               pg_catalog.sha256(pg_catalog.convert_to(positions_closed_text, 'UTF8')), 'hex')
               || '"', 'null')
        || ',"recorded_by":' || pg_catalog.to_json(recorded_by)::text
        || ',"rejection_reason":'
        || COALESCE(pg_catalog.to_json(rejection_reason)::text, 'null')
        || ',"v":1,"zar_equity":' || COALESCE('"' || zar_equity::text || '"', 'null')
        || '}', 'UTF8')), 'hex');

-- What a model thought of a signal.
CREATE TABLE public.ai_debates (
    id bigint NOT NULL,
    -- The signal that was debated.
    correlation_id uuid NOT NULL,
    -- deepseek-r1, llama-3.1, phi-4, timeout, …
    model_name varchar(50) NOT NULL,
    -- What the model said, byte for byte. The JSONB beside it is for filters in SQL only.
    reasoning_json_text text NOT NULL,
    reasoning_json jsonb NOT NULL GENERATED ALWAYS AS (reasoning_json_text::jsonb) STORED,
    -- From 0 to 1.
    confidence_score numeric(5,4) NOT NULL,
    -- How long the model took, in milliseconds.
    elapsed_ms integer NOT NULL,
    -- Whether it was cut off: then its confidence is no answer.
    is_timeout boolean NOT NULL,
    -- The API key's name.
    recorded_by varchar(64) NOT NULL,
    prev_hash char(64) NOT NULL,
    row_hash char(64) NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT ai_debates_pkey PRIMARY KEY (id),
    CONSTRAINT ai_debates_correlation_id_fkey
        FOREIGN KEY (correlation_id) REFERENCES public.signals (correlation_id),
    CONSTRAINT ai_debates_confidence_score_range
        CHECK (confidence_score >= 0 AND confidence_score <= 1 AND confidence_score <> 'NaN'),
    CONSTRAINT ai_debates_elapsed_ms_not_negative CHECK (elapsed_ms >= 0),
    CONSTRAINT ai_debates_reasoning_json_size
        CHECK (pg_catalog.octet_length(reasoning_json_text) <= 1048576),
    CONSTRAINT ai_debates_times_hashable CHECK (
        created_at >= '1970-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT ai_debates_row_hash_correct CHECK ((row_hash::text = public.ai_debates_hash(
        prev_hash, id, correlation_id, model_name, reasoning_json_text, confidence_score,
        elapsed_ms, is_timeout, recorded_by, created_at)) IS TRUE)
);
CREATE INDEX ai_debates_correlation_id_idx ON public.ai_debates (correlation_id, id);

-- Orders made for a signal.
CREATE TABLE public.order_execution (
    id bigint NOT NULL,
    -- The signal that led to the order.
    correlation_id uuid NOT NULL,
    order_type varchar(20) NOT NULL,
    symbol varchar(20) NOT NULL,
    side varchar(10) NOT NULL,
    -- Units of the symbol.
    quantity numeric(28,10) NOT NULL,
    -- Limit or stop price of one unit; NULL for a market order, which has none.
    price numeric(28,10),
    -- The exchange's name for the order, where it has given one.
    exchange_order_id varchar(64),
    -- The status when the row was recorded; what comes later are events.
    status varchar(20) NOT NULL,
    recorded_by varchar(64) NOT NULL,
    prev_hash char(64) NOT NULL,
    row_hash char(64) NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT order_execution_pkey PRIMARY KEY (id),
    CONSTRAINT order_execution_correlation_id_fkey
        FOREIGN KEY (correlation_id) REFERENCES public.signals (correlation_id),
    CONSTRAINT order_execution_order_type_known
        CHECK (order_type::text IN ('MARKET', 'LIMIT', 'STOP', 'STOP_LIMIT')),
    CONSTRAINT order_execution_side_known CHECK (side::text IN ('BUY', 'SELL')),
    CONSTRAINT order_execution_quantity_positive CHECK (quantity > 0 AND quantity <> 'NaN'),
    CONSTRAINT order_execution_price_for_type
        CHECK ((price IS NULL) = (order_type::text = 'MARKET')),
    CONSTRAINT order_execution_price_positive CHECK (price > 0 AND price <> 'NaN'),
    CONSTRAINT order_execution_status_known CHECK (status::text IN (
        'PENDING', 'SUBMITTED', 'FILLED', 'PARTIAL', 'REJECTED', 'CANCELLED')),
    CONSTRAINT order_execution_times_hashable CHECK (
        created_at >= '1970-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT order_execution_row_hash_correct CHECK (
        (row_hash::text = public.order_execution_hash(
            prev_hash, id, correlation_id, order_type, symbol, side, quantity, price,
            exchange_order_id, status, recorded_by, created_at)) IS TRUE)
);
CREATE INDEX order_execution_correlation_id_idx ON public.order_execution (correlation_id, id);

-- What became of an order, and kill switches. An event that cannot follow is recorded all the
-- same, since it happened: vw_trade_audit_full flags it.
CREATE TABLE public.order_events (
    id bigint NOT NULL,
    -- NULL only for a KILL_SWITCH that stops everything.
    order_execution_id bigint,
    event_type varchar(30) NOT NULL,
    -- Units filled by this event, and at which price.
    fill_quantity numeric(28,10),
    fill_price numeric(28,10),
    -- The account's equity in South African rand when a kill switch was thrown.
    zar_equity numeric(28,2),
    -- Which positions a kill switch closed, byte for byte.
    positions_closed_text text,
    positions_closed jsonb GENERATED ALWAYS AS (positions_closed_text::jsonb) STORED,
    rejection_reason text,
    exchange_error_code varchar(50),
    recorded_by varchar(64) NOT NULL,
    prev_hash char(64) NOT NULL,
    row_hash char(64) NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT order_events_pkey PRIMARY KEY (id),
    CONSTRAINT order_events_order_execution_id_fkey
        FOREIGN KEY (order_execution_id) REFERENCES public.order_execution (id),
    CONSTRAINT order_events_order_execution_id_required
        CHECK (order_execution_id IS NOT NULL OR event_type::text = 'KILL_SWITCH'),
    CONSTRAINT order_events_event_type_known CHECK (event_type::text IN (
        'FILL', 'PARTIAL_FILL', 'REJECTED', 'CANCELLED', 'KILL_SWITCH', 'EXPIRED')),
    CONSTRAINT order_events_fill_for_type CHECK (
        (fill_quantity IS NOT NULL) = (event_type::text IN ('FILL', 'PARTIAL_FILL'))
        AND (fill_price IS NOT NULL) = (event_type::text IN ('FILL', 'PARTIAL_FILL'))),
    CONSTRAINT order_events_fill_quantity_positive
        CHECK (fill_quantity > 0 AND fill_quantity <> 'NaN'),
    CONSTRAINT order_events_fill_price_positive CHECK (fill_price > 0 AND fill_price <> 'NaN'),
    CONSTRAINT order_events_zar_equity_required
        CHECK (zar_equity IS NOT NULL OR event_type::text <> 'KILL_SWITCH'),
    CONSTRAINT order_events_zar_equity_number CHECK (zar_equity <> 'NaN'),
    CONSTRAINT order_events_positions_closed_required
        CHECK (positions_closed_text IS NOT NULL OR event_type::text <> 'KILL_SWITCH'),
    CONSTRAINT order_events_positions_closed_size
        CHECK (pg_catalog.octet_length(positions_closed_text) <= 1048576),
    CONSTRAINT order_events_rejection_reason_size
        CHECK (pg_catalog.octet_length(rejection_reason) <= 1048576),
    CONSTRAINT order_events_times_hashable CHECK (
        created_at >= '1970-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT order_events_row_hash_correct CHECK ((row_hash::text = public.order_events_hash(
        prev_hash, id, order_execution_id, event_type, fill_quantity, fill_price, zar_equity,
        positions_closed_text, rejection_reason, exchange_error_code, recorded_by, created_at))
        IS TRUE)
);
CREATE INDEX order_events_order_execution_id_idx
    ON public.order_events (order_execution_id, id);
CREATE INDEX order_events_kill_switch_idx
    ON public.order_events (id) WHERE event_type::text = 'KILL_SWITCH';

CREATE OR REPLACE FUNCTION public.ledger_chains() RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY['signals', 'ai_debates', 'order_execution', 'order_events', 'security_events',
                 'quarantined_deliveries']::text[];

CALL public.ledger_attach_chain('public.ai_debates');
CALL public.ledger_attach_chain('public.order_execution');
CALL public.ledger_attach_chain('public.order_events');
CALL public.ledger_grant_rights('public.ai_debates', true);
CALL public.ledger_grant_rights('public.order_execution', true);
CALL public.ledger_grant_rights('public.order_events', true);
GRANT EXECUTE ON FUNCTION
    public.ai_debates_hash(text, bigint, uuid, text, text, numeric, integer, boolean, text,
        timestamptz),
    public.order_execution_hash(text, bigint, uuid, text, text, text, numeric, numeric, text,
        text, text, timestamptz),
    public.order_events_hash(text, bigint, bigint, text, numeric, numeric, numeric, text, text,
        text, text, timestamptz)
    TO app_trading, ledger_auditor;

-- Which row a request with an Idempotency-Key made. Written in the transaction of the row, and
-- kept for ever.
CREATE TABLE public.idempotency_keys (
    -- Whose key it is: two recorders may use the same one.
    recorded_by varchar(64) NOT NULL,
    chain varchar(40) NOT NULL,
    -- As the client sent it.
    key varchar(255) NOT NULL,
    -- SHA-256 of the request's body: another one under the same key is a conflict.
    request_sha256 bytea NOT NULL,
    -- The row, by its id in the chain.
    id bigint NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (recorded_by, chain, key),
    CONSTRAINT idempotency_keys_request_sha256_size
        CHECK (pg_catalog.octet_length(request_sha256) = 32),
    CONSTRAINT idempotency_keys_row_fkey
        FOREIGN KEY (chain, id) REFERENCES public.ledger_log (chain, id)
);
CALL public.ledger_guard_table('public.idempotency_keys');
-- Else a key that somebody inserts and does not commit would hold up the ledger's one writer.
CREATE TRIGGER ledger_lock_for_insert BEFORE INSERT ON public.idempotency_keys
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_lock_for_insert();
ALTER TABLE public.idempotency_keys ENABLE ALWAYS TRIGGER ledger_lock_for_insert;
CALL public.ledger_grant_rights('public.idempotency_keys', true);

-- What is wrong with a literal that only its conversion tells; NULL where nothing is.
CREATE FUNCTION public.ledger_literal_fault(kind text, literal text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE kind
        WHEN 'numeric' THEN PERFORM literal::numeric;
        WHEN 'JSON text' THEN PERFORM literal::jsonb;
        WHEN 'time' THEN PERFORM literal::timestamptz;
        WHEN 'bytea' THEN PERFORM literal::bytea;
        WHEN 'base64' THEN PERFORM decode(literal, 'base64');
        WHEN 'host address' THEN
            IF literal::inet <> host(literal::inet)::inet THEN
                RETURN 'is no host address';
            END IF;
    END CASE;
    RETURN NULL;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN 'is no ' || kind;
END
$$;

-- Reads a row that a client wants to append: every member a column of the chain that the client
-- may choose, of the column's type, and no number with digits that the column would lose.
-- Returns the row as jsonb_populate_record() takes it, without id and created_at.
--
-- standard_conforming_strings says what a backslash means in the patterns below.
CREATE FUNCTION public.ledger_read_row(into_chain text, new_row jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC'
    SET standard_conforming_strings = on
AS $$
DECLARE
    wanted record;
    given_name text;
    value jsonb;
    kind text;
    literal text;
    fault text;
    known text[] := '{}';
    result jsonb := '{}';
BEGIN
    IF into_chain IS NULL OR into_chain <> ALL (public.ledger_chains()) THEN
        RAISE EXCEPTION 'VAL-002: % is not a chain of this ledger', coalesce(into_chain, 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(new_row) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'VAL-001: a row is a JSON object'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR wanted IN
        SELECT a.attname::text AS name, a.atttypid AS type, a.atttypmod - 4 AS modifier,
               a.attnotnull AS required,
               -- What the member may be called instead: a document by its value, bytes in base64.
               coalesce(document.attname::text,
                        CASE a.atttypid WHEN 'bytea'::regtype THEN a.attname || '_base64' END)
                   AS other_name
        FROM pg_proc AS hash
        CROSS JOIN unnest(hash.proargnames) AS argument
        JOIN pg_attribute AS a ON a.attrelid = format('public.%I', into_chain)::regclass
            AND a.attname = argument AND NOT a.attisdropped
        LEFT JOIN pg_attribute AS document ON document.attrelid = a.attrelid
            AND document.atttypid = 'jsonb'::regtype AND document.attname || '_text' = a.attname
        WHERE hash.pronamespace = 'public'::regnamespace AND hash.proname = into_chain || '_hash'
          AND argument NOT IN ('prev_hash', 'id', 'created_at')
    LOOP
        IF into_chain = 'signals' AND wanted.name = 'correlation_id' THEN
            -- The anchor of a trade's story is the ledger's to make.
            result := result || jsonb_build_object(wanted.name, public.ledger_new_id());
            CONTINUE;
        END IF;
        known := known || ARRAY[wanted.name, coalesce(wanted.other_name, wanted.name)];
        given_name := wanted.name;
        value := nullif(new_row -> wanted.name, 'null');
        IF nullif(new_row -> wanted.other_name, 'null') IS NOT NULL THEN
            IF value IS NOT NULL THEN
                RAISE EXCEPTION 'VAL-002: % and % are both there', wanted.other_name, wanted.name
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            given_name := wanted.other_name;
            value := new_row -> given_name;
            IF wanted.type <> 'bytea'::regtype THEN
                value := to_jsonb(value::text);
            END IF;
        END IF;
        value := coalesce(value, CASE
            WHEN wanted.name = 'recorded_by' THEN to_jsonb(session_user::text)
            WHEN wanted.name = 'received_at' THEN to_jsonb(clock_timestamp())
            WHEN wanted.name = 'source_ip' AND wanted.required
                THEN to_jsonb(coalesce(host(inet_client_addr()), '127.0.0.1'))
        END);
        IF value IS NULL THEN
            CONTINUE WHEN NOT wanted.required;
            RAISE EXCEPTION 'VAL-002: % is missing', coalesce(wanted.other_name, wanted.name)
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        kind := jsonb_typeof(value);
        literal := value #>> '{}';
        fault := CASE
            WHEN wanted.type = 'boolean'::regtype AND kind <> 'boolean'
                THEN 'is not true or false'
            WHEN wanted.type IN ('bigint'::regtype, 'integer'::regtype)
                 AND CASE WHEN kind = 'number' AND literal ~ '^-?[0-9]{1,16}$'
                     THEN abs(literal::bigint) >= CASE wanted.type
                         WHEN 'integer'::regtype THEN 2147483648 ELSE 9007199254740992 END
                     ELSE true END
                THEN 'is not a whole number that its column can hold'
            WHEN wanted.type = 'numeric'::regtype
                 AND (kind NOT IN ('number', 'string')
                      OR literal !~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$')
                THEN 'is not a JSON number, or a string with one'
            WHEN wanted.type NOT IN ('boolean'::regtype, 'bigint'::regtype, 'integer'::regtype,
                                     'numeric'::regtype) AND kind <> 'string'
                THEN 'is not a string'
            WHEN literal = '' AND wanted.name NOT LIKE '%\_text' AND wanted.type <> 'bytea'::regtype
                THEN 'is empty'
            WHEN wanted.type = 'varchar'::regtype AND char_length(literal) > wanted.modifier
                THEN format('has more than %s characters', wanted.modifier)
            WHEN wanted.type = 'uuid'::regtype
                 AND literal !~ '^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$'
                THEN 'is not a UUID'
            WHEN wanted.type = 'timestamptz'::regtype AND literal !~ (
                 '^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]'
                 '(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$')
                THEN 'is not an RFC 3339 time of at most six digits after the second'
            WHEN wanted.type = 'timestamptz'::regtype
                THEN public.ledger_literal_fault('time', literal)
            WHEN wanted.type = 'inet'::regtype
                THEN public.ledger_literal_fault('host address', literal)
            WHEN wanted.type = 'bytea'::regtype
                THEN public.ledger_literal_fault(
                    CASE given_name WHEN wanted.name THEN 'bytea' ELSE 'base64' END, literal)
            -- A document that came as a value is JSON already.
            WHEN wanted.other_name IS NOT NULL AND given_name = wanted.name
                THEN public.ledger_literal_fault('JSON text', literal)
        END;
        IF fault IS NOT NULL THEN
            RAISE EXCEPTION 'VAL-002: % %', given_name, fault
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        -- PostgreSQL would round without a word.
        IF (CASE
            WHEN wanted.type <> 'numeric'::regtype THEN false
            -- Digits beyond what any number has.
            WHEN public.ledger_literal_fault('numeric', literal) IS NOT NULL THEN true
            ELSE literal::numeric <> round(literal::numeric, wanted.modifier & 2047)
                 OR abs(literal::numeric)
                    >= 10::numeric ^ ((wanted.modifier >> 16) - (wanted.modifier & 2047))
        END) THEN
            RAISE EXCEPTION USING ERRCODE = 'AU001', MESSAGE = format(
                'AUD-001: %s has more digits than the ledger keeps exactly (%s before the point, %s after)',
                wanted.name, (wanted.modifier >> 16) - (wanted.modifier & 2047),
                wanted.modifier & 2047);
        END IF;
        -- A mapped address is stored as the IPv4 one that it is.
        IF wanted.type = 'inet'::regtype AND family(literal::inet) = 6
           AND literal::inet << '::ffff:0:0/96' THEN
            value := to_jsonb(substring(host(literal::inet) FROM '[0-9.]+$'));
        END IF;
        IF wanted.type = 'bytea'::regtype AND given_name <> wanted.name THEN
            value := to_jsonb('\x' || encode(decode(literal, 'base64'), 'hex'));
        END IF;
        result := result || jsonb_build_object(wanted.name, value);
    END LOOP;
    SELECT format('VAL-002: %s is not a member that %s takes', member, into_chain) INTO fault
    FROM jsonb_object_keys(new_row) AS member WHERE member <> ALL (known) ORDER BY member LIMIT 1;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%', fault USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN result;
END
$$;

-- A UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, the rest random but for version and
-- variant.
CREATE FUNCTION public.ledger_new_id() RETURNS uuid
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bytes bytea := substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                   || substring(uuid_send(gen_random_uuid()) FROM 7);
BEGIN
    RETURN encode(set_byte(bytes, 6, (get_byte(bytes, 6) & 15) | 112), 'hex')::uuid;
END
$$;

-- Appends one row to a chain, with the rights of whoever calls it: reads it strictly, takes the
-- ledger's lock, and gives it its id, time, link and hash. A signal that was recorded before with
-- the same payload, and a delivery that was kept before, is a duplicate and answered with its first
-- receipt.
CREATE FUNCTION public.ledger_append_row(into_chain text, new_row jsonb)
    RETURNS TABLE (status text, chain text, id bigint, leaf_index bigint, row_hash text,
                   prev_hash text, created_at timestamptz)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    complete jsonb := public.ledger_read_row(into_chain, new_row);
    head record;
    stored record;
    columns text;
    arguments text;
BEGIN
    SELECT * INTO STRICT head FROM public.ledger_begin_append(ARRAY[into_chain]);
    chain := into_chain;
    IF into_chain = 'quarantined_deliveries' AND complete ->> 'reason' = 'lockdown' THEN
        -- Signals in waiting: without an id the same bytes are one for a minute only, and detail
        -- says who sent them.
        SELECT q.id, q.row_hash::text, q.prev_hash::text, q.created_at, l.leaf_index,
               true AS is_same
        INTO stored
        FROM public.quarantined_deliveries AS q
        JOIN public.ledger_log AS l ON l.chain = 'quarantined_deliveries' AND l.id = q.id
        WHERE q.source = complete ->> 'source' AND q.reason::text = 'lockdown'
          AND sha256(q.body) = sha256((complete ->> 'body')::bytea)
          AND q.received_at BETWEEN (complete ->> 'received_at')::timestamptz - interval '60 s'
                                AND (complete ->> 'received_at')::timestamptz + interval '60 s'
          AND q.detail IS NOT DISTINCT FROM complete ->> 'detail'
        ORDER BY q.id LIMIT 1;
    ELSIF into_chain = 'quarantined_deliveries' THEN
        SELECT q.id, q.row_hash::text, q.prev_hash::text, q.created_at, l.leaf_index,
               true AS is_same
        INTO stored
        FROM public.quarantined_deliveries AS q
        JOIN public.ledger_log AS l ON l.chain = 'quarantined_deliveries' AND l.id = q.id
        WHERE q.source = complete ->> 'source' AND q.reason = complete ->> 'reason'
          AND q.reason::text <> 'lockdown'
          AND sha256(q.body) = sha256((complete ->> 'body')::bytea);
    ELSIF into_chain = 'signals' THEN
        SELECT s.id, s.row_hash::text, s.prev_hash::text, s.created_at, l.leaf_index,
               s.raw_payload_text = complete ->> 'raw_payload_text' AS is_same
        INTO stored
        FROM public.signals AS s
        JOIN public.ledger_log AS l ON l.chain = 'signals' AND l.id = s.id
        WHERE s.recorded_by = complete ->> 'recorded_by'
          AND s.signal_id = complete ->> 'signal_id';
    END IF;
    IF into_chain IN ('quarantined_deliveries', 'signals') AND FOUND THEN
        IF NOT stored.is_same THEN
            RAISE EXCEPTION 'IDP-001: signal_id was recorded before with another payload'
                USING ERRCODE = 'unique_violation';
        END IF;
        RETURN QUERY SELECT 'duplicate', into_chain, stored.id, stored.leaf_index,
                            stored.row_hash, stored.prev_hash, stored.created_at;
        RETURN;
    END IF;

    status := 'recorded';
    id := head.id + 1;
    leaf_index := head.next_leaf;
    prev_hash := head.row_hash;
    created_at := greatest(head.clock, head.created_at);
    complete := complete || jsonb_build_object('id', id, 'created_at', created_at);
    -- The hash's parameters are prev_hash and then the columns.
    SELECT string_agg(format('%I', argument), ', ' ORDER BY place),
           string_agg(format('r.%I', argument), ', ' ORDER BY place)
    INTO STRICT columns, arguments
    FROM pg_proc AS hash
    CROSS JOIN unnest(hash.proargnames) WITH ORDINALITY AS a (argument, place)
    WHERE hash.pronamespace = 'public'::regnamespace AND hash.proname = into_chain || '_hash'
      AND argument <> 'prev_hash';
    EXECUTE format(
        'INSERT INTO public.%1$I (%2$s, prev_hash, row_hash)
         SELECT %3$s, $1, public.%4$I($1, %3$s)
         FROM jsonb_populate_record(NULL::public.%1$I, $2) AS r
         RETURNING row_hash::text', into_chain, columns, arguments, into_chain || '_hash')
        INTO STRICT row_hash USING prev_hash, complete;
    RETURN NEXT;
END
$$;
GRANT EXECUTE ON FUNCTION
    public.ledger_literal_fault(text, text),
    public.ledger_read_row(text, jsonb),
    public.ledger_new_id(),
    public.ledger_append_row(text, jsonb)
    TO app_trading;

-- append_<chain>(jsonb), for clients that speak only SQL. For the migrations' use.
CREATE PROCEDURE public.ledger_make_append(chain text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := 'append_' || chain;
BEGIN
    EXECUTE format(
        'CREATE FUNCTION public.%I(new_row jsonb)
             RETURNS TABLE (status text, chain text, id bigint, leaf_index bigint, row_hash text,
                            prev_hash text, created_at timestamptz)
             LANGUAGE sql VOLATILE
         BEGIN ATOMIC
             SELECT * FROM public.ledger_append_row(%L, new_row);
         END', name, chain);
    EXECUTE format('REVOKE ALL ON FUNCTION public.%I(jsonb) FROM PUBLIC', name);
    EXECUTE format('GRANT EXECUTE ON FUNCTION public.%I(jsonb) TO app_trading', name);
END
$$;
CALL public.ledger_make_append('signals');
CALL public.ledger_make_append('ai_debates');
CALL public.ledger_make_append('order_execution');
CALL public.ledger_make_append('order_events');
CALL public.ledger_make_append('security_events');
CALL public.ledger_make_append('quarantined_deliveries');
