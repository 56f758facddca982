-- What the guards must look like, and the event trigger that keeps them so. Runs as a superuser
-- each time one migrates, after roles.sql and in the transaction of the migrations; it can be
-- repeated at will.
--
-- All of it belongs to that superuser: what ledger_owner owned, ledger_owner could drop.

-- Whoever made this schema before could have put functions here for a superuser to run.
DO $ours$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_namespace AS n
        JOIN pg_catalog.pg_roles AS r ON r.oid = n.nspowner
        WHERE n.nspname = 'ledger_guard' AND NOT r.rolsuper
        UNION ALL
        SELECT FROM pg_catalog.pg_proc AS p
        JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        JOIN pg_catalog.pg_roles AS r ON r.oid = p.proowner
        WHERE n.nspname = 'ledger_guard' AND NOT r.rolsuper)
    THEN
        RAISE EXCEPTION 'schema ledger_guard holds what is not a superuser''s: drop it first';
    END IF;
END
$ours$;

CREATE SCHEMA IF NOT EXISTS ledger_guard;

-- Every guard as the migrations made it: one row for each object.
CREATE TABLE IF NOT EXISTS ledger_guard.guard_manifest (
    -- table, trigger, grant, role, …
    kind text NOT NULL,
    -- Which one, in a spelling without OIDs and without the database's name.
    identity text NOT NULL,
    -- Everything about it that guards.
    definition text NOT NULL,
    CONSTRAINT guard_manifest_pkey PRIMARY KEY (kind, identity)
);

-- Differences from the manifest that a check has told. The event trigger does not hold them against
-- later DDL: they are on record, and a DBA can go on elsewhere.
CREATE TABLE IF NOT EXISTS ledger_guard.known_drift (
    kind text NOT NULL,
    identity text NOT NULL,
    -- As it was found; NULL where it was missing.
    definition text,
    CONSTRAINT known_drift_pkey PRIMARY KEY (kind, identity)
);

-- The transaction that may change guards, and what it found. end_migration() leaves no row; one
-- that is committed all the same opens nothing, since its transaction is over.
CREATE TABLE IF NOT EXISTS ledger_guard.migration_window (
    transaction_id xid8 NOT NULL,
    -- The rows of ledger_guard.current_state() at its beginning.
    before jsonb NOT NULL,
    CONSTRAINT migration_window_pkey PRIMARY KEY (transaction_id)
);

