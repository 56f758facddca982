-- L6 lockdown (AUD-009): a ledger that does not add up takes no further row of its business chains
-- until two admins, or the owner's login, have looked at it. And the record of refused attempts.
-- Runs as ledger_owner.

-- Every step of every lockdown, one line each. Written by the functions below alone.
CREATE TABLE public.lockdowns (
    -- 1, 2, 3, …, given under the ledger's lock.
    id bigint NOT NULL,
    -- The line by which this lockdown was entered.
    lockdown_id bigint NOT NULL,
    -- ENTERED, LIFT_REQUESTED or LIFTED.
    action varchar(20) NOT NULL,
    -- The admin key's name, or the login that called.
    actor varchar(64) NOT NULL,
    -- The admin key; NULL where the database login acted by itself.
    key_id varchar(16),
    -- The request that a LIFTED confirms; NULL where the owner's login lifted.
    request_id bigint,
    reason text NOT NULL,
    -- What was found, for ENTERED; the finding_ids that are acknowledged, for the others.
    findings jsonb NOT NULL,
    -- The event that stands for this line in the chain; NULL only for an ENTERED of a ledger so
    -- damaged that it could not take one.
    security_event_id bigint,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT lockdowns_pkey PRIMARY KEY (id),
    CONSTRAINT lockdowns_lockdown_id_fkey
        FOREIGN KEY (lockdown_id) REFERENCES public.lockdowns (id),
    CONSTRAINT lockdowns_request_id_fkey FOREIGN KEY (request_id) REFERENCES public.lockdowns (id),
    CONSTRAINT lockdowns_entered_names_itself
        CHECK ((action::text = 'ENTERED') = (id = lockdown_id)),
    CONSTRAINT lockdowns_request_of_lifted
        CHECK (request_id IS NULL OR action::text = 'LIFTED'),
    CONSTRAINT lockdowns_action_known
        CHECK (action::text IN ('ENTERED', 'LIFT_REQUESTED', 'LIFTED')),
    CONSTRAINT lockdowns_event_recorded
        CHECK (security_event_id IS NOT NULL OR action::text = 'ENTERED'),
    CONSTRAINT lockdowns_findings_size
        CHECK (pg_catalog.octet_length(findings::text) <= 16777216),
    CONSTRAINT lockdowns_reason_size CHECK (pg_catalog.octet_length(reason) <= 65536)
);
CALL public.ledger_guard_table('public.lockdowns');
CALL public.ledger_grant_rights('public.lockdowns', false);

-- Findings that were acknowledged when a lockdown was lifted. They are listed for ever and lock no
-- more; a finding that differs in anything is another one.
CREATE TABLE public.acknowledged_findings (
    -- The finding's finding_id: SHA-256 of the line in which a check lists it.
    finding_id char(64) NOT NULL,
    -- The LIFTED line of lockdowns.
    lifted_by bigint NOT NULL,
    CONSTRAINT acknowledged_findings_pkey PRIMARY KEY (finding_id),
    CONSTRAINT acknowledged_findings_lifted_by_fkey
        FOREIGN KEY (lifted_by) REFERENCES public.lockdowns (id),
    CONSTRAINT acknowledged_findings_finding_id_hex CHECK (finding_id::text ~ '^[0-9a-f]{64}$')
);
CALL public.ledger_guard_table('public.acknowledged_findings');
-- No foreign key points here, so its owner needs no UPDATE on any column.
REVOKE ALL ON public.acknowledged_findings FROM PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE ON public.acknowledged_findings FROM ledger_owner;
GRANT SELECT ON public.acknowledged_findings TO app_trading, ledger_auditor;

