-- What filters and statistics of producers' signals need beside the rows themselves. PostgreSQL compares
-- the columns behind an index's first ones in the index, without a look at the rows.
-- Runs as ledger_owner.

-- Finds the ids of any combination of columns, in their order. Statistics read it in place of the rows,
-- which are six times as large. New entries all go to its end, which is what an index costs least.
CREATE INDEX signal_audit_ledger_filters_idx ON public.signal_audit_ledger
    (id, record_type, source_module, signal_type, ticker, direction, conviction, "timestamp",
     acted_upon, latency_ms, recorded_by, created_at);
COMMENT ON INDEX public.signal_audit_ledger_filters_idx IS
    'Finds rows by any combination of what is filtered, in the order of their ids, and has what '
    'statistics count.';

-- The strongest signals, and those that were acted upon, are few among all of any combination: these two
-- compare what usually goes with them.
DROP INDEX public.signal_audit_ledger_conviction_idx;
CREATE INDEX signal_audit_ledger_conviction_idx ON public.signal_audit_ledger
    (conviction, id, ticker, direction, source_module, signal_type);
COMMENT ON INDEX public.signal_audit_ledger_conviction_idx IS
    'Finds rows by conviction, and by what else is usually asked of such rows.';
DROP INDEX public.signal_audit_ledger_acted_upon_idx;
CREATE INDEX signal_audit_ledger_acted_upon_idx ON public.signal_audit_ledger
    (id, ticker, direction, source_module, signal_type, conviction) WHERE acted_upon;
COMMENT ON INDEX public.signal_audit_ledger_acted_upon_idx IS
    'Finds records that say that a signal was acted upon, in the order of their ids.';