-- The name of every role as definitions spell it. Superusers other than the ledger's own roles are
-- all alike: they may do anything, and a restore may make another one the owner.
CREATE OR REPLACE FUNCTION ledger_guard.roles()
    RETURNS TABLE (id oid, name text, is_ledgers boolean, is_superuser boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT oid, CASE WHEN rolsuper AND NOT ours THEN 'a superuser' ELSE quote_ident(rolname) END,
           ours, rolsuper AND NOT ours
    FROM (SELECT *, rolname IN ('ledger_owner', 'ledger_migrator', 'app_trading', 'ledger_auditor')
                    AS ours
          FROM pg_roles) AS r
    UNION ALL
    SELECT 0, 'PUBLIC', false, false
$$;

-- Tables and all that hangs on them. Comments and storage parameters guard nothing.
CREATE OR REPLACE FUNCTION ledger_guard.state_of_tables()
    RETURNS TABLE (kind text, identity text, definition text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH relations AS MATERIALIZED (
        SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name, r.name AS owner
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN ledger_guard.roles() AS r ON r.id = c.relowner
        WHERE n.nspname IN ('public', 'ledger_guard') AND c.relkind NOT IN ('i', 'I', 't'))
    SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table'
                          WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                          WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'type' END,
           c.name,
           concat_ws('; ', 'owner ' || c.owner, 'persistence ' || c.relpersistence::text,
               CASE WHEN c.relrowsecurity THEN 'row security' END,
               CASE WHEN c.relforcerowsecurity THEN 'row security forced' END,
               CASE WHEN c.relkind IN ('r', 'p')
                   THEN 'replica identity ' || c.relreplident::text END,
               CASE WHEN c.relkind IN ('v', 'm') THEN c.reloptions::text END,
               CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
               (SELECT format('%s from %s to %s by %s, cycle %s, start %s', s.seqtypid::regtype,
                              s.seqmin, s.seqmax, s.seqincrement, s.seqcycle, s.seqstart)
                FROM pg_sequence AS s WHERE s.seqrelid = c.oid))
    FROM relations AS c
    UNION ALL
    SELECT 'inheritance', format('%s of %s', i.inhrelid::regclass, i.inhparent::regclass),
           CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) ELSE '' END
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent IN (SELECT oid FROM relations) OR i.inhrelid IN (SELECT oid FROM relations)
    UNION ALL
    SELECT 'column', format('%I of %s', a.attname, c.name),
           concat_ws('; ', format_type(a.atttypid, a.atttypmod),
               CASE WHEN a.attnotnull THEN 'not null' END,
               'identity ' || nullif(a.attidentity::text, ''),
               'generated ' || nullif(a.attgenerated::text, ''),
               'default ' || pg_get_expr(d.adbin, d.adrelid),
               'collation ' || (SELECT l.collname FROM pg_collation AS l
                                WHERE l.oid = a.attcollation))
    FROM relations AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relkind <> 'S'
    UNION ALL
    SELECT 'constraint', format('%I on %s', o.conname, coalesce(c.name, o.contypid::regtype::text)),
           concat_ws('; ', pg_get_constraintdef(o.oid),
               CASE WHEN NOT o.convalidated THEN 'not validated' END,
               CASE WHEN o.connoinherit THEN 'not inherited' END,
               -- Such a column exists from PostgreSQL 18 on.
               CASE WHEN current_setting('server_version_num')::int >= 180000
                         AND to_jsonb(o) ->> 'conenforced' = 'false' THEN 'not enforced' END)
    FROM pg_constraint AS o
    LEFT JOIN relations AS c ON c.oid = o.conrelid
    WHERE c.oid IS NOT NULL
       OR o.conrelid = 0 AND o.connamespace IN (
           SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'ledger_guard'))
    UNION ALL
    SELECT 'index', format('%I on %s', i.relname, c.name),
           concat_ws('; ', pg_get_indexdef(x.indexrelid),
               CASE WHEN NOT (x.indisvalid AND x.indisready AND x.indislive) THEN 'not valid' END,
               CASE WHEN NOT x.indimmediate THEN 'deferrable' END,
               CASE WHEN x.indisreplident THEN 'replica identity' END)
    FROM relations AS c
    JOIN pg_index AS x ON x.indrelid = c.oid
    JOIN pg_class AS i ON i.oid = x.indexrelid
    UNION ALL
    -- The names of triggers that a constraint makes hold OIDs.
    SELECT 'trigger',
           CASE WHEN t.tgisinternal
               THEN format('%s of constraint %I on %s', t.tgfoid::regproc, o.conname, c.name)
               ELSE format('%I on %s', t.tgname, c.name) END,
           string_agg(concat_ws('; ',
               CASE t.tgenabled WHEN 'A' THEN 'always' WHEN 'O' THEN 'enabled'
                                WHEN 'R' THEN 'on replicas' ELSE 'disabled' END,
               CASE WHEN NOT t.tgisinternal THEN pg_get_triggerdef(t.oid) END), '; '
               ORDER BY t.tgenabled)
    FROM relations AS c
    JOIN pg_trigger AS t ON t.tgrelid = c.oid
    LEFT JOIN pg_constraint AS o ON o.oid = t.tgconstraint
    GROUP BY 2
    UNION ALL
    SELECT 'rule', format('%I on %s', w.rulename, c.name),
           format('%s; %s', w.ev_enabled, pg_get_ruledef(w.oid))
    FROM relations AS c
    JOIN pg_rewrite AS w ON w.ev_class = c.oid
    WHERE c.relkind NOT IN ('v', 'm') OR w.rulename <> '_RETURN'
    UNION ALL
    SELECT 'policy', format('%I on %s', p.polname, c.name),
           concat_ws('; ', p.polcmd, CASE WHEN p.polpermissive THEN 'permissive' END,
               (SELECT string_agg(r.name, ', ' ORDER BY r.name COLLATE "C")
                FROM ledger_guard.roles() AS r WHERE r.id = ANY (p.polroles)),
               'using ' || pg_get_expr(p.polqual, p.polrelid),
               'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
    FROM relations AS c
    JOIN pg_policy AS p ON p.polrelid = c.oid
$$;

-- Functions, types and whatever else a schema can hold; casts, which belong to none; and the
-- server's own functions, the SHA-256 that everything rests on among them.
CREATE OR REPLACE FUNCTION ledger_guard.state_of_functions()
    RETURNS TABLE (kind text, identity text, definition text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH schemas AS MATERIALIZED (
        SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'ledger_guard'))
    SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
           p.oid::regprocedure::text,
           format('owner %s; %s', r.name, CASE WHEN p.prokind <> 'a'
               THEN pg_get_functiondef(p.oid) END)
    FROM pg_proc AS p
    LEFT JOIN ledger_guard.roles() AS r ON r.id = p.proowner
    -- One in pg_catalog that came later can stand before another of its name.
    WHERE p.pronamespace IN (SELECT oid FROM schemas)
       OR p.pronamespace = 'pg_catalog'::regnamespace AND p.oid >= 16384
    UNION ALL
    SELECT 'server', 'functions of pg_catalog', encode(sha256(convert_to(string_agg(concat_ws('|',
               p.oid, p.proname, p.proargtypes, p.prorettype, p.prolang, p.provolatile,
               p.proisstrict, p.prosecdef, p.prosrc, p.probin, p.proconfig,
               pg_get_function_sqlbody(p.oid)), ';' ORDER BY p.oid), 'UTF8')), 'hex')
    FROM pg_proc AS p
    WHERE p.oid < 10000
    UNION ALL
    SELECT 'type', o.identity,
           concat_ws('; ', 'owner ' || r.name, t.typtype,
               format_type(nullif(t.typbasetype, 0), t.typtypmod),
               CASE WHEN t.typnotnull THEN 'not null' END, 'default ' || t.typdefault,
               (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                FROM pg_enum AS e WHERE e.enumtypid = t.oid))
    FROM pg_type AS t
    CROSS JOIN LATERAL pg_identify_object('pg_type'::regclass, t.oid, 0) AS o
    LEFT JOIN ledger_guard.roles() AS r ON r.id = t.typowner
    WHERE t.typnamespace IN (SELECT oid FROM schemas) AND t.typtype IN ('d', 'e', 'r', 'b')
      AND t.typcategory <> 'A'
    UNION ALL
    SELECT 'operator', o.oid::regoperator::text,
           format('owner %s; %s', r.name, o.oprcode::regprocedure)
    FROM pg_operator AS o
    LEFT JOIN ledger_guard.roles() AS r ON r.id = o.oprowner
    WHERE o.oprnamespace IN (SELECT oid FROM schemas)
       OR o.oprnamespace = 'pg_catalog'::regnamespace AND o.oid >= 16384
    UNION ALL
    SELECT o.type, o.identity, ''
    FROM pg_depend AS d
    CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS o
    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid IN (SELECT oid FROM schemas)
      AND d.deptype = 'n'
      AND d.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass,
                            'pg_operator'::regclass, 'pg_constraint'::regclass,
                            'pg_default_acl'::regclass)
    GROUP BY o.type, o.identity
    UNION ALL
    SELECT 'cast', format('%s as %s', c.castsource::regtype, c.casttarget::regtype),
           concat_ws('; ', c.castmethod, c.castcontext, nullif(c.castfunc, 0)::regprocedure)
    FROM pg_cast AS c
    JOIN pg_type AS s ON s.oid = c.castsource
    JOIN pg_type AS t ON t.oid = c.casttarget
    WHERE c.oid >= 16384
      AND s.typnamespace IN (SELECT oid FROM schemas UNION ALL SELECT 'pg_catalog'::regnamespace)
      AND t.typnamespace IN (SELECT oid FROM schemas UNION ALL SELECT 'pg_catalog'::regnamespace)
