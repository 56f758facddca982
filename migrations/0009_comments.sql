-- What everything in schema public is, for whoever looks at it with psql (\d+, \df+) or a tool that
-- shows comments. Runs as ledger_owner. Comments guard nothing: they may change at any time.
--
-- A constraint's comment says its rule in a sender's words, and the code with which the service
-- refuses what breaks it.

COMMENT ON SCHEMA public IS
    'The ledger: its chains, the log over all of them, what belongs to them, and views. All of '
    'it is ledger_owner''s; objects of your own belong in another schema.';

-- What is called alike on every table is alike: columns, constraints and functions of a chain, and
-- the triggers. For the migrations' use; what differs on a table is said after the call.
CREATE PROCEDURE public.ledger_describe_table(described regclass)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    table_name text := (SELECT relname FROM pg_class WHERE oid = described);
    is_chain boolean := table_name = ANY (public.ledger_chains());
    wanted record;
BEGIN
    FOR wanted IN
        SELECT format('COLUMN %s.%I', described, a.attname) AS object, w.words
        FROM (VALUES
            ('id',
             'Position of the row in its chain: 1, 2, 3, … without gaps. Given under the '
             'ledger''s lock, never by a sequence.'),
            ('correlation_id', 'The signal that the row belongs to, by its correlation_id.'),
            ('symbol', 'What is traded, as the sender spells it.'),
            ('side', 'BUY or SELL.'),
            ('source_ip',
             'Address of the client: the peer''s, or a trusted proxy''s word. One address, never '
             'a network.'),
            ('hmac_verified',
             'True only where an HMAC over the body was checked. A statement of the service.'),
            ('auth_method',
             'How the delivery was authenticated: hmac, standard_webhooks, path_token, '
             'body_token or api_key.'),
            ('recorded_by',
             'Name of the webhook source or API key that the row came by; of the login, where '
             'SQL appended it and named nobody. A statement of the service.'),
            ('received_at',
             'When the service had the request, by the service''s clock; what the client said, or '
             'the database''s clock, where SQL appended the row.'),
            ('prev_hash',
             'row_hash of the row before; in row 1 the chain''s genesis value, ledger_genesis().'),
            ('row_hash',
             'SHA-256 over prev_hash and every other column but the generated ones (FORMAT.md '
             'section 2), in 64 lowercase hexadecimal digits.'),
            ('created_at',
             'When the row was appended, by the database''s clock under the ledger''s lock. '
             'Never earlier than that of the row before.')
        ) AS w (name, words)
        JOIN pg_attribute AS a ON a.attrelid = described AND a.attname = w.name
        WHERE is_chain
        UNION ALL
        SELECT format('CONSTRAINT %I ON %s', c.conname, described), w.words
        FROM (VALUES
            ('pkey',
             'A position in a chain is taken once. Ids are given under the ledger''s lock: whom '
             'this refuses has found a ledger that contradicts itself, and the service checks it.'),
            ('correlation_id_fkey', 'correlation_id names a signal of this ledger (AUD-008).'),
            ('side_known', 'side is BUY or SELL (VAL-002).'),
            ('price_positive', 'price is a number above 0, where there is one (VAL-002).'),
            ('quantity_positive', 'quantity is a number above 0 (VAL-002).'),
            ('source_ip_host',
             'source_ip is one address with a full mask, since the hash does not show a mask. '
             'The service writes no other.'),
            ('auth_method_known',
             'auth_method is one that the service knows: hmac, standard_webhooks, path_token, '
             'body_token or api_key. The service writes no other.'),
            ('times_hashable',
             'Every time that is hashed is from 1970-01-01 up to, and without, 10000-01-01 UTC: '
             'others are not spelt in one way only. The service writes no other.'),
            ('row_hash_correct',
             'row_hash is the hash of the row''s own columns and prev_hash (AUD-011). The '
             'service makes it, so a refusal says that something is wrong with the ledger, and '
             'the service checks it.')
        ) AS w (suffix, words)
        JOIN pg_constraint AS c ON c.conrelid = described
            AND c.conname = table_name || '_' || w.suffix
        WHERE is_chain
        UNION ALL
        SELECT format('TRIGGER %I ON %s', t.tgname, described), w.words
        FROM (VALUES
            ('ledger_lock_for_insert',
             'Before an INSERT touches an index: takes the ledger''s lock, so that two writers '
             'never deadlock.'),
            ('ledger_enter_rows',
             'After an INSERT: refuses rows that do not follow the row before them in id, link '
             'and time (AUD-011), and those of a business chain in a lockdown (AUD-009); enters '
             'the others into ledger_log.'),
            ('ledger_refuse_statement',
             'Refuses every UPDATE, DELETE and TRUNCATE, also where no row matches, with the '
             'table''s code (AUD-002 to AUD-007, AUD-010).'),
            ('ledger_refuse_row',
             'Refuses every UPDATE and DELETE row by row too, with the same codes: logical '
             'replication fires no other trigger.')
        ) AS w (name, words)
        JOIN pg_trigger AS t ON t.tgrelid = described AND t.tgname = w.name
        UNION ALL
        SELECT format('FUNCTION %s', p.oid::regprocedure), format(w.words, table_name)
        FROM (VALUES
            ('%s_hash',
             'The row_hash of a row of %s (FORMAT.md section 2). Its parameters are prev_hash '
             'and the hashed columns, under their names.'),
            ('append_%s',
             'Appends one row to %s, with the rights of whoever calls it, and returns its '
             'receipt: see ledger_append_row().')
        ) AS w (name, words)
        JOIN pg_proc AS p ON p.proname = format(w.name, table_name)
            AND p.pronamespace = 'public'::regnamespace
        WHERE is_chain
    LOOP
        EXECUTE format('COMMENT ON %s IS %L', wanted.object, wanted.words);
    END LOOP;
END
$$;
COMMENT ON PROCEDURE public.ledger_describe_table(regclass) IS
    'Comments on what is called alike, and is alike, on every table. For the migrations'' use.';

CALL public.ledger_describe_table('public.signals');
CALL public.ledger_describe_table('public.ai_debates');
CALL public.ledger_describe_table('public.order_execution');
CALL public.ledger_describe_table('public.order_events');
CALL public.ledger_describe_table('public.security_events');
CALL public.ledger_describe_table('public.quarantined_deliveries');
CALL public.ledger_describe_table('public.ledger_log');
CALL public.ledger_describe_table('public.integrity_checks');
CALL public.ledger_describe_table('public.idempotency_keys');
CALL public.ledger_describe_table('public.api_keys');
CALL public.ledger_describe_table('public.lockdowns');
CALL public.ledger_describe_table('public.acknowledged_findings');
CALL public.ledger_describe_table('public.recorded_refusals');

