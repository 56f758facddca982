-- The append trigger, the guards, and what attaches them to a table.
-- Runs as ledger_owner. Trigger functions are SECURITY DEFINER and nobody may execute them:
-- else a role could attach one to a table of its own and forge a log row with it.

-- BEFORE INSERT on a chain: the ledger's lock, before any index is touched, so that two writers
-- never meet on a primary key and deadlock.
CREATE FUNCTION public.ledger_lock_for_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
AS $$
BEGIN
    LOCK TABLE public.ledger_lock IN EXCLUSIVE MODE;
    RETURN NULL;
END
$$;

-- AFTER INSERT on a chain: the new rows follow the row before them in id, link and time; then
-- they are entered into the log. The hash itself is the CHECK constraint's matter.
CREATE FUNCTION public.ledger_enter_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    batch record;
    head_hash text;
    head_time timestamptz;
    next_leaf bigint;
BEGIN
    SELECT count(*) AS rows, min(id) AS first_id, min(created_at) AS first_time,
           max(created_at) AS last_time,
           min(prev_hash::text) FILTER (WHERE id_before IS NULL) AS first_prev_hash,
           bool_and(id_before IS NULL OR (id = id_before + 1 AND prev_hash = hash_before
                                          AND created_at >= time_before)) AS follows
    INTO batch
    FROM (SELECT id, created_at, prev_hash,
                 lag(id) OVER ids AS id_before,
                 lag(row_hash) OVER ids AS hash_before,
                 lag(created_at) OVER ids AS time_before
          FROM new_rows WINDOW ids AS (ORDER BY id)) AS linked;
    IF batch.rows = 0 THEN
        RETURN NULL;
    END IF;

    -- A statement of its own: it sees what was committed before the lock was given.
    IF batch.first_id = 1 THEN
        head_hash := public.ledger_genesis(TG_TABLE_NAME);
        head_time := '-infinity';
    ELSE
        EXECUTE format('SELECT row_hash, created_at FROM public.%I WHERE id = $1', TG_TABLE_NAME)
            INTO head_hash, head_time USING batch.first_id - 1;
    END IF;

    -- A time may be up to a minute old, since the clock was read before the rows were sent; where
    -- the clock stepped back, it repeats that of the row before. Now is the clock's now: the start
    -- of the statement is the client's to choose, who may sleep in it.
    IF (batch.follows
        AND batch.first_prev_hash = head_hash
        AND batch.first_time >= head_time
        AND (batch.first_time >= clock_timestamp() - interval '60 s'
             OR batch.first_time = head_time)
        AND batch.last_time <= greatest(clock_timestamp(), head_time)) IS NOT TRUE
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU011',
            MESSAGE = format('AUD-011: %s rows from id %s of %s do not follow the row before them',
                             batch.rows, batch.first_id, TG_TABLE_NAME),
            HINT = 'id, prev_hash and created_at are assigned under the ledger''s lock; '
                   'see ledger_begin_append()';
    END IF;

    SELECT leaf_index + 1 INTO next_leaf
    FROM public.ledger_log ORDER BY leaf_index DESC LIMIT 1;
    INSERT INTO public.ledger_log (leaf_index, chain, id, row_hash)
    SELECT coalesce(next_leaf, 0) + id - batch.first_id, TG_TABLE_NAME, id, row_hash
    FROM new_rows ORDER BY id;
    RETURN NULL;
END
$$;

-- BEFORE INSERT on the log: only from within the append trigger, not even by the owner.
CREATE FUNCTION public.ledger_guard_log() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU011',
            MESSAGE = 'AUD-011: ledger_log is filled by the database itself';
    END IF;
    RETURN NULL;
END
$$;

-- How often each code was refused. A refusal rolls back whatever its trigger writes; a sequence
-- it does not, so the service can see from these that somebody tried.
CREATE SEQUENCE public.ledger_refused_aud_002;
CREATE SEQUENCE public.ledger_refused_aud_003;
CREATE SEQUENCE public.ledger_refused_aud_004;
CREATE SEQUENCE public.ledger_refused_aud_005;
CREATE SEQUENCE public.ledger_refused_aud_006;
CREATE SEQUENCE public.ledger_refused_aud_007;
CREATE SEQUENCE public.ledger_refused_aud_010;

