-- Roles and the rights on the database itself. Runs before the migrations, as a superuser, each
-- time `audit-ledger migrate` does; it can be repeated at will, and must be after a restore, since
-- a dump without --create does not hold the database's own rights. Everything after it runs as
-- ledger_owner.

-- Roles belong to the whole cluster: another database of it may have made them already.
DO $roles$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            -- Owns every object of the ledger. Nobody logs in as it.
            ('ledger_owner', 'NOLOGIN'),
            -- May SET ROLE to the owner, and has no right before it does.
            ('ledger_migrator', 'LOGIN NOINHERIT'),
            -- The service.
            ('app_trading', 'LOGIN'),
            -- Reads everything, writes nothing.
            ('ledger_auditor', 'LOGIN')
        ) AS roles (name, options)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I %s', wanted.name, wanted.options);
        END IF;
    END LOOP;
END
$roles$;

GRANT ledger_owner TO ledger_migrator;

DO $database$
DECLARE
    this text := pg_catalog.current_database();
BEGIN
    EXECUTE pg_catalog.format('REVOKE ALL ON DATABASE %I FROM PUBLIC', this);
    EXECUTE pg_catalog.format(
        'GRANT CONNECT ON DATABASE %I TO app_trading, ledger_auditor, ledger_migrator', this);
END
$database$;

-- The owner creates its objects here; the others look names up. PUBLIC has neither.
ALTER SCHEMA public OWNER TO ledger_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO app_trading, ledger_auditor, ledger_migrator;

-- Rights on what belongs to the server.
DO $server$
DECLARE
    callable record;
BEGIN
    -- The owner's watcher ends a session that sits idle on the ledger's lock.
    GRANT pg_signal_backend, pg_read_all_stats TO ledger_owner;
    -- Large objects are storage outside every guard; ending sessions stops the ledger, and so do
    -- advisory locks, of which one session can take so many that the server has no room for others.
    FOR callable IN
        SELECT oid::pg_catalog.regprocedure AS signature
        FROM pg_catalog.pg_proc
        WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace
          AND (proname LIKE 'pg%advisory%' OR proname IN (
                  'lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import', 'lo_export', 'lo_open',
                  'lo_put', 'lo_truncate', 'lo_truncate64', 'lo_unlink', 'lowrite',
                  'pg_terminate_backend', 'pg_cancel_backend'))
    LOOP
        EXECUTE pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', callable.signature);
    END LOOP;
    GRANT EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend(integer, bigint) TO ledger_owner;
    -- What runs the migrations where there is no superuser locks by these.
    GRANT EXECUTE ON FUNCTION pg_catalog.pg_advisory_lock(bigint),
        pg_catalog.pg_advisory_unlock(bigint) TO ledger_owner;
END
$server$;
