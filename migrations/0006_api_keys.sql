-- API keys: who may ask the service for what. Runs as ledger_owner.
--
-- A key is made once and can be revoked once; nothing else about it ever changes. Triggers, and not
-- the functions below, put both on record and set who did it and when: a key that is made or revoked
-- by hand is recorded too, under the right name and time.

CREATE TABLE public.api_keys (
    -- 16 random hexadecimal digits, by which a key is looked up. No secret.
    key_id varchar(16) NOT NULL,
    -- Who holds it: recorded_by and actor of what is done with it. Not unique, since a rotation
    -- has two keys of one name for a while.
    name varchar(64) NOT NULL,
    -- What it may be used for, in alphabetical order.
    scopes text[] NOT NULL,
    -- SHA-256 of the secret's 32 random bytes, in hexadecimal. The secret itself is nowhere.
    secret_sha256 char(64) NOT NULL,
    -- When it was made, by the database's clock.
    created_at timestamptz NOT NULL,
    -- The database login that made it.
    created_by name NOT NULL,
    -- When it was revoked, by the database's clock; NULL while it is in force.
    revoked_at timestamptz,
    -- The database login that revoked it.
    revoked_by name,
    CONSTRAINT api_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_keys_key_id_hex CHECK (key_id::text ~ '^[0-9a-f]{16}$'),
    CONSTRAINT api_keys_name_plain CHECK (name::text ~ '^[A-Za-z0-9._-]+$'),
    -- Every scope is known and stands in its place, once.
    CONSTRAINT api_keys_scopes_known CHECK (
        pg_catalog.cardinality(scopes) > 0
        AND scopes = pg_catalog.array_remove(ARRAY[
            CASE WHEN 'admin' = ANY (scopes) THEN 'admin' END,
            CASE WHEN 'export' = ANY (scopes) THEN 'export' END,
            CASE WHEN 'ingest' = ANY (scopes) THEN 'ingest' END,
            CASE WHEN 'read' = ANY (scopes) THEN 'read' END,
            CASE WHEN 'verify' = ANY (scopes) THEN 'verify' END]::text[], NULL)),
    CONSTRAINT api_keys_secret_sha256_hex CHECK (secret_sha256::text ~ '^[0-9a-f]{64}$'),
    CONSTRAINT api_keys_revocation_whole CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);

-- BEFORE INSERT and UPDATE: who and when are the database's own word.
CREATE FUNCTION public.ledger_stamp_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.created_at := clock_timestamp();
        NEW.created_by := session_user;
        NEW.revoked_at := NULL;
        NEW.revoked_by := NULL;
    ELSE
        NEW.revoked_at := clock_timestamp();
        NEW.revoked_by := session_user;
    END IF;
    RETURN NEW;
END
$$;

-- AFTER INSERT and UPDATE: the security event, in the same transaction. Never the hash.
CREATE FUNCTION public.ledger_record_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM public.ledger_append_row('security_events', jsonb_build_object(
        'event_type', CASE TG_OP WHEN 'INSERT' THEN 'KEY_CREATED' ELSE 'KEY_REVOKED' END,
        'actor', session_user,
        'subject', format('key %s of %s', NEW.key_id, NEW.name),
        'details', jsonb_build_object(
            'key_id', NEW.key_id, 'name', NEW.name, 'scopes', NEW.scopes),
        'source_ip', host(inet_client_addr())));
    RETURN NULL;
END
$$;

-- The guards of every table, but that a row that is in force may be revoked. The statement trigger
-- names the columns that never change, and so fires also where no row matches.
CREATE TRIGGER ledger_refuse_statement
    BEFORE UPDATE OF key_id, name, scopes, secret_sha256, created_at, created_by
        OR DELETE OR TRUNCATE ON public.api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_refuse_row BEFORE DELETE ON public.api_keys
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_refuse_row_update BEFORE UPDATE ON public.api_keys
    FOR EACH ROW
    WHEN ((OLD.revoked_at IS NULL AND OLD.revoked_by IS NULL AND NEW.revoked_at IS NOT NULL
           AND ROW(NEW.key_id, NEW.name, NEW.scopes, NEW.secret_sha256, NEW.created_at,
                   NEW.created_by)
               = ROW(OLD.key_id, OLD.name, OLD.scopes, OLD.secret_sha256, OLD.created_at,
                     OLD.created_by)) IS NOT TRUE)
    EXECUTE FUNCTION public.ledger_refuse_change();
-- The ledger's lock before any row is touched: the event needs it, and a key's time is taken under
-- it, so that none is older than a lockdown that was entered while it was made.
CREATE TRIGGER ledger_lock_for_insert BEFORE INSERT OR UPDATE ON public.api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_lock_for_insert();
-- Triggers of one kind fire in the order of their names: after the guard.
CREATE TRIGGER ledger_stamp_key BEFORE INSERT OR UPDATE ON public.api_keys
    FOR EACH ROW EXECUTE FUNCTION public.ledger_stamp_key();
CREATE TRIGGER ledger_record_key AFTER INSERT OR UPDATE ON public.api_keys
    FOR EACH ROW EXECUTE FUNCTION public.ledger_record_key();
-- Also under session_replication_role = replica.
ALTER TABLE public.api_keys ENABLE ALWAYS TRIGGER ledger_refuse_statement;
ALTER TABLE public.api_keys ENABLE ALWAYS TRIGGER ledger_refuse_row;
ALTER TABLE public.api_keys ENABLE ALWAYS TRIGGER ledger_refuse_row_update;
ALTER TABLE public.api_keys ENABLE ALWAYS TRIGGER ledger_lock_for_insert;
ALTER TABLE public.api_keys ENABLE ALWAYS TRIGGER ledger_stamp_key;
ALTER TABLE public.api_keys ENABLE ALWAYS TRIGGER ledger_record_key;

-- Makes a key. For the owner alone; the secret stays with whoever calls.
CREATE FUNCTION public.ledger_create_key(
    key_id text, name text, scopes text[], secret_sha256 text
) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO public.api_keys (key_id, name, scopes, secret_sha256)
    VALUES ($1, $2, $3, $4)
$$;

-- Revokes a key, from the next moment on. A key that does not exist, or was revoked before, is an
-- error: whoever revokes one wants to know that it was in force until now. For the owner alone.
CREATE FUNCTION public.ledger_revoke_key(key_id text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before timestamptz;
BEGIN
    UPDATE public.api_keys AS k SET revoked_at = clock_timestamp()
    WHERE k.key_id = $1 AND k.revoked_at IS NULL;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT k.revoked_at INTO before FROM public.api_keys AS k WHERE k.key_id = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no key %', $1 USING ERRCODE = 'no_data_found';
    END IF;
    RAISE EXCEPTION 'key % was revoked before, at %', $1,
        to_char(timezone('UTC', before), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        USING ERRCODE = 'object_not_in_prerequisite_state';
END
$$;

-- Nobody but the owner makes or revokes. A secret is 256 random bits, which nobody finds from
-- their hash, so the service may read it; an auditor has no use for it.
REVOKE ALL ON public.api_keys FROM PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE ON public.api_keys FROM ledger_owner;
GRANT UPDATE (revoked_at) ON public.api_keys TO ledger_owner;
GRANT SELECT ON public.api_keys TO app_trading;
GRANT SELECT (key_id, name, scopes, created_at, created_by, revoked_at, revoked_by)
    ON public.api_keys TO ledger_auditor;