COMMENT ON TABLE public.signals IS
    'Chain: every verified webhook that became a signal, the root of a trade''s story. Written '
    'by the service; no row is ever changed.';
COMMENT ON COLUMN public.signals.correlation_id IS
    'Anchor of the trade''s story, by which the other chains name the signal: a UUIDv7 made by '
    'the ledger.';
COMMENT ON COLUMN public.signals.signal_id IS
    'The sender''s idempotency key, unique for each recorded_by; one that the service makes '
    'where a delivery has none.';
COMMENT ON COLUMN public.signals.price IS
    'Price of one unit, in the symbol''s quote currency. Exact: the ledger never rounds.';
COMMENT ON COLUMN public.signals.quantity IS
    'Units of the symbol. Exact: the ledger never rounds.';
COMMENT ON COLUMN public.signals.raw_payload_text IS
    'The delivery''s exact body. Its SHA-256 is what row_hash covers.';
COMMENT ON COLUMN public.signals.raw_payload IS
    'Generated from raw_payload_text, for filters in SQL only: it drops the order of members, '
    'duplicate ones and the spelling of numbers.';
COMMENT ON CONSTRAINT signals_correlation_id_key ON public.signals IS
    'A correlation_id names one signal. The service makes it, so its senders never meet this.';
COMMENT ON CONSTRAINT signals_signal_id_key ON public.signals IS
    'A signal_id is recorded once for each recorded_by: the same body again is answered with the '
    'first receipt, another one is refused (IDP-001).';
COMMENT ON CONSTRAINT signals_raw_payload_size ON public.signals IS
    'The body has at most 1 MiB (VAL-002; a larger request is refused before, with LIM-001).';

COMMENT ON TABLE public.ai_debates IS
    'Chain: what each model thought of a signal. Written by the service for its clients; no row '
    'is ever changed.';
COMMENT ON COLUMN public.ai_debates.model_name IS
    'Which model: deepseek-r1, llama-3.1, phi-4, timeout, …. Any name is taken.';
COMMENT ON COLUMN public.ai_debates.reasoning_json_text IS
    'What the model said, as JSON, byte for byte. Its SHA-256 is what row_hash covers.';
COMMENT ON COLUMN public.ai_debates.reasoning_json IS
    'Generated from reasoning_json_text, for filters in SQL only: it drops the order of members, '
    'duplicate ones and the spelling of numbers.';
COMMENT ON COLUMN public.ai_debates.confidence_score IS
    'How sure the model was, from 0 to 1.';
COMMENT ON COLUMN public.ai_debates.elapsed_ms IS
    'How long the model took, in milliseconds.';
COMMENT ON COLUMN public.ai_debates.is_timeout IS
    'Whether the model was cut off: then its confidence is no answer.';
COMMENT ON CONSTRAINT ai_debates_confidence_score_range ON public.ai_debates IS
    'confidence_score is from 0 to 1 (VAL-002).';
COMMENT ON CONSTRAINT ai_debates_elapsed_ms_not_negative ON public.ai_debates IS
    'elapsed_ms is not below 0 (VAL-002).';
COMMENT ON CONSTRAINT ai_debates_reasoning_json_size ON public.ai_debates IS
    'reasoning_json has at most 1 MiB (VAL-002).';
COMMENT ON INDEX public.ai_debates_correlation_id_idx IS
    'Finds the debates of a signal, in their order.';

COMMENT ON TABLE public.order_execution IS
    'Chain: the orders that were made for a signal. Written by the service for its clients; no '
    'row is ever changed, and what becomes of an order are rows of order_events.';
COMMENT ON COLUMN public.order_execution.order_type IS
    'MARKET, LIMIT, STOP or STOP_LIMIT.';
COMMENT ON COLUMN public.order_execution.quantity IS
    'Units of the symbol that were ordered. Exact: the ledger never rounds.';
COMMENT ON COLUMN public.order_execution.price IS
    'Limit or stop price of one unit, in the symbol''s quote currency. NULL for a market order, '
    'which has none.';
COMMENT ON COLUMN public.order_execution.exchange_order_id IS
    'The exchange''s name for the order; NULL where it had given none when the row was recorded.';
COMMENT ON COLUMN public.order_execution.status IS
    'Status when the row was recorded: PENDING, SUBMITTED, FILLED, PARTIAL, REJECTED or '
    'CANCELLED. Later ones are rows of order_events.';
COMMENT ON CONSTRAINT order_execution_order_type_known ON public.order_execution IS
    'order_type is MARKET, LIMIT, STOP or STOP_LIMIT (VAL-002).';
COMMENT ON CONSTRAINT order_execution_price_for_type ON public.order_execution IS
    'Every order has a price but a MARKET order, which has none (VAL-002).';
COMMENT ON CONSTRAINT order_execution_status_known ON public.order_execution IS
    'status is PENDING, SUBMITTED, FILLED, PARTIAL, REJECTED or CANCELLED (VAL-002).';
COMMENT ON INDEX public.order_execution_correlation_id_idx IS
    'Finds the orders of a signal, in their order.';

COMMENT ON TABLE public.order_events IS
    'Chain: what became of an order, and kill switches. Written by the service for its clients; '
    'an event that cannot follow is recorded all the same, since it happened. No row is ever '
    'changed.';
COMMENT ON COLUMN public.order_events.order_execution_id IS
    'The order, by its id in order_execution. NULL only for a KILL_SWITCH that stops everything.';
COMMENT ON COLUMN public.order_events.event_type IS
    'FILL, PARTIAL_FILL, REJECTED, CANCELLED, KILL_SWITCH or EXPIRED.';
COMMENT ON COLUMN public.order_events.fill_quantity IS
    'Units of the symbol that this event filled, not the sum so far. NULL but for FILL and '
    'PARTIAL_FILL.';
COMMENT ON COLUMN public.order_events.fill_price IS
    'Price of one unit at which they were filled, in the symbol''s quote currency. NULL but for '
    'FILL and PARTIAL_FILL.';
COMMENT ON COLUMN public.order_events.zar_equity IS
    'Equity of the account in South African rand when the event happened; every KILL_SWITCH has '
    'it.';
COMMENT ON COLUMN public.order_events.positions_closed_text IS
    'Which positions a kill switch closed, as JSON, byte for byte; every KILL_SWITCH has it. Its '
    'SHA-256 is what row_hash covers.';
COMMENT ON COLUMN public.order_events.positions_closed IS
    'Generated from positions_closed_text, for filters in SQL only: it drops the order of '
    'members, duplicate ones and the spelling of numbers.';
COMMENT ON COLUMN public.order_events.rejection_reason IS
    'Why the order was rejected, or whatever reason the event has, in words; may be NULL.';