-- BEFORE UPDATE, DELETE and TRUNCATE on every table of the ledger. Statement triggers fire also
-- when no row matches; row triggers are the only ones that logical replication fires.
CREATE FUNCTION public.ledger_refuse_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    number text := CASE
        WHEN TG_OP = 'TRUNCATE' THEN '010'
        WHEN TG_TABLE_NAME = 'signals' THEN CASE TG_OP WHEN 'UPDATE' THEN '002' ELSE '003' END
        WHEN TG_TABLE_NAME = 'ai_debates' THEN CASE TG_OP WHEN 'UPDATE' THEN '004' ELSE '005' END
        WHEN TG_TABLE_NAME IN ('order_execution', 'order_events')
            THEN CASE TG_OP WHEN 'UPDATE' THEN '006' ELSE '007' END
        ELSE '010'
    END;
BEGIN
    PERFORM nextval(('public.ledger_refused_aud_' || number)::regclass);
    RAISE LOG 'AUD-%: % on % refused: role %, client %', number, TG_OP, TG_TABLE_NAME,
        session_user, coalesce(host(inet_client_addr()), 'local');
    RAISE EXCEPTION USING
        ERRCODE = 'AU' || number,
        MESSAGE = format('AUD-%s: %s on %s is refused: rows of the ledger are never changed',
                         number, TG_OP, TG_TABLE_NAME);
END
$$;

-- Guards a table against every change of its rows. For the migrations' use.
CREATE PROCEDURE public.ledger_guard_table(guarded regclass)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER ledger_refuse_statement
        BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
        FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change()', guarded);
    EXECUTE format('CREATE TRIGGER ledger_refuse_row BEFORE UPDATE OR DELETE ON %s
        FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change()', guarded);
    -- Also under session_replication_role = replica.
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ledger_refuse_statement', guarded);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ledger_refuse_row', guarded);
END
$$;

-- Makes a table a chain: lock, append trigger, guards. For the migrations' use.
CREATE PROCEDURE public.ledger_attach_chain(chain regclass)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER ledger_lock_for_insert BEFORE INSERT ON %s
        FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_lock_for_insert()', chain);
    EXECUTE format('CREATE TRIGGER ledger_enter_rows AFTER INSERT ON %s
        REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_enter_rows()', chain);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ledger_lock_for_insert', chain);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ledger_enter_rows', chain);
    CALL public.ledger_guard_table(chain);
END
$$;

CALL public.ledger_attach_chain('public.signals');
CALL public.ledger_attach_chain('public.security_events');
CALL public.ledger_attach_chain('public.quarantined_deliveries');
CALL public.ledger_guard_table('public.ledger_log');
CALL public.ledger_guard_table('public.integrity_checks');

CREATE TRIGGER ledger_guard_log BEFORE INSERT ON public.ledger_log
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_guard_log();
ALTER TABLE public.ledger_log ENABLE ALWAYS TRIGGER ledger_guard_log;

