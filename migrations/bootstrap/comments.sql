-- What the roles, schema ledger_guard and the event trigger are, for whoever looks at them with
-- psql. Runs as a superuser each time one migrates, in the transaction of the migrations and while
-- it may change guards; it can be repeated at will. Comments guard nothing.

-- Roles belong to the whole cluster: where nothing is to be changed, nothing is locked, so that the
-- migrations of two databases do not wait for each other.
DO $roles$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('ledger_owner',
             'Owns every object of the ledger. Nobody logs in as it.'),
            ('ledger_migrator',
             'The login that migrates and manages keys: may SET ROLE to ledger_owner, and has no '
             'right before it does.'),
            ('app_trading',
             'The login of the service: reads, and appends to what the service writes.'),
            ('ledger_auditor',
             'The login of an auditor: reads the whole ledger but the hashes of API keys, and '
             'writes nothing.')
        ) AS roles (name, words)
    LOOP
        IF pg_catalog.shobj_description(wanted.name::pg_catalog.regrole, 'pg_authid')
           IS DISTINCT FROM wanted.words
        THEN
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.words);
        END IF;
    END LOOP;
END
$roles$;

COMMENT ON SCHEMA ledger_guard IS
    'What the ledger''s guards must look like, and what keeps them so. All of it is a '
    'superuser''s.';

COMMENT ON TABLE ledger_guard.guard_manifest IS
    'Every guard as the migrations made it: one row for each object. Written by end_migration() '
    'alone.';
COMMENT ON COLUMN ledger_guard.guard_manifest.kind IS
    'What kind of object: table, trigger, grant, role, ….';
COMMENT ON COLUMN ledger_guard.guard_manifest.identity IS
    'Which one, in a spelling without OIDs and without the database''s name.';
COMMENT ON COLUMN ledger_guard.guard_manifest.definition IS
    'Everything about it that guards.';
COMMENT ON CONSTRAINT guard_manifest_pkey ON ledger_guard.guard_manifest IS
    'An object stands in the manifest once.';

COMMENT ON TABLE ledger_guard.known_drift IS
    'Differences from the manifest that a check has told of, which the event trigger does not '
    'hold against later DDL. Written by remember_drift(), and by the event trigger where one is '
    'put right.';
COMMENT ON COLUMN ledger_guard.known_drift.kind IS
    'What kind of object, as in guard_manifest.';
COMMENT ON COLUMN ledger_guard.known_drift.identity IS
    'Which one, as in guard_manifest.';
COMMENT ON COLUMN ledger_guard.known_drift.definition IS
    'The object as it was found; NULL where it was missing.';
COMMENT ON CONSTRAINT known_drift_pkey ON ledger_guard.known_drift IS
    'An object differs in one way at a time.';

COMMENT ON TABLE ledger_guard.migration_window IS
    'The transaction that may change guards, and what it found. Empty but in a migration: a row '
    'that is committed all the same opens nothing, since its transaction is over.';
COMMENT ON COLUMN ledger_guard.migration_window.transaction_id IS
    'The transaction that called begin_migration().';
COMMENT ON COLUMN ledger_guard.migration_window.before IS
    'The rows of current_state() at its beginning, as a JSON array.';
COMMENT ON CONSTRAINT migration_window_pkey ON ledger_guard.migration_window IS
    'A transaction opens one window.';

COMMENT ON FUNCTION ledger_guard.roles() IS
    'The name of every role as definitions spell it. Superusers other than the ledger''s own '
    'roles are all alike.';
COMMENT ON FUNCTION ledger_guard.state_of_tables() IS
    'Tables, and all that hangs on them: columns, constraints, indexes, triggers, rules, policies.';
COMMENT ON FUNCTION ledger_guard.state_of_functions() IS
    'Functions, types and whatever else a schema can hold; casts; and the server''s own functions.';
COMMENT ON FUNCTION ledger_guard.state_of_rights() IS
    'Who may do what: schemas with their owners, grants, what was taken from PUBLIC, and default '
    'privileges.';
COMMENT ON FUNCTION ledger_guard.state_of_server() IS
    'What no DDL event tells of: the server, the database, roles, settings, event triggers, '
    'subscriptions.';
COMMENT ON FUNCTION ledger_guard.current_state() IS
    'The guards as they are, in the spelling of the manifest.';
COMMENT ON FUNCTION ledger_guard.drift() IS
    'Where the guards are not as the manifest says: expected is NULL for what was added, found '
    'for what is missing.';
COMMENT ON FUNCTION ledger_guard.remember_drift() IS
    'Keeps what a check has told of, in known_drift. For the service''s login.';
COMMENT ON FUNCTION ledger_guard.refuse_ddl() IS
    'The event trigger''s function: refuses DDL (AUD-010) after which a guard is not as the '
    'manifest says, unless a check has told of that already.';
COMMENT ON FUNCTION ledger_guard.begin_migration() IS
    'Opens the window: until its transaction ends, this session alone may change guards. For a '
    'superuser.';
COMMENT ON FUNCTION ledger_guard.end_migration() IS
    'Closes the window, and puts what changed meanwhile into the manifest. For a superuser.';

COMMENT ON EVENT TRIGGER ledger_guard_ddl IS
    'At the end of every DDL: refuses it (AUD-010) where a guard is not as the manifest says.';