COMMENT ON COLUMN public.order_events.exchange_error_code IS
    'The exchange''s own code for what went wrong; NULL where it gave none.';
COMMENT ON CONSTRAINT order_events_order_execution_id_fkey ON public.order_events IS
    'order_execution_id names an order of this ledger (AUD-008).';
COMMENT ON CONSTRAINT order_events_order_execution_id_required ON public.order_events IS
    'Every event names its order but a KILL_SWITCH that stops everything (VAL-002).';
COMMENT ON CONSTRAINT order_events_event_type_known ON public.order_events IS
    'event_type is FILL, PARTIAL_FILL, REJECTED, CANCELLED, KILL_SWITCH or EXPIRED (VAL-002).';
COMMENT ON CONSTRAINT order_events_fill_for_type ON public.order_events IS
    'FILL and PARTIAL_FILL have both fill_quantity and fill_price, and no other event has either '
    '(VAL-002).';
COMMENT ON CONSTRAINT order_events_fill_quantity_positive ON public.order_events IS
    'fill_quantity is a number above 0, where there is one (VAL-002).';
COMMENT ON CONSTRAINT order_events_fill_price_positive ON public.order_events IS
    'fill_price is a number above 0, where there is one (VAL-002).';
COMMENT ON CONSTRAINT order_events_zar_equity_required ON public.order_events IS
    'A KILL_SWITCH has a zar_equity (VAL-002).';
COMMENT ON CONSTRAINT order_events_zar_equity_number ON public.order_events IS
    'zar_equity is a number, which may be below 0 (VAL-002).';
COMMENT ON CONSTRAINT order_events_positions_closed_required ON public.order_events IS
    'A KILL_SWITCH has positions_closed, which may be an empty list (VAL-002).';
COMMENT ON CONSTRAINT order_events_positions_closed_size ON public.order_events IS
    'positions_closed has at most 1 MiB (VAL-002).';
COMMENT ON CONSTRAINT order_events_rejection_reason_size ON public.order_events IS
    'rejection_reason has at most 1 MiB in UTF-8 (VAL-002).';
COMMENT ON INDEX public.order_events_order_execution_id_idx IS
    'Finds the events of an order, in their order.';
COMMENT ON INDEX public.order_events_kill_switch_idx IS
    'Finds the kill switches among all events.';

COMMENT ON TABLE public.security_events IS
    'Chain: the audit of the audit, that is starts, migrations, keys, integrity failures, '
    'lockdowns, refused changes. Written by the service and by the database''s own functions, '
    'also in a lockdown; no row is ever changed.';
COMMENT ON COLUMN public.security_events.event_type IS
    'What happened, in capitals: SERVICE_STARTED, INTEGRITY_FAILURE, ….';
COMMENT ON COLUMN public.security_events.actor IS
    'Who did it: the name of a key or a login, or system. A statement of the service.';
COMMENT ON COLUMN public.security_events.subject IS
    'What it was done to; NULL where that goes without saying.';
COMMENT ON COLUMN public.security_events.details_text IS
    'Everything else about it, as JSON, byte for byte. Its SHA-256 is what row_hash covers.';
COMMENT ON COLUMN public.security_events.details IS
    'Generated from details_text, for filters in SQL only: it drops the order of members, '
    'duplicate ones and the spelling of numbers.';
COMMENT ON COLUMN public.security_events.source_ip IS
    'Address of the client; NULL where none was behind it. One address, never a network.';
COMMENT ON CONSTRAINT security_events_details_size ON public.security_events IS
    'details has at most 1 MiB. The service writes no larger one.';

COMMENT ON TABLE public.quarantined_deliveries IS
    'Chain: authenticated deliveries that could not become a signal, byte for byte. Written by '
    'the service, also in a lockdown; no row is ever changed, and one that is released stays.';
COMMENT ON COLUMN public.quarantined_deliveries.source IS
    'Name of the configured source that it was sent to.';
COMMENT ON COLUMN public.quarantined_deliveries.reason IS
    'Why it is here: a word that programs compare.';
COMMENT ON COLUMN public.quarantined_deliveries.detail IS
    'Which member is at fault and how, for people; the service ends it with "; sender: " and who '
    'sent the delivery, as JSON on one line: recorded_by, and the webhook-id or null. Only what '
    'stands after the last such mark counts. NULL only where an SQL client says nothing.';
COMMENT ON COLUMN public.quarantined_deliveries.body IS
    'The exact bytes received, which may not be text. Their SHA-256 is what row_hash covers.';
COMMENT ON COLUMN public.quarantined_deliveries.content_type IS
    'The Content-Type header; NULL where there was none of at most 255 characters.';
COMMENT ON COLUMN public.quarantined_deliveries.duplicate_of IS
    'The signal that it conflicts with, by its correlation_id; NULL for any other reason.';
COMMENT ON CONSTRAINT quarantined_deliveries_reason_known ON public.quarantined_deliveries IS
    'reason is one of those that the service knows, each with the code of its refusal: VAL-001, '
    'VAL-002, AUD-001, IDP-001 or AUD-009. The service writes no other.';
COMMENT ON CONSTRAINT quarantined_deliveries_body_size ON public.quarantined_deliveries IS
    'The body has at most 1 MiB: a larger request is refused before, with LIM-001.';
COMMENT ON INDEX public.quarantined_deliveries_content_key IS
    'The same source, reason and bytes are kept once: a delivery that is sent again is answered '
    'with the row it already has. Not so in a lockdown, where the same bytes can be another signal.';
COMMENT ON INDEX public.quarantined_deliveries_waiting IS
    'Finds what was kept in a lockdown within 60 s: from the same sender it is the same delivery.';

COMMENT ON TABLE public.ledger_log IS
    'The total order of everything appended to any chain: the leaves of the Merkle tree. Written '
    'by the append trigger alone, in the transaction of the row, whoever inserts; no row is ever '
    'changed.';
COMMENT ON COLUMN public.ledger_log.leaf_index IS
    'Position in the log: 0, 1, 2, … without gaps.';
COMMENT ON COLUMN public.ledger_log.chain IS
    'Name of the chain, which is that of its table.';
COMMENT ON COLUMN public.ledger_log.id IS
    'The row, by its id in the chain.';
COMMENT ON COLUMN public.ledger_log.row_hash IS
    'The row''s row_hash: the data of the leaf are its 32 bytes.';
COMMENT ON CONSTRAINT ledger_log_pkey ON public.ledger_log IS
    'A position in the log is taken once. Whom this refuses has found a ledger that contradicts '
    'itself.';
COMMENT ON CONSTRAINT ledger_log_chain_id_key ON public.ledger_log IS
    'A row of a chain stands in the log once. Whom this refuses has found a ledger that '
    'contradicts itself.';