-- Takes the ledger's lock and says where each of the chains stands: the last id (0 where there
-- is none), its row_hash (the genesis value), its time (NULL), the next leaf index, and the
-- database's clock. The first call of every append.
--
-- VOLATILE, and the heads read by statements after the LOCK: lock and head in one statement
-- would read a head from before the lock was given.
CREATE FUNCTION public.ledger_begin_append(chains text[])
    RETURNS TABLE (chain text, id bigint, row_hash text, created_at timestamptz,
                   next_leaf bigint, clock timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
AS $$
BEGIN
    LOCK TABLE public.ledger_lock IN EXCLUSIVE MODE;
    SELECT l.leaf_index + 1 INTO next_leaf
    FROM public.ledger_log AS l ORDER BY l.leaf_index DESC LIMIT 1;
    next_leaf := coalesce(next_leaf, 0);
    clock := clock_timestamp();
    FOREACH chain IN ARRAY chains LOOP
        IF chain <> ALL (public.ledger_chains()) THEN
            RAISE EXCEPTION '% is not a chain of this ledger', chain
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        EXECUTE format('SELECT id, row_hash::text, created_at FROM public.%I
                        ORDER BY id DESC LIMIT 1', chain)
            INTO id, row_hash, created_at;
        id := coalesce(id, 0);
        row_hash := coalesce(row_hash, public.ledger_genesis(chain));
        RETURN NEXT;
    END LOOP;
END
$$;

-- Ends sessions that hold the ledger's lock and have been idle in their transaction for five
-- seconds: an appender never waits for its client inside one. Returns whom it ended. The bound
-- is fixed here, so that nobody can use this to end a writer at work. A superuser's session is not
-- the owner's to end.
CREATE FUNCTION public.ledger_end_idle_lock_holders()
    RETURNS TABLE (pid integer, login name, client inet, application text)
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH holders AS MATERIALIZED (
        SELECT held.pid, activity.usename, activity.client_addr, activity.application_name
        FROM pg_locks AS held
        JOIN pg_stat_activity AS activity ON activity.pid = held.pid
        JOIN pg_roles AS role ON role.oid = activity.usesysid AND NOT role.rolsuper
        WHERE held.locktype = 'relation'
          AND held.relation = 'public.ledger_lock'::regclass
          AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND held.mode = 'ExclusiveLock' AND held.granted
          AND activity.state IN ('idle in transaction', 'idle in transaction (aborted)')
          AND activity.state_change < clock_timestamp() - interval '5 s')
    SELECT * FROM holders WHERE pg_terminate_backend(pid, 0)
$$;

-- Takes the right to run a check until the transaction ends; fails with lock_not_available
-- (55P03) where another session has it.
CREATE FUNCTION public.ledger_begin_check() RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE public.ledger_check_lock IN EXCLUSIVE MODE NOWAIT;
END
$$;

-- Whether a generated document still equals its text, spelling of numbers included (for jsonb 1
-- and 1.00 are equal). The text may be no JSON any more once somebody has changed it: that is a
-- "no", not an error, however deep it is nested.
CREATE FUNCTION public.ledger_document_matches(original text, document jsonb) RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN document::text IS NOT DISTINCT FROM original::jsonb::text;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN false;
END
$$;

-- Re-hashes the rows from_id to to_id (NULL: the last) of a chain and checks link, gap, time,
-- log and documents: for a session in psql. `audit-ledger verify` is faster, lists every
-- finding, and shares no code with this.
-- valid is NULL where no row was looked at.
CREATE FUNCTION public.verify_chain_integrity(
    chain text, from_id bigint DEFAULT 1, to_id bigint DEFAULT NULL
)
    RETURNS TABLE (checked_chain text, rows_checked bigint, valid boolean,
                   first_bad_id bigint, finding text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    hash_call text;
    document_check text;
    hashable_check text;
    bad_rows bigint;
    missing_id bigint;
BEGIN
    IF chain IS NULL OR chain <> ALL (public.ledger_chains()) THEN
        RAISE EXCEPTION '% is not a chain of this ledger', coalesce(chain, 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT format('public.%I(%s)', p.proname,
                  (SELECT string_agg(format('t.%I', argument), ', ' ORDER BY place)
                   FROM unnest(p.proargnames) WITH ORDINALITY AS a (argument, place)))
    INTO STRICT hash_call
    FROM pg_proc AS p
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname = chain || '_hash';
    SELECT coalesce(string_agg(format('public.ledger_document_matches(t.%I, t.%I)',
                                      a.attname || '_text', a.attname), ' AND '), 'true')
    INTO document_check
    FROM pg_attribute AS a
    WHERE a.attrelid = format('public.%I', chain)::regclass AND a.atttypid = 'jsonb'::regtype
      AND NOT a.attisdropped;

    -- What the hash's spelling does not show: a network's mask, and a year BC.
    SELECT coalesce(string_agg(CASE a.atttypid
               WHEN 'inet'::regtype THEN format(
                   '(masklen(t.%1$I) = CASE family(t.%1$I) WHEN 4 THEN 32 ELSE 128 END) IS NOT FALSE',
                   a.attname)
               ELSE format(
                   '(t.%1$I >= ''1970-01-01 00:00:00+00'' AND t.%1$I < ''10000-01-01 00:00:00+00'') IS NOT FALSE',
                   a.attname)
           END, ' AND '), 'true')
    INTO hashable_check
    FROM pg_attribute AS a
    WHERE a.attrelid = format('public.%I', chain)::regclass AND a.attnum > 0
      AND a.atttypid IN ('inet'::regtype, 'timestamptz'::regtype) AND NOT a.attisdropped;

    checked_chain := chain;
    -- The row before the range is read too, for the first link.
    EXECUTE format($query$
        WITH checked AS (
            SELECT t.id, CASE
                WHEN t.id IS NULL OR t.id < 1 THEN 'gap'
                WHEN id_before IS DISTINCT FROM nullif(t.id - 1, 0) THEN 'gap'
                WHEN NOT (%5$s) OR %2$s IS DISTINCT FROM t.row_hash::text THEN 'content'
                WHEN t.prev_hash::text IS DISTINCT FROM CASE t.id
                    WHEN 1 THEN public.ledger_genesis(%3$L) ELSE hash_before::text END THEN 'link'
                WHEN t.created_at < time_before THEN 'time_reversal'
                WHEN l.row_hash IS DISTINCT FROM t.row_hash THEN 'log_mismatch'
                WHEN NOT (%4$s) THEN 'document'
            END AS finding
            FROM (SELECT *, lag(id) OVER ids AS id_before, lag(row_hash) OVER ids AS hash_before,
                         lag(created_at) OVER ids AS time_before
                  FROM public.%1$I
                  WHERE ($1 <= 1 OR id >= $1 - 1) AND ($2 IS NULL OR id <= $2)
                  WINDOW ids AS (ORDER BY id)) AS t
            LEFT JOIN public.ledger_log AS l ON l.chain = %3$L AND l.id = t.id
            WHERE $1 <= 1 OR t.id >= $1)
        SELECT count(*), count(finding), min(id) FILTER (WHERE finding IS NOT NULL),
               (array_agg(finding ORDER BY id) FILTER (WHERE finding IS NOT NULL))[1]
        FROM checked $query$, chain, hash_call, chain, document_check, hashable_check)
    INTO rows_checked, bad_rows, first_bad_id, finding
    USING from_id, to_id;

    EXECUTE format($query$
        SELECT min(l.id) FROM public.ledger_log AS l
        WHERE l.chain = %2$L AND l.id >= $1 AND ($2 IS NULL OR l.id <= $2)
          AND NOT EXISTS (SELECT FROM public.%1$I AS t WHERE t.id = l.id) $query$, chain, chain)
    INTO missing_id USING from_id, to_id;
    IF missing_id < first_bad_id OR first_bad_id IS NULL AND missing_id IS NOT NULL THEN
        first_bad_id := missing_id;
        finding := 'log_mismatch';
        bad_rows := bad_rows + 1;
    END IF;
    valid := CASE WHEN bad_rows > 0 THEN false WHEN rows_checked > 0 THEN true END;
    RETURN NEXT;
END
$$;

-- The same over every chain, and the log itself: its leaf indexes have no gap, and its entries
-- stand for the rows of chains that exist, in their order. For the log first_bad_id is a leaf index.
CREATE FUNCTION public.verify_chain_integrity()
    RETURNS TABLE (checked_chain text, rows_checked bigint, valid boolean,
                   first_bad_id bigint, finding text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT v.* FROM unnest(public.ledger_chains()) WITH ORDINALITY AS c (name, place)
        CROSS JOIN LATERAL public.verify_chain_integrity(c.name, 1, NULL) AS v
        ORDER BY c.place;
    RETURN QUERY
        WITH checked AS (
            SELECT l.leaf_index, CASE
                WHEN l.leaf_index IS DISTINCT FROM row_number() OVER (ORDER BY l.leaf_index) - 1
                    THEN 'gap'
                WHEN (l.chain = ANY (public.ledger_chains())) IS NOT TRUE THEN 'log_mismatch'
                WHEN l.id IS DISTINCT FROM 1 + coalesce(lag(l.id) OVER (
                    PARTITION BY l.chain ORDER BY l.leaf_index), 0) THEN 'log_mismatch'
            END AS finding
            FROM public.ledger_log AS l)
        SELECT 'ledger_log', count(*),
               CASE WHEN count(c.finding) > 0 THEN false WHEN count(*) > 0 THEN true END,
               min(c.leaf_index) FILTER (WHERE c.finding IS NOT NULL),
               (array_agg(c.finding ORDER BY c.leaf_index)
                FILTER (WHERE c.finding IS NOT NULL))[1]
        FROM checked AS c;
END
$$;
