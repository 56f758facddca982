// What a row of a story says, in one line with its main numbers.
import * as format from '../format.js';

const number = (value) => (value === null || value === undefined ? null : format.decimal(value));
const join = (...parts) => parts.filter((part) => part !== null && part !== '').join(' ');
const also = (name, value) => (value === null ? '' : `${name} ${value}`);
const at = (price) => (price === null || price === undefined ? null : `at ${number(price)}`);

const SAY = {
  signals: (row) => ({
    what: `${row.side} signal`,
    says: join(row.side, number(row.quantity), row.symbol, at(row.price))
      + `, from ${row.recorded_by}${row.hmac_verified ? ', HMAC verified' : ''}`,
  }),
  ai_debates: (row) => (row.is_timeout
    ? { what: 'AI debate', kind: 'warn', mark: 'timeout',
      says: `${row.model_name} gave no answer within ${format.count(row.elapsed_ms)} ms` }
    : { what: 'AI debate',
      says: `${row.model_name}: confidence ${number(row.confidence_score)}, in ${
        format.count(row.elapsed_ms)} ms` }),
  order_execution: (row) => ({
    what: 'order',
    says: join(row.order_type, row.side, number(row.quantity), row.symbol, at(row.price))
      + `, ${row.status}${row.exchange_order_id ? `, ${row.exchange_order_id}` : ''}`,
  }),
  order_events: sayEvent,
  signal_audit_ledger: (row) => (row.record_type === 'OUTCOME'
    ? { what: 'outcome',
      says: `${row.source_module}: ${row.acted_upon ? 'acted upon' : 'not acted upon'}${
        row.execution_id ? `, execution ${row.execution_id}` : ''}` }
    : { what: 'producer’s record',
      says: `${row.source_module}: ${row.direction} ${row.ticker}, conviction ${
        number(row.conviction)}${also(', confidence', number(row.confidence))}` }),
  quarantined_deliveries: (row) => ({
    what: 'quarantined', kind: 'warn', mark: row.reason, says: row.detail ?? `from ${row.source}`,
  }),
};

function sayEvent(row) {
  const what = 'order event';
  const type = row.event_type;
  if (type === 'KILL_SWITCH') {
    const closed = listOf(row.positions_closed_text);
    return {
      what, kind: 'bad', mark: type,
      says: [row.zar_equity && `equity ZAR ${number(row.zar_equity)}`,
        closed !== null && `${closed} positions closed`, row.rejection_reason]
        .filter(Boolean).join('; '),
    };
  }
  if (type === 'REJECTED') {
    const code = row.exchange_error_code ? ` (${row.exchange_error_code})` : '';
    const says = `${row.rejection_reason ?? 'no reason given'}${code}`;
    return { what, kind: 'warn', mark: type, says };
  }
  if (row.fill_quantity !== null) {
    const kind = type === 'FILL' ? 'ok' : 'info';
    return { what, kind, mark: type, says: join(number(row.fill_quantity), at(row.fill_price)) };
  }
  return { what, kind: 'none', mark: type, says: row.rejection_reason ?? '' };
}

/** How many there are in a JSON list. */
function listOf(text) {
  try {
    const list = JSON.parse(text);
    return Array.isArray(list) ? list.length : null;
  } catch {
    return null;
  }
}

/**
 * @param {object} row
 * @returns {{what: string, says: string, kind?: string, mark?: string}} `what` it is; `says` in one
 *   line; `kind` and `mark` of a badge where it has one
 */
export function say(row) {
  return SAY[row.chain]?.(row) ?? { what: format.words(row.chain), says: `row ${row.id}` };
}