COMMENT ON TRIGGER ledger_guard_log ON public.ledger_log IS
    'Refuses every INSERT but the append trigger''s own (AUD-011), the owner''s too.';

COMMENT ON TABLE public.integrity_checks IS
    'Every check of a chain, of the log or of the guards, kept for ever. Written by whoever '
    'checks with the service''s login; no row is ever changed.';
COMMENT ON COLUMN public.integrity_checks.id IS
    'Number of the line, in the order of the checks; there may be gaps. Given by the database.';
COMMENT ON SEQUENCE public.integrity_checks_id_seq IS
    'Numbers the lines of integrity_checks.';
COMMENT ON COLUMN public.integrity_checks.run_id IS
    'The run, shared by the lines of everything that it looked at.';
COMMENT ON COLUMN public.integrity_checks.chain IS
    'What was checked: a chain by its name, ledger_log, or guards.';
COMMENT ON COLUMN public.integrity_checks.kind IS
    'full, or range.';
COMMENT ON COLUMN public.integrity_checks.range_start IS
    'First id (for the log: leaf index) that the check covers; NULL where it had none.';
COMMENT ON COLUMN public.integrity_checks.range_end IS
    'Last id (for the log: leaf index) that the check covers; NULL where it had none.';
COMMENT ON COLUMN public.integrity_checks.expected_count IS
    'Rows that the range must hold; for guards the objects of the manifest.';
COMMENT ON COLUMN public.integrity_checks.actual_count IS
    'Rows that were read; for guards the objects that were compared.';
COMMENT ON COLUMN public.integrity_checks.finished IS
    'Whether everything in the range was looked at.';
COMMENT ON COLUMN public.integrity_checks.chain_valid IS
    'The verdict. NULL where there is none: no row was there, or the check could not finish and '
    'had found nothing until then.';
COMMENT ON COLUMN public.integrity_checks.findings_count IS
    'How many findings there are, listed or not.';
COMMENT ON COLUMN public.integrity_checks.findings IS
    'The findings (FORMAT.md section 5) as a JSON array: the first thousand of the new ones, and '
    'as many of those that were acknowledged.';
COMMENT ON COLUMN public.integrity_checks.duration_ms IS
    'How long the whole run took, in milliseconds: the same on all its lines.';
COMMENT ON COLUMN public.integrity_checks.checked_with IS
    'Name and version of the program that checked.';
COMMENT ON COLUMN public.integrity_checks.checked_by IS
    'The database login that wrote the line: the database''s own word, which nobody may insert.';
COMMENT ON COLUMN public.integrity_checks.checked_at IS
    'When the line was written, by the database''s clock, which nobody may set.';
COMMENT ON CONSTRAINT integrity_checks_pkey ON public.integrity_checks IS
    'A number is given once.';
COMMENT ON CONSTRAINT integrity_checks_verdict ON public.integrity_checks IS
    'A check that did not finish never says that all is well. The service writes no other.';

COMMENT ON TABLE public.idempotency_keys IS
    'Which row a request with an Idempotency-Key made. Written by the service in the transaction '
    'of the row, and kept for ever; no row is ever changed.';
COMMENT ON COLUMN public.idempotency_keys.recorded_by IS
    'Name of the API key that sent the request: two of them may use the same Idempotency-Key.';
COMMENT ON COLUMN public.idempotency_keys.chain IS
    'The chain that the row went to.';
COMMENT ON COLUMN public.idempotency_keys.key IS
    'The Idempotency-Key as the client sent it.';
COMMENT ON COLUMN public.idempotency_keys.request_sha256 IS
    'SHA-256 of the request''s body, 32 bytes: another one under the same key is a conflict.';
COMMENT ON COLUMN public.idempotency_keys.id IS
    'The row, by its id in the chain.';
COMMENT ON CONSTRAINT idempotency_keys_pkey ON public.idempotency_keys IS
    'A key is used once for each recorder and chain: the same body again is answered with the '
    'first receipt, another one is refused (IDP-001).';
COMMENT ON CONSTRAINT idempotency_keys_request_sha256_size ON public.idempotency_keys IS
    'request_sha256 is 32 bytes. The service writes no other.';
COMMENT ON CONSTRAINT idempotency_keys_row_fkey ON public.idempotency_keys IS
    'The row that the key stands for is in the log: the service appends it before, in the same '
    'transaction.';

COMMENT ON TABLE public.api_keys IS
    'Who may ask the service for what. A key is made once and can be revoked once, by the owner '
    'alone; nothing else about it ever changes, and both are on record in security_events.';
COMMENT ON COLUMN public.api_keys.key_id IS
    'Name by which a key is looked up: 16 random hexadecimal digits. No secret.';
COMMENT ON COLUMN public.api_keys.name IS
    'Who holds it: recorded_by and actor of what is done with it. Not unique, since a rotation '
    'has two keys of one name for a while.';
COMMENT ON COLUMN public.api_keys.scopes IS
    'What it may be used for, in alphabetical order: admin, export, ingest, read, verify.';
COMMENT ON COLUMN public.api_keys.secret_sha256 IS
    'SHA-256 of the secret''s 32 random bytes, in lowercase hexadecimal digits. The secret '
    'itself is nowhere.';
COMMENT ON COLUMN public.api_keys.created_at IS
    'When it was made, by the database''s clock; set by a trigger.';
COMMENT ON COLUMN public.api_keys.created_by IS
    'The database login that made it; set by a trigger.';
COMMENT ON COLUMN public.api_keys.revoked_at IS
    'When it was revoked, by the database''s clock; NULL while it is in force. Set once, by a '
    'trigger.';
COMMENT ON COLUMN public.api_keys.revoked_by IS
    'The database login that revoked it; NULL while it is in force. Set once, by a trigger.';
COMMENT ON CONSTRAINT api_keys_pkey ON public.api_keys IS
    'A key_id names one key, for ever: also after it was revoked.';
COMMENT ON CONSTRAINT api_keys_key_id_hex ON public.api_keys IS
    'key_id is 16 lowercase hexadecimal digits. The program that makes keys makes no other.';
COMMENT ON CONSTRAINT api_keys_name_plain ON public.api_keys IS
    'A name consists of letters, digits, dots, underscores and hyphens, and is not empty.';
COMMENT ON CONSTRAINT api_keys_scopes_known ON public.api_keys IS
    'A key has at least one scope, and each is one of admin, export, ingest, read and verify, in '
    'this order and once.';
COMMENT ON CONSTRAINT api_keys_secret_sha256_hex ON public.api_keys IS
    'secret_sha256 is 64 lowercase hexadecimal digits.';
COMMENT ON CONSTRAINT api_keys_revocation_whole ON public.api_keys IS
    'A key that is revoked says both when and by whom, and one in force neither.';