-- The lockdown in force: no row where there is none.
CREATE FUNCTION public.ledger_lockdown()
    RETURNS TABLE (lockdown_id bigint, since timestamptz, reason text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT last.lockdown_id, coalesce(entered.at, last.at), coalesce(entered.reason, last.reason)
    FROM (SELECT * FROM public.lockdowns AS l ORDER BY l.id DESC LIMIT 1) AS last
    -- Also where somebody has removed the line that entered it.
    LEFT JOIN public.lockdowns AS entered ON entered.id = last.lockdown_id
    WHERE last.action::text <> 'LIFTED';
END;

-- Whether a chain takes no rows in a lockdown. The others stay open, so that what happens meanwhile
-- is on record.
CREATE FUNCTION public.ledger_stops_in_lockdown(chain text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN chain NOT IN ('security_events', 'quarantined_deliveries');

-- As in 0003, and:
--  - no row of a business chain in a lockdown;
--  - where the row before is gone, the log's word on its hash counts, so that a ledger that lost
--    rows goes on once that is acknowledged;
--  - nothing may stand behind the new rows, in the chain or in the log: an append within the INSERT
--    itself, or a hole in a damaged chain, would else give the log another order than the chain;
--  - every row's time is the clock's, and not only the first one's;
--  - no row of a business chain under another level than READ COMMITTED, whose snapshot may be
--    older than a lockdown. (Elsewhere such a row fails at the log's key, if it is too old.)
CREATE OR REPLACE FUNCTION public.ledger_enter_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    batch record;
    lockdown record;
    -- Not by TG_TABLE_NAME, a name, whose collation is another than that of the log's index.
    this_chain text := TG_TABLE_NAME;
    is_overtaken boolean;
    last_logged bigint;
    head_hash text;
    head_time timestamptz;
    next_leaf bigint;
BEGIN
    SELECT count(*) AS rows, min(id) AS first_id, max(id) AS last_id,
           min(created_at) AS first_time,
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

    IF public.ledger_stops_in_lockdown(TG_TABLE_NAME) THEN
        IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
        THEN
            RAISE EXCEPTION USING
                ERRCODE = 'AU011',
                MESSAGE = format('AUD-011: rows of %s are appended under READ COMMITTED, not %s: an '
                                 'older snapshot does not see a lockdown', TG_TABLE_NAME,
                                 upper(current_setting('transaction_isolation')));
        END IF;
        SELECT l.since, l.reason INTO lockdown FROM public.ledger_lockdown() AS l;
        IF FOUND THEN
            RAISE EXCEPTION USING
                ERRCODE = 'AU009',
                MESSAGE = format('AUD-009: the ledger is locked down since %s: %s',
                                 lockdown.since, lockdown.reason);
        END IF;
    END IF;

    -- A statement of its own: it sees what was committed before the lock was given.
    IF batch.first_id = 1 THEN
        head_hash := public.ledger_genesis(TG_TABLE_NAME);
        head_time := '-infinity';
    ELSE
        EXECUTE format('SELECT row_hash, created_at FROM public.%I WHERE id = $1', TG_TABLE_NAME)
            INTO head_hash, head_time USING batch.first_id - 1;
        IF head_hash IS NULL THEN
            SELECT l.row_hash, '-infinity' INTO head_hash, head_time
            FROM public.ledger_log AS l
            WHERE l.chain = this_chain AND l.id = batch.first_id - 1;
        END IF;
    END IF;

    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE id > $1
                                   AND id <= 9007199254740991)', TG_TABLE_NAME)
        INTO is_overtaken USING batch.last_id;
    -- Ordered as the index is: a plan that was made while the log was small must not read all of it
    -- later.
    SELECT l.id INTO last_logged FROM public.ledger_log AS l
    WHERE l.chain = this_chain AND l.id <= 9007199254740991
    ORDER BY l.chain DESC, l.id DESC LIMIT 1;
    is_overtaken := is_overtaken OR coalesce(last_logged >= batch.first_id, false);

    -- A time may be up to a minute old, since the clock was read before the rows were sent; where
    -- the clock stepped back, it repeats that of the row before, which is then later than now. Now
    -- is the clock's now: the start of the statement is the client's to choose, who may sleep in it.
    IF (batch.follows
        AND batch.first_id > 0
        AND NOT is_overtaken
        AND batch.first_prev_hash = head_hash
        AND batch.first_time >= head_time
        AND batch.first_time >= clock_timestamp() - interval '60 s'
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
    FROM public.ledger_log WHERE leaf_index BETWEEN 0 AND 9007199254740991
    ORDER BY leaf_index DESC LIMIT 1;
    INSERT INTO public.ledger_log (leaf_index, chain, id, row_hash)
    SELECT coalesce(next_leaf, 0) + id - batch.first_id, TG_TABLE_NAME, id, row_hash
    FROM new_rows ORDER BY id;
    RETURN NULL;
END
$$;

-- As in 0003, and: whether the ledger is locked down (locked_since is NULL where it is not), and the
-- head is the last row that the chain or the log knows of. Ids and leaves that no row can have,
-- which somebody forged, are passed over: they must not stop what comes after.
DROP FUNCTION public.ledger_begin_append(text[]);
CREATE FUNCTION public.ledger_begin_append(chains text[])
    RETURNS TABLE (chain text, id bigint, row_hash text, created_at timestamptz,
                   next_leaf bigint, clock timestamptz, locked_since timestamptz, lock_reason text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
AS $$
#variable_conflict use_column
DECLARE
    logged record;
BEGIN
    LOCK TABLE public.ledger_lock IN EXCLUSIVE MODE;
    SELECT l.leaf_index + 1 INTO next_leaf
    FROM public.ledger_log AS l WHERE l.leaf_index BETWEEN 0 AND 9007199254740991
    ORDER BY l.leaf_index DESC LIMIT 1;
    next_leaf := coalesce(next_leaf, 0);
    SELECT l.since, l.reason INTO locked_since, lock_reason FROM public.ledger_lockdown() AS l;
    clock := clock_timestamp();
    FOREACH chain IN ARRAY chains LOOP
        IF chain <> ALL (public.ledger_chains()) THEN
            RAISE EXCEPTION '% is not a chain of this ledger', chain
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        EXECUTE format('SELECT id, row_hash::text, created_at FROM public.%I
                        WHERE id BETWEEN 1 AND 9007199254740991 ORDER BY id DESC LIMIT 1', chain)
            INTO id, row_hash, created_at;
        SELECT l.id, l.row_hash::text AS row_hash INTO logged FROM public.ledger_log AS l
        WHERE l.chain = ledger_begin_append.chain AND l.id BETWEEN 1 AND 9007199254740991
        ORDER BY l.id DESC LIMIT 1;
        IF logged.id > coalesce(id, 0) THEN
            id := logged.id;
            row_hash := logged.row_hash;
        END IF;
        id := coalesce(id, 0);
        row_hash := coalesce(row_hash, public.ledger_genesis(chain));
        RETURN NEXT;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION public.ledger_begin_append(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.ledger_begin_append(text[]) TO app_trading;

-- BEFORE INSERT on lockdowns: number, time and event are the database's own word, whoever inserts. A
-- line that the owner's login makes by hand is on record as that.
--
-- The event is also what stops an older REPEATABLE READ transaction, which does not see the new
-- line: its leaf index is taken.
CREATE FUNCTION public.ledger_stamp_lockdown() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    event_type text := CASE
        WHEN NEW.action::text <> 'LIFTED' THEN 'LOCKDOWN_' || NEW.action
        WHEN NEW.request_id IS NULL OR pg_has_role(session_user, 'ledger_owner', 'MEMBER')
            THEN 'LOCKDOWN_LIFTED_BY_OWNER'
        ELSE 'LOCKDOWN_LIFTED' END;
    details jsonb := jsonb_build_object('reason', NEW.reason, 'login', session_user);
BEGIN
    IF NEW.key_id IS NOT NULL AND pg_has_role(session_user, 'ledger_owner', 'MEMBER') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU011',
            MESSAGE = 'AUD-011: an admin''s step is made with the admin''s key, by the service''s login';
    END IF;
    SELECT coalesce(max(l.id), 0) + 1 INTO NEW.id FROM public.lockdowns AS l;
    NEW.at := clock_timestamp();
    IF NEW.action::text = 'ENTERED' THEN
        NEW.lockdown_id := NEW.id;
        details := details || jsonb_build_object('findings', jsonb_array_length(NEW.findings));
    ELSE
        -- All of them: a check believes what stands in the chain, and no table beside it.
        details := details || jsonb_build_object(
            'key_id', NEW.key_id, 'request', coalesce(NEW.request_id, NEW.id),
            'acknowledged', NEW.findings);
    END IF;
    BEGIN
        SELECT r.id INTO STRICT NEW.security_event_id
        FROM public.ledger_append_row('security_events', jsonb_build_object(
            'event_type', event_type, 'actor', NEW.actor,
            'subject', 'lockdown ' || NEW.lockdown_id, 'details', details)) AS r;
    EXCEPTION WHEN OTHERS THEN
        IF NEW.action::text <> 'ENTERED' THEN
            RAISE;
        END IF;
        -- A ledger too damaged to take the event is locked all the same.
        RAISE WARNING 'AUD-009: the lockdown could not be put on the chain: % (%)', SQLERRM, SQLSTATE;
        NEW.security_event_id := NULL;
    END;
    RETURN NEW;
END
$$;

-- AFTER INSERT on lockdowns: what a lift acknowledges.
CREATE FUNCTION public.ledger_acknowledge() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO public.acknowledged_findings (finding_id, lifted_by)
    SELECT DISTINCT f.finding_id, NEW.id
    FROM jsonb_array_elements_text(NEW.findings) AS f (finding_id)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

-- BEFORE INSERT on acknowledged_findings: only by a lift, not even by the owner.
CREATE FUNCTION public.ledger_guard_acknowledged() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU011',
            MESSAGE = 'AUD-011: findings are acknowledged by lifting a lockdown';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER ledger_lock_for_insert BEFORE INSERT ON public.lockdowns
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_lock_for_insert();
CREATE TRIGGER ledger_stamp_lockdown BEFORE INSERT ON public.lockdowns
    FOR EACH ROW EXECUTE FUNCTION public.ledger_stamp_lockdown();
CREATE TRIGGER ledger_acknowledge AFTER INSERT ON public.lockdowns
    FOR EACH ROW WHEN (NEW.action = 'LIFTED') EXECUTE FUNCTION public.ledger_acknowledge();
CREATE TRIGGER ledger_guard_acknowledged BEFORE INSERT ON public.acknowledged_findings
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_guard_acknowledged();
ALTER TABLE public.lockdowns ENABLE ALWAYS TRIGGER ledger_lock_for_insert;
ALTER TABLE public.lockdowns ENABLE ALWAYS TRIGGER ledger_stamp_lockdown;
ALTER TABLE public.lockdowns ENABLE ALWAYS TRIGGER ledger_acknowledge;
ALTER TABLE public.acknowledged_findings ENABLE ALWAYS TRIGGER ledger_guard_acknowledged;

-- Enters a lockdown, and returns the one in force. For the service, the command line, and whoever
-- sees from psql that something is wrong. It waits for the ledger's lock longer than any writer
-- may hold it: a busy ledger must not escape.
CREATE FUNCTION public.ledger_enter_lockdown(reason text, findings jsonb, actor text)
    RETURNS TABLE (lockdown_id bigint, since timestamptz, entered boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '60s'
AS $$
#variable_conflict use_column
BEGIN
    IF coalesce(reason, '') = '' OR coalesce(actor, '') = ''
       OR jsonb_typeof(findings) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'VAL-002: a lockdown has a reason, an actor, and an array of findings'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOCK TABLE public.ledger_lock IN EXCLUSIVE MODE;
    SELECT l.lockdown_id, l.since, false INTO lockdown_id, since, entered
    FROM public.ledger_lockdown() AS l;
    IF NOT FOUND THEN
        -- Numbered here, too: the lockdown stands also where somebody has switched its trigger off.
        SELECT coalesce(max(l.id), 0) + 1 INTO lockdown_id FROM public.lockdowns AS l;
        INSERT INTO public.lockdowns AS l (id, lockdown_id, action, actor, reason, findings)
        VALUES (lockdown_id, lockdown_id, 'ENTERED', left(ledger_enter_lockdown.actor, 64),
                ledger_enter_lockdown.reason, ledger_enter_lockdown.findings)
        RETURNING l.lockdown_id, l.at, true INTO lockdown_id, since, entered;
    END IF;
    RETURN NEXT;
END
$$;

-- The name of an admin key that may lift this lockdown: its secret is right, it is not revoked, and
-- it is older than the lockdown. The check is made here, so that the service's login can forge none.
CREATE FUNCTION public.ledger_lifting_key(key_id text, secret bytea, older_than timestamptz)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    holder record;
BEGIN
    SELECT k.name, k.created_at INTO holder FROM public.api_keys AS k
    WHERE k.key_id = ledger_lifting_key.key_id AND k.revoked_at IS NULL
      AND 'admin' = ANY (k.scopes)
      AND k.secret_sha256 = encode(sha256(secret), 'hex')::char(64);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'SEC-006: a lockdown is lifted with keys of scope admin'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF holder.created_at >= older_than THEN
        RAISE EXCEPTION 'SEC-006: this key is younger than the lockdown and cannot lift it'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN holder.name;
END
$$;

-- One more line for the lockdown in force. For the functions below.
CREATE FUNCTION public.ledger_add_lockdown_line(
    lockdown_id bigint, action text, actor text, key_id text, request_id bigint, reason text,
    finding_ids text[]
) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    line bigint;
BEGIN
    IF coalesce(reason, '') = '' THEN
        RAISE EXCEPTION 'VAL-002: reason is missing' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- An event holds no more.
    IF cardinality(finding_ids) > 10000 THEN
        RAISE EXCEPTION 'VAL-002: findings holds more than 10000: acknowledge them in several lifts'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM unnest(finding_ids) AS f (finding_id)
               WHERE f.finding_id IS NULL OR f.finding_id !~ '^[0-9a-f]{64}$') THEN
        RAISE EXCEPTION 'VAL-002: a finding_id has 64 hexadecimal digits'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT max(l.id) + 1 INTO line FROM public.lockdowns AS l;
    INSERT INTO public.lockdowns AS l (id, lockdown_id, action, actor, key_id, request_id, reason,
                                       findings)
    VALUES (line, lockdown_id, action, actor, key_id, request_id, reason, to_jsonb(finding_ids))
    RETURNING l.id INTO line;
    RETURN line;
END
$$;

-- The first of two steps: an admin says why the lockdown may end, and which findings are known.
CREATE FUNCTION public.ledger_request_lift(
    key_id text, secret bytea, reason text, finding_ids text[]
)
    RETURNS TABLE (request_id bigint, expires_at timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '60s'
AS $$
#variable_conflict use_variable
DECLARE
    lockdown record;
    admin text;
BEGIN
    LOCK TABLE public.ledger_lock IN EXCLUSIVE MODE;
    SELECT * INTO lockdown FROM public.ledger_lockdown();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'NTF-001: the ledger is not locked down' USING ERRCODE = 'no_data_found';
    END IF;
    admin := public.ledger_lifting_key(key_id, secret, lockdown.since);
    request_id := public.ledger_add_lockdown_line(
        lockdown.lockdown_id, 'LIFT_REQUESTED', admin, key_id, NULL, reason,
        coalesce(finding_ids, '{}'));
    SELECT l.at + interval '15 min' INTO STRICT expires_at
    FROM public.lockdowns AS l WHERE l.id = request_id;
    RETURN NEXT;
END
$$;

-- The second: another admin confirms just that request, within 15 minutes.
CREATE FUNCTION public.ledger_confirm_lift(key_id text, secret bytea, request_id bigint)
    RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '60s'
AS $$
#variable_conflict use_variable
DECLARE
    lockdown record;
    request record;
    admin text;
BEGIN
    LOCK TABLE public.ledger_lock IN EXCLUSIVE MODE;
    SELECT * INTO lockdown FROM public.ledger_lockdown();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'NTF-001: the ledger is not locked down' USING ERRCODE = 'no_data_found';
    END IF;
    admin := public.ledger_lifting_key(key_id, secret, lockdown.since);
    SELECT l.key_id, l.actor, l.reason, l.at,
           ARRAY(SELECT jsonb_array_elements_text(l.findings)) AS finding_ids
    INTO request
    FROM public.lockdowns AS l
    WHERE l.id = request_id AND l.lockdown_id = lockdown.lockdown_id
      AND l.action::text = 'LIFT_REQUESTED';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'NTF-001: there is no such request to lift this lockdown'
            USING ERRCODE = 'no_data_found';
    END IF;
    IF request.at < clock_timestamp() - interval '15 min' THEN
        RAISE EXCEPTION 'VAL-002: request is older than 15 minutes: make a new one'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF request.key_id = key_id OR request.actor = admin THEN
        RAISE EXCEPTION 'SEC-006: a lift is confirmed by another admin than the one who requested it'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT EXISTS (SELECT FROM public.api_keys AS k
                   WHERE k.key_id = request.key_id AND k.revoked_at IS NULL) THEN
        RAISE EXCEPTION 'SEC-006: the key that requested this lift was revoked since: make a new request'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM public.ledger_add_lockdown_line(
        lockdown.lockdown_id, 'LIFTED', admin, key_id, request_id, request.reason,
        request.finding_ids);
    RETURN lockdown.lockdown_id;
END
$$;

-- Where there is only one admin: the owner lifts alone, and it is recorded as that. Nobody else may
-- execute this.
CREATE FUNCTION public.ledger_lift_as_owner(reason text, finding_ids text[]) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '60s'
AS $$
DECLARE
    lockdown record;
BEGIN
    LOCK TABLE public.ledger_lock IN EXCLUSIVE MODE;
    SELECT * INTO lockdown FROM public.ledger_lockdown();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'NTF-001: the ledger is not locked down' USING ERRCODE = 'no_data_found';
    END IF;
    PERFORM public.ledger_add_lockdown_line(
        lockdown.lockdown_id, 'LIFTED', session_user, NULL, NULL, reason,
        coalesce(finding_ids, '{}'));
    RETURN lockdown.lockdown_id;
END
$$;

-- How many refused attempts of each code are on record. After a crash of the server a sequence that
-- had moved stands up to 32 ahead, so the numbers are upper bounds.
CREATE TABLE public.recorded_refusals (
    -- AUD-002, …
    code varchar(10) NOT NULL,
    -- The sequence's value that the event tells.
    total bigint NOT NULL,
    security_event_id bigint NOT NULL,
    CONSTRAINT recorded_refusals_pkey PRIMARY KEY (code, security_event_id),
    CONSTRAINT recorded_refusals_code_known CHECK (code::text ~ '^AUD-[0-9]{3}$')
);
CALL public.ledger_guard_table('public.recorded_refusals');
REVOKE ALL ON public.recorded_refusals FROM PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE ON public.recorded_refusals FROM ledger_owner;
GRANT SELECT ON public.recorded_refusals TO app_trading, ledger_auditor;

-- BEFORE INSERT on recorded_refusals: nobody puts more on record than there was, which would hide
-- what comes.
CREATE FUNCTION public.ledger_check_refusal() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (NEW.total <= (SELECT coalesce(s.last_value, 0) FROM pg_sequences AS s
                      WHERE s.schemaname = 'public'
                        AND s.sequencename = 'ledger_refused_aud_' || right(NEW.code, 3)))
       IS NOT TRUE
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'AU011',
            MESSAGE = 'AUD-011: so many attempts were not refused';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER ledger_check_refusal BEFORE INSERT ON public.recorded_refusals
    FOR EACH ROW EXECUTE FUNCTION public.ledger_check_refusal();
ALTER TABLE public.recorded_refusals ENABLE ALWAYS TRIGGER ledger_check_refusal;

-- Only nextval() moves them, also for their owner.
REVOKE UPDATE ON SEQUENCE
    public.ledger_refused_aud_002, public.ledger_refused_aud_003, public.ledger_refused_aud_004,
    public.ledger_refused_aud_005, public.ledger_refused_aud_006, public.ledger_refused_aud_007,
    public.ledger_refused_aud_010
    FROM ledger_owner;

-- Refused attempts since the last look: code, and how often each code was refused in all. Less than
-- nothing where somebody has set a sequence back.
CREATE FUNCTION public.ledger_new_refusals()
    RETURNS TABLE (code text, attempts bigint, total bigint)
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT moved.code, moved.total - coalesce(before.total, 0), moved.total
    FROM (SELECT 'AUD-' || right(s.sequencename, 3) AS code, coalesce(s.last_value, 0) AS total
          FROM pg_sequences AS s
          WHERE s.schemaname = 'public'
            AND starts_with(s.sequencename::text, 'ledger_refused_aud_')) AS moved
    LEFT JOIN LATERAL (
        SELECT r.total FROM public.recorded_refusals AS r
        WHERE r.code = moved.code ORDER BY r.security_event_id DESC LIMIT 1) AS before ON true
    WHERE moved.total <> coalesce(before.total, 0)
    ORDER BY moved.code
$$;

-- Records refused attempts as security events, each once however many services look. Returns how
-- many events it appended.
CREATE FUNCTION public.ledger_record_refusals() RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    refusal record;
    event_id bigint;
    events integer := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM public.ledger_new_refusals()) THEN
        RETURN 0;
    END IF;
    PERFORM public.ledger_begin_append('{}');
    FOR refusal IN SELECT * FROM public.ledger_new_refusals() LOOP
        SELECT r.id INTO STRICT event_id FROM public.ledger_append_row('security_events',
            jsonb_build_object(
                'event_type', 'CHANGE_REFUSED', 'actor', 'system', 'subject', refusal.code,
                'details', jsonb_build_object(
                    'code', refusal.code, 'attempts', refusal.attempts, 'total', refusal.total))
            ) AS r;
        INSERT INTO public.recorded_refusals (code, total, security_event_id)
        VALUES (refusal.code, refusal.total, event_id);
        events := events + 1;
    END LOOP;
    RETURN events;
END
$$;

-- As in 0003, and: also who has held the lock for half a minute at work, and who holds a stronger one.
CREATE OR REPLACE FUNCTION public.ledger_end_idle_lock_holders()
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
          AND held.mode IN ('ExclusiveLock', 'AccessExclusiveLock') AND held.granted
          AND (activity.state IN ('idle in transaction', 'idle in transaction (aborted)')
               AND activity.state_change < clock_timestamp() - interval '5 s'
               OR activity.xact_start < clock_timestamp() - interval '30 s'))
    SELECT * FROM holders WHERE pg_terminate_backend(pid, 0)
$$;

-- As in 0003, but: what is too deep or too long to be compared is no verdict, since the hash covers
-- the text; and nine bytes such as 1e131071 print as 131 kB, so numbers of large exponents are
-- compared by value alone.
CREATE OR REPLACE FUNCTION public.ledger_document_matches(original text, document jsonb)
    RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF document IS DISTINCT FROM original::jsonb THEN
        RETURN false;
    END IF;
    RETURN original ~ '[eE][+-]?[0-9]{4}'
        OR document::text IS NOT DISTINCT FROM original::jsonb::text;
EXCEPTION
    WHEN program_limit_exceeded THEN RETURN NULL;
    WHEN data_exception THEN RETURN false;
END
$$;

GRANT EXECUTE ON FUNCTION
    public.ledger_lockdown(),
    public.ledger_stops_in_lockdown(text)
    TO app_trading, ledger_auditor;
GRANT EXECUTE ON FUNCTION
    public.ledger_enter_lockdown(text, jsonb, text),
    public.ledger_request_lift(text, bytea, text, text[]),
    public.ledger_confirm_lift(text, bytea, bigint),
    public.ledger_record_refusals()
    TO app_trading;

-- What is kept in a lockdown is a signal in waiting. Without an id the same bytes are one signal for
-- 60 s and another one after that, so they may be kept more than once; any other delivery is kept
-- once, as before. The second index finds those of the last minute.
DROP INDEX public.quarantined_deliveries_content_key;
CREATE UNIQUE INDEX quarantined_deliveries_content_key
    ON public.quarantined_deliveries (source, reason, pg_catalog.sha256(body))
    WHERE reason::text <> 'lockdown';
CREATE INDEX quarantined_deliveries_waiting
    ON public.quarantined_deliveries (source, pg_catalog.sha256(body), received_at)
    WHERE reason::text = 'lockdown';