$$;

-- Who may do what: schemas with their owners, a row for each grantee of each object, what was
-- taken from PUBLIC of the server's own functions, and default privileges. A superuser's grants
-- mean nothing; who granted means nothing either.
CREATE OR REPLACE FUNCTION ledger_guard.state_of_rights()
    RETURNS TABLE (kind text, identity text, definition text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH schemas AS MATERIALIZED (
        SELECT * FROM pg_namespace WHERE nspname IN ('public', 'ledger_guard')),
    roles AS MATERIALIZED (SELECT * FROM ledger_guard.roles()),
    rights (name, acl) AS (
        SELECT format('schema %I', nspname), coalesce(nspacl, acldefault('n', nspowner))
        FROM schemas
        UNION ALL
        SELECT format('%I.%I', s.nspname, c.relname), coalesce(c.relacl, acldefault(
            CASE WHEN c.relkind = 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
        FROM pg_class AS c
        JOIN schemas AS s ON s.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        UNION ALL
        SELECT format('%I of %I.%I', a.attname, s.nspname, c.relname), a.attacl
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        JOIN schemas AS s ON s.oid = c.relnamespace
        WHERE NOT a.attisdropped
        UNION ALL
        SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
        FROM pg_proc AS p
        JOIN schemas AS s ON s.oid = p.pronamespace
        UNION ALL
        SELECT 'type ' || t.oid::regtype::text, t.typacl
        FROM pg_type AS t
        JOIN schemas AS s ON s.oid = t.typnamespace),
    -- Of the server's own objects only what differs from their beginnings.
    of_server (name, acl, at_first) AS (
        SELECT p.oid::regprocedure::text, p.proacl,
               coalesce(i.initprivs, acldefault('f', p.proowner))
        FROM pg_proc AS p
        LEFT JOIN pg_init_privs AS i ON i.objoid = p.oid AND i.classoid = 'pg_proc'::regclass
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proacl IS DISTINCT FROM i.initprivs
        UNION ALL
        SELECT c.oid::regclass::text, c.relacl, coalesce(i.initprivs, acldefault('r', c.relowner))
        FROM pg_class AS c
        LEFT JOIN pg_init_privs AS i
            ON i.objoid = c.oid AND i.classoid = 'pg_class'::regclass AND i.objsubid = 0
        WHERE c.relnamespace = 'pg_catalog'::regnamespace
          AND c.relacl IS DISTINCT FROM i.initprivs)
    SELECT 'schema', format('%I', s.nspname), 'owner ' || r.name
    FROM schemas AS s
    LEFT JOIN roles AS r ON r.id = s.nspowner
    UNION ALL
    SELECT 'grant', format('%s to %s', t.name, r.name), string_agg(DISTINCT concat(
               a.privilege_type, CASE WHEN a.is_grantable THEN ' with grant option' END), ', ')
    FROM rights AS t
    CROSS JOIN LATERAL aclexplode(t.acl) AS a
    JOIN roles AS r ON r.id = a.grantee AND NOT r.is_superuser
    GROUP BY 2
    UNION ALL
    SELECT 'grant', format('%s to %s', t.name, r.name), string_agg(a.privilege_type, ', '
               ORDER BY a.privilege_type)
    FROM of_server AS t
    CROSS JOIN LATERAL (
        SELECT grantee, privilege_type FROM aclexplode(t.acl)
        EXCEPT SELECT grantee, privilege_type FROM aclexplode(t.at_first)) AS a
    JOIN roles AS r ON r.id = a.grantee AND (r.is_ledgers OR r.id = 0)
    GROUP BY 2
    UNION ALL
    SELECT 'revocation', format('%s from PUBLIC', t.name), string_agg(a.privilege_type, ', '
               ORDER BY a.privilege_type)
    FROM of_server AS t
    CROSS JOIN LATERAL (
        SELECT privilege_type FROM aclexplode(t.at_first) WHERE grantee = 0
        EXCEPT SELECT privilege_type FROM aclexplode(t.acl) WHERE grantee = 0) AS a
    GROUP BY 2
    UNION ALL
    SELECT 'default privileges', format('of %s on %s in %s', r.name, d.defaclobjtype,
               coalesce(quote_ident(s.nspname), 'every schema')),
           coalesce((SELECT string_agg(format('%s to %s', a.privilege_type, g.name), ', '
                                       ORDER BY g.name COLLATE "C", a.privilege_type)
                     FROM aclexplode(d.defaclacl) AS a
                     LEFT JOIN roles AS g ON g.id = a.grantee), 'nothing')
    FROM pg_default_acl AS d
    LEFT JOIN schemas AS s ON s.oid = d.defaclnamespace
    LEFT JOIN roles AS r ON r.id = d.defaclrole
    WHERE s.oid IS NOT NULL OR d.defaclnamespace = 0 AND r.is_ledgers
$$;

-- What no DDL event tells of: the server, the database, roles and event triggers. And
-- subscriptions, which bring rows past the append trigger.
CREATE OR REPLACE FUNCTION ledger_guard.state_of_server()
    RETURNS TABLE (kind text, identity text, definition text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE roles AS MATERIALIZED (SELECT * FROM ledger_guard.roles()),
    -- The ledger's roles, and everybody who can become one of them.
    becoming AS (
        SELECT id FROM roles WHERE is_ledgers
        UNION
        SELECT m.member FROM becoming AS b JOIN pg_auth_members AS m ON m.roleid = b.id)
    SELECT 'server', 'major version', (current_setting('server_version_num')::int / 10000)::text
    UNION ALL
    SELECT 'database', 'itself', 'owner ' || r.name
    FROM pg_database AS d
    LEFT JOIN roles AS r ON r.id = d.datdba
    WHERE d.datname = current_database()
    UNION ALL
    SELECT 'database', 'rights of ' || r.name, string_agg(DISTINCT concat(
               a.privilege_type, CASE WHEN a.is_grantable THEN ' with grant option' END), ', ')
    FROM pg_database AS d
    CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
    JOIN roles AS r ON r.id = a.grantee AND NOT r.is_superuser
    WHERE d.datname = current_database()
    GROUP BY 2
    UNION ALL
    SELECT 'role', r.name, concat_ws(', ',
               CASE WHEN a.rolsuper THEN 'SUPERUSER' END,
               CASE WHEN a.rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
               CASE WHEN a.rolcreaterole THEN 'CREATEROLE' END,
               CASE WHEN a.rolcreatedb THEN 'CREATEDB' END,
               CASE WHEN a.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
               CASE WHEN a.rolreplication THEN 'REPLICATION' END,
               CASE WHEN a.rolbypassrls THEN 'BYPASSRLS' END)
    FROM pg_roles AS a
    JOIN roles AS r ON r.id = a.oid AND r.is_ledgers
    UNION ALL
    -- As JSON, since PostgreSQL 16 has more options of a membership than 15. OIDs aside.
    SELECT 'membership', format('%s in %s', member.name, role.name),
           string_agg(DISTINCT
               (to_jsonb(m) - ARRAY['oid', 'roleid', 'member', 'grantor'])::text, ', ')
    FROM pg_auth_members AS m
    JOIN roles AS role ON role.id = m.roleid
    JOIN roles AS member ON member.id = m.member
    WHERE m.roleid IN (SELECT id FROM becoming) OR member.is_ledgers
    GROUP BY 2
    UNION ALL
    SELECT 'setting', format('%s of %s%s', split_part(c.setting, '=', 1),
               CASE WHEN s.setrole = 0 THEN 'every role' ELSE r.name END,
               CASE WHEN s.setdatabase = 0 THEN '' ELSE ' in this database' END),
           substr(c.setting, strpos(c.setting, '=') + 1)
    FROM pg_db_role_setting AS s
    CROSS JOIN LATERAL unnest(s.setconfig) AS c (setting)
    LEFT JOIN roles AS r ON r.id = s.setrole
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND (s.setrole = 0 OR r.is_ledgers)
    UNION ALL
    SELECT 'parameter', format('%s of %s', p.parname, r.name),
           string_agg(DISTINCT a.privilege_type, ', ')
    FROM pg_parameter_acl AS p
    CROSS JOIN LATERAL aclexplode(p.paracl) AS a
    JOIN roles AS r ON r.id = a.grantee AND (r.is_ledgers OR r.id = 0)
    GROUP BY 2
    UNION ALL
    SELECT 'event trigger', quote_ident(t.evtname),
           concat_ws('; ', CASE t.evtenabled WHEN 'A' THEN 'always' WHEN 'O' THEN 'enabled'
                               WHEN 'R' THEN 'on replicas' ELSE 'disabled' END,
               'owner ' || r.name, t.evtevent, t.evtfoid::regprocedure, t.evttags::text)
    FROM pg_event_trigger AS t
    LEFT JOIN roles AS r ON r.id = t.evtowner
    WHERE t.evtname = 'ledger_guard_ddl'
    UNION ALL
    SELECT 'subscription', quote_ident(s.subname),
           concat_ws('; ', CASE WHEN s.subenabled THEN 'enabled' ELSE 'disabled' END,
               'owner ' || r.name)
    FROM pg_subscription AS s
    LEFT JOIN roles AS r ON r.id = s.subowner
    WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
$$;

-- The guards as they are. The settings are those that change how PostgreSQL spells a definition;
-- jit would take longer than the query.
CREATE OR REPLACE FUNCTION ledger_guard.current_state()
    RETURNS TABLE (kind text, identity text, definition text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET quote_all_identifiers = off
    SET TimeZone = 'UTC'
    SET DateStyle = 'ISO, YMD'
    SET IntervalStyle = 'postgres'
    SET bytea_output = 'hex'
    SET extra_float_digits = 1
    SET standard_conforming_strings = on
    SET jit = off
AS $$
    SELECT * FROM ledger_guard.state_of_tables()
    UNION ALL SELECT * FROM ledger_guard.state_of_functions()
    UNION ALL SELECT * FROM ledger_guard.state_of_rights()
    UNION ALL SELECT * FROM ledger_guard.state_of_server()
$$;

-- Where the guards are not as the manifest says: expected is NULL for what was added, found for
-- what is missing.
CREATE OR REPLACE FUNCTION ledger_guard.drift()
    RETURNS TABLE (kind text, identity text, expected text, found text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(m.kind, s.kind), coalesce(m.identity, s.identity), m.definition, s.definition
    FROM ledger_guard.guard_manifest AS m
    FULL JOIN ledger_guard.current_state() AS s ON s.kind = m.kind AND s.identity = m.identity
    WHERE m.definition IS DISTINCT FROM s.definition
    ORDER BY 1, 2
$$;

-- Keeps what a check has told: see known_drift. For the service, which sees only what others
-- have committed.
CREATE OR REPLACE FUNCTION ledger_guard.remember_drift() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    LOCK TABLE ledger_guard.known_drift IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM ledger_guard.known_drift;
    INSERT INTO ledger_guard.known_drift (kind, identity, definition)
    SELECT d.kind, d.identity, d.found FROM ledger_guard.drift() AS d;
END
$$;

-- At the end of every DDL: refuses it where a guard is not as the manifest says, unless a check
-- has told of that already. It looks at what is there, not at names in the command, since too many
-- commands change guards without naming them.
CREATE OR REPLACE FUNCTION ledger_guard.refuse_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed record;
    refusals regclass;
BEGIN
    IF EXISTS (SELECT FROM ledger_guard.migration_window
               WHERE transaction_id = pg_current_xact_id_if_assigned()) THEN
        RETURN;
    END IF;
    SELECT d.kind, d.identity INTO changed
    FROM ledger_guard.drift() AS d
    -- What no DDL with an event changes is none of this command's doing.
    WHERE d.kind NOT IN ('database', 'role', 'membership', 'setting', 'parameter', 'event trigger')
      AND (d.kind, d.identity) <> ('server', 'major version')
      AND NOT EXISTS (SELECT FROM ledger_guard.known_drift AS k
                      WHERE k.kind = d.kind AND k.identity = d.identity
                        AND k.definition IS NOT DISTINCT FROM d.found)
    LIMIT 1;
    -- Where a sequence stands is no definition; but what counts refused attempts is set by nobody.
    IF NOT FOUND AND TG_TAG = 'ALTER SEQUENCE' THEN
        SELECT 'sequence', c.object_identity INTO changed
        FROM pg_event_trigger_ddl_commands() AS c
        WHERE starts_with(c.object_identity, 'public.ledger_refused_') LIMIT 1;
    END IF;
    IF NOT FOUND THEN
        -- What this command put right must not be changed again under the old excuse.
        IF EXISTS (SELECT FROM ledger_guard.known_drift) THEN
            DELETE FROM ledger_guard.known_drift AS k
            WHERE NOT EXISTS (SELECT FROM ledger_guard.drift() AS d
                              WHERE d.kind = k.kind AND d.identity = k.identity);
        END IF;
        RETURN;
    END IF;
    -- The command may have dropped it.
    refusals := to_regclass('public.ledger_refused_aud_010');
    IF refusals IS NOT NULL THEN
        PERFORM nextval(refusals);
    END IF;
    RAISE LOG 'AUD-010: % that changes % % refused: role %, client %', TG_TAG, changed.kind,
        changed.identity, session_user, coalesce(host(inet_client_addr()), 'local');
    RAISE EXCEPTION USING
        ERRCODE = 'AU010',
        MESSAGE = format('AUD-010: %s is refused: %s %s would not be as the migrations made it',
                         TG_TAG, changed.kind, changed.identity),
        HINT = 'Where this command does not touch it, the difference is older: run audit-ledger '
               'verify, which puts it on record.';
END
$$;

-- Opens the window: until its transaction ends, this session alone may change guards.
CREATE OR REPLACE FUNCTION ledger_guard.begin_migration() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM ledger_guard.migration_window;
    INSERT INTO ledger_guard.migration_window (transaction_id, before)
    SELECT pg_current_xact_id(), jsonb_agg(s) FROM ledger_guard.current_state() AS s;
END
$$;

-- Closes it, and puts into the manifest what changed meanwhile, and that alone: what was not as the
-- manifest said before stays a difference. Everything is taken as it is the first time, and after
-- a change of PostgreSQL's major version, which spells definitions in its own way.
CREATE OR REPLACE FUNCTION ledger_guard.end_migration() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger_guard.migration_window
                   WHERE transaction_id = pg_current_xact_id()) THEN
        RAISE EXCEPTION 'this transaction has not called ledger_guard.begin_migration()'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF NOT EXISTS (
        SELECT FROM ledger_guard.guard_manifest
        WHERE kind = 'server' AND identity = 'major version'
          AND definition = (current_setting('server_version_num')::int / 10000)::text)
    THEN
        DELETE FROM ledger_guard.guard_manifest;
        UPDATE ledger_guard.migration_window SET before = '[]'
        WHERE transaction_id = pg_current_xact_id();
    END IF;
    WITH before AS MATERIALIZED (
        SELECT s.* FROM ledger_guard.migration_window AS w
        CROSS JOIN jsonb_to_recordset(w.before) AS s (kind text, identity text, definition text)
        WHERE w.transaction_id = pg_current_xact_id()),
    after AS MATERIALIZED (SELECT * FROM ledger_guard.current_state()),
    gone AS (
        DELETE FROM ledger_guard.guard_manifest AS m
        USING before AS b
        WHERE m.kind = b.kind AND m.identity = b.identity
          AND NOT EXISTS (SELECT FROM after AS a
                          WHERE a.kind = b.kind AND a.identity = b.identity))
    INSERT INTO ledger_guard.guard_manifest AS m (kind, identity, definition)
    SELECT a.kind, a.identity, a.definition
    FROM after AS a
    LEFT JOIN before AS b ON b.kind = a.kind AND b.identity = a.identity
    WHERE a.definition IS DISTINCT FROM b.definition
    ON CONFLICT (kind, identity) DO UPDATE SET definition = excluded.definition
    WHERE m.definition <> excluded.definition;
    DELETE FROM ledger_guard.migration_window;
END
$$;

-- The service and the auditor may look.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger_guard FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger_guard TO app_trading, ledger_auditor;
GRANT SELECT ON ledger_guard.guard_manifest, ledger_guard.known_drift
    TO app_trading, ledger_auditor;
GRANT EXECUTE ON FUNCTION
    ledger_guard.roles(), ledger_guard.state_of_tables(), ledger_guard.state_of_functions(),
    ledger_guard.state_of_rights(), ledger_guard.state_of_server(), ledger_guard.current_state(),
    ledger_guard.drift()
    TO app_trading, ledger_auditor;
GRANT EXECUTE ON FUNCTION ledger_guard.remember_drift() TO app_trading;

-- The event trigger, as it must be, also after somebody switched it off. The last thing, since from
-- here on it looks at every DDL.
DO $event_trigger$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_event_trigger
        WHERE evtname = 'ledger_guard_ddl' AND evtevent = 'ddl_command_end' AND evttags IS NULL
          AND evtfoid = 'ledger_guard.refuse_ddl()'::pg_catalog.regprocedure)
    THEN
        DROP EVENT TRIGGER IF EXISTS ledger_guard_ddl;
        CREATE EVENT TRIGGER ledger_guard_ddl ON ddl_command_end
            EXECUTE FUNCTION ledger_guard.refuse_ddl();
    END IF;
END
$event_trigger$;
ALTER EVENT TRIGGER ledger_guard_ddl ENABLE ALWAYS;