COMMENT ON TRIGGER ledger_refuse_statement ON public.api_keys IS
    'Refuses every DELETE and TRUNCATE, and an UPDATE of what never changes, also where no row '
    'matches (AUD-010).';
COMMENT ON TRIGGER ledger_refuse_row ON public.api_keys IS
    'Refuses every DELETE row by row too (AUD-010): logical replication fires no other trigger.';
COMMENT ON TRIGGER ledger_refuse_row_update ON public.api_keys IS
    'Refuses every UPDATE of a row but the one that revokes a key in force (AUD-010).';
COMMENT ON TRIGGER ledger_stamp_key ON public.api_keys IS
    'Sets who made or revoked the key, and when, whatever the statement says.';
COMMENT ON TRIGGER ledger_record_key ON public.api_keys IS
    'Puts the making or revoking of a key on record in security_events, in the same transaction.';

COMMENT ON TABLE public.lockdowns IS
    'Every step of every lockdown (AUD-009), one line each. Written by functions of the database '
    'alone; no row is ever changed. The last line says whether a lockdown is in force.';
COMMENT ON COLUMN public.lockdowns.id IS
    'Number of the line: 1, 2, 3, …, given under the ledger''s lock.';
COMMENT ON COLUMN public.lockdowns.lockdown_id IS
    'The lockdown, by the id of the line that entered it: that line''s own id for ENTERED.';
COMMENT ON COLUMN public.lockdowns.action IS
    'ENTERED, LIFT_REQUESTED or LIFTED.';
COMMENT ON COLUMN public.lockdowns.actor IS
    'Name of the admin key for a lift, or of the owner''s login; for ENTERED a statement of '
    'whoever called.';
COMMENT ON COLUMN public.lockdowns.key_id IS
    'The admin key; NULL where none was needed: for ENTERED, and where the owner lifted.';
COMMENT ON COLUMN public.lockdowns.request_id IS
    'The LIFT_REQUESTED line that a LIFTED confirms; NULL for every other line, and where the '
    'owner lifted.';
COMMENT ON COLUMN public.lockdowns.reason IS
    'Why, in words; a LIFTED repeats that of its request.';
COMMENT ON COLUMN public.lockdowns.findings IS
    'For ENTERED what was found, for the others the finding_ids that are acknowledged: a JSON '
    'array.';
COMMENT ON COLUMN public.lockdowns.security_event_id IS
    'The event that stands for this line, by its id in security_events. NULL only for an ENTERED '
    'whose event could not be written.';
COMMENT ON COLUMN public.lockdowns.at IS
    'When the line was written, by the database''s clock.';
COMMENT ON CONSTRAINT lockdowns_pkey ON public.lockdowns IS
    'A number is given once.';
COMMENT ON CONSTRAINT lockdowns_lockdown_id_fkey ON public.lockdowns IS
    'A line belongs to a lockdown that was entered.';
COMMENT ON CONSTRAINT lockdowns_request_id_fkey ON public.lockdowns IS
    'A LIFTED names a line that is there; that it is a request to lift this lockdown is checked '
    'where it is made (NTF-001).';
COMMENT ON CONSTRAINT lockdowns_entered_names_itself ON public.lockdowns IS
    'A lockdown is named by the line that entered it.';
COMMENT ON CONSTRAINT lockdowns_request_of_lifted ON public.lockdowns IS
    'Only a LIFTED confirms a request.';
COMMENT ON CONSTRAINT lockdowns_action_known ON public.lockdowns IS
    'action is ENTERED, LIFT_REQUESTED or LIFTED.';
COMMENT ON CONSTRAINT lockdowns_event_recorded ON public.lockdowns IS
    'Whatever is done to end a lockdown is on record in security_events; only entering one may '
    'fail to be.';
COMMENT ON CONSTRAINT lockdowns_findings_size ON public.lockdowns IS
    'findings has at most 16 MiB as text.';
COMMENT ON CONSTRAINT lockdowns_reason_size ON public.lockdowns IS
    'reason has at most 64 KiB in UTF-8.';

COMMENT ON TRIGGER ledger_stamp_lockdown ON public.lockdowns IS
    'Gives a line its number, time and security event, whoever inserts it.';
COMMENT ON TRIGGER ledger_acknowledge ON public.lockdowns IS
    'Enters what a lift acknowledges into acknowledged_findings.';
COMMENT ON TRIGGER ledger_guard_acknowledged ON public.acknowledged_findings IS
    'Findings are acknowledged by a lift alone (AUD-011).';
COMMENT ON TRIGGER ledger_check_refusal ON public.recorded_refusals IS
    'No more attempts are on record than were refused (AUD-011).';

COMMENT ON TABLE public.acknowledged_findings IS
    'Findings that were acknowledged when a lockdown was lifted: listed for ever, and no cause '
    'for a lockdown any more. Written by the functions that lift; no row is ever changed.';
COMMENT ON COLUMN public.acknowledged_findings.finding_id IS
    'SHA-256 of the line in which a check lists the finding, in lowercase hexadecimal digits. A '
    'finding that differs in anything is another one.';
COMMENT ON COLUMN public.acknowledged_findings.lifted_by IS
    'The LIFTED line of lockdowns that acknowledged it first.';
COMMENT ON CONSTRAINT acknowledged_findings_pkey ON public.acknowledged_findings IS
    'A finding is acknowledged once.';
COMMENT ON CONSTRAINT acknowledged_findings_lifted_by_fkey ON public.acknowledged_findings IS
    'A finding is acknowledged by a line of lockdowns.';
COMMENT ON CONSTRAINT acknowledged_findings_finding_id_hex ON public.acknowledged_findings IS
    'finding_id is 64 lowercase hexadecimal digits.';

COMMENT ON TABLE public.recorded_refusals IS
    'How many refused attempts of each code are on record in security_events. Written by '
    'ledger_record_refusals() alone; no row is ever changed.';
COMMENT ON COLUMN public.recorded_refusals.code IS
    'The code of the refusal: AUD-002, ….';
COMMENT ON COLUMN public.recorded_refusals.total IS
    'How often the code was refused in all, when the event was written. An upper bound, since a '
    'crash of the server can move the sequence ahead by up to 32.';
COMMENT ON COLUMN public.recorded_refusals.security_event_id IS
    'The event that tells of them, by its id in security_events.';
COMMENT ON CONSTRAINT recorded_refusals_code_known ON public.recorded_refusals IS
    'code is AUD- and three digits.';
COMMENT ON CONSTRAINT recorded_refusals_pkey ON public.recorded_refusals IS
    'A refused attempt is told of once, however many services look.';

COMMENT ON TABLE public._sqlx_migrations IS
    'Which migrations the database has. Written by audit-ledger migrate, which refuses to go on '
    'where a checksum is not its own.';
