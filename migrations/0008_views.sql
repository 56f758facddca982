-- Views for people: what became of each signal, every kill switch, and the checks of signals.
-- Runs as ledger_owner. They read documents by their text where it is shown, since jsonb keeps
-- neither the order of members nor the spelling of numbers.

CREATE VIEW public.vw_trade_audit_full AS
SELECT
    s.id AS signal_row_id,
    s.correlation_id,
    s.signal_id,
    s.symbol,
    s.side,
    s.price,
    s.quantity,
    s.raw_payload_text,
    s.raw_payload,
    s.source_ip,
    s.hmac_verified,
    s.auth_method,
    s.recorded_by,
    s.received_at,
    s.created_at,
    -- The latest word of each model, by id.
    debate.deepseek_rejection_reasoning_text,
    debate.deepseek_rejection_reasoning_text::jsonb AS deepseek_rejection_reasoning,
    debate.llama_sentiment_text,
    debate.llama_sentiment_text::jsonb AS llama_sentiment,
    debate.other_models,
    -- The least sure of the models that answered; NULL if none did.
    debate.combined_confidence,
    debate.models_answered,
    orders.order_count,
    latest.id AS order_id,
    latest.order_type,
    latest.quantity AS order_quantity,
    latest.price AS order_price,
    latest.exchange_order_id,
    latest.status AS order_status_recorded,
    event.id AS last_event_id,
    event.event_type AS last_event_type,
    event.created_at AS last_event_at,
    event.rejection_reason,
    event.exchange_error_code,
    -- The latest event's word, else the status that the order was recorded with.
    CASE event.event_type::text
        WHEN 'FILL' THEN 'FILLED'
        WHEN 'PARTIAL_FILL' THEN 'PARTIAL'
        ELSE coalesce(event.event_type, latest.status)::text
    END AS order_status,
    filled.filled_quantity,
    event.zar_equity,
    -- Over every order of the signal, not only the latest.
    filled.anomalous_event_ids <> '{}' AS order_anomaly,
    filled.anomalous_event_ids,
    -- Every row that takes part, in the order of the ledger's chains.
    pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(
        'chain', 'signals', 'id', s.id, 'row_hash', s.row_hash))
        || debate.hashes || orders.hashes || filled.hashes AS row_hashes
FROM public.signals AS s
CROSS JOIN LATERAL (
    SELECT
        pg_catalog.min(d.reasoning_json_text) FILTER (
            WHERE d.is_latest AND d.model_name::text = 'deepseek-r1')
            AS deepseek_rejection_reasoning_text,
        pg_catalog.min(d.reasoning_json_text) FILTER (
            WHERE d.is_latest AND d.model_name::text = 'llama-3.1') AS llama_sentiment_text,
        coalesce(pg_catalog.jsonb_agg(
            pg_catalog.jsonb_build_object(
                'id', d.id, 'model_name', d.model_name,
                'confidence_score', d.confidence_score::text, 'is_timeout', d.is_timeout,
                'elapsed_ms', d.elapsed_ms, 'reasoning_json_text', d.reasoning_json_text)
            ORDER BY d.id) FILTER (
                WHERE d.is_latest AND d.model_name::text NOT IN ('deepseek-r1', 'llama-3.1')),
            '[]') AS other_models,
        pg_catalog.min(d.confidence_score) FILTER (WHERE d.is_latest AND NOT d.is_timeout)
            AS combined_confidence,
        pg_catalog.count(*) FILTER (WHERE d.is_latest AND NOT d.is_timeout) AS models_answered,
        coalesce(pg_catalog.jsonb_agg(
            pg_catalog.jsonb_build_object(
                'chain', 'ai_debates', 'id', d.id, 'row_hash', d.row_hash) ORDER BY d.id), '[]')
            AS hashes
    FROM (SELECT t.*, pg_catalog.row_number() OVER (
                     PARTITION BY t.model_name ORDER BY t.id DESC) = 1 AS is_latest
          FROM public.ai_debates AS t WHERE t.correlation_id = s.correlation_id) AS d
) AS debate
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS order_count,
           coalesce(pg_catalog.jsonb_agg(
               pg_catalog.jsonb_build_object(
                   'chain', 'order_execution', 'id', o.id, 'row_hash', o.row_hash)
               ORDER BY o.id), '[]') AS hashes
    FROM public.order_execution AS o WHERE o.correlation_id = s.correlation_id
) AS orders
LEFT JOIN LATERAL (
    SELECT * FROM public.order_execution AS o
    WHERE o.correlation_id = s.correlation_id ORDER BY o.id DESC LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT * FROM public.order_events AS e
    WHERE e.order_execution_id = latest.id ORDER BY e.id DESC LIMIT 1
) AS event ON true
CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.max(e.filled_quantity) FILTER (
               WHERE e.order_execution_id = latest.id), 0) AS filled_quantity,
           coalesce(pg_catalog.array_agg(e.id ORDER BY e.id) FILTER (WHERE e.is_anomaly), '{}')
               AS anomalous_event_ids,
           coalesce(pg_catalog.jsonb_agg(
               pg_catalog.jsonb_build_object(
                   'chain', 'order_events', 'id', e.id, 'row_hash', e.row_hash)
               ORDER BY e.id), '[]') AS hashes
    FROM public.order_execution AS o
    CROSS JOIN LATERAL (
        SELECT t.id, t.order_execution_id, t.row_hash,
               coalesce(pg_catalog.sum(t.fill_quantity) OVER up_to_here, 0) AS filled_quantity,
               -- A fill after the order had come to its end, or one beyond what was ordered.
               t.fill_quantity IS NOT NULL AND (
                   o.status::text IN ('REJECTED', 'CANCELLED')
                   OR coalesce(
                       pg_catalog.bool_or(t.event_type::text <> 'PARTIAL_FILL') OVER earlier, false)
                   OR pg_catalog.sum(t.fill_quantity) OVER up_to_here > o.quantity) AS is_anomaly
        FROM public.order_events AS t WHERE t.order_execution_id = o.id
        WINDOW up_to_here AS (ORDER BY t.id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
               earlier AS (ORDER BY t.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ) AS e
    WHERE o.correlation_id = s.correlation_id
) AS filled;

CREATE VIEW public.vw_kill_switch_events AS
SELECT
    e.id,
    e.created_at,
    e.zar_equity,
    e.positions_closed_text,
    e.positions_closed,
    e.rejection_reason,
    e.exchange_error_code,
    e.recorded_by,
    e.row_hash,
    -- Both are NULL for a kill switch that stopped everything.
    o.id AS order_id,
    o.order_type,
    o.symbol,
    o.side,
    o.quantity,
    o.price,
    o.exchange_order_id,
    o.status AS order_status_recorded,
    s.correlation_id,
    s.signal_id,
    s.id AS signal_row_id
FROM public.order_events AS e
LEFT JOIN public.order_execution AS o ON o.id = e.order_execution_id
LEFT JOIN public.signals AS s ON s.correlation_id = o.correlation_id
WHERE e.event_type::text = 'KILL_SWITCH';

-- Exactly these eight columns: others read them.
CREATE VIEW public.signal_integrity_checks AS
SELECT
    c.id AS check_id,
    c.range_start,
    c.range_end,
    c.expected_count,
    c.actual_count,
    c.chain_valid,
    c.checked_at,
    c.findings AS errors_json
FROM public.integrity_checks AS c
WHERE c.chain::text = 'signal_audit_ledger';

GRANT SELECT ON public.vw_trade_audit_full, public.vw_kill_switch_events,
    public.signal_integrity_checks
    TO app_trading, ledger_auditor;
