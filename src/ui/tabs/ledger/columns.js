// Which columns of a chain a table shows: those that people look for. The rest is in the row's
// detail.
import * as format from '../../format.js';
import { html } from '../../preact.js';
import { Value } from '../../row/values.js';

const PREFERRED = {
  signals: ['symbol', 'side', 'price', 'quantity', 'signal_id', 'correlation_id'],
  ai_debates: ['model_name', 'confidence_score', 'elapsed_ms', 'is_timeout', 'correlation_id'],
  order_execution: ['order_type', 'symbol', 'side', 'quantity', 'price', 'status',
    'exchange_order_id', 'correlation_id'],
  order_events: ['event_type', 'order_execution_id', 'fill_quantity', 'fill_price',
    'rejection_reason', 'zar_equity'],
  signal_audit_ledger: ['record_type', 'source_module', 'ticker', 'direction', 'conviction',
    'acted_upon', 'latency_ms', 'signal_id'],
  security_events: ['event_type', 'actor', 'subject', 'source_ip'],
  quarantined_deliveries: ['source', 'reason', 'detail', 'duplicate_of'],
};
/** Of a chain that this page has never heard of: its first columns that fit into a cell. */
const OTHERWISE = 6;
const NUMBERS = ['integer', 'decimal'];

/** The columns of a chain's table, as `Table` takes them. */
export function columnsOf(chain) {
  const named = new Map(chain.columns.map((column) => [column.name, column]));
  const fits = ({ name, type }) => !['document', 'bytes'].includes(type)
    && !['id', 'created_at'].includes(name);
  const preferred = (PREFERRED[chain.name] ?? []).map((name) => named.get(name)).filter(Boolean);
  const chosen = preferred.length > 0 ? preferred : chain.columns.filter(fits).slice(0, OTHERWISE);
  return [named.get('id'), named.get('created_at'), ...chosen].filter(Boolean).map((column) => ({
    name: column.name,
    title: column.type === 'time'
      ? html`${format.words(column.name)} <small>${format.zoneName()}</small>`
      : format.words(column.name),
    align: NUMBERS.includes(column.type) ? 'right' : '',
    show: (row) => html`<${Value} column=${column} value=${row[column.name]} />`,
  }));
}
