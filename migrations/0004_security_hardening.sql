-- Who may do what. Runs as ledger_owner. PUBLIC has nothing.

-- Takes from a table's owner the rights that no statement of the ledger needs, and gives the
-- others theirs. UPDATE on one column stays with the owner: foreign keys are checked as the
-- referenced table's owner with FOR KEY SHARE, which needs it; the guards refuse a real UPDATE.
-- For the migrations' use.
CREATE PROCEDURE public.ledger_grant_rights(ledger_table regclass, insertable boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', ledger_table);
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM ledger_owner', ledger_table);
    EXECUTE format('GRANT UPDATE (id) ON %s TO ledger_owner', ledger_table);
    EXECUTE format('GRANT SELECT ON %s TO app_trading, ledger_auditor', ledger_table);
    IF insertable THEN
        EXECUTE format('GRANT INSERT ON %s TO app_trading', ledger_table);
    END IF;
END
$$;

CALL public.ledger_grant_rights('public.signals', true);
CALL public.ledger_grant_rights('public.security_events', true);
CALL public.ledger_grant_rights('public.quarantined_deliveries', true);
CALL public.ledger_grant_rights('public.integrity_checks', false);
GRANT INSERT (run_id, chain, kind, range_start, range_end, expected_count, actual_count, finished,
              chain_valid, findings_count, findings, duration_ms, checked_with)
    ON public.integrity_checks TO app_trading;
CALL public.ledger_grant_rights('public.ledger_log', false);

-- Which attempts were refused; read by the service, moved by the guard alone.
GRANT SELECT ON SEQUENCE
    public.ledger_refused_aud_002, public.ledger_refused_aud_003, public.ledger_refused_aud_004,
    public.ledger_refused_aud_005, public.ledger_refused_aud_006, public.ledger_refused_aud_007,
    public.ledger_refused_aud_010
    TO app_trading, ledger_auditor;

-- The locks: only the service may take them.
GRANT EXECUTE ON FUNCTION public.ledger_begin_append(text[]) TO app_trading;
GRANT EXECUTE ON FUNCTION public.ledger_begin_check() TO app_trading;
GRANT EXECUTE ON FUNCTION public.ledger_end_idle_lock_holders() TO app_trading;

-- A CHECK calls its function as the role that inserts; a check by hand calls them all.
GRANT EXECUTE ON FUNCTION
    public.ledger_chains(),
    public.ledger_genesis(text),
    public.ledger_document_matches(text, jsonb),
    public.verify_chain_integrity(),
    public.verify_chain_integrity(text, bigint, bigint),
    public.signals_hash(text, bigint, uuid, text, text, text, numeric, numeric, text, inet,
        boolean, text, text, timestamptz, timestamptz),
    public.security_events_hash(text, bigint, text, text, text, text, inet, timestamptz),
    public.quarantined_deliveries_hash(text, bigint, text, text, text, bytea, text, inet, text,
        boolean, uuid, timestamptz, timestamptz)
    TO app_trading, ledger_auditor;

-- The service and the auditor see which migrations the database has.
GRANT SELECT ON public._sqlx_migrations TO app_trading, ledger_auditor;