COMMENT ON COLUMN public._sqlx_migrations.version IS
    'Number of the migration, as in the name of its file.';
COMMENT ON COLUMN public._sqlx_migrations.description IS
    'Name of the migration, as in the name of its file.';
COMMENT ON COLUMN public._sqlx_migrations.installed_on IS
    'When it was applied, by the database''s clock.';
COMMENT ON COLUMN public._sqlx_migrations.success IS
    'Whether it came to its end; true on every row, since migrations are transactions.';
COMMENT ON COLUMN public._sqlx_migrations.checksum IS
    'SHA-384 of its file, 48 bytes.';
COMMENT ON COLUMN public._sqlx_migrations.execution_time IS
    'How long it took, in nanoseconds; set once it has come to its end.';
COMMENT ON CONSTRAINT _sqlx_migrations_pkey ON public._sqlx_migrations IS
    'A migration is applied once.';

COMMENT ON VIEW public.vw_trade_audit_full IS
    'One row for each signal: what was received, what the models thought of it, its latest '
    'order, and what became of that.';
COMMENT ON COLUMN public.vw_trade_audit_full.signal_row_id IS
    'id of the signal in its chain.';
COMMENT ON COLUMN public.vw_trade_audit_full.correlation_id IS
    'Anchor of the trade''s story.';
COMMENT ON COLUMN public.vw_trade_audit_full.signal_id IS
    'The sender''s idempotency key, unique for each recorded_by.';
COMMENT ON COLUMN public.vw_trade_audit_full.symbol IS
    'What the signal trades.';
COMMENT ON COLUMN public.vw_trade_audit_full.side IS
    'The signal''s side: BUY or SELL.';
COMMENT ON COLUMN public.vw_trade_audit_full.price IS
    'The signal''s price of one unit, in the symbol''s quote currency.';
COMMENT ON COLUMN public.vw_trade_audit_full.quantity IS
    'The signal''s quantity, in units of the symbol.';
COMMENT ON COLUMN public.vw_trade_audit_full.raw_payload_text IS
    'The delivery''s exact body.';
COMMENT ON COLUMN public.vw_trade_audit_full.raw_payload IS
    'The body as JSONB, for filters only.';
COMMENT ON COLUMN public.vw_trade_audit_full.source_ip IS
    'Address of the client that sent the signal.';
COMMENT ON COLUMN public.vw_trade_audit_full.hmac_verified IS
    'True only where an HMAC over the body was checked.';
COMMENT ON COLUMN public.vw_trade_audit_full.auth_method IS
    'How the delivery was authenticated.';
COMMENT ON COLUMN public.vw_trade_audit_full.recorded_by IS
    'Name of the webhook source or API key that the signal came by.';
COMMENT ON COLUMN public.vw_trade_audit_full.received_at IS
    'When the service had the signal, by the service''s clock.';
COMMENT ON COLUMN public.vw_trade_audit_full.created_at IS
    'When the signal was appended, by the database''s clock.';
COMMENT ON COLUMN public.vw_trade_audit_full.deepseek_rejection_reasoning_text IS
    'The latest reasoning of deepseek-r1, byte for byte; NULL where it has none.';
COMMENT ON COLUMN public.vw_trade_audit_full.deepseek_rejection_reasoning IS
    'The same as JSONB, for filters only.';
COMMENT ON COLUMN public.vw_trade_audit_full.llama_sentiment_text IS
    'The latest reasoning of llama-3.1, byte for byte; NULL where it has none.';
COMMENT ON COLUMN public.vw_trade_audit_full.llama_sentiment IS
    'The same as JSONB, for filters only.';
COMMENT ON COLUMN public.vw_trade_audit_full.other_models IS
    'The latest debate of every other model, as a JSON array in the order of their ids; empty '
    'where there is none.';
COMMENT ON COLUMN public.vw_trade_audit_full.combined_confidence IS
    'The least confidence, from 0 to 1, among the latest debates of the models that answered; '
    'NULL if none did.';
COMMENT ON COLUMN public.vw_trade_audit_full.models_answered IS
    'How many models answered: those whose latest debate is no timeout.';
COMMENT ON COLUMN public.vw_trade_audit_full.order_count IS
    'How many orders the signal has; the columns below are the latest one''s.';
COMMENT ON COLUMN public.vw_trade_audit_full.order_id IS
    'id of the signal''s latest order in order_execution; NULL where it has none.';
COMMENT ON COLUMN public.vw_trade_audit_full.order_type IS
    'The order''s type: MARKET, LIMIT, STOP or STOP_LIMIT.';
COMMENT ON COLUMN public.vw_trade_audit_full.order_quantity IS
    'Units that were ordered.';
COMMENT ON COLUMN public.vw_trade_audit_full.order_price IS
    'The order''s limit or stop price of one unit; NULL for a market order.';
COMMENT ON COLUMN public.vw_trade_audit_full.exchange_order_id IS
    'The exchange''s name for the order.';
COMMENT ON COLUMN public.vw_trade_audit_full.order_status_recorded IS
    'The status that the order was recorded with.';
COMMENT ON COLUMN public.vw_trade_audit_full.last_event_id IS
    'id of the order''s latest event in order_events; NULL where it has none.';
COMMENT ON COLUMN public.vw_trade_audit_full.last_event_type IS
    'The latest event''s type.';
COMMENT ON COLUMN public.vw_trade_audit_full.last_event_at IS
    'When the latest event was appended, by the database''s clock.';
COMMENT ON COLUMN public.vw_trade_audit_full.rejection_reason IS
    'The latest event''s reason, in words.';
COMMENT ON COLUMN public.vw_trade_audit_full.exchange_error_code IS
    'The latest event''s code of the exchange.';
COMMENT ON COLUMN public.vw_trade_audit_full.order_status IS
    'The order''s status now: the latest event''s word, else the status that it was recorded with.';
COMMENT ON COLUMN public.vw_trade_audit_full.filled_quantity IS
    'Units of the latest order that its events filled in all; 0 where none did.';
COMMENT ON COLUMN public.vw_trade_audit_full.zar_equity IS
    'Equity in South African rand that the latest event tells of; NULL where it tells of none.';
COMMENT ON COLUMN public.vw_trade_audit_full.order_anomaly IS
    'Whether any order of the signal, not only the latest, was filled after it had come to its '
    'end or beyond what was ordered.';
COMMENT ON COLUMN public.vw_trade_audit_full.anomalous_event_ids IS
    'ids of those fills in order_events.';
COMMENT ON COLUMN public.vw_trade_audit_full.row_hashes IS
    'Every row that takes part with its chain, id and row_hash, as a JSON array in the order of '
    'the ledger''s chains.';

COMMENT ON VIEW public.vw_kill_switch_events IS
    'One row for each kill switch, with the order and the signal that it stopped; these are NULL '
    'where it stopped everything.';
COMMENT ON COLUMN public.vw_kill_switch_events.id IS
    'id of the kill switch in order_events.';
COMMENT ON COLUMN public.vw_kill_switch_events.created_at IS
    'When it was appended, by the database''s clock.';
COMMENT ON COLUMN public.vw_kill_switch_events.zar_equity IS
    'Equity of the account in South African rand when it was thrown.';
COMMENT ON COLUMN public.vw_kill_switch_events.positions_closed_text IS
    'Which positions it closed, as JSON, byte for byte.';
COMMENT ON COLUMN public.vw_kill_switch_events.positions_closed IS
    'The same as JSONB, for filters only.';
COMMENT ON COLUMN public.vw_kill_switch_events.rejection_reason IS
    'Why it was thrown, in words; may be NULL.';
COMMENT ON COLUMN public.vw_kill_switch_events.exchange_error_code IS
    'The exchange''s own code for what went wrong; may be NULL.';
COMMENT ON COLUMN public.vw_kill_switch_events.recorded_by IS
    'Name of the API key that the event came by.';
COMMENT ON COLUMN public.vw_kill_switch_events.row_hash IS
    'row_hash of the event.';
COMMENT ON COLUMN public.vw_kill_switch_events.order_id IS
    'id of the order in order_execution; NULL for a kill switch that stopped everything.';
COMMENT ON COLUMN public.vw_kill_switch_events.order_type IS
    'The order''s type: MARKET, LIMIT, STOP or STOP_LIMIT.';
COMMENT ON COLUMN public.vw_kill_switch_events.symbol IS
    'What the order trades.';
COMMENT ON COLUMN public.vw_kill_switch_events.side IS
    'The order''s side: BUY or SELL.';
COMMENT ON COLUMN public.vw_kill_switch_events.quantity IS
    'Units that were ordered.';
COMMENT ON COLUMN public.vw_kill_switch_events.price IS
    'The order''s limit or stop price of one unit; NULL for a market order.';
COMMENT ON COLUMN public.vw_kill_switch_events.exchange_order_id IS
    'The exchange''s name for the order.';
COMMENT ON COLUMN public.vw_kill_switch_events.order_status_recorded IS
    'The status that the order was recorded with.';
COMMENT ON COLUMN public.vw_kill_switch_events.correlation_id IS
    'Anchor of the trade''s story; NULL for a kill switch that stopped everything.';
COMMENT ON COLUMN public.vw_kill_switch_events.signal_id IS
    'The idempotency key of the signal''s sender.';
COMMENT ON COLUMN public.vw_kill_switch_events.signal_row_id IS
    'id of the signal in its chain.';

COMMENT ON VIEW public.signal_integrity_checks IS
    'The checks of the chain signal_audit_ledger. Exactly these eight columns, since others read '
    'them.';
COMMENT ON COLUMN public.signal_integrity_checks.check_id IS
    'id of the check in integrity_checks.';
COMMENT ON COLUMN public.signal_integrity_checks.range_start IS
    'First id that the check covers; NULL where it had none.';
COMMENT ON COLUMN public.signal_integrity_checks.range_end IS
    'Last id that the check covers; NULL where it had none.';
COMMENT ON COLUMN public.signal_integrity_checks.expected_count IS
    'Rows that the range must hold.';
COMMENT ON COLUMN public.signal_integrity_checks.actual_count IS
    'Rows that were read.';
COMMENT ON COLUMN public.signal_integrity_checks.chain_valid IS
    'The verdict; NULL where there is none.';
COMMENT ON COLUMN public.signal_integrity_checks.checked_at IS
    'When the check was recorded, by the database''s clock.';
COMMENT ON COLUMN public.signal_integrity_checks.errors_json IS
    'The findings (FORMAT.md section 5), as in integrity_checks.';

-- Functions that anybody may find of use.
COMMENT ON FUNCTION public.ledger_chains() IS
    'The chains of this ledger, in the order in which they are reported.';
COMMENT ON FUNCTION public.ledger_genesis(text) IS
    'The prev_hash of a chain''s first row (FORMAT.md section 1).';
COMMENT ON FUNCTION public.verify_chain_integrity(text, bigint, bigint) IS
    'Re-hashes the rows from from_id to to_id (NULL: the last) of a chain and checks link, gap, '
    'time, log and documents, for a session in psql. valid is NULL where no row was looked at.';
COMMENT ON FUNCTION public.verify_chain_integrity() IS
    'The same over every chain, and the log itself: its positions have no gap, and its entries '
    'stand for rows of chains that exist, in their order. For the log first_bad_id is a leaf '
    'index.';
COMMENT ON FUNCTION public.ledger_document_matches(text, jsonb) IS
    'Whether a generated document still equals its text, spelling of numbers included; false '
    'where the text is no JSON any more.';
COMMENT ON FUNCTION public.ledger_lockdown() IS
    'The lockdown in force; no row where there is none.';
COMMENT ON FUNCTION public.ledger_stops_in_lockdown(text) IS
    'Whether a chain takes no rows in a lockdown. The others stay open, so that what happens '
    'meanwhile is on record.';

-- What appends.
COMMENT ON FUNCTION public.ledger_begin_append(text[]) IS
    'The first call of every append: takes the ledger''s lock, and says where each chain and the '
    'log stand, what time it is, and whether the ledger is locked down. For the service''s login.';
COMMENT ON FUNCTION public.ledger_append_row(text, jsonb) IS
    'Appends one row to a chain, with the rights of whoever calls it: reads it strictly, takes '
    'the ledger''s lock, gives it id, time, link and hash, and returns its receipt. A signal '
    'that was recorded before with the same payload is a duplicate, answered with its first '
    'receipt.';
COMMENT ON FUNCTION public.ledger_read_row(text, jsonb) IS
    'Reads a row that a client wants to append: refuses unknown members and wrong types '
    '(VAL-001, VAL-002), and numbers whose digits the column would lose (AUD-001).';
COMMENT ON FUNCTION public.ledger_literal_fault(text, text) IS
    'What is wrong with a literal that only its conversion tells; NULL where nothing is.';
COMMENT ON FUNCTION public.ledger_new_id() IS
    'A new UUIDv7 (RFC 9562 section 5.7).';
COMMENT ON FUNCTION public.ledger_begin_check() IS
    'Takes the right to run a check until the transaction ends; fails with lock_not_available '
    'where another session has it. For the service''s login.';
COMMENT ON FUNCTION public.ledger_end_idle_lock_holders() IS
    'Ends sessions that hold the ledger''s lock and have been idle in their transaction for five '
    'seconds, and returns whom it ended. For the service''s login.';

-- Keys, lockdowns, refusals.
COMMENT ON FUNCTION public.ledger_create_key(text, text, text[], text) IS
    'Makes an API key; the secret stays with whoever calls. For the owner alone.';
COMMENT ON FUNCTION public.ledger_revoke_key(text) IS
    'Revokes an API key from the next moment on; an error where it does not exist, or was '
    'revoked before. For the owner alone.';
COMMENT ON FUNCTION public.ledger_enter_lockdown(text, jsonb, text) IS
    'Enters a lockdown, in one transaction with the event that says so, and returns the lockdown '
    'in force. For the service''s login and the owner.';
COMMENT ON FUNCTION public.ledger_request_lift(text, bytea, text, text[]) IS
    'The first of two steps to end a lockdown: an admin says why it may end, and which findings '
    'are known (SEC-006 where the key may not). The request holds for 15 minutes.';
COMMENT ON FUNCTION public.ledger_confirm_lift(text, bytea, bigint) IS
    'The second step: another admin confirms just that request, within 15 minutes (SEC-006, '
    'NTF-001, VAL-002).';
COMMENT ON FUNCTION public.ledger_lift_as_owner(text, text[]) IS
    'Where there is only one admin: the owner ends the lockdown alone, and it is recorded as '
    'that. For the owner alone.';
COMMENT ON FUNCTION public.ledger_lifting_key(text, bytea, timestamptz) IS
    'The name of an admin key that may lift a lockdown: its secret is right, it is not revoked, '
    'and it is older than the lockdown (SEC-006). For the functions that lift.';
COMMENT ON FUNCTION public.ledger_add_lockdown_line(
    bigint, text, text, text, bigint, text, text[]) IS
    'Writes one more line of the lockdown in force, with its event. For the functions that lift.';
COMMENT ON FUNCTION public.ledger_new_refusals() IS
    'Refused attempts since they were last recorded: for each code how many, and how often it '
    'was refused in all.';
COMMENT ON FUNCTION public.ledger_record_refusals() IS
    'Records refused attempts as security events, each once however many services look; returns '
    'how many events it appended.';

-- What stands behind the triggers, and what the migrations use.
COMMENT ON FUNCTION public.ledger_lock_for_insert() IS
    'Trigger on every chain, before an INSERT: takes the ledger''s lock, for which it waits up '
    'to two seconds.';
COMMENT ON FUNCTION public.ledger_enter_rows() IS
    'Trigger on every chain, after an INSERT: the new rows follow the row before them in id, '
    'link and time (AUD-011), and no lockdown stops them (AUD-009); then they are entered into '
    'ledger_log.';
COMMENT ON FUNCTION public.ledger_stamp_lockdown() IS
    'Gives a line of lockdowns its number, time and security event. Nobody may execute it.';
COMMENT ON FUNCTION public.ledger_acknowledge() IS
    'Enters what a lift acknowledges into acknowledged_findings. Nobody may execute it.';
COMMENT ON FUNCTION public.ledger_guard_acknowledged() IS
    'Refuses findings that no lift acknowledges (AUD-011). Nobody may execute it.';
COMMENT ON FUNCTION public.ledger_check_refusal() IS
    'Refuses a record of more attempts than were refused (AUD-011). Nobody may execute it.';
COMMENT ON FUNCTION public.ledger_guard_log() IS
    'Trigger on ledger_log, before an INSERT: only the append trigger inserts (AUD-011).';
COMMENT ON FUNCTION public.ledger_refuse_change() IS
    'Trigger on every table, before UPDATE, DELETE and TRUNCATE: refuses it with its code '
    '(AUD-002 to AUD-007, AUD-010), and counts and logs the attempt.';
COMMENT ON FUNCTION public.ledger_stamp_key() IS
    'Trigger on api_keys, before INSERT and UPDATE: who and when are the database''s own word.';
COMMENT ON FUNCTION public.ledger_record_key() IS
    'Trigger on api_keys, after INSERT and UPDATE: appends the security event, never with the '
    'hash of the secret.';
COMMENT ON PROCEDURE public.ledger_guard_table(regclass) IS
    'Guards a table against every change of its rows. For the migrations'' use.';
COMMENT ON PROCEDURE public.ledger_attach_chain(regclass) IS
    'Makes a table a chain: lock, append trigger, guards. For the migrations'' use.';
COMMENT ON PROCEDURE public.ledger_grant_rights(regclass, boolean) IS
    'Takes from a table''s owner the rights that no statement of the ledger needs, and gives the '
    'other roles theirs. For the migrations'' use.';
COMMENT ON PROCEDURE public.ledger_make_append(text) IS
    'Makes the function append_<chain>() of a chain. For the migrations'' use.';

-- Refusals are counted by sequences, which alone outlive the rollback.
COMMENT ON SEQUENCE public.ledger_refused_aud_002 IS
    'How often an UPDATE on signals was refused (AUD-002). Moved by the guard alone, and by a '
    'crash of the server.';
COMMENT ON SEQUENCE public.ledger_refused_aud_003 IS
    'How often a DELETE on signals was refused (AUD-003). Moved by the guard alone, and by a '
    'crash of the server.';
COMMENT ON SEQUENCE public.ledger_refused_aud_004 IS
    'How often an UPDATE on ai_debates was refused (AUD-004). Moved by the guard alone, and by a '
    'crash of the server.';
COMMENT ON SEQUENCE public.ledger_refused_aud_005 IS
    'How often a DELETE on ai_debates was refused (AUD-005). Moved by the guard alone, and by a '
    'crash of the server.';
COMMENT ON SEQUENCE public.ledger_refused_aud_006 IS
    'How often an UPDATE on order_execution or order_events was refused (AUD-006). Moved by the '
    'guard alone, and by a crash of the server.';
COMMENT ON SEQUENCE public.ledger_refused_aud_007 IS
    'How often a DELETE on order_execution or order_events was refused (AUD-007). Moved by the '
    'guard alone, and by a crash of the server.';
COMMENT ON SEQUENCE public.ledger_refused_aud_010 IS
    'How often any other change was refused (AUD-010): of another table''s rows, a TRUNCATE, or '
    'DDL on objects of the ledger. Moved by the guards alone, and by a crash of the server.';

-- Last, since a comment waits for whoever holds a lock on the table, and others wait for it.
COMMENT ON TABLE public.ledger_check_lock IS
    'Always empty: the table itself is locked by a check, so that one runs at a time. Only '
    'ledger_begin_check() takes the lock.';
COMMENT ON TABLE public.ledger_lock IS
    'Always empty: the table itself is the lock under which everything is appended. Only '
    'functions of the owner take it.';
